/* Unix sockets: pairs, names, backlogs, ends, descriptors and credentials on board, options, errors. */
#include "show.h"
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

static char buffer[400000];

static void ready(const char *what, int fd)
{
    struct pollfd p = { fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0 };
    poll(&p, 1, 0);
    printf("%s is ready for %x\n", what, p.revents);
}

static socklen_t named(struct sockaddr_un *address, const char *name, int len)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, name, len);
    return offsetof(struct sockaddr_un, sun_path) + len;
}

static void print_name(const char *what, struct sockaddr_un *address, socklen_t len)
{
    printf("%s: %u bytes, family %d, ", what, len, len >= 2 ? address->sun_family : -1);
    for (unsigned at = 2; at < len && at < sizeof *address; at++)
        putchar(((char *)address)[at] ? ((char *)address)[at] : '@');
    putchar('\n');
}

static void own_name(const char *what, int fd)
{
    struct sockaddr_un address;
    socklen_t len = sizeof address;
    SHOW(getsockname(fd, (void *)&address, &len));
    print_name(what, &address, len);
}

static void making(void)
{
    SHOW(socket(AF_UNIX, SOCK_STREAM, 99));
    SHOW(socket(AF_UNIX, SOCK_RDM, 0));
    SHOW(socket(AF_UNIX, 77, 0));
    SHOW(socket(-1, SOCK_STREAM, 0));
    SHOW(socket(9999, SOCK_STREAM, 0));
    int pair[2];
    SHOW(socketpair(AF_UNIX, SOCK_STREAM, 5, pair));
    SHOW(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 8L));
    SHOW(bind(0, NULL, 0));
    SHOW(bind(-1, NULL, 0));
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    SHOW(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE));
    SHOW(fcntl(fd, F_GETFD));
    struct stat st;
    SHOW(fstat(fd, &st));
    SHOW(S_ISSOCK(st.st_mode));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(recv(fd, buffer, 1, 0));
    SHOW(send(fd, buffer, 1, MSG_NOSIGNAL));
    SHOW(accept(fd, NULL, NULL));
    SHOW(listen(fd, 1));
    ready("a new stream", fd);
    own_name("a new stream", fd);
    close(fd);
}

static void streams(void)
{
    int s[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    SHOW(write(s[0], "hello ", 6));
    SHOW(send(s[0], "world", 5, 0));
    int waiting = -1;
    SHOW(ioctl(s[1], FIONREAD, &waiting));
    SHOW(waiting);
    SHOW(recv(s[1], buffer, 100, MSG_PEEK));
    SHOW(recv(s[1], buffer, 100, 0));
    printf("%.11s\n", buffer);
    SHOW(recv(s[1], buffer, 1, MSG_DONTWAIT));
    SHOW(send(s[0], "x", 1, 0));
    SHOW(recv(s[1], buffer, 2, MSG_DONTWAIT | MSG_WAITALL));
    ready("a connected stream", s[0]);
    SHOW(sendto(s[0], "x", 1, 0, (void *)buffer, 10));
    struct sockaddr_un peer;
    socklen_t len = sizeof peer;
    SHOW(getpeername(s[0], (void *)&peer, &len));
    print_name("peer", &peer, len);
    SHOW(connect(s[0], (void *)&peer, len));
    /* Until it is full; what fits differs. */
    MUST(fcntl(s[0], F_SETFL, O_NONBLOCK));
    long total = 0, n;
    while ((n = write(s[0], buffer, sizeof buffer)) > 0)
        total += n;
    printf("full: %s, %s\n", error_name(errno), total > 50000 ? "much" : "little");
    struct pollfd p = { s[0], POLLOUT, 0 };
    SHOW(poll(&p, 1, 0));
    while (total > 0)
        total -= MUST(read(s[1], buffer, sizeof buffer));
    SHOW(total);
    SHOW(poll(&p, 1, 0));
    /* Half an end. */
    SHOW(write(s[0], "bye", 3));
    SHOW(shutdown(s[0], SHUT_WR));
    SHOW(send(s[0], "x", 1, MSG_NOSIGNAL));
    ready("after the other's SHUT_WR", s[1]);
    ready("after the own SHUT_WR", s[0]);
    SHOW(read(s[1], buffer, 10));
    SHOW(read(s[1], buffer, 10));
    SHOW(write(s[1], "back", 4));
    SHOW(read(s[0], buffer, 10));
    SHOW(shutdown(s[0], 7));
    SHOW(shutdown(s[0], SHUT_RD));
    ready("both directions shut", s[0]);
    SHOW(send(s[1], "x", 1, MSG_NOSIGNAL));
    close(s[1]);
    close(s[0]);

    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    SHOW(write(s[0], "unread", 6));
    close(s[1]);
    ready("after the other closed with data unread", s[0]);
    SHOW(read(s[0], buffer, 10));
    SHOW(read(s[0], buffer, 10));
    SHOW(send(s[0], "x", 1, MSG_NOSIGNAL));
    signal(SIGPIPE, SIG_IGN);
    SHOW(write(s[0], "x", 1));
    close(s[0]);
}

static void packets(int type)
{
    int s[2];
    printf("type %d\n", type);
    MUST(socketpair(AF_UNIX, type, 0, s));
    SHOW(write(s[0], "one", 3));
    SHOW(write(s[0], "", 0));
    SHOW(write(s[0], "threethree", 10));
    SHOW(recv(s[1], buffer, 2, MSG_PEEK | MSG_TRUNC));
    struct iovec iov = { buffer, 2 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    SHOW(recvmsg(s[1], &m, 0));
    printf("flags %x\n", m.msg_flags);
    SHOW(recv(s[1], buffer, 10, 0));
    SHOW(recv(s[1], buffer, 4, MSG_TRUNC));
    SHOW(recv(s[1], buffer, 4, MSG_DONTWAIT));
    SHOW(send(s[0], buffer, 1 << 22, MSG_DONTWAIT));
    SHOW(send(s[0], buffer, 300000, MSG_DONTWAIT));
    ready("packets", s[0]);
    SHOW(shutdown(s[1], SHUT_RD));
    SHOW(send(s[0], "x", 1, MSG_NOSIGNAL));
    ready("after the other's SHUT_RD", s[0]);
    close(s[1]);
    SHOW(send(s[0], "x", 1, MSG_NOSIGNAL));
    ready("after the other's close", s[0]);
    SHOW(recv(s[0], buffer, 1, MSG_DONTWAIT));
    close(s[0]);
}

static void names(void)
{
    struct sockaddr_un a, b;
    socklen_t len = named(&a, "name", 5);
    int listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), client = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    SHOW(connect(client, (void *)&a, len));
    SHOW(bind(listener, (void *)&a, 1));
    SHOW(bind(listener, (void *)&a, sizeof a + 1));
    SHOW(bind(listener, (void *)&a, len));
    SHOW(bind(listener, (void *)&a, len));
    socklen_t other = named(&b, "other", 6);
    SHOW(bind(listener, (void *)&b, other));
    SHOW(access("other", F_OK));
    own_name("listener", listener);
    struct stat st;
    SHOW(stat("name", &st));
    SHOW(S_ISSOCK(st.st_mode));
    SHOW(open("name", O_RDWR));
    SHOW(connect(client, (void *)&a, len));
    SHOW(listen(listener, 0));
    ready("an idle listener", listener);
    SHOW(connect(client, (void *)&a, len));
    SHOW(connect(client, (void *)&a, len));
    ready("a listener", listener);
    ready("a client before accept", client);
    int second = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    SHOW(connect(second, (void *)&a, len));
    SHOW(write(client, "early", 5));
    socklen_t peer_len = sizeof b;
    int server = accept4(listener, (void *)&b, &peer_len, SOCK_CLOEXEC);
    TRUTH(server >= 0);
    print_name("accepted from", &b, peer_len);
    own_name("server", server);
    SHOW(read(server, buffer, 10));
    peer_len = sizeof b;
    SHOW(getpeername(client, (void *)&b, &peer_len));
    print_name("client's peer", &b, peer_len);
    struct ucred who;
    socklen_t who_len = sizeof who;
    SHOW(getsockopt(client, SOL_SOCKET, SO_PEERCRED, &who, &who_len));
    TRUTH(who.pid == getpid() && who.uid == geteuid() && who.gid == getegid());
    who_len = sizeof who;
    SHOW(getsockopt(second, SOL_SOCKET, SO_PEERCRED, &who, &who_len));
    printf("%d %d %d\n", who.pid, who.uid, who.gid);
    int value;
    socklen_t value_len = sizeof value;
    SHOW(getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &value, &value_len));
    SHOW(value);
    SHOW(accept(client, NULL, NULL));
    /* Not musl's function, which tries again without the flags and waits. */
    SHOW(syscall(SYS_accept4, listener, NULL, NULL, 1));
    MUST(fcntl(listener, F_SETFL, O_NONBLOCK));
    close(server);
    SHOW(read(client, buffer, 1));
    SHOW(connect(second, (void *)&a, len));
    int third = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    SHOW(connect(third, (void *)&a, len));
    /* Those that nobody accepts are reset. */
    close(listener);
    ready("a client of a listener that closed", second);
    SHOW(recv(second, buffer, 1, MSG_DONTWAIT));
    SHOW(recv(second, buffer, 1, MSG_DONTWAIT));
    SHOW(connect(third, (void *)&a, len));
    SHOW(unlink("name"));
    SHOW(connect(third, (void *)&a, len));
    close(second);
    close(third);
    close(client);

    /* Abstract names have their length, NULs included, and vanish with their socket. */
    len = named(&a, "\0abs\0tract", 10);
    int d = MUST(socket(AF_UNIX, SOCK_DGRAM, 0)), e = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    SHOW(bind(d, (void *)&a, len));
    SHOW(bind(e, (void *)&a, len));
    own_name("abstract", d);
    SHOW(bind(e, (void *)&a, 2));
    SHOW(bind(e, (void *)&a, 2));
    struct sockaddr_un automatic;
    socklen_t automatic_len = sizeof automatic;
    SHOW(getsockname(e, (void *)&automatic, &automatic_len));
    SHOW(automatic_len);
    SHOW(sendto(e, "to d", 4, 0, (void *)&a, len));
    struct sockaddr_un from;
    socklen_t from_len = sizeof from;
    SHOW(recvfrom(d, buffer, 10, 0, (void *)&from, &from_len));
    TRUTH(from_len == automatic_len && memcmp(&from, &automatic, from_len) == 0);
    SHOW(sendto(e, "x", 1, 0, (void *)&a, len - 1));
    SHOW(send(e, "x", 1, 0));
    SHOW(connect(e, (void *)&a, len));
    SHOW(send(e, "y", 1, 0));
    SHOW(recv(d, buffer, 10, 0));
    int s = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(connect(s, (void *)&a, len));
    MUST(fcntl(e, F_SETFL, O_NONBLOCK));
    int sent = 0;
    while (send(e, "z", 1, 0) == 1)
        sent++;
    printf("queued %d, then %s\n", sent, error_name(errno));
    ready("a full destination", e);
    SHOW(recv(d, buffer, 10, 0));
    ready("a destination with room", e);
    /* One that has a destination takes nothing from others. */
    SHOW(connect(d, (void *)&automatic, automatic_len));
    int f = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    SHOW(sendto(f, "x", 1, 0, (void *)&a, len));
    SHOW(connect(f, (void *)&a, len));
    struct sockaddr unspecified = { .sa_family = AF_UNSPEC };
    SHOW(connect(d, &unspecified, sizeof unspecified));
    SHOW(getpeername(d, (void *)&from, &from_len));
    close(d);
    SHOW(send(e, "x", 1, 0));
    SHOW(send(e, "x", 1, 0));
}

static int send_files(int fd, const char *text, int len, int count, int *files)
{
    char control[CMSG_SPACE(sizeof(int) * 300)] = { 0 };
    struct iovec iov = { (void *)text, len };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(sizeof(int) * count) };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(c), files, sizeof(int) * count);
    /* Not musl's function, which has no room for so many. */
    return syscall(SYS_sendmsg, fd, &m, MSG_DONTWAIT);
}

static int receive_files(int fd, int len, size_t room, int flags, int *files)
{
    char control[1000];
    struct iovec iov = { buffer, len };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = room };
    int n = recvmsg(fd, &m, flags | MSG_DONTWAIT);
    if (n < 0) {
        printf("nothing: %s\n", error_name(errno));
        return 0;
    }
    int count = 0;
    printf("%d bytes, flags %x, control %zu:", n, m.msg_flags, (size_t)m.msg_controllen);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        printf(" [%d %d, %zu]", c->cmsg_level, c->cmsg_type, (size_t)c->cmsg_len);
        if (c->cmsg_type == SCM_RIGHTS) {
            count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(files, CMSG_DATA(c), count * sizeof(int));
        } else if (c->cmsg_type == SCM_CREDENTIALS) {
            struct ucred who;
            memcpy(&who, CMSG_DATA(c), sizeof who);
            printf(" %s", who.pid == getpid() && who.uid == getuid() && who.gid == getgid() ? "mine"
                          : who.pid == 0 && who.uid == 65534                             ? "nobody's"
                                                                                        : "wrong");
        }
    }
    putchar('\n');
    return count;
}

static void rights(int type)
{
    int s[2], files[300], got[300];
    printf("rights over type %d\n", type);
    MUST(socketpair(AF_UNIX, type, 0, s));
    files[0] = MUST(open("/dev/zero", O_RDONLY));
    files[1] = MUST(open("/dev/null", O_RDWR));
    SHOW(send_files(s[0], "ab", 2, 2, files));
    SHOW(receive_files(s[1], 10, CMSG_SPACE(8), MSG_PEEK, got));
    close(got[0]), close(got[1]);
    SHOW(receive_files(s[1], 10, CMSG_SPACE(8), MSG_CMSG_CLOEXEC, got));
    SHOW(fcntl(got[0], F_GETFD));
    SHOW(read(got[0], buffer, 5));
    SHOW(fcntl(got[1], F_GETFL) & O_ACCMODE);
    close(got[0]), close(got[1]);
    SHOW(send_files(s[0], "cut", 3, 2, files));
    SHOW(receive_files(s[1], 10, CMSG_LEN(4), 0, got));
    close(got[0]);
    SHOW(send_files(s[0], "none", 4, 2, files));
    SHOW(receive_files(s[1], 10, 0, 0, got));
    files[1] = 99;
    SHOW(send_files(s[0], "bad", 3, 2, files));
    for (int i = 0; i < 300; i++)
        files[i] = files[0];
    SHOW(send_files(s[0], "many", 4, 254, files));
    SHOW(send_files(s[0], "ok", 2, 253, files));
    SHOW(read(s[1], buffer, 10));
    if (type == SOCK_STREAM) {
        /* A read ends behind bytes that carried something. */
        SHOW(write(s[0], "1", 1));
        SHOW(send_files(s[0], "23", 2, 1, files));
        SHOW(write(s[0], "4", 1));
        SHOW(receive_files(s[1], 2, CMSG_SPACE(4), 0, got));
        close(got[0]);
        SHOW(receive_files(s[1], 10, CMSG_SPACE(4), 0, got));
        SHOW(receive_files(s[1], 10, CMSG_SPACE(4), 0, got));
    }
    int on = 1;
    SHOW(write(s[0], "anonymous", 9));
    SHOW(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    SHOW(write(s[0], "named", 5));
    SHOW(receive_files(s[1], 100, 200, 0, got));
    SHOW(receive_files(s[1], 100, 200, 0, got));
    SHOW(write(s[0], "both", 4));
    SHOW(send_files(s[0], "both", 4, 1, files));
    SHOW(receive_files(s[1], 100, 200, 0, got));
    SHOW(receive_files(s[1], 100, 200, 0, got));
    struct ucred who = { 1, 12345, 0 };
    char control[CMSG_SPACE(sizeof who)] = { 0 };
    struct iovec iov = { buffer, 1 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = 77, .cmsg_len = CMSG_LEN(sizeof who) };
    memcpy(CMSG_DATA(c), &who, sizeof who);
    SHOW(sendmsg(s[0], &m, 0));
    c->cmsg_len = 5;
    SHOW(sendmsg(s[0], &m, 0));
    close(s[0]), close(s[1]), close(files[0]);
}

static void option(int fd, const char *name, int number, int value)
{
    int got = -1;
    socklen_t len = sizeof got;
    int set = setsockopt(fd, SOL_SOCKET, number, &value, sizeof value);
    printf("%s: %s, ", name, set ? error_name(errno) : "set");
    int get = getsockopt(fd, SOL_SOCKET, number, &got, &len);
    if (get)
        printf("%s\n", error_name(errno));
    else
        printf("%d (%u bytes)\n", got, len);
}

static void options(void)
{
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), value = 7;
    socklen_t len = sizeof value;
#define OPTION(name, value) option(fd, #name, name, value)
    OPTION(SO_TYPE, 1);
    OPTION(SO_DOMAIN, 1);
    OPTION(SO_PROTOCOL, 1);
    OPTION(SO_ERROR, 1);
    OPTION(SO_ACCEPTCONN, 1);
    OPTION(SO_REUSEADDR, 5);
    OPTION(SO_KEEPALIVE, 1);
    OPTION(SO_BROADCAST, 1);
    OPTION(SO_OOBINLINE, 1);
    OPTION(SO_SNDBUF, 1);
    OPTION(SO_SNDBUF, 20000);
    OPTION(SO_RCVBUF, 1);
    OPTION(SO_RCVBUF, 20000);
    OPTION(SO_RCVLOWAT, -1);
    OPTION(SO_RCVLOWAT, 0);
    OPTION(SO_SNDLOWAT, 5);
    OPTION(SO_PRIORITY, 6);
    OPTION(SO_TIMESTAMP, 1);
    OPTION(SO_DETACH_FILTER, 1);
    OPTION(9999, 1);
    struct timeval wrong = { 0, 1000000 }, fine = { 3, 500000 }, got;
    SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wrong, sizeof wrong));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &fine, 8));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &fine, sizeof fine));
    len = sizeof got;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &got, &len));
    printf("%ld %ld\n", (long)got.tv_sec, (long)got.tv_usec);
    struct linger linger = { 5, 9 };
    SHOW(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, 4));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    len = sizeof linger;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len));
    printf("%d %d\n", linger.l_onoff, linger.l_linger);
    SHOW(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, 3));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, -1));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, NULL, 4));
    len = 2;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &len));
    SHOW(len);
    len = -1;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &len));
    len = sizeof value;
    SHOW(getsockopt(fd, 77, 1, &value, &len));
    SHOW(setsockopt(fd, 77, 1, &value, sizeof value));
    /* Time limits end a wait. */
    int s[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    struct timeval brief = { 0, 20000 };
    SHOW(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief));
    SHOW(read(s[0], buffer, 1));
    SHOW(recv(s[0], buffer, 1, 0));
    SHOW(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &brief, sizeof brief));
    long n;
    while ((n = write(s[0], buffer, sizeof buffer)) > 0);
    printf("written until %s\n", error_name(errno));
    close(fd), close(s[0]), close(s[1]);
}

static void several(void)
{
    int s[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    char a[4] = "abc", b[4], c[4];
    struct iovec out[2] = { { a, 3 }, { a, 1 } }, in[3] = { { b, 3 }, { c, 3 }, { c, 3 } };
    struct mmsghdr sending[2] = { { .msg_hdr = { .msg_iov = &out[0], .msg_iovlen = 1 } }, { .msg_hdr = { .msg_iov = &out[1], .msg_iovlen = 1 } } };
    struct mmsghdr receiving[3] = { { .msg_hdr = { .msg_iov = &in[0], .msg_iovlen = 1 } }, { .msg_hdr = { .msg_iov = &in[1], .msg_iovlen = 1 } },
                                    { .msg_hdr = { .msg_iov = &in[2], .msg_iovlen = 1 } } };
    SHOW(sendmmsg(s[0], sending, 2, 0));
    printf("%u %u\n", sending[0].msg_len, sending[1].msg_len);
    SHOW(recvmmsg(s[1], receiving, 3, MSG_WAITFORONE, NULL));
    printf("%u %u\n", receiving[0].msg_len, receiving[1].msg_len);
    SHOW(recvmmsg(s[1], receiving, 3, MSG_DONTWAIT, NULL));
    sending[0].msg_hdr.msg_iovlen = 2000;
    SHOW(sendmmsg(s[0], sending, 2, 0));
    close(s[0]), close(s[1]);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    making();
    streams();
    packets(SOCK_DGRAM);
    packets(SOCK_SEQPACKET);
    names();
    rights(SOCK_STREAM);
    rights(SOCK_SEQPACKET);
    rights(SOCK_DGRAM);
    options();
    several();
    return 0;
}
