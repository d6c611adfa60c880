/* What becomes of a call that blocks when a signal comes (signal(7)): a handler without and with SA_RESTART, and a stop.
 *
 * Each way runs in a child. The parent sends the signal when the child sleeps in the call, and knows that the call was started
 * again when the child sleeps again after the signal, and that it was not when the child says what the call returned. */
#include "show.h"
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

/* What child and parent share. */
static volatile struct { int started, handled, finished, error; long result; int word; } *shared;
/* A file with all kinds of locks, all held by the parent. */
static int locked[3];

/* What the ways use: made new for each. */
static int ends[2], sockets[2];
static char buffer[1 << 16];
static struct iovec vector = { buffer, sizeof buffer };
static struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1 };
static struct mmsghdr messages = { .msg_hdr = { .msg_iov = &vector, .msg_iovlen = 1 } };
static struct timespec long_time = { 10000, 0 };
static const struct timeval long_limit = { 10000, 0 };

static void fill(int fd)
{
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (write(fd, buffer, 4096) > 0)
        ;
    fcntl(fd, F_SETFL, 0);
}

static void make_pipe(void) { MUST(pipe(ends)); }
static void two_pipes(void) { MUST(pipe(sockets)); make_pipe(); }
static void full_pipe(void) { make_pipe(); fill(ends[1]); }
static void make_sockets(void) { MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets)); }
static void full_sockets(void) { make_sockets(); fill(sockets[0]); }
static void make_packets(void) { MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets)); }
static void full_packets(void) { make_packets(); fill(sockets[0]); }
static void limited(void)
{
    MUST(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &long_limit, sizeof long_limit));
    MUST(setsockopt(sockets[0], SOL_SOCKET, SO_SNDTIMEO, &long_limit, sizeof long_limit));
}
static void limited_sockets(void) { make_sockets(); limited(); }
static void limited_full(void) { full_sockets(); limited(); }
static struct sockaddr_un name = { .sun_family = AF_UNIX };
static void listener(int backlog)
{
    socklen_t size = sizeof name;
    sockets[1] = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(bind(sockets[1], (void *)&name, sizeof(sa_family_t)));
    MUST(getsockname(sockets[1], (void *)&name, &size));
    MUST(listen(sockets[1], backlog));
    sockets[0] = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
}
static void acceptor(void) { listener(1); }
static void limited_acceptor(void) { listener(1); sockets[0] = sockets[1]; limited(); }
static void queue_full(void)
{
    listener(0);
    int other = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    while (connect(other, (void *)&name, sizeof(sa_family_t) + 6) == 0)
        other = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
}
static void limited_queue(void) { queue_full(); limited(); }
static void child_waits(void)
{
    if (!MUST(fork()))
        for (;;)
            pause();
}
static void make_fifo(void) { unlink("fifo"); MUST(mkfifo("fifo", 0600)); }
static void make_terminal(void)
{
    sockets[0] = MUST(posix_openpt(O_RDWR | O_NOCTTY));
    MUST(grantpt(sockets[0]));
    MUST(unlockpt(sockets[0]));
    ends[0] = MUST(open(ptsname(sockets[0]), O_RDWR | O_NOCTTY));
}
static mqd_t queue;
static void make_queue(void)
{
    struct mq_attr attributes = { .mq_maxmsg = 1, .mq_msgsize = 1 };
    mq_unlink("/restarts");
    queue = MUST(mq_open("/restarts", O_CREAT | O_RDWR, 0600, &attributes));
    mq_unlink("/restarts");
}
static void full_queue(void) { make_queue(); MUST(mq_send(queue, "x", 1, 0)); }
/* Removed by the parent: a child that is killed cannot. */
static int semaphores, mail;
static struct sembuf take = { 0, -1, 0 };
static struct { long type; char text[8192]; } letter = { 1, "" };
static void full_mail(void)
{
    while (msgsnd(mail, &letter, sizeof letter.text, IPC_NOWAIT) == 0)
        ;
}
static void empty_mail(void)
{
    while (msgrcv(mail, &letter, sizeof letter.text, 0, IPC_NOWAIT) >= 0)
        ;
}
static int poller;
static struct epoll_event event;
static void make_poller(void) { make_pipe(); poller = MUST(epoll_create1(0)); MUST(epoll_ctl(poller, EPOLL_CTL_ADD, ends[0], &event)); }
static fd_set set;
static void make_set(void) { make_pipe(); FD_ZERO(&set); FD_SET(ends[0], &set); }
static sigset_t awaited, nothing;
static void make_signals(void) { sigaddset(&awaited, SIGUSR2); sigprocmask(SIG_BLOCK, &awaited, NULL); ends[0] = MUST(signalfd(-1, &awaited, 0)); }
static aio_context_t context;
static struct io_event events;
static void make_context(void) { MUST(syscall(SYS_io_setup, 1, &context)); }
static int word;
static void mutex_of_another(void) { word = getppid(); }
static sem_t semaphore;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static void lock_twice(void) { pthread_mutex_lock(&mutex); }
static struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
static struct timespec deadline(clockid_t clock) { struct timespec at; clock_gettime(clock, &at); at.tv_sec += 10000; return at; }
static struct timespec at;
static void real_time(void) { at = deadline(CLOCK_REALTIME); }
static void steady_time(void) { at = deadline(CLOCK_MONOTONIC); }
static struct { uint64_t value, address; uint32_t flags, reserved; } waiters = { 0, (uintptr_t)&word, FUTEX_32, 0 };
static void none(void) {}
#define POLLED (&(struct pollfd){ ends[0], POLLIN, 0 })
#define futex(operation, value, time) syscall(SYS_futex, &word, operation, value, time, NULL, ~0u)

#define WAYS(WAY) \
    WAY(make_pipe, read(ends[0], buffer, 1)) \
    WAY(make_pipe, readv(ends[0], &vector, 1)) \
    WAY(full_pipe, write(ends[1], buffer, 4096)) \
    WAY(full_pipe, writev(ends[1], &vector, 1)) \
    WAY(two_pipes, splice(ends[0], NULL, sockets[1], NULL, 8, 0)) \
    WAY(two_pipes, tee(ends[0], sockets[1], 8, 0)) \
    WAY(full_pipe, vmsplice(ends[1], &vector, 1, 0)) \
    WAY(full_pipe, sendfile(ends[1], locked[0], &(off_t){ 0 }, 100)) \
    WAY(make_terminal, read(ends[0], buffer, 1)) \
    WAY(make_terminal, read(sockets[0], buffer, 1)) \
    WAY(none, read(MUST(eventfd(0, 0)), buffer, 8)) \
    WAY(none, read(MUST(inotify_init1(0)), buffer, 4096)) \
    WAY(none, read(MUST(timerfd_create(CLOCK_MONOTONIC, 0)), buffer, 8)) \
    WAY(make_signals, read(ends[0], buffer, 4096)) \
    WAY(make_fifo, open("fifo", O_RDONLY)) \
    WAY(make_fifo, open("fifo", O_WRONLY)) \
    WAY(child_waits, wait4(-1, NULL, 0, NULL)) \
    WAY(child_waits, waitid(P_ALL, 0, NULL, WEXITED)) \
    WAY(acceptor, accept(sockets[1], NULL, NULL)) \
    WAY(queue_full, connect(sockets[0], (void *)&name, sizeof(sa_family_t) + 6)) \
    WAY(make_sockets, read(sockets[0], buffer, 1)) \
    WAY(make_sockets, recv(sockets[0], buffer, 1, 0)) \
    WAY(make_sockets, recvmsg(sockets[0], &message, 0)) \
    WAY(make_packets, recv(sockets[0], buffer, 1, 0)) \
    WAY(make_packets, recvmmsg(sockets[0], &messages, 1, 0, NULL)) \
    WAY(make_packets, recvmmsg(sockets[0], &messages, 1, 0, &long_time)) \
    WAY(full_sockets, write(sockets[0], buffer, 1)) \
    WAY(full_sockets, send(sockets[0], buffer, 1, 0)) \
    WAY(full_sockets, sendmsg(sockets[0], &message, 0)) \
    WAY(full_packets, send(sockets[0], buffer, 4096, 0)) \
    WAY(limited_acceptor, accept(sockets[1], NULL, NULL)) \
    WAY(limited_queue, connect(sockets[0], (void *)&name, sizeof(sa_family_t) + 6)) \
    WAY(limited_sockets, read(sockets[0], buffer, 1)) \
    WAY(limited_sockets, recv(sockets[0], buffer, 1, 0)) \
    WAY(limited_sockets, recvmsg(sockets[0], &message, 0)) \
    WAY(limited_full, write(sockets[0], buffer, 1)) \
    WAY(limited_full, send(sockets[0], buffer, 1, 0)) \
    WAY(none, flock(MUST(open("locked", O_RDWR)), LOCK_EX)) \
    WAY(none, fcntl(locked[1], F_SETLKW, &whole)) \
    WAY(none, fcntl(MUST(open("locked", O_RDWR)), F_OFD_SETLKW, &whole)) \
    WAY(make_queue, mq_receive(queue, buffer, sizeof buffer, NULL)) \
    WAY(real_time, (make_queue(), mq_timedreceive(queue, buffer, sizeof buffer, NULL, &at))) \
    WAY(full_queue, mq_send(queue, "x", 1, 0)) \
    WAY(real_time, (full_queue(), mq_timedsend(queue, "x", 1, 0, &at))) \
    WAY(none, futex(FUTEX_WAIT, 0, NULL)) \
    WAY(none, futex(FUTEX_WAIT, 0, &long_time)) \
    WAY(none, futex(FUTEX_WAIT_BITSET, 0, NULL)) \
    WAY(steady_time, futex(FUTEX_WAIT_BITSET, 0, &at)) \
    WAY(mutex_of_another, futex(FUTEX_LOCK_PI, 0, NULL)) \
    WAY(none, syscall(SYS_futex_waitv, &waiters, 1, 0, NULL, 0)) \
    WAY(steady_time, syscall(SYS_futex_waitv, &waiters, 1, 0, &at, CLOCK_MONOTONIC)) \
    WAY(none, sem_wait(&semaphore)) \
    WAY(real_time, sem_timedwait(&semaphore, &at)) \
    WAY(lock_twice, pthread_mutex_lock(&mutex)) \
    WAY(lock_twice, pthread_cond_wait(&condition, &mutex)) \
    WAY(none, pause()) \
    WAY(none, sigsuspend(&nothing)) \
    WAY(make_signals, sigtimedwait(&awaited, NULL, &long_time)) \
    WAY(make_signals, sigwaitinfo(&awaited, NULL)) \
    WAY(make_poller, epoll_wait(poller, &event, 1, -1)) \
    WAY(make_poller, epoll_wait(poller, &event, 1, 10000000)) \
    WAY(make_poller, epoll_pwait(poller, &event, 1, -1, &nothing)) \
    WAY(make_pipe, poll(POLLED, 1, -1)) \
    WAY(make_pipe, poll(POLLED, 1, 10000000)) \
    WAY(make_pipe, ppoll(POLLED, 1, NULL, &nothing)) \
    WAY(make_pipe, ppoll(POLLED, 1, &long_time, NULL)) \
    WAY(make_set, select(ends[0] + 1, &set, NULL, NULL, NULL)) \
    WAY(make_set, pselect(ends[0] + 1, &set, NULL, NULL, &long_time, &nothing)) \
    WAY(empty_mail, msgrcv(mail, &letter, sizeof letter.text, 0, 0)) \
    WAY(full_mail, msgsnd(mail, &letter, sizeof letter.text, 0)) \
    WAY(none, semop(semaphores, &take, 1)) \
    WAY(none, semtimedop(semaphores, &take, 1, &long_time)) \
    WAY(none, nanosleep(&long_time, NULL)) \
    WAY(none, clock_nanosleep(CLOCK_MONOTONIC, 0, &long_time, NULL)) \
    WAY(steady_time, clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL)) \
    WAY(none, usleep(1000000000)) \
    WAY(make_context, syscall(SYS_io_getevents, context, 1, 1, &events, NULL)) \
    WAY(make_context, syscall(SYS_io_getevents, context, 1, 1, &events, &long_time))

enum { HANDLED, RESTARTED, STOPPED, KINDS };

static void on_signal(int number)
{
    (void)number;
    shared->handled++;
}

/* The child: calls, and tells what came of it. */
static void call(int wanted)
{
    int at_ = 0;
#define WAY(prepare, expression) \
    if (at_++ == wanted) { \
        prepare(); \
        errno = 0; \
        shared->started = 1; \
        shared->result = (long)(expression); \
    }
    WAYS(WAY)
#undef WAY
    shared->error = shared->result > 0 ? (int)shared->result : errno;
    shared->finished = 1;
    _exit(0);
}

/* Waits until the child sleeps, or has finished; true if it sleeps. */
static int sleeps(pid_t child)
{
    char path[40], text[200];
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    for (;;) {
        int file = MUST(open(path, O_RDONLY)), length = MUST(read(file, text, sizeof text - 1));
        close(file);
        text[length] = 0;
        int asleep = strrchr(text, ')')[2] == 'S';
        if (shared->finished)
            return 0;
        if (asleep && shared->started)
            return 1;
        sched_yield();
    }
}

static const char *outcome(int wanted, int kind)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = kind == RESTARTED ? SA_RESTART : 0 };
    siginfo_t info;
    memset((void *)shared, 0, sizeof *shared);
    sigaction(SIGUSR1, &action, NULL);
    fflush(stdout);
    pid_t child = MUST(fork());
    if (!child) {
        setpgid(0, 0);
        call(wanted);
    }
    if (sleeps(child)) {
        if (kind == STOPPED) {
            MUST(kill(child, SIGSTOP));
            MUST(waitpid(child, NULL, WUNTRACED));
            MUST(kill(child, SIGCONT));
            /* It may have ended already. */
            MUST(waitid(P_PID, child, &info, WCONTINUED | WEXITED | WNOWAIT));
        } else {
            MUST(kill(child, SIGUSR1));
            while (!shared->handled)
                sched_yield();
        }
        if (sleeps(child)) {
            kill(-child, SIGKILL);
            kill(child, SIGKILL);
            waitpid(child, NULL, 0);
            return "goes on";
        }
    }
    waitpid(child, NULL, 0);
    kill(-child, SIGKILL);
    return error_name(shared->error);
}

int main(void)
{
    static const char *const ways[] = {
#define WAY(prepare, expression) #prepare ": " #expression,
        WAYS(WAY)
#undef WAY
    };
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    signal(SIGPIPE, SIG_IGN);
    for (int at_ = 0; at_ < 3; at_++)
        locked[at_] = MUST(open("locked", O_RDWR | O_CREAT, 0600));
    MUST(write(locked[0], buffer, 1000));
    MUST(flock(locked[0], LOCK_EX));
    MUST(fcntl(locked[0], F_SETLK, &whole));
    semaphores = MUST(semget(IPC_PRIVATE, 1, 0600));
    mail = MUST(msgget(IPC_PRIVATE, 0600));
    sem_init(&semaphore, 0, 0);
    for (unsigned wanted = 0; wanted < sizeof ways / sizeof *ways; wanted++) {
        printf("%s:", ways[wanted]);
        for (int kind = 0; kind < KINDS; kind++)
            printf(" %s%s", outcome(wanted, kind), kind < KINDS - 1 ? "," : "\n");
    }
    MUST(semctl(semaphores, 0, IPC_RMID));
    MUST(msgctl(mail, IPC_RMID, NULL));
    return 0;
}
