/* Threads of one process: joining, mutexes of all kinds, conditions, signals to one thread, CPU clocks, ends of all kinds. */
#include "show.h"
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

/* Of <linux/futex.h>, which not every C library finds. */
#define FUTEX_WAITERS 0x80000000u

#define THREADS 16
#define ROUNDS 200

static pthread_mutex_t mutex;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static long counter;
static __thread long own;

static void *count(void *argument)
{
    own = (long)argument;
    pthread_barrier_wait(&barrier);
    for (int round = 0; round < ROUNDS; round++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    return (void *)own;
}

/* A mutex of some kind, fought for. */
static void contend(const char *what, int protocol, int robust, int type, int shared)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutexattr_setrobust(&attributes, robust);
    pthread_mutexattr_settype(&attributes, type);
    pthread_mutexattr_setpshared(&attributes, shared);
    pthread_mutex_init(&mutex, &attributes);
    pthread_barrier_init(&barrier, NULL, THREADS);
    pthread_t threads[THREADS];
    counter = 0;
    for (long at = 0; at < THREADS; at++)
        MUST(-(pthread_create(&threads[at], NULL, count, (void *)at) != 0));
    long sum = 0;
    for (int at = 0; at < THREADS; at++) {
        void *result;
        MUST(-(pthread_join(threads[at], &result) != 0));
        sum += (long)result;
    }
    printf("%s: %ld, %ld\n", what, counter, sum);
    pthread_barrier_destroy(&barrier);
    pthread_mutex_destroy(&mutex);
}

static void *die_owning(void *argument)
{
    pthread_mutex_lock(argument);
    return NULL;
}

/* The owner of a robust mutex dies. */
static void robust(int protocol)
{
    pthread_mutexattr_t attributes;
    pthread_mutex_t lost;
    pthread_t thread;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&lost, &attributes);
    pthread_create(&thread, NULL, die_owning, &lost);
    pthread_join(thread, NULL);
    printf("robust %d: %s\n", protocol, error_name(pthread_mutex_lock(&lost)));
    printf("consistent: %s\n", error_name(pthread_mutex_consistent(&lost)));
    SHOW(pthread_mutex_unlock(&lost));
    SHOW(pthread_mutex_lock(&lost));
    SHOW(pthread_mutex_unlock(&lost));
}

struct inheritance {
    pthread_mutex_t lost;
    pthread_barrier_t held;
};

static void *hold_until_waited_for(void *argument)
{
    struct inheritance *inheritance = argument;
    pthread_mutex_lock(&inheritance->lost);
    pthread_barrier_wait(&inheritance->held);
    /* The waiters bit is set when somebody sleeps, or is about to. The word of the lock is glibc's first and musl's second;
       the other one has no such bit. */
    volatile unsigned *words = (volatile unsigned *)&inheritance->lost;
    while (!((words[0] | words[1]) & FUTEX_WAITERS))
        sched_yield();
    return NULL;
}

static void *wait_for_it(void *argument)
{
    struct inheritance *inheritance = argument;
    int result = pthread_mutex_lock(&inheritance->lost);
    if (result == EOWNERDEAD)
        pthread_mutex_consistent(&inheritance->lost);
    pthread_mutex_unlock(&inheritance->lost);
    return (void *)(long)result;
}

/* Somebody waits for a mutex whose owner dies. */
static void inherit(int protocol)
{
    struct inheritance inheritance;
    pthread_mutexattr_t attributes;
    pthread_t owner, waiters[3];
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&inheritance.lost, &attributes);
    pthread_barrier_init(&inheritance.held, NULL, 2);
    pthread_create(&owner, NULL, hold_until_waited_for, &inheritance);
    pthread_barrier_wait(&inheritance.held);
    for (int at = 0; at < 3; at++)
        pthread_create(&waiters[at], NULL, wait_for_it, &inheritance);
    pthread_join(owner, NULL);
    int heirs = 0, locked = 0;
    for (int at = 0; at < 3; at++) {
        void *result;
        pthread_join(waiters[at], &result);
        heirs += (long)result == EOWNERDEAD;
        locked += (long)result == EOWNERDEAD || (long)result == 0;
    }
    /* One heir or, where the lock has an owner in the kernel, now and then two: the second was given it before the first had made it
       consistent. */
    TRUTH(heirs >= 1);
    printf("inherit %d: %d locked it\n", protocol, locked);
}

static int turn;

static void *take_turns(void *argument)
{
    long own_turn = (long)argument;
    for (int round = 0; round < ROUNDS; round++) {
        pthread_mutex_lock(&mutex);
        while (turn != own_turn)
            pthread_cond_wait(&condition, &mutex);
        turn = (turn + 1) % 4;
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void conditions(int protocol)
{
    pthread_mutexattr_t attributes;
    pthread_t threads[4];
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutex_init(&mutex, &attributes);
    for (long at = 0; at < 4; at++)
        pthread_create(&threads[at], NULL, take_turns, (void *)at);
    for (int at = 0; at < 4; at++)
        pthread_join(threads[at], NULL);
    SHOW(turn);
    struct timespec past = { 1, 0 };
    pthread_mutex_lock(&mutex);
    printf("timed wait: %s\n", error_name(pthread_cond_timedwait(&condition, &mutex, &past)));
    pthread_mutex_unlock(&mutex);
    SHOW(pthread_mutex_destroy(&mutex));
}

static volatile pid_t handled_by;
static sem_t handled;

static void on_signal(int number)
{
    (void)number;
    handled_by = (pid_t)syscall(SYS_gettid);
    sem_post(&handled);
}

static void *sleep_and_tell(void *argument)
{
    *(pid_t *)argument = (pid_t)syscall(SYS_gettid);
    sem_post(&handled);
    /* Blocked until the wait, so that it cannot come before it. */
    sigset_t none;
    sigemptyset(&none);
    int result = ppoll(NULL, 0, NULL, &none);
    printf("interrupted: %d %s\n", result, error_name(errno));
    return NULL;
}

static void directed_signals(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    sigaction(SIGUSR1, &action, NULL);
    sem_init(&handled, 0, 0);
    pid_t tid;
    pthread_t thread;
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    pthread_create(&thread, NULL, sleep_and_tell, &tid);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    sem_wait(&handled);
    MUST(syscall(SYS_tgkill, getpid(), tid, SIGUSR1));
    while (sem_wait(&handled) != 0)
        ;
    pthread_join(thread, NULL);
    TRUTH(handled_by == tid);
    SHOW(syscall(SYS_tgkill, getpid() + 1, getpid(), 0));
}

static void *burn(void *argument)
{
    clockid_t clock;
    struct timespec now = { 0, 0 };
    pthread_getcpuclockid(pthread_self(), &clock);
    while (now.tv_sec == 0 && now.tv_nsec < 20000000)
        MUST(clock_gettime(clock, &now));
    sem_post(argument);
    sem_wait(&handled);
    return NULL;
}

static long nanoseconds(clockid_t clock)
{
    struct timespec now;
    MUST(clock_gettime(clock, &now));
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

static void cpu_clocks(void)
{
    pthread_t threads[2];
    sem_t burnt;
    clockid_t clock;
    struct rusage usage;
    sem_init(&burnt, 0, 0);
    sem_init(&handled, 0, 0);
    long own_before = nanoseconds(CLOCK_THREAD_CPUTIME_ID), before = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    for (int at = 0; at < 2; at++)
        pthread_create(&threads[at], NULL, burn, &burnt);
    for (int at = 0; at < 2; at++)
        sem_wait(&burnt);
    TRUTH(nanoseconds(CLOCK_THREAD_CPUTIME_ID) - own_before < 20000000);
    TRUTH(nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - before >= 40000000);
    MUST(-(pthread_getcpuclockid(threads[0], &clock) != 0));
    TRUTH(nanoseconds(clock) >= 20000000);
    getrusage(RUSAGE_SELF, &usage);
    TRUTH(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec > 0 || usage.ru_utime.tv_usec + usage.ru_stime.tv_usec >= 40000);
    sem_post(&handled);
    sem_post(&handled);
    for (int at = 0; at < 2; at++)
        pthread_join(threads[at], NULL);
    TRUTH(nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - before >= 40000000);
}

static void *nothing(void *argument)
{
    return argument;
}

static void *end_process(void *argument)
{
    if (argument == NULL)
        exit(5);
    for (;;)
        pause();
}

static void *outlive(void *argument)
{
    (void)argument;
    /* The leader is a zombie once it cannot be signalled by its own clock any more; its entry stays. */
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/stat", getpid());
    for (;;) {
        FILE *file = fopen(path, "r");
        if (!file || !fgets(line, sizeof line, file))
            _exit(98);
        fclose(file);
        if (strstr(line, ") Z ") != NULL)
            break;
        sched_yield();
    }
    _exit(6);
}

/* How a process with threads ends. */
static void ends(void)
{
    for (int way = 0; way < 6; way++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;
            for (long at = 0; at < 8; at++)
                pthread_create(&thread, NULL, end_process, (void *)1);
            switch (way) {
            case 0: pthread_create(&thread, NULL, end_process, NULL); pause(); break;
            case 1: exit(7); break;
            case 2: kill(getpid(), SIGKILL); break;
            case 3: pthread_create(&thread, NULL, outlive, NULL); syscall(SYS_exit, 9); break;
            case 4: pthread_create(&thread, NULL, outlive, NULL); pthread_exit(NULL); break;
            default: execl("/proc/self/exe", "threads", "replaced", NULL); break;
            }
            _exit(97);
        }
        int status = -1;
        TRUTH(waitpid(child, &status, 0) == child);
        printf("way %d: %#x\n", way, status);
    }
}

static void *replace(void *argument)
{
    execl("/proc/self/exe", "threads", "by-thread", argument, NULL);
    return NULL;
}

int main(int count, char **arguments)
{
    if (count > 1) {
        TRUTH(getpid() == syscall(SYS_gettid));
        printf("%s\n", arguments[1]);
        if (count > 2)
            TRUTH(getpid() == atoi(arguments[2]));
        return 11;
    }
    contend("plain", PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, PTHREAD_MUTEX_NORMAL, PTHREAD_PROCESS_PRIVATE);
    contend("shared", PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, PTHREAD_MUTEX_NORMAL, PTHREAD_PROCESS_SHARED);
    contend("recursive", PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, PTHREAD_MUTEX_RECURSIVE, PTHREAD_PROCESS_PRIVATE);
    contend("owned", PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED, PTHREAD_MUTEX_NORMAL, PTHREAD_PROCESS_PRIVATE);
    contend("owned, shared", PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED, PTHREAD_MUTEX_NORMAL, PTHREAD_PROCESS_SHARED);
    contend("robust", PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, PTHREAD_MUTEX_NORMAL, PTHREAD_PROCESS_PRIVATE);
    contend("robust, owned", PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_ROBUST, PTHREAD_MUTEX_NORMAL, PTHREAD_PROCESS_SHARED);
    robust(PTHREAD_PRIO_NONE);
    robust(PTHREAD_PRIO_INHERIT);
    inherit(PTHREAD_PRIO_NONE);
    inherit(PTHREAD_PRIO_INHERIT);
    conditions(PTHREAD_PRIO_NONE);
    conditions(PTHREAD_PRIO_INHERIT);
    directed_signals();
    cpu_clocks();
    pthread_t thread;
    for (int at = 0; at < 500; at++) {
        pthread_create(&thread, NULL, nothing, NULL);
        pthread_join(thread, NULL);
    }
    ends();
    fflush(stdout);
    char pid[16];
    snprintf(pid, sizeof pid, "%d", getpid());
    pthread_create(&thread, NULL, replace, pid);
    for (;;)
        pause();
}
