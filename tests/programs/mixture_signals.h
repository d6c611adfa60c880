/* Signals in mixture: some that come at any moment and must not be noticed, and some that are waited for. */
#ifndef MIXTURE_SIGNALS_H
#define MIXTURE_SIGNALS_H
#include "mixture.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

/* A real-time signal that is only ever waited for, and one that interrupts. Those before them are queued. */
#define QUEUED (SIGRTMIN + (int)draw(4))
#define WAITED (SIGRTMIN + 5)
#define INTERRUPTING (SIGRTMIN + 6)
#define BIT(signal) (1ul << ((signal) - 1))

static pthread_barrier_t all_here;
static pid_t tids[ACTORS];
static int process_number;
/* Of the process that runs, a child's its own. */
static pid_t process_id;
static __thread sigjmp_buf way_out;
static __thread volatile int fault_code;

static uint64_t mask_now(void)
{
    uint64_t mask = 0;
    CHECK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8) == 0);
    return mask;
}

/* Changes the mask, and folds what it was. */
static uint64_t change_mask(int how, uint64_t set)
{
    uint64_t old = 0;
    CHECK(CALL(__NR_rt_sigprocmask, how, &set, &old, 8) == 0);
    fold(old);
    return old;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    int error = errno;
    (void)context;
    /* A handler makes calls as well. */
    uint64_t mask = mask_now();
    CHECK(mask & BIT(number));
    CHECK(number != SIGUSR1 || (mask & BIT(SIGUSR2)));
    CHECK(syscall(SYS_getpid) == process_id);
    if (number >= SIGRTMIN && number < WAITED) {
        atomic_fetch_add(&board->received_sum[process_number], (uint64_t)info->si_value.sival_int);
        atomic_fetch_add(&board->received[process_number], 1);
    }
    if (number == SIGUSR2)
        self->handled++;
    errno = error;
}

static void on_jump(int number, siginfo_t *info, void *context)
{
    (void)context;
    fault_code = info->si_code;
    siglongjmp(way_out, number);
}

static void on_interruption(int number) { (void)number; }

static void catch_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    action.sa_sigaction = on_signal;
    sigaddset(&action.sa_mask, SIGUSR2);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    sigemptyset(&action.sa_mask);
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0 && sigaction(SIGALRM, &action, NULL) == 0);
    for (int number = SIGRTMIN; number < WAITED; number++)
        CHECK(sigaction(number, &action, NULL) == 0);
    action.sa_sigaction = on_jump;
    CHECK(sigaction(SIGWINCH, &action, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0);
    action.sa_flags = 0;
    action.sa_handler = on_interruption;
    CHECK(sigaction(INTERRUPTING, &action, NULL) == 0);
    sigset_t waited;
    sigemptyset(&waited);
    sigaddset(&waited, WAITED);
    CHECK(sigprocmask(SIG_BLOCK, &waited, NULL) == 0);
}

static void mask(void)
{
    static const int kinds[] = {SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH};
    uint64_t set = 0;
    for (int kind = 0; kind < 4; kind++)
        set |= draw(2) ? BIT(kinds[kind]) : 0;
    set |= draw(2) ? BIT(QUEUED) : 0;
    switch (draw(3)) {
    case 0: change_mask(SIG_BLOCK, set); break;
    case 1: change_mask(SIG_UNBLOCK, set); break;
    default: change_mask(SIG_SETMASK, set | BIT(WAITED)); break;
    }
    for (uint64_t repeat = draw(5); repeat > 0; repeat--)
        fold(mask_now());
}

static void signal_to_itself(void)
{
    uint64_t old = change_mask(SIG_BLOCK, BIT(SIGUSR2)), pending = 0;
    int before = self->handled;
    fold((uint64_t)CALL(__NR_tgkill, self->pid, self->tid, SIGUSR2));
    CHECK(CALL(__NR_rt_sigpending, &pending, 8) == 0);
    fold((pending & BIT(SIGUSR2)) + (uint64_t)(self->handled - before));
    change_mask(SIG_UNBLOCK, BIT(SIGUSR2));
    CHECK(self->handled == before + 1);
    fold((uint64_t)CALL(__NR_tgkill, self->pid, self->tid, SIGUSR2));
    CHECK(self->handled == before + 2);
    change_mask(SIG_SETMASK, old);
}

static void queue_signal(void)
{
    int target = (int)draw(PROCESSES), number = QUEUED;
    uint64_t value = draw(1000);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = number;
    info.si_code = SI_QUEUE;
    info.si_pid = self->pid;
    info.si_value.sival_int = (int)value;
    long result;
    while ((result = CALL(__NR_rt_sigqueueinfo, board->pids[target], number, &info)) == -EAGAIN)
        sched_yield();
    fold((uint64_t)result);
    atomic_fetch_add(&board->sent_sum[target], value);
    atomic_fetch_add(&board->sent[target], 1);
}

/* Somebody else is interrupted, wherever that one is. */
static void nudge(void)
{
    if (draw(2))
        fold((uint64_t)CALL(__NR_tgkill, board->pids[process_number], tids[draw(ACTORS)], SIGUSR1));
    else
        fold((uint64_t)CALL(__NR_kill, board->pids[draw(PROCESSES)], SIGUSR1));
}

/* Once, so that signals do not come faster than they can be handled. */
static void alarm_soon(void)
{
    struct itimerval soon = {.it_value.tv_usec = (suseconds_t)(20 + draw(3000))};
    fold((uint64_t)CALL(__NR_setitimer, ITIMER_REAL, &soon, NULL));
}

static void jump_out_of_handler(void)
{
    uint64_t old = change_mask(SIG_UNBLOCK, BIT(SIGWINCH)), before = mask_now();
    volatile int closely = (int)draw(2);
    if (sigsetjmp(way_out, 1) == 0) {
        if (closely)
            CALL(__NR_tgkill, self->pid, self->tid, SIGWINCH);
        else
            syscall(SYS_tgkill, self->pid, self->tid, SIGWINCH);
        complain("nothing was sent", 0, 0);
    }
    CHECK(mask_now() == before);
    change_mask(SIG_SETMASK, old);
}

static void fault(void)
{
    volatile char *page = mmap(NULL, 4096, draw(2) ? PROT_NONE : PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    if (sigsetjmp(way_out, 1) == 0) {
        *page = 1;
        complain("a store went through", 0, 0);
    }
    fold((uint64_t)fault_code);
    fold((uint64_t)munmap((void *)page, 4096));
}

static void wait_for_signal(void)
{
    uint64_t set = BIT(WAITED), value = 1 + draw(1000);
    struct timespec none = {0, 0};
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = WAITED;
    info.si_code = SI_QUEUE;
    info.si_value.sival_int = (int)value;
    fold((uint64_t)CALL(__NR_rt_tgsigqueueinfo, self->pid, self->tid, WAITED, &info));
    long got;
    memset(&info, 0, sizeof info);
    while ((got = CALL(__NR_rt_sigtimedwait, &set, &info, NULL, 8)) == -EINTR)
        continue;
    CHECK(got == WAITED && (uint64_t)info.si_value.sival_int == value);
    while ((got = CALL(__NR_rt_sigtimedwait, &set, &info, &none, 8)) == -EINTR)
        continue;
    fold((uint64_t)got);
}

/* A read that nothing ends but a signal. */
static void interrupted_read(void)
{
    struct { union sigval value; int number, notify; pid_t thread; char rest[44]; } event = {
        .number = INTERRUPTING, .notify = 4 /* SIGEV_THREAD_ID */, .thread = self->tid,
    };
    struct itimerspec often = {.it_value.tv_nsec = 1000 + (long)draw(300000), .it_interval.tv_nsec = 2000000};
    int ends[2], timer = -1;
    char byte;
    CHECK(pipe(ends) == 0);
    CHECK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) == 0);
    CHECK(syscall(SYS_timer_settime, timer, 0, &often, NULL) == 0);
    fold((uint64_t)(draw(2) ? CALL(__NR_read, ends[0], &byte, 1) : read(ends[0], &byte, 1) - errno));
    CHECK(syscall(SYS_timer_delete, timer) == 0);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
}

static void short_sleep(void)
{
    struct timespec until;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    until.tv_nsec += 20000 + (long)draw(300000);
    if (until.tv_nsec >= 1000000000)
        until.tv_nsec -= 1000000000, until.tv_sec++;
    long slept;
    while ((slept = CALL(__NR_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL)) == -EINTR)
        continue;
    fold((uint64_t)slept);
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    CHECK(now.tv_sec > until.tv_sec || (now.tv_sec == until.tv_sec && now.tv_nsec >= until.tv_nsec));
}

#endif
