/* SIGIO: F_SETOWN, F_SETSIG, O_ASYNC and FIOASYNC on pipes. */
#include "show.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>

static sigset_t set;

/* Waits for the next signal of the set and tells what it carries. */
static void next(void)
{
    siginfo_t info;
    struct timespec limit = { 10, 0 };
    int number = sigtimedwait(&set, &info, &limit);
    printf("signal %d code %d", number, info.si_code);
    if (info.si_code > 0 && info.si_code < 7)
        printf(" band %lx fd %d", info.si_band, info.si_fd);
    printf("\n");
}

int main(void)
{
    int ends[2], event = MUST(eventfd(0, 0)), on = 1, off = 0;
    char byte;
    MUST(pipe(ends));
    sigemptyset(&set);
    sigaddset(&set, SIGIO);
    sigaddset(&set, SIGRTMIN + 3);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    SHOW(fcntl(ends[0], F_GETOWN));
    SHOW(fcntl(ends[0], F_SETOWN, getpid()));
    TRUTH(fcntl(ends[0], F_GETOWN) == getpid());
    SHOW(fcntl(ends[0], F_SETOWN, 0x3fffffff));
    SHOW(fcntl(ends[0], F_SETOWN, -0x3fffffff));
    SHOW(fcntl(ends[0], F_SETOWN, 0x80000000));
    struct f_owner_ex owner = { 9, 1 };
    SHOW(fcntl(ends[0], F_SETOWN_EX, &owner));
    SHOW(fcntl(ends[0], F_GETOWN_EX, &owner));
    TRUTH(owner.type == F_OWNER_PID && owner.pid == getpid());
    SHOW(fcntl(ends[0], F_GETSIG));
    SHOW(fcntl(ends[0], F_SETSIG, 65));
    SHOW(fcntl(ends[0], F_SETSIG, -1));
    SHOW(fcntl(ends[0], F_SETFL, O_ASYNC));
    SHOW(fcntl(ends[0], F_GETFL));
    SHOW(write(ends[1], "a", 1));
    /* It is pending as soon as the write returns. */
    sigset_t pending;
    MUST(sigpending(&pending));
    SHOW(sigismember(&pending, SIGIO));
    next();
    SHOW(fcntl(ends[0], F_SETSIG, SIGRTMIN + 3));
    SHOW(fcntl(ends[0], F_GETSIG));
    SHOW(write(ends[1], "b", 1));
    next();
    SHOW(ioctl(ends[0], FIOASYNC, &off));
    SHOW(fcntl(ends[0], F_GETFL));
    SHOW(write(ends[1], "c", 1));
    SHOW(ioctl(ends[0], FIOASYNC, &on));
    SHOW(write(ends[1], "d", 1));
    next();
    close(ends[1]);
    next();
    MUST(sigpending(&pending));
    SHOW(sigismember(&pending, SIGIO));
    SHOW(ioctl(event, FIOASYNC, &on));
    SHOW(fcntl(event, F_SETFL, O_ASYNC));
    SHOW(fcntl(event, F_GETFL));
    SHOW(read(ends[0], &byte, 1));
    owner.type = F_OWNER_TID;
    owner.pid = getpid();
    SHOW(fcntl(ends[0], F_SETOWN_EX, &owner));
    SHOW(fcntl(ends[0], F_GETOWN_EX, &owner));
    SHOW(owner.type);
    return 0;
}
