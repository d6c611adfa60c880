/* What the fewest programs use of sockets: ports that are remembered, a connection with itself, groups on the loopback interface, the
 * queue of errors, time stamps, owners, and options whose values are rounded. */
#include "show.h"
#include "inet.h"
#include <linux/errqueue.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/un.h>

#define STAMP 0x8906

static int port_of(int fd)
{
    struct sockaddr_in6 a;
    socklen_t len = sizeof a;
    getsockname(fd, (void *)&a, &len);
    return ntohs(a.sin6_port);
}

static void set(int fd, int level, int name, int value) { MUST(setsockopt(fd, level, name, &value, sizeof value)); }

static int get(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, level, name, &value, &len) ? -1 : value;
}

static void await(int fd, int events)
{
    struct pollfd p = { fd, events, 0 };
    poll(&p, 1, 5000);
}

/* A listener, a client and the listener's side of their connection. */
static void connection(int *listener, int *client, int *server)
{
    *listener = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(bind(*listener, AT("127.0.0.1", 0)));
    MUST(listen(*listener, 5));
    *client = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(*client, AT("127.0.0.1", port_of(*listener))));
    *server = MUST(accept(*listener, 0, 0));
}

/* Whether the port can be bound now, by a socket that shares its address or not. */
static void try_port(const char *what, int port, int shares)
{
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    set(fd, SOL_SOCKET, SO_REUSEADDR, shares);
    errno = 0;
    int result = bind(fd, AT("127.0.0.1", port));
    printf("%s, %s: %s\n", what, shares ? "shared" : "alone", result ? error_name(errno) : "ok");
    close(fd);
}

static void remembered_ports(void)
{
    int listener, client, server, port;
    char byte;

    connection(&listener, &client, &server);
    port = port_of(client);
    try_port("the port of a connection", port, 0);
    MUST(close(client));
    MUST(read(server, &byte, 1));
    try_port("after one side has ended", port, 0);
    MUST(close(server));
    try_port("after both have", port, 0);
    try_port("after both have", port, 1);
    int served = port_of(listener);
    MUST(close(listener));
    try_port("the listener's port", served, 0);

    connection(&listener, &client, &server);
    (port = port_of(client), served = port_of(listener));
    MUST(close(server));
    MUST(read(client, &byte, 1));
    MUST(close(client));
    MUST(close(listener));
    try_port("the port of who ended last", port, 0);
    try_port("the listener's port, whose side ended first", served, 0);

    connection(&listener, &client, &server);
    port = port_of(client);
    struct linger now = { 1, 0 };
    MUST(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now));
    MUST(close(client));
    try_port("the port after a reset", port, 0);
    close(server);
    close(listener);

    /* Two connections cannot have the same ends. */
    connection(&listener, &client, &server);
    set(client, SOL_SOCKET, SO_REUSEADDR, 1);
    int twin = MUST(socket(AF_INET, SOCK_STREAM, 0));
    set(twin, SOL_SOCKET, SO_REUSEADDR, 1);
    SHOW(bind(twin, AT("127.0.0.1", port_of(client))));
    SHOW(connect(twin, AT("127.0.0.1", port_of(listener))));
    close(twin);
    close(client);
    close(server);
    close(listener);
}

static void own_connection(void)
{
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    char text[16] = "";
    MUST(bind(fd, AT("127.0.0.1", 0)));
    SHOW(connect(fd, AT("127.0.0.1", port_of(fd))));
    SHOW(write(fd, "to myself", 9));
    SHOW(read(fd, text, sizeof text));
    printf("read: %s\n", text);
    SHOW(shutdown(fd, SHUT_WR));
    SHOW(read(fd, text, sizeof text));
    SHOW(close(fd));
}

static void half_connected(void)
{
    for (int how = SHUT_RD; how <= SHUT_RDWR; how++) {
        int listener = MUST(socket(AF_INET, SOCK_STREAM, 0)), first = MUST(socket(AF_INET, SOCK_STREAM, 0));
        MUST(bind(listener, AT("127.0.0.1", 0)));
        MUST(listen(listener, 0));
        MUST(connect(first, AT("127.0.0.1", port_of(listener))));
        int second = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        SHOW(connect(second, AT("127.0.0.1", port_of(listener))));
        SHOW(shutdown(second, how));
        struct pollfd p = { second, 0, 0 };
        poll(&p, 1, 0);
        printf("a connecting socket after shutdown %d: %x, error %s\n", how, p.revents,
               error_name(get(second, SOL_SOCKET, SO_ERROR)));
        close(second);
        close(first);
        close(listener);
    }
}

static void tcp_details(void)
{
    int listener, client, server;
    char text[64];
    connection(&listener, &client, &server);
    set(server, IPPROTO_TCP, TCP_INQ, 1);
    MUST(write(client, "some words", 10));
    await(server, POLLIN);
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec part = { text, 4 };
    struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    SHOW(recvmsg(server, &m, 0));
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    printf("told of what is left: %d, %d\n", c && c->cmsg_level == SOL_TCP && c->cmsg_type == TCP_INQ, c ? *(int *)CMSG_DATA(c) : -1);
    memset(text, 'x', sizeof text);
    SHOW(recv(server, text, 6, MSG_TRUNC | MSG_PEEK));
    printf("%.6s\n", text);
    SHOW(recv(server, text, 6, 0));
    printf("%.6s\n", text);
    struct timeval time;
    SHOW(ioctl(server, STAMP, &time));

    set(client, SOL_TCP, TCP_DEFER_ACCEPT, -1);
    printf("TCP_DEFER_ACCEPT of -1: %d\n", get(client, SOL_TCP, TCP_DEFER_ACCEPT));
    set(client, SOL_TCP, TCP_DEFER_ACCEPT, 5);
    printf("TCP_DEFER_ACCEPT of 5: %d\n", get(client, SOL_TCP, TCP_DEFER_ACCEPT));
    set(client, SOL_TCP, TCP_WINDOW_CLAMP, 7);
    printf("TCP_WINDOW_CLAMP of 7: %d\n", get(client, SOL_TCP, TCP_WINDOW_CLAMP));
    set(client, SOL_TCP, TCP_LINGER2, -5);
    printf("TCP_LINGER2 of -5: %d\n", get(client, SOL_TCP, TCP_LINGER2));
    set(client, SOL_TCP, TCP_LINGER2, 1000);
    printf("TCP_LINGER2 of 1000: %d\n", get(client, SOL_TCP, TCP_LINGER2));
    close(client);
    close(server);
    close(listener);
}

static void both_versions(void)
{
    int fd = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    struct sockaddr_in6 a;
    socklen_t len = sizeof a;
    SHOW(sendto(fd, "x", 1, 0, AT("127.0.0.1", 1337)));
    MUST(getsockname(fd, (void *)&a, &len));
    printf("sent from %s\n", IN6_IS_ADDR_UNSPECIFIED(&a.sin6_addr) ? "anywhere" : "somewhere");
    SHOW(connect(fd, AT("127.0.0.1", 1337)));
    MUST(getsockname(fd, (void *)&a, &len));
    printf("connected from %s\n", IN6_IS_ADDR_V4MAPPED(&a.sin6_addr) ? "IPv4" : "IPv6");
    SHOW(getpeername(fd, (void *)&a, &len));
    SHOW(connect(fd, AT("127.0.0.1", 0)));
    SHOW(getpeername(fd, (void *)&a, &len));
    close(fd);
    fd = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    MUST(bind(fd, AT6("::ffff:127.0.0.1", 0)));
    SHOW(sendto(fd, "x", 1, 0, AT6("::1", 1337)));
    SHOW(connect(fd, AT6("::1", 1337)));
    close(fd);
    fd = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    MUST(bind(fd, AT6("::1", 0)));
    SHOW(sendto(fd, "x", 1, 0, AT6("::ffff:127.0.0.1", 1337)));
    close(fd);
    fd = MUST(socket(AF_INET6, SOCK_STREAM, 0));
    MUST(bind(fd, AT6("::ffff:127.0.0.1", 0)));
    SHOW(connect(fd, AT6("::1", 1337)));
    close(fd);
}

static void groups(void)
{
    struct ip_mreq here = { .imr_multiaddr = { inet_addr("224.0.2.1") }, .imr_interface = { htonl(INADDR_LOOPBACK) } };
    int sender = MUST(socket(AF_INET, SOCK_DGRAM, 0)), member = MUST(socket(AF_INET, SOCK_DGRAM, 0)),
        guest = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    char text[16];
    set(member, SOL_SOCKET, SO_REUSEADDR, 1);
    set(guest, SOL_SOCKET, SO_REUSEADDR, 1);
    MUST(bind(member, AT("0.0.0.0", 0)));
    int port = port_of(member);
    MUST(bind(guest, AT("0.0.0.0", port)));
    MUST(setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &here.imr_interface, sizeof here.imr_interface));
    struct ip_mreq none = { 0 };
    SHOW(setsockopt(member, IPPROTO_IP, IP_ADD_MEMBERSHIP, &none, sizeof none));
    MUST(setsockopt(member, IPPROTO_IP, IP_ADD_MEMBERSHIP, &here, sizeof here));
    SHOW(connect(sender, AT("224.0.2.1", port)));
    SHOW(send(sender, "one", 3, 0));
    await(member, POLLIN);
    SHOW(recv(member, text, sizeof text, MSG_DONTWAIT));
    SHOW(recv(guest, text, sizeof text, MSG_DONTWAIT));
    set(guest, IPPROTO_IP, IP_MULTICAST_ALL, 0);
    set(sender, IPPROTO_IP, IP_MULTICAST_LOOP, 0);
    SHOW(send(sender, "three", 5, 0));
    await(member, POLLIN);
    SHOW(recv(member, text, sizeof text, MSG_DONTWAIT));
    SHOW(recv(guest, text, sizeof text, MSG_DONTWAIT));
    set(guest, IPPROTO_IP, IP_MULTICAST_ALL, 1);
    MUST(setsockopt(member, IPPROTO_IP, IP_DROP_MEMBERSHIP, &here, sizeof here));
    SHOW(send(sender, "none", 4, 0));
    SHOW(recv(guest, text, sizeof text, MSG_DONTWAIT));
    close(sender);
    sender = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(bind(sender, AT("127.0.0.1", 0)));
    SHOW(sendto(sender, "all", 3, 0, AT("255.255.255.255", port)));
    set(sender, SOL_SOCKET, SO_BROADCAST, 1);
    SHOW(sendto(sender, "all", 3, 0, AT("255.255.255.255", port)));
    await(member, POLLIN);
    SHOW(recv(member, text, sizeof text, MSG_DONTWAIT));
    close(sender);
    close(member);
    close(guest);
}

static void show_error(int fd, int level, int name)
{
    char text[64], control[512];
    struct sockaddr_in6 from;
    struct iovec part = { text, sizeof text };
    struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1,
                        .msg_control = control, .msg_controllen = sizeof control };
    int len = recvmsg(fd, &m, MSG_ERRQUEUE);
    if (len < 0) {
        printf("no error in the queue: %s\n", error_name(errno));
        return;
    }
    printf("an error with %d bytes, flags %x, sent to port %d:", len, m.msg_flags, ntohs(from.sin6_port) != 0);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        struct sock_extended_err *e = (void *)CMSG_DATA(c);
        struct sockaddr *offender = SO_EE_OFFENDER(e);
        printf(" %d of %zu bytes, %s, origin %d, type %d, code %d, by family %d", c->cmsg_level == level && c->cmsg_type == name,
               (size_t)c->cmsg_len, error_name(e->ee_errno), e->ee_origin, e->ee_type, e->ee_code, offender->sa_family);
    }
    printf("\n");
}

static void errors(void)
{
    int probe = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(bind(probe, AT("127.0.0.1", 0)));
    int port = port_of(probe);
    close(probe);
    int fd = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    show_error(fd, SOL_IP, IP_RECVERR);
    set(fd, SOL_IP, IP_RECVERR, 1);
    SHOW(sendto(fd, "nobody", 6, 0, AT("127.0.0.1", port)));
    struct pollfd p = { fd, POLLIN, 0 };
    poll(&p, 1, 5000);
    printf("polled: %x\n", p.revents);
    show_error(fd, SOL_IP, IP_RECVERR);
    printf("SO_ERROR: %d\n", get(fd, SOL_SOCKET, SO_ERROR));
    show_error(fd, SOL_IP, IP_RECVERR);
    SHOW(sendto(fd, "nobody", 6, 0, AT("127.0.0.1", port)));
    poll(&p, 1, 5000);
    SHOW(sendto(fd, "nobody", 6, 0, AT("127.0.0.1", port)));
    set(fd, SOL_IP, IP_RECVERR, 0);
    show_error(fd, SOL_IP, IP_RECVERR);
    close(fd);
    fd = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    set(fd, SOL_IPV6, IPV6_RECVERR, 1);
    MUST(connect(fd, AT6("::1", port)));
    SHOW(send(fd, "nobody", 6, 0));
    p.fd = fd;
    poll(&p, 1, 5000);
    show_error(fd, SOL_IPV6, IPV6_RECVERR);
    close(fd);

    /* Too long for any packet: told at once, with no data; IPv4 tells it only up to its own limit. */
    static char longest[70000];
    fd = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    set(fd, SOL_IPV6, IPV6_RECVERR, 1);
    SHOW(sendto(fd, longest, sizeof longest, 0, AT6("::1", port)));
    show_error(fd, SOL_IPV6, IPV6_RECVERR);
    printf("SO_ERROR: %d\n", get(fd, SOL_SOCKET, SO_ERROR));
    close(fd);
    fd = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    set(fd, SOL_IP, IP_RECVERR, 1);
    SHOW(sendto(fd, longest, sizeof longest, 0, AT("127.0.0.1", port)));
    show_error(fd, SOL_IP, IP_RECVERR);
    SHOW(sendto(fd, longest, 65508, 0, AT("127.0.0.1", port)));
    show_error(fd, SOL_IP, IP_RECVERR);
    close(fd);
}

/* What a connection over IPv6 has chosen as its address is no hindrance on the way to IPv4. */
static void both_families(void)
{
    int four = MUST(socket(AF_INET, SOCK_DGRAM, 0)), six = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    char text[8];
    MUST(bind(four, AT("127.0.0.1", 0)));
    MUST(connect(six, AT6("::1", 1337)));
    SHOW(sendto(six, "four", 4, 0, AT6("::ffff:127.0.0.1", port_of(four))));
    await(four, POLLIN);
    SHOW(recv(four, text, sizeof text, MSG_DONTWAIT));
    close(six);
    close(four);
}

static void stamps(void)
{
    int a = MUST(socket(AF_INET, SOCK_DGRAM, 0)), b = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    struct timeval time = { 0, 0 };
    char byte;
    MUST(bind(a, AT("127.0.0.1", 0)));
    MUST(connect(b, AT("127.0.0.1", port_of(a))));
    SHOW(ioctl(a, STAMP, &time));
    MUST(write(b, "x", 1));
    MUST(read(a, &byte, 1));
    SHOW(ioctl(a, STAMP, &time));
    TRUTH(time.tv_sec != 0);
    close(a);
    close(b);
}

static void owners(void)
{
    int fds[2], owner = getpid(), file = MUST(open("/dev/null", O_RDWR));
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds));
    int none = -1, nobody = 0x7fffffff;
    SHOW(ioctl(fds[0], FIOGETOWN, &none));
    printf("%d\n", none);
    SHOW(ioctl(fds[0], FIOSETOWN, &owner));
    SHOW(ioctl(fds[0], SIOCGPGRP, &none));
    TRUTH(none == owner && fcntl(fds[0], F_GETOWN) == owner);
    SHOW(ioctl(fds[0], SIOCSPGRP, &nobody));
    SHOW(ioctl(fds[0], FIOSETOWN, (void *)8));
    SHOW(ioctl(file, FIOGETOWN, &none));
    close(fds[0]);
    close(fds[1]);
    close(file);

    struct sockaddr_un name = { AF_UNIX, "" };
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    struct ucred who;
    socklen_t len = sizeof who;
    MUST(bind(fd, (void *)&name, sizeof(sa_family_t)));
    MUST(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len));
    printf("before listen: %d\n", who.pid);
    MUST(listen(fd, 1));
    MUST(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len));
    TRUTH(who.pid == getpid());
    close(fd);
    /* Whether these are permitted depends on who runs the program; that they are answered does not. */
    fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    int privileged[] = { SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_PRIORITY, SO_MARK, SO_DEBUG };
    for (size_t i = 0; i < sizeof privileged / sizeof *privileged; i++)
        setsockopt(fd, SOL_SOCKET, privileged[i], &(int){ 7000 }, sizeof(int));
    close(fd);
}

static void netlink(void)
{
    int fd = MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    uint64_t groups[2] = { 0, 0 };
    socklen_t len = sizeof groups;
    SHOW(getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &len));
    printf("%u bytes of groups\n", len);
    set(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_LINK);
    len = 0;
    SHOW(getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, 0, &len));
    printf("%u bytes of groups\n", len);
    len = sizeof groups;
    SHOW(getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &len));
    printf("%u bytes of groups: %llx\n", len, (unsigned long long)groups[0]);
    close(fd);

    fd = MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    struct { struct nlmsghdr head; struct rtmsg body; } ask = {
        { sizeof ask, RTM_GETROUTE, NLM_F_REQUEST | NLM_F_ROOT, 1, 0 }, { .rtm_family = AF_UNSPEC } };
    char answer[16384];
    MUST(send(fd, &ask, sizeof ask, 0));
    MUST(recv(fd, answer, sizeof answer, 0));
    struct nlmsghdr *head = (void *)answer;
    printf("all routes: kind %d, flags %x\n", head->nlmsg_type, head->nlmsg_flags & NLM_F_MULTI);
    close(fd);
}

int main(void)
{
    remembered_ports();
    own_connection();
    half_connected();
    tcp_details();
    both_versions();
    groups();
    errors();
    both_families();
    stamps();
    owners();
    netlink();
    return 0;
}
