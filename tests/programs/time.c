/* Clocks: resolution, order, agreement of the fast and the slow path, sleeping and its errors. */
#include "show.h"
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>

static int64_t ns(struct timespec t)
{
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int64_t now(clockid_t clock)
{
    struct timespec t;
    MUST(clock_gettime(clock, &t));
    return ns(t);
}

static int64_t trapped(clockid_t clock)
{
    struct timespec t;
    MUST(syscall(SYS_clock_gettime, clock, &t));
    return ns(t);
}

int main(void)
{
    clockid_t clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                           CLOCK_MONOTONIC_COARSE, CLOCK_TAI, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID };
    struct timespec t;
    for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        int64_t last = now(clocks[i]), worst = 0;
        int backwards = 0;
        for (int k = 0; k < 2000; k++) {
            int64_t next = k % 50 == 49 ? trapped(clocks[i]) : now(clocks[i]);
            if (next < last && last - next > worst)
                worst = last - next;
            backwards += next < last - 1000;
            last = next;
        }
        MUST(clock_getres(clocks[i], &t));
        printf("clock %d: resolution %ld, went back by more than 1 us %d times\n", clocks[i], t.tv_nsec, backwards);
    }
    TRUTH(now(CLOCK_REALTIME) > 1700000000LL * 1000000000);
    TRUTH(now(CLOCK_BOOTTIME) >= now(CLOCK_MONOTONIC) - 1000);
    TRUTH(llabs(now(CLOCK_REALTIME) / 1000000000 - time(NULL)) <= 1);
    struct timeval tv;
    struct timezone tz;
    SHOW(gettimeofday(&tv, &tz));
    TRUTH(llabs((long long)tv.tv_sec - time(NULL)) <= 1 && tv.tv_usec < 1000000);
    SHOW(clock_gettime(99, &t));
    SHOW(clock_getres(99, &t));
    SHOW(clock_getres(CLOCK_MONOTONIC, NULL));
    SHOW(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 1L));
    SHOW(clock_settime(CLOCK_MONOTONIC, &t));

    int64_t start = now(CLOCK_MONOTONIC);
    t = (struct timespec){ 0, 20000000 };
    SHOW(nanosleep(&t, NULL));
    int64_t slept = now(CLOCK_MONOTONIC) - start;
    TRUTH(slept >= 20000000);
    t.tv_nsec = 1000000000;
    SHOW(nanosleep(&t, NULL));
    t = (struct timespec){ -1, 0 };
    SHOW(nanosleep(&t, NULL));
    SHOW(nanosleep((void *)1, NULL));
    SHOW(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){ 1, 0 }, NULL));
    SHOW(clock_nanosleep(99, 0, &(struct timespec){ 0, 1 }, NULL));
    SHOW(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &(struct timespec){ 0, 1 }, NULL));
    start = now(CLOCK_MONOTONIC);
    t.tv_sec = (start + 10000000) / 1000000000;
    t.tv_nsec = (start + 10000000) % 1000000000;
    SHOW(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL));
    TRUTH(now(CLOCK_MONOTONIC) >= ns(t));

    /* CPU time grows with work. */
    int64_t before = now(CLOCK_PROCESS_CPUTIME_ID);
    volatile unsigned long x = 1;
    for (int i = 0; i < 20000000; i++)
        x = x * 3 + 1;
    int64_t used = now(CLOCK_PROCESS_CPUTIME_ID) - before;
    TRUTH(used > 1000000);
    struct rusage usage;
    SHOW(getrusage(RUSAGE_SELF, &usage));
    TRUTH(usage.ru_utime.tv_sec * 1000000LL + usage.ru_utime.tv_usec + usage.ru_stime.tv_sec * 1000000LL + usage.ru_stime.tv_usec > 0);
    TRUTH(usage.ru_maxrss > 0);
    SHOW(getrusage(RUSAGE_CHILDREN, &usage));
    SHOW(getrusage(99, &usage));
    struct tms tms;
    TRUTH(times(&tms) > 0);
    SHOW(sysconf(_SC_CLK_TCK));
    return 0;
}
