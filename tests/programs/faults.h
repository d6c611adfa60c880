/* Runs a statement and tells which signal it raised: number, code, and the address relative to a base. */
#ifndef FAULTS_H
#define FAULTS_H
#include "show.h"
#include <setjmp.h>

static sigjmp_buf fault_return;
static volatile int fault_signal, fault_code;
static char *volatile fault_address;

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)context;
    fault_signal = number;
    fault_code = info->si_code;
    fault_address = info->si_addr;
    siglongjmp(fault_return, 1);
}

static inline void catch_faults(void)
{
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    int numbers[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
}

#define FAULT(base, ...) do { \
        fault_signal = 0; \
        if (sigsetjmp(fault_return, 1) == 0) { __VA_ARGS__; } \
        if (fault_signal == 0) \
            printf("%s: no fault\n", #__VA_ARGS__); \
        else \
            printf("%s: signal %d, code %d, address %ld\n", #__VA_ARGS__, fault_signal, fault_code, (long)(fault_address - (char *)(base))); \
    } while (0)

#endif
