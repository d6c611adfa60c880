/* micro NAME...: runs the named micro-benchmarks (none: lists them) and prints a line "NAME NANOSECONDS" for each, for
 * one operation; "NAME unsupported" where the processor or the system lacks what it needs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "micro.h"

const char *own_path;

double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

void fail(const char *what) {
    perror(what);
    exit(1);
}

static const struct {
    const char *name;
    void (*repeat)(long);
    double (*once)(void);
} BENCHMARKS[] = {
    {"null_syscall", null_syscall, NULL},
    {"gettid", gettid_call, NULL},
    {"getuid", getuid_call, NULL},
    {"clock_vdso", clock_vdso, NULL},
    {"clock_trapped", clock_trapped, NULL},
    {"getrandom_vdso", NULL, getrandom_vdso},
    {"read_zero", read_zero, NULL},
    {"write_null", write_null, NULL},
    {"lseek", lseek_call, NULL},
    {"fstat", fstat_call, NULL},
    {"pread_4k", pread_4k, NULL},
    {"open_fstat_close", open_fstat_close, NULL},
    {"mmap_munmap", mmap_munmap, NULL},
    {"mmap_touch_munmap", mmap_touch_munmap, NULL},
    {"fork_exit_wait", fork_exit_wait, NULL},
    {"fork_500m", NULL, fork_500m},
    {"fork_exec_wait", fork_exec_wait, NULL},
    {"thread_create_join", thread_create_join, NULL},
    {"pipe_ping_pong", pipe_ping_pong, NULL},
    {"futex_ping_pong", futex_ping_pong, NULL},
    {"unix_ping_pong", unix_ping_pong, NULL},
    {"tcp_ping_pong", tcp_ping_pong, NULL},
    {"processes_1000", NULL, processes_1000},
    {"descriptors_100000", NULL, descriptors_100000},
    {"threads_500", NULL, threads_500},
    {"threads_4000", NULL, threads_4000},
    {"touch_4k", NULL, touch_4k},
    {"touch_huge_1g", NULL, touch_huge_1g},
    {"integer", NULL, integer},
    {"avx", NULL, avx},
};
enum { COUNT = sizeof BENCHMARKS / sizeof *BENCHMARKS };

int ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

double repeated(void (*repeat)(long)) {
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
    /* What fork_exec_wait executes. */
    if (argc == 2 && strcmp(argv[1], "exit") == 0) return 0;
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
