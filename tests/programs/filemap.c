/* Files in memory: private and shared mappings, their ends, truncation. Works in the current folder. */
#include "faults.h"
#include <sys/mman.h>

#define PAGE 4096L
#define RW (PROT_READ | PROT_WRITE)

int main(void)
{
    static char bytes[3 * PAGE + 100];
    catch_faults();
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i / 100);
    int fd = MUST(open("f", O_RDWR | O_CREAT, 0600));
    MUST(write(fd, bytes, sizeof bytes));

    volatile char *p = mmap(NULL, 5 * PAGE, RW, MAP_PRIVATE, fd, 0);
    TRUTH(p != MAP_FAILED);
    TRUTH(memcmp((char *)p, bytes, sizeof bytes) == 0);
    SHOW(p[sizeof bytes]);
    SHOW(p[4 * PAGE - 1]);
    FAULT(p, (void)p[4 * PAGE]);
    FAULT(p, p[4 * PAGE + 5] = 1);
    p[0] = 'P';
    char c;
    SHOW(pread(fd, &c, 1, 0));
    SHOW(c);

    volatile char *s = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0);
    TRUTH(s != MAP_FAILED);
    volatile char *t = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, PAGE);
    s[PAGE + 1] = 'S';
    SHOW(t[1]);
    SHOW(pread(fd, &c, 1, PAGE + 1));
    SHOW(c);
    SHOW(pwrite(fd, "W", 1, PAGE + 2));
    SHOW(t[2]);
    SHOW(p[0]);
    SHOW(msync((void *)s, 4 * PAGE, MS_SYNC));
    FAULT(t, t[0] = 1);
    /* Bytes behind the end are never written to the file. */
    s[sizeof bytes + 1] = 'x';
    SHOW(lseek(fd, 0, SEEK_END));

    /* A shorter file takes its pages along, a longer one brings zeroes. */
    SHOW(ftruncate(fd, PAGE + 10));
    SHOW(s[PAGE + 1]);
    SHOW(s[PAGE + 20]);
    FAULT(s, (void)s[2 * PAGE]);
    FAULT(s, s[3 * PAGE] = 1);
    SHOW(ftruncate(fd, 4 * PAGE));
    SHOW(s[2 * PAGE]);
    s[2 * PAGE] = 'z';
    SHOW(pread(fd, &c, 1, 2 * PAGE));
    SHOW(c);

    /* The mapping outlives the descriptor and the name. */
    SHOW(unlink("f"));
    SHOW(close(fd));
    SHOW(s[2 * PAGE]);
    s[0] = 'q';
    SHOW(s[0]);

    fd = MUST(open("g", O_RDONLY | O_CREAT, 0600));
    DONE(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0));
    DONE(mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0));
    DONE(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0));
    DONE(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 100));
    s = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    DONE(mprotect((void *)s, PAGE, RW));
    FAULT(s, (void)s[0]);
    SHOW(close(fd));
    fd = MUST(open("g", O_WRONLY));
    DONE(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
    SHOW(close(fd));
    SHOW(unlink("g"));
    fd = MUST(open(".", O_RDONLY));
    DONE(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0));

    /* Anonymous shared memory and in-memory files. */
    s = mmap(NULL, 2 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    s[PAGE] = 'a';
    SHOW(s[0] + s[PAGE]);
    fd = MUST(memfd_create("memory", MFD_CLOEXEC));
    SHOW(ftruncate(fd, 2 * PAGE));
    s = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, fd, 0);
    s[10] = 'm';
    SHOW(pread(fd, &c, 1, 10));
    SHOW(c);
    SHOW(pwrite(fd, "n", 1, PAGE));
    SHOW(s[PAGE]);
    SHOW(ftruncate(fd, 0));
    FAULT(s, (void)s[0]);

    /* What a truncation takes away is gone from private copies, too; what is left of the last page stays. */
    fd = MUST(open("t", O_RDWR | O_CREAT, 0600));
    MUST(write(fd, bytes, 3 * PAGE));
    s = mmap(NULL, 3 * PAGE, RW, MAP_PRIVATE, fd, 0);
    s[0] = 'a', s[PAGE + 5] = 'b', s[2 * PAGE] = 'c';
    SHOW(ftruncate(fd, PAGE + 10));
    SHOW(s[0]);
    SHOW(s[PAGE + 5]);
    FAULT(s + 2 * PAGE, (void)s[2 * PAGE]);
    SHOW(truncate("t", 0));
    FAULT(s, (void)s[0]);
    SHOW(ftruncate(fd, 3 * PAGE));
    SHOW(s[0]);
    SHOW(s[2 * PAGE]);
    SHOW(unlink("t"));
    return 0;
}
