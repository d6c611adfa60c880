/* Stops of a process with several threads: all stand still before the parent hears of it, and until they go on. */
#include "show.h"
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define COUNTERS 3

static struct shared {
    volatile long counts[COUNTERS];
    volatile int read;
    volatile int ready;
} *shared;
static int channel[2];

static void *count(void *argument)
{
    __sync_fetch_and_add(&shared->ready, 1);
    for (long at = (long)argument; at < COUNTERS;)
        shared->counts[at]++;
    return NULL;
}

static void *call(void *argument)
{
    __sync_fetch_and_add(&shared->ready, 1);
    for (long at = (long)argument; at < COUNTERS; sched_yield())
        shared->counts[at]++;
    return NULL;
}

static void *receive(void *argument)
{
    char byte;
    __sync_fetch_and_add(&shared->ready, 1);
    if (read(channel[0], &byte, 1) == 1)
        shared->read = byte;
    return argument;
}

static long sum(void)
{
    long sum = 0;
    for (int at = 0; at < COUNTERS; at++)
        sum += shared->counts[at];
    return sum;
}

/* Gives threads that wrongly run a chance to be seen. */
static void linger(void)
{
    for (int at = 0; at < 2000; at++)
        sched_yield();
}

static void stop(pid_t child, int signal)
{
    int status;
    long before;
    MUST(kill(child, signal));
    SHOW(waitpid(child, &status, WUNTRACED) == child);
    printf("stopped %d by %d\n", WIFSTOPPED(status), WSTOPSIG(status));
    before = sum();
    linger();
    TRUTH(sum() == before);
    SHOW(waitpid(child, &status, WUNTRACED | WNOHANG));
}

static void go_on(pid_t child)
{
    int status;
    long before = sum();
    MUST(kill(child, SIGCONT));
    SHOW(waitpid(child, &status, WCONTINUED) == child);
    while (sum() == before)
        sched_yield();
}

int main(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(pipe(channel));
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, count, (void *)1);
        pthread_create(&thread, NULL, call, (void *)2);
        pthread_create(&thread, NULL, receive, NULL);
        count((void *)0);
    }
    /* In a group of its own, which is no orphan whoever started this program. */
    MUST(setpgid(child, child));
    while (shared->ready < 4)
        sched_yield();
    stop(child, SIGSTOP);
    /* What a thread waits for comes while it is stopped: it has it when it goes on. */
    MUST(write(channel[1], "x", 1));
    linger();
    SHOW(shared->read);
    go_on(child);
    while (shared->read == 0)
        sched_yield();
    SHOW(shared->read);
    stop(child, SIGTSTP);
    go_on(child);
    /* A stopped process is killed as a whole. */
    stop(child, SIGSTOP);
    MUST(kill(child, SIGKILL));
    int status;
    SHOW(waitpid(child, &status, 0) == child);
    SHOW(WTERMSIG(status));
    return 0;
}
