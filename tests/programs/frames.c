/* What a handler is given and may change: registers, flags, vector state, alternate stacks. */
#include "faults.h"
#include <ucontext.h>

static char stack[65536];
static volatile int on_stack;

static void on_stack_handler(int number)
{
    char here;
    stack_t now;
    on_stack = &here >= stack && &here < stack + sizeof stack;
    sigaltstack(NULL, &now);
    printf("signal %d, on the alternate stack %d, flags %d, change: ", number, on_stack, now.ss_flags);
    DONE(sigaltstack(&(stack_t){ .ss_flags = SS_DISABLE }, NULL));
}

static void skip(int number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    greg_t *g = u->uc_mcontext.gregs;
    printf("signal %d, code %d, trap %lld, error %lld\n", number, info->si_code, g[REG_TRAPNO], number == SIGSEGV ? g[REG_ERR] & 0x17 : 0LL);
    g[REG_RIP] = g[REG_R14];
    g[REG_RAX] = 4711;
    g[REG_RCX] = 1;
    g[REG_R11] = 2;
    g[REG_EFL] |= 1;
}

static void change_vectors(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    ucontext_t *u = context;
    TRUTH(u->uc_mcontext.fpregs != NULL);
    printf("mxcsr %x, xmm3 %x\n", u->uc_mcontext.fpregs->mxcsr, u->uc_mcontext.fpregs->_xmm[3].element[0]);
    u->uc_mcontext.fpregs->_xmm[3].element[0] = 0xabcd;
    __asm__ volatile("pxor %%xmm3, %%xmm3; pxor %%xmm4, %%xmm4" ::: "xmm3", "xmm4");
}

static void ordinary(int number)
{
    (void)number;
}

/* Raises `number` by a fault and comes back behind it, with the registers that the handler set. */
#define SKIPPED(instruction) do { \
        long a, c, r11; unsigned char carry; \
        __asm__ volatile("lea 1f(%%rip), %%r14; clc; " instruction "; 1: setc %b3; mov %%r11, %2" \
                         : "=a"(a), "=c"(c), "=r"(r11), "=b"(carry) : "0"(0L), "1"(0L), "d"(0L) : "r14", "r11", "r10", "cc", "memory"); \
        printf("%s: rax %ld, rcx %ld, r11 %ld, carry %d\n", instruction, a, c, r11, carry); \
    } while (0)

int main(void)
{
    struct sigaction action = { .sa_sigaction = skip, .sa_flags = SA_SIGINFO };
    int numbers[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
    for (unsigned i = 0; i < 5; i++)
        sigaction(numbers[i], &action, NULL);
    SKIPPED("ud2");
    SKIPPED("movb $1, 0x10");
    SKIPPED("movb 0x10, %%al");
    SKIPPED("hlt");
    SKIPPED("int3");
    SKIPPED("xor %%edx, %%edx; xor %%ecx, %%ecx; div %%ecx");
    SKIPPED("mov $0x8000000000000000, %%r10; movb $1, (%%r10)");
    SKIPPED("cli");
    SKIPPED("in $0x80, %%al");
    SKIPPED("mov %%cr0, %%rax");

    /* Vector registers survive a handler, and take what the handler writes into the frame. */
    action.sa_sigaction = change_vectors;
    sigaction(SIGUSR1, &action, NULL);
    unsigned three = 0x1111, four = 0x2222;
    pid_t self = getpid();
    __asm__ volatile("movd %0, %%xmm3; movd %1, %%xmm4; mov $62, %%eax; syscall; movd %%xmm3, %0; movd %%xmm4, %1"
                     : "+r"(three), "+r"(four) : "D"(self), "S"(SIGUSR1) : "rax", "rcx", "r11", "memory", "xmm3", "xmm4");
    printf("xmm3 %x, xmm4 %x\n", three, four);

    stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack }, old;
    SHOW(sigaltstack(NULL, &old));
    SHOW(old.ss_flags);
    SHOW(sigaltstack(&(stack_t){ .ss_sp = stack, .ss_size = 100 }, NULL));
    SHOW(sigaltstack(&(stack_t){ .ss_sp = stack, .ss_size = sizeof stack, .ss_flags = 99 }, NULL));
    SHOW(sigaltstack(&alternate, NULL));
    SHOW(sigaltstack(NULL, &old));
    TRUTH(old.ss_sp == stack && old.ss_size == sizeof stack);
    action = (struct sigaction){ .sa_handler = on_stack_handler };
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR2);
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR2);
    SHOW(sigaltstack(&(stack_t){ .ss_flags = SS_DISABLE }, NULL));
    raise(SIGUSR2);

    /* A handler left by a jump restores the mask. */
    catch_faults();
    for (int i = 0; i < 3; i++)
        FAULT(0, *(volatile char *)16 = 1);

    /* Many signals in a row: nothing leaks, the stack stays where it was. */
    action = (struct sigaction){ .sa_handler = ordinary };
    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < 1000; i++)
        raise(SIGUSR1);
    printf("done\n");
    return 0;
}
