/* mmap, munmap, mprotect: placement, splitting, permissions, errors. */
#include "faults.h"
#include <sys/mman.h>

#define PAGE 4096L
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

int main(void)
{
    catch_faults();
    volatile char *p = mmap(NULL, 16 * PAGE, RW, ANON, -1, 0);
    TRUTH(p != MAP_FAILED && ((uintptr_t)p & (PAGE - 1)) == 0);
    int zero = 1;
    for (long i = 0; i < 16 * PAGE; i++)
        zero &= p[i] == 0;
    TRUTH(zero);
    for (long i = 0; i < 16 * PAGE; i += PAGE)
        p[i] = (char)(i / PAGE + 1);

    DONE(mmap(NULL, 0, RW, ANON, -1, 0));
    DONE(mmap(NULL, PAGE, RW, 0, -1, 0));
    DONE(mmap(NULL, PAGE, RW, MAP_PRIVATE, -1, 0));
    DONE(mmap(NULL, PAGE, RW, MAP_PRIVATE, 999, 0));
    DONE(mmap(NULL, -PAGE, RW, ANON, -1, 0));
    DONE(mmap((void *)123, PAGE, RW, ANON | MAP_FIXED, -1, 0));
    DONE(mmap((void *)0x7ffffffff000, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0));
    DONE(mmap((void *)0xffff800000000000, PAGE, RW, ANON | MAP_FIXED, -1, 0));
    TRUTH(mmap((void *)0xffff800000000000, PAGE, RW, ANON, -1, 0) != MAP_FAILED);
    DONE(mmap((void *)(p + PAGE), PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0));
    TRUTH(((uintptr_t)mmap(NULL, PAGE, RW, ANON | MAP_32BIT, -1, 0) >> 32) == 0);
    DONE(munmap((void *)(p + 1), PAGE));
    DONE(munmap((void *)p, 0));
    DONE(mprotect((void *)(p + 1), PAGE, PROT_READ));
    DONE(mprotect((void *)p, 0, PROT_READ));
    DONE(mprotect((void *)p, PAGE, 0x1000));
    DONE(mprotect((void *)8192, PAGE, PROT_READ));

    /* Holes and read-only pages in the middle. */
    SHOW(munmap((void *)(p + 4 * PAGE), 2 * PAGE));
    FAULT(p, (void)p[4 * PAGE]);
    FAULT(p, p[5 * PAGE + 7] = 1);
    SHOW(p[3 * PAGE]);
    SHOW(p[6 * PAGE]);
    SHOW(munmap((void *)(p + 4 * PAGE), 2 * PAGE));
    SHOW(mprotect((void *)(p + 3 * PAGE), 3 * PAGE, PROT_READ));
    SHOW(mprotect((void *)(p + 8 * PAGE), 2 * PAGE, PROT_READ));
    SHOW(p[8 * PAGE]);
    FAULT(p, p[8 * PAGE] = 1);
    FAULT(p, p[9 * PAGE + 100] = 1);
    p[10 * PAGE] = 77;
    SHOW(mprotect((void *)(p + 8 * PAGE), PAGE, RW));
    p[8 * PAGE] = 99;
    SHOW(p[8 * PAGE]);
    SHOW(mprotect((void *)(p + 10 * PAGE), PAGE, PROT_NONE));
    FAULT(p, (void)p[10 * PAGE]);
    FAULT(p, p[10 * PAGE] = 1);
    SHOW(mprotect((void *)(p + 10 * PAGE), PAGE, PROT_READ));
    SHOW(p[10 * PAGE]);
    SHOW(mprotect((void *)(p + 11 * PAGE), PAGE, PROT_WRITE));
    p[11 * PAGE] = 5;
    SHOW(p[11 * PAGE]);

    /* A new mapping over an old one shows zeroes, not the old bytes. */
    TRUTH(mmap((void *)(p + 12 * PAGE), 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0) == p + 12 * PAGE);
    SHOW(p[12 * PAGE]);
    SHOW(p[14 * PAGE]);

    /* Code runs only where it may. */
    unsigned char *code = mmap(NULL, PAGE, RW, ANON, -1, 0);
    memcpy(code, "\xb8\x2a\x00\x00\x00\xc3", 6); /* mov $42, %eax; ret */
    FAULT(code, ((int (*)(void))code)());
    SHOW(mprotect(code, PAGE, PROT_READ | PROT_EXEC));
    SHOW(((int (*)(void))code)());
    FAULT(code, code[1] = 43);
    SHOW(mprotect(code, PAGE, RW | PROT_EXEC));
    code[1] = 43;
    SHOW(((int (*)(void))code)());
    SHOW(mprotect(code, PAGE, RW));
    FAULT(code, ((int (*)(void))code)());

    /* System calls see the same permissions. */
    int fd = MUST(open("/dev/zero", O_RDONLY));
    SHOW(mprotect((void *)p, PAGE, PROT_READ));
    SHOW(read(fd, (void *)p, 10));
    SHOW(read(fd, (void *)(p + PAGE), 10));
    SHOW(read(fd, (void *)(p + 4 * PAGE), 10));
    FAULT(0, *(volatile char *)0 = 1);
    FAULT(0, (void)*(volatile char *)0x1000);
    FAULT(0, (void)*(volatile char *)0x8000000000000000);
    FAULT(0, (void)*(volatile char *)-1);

    /* Two mebibytes and more: large pages must behave as small ones do. */
    long big = 8 << 20;
    p = mmap(NULL, big, RW, ANON, -1, 0);
    for (long i = 0; i < big; i += PAGE)
        p[i] = (char)(i >> 12);
    SHOW(mprotect((void *)(p + (3 << 20)), PAGE, PROT_READ));
    FAULT(p, p[3 << 20] = 1);
    p[(3 << 20) + PAGE] = 9;
    SHOW(munmap((void *)(p + (5 << 20)), 3 * PAGE));
    FAULT(p, (void)p[(5 << 20) + PAGE]);
    long wrong = 0;
    for (long i = 0; i < big; i += PAGE)
        if (i != (3 << 20) + PAGE && (i < (5 << 20) || i >= (5 << 20) + 3 * PAGE))
            wrong += p[i] != (char)(i >> 12);
    SHOW(wrong);
    SHOW(munmap((void *)p, big));
    FAULT(p, (void)p[0]);
    return 0;
}
