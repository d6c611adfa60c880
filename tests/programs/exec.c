/* Replaces itself several times: what survives, what does not, and what is refused. Works in the current folder. */
#include "show.h"
#include <sys/prctl.h>

extern char **environ;

static void on_signal(int number)
{
    (void)number;
}

static void make(const char *name, const char *text, long size, int mode)
{
    int fd = MUST(open(name, O_CREAT | O_WRONLY | O_TRUNC, 0600));
    MUST(write(fd, text, size));
    MUST(fchmod(fd, mode));
    MUST(close(fd));
}

static void first(char *self)
{
    char *args[] = { "second name", "second", self, "", "last", NULL }, *env[] = { "A=1", "B=", "EMPTY", NULL };
    SHOW(execve("missing", args, env));
    SHOW(execve("", args, env));
    SHOW(execve(".", args, env));
    SHOW(execve("/etc/passwd", args, env));
    make("text", "no program\n", 11, 0755);
    SHOW(execve("text", args, env));
    make("empty", "", 0, 0755);
    SHOW(execve("empty", args, env));
    make("short", "\177ELF\2\1\1", 7, 0755);
    SHOW(execve("short", args, env));
    make("script", "#!/no/such/interpreter\n", 23, 0755);
    SHOW(execve("script", args, env));
    make("loop", "#!loop\n", 7, 0755);
    SHOW(execve("loop", args, env));
    make("nothing", "#!  \n", 5, 0755);
    SHOW(execve("nothing", args, env));
    SHOW(execve(self, (void *)1, env));
    SHOW(execve((void *)1, args, env));
    static char huge[200000];
    memset(huge, 'h', sizeof huge - 1);
    SHOW(execve(self, (char *[]){ "x", huge, NULL }, env));
    SHOW(execveat(-1, "text", args, env, 0));
    SHOW(execveat(AT_FDCWD, "text", args, env, 0x8000000));
    const char *names[] = { "text", "empty", "short", "script", "loop", "nothing" };
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        MUST(unlink(names[i]));

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    signal(SIGUSR2, on_signal);
    signal(SIGHUP, SIG_IGN);
    umask(077);
    prctl(PR_SET_NAME, "renamed");
    MUST(dup2(MUST(open("/dev/null", O_RDONLY)), 10));
    MUST(dup3(10, 11, O_CLOEXEC));
    MUST(mkdir("below", 0700));
    MUST(chdir("below"));
    execve(self, args, env);
    printf("not replaced: %s\n", error_name(errno));
    exit(1);
}

static void second(int argc, char **argv)
{
    char cwd[4096], name[17] = "";
    struct sigaction action;
    sigset_t set;
    printf("%d arguments: %s|%s|%s|%s\n", argc, argv[0], argv[1], argv[3], argv[4]);
    for (char **e = environ; *e; e++)
        printf("environment: %s\n", *e);
    sigprocmask(SIG_SETMASK, NULL, &set);
    SHOW(sigismember(&set, SIGUSR1));
    sigpending(&set);
    SHOW(sigismember(&set, SIGUSR1));
    sigaction(SIGUSR2, NULL, &action);
    TRUTH(action.sa_handler == SIG_DFL);
    sigaction(SIGHUP, NULL, &action);
    TRUTH(action.sa_handler == SIG_IGN);
    SHOW(umask(022));
    prctl(PR_GET_NAME, name);
    printf("%s\n", name);
    SHOW(fcntl(10, F_GETFD));
    SHOW(fcntl(11, F_GETFD));
    getcwd(cwd, sizeof cwd);
    printf("%s\n", strrchr(cwd, '/'));
    MUST(chdir(".."));
    MUST(rmdir("below"));

    /* A script with an argument, which runs this program. */
    char script[5000];
    snprintf(script, sizeof script, "#! %s third  with blanks \nignored\n", argv[2]);
    make("script", script, (long)strlen(script), 0755);
    execve("./script", (char *[]){ "lost", "kept", NULL }, (char *[]){ NULL });
    printf("no script: %s\n", error_name(errno));
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc == 1)
        first(argv[0]);
    if (strcmp(argv[1], "second") == 0)
        second(argc, argv);
    printf("%d arguments: %s|%s|%s\n", argc, argv[1], argv[2], argv[3]);
    SHOW(unlink("script"));
    int fd = MUST(open(argv[0], O_PATH | O_CLOEXEC));
    if (argc == 4) {
        execveat(fd, "", (char *[]){ argv[0], "fourth", "x", "y", "z", NULL }, (char *[]){ NULL }, AT_EMPTY_PATH);
        printf("not replaced: %s\n", error_name(errno));
    }
    return 3;
}
