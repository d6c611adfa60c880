/* Processes and threads that an actor of mixture makes, and what becomes of the calls that tell who one is. */
#ifndef MIXTURE_PROCESSES_H
#define MIXTURE_PROCESSES_H
#include "mixture.h"
#include "mixture_calls.h"
#include "mixture_signals.h"
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

extern char **environ;
static const char *own_path;

/* Forks; the child, which has one thread, acts for this actor from then on. */
static pid_t fork_actor(void)
{
    /* A child made without the C library may have copies of its locks that nobody will unlock. */
    int by_library = draw(2) && !self->is_child;
    pid_t child = by_library ? fork() : (pid_t)CALL(__NR_fork);
    if (child != 0) {
        CHECK(child > 0);
        return child;
    }
    self->is_child = 1;
    self->parent = self->pid;
    self->pid = self->tid = process_id = (pid_t)syscall(SYS_getpid);
    CHECK(self->pid != self->parent);
    return 0;
}

static void reap(pid_t child)
{
    int status = -1;
    long reaped;
    while ((reaped = CALL(__NR_wait4, child, &status, 0, NULL)) == -EINTR)
        continue;
    CHECK(reaped == child);
    fold((uint64_t)status);
}

static void change_identity(void)
{
    switch (draw(5)) {
    case 0:
        /* A leader of a session cannot. */
        fold((uint64_t)CALL(__NR_setpgid, 0, 0));
        CHECK(CALL(__NR_getpgrp) == self->pid);
        break;
    case 1: {
        /* A leader of a group cannot. */
        long session = CALL(__NR_setsid);
        fold(session == self->pid ? 1 : (uint64_t)session);
        CHECK(session < 0 || (CALL(__NR_getsid, 0) == self->pid && CALL(__NR_getpgrp) == self->pid));
        break;
    }
    case 2: {
        long changed = CALL(__NR_setresgid, 65534, 65534, 65534);
        fold((uint64_t)changed);
        CHECK(changed != 0 || (CALL(__NR_getgid) == 65534 && CALL(__NR_getegid) == 65534));
        changed = CALL(__NR_setresuid, 65534, 65534, 65534);
        fold((uint64_t)changed);
        CHECK(changed != 0 || (CALL(__NR_getuid) == 65534 && CALL(__NR_geteuid) == 65534));
        break;
    }
    case 3: {
        fold((uint64_t)CALL(__NR_umask, 027));
        fold((uint64_t)CALL(__NR_umask, 022));
        struct rlimit limit = {100, 200}, now;
        CHECK(CALL(__NR_setrlimit, RLIMIT_NOFILE, &limit) == 0);
        CHECK(CALL(__NR_getrlimit, RLIMIT_NOFILE, &now) == 0);
        fold(now.rlim_cur + now.rlim_max);
        break;
    }
    default:
        CHECK(CALL(__NR_setpriority, PRIO_PROCESS, 0, 4) == 0);
        fold((uint64_t)CALL(__NR_getpriority, PRIO_PROCESS, 0));
        break;
    }
}

static void child_of_its_own(void)
{
    pid_t child = fork_actor();
    if (child == 0) {
        fold(mask_now());
        for (uint64_t repeat = 1 + draw(3); repeat > 0; repeat--) {
            identity();
            change_identity();
            signal_to_itself();
            pipe_of_its_own();
            code_that_changes();
        }
        identity();
        _exit((int)(self->digest & 127));
    }
    reap(child);
}

/* A child's process group, priority and parent change while it asks for them. */
static void child_changed_from_outside(void)
{
    int ends[2];
    char byte = 0;
    CHECK(pipe(ends) == 0);
    pid_t child = fork_actor();
    if (child == 0) {
        while (CALL(__NR_getpgrp) != self->pid)
            continue;
        CHECK(read(ends[0], &byte, 1) == 1);
        fold((uint64_t)CALL(__NR_getpriority, PRIO_PROCESS, 0));
        pid_t grandchild = fork_actor();
        if (grandchild == 0) {
            /* Until its parent is gone, and its parent's parent takes its place. */
            while (CALL(__NR_getppid) == self->parent)
                continue;
            self->parent = (pid_t)CALL(__NR_getppid);
            identity();
            CHECK(write(ends[1], &self->pid, sizeof self->pid) == sizeof self->pid);
            CHECK(write(ends[1], &self->parent, sizeof self->parent) == sizeof self->parent);
            _exit(9);
        }
        _exit((int)(self->digest & 127));
    }
    CHECK(CALL(__NR_setpriority, PRIO_PROCESS, child, 6) == 0);
    CHECK(CALL(__NR_setpgid, child, child) == 0);
    fold((uint64_t)(CALL(__NR_getpgid, child) == child));
    CHECK(write(ends[1], &byte, 1) == 1);
    reap(child);
    pid_t grandchild = 0, parent = 0;
    CHECK(read(ends[0], &grandchild, sizeof grandchild) == sizeof grandchild);
    CHECK(read(ends[0], &parent, sizeof parent) == sizeof parent);
    CHECK(parent == self->pid);
    reap(grandchild);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
}

static int executed(int number)
{
    pid_t pid = getpid();
    for (int repeat = 0; repeat < 50; repeat++)
        if (syscall(SYS_getpid) != pid || syscall(SYS_gettid) != pid || getppid() == pid)
            return 1;
    return (number * 7 + 3) & 127;
}

static void execute(void)
{
    char number[16];
    snprintf(number, sizeof number, "%d", (int)draw(1000));
    char *const arguments[] = {(char *)own_path, "executed", number, NULL};
    pid_t child = -1;
    if (draw(2)) {
        CHECK(posix_spawn(&child, own_path, NULL, NULL, arguments, environ) == 0);
    } else if ((child = fork_actor()) == 0) {
        CALL(__NR_execve, own_path, arguments, environ);
        _exit(95);
    }
    reap(child);
}

static void *look_around(void *argument)
{
    pid_t *tid = argument;
    *tid = (pid_t)syscall(SYS_gettid);
    return syscall(SYS_getpid) == process_id ? argument : NULL;
}

static void thread_of_its_own(void)
{
    pthread_t thread;
    pid_t tid = 0;
    void *result = NULL;
    CHECK(pthread_create(&thread, NULL, look_around, &tid) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == &tid && tid != self->tid && tid > 0);
    CHECK(CALL(__NR_gettid) == self->tid);
}

#endif
