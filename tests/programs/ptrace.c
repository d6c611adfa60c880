/* ptrace: a tracer sees and changes calls, signals, memory and registers of its tracees, and is told of what they do. */
#include "show.h"
#include <elf.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reg.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

static const char *describe(int status)
{
    static char text[64];
    if (WIFEXITED(status))
        snprintf(text, sizeof text, "exited %d", WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "killed by %d", WTERMSIG(status));
    else if (WIFCONTINUED(status))
        snprintf(text, sizeof text, "continued");
    else
        snprintf(text, sizeof text, "stopped by %d event %d", WSTOPSIG(status), status >> 16);
    return text;
}

static int wait_for(const char *what, pid_t child)
{
    int status;
    MUST(waitpid(child, &status, __WALL));
    printf("%s: %s\n", what, describe(status));
    return status;
}

/* Starts a tracee that stops itself first. */
static pid_t tracee(void (*act)(void))
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        MUST(ptrace(PTRACE_TRACEME, 0, 0, 0));
        raise(SIGSTOP);
        act();
        _exit(7);
    }
    wait_for("start", child);
    return child;
}

static void finish(pid_t child)
{
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("end", child);
}

/* --- calls --- */

static void two_calls(void)
{
    syscall(SYS_getpriority, 11, 22);
    syscall(SYS_close, 12345);
}

static void show_information(pid_t child)
{
    struct __ptrace_syscall_info info = { 0 };
    long size = MUST(ptrace(PTRACE_GET_SYSCALL_INFO, child, (void *)sizeof info, &info));
    printf("information: size %ld op %d arch %x", size, info.op, info.arch);
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
        printf(" call %llu(%llu)", (unsigned long long)info.entry.nr, (unsigned long long)info.entry.args[0]);
    if (info.op == PTRACE_SYSCALL_INFO_EXIT)
        printf(" result %lld error %d", (long long)info.exit.rval, info.exit.is_error);
    printf("\n");
}

static void calls(void)
{
    struct user_regs_struct regs;
    pid_t child = tracee(two_calls);
    SHOW(ptrace(PTRACE_SETOPTIONS, child, 0, 1 << 30));
    SHOW(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD));
    show_information(child);
    for (int i = 0; i < 4; i++) {
        MUST(ptrace(PTRACE_SYSCALL, child, 0, 0));
        wait_for("call", child);
        show_information(child);
        MUST(ptrace(PTRACE_GETREGS, child, 0, &regs));
        printf("orig_rax %lld rax %lld cs %llx ss %llx\n", (long long)regs.orig_rax, (long long)regs.rax, regs.cs, regs.ss);
    }
    finish(child);
}

static void changed_call(void)
{
    if (syscall(SYS_getpriority, 11, 22) != 4321)
        _exit(1);
    if (syscall(SYS_getpriority, 11, 22) != 99)
        _exit(2);
    errno = 0;
    if (syscall(SYS_getpriority, 11, 22) != -1 || errno != EBADF)
        _exit(3);
}

static void changes(void)
{
    struct user_regs_struct regs;
    pid_t child = tracee(changed_call);
    /* The first is skipped, and gets a result of the tracer's. */
    MUST(ptrace(PTRACE_SYSCALL, child, 0, 0));
    wait_for("entry", child);
    SHOW(ptrace(PTRACE_POKEUSER, child, ORIG_RAX * 8, -1));
    SHOW(ptrace(PTRACE_POKEUSER, child, RAX * 8, 4321));
    /* The second is made, and its result replaced. */
    MUST(ptrace(PTRACE_SYSCALL, child, 0, 0));
    wait_for("exit", child);
    MUST(ptrace(PTRACE_SYSCALL, child, 0, 0));
    wait_for("entry", child);
    SHOW(ptrace(PTRACE_PEEKUSER, child, RDI * 8, 0));
    MUST(ptrace(PTRACE_SYSCALL, child, 0, 0));
    wait_for("exit", child);
    SHOW(ptrace(PTRACE_POKEUSER, child, RAX * 8, 99));
    /* The third becomes another call. */
    MUST(ptrace(PTRACE_SYSCALL, child, 0, 0));
    wait_for("entry", child);
    MUST(ptrace(PTRACE_GETREGS, child, 0, &regs));
    regs.orig_rax = SYS_close;
    regs.rdi = 12345;
    MUST(ptrace(PTRACE_SETREGS, child, 0, &regs));
    finish(child);
}

static void emulated_calls(void)
{
    if (syscall(SYS_getpriority, 11, 22) != 77)
        _exit(1);
}

static void emulation(void)
{
    pid_t child = tracee(emulated_calls);
    MUST(ptrace(PTRACE_SYSEMU, child, 0, 0));
    wait_for("emulated", child);
    SHOW(ptrace(PTRACE_PEEKUSER, child, ORIG_RAX * 8, 0));
    MUST(ptrace(PTRACE_POKEUSER, child, RAX * 8, 77));
    finish(child);
}

/* --- memory and registers --- */

static volatile long variable = 0x1122334455667788;
static volatile int reached;

__attribute__((noinline)) static void breakpoint_here(void)
{
    __asm__ volatile("nop; nop; nop" ::: "memory");
    reached++;
}

static void stop_at_breakpoint(void)
{
    breakpoint_here();
    if (variable != 5)
        _exit(1);
    if (reached != 1)
        _exit(2);
}

static void memory(void)
{
    struct user_regs_struct regs;
    siginfo_t info;
    pid_t child = tracee(stop_at_breakpoint);
    errno = 0;
    TRUTH(ptrace(PTRACE_PEEKDATA, child, &variable, 0) == 0x1122334455667788);
    SHOW(ptrace(PTRACE_POKEDATA, child, &variable, 5));
    SHOW(ptrace(PTRACE_PEEKDATA, child, 8, 0));
    SHOW(ptrace(PTRACE_POKEDATA, child, 8, 0));
    long text = MUST(ptrace(PTRACE_PEEKTEXT, child, breakpoint_here, 0));
    MUST(ptrace(PTRACE_POKETEXT, child, breakpoint_here, (text & ~0xffL) | 0xcc));
    TRUTH(*(unsigned char *)breakpoint_here != 0xcc);
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("breakpoint", child);
    MUST(ptrace(PTRACE_GETSIGINFO, child, 0, &info));
    printf("signal %d code %d\n", info.si_signo, info.si_code);
    MUST(ptrace(PTRACE_GETREGS, child, 0, &regs));
    TRUTH(regs.rip == (unsigned long)breakpoint_here + 1);
    SHOW(regs.orig_rax);
    MUST(ptrace(PTRACE_POKETEXT, child, breakpoint_here, text));
    regs.rip--;
    MUST(ptrace(PTRACE_SETREGS, child, 0, &regs));
    finish(child);
}

static volatile double result;
static void compute(void)
{
    volatile double value = 1.5;
    raise(SIGTRAP);
    result = value * 2;
}

static void registers(void)
{
    struct user_fpregs_struct fp;
    struct user_regs_struct regs;
    static char area[16384];
    pid_t child = tracee(compute);
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("trap", child);
    SHOW(ptrace(PTRACE_GETFPREGS, child, 0, &fp));
    TRUTH((fp.cwd & 0x3f) == 0x3f);
    SHOW(ptrace(PTRACE_SETFPREGS, child, 0, &fp));
    struct iovec vector = { &regs, sizeof regs };
    SHOW(ptrace(PTRACE_GETREGSET, child, NT_PRSTATUS, &vector));
    SHOW(vector.iov_len);
    vector = (struct iovec){ &regs, 1000 };
    SHOW(ptrace(PTRACE_GETREGSET, child, NT_PRSTATUS, &vector));
    SHOW(vector.iov_len);
    vector.iov_len = 13;
    SHOW(ptrace(PTRACE_GETREGSET, child, NT_PRSTATUS, &vector));
    vector.iov_len = 16;
    SHOW(ptrace(PTRACE_GETREGSET, child, NT_PRSTATUS, &vector));
    SHOW(vector.iov_len);
    SHOW(ptrace(PTRACE_GETREGSET, child, 0x7777, &vector));
    vector = (struct iovec){ area, sizeof area };
    SHOW(ptrace(PTRACE_GETREGSET, child, NT_X86_XSTATE, &vector));
    TRUTH(vector.iov_len >= 576);
    TRUTH((*(unsigned long *)(area + 464) & 3) == 3);
    SHOW(ptrace(PTRACE_SETREGSET, child, NT_X86_XSTATE, &vector));
    vector.iov_len -= 8;
    SHOW(ptrace(PTRACE_SETREGSET, child, NT_X86_XSTATE, &vector));
    SHOW(ptrace(PTRACE_PEEKUSER, child, 3, 0));
    SHOW(ptrace(PTRACE_PEEKUSER, child, 4096, 0));
    SHOW(ptrace(PTRACE_PEEKUSER, child, offsetof(struct user, u_debugreg), 0));
    SHOW(ptrace(PTRACE_POKEUSER, child, offsetof(struct user, regs.fs_base), 1L << 62));
    SHOW(ptrace(PTRACE_CONT, child, 0, 1000));
    SHOW(ptrace(9999, child, 0, 0));
    finish(child);
}

/* --- steps --- */

extern const char first_step[], last_step[];
__attribute__((noinline)) static void stepped(void)
{
    __asm__ volatile("first_step: mov $100, %%eax; mov $1, %%edi; inc %%edi; mov $140, %%eax; syscall; nop; pushf; pop %%rax; last_step: nop"
                     ::: "rax", "rdi", "rcx", "r11", "memory");
}

static void step(void)
{
    struct user_regs_struct regs;
    siginfo_t info;
    pid_t child = tracee(stepped);
    long text = MUST(ptrace(PTRACE_PEEKTEXT, child, first_step, 0));
    MUST(ptrace(PTRACE_POKETEXT, child, first_step, (text & ~0xffL) | 0xcc));
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("breakpoint", child);
    MUST(ptrace(PTRACE_POKETEXT, child, first_step, text));
    MUST(ptrace(PTRACE_POKEUSER, child, RIP * 8, first_step));
    for (int i = 0; i < 8; i++) {
        MUST(ptrace(PTRACE_SINGLESTEP, child, 0, 0));
        int status;
        MUST(waitpid(child, &status, 0));
        MUST(ptrace(PTRACE_GETREGS, child, 0, &regs));
        MUST(ptrace(PTRACE_GETSIGINFO, child, 0, &info));
        printf("step %d: %s at +%ld code %d trap flag %d\n", i, describe(status), (long)(regs.rip - (unsigned long)first_step),
               info.si_code, (regs.eflags & 0x100) != 0);
    }
    /* What the program saw of its flags. */
    printf("pushed trap flag %d\n", ((int)regs.rax & 0x100) != 0);
    finish(child);
}

static volatile sig_atomic_t handled;
static void handler(int signal)
{
    (void)signal;
    handled++;
}

static void step_into(void)
{
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    if (handled != 1)
        _exit(1);
}

static void step_into_handler(void)
{
    pid_t child = tracee(step_into);
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("signal", child);
    MUST(ptrace(PTRACE_SINGLESTEP, child, 0, SIGUSR1));
    wait_for("handler", child);
    TRUTH((void *)MUST(ptrace(PTRACE_PEEKUSER, child, RIP * 8, 0)) == (void *)handler);
    finish(child);
}

/* --- signals --- */

static void raise_some(void)
{
    signal(SIGUSR2, handler);
    raise(SIGUSR1);
    raise(SIGUSR1);
    raise(SIGWINCH);
    if (handled != 1)
        _exit(1);
    raise(SIGTERM);
}

static void signals(void)
{
    siginfo_t info, queued;
    pid_t child = tracee(raise_some);
    SHOW(ptrace(PTRACE_GETSIGINFO, child, 0, &info));
    printf("signal %d code %d\n", info.si_signo, info.si_code);
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("suppressed", child);
    MUST(ptrace(PTRACE_GETSIGINFO, child, 0, &info));
    printf("signal %d code %d from %s\n", info.si_signo, info.si_code, info.si_pid == child ? "itself" : "another");
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("replaced", child);
    MUST(ptrace(PTRACE_CONT, child, 0, SIGUSR2));
    wait_for("ignored ones are shown", child);
    unsigned long mask = 0;
    SHOW(ptrace(PTRACE_GETSIGMASK, child, 8, &mask));
    SHOW(ptrace(PTRACE_GETSIGMASK, child, 4, &mask));
    SHOW(ptrace(PTRACE_SETSIGMASK, child, 8, &mask));
    struct __ptrace_peeksiginfo_args args = { 0, PTRACE_PEEKSIGINFO_SHARED, 4 };
    MUST(kill(child, SIGUSR1));
    SHOW(ptrace(PTRACE_PEEKSIGINFO, child, &args, &queued));
    printf("queued %d\n", queued.si_signo);
    MUST(ptrace(PTRACE_CONT, child, 0, SIGWINCH));
    wait_for("queued", child);
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("term", child);
    MUST(ptrace(PTRACE_CONT, child, 0, SIGTERM));
    wait_for("end", child);
}

/* --- events --- */

static void make_children(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(3);
    waitpid(child, NULL, 0);
    child = vfork();
    if (child == 0)
        _exit(4);
    waitpid(child, NULL, 0);
    execl("/proc/self/exe", "ptrace", "exit", NULL);
    _exit(9);
}

static void events(void)
{
    unsigned long message;
    int status;
    pid_t child = tracee(make_children);
    MUST(ptrace(PTRACE_SETOPTIONS, child, 0,
                PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT | PTRACE_O_TRACEVFORKDONE));
    for (int made = 0; made < 2; made++) {
        MUST(ptrace(PTRACE_CONT, child, 0, 0));
        status = wait_for("making", child);
        MUST(ptrace(PTRACE_GETEVENTMSG, child, 0, &message));
        pid_t grandchild = (pid_t)message;
        wait_for("grandchild starts", grandchild);
        MUST(ptrace(PTRACE_CONT, grandchild, 0, 0));
        wait_for("grandchild", grandchild);
        MUST(ptrace(PTRACE_GETEVENTMSG, grandchild, 0, &message));
        printf("message %lx\n", message);
        if (made == 1) {
            /* The end of the vfork is told only as the child has really gone. */
            MUST(ptrace(PTRACE_CONT, child, 0, 0));
        }
        MUST(ptrace(PTRACE_CONT, grandchild, 0, 0));
        wait_for("grandchild", grandchild);
        if (made == 1) {
            wait_for("vfork done", child);
            MUST(ptrace(PTRACE_GETEVENTMSG, child, 0, &message));
            TRUTH((pid_t)message == grandchild);
        }
        if (made == 0)
            MUST(ptrace(PTRACE_CONT, child, 0, 0));
        else
            MUST(ptrace(PTRACE_CONT, child, 0, 0));
        status = wait_for("parent hears", child);
        if (WSTOPSIG(status) == SIGCHLD && made == 0)
            continue;
    }
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("exec", child);
    MUST(ptrace(PTRACE_GETEVENTMSG, child, 0, &message));
    TRUTH((pid_t)message == child);
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("exit", child);
    MUST(ptrace(PTRACE_GETEVENTMSG, child, 0, &message));
    printf("message %lx\n", message);
    finish(child);
}

static void exec_only(void)
{
    execl("/proc/self/exe", "ptrace", "exit", NULL);
    _exit(9);
}

static void exec_without_option(void)
{
    pid_t child = tracee(exec_only);
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("exec", child);
    finish(child);
}

static void *thread_main(void *unused)
{
    return unused;
}

static void make_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, thread_main, NULL);
    pthread_join(thread, NULL);
}

static void threads(void)
{
    unsigned long message;
    pid_t child = tracee(make_thread);
    MUST(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACECLONE));
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("clone", child);
    MUST(ptrace(PTRACE_GETEVENTMSG, child, 0, &message));
    pid_t thread = (pid_t)message;
    TRUTH(thread != child);
    wait_for("thread starts", thread);
    MUST(ptrace(PTRACE_CONT, thread, 0, 0));
    wait_for("thread", thread);
    finish(child);
}

/* --- seizing and attaching --- */

static int ready[2];
static void sleep_on(void)
{
    char byte = 'x';
    MUST(write(ready[1], &byte, 1));
    for (;;)
        pause();
}

static pid_t sleeper(void)
{
    char byte;
    fflush(stdout);
    MUST(pipe(ready));
    pid_t child = fork();
    if (child == 0)
        sleep_on();
    MUST(read(ready[0], &byte, 1));
    return child;
}

static void end(pid_t child)
{
    MUST(kill(child, SIGKILL));
    wait_for("end", child);
}

static void seizing(void)
{
    siginfo_t info;
    pid_t child = sleeper();
    SHOW(ptrace(PTRACE_SEIZE, child, 1, 0));
    SHOW(ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESYSGOOD));
    SHOW(ptrace(PTRACE_SEIZE, child, 0, 0));
    SHOW(ptrace(PTRACE_ATTACH, child, 0, 0));
    SHOW(ptrace(PTRACE_CONT, child, 0, 0));
    SHOW(ptrace(PTRACE_INTERRUPT, child, 0, 0));
    wait_for("interrupted", child);
    MUST(ptrace(PTRACE_GETSIGINFO, child, 0, &info));
    printf("signal %d code %x\n", info.si_signo, info.si_code);
    SHOW(ptrace(PTRACE_LISTEN, child, 0, 0));
    SHOW(ptrace(PTRACE_GETSIGINFO, child, 0, &info));
    SHOW(ptrace(PTRACE_INTERRUPT, child, 0, 0));
    wait_for("interrupted again", child);
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    MUST(kill(child, SIGSTOP));
    wait_for("stop signal", child);
    MUST(ptrace(PTRACE_CONT, child, 0, SIGSTOP));
    wait_for("group stop", child);
    SHOW(ptrace(PTRACE_LISTEN, child, 0, 0));
    MUST(kill(child, SIGCONT));
    wait_for("continued", child);
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("continue signal", child);
    SHOW(ptrace(PTRACE_DETACH, child, 0, 0));
    end(child);
}

static void attaching(void)
{
    siginfo_t info;
    pid_t child = sleeper();
    SHOW(ptrace(PTRACE_ATTACH, getpid(), 0, 0));
    SHOW(ptrace(PTRACE_ATTACH, 99999, 0, 0));
    SHOW(ptrace(PTRACE_ATTACH, child, 0, 0));
    wait_for("attached", child);
    SHOW(ptrace(PTRACE_INTERRUPT, child, 0, 0));
    SHOW(ptrace(PTRACE_LISTEN, child, 0, 0));
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    MUST(kill(child, SIGTSTP));
    wait_for("stop signal", child);
    MUST(ptrace(PTRACE_CONT, child, 0, SIGTSTP));
    wait_for("group stop", child);
    SHOW(ptrace(PTRACE_GETSIGINFO, child, 0, &info));
    SHOW(ptrace(PTRACE_DETACH, child, 0, 1000));
    /* Not at a signal, so none is delivered; and its process is still stopped. */
    SHOW(ptrace(PTRACE_DETACH, child, 0, SIGTERM));
    SHOW(ptrace(PTRACE_CONT, child, 0, 0));
    end(child);
}

/* A process that stands still already need not be waited for. */
static void attaching_to_stopped(void)
{
    const long requests[] = { PTRACE_ATTACH, PTRACE_SEIZE };
    for (int i = 0; i < 2; i++) {
        struct user_regs_struct registers;
        int status;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            raise(SIGSTOP);
            _exit(7);
        }
        MUST(waitpid(child, &status, WUNTRACED));
        printf("%s\n", describe(status));
        SHOW(ptrace(requests[i], child, 0, 0));
        SHOW(ptrace(PTRACE_GETREGS, child, 0, &registers));
        wait_for("attached", child);
        end(child);
    }
}

/* --- debug registers --- */

static volatile long watched, neighbour;

static __attribute__((noinline)) void watched_function(void)
{
    neighbour = 3;
    watched = 42;
    neighbour = watched;
}

static void touch(void)
{
    watched_function();
    watched_function();
}

static void touch_in_exec(void)
{
    execl("/proc/self/exe", "again", "now", NULL);
    _exit(1);
}

#define DEBUG_REGISTER(n) offsetof(struct user, u_debugreg[n])

static void trapped(const char *what, pid_t child)
{
    siginfo_t info;
    struct user_regs_struct regs;
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for(what, child);
    MUST(ptrace(PTRACE_GETSIGINFO, child, 0, &info));
    MUST(ptrace(PTRACE_GETREGS, child, 0, &regs));
    printf("signal %d code %d, address is where it stands: %d\n", info.si_signo, info.si_code,
           info.si_addr == (void *)regs.rip);
    printf("status %lx, at the function: %d, flags %llx\n", MUST(ptrace(PTRACE_PEEKUSER, child, DEBUG_REGISTER(6), 0)),
           regs.rip == (unsigned long)watched_function, regs.eflags & 1 << 16);
    printf("watched %ld neighbour %ld\n", ptrace(PTRACE_PEEKDATA, child, &watched, 0), ptrace(PTRACE_PEEKDATA, child, &neighbour, 0));
}

static void breakpoints(void)
{
    pid_t child = tracee(touch);
    for (int n = 0; n < 8; n++)
        printf("register %d: %lx\n", n, MUST(ptrace(PTRACE_PEEKUSER, child, DEBUG_REGISTER(n), 0)));
    SHOW(ptrace(PTRACE_POKEUSER, child, DEBUG_REGISTER(4), 1));
    SHOW(ptrace(PTRACE_POKEUSER, child, DEBUG_REGISTER(5), 1));
    SHOW(ptrace(PTRACE_POKEUSER, child, DEBUG_REGISTER(0), &watched));
    SHOW(ptrace(PTRACE_POKEUSER, child, DEBUG_REGISTER(7), 1 | 2 << 16));
    SHOW(ptrace(PTRACE_POKEUSER, child, DEBUG_REGISTER(7), 1 | 4 << 16));
    SHOW(ptrace(PTRACE_POKEUSER, child, DEBUG_REGISTER(7), 1 | 9 << 16));
    SHOW(ptrace(PTRACE_POKEUSER, child, DEBUG_REGISTER(0), (char *)&watched + 1));
    SHOW(ptrace(PTRACE_PEEKUSER, child, DEBUG_REGISTER(7), 0));
    trapped("a write", child);
    SHOW(ptrace(PTRACE_POKEUSER, child, DEBUG_REGISTER(3), watched_function));
    SHOW(ptrace(PTRACE_POKEUSER, child, DEBUG_REGISTER(7), 1 << 6));
    trapped("an instruction", child);
    SHOW(ptrace(PTRACE_POKEUSER, child, DEBUG_REGISTER(6), 0));
    SHOW(ptrace(PTRACE_POKEUSER, child, DEBUG_REGISTER(7), 0));
    finish(child);

    child = tracee(touch_in_exec);
    MUST(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEEXEC));
    SHOW(ptrace(PTRACE_POKEUSER, child, DEBUG_REGISTER(0), &watched));
    SHOW(ptrace(PTRACE_POKEUSER, child, DEBUG_REGISTER(7), 1 | 9 << 16));
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("exec", child);
    SHOW(ptrace(PTRACE_PEEKUSER, child, DEBUG_REGISTER(7), 0));
    finish(child);
}

/* A tracer that is not the parent: the parent hears of the end after the tracer. */
static void foreign(void)
{
    char byte;
    int told[2], status;
    MUST(pipe(told));
    pid_t child = sleeper();
    pid_t tracer = fork();
    if (tracer == 0) {
        MUST(ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_EXITKILL));
        MUST(kill(child, SIGTERM));
        wait_for("signal", child);
        MUST(ptrace(PTRACE_CONT, child, 0, SIGTERM));
        wait_for("tracer", child);
        MUST(write(told[1], "x", 1));
        exit(0);
    }
    MUST(waitpid(child, &status, 0));
    /* The tracer has waited before. */
    MUST(read(told[0], &byte, 1));
    printf("parent: %s\n", describe(status));
    wait_for("tracer ends", tracer);

    child = sleeper();
    tracer = fork();
    if (tracer == 0) {
        MUST(ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_EXITKILL));
        _exit(0);
    }
    wait_for("tracer ends", tracer);
    wait_for("so does its tracee", child);

    child = sleeper();
    tracer = fork();
    if (tracer == 0) {
        MUST(ptrace(PTRACE_ATTACH, child, 0, 0));
        wait_for("attached", child);
        _exit(0);
    }
    wait_for("tracer ends", tracer);
    MUST(kill(child, SIGUSR1));
    wait_for("its tracee lived on", child);
}

static void filtered(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgrp, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 0x55),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { 4, filter };
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
    if (syscall(SYS_getpgrp) != 1234)
        _exit(1);
    if (syscall(SYS_getpgrp) != getpgid(0))
        _exit(2);
}

static void seccomp_events(void)
{
    unsigned long message;
    struct __ptrace_syscall_info info;
    pid_t child = tracee(filtered);
    MUST(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL));
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("filter", child);
    MUST(ptrace(PTRACE_GETEVENTMSG, child, 0, &message));
    printf("message %lx\n", message);
    long size = MUST(ptrace(PTRACE_GET_SYSCALL_INFO, child, (void *)sizeof info, &info));
    printf("size %ld op %d call %llu data %x\n", size, info.op, (unsigned long long)info.seccomp.nr, info.seccomp.ret_data);
    MUST(ptrace(PTRACE_POKEUSER, child, ORIG_RAX * 8, -1));
    MUST(ptrace(PTRACE_POKEUSER, child, RAX * 8, 1234));
    MUST(ptrace(PTRACE_CONT, child, 0, 0));
    wait_for("filter", child);
    finish(child);
}

static void errors(void)
{
    SHOW(ptrace(PTRACE_CONT, getppid(), 0, 0));
    SHOW(ptrace(PTRACE_PEEKDATA, 99999, 0, 0));
    pid_t child = tracee(sleep_on);
    SHOW(ptrace(PTRACE_LISTEN, child, 0, 0));
    SHOW(ptrace(PTRACE_ATTACH, child, 0, 0));
    fflush(stdout);
    pid_t other = fork();
    if (other == 0) {
        SHOW(ptrace(PTRACE_CONT, child, 0, 0));
        SHOW(ptrace(PTRACE_SEIZE, child, 0, 0));
        exit(0);
    }
    wait_for("other", other);
    int status;
    SHOW(waitpid(child, &status, WNOHANG | __WALL));
    siginfo_t info = { 0 };
    SHOW(ptrace(PTRACE_KILL, child, 0, 0));
    SHOW(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    printf("code %d status %d\n", info.si_code, info.si_status);
    wait_for("end", child);
    if (geteuid() == 0) {
        child = sleeper();
        fflush(stdout);
        other = fork();
        if (other == 0) {
            MUST(setresuid(1000, 1000, 1000));
            SHOW(ptrace(PTRACE_ATTACH, child, 0, 0));
            exit(0);
        }
        wait_for("other", other);
        end(child);
    }
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return 5;
#define RUN(part) do { printf("-- %s\n", #part); part(); } while (0)
    RUN(calls);
    RUN(changes);
    RUN(emulation);
    RUN(memory);
    RUN(registers);
    RUN(step);
    RUN(step_into_handler);
    RUN(breakpoints);
    RUN(signals);
    RUN(events);
    RUN(exec_without_option);
    RUN(threads);
    RUN(seizing);
    RUN(attaching);
    RUN(attaching_to_stopped);
    RUN(foreign);
    RUN(seccomp_events);
    RUN(errors);
    return 0;
}
