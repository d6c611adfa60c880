/* Calls in quick succession, as they are posted and answered without traps, and what must hold between them all the same:
 * signals that a call raises have run their handlers when it returns, ids change with the call that changes them, writes
 * that must wait are whole. */
#include "show.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Enough that calls are found to be frequent, and some are posted. */
#define ROUNDS 3000

static volatile sig_atomic_t handled;

static void count(int signal)
{
    (void)signal;
    handled++;
}

/* Rounds after which something was not as it must be. */
static int wrong;
#define CHECK(condition) do { if (!(condition)) wrong++; } while (0)

static void report(const char *what)
{
    printf("%s: %d wrong\n", what, wrong);
    wrong = 0;
}

static void handlers_have_run(void)
{
    int ends[2];
    char byte = 'x';
    MUST(pipe(ends));
    signal(SIGIO, count);
    signal(SIGPIPE, count);
    signal(SIGUSR1, count);
    MUST(fcntl(ends[0], F_SETOWN, getpid()));
    MUST(fcntl(ends[0], F_SETFL, O_ASYNC));
    handled = 0;
    for (int round = 0; round < ROUNDS; round++) {
        CHECK(write(ends[1], &byte, 1) == 1);
        CHECK(handled == round + 1);
        CHECK(read(ends[0], &byte, 1) == 1 && byte == 'x');
    }
    report("SIGIO by a write to the own pipe");
    close(ends[0]);
    handled = 0;
    for (int round = 0; round < ROUNDS; round++) {
        CHECK(write(ends[1], &byte, 1) == -1 && errno == EPIPE);
        CHECK(handled == round + 1);
    }
    report("SIGPIPE");
    close(ends[1]);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    handled = 0;
    for (int round = 0; round < ROUNDS; round++) {
        sigprocmask(SIG_BLOCK, &set, NULL);
        kill(getpid(), SIGUSR1);
        CHECK(handled == round);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        CHECK(handled == round + 1);
    }
    report("a signal that is unblocked");
}

static void ids_change(void)
{
    for (int round = 0; round < ROUNDS / 10; round++) {
        int up[2], down[2];
        char byte = 'x';
        MUST(pipe(up));
        MUST(pipe(down));
        pid_t child = MUST(fork());
        if (child == 0) {
            CHECK(getpid() == syscall(SYS_gettid) && getpgrp() != getpid());
            write(up[1], &byte, 1);
            read(down[0], &byte, 1);
            CHECK(getpgrp() == getpid());
            _exit(wrong);
        }
        CHECK(read(up[0], &byte, 1) == 1);
        CHECK(setpgid(child, child) == 0 && getpgid(child) == child);
        CHECK(write(down[1], &byte, 1) == 1);
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        for (int end = 0; end < 2; end++) {
            close(up[end]);
            close(down[end]);
        }
    }
    report("a process group that the parent changes");
    int ends[2];
    char byte;
    MUST(pipe(ends));
    /* Its middle process dies, and the subreaper, this one, adopts the youngest. */
    MUST(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    pid_t self = getpid(), middle = MUST(fork());
    if (middle == 0) {
        pid_t parent = getpid();
        if (MUST(fork()) == 0) {
            while (getppid() == parent)
                ;
            _exit(getppid() == self ? 7 : 8);
        }
        _exit(0);
    }
    close(ends[1]);
    CHECK(read(ends[0], &byte, 1) == 0);
    close(ends[0]);
    int status, sum = 0;
    while (wait(&status) > 0)
        sum += WEXITSTATUS(status);
    CHECK(sum == 7);
    report("a parent that changes while its child looks");
}

/* The user id that all calls of this thread see. */
static void *thread_ids(void *argument)
{
    long id = (long)argument;
    for (int round = 0; round < ROUNDS; round++) {
        CHECK(getuid() == (uid_t)id && geteuid() == (uid_t)id);
        CHECK(syscall(SYS_setresuid, -1, id, -1) == 0);
        CHECK(getpid() != syscall(SYS_gettid));
    }
    return NULL;
}

static char data[300000], taken[sizeof data];

static void *writer(void *argument)
{
    int fd = *(int *)argument;
    for (int round = 0; round < 20; round++)
        CHECK(write(fd, data, sizeof data) == sizeof data);
    close(fd);
    return NULL;
}

static void writes_are_whole(void)
{
    for (size_t at = 0; at < sizeof data; at++)
        data[at] = (char)(at % 251);
    int ends[2];
    MUST(pipe(ends));
    pthread_t thread;
    pthread_create(&thread, NULL, writer, &ends[1]);
    size_t total = 0;
    ssize_t got;
    while ((got = read(ends[0], taken, 1 + total % 9000)) > 0) {
        for (ssize_t at = 0; at < got; at++)
            CHECK(taken[at] == data[(total + (size_t)at) % sizeof data]);
        total += (size_t)got;
    }
    pthread_join(thread, NULL);
    close(ends[0]);
    CHECK(total == 20 * sizeof data);
    report("writes that wait");
}

static void memory_is_there(void)
{
    char *start = sbrk(0);
    for (int round = 0; round < ROUNDS / 10; round++) {
        char *end = sbrk(8192);
        CHECK(end == start + 8192L * round);
        int fd = MUST(open("/dev/zero", O_RDONLY));
        memset(end, 1, 8192);
        CHECK(read(fd, end + 100, 5000) == 5000 && end[100] == 0 && end[5099] == 0 && end[5100] == 1);
        close(fd);
    }
    CHECK(brk(start) == 0 && sbrk(0) == start);
    report("memory that grows");
}

int main(void)
{
    handlers_have_run();
    ids_change();
    pthread_t thread;
    pthread_create(&thread, NULL, thread_ids, (void *)(long)getuid());
    pthread_join(thread, NULL);
    report("the ids of a thread");
    writes_are_whole();
    memory_is_there();
    return 0;
}
