/* Making, listing, changing and removing folders. Works in the current folder. */
#include "show.h"
#include <dirent.h>
#include <limits.h>

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *path)
{
    char *names[512];
    int n = 0;
    DIR *dir = opendir(path);
    if (!dir) {
        printf("opendir %s: %s\n", path, error_name(errno));
        return;
    }
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char line[300];
        snprintf(line, sizeof line, "%s (%d)", e->d_name, e->d_type);
        names[n++] = strdup(line);
    }
    closedir(dir);
    qsort(names, n, sizeof *names, by_name);
    printf("%s:", path);
    for (int i = 0; i < n; i++)
        printf(" %s", names[i]);
    printf("\n");
}

int main(void)
{
    char cwd[PATH_MAX], before[PATH_MAX];
    int fd;
    MUST(getcwd(before, sizeof before) ? 0 : -1);
    SHOW(mkdir("d", 0755));
    SHOW(mkdir("d", 0755));
    SHOW(mkdir("d/", 0755));
    SHOW(mkdir("missing/x", 0755));
    SHOW(mkdir(".", 0755));
    SHOW(mkdir("/", 0755));
    SHOW(mkdir("d/e/", 0700));
    SHOW(close(MUST(open("d/f", O_CREAT | O_WRONLY, 0600))));
    SHOW(symlink("f", "d/l"));
    SHOW(mknod("d/fifo", S_IFIFO | 0600, 0));
    SHOW(mkdir("d/f/x", 0755));
    list("d");
    list("missing");
    list("d/f");
    SHOW(rmdir("d"));
    SHOW(rmdir("d/f"));
    SHOW(rmdir("d/l"));
    SHOW(rmdir("missing"));
    SHOW(rmdir("."));
    SHOW(rmdir("d/e/.."));
    SHOW(rmdir("/"));
    SHOW(unlink("d"));
    SHOW(unlink("d/e"));

    SHOW(chdir("d/e"));
    MUST(getcwd(cwd, sizeof cwd) ? 0 : -1);
    TRUTH(strncmp(cwd, before, strlen(before)) == 0);
    printf("%s\n", cwd + strlen(before));
    SHOW(syscall(SYS_getcwd, cwd, 3));
    SHOW(syscall(SYS_getcwd, (char *)1, 4096) == -1 && errno == EFAULT);
    SHOW(chdir("../f"));
    SHOW(chdir("missing"));
    SHOW(chdir(".."));
    list(".");
    fd = MUST(open("e", O_RDONLY | O_DIRECTORY));
    SHOW(fchdir(fd));
    SHOW(mkdirat(fd, "g", 0755));
    SHOW(unlinkat(fd, "g", 0));
    SHOW(unlinkat(fd, "g", AT_REMOVEDIR));
    SHOW(unlinkat(fd, "g", 0x1234));
    SHOW(read(fd, cwd, 1));
    SHOW(write(fd, cwd, 1));
    SHOW(openat(fd, "x", O_RDONLY));
    SHOW(fchdir(0x7fff));
    /* A removed current folder is empty and takes no names. */
    SHOW(rmdir("../e"));
    list(".");
    SHOW(open("x", O_CREAT | O_WRONLY, 0600));
    SHOW(getcwd(cwd, sizeof cwd) == NULL ? -1 : 0);
    SHOW(close(fd));
    SHOW(chdir(before));

    /* Many entries, read in pieces: each exactly once. */
    MUST(mkdir("many", 0755));
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "many/file-%03d", i);
        MUST(close(MUST(open(name, O_CREAT | O_WRONLY, 0600))));
    }
    fd = MUST(open("many", O_RDONLY | O_DIRECTORY));
    int seen[300] = { 0 }, dots = 0, strange = 0;
    char piece[512];
    for (long n; (n = MUST(syscall(SYS_getdents64, fd, piece, sizeof piece))) > 0;)
        for (long at = 0; at < n;) {
            struct dirent64 *e = (void *)(piece + at);
            int i;
            if (sscanf(e->d_name, "file-%d", &i) == 1 && i >= 0 && i < 300)
                seen[i]++;
            else if (e->d_name[0] == '.')
                dots++;
            else
                strange++;
            at += e->d_reclen;
        }
    int once = 0;
    for (int i = 0; i < 300; i++)
        once += seen[i] == 1;
    printf("seen once %d, dots %d, strange %d\n", once, dots, strange);
    SHOW(lseek(fd, 0, SEEK_SET));
    TRUTH(syscall(SYS_getdents64, fd, piece, sizeof piece) > 0);
    SHOW(syscall(SYS_getdents64, fd, piece, 8));
    SHOW(syscall(SYS_getdents64, 999, piece, 8));
    SHOW(close(fd));
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "many/file-%03d", i);
        MUST(unlink(name));
    }
    SHOW(rmdir("many"));
    SHOW(unlink("d/fifo"));
    SHOW(unlink("d/l"));
    SHOW(unlink("d/f"));
    SHOW(rmdir("d"));
    return 0;
}
