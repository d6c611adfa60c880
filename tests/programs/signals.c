/* Handlers, masks, queues, restarts: signals that a program sends to itself. */
#include "show.h"
#include <ucontext.h>
#include <time.h>

static volatile int count, last, depth, deepest;
static siginfo_t info;

static void on_signal(int number)
{
    count++;
    last = number;
}

static void on_info(int number, siginfo_t *i, void *context)
{
    ucontext_t *u = context;
    on_signal(number);
    info = *i;
    printf("handler: signal %d, code %d, blocked usr1 %d usr2 %d\n", number, i->si_code,
           sigismember(&u->uc_sigmask, SIGUSR1), sigismember(&u->uc_sigmask, SIGUSR2));
}

static void on_nested(int number)
{
    if (++depth > deepest)
        deepest = depth;
    if (number == SIGUSR1)
        raise(SIGUSR2);
    printf("leaving %d at depth %d\n", number, depth);
    depth--;
}

static void mask(const char *when)
{
    sigset_t now, pending;
    sigprocmask(SIG_SETMASK, NULL, &now);
    sigpending(&pending);
    printf("%s:", when);
    for (int i = 1; i < 65; i++)
        if (i != 32 && i != 33 && (sigismember(&now, i) || sigismember(&pending, i)))
            printf(" %d%s%s", i, sigismember(&now, i) ? "b" : "", sigismember(&pending, i) ? "p" : "");
    printf("\n");
}

int main(void)
{
    struct sigaction action = { .sa_handler = on_signal }, old;
    sigset_t set, empty;
    sigemptyset(&empty);

    SHOW(sigaction(SIGUSR1, &action, NULL));
    SHOW(raise(SIGUSR1));
    printf("count %d, last %d\n", count, last);
    SHOW(kill(getpid(), SIGUSR1));
    SHOW(kill(getpid(), 0));
    SHOW(kill(getpid(), 65));
    SHOW(kill(getpid(), -1));
    SHOW(kill(0x7ffffffe, SIGUSR1));
    SHOW(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1));
    SHOW(syscall(SYS_tgkill, -1, getpid(), SIGUSR1));
    SHOW(syscall(SYS_tkill, getpid(), SIGUSR1));
    SHOW(count);
    SHOW(sigaction(SIGKILL, &action, NULL));
    SHOW(sigaction(SIGSTOP, &action, NULL));
    SHOW(sigaction(SIGKILL, NULL, &old));
    SHOW(sigaction(65, &action, NULL));
    SHOW(sigaction(0, &action, NULL));
    SHOW(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4));
    SHOW(sigaction(SIGUSR1, NULL, &old));
    TRUTH(old.sa_handler == on_signal);

    /* Blocked signals pend; ordinary ones once, real-time ones each time, in order. */
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGRTMIN + 1);
    SHOW(sigprocmask(SIG_BLOCK, &set, NULL));
    mask("blocked");
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = on_info;
    for (int i = 0; i < 2; i++) {
        SHOW(sigaction(i ? SIGRTMIN + 1 : SIGRTMIN, &action, NULL));
        raise(SIGUSR1);
    }
    SHOW(sigaction(SIGUSR1, &action, NULL));
    count = 0;
    for (int i = 0; i < 3; i++) {
        union sigval value = { .sival_int = 10 + i };
        SHOW(sigqueue(getpid(), SIGRTMIN + 1, value));
        SHOW(sigqueue(getpid(), SIGRTMIN, value));
    }
    mask("sent");
    SHOW(count);
    SHOW(sigprocmask(SIG_UNBLOCK, &set, NULL));
    printf("count %d, last value %d\n", count, info.si_value.sival_int);
    mask("unblocked");
    SHOW(sigprocmask(99, &set, NULL));
    SHOW(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, 4));
    SHOW(syscall(SYS_rt_sigprocmask, SIG_BLOCK, 1L, NULL, 8));
    sigfillset(&set);
    SHOW(sigprocmask(SIG_SETMASK, &set, NULL));
    SHOW(sigprocmask(SIG_SETMASK, NULL, &set));
    printf("kill blocked %d, stop blocked %d\n", sigismember(&set, SIGKILL), sigismember(&set, SIGSTOP));
    SHOW(sigprocmask(SIG_SETMASK, &empty, NULL));

    /* Handlers' own masks and flags. */
    action = (struct sigaction){ .sa_handler = on_nested };
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR1);
    printf("deepest %d\n", deepest);
    deepest = 0;
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    printf("deepest %d\n", deepest);
    action = (struct sigaction){ .sa_handler = on_signal, .sa_flags = SA_RESETHAND };
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    SHOW(sigaction(SIGUSR1, NULL, &old));
    TRUTH(old.sa_handler == SIG_DFL);
    signal(SIGUSR1, SIG_IGN);
    SHOW(raise(SIGUSR1));
    signal(SIGCHLD, SIG_DFL);
    SHOW(raise(SIGCHLD));
    SHOW(raise(SIGURG));
    SHOW(raise(SIGCONT));

    /* Waiting for signals. */
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR2);
    SHOW(sigwaitinfo(&set, &info));
    printf("code %d\n", info.si_code);
    struct timespec nothing = { 0, 0 }, wrong = { 0, -1 };
    SHOW(sigtimedwait(&set, &info, &nothing));
    SHOW(sigtimedwait(&set, &info, &wrong));
    sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 5 });
    SHOW(sigtimedwait(&set, &info, &nothing) == SIGRTMIN ? info.si_value.sival_int : -1);
    action = (struct sigaction){ .sa_handler = on_signal };
    sigaction(SIGUSR2, &action, NULL);
    count = 0;
    raise(SIGUSR2);
    SHOW(sigsuspend(&empty));
    SHOW(count);
    mask("after sigsuspend");
    return 0;
}
