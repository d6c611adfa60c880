/* What an actor of mixture does alone, or with its echo and its mirror. */
#ifndef MIXTURE_CALLS_H
#define MIXTURE_CALLS_H
#include "mixture.h"
#include <fcntl.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <time.h>

/* linux/futex.h, which musl does not come with. */
enum {
    FUTEX_WAKE = 1,
    FUTEX_WAIT_PRIVATE = 128,
    FUTEX_WAKE_PRIVATE = 129,
    FUTEX_CMP_REQUEUE_PRIVATE = 132,
};

static void identity(void)
{
    CHECK(CALL(__NR_getpid) == self->pid);
    CHECK(CALL(__NR_gettid) == self->tid);
    CHECK(CALL(__NR_getppid) == self->parent);
    for (uint64_t repeat = draw(20); repeat > 0; repeat--)
        fold((uint64_t)CALL(__NR_getuid));
    fold((uint64_t)(CALL(__NR_geteuid) + 3 * CALL(__NR_getgid) + 5 * CALL(__NR_getegid)));
    CHECK(CALL(__NR_getpgid, 0) == CALL(__NR_getpgrp));
    CHECK(CALL(__NR_getsid, 0) >= 0);
    CHECK(getpid() == self->pid);
}

static int64_t nanoseconds_of(struct timespec time) { return time.tv_sec * 1000000000ll + time.tv_nsec; }

static void clocks(void)
{
    struct timespec times[4];
    CHECK(clock_gettime(CLOCK_MONOTONIC, &times[0]) == 0);
    CHECK(CALL(__NR_clock_gettime, CLOCK_MONOTONIC, &times[1]) == 0);
    CHECK(clock_gettime(CLOCK_MONOTONIC, &times[2]) == 0);
    CHECK(CALL(__NR_clock_gettime, CLOCK_MONOTONIC, &times[3]) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(nanoseconds_of(times[i]) <= nanoseconds_of(times[i + 1]));
    struct tms used;
    long before = CALL(__NR_times, &used);
    CHECK(before <= CALL(__NR_times, &used));
}

static void devices(void)
{
    char bytes[300];
    memset(bytes, 1, sizeof bytes);
    size_t size = draw(sizeof bytes);
    int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
    for (uint64_t repeat = draw(12); repeat > 0; repeat--)
        fold((uint64_t)read(zero, bytes, size));
    fold_bytes(bytes, sizeof bytes);
    fold((uint64_t)CALL(__NR_write, zero, bytes, size));
    fold((uint64_t)CALL(__NR_lseek, zero, draw(1000), SEEK_SET));
    fold((uint64_t)CALL(__NR_read, zero, 8, size));
    fold((uint64_t)close(zero));
}

static void file_of_its_own(void)
{
    char bytes[700];
    struct stat about;
    size_t size = draw(sizeof bytes), at = draw(9000);
    memset(bytes, (int)draw(256), sizeof bytes);
    switch (draw(8)) {
    case 0: fold((uint64_t)write(self->file, bytes, size)); break;
    case 1: fold((uint64_t)CALL(__NR_pwrite64, self->file, bytes, size, at)); break;
    case 2: fold((uint64_t)CALL(__NR_lseek, self->file, at, SEEK_SET)); break;
    case 3: fold((uint64_t)lseek(self->file, 0, SEEK_END)); break;
    case 4: fold((uint64_t)ftruncate(self->file, (off_t)at)); break;
    case 5: {
        struct iovec parts[2] = {{bytes, size / 2}, {bytes + size / 2, size - size / 2}};
        fold((uint64_t)writev(self->file, parts, 2));
        break;
    }
    default: break;
    }
    for (uint64_t repeat = draw(6); repeat > 0; repeat--) {
        fold((uint64_t)CALL(__NR_pread64, self->file, bytes, size, at));
        fold_bytes(bytes, sizeof bytes);
        fold((uint64_t)read(self->file, bytes, size / 3));
        CHECK(fstat(self->file, &about) == 0);
        fold((uint64_t)about.st_size + about.st_nlink + about.st_mode);
    }
    fold((uint64_t)CALL(__NR_lseek, self->file, 0, SEEK_CUR));
}

static void pipe_of_its_own(void)
{
    char bytes[5000];
    int there = -1;
    size_t size = draw(sizeof bytes);
    memset(bytes, (int)draw(256), sizeof bytes);
    for (uint64_t repeat = draw(4); repeat > 0; repeat--)
        fold((uint64_t)CALL(__NR_write, self->pipe[1], bytes, size));
    fold((uint64_t)CALL(__NR_ioctl, self->pipe[0], FIONREAD, &there) + (uint64_t)there);
    for (uint64_t repeat = draw(4); repeat > 0; repeat--)
        fold((uint64_t)read(self->pipe[0], bytes, size + 1));
    fold_bytes(bytes, sizeof bytes);
}

/* A process that says again what it hears: a length, and so many bytes; it ends at a length of 0. */
_Noreturn static void be_echo(int from, int to)
{
    unsigned char bytes[256];
    for (;;) {
        size_t filled = 0, wanted = 1;
        while (filled < wanted) {
            ssize_t got = read(from, bytes + filled, wanted - filled);
            if (got <= 0)
                _exit(97);
            filled += (size_t)got;
            wanted = bytes[0] + 1u;
        }
        if (wanted == 1)
            _exit(0);
        if (write(to, bytes, wanted) != (ssize_t)wanted)
            _exit(96);
    }
}

static void echo(void)
{
    unsigned char bytes[256], again[256];
    for (uint64_t repeat = 1 + draw(6); repeat > 0; repeat--) {
        size_t size = 2 + draw(250), filled = 0;
        for (size_t at = 1; at < size; at++)
            bytes[at] = (unsigned char)(self->random >> (at % 57));
        bytes[0] = (unsigned char)(size - 1);
        CHECK(CALL(__NR_write, self->to_echo, bytes, size) == (long)size);
        while (filled < size) {
            ssize_t got = read(self->from_echo, again + filled, size - filled);
            CHECK(got > 0);
            if (got <= 0)
                return;
            filled += (size_t)got;
        }
        CHECK(memcmp(bytes, again, size) == 0);
    }
    fold_bytes(again, again[0] + 1u);
}

static void mirror(void)
{
    for (uint64_t repeat = 1 + draw(8); repeat > 0; repeat--) {
        uint32_t last = atomic_load(&self->said), next = last + 1;
        atomic_store(&self->said, next);
        long woken = CALL(__NR_futex, &self->said, FUTEX_WAKE_PRIVATE, 1);
        CHECK(woken == 0 || woken == 1);
        while (atomic_load(&self->heard) != next) {
            long slept = CALL(__NR_futex, &self->heard, FUTEX_WAIT_PRIVATE, last, NULL);
            CHECK(slept == 0 || slept == -EAGAIN || slept == -EINTR);
        }
        fold(next);
    }
}

static void futex_calls(void)
{
    static const struct timespec soon = {0, 1000};
    uint32_t word = (uint32_t)draw(100);
    for (uint64_t repeat = draw(10); repeat > 0; repeat--)
        fold((uint64_t)CALL(__NR_futex, &word, FUTEX_WAKE_PRIVATE, draw(3)));
    fold((uint64_t)CALL(__NR_futex, &word, FUTEX_WAIT_PRIVATE, word + 1, NULL));
    fold((uint64_t)CALL(__NR_futex, &word, FUTEX_WAKE, 1));
    fold((uint64_t)CALL(__NR_futex, 6, FUTEX_WAKE_PRIVATE, 1));
    fold((uint64_t)CALL(__NR_futex, &word, FUTEX_CMP_REQUEUE_PRIVATE, 1, 1, &word, word + 1));
    long slept = CALL(__NR_futex, &word, FUTEX_WAIT_PRIVATE, word, &soon);
    CHECK(slept == -ETIMEDOUT || slept == -EINTR);
}

static void memory(void)
{
    size_t pages = 1 + draw(16), chosen = draw(pages);
    char *start = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), byte;
    CHECK(start != MAP_FAILED);
    for (size_t page = 0; page < pages; page++)
        start[page * PAGE] = (char)draw(100);
    fold((uint64_t)CALL(__NR_mprotect, start + chosen * PAGE, PAGE, draw(2) ? PROT_NONE : PROT_READ));
    /* Through the kernel: what may not be touched is an error. */
    fold((uint64_t)CALL(__NR_pwrite64, self->file, start + chosen * PAGE, 1, 0));
    fold((uint64_t)CALL(__NR_pread64, self->file, start + chosen * PAGE, 1, 0));
    CHECK(CALL(__NR_mprotect, start, pages * PAGE, PROT_READ | PROT_WRITE) == 0);
    byte = start[chosen * PAGE];
    if (draw(2)) {
        fold((uint64_t)madvise(start, PAGE, MADV_DONTNEED));
        fold((uint64_t)start[0]);
    }
    start = mremap(start, pages * PAGE, (pages + 3) * PAGE, MREMAP_MAYMOVE);
    CHECK(start != MAP_FAILED && (chosen == 0 || start[chosen * PAGE] == byte));
    fold((uint64_t)CALL(__NR_munmap, start, (pages + 3) * PAGE));
    fold((uint64_t)CALL(__NR_munmap, start + 1, PAGE));
}

/* Numbers that nobody else in the process uses. */
static void descriptors(void)
{
    int number = 200 + 16 * self->index + (int)draw(16);
    fold((uint64_t)(CALL(__NR_dup3, self->file, number, draw(2) ? O_CLOEXEC : 0) == number));
    for (uint64_t repeat = draw(6); repeat > 0; repeat--) {
        fold((uint64_t)CALL(__NR_fcntl, number, F_GETFD));
        fold((uint64_t)fcntl(number, F_GETFL));
    }
    fold((uint64_t)CALL(__NR_fcntl, number, F_SETFD, FD_CLOEXEC));
    if (draw(3)) {
        fold((uint64_t)CALL(__NR_close, number));
        fold((uint64_t)CALL(__NR_close, number));
    }
    fold((uint64_t)CALL(__NR_fcntl, number, F_GETFD));
}

static void errors(void)
{
    char bytes[8];
    switch (draw(10)) {
    case 0: fold((uint64_t)CALL(__NR_close, -1)); break;
    case 1: fold((uint64_t)CALL(__NR_read, 999, bytes, 1)); break;
    case 2: fold((uint64_t)CALL(__NR_lseek, self->pipe[0], 0, SEEK_CUR)); break;
    case 3: fold((uint64_t)CALL(__NR_open, "nowhere/at/all", O_RDONLY)); break;
    case 4: fold((uint64_t)CALL(__NR_write, self->pipe[1], 16, 8)); break;
    case 5: fold((uint64_t)CALL(__NR_fstat, self->file, 16)); break;
    case 6: fold((uint64_t)CALL(500 + draw(2000), 1, 2, 3)); break;
    case 7: fold((uint64_t)CALL(__NR_rt_sigprocmask, 77, bytes, NULL, 8)); break;
    case 8: fold((uint64_t)CALL(__NR_clock_gettime, 999, bytes)); break;
    default: fold((uint64_t)CALL(__NR_mmap, 1, PAGE, 0, 0, -1, 0)); break;
    }
}

static void folder(void)
{
    char name[64], other[64], entries[1024];
    struct stat about;
    fold((uint64_t)mkdir(self->folder, 0700));
    for (int i = 0, files = (int)draw(4); i < files; i++) {
        snprintf(name, sizeof name, "%s/%d", self->folder, i);
        snprintf(other, sizeof other, "%s/other%d", self->folder, i);
        int file = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
        CHECK(file >= 0);
        fold((uint64_t)write(file, name, draw(20)));
        fold((uint64_t)close(file));
        fold((uint64_t)rename(name, other));
        fold((uint64_t)(stat(name, &about) == -1 && errno == ENOENT));
        fold((uint64_t)(stat(other, &about) == 0 ? about.st_size : -1));
    }
    int opened = open(self->folder, O_RDONLY | O_DIRECTORY);
    CHECK(opened >= 0);
    fold((uint64_t)(CALL(__NR_getdents64, opened, entries, sizeof entries) > 0));
    fold((uint64_t)CALL(__NR_getdents64, opened, entries, sizeof entries));
    close(opened);
    for (int i = 0; i < 4; i++) {
        snprintf(other, sizeof other, "%s/other%d", self->folder, i);
        fold((uint64_t)unlink(other));
    }
    fold((uint64_t)rmdir(self->folder));
}

static void events(void)
{
    struct epoll_event ready = {0};
    uint64_t value = 1 + draw(9), count = 0;
    fold((uint64_t)CALL(__NR_epoll_wait, self->poll, &ready, 1, 0));
    fold((uint64_t)CALL(__NR_write, self->events, &value, 8));
    for (uint64_t repeat = draw(4); repeat > 0; repeat--)
        fold((uint64_t)CALL(__NR_epoll_wait, self->poll, &ready, 1, 0) + ready.data.u64);
    fold((uint64_t)read(self->events, &count, 8));
    fold(count);
    fold((uint64_t)CALL(__NR_read, self->events, &count, 8));
}

static void assorted(void)
{
    char name[16] = "", bytes[33] = "";
    struct rusage usage;
    unsigned cpu = 99999;
    uint64_t set[16] = {0};
    snprintf(name, sizeof name, "name%d", (int)draw(1000));
    fold((uint64_t)CALL(__NR_prctl, PR_SET_NAME, name));
    fold((uint64_t)CALL(__NR_prctl, PR_GET_NAME, bytes));
    fold_bytes(bytes, 16);
    for (uint64_t repeat = draw(5); repeat > 0; repeat--)
        fold((uint64_t)CALL(__NR_sched_yield));
    fold((uint64_t)CALL(__NR_getrandom, bytes, draw(33), 0));
    fold((uint64_t)CALL(__NR_getcpu, &cpu, NULL, NULL));
    CHECK(cpu < 99999 && sched_getcpu() >= 0);
    CHECK(CALL(__NR_sched_getaffinity, 0, sizeof set, set) > 0 && set[0] != 0);
    fold((uint64_t)CALL(__NR_getrusage, RUSAGE_THREAD, &usage));
    fold((uint64_t)CALL(__NR_getpriority, PRIO_PROCESS, 0));
}

/* Code that a program writes itself, and writes anew while it is hot. */
static void code_that_changes(void)
{
    static const unsigned char with_number[] = {0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0xc3};
    static const unsigned char and_compare[] = {0x48, 0x89, 0xf8, 0x0f, 0x05, 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff, 0xc3};
    static const long numbers[] = {__NR_getpid, __NR_gettid, __NR_getuid, __NR_sched_yield, __NR_getppid};
    long (*made)(long) = (long (*)(long))(void *)(self->code + 16 * draw(8));
    int protects = draw(3) == 0;
    for (int version = 0; version < 3; version++) {
        long number = numbers[draw(sizeof numbers / sizeof *numbers)], calls = 1 + (long)draw(40);
        if (protects)
            CHECK(mprotect(self->code, PAGE, PROT_READ | PROT_WRITE) == 0);
        if (draw(2)) {
            memcpy((void *)made, and_compare, sizeof and_compare);
        } else {
            memcpy((void *)made, with_number, sizeof with_number);
            ((unsigned char *)made)[1] = (unsigned char)number;
        }
        if (protects)
            CHECK(mprotect(self->code, PAGE, PROT_READ | PROT_EXEC) == 0);
        for (; calls > 0; calls--) {
            long result = made(number);
            if (number == __NR_getpid)
                CHECK(result == self->pid);
            else if (number == __NR_gettid)
                CHECK(result == self->tid);
            else if (number == __NR_getppid)
                CHECK(result == self->parent);
            else
                fold((uint64_t)result);
        }
    }
    if (protects)
        CHECK(mprotect(self->code, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    if (draw(4) == 0) {
        /* Other code at the same address. */
        char *again = mmap(self->code, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        CHECK(again == self->code);
    }
}

#endif
