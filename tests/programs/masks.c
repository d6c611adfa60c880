/* The mask of blocked signals: what rt_sigprocmask(2) returns and stores, also for addresses that are none; and that no
 * signal is lost or early, whoever changes the mask at what speed. */
#include "show.h"
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* Calls after which a site has long been found to be hot. */
#define ROUNDS 20000
/* Signals that must arrive. */
#define SIGNALS 100

static long change(int how, const void *set, void *old, size_t size)
{
    return syscall(SYS_rt_sigprocmask, how, set, old, size);
}

static uint64_t bit(int signal)
{
    return 1ull << (signal - 1);
}

static uint64_t mask(void)
{
    uint64_t now = ~0ull;
    MUST(change(SIG_BLOCK, NULL, &now, 8));
    return now;
}

static void set_mask(uint64_t wanted)
{
    MUST(change(SIG_SETMASK, &wanted, NULL, 8));
}

static void results(void)
{
    uint64_t *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(mprotect(page + 512, 4096, PROT_NONE));
    uint64_t *readable = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int round = 0; round < 3; round++) {
        uint64_t set = bit(SIGUSR1) | bit(SIGKILL) | bit(SIGSTOP) | bit(64), old = 7;
        SHOW(change(SIG_SETMASK, &set, &old, 8));
        printf("was %llx, is %llx\n", (unsigned long long)old, (unsigned long long)mask());
        set = bit(SIGUSR2);
        SHOW(change(SIG_BLOCK, &set, &set, 8));
        printf("was %llx, is %llx\n", (unsigned long long)set, (unsigned long long)mask());
        set = bit(SIGUSR1);
        SHOW(change(SIG_UNBLOCK, &set, NULL, 8));
        printf("is %llx\n", (unsigned long long)mask());
        SHOW(change(77, NULL, &old, 8));
        SHOW(change(77, &set, &old, 8));
        SHOW(change(SIG_BLOCK, &set, &old, 4));
        SHOW(change(SIG_BLOCK, page + 512, &old, 8));
        SHOW(change(SIG_BLOCK, (char *)(page + 511) + 4, &old, 8));
        SHOW(change(SIG_BLOCK, (void *)0xffffffff9d5c3000, &old, 8));
        SHOW(change(SIG_BLOCK, (void *)0xffffffff9d5cb000, &old, 8));
        SHOW(change(SIG_BLOCK, (void *)0x8000000000000000, &old, 8));
        printf("is %llx\n", (unsigned long long)mask());
        /* The mask changes although what it was cannot be stored. */
        SHOW(change(SIG_BLOCK, &set, readable, 8));
        printf("is %llx\n", (unsigned long long)mask());
        SHOW(change(SIG_SETMASK, readable, page + 512, 8));
        printf("is %llx\n", (unsigned long long)mask());
        SHOW(change(SIG_BLOCK, NULL, (void *)0xffffffff9d5cc000, 8));
        /* Across two pages that are both there, and one that nobody has touched. */
        MUST(mprotect(page + 512, 4096, PROT_READ | PROT_WRITE));
        SHOW(change(SIG_BLOCK, &set, (char *)(page + 511) + 4, 8));
        SHOW(change(SIG_BLOCK, (char *)(page + 511) + 4, NULL, 8));
        MUST(madvise(page, 8192, MADV_DONTNEED));
        SHOW(change(SIG_SETMASK, page, page + 512, 8));
        printf("was %llx, is %llx\n", (unsigned long long)page[512], (unsigned long long)mask());
        MUST(mprotect(page + 512, 4096, PROT_NONE));
        for (int warm = 0; warm < ROUNDS; warm++)
            set_mask(0);
    }
    munmap(page, 8192);
    munmap(readable, 4096);
}

static volatile sig_atomic_t inside, handled, early, last, disorder;

static void handle(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    if (inside)
        early++;
    if (info->si_value.sival_int != last + 1)
        disorder++;
    last = info->si_value.sival_int;
    handled++;
}

static void install(int signal)
{
    struct sigaction action = { .sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_RESTART };
    MUST(sigaction(signal, &action, NULL));
    handled = early = last = disorder = 0;
}

/* Sends SIGNALS signals with numbers to a process; with a full queue, again. */
static void send_all(pid_t to, int signal)
{
    for (int number = 1; number <= SIGNALS; number++)
        while (sigqueue(to, signal, (union sigval){ .sival_int = number }))
            sched_yield();
}

static void from_outside(void)
{
    int signal = SIGRTMIN + 1;
    install(signal);
    pid_t self = getpid(), child = fork();
    if (child == 0) {
        send_all(self, signal);
        _exit(0);
    }
    uint64_t set = bit(signal), old;
    int wrong = 0;
    while (handled < SIGNALS) {
        change(SIG_BLOCK, &set, &old, 8);
        inside = 1;
        wrong += old != 0;
        inside = 0;
        change(SIG_SETMASK, &old, &old, 8);
        wrong += old != bit(signal);
    }
    waitpid(child, NULL, 0);
    printf("from outside: %d handled, %d early, %d out of order, %d wrong masks\n", handled, early, disorder, wrong);
}

/* A signal that came while it was blocked has run its handler when the call returns that unblocks it. */
static void at_once(void)
{
    int signal = SIGRTMIN + 2, late = 0;
    install(signal);
    uint64_t set = bit(signal);
    for (int round = 1; round <= 1000; round++) {
        change(SIG_BLOCK, &set, NULL, 8);
        sigqueue(getpid(), signal, (union sigval){ .sival_int = round });
        late += handled != round - 1;
        change(SIG_UNBLOCK, &set, NULL, 8);
        late += handled != round;
    }
    printf("at once: %d handled, %d out of order, %d late\n", handled, disorder, late);
}

static volatile int ready, stop;
static volatile pid_t waiter;

/* As sigqueue, for one thread: not every C library has a function for that. */
static void queue_to_thread(pid_t tid, int signal, union sigval value)
{
    siginfo_t info = { 0 };
    info.si_signo = signal;
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value = value;
    MUST(syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, signal, &info));
}

/* Makes no call once it has unblocked the signal: if that is missed, it waits for ever. */
static void *wait_for_each(void *argument)
{
    uint64_t set = bit(*(int *)argument);
    waiter = syscall(SYS_gettid);
    for (int round = 1; round <= SIGNALS; round++) {
        for (int turn = 0; turn < 50; turn++) {
            change(SIG_BLOCK, &set, NULL, 8);
            __atomic_store_n(&ready, round, __ATOMIC_SEQ_CST);
            change(SIG_UNBLOCK, &set, NULL, 8);
        }
        while (last < round)
            __builtin_ia32_pause();
    }
    stop = 1;
    return NULL;
}

static void between_threads(int to_thread)
{
    int signal = SIGRTMIN + 3;
    install(signal);
    ready = stop = 0;
    pthread_t thread;
    uint64_t set = bit(signal);
    /* This thread never takes it. */
    change(SIG_BLOCK, &set, NULL, 8);
    pthread_create(&thread, NULL, wait_for_each, &signal);
    for (int round = 1; round <= SIGNALS; round++) {
        while (__atomic_load_n(&ready, __ATOMIC_SEQ_CST) < round)
            sched_yield();
        union sigval value = { .sival_int = round };
        if (to_thread)
            queue_to_thread(waiter, signal, value);
        else
            sigqueue(getpid(), signal, value);
        while (last < round)
            sched_yield();
    }
    pthread_join(thread, NULL);
    printf("between threads: %d handled, %d out of order\n", handled, disorder);
    change(SIG_UNBLOCK, &set, NULL, 8);
}

static unsigned long long shown_mask(int tid)
{
    char name[64], line[128];
    unsigned long long found = 0;
    snprintf(name, sizeof name, "/proc/self/task/%d/status", tid);
    FILE *file = fopen(name, "r");
    while (file && fgets(line, sizeof line, file))
        sscanf(line, "SigBlk: %llx", &found);
    if (file)
        fclose(file);
    return found;
}

static void *spin(void *argument)
{
    set_mask(bit(SIGHUP) | bit(40));
    __atomic_store_n((int *)argument, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    while (!stop)
        __builtin_ia32_pause();
    return NULL;
}

static void nothing(int signal)
{
    (void)signal;
    printf("in the handler: %llx\n", (unsigned long long)mask());
}

static void inherited(void)
{
    set_mask(bit(SIGTERM));
    int tid = 0;
    stop = 0;
    pthread_t thread;
    pthread_create(&thread, NULL, spin, &tid);
    while (!__atomic_load_n(&tid, __ATOMIC_SEQ_CST))
        sched_yield();
    printf("a thread that spins has %llx, its maker %llx\n", shown_mask(tid), (unsigned long long)mask());
    stop = 1;
    pthread_join(thread, NULL);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        printf("a child has %llx\n", (unsigned long long)mask());
        set_mask(bit(SIGTERM) | bit(SIGINT));
        fflush(stdout);
        execl("/proc/self/exe", "masks", "again", NULL);
        _exit(1);
    }
    waitpid(child, NULL, 0);
    child = vfork();
    if (child == 0) {
        change(SIG_BLOCK, &(uint64_t){ bit(SIGQUIT) }, NULL, 8);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    printf("after vfork %llx\n", (unsigned long long)mask());
    struct sigaction action = { .sa_handler = nothing };
    sigaddset(&action.sa_mask, SIGUSR2);
    MUST(sigaction(SIGUSR1, &action, NULL));
    raise(SIGUSR1);
    printf("behind the handler %llx\n", (unsigned long long)mask());
    set_mask(bit(SIGUSR1));
    raise(SIGUSR1);
    uint64_t none = 0;
    SHOW(syscall(SYS_rt_sigsuspend, &none, 8));
    printf("behind sigsuspend %llx\n", (unsigned long long)mask());
    raise(SIGUSR1);
    SHOW(syscall(SYS_ppoll, NULL, 0, NULL, &none, 8));
    printf("behind ppoll %llx\n", (unsigned long long)mask());
    raise(SIGUSR1);
    set_mask(0);
    printf("at the end %llx\n", (unsigned long long)mask());
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        printf("after exec %llx\n", (unsigned long long)mask());
        return 0;
    }
    results();
    from_outside();
    at_once();
    between_threads(0);
    between_threads(1);
    inherited();
    return 0;
}
