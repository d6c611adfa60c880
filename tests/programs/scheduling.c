/* What a thread asks of the scheduler, and what it is told: policies, nice values, I/O priorities, barriers. */
#include "show.h"
#include <sched.h>
#include <sys/resource.h>
#include <time.h>

struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
    uint32_t clamp_min, clamp_max;
    uint64_t more;
};

static void tell(void)
{
    struct attributes now = { 0 };
    struct sched_param parameter = { 77 };
    SHOW(sched_getscheduler(0));
    SHOW(sched_getparam(0, &parameter));
    SHOW(parameter.sched_priority);
    SHOW(syscall(SYS_sched_getattr, 0, &now, 56, 0));
    printf("size %u policy %u flags %lu nice %d priority %u\n", now.size, now.policy, (unsigned long)now.flags, now.nice,
           now.priority);
    if (now.policy == 6)
        printf("runtime %lu deadline %lu period %lu\n", (unsigned long)now.runtime, (unsigned long)now.deadline,
               (unsigned long)now.period);
}

static void policies(void)
{
    static const int numbers[] = { 0, 1, 2, 3, 4, 5, 6, 99, -1, 0x40000000, 0x40000001 };
    for (unsigned at = 0; at < sizeof numbers / sizeof *numbers; at++) {
        struct sched_param none = { 0 }, some = { 7 }, large = { 100 }, negative = { -1 };
        printf("policy %d\n", numbers[at]);
        SHOW(sched_setscheduler(0, numbers[at], &none));
        SHOW(sched_setscheduler(0, numbers[at], &some));
        SHOW(sched_setscheduler(0, numbers[at], &large));
        SHOW(sched_setscheduler(0, numbers[at], &negative));
        tell();
        SHOW(sched_setparam(0, &none));
        SHOW(sched_setparam(0, &some));
        SHOW(sched_get_priority_max(numbers[at]));
        SHOW(sched_get_priority_min(numbers[at]));
    }
    SHOW(sched_setscheduler(0, 0, NULL));
    SHOW(sched_setscheduler(-1, 0, NULL));
    SHOW(syscall(SYS_sched_setscheduler, 0, 0, (void *)0x1000));
    SHOW(syscall(SYS_sched_getparam, 0, (void *)0x1000));
    SHOW(sched_getparam(0, NULL));
    SHOW(sched_getparam(4000000, (struct sched_param[1]){ 0 }));
    SHOW(sched_getscheduler(-1));
    SHOW(sched_getscheduler(4000000));
    struct timespec slice;
    SHOW(sched_rr_get_interval(0, &slice));
    SHOW(sched_rr_get_interval(-1, &slice));
    SHOW(sched_rr_get_interval(4000000, &slice));
}

static long set(struct attributes wanted)
{
    return syscall(SYS_sched_setattr, 0, &wanted, 0);
}

static void attributes(void)
{
    SHOW(set((struct attributes){ .size = 56, .policy = 3, .nice = 5 }));
    tell();
    SHOW(set((struct attributes){ .size = 0, .policy = 0, .nice = 6 }));
    SHOW(set((struct attributes){ .size = 47, .policy = 0 }));
    SHOW(set((struct attributes){ .size = 64, .policy = 0, .nice = 7 }));
    SHOW(set((struct attributes){ .size = 64, .policy = 0, .more = 1 }));
    SHOW(set((struct attributes){ .size = 5000, .policy = 0 }));
    SHOW(set((struct attributes){ .size = 56, .policy = 9 }));
    SHOW(set((struct attributes){ .size = 56, .policy = -1 }));
    SHOW(set((struct attributes){ .size = 56, .flags = 0x80 }));
    SHOW(set((struct attributes){ .size = 56, .policy = 1, .priority = 3, .flags = 1 }));
    tell();
    SHOW(set((struct attributes){ .size = 56, .flags = 8, .priority = 4 }));
    tell();
    SHOW(set((struct attributes){ .size = 56, .policy = 0, .flags = 16 }));
    SHOW(set((struct attributes){ .size = 56, .policy = 6, .runtime = 10000000, .deadline = 5000000 }));
    SHOW(set((struct attributes){ .size = 56, .policy = 6, .runtime = 100, .deadline = 5000000 }));
    SHOW(set((struct attributes){ .size = 56, .policy = 6 }));
    SHOW(set((struct attributes){ .size = 56, .policy = 0, .nice = 3 }));
    tell();
    SHOW(syscall(SYS_sched_setattr, 0, NULL, 0));
    SHOW(syscall(SYS_sched_setattr, 0, (void *)0x1000, 0));
    SHOW(syscall(SYS_sched_setattr, 0, (struct attributes[1]){ { .size = 56 } }, 1));
    SHOW(syscall(SYS_sched_setattr, 4000000, (struct attributes[1]){ { .size = 56 } }, 0));
    SHOW(syscall(SYS_sched_getattr, 0, (struct attributes[1]){ { 0 } }, 47, 0));
    SHOW(syscall(SYS_sched_getattr, 0, (struct attributes[1]){ { 0 } }, 48, 1));
    SHOW(syscall(SYS_sched_getattr, 0, (struct attributes[1]){ { 0 } }, 5000, 0));
    SHOW(syscall(SYS_sched_getattr, 0, NULL, 56, 0));
    SHOW(syscall(SYS_sched_getattr, 0, (void *)0x1000, 56, 0));
    SHOW(syscall(SYS_sched_getattr, 4000000, (struct attributes[1]){ { 0 } }, 56, 0));
}

static void priorities(void)
{
    SHOW(setpriority(PRIO_PROCESS, 0, 4));
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(setpriority(PRIO_PROCESS, getpid(), 100));
    SHOW(getpriority(PRIO_PROCESS, getpid()));
    SHOW(setpriority(9, 0, 1));
    SHOW(getpriority(9, 0));
    SHOW(setpriority(PRIO_PROCESS, 4000000, 1));
    SHOW(getpriority(PRIO_PROCESS, 4000000));
    SHOW(syscall(SYS_ioprio_get, 0, 0));
    SHOW(syscall(SYS_ioprio_get, 1, 0));
    SHOW(syscall(SYS_ioprio_get, 1, 4000000));
    static const int values[] = { 0, 7, 1 << 13 | 3, 2 << 13, 2 << 13 | 7, 3 << 13, 4 << 13, 7 << 13, 1 << 16 };
    for (unsigned at = 0; at < sizeof values / sizeof *values; at++) {
        printf("I/O priority %#x\n", values[at]);
        SHOW(syscall(SYS_ioprio_set, 1, 0, values[at]));
        SHOW(syscall(SYS_ioprio_get, 1, 0));
    }
    SHOW(syscall(SYS_ioprio_set, 1, 4000000, 0));
    SHOW(syscall(SYS_ioprio_set, 4, 0, 0));
}

static void barriers(void)
{
    /* Without those for restartable sequences. */
    SHOW(syscall(SYS_membarrier, 0, 0, 0) & ~0x180);
    SHOW(syscall(SYS_membarrier, 512, 0, 0));
    static const int commands[] = { 1, 2, 4, 8, 16, 8, 32, 64, 32, 3, 1024 };
    for (unsigned at = 0; at < sizeof commands / sizeof *commands; at++) {
        printf("command %d\n", commands[at]);
        SHOW(syscall(SYS_membarrier, commands[at], 1, 0));
        SHOW(syscall(SYS_membarrier, commands[at], 0, 0));
        SHOW(syscall(SYS_membarrier, 512, 0, 0));
    }
}

int main(void)
{
    policies();
    attributes();
    priorities();
    barriers();
    return 0;
}
