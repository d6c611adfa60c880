/* What a program sees of the network that it runs in: names looked up by a server on port argv[1], interfaces and routes, and a TCP
 * connection to the server on port argv[2], which sends back what it gets. With one argument, only whether the abstract Unix socket
 * of that name can be reached. */
#include "show.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netdb.h>
#include <poll.h>
#include <resolv.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

static void look_up(const char *name)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = 0;
    int error = getaddrinfo(name, "80", &hints, &found);
    printf("%s: %s\n", name, error ? gai_strerror(error) : "found");
    for (struct addrinfo *a = found; a; a = a->ai_next) {
        char text[64];
        getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST);
        printf("  %s\n", text);
    }
    if (found)
        freeaddrinfo(found);
}

static void names(int port)
{
    MUST(res_init());
    _res.nscount = 1;
    _res.retrans = 30;
    _res.nsaddr_list[0] = (struct sockaddr_in){ AF_INET, htons(port), { htonl(INADDR_LOOPBACK) }, "" };
    look_up("both.test");
    look_up("none.test");
    look_up("127.0.0.9");
    look_up("localhost");
}

static void interfaces(void)
{
    struct ifaddrs *all = 0;
    MUST(getifaddrs(&all));
    for (struct ifaddrs *a = all; a; a = a->ifa_next) {
        char text[64] = "";
        int family = a->ifa_addr ? a->ifa_addr->sa_family : AF_UNSPEC;
        if (family == AF_INET || family == AF_INET6)
            getnameinfo(a->ifa_addr, family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6), text, sizeof text,
                        0, 0, NI_NUMERICHOST);
        printf("%s: family %d %s flags %x\n", a->ifa_name, family, text, a->ifa_flags & (IFF_UP | IFF_LOOPBACK));
    }
    freeifaddrs(all);

    struct ifreq requests[32];
    struct ifconf list = { .ifc_len = sizeof requests, .ifc_req = requests };
    int fd = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(ioctl(fd, SIOCGIFCONF, &list));
    for (size_t i = 0; i < list.ifc_len / sizeof *requests; i++) {
        struct ifreq r = requests[i];
        printf("%s %s", r.ifr_name, inet_ntoa(((struct sockaddr_in *)&r.ifr_addr)->sin_addr));
        if (ioctl(fd, SIOCGIFNETMASK, &r) == 0)
            printf(" mask %s", inet_ntoa(((struct sockaddr_in *)&r.ifr_netmask)->sin_addr));
        if (ioctl(fd, SIOCGIFBRDADDR, &r) == 0)
            printf(" broadcast %s", inet_ntoa(((struct sockaddr_in *)&r.ifr_broadaddr)->sin_addr));
        if (ioctl(fd, SIOCGIFMTU, &r) == 0)
            printf(" mtu %d", r.ifr_mtu);
        if (ioctl(fd, SIOCGIFHWADDR, &r) == 0)
            printf(" hardware %d %02x%02x", r.ifr_hwaddr.sa_family, r.ifr_hwaddr.sa_data[0] & 0xff, r.ifr_hwaddr.sa_data[5] & 0xff);
        if (ioctl(fd, SIOCGIFINDEX, &r) == 0)
            printf(" index %d\n", r.ifr_ifindex);
    }
    struct ifreq none = { .ifr_name = "none" };
    SHOW(ioctl(fd, SIOCGIFMTU, &none));
    close(fd);
}

static void routes(void)
{
    struct { struct nlmsghdr head; struct rtmsg body; } ask = {
        { sizeof ask, RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, 3, 0 }, { .rtm_family = AF_INET } };
    struct sockaddr_nl own;
    socklen_t len = sizeof own;
    static char answer[65536];
    int fd = MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)), count = 0, foreign = 0;
    MUST(send(fd, &ask, sizeof ask, 0));
    MUST(getsockname(fd, (void *)&own, &len));
    for (int over = 0; !over;) {
        int got = MUST(recv(fd, answer, sizeof answer, 0));
        for (struct nlmsghdr *h = (void *)answer; NLMSG_OK(h, got); h = NLMSG_NEXT(h, got)) {
            foreign += h->nlmsg_pid != own.nl_pid || h->nlmsg_seq != 3;
            count += h->nlmsg_type == RTM_NEWROUTE;
            over |= h->nlmsg_type == NLMSG_DONE;
        }
    }
    printf("%d routes, %d messages of somebody else's\n", count, foreign);
    close(fd);
}

static volatile sig_atomic_t alarms;
static void on_alarm(int signal) { alarms += signal == SIGALRM; }

static void connection(int port)
{
    struct sockaddr_in to = { AF_INET, htons(port), { htonl(INADDR_LOOPBACK) }, "" };
    char text[32] = "";
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(connect(fd, (void *)&to, sizeof to));
    SHOW(connect(fd, (void *)&to, sizeof to));
    SHOW(recv(fd, text, sizeof text, MSG_DONTWAIT));

    /* A wait ends by a signal, or at the socket's timeout. */
    struct sigaction action = { .sa_handler = on_alarm };
    MUST(sigaction(SIGALRM, &action, 0));
    struct itimerval often = { { 0, 20000 }, { 0, 20000 } }, never = { 0 };
    MUST(setitimer(ITIMER_REAL, &often, 0));
    SHOW(read(fd, text, sizeof text));
    MUST(setitimer(ITIMER_REAL, &never, 0));
    TRUTH(alarms > 0);
    struct timeval timeout = { 0, 20000 };
    MUST(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
    SHOW(read(fd, text, sizeof text));
    timeout.tv_sec = 30;
    MUST(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));

    struct iovec parts[2] = { { "there and ", 10 }, { "back", 4 } };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
    SHOW(sendmsg(fd, &message, 0));
    SHOW(recv(fd, text, 14, MSG_WAITALL | MSG_PEEK));
    SHOW(recv(fd, text, 14, MSG_WAITALL));
    printf("%s\n", text);
    SHOW(shutdown(fd, SHUT_WR));
    SHOW(read(fd, text, sizeof text));
    SHOW(send(fd, "x", 1, MSG_NOSIGNAL));
    SHOW(close(fd));

    /* Nobody listens on port 1 of this address. */
    to.sin_addr.s_addr = inet_addr("127.255.1.1");
    to.sin_port = htons(1);
    fd = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    int result = connect(fd, (void *)&to, sizeof to);
    struct pollfd p = { fd, POLLOUT, 0 };
    if (result < 0 && errno == EINPROGRESS)
        poll(&p, 1, 5000);
    int error = result < 0 && errno != EINPROGRESS ? errno : 0;
    socklen_t len = sizeof error;
    if (!error)
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
    printf("nobody there: %s\n", error_name(error));
    close(fd);

    int listener = MUST(socket(AF_INET, SOCK_STREAM, 0));
    to = (struct sockaddr_in){ AF_INET, 0, { htonl(INADDR_LOOPBACK) }, "" };
    len = sizeof to;
    MUST(bind(listener, (void *)&to, sizeof to));
    MUST(listen(listener, 1));
    MUST(getsockname(listener, (void *)&to, &len));
    fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(connect(fd, (void *)&to, sizeof to));
    int accepted = MUST(accept4(listener, 0, 0, SOCK_NONBLOCK));
    SHOW(read(accepted, text, 1));
    SHOW(write(fd, "y", 1));
    p = (struct pollfd){ accepted, POLLIN, 0 };
    SHOW(poll(&p, 1, 5000));
    SHOW(read(accepted, text, 1));
    close(accepted);
    close(fd);
    close(listener);
}

static void stranger(const char *name)
{
    struct sockaddr_un to = { AF_UNIX, "" };
    size_t len = strlen(name);
    memcpy(to.sun_path + 1, name, len);
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    DONE(connect(fd, (void *)&to, offsetof(struct sockaddr_un, sun_path) + 1 + len));
    close(fd);
}

int main(int count, char **arguments)
{
    if (count == 2) {
        stranger(arguments[1]);
        return 0;
    }
    names(atoi(arguments[1]));
    interfaces();
    routes();
    connection(atoi(arguments[2]));
    return 0;
}
