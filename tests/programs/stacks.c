// Waits for ever, several calls deep: in a signal handler on a stack of its own, and in a second thread.
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

// Something is left to do after a call, so that it is one.
#define AFTER() __asm__ volatile("" ::: "memory")

static char stack[1 << 16];

__attribute__((noinline)) void innermost(void) {
    pause();
    AFTER();
}

__attribute__((noinline)) void on_signal(int signal) {
    (void)signal;
    innermost();
    AFTER();
}

__attribute__((noinline)) void raises(void) {
    raise(SIGUSR1);
    AFTER();
}

void *second(void *argument) {
    innermost();
    AFTER();
    return argument;
}

int main(void) {
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    pthread_t thread;
    if (sigaltstack(&alternative, NULL) || sigaction(SIGUSR1, &action, NULL) ||
        pthread_create(&thread, NULL, second, NULL))
        return 1;
    raises();
    return 0;
}
