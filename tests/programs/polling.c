/* poll, ppoll, select, pselect on files and standard input; their errors and time limits. Standard input is a pipe with a line in it. */
#include "show.h"
#include <poll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <time.h>

static volatile int ticks;

static void on_tick(int number)
{
    (void)number;
    ticks++;
}

static void polled(const char *what, int fd, short events)
{
    struct pollfd p = { fd, events, -1 };
    int n = poll(&p, 1, 0);
    /* Whether the writer of standard input has gone already is its business. */
    printf("%s: %d, events %x\n", what, n, (unsigned short)(fd == 0 ? p.revents & ~POLLHUP : p.revents));
}

int main(void)
{
    int file = MUST(open("/etc/passwd", O_RDONLY)), null = MUST(open("/dev/null", O_RDWR));
    char line[100];
    struct pollfd input = { 0, POLLIN, 0 };
    SHOW(poll(&input, 1, -1));
    SHOW(input.revents & POLLIN);
    polled("input", 0, POLLIN);
    polled("file", file, POLLIN | POLLOUT);
    polled("null", null, POLLIN | POLLOUT | POLLPRI);
    polled("closed", 99, POLLIN);
    polled("negative", -5, POLLIN);
    struct pollfd many[] = { { -1, POLLIN, 9 }, { file, POLLIN, 0 }, { 98, POLLIN, 0 }, { null, 0, 0 } };
    SHOW(poll(many, 4, -1));
    printf("%d %d %d %d\n", many[0].revents, many[1].revents, many[2].revents, many[3].revents);
    SHOW(poll((void *)1, 1, 0));
    SHOW(poll(NULL, 0, 0));
    SHOW(poll(many, 1, 10));
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    SHOW(poll(many, limit.rlim_cur + 1, 0));
    struct timespec wrong = { 0, -1 }, nothing = { 0, 0 };
    SHOW(ppoll(many, 1, &wrong, NULL));
    SHOW(ppoll(many, 2, &nothing, NULL));

    fd_set reading, writing;
    struct timeval no_time = { 0, 0 };
    FD_ZERO(&reading);
    FD_ZERO(&writing);
    FD_SET(0, &reading);
    FD_SET(file, &reading);
    FD_SET(null, &writing);
    SHOW(select(null + 1, &reading, &writing, NULL, &no_time));
    printf("%d %d %d\n", !!FD_ISSET(0, &reading), !!FD_ISSET(file, &reading), !!FD_ISSET(null, &writing));
    /* Numbers beyond the table are not looked at; its size is the caller's until a number makes it grow to 128. */
    FD_ZERO(&reading);
    FD_SET(97, &reading);
    MUST(dup2(null, 70));
    SHOW(select(98, &reading, NULL, NULL, &no_time));
    SHOW(select(-1, NULL, NULL, NULL, &no_time));
    SHOW(select(0, NULL, NULL, NULL, &(struct timeval){ 0, 10000 }));
    SHOW(select(0, NULL, NULL, NULL, &(struct timeval){ -1, 0 }));

    /* A signal ends the wait, also one that only the call's own mask lets through. */
    struct sigaction action = { .sa_handler = on_tick, .sa_flags = SA_RESTART };
    sigset_t blocked, empty;
    sigaction(SIGALRM, &action, NULL);
    sigemptyset(&empty);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGALRM);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    raise(SIGALRM);
    SHOW(ppoll(NULL, 0, NULL, &empty));
    SHOW(ticks);
    raise(SIGALRM);
    SHOW(pselect(0, NULL, NULL, NULL, NULL, &empty));
    SHOW(ticks);
    raise(SIGALRM);
    SHOW(ppoll(many, 2, NULL, &empty));
    SHOW(ticks);
    sigprocmask(SIG_SETMASK, &empty, NULL);
    SHOW(ticks);

    SHOW(read(0, line, sizeof line));
    input.revents = 0;
    SHOW(poll(&input, 1, -1));
    SHOW(input.revents);
    SHOW(read(0, line, sizeof line));
    return 0;
}
