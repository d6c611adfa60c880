/* Dies in the way its argument names. */
#include "show.h"
#include <sys/mman.h>
#include <sys/resource.h>

static void handler(int number)
{
    (void)number;
}

static int recurse(volatile char *from, int depth)
{
    volatile char here[4096];
    here[0] = (char)depth;
    return recurse(here, depth + 1) + here[0] + from[0];
}

static volatile int zero, one = 1;

int main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "";
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    printf("before %s\n", way);
    if (strncmp(way, "signal", 6) == 0)
        raise(atoi(way + 6));
    else if (strcmp(way, "abort") == 0)
        abort();
    else if (strcmp(way, "segv") == 0)
        *(volatile int *)8 = 1;
    else if (strcmp(way, "fpe") == 0)
        return one / zero;
    else if (strcmp(way, "ill") == 0)
        __asm__ volatile("ud2");
    else if (strcmp(way, "trap") == 0)
        __asm__ volatile("int3");
    else if (strcmp(way, "bus") == 0) {
        int fd = open("empty", O_RDWR | O_CREAT, 0600);
        *(volatile char *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) = 1;
    } else if (strcmp(way, "text") == 0)
        *(volatile char *)(uintptr_t)main = 1;
    else if (strcmp(way, "stack") == 0)
        return recurse("", 0);
    else if (strcmp(way, "handler-without-stack") == 0) {
        signal(SIGSEGV, handler);
        __asm__ volatile("xor %esp, %esp; push %rax");
    } else if (strcmp(way, "blocked-fault") == 0) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGSEGV);
        signal(SIGSEGV, handler);
        sigprocmask(SIG_BLOCK, &set, NULL);
        *(volatile int *)8 = 1;
    } else if (strcmp(way, "ignored-fault") == 0) {
        signal(SIGSEGV, SIG_IGN);
        *(volatile int *)8 = 1;
    } else if (strcmp(way, "bad-return") == 0)
        __asm__ volatile("mov $15, %eax; xor %esp, %esp; syscall");
    else if (strcmp(way, "exit-big") == 0)
        _exit(0x1234);
    else if (strcmp(way, "exit-negative") == 0)
        _exit(-1);
    else if (strcmp(way, "thread-exit") == 0)
        syscall(SYS_exit, 7);
    else if (strcmp(way, "file-size") == 0) {
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 10, 10 });
        int fd = open("limited", O_RDWR | O_CREAT, 0600);
        SHOW(write(fd, "0123456789abc", 13));
        SHOW(write(fd, "x", 1));
    }
    printf("after\n");
    return 0;
}
