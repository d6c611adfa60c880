#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/futex.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "micro.h"

/* Ping-pong: a byte there and back; one operation is a round trip. The other side lives until this program ends. */

static void echo(int in, int out) {
    char byte;
    while (read(in, &byte, 1) == 1)
        if (write(out, &byte, 1) != 1) break;
    _exit(0);
}

static void volley(int in, int out, long count) {
    char byte = 1;
    for (long i = 0; i < count; i++)
        if (write(out, &byte, 1) != 1 || read(in, &byte, 1) != 1) fail("ping-pong");
}

void pipe_ping_pong(long count) {
    static int there[2], back[2] = {-1, -1};
    if (back[0] < 0) {
        if (pipe(there) != 0 || pipe(back) != 0) fail("pipe");
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (child == 0) {
            close(there[1]);
            close(back[0]);
            echo(there[0], back[1]);
        }
        close(there[0]);
        close(back[1]);
    }
    volley(back[0], there[1], count);
}

void unix_ping_pong(long count) {
    static int ends[2] = {-1, -1};
    if (ends[0] < 0) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) fail("socketpair");
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (child == 0) {
            close(ends[0]);
            echo(ends[1], ends[1]);
        }
        close(ends[1]);
    }
    volley(ends[0], ends[0], count);
}

void tcp_ping_pong(long count) {
    static int ours = -1;
    if (ours < 0) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof address;
        int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
        if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 1) != 0 ||
            getsockname(listener, (struct sockaddr *)&address, &length) != 0)
            fail("listener");
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (child == 0) {
            int theirs = accept(listener, NULL, NULL);
            setsockopt(theirs, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            close(listener);
            echo(theirs, theirs);
        }
        ours = socket(AF_INET, SOCK_STREAM, 0);
        if (ours < 0 || connect(ours, (struct sockaddr *)&address, length) != 0) fail("connect");
        setsockopt(ours, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        close(listener);
    }
    volley(ours, ours, count);
}

/* Whose turn it is: 0 the main thread's, 1 the other's. */
static atomic_int turn;

static void hand_over(int to) {
    atomic_store(&turn, to);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    while (atomic_load(&turn) == to) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, to, NULL, NULL, 0);
}

static void *other_side(void *argument) {
    while (atomic_load(&turn) == 0) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    for (;;) hand_over(0);
    return argument;
}

void futex_ping_pong(long count) {
    static pthread_t thread;
    static int started;
    if (!started) {
        if (pthread_create(&thread, NULL, other_side, NULL) != 0) fail("thread");
        started = 1;
    }
    for (long i = 0; i < count; i++) hand_over(1);
}
