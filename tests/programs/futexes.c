/* Futexes of one thread: values, time limits, errors. */
#include "show.h"
#include <time.h>
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define FUTEX_WAIT_BITSET 9
#define PRIVATE 128

static volatile int ticks;

static void on_tick(int number)
{
    (void)number;
    ticks++;
}

static long futex(void *word, int operation, int value, const struct timespec *limit, long bits)
{
    return syscall(SYS_futex, word, operation, value, limit, NULL, bits);
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
    signal(SIGALRM, on_tick);
    struct sigaction action = { .sa_handler = on_tick };
    sigaction(SIGALRM, &action, NULL);
    ualarm(20000, 0);
    SHOW(futex(&word, FUTEX_WAIT | PRIVATE, 5, NULL, 0));
    SHOW(ticks);
    return 0;
}
