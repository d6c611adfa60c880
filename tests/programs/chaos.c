// Random system calls with random, overlapping and racing pointers, from a seed: chaos SEED PROCESSES CALLS.
//
// Each process has a thread that keeps changing the memory that arguments point into, and a timer that ends whatever blocks. What the
// calls answer does not matter, nor how the processes end: what runs them must not fall over. Only for a sandbox: natively this would
// do to the machine whatever it is allowed to.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 8
#define NUMBERS 470

static uint64_t state;
static unsigned char *memory;

static uint64_t next(void) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1dULL;
}

static uint64_t below(uint64_t bound) { return (next() >> 33) % bound; }

// Calls that end the process, its timer or its neighbours, or would multiply it.
static int is_left_out(long number) {
    static const long out[] = {
        SYS_exit, SYS_exit_group, SYS_fork, SYS_vfork, SYS_clone, SYS_clone3, SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo,
        SYS_rt_tgsigqueueinfo, SYS_pidfd_send_signal, SYS_reboot, SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_rt_sigreturn,
        SYS_setitimer, SYS_alarm, SYS_pause, SYS_rt_sigsuspend, SYS_ptrace, SYS_sync, SYS_syncfs,
    };
    for (size_t i = 0; i < sizeof out / sizeof *out; i++)
        if (out[i] == number) return 1;
    return 0;
}

static uint64_t argument(void) {
    static const char *const paths[] = {"/", ".", "/tmp/x", "/tmp/x/y", "/proc/self/mem", "/proc/self/fd/0", "/dev/ptmx", "/dev/zero",
                                        "/proc/self/maps", "/dev/shm/s", "/proc/1/root", "/etc/passwd"};
    switch (below(16)) {
    case 0: return 0;
    case 1: case 2: return below(8);
    case 3: return below(4096);
    case 4: return -below(16);
    case 5: case 6: case 7: case 8: return (uint64_t)memory + below(PAGES * 4096);
    case 9: return (uint64_t)memory + PAGES * 4096 - below(64);
    case 10: return 1ULL << below(64);
    case 11: return 0x7ffffffff000ULL - below(8192);
    case 12: return 0xffffffff80000000ULL | below(1 << 30);
    case 13: case 14: return (uint64_t)paths[below(sizeof paths / sizeof *paths)];
    default: return next();
    }
}

static void nothing(int signal) { (void)signal; }

// Another thread of the process: what arguments point at is never what it was.
static void *race(void *unused) {
    (void)unused;
    uint64_t at = (uint64_t)memory | 1;
    for (;;) {
        at = at * 6364136223846793005ULL + 1442695040888963407ULL;
        // A page may have been taken away or protected.
        volatile unsigned char *word = memory + (at >> 33) % (PAGES * 4096);
        *word = (unsigned char)(at >> 24);
        if (at >> 54 == 0) usleep(50);
    }
    return NULL;
}

static void process(long calls) {
    memory = mmap(NULL, (PAGES + 1) * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || munmap(memory + PAGES * 4096, 4096)) _exit(1);
    struct sigaction action = {.sa_handler = nothing};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 5000}, {0, 5000}};
    setitimer(ITIMER_REAL, &often, NULL);
    pthread_t other;
    pthread_create(&other, NULL, race, NULL);
    for (long i = 0; i < calls; i++) {
        long number = (long)below(NUMBERS);
        if (is_left_out(number)) continue;
        uint64_t a[6];
        for (int j = 0; j < 6; j++) a[j] = argument();
        syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    syscall(SYS_exit_group, 0);
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    int processes = argc > 2 ? atoi(argv[2]) : 4;
    long calls = argc > 3 ? atol(argv[3]) : 1000;
    pid_t children[64];
    for (int i = 0; i < processes && i < 64; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            state = (seed * 0x9e3779b97f4a7c15ULL + (uint64_t)i * 0xd1342543de82ef95ULL) | 1;
            process(calls);
        }
    }
    // One may have stopped itself, or sleep where no signal reaches it.
    struct sigaction action = {.sa_handler = nothing};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval once = {{0, 0}, {8, 0}};
    setitimer(ITIMER_REAL, &once, NULL);
    for (int i = 0; i < processes && i < 64; i++) {
        while (waitpid(children[i], NULL, __WALL) != children[i]) {
            for (int j = i; j < processes; j++) kill(children[j], SIGKILL);
        }
    }
    puts("done");
    return 0;
}
