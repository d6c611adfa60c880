/* Resource limits, scheduling, system facts. */
#include "show.h"
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

int main(void)
{
    struct rlimit r;
    int resources[] = { RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_CORE, RLIMIT_RSS, RLIMIT_AS, RLIMIT_LOCKS };
    for (unsigned i = 0; i < sizeof resources / sizeof *resources; i++) {
        MUST(getrlimit(resources[i], &r));
        printf("limit %d: %s\n", resources[i], r.rlim_cur == RLIM_INFINITY ? "none" : r.rlim_cur == 0 ? "0" : "some");
    }
    SHOW(getrlimit(99, &r));
    SHOW(getrlimit(RLIMIT_STACK, &r));
    r.rlim_cur = 4 << 20;
    SHOW(setrlimit(RLIMIT_STACK, &r));
    SHOW(getrlimit(RLIMIT_STACK, &r));
    SHOW(r.rlim_cur);
    r = (struct rlimit){ 10, 5 };
    SHOW(setrlimit(RLIMIT_NOFILE, &r));
    SHOW(setrlimit(99, &r));
    SHOW(prlimit(0, RLIMIT_CORE, &(struct rlimit){ 0, 0 }, &r));
    SHOW(prlimit(0x7ffffffe, RLIMIT_CORE, NULL, &r));
    SHOW(getrlimit(RLIMIT_CORE, (void *)1));

    /* The address-space limit binds. */
    r = (struct rlimit){ 256 << 20, RLIM_INFINITY };
    SHOW(setrlimit(RLIMIT_AS, &r));
    DONE(mmap(NULL, 512 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    DONE(munmap(mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1 << 20));
    r.rlim_cur = RLIM_INFINITY;
    SHOW(setrlimit(RLIMIT_AS, &r));

    cpu_set_t set;
    CPU_ZERO(&set);
    TRUTH(sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) >= 1);
    TRUTH(sysconf(_SC_NPROCESSORS_ONLN) >= CPU_COUNT(&set));
    SHOW(sched_getaffinity(0, 1, &set));
    SHOW(sched_yield());
    SHOW(sched_getscheduler(0));
    SHOW(sched_get_priority_max(SCHED_FIFO));
    SHOW(sched_get_priority_min(SCHED_OTHER));
    SHOW(sched_get_priority_max(99));
    errno = 0;
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(getpriority(99, 0));
    TRUTH(sched_getcpu() >= 0);

    struct utsname u;
    SHOW(uname(&u));
    printf("%s %s\n", u.sysname, u.machine);
    struct sysinfo info;
    SHOW(sysinfo(&info));
    TRUTH(info.totalram > 0 && info.freeram <= info.totalram && info.procs >= 1 && info.uptime > 0);
    SHOW(sysconf(_SC_PAGESIZE));
    unsigned char random[256];
    SHOW(syscall(SYS_getrandom, random, sizeof random, 0));
    SHOW(syscall(SYS_getrandom, random, sizeof random, 0x100));
    SHOW(syscall(SYS_getrandom, (void *)1, 8, 0));
    unsigned different = 0;
    for (int i = 0; i < 255; i++)
        different += random[i] != random[i + 1];
    TRUTH(different > 200);
    SHOW(syscall(SYS_personality, 0xffffffff));
    return 0;
}
