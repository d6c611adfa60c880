/* Memory: mapped, touched, unmapped. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "micro.h"

void mmap_munmap(long count) {
    for (long i = 0; i < count; i++) {
        char *page = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) fail("mmap");
        munmap(page, 65536);
    }
}

void mmap_touch_munmap(long count) {
    for (long i = 0; i < count; i++) {
        char *page = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) fail("mmap");
        *page = 1;
        munmap(page, 65536);
    }
}

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

double touch_4k(void) { return touch(64 << 20, MADV_NOHUGEPAGE) / (64 << 8); }

double touch_huge_1g(void) { return touch(1 << 30, MADV_HUGEPAGE); }
