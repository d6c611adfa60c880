/* epoll, eventfd, timerfd and signalfd within one process: triggering, one-shot, nesting, errors, what closing does. */
#include "show.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>

static uint64_t value;

static void got(const char *what, int epoll)
{
    struct epoll_event events[8];
    int n = epoll_wait(epoll, events, 8, 0);
    printf("%s: %d", what, n);
    for (int i = 0; i < n; i++)
        printf(" %x:%lu", events[i].events, (unsigned long)events[i].data.u64);
    printf("\n");
}

static int control(int epoll, int operation, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = { .events = events, .data.u64 = data };
    return epoll_ctl(epoll, operation, fd, &event);
}

static void counters(void)
{
    int fd = MUST(eventfd(3, EFD_NONBLOCK));
    SHOW(fcntl(fd, F_GETFL));
    SHOW(read(fd, &value, 7));
    SHOW(read(fd, &value, 8));
    SHOW(value);
    SHOW(read(fd, &value, 8));
    value = UINT64_MAX;
    SHOW(write(fd, &value, 8));
    value = UINT64_MAX - 1;
    SHOW(write(fd, &value, 8));
    struct pollfd p = { fd, POLLIN | POLLOUT, 0 };
    SHOW(poll(&p, 1, 0));
    SHOW(p.revents);
    value = 1;
    SHOW(write(fd, &value, 8));
    SHOW(write(fd, &value, 7));
    SHOW(syscall(SYS_write, fd, 16, 8));
    char twice[16] = { 0 };
    SHOW(read(fd, twice, 16));
    SHOW(write(fd, twice, 16));
    SHOW(lseek(fd, 5, SEEK_SET));
    SHOW(pread(fd, twice, 8, 0));
    struct stat st;
    SHOW(fstat(fd, &st));
    SHOW(st.st_mode);
    SHOW(fchmod(fd, 0600));
    char link[64] = "", path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SHOW(readlink(path, link, 63));
    printf("%s\n", link);
    SHOW(open(path, O_RDWR));
    close(fd);
    fd = MUST(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC));
    SHOW(fcntl(fd, F_GETFD));
    SHOW(read(fd, &value, 8));
    SHOW(value);
    SHOW(read(fd, &value, 8));
    SHOW(read(fd, &value, 8));
    close(fd);
    SHOW(eventfd(0, 0x1000));
}

static void triggering(void)
{
    int epoll = MUST(epoll_create1(EPOLL_CLOEXEC)), fd = MUST(eventfd(0, EFD_NONBLOCK)), ends[2];
    MUST(pipe2(ends, O_NONBLOCK));
    SHOW(fcntl(epoll, F_GETFD));
    SHOW(control(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
    SHOW(control(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
    got("nothing", epoll);
    value = 1;
    SHOW(write(fd, &value, 8));
    got("level", epoll);
    got("level again", epoll);
    SHOW(control(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT, 2));
    got("both", epoll);
    SHOW(control(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLET, 3));
    got("edge", epoll);
    got("edge again", epoll);
    SHOW(write(fd, &value, 8));
    got("edge after another write", epoll);
    SHOW(control(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 4));
    got("one shot", epoll);
    SHOW(write(fd, &value, 8));
    got("one shot spent", epoll);
    SHOW(control(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 5));
    got("one shot again", epoll);
    SHOW(control(epoll, EPOLL_CTL_MOD, fd, 0, 6));
    got("asked for nothing", epoll);
    SHOW(control(epoll, EPOLL_CTL_DEL, fd, 0, 0));
    SHOW(control(epoll, EPOLL_CTL_DEL, fd, 0, 0));
    SHOW(control(epoll, EPOLL_CTL_MOD, fd, EPOLLIN, 0));
    /* A pipe: each write is an edge, a read that makes room in a full one, too. */
    SHOW(control(epoll, EPOLL_CTL_ADD, ends[0], EPOLLIN | EPOLLET | EPOLLRDHUP, 7));
    SHOW(control(epoll, EPOLL_CTL_ADD, ends[1], EPOLLOUT | EPOLLET, 8));
    got("a pipe", epoll);
    static char page[65536];
    SHOW(write(ends[1], page, sizeof page));
    got("written", epoll);
    SHOW(read(ends[0], page, 100));
    got("a little read", epoll);
    SHOW(read(ends[0], page, 5000));
    got("a page read", epoll);
    close(ends[1]);
    got("writer closed", epoll);
    got("told once", epoll);
    close(ends[0]);
    got("reader closed", epoll);
    close(fd);
    close(epoll);
}

static void closing(void)
{
    int epoll = MUST(epoll_create(1)), fd = MUST(eventfd(1, 0)), other = MUST(dup(fd));
    SHOW(control(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
    SHOW(control(epoll, EPOLL_CTL_ADD, other, EPOLLIN, 2));
    got("two names of one file", epoll);
    close(fd);
    got("one is closed", epoll);
    SHOW(control(epoll, EPOLL_CTL_DEL, fd, 0, 0));
    close(other);
    got("the file is closed", epoll);
    close(epoll);
}

static void errors(void)
{
    int epoll = MUST(epoll_create1(0)), fd = MUST(eventfd(1, 0)), file = MUST(open("/etc/passwd", O_RDONLY));
    struct epoll_event event = { .events = EPOLLIN }, out[2];
    SHOW(epoll_create(0));
    SHOW(epoll_create1(1));
    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, file, &event));
    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, MUST(open("/", O_RDONLY)), &event));
    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, MUST(open("/dev/null", O_RDONLY)), &event));
    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, 99, &event));
    SHOW(epoll_ctl(99, EPOLL_CTL_ADD, fd, &event));
    SHOW(epoll_ctl(fd, EPOLL_CTL_ADD, epoll, &event));
    SHOW(epoll_ctl(fd, EPOLL_CTL_ADD, file, &event));
    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, epoll, &event));
    SHOW(epoll_ctl(epoll, 9, fd, &event));
    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, NULL));
    SHOW(epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL));
    event.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT;
    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
    event.events = EPOLLIN | EPOLLEXCLUSIVE;
    SHOW(epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event));
    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
    event.events = EPOLLIN;
    SHOW(epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event));
    got("exclusive", epoll);
    SHOW(epoll_wait(epoll, out, 0, 0));
    SHOW(epoll_wait(epoll, out, -1, 0));
    SHOW(epoll_wait(epoll, out, 0x20000000, 0));
    SHOW(epoll_wait(fd, out, 1, 0));
    SHOW(epoll_wait(99, out, 1, 0));
    SHOW(syscall(SYS_epoll_wait, epoll, 16, 1, 0));
    SHOW(syscall(SYS_epoll_pwait, epoll, out, 1, 0, out, 4));
    SHOW(syscall(SYS_epoll_pwait, epoll, out, 1, 0, 16, 8));
    struct timespec wrong = { 0, -1 }, none = { 0, 0 };
    SHOW(syscall(SYS_epoll_pwait2, epoll, out, 1, &wrong, NULL, 0));
    SHOW(syscall(SYS_epoll_pwait2, epoll, out, 1, &none, NULL, 0));
    SHOW(read(epoll, out, 8));
    SHOW(write(epoll, out, 8));
    /* Chains of epolls: five at the most, no circles. */
    int chain[7];
    for (int i = 0; i < 7; i++)
        chain[i] = MUST(epoll_create1(0));
    for (int i = 0; i < 6; i++)
        SHOW(epoll_ctl(chain[i], EPOLL_CTL_ADD, chain[i + 1], &event));
    SHOW(epoll_ctl(chain[4], EPOLL_CTL_ADD, chain[0], &event));
    SHOW(epoll_ctl(chain[4], EPOLL_CTL_ADD, fd, &event));
    got("through a chain", chain[0]);
    struct pollfd p = { chain[0], POLLIN, 0 };
    SHOW(poll(&p, 1, 0));
    SHOW(p.revents);
}

static void timers(void)
{
    SHOW(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0));
    SHOW(timerfd_create(CLOCK_MONOTONIC_RAW, 0));
    SHOW(timerfd_create(99, 0));
    SHOW(timerfd_create(CLOCK_MONOTONIC, 1));
    int fd = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)), file = MUST(open("/etc/passwd", O_RDONLY));
    struct itimerspec set = { .it_value = { 0, 1000000 } }, now, old;
    SHOW(read(fd, &value, 8));
    SHOW(timerfd_settime(fd, 8, &set, NULL));
    SHOW(timerfd_settime(file, 0, &set, NULL));
    SHOW(timerfd_settime(99, 0, &set, NULL));
    SHOW(timerfd_settime(fd, 0, (void *)16, NULL));
    SHOW(timerfd_gettime(file, &now));
    SHOW(timerfd_settime(fd, 0, &set, &old));
    printf("was %ld %ld\n", (long)old.it_value.tv_sec, old.it_value.tv_nsec);
    struct pollfd p = { fd, POLLIN, 0 };
    SHOW(poll(&p, 1, -1));
    SHOW(read(fd, &value, 4));
    SHOW(read(fd, &value, 8));
    SHOW(value);
    SHOW(read(fd, &value, 8));
    set.it_value.tv_nsec = 1;
    set.it_interval.tv_nsec = 1000;
    SHOW(timerfd_settime(fd, 0, &set, NULL));
    SHOW(poll(&p, 1, -1));
    usleep(1000);
    SHOW(read(fd, &value, 8));
    TRUTH(value > 100);
    SHOW(fcntl(fd, F_SETFL, 0));
    SHOW(read(fd, &value, 8));
    memset(&set, 0, sizeof set);
    SHOW(timerfd_settime(fd, 0, &set, &old));
    printf("interval %ld %ld\n", (long)old.it_interval.tv_sec, old.it_interval.tv_nsec);
    SHOW(timerfd_gettime(fd, &now));
    printf("now %ld %ld\n", (long)now.it_value.tv_sec, now.it_value.tv_nsec);
    set.it_value.tv_nsec = 1000000000;
    SHOW(timerfd_settime(fd, 0, &set, NULL));
    /* A point on the wall clock that has passed. */
    int wall = MUST(timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC));
    set.it_value.tv_nsec = 5;
    SHOW(timerfd_settime(wall, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &set, NULL));
    SHOW(read(wall, &value, 8));
    SHOW(value);
    SHOW(write(wall, &value, 8));
    value = 7;
    SHOW(ioctl(wall, 0x40085400, &value));
    SHOW(read(wall, &value, 8));
    SHOW(value);
}

static void signals(void)
{
    sigset_t set, none;
    sigemptyset(&none);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN + 1);
    sigaddset(&set, SIGKILL);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    SHOW(syscall(SYS_signalfd4, -1, &set, 4, 0));
    SHOW(syscall(SYS_signalfd4, -1, 16, 8, 0));
    SHOW(syscall(SYS_signalfd4, -1, &set, 8, 1));
    SHOW(signalfd(0, &set, 0));
    SHOW(signalfd(99, &set, 0));
    int fd = MUST(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    struct signalfd_siginfo info[3];
    struct pollfd p = { fd, POLLIN, 0 };
    SHOW(poll(&p, 1, 0));
    SHOW(read(fd, info, sizeof info));
    int epoll = MUST(epoll_create1(0));
    SHOW(control(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
    raise(SIGUSR1);
    union sigval carried = { .sival_int = 77 };
    sigqueue(getpid(), SIGRTMIN + 1, carried);
    sigqueue(getpid(), SIGRTMIN + 1, carried);
    got("signals", epoll);
    SHOW(poll(&p, 1, -1));
    SHOW(read(fd, info, 100));
    SHOW(read(fd, info, sizeof info[0] * 2 + 5));
    printf("%u %d %u %d; %u %d %d %d\n", info[0].ssi_signo, info[0].ssi_code, info[0].ssi_pid == (unsigned)getpid(),
        info[0].ssi_uid == getuid(), info[1].ssi_signo, info[1].ssi_code, info[1].ssi_int, (int)info[1].ssi_ptr);
    SHOW(read(fd, info, sizeof info));
    SHOW(read(fd, info, sizeof info));
    got("none left", epoll);
    raise(SIGUSR1);
    SHOW(signalfd(fd, &none, 0) == fd);
    SHOW(read(fd, info, sizeof info));
    SHOW(signalfd(fd, &set, 0) == fd);
    SHOW(read(fd, info, sizeof info));
    SHOW(write(fd, info, sizeof info));
}

int main(void)
{
    counters();
    triggering();
    closing();
    errors();
    timers();
    signals();
    return 0;
}
