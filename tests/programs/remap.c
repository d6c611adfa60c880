/* mremap, brk, madvise, mincore, mlock, msync. */
#include "faults.h"
#include <sys/mman.h>

#define PAGE 4096L
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

int main(void)
{
    catch_faults();
    volatile char *p = mmap(NULL, 8 * PAGE, RW, ANON, -1, 0), *q;
    for (int i = 0; i < 8; i++)
        p[i * PAGE] = (char)(i + 1);
    TRUTH(mremap((void *)p, 8 * PAGE, 4 * PAGE, 0) == p);
    FAULT(p, (void)p[4 * PAGE]);
    TRUTH(mremap((void *)p, 4 * PAGE, 4 * PAGE, 0) == p);
    q = mremap((void *)p, 4 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    TRUTH(q != MAP_FAILED);
    printf("%d %d %d %d\n", q[0], q[3 * PAGE], q[4 * PAGE], q[63 * PAGE]);
    volatile char *fixed = mmap(NULL, 16 * PAGE, RW, ANON, -1, 0);
    fixed[0] = 100;
    TRUTH(mremap((void *)q, 64 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, fixed) == fixed);
    printf("%d %d %d\n", fixed[0], fixed[3 * PAGE], fixed[8 * PAGE]);
    FAULT(q, (void)q[0]);
    DONE(mremap((void *)(fixed + 1), PAGE, PAGE, 0));
    DONE(mremap((void *)fixed, PAGE, 0, 0));
    DONE(mremap((void *)fixed, PAGE, PAGE, 0x100));
    DONE(mremap((void *)fixed, PAGE, PAGE, MREMAP_FIXED, q));
    DONE(mremap((void *)fixed, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, fixed + PAGE));
    DONE(mremap((void *)q, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
    DONE(mremap((void *)fixed, PAGE, 1L << 50, MREMAP_MAYMOVE));
    DONE(mremap((void *)fixed, 16 * PAGE, 32 * PAGE, 0) == MAP_FAILED ? 0 : 0);

    char *start = sbrk(0);
    TRUTH(sbrk(3 * PAGE) == start);
    start[0] = 1;
    start[3 * PAGE - 1] = 2;
    TRUTH(sbrk(0) == start + 3 * PAGE);
    SHOW(brk(start + PAGE));
    SHOW(brk(start + 3 * PAGE));
    SHOW(start[0]);
    SHOW(start[3 * PAGE - 1]);
    SHOW(brk(start));
    SHOW(brk((void *)0x7fff00000000));
    TRUTH(syscall(SYS_brk, 0) == (long)start);
    TRUTH(syscall(SYS_brk, 1) == (long)start);

    p = mmap(NULL, 16 * PAGE, RW, ANON, -1, 0);
    for (int i = 0; i < 16; i++)
        p[i * PAGE] = (char)(i + 1);
    SHOW(madvise((void *)(p + 2 * PAGE), 3 * PAGE, MADV_DONTNEED));
    printf("%d %d %d %d\n", p[PAGE], p[2 * PAGE], p[4 * PAGE], p[5 * PAGE]);
    p[2 * PAGE] = 9;
    SHOW(p[2 * PAGE]);
    SHOW(madvise((void *)(p + 1), PAGE, MADV_DONTNEED));
    SHOW(madvise((void *)p, PAGE, 12345));
    SHOW(madvise((void *)p, 0, MADV_DONTNEED));
    SHOW(madvise((void *)p, -PAGE, MADV_DONTNEED));
    SHOW(madvise((void *)p, PAGE, MADV_WILLNEED));
    SHOW(madvise((void *)p, PAGE, MADV_SEQUENTIAL));
    SHOW(madvise((void *)p, PAGE, MADV_NORMAL));
    SHOW(madvise((void *)p, PAGE, MADV_DONTFORK));
    SHOW(madvise((void *)p, PAGE, MADV_DOFORK));
    SHOW(madvise((void *)p, PAGE, MADV_DONTDUMP));
    SHOW(madvise((void *)p, PAGE, MADV_FREE));
    SHOW(munmap((void *)(p + 8 * PAGE), PAGE));
    SHOW(madvise((void *)(p + 7 * PAGE), 3 * PAGE, MADV_DONTNEED));
    printf("%d %d\n", p[7 * PAGE], p[9 * PAGE]);

    unsigned char there[16];
    SHOW(mincore((void *)p, 8 * PAGE, there));
    SHOW(mincore((void *)(p + 7 * PAGE), 3 * PAGE, there));
    SHOW(mincore((void *)(p + 1), PAGE, there));
    SHOW(mincore((void *)p, PAGE, (void *)1));
    p[0] = 1;
    SHOW(mincore((void *)p, PAGE, there));
    SHOW(there[0] & 1);
    SHOW(mlock((void *)p, PAGE));
    SHOW(munlock((void *)p, PAGE));
    SHOW(mlock((void *)(p + 8 * PAGE), PAGE));
    SHOW(mlock2((void *)p, PAGE, 99));
    /* What nothing may touch is locked, but cannot be made present. */
    q = mmap(NULL, PAGE, PROT_NONE, ANON, -1, 0);
    SHOW(mlock((void *)q, PAGE));
    SHOW(mlock2((void *)q, PAGE, MLOCK_ONFAULT));
    MUST(munmap((void *)q, PAGE));
    SHOW(munlockall());
    SHOW(msync((void *)p, PAGE, MS_SYNC));
    SHOW(msync((void *)(p + 8 * PAGE), PAGE, MS_SYNC));
    SHOW(msync((void *)p, PAGE, MS_SYNC | MS_ASYNC));
    SHOW(msync((void *)(p + 1), PAGE, MS_ASYNC));
    return 0;
}
