/* Uses memory in the way its argument names: reserve, touch, grow, deep stack. */
#include "faults.h"
#include <sys/mman.h>
#include <sys/resource.h>

#define RW (PROT_READ | PROT_WRITE)
#define LAZY (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

static int deep(int n)
{
    volatile char frame[4000];
    frame[0] = (char)n;
    return n == 0 ? 0 : deep(n - 1) + (frame[0] == (char)n);
}

int main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "";
    catch_faults();
    if (strcmp(way, "reserve") == 0) {
        long tera = 1L << 40;
        volatile char *p = mmap(NULL, tera, PROT_NONE, LAZY, -1, 0);
        TRUTH(p != MAP_FAILED);
        FAULT(p, (void)p[tera / 2]);
        SHOW(mprotect((void *)(p + tera / 2), 1 << 20, RW));
        p[tera / 2 + 5] = 7;
        SHOW(p[tera / 2 + 5] + p[tera / 2 + 6]);
        FAULT(p + tera / 2, p[tera / 2 - 1] = 1);
        FAULT(p + tera / 2, p[tera / 2 + (1 << 20)] = 1);
        SHOW(munmap((void *)p, tera));
        FAULT(p, (void)p[tera / 2]);
        for (int i = 0; i < 8; i++)
            TRUTH(mmap(NULL, 4 * tera, PROT_NONE, LAZY, -1, 0) != MAP_FAILED);
        p = mmap(NULL, 64L << 30, RW, LAZY, -1, 0);
        TRUTH(p != MAP_FAILED);
        for (long i = 0; i < 64L << 30; i += 1L << 30)
            p[i] = 1;
        SHOW(p[63L << 30]);
    } else if (strcmp(way, "touch") == 0) {
        long size = atol(argv[2]) << 20, sum = 0;
        volatile char *p = mmap(NULL, size, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        TRUTH(p != MAP_FAILED);
        for (long i = 0; i < size; i += 4096)
            p[i] = (char)(i >> 12) | 1;
        for (long i = 0; i < size; i += 4096)
            sum += p[i] == ((char)(i >> 12) | 1);
        TRUTH(sum == size >> 12);
        SHOW(munmap((void *)p, size));
        /* What was given back can be had again, and is clean. */
        p = mmap(NULL, size, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        TRUTH(p != MAP_FAILED);
        sum = 0;
        for (long i = 0; i < size; i += 4096)
            sum += p[i];
        SHOW(sum);
    } else if (strcmp(way, "grow") == 0) {
        /* Piece by piece, so that no single request is beyond what the machine has. */
        for (long left = atol(argv[2]); left > 0; left -= 8) {
            volatile char *p = mmap(NULL, 8 << 20, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (p == MAP_FAILED)
                return 3;
            /* Noise, of which compression would make nothing smaller. */
            unsigned long noise = left;
            for (long i = 0; i < 8 << 20; i += 8) {
                noise ^= noise << 13, noise ^= noise >> 7, noise ^= noise << 17;
                *(volatile unsigned long *)(p + i) = noise;
            }
        }
        printf("grown\n");
    } else if (strcmp(way, "stack") == 0) {
        SHOW(deep(1500));
        struct rlimit r;
        getrlimit(RLIMIT_STACK, &r);
        r.rlim_cur = 32 << 20;
        if (setrlimit(RLIMIT_STACK, &r) == 0)
            SHOW(deep(7000));
    }
    return 0;
}
