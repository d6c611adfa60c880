/* Each clock read without a system call agrees with the system call to a microsecond, and those that must not go back
 * don't. Prints a line a clock; exits with 1 at the first disagreement. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { SLACK_NS = 1000, ROUNDS = 200 };

static int64_t by_library(clockid_t clock) {
    struct timespec time;
    if (clock_gettime(clock, &time) != 0) return -1;
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int64_t by_call(clockid_t clock) {
    struct timespec time;
    if (syscall(SYS_clock_gettime, clock, &time) != 0) return -1;
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int differ(const char *name, int64_t before, int64_t between, int64_t after) {
    fprintf(stderr, "%s: library %lld, call %lld, library %lld\n", name, (long long)before, (long long)between,
            (long long)after);
    return 1;
}

int main(void) {
    static const struct {
        const char *name;
        clockid_t clock;
    } CLOCKS[] = {
        {"realtime", CLOCK_REALTIME},
        {"monotonic", CLOCK_MONOTONIC},
        {"monotonic_raw", CLOCK_MONOTONIC_RAW},
        {"boottime", CLOCK_BOOTTIME},
        {"tai", CLOCK_TAI},
        {"realtime_coarse", CLOCK_REALTIME_COARSE},
        {"monotonic_coarse", CLOCK_MONOTONIC_COARSE},
    };
    printf("vdso %s\n", getauxval(AT_SYSINFO_EHDR) != 0 ? "present" : "absent");
    for (unsigned i = 0; i < sizeof CLOCKS / sizeof *CLOCKS; i++) {
        for (int round = 0; round < ROUNDS; round++) {
            int64_t before = by_library(CLOCKS[i].clock), between = by_call(CLOCKS[i].clock);
            int64_t after = by_library(CLOCKS[i].clock);
            if (before <= 0 || between + SLACK_NS < before || after + SLACK_NS < between || after < before)
                return differ(CLOCKS[i].name, before, between, after);
        }
        printf("%s agrees\n", CLOCKS[i].name);
    }
    for (int round = 0; round < ROUNDS; round++) {
        struct timeval day;
        int64_t before = by_call(CLOCK_REALTIME);
        time_t seconds = time(NULL);
        if (gettimeofday(&day, NULL) != 0) return 1;
        int64_t after = by_call(CLOCK_REALTIME);
        int64_t day_ns = day.tv_sec * INT64_C(1000000000) + day.tv_usec * INT64_C(1000);
        if (day_ns + SLACK_NS < before - before % 1000 || after + SLACK_NS < day_ns)
            return differ("gettimeofday", before, day_ns, after);
        /* Linux's time() is that of the last timer tick. */
        if (seconds < before / 1000000000 - 1 || seconds > after / 1000000000) return differ("time", before, seconds, after);
    }
    puts("gettimeofday and time agree");
    return 0;
}
