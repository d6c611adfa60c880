/* Addresses of the internet families, as calls that name one take them: AT("127.0.0.1", 80). */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static struct sockaddr_in at(const char *ip, int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
    inet_pton(AF_INET, ip, &a.sin_addr);
    return a;
}

static struct sockaddr_in6 at6(const char *ip, int port)
{
    struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    inet_pton(AF_INET6, ip, &a.sin6_addr);
    return a;
}

#define AT(ip, port) (struct sockaddr *)&(struct sockaddr_in[]){ at(ip, port) }, sizeof(struct sockaddr_in)
#define AT6(ip, port) (struct sockaddr *)&(struct sockaddr_in6[]){ at6(ip, port) }, sizeof(struct sockaddr_in6)
