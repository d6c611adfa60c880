/* seccomp: strict mode and filters, what each action does, how filters stack, and who may install them. */
#include "show.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <pthread.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF 0
#define PR_SYS_DISPATCH_ON 1
#define SYSCALL_DISPATCH_FILTER_ALLOW 0
#define SYSCALL_DISPATCH_FILTER_BLOCK 1
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, value)
/* Answers `value` to call `number` and allows the rest. */
#define RULE(number, value) { LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), ANSWER(value), ANSWER(SECCOMP_RET_ALLOW) }

static long install(struct sock_filter *filter, unsigned short len, unsigned flags)
{
    struct sock_fprog program = { len, filter };
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static long rule(int number, unsigned value)
{
    struct sock_filter filter[] = RULE(number, value);
    return install(filter, 4, 0);
}

/* Runs `act` in a child and shows how that ended. */
static void in_child(const char *name, void (*act)(void))
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        act();
        fflush(stdout);
        _exit(7);
    }
    int status;
    MUST(waitpid(child, &status, 0));
    if (WIFSIGNALED(status))
        printf("%s: killed by %d\n", name, WTERMSIG(status));
    else
        printf("%s: exit %d\n", name, WEXITSTATUS(status));
}

static void no_new_privileges(void)
{
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static void show_status(void)
{
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, file))
        if (strncmp(line, "Seccomp", 7) == 0 || strncmp(line, "NoNewPrivs", 10) == 0)
            fputs(line, stdout);
    fclose(file);
}

static void errors(void)
{
    struct sock_filter allow[] = { ANSWER(SECCOMP_RET_ALLOW) };
    struct sock_filter endless[] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0) };
    struct sock_filter beyond[] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), ANSWER(0) };
    struct sock_filter byte[] = { BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), ANSWER(0) };
    struct sock_filter zero[] = { BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), ANSWER(0) };
    struct sock_filter unwritten[] = { BPF_STMT(BPF_LD | BPF_MEM, 3), BPF_STMT(BPF_RET | BPF_A, 0) };
    SHOW(syscall(SYS_seccomp, 99, 0, NULL));
    SHOW(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL));
    SHOW(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, allow));
    SHOW(install(allow, 1, 1 << 20));
    SHOW(install(allow, 1, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_NEW_LISTENER));
    SHOW(install(allow, 0, 0));
    SHOW(install(allow, 4097, 0));
    SHOW(install((void *)8, 1, 0));
    SHOW(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (void *)8));
    SHOW(install(endless, 1, 0));
    SHOW(install(beyond, 2, 0));
    SHOW(install(byte, 2, 0));
    SHOW(install(zero, 2, 0));
    SHOW(install(unwritten, 2, 0));
    SHOW(prctl(PR_SET_SECCOMP, 3, 0, 0, 0));
    SHOW(prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    unsigned actions[] = { SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_TRAP, SECCOMP_RET_LOG, 0x12340000 };
    for (int i = 0; i < 4; i++)
        SHOW(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &actions[i]));
    SHOW(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 1, &actions[0]));
    struct seccomp_notif_sizes sizes;
    SHOW(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes));
    printf("%u %u %u\n", sizes.seccomp_notif, sizes.seccomp_notif_resp, sizes.seccomp_data);
}

static void unprivileged(void)
{
    if (geteuid() == 0)
        MUST(setresuid(1000, 1000, 1000));
    SHOW(rule(SYS_getppid, SECCOMP_RET_ERRNO | 5));
    no_new_privileges();
    SHOW(rule(SYS_getppid, SECCOMP_RET_ERRNO | EIO));
    SHOW(getppid());
    SHOW(syscall(SYS_getppid));
}

static void stacked(void)
{
    no_new_privileges();
    SHOW(rule(SYS_getpgrp, SECCOMP_RET_ERRNO | EPERM));
    SHOW(rule(SYS_getpgrp, SECCOMP_RET_ERRNO | EACCES));
    SHOW(syscall(SYS_getpgrp));
    SHOW(rule(SYS_getpgrp, SECCOMP_RET_LOG));
    SHOW(syscall(SYS_getpgrp));
    SHOW(rule(SYS_getsid, SECCOMP_RET_ERRNO | 0));
    SHOW(syscall(SYS_getsid, 123456));
    SHOW(rule(SYS_getpriority, SECCOMP_RET_ERRNO | 5000));
    SHOW(rule(SYS_times, SECCOMP_RET_TRACE | 3));
    SHOW(syscall(SYS_times, NULL));
    SHOW(rule(SYS_sync, SECCOMP_RET_USER_NOTIF));
    SHOW(syscall(SYS_sync));
    SHOW(syscall(SYS_getpriority, 0, 0));
    SHOW(prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    SHOW(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL));
    show_status();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        SHOW(syscall(SYS_getpgrp));
        fflush(stdout);
        execl("/bin/sh", "sh", "-c", "grep Seccomp: /proc/self/status", NULL);
        _exit(1);
    }
    int status;
    MUST(waitpid(child, &status, 0));
    printf("child %d\n", status);
}

static void arguments(void)
{
    /* Refuses kill of signals whose lower half is 0 only if the upper half of the pid is 7. */
    struct sock_filter filter[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 6),
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 0, 4),
        LOAD(args[0]) /* low half */,
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 9, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]) + 4),
        BPF_STMT(BPF_RET | BPF_A, 0),
        ANSWER(SECCOMP_RET_ALLOW),
    };
    no_new_privileges();
    SHOW(install(filter, 9, SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW));
    SHOW(syscall(SYS_getpriority, 1, 0));
    SHOW(syscall(SYS_getpriority, 10, (unsigned long)(SECCOMP_RET_ERRNO | 33) << 32));
}

static volatile sig_atomic_t caught;
static void on_sigsys(int signal, siginfo_t *info, void *context)
{
    (void)context;
    caught++;
    printf("signal %d code %d errno %d call %d arch %x\n", signal, info->si_code, info->si_errno, info->si_syscall,
           info->si_arch);
}

static void trapped(void)
{
    struct sigaction action = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };
    MUST(sigaction(SIGSYS, &action, NULL));
    no_new_privileges();
    SHOW(rule(SYS_getpgrp, SECCOMP_RET_TRAP | 0x1234));
    SHOW(syscall(SYS_getpgrp));
    TRUTH(caught == 1);
}

static void trapped_blocked(void)
{
    sigset_t all;
    sigfillset(&all);
    MUST(sigprocmask(SIG_BLOCK, &all, NULL));
    no_new_privileges();
    MUST(rule(SYS_getpgrp, SECCOMP_RET_TRAP));
    syscall(SYS_getpgrp);
}

static void killed(void)
{
    struct sigaction action = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };
    MUST(sigaction(SIGSYS, &action, NULL));
    no_new_privileges();
    MUST(rule(SYS_getpgrp, SECCOMP_RET_KILL_PROCESS));
    syscall(SYS_getpgrp);
}

static void unknown_action(void)
{
    no_new_privileges();
    MUST(rule(SYS_getpgrp, 0x00020000));
    syscall(SYS_getpgrp);
}

static void strict(void)
{
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    if (write(1, "still here\n", 11) != 11)
        syscall(SYS_exit, 1);
    syscall(SYS_exit, 3);
}

static void strict_killed(void)
{
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    syscall(SYS_getpid);
}

static int ready[2], go[2];
static void *sync_thread(void *unused)
{
    char byte;
    (void)unused;
    MUST(write(ready[1], "x", 1));
    MUST(read(go[0], &byte, 1));
    errno = 0;
    long result = syscall(SYS_getpgrp);
    return (void *)(long)(result == -1 ? errno : 0);
}

static void synchronized(void)
{
    pthread_t thread;
    char byte;
    void *result;
    struct sock_filter filter[] = RULE(SYS_getpgrp, SECCOMP_RET_ERRNO | EXDEV);
    no_new_privileges();
    MUST(pipe(ready));
    MUST(pipe(go));
    MUST(pthread_create(&thread, NULL, sync_thread, NULL));
    MUST(read(ready[0], &byte, 1));
    SHOW(install(filter, 4, SECCOMP_FILTER_FLAG_TSYNC));
    MUST(write(go[1], "x", 1));
    pthread_join(thread, &result);
    printf("thread: %s\n", error_name((int)(long)result));
}

static void *dying_thread(void *unused)
{
    (void)unused;
    MUST(rule(SYS_getpgrp, SECCOMP_RET_KILL_THREAD));
    syscall(SYS_getpgrp);
    return NULL;
}

static void thread_killed(void)
{
    pthread_t thread;
    no_new_privileges();
    MUST(pthread_create(&thread, NULL, dying_thread, NULL));
    pthread_join(thread, NULL);
    printf("the others live\n");
}

/* Calls that the program itself turns into signals. */
static volatile char selector = SYSCALL_DISPATCH_FILTER_ALLOW;

static void on_diverted(int signal, siginfo_t *info, void *context)
{
    /* This handler's own calls, and its return, pass. */
    selector = SYSCALL_DISPATCH_FILTER_ALLOW;
    on_sigsys(signal, info, context);
}

static long divert(unsigned long mode, unsigned long start, unsigned long len, const volatile char *byte)
{
    return prctl(PR_SET_SYSCALL_USER_DISPATCH, mode, start, len, byte);
}

static long diverted_call(long number)
{
    selector = SYSCALL_DISPATCH_FILTER_BLOCK;
    long result = syscall(number);
    selector = SYSCALL_DISPATCH_FILTER_ALLOW;
    return result;
}

static void diverted(void)
{
    struct sigaction action = { .sa_sigaction = on_diverted, .sa_flags = SA_SIGINFO };
    MUST(sigaction(SIGSYS, &action, NULL));
    SHOW(divert(PR_SYS_DISPATCH_OFF, 1, 0, NULL));
    SHOW(divert(PR_SYS_DISPATCH_OFF, 0, 0, &selector));
    SHOW(divert(PR_SYS_DISPATCH_ON, 4096, 0, &selector));
    SHOW(divert(PR_SYS_DISPATCH_ON, 4096, -1UL, &selector));
    SHOW(divert(PR_SYS_DISPATCH_ON, 0, 0, (char *)-1UL));
    SHOW(divert(7, 0, 0, NULL));
    SHOW(divert(PR_SYS_DISPATCH_ON, 0, 0, &selector));
    SHOW(diverted_call(SYS_getppid));
    SHOW(diverted_call(100000));
    TRUTH(caught == 2);
    /* All code below the middle of the address space passes, wherever the program is loaded: all of it. */
    SHOW(divert(PR_SYS_DISPATCH_ON, 1, 1UL << 62, &selector));
    TRUTH(diverted_call(SYS_getpid) == getpid());
    SHOW(divert(PR_SYS_DISPATCH_ON, 0, 0, &selector));
    /* A child starts without. */
    pid_t child = fork();
    if (child == 0)
        _exit(diverted_call(SYS_getpid) == getpid() ? 3 : 4);
    int status;
    MUST(waitpid(child, &status, 0));
    SHOW(WEXITSTATUS(status));
    SHOW(divert(PR_SYS_DISPATCH_OFF, 0, 0, NULL));
    TRUTH(diverted_call(SYS_getpid) == getpid());
    TRUTH(caught == 2);
}

static void diverted_by_nonsense(void)
{
    struct sigaction action = { .sa_sigaction = on_diverted, .sa_flags = SA_SIGINFO };
    MUST(sigaction(SIGSYS, &action, NULL));
    MUST(divert(PR_SYS_DISPATCH_ON, 0, 0, &selector));
    selector = 9;
    syscall(SYS_getpid);
}

static void diverted_by_nothing(void)
{
    MUST(divert(PR_SYS_DISPATCH_ON, 0, 0, (char *)8));
    syscall(SYS_getpid);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    in_child("errors", errors);
    in_child("unprivileged", unprivileged);
    in_child("stacked", stacked);
    in_child("arguments", arguments);
    in_child("trapped", trapped);
    in_child("trapped_blocked", trapped_blocked);
    in_child("killed", killed);
    in_child("unknown_action", unknown_action);
    in_child("strict", strict);
    in_child("strict_killed", strict_killed);
    in_child("synchronized", synchronized);
    in_child("thread_killed", thread_killed);
    in_child("diverted", diverted);
    in_child("diverted_by_nonsense", diverted_by_nonsense);
    in_child("diverted_by_nothing", diverted_by_nothing);
    return 0;
}
