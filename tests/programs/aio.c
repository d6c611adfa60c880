/* Asynchronous I/O by io_setup and its kin, called without a library. */
#include "show.h"
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

static aio_context_t context;
static struct io_event events[300];
static struct iocb one;
static const struct timespec now = { 0, 0 };

static long submit(struct iocb *request)
{
    return syscall(SYS_io_submit, context, 1, &request);
}

static struct iocb *request(int operation, int fd, const void *buffer, size_t bytes, long offset)
{
    one = (struct iocb){ .aio_data = 77, .aio_key = 5, .aio_lio_opcode = operation, .aio_fildes = fd, .aio_buf = (uintptr_t)buffer,
                         .aio_nbytes = bytes, .aio_offset = offset };
    return &one;
}

static void show_events(long least, long most)
{
    long count = syscall(SYS_io_getevents, context, least, most, events, &now);
    printf("events %ld", count);
    for (long i = 0; i < count; i++)
        printf(" (%llu %d %lld %lld)", events[i].data, events[i].obj == (uintptr_t)&one, events[i].res, events[i].res2);
    printf("\n");
}

static void contexts(void)
{
    aio_context_t other = 0, taken = 1;
    SHOW(syscall(SYS_io_setup, 0, &other));
    SHOW(syscall(SYS_io_setup, 8, &taken));
    SHOW(syscall(SYS_io_setup, 8, NULL));
    SHOW(syscall(SYS_io_setup, -1, &other));
    SHOW(syscall(SYS_io_setup, 8, &other));
    TRUTH(other != 0 && other != context);
    SHOW(syscall(SYS_io_destroy, other));
    SHOW(syscall(SYS_io_destroy, other));
    SHOW(syscall(SYS_io_destroy, 0));
    SHOW(syscall(SYS_io_submit, other, 0, NULL));
    SHOW(syscall(SYS_io_submit, context, 0, NULL));
    SHOW(syscall(SYS_io_submit, context, -1, NULL));
    SHOW(syscall(SYS_io_submit, context, 1, NULL));
    SHOW(syscall(SYS_io_getevents, other, 0, 1, events, &now));
    SHOW(syscall(SYS_io_getevents, context, 2, 1, events, &now));
    SHOW(syscall(SYS_io_getevents, context, -1, 1, events, &now));
    SHOW(syscall(SYS_io_getevents, context, 0, 1, events, (void *)8));
    SHOW(syscall(SYS_io_getevents, context, 1, 1, events, &now));
    SHOW(syscall(SYS_io_cancel, context, NULL, NULL));
}

static void files(void)
{
    char bytes[64] = "";
    int fd = MUST(open("aio.data", O_RDWR | O_CREAT | O_TRUNC, 0600)), reader = MUST(open("aio.data", O_RDONLY));
    SHOW(submit(request(IOCB_CMD_PWRITE, fd, "some bytes", 10, 3)));
    printf("key %u\n", one.aio_key);
    SHOW(submit(request(IOCB_CMD_PREAD, fd, bytes, sizeof bytes, 5)));
    show_events(0, 10);
    printf("%.*s, position %ld\n", 8, bytes, (long)lseek(fd, 0, SEEK_CUR));
    struct iovec parts[2] = { { "one", 3 }, { "two", 3 } };
    SHOW(submit(request(IOCB_CMD_PWRITEV, fd, parts, 2, 0)));
    parts[0].iov_base = bytes, parts[1].iov_base = bytes + 10;
    SHOW(submit(request(IOCB_CMD_PREADV, fd, parts, 2, 0)));
    SHOW(submit(request(IOCB_CMD_FSYNC, fd, NULL, 0, 0)));
    SHOW(submit(request(IOCB_CMD_FDSYNC, fd, NULL, 0, 0)));
    SHOW(submit(request(IOCB_CMD_PREAD, fd, bytes, 10, 1000)));
    /* Syncs may be done later than what follows. */
    int count = 0;
    for (long sum = 0; count < 5; count += sum)
        sum = syscall(SYS_io_getevents, context, 1, 10, events, NULL);
    printf("%d events, %.3s %.3s\n", count, bytes, bytes + 10);
    SHOW(submit(request(IOCB_CMD_PWRITE, reader, "x", 1, 0)));
    SHOW(submit(request(IOCB_CMD_PREAD, 1000, bytes, 1, 0)));
    SHOW(submit(request(IOCB_CMD_PREAD, fd, bytes, 1, -1)));
    SHOW(submit(request(IOCB_CMD_PREAD, fd, bytes, -1, 0)));
    SHOW(submit(request(IOCB_CMD_PREAD, fd, (void *)-4096, 1, 0)));
    SHOW(submit(request(IOCB_CMD_PREADV, fd, parts, 2000, 0)));
    SHOW(submit(request(IOCB_CMD_PREAD, fd, (void *)8, 1, 0)));
    show_events(0, 10);
    SHOW(submit(request(IOCB_CMD_FSYNC, fd, NULL, 1, 0)));
    SHOW(submit(request(IOCB_CMD_NOOP, fd, NULL, 0, 0)));
    SHOW(submit(request(99, fd, NULL, 0, 0)));
    request(IOCB_CMD_PREAD, fd, bytes, 1, 0)->aio_reserved2 = 1;
    SHOW(submit(&one));
    request(IOCB_CMD_PREAD, fd, bytes, 1, 0)->aio_flags = IOCB_FLAG_RESFD;
    one.aio_resfd = fd;
    SHOW(submit(&one));
    one.aio_resfd = 1000;
    SHOW(submit(&one));
    int directory = MUST(open(".", O_RDONLY));
    SHOW(submit(request(IOCB_CMD_PREAD, directory, bytes, 1, 0)));
    show_events(0, 10);
    close(directory), close(reader), close(fd), unlink("aio.data");
}

/* A list stops at the first request that is refused. */
static void lists(void)
{
    char bytes[8];
    int zero = MUST(open("/dev/zero", O_RDONLY));
    struct iocb good[3], bad = { .aio_lio_opcode = 99, .aio_fildes = zero };
    for (int i = 0; i < 3; i++)
        good[i] = (struct iocb){ .aio_data = i, .aio_fildes = zero, .aio_buf = (uintptr_t)bytes, .aio_nbytes = 1 + i };
    struct iocb *list[] = { &good[0], &good[1], &bad, &good[2] };
    SHOW(syscall(SYS_io_submit, context, 4, list));
    SHOW(syscall(SYS_io_submit, context, 1, list + 3));
    show_events(0, 2);
    show_events(0, 2);
    SHOW(syscall(SYS_io_getevents, context, 0, 1, NULL, &now));
    SHOW(syscall(SYS_io_submit, context, 1, list));
    SHOW(syscall(SYS_io_getevents, context, 1, 1, NULL, &now));
    show_events(1, 1);
    close(zero);
}

static void streams(void)
{
    char bytes[64] = "";
    uint64_t count = 0;
    int ends[2], status, counter = MUST(eventfd(0, EFD_NONBLOCK));
    MUST(pipe(ends));
    request(IOCB_CMD_PWRITE, ends[1], "through", 7, 0)->aio_flags = IOCB_FLAG_RESFD;
    one.aio_resfd = counter;
    SHOW(submit(&one));
    request(IOCB_CMD_PREAD, ends[0], bytes, sizeof bytes, 0)->aio_flags = IOCB_FLAG_RESFD;
    one.aio_resfd = counter;
    SHOW(submit(&one));
    show_events(0, 5);
    SHOW(read(counter, &count, 8));
    printf("%s %llu\n", bytes, (unsigned long long)count);

    SHOW(submit(request(IOCB_CMD_POLL, ends[1], (void *)POLLOUT, 0, 0)));
    show_events(1, 5);
    SHOW(submit(request(IOCB_CMD_POLL, ends[0], (void *)0x10001, 0, 0)));
    SHOW(submit(request(IOCB_CMD_POLL, ends[0], (void *)POLLIN, 1, 0)));
    request(IOCB_CMD_POLL, ends[0], (void *)POLLIN, 0, 0)->aio_flags = IOCB_FLAG_RESFD;
    one.aio_resfd = counter;
    SHOW(submit(&one));
    show_events(0, 5);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        /* The child has no contexts. */
        SHOW(syscall(SYS_io_getevents, context, 0, 1, events, &now));
        fflush(stdout);
        write(ends[1], "x", 1);
        _exit(0);
    }
    struct pollfd wait_for = { counter, POLLIN, 0 };
    SHOW(poll(&wait_for, 1, -1));
    SHOW(syscall(SYS_io_getevents, context, 1, 1, events, NULL));
    /* Whether it tells more than it was asked for depends on who completes it. */
    printf("%lld\n", events[0].res & POLLIN);
    SHOW(syscall(SYS_io_cancel, context, &one, events));
    MUST(waitpid(child, &status, 0));
    read(ends[0], bytes, 1);
    SHOW(submit(request(IOCB_CMD_POLL, ends[0], (void *)POLLIN, 0, 0)));
    SHOW(syscall(SYS_io_cancel, context, &one, events));
    SHOW(syscall(SYS_io_getevents, context, 1, 1, events, NULL));
    printf("%lld\n", events[0].res);
    SHOW(submit(request(IOCB_CMD_POLL, ends[0], (void *)POLLIN, 0, 0)));
    close(ends[1]);
    SHOW(syscall(SYS_io_getevents, context, 1, 1, events, NULL));
    printf("%lld\n", events[0].res);
    int file = MUST(open("/proc/self/exe", O_RDONLY));
    SHOW(submit(request(IOCB_CMD_POLL, file, (void *)POLLIN, 0, 0)));
    SHOW(syscall(SYS_io_getevents, context, 1, 1, events, NULL));
    printf("%lld\n", events[0].res);
    close(file), close(ends[0]), close(counter);
}

static void on_alarm(int signal)
{
    (void)signal;
}

/* A signal ends a wait; a mask keeps it off. */
static void signals(void)
{
    struct { const sigset_t *mask; size_t size; } mask;
    sigset_t set;
    struct sigaction action = { .sa_handler = on_alarm };
    sigaction(SIGALRM, &action, NULL);
    timer_t timer;
    struct itimerspec often = { { 0, 1000000 }, { 0, 1000000 } }, never = { { 0, 0 }, { 0, 0 } };
    MUST(timer_create(CLOCK_MONOTONIC, NULL, &timer));
    MUST(timer_settime(timer, 0, &often, NULL));
    SHOW(syscall(SYS_io_getevents, context, 1, 1, events, NULL));
    SHOW(syscall(SYS_io_pgetevents, context, 1, 1, events, NULL, NULL));
    MUST(timer_settime(timer, 0, &never, NULL));
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGALRM);
    struct timespec soon = { 0, 1000 };
    SHOW(syscall(SYS_io_getevents, context, 1, 1, events, &soon));
    sigemptyset(&set);
    mask.mask = &set, mask.size = 8;
    SHOW(syscall(SYS_io_pgetevents, context, 1, 1, events, NULL, &mask));
    mask.size = 4;
    SHOW(syscall(SYS_io_pgetevents, context, 1, 1, events, NULL, &mask));
    SHOW(syscall(SYS_io_pgetevents, context, 1, 1, events, NULL, (void *)8));
}

static void full(void)
{
    char byte;
    int zero = MUST(open("/dev/zero", O_RDONLY));
    aio_context_t all = context;
    context = 0;
    SHOW(syscall(SYS_io_setup, 1, &context));
    long taken = 0;
    request(IOCB_CMD_PREAD, zero, &byte, 1, 0);
    while (taken < 10000 && submit(&one) == 1)
        taken++;
    printf("full: %s, some %d\n", error_name(errno), taken > 1);
    SHOW(syscall(SYS_io_getevents, context, 1, 1, events, NULL));
    SHOW(submit(&one));
    SHOW(submit(&one));
    SHOW(syscall(SYS_io_destroy, context));
    context = all;
    close(zero);
}

int main(void)
{
    SHOW(syscall(SYS_io_setup, 64, &context));
    contexts();
    files();
    lists();
    streams();
    signals();
    full();
    SHOW(syscall(SYS_io_destroy, context));
    return 0;
}
