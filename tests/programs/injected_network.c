// What fault injection runs with the host's network: datagrams, a connection and Unix sockets, over 127.0.0.1 and inside. All that
// arrives is compared with what was sent. Nothing waits for ever: silence is wrong.
#define _GNU_SOURCE
#include "injected.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SIZE 200000
// Longer than any machine takes, in milliseconds.
#define PATIENCE 40000

static unsigned char data[SIZE], back[SIZE];

typedef struct sockaddr_in Address;

// A socket at a port of 127.0.0.1 that the kernel chooses.
static int bound(int kind, Address *address) {
    int fd = must(socket(AF_INET, kind, 0), "socket");
    *address = (Address){ .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t length = sizeof *address;
    must(bind(fd, (void *)address, length), "bind");
    must(getsockname(fd, (void *)address, &length), "getsockname");
    if (length != sizeof *address || !address->sin_port) wrong("the socket's address");
    return fd;
}

static void await(int fd, short events) {
    struct pollfd ready = { fd, events, 0 };
    if (must(poll(&ready, 1, PATIENCE), "poll") != 1 || !(ready.revents & events)) wrong("silence");
}

static void datagrams(void) {
    Address a, b, from;
    int one = bound(SOCK_DGRAM, &a), other = bound(SOCK_DGRAM, &b);
    for (size_t size = 1; size < 30000; size = size * 5 + 3) {
        if (must((int)sendto(one, data, size, 0, (void *)&b, sizeof b), "sendto") != (int)size) wrong("sendto");
        await(other, POLLIN);
        socklen_t length = sizeof from;
        int count = must((int)recvfrom(other, back, SIZE, 0, (void *)&from, &length), "recvfrom");
        if (count != (int)size || memcmp(back, data, size)) wrong("a datagram");
        if (length != sizeof a || from.sin_port != a.sin_port) wrong("a sender");
    }
    must(connect(other, (void *)&a, sizeof a), "connect of datagrams");
    if (must((int)send(other, data, 100, 0), "send") != 100) wrong("send");
    // The socket waits by itself.
    if (must((int)recv(one, back, SIZE, 0), "recv") != 100 || memcmp(back, data, 100)) wrong("an answer");
    close(one);
    close(other);
    say("datagrams\n");
}

// Takes one connection, and sends everything back that comes.
static void *echo(void *listener) {
    Address peer;
    socklen_t length = sizeof peer;
    int fd = must(accept(*(int *)listener, (void *)&peer, &length), "accept");
    if (peer.sin_addr.s_addr != htonl(INADDR_LOOPBACK)) wrong("the peer's address");
    static unsigned char piece[30000];
    for (;;) {
        int count = must((int)recv(fd, piece, sizeof piece, 0), "recv of the echo");
        if (count == 0) break;
        for (int at = 0; at < count;) at += must((int)send(fd, piece + at, (size_t)(count - at), MSG_NOSIGNAL), "send of the echo");
    }
    must(shutdown(fd, SHUT_WR), "shutdown of the echo");
    close(fd);
    return NULL;
}

static void connection(void) {
    Address address, nobody;
    int listener = bound(SOCK_STREAM, &address), silent = bound(SOCK_STREAM, &nobody);
    must(listen(listener, 4), "listen");
    pthread_t thread;
    int error = pthread_create(&thread, NULL, echo, &listener);
    if (error) {
        errno = error;
        fail("pthread_create");
    }
    int fd = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    must(connect(fd, (void *)&address, sizeof address), "connect");
    must(fcntl(fd, F_SETFL, O_NONBLOCK), "fcntl");
    int queue = must(epoll_create1(0), "epoll_create1");
    struct epoll_event event = { EPOLLIN | EPOLLOUT, { .fd = fd } };
    must(epoll_ctl(queue, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    memset(back, 0, SIZE);
    size_t sent = 0, got = 0;
    for (int over = 0; !over;) {
        if (must(epoll_wait(queue, &event, 1, PATIENCE), "epoll_wait") != 1) wrong("silence of the connection");
        if (event.events & EPOLLOUT && sent < SIZE) {
            ssize_t count = send(fd, data + sent, SIZE - sent, MSG_NOSIGNAL);
            if (count < 0 && errno != EAGAIN) fail("send to the connection");
            if (count > 0) sent += (size_t)count;
            if (sent == SIZE) {
                must(shutdown(fd, SHUT_WR), "shutdown");
                event.events = EPOLLIN;
                must(epoll_ctl(queue, EPOLL_CTL_MOD, fd, &event), "epoll_ctl");
            }
        }
        if (event.events & (EPOLLIN | EPOLLHUP)) {
            unsigned char rest;
            ssize_t count = got < SIZE ? recv(fd, back + got, SIZE - got, 0) : recv(fd, &rest, 1, 0);
            if (count < 0 && errno != EAGAIN) fail("recv from the connection");
            over = count == 0;
            if (count > 0) got += (size_t)count;
        }
    }
    if (got != SIZE || memcmp(back, data, SIZE)) wrong("the connection");
    if (pthread_join(thread, NULL)) fail("pthread_join");
    // Nobody listens there.
    int refused = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    if (connect(refused, (void *)&nobody, sizeof nobody) == 0) wrong("a connection to nobody");
    if (errno != ECONNREFUSED) fail("connect to nobody");
    close(refused);
    close(silent);
    close(queue);
    close(fd);
    close(listener);
    say("connection\n");
}

static struct sockaddr_un name = { AF_UNIX, "\0injected" };
#define NAME_LENGTH (offsetof(struct sockaddr_un, sun_path) + sizeof "\0injected" - 1)

// Sends the data through a connection by name, and a descriptor with its first byte.
static void *sender(void *ends) {
    int fd = must(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    must(connect(fd, (void *)&name, NAME_LENGTH), "connect by name");
    struct iovec first = { data, 1 };
    char control[CMSG_SPACE(sizeof(int))] = "";
    struct msghdr message = { .msg_iov = &first, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    *rights = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
    memcpy(CMSG_DATA(rights), ends, sizeof(int));
    if (must((int)sendmsg(fd, &message, MSG_NOSIGNAL), "sendmsg") != 1) wrong("sendmsg");
    put(fd, data + 1, SIZE - 1, "write to the Unix socket");
    close(fd);
    return NULL;
}

static void unix_sockets(void) {
    int listener = must(socket(AF_UNIX, SOCK_STREAM, 0), "socket"), ends[2];
    must(bind(listener, (void *)&name, NAME_LENGTH), "bind to a name");
    must(listen(listener, 4), "listen");
    must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), "socketpair");
    pthread_t thread;
    int error = pthread_create(&thread, NULL, sender, ends);
    if (error) {
        errno = error;
        fail("pthread_create");
    }
    await(listener, POLLIN);
    int fd = must(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept4"), passed;
    memset(back, 0, SIZE);
    struct iovec first = { back, 1 };
    char control[CMSG_SPACE(sizeof(int))] = "";
    struct msghdr message = { .msg_iov = &first, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    if (must((int)recvmsg(fd, &message, 0), "recvmsg") != 1) wrong("recvmsg");
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    if (!rights || rights->cmsg_type != SCM_RIGHTS) wrong("rights");
    memcpy(&passed, CMSG_DATA(rights), sizeof passed);
    if (get(fd, back + 1, SIZE - 1, "read of the Unix socket") != SIZE - 1 || memcmp(back, data, SIZE)) wrong("the Unix socket");
    if (must((int)send(passed, data, 5000, 0), "send of a packet") != 5000) wrong("send of a packet");
    if (must((int)recv(ends[1], back, SIZE, 0), "recv of a packet") != 5000 || memcmp(back, data, 5000)) wrong("a packet");
    if (pthread_join(thread, NULL)) fail("pthread_join");
    close(passed);
    close(fd);
    close(listener);
    say("Unix sockets\n");
}

int main(void) {
    fill(data, SIZE);
    datagrams();
    connection();
    unix_sockets();
    say("done\n");
    return 0;
}
