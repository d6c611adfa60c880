/* What a monitor that was taken over could do: makes each of its threads open files, or make other calls, and says what the host answers.
 *
 *   taken_over PID [r|w]PATH|cNUMBER...
 *
 * One line for each thread and word: the thread's name, the word, and 0 or the error number. A call without arguments that ends the
 * monitor with a signal gets that, negative, and must be the only word. The monitor ends with this program. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 256

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

/* Waits until the thread has stopped; what for. */
static int stopped(pid_t thread)
{
    int status;

    /* If the process ends, the first thread's end is shown once the others' were looked at. */
    pid_t which = waitpid(-1, &status, __WALL);
    if (which > 0 && WIFSIGNALED(status)) {
        printf("%d\n", -WTERMSIG(status));
        exit(0);
    }
    if (which != thread || !WIFSTOPPED(status)) {
        fprintf(stderr, "thread %d did not stop: %#x\n", thread, status);
        exit(2);
    }
    return WSTOPSIG(status);
}

/* Stops a thread that runs. */
static void interrupt(pid_t thread)
{
    if (ptrace(PTRACE_INTERRUPT, thread, 0, 0) != 0)
        fail("PTRACE_INTERRUPT");
    stopped(thread);
}

static void put(pid_t thread, uint64_t to, const void *bytes, size_t len)
{
    for (size_t done = 0; done < len; done += 8) {
        uint64_t word = 0;

        memcpy(&word, (const char *)bytes + done, len - done < 8 ? len - done : 8);
        if (ptrace(PTRACE_POKEDATA, thread, to + done, word) != 0)
            fail("PTRACE_POKEDATA");
    }
}

/* Whether a signal that nobody can stop waits for the thread, as newer kernels end processes. */
static int ends_by(pid_t thread, int number)
{
    char path[64], line[256];
    unsigned long long pending = 0;

    snprintf(path, sizeof path, "/proc/%d/status", thread);
    FILE *status = fopen(path, "r");
    if (!status)
        fail(path);
    while (fgets(line, sizeof line, status))
        if (sscanf(line, "SigPnd: %llx", &pending) == 1)
            break;
    fclose(status);
    return pending >> (number - 1) & 1;
}

/* Lets a stopped thread make the call that a word means with the SYSCALL instruction at `at`, below whatever is on its stack. */
static long make_call(pid_t thread, uint64_t at, const char *word)
{
    struct open_how how = { .flags = word[0] == 'w' ? O_WRONLY : O_RDONLY };
    const char *path = word + 1;
    struct user_regs_struct old, now;

    if (ptrace(PTRACE_GETREGS, thread, 0, &old) != 0)
        fail("PTRACE_GETREGS");
    now = old;
    uint64_t memory = (old.rsp - 1024) & ~15ull;
    put(thread, memory, &how, sizeof how);
    put(thread, memory + 64, path, strlen(path) + 1);
    now.rip = at;
    now.orig_rax = (uint64_t)-1;
    now.rsp = memory;
    if (word[0] == 'c') {
        now.rax = (uint64_t)atoi(word + 1);
        now.rdi = now.rsi = now.rdx = now.r10 = now.r8 = now.r9 = 0;
    } else {
        now.rax = SYS_openat2;
        now.rdi = (uint64_t)AT_FDCWD;
        now.rsi = memory + 64;
        now.rdx = memory;
        now.r10 = sizeof how;
    }
    if (ptrace(PTRACE_SETREGS, thread, 0, &now) != 0)
        fail("PTRACE_SETREGS");
    for (int half = 0; half < 2; half++) {
        /* A signal that comes between is dropped. */
        do {
            if (ptrace(PTRACE_SYSCALL, thread, 0, 0) != 0)
                fail("PTRACE_SYSCALL");
        } while (stopped(thread) != (SIGTRAP | 0x80));
    }
    if (ptrace(PTRACE_GETREGS, thread, 0, &now) != 0)
        fail("PTRACE_GETREGS");
    old.orig_rax = (uint64_t)-1;
    if (ptrace(PTRACE_SETREGS, thread, 0, &old) != 0)
        fail("PTRACE_SETREGS");
    return (long)now.rax;
}

int main(int argc, char **argv)
{
    pid_t pid = atoi(argv[1]), threads[MOST];
    char path[64], name[MOST][32];
    struct user_regs_struct regs;
    int count = 0;

    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    if (!tasks)
        fail(path);
    for (struct dirent *task; (task = readdir(tasks)) && count < MOST;) {
        pid_t thread = atoi(task->d_name);

        if (thread == 0)
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%d/comm", pid, thread);
        FILE *comm = fopen(path, "r");
        /* One that has ended meanwhile, as those that answer tools do, has none. */
        if (!comm)
            continue;
        if (!fgets(name[count], sizeof name[count], comm))
            name[count][0] = 0;
        fclose(comm);
        name[count][strcspn(name[count], "\n")] = 0;
        /* KVM's own worker, which never leaves the kernel. */
        if (strncmp(name[count], "kvm-nx", 6) == 0)
            continue;
        if (ptrace(PTRACE_SEIZE, thread, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD) != 0)
            continue;
        interrupt(thread);
        threads[count++] = thread;
    }
    closedir(tasks);
    if (count == 0 || threads[0] != pid)
        fail("the monitor");
    /* The first thread waits in a call, sooner or later: that instruction serves all. */
    for (;;) {
        if (ptrace(PTRACE_GETREGS, pid, 0, &regs) != 0)
            fail("PTRACE_GETREGS");
        if ((ptrace(PTRACE_PEEKTEXT, pid, regs.rip - 2, 0) & 0xffff) == 0x050f)
            break;
        if (ptrace(PTRACE_CONT, pid, 0, 0) != 0)
            fail("PTRACE_CONT");
        interrupt(pid);
    }
    uint64_t at = regs.rip - 2;
    for (int thread = 0; thread < count; thread++) {
        for (int file = 2; file < argc; file++) {
            printf("%s %s ", name[thread], argv[file]);
            long result = make_call(threads[thread], at, argv[file]);

            if (ends_by(threads[thread], SIGSYS))
                printf("%d\n", -SIGSYS);
            else
                printf("%ld\n", result < 0 ? -result : 0);
        }
    }
    return 0;
}
