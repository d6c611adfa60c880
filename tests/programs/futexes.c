/* Futexes of one thread: values, time limits, errors. */
#include "show.h"
#include <linux/futex.h>
#include <sys/mman.h>
#include <time.h>
#define PRIVATE 128
#define LOCK_PI2 13
#define SIZE_U32 2

static volatile int ticks;

static void on_tick(int number)
{
    (void)number;
    ticks++;
}

static long futex2(void *word, int operation, int value, long count, void *other, long third)
{
    return syscall(SYS_futex, word, operation, value, count, other, third);
}

static long futex(void *word, int operation, int value, const struct timespec *limit, long bits)
{
    return syscall(SYS_futex, word, operation, value, limit, NULL, bits);
}

/* FUTEX_WAKE_OP, requeues and their errors; nobody waits. */
static void operations(void)
{
    static int first = 1, second = 10;
    for (int operation = 0; operation < 7; operation++) {
        SHOW(futex2(&first, FUTEX_WAKE_OP, 1, 1, &second, FUTEX_OP(operation, 3, FUTEX_OP_CMP_EQ, 0)));
        SHOW(second);
    }
    SHOW(futex2(&first, FUTEX_WAKE_OP, 1, 1, &second, FUTEX_OP((FUTEX_OP_SET | FUTEX_OP_OPARG_SHIFT), 5, FUTEX_OP_CMP_LT, 0)));
    SHOW(second);
    SHOW(futex2(&first, FUTEX_WAKE_OP, 1, 1, &second, FUTEX_OP(FUTEX_OP_SET, 0xfff, FUTEX_OP_CMP_GE, 0)));
    SHOW(second);
    SHOW(futex2(&first, FUTEX_WAKE_OP, 1, 1, &second, FUTEX_OP(FUTEX_OP_ADD, 1, 7, 0)));
    SHOW(second);
    SHOW(futex2(&first, FUTEX_WAKE_OP | PRIVATE, 1, 1, (void *)0x1000, FUTEX_OP(FUTEX_OP_ADD, 1, 0, 0)));
    SHOW(futex2(&first, FUTEX_WAKE_OP, 1, 1, (char *)&second + 1, FUTEX_OP(FUTEX_OP_ADD, 1, 0, 0)));
    SHOW(futex2(&first, FUTEX_REQUEUE, 1, 1, &second, 0));
    SHOW(futex2(&first, FUTEX_REQUEUE, -1, 1, &second, 0));
    SHOW(futex2(&first, FUTEX_REQUEUE, 1, -1, &second, 0));
    SHOW(futex2(&first, FUTEX_CMP_REQUEUE, 1, 1, &second, 1));
    SHOW(futex2(&first, FUTEX_CMP_REQUEUE, 1, 1, &second, 2));
    SHOW(futex2(&first, FUTEX_CMP_REQUEUE | PRIVATE, 1, 1, (char *)&second + 2, 2));
    SHOW(futex2(&first, FUTEX_WAKE_BITSET, 1, 0, NULL, 0));
    SHOW(futex2(&first, FUTEX_WAKE_BITSET, 1, 0, NULL, 8));
    SHOW(futex2(&first, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1, 0, NULL, 0));
    SHOW(futex2(&first, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 7, 0, NULL, 0));
    SHOW(futex2((void *)0x1000, FUTEX_WAKE, 1, 0, NULL, 0));
    SHOW(futex2((void *)0x1000, FUTEX_WAKE | PRIVATE, 1, 0, NULL, 0));
    SHOW(futex2((void *)-4096, FUTEX_WAKE | PRIVATE, 1, 0, NULL, 0));
    SHOW(futex2((void *)-4096, FUTEX_WAIT | PRIVATE, 1, 0, NULL, 0));
}

/* Futexes with an owner, by one thread. */
static void owners(void)
{
    static unsigned word, condition = 3;
    unsigned self = (unsigned)syscall(SYS_gettid);
    struct timespec past = { 1, 0 }, wrong = { 0, 1000000000 };
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, 0));
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, 0));
    TRUTH(word == self);
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, 0));
    SHOW(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, 0));
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, 0));
    SHOW(word);
    SHOW(futex(&word, FUTEX_TRYLOCK_PI | PRIVATE, 0, NULL, 0));
    SHOW(futex(&word, FUTEX_UNLOCK_PI | PRIVATE, 0, NULL, 0));
    word = 0x3ffffff0;
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, 0));
    TRUTH(word == 0xbffffff0);
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, 0));
    word = 0x40000000;
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, 0));
    TRUTH(word == (0x40000000 | self));
    word = 0;
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, &wrong, 0));
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, &past, 0));
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, 0));
    SHOW(futex(&word, LOCK_PI2, 0, &past, 0));
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, 0));
    SHOW(futex(&word, LOCK_PI2 | FUTEX_CLOCK_REALTIME, 0, &past, 0));
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, 0));
    SHOW(futex((char *)&word + 1, FUTEX_LOCK_PI, 0, NULL, 0));
    SHOW(futex((void *)0x1000, FUTEX_LOCK_PI, 0, NULL, 0));
    SHOW(syscall(SYS_futex, &condition, FUTEX_WAIT_REQUEUE_PI, 2, &past, &word, 0));
    SHOW(syscall(SYS_futex, &condition, FUTEX_WAIT_REQUEUE_PI, 3, &past, &word, 0));
    SHOW(syscall(SYS_futex, &condition, FUTEX_WAIT_REQUEUE_PI, 3, &past, &condition, 0));
    SHOW(futex2(&condition, FUTEX_CMP_REQUEUE_PI, 1, 1, &word, 3));
    SHOW(futex2(&condition, FUTEX_CMP_REQUEUE_PI, 2, 1, &word, 3));
    SHOW(futex2(&condition, FUTEX_CMP_REQUEUE_PI, 1, 1, &word, 4));
    SHOW(futex2(&condition, FUTEX_CMP_REQUEUE_PI, 1, 1, &condition, 3));
}

struct waiter {
    uint64_t value, at;
    uint32_t flags, reserved;
};

static void newer_calls(void)
{
    static uint32_t words[2] = { 1, 2 };
    struct timespec past = { 1, 0 }, wrong = { 0, -1 };
    struct waiter list[2] = { { 1, (uintptr_t)&words[0], SIZE_U32 | PRIVATE, 0 }, { 2, (uintptr_t)&words[1], SIZE_U32, 0 } };
    SHOW(syscall(449, list, 2, 0, &past, CLOCK_MONOTONIC));
    SHOW(syscall(449, list, 2, 0, &past, CLOCK_REALTIME));
    SHOW(syscall(449, list, 2, 0, &past, CLOCK_BOOTTIME));
    SHOW(syscall(449, list, 2, 0, &wrong, CLOCK_MONOTONIC));
    SHOW(syscall(449, list, 2, 1, &past, CLOCK_MONOTONIC));
    SHOW(syscall(449, list, 0, 0, &past, CLOCK_MONOTONIC));
    SHOW(syscall(449, list, 129, 0, &past, CLOCK_MONOTONIC));
    SHOW(syscall(449, NULL, 2, 0, &past, CLOCK_MONOTONIC));
    SHOW(syscall(449, (void *)0x1000, 2, 0, &past, CLOCK_MONOTONIC));
    list[1].value = 3;
    SHOW(syscall(449, list, 2, 0, &past, CLOCK_MONOTONIC));
    list[1].value = 1ull << 32;
    SHOW(syscall(449, list, 2, 0, &past, CLOCK_MONOTONIC));
    list[1].value = 2, list[1].flags = 0;
    SHOW(syscall(449, list, 2, 0, &past, CLOCK_MONOTONIC));
    list[1].flags = SIZE_U32 | 16;
    SHOW(syscall(449, list, 2, 0, &past, CLOCK_MONOTONIC));
    list[1].flags = SIZE_U32, list[1].reserved = 1;
    SHOW(syscall(449, list, 2, 0, &past, CLOCK_MONOTONIC));
    list[1].reserved = 0, list[1].at++;
    SHOW(syscall(449, list, 2, 0, &past, CLOCK_MONOTONIC));
    list[1].at = 0x1000;
    SHOW(syscall(449, list, 2, 0, &past, CLOCK_MONOTONIC));
    list[1].at = (uintptr_t)&words[1];
    SHOW(syscall(454, words, 1, 1, SIZE_U32));
    SHOW(syscall(454, words, 0, 1, SIZE_U32));
    SHOW(syscall(454, words, 1, 0, SIZE_U32));
    SHOW(syscall(454, words, 1ll << 32, 1, SIZE_U32));
    SHOW(syscall(454, words, 1, 1, 0));
    SHOW(syscall(455, words, 2, 1, SIZE_U32, &past, CLOCK_MONOTONIC));
    SHOW(syscall(455, words, 1, 1, SIZE_U32, &past, CLOCK_MONOTONIC));
    SHOW(syscall(455, words, 1, 0, SIZE_U32, &past, CLOCK_MONOTONIC));
    SHOW(syscall(455, words, 1, 1, SIZE_U32, &past, CLOCK_BOOTTIME));
    SHOW(syscall(455, words, 1ll << 33, 1, SIZE_U32, &past, CLOCK_MONOTONIC));
    SHOW(syscall(456, list, 0, 1, 1));
    list[0].flags = SIZE_U32;
    SHOW(syscall(456, list, 0, 1, 1));
    SHOW(syscall(456, list, 1, 1, 1));
    SHOW(syscall(456, list, 0, -1, 1));
    SHOW(syscall(456, NULL, 0, 1, 1));
    list[0].value = 5;
    SHOW(syscall(456, list, 0, 1, 1));
}

/* Which mappings have words that can be waited on. */
static void shared_words(void)
{
    struct timespec past = { 1, 0 };
    static const int rights[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
    static const int kinds[] = { MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS };
    for (int kind = 0; kind < 2; kind++)
        for (int right = 0; right < 3; right++) {
            void *page = mmap(NULL, 4096, rights[right], kinds[kind], -1, 0);
            SHOW(futex(page, FUTEX_WAKE, 1, NULL, 0));
            SHOW(futex(page, FUTEX_WAKE | PRIVATE, 1, NULL, 0));
            SHOW(futex(page, FUTEX_WAIT_BITSET, 0, &past, -1));
            SHOW(futex(page, FUTEX_WAIT_BITSET | PRIVATE, 0, &past, -1));
            SHOW(futex(page, FUTEX_LOCK_PI, 0, NULL, 0));
            munmap(page, 4096);
        }
}

int main(void)
{
    static int word = 5;
    struct timespec little = { 0, 5000000 }, wrong = { 0, -1 }, past = { 1, 0 };
    SHOW(futex(&word, FUTEX_WAIT, 4, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT | PRIVATE, 4, &little, 0));
    SHOW(futex(&word, FUTEX_WAIT, 5, &little, 0));
    SHOW(futex(&word, FUTEX_WAIT | PRIVATE, 5, &little, 0));
    SHOW(futex(&word, FUTEX_WAIT, 5, &wrong, 0));
    SHOW(futex(&word, FUTEX_WAIT_BITSET | PRIVATE, 5, &past, -1));
    SHOW(futex(&word, FUTEX_WAIT_BITSET | PRIVATE, 5, &past, 0));
    SHOW(futex(&word, FUTEX_WAKE, 1, NULL, 0));
    SHOW(futex(&word, FUTEX_WAKE | PRIVATE, 100, NULL, 0));
    SHOW(futex((char *)&word + 1, FUTEX_WAKE, 1, NULL, 0));
    SHOW(futex((char *)&word + 1, FUTEX_WAIT, 1, NULL, 0));
    SHOW(futex((void *)0x1000, FUTEX_WAIT, 1, NULL, 0));
    SHOW(futex(&word, 99, 1, NULL, 0));
    operations();
    owners();
    newer_calls();
    shared_words();
    signal(SIGALRM, on_tick);
    struct sigaction action = { .sa_handler = on_tick };
    sigaction(SIGALRM, &action, NULL);
    ualarm(20000, 0);
    SHOW(futex(&word, FUTEX_WAIT | PRIVATE, 5, NULL, 0));
    SHOW(ticks);
    return 0;
}
