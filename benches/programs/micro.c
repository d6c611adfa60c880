/* micro NAME...: runs the named micro-benchmarks (none: lists them) and prints a line "NAME NANOSECONDS" for each, for
 * one operation; "NAME unsupported" where the processor or the system lacks what it needs. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *own_path;
static volatile uint64_t sink;

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* Operations that are repeated: each does `count` of them. */

static void null_syscall(long count) {
    for (long i = 0; i < count; i++) syscall(SYS_getpid);
}

static void clock_vdso(long count) {
    struct timespec time;
    for (long i = 0; i < count; i++) clock_gettime(CLOCK_MONOTONIC, &time);
}

static void clock_trapped(long count) {
    struct timespec time;
    for (long i = 0; i < count; i++) syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &time);
}

static void read_zero(long count) {
    static int zero = -1;
    char byte;
    if (zero < 0 && (zero = open("/dev/zero", O_RDONLY)) < 0) fail("/dev/zero");
    for (long i = 0; i < count; i++)
        if (read(zero, &byte, 1) != 1) fail("read");
}

static void open_fstat_close(long count) {
    struct stat about;
    for (long i = 0; i < count; i++) {
        int file = open(own_path, O_RDONLY | O_CLOEXEC);
        if (file < 0 || fstat(file, &about) != 0 || about.st_size == 0) fail(own_path);
        close(file);
    }
}

static void mmap_munmap(long count) {
    for (long i = 0; i < count; i++) {
        char *page = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) fail("mmap");
        munmap(page, 65536);
    }
}

static void mmap_touch_munmap(long count) {
    for (long i = 0; i < count; i++) {
        char *page = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) fail("mmap");
        *page = 1;
        munmap(page, 65536);
    }
}

/* Operations that are timed once, because a second time would be another thing. */

/* Touches every 4 KiB of `size` fresh bytes; returns nanoseconds. */
static double touch(size_t size, int advice) {
    size_t huge = 2 << 20;
    char *whole = mmap(NULL, size + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (whole == MAP_FAILED) fail("mmap");
    char *start = (char *)(((uintptr_t)whole + huge - 1) & ~(huge - 1));
    madvise(start, size, advice); /* a kernel without huge pages refuses, and that is a result too */
    double before = now_ns();
    for (size_t at = 0; at < size; at += 4096) ((volatile char *)start)[at] = 1;
    double after = now_ns();
    munmap(whole, size + huge);
    return after - before;
}

static double touch_4k(void) { return touch(64 << 20, MADV_NOHUGEPAGE) / (64 << 8); }

static double touch_huge_1g(void) { return touch(1 << 30, MADV_HUGEPAGE); }

static double integer(void) {
    enum { SIZE = 1 << 15 };
    static uint32_t table[SIZE];
    uint64_t state = 88172645463325252u;
    double before = now_ns();
    for (int round = 0; round < 400; round++)
        for (int i = 0; i < SIZE; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            table[state % SIZE] += (uint32_t)(state / (1 + table[i]));
        }
    double after = now_ns();
    for (int i = 0; i < SIZE; i++) sink += table[i];
    return after - before;
}

__attribute__((target("avx2,fma"))) static double avx(void) {
    enum { SIZE = 4096 };
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return -1;
    static float left[SIZE] __attribute__((aligned(32))), right[SIZE] __attribute__((aligned(32)));
    for (int i = 0; i < SIZE; i++) left[i] = (float)i, right[i] = 1.0f / (float)(i + 1);
    double before = now_ns();
    for (int round = 0; round < 60000; round++) {
        __m256 factor = _mm256_set1_ps(1.0f - 1e-6f);
        for (int i = 0; i < SIZE; i += 32)
            for (int j = i; j < i + 32; j += 8)
                _mm256_store_ps(left + j, _mm256_fmadd_ps(_mm256_load_ps(left + j), factor, _mm256_load_ps(right + j)));
    }
    double after = now_ns();
    for (int i = 0; i < SIZE; i++) sink += (uint64_t)left[i];
    return after - before;
}

static const struct {
    const char *name;
    void (*repeat)(long);
    double (*once)(void);
} BENCHMARKS[] = {
    {"null_syscall", null_syscall, NULL},
    {"clock_vdso", clock_vdso, NULL},
    {"clock_trapped", clock_trapped, NULL},
    {"read_zero", read_zero, NULL},
    {"open_fstat_close", open_fstat_close, NULL},
    {"mmap_munmap", mmap_munmap, NULL},
    {"mmap_touch_munmap", mmap_touch_munmap, NULL},
    {"touch_4k", NULL, touch_4k},
    {"touch_huge_1g", NULL, touch_huge_1g},
    {"integer", NULL, integer},
    {"avx", NULL, avx},
};
enum { COUNT = sizeof BENCHMARKS / sizeof *BENCHMARKS };

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Returns nanoseconds for one of the operations that `repeat` does: the median of nine batches of about 5 ms. */
static double repeated(void (*repeat)(long)) {
    enum { BATCHES = 9 };
    double batches[BATCHES];
    long count = 1;
    for (;; count *= 2) {
        double before = now_ns();
        repeat(count);
        if (now_ns() - before >= 5e6) break;
    }
    for (int batch = 0; batch < BATCHES; batch++) {
        double before = now_ns();
        repeat(count);
        batches[batch] = (now_ns() - before) / count;
    }
    qsort(batches, BATCHES, sizeof *batches, ascending);
    return batches[BATCHES / 2];
}

int main(int argc, char **argv) {
    own_path = argv[0];
    if (argc == 1)
        for (int i = 0; i < COUNT; i++) puts(BENCHMARKS[i].name);
    for (int argument = 1; argument < argc; argument++) {
        int i = 0;
        while (i < COUNT && strcmp(BENCHMARKS[i].name, argv[argument]) != 0) i++;
        if (i == COUNT) {
            fprintf(stderr, "micro: no benchmark %s\n", argv[argument]);
            return 2;
        }
        double ns = BENCHMARKS[i].repeat ? repeated(BENCHMARKS[i].repeat) : BENCHMARKS[i].once();
        if (ns < 0)
            printf("%s unsupported\n", BENCHMARKS[i].name);
        else
            printf("%s %.2f\n", BENCHMARKS[i].name, ns);
        fflush(stdout);
    }
    return 0;
}
