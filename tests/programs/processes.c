/* Processes: what a parent learns of its children, orphans, process groups and sessions. */
#include "show.h"
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/mman.h>
#include <sys/wait.h>

static volatile sig_atomic_t children_seen;
static siginfo_t last;

static void on_child(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    children_seen++;
    last = *info;
}

static void catch_children(int flags)
{
    struct sigaction action = { 0 };
    action.sa_sigaction = on_child;
    action.sa_flags = SA_SIGINFO | flags;
    sigaction(SIGCHLD, &action, NULL);
    children_seen = 0;
    memset(&last, 0, sizeof last);
}

/* Waits for SIGCHLDs with a blocked mask, so that none is missed. */
static void await_children(int count)
{
    sigset_t block, old;
    sigemptyset(&block);
    sigaddset(&block, SIGCHLD);
    sigprocmask(SIG_BLOCK, &block, &old);
    while (children_seen < count)
        sigsuspend(&old);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

/* A child that waits in pause() until it is killed. */
static pid_t sleeper(void)
{
    pid_t child = fork();
    if (!child) {
        signal(SIGCHLD, SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    return child;
}

static void endings(void)
{
    int status = -1;
    pid_t child = fork();
    if (!child)
        _exit(300);
    printf("same %d status %x\n", wait(&status) == child, status);
    child = sleeper();
    SHOW(waitpid(child, &status, WNOHANG));
    kill(child, SIGTERM);
    printf("same %d status %x\n", waitpid(child, &status, 0) == child, status);
    SHOW(waitpid(child, &status, 0));
    SHOW(wait(NULL));
    SHOW(waitpid(-1, NULL, 0x10));
    SHOW(waitpid((pid_t)0x80000000, NULL, 0));
    SHOW(waitpid(getpid(), NULL, 0));
    SHOW(kill(child, 0));
    child = fork();
    if (!child)
        _exit(5);
    siginfo_t info;
    memset(&info, 0x55, sizeof info);
    SHOW(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    printf("signo %d code %d errno %d same %d uid %d status %d\n", info.si_signo, info.si_code, info.si_errno,
           info.si_pid == child, info.si_uid == getuid(), info.si_status);
    /* A zombie takes signals. */
    SHOW(kill(child, SIGKILL));
    struct rusage usage;
    memset(&usage, 0x55, sizeof usage);
    printf("same %d status %x\n", wait4(child, &status, 0, &usage) == child, status);
    printf("usage %d\n", usage.ru_utime.tv_sec == 0 && usage.ru_nswap == 0);
    SHOW(waitid(P_ALL, 0, &info, WEXITED));
    SHOW(waitid(P_ALL, 0, &info, 0));
    SHOW(waitid(P_ALL, 0, &info, WNOHANG));
    SHOW(waitid(P_PID, 0, &info, WEXITED));
    SHOW(waitid(P_PGID, -1, &info, WEXITED));
    SHOW(waitid(9, 1, &info, WEXITED));
    SHOW(waitid(P_PIDFD, -1, &info, WEXITED));
    SHOW(waitid(P_PIDFD, 0, &info, WEXITED));
    child = sleeper();
    memset(&info, 0x55, sizeof info);
    SHOW(waitid(P_ALL, 0, &info, WEXITED | WNOHANG));
    printf("signo %d pid %d\n", info.si_signo, info.si_pid);
    kill(child, SIGKILL);
    SHOW(waitid(P_ALL, 0, NULL, WEXITED));
    child = fork();
    if (!child)
        _exit(1);
    SHOW(waitpid(child, (int *)8, 0));
    SHOW(waitpid(child, NULL, 0));
}

static void signals_of_children(void)
{
    int status;
    catch_children(0);
    pid_t child = fork();
    if (!child)
        _exit(17);
    await_children(1);
    printf("code %d same %d status %d uid %d\n", last.si_code, last.si_pid == child, last.si_status,
           last.si_uid == getuid());
    printf("same %d\n", wait(&status) == child);
    child = sleeper();
    kill(child, SIGSTOP);
    await_children(2);
    printf("code %d same %d status %d\n", last.si_code, last.si_pid == child, last.si_status);
    SHOW(waitpid(child, &status, WNOHANG));
    printf("same %d", waitpid(child, &status, WUNTRACED) == child);
    printf(" status %x\n", status);
    SHOW(waitpid(child, &status, WUNTRACED | WNOHANG));
    kill(child, SIGCONT);
    await_children(3);
    printf("code %d status %d\n", last.si_code, last.si_status);
    siginfo_t info;
    SHOW(waitid(P_PID, child, &info, WCONTINUED | WNOWAIT));
    printf("code %d status %d\n", info.si_code, info.si_status);
    printf("same %d", waitpid(child, &status, WCONTINUED) == child);
    printf(" status %x\n", status);
    SHOW(waitpid(child, &status, WCONTINUED | WNOHANG));
    kill(child, SIGSTOP);
    SHOW(waitid(P_PID, child, &info, WSTOPPED));
    /* On Linux the signal may come after the wait. */
    await_children(4);
    kill(child, SIGKILL);
    SHOW(waitid(P_PID, child, &info, WEXITED));
    printf("code %d status %d\n", info.si_code, info.si_status);
    catch_children(SA_NOCLDSTOP);
    child = sleeper();
    kill(child, SIGSTOP);
    SHOW(waitid(P_PID, child, &info, WSTOPPED));
    printf("seen %d\n", children_seen);
    kill(child, SIGKILL);
    await_children(1);
    SHOW(waitid(P_PID, child, &info, WEXITED));
    /* Nobody waits: no zombies. */
    catch_children(SA_NOCLDWAIT);
    child = fork();
    if (!child)
        _exit(3);
    await_children(1);
    SHOW(wait(&status));
    signal(SIGCHLD, SIG_IGN);
    child = fork();
    if (!child)
        _exit(3);
    SHOW(waitpid(child, &status, 0));
    signal(SIGCHLD, SIG_DFL);
}

/* A middle process makes a grandchild and ends; who gets the orphan? */
static void orphans(void)
{
    int flag = -1, pipe_fds[2], status;
    SHOW(prctl(PR_GET_CHILD_SUBREAPER, &flag));
    printf("flag %d\n", flag);
    SHOW(prctl(PR_SET_CHILD_SUBREAPER, 1));
    pipe(pipe_fds);
    pid_t middle = fork();
    if (!middle) {
        flag = -1;
        prctl(PR_GET_CHILD_SUBREAPER, &flag);
        printf("not inherited: %d\n", flag);
        if (!fork()) {
            char byte;
            close(pipe_fds[1]);
            read(pipe_fds[0], &byte, 1);
            printf("adopted %d\n", getppid() != 1 || flag == 0);
            _exit(9);
        }
        _exit(8);
    }
    pid_t self = getpid();
    (void)self;
    printf("same %d status", waitpid(middle, &status, 0) == middle);
    printf(" %x\n", status);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    printf("orphan %d", wait(&status) > 0);
    printf(" status %x\n", status);
    SHOW(wait(&status));
    SHOW(prctl(PR_SET_CHILD_SUBREAPER, 0));
    /* A signal at the parent's end. */
    pipe(pipe_fds);
    middle = fork();
    if (!middle) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_BLOCK, &set, NULL);
        int ready[2];
        pipe(ready);
        if (!fork()) {
            siginfo_t info;
            prctl(PR_SET_PDEATHSIG, SIGUSR1);
            close(ready[0]);
            close(ready[1]);
            printf("told %d\n", sigwaitinfo(&set, &info) == SIGUSR1);
            printf("code %d\n", info.si_code);
            write(pipe_fds[1], "x", 1);
            _exit(0);
        }
        char byte;
        close(ready[1]);
        read(ready[0], &byte, 1);
        _exit(0);
    }
    char byte;
    waitpid(middle, NULL, 0);
    SHOW(read(pipe_fds[0], &byte, 1));
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

/* A process group that loses its last tie while a member is stopped gets SIGHUP and SIGCONT. */
static void orphaned_groups(void)
{
    int pipe_fds[2], status;
    pipe(pipe_fds);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t leader = fork();
    if (!leader) {
        setsid();
        pid_t middle = fork();
        if (!middle) {
            pid_t member = fork();
            if (!member) {
                sigset_t set;
                sigemptyset(&set);
                sigaddset(&set, SIGHUP);
                sigprocmask(SIG_BLOCK, &set, NULL);
                setpgid(0, 0);
                raise(SIGSTOP);
                siginfo_t info;
                printf("continued, %d\n", sigwaitinfo(&set, &info));
                write(pipe_fds[1], "x", 1);
                _exit(0);
            }
            waitpid(member, &status, WUNTRACED);
            _exit(0);
        }
        waitpid(middle, &status, 0);
        char byte;
        SHOW(read(pipe_fds[0], &byte, 1));
        _exit(4);
    }
    waitpid(leader, &status, 0);
    printf("leader %x\n", status);
    wait(&status);
    SHOW(wait(&status));
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void jobs(void)
{
    int status;
    pid_t outer = fork();
    if (!outer) {
        printf("session %d\n", setsid() == getpid());
        SHOW(setsid());
        SHOW(setpgid(0, 0));
        pid_t first = sleeper(), second = sleeper();
        printf("inherited %d %d\n", getpgid(first) == getpid(), getsid(first) == getpid());
        SHOW(setpgid(first, first));
        SHOW(setpgid(second, first));
        printf("joined %d %d\n", getpgid(first) == first, getpgid(second) == first);
        SHOW(setpgid(second, 4194000));
        SHOW(setpgid(second, -1));
        SHOW(setpgid(4194000, 0));
        SHOW(setpgid(getppid(), 0));
        SHOW(getpgid(4194000));
        SHOW(getsid(4194000));
        SHOW(getpgid(-1));
        SHOW(kill(-first, 0));
        SHOW(kill(-4194000, 0));
        SHOW(kill(-first, SIGKILL));
        printf("group %d", waitpid(-first, &status, 0) > 0);
        printf(" status %x\n", status);
        printf("group %d", waitpid(-first, &status, 0) > 0);
        printf(" status %x\n", status);
        SHOW(waitpid(-first, &status, 0));
        SHOW(kill(-first, 0));
        /* Its number names a group as long as that has members. */
        pid_t away = fork();
        if (!away) {
            SHOW(setsid() == getpid());
            _exit(0);
        }
        waitpid(away, &status, 0);
        first = fork();
        if (!first) {
            execl("/proc/self/exe", "processes", "pause", NULL);
            _exit(1);
        }
        /* Wait until it has executed: then it may not be moved any more. */
        while (setpgid(first, first) == 0)
            sched_yield();
        SHOW(setpgid(first, first));
        kill(first, SIGKILL);
        waitpid(first, &status, 0);
        _exit(0);
    }
    waitpid(outer, &status, 0);
    printf("outer %x\n", status);
}

/* What a child has of its parent, and what it has not. */
static void inheritance(void)
{
    int status;
    sigset_t set, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR2);
    alarm(1000);
    signal(SIGUSR1, SIG_IGN);
    static char stack[65536];
    stack_t alternate = { stack, 0, sizeof stack };
    sigaltstack(&alternate, NULL);
    prctl(PR_SET_PDEATHSIG, SIGUSR1);
    prctl(PR_SET_NAME, "inherited");
    umask(027);
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *gone = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *wiped = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(gone, 7, 8192);
    memset(wiped, 7, 8192);
    SHOW(madvise(gone, 8192, MADV_DONTFORK));
    SHOW(madvise(wiped, 8192, MADV_WIPEONFORK));
    pid_t child = fork();
    if (!child) {
        int signal_number = -1;
        char name[16] = "";
        sigpending(&pending);
        sigset_t mask;
        sigprocmask(SIG_BLOCK, NULL, &mask);
        printf("pending %d blocked %d alarm %u\n", sigismember(&pending, SIGUSR2), sigismember(&mask, SIGUSR2), alarm(0));
        struct sigaction action;
        sigaction(SIGUSR1, NULL, &action);
        stack_t now;
        sigaltstack(NULL, &now);
        prctl(PR_GET_PDEATHSIG, &signal_number);
        prctl(PR_GET_NAME, name);
        printf("ignored %d stack %d death %d name %s umask %o\n", action.sa_handler == SIG_IGN, now.ss_sp == stack,
               signal_number, name, umask(0));
        SHOW(mincore(gone, 4096, (unsigned char *)name));
        printf("wiped %d %d\n", wiped[0], wiped[8191]);
        wiped[1] = 1;
        *shared = 42;
        _exit(0);
    }
    waitpid(child, &status, 0);
    printf("child %x shared %d kept %d %d\n", status, *shared, wiped[0], wiped[1]);
    alarm(0);
    sigtimedwait(&set, NULL, (struct timespec[1]){ 0 });
    struct rusage usage;
    SHOW(getrusage(RUSAGE_CHILDREN, &usage));
}

/* Whoever learns of an end by waiting has been told of it before. */
static void told_before_waiting(void)
{
    int ends[2], status, told = 0;
    char byte;
    MUST(pipe(ends));
    catch_children(0);
    for (int at = 1; at <= 300; at++) {
        pid_t child = MUST(fork());
        if (child == 0) {
            MUST(write(ends[1], "x", 1));
            _exit(0);
        }
        while (read(ends[0], &byte, 1) < 0)
            ;
        while (waitpid(child, &status, 0) < 0)
            ;
        told += children_seen == at;
    }
    SHOW(told);
}

int main(int count, char **args)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    if (count > 1) {
        (void)args;
        for (;;)
            pause();
    }
    endings();
    signals_of_children();
    orphans();
    orphaned_groups();
    jobs();
    inheritance();
    told_before_waiting();
    return 0;
}
