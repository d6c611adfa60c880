/* Processes and threads that come and go one at a time. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "micro.h"

static void wait_for(pid_t child) {
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) fail("child");
}

void fork_exit_wait(long count) {
    for (long i = 0; i < count; i++) {
        pid_t child = fork();
        if (child == 0) _exit(0);
        wait_for(child);
    }
}

void fork_exec_wait(long count) {
    for (long i = 0; i < count; i++) {
        pid_t child = fork();
        if (child == 0) {
            execl(own_path, own_path, "exit", NULL);
            _exit(127);
        }
        wait_for(child);
    }
}

static void *nothing(void *argument) { return argument; }

void thread_create_join(long count) {
    for (long i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, nothing, NULL) != 0 || pthread_join(thread, NULL) != 0) fail("thread");
    }
}

/* The median of ten forks, with exit and wait, of a process that has touched 500 MiB. */
double fork_500m(void) {
    enum { FORKS = 10 };
    double forks[FORKS];
    size_t size = 500 << 20;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("mmap");
    memset(memory, 1, size);
    for (int i = 0; i < FORKS; i++) {
        double before = now_ns();
        fork_exit_wait(1);
        forks[i] = now_ns() - before;
    }
    munmap(memory, size);
    qsort(forks, FORKS, sizeof *forks, ascending);
    return forks[FORKS / 2];
}
