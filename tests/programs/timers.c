/* alarm, interval timers, POSIX timers, and calls that they interrupt. */
#include "show.h"
#include <sys/time.h>
#include <time.h>

static volatile int ticks;

static void on_tick(int number)
{
    (void)number;
    ticks++;
}

int main(void)
{
    struct sigaction action = { .sa_handler = on_tick };
    struct itimerval interval = { { 0, 0 }, { 0, 20000 } }, old;
    struct timespec left, long_time = { 100, 0 };
    sigset_t empty;
    sigemptyset(&empty);
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);

    SHOW(alarm(100));
    TRUTH(alarm(0) >= 99);
    SHOW(alarm(0));
    SHOW(setitimer(ITIMER_REAL, &interval, &old));
    SHOW(pause());
    SHOW(ticks);
    SHOW(getitimer(ITIMER_REAL, &old));
    SHOW(old.it_value.tv_sec + old.it_value.tv_usec);
    SHOW(setitimer(ITIMER_REAL, &interval, NULL));
    SHOW(nanosleep(&long_time, &left));
    TRUTH(left.tv_sec >= 98 && left.tv_sec < 100);
    SHOW(setitimer(ITIMER_REAL, &interval, NULL));
    SHOW(clock_nanosleep(CLOCK_MONOTONIC, 0, &long_time, &left));
    interval.it_interval.tv_usec = 5000;
    SHOW(setitimer(ITIMER_REAL, &interval, NULL));
    ticks = 0;
    while (ticks < 5)
        sigsuspend(&empty);
    SHOW(ticks >= 5);
    interval = (struct itimerval){ 0 };
    SHOW(setitimer(ITIMER_REAL, &interval, NULL));
    SHOW(setitimer(99, &interval, NULL));
    interval.it_value.tv_usec = 1000000;
    SHOW(setitimer(ITIMER_REAL, &interval, NULL));
    SHOW(setitimer(ITIMER_REAL, (void *)1, NULL));

    /* A tick reaches a computation that makes no system call. */
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    interval = (struct itimerval){ { 0, 0 }, { 0, 20000 } };
    ticks = 0;
    MUST(setitimer(ITIMER_REAL, &interval, NULL));
    while (ticks == 0)
        ;
    SHOW(ticks);

    timer_t timer;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 77 };
    struct itimerspec spec = { { 0, 0 }, { 0, 10000000 } }, now;
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    SHOW(timer_create(CLOCK_MONOTONIC, &event, &timer));
    SHOW(timer_settime(timer, 0, &spec, NULL));
    SHOW(sigwaitinfo(&set, &info));
    printf("code %d, value %d, overrun %d\n", info.si_code, info.si_value.sival_int, info.si_overrun);
    SHOW(timer_gettime(timer, &now));
    SHOW(now.it_value.tv_sec + now.it_value.tv_nsec);
    SHOW(timer_getoverrun(timer));
    SHOW(timer_delete(timer));
    SHOW(timer_delete(timer));
    SHOW(timer_create(99, &event, &timer));
    event.sigev_signo = 99;
    SHOW(timer_create(CLOCK_MONOTONIC, &event, &timer));
    return 0;
}
