/* measure PROGRAM [ARGUMENT...]: runs the program with its output thrown away and prints
 * "WALL_NS CPU_NS PEAK_KIB STATUS", from just before fork to just after wait.
 *
 * A program of its own because a process inherits its parent's peak of resident memory over fork and exec, and an
 * interpreter's would hide everything smaller. CPU time and peak are those of the program and all children it waited
 * for; the peak is that of the largest one, not the sum. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv) {
    struct rusage usage;
    int status;
    if (argc < 2) return 2;
    long long before = now_ns();
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        return 1;
    }
    if (child == 0) {
        /* Not /dev/null: `runsc do` as root changes the owner of what it gets. */
        int scratch = memfd_create("stdio", 0);
        dup2(scratch, 0);
        dup2(scratch, 1);
        execvp(argv[1], argv + 1);
        perror(argv[1]);
        _exit(127);
    }
    if (wait4(child, &status, 0, &usage) != child) {
        perror("wait4");
        return 1;
    }
    long long after = now_ns();
    long long cpu = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000LL +
                    (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000LL;
    printf("%lld %lld %ld %d\n", after - before, cpu, usage.ru_maxrss,
           WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return 0;
}
