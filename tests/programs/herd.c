/* Many processes: a crowd at once, a bomb, a hog, and a long row of short lives. And many descriptors. */
#include "show.h"
#include <dirent.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* That many children at once, each with a status of its own. */
static int crowd(int count)
{
    int ends[2], made = 0, right = 0, status;
    pid_t *children = calloc(count, sizeof *children);
    MUST(pipe(ends));
    for (; made < count; made++) {
        children[made] = MUST(fork());
        if (!children[made]) {
            char byte;
            close(ends[1]);
            read(ends[0], &byte, 1);
            _exit(made & 63);
        }
    }
    close(ends[1]);
    for (int at = 0; at < made; at++)
        right += waitpid(children[at], &status, 0) == children[at] && status == (at & 63) << 8;
    printf("%d of %d\n", right, count);
    return 0;
}

/* Everybody forks until nobody can; then the first process ends, and with it all. */
static int bomb(void)
{
    pid_t first = getpid();
    int refused = 0;
    while (!refused)
        if (fork() < 0)
            refused = errno;
    if (getpid() != first)
        for (;;)
            pause();
    printf("%s\n", error_name(refused));
    return 5;
}

/* Children that copy all their memory, more together than there is; the parent's stays. */
static int hog(void)
{
    size_t bytes = 30 << 20, sum = 0;
    int killed = 0, fine = 0, status, ends[2];
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    /* Noise, of which compression would make nothing smaller. */
    unsigned long noise = 1;
    for (size_t at = 0; at < bytes; at += sizeof noise) {
        noise ^= noise << 13, noise ^= noise >> 7, noise ^= noise << 17;
        memcpy(memory + at, &noise, sizeof noise);
    }
    for (size_t page = 0; page < bytes; page += 4096)
        memory[page] = 1;
    MUST(pipe(ends));
    for (int at = 0; at < 6; at++)
        if (!MUST(fork())) {
            char byte;
            int weight = MUST(open("/proc/self/oom_score_adj", O_WRONLY));
            MUST(write(weight, "500", 3));
            close(ends[1]);
            for (size_t page = 0; page < bytes; page += 4096)
                memory[page] = 2;
            read(ends[0], &byte, 1);
            _exit(0);
        }
    /* Those that did not fit have gone before the others may go. */
    while (killed == 0 && wait(&status) > 0)
        killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    close(ends[1]);
    while (wait(&status) > 0)
        killed += WIFSIGNALED(status), fine += status == 0;
    for (size_t page = 0; page < bytes; page += 4096)
        sum += memory[page];
    TRUTH(killed > 0 && killed + fine == 6);
    TRUTH(sum == bytes / 4096);
    return 0;
}

/* Short lives, in rounds; after each round it says so and waits for a byte. */
static int lives(int rounds, int count)
{
    char byte;
    for (int round = 0; round < rounds; round++) {
        for (int at = 0; at < count; at++) {
            pid_t child = at % 2 ? MUST(fork()) : vfork();
            if (!child) {
                if (at % 2)
                    memset(malloc(100000), 1, 100000);
                _exit(0);
            }
            MUST(waitpid(child, NULL, 0));
        }
        printf("round\n");
        if (read(0, &byte, 1) != 1)
            return 1;
    }
    return 0;
}

/* Pipes, eventfds and files, that many descriptors together: each is one that works. */
static int descriptors(int wanted)
{
    enum { KINDS = 4, FILES = 100 };
    int sets = wanted / KINDS, right = 0, listed = 0, ends[2];
    char path[40], byte;
    uint64_t value;
    int (*all)[KINDS] = calloc(sets, sizeof *all);
    for (int at = 0; at < sets; at++) {
        MUST(pipe(ends));
        all[at][0] = ends[0];
        all[at][1] = ends[1];
        all[at][2] = MUST(eventfd(at, EFD_NONBLOCK));
        snprintf(path, sizeof path, "file%d", at % FILES);
        all[at][3] = MUST(open(path, O_RDWR | O_CREAT, 0600));
    }
    DIR *own = opendir("/proc/self/fd");
    while (readdir(own))
        listed++;
    closedir(own);
    /* With the three standard ones, the folder itself and its two dots. */
    TRUTH(listed == sets * KINDS + 6);
    for (int at = 0; at < sets; at++) {
        byte = at;
        right += write(all[at][1], &byte, 1) == 1 && pwrite(all[at][3], &byte, 1, at) == 1;
        byte = 0;
        right += read(all[at][0], &byte, 1) == 1 && byte == (char)at;
        right += at == 0 || (read(all[at][2], &value, 8) == 8 && value == (uint64_t)at);
        byte = 0;
        right += pread(all[at % FILES][3], &byte, 1, at) == 1 && byte == (char)at;
    }
    printf("%d of %d\n", right, sets * KINDS);
    pid_t child = MUST(fork());
    if (!child)
        _exit(fcntl(all[sets - 1][3], F_GETFD) != 0);
    int status;
    MUST(waitpid(child, &status, 0));
    SHOW(status);
    SHOW(syscall(SYS_close_range, 3, ~0u, 0));
    SHOW(eventfd(0, 0));
    return 0;
}

/* Opens files until there can be no more; everything else goes on. */
static int host_files(void)
{
    int opened = 0, ends[2], status, last = -1, fd;
    char name[20];
    for (;;) {
        snprintf(name, sizeof name, "file%d", opened);
        if ((fd = open(name, O_RDWR | O_CREAT, 0600)) < 0)
            break;
        last = fd, opened++;
    }
    printf("opened until %s\n", error_name(errno));
    TRUTH(opened > 500);
    SHOW(open("other", O_RDWR | O_CREAT, 0600));
    SHOW(access("file0", R_OK));
    SHOW(write(last, "x", 1));
    DONE(pipe(ends));
    DONE(eventfd(0, 0));
    pid_t child = MUST(fork());
    if (!child) {
        execl("/proc/self/exe", "herd", "crowd", "50", NULL);
        _exit(1);
    }
    MUST(waitpid(child, &status, 0));
    SHOW(status);
    MUST(close(last));
    SHOW(open("file0", O_RDONLY) == last);
    return 0;
}

int main(int count, char **args)
{
    if (count > 2 && !strcmp(args[1], "crowd"))
        return crowd(atoi(args[2]));
    if (count > 2 && !strcmp(args[1], "descriptors"))
        return descriptors(atoi(args[2]));
    if (count > 1 && !strcmp(args[1], "host-files"))
        return host_files();
    if (count > 1 && !strcmp(args[1], "bomb"))
        return bomb();
    if (count > 1 && !strcmp(args[1], "hog"))
        return hog();
    return lives(3, 400);
}
