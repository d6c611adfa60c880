/* Breakpoints of a thread that is interrupted all the time: each is one SIGTRAP behind its instruction, neither lost nor
 * doubled, whatever else calls the thread out of its code. */
#include "show.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <ucontext.h>

/* Breakpoints of each kind. */
#define ROUNDS 5000

static atomic_long traps, elsewhere, interruptions;
static atomic_bool over;
static const char *expected;

static void trapped(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    const ucontext_t *at = context;
    if ((const char *)at->uc_mcontext.gregs[REG_RIP] != expected || info->si_code != SI_KERNEL)
        elsewhere++;
    traps++;
}

static void interrupted(int signal)
{
    (void)signal;
    interruptions++;
}

static void *interrupt(void *thread)
{
    while (!over)
        MUST(-pthread_kill(*(pthread_t *)thread, SIGUSR1));
    return NULL;
}

/* Runs breakpoints of one kind; whoever runs it is interrupted. */
static void run(const char *name, bool is_short)
{
    traps = elsewhere = 0;
    for (int round = 0; round < ROUNDS; round++) {
        if (is_short)
            __asm__ volatile("lea 1f(%%rip), %%rax\n\tmov %%rax, %0\n\tint3\n1:" : "=m"(expected) : : "rax", "memory");
        else
            __asm__ volatile("lea 1f(%%rip), %%rax\n\tmov %%rax, %0\n\t.byte 0xcd, 3\n1:"
                             : "=m"(expected) : : "rax", "memory");
    }
    printf("%s: %ld traps, %ld elsewhere\n", name, (long)traps, (long)elsewhere);
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = trapped, .sa_flags = SA_SIGINFO };
    MUST(sigaction(SIGTRAP, &action, NULL));
    action = (struct sigaction){ .sa_handler = interrupted };
    MUST(sigaction(SIGUSR1, &action, NULL));
    pthread_t self = pthread_self(), other;
    MUST(-pthread_create(&other, NULL, interrupt, &self));
    run("int3", true);
    run("int 3", false);
    over = true;
    MUST(-pthread_join(other, NULL));
    printf("%s\n", interruptions ? "interrupted" : "left alone");
    return 0;
}
