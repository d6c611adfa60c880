/* Leases and directories that signal: who gets them, what breaks them, and which signals tell of it. */
#include "show.h"
#include <sys/wait.h>

static volatile int signals, last_fd, last_code, last_band;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    signals++;
    last_fd = info->si_fd;
    last_code = info->si_code;
    last_band = info->si_band;
}

static int exit_code(pid_t child)
{
    int status = -1;
    MUST(waitpid(child, &status, 0));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -status;
}

static void taking(void)
{
    int reader = MUST(open("leased", O_RDONLY | O_CREAT, 0666));
    SHOW(fcntl(reader, F_GETLEASE));
    SHOW(fcntl(reader, F_SETLEASE, F_UNLCK));
    SHOW(fcntl(reader, F_SETLEASE, 99));
    SHOW(fcntl(reader, F_SETLEASE, F_RDLCK));
    SHOW(fcntl(reader, F_GETLEASE));
    TRUTH(fcntl(reader, F_GETOWN) == getpid());
    SHOW(fcntl(reader, F_SETLEASE, F_WRLCK));
    SHOW(fcntl(reader, F_GETLEASE));
    SHOW(fcntl(reader, F_SETLEASE, F_UNLCK));
    SHOW(fcntl(reader, F_GETOWN));
    int other = MUST(open("leased", O_RDONLY));
    SHOW(fcntl(reader, F_SETLEASE, F_WRLCK));
    SHOW(fcntl(reader, F_SETLEASE, F_RDLCK));
    SHOW(fcntl(other, F_SETLEASE, F_RDLCK));
    SHOW(fcntl(other, F_SETLEASE, F_WRLCK));
    SHOW(close(reader));
    SHOW(fcntl(other, F_SETLEASE, F_WRLCK));
    SHOW(fcntl(other, F_SETLEASE, F_UNLCK));
    int writer = MUST(open("leased", O_RDWR));
    SHOW(fcntl(other, F_SETLEASE, F_RDLCK));
    SHOW(fcntl(writer, F_SETLEASE, F_RDLCK));
    SHOW(fcntl(writer, F_SETLEASE, F_WRLCK));
    SHOW(close(other));
    SHOW(fcntl(writer, F_SETLEASE, F_WRLCK));
    SHOW(fcntl(writer, F_GETLEASE));
    SHOW(close(writer));
    int directory = MUST(open(".", O_RDONLY)), pipes[2];
    MUST(pipe(pipes));
    SHOW(fcntl(directory, F_SETLEASE, F_RDLCK));
    SHOW(fcntl(pipes[0], F_SETLEASE, F_RDLCK));
    SHOW(fcntl(-1, F_SETLEASE, F_RDLCK));
    if (geteuid() == 0) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            MUST(chmod("leased", 0666));
            MUST(setgid(1234));
            MUST(setuid(1234));
            SHOW(fcntl(MUST(open("leased", O_RDONLY)), F_SETLEASE, F_RDLCK));
            exit(0);
        }
        SHOW(exit_code(child));
    }
    close(directory);
    close(pipes[0]);
    close(pipes[1]);
}

static void show_signal(int fd)
{
    printf("signals %d code %d band %#x of the descriptor %d\n", signals, last_code, last_band, last_fd == fd);
    signals = 0;
}

/* Opens or cuts the file in another process, which waits until the lease is out of its way. */
static pid_t breaks(int flags)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int result = flags < 0 ? truncate("leased", 3) : open("leased", flags);
        exit(result >= 0 ? 1 : errno);
    }
    return child;
}

static void breaking(void)
{
    sigset_t blocked, waiting;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &blocked, &waiting);
    static const struct {
        int lease, flags, answer;
    } cases[] = {
        { F_WRLCK, O_RDONLY, F_RDLCK }, { F_WRLCK, O_RDONLY, F_UNLCK }, { F_WRLCK, O_WRONLY, F_UNLCK },
        { F_RDLCK, O_WRONLY, F_UNLCK }, { F_RDLCK, O_RDWR | O_TRUNC, F_UNLCK }, { F_RDLCK, -1, F_UNLCK },
        { F_WRLCK, -1, F_UNLCK },
    };
    for (unsigned n = 0; n < sizeof cases / sizeof *cases; n++) {
        int fd = MUST(open("leased", O_RDONLY));
        MUST(fcntl(fd, F_SETSIG, SIGRTMIN));
        SHOW(fcntl(fd, F_SETLEASE, cases[n].lease));
        pid_t child = breaks(cases[n].flags);
        while (signals == 0)
            sigsuspend(&waiting);
        show_signal(fd);
        SHOW(fcntl(fd, F_GETLEASE));
        SHOW(fcntl(fd, F_SETLEASE, cases[n].answer));
        SHOW(exit_code(child));
        SHOW(fcntl(fd, F_GETLEASE));
        close(fd);
    }
    sigprocmask(SIG_SETMASK, &waiting, NULL);

    /* One that does not wait. */
    int fd = MUST(open("leased", O_RDONLY));
    MUST(fcntl(fd, F_SETSIG, SIGRTMIN));
    SHOW(fcntl(fd, F_SETLEASE, F_RDLCK));
    int second = open("leased", O_RDONLY);
    TRUTH(second >= 0);
    close(second);
    SHOW(signals);
    SHOW(open("leased", O_WRONLY | O_NONBLOCK));
    show_signal(fd);
    SHOW(fcntl(fd, F_GETLEASE));
    SHOW(open("leased", O_WRONLY | O_NONBLOCK));
    SHOW(signals);
    SHOW(fcntl(fd, F_SETLEASE, F_RDLCK));
    /* The last descriptor that is closed gives the lease back. */
    int copy = dup(fd);
    SHOW(close(fd));
    SHOW(open("leased", O_WRONLY | O_NONBLOCK));
    SHOW(close(copy));
    fd = open("leased", O_WRONLY | O_NONBLOCK);
    TRUTH(fd >= 0);
    close(fd);
}

#define TELLS(events, change) do { \
        int directory_ = MUST(open("watched", O_RDONLY)); \
        MUST(fcntl(directory_, F_SETSIG, SIGRTMIN)); \
        signals = 0; \
        SHOW(fcntl(directory_, F_NOTIFY, events)); \
        change; \
        printf("%s: %d\n", #change, signals); \
        close(directory_); \
    } while (0)

static void directories(void)
{
    char bytes[8];
    MUST(mkdir("watched", 0755));
    MUST(mkdir("watched/inner", 0755));
    MUST(mkdir("elsewhere", 0755));
    int file = MUST(open("watched/file", O_RDWR | O_CREAT, 0644));
    MUST(write(file, "contents", 8));
    TELLS(DN_RENAME | DN_MULTISHOT, rename("watched/file", "watched/new"));
    TELLS(DN_RENAME | DN_MULTISHOT, rename("watched/new", "elsewhere/file"));
    TELLS(DN_RENAME | DN_MULTISHOT, rename("elsewhere/file", "watched/file"));
    TELLS(DN_DELETE | DN_MULTISHOT, rename("watched/file", "watched/new"));
    TELLS(DN_CREATE | DN_MULTISHOT, rename("watched/new", "watched/file"));
    TELLS(DN_CREATE | DN_DELETE | DN_RENAME | DN_MULTISHOT, rename("watched/file", "watched/new"));
    TELLS(DN_ATTRIB | DN_MULTISHOT, chmod("watched", 0700));
    TELLS(DN_ATTRIB | DN_MULTISHOT, chmod("watched/new", 0600));
    TELLS(DN_MODIFY | DN_MULTISHOT, truncate("watched/new", 5));
    TELLS(DN_ACCESS | DN_MULTISHOT, pread(file, bytes, 5, 0));
    TELLS(DN_MODIFY | DN_MULTISHOT, chmod("watched/new", 0644));
    TELLS(DN_CREATE | DN_MULTISHOT, mkdir("watched/made", 0755));
    TELLS(DN_CREATE | DN_MULTISHOT, mkdir("watched/inner/made", 0755));
    TELLS(DN_DELETE | DN_MULTISHOT, rmdir("watched/made"));
    TELLS(DN_CREATE | DN_MULTISHOT, symlink("x", "watched/link"));
    TELLS(DN_CREATE | DN_DELETE | DN_MULTISHOT, unlink("watched/link"));
    TELLS(DN_CREATE, (mkdir("watched/1", 0755), mkdir("watched/2", 0755)));
    TELLS(DN_CREATE | DN_MULTISHOT, (rmdir("watched/1"), mkdir("watched/1", 0755), rmdir("watched/2"), mkdir("watched/2", 0755)));
    SHOW(fcntl(file, F_NOTIFY, DN_CREATE));
    SHOW(fcntl(file, F_NOTIFY, 0));

    int directory = MUST(open("watched", O_RDONLY));
    MUST(fcntl(directory, F_SETSIG, SIGRTMIN));
    signals = 0;
    SHOW(fcntl(directory, F_NOTIFY, DN_DELETE | DN_MULTISHOT));
    TRUTH(fcntl(directory, F_GETOWN) == getpid());
    /* What is asked for is added to what was. */
    SHOW(fcntl(directory, F_NOTIFY, DN_CREATE));
    MUST(rmdir("watched/1"));
    MUST(mkdir("watched/1", 0755));
    show_signal(directory);
    /* Changes by others count, and a child's descriptor closed does not end it. */
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(directory);
        exit(mkdir("watched/3", 0755) == 0 ? 3 : 4);
    }
    SHOW(exit_code(child));
    show_signal(directory);
    /* One of our own does. */
    SHOW(close(dup(directory)));
    MUST(rmdir("watched/3"));
    SHOW(signals);
    SHOW(fcntl(directory, F_NOTIFY, DN_DELETE | DN_MULTISHOT));
    SHOW(fcntl(directory, F_NOTIFY, 0));
    MUST(rmdir("watched/1"));
    SHOW(signals);
    close(directory);
    close(file);
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
    MUST(sigaction(SIGRTMIN, &action, NULL));
    MUST(sigaction(SIGIO, &action, NULL));
    umask(022);
    taking();
    breaking();
    directories();
    return 0;
}
