/* /proc and /dev as programs use them: shapes, not values. */
#include "show.h"
#include <dirent.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

static char text[1 << 20];

static long slurp(const char *name)
{
    int fd = open(name, O_RDONLY);
    long n, total = 0;
    if (fd == -1) {
        printf("%s: %s\n", name, error_name(errno));
        return -1;
    }
    while ((n = read(fd, text + total, sizeof text - 1 - total)) > 0)
        total += n;
    text[total] = 0;
    close(fd);
    return total;
}

/* Prints the first word of each line. */
static void keys(const char *name, int limit)
{
    if (slurp(name) < 0)
        return;
    printf("%s:", name);
    for (char *line = strtok(text, "\n"); line && limit-- > 0; line = strtok(NULL, "\n"))
        printf(" %.*s", (int)strcspn(line, " \t:"), line);
    printf("\n");
}

static void fields(const char *name)
{
    if (slurp(name) < 0)
        return;
    int n = 0;
    for (char *word = strtok(text, " \n"); word; word = strtok(NULL, " \n"))
        n++;
    printf("%s: %d fields\n", name, n);
}

static void node(const char *name)
{
    struct stat st;
    if (stat(name, &st) == -1)
        printf("%s: %s\n", name, error_name(errno));
    else
        printf("%s: mode %o, device %u:%u\n", name, st.st_mode, major(st.st_rdev), minor(st.st_rdev));
}

int main(int argc, char **argv)
{
    (void)argc;
    char link[4096];
    keys("/proc/self/status", 12);
    fields("/proc/self/stat");
    fields("/proc/self/statm");
    keys("/proc/self/limits", 20);
    keys("/proc/meminfo", 5);
    fields("/proc/uptime");
    fields("/proc/loadavg");
    SHOW(slurp("/proc/self/comm") > 0 && strncmp(text, "proc", 4) == 0);
    SHOW(slurp("/proc/self/cmdline") == (long)strlen(argv[0]) + 1);
    SHOW(strcmp(text, argv[0]) == 0);
    long total = 0;
    for (char **e = environ; *e; e++)
        total += (long)strlen(*e) + 1;
    SHOW(slurp("/proc/self/environ") == total);
    SHOW(slurp("/proc/self/auxv") % 16);
    slurp("/proc/self/maps");
    TRUTH(strstr(text, "[stack]") && strstr(text, "[vdso]") && strstr(text, "[heap]") && strstr(text, " r-xp "));
    unsigned long from, to, inside = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (sscanf(line, "%lx-%lx", &from, &to) == 2)
            inside += (unsigned long)main >= from && (unsigned long)main < to;
    SHOW(inside);
    slurp("/proc/cpuinfo");
    TRUTH(strstr(text, "processor\t: 0\n") && strstr(text, "\nflags\t\t: fpu ") && strstr(text, "model name\t: "));
    slurp("/proc/version");
    TRUTH(strncmp(text, "Linux version ", 14) == 0);
    slurp("/proc/mounts");
    TRUTH(strstr(text, " / ") != NULL);
    slurp("/proc/self/mountinfo");
    TRUTH(strstr(text, " / ") != NULL);
    slurp("/proc/filesystems");
    TRUTH(strstr(text, "proc\n") && strstr(text, "tmpfs\n"));
    slurp("/proc/sys/kernel/ostype");
    printf("%s", text);
    TRUTH(slurp("/proc/sys/kernel/random/uuid") == 37);
    TRUTH(slurp("/proc/sys/vm/overcommit_memory") == 2);
    TRUTH(slurp("/proc/sys/kernel/pid_max") > 1);

    char name[64];
    snprintf(name, sizeof name, "%d", getpid());
    long n = MUST(readlink("/proc/self", link, sizeof link));
    TRUTH((size_t)n == strlen(name) && memcmp(name, link, n) == 0);
    int fd = MUST(open("/dev/null", O_RDWR));
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    n = MUST(readlink(name, link, sizeof link));
    printf("%.*s\n", (int)n, link);
    SHOW(close(MUST(open(name, O_RDONLY))));
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        count += e->d_name[0] != '.' && atoi(e->d_name) < 10;
    closedir(dir);
    SHOW(count);
    SHOW(readlink("/proc/self/fd/99", link, sizeof link));
    SHOW(readlink("/proc/self/cwd", link, sizeof link) > 0);
    SHOW(readlink("/proc/self/root", link, sizeof link));
    SHOW(open("/proc/999999999/stat", O_RDONLY));
    SHOW(open("/proc/self/missing", O_RDONLY));
    SHOW(mkdir("/proc/x", 0755));
    SHOW(unlink("/proc/version"));
    SHOW(open("/proc/version", O_WRONLY) == -1 ? errno != 0 : 1);

    node("/dev/null");
    node("/dev/zero");
    node("/dev/full");
    node("/dev/random");
    node("/dev/urandom");
    node("/dev/tty");
    SHOW(write(fd, "x", 1));
    SHOW(read(fd, text, 10));
    SHOW(lseek(fd, 100, SEEK_SET));
    SHOW(isatty(fd));
    SHOW(ftruncate(fd, 0));
    fd = MUST(open("/dev/zero", O_RDWR));
    text[0] = text[9] = 1;
    SHOW(read(fd, text, 10));
    SHOW(text[0] + text[9]);
    volatile char *zero = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    zero[5] = 3;
    SHOW(zero[0] + zero[5]);
    fd = MUST(open("/dev/full", O_RDWR));
    SHOW(write(fd, "x", 1));
    SHOW(read(fd, text, 10));
    fd = MUST(open("/dev/urandom", O_RDONLY));
    SHOW(read(fd, text, 1000));
    SHOW(access("/dev/stdin", F_OK));
    n = readlink("/dev/fd", link, sizeof link);
    printf("%.*s\n", (int)n, link);
    struct stat st;
    SHOW(stat("/sys/devices/system/cpu", &st));
    TRUTH(slurp("/sys/devices/system/cpu/online") > 0);
    return 0;
}
