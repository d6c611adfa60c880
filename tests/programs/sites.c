/* Places that many calls are made from: whatever is done to make those cheaper, the program must not notice.
 *
 * The two usual kinds of call sites, in assembly, so that every address in them is known; each is made hot, and then looked at,
 * interrupted, jumped into, written to, moved and forked. With an argument it says how its code looks once it is hot. */
#include "show.h"
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>

/* More calls than any site needs to be hot. */
#define MANY 2000
#define PAGE 4096

long number_site(void), read_site(int fd, void *to, size_t size), moving_site(long a, long b, long c, long d);
extern char number_call[], number_back[], read_call[], read_back[], moving_back[];
asm(".text\n"
    ".p2align 6\n"
    ".globl number_site, number_call, number_back\n"
    "number_site: mov $39, %eax\n"
    "number_call: syscall\n"
    "number_back: ret\n"
    ".p2align 6\n"
    ".globl read_site, read_call, read_back\n"
    "read_site: xor %eax, %eax\n"
    "read_call: syscall\n"
    "read_back: cmp $-4096, %rax\n"
    "    ja 1f\n"
    "1:  ret\n"
    ".p2align 6\n"
    ".globl moving_site, moving_back\n"
    "moving_site: mov $17, %eax\n" /* pread64 */
    "    mov %rcx, %r10\n"
    "    syscall\n"
    "moving_back: ret\n"
    ".p2align 6\n");

static int zero;
static char byte;

static void heat(void)
{
    for (int i = 0; i < MANY; i++) {
        if (number_site() != getpid() || read_site(zero, &byte, 1) != 1 || moving_site(zero, (long)&byte, 1, 0) != 1)
            printf("call %d went wrong\n", i);
    }
}

/* The code of the sites before anything was done. */
static char original[192];

static void keep(void) { memcpy(original, (char *)number_site, sizeof original); }

static const char *same(const char *bytes) { return memcmp(bytes, original, sizeof original) == 0 ? "the same" : "other bytes"; }

/* Every register but those that a call loses, the flags, and what lies below the stack pointer. */
static void registers(void)
{
    static uint64_t before[13], after[13], flags_before, flags_after;
    for (int i = 0; i < 13; i++)
        before[i] = 0x0101010101010101 * (i + 1);
    for (int direction = 0; direction < 2; direction++) {
        flags_before = direction ? 0x602 | 0x0d5 : 0x202 | 0x800;
        asm volatile("push %%rbp\n push %%rbx\n"
                     "lea -256(%%rsp), %%rsp\n"
                     "movq $0x1234567, 24(%%rsp)\n"
                     "lea %0, %%rax\n"
                     "mov (%%rax), %%rbx\n mov 8(%%rax), %%rdx\n mov 16(%%rax), %%rsi\n mov 24(%%rax), %%rdi\n"
                     "mov 32(%%rax), %%rbp\n mov 40(%%rax), %%r8\n mov 48(%%rax), %%r9\n mov 56(%%rax), %%r10\n"
                     "mov 64(%%rax), %%r12\n mov 72(%%rax), %%r13\n mov 80(%%rax), %%r14\n mov 88(%%rax), %%r15\n"
                     "pushq %2\n popfq\n"
                     "call number_site\n"
                     "pushfq\n popq %3\n cld\n"
                     "lea %1, %%rax\n"
                     "mov %%rbx, (%%rax)\n mov %%rdx, 8(%%rax)\n mov %%rsi, 16(%%rax)\n mov %%rdi, 24(%%rax)\n"
                     "mov %%rbp, 32(%%rax)\n mov %%r8, 40(%%rax)\n mov %%r9, 48(%%rax)\n mov %%r10, 56(%%rax)\n"
                     "mov %%r12, 64(%%rax)\n mov %%r13, 72(%%rax)\n mov %%r14, 80(%%rax)\n mov %%r15, 88(%%rax)\n"
                     "mov 24(%%rsp), %%rdx\n mov %%rdx, 96(%%rax)\n"
                     "lea 256(%%rsp), %%rsp\n"
                     "pop %%rbx\n pop %%rbp\n"
                     :
                     : "m"(before), "m"(after), "m"(flags_before), "m"(flags_after)
                     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
        before[12] = 0x1234567;
        printf("registers: %s\n", memcmp(before, after, sizeof before) == 0 ? "kept" : "changed");
        printf("flags: %lx\n", flags_after & 0xcd5);
    }
}

/* Executable mappings, by which handlers judge where they were called. */
static struct { uintptr_t start, end; } code[64];
static int codes;

static void find_code(void)
{
    char line[512], rights[8];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps) && codes < 64)
        if (sscanf(line, "%lx-%lx %7s", &code[codes].start, &code[codes].end, rights) == 3 && rights[2] == 'x')
            codes++;
    fclose(maps);
}

static volatile sig_atomic_t signals, strays, leaps;
static sigjmp_buf away;

static void storm_handler(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    uintptr_t rip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    int known = 0;
    for (int i = 0; i < codes; i++)
        known |= rip >= code[i].start && rip < code[i].end;
    strays += !known;
    signals++;
    if (leaps && signals % 3 == 0)
        siglongjmp(away, 1);
}

/* Signals at random moments of hot calls. */
static void storm(int flags, int leap)
{
    struct sigaction action = { .sa_sigaction = storm_handler, .sa_flags = SA_SIGINFO | flags };
    struct itimerval often = { { 0, 150 }, { 0, 150 } }, never = { 0 };
    MUST(sigaction(SIGALRM, &action, NULL));
    signals = strays = 0;
    leaps = leap;
    volatile long wrong = 0;
    long parent = getppid();
    sigsetjmp(away, 1);
    MUST(setitimer(ITIMER_REAL, &often, NULL));
    while (signals < 200) {
        wrong += number_site() <= 0;
        wrong += read_site(zero, &byte, 1) != 1;
        wrong += syscall(SYS_getppid) != parent;
    }
    MUST(setitimer(ITIMER_REAL, &never, NULL));
    printf("storm: %ld wrong, %d strays\n", wrong, (int)strays);
}

static int ends[2];
static volatile uintptr_t met;
static volatile sig_atomic_t met_times;

static void meet(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    met = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    /* The third finds a byte to read. */
    if (++met_times == 3 && write(ends[1], "x", 1) != 1)
        _exit(98);
}

static const char *place(uintptr_t rip)
{
    return rip == (uintptr_t)read_call ? "at the call" : rip == (uintptr_t)read_back ? "behind it" : "elsewhere";
}

/* A call that blocks at a hot site, interrupted. */
static void interrupted(void)
{
    struct itimerval often = { { 0, 3000 }, { 0, 3000 } }, never = { 0 };
    MUST(pipe(ends));
    for (int restart = 0; restart < 2; restart++) {
        struct sigaction action = { .sa_sigaction = meet, .sa_flags = SA_SIGINFO | (restart ? SA_RESTART : 0) };
        MUST(sigaction(SIGALRM, &action, NULL));
        met_times = 0;
        MUST(setitimer(ITIMER_REAL, &often, NULL));
        long result;
        int tries = 0;
        do {
            result = read_site(ends[0], &byte, 1);
            tries++;
            /* A signal that comes before the call blocks leaves no trace of it. */
        } while (result == -EINTR && met_times < 3);
        MUST(setitimer(ITIMER_REAL, &never, NULL));
        if (result == -EINTR)
            result = read_site(ends[0], &byte, 1);
        printf("interrupted: %ld, %s\n", result, !restart || tries == 1 ? "as asked" : "not restarted");
    }
}

/* Where a handler finds a thread that sleeps in a call. Another thread waits until it does. */
static volatile pid_t sleeper;

static void *wake(void *restart)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", sleeper);
    for (int asleep = 0; asleep < 1;) {
        FILE *stat = fopen(path, "r");
        if (stat && fgets(text, sizeof text, stat))
            asleep += strstr(text, ") S ") != NULL;
        if (stat)
            fclose(stat);
        sched_yield();
    }
    met_times = restart ? 2 : 0;
    syscall(SYS_tgkill, getpid(), sleeper, SIGUSR1);
    return NULL;
}

static void asleep(void)
{
    for (int restart = 0; restart < 2; restart++) {
        struct sigaction action = { .sa_sigaction = meet, .sa_flags = SA_SIGINFO | (restart ? SA_RESTART : 0) };
        pthread_t waker;
        MUST(sigaction(SIGUSR1, &action, NULL));
        sleeper = syscall(SYS_gettid);
        pthread_create(&waker, NULL, wake, restart ? &waker : NULL);
        long result = read_site(ends[0], &byte, 1);
        pthread_join(waker, NULL);
        printf("asleep: %ld, found %s\n", result, place(met));
    }
}

static void send_back(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    registers[REG_RIP] = (uintptr_t)read_back;
    registers[REG_RAX] = 4321;
    /* The site's own `ret` finds where it was called. */
}

/* Jumps to the middle of sites. */
static void jumps(void)
{
    long result;
    asm volatile("mov $-77, %%rax\n call read_back" : "=a"(result) : : "rcx", "r11", "memory", "cc");
    printf("behind the call: %ld\n", result);
    asm volatile("mov %1, %%rax\n call number_call" : "=a"(result) : "i"(SYS_getppid) : "rcx", "r11", "memory", "cc");
    printf("at the call, another number: %s\n", result == getppid() ? "made" : "not made");
    struct sigaction action = { .sa_sigaction = send_back, .sa_flags = SA_SIGINFO };
    MUST(sigaction(SIGILL, &action, NULL));
    asm volatile("call 1f\n jmp 2f\n 1: ud2\n 2:" : "=a"(result) : : "rcx", "r11", "memory", "cc");
    printf("by a handler: %ld\n", result);
}

static void check_calls(const char *when)
{
    int good = number_site() == getpid() && read_site(zero, &byte, 1) == 1 && moving_site(zero, (long)&byte, 1, 0) == 1;
    printf("%s: calls %s\n", when, good ? "work" : "fail");
}

static void readers(void)
{
    char bytes[sizeof original];
    int memory = MUST(open("/proc/self/mem", O_RDWR));
    MUST(pread(memory, bytes, sizeof bytes, (uintptr_t)number_site));
    printf("/proc/self/mem: %s\n", same(bytes));
    struct iovec to = { bytes, sizeof bytes }, from = { (void *)number_site, sizeof bytes };
    memset(bytes, 0, sizeof bytes);
    MUST(process_vm_readv(getpid(), &to, 1, &from, 1, 0));
    printf("process_vm_readv: %s\n", same(bytes));
    /* The file. */
    FILE *file = fopen("/proc/self/exe", "r");
    static char whole[8 << 20];
    size_t size = fread(whole, 1, sizeof whole, file);
    fclose(file);
    printf("the file: %s\n", memmem(whole, size, original, sizeof original) ? "the same" : "other bytes");
    /* Another number in the `mov`. */
    char number = SYS_getppid;
    MUST(pwrite(memory, &number, 1, (uintptr_t)number_site + 1));
    printf("written: %s\n", number_site() == getppid() ? "another call" : "the same call");
    MUST(pwrite(memory, original, sizeof original, (uintptr_t)number_site));
    close(memory);
    check_calls("written back");
}

static void forks(void)
{
    heat();
    pid_t child = MUST(fork());
    if (child == 0) {
        check_calls("child");
        char *start = (char *)((uintptr_t)number_site & -PAGE);
        MUST(mprotect(start, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
        printf("child, writable: %s\n", same((char *)number_site));
        ((char *)number_site)[1] = SYS_getppid;
        printf("child, written: %s\n", number_site() == getppid() ? "another call" : "the same call");
        _exit(0);
    }
    waitpid(child, NULL, 0);
    check_calls("parent");
    /* A child that starts behind a hot call. */
    for (int i = 0; i < MANY; i++)
        syscall(SYS_getppid);
    fflush(stdout);
    child = syscall(SYS_fork);
    if (child == 0)
        _exit(syscall(SYS_getppid) > 0 ? 7 : 8);
    int status;
    waitpid(child, &status, 0);
    printf("child by number: %d\n", WEXITSTATUS(status));
}

typedef long (*function)(void);

static size_t site_size(void) { return (size_t)(number_back - (char *)number_site) + 1; }

static function generate(char *page, char number)
{
    memset(page, 0x90, 64);
    memcpy(page + 64, (char *)original, site_size());
    page[65] = number;
    return (function)(page + 64);
}

static void call_often(const char *what, function site, long wanted)
{
    long wrong = 0;
    for (int i = 0; i < 300; i++)
        wrong += site() != wanted;
    printf("%s: %ld wrong\n", what, wrong);
}

/* Code that a program makes itself, and makes again. */
static void generated(void)
{
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int round = 0; round < 4; round++) {
        char number = round % 2 ? SYS_getppid : SYS_getpid;
        MUST(mprotect(page, PAGE, PROT_READ | PROT_WRITE));
        if (round)
            printf("before: %d %d\n", (unsigned char)page[64], page[65]);
        function site = generate(page, number);
        MUST(mprotect(page, PAGE, PROT_READ | PROT_EXEC));
        call_often("generated", site, round % 2 ? getppid() : getpid());
    }
    /* Moved while it is hot. */
    char *there = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    there = mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, there);
    call_often("moved", (function)(there + 64), getppid());
    /* Other code where it was. */
    char *other = mmap(there, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    function site = generate(other, SYS_getpid);
    MUST(mprotect(other, PAGE, PROT_READ | PROT_EXEC));
    call_often("replaced", site, getpid());
    /* Never anything but writable. */
    MUST(mprotect(other, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
    call_often("writable", site, getpid());
    other[65] = SYS_getppid;
    call_often("rewritten", site, getppid());
    /* Something else where a jump leads. */
    if (*(unsigned char *)number_site == 0xe9) {
        int32_t distance;
        memcpy(&distance, (char *)number_site + 1, 4);
        char *target = (char *)(((uintptr_t)number_site + 5 + distance) & -PAGE);
        char *got = mmap(target, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (got != target || got[0] || got[PAGE - 1])
            printf("no fresh memory there\n");
    }
    check_calls("mapped over");
}

static function shared_site;
static pthread_barrier_t barrier;

static void *use_site(void *unused)
{
    (void)unused;
    long wrong = 0, pid = getpid();
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 150; i++)
        wrong += shared_site() != pid;
    return (void *)wrong;
}

/* Threads that use a site while it becomes hot. */
static void threads(void)
{
    long wrong = 0;
    for (int round = 0; round < 20; round++) {
        char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        shared_site = generate(page, SYS_getpid);
        MUST(mprotect(page, PAGE, PROT_READ | PROT_EXEC));
        pthread_t users[3];
        pthread_barrier_init(&barrier, NULL, 3);
        for (int i = 0; i < 3; i++)
            pthread_create(&users[i], NULL, use_site, NULL);
        for (int i = 0; i < 3; i++) {
            void *result;
            pthread_join(users[i], &result);
            wrong += (long)result;
        }
        munmap(page, PAGE);
    }
    printf("threads: %ld wrong\n", wrong);
}

static void *read_for_ever(void *unused)
{
    (void)unused;
    for (;;)
        if (read(zero, &byte, 1) != 1)
            return NULL;
}

static void *read_nothing(void *unused)
{
    (void)unused;
    return (void *)(long)read(ends[0], &byte, 1);
}

/* A thread that is cancelled in a call: the C library compares instruction pointers. */
static void cancelled(void)
{
    void *(*ways[])(void *) = { read_for_ever, read_nothing };
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        void *result;
        pthread_create(&thread, NULL, ways[i], NULL);
        pthread_cancel(thread);
        pthread_join(thread, &result);
        printf("cancelled: %s\n", result == PTHREAD_CANCELED ? "yes" : "no");
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "again") == 0) {
        keep();
        zero = MUST(open("/dev/zero", O_RDONLY));
        heat();
        check_calls("after exec");
        return 0;
    }
    keep();
    zero = MUST(open("/dev/zero", O_RDONLY));
    heat();
    if (argc > 1) {
        printf("%s\n", same((char *)number_site));
        return 0;
    }
    find_code();
    registers();
    storm(0, 0);
    storm(SA_RESTART, 0);
    storm(SA_RESTART, 1);
    interrupted();
    asleep();
    jumps();
    readers();
    forks();
    generated();
    threads();
    cancelled();
    fflush(stdout);
    execl("/proc/self/exe", argv[0], "again", (char *)NULL);
    return 1;
}
