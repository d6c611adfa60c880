#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "micro.h"

/* Crowds: made, all there at once, asleep, and gone again; one measurement is of the whole. */

double processes_1000(void) {
    enum { PROCESSES = 1000 };
    int gate[2], arrived[2];
    char byte = 0;
    if (pipe(gate) != 0 || pipe(arrived) != 0) fail("pipe");
    double before = now_ns();
    for (int i = 0; i < PROCESSES; i++) {
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (child == 0) {
            close(gate[1]);
            if (write(arrived[1], &byte, 1) != 1) _exit(1);
            _exit(read(gate[0], &byte, 1) != 0); /* until the parent closes its end */
        }
    }
    for (int i = 0; i < PROCESSES; i++)
        if (read(arrived[0], &byte, 1) != 1) fail("read");
    close(gate[1]);
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        if (wait(&status) < 0 || status != 0) fail("wait");
    }
    return now_ns() - before;
}

/* Half of them ends of pipes, a quarter eventfds, a quarter opens of one file. */
double descriptors_100000(void) {
    enum { DESCRIPTORS = 100000, SPARE = 100 };
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) fail("getrlimit");
    limit.rlim_cur = DESCRIPTORS + SPARE;
    if (limit.rlim_max < limit.rlim_cur) limit.rlim_max = limit.rlim_cur;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return -1;
    char name[] = "/tmp/descriptorsXXXXXX";
    int first = mkstemp(name), last = first, ends[2];
    if (first < 0) fail("mkstemp");
    double before = now_ns();
    for (int i = 0; i < DESCRIPTORS / 4; i++) {
        if (pipe(ends) != 0) fail("pipe");
        if (eventfd(0, 0) < 0) fail("eventfd");
        if ((last = open(name, O_RDWR)) < 0) fail("open");
    }
    for (int fd = first; fd <= last; fd++) close(fd);
    double after = now_ns();
    unlink(name);
    return after - before;
}

static pthread_mutex_t crowd_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t crowd_full = PTHREAD_COND_INITIALIZER, crowd_over = PTHREAD_COND_INITIALIZER;
static int crowd_here, crowd_sent_home;

static void *crowd_member(void *wanted) {
    pthread_mutex_lock(&crowd_mutex);
    if (++crowd_here == *(int *)wanted) pthread_cond_signal(&crowd_full);
    while (!crowd_sent_home) pthread_cond_wait(&crowd_over, &crowd_mutex);
    pthread_mutex_unlock(&crowd_mutex);
    return NULL;
}

static double crowd_of_threads(int count) {
    pthread_t *threads = calloc((size_t)count, sizeof *threads);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    double before = now_ns();
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], &attributes, crowd_member, &count) != 0) fail("pthread_create");
    pthread_mutex_lock(&crowd_mutex);
    while (crowd_here != count) pthread_cond_wait(&crowd_full, &crowd_mutex);
    crowd_sent_home = 1;
    pthread_cond_broadcast(&crowd_over);
    pthread_mutex_unlock(&crowd_mutex);
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    double after = now_ns();
    free(threads);
    return after - before;
}

double threads_500(void) { return crowd_of_threads(500); }

double threads_4000(void) { return crowd_of_threads(4000); }
