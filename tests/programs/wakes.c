/* Wake-ups that come while somebody waits, is about to, or no longer does: none is lost, and who waits for nothing is not counted as woken.
 * In threads, after fork and execve, beside a parent that shares the memory, and through requeues. */
#include "show.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define ROUNDS 4000
#define THREADS 4

static long wait_for(int *word, int value)
{
    return syscall(SYS_futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static long wake(int *word, int count)
{
    return syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, NULL, NULL, 0);
}

/* A baton that two pass to each other: each stores, wakes in any case, and waits for the other's store. */
struct baton { int turn; int woken; };

static void pass(struct baton *baton, int own)
{
    for (int round = 0; round < ROUNDS; round++) {
        int seen;
        while ((seen = __atomic_load_n(&baton->turn, __ATOMIC_SEQ_CST)) % 2 != own)
            wait_for(&baton->turn, seen);
        __atomic_store_n(&baton->turn, seen + 1, __ATOMIC_SEQ_CST);
        long woken = wake(&baton->turn, 1);
        if (woken < 0 || woken > 1)
            printf("woken: %ld\n", woken);
        /* Now and then the other is asleep, now and then it has not looked yet. */
        if (round % 7 == 0)
            sched_yield();
    }
}

static void *other_half(void *baton)
{
    pass(baton, 1);
    return NULL;
}

static void two_threads(const char *where)
{
    static struct baton baton;
    pthread_t other;
    baton.turn = 0;
    MUST(pthread_create(&other, NULL, other_half, &baton));
    pass(&baton, 0);
    pthread_join(other, NULL);
    printf("%s: %d\n", where, baton.turn);
}

/* A gate that opens for all at once: those that wait there are moved to the lock's word, and woken one after the other. */
static int gate, lock, inside, passed;

static void *visitor(void *unused)
{
    __atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&gate, __ATOMIC_SEQ_CST) == 0)
        wait_for(&gate, 0);
    /* 0: free; 2: taken, and somebody may wait. */
    while (__atomic_exchange_n(&lock, 2, __ATOMIC_SEQ_CST) != 0)
        wait_for(&lock, 2);
    passed++;
    __atomic_store_n(&lock, 0, __ATOMIC_SEQ_CST);
    wake(&lock, 1);
    return unused;
}

static void moved_sleepers(void)
{
    int all = 0;
    for (int round = 0; round < 100; round++) {
        pthread_t threads[THREADS];
        gate = lock = inside = passed = 0;
        for (int i = 0; i < THREADS; i++)
            MUST(pthread_create(&threads[i], NULL, visitor, NULL));
        while (__atomic_load_n(&inside, __ATOMIC_SEQ_CST) < THREADS)
            sched_yield();
        __atomic_store_n(&lock, 2, __ATOMIC_SEQ_CST);
        __atomic_store_n(&gate, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &gate, FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG, 1, (void *)(long)THREADS, &lock, 1);
        __atomic_store_n(&lock, 0, __ATOMIC_SEQ_CST);
        wake(&lock, 1);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        all += passed;
    }
    printf("moved sleepers: %d passed\n", all);
}

/* A process that shares the memory of its parent, which it wakes. */
static struct baton shared;

static int sharer(void *unused)
{
    (void)unused;
    pass(&shared, 1);
    return 0;
}

static void shared_memory(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    int status = -1;
    pid_t child = clone(sharer, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
    pass(&shared, 0);
    waitpid(child, &status, 0);
    printf("a process of the same memory: %d, status %d\n", shared.turn, status);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        two_threads("after execve");
        return 0;
    }
    static int nobody;
    for (int i = 0; i < 2000; i++)
        if (wake(&nobody, 1 + i) != 0)
            printf("somebody waits\n");
    SHOW(wake((int *)((char *)&nobody + 1), 1));
    SHOW(wake((int *)0x1000, 1));
    SHOW(wake((int *)-4096, 1));
    SHOW(wake((int *)(1L << 47), 1));
    two_threads("at first");
    moved_sleepers();
    shared_memory();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        two_threads("after fork");
        fflush(stdout);
        execl(argv[0], argv[0], "again", NULL);
        _exit(1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    two_threads("at last");
    SHOW(status);
    return 0;
}
