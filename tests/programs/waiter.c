/* Waits for signals from outside in the way its first argument names; the second says how many it takes (0: it handles none). */
#include "show.h"
#include <poll.h>

static volatile sig_atomic_t last;

static void on_signal(int number)
{
    last = number;
}

static void on_continue(int number)
{
    (void)number;
    write(1, "continued\n", 10);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    const char *way = argv[1];
    int wanted = atoi(argv[2]);
    struct pollfd input = { 0, POLLIN, 0 };
    sigset_t set, empty;
    sigemptyset(&empty);
    sigfillset(&set);
    if (strcmp(way, "stop") == 0) {
        signal(SIGCONT, on_continue);
        printf("stopping\n");
        raise(SIGSTOP);
        return 7;
    }
    for (int number = 1; wanted > 0 && number < 32; number++)
        if (strcmp(way, "ignore") == 0)
            signal(number, SIG_IGN);
        else if (number != SIGSEGV && number != SIGCONT) {
            struct sigaction action = { .sa_handler = on_signal };
            sigaction(number, &action, NULL);
        }
    /* In the waits that can be told to, signals arrive only inside the wait: none is missed. */
    if ((strcmp(way, "pause") == 0 || strcmp(way, "poll") == 0) && wanted > 0)
        sigprocmask(SIG_BLOCK, &set, NULL);
    do {
        last = 0;
        printf("ready\n");
        if (strcmp(way, "pause") == 0)
            sigsuspend(&empty);
        else if (strcmp(way, "poll") == 0)
            ppoll(&input, 1, NULL, &empty);
        while (last == 0)
            ;
        printf("signal %d\n", (int)last);
    } while (--wanted > 0);
    return 7;
}
