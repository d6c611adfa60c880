/* Controlling terminals and job control: sessions, foreground groups, typed signals, stops, hang-ups. */
#include "show.h"
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

static int outside, inside, up[2], down[2];

static void told(const char *what)
{
    printf("%s\n", what);
    fflush(stdout);
}

/* One step of the conversation between parent and child. */
static void say(int fd)
{
    MUST(write(fd, "x", 1));
}

static void hear(int fd)
{
    char byte;
    if (read(fd, &byte, 1) != 1)
        printf("the other side is gone\n");
}

static void status_of(const char *who, pid_t pid, int flags)
{
    int status;
    if (waitpid(pid, &status, flags) != pid) {
        printf("%s: no news, %s\n", who, error_name(errno));
    } else if (WIFSTOPPED(status)) {
        printf("%s stopped by %d\n", who, WSTOPSIG(status));
    } else if (WIFCONTINUED(status)) {
        printf("%s continued\n", who);
    } else if (WIFSIGNALED(status)) {
        printf("%s killed by %d\n", who, WTERMSIG(status));
    } else {
        printf("%s exited with %d\n", who, WEXITSTATUS(status));
    }
    fflush(stdout);
}

static volatile sig_atomic_t caught;

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    (void)info;
    caught = number;
}

static void catch(int number)
{
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
    MUST(sigaction(number, &action, NULL));
}

/* Waits for a signal that is blocked meanwhile. */
static void wait_for_signal(int number)
{
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, number);
    int got = sigwaitinfo(&set, &info);
    printf("got signal %d, code %d\n", got, info.si_code);
    fflush(stdout);
}

static void block(int number)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
}

/* A leader takes a terminal; typed signals, window changes and hang-up come to it. */
static void leader(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        int group = 0;
        SHOW(open("/dev/tty", O_RDWR));
        TRUTH(setsid() == getpid());
        SHOW(open("/dev/tty", O_RDWR));
        SHOW(tcgetpgrp(inside));
        SHOW(ioctl(inside, TIOCSCTTY, 0));
        SHOW(ioctl(inside, TIOCSCTTY, 0));
        TRUTH(tcgetpgrp(inside) == getpgrp());
        TRUTH(tcgetsid(inside) == getsid(0));
        TRUTH(ioctl(outside, TIOCGPGRP, &group) == 0 && group == getpgrp());
        close(outside);
        SHOW(tcsetpgrp(inside, -1));
        SHOW(tcsetpgrp(inside, 999999));
        SHOW(tcsetpgrp(inside, 1));
        SHOW(tcsetpgrp(inside, getppid()));
        int tty = open("/dev/tty", O_RDWR);
        TRUTH(tty >= 0);
        struct stat st;
        MUST(fstat(tty, &st));
        printf("/dev/tty is %d,%d\n", (int)(st.st_rdev >> 8), (int)(st.st_rdev & 255));
        TRUTH(tcgetpgrp(tty) == getpgrp());
        catch(SIGINT);
        catch(SIGQUIT);
        block(SIGINT);
        block(SIGQUIT);
        block(SIGWINCH);
        block(SIGHUP);
        catch(SIGWINCH);
        catch(SIGHUP);
        catch(SIGCONT);
        say(up[1]);
        wait_for_signal(SIGINT);
        say(up[1]);
        wait_for_signal(SIGQUIT);
        say(up[1]);
        wait_for_signal(SIGWINCH);
        say(up[1]);
        wait_for_signal(SIGHUP);
        char byte;
        SHOW(read(inside, &byte, 1));
        SHOW(write(inside, &byte, 1));
        SHOW(open("/dev/tty", O_RDWR));
        exit(3);
    }
    hear(up[0]);
    MUST(write(outside, "\x03", 1));
    hear(up[0]);
    MUST(write(outside, "\x1c", 1));
    hear(up[0]);
    struct winsize size = { 10, 20, 0, 0 };
    MUST(ioctl(outside, TIOCSWINSZ, &size));
    hear(up[0]);
    close(outside);
    status_of("the leader", pid, 0);
}

/* A shell with two jobs: who reads from the background stops, and goes on in the foreground. */
static void background(void)
{
    pid_t shell = fork();
    if (shell == 0) {
        MUST(setsid());
        MUST(ioctl(inside, TIOCSCTTY, 0));
        signal(SIGTTOU, SIG_IGN);
        pid_t job = fork();
        if (job == 0) {
            signal(SIGTTOU, SIG_DFL);
            MUST(setpgid(0, 0));
            char line[100];
            ssize_t n = read(inside, line, sizeof line);
            printf("the job read %d bytes\n", (int)n);
            fflush(stdout);
            struct termios t;
            SHOW(tcgetattr(inside, &t));
            t.c_lflag &= ~ECHO;
            hear(down[0]);
            SHOW(tcsetattr(inside, TCSANOW, &t));
            t.c_lflag |= TOSTOP;
            SHOW(tcsetattr(inside, TCSANOW, &t));
            say(up[1]);
            hear(down[0]);
            n = write(inside, "text", 4);
            /* The shell tells first that this went on. */
            say(up[1]);
            hear(down[0]);
            printf("the job wrote %d bytes\n", (int)n);
            say(up[1]);
            for (;;)
                pause();
        }
        status_of("the job", job, WUNTRACED);
        MUST(tcsetpgrp(inside, job));
        MUST(kill(-job, SIGCONT));
        status_of("the job", job, WCONTINUED);
        MUST(write(outside, "line\n", 5));
        say(down[1]);
        hear(up[0]);
        told("the job is in the foreground and has changed settings");
        MUST(tcsetpgrp(inside, getpgrp()));
        say(down[1]);
        status_of("the job", job, WUNTRACED);
        MUST(tcsetpgrp(inside, job));
        MUST(kill(-job, SIGCONT));
        status_of("the job", job, WCONTINUED);
        hear(up[0]);
        say(down[1]);
        hear(up[0]);
        struct pollfd text = { outside, POLLIN, 0 };
        SHOW(poll(&text, 1, -1));
        MUST(write(outside, "\x1a", 1));
        status_of("the job", job, WUNTRACED);
        MUST(kill(-job, SIGCONT));
        status_of("the job", job, WCONTINUED);
        MUST(write(outside, "\x03", 1));
        status_of("the job", job, 0);
        SHOW(waitpid(-1, NULL, 0));
        /* Ignored or blocked: reading fails, changing goes through. */
        MUST(tcsetpgrp(inside, getpgrp()));
        job = fork();
        if (job == 0) {
            MUST(setpgid(0, 0));
            char byte;
            signal(SIGTTIN, SIG_IGN);
            SHOW(read(inside, &byte, 1));
            signal(SIGTTIN, SIG_DFL);
            block(SIGTTIN);
            SHOW(read(inside, &byte, 1));
            struct termios t;
            SHOW(tcgetattr(inside, &t));
            SHOW(tcsetattr(inside, TCSANOW, &t));
            SHOW(tcsetpgrp(inside, getpgrp()));
            SHOW(ioctl(inside, TIOCNOTTY, 0));
            SHOW(open("/dev/tty", O_RDWR));
            SHOW(tcgetpgrp(inside));
            exit(0);
        }
        status_of("the second job", job, 0);
        MUST(tcsetpgrp(inside, getpgrp()));
        exit(0);
    }
    status_of("the shell", shell, 0);
}

/* A group that nobody would continue does not stop, and is told when it becomes one while a member is stopped. */
static void orphans(void)
{
    pid_t shell = fork();
    if (shell == 0) {
        MUST(setsid());
        MUST(ioctl(inside, TIOCSCTTY, 0));
        signal(SIGHUP, SIG_IGN);
        pid_t job = fork();
        if (job == 0) {
            MUST(setpgid(0, 0));
            signal(SIGHUP, SIG_DFL);
            catch(SIGHUP);
            catch(SIGCONT);
            raise(SIGSTOP);
            printf("told by %s\n", caught == SIGHUP || caught == SIGCONT ? "hang-up and continue" : "nobody");
            say(up[1]);
            exit(0);
        }
        status_of("the job", job, WUNTRACED);
        exit(0);
    }
    hear(up[0]);
    status_of("the shell", shell, 0);
    shell = fork();
    if (shell == 0) {
        MUST(setsid());
        MUST(ioctl(inside, TIOCSCTTY, 0));
        pid_t middle = fork();
        if (middle == 0) {
            MUST(setpgid(0, 0));
            if (fork() == 0) {
                hear(down[0]);
                char byte;
                SHOW(read(inside, &byte, 1));
                SHOW(tcsetpgrp(inside, getpgrp()));
                SHOW(raise(SIGTSTP));
                told("an orphan does not stop");
                say(up[1]);
            }
            exit(0);
        }
        status_of("the middle", middle, 0);
        say(down[1]);
        hear(up[0]);
        exit(0);
    }
    status_of("the second shell", shell, 0);
}

/* Stops and continuations as the parent sees them. */
static void stops(void)
{
    catch(SIGCHLD);
    pid_t child = fork();
    if (child == 0) {
        for (;;)
            pause();
    }
    /* In a group of its own, which is no orphan whoever started this program. */
    MUST(setpgid(child, child));
    int signals[] = { SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU };
    for (int i = 0; i < 4; i++) {
        MUST(kill(child, signals[i]));
        siginfo_t info = { 0 };
        SHOW(waitid(P_PID, child, &info, WSTOPPED));
        printf("code %d status %d signal %d\n", info.si_code, info.si_status, info.si_signo);
        SHOW(waitid(P_PID, child, &info, WSTOPPED | WNOHANG));
        MUST(kill(child, SIGCONT));
        SHOW(waitid(P_PID, child, &info, WCONTINUED));
        printf("code %d status %d\n", info.si_code, info.si_status);
    }
    /* A pending stop is taken back by SIGCONT, and the other way round. */
    MUST(kill(child, SIGSTOP));
    status_of("the child", child, WUNTRACED);
    MUST(kill(child, SIGTERM));
    SHOW(waitpid(child, NULL, WNOHANG));
    MUST(kill(child, SIGCONT));
    status_of("the child", child, 0);
    child = fork();
    if (child == 0) {
        raise(SIGSTOP);
        exit(5);
    }
    status_of("another child", child, WUNTRACED);
    MUST(kill(child, SIGKILL));
    status_of("another child", child, 0);
    signal(SIGCHLD, SIG_DFL);
}

int main(int argc, char **argv)
{
    void (*parts[])(void) = { leader, background, orphans, stops };
    int only = argc > 1 ? atoi(argv[1]) : -1;
    for (int i = 0; i < 4; i++) {
        if (only >= 0 && only != i)
            continue;
        printf("part %d\n", i);
        MUST(openpty(&outside, &inside, NULL, NULL, NULL));
        MUST(pipe(up));
        MUST(pipe(down));
        parts[i]();
        close(outside);
        close(inside);
        close(up[0]), close(up[1]), close(down[0]), close(down[1]);
    }
    return 0;
}
