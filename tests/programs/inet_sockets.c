/* TCP and UDP over the loopback interface: addresses, ports, connections and their ends, options, errors. */
#include "show.h"
#include "inet.h"
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static char buffer[300000];

static void ready(const char *what, int fd)
{
    struct pollfd p = { fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0 };
    poll(&p, 1, 0);
    printf("%s is ready for %x\n", what, p.revents);
}

/* Waits: a packet may be on its way. */
static void await(int fd, int events)
{
    struct pollfd p = { fd, events, 0 };
    poll(&p, 1, 5000);
}

static int port_of(int fd)
{
    struct sockaddr_in6 a;
    socklen_t len = sizeof a;
    getsockname(fd, (void *)&a, &len);
    return ntohs(a.sin6_port);
}

static int own_address(int fd, struct sockaddr *a, socklen_t *len) { return getsockname(fd, a, len); }
static int peer_address(int fd, struct sockaddr *a, socklen_t *len) { return getpeername(fd, a, len); }

static void show_address(const char *what, int fd, int (*get)(int, struct sockaddr *, socklen_t *))
{
    struct sockaddr_storage a = { 0 };
    socklen_t len = sizeof a;
    char text[64] = "";
    if (get(fd, (void *)&a, &len)) {
        printf("%s: %s\n", what, error_name(errno));
        return;
    }
    int port = ntohs(((struct sockaddr_in *)&a)->sin_port);
    if (a.ss_family == AF_INET)
        inet_ntop(AF_INET, &((struct sockaddr_in *)&a)->sin_addr, text, sizeof text);
    else
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&a)->sin6_addr, text, sizeof text);
    printf("%s: %u bytes, family %d, %s, %s\n", what, len, a.ss_family, text, port ? "a port" : "no port");
}
#define OWN(fd) show_address("own address of " #fd, fd, own_address)
#define PEER(fd) show_address("peer of " #fd, fd, peer_address)

static int listener(int *port)
{
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(bind(fd, AT("127.0.0.1", 0)));
    MUST(listen(fd, 5));
    *port = port_of(fd);
    return fd;
}

/* A connection: s[0] has connected, s[1] was accepted. */
static void pair(int *s)
{
    int port, l = listener(&port);
    s[0] = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(s[0], AT("127.0.0.1", port)));
    s[1] = MUST(accept(l, NULL, NULL));
    close(l);
}

static void making(void)
{
    SHOW(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    SHOW(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP));
    SHOW(socket(AF_INET, SOCK_SEQPACKET, 0));
    SHOW(socket(AF_INET, SOCK_STREAM, 5000));
    SHOW(socket(AF_INET6, SOCK_RDM, 0));
    SHOW(socketpair(AF_INET, SOCK_STREAM, 0, (int[2]){ 0 }));
    int t = MUST(socket(AF_INET, SOCK_STREAM, 0)), u = MUST(socket(AF_INET, SOCK_DGRAM, 0)), t6 = MUST(socket(AF_INET6, SOCK_STREAM, 0));
    ready("a new stream", t);
    ready("a new datagram socket", u);
    OWN(t);
    OWN(t6);
    PEER(t);
    SHOW(send(t, "x", 1, MSG_NOSIGNAL));
    SHOW(recv(t, buffer, 1, 0));
    SHOW(shutdown(t, SHUT_RDWR));
    SHOW(shutdown(u, SHUT_RDWR));
    SHOW(accept(t, NULL, NULL));
    SHOW(accept(u, NULL, NULL));
    SHOW(listen(u, 5));
    SHOW(send(u, "x", 1, MSG_NOSIGNAL));
    SHOW(sendto(u, "x", 1, 0, AT("127.0.0.1", 0)));
    SHOW(bind(t, AT("127.0.0.1", 0)) || 0);
    SHOW(bind(t, AT("127.0.0.1", 0)));
    OWN(t);
    close(t), close(u);
    t = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(bind(t, (struct sockaddr *)&(struct sockaddr_in[]){ at("127.0.0.1", 0) }, 15));
    SHOW(bind(t, (struct sockaddr *)&(struct sockaddr){ .sa_family = AF_UNIX }, 16));
    SHOW(bind(t, AT("8.8.8.8", 0)));
    SHOW(bind(t6, AT("127.0.0.1", 0)));
    SHOW(bind(t6, AT6("2001:db8:5069:636f::1", 0)));
    SHOW(connect(t6, AT("127.0.0.1", 5)));
    SHOW(connect(t, AT6("::1", 5)));
    SHOW(connect(t, AT("127.0.0.1", 0)));
    SHOW(connect(t, (void *)buffer, 1));
    close(t), close(t6);
}

static void streams(void)
{
    int s[2], port, l = listener(&port), waiting;
    ready("an idle listener", l);
    PEER(l);
    SHOW(connect(l, AT("127.0.0.1", port)));
    SHOW(recv(l, buffer, 1, 0));
    s[0] = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    SHOW(connect(s[0], AT("127.0.0.1", port)));
    await(s[0], POLLOUT);
    ready("connected", s[0]);
    SHOW(connect(s[0], AT("127.0.0.1", port)));
    SHOW(connect(s[0], AT("127.0.0.1", port)));
    int error = 5;
    socklen_t len = sizeof error;
    SHOW(getsockopt(s[0], SOL_SOCKET, SO_ERROR, &error, &len));
    SHOW(error);
    await(l, POLLIN);
    ready("a listener", l);
    s[1] = MUST(accept(l, NULL, NULL));
    SHOW(fcntl(s[1], F_GETFL) & O_NONBLOCK);
    OWN(s[0]), PEER(s[0]), OWN(s[1]), PEER(s[1]);
    TRUTH(port_of(s[1]) == port);
    SHOW(recv(s[0], buffer, 1, 0));
    SHOW(write(s[1], "hello", 5));
    await(s[0], POLLIN);
    SHOW(ioctl(s[0], FIONREAD, &waiting));
    SHOW(waiting);
    SHOW(recv(s[0], buffer, 100, MSG_PEEK));
    SHOW(recv(s[0], buffer, 2, MSG_TRUNC));
    SHOW(recv(s[0], buffer, 100, 0));
    printf("%.3s\n", buffer);
    MUST(fcntl(s[0], F_SETFL, 0));
    SHOW(write(s[1], "abc", 3));
    SHOW(write(s[1], "def", 3));
    SHOW(recv(s[0], buffer, 6, MSG_WAITALL));
    printf("%.6s\n", buffer);
    SHOW(sendto(s[1], "x", 1, 0, AT("127.0.0.1", 9)));
    struct sockaddr_in from;
    socklen_t from_len = sizeof from;
    SHOW(recvfrom(s[0], buffer, 10, 0, (void *)&from, &from_len));
    SHOW(from_len);
    /* Half an end. */
    SHOW(shutdown(s[1], SHUT_WR));
    SHOW(send(s[1], "x", 1, MSG_NOSIGNAL));
    await(s[0], POLLRDHUP);
    ready("after the other's SHUT_WR", s[0]);
    ready("after the own SHUT_WR", s[1]);
    SHOW(recv(s[0], buffer, 1, 0));
    SHOW(recv(s[0], buffer, 1, 0));
    SHOW(write(s[0], "still", 5));
    SHOW(recv(s[1], buffer, 5, 0));
    SHOW(shutdown(s[0], SHUT_WR));
    await(s[1], POLLHUP);
    ready("both ended", s[1]);
    PEER(s[1]);
    SHOW(shutdown(s[1], SHUT_RD));
    SHOW(recv(s[1], buffer, 1, 0));
    SHOW(send(s[1], "x", 1, MSG_NOSIGNAL));
    close(s[0]), close(s[1]);

    puts("the other closes");
    pair(s);
    SHOW(write(s[1], "last", 4));
    close(s[1]);
    await(s[0], POLLRDHUP);
    ready("after the other's close", s[0]);
    SHOW(recv(s[0], buffer, 10, 0));
    SHOW(recv(s[0], buffer, 10, 0));
    SHOW(send(s[0], "x", 1, MSG_NOSIGNAL));
    await(s[0], POLLHUP | POLLERR);
    ready("after its reset", s[0]);
    SHOW(send(s[0], "x", 1, MSG_NOSIGNAL));
    SHOW(send(s[0], "x", 1, MSG_NOSIGNAL));
    SHOW(recv(s[0], buffer, 1, 0));
    PEER(s[0]);
    close(s[0]);

    puts("the other closes, and much is sent");
    pair(s);
    close(s[1]);
    await(s[0], POLLRDHUP);
    size_t much = 256 << 20;
    void *zeros = mmap(NULL, much, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ssize_t sent = send(s[0], zeros, much, MSG_NOSIGNAL);
    TRUTH(sent > 0 && (size_t)sent < much);
    SHOW(send(s[0], zeros, much, MSG_NOSIGNAL));
    MUST(munmap(zeros, much));
    close(s[0]);

    puts("the other closes with data unread");
    pair(s);
    SHOW(write(s[0], "unread", 6));
    await(s[1], POLLIN);
    close(s[1]);
    await(s[0], POLLHUP);
    ready("after the reset", s[0]);
    SHOW(recv(s[0], buffer, 1, 0));
    SHOW(recv(s[0], buffer, 1, 0));
    SHOW(send(s[0], "x", 1, MSG_NOSIGNAL));
    PEER(s[0]);
    close(s[0]);

    puts("the other has no patience");
    pair(s);
    struct linger linger = { 1, 0 };
    SHOW(setsockopt(s[1], SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    close(s[1]);
    await(s[0], POLLHUP);
    SHOW(getsockopt(s[0], SOL_SOCKET, SO_ERROR, &error, &len));
    puts(error_name(error));
    SHOW(recv(s[0], buffer, 1, 0));
    close(s[0]);

    puts("nobody accepts");
    s[0] = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(connect(s[0], AT("127.0.0.1", port)));
    close(l);
    await(s[0], POLLHUP);
    ready("after the listener's end", s[0]);
    SHOW(recv(s[0], buffer, 1, 0));
    close(s[0]);

    puts("nobody listens");
    s[0] = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(connect(s[0], AT("127.0.0.1", port)));
    SHOW(connect(s[0], AT("127.0.0.1", port)));
    MUST(fcntl(s[0], F_SETFL, O_NONBLOCK));
    SHOW(connect(s[0], AT("127.0.0.1", port)));
    await(s[0], POLLOUT);
    ready("refused", s[0]);
    SHOW(getsockopt(s[0], SOL_SOCKET, SO_ERROR, &error, &len));
    puts(error_name(error));
    SHOW(connect(s[0], AT("127.0.0.1", port)));
    l = listener(&port);
    SHOW(connect(s[0], AT("127.0.0.1", port)));
    await(s[0], POLLOUT);
    SHOW(connect(s[0], (struct sockaddr *)&(struct sockaddr){ AF_UNSPEC }, sizeof(struct sockaddr)));
    PEER(s[0]);
    close(s[0]), close(l);

    puts("urgent data");
    pair(s);
    SHOW(send(s[0], "abc", 3, MSG_OOB));
    await(s[1], POLLPRI);
    ready("urgent", s[1]);
    SHOW(ioctl(s[1], SIOCATMARK, &waiting));
    SHOW(waiting);
    SHOW(recv(s[1], buffer, 10, MSG_OOB));
    printf("%c\n", buffer[0]);
    SHOW(recv(s[1], buffer, 10, MSG_OOB));
    SHOW(recv(s[1], buffer, 10, 0));
    SHOW(ioctl(s[1], SIOCATMARK, &waiting));
    SHOW(waiting);
    SHOW(recv(s[1], buffer, 10, MSG_DONTWAIT));
    int on = 1;
    SHOW(setsockopt(s[1], SOL_SOCKET, SO_OOBINLINE, &on, sizeof on));
    SHOW(send(s[0], "xy", 2, MSG_OOB));
    await(s[1], POLLPRI);
    SHOW(recv(s[1], buffer, 10, MSG_OOB));
    SHOW(recv(s[1], buffer, 10, 0));
    SHOW(recv(s[1], buffer, 10, 0));
    close(s[0]), close(s[1]);

    puts("full");
    pair(s);
    int small = 8192;
    MUST(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
    MUST(setsockopt(s[1], SOL_SOCKET, SO_RCVBUF, &small, sizeof small));
    MUST(fcntl(s[0], F_SETFL, O_NONBLOCK));
    long total = 0, n;
    while ((n = write(s[0], buffer, 100000)) > 0 || (n < 0 && poll(&(struct pollfd){ s[0], POLLOUT, 0 }, 1, 100)))
        total += n > 0 ? n : 0;
    printf("%s\n", error_name(errno));
    SHOW(poll(&(struct pollfd){ s[0], POLLOUT, 0 }, 1, 0));
    while (total > 0)
        total -= MUST(read(s[1], buffer, sizeof buffer));
    SHOW(poll(&(struct pollfd){ s[0], POLLOUT, 0 }, 1, 5000));
    struct timeval brief = { 0, 20000 };
    MUST(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief));
    SHOW(read(s[1], buffer, 1));
    int low = 3;
    MUST(setsockopt(s[1], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
    SHOW(write(s[0], "12", 2));
    SHOW(read(s[1], buffer, 10));
    close(s[0]), close(s[1]);
}

static void ports(void)
{
    int a = MUST(socket(AF_INET, SOCK_STREAM, 0)), b = MUST(socket(AF_INET, SOCK_STREAM, 0)), on = 1, port;
    MUST(bind(a, AT("127.0.0.1", 0)));
    port = port_of(a);
    SHOW(bind(b, AT("127.0.0.1", port)));
    SHOW(bind(b, AT("0.0.0.0", port)));
    MUST(setsockopt(b, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    SHOW(bind(b, AT("127.0.0.1", port)));
    MUST(setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    SHOW(bind(b, AT("127.0.0.1", port)));
    SHOW(listen(a, 1));
    SHOW(listen(b, 1));
    close(b);
    b = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(setsockopt(b, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    SHOW(bind(b, AT("127.0.0.1", port)));
    SHOW(bind(b, AT("127.0.0.2", port)));
    SHOW(listen(b, 1));
    close(a), close(b);
    for (int i = 0; i < 2; i++) {
        int *fd = i ? &b : &a;
        *fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
        MUST(setsockopt(*fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
        SHOW(bind(*fd, AT("127.0.0.1", i ? port : 0)));
        port = port_of(*fd);
        SHOW(listen(*fd, 5));
    }
    close(a), close(b);

    /* Both versions on one port. */
    int six = MUST(socket(AF_INET6, SOCK_STREAM, 0));
    MUST(bind(six, AT6("::", 0)));
    MUST(listen(six, 5));
    port = port_of(six);
    a = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(bind(a, AT("0.0.0.0", port)));
    SHOW(connect(a, AT("127.0.0.1", port)));
    b = MUST(accept(six, NULL, NULL));
    OWN(b), PEER(b), OWN(a), PEER(a);
    close(a), close(b);
    a = MUST(socket(AF_INET6, SOCK_STREAM, 0));
    SHOW(connect(a, AT6("::ffff:127.0.0.1", port)));
    OWN(a), PEER(a);
    close(a);
    a = MUST(socket(AF_INET6, SOCK_STREAM, 0));
    SHOW(connect(a, AT6("::", port)));
    OWN(a), PEER(a);
    close(a), close(six);
    six = MUST(socket(AF_INET6, SOCK_STREAM, 0));
    SHOW(setsockopt(six, SOL_IPV6, IPV6_V6ONLY, &on, sizeof on));
    SHOW(bind(six, AT6("::ffff:127.0.0.1", 0)));
    SHOW(bind(six, AT6("::", 0)));
    SHOW(setsockopt(six, SOL_IPV6, IPV6_V6ONLY, &on, sizeof on));
    SHOW(listen(six, 5));
    port = port_of(six);
    a = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(connect(a, AT("127.0.0.1", port)));
    SHOW(connect(six, AT6("::ffff:127.0.0.1", port)));
    close(six), close(a);
    a = MUST(socket(AF_INET6, SOCK_STREAM, 0));
    SHOW(listen(a, 5));
    OWN(a);
    close(a);
}

static void datagrams(void)
{
    int a = MUST(socket(AF_INET, SOCK_DGRAM, 0)), b = MUST(socket(AF_INET, SOCK_DGRAM, 0)), on = 1;
    MUST(bind(a, AT("127.0.0.1", 0)));
    int port = port_of(a);
    SHOW(bind(b, AT("127.0.0.1", port)));
    SHOW(sendto(b, "one", 3, 0, AT("127.0.0.1", port)));
    OWN(b);
    SHOW(sendto(b, "", 0, 0, AT("127.0.0.1", port)));
    SHOW(sendto(b, "three", 5, 0, AT("0.0.0.0", port)));
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    SHOW(recvfrom(a, buffer, 10, 0, (void *)&from, &len));
    TRUTH(len == 16 && ntohs(from.sin_port) == port_of(b) && from.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    SHOW(recv(a, buffer, 10, 0));
    int waiting;
    SHOW(ioctl(a, FIONREAD, &waiting));
    SHOW(waiting);
    SHOW(recv(a, buffer, 2, MSG_PEEK | MSG_TRUNC));
    SHOW(recv(a, buffer, 2, 0));
    SHOW(recv(a, buffer, 2, MSG_DONTWAIT));
    SHOW(sendto(b, buffer, 65507, 0, AT("127.0.0.1", port)));
    SHOW(sendto(b, buffer, 65508, 0, AT("127.0.0.1", port)));
    SHOW(sendto(b, buffer, 70000, 0, AT("127.0.0.1", port)));
    SHOW(recv(a, buffer, sizeof buffer, 0));
    SHOW(connect(b, AT("127.0.0.1", port)));
    OWN(b), PEER(b);
    SHOW(send(b, "c", 1, 0));
    SHOW(sendto(a, "stranger", 8, 0, AT("127.0.0.1", port_of(b))));
    SHOW(recv(b, buffer, 10, MSG_DONTWAIT));
    int c = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    SHOW(sendto(c, "filtered", 8, 0, AT("127.0.0.1", port_of(b))));
    SHOW(recv(b, buffer, 10, MSG_DONTWAIT));
    SHOW(connect(b, (struct sockaddr *)&(struct sockaddr){ AF_UNSPEC }, sizeof(struct sockaddr)));
    PEER(b);
    OWN(b);
    close(a);
    SHOW(sendto(c, "x", 1, 0, AT("127.0.0.1", port)));
    SHOW(sendto(c, "x", 1, 0, AT("127.0.0.1", port)));
    SHOW(connect(c, AT("127.0.0.1", port)));
    SHOW(send(c, "x", 1, 0));
    await(c, POLLERR);
    ready("refused", c);
    SHOW(recv(c, buffer, 1, 0));
    SHOW(send(c, "x", 1, 0));
    await(c, POLLERR);
    SHOW(send(c, "x", 1, 0));
    SHOW(shutdown(c, SHUT_WR));
    SHOW(send(c, "x", 1, MSG_NOSIGNAL));
    SHOW(shutdown(c, SHUT_RD));
    ready("shut", c);
    SHOW(recv(c, buffer, 1, MSG_DONTWAIT));
    close(b), close(c);

    /* What control messages tell. */
    a = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    b = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(bind(a, AT("127.0.0.1", 0)));
    SHOW(setsockopt(a, SOL_IP, IP_PKTINFO, &on, sizeof on));
    SHOW(setsockopt(a, SOL_IP, IP_RECVTTL, &on, sizeof on));
    SHOW(setsockopt(a, SOL_IP, IP_RECVTOS, &on, sizeof on));
    int ttl = 9, tos = 0x20;
    SHOW(setsockopt(b, SOL_IP, IP_TTL, &ttl, sizeof ttl));
    SHOW(setsockopt(b, SOL_IP, IP_TOS, &tos, sizeof tos));
    SHOW(sendto(b, "x", 1, 0, AT("127.0.0.1", port_of(a))));
    char control[200];
    struct iovec iov = { buffer, 10 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    SHOW(recvmsg(a, &m, 0));
    for (struct cmsghdr *cm = CMSG_FIRSTHDR(&m); cm; cm = CMSG_NXTHDR(&m, cm)) {
        printf("level %d type %d:", cm->cmsg_level, cm->cmsg_type);
        for (unsigned i = 0; i < cm->cmsg_len - CMSG_LEN(0); i++)
            printf(" %d", CMSG_DATA(cm)[i]);
        putchar('\n');
    }
    close(a), close(b);

    /* The youngest of several gets all. */
    a = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    b = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    c = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    MUST(setsockopt(b, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    SHOW(bind(a, AT("127.0.0.1", 0)));
    SHOW(bind(b, AT("127.0.0.1", port_of(a))));
    SHOW(sendto(c, "x", 1, 0, AT("127.0.0.1", port_of(a))));
    SHOW(recv(a, buffer, 10, MSG_DONTWAIT));
    SHOW(recv(b, buffer, 10, MSG_DONTWAIT));
    close(a), close(b), close(c);

    /* IPv6, and IPv4 by IPv6. */
    a = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    MUST(bind(a, AT6("::", 0)));
    b = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    SHOW(sendto(b, "four", 4, 0, AT("127.0.0.1", port_of(a))));
    struct sockaddr_in6 from6;
    len = sizeof from6;
    SHOW(recvfrom(a, buffer, 10, 0, (void *)&from6, &len));
    TRUTH(len == 28 && IN6_IS_ADDR_V4MAPPED(&from6.sin6_addr));
    SHOW(sendto(a, "back", 4, 0, (void *)&from6, len));
    SHOW(recv(b, buffer, 10, 0));
    SHOW(sendto(a, "six", 3, 0, AT6("::1", port_of(a))));
    SHOW(recv(a, buffer, 10, 0));
    SHOW(sendto(b, "x", 1, 0, AT6("::1", 5)));
    close(a), close(b);
}

static void option(int fd, const char *name, int level, int number, int value)
{
    int got = -1;
    socklen_t len = sizeof got;
    int set = setsockopt(fd, level, number, &value, sizeof value);
    printf("%s: %s, ", name, set ? error_name(errno) : "set");
    int get = getsockopt(fd, level, number, &got, &len);
    if (get)
        printf("%s\n", error_name(errno));
    else
        printf("%d (%u bytes)\n", got, len);
}

static void options(void)
{
    int t = MUST(socket(AF_INET, SOCK_STREAM, 0)), u = MUST(socket(AF_INET, SOCK_DGRAM, 0)), six = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
#define OPTION(fd, level, name, value) option(fd, #name, level, name, value)
    OPTION(t, SOL_SOCKET, SO_TYPE, 1);
    OPTION(t, SOL_SOCKET, SO_PROTOCOL, 1);
    OPTION(t, SOL_SOCKET, SO_DOMAIN, 1);
    OPTION(t, SOL_SOCKET, SO_REUSEPORT, 1);
    OPTION(t, SOL_TCP, TCP_NODELAY, 7);
    OPTION(t, SOL_TCP, TCP_CORK, 7);
    OPTION(t, SOL_TCP, TCP_QUICKACK, 0);
    OPTION(t, SOL_TCP, TCP_KEEPIDLE, 0);
    OPTION(t, SOL_TCP, TCP_KEEPIDLE, 20);
    OPTION(t, SOL_TCP, TCP_KEEPINTVL, 32768);
    OPTION(t, SOL_TCP, TCP_KEEPCNT, 127);
    OPTION(t, SOL_TCP, TCP_SYNCNT, 3);
    OPTION(t, SOL_TCP, TCP_MAXSEG, 5);
    OPTION(t, SOL_TCP, TCP_USER_TIMEOUT, 300);
    OPTION(t, SOL_TCP, TCP_USER_TIMEOUT, -1);
    OPTION(t, SOL_TCP, 12345, 1);
    OPTION(t, SOL_IP, IP_TTL, 0);
    OPTION(t, SOL_IP, IP_TTL, 255);
    OPTION(t, SOL_IP, IP_TTL, 256);
    OPTION(t, SOL_IP, IP_TTL, -1);
    OPTION(u, SOL_IP, IP_MTU_DISCOVER, 2);
    OPTION(u, SOL_IP, IP_MTU_DISCOVER, 9);
    OPTION(u, SOL_IP, IP_MULTICAST_TTL, 300);
    OPTION(u, SOL_IP, IP_MULTICAST_LOOP, 0);
    OPTION(u, SOL_IP, IP_RECVERR, 1);
    OPTION(u, SOL_IP, IP_MTU, 1);
    OPTION(t, SOL_IPV6, IPV6_V6ONLY, 1);
    OPTION(six, SOL_IPV6, IPV6_V6ONLY, 1);
    OPTION(six, SOL_IPV6, IPV6_UNICAST_HOPS, 300);
    OPTION(six, SOL_IPV6, IPV6_UNICAST_HOPS, 3);
    OPTION(six, SOL_IPV6, IPV6_UNICAST_HOPS, -1);
    OPTION(six, SOL_IPV6, IPV6_MULTICAST_HOPS, 3);
    OPTION(six, SOL_IPV6, IPV6_RECVPKTINFO, 1);
    OPTION(six, SOL_IPV6, IPV6_TCLASS, 256);
    OPTION(u, 77, 1, 1);
    OPTION(u, SOL_TCP, TCP_NODELAY, 1);
    char name[16] = "reno";
    socklen_t len = sizeof name;
    SHOW(setsockopt(t, SOL_TCP, TCP_CONGESTION, "nonsense", 8));
    SHOW(getsockopt(t, SOL_TCP, TCP_CONGESTION, name, &len));
    SHOW(len);
    SHOW(setsockopt(t, SOL_SOCKET, SO_BINDTODEVICE, "nonsense", 8));
    close(t), close(u), close(six);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    making();
    streams();
    ports();
    datagrams();
    options();
    return 0;
}
