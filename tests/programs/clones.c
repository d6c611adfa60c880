/* What clone and its kin share, refuse and hand out: flags, descriptors of processes, memory of others. */
#include "show.h"
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

struct clone3_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
    uint64_t beyond[2];
};

/* Long, so that glibc's own bookkeeping is not in the way. */
static long raw_clone(unsigned long flags, void *stack, int *parent, int *child, unsigned long tls)
{
    return syscall(SYS_clone, flags, stack, parent, child, tls);
}

/* A call that must not make a child: if it does, the child goes away and the parent tells. */
static long refused(unsigned long flags)
{
    long child = raw_clone(flags, NULL, NULL, NULL, 0);
    if (child == 0)
        _exit(0);
    if (child > 0) {
        waitpid(child, NULL, __WALL);
        return 1;
    }
    return child;
}

static long refused3(struct clone3_args *args, size_t size)
{
    long child = syscall(SYS_clone3, args, size);
    if (child == 0)
        _exit(0);
    if (child > 0) {
        waitpid(child, NULL, __WALL);
        return 1;
    }
    return child;
}

static void flags(void)
{
    signal(SIGUSR1, SIG_IGN);
    SHOW(refused(SIGCHLD | CLONE_THREAD));
    SHOW(refused(SIGCHLD | CLONE_SIGHAND));
    SHOW(refused(SIGCHLD | CLONE_THREAD | CLONE_VM));
    SHOW(refused(SIGCHLD | CLONE_NEWNS | CLONE_FS));
    SHOW(refused(SIGCHLD | CLONE_NEWUSER | CLONE_FS));
    SHOW(refused(SIGCHLD | CLONE_PIDFD | CLONE_PARENT_SETTID));
    SHOW(refused(SIGCHLD | CLONE_PIDFD | 0x400000));
    SHOW(refused(SIGCHLD));
    SHOW(refused(0));
    SHOW(refused(SIGUSR1));
    SHOW(refused(SIGCHLD | CLONE_FS | CLONE_FILES | CLONE_IO | CLONE_SYSVSEM));
    struct clone3_args args = { .exit_signal = SIGCHLD };
    SHOW(refused3(&args, 63));
    SHOW(refused3(&args, 64));
    SHOW(refused3(&args, 80));
    SHOW(refused3(&args, 88));
    SHOW(refused3(&args, sizeof args));
    SHOW(refused3(&args, 4097));
    SHOW(refused3(NULL, 88));
    args.beyond[1] = 1;
    SHOW(refused3(&args, sizeof args));
    args = (struct clone3_args){ .exit_signal = 65 };
    SHOW(refused3(&args, 88));
    args = (struct clone3_args){ .exit_signal = 0x100 };
    SHOW(refused3(&args, 88));
    args = (struct clone3_args){ .flags = SIGCHLD };
    SHOW(refused3(&args, 88));
    args = (struct clone3_args){ .flags = 1ull << 40, .exit_signal = SIGCHLD };
    SHOW(refused3(&args, 88));
    args = (struct clone3_args){ .flags = 0x400000, .exit_signal = SIGCHLD };
    SHOW(refused3(&args, 88));
    args = (struct clone3_args){ .exit_signal = SIGCHLD, .stack = 4096 };
    SHOW(refused3(&args, 88));
    args = (struct clone3_args){ .exit_signal = SIGCHLD, .stack_size = 4096 };
    SHOW(refused3(&args, 88));
    args = (struct clone3_args){ .exit_signal = SIGCHLD, .stack = -4096ull, .stack_size = 8192 };
    SHOW(refused3(&args, 88));
    args = (struct clone3_args){ .flags = CLONE_PARENT, .exit_signal = SIGCHLD };
    SHOW(refused3(&args, 88));
    args = (struct clone3_args){ .flags = 0x100000000ull | CLONE_SIGHAND | CLONE_VM, .exit_signal = SIGCHLD };
    SHOW(refused3(&args, 88));
    args = (struct clone3_args){ .exit_signal = SIGCHLD, .set_tid_size = 1 };
    SHOW(refused3(&args, 88));
    args = (struct clone3_args){ .exit_signal = SIGCHLD, .set_tid = 4096 };
    SHOW(refused3(&args, 88));
    args = (struct clone3_args){ .exit_signal = SIGCHLD, .set_tid = 8, .set_tid_size = 1 };
    SHOW(refused3(&args, 88));
    args = (struct clone3_args){ .exit_signal = SIGCHLD, .set_tid = 8, .set_tid_size = 33 };
    SHOW(refused3(&args, 88));
    /* A handler becomes the default, what is ignored stays so. */
    struct sigaction action = { 0 };
    action.sa_handler = exit;
    sigaction(SIGUSR1, &action, NULL);
    signal(SIGUSR2, SIG_IGN);
    args = (struct clone3_args){ .flags = 0x100000000ull, .exit_signal = SIGCHLD };
    long child = syscall(SYS_clone3, &args, 88);
    if (!child) {
        struct sigaction first, second;
        sigaction(SIGUSR1, NULL, &first);
        sigaction(SIGUSR2, NULL, &second);
        printf("default %d ignored %d\n", first.sa_handler == SIG_DFL, second.sa_handler == SIG_IGN);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

static int done;
static char stack[65536] __attribute__((aligned(64)));

static int sharer(void *argument)
{
    done = 7;
    umask(0123);
    close(*(int *)argument);
    return 3;
}

static void sharing(void)
{
    int status, fd = dup(1);
    umask(022);
    done = 0;
    pid_t child = clone(sharer, stack + sizeof stack, CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD, &fd);
    printf("same %d", waitpid(child, &status, 0) == child);
    printf(" status %x done %d umask %o\n", status, done, umask(022));
    SHOW(fcntl(fd, F_GETFD));
    fd = dup(1);
    done = 0;
    child = clone(sharer, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &fd);
    /* It has ended, or nearly: its memory is back. */
    printf("done %d umask %o\n", done, umask(022));
    SHOW(fcntl(fd, F_GETFD));
    waitpid(child, &status, 0);
    close(fd);
    /* Numbers in the parent's and the child's memory, and another signal than SIGCHLD. */
    int parent_tid = 0, child_tid = 0;
    signal(SIGUSR1, SIG_IGN);
    child = raw_clone(CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGUSR1, NULL, &parent_tid, &child_tid, 0);
    if (!child)
        _exit(child_tid == getpid() && parent_tid == getpid() ? 6 : 5);
    printf("parent %d child %d\n", parent_tid == child, child_tid);
    SHOW(waitpid(child, &status, 0));
    SHOW(waitpid(-1, &status, __WNOTHREAD));
    printf("clone %d", waitpid(-1, &status, __WCLONE) == child);
    printf(" status %x\n", status);
    child = raw_clone(0, NULL, NULL, NULL, 0);
    if (!child)
        _exit(1);
    printf("all %d\n", waitpid(child, &status, __WALL) == child);
    /* vfork lends its memory until exec or exit. */
    done = 1;
    child = vfork();
    if (!child) {
        done = 2;
        _exit(9);
    }
    printf("lent %d\n", done);
    waitpid(child, &status, 0);
    child = vfork();
    if (!child) {
        execl("/proc/self/exe", "clones", "exit", (char *)NULL);
        _exit(1);
    }
    waitpid(child, &status, 0);
    printf("executed %x\n", status);
    /* A sibling. */
    pid_t middle = fork();
    if (!middle) {
        long sibling = raw_clone(CLONE_PARENT | SIGUSR2, NULL, NULL, NULL, 0);
        if (!sibling)
            _exit(33);
        SHOW(waitpid(sibling, &status, 0));
        _exit(0);
    }
    waitpid(middle, &status, 0);
    printf("sibling %d", wait(&status) > 0);
    printf(" status %x\n", status);
}

static void unsharing(void)
{
    SHOW(unshare(0));
    SHOW(unshare(CLONE_FS | CLONE_FILES | CLONE_SYSVSEM));
    SHOW(unshare(CLONE_THREAD));
    SHOW(unshare(CLONE_VM));
    SHOW(unshare(CLONE_SIGHAND));
    SHOW(unshare(CLONE_PARENT));
    SHOW(unshare(1));
    SHOW(setns(-1, 0));
    SHOW(setns(0, 0));
}

static void descriptors(void)
{
    int status, fd = -1;
    char directory[32];
    siginfo_t info;
    SHOW(syscall(SYS_pidfd_open, 0, 0));
    SHOW(syscall(SYS_pidfd_open, -1, 0));
    SHOW(syscall(SYS_pidfd_open, 4194000, 0));
    SHOW(syscall(SYS_pidfd_open, getpid(), 1));
    int self = syscall(SYS_pidfd_open, getpid(), 0);
    SHOW(fcntl(self, F_GETFD));
    printf("flags %x\n", fcntl(self, F_GETFL));
    char byte;
    SHOW(read(self, &byte, 1));
    SHOW(write(self, &byte, 1));
    SHOW(waitid(P_PIDFD, self, &info, WEXITED));
    SHOW(waitid(P_PIDFD, 1000, &info, WEXITED));
    SHOW(syscall(SYS_pidfd_send_signal, self, 0, NULL, 0));
    SHOW(syscall(SYS_pidfd_send_signal, self, 0, NULL, 8));
    SHOW(syscall(SYS_pidfd_send_signal, 1, 0, NULL, 0));
    snprintf(directory, sizeof directory, "/proc/%d", getpid());
    int by_path = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    SHOW(syscall(SYS_pidfd_send_signal, by_path, 0, NULL, 0));
    SHOW(syscall(SYS_pidfd_getfd, by_path, 1, 0));
    close(by_path);
    by_path = open("/proc/thread-self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    SHOW(syscall(SYS_pidfd_send_signal, by_path, 0, NULL, 0));
    close(by_path);
    by_path = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    SHOW(syscall(SYS_pidfd_send_signal, by_path, 0, NULL, 0));
    close(by_path);
    SHOW(syscall(SYS_pidfd_send_signal, self, 99, NULL, 0));
    memset(&info, 0, sizeof info);
    SHOW(syscall(SYS_pidfd_send_signal, self, SIGUSR2, &info, 0));
    SHOW(syscall(SYS_pidfd_getfd, self, 1000, 0));
    SHOW(syscall(SYS_pidfd_getfd, self, 1, 1));
    SHOW(syscall(SYS_pidfd_getfd, 1, 1, 0));
    int copy = syscall(SYS_pidfd_getfd, self, 1, 0);
    printf("copy %d cloexec %d\n", copy > 2, fcntl(copy, F_GETFD));
    close(copy);
    int ends[2];
    pipe(ends);
    pid_t child = raw_clone(CLONE_PIDFD | SIGCHLD, NULL, &fd, NULL, 0);
    if (!child) {
        close(ends[1]);
        read(ends[0], &byte, 1);
        _exit(21);
    }
    printf("fd %d cloexec %d\n", fd > 2, fcntl(fd, F_GETFD));
    struct pollfd poll_fd = { fd, POLLIN, 0 };
    SHOW(poll(&poll_fd, 1, 0));
    SHOW(waitid(P_PIDFD, fd, &info, WEXITED | WNOHANG));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    SHOW(waitid(P_PIDFD, fd, &info, WEXITED));
    fcntl(fd, F_SETFL, 0);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = { EPOLLIN, { .u32 = 5 } };
    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
    close(ends[1]);
    SHOW(poll(&poll_fd, 1, -1));
    printf("revents %x\n", poll_fd.revents);
    SHOW(epoll_wait(epoll, &event, 1, -1));
    SHOW(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
    SHOW(waitid(P_PIDFD, fd, &info, WEXITED));
    printf("code %d status %d same %d\n", info.si_code, info.si_status, info.si_pid == child);
    SHOW(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
    SHOW(waitid(P_PIDFD, fd, &info, WEXITED));
    SHOW(syscall(SYS_pidfd_getfd, fd, 1, 0));
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "Pid:", 4))
            printf("%s", line);
    close(fd);
    close(self);
    close(ends[0]);
    close(epoll);
    SHOW(wait(&status));
}

static void memory_of_others(void)
{
    static char ours[8192], theirs[8192];
    memset(theirs, 'p', sizeof theirs);
    int ends[2], status;
    pipe(ends);
    pid_t child = fork();
    if (!child) {
        char byte;
        close(ends[1]);
        read(ends[0], &byte, 1);
        _exit(theirs[5] == 'w' && theirs[4] == 'p' ? 0 : 1);
    }
    memset(theirs, 'm', sizeof theirs);
    struct iovec local[2] = { { ours, 100 }, { ours + 4096, 50 } }, remote = { theirs, 120 };
    SHOW(process_vm_readv(child, local, 2, &remote, 1, 0));
    printf("%c%c%d\n", ours[0], ours[4096 + 19], ours[4096 + 20]);
    struct iovec word = { "word", 4 }, place = { theirs + 5, 4 };
    SHOW(process_vm_writev(child, &word, 1, &place, 1, 0));
    SHOW(process_vm_writev(child, &word, 1, &place, 1, 1));
    SHOW(process_vm_readv(4194000, local, 2, &remote, 1, 0));
    SHOW(process_vm_readv(child, local, 0, &remote, 1, 0));
    SHOW(process_vm_readv(child, local, 2, &remote, 0, 0));
    SHOW(process_vm_readv(child, local, 1025, &remote, 1, 0));
    SHOW(process_vm_readv(child, local, -1ul, &remote, 1, 0));
    SHOW(process_vm_readv(child, NULL, 1, &remote, 1, 0));
    SHOW(process_vm_readv(child, local, 1, NULL, 1, 0));
    remote = (struct iovec){ (void *)8, 100 };
    SHOW(process_vm_readv(child, local, 1, &remote, 1, 0));
    local[0].iov_base = (void *)8;
    remote = (struct iovec){ theirs, 100 };
    SHOW(process_vm_readv(child, local, 1, &remote, 1, 0));
    local[0].iov_len = -1ul;
    SHOW(process_vm_readv(child, local, 1, &remote, 1, 0));
    enum { FILE_, VM, FILES, FS, SIGHAND, IO, SYSVSEM_, EPOLL_TFD };
    SHOW(syscall(SYS_kcmp, getpid(), getpid(), VM, 0, 0));
    SHOW(syscall(SYS_kcmp, getpid(), child, VM, 0, 0) != 0);
    SHOW(syscall(SYS_kcmp, getpid(), child, FILE_, 1, 1));
    SHOW(syscall(SYS_kcmp, getpid(), child, FILE_, 1, ends[0]) != 0);
    SHOW(syscall(SYS_kcmp, getpid(), child, FILE_, 1, 1000));
    SHOW(syscall(SYS_kcmp, getpid(), child, FILES, 0, 0) != 0);
    SHOW(syscall(SYS_kcmp, getpid(), child, FS, 0, 0) != 0);
    SHOW(syscall(SYS_kcmp, getpid(), child, SIGHAND, 0, 0) != 0);
    SHOW(syscall(SYS_kcmp, getpid(), child, 99, 0, 0));
    SHOW(syscall(SYS_kcmp, getpid(), 4194000, VM, 0, 0));
    int epoll = epoll_create1(0), other = dup(ends[0]);
    struct epoll_event event = { EPOLLIN, { 0 } };
    struct { uint32_t epoll, fd, skip; } slot = { epoll, ends[0], 0 };
    epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
    SHOW(syscall(SYS_kcmp, getpid(), getpid(), EPOLL_TFD, ends[0], &slot));
    SHOW(syscall(SYS_kcmp, getpid(), getpid(), EPOLL_TFD, other, &slot));
    SHOW(syscall(SYS_kcmp, getpid(), getpid(), EPOLL_TFD, 1, &slot) != 0);
    SHOW(syscall(SYS_kcmp, getpid(), getpid(), EPOLL_TFD, 1000, &slot));
    SHOW(syscall(SYS_kcmp, getpid(), getpid(), EPOLL_TFD, ends[0], NULL));
    slot.skip = 1;
    SHOW(syscall(SYS_kcmp, getpid(), getpid(), EPOLL_TFD, ends[0], &slot));
    slot.skip = 0, slot.fd = other;
    SHOW(syscall(SYS_kcmp, getpid(), getpid(), EPOLL_TFD, ends[0], &slot));
    slot.epoll = other;
    SHOW(syscall(SYS_kcmp, getpid(), getpid(), EPOLL_TFD, ends[0], &slot));
    slot.epoll = 1000;
    SHOW(syscall(SYS_kcmp, getpid(), getpid(), EPOLL_TFD, ends[0], &slot));
    close(epoll), close(other);
    struct rlimit limit = { 100, 200 }, now;
    SHOW(prlimit(child, RLIMIT_CORE, NULL, &now));
    SHOW(prlimit(child, RLIMIT_NOFILE, &limit, NULL));
    SHOW(prlimit(child, RLIMIT_NOFILE, NULL, &now));
    printf("%lu %lu\n", (unsigned long)now.rlim_cur, (unsigned long)now.rlim_max);
    close(ends[1]);
    waitpid(child, &status, 0);
    printf("child %x\n", status);
    close(ends[0]);
    /* No more tasks than the limit says, unless root asks. */
    getrlimit(RLIMIT_NPROC, &now);
    limit = (struct rlimit){ 0, now.rlim_max };
    SHOW(setrlimit(RLIMIT_NPROC, &limit));
    child = fork();
    if (!child)
        _exit(0);
    printf("refused %d\n", child < 0 ? errno == EAGAIN : getuid() == 0);
    if (child > 0)
        waitpid(child, &status, 0);
}

int main(int count, char **args)
{
    (void)args;
    if (count > 1)
        return 12;
    setvbuf(stdout, NULL, _IONBF, 0);
    flags();
    sharing();
    unsharing();
    descriptors();
    memory_of_others();
    return 0;
}
