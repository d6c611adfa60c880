/* Asks for more and more of something, until it is refused or ended. The first argument says of what. Most print how the
 * asking ended; those that are to be killed say "ready" in front of it, and read a byte in the end. */
#include "hostile.h"
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>
#include <ucontext.h>

#define PAGE 4096L
#define GIB (1UL << 30)

/* Runs one of the floods in a child that is the first to be killed where memory ends; then whoever looks on may look. */
static int watched(int (*flood)(void))
{
    int status = ATTEMPT({
        int weight = MUST(open("/proc/self/oom_score_adj", O_WRONLY));
        MUST(write(weight, "1000", 4));
        close(weight);
        _exit(flood());
    });
    printf("%s\n", end_name(status));
    /* What it held can be had again. */
    size_t size = 4 << 20;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(memory, 1, size);
    printf("ready\n");
    char byte;
    return read(0, &byte, 1) < 0;
}

/* A page in each gibibyte of the 47 bits, then one in each two mebibytes: most of what that takes are page tables. */
static int sparse(void)
{
    for (uint64_t stride = GIB; stride >= 2 << 20; stride = 2 << 20)
        for (uint64_t at = stride; at < 0x7ffffff00000; at += stride) {
            char *page = mmap((void *)at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
            if (page == MAP_FAILED) {
                if (errno == EEXIST)
                    continue;
                return errno == ENOMEM ? 3 : 4;
            }
            *(volatile char *)page = 1;
            /* Neither are there too many mappings. */
            if (at / stride % 256)
                mprotect(page, PAGE, PROT_READ);
        }
    return 5;
}

/* The same in one mapping as large as there can be. */
static int reserved(void)
{
    uint64_t size = 1UL << 46;
    char *all;
    while ((all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) == MAP_FAILED)
        size /= 2;
    for (uint64_t at = 0; at < size; at += 8 << 20)
        all[at] = 1;
    return 5;
}

/* Page tables alone: reads of what was never written, which need no memory of their own. */
static int tables(void)
{
    uint64_t size = 1UL << 42;
    char *all = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED)
        return 4;
    for (uint64_t at = 0; at < size; at += 2 << 20)
        (void)*(volatile char *)(all + at);
    return 5;
}

/* A gigabyte in pipes. */
static int pipes(void)
{
    static char bytes[65536];
    long total = 0;
    for (int at = 0; at < 16384; at++) {
        int ends[2];
        if (pipe2(ends, O_NONBLOCK))
            return errno == EMFILE || errno == ENFILE ? 3 : 4;
        fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
        for (long wrote; (wrote = write(ends[1], bytes, sizeof bytes)) > 0;)
            total += wrote;
    }
    return total < (1 << 30) ? 6 : 5;
}

/* Messages that nobody takes, in Unix sockets. */
static int sockets(void)
{
    static char bytes[65536];
    for (int at = 0; at < 16384; at++) {
        int ends[2];
        if (socketpair(AF_UNIX, at % 2 ? SOCK_DGRAM | SOCK_NONBLOCK : SOCK_STREAM | SOCK_NONBLOCK, 0, ends))
            return errno == EMFILE || errno == ENFILE ? 3 : 4;
        setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &(int){ 1 << 20 }, sizeof(int));
        while (send(ends[0], bytes, sizeof bytes / 2, 0) > 0)
            ;
    }
    return 5;
}

/* Names, in a file system that lies in memory: they take no pages of a file. */
static int names(void)
{
    char name[250];
    memset(name, 'n', sizeof name);
    for (int at = 0; at < 4000000; at++) {
        sprintf(name + 230, "%d", at);
        int fd = open(name, O_CREAT | O_WRONLY, 0600);
        if (fd < 0)
            return errno == ENOSPC ? 3 : errno == ENOMEM ? 7 : 4;
        close(fd);
    }
    return 5;
}

static int folders(void)
{
    for (int at = 0; at < 4000000; at++)
        if (mkdir("d", 0700) || chdir("d"))
            return errno == ENOSPC ? 3 : errno == ENOMEM ? 7 : 4;
    return 5;
}

static int links(void)
{
    char target[4000], name[20];
    memset(target, 't', sizeof target);
    target[sizeof target - 1] = 0;
    for (int at = 0; at < 4000000; at++) {
        sprintf(name, "l%d", at);
        if (symlink(target, name))
            return errno == ENOSPC ? 3 : errno == ENOMEM ? 7 : 4;
    }
    return 5;
}

/* Locks on every other byte. */
static int locks(void)
{
    int fd = MUST(open("locked", O_CREAT | O_RDWR, 0600));
    for (long at = 0; at < 40000; at += 2) {
        struct flock lock = { .l_type = F_WRLCK, .l_start = at, .l_len = 1 };
        if (fcntl(fd, F_SETLK, &lock))
            return errno == ENOLCK ? 3 : 4;
    }
    return 5;
}

/* Attributes of a file. */
static int attributes(void)
{
    static char value[60000];
    char name[40];
    for (int at = 0; at < 200000; at++) {
        sprintf(name, "file%d", at);
        close(MUST(open(name, O_CREAT | O_RDWR, 0600)));
        if (setxattr(name, "user.a", value, sizeof value, 0))
            return errno == ENOSPC ? 3 : errno == EOPNOTSUPP ? 6 : 4;
    }
    return 5;
}

/* Mappings, each unlike its neighbours: Linux has a limit for their number (vm.max_map_count). */
static int mappings(void)
{
    char *all = mmap(NULL, 200000 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (int at = 0; at < 200000; at += 2)
        if (mprotect(all + at * PAGE, PAGE, PROT_READ)) {
            printf("mappings until %s, more than 60000: %d\n", error_name(errno), at > 60000);
            return 0;
        }
    return 5;
}

/* Whole files, in memory. */
static int files(void)
{
    static char bytes[1 << 16];
    uint64_t noise = 1;
    for (size_t at = 0; at < sizeof bytes; at += 8)
        *(uint64_t *)(bytes + at) = next_number(&noise);
    int fd = MUST(open("file", O_CREAT | O_WRONLY, 0600));
    for (int at = 0; at < 1 << 14; at++)
        if (write(fd, bytes, sizeof bytes) < 0)
            break;
    int error = errno;
    unlink("file");
    return error == ENOSPC ? 3 : 4;
}

__attribute__((noreturn)) static void *wait_for_ever(void *unused)
{
    (void)unused;
    for (;;)
        pause();
}

/* Threads until there can be no more. */
static int threads(void)
{
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 1 << 16);
    int made = 0, error;
    pthread_t thread;
    while (!(error = pthread_create(&thread, &small, wait_for_ever, NULL)))
        made++;
    printf("%d threads until %s\n", made, error_name(error));
    SHOW(fork());
    return 0;
}

static volatile sig_atomic_t arrived;

static void count_signal(int number)
{
    (void)number;
    arrived++;
}

/* Signals that queue up, and a storm of them from all sides. In a process group of its own. */
static void storm_of_signals(void)
{
    MUST(setpgid(0, 0));
    sigset_t all, none;
    sigemptyset(&none);
    sigfillset(&all);
    signal(SIGRTMIN + 1, count_signal);
    MUST(setrlimit(RLIMIT_SIGPENDING, &(struct rlimit){ 500, 500 }));
    MUST(sigprocmask(SIG_BLOCK, &all, NULL));
    int queued = 0;
    while (!sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = queued }))
        queued++;
    printf("queued until %s\n", error_name(errno));
    TRUTH(queued > 0 && queued <= 500);
    MUST(sigprocmask(SIG_SETMASK, &none, NULL));
    TRUTH(arrived == queued);
    /* Everybody interrupts everybody, and the handlers interrupt each other. */
    pid_t children[4], self = getpid();
    signal(SIGUSR1, count_signal);
    sigaction(SIGUSR2, &(struct sigaction){ .sa_handler = count_signal, .sa_flags = SA_NODEFER | SA_RESTART }, NULL);
    for (int at = 0; at < 4; at++)
        if (!(children[at] = MUST(fork()))) {
            for (int i = 0; i < 3000; i++)
                kill(i % 3 ? self : -self, i % 2 ? SIGUSR1 : SIGUSR2);
            _exit(0);
        }
    int fine = 0, status;
    for (int at = 0; at < 4; at++) {
        while (waitpid(children[at], &status, 0) < 0)
            ;
        fine += status == 0;
    }
    SHOW(fine);
    TRUTH(arrived > 0);
}

static int signals(void)
{
    OUTCOME("signals", storm_of_signals());
    return 0;
}

static int futexes[8] __attribute__((aligned(64)));
static void *robust[64];

static long futex(void *word, int operation, int value, void *time, void *other, int third)
{
    return syscall(SYS_futex, word, operation, value, time, other, third);
}

/* Every operation on a few words and on addresses that are none, in random order, by many threads. */
static void *play(void *seed)
{
    uint64_t state = (uint64_t)seed;
    static void *const nowhere[] = { NULL, (void *)3, (void *)0x7fffffffeffd, (void *)0x800000000000, (void *)0xffffffff9d5cc000, (void *)-1 };
    for (int i = 0; i < 1500; i++) {
        uint64_t number = next_number(&state);
        int operation = number % 14 | (number >> 8 & 1) << 7 | (number >> 9 & 1) << 8;
        void *word = number >> 16 & 15 ? &futexes[number >> 20 & 7] : nowhere[(number >> 20) % 6];
        void *other = number >> 24 & 15 ? &futexes[number >> 28 & 7] : nowhere[(number >> 28) % 6];
        struct timespec soon = { 0, 1000 + (number >> 40) % 50000 };
        int waits = (operation & 127) == FUTEX_WAIT || (operation & 127) == FUTEX_WAIT_BITSET || (operation & 127) == FUTEX_LOCK_PI ||
                    (operation & 127) == FUTEX_WAIT_REQUEUE_PI || (operation & 127) == 13;
        /* Times of these are points, and long over; never for ever. */
        futex(word, operation, waits ? futexes[number >> 20 & 7] : (int)(number >> 50), waits ? (void *)&soon : (void *)(number >> 60), other, number >> 32);
        if (i % 64 == 0)
            __atomic_store_n(&futexes[number >> 44 & 7], (int)(number >> 56), __ATOMIC_SEQ_CST);
    }
    /* A robust list that leads round in a circle, or nowhere, or far. */
    for (int i = 0; i < 64; i++)
        robust[i] = &robust[(i + 1) % 64];
    if ((uint64_t)seed % 2)
        robust[5] = (void *)0x800000000000;
    struct { void *next; long offset; void *pending; } head = { robust, (long)seed % 3 ? 4096 : -0x7fffffffffff, (void *)((uint64_t)seed << 40) };
    syscall(SYS_set_robust_list, &head, sizeof head);
    syscall(SYS_exit, 0);
    return NULL;
}

static int storm_of_futexes(void)
{
    int status = ATTEMPT({
        hurry(60);
        for (long at = 1; at <= 12; at++) {
            static char stacks[13][1 << 15] __attribute__((aligned(16)));
            pthread_t thread;
            pthread_attr_t attributes;
            pthread_attr_init(&attributes);
            pthread_attr_setstack(&attributes, stacks[at], sizeof stacks[at]);
            pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
            pthread_create(&thread, &attributes, play, (void *)(at * 0x9e3779b97f4a7c15));
        }
        /* The process is over when the last thread is. */
        syscall(SYS_exit, 0);
    });
    printf("futexes: %s\n", end_name(status));
    return 0;
}

/* As fast as they come nothing else runs; after so many they wait for good. */
static void count_until_enough(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    if (++arrived >= 5000)
        memset(&((ucontext_t *)context)->uc_sigmask, 0xff, 8);
}

/* Timers of a nanosecond, as many as there may be. */
static int timers(void)
{
    syscall(SYS_close_range, 3, ~0u, 0);
    MUST(setrlimit(RLIMIT_SIGPENDING, &(struct rlimit){ 300, 300 }));
    struct sigaction action = { .sa_sigaction = count_until_enough, .sa_flags = SA_SIGINFO };
    sigaction(SIGRTMIN + 2, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    sigset_t both;
    sigemptyset(&both);
    sigaddset(&both, SIGRTMIN + 2);
    sigaddset(&both, SIGALRM);
    MUST(sigprocmask(SIG_BLOCK, &both, NULL));
    int made = 0, fds = 0, fired = 0;
    timer_t timer;
    struct itimerspec often = { { 0, 1 }, { 0, 1 } };
    for (;; made++) {
        if (timer_create(CLOCK_MONOTONIC, &(struct sigevent){ .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2 }, &timer))
            break;
        timer_settime(timer, 0, &often, NULL);
    }
    printf("timers until %s\n", error_name(errno));
    TRUTH(made > 0 && made <= 300);
    setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 1 }, { 0, 1 } }, NULL);
    for (int at = 0; at < 200; at++) {
        int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        if (fd < 0)
            break;
        timerfd_settime(fd, 0, &often, NULL);
        fds++;
    }
    MUST(sigprocmask(SIG_UNBLOCK, &both, NULL));
    while (arrived < 5000)
        getppid();
    for (int fd = 3; fd < 3 + fds; fd++) {
        uint64_t times;
        fired += read(fd, &times, 8) == 8 && times > 0;
    }
    TRUTH(fired == fds && fds == 200);
    return 0;
}

/* Events that nobody reads, and watches for them. */
static int notices(void)
{
    int notify = MUST(inotify_init1(IN_NONBLOCK)), instances = 0, overflows = 0;
    MUST(inotify_add_watch(notify, ".", IN_ALL_EVENTS));
    MUST(mkdir("sub", 0700));
    for (int i = 0; i < 20000; i++) {
        MUST(close(MUST(open(i % 2 ? "one" : "two", O_CREAT | O_WRONLY, 0600))));
    }
    char events[65536] __attribute__((aligned(8)));
    for (long got; (got = read(notify, events, sizeof events)) > 0;)
        for (char *at = events; at < events + got; at += sizeof(struct inotify_event) + ((struct inotify_event *)at)->len)
            overflows += !!(((struct inotify_event *)at)->mask & IN_Q_OVERFLOW);
    SHOW(overflows);
    while (inotify_init1(0) >= 0)
        instances++;
    printf("instances until %s, at least 100: %d\n", error_name(errno), instances >= 100);
    return 0;
}

/* Every kind of descriptor, until there can be no more; and descriptors in messages that nobody takes. */
static int descriptors(void)
{
    MUST(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 256, 256 }));
    syscall(SYS_close_range, 3, ~0u, 0);
    int ends[2];
    long opened;
#define UNTIL(call) do { \
        for (opened = 0; (call) >= 0; opened++) \
            ; \
        printf("%s: %s after %ld\n", #call, error_name(errno), opened); \
        syscall(SYS_close_range, 3, ~0u, 0); \
    } while (0)
    UNTIL(pipe(ends));
    UNTIL(eventfd(0, 0));
    UNTIL(epoll_create1(0));
    UNTIL(timerfd_create(CLOCK_REALTIME, 0));
    UNTIL(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    UNTIL(socket(AF_INET, SOCK_DGRAM, 0));
    UNTIL(open("/dev/null", O_RDONLY));
    UNTIL(open("file", O_CREAT | O_RDWR, 0600));
    UNTIL(open(".", O_PATH));
    UNTIL(dup(0));
    UNTIL(syscall(SYS_memfd_create, "m", 0));
    UNTIL(syscall(SYS_pidfd_open, getpid(), 0));
    UNTIL(fcntl(0, F_DUPFD, 200));
    SHOW(dup2(0, 256));
    SHOW(dup2(0, 0x7fffffff));
    SHOW(fcntl(0, F_DUPFD, 256));
    /* Sockets that hold each other, and are held by nobody else. */
    for (int round = 0; round < 2000; round++) {
        MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends));
        for (int i = 0; i < 4; i++) {
            struct { struct cmsghdr head; int fds[2]; } rights = { .head = { CMSG_LEN(sizeof rights.fds), SOL_SOCKET, SCM_RIGHTS } };
            memcpy(CMSG_DATA(&rights.head), ends, sizeof ends);
            struct iovec one = { "x", 1 };
            struct msghdr message = { .msg_iov = &one, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = CMSG_SPACE(sizeof rights.fds) };
            sendmsg(ends[i % 2], &message, 0);
        }
        close(ends[0]);
        close(ends[1]);
    }
    printf("in flight: over\n");
    return 0;
}

/* Pollers that watch pollers, in a circle and deeper than may be. */
static int pollers(void)
{
    int deep[12], depth = 0;
    for (int at = 0; at < 12; at++)
        deep[at] = MUST(epoll_create1(0));
    for (int at = 0; at + 1 < 12; at++, depth++)
        if (epoll_ctl(deep[at], EPOLL_CTL_ADD, deep[at + 1], &(struct epoll_event){ .events = EPOLLIN }))
            break;
    printf("deep until %s\n", error_name(errno));
    SHOW(epoll_ctl(deep[0], EPOLL_CTL_ADD, deep[0], &(struct epoll_event){ .events = EPOLLIN }));
    SHOW(epoll_ctl(deep[1], EPOLL_CTL_ADD, deep[0], &(struct epoll_event){ .events = EPOLLIN }));
    int event = MUST(eventfd(1, 0)), ready = 0;
    for (int at = 0; at < 500; at++) {
        int poller = MUST(epoll_create1(0));
        MUST(epoll_ctl(poller, EPOLL_CTL_ADD, event, &(struct epoll_event){ .events = EPOLLIN | EPOLLET }));
        struct epoll_event got;
        ready += epoll_wait(poller, &got, 1, 0);
    }
    SHOW(ready);
    return 0;
}

/* Messages of System V's queues. */
static int queues(void)
{
    static struct { long type; char text[8000]; } message = { 1, { 0 } };
    int made = 0;
    for (; made < 100000; made++) {
        int queue = msgget(IPC_PRIVATE, 0600);
        if (queue < 0)
            break;
        while (!msgsnd(queue, &message, sizeof message.text, IPC_NOWAIT))
            ;
    }
    printf("queues until %s\n", error_name(errno));
    return 0;
}

__attribute__((noreturn)) static void *spin(void *unused)
{
    (void)unused;
    for (;;)
        __asm__ volatile("");
}

/* Spins on many threads, with everything ignored and blocked. */
static int spinners(void)
{
    sigset_t all;
    sigfillset(&all);
    for (int number = 1; number < 65; number++)
        signal(number, SIG_IGN);
    sigprocmask(SIG_BLOCK, &all, NULL);
    pthread_t thread;
    for (int i = 0; i < 4; i++)
        pthread_create(&thread, NULL, spin, NULL);
    for (int i = 0; i < 3; i++)
        if (!fork())
            spin(NULL);
    printf("ready\n");
    spin(NULL);
    return 0;
}

int main(int count, char **args)
{
    static const struct { const char *name; int (*flood)(void); int is_watched; } floods[] = {
        { "sparse", sparse, 1 }, { "reserved", reserved, 1 }, { "tables", tables, 1 }, { "pipes", pipes, 1 }, { "sockets", sockets, 1 },
        { "names", names, 1 }, { "folders", folders, 1 }, { "links", links, 1 }, { "locks", locks, 1 }, { "attributes", attributes, 1 },
        { "files", files, 1 }, { "queues", queues, 1 }, { "mappings", mappings, 0 }, { "threads", threads, 0 }, { "signals", signals, 0 },
        { "futexes", storm_of_futexes, 0 }, { "timers", timers, 0 }, { "notices", notices, 0 }, { "descriptors", descriptors, 0 },
        { "pollers", pollers, 0 }, { "spinners", spinners, 0 },
    };
    for (size_t at = 0; at < sizeof floods / sizeof *floods; at++)
        if (count > 1 && !strcmp(args[1], floods[at].name))
            return floods[at].is_watched ? watched(floods[at].flood) : floods[at].flood();
    return 2;
}
