/* Attacks on what the sandbox puts into a program's reach: the page that calls go through, the vDSO, code that is rewritten
 * while it runs, and addresses in the supervisor half. The first argument says what. */
#include "hostile.h"
#include <elf.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <time.h>

#define PAGE 4096L

/* Where Picovisor's supervisor pages lie (guest/src/layout.rs); elsewhere these are addresses like any others. */
#define SUPERVISOR 0xffffffff9d5c3000
#define SUPERVISOR_PAGES 12
#define FAST_PAGE (SUPERVISOR + 3 * PAGE)
#define CALL_PAGE (SUPERVISOR + 9 * PAGE)

static volatile int stop;

static void catch_and_end(int number)
{
    _exit(100 + number);
}

static void catch(void)
{
    int numbers[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS };
    static char alternate[1 << 16];
    MUST(sigaltstack(&(stack_t){ .ss_sp = alternate, .ss_size = sizeof alternate }, NULL));
    for (int i = 0; i < 6; i++)
        MUST(sigaction(numbers[i], &(struct sigaction){ .sa_handler = catch_and_end, .sa_flags = SA_ONSTACK }, NULL));
}

/* Whether this address can be written, by an attempt. */
static int can_write(uint64_t address)
{
    return ATTEMPT(catch(); *(volatile char *)address = *(volatile char *)address) == 0;
}

/* Linux has nothing there that a program could touch; here a program may only touch what is its own thread's. */
static void supervisor(void)
{
    for (int page = 0; page < SUPERVISOR_PAGES; page++) {
        uint64_t address = SUPERVISOR + page * PAGE;
        if (address == CALL_PAGE)
            continue;
        printf("page %d: written %s, ", page, can_write(address) ? "yes" : "no");
        printf("at its end %s, ", can_write(address + PAGE - 1) ? "yes" : "no");
        char name[40];
        snprintf(name, sizeof name, "by the kernel");
        int null = MUST(open("/dev/zero", O_RDONLY));
        SHOW(read(null, (void *)address, 1));
        close(null);
        SHOW(mprotect((void *)address, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
        SHOW(munmap((void *)address, PAGE));
        SHOW(mmap((void *)address, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    }
    /* One address in each of the 256 upper top-level slots, and beside the borders. */
    int readable = 0;
    for (int slot = 256; slot < 512; slot++)
        readable += ATTEMPT(catch(); (void)*(volatile char *)(0xffff000000000000 | (uint64_t)slot << 39)) == 0;
    SHOW(readable);
}

/* Everything a thread says to its sandbox is noise, while it makes calls, and others do. */
static void *scramble(void *seed)
{
    uint64_t state = (uint64_t)seed, *page = (uint64_t *)CALL_PAGE;
    for (int round = 0; round < 3000 && !stop; round++) {
        for (int i = 0; i < 24; i++) {
            uint64_t value = next_number(&state);
            /* States, small numbers, pointers and noise. */
            page[value % 32] = value >> 60 < 8 ? (value >> 32) % 8 : value >> 60 < 12 ? value % (1UL << 47) : value;
        }
        syscall(next_number(&state) % 3 ? SYS_getppid : SYS_sched_yield);
    }
    return NULL;
}

static void *ordinary(void *unused)
{
    (void)unused;
    long wrong = 0, parent = getppid();
    for (int i = 0; i < 3000; i++)
        wrong += syscall(SYS_getppid) != parent;
    return (void *)wrong;
}

/* Posts that nobody made: every state, with each number and hostile arguments, over and over. */
static void forge(uint64_t seed)
{
    uint32_t *state = (uint32_t *)CALL_PAGE;
    uint64_t *words = (uint64_t *)CALL_PAGE;
    for (int round = 0; round < 4000; round++) {
        /* Calls that end nothing: reads and writes of descriptors that are closed, and numbers that there are not. */
        static const int numbers[] = { SYS_read, SYS_write, SYS_futex, SYS_getppid, SYS_clock_gettime, SYS_rt_sigprocmask, 479, 480, 100000, -1 };
        words[1] = numbers[next_number(&seed) % 10];
        words[2] = 1000;
        for (int i = 3; i < 8; i++)
            words[i] = next_number(&seed) % 2 ? next_number(&seed) : 0xffff800000000000 >> next_number(&seed) % 64;
        *(volatile uint32_t *)state = next_number(&seed) % 7;
        if (round % 16 == 0)
            syscall(SYS_getppid);
    }
    *(volatile uint32_t *)state = 0;
}

/* Into the middle of the fast path, everywhere, with registers of the program's choice. */
static void enter(uint64_t address, uint64_t a, uint64_t b)
{
    __asm__ volatile("mov %1, %%rcx; mov %2, %%r11; mov %1, %%rdi; mov %2, %%rsi; mov $39, %%eax; jmp *%0"
                     : : "r"(address), "r"(a), "r"(b) : "rcx", "r11", "rdi", "rsi", "rax", "memory");
}

/* An attempt that goes round in a circle ends like this. */
static void soon(void)
{
    MUST(setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 0 }, { 0, 300000 } }, NULL));
}

static void landed(void)
{
    _exit(77);
}

/* Of these ends only that they are there is told. */
static void fast_path(void)
{
    SURVIVE("a page of noise", ({
        hurry(60);
        catch();
        pthread_t others[2];
        pthread_create(&others[0], NULL, ordinary, NULL);
        pthread_create(&others[1], NULL, scramble, (void *)88172645463325252);
        scramble((void *)0x9e3779b97f4a7c15);
        stop = 1;
        for (int i = 0; i < 2; i++)
            pthread_join(others[i], NULL); }));
    SURVIVE("forged posts", hurry(60), catch(), forge(0x2545f4914f6cdd1d));
    /* The neighbours, in this process and in others, have noticed nothing. */
    SHOW((long)ordinary(NULL));
    uint64_t places[] = { (uint64_t)landed, 0, 0x800000000000, 0xffff7fffffffffff, 16, CALL_PAGE, SUPERVISOR + PAGE, 0xffffffffffffffff };
    for (uint64_t page = 0; page < 4; page++)
        for (uint64_t offset = 0; offset < 0x400; offset += page == 3 ? 3 : 16) {
            uint64_t to = places[(offset / 3 + page) % 8];
            (void)ATTEMPT(close(2), soon(), catch(), enter(SUPERVISOR + page * PAGE + offset, to, offset % 2 ? ~0UL : 0x202));
        }
    printf("jumps: over\n");
    SHOW((long)ordinary(NULL));
}

static char *vdso, *vvar;
static size_t vdso_size;

static void find_vdso(void)
{
    char line[512];
    uintptr_t start, end;
    vdso = (char *)getauxval(AT_SYSINFO_EHDR);
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx", &start, &end) != 2)
            continue;
        if (strstr(line, "[vdso]"))
            vdso_size = end - start;
        if (strstr(line, "[vvar]"))
            vvar = (char *)start;
    }
    fclose(maps);
}

static int clock_works(void)
{
    struct timespec now, again;
    return !clock_gettime(CLOCK_MONOTONIC, &now) && !syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &again) && again.tv_sec - now.tv_sec < 60;
}

/* The vDSO is written over, moved, and taken away: that is this process's loss alone. */
static void own_vdso(char **args)
{
    find_vdso();
    TRUTH(vdso && vdso_size && vvar);
    OUTCOME("a write into the vDSO", *(volatile char *)vdso = 1);
    OUTCOME("a write into its data", *(volatile char *)vvar = 1);
    OUTCOME("made writable, and written over", ({
        catch();
        if (mprotect(vdso, vdso_size, PROT_READ | PROT_WRITE | PROT_EXEC))
            _exit(1);
        memset(vdso, 0xcc, vdso_size);
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now); }));
    OUTCOME("data made writable", ({ _exit(mprotect(vvar, PAGE, PROT_READ | PROT_WRITE) ? errno : 0); }));
    OUTCOME("data shared and written by the kernel", ({ _exit(read(MUST(open("/dev/zero", O_RDONLY)), vvar, 8) == -1 ? errno : 0); }));
    OUTCOME("unmapped", ({
        catch();
        munmap(vdso, vdso_size);
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now); }));
    OUTCOME("unmapped, and a signal", ({
        munmap(vdso, vdso_size);
        signal(SIGUSR1, catch_and_end);
        raise(SIGUSR1); }));
    OUTCOME("the parent's", _exit(!clock_works()));
    OUTCOME("written over, then another program", ({
        mprotect(vdso, vdso_size, PROT_READ | PROT_WRITE | PROT_EXEC);
        memset(vdso, 0xcc, vdso_size);
        execl("/proc/self/exe", args[0], "clock", NULL); }));
    OUTCOME("through its own memory file", ({
        int memory = MUST(open("/proc/self/mem", O_RDWR));
        char bytes[16] = { 0 };
        long written = pwrite(memory, bytes, sizeof bytes, (off_t)vvar);
        _exit(written == -1 ? errno : 0); }));
}

typedef long (*function)(void);

/* A call site, writable or not by turns, whose number another thread changes while it is used. */
static unsigned char *site;

static void *change(void *unused)
{
    (void)unused;
    for (int i = 0; !stop; i++)
        ((volatile unsigned char *)site)[1] = i % 2 ? SYS_getppid : SYS_getpid;
    return NULL;
}

static void make_site(unsigned char *at)
{
    static const unsigned char bytes[] = { 0xb8, SYS_getpid, 0, 0, 0, 0x0f, 0x05, 0xc3 };
    memcpy(at, bytes, sizeof bytes);
}

static void rewriting(void)
{
    site = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    make_site(site);
    pthread_t writer;
    long wrong = 0, pid = getpid(), parent = getppid();
    pthread_create(&writer, NULL, change, NULL);
    for (int i = 0; i < 20000; i++) {
        long got = ((function)site)();
        wrong += got != pid && got != parent;
    }
    stop = 1;
    pthread_join(writer, NULL);
    printf("a number that changes: %ld wrong\n", wrong);
    /* The same code by two mappings, one to write and one to execute, as a compiler at run time has it. */
    int file = MUST(syscall(SYS_memfd_create, "code", 0));
    MUST(ftruncate(file, PAGE));
    unsigned char *writable = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    unsigned char *executable = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    wrong = 0;
    for (int i = 0; i < 600; i++) {
        make_site(writable);
        writable[1] = i / 300 ? SYS_getppid : SYS_getpid;
        wrong += ((function)executable)() != (i / 300 ? parent : pid);
    }
    TRUTH(memcmp(writable, executable, PAGE) == 0);
    printf("two mappings: %ld wrong\n", wrong);
    /* Made hot, then mapped elsewhere, over itself, and by remap_file_pages. */
    for (int i = 0; i < 300; i++)
        wrong += ((function)executable)() != parent;
    unsigned char *second = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    wrong += ((function)second)() != parent;
    writable[1] = SYS_getpid;
    wrong += ((function)second)() != pid;
    wrong += ((function)executable)() != pid;
    TRUTH(memcmp(writable, second, PAGE) == 0);
    printf("a third mapping: %ld wrong\n", wrong);
    /* Written by the kernel: a read from a file into code that is hot. */
    for (int i = 0; i < 300; i++)
        wrong += ((function)site)() != pid && ((function)site)() != parent;
    unsigned char other[8];
    make_site(other);
    other[1] = SYS_getppid;
    int store = MUST(syscall(SYS_memfd_create, "store", 0));
    MUST(pwrite(store, other, sizeof other, 0));
    MUST(pread(store, site, sizeof other, 0));
    wrong += ((function)site)() != parent;
    printf("by the kernel: %ld wrong\n", wrong);
    /* A call at the very end of a page, with the next one missing, and across two pages. */
    unsigned char *two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int back = 1; back < 12; back++) {
        memset(two, 0x90, 2 * PAGE);
        make_site(two + PAGE - back);
        MUST(mprotect(two, 2 * PAGE, PROT_READ | PROT_EXEC));
        for (int i = 0; i < 300; i++)
            wrong += ((function)(two + PAGE - back))() != pid;
        MUST(mprotect(two, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
    }
    printf("at the end of a page: %ld wrong\n", wrong);
    make_site(two + PAGE - 7);
    MUST(munmap(two + PAGE, PAGE));
    OUTCOME("no page behind a call", catch(), ({ for (int i = 0; i < 300; i++) ((function)(two + PAGE - 7))(); }));
}

int main(int count, char **args)
{
    const char *what = count > 1 ? args[1] : "";
    if (!strcmp(what, "supervisor"))
        supervisor();
    else if (!strcmp(what, "fast-path"))
        fast_path();
    else if (!strcmp(what, "vdso"))
        own_vdso(args);
    else if (!strcmp(what, "clock"))
        return clock_works() ? 55 : 1;
    else if (!strcmp(what, "rewriting"))
        rewriting();
    else
        return 2;
    return 0;
}
