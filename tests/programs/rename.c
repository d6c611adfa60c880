/* rename, link, symlink, unlink and their errors. Works in the current folder. */
#include "show.h"
#include <limits.h>
#include <linux/fs.h>

static void make(const char *name, const char *text)
{
    int fd = MUST(open(name, O_CREAT | O_WRONLY | O_TRUNC, 0644));
    MUST(write(fd, text, strlen(text)));
    MUST(close(fd));
}

static void show_file(const char *name)
{
    char text[64];
    struct stat st;
    int fd = open(name, O_RDONLY);
    if (fd == -1) {
        printf("%s: %s\n", name, error_name(errno));
        return;
    }
    MUST(fstat(fd, &st));
    long n = S_ISREG(st.st_mode) ? MUST(read(fd, text, sizeof text)) : 0;
    printf("%s: %.*s, %ld links\n", name, (int)n, text, S_ISDIR(st.st_mode) ? 0L : (long)st.st_nlink);
    MUST(close(fd));
}

int main(void)
{
    char target[PATH_MAX];
    make("a", "one");
    make("b", "two");
    MUST(mkdir("d", 0755));
    MUST(mkdir("e", 0755));
    make("e/x", "in e");

    SHOW(rename("missing", "y"));
    SHOW(rename("a", "missing/y"));
    SHOW(rename("a", "b"));
    show_file("a");
    show_file("b");
    SHOW(rename("b", "b"));
    SHOW(rename("b", "d"));
    SHOW(rename("d", "b"));
    SHOW(rename("d", "e"));
    SHOW(rename("e", "d"));
    show_file("d/x");
    SHOW(rename("d", "d/inside"));
    SHOW(rename("d/..", "z"));
    SHOW(rename(".", "z"));
    SHOW(rename("b", "c/"));
    SHOW(rename("b", "d/b"));
    show_file("d/b");
    SHOW(rename("d/b", "a"));

    make("b", "second");
    SHOW(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE));
    SHOW(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", RENAME_EXCHANGE));
    show_file("a");
    show_file("b");
    SHOW(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "missing", RENAME_EXCHANGE));
    SHOW(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "d", RENAME_EXCHANGE));
    show_file("d");
    SHOW(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "d", RENAME_EXCHANGE));
    SHOW(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", RENAME_EXCHANGE | RENAME_NOREPLACE));

    SHOW(link("a", "hard"));
    SHOW(link("a", "hard"));
    SHOW(link("d", "hardd"));
    SHOW(link("missing", "hard2"));
    show_file("hard");
    make("hard", "changed");
    show_file("a");
    SHOW(rename("a", "hard"));
    show_file("a");
    SHOW(unlink("hard"));
    show_file("a");

    SHOW(symlink("a", "soft"));
    SHOW(symlink("a", "soft"));
    SHOW(symlink("", "empty"));
    SHOW(symlink("nowhere", "dangling"));
    show_file("soft");
    show_file("dangling");
    SHOW(readlink("soft", target, sizeof target));
    SHOW(readlink("dangling", target, 3));
    printf("%.3s\n", target);
    SHOW(readlink("a", target, sizeof target));
    SHOW(readlink("soft", target, 0));
    SHOW(open("soft", O_RDONLY | O_NOFOLLOW));
    SHOW(open("dangling", O_CREAT | O_EXCL | O_WRONLY, 0600));
    SHOW(close(MUST(open("dangling", O_CREAT | O_WRONLY, 0600))));
    show_file("nowhere");
    SHOW(linkat(AT_FDCWD, "soft", AT_FDCWD, "hardsoft", 0));
    SHOW(readlink("hardsoft", target, sizeof target));
    SHOW(linkat(AT_FDCWD, "soft", AT_FDCWD, "hardfile", AT_SYMLINK_FOLLOW));
    show_file("hardfile");
    SHOW(symlink("loop2", "loop1"));
    SHOW(symlink("loop1", "loop2"));
    SHOW(open("loop1", O_RDONLY));
    SHOW(symlink("d", "dirlink"));
    show_file("dirlink/x");
    SHOW(open("dirlink", O_RDONLY | O_NOFOLLOW | O_DIRECTORY));
    SHOW(open("soft", O_RDONLY | O_NOFOLLOW | O_DIRECTORY));

    char long_name[NAME_MAX + 2], magic[64];
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;
    SHOW(rename("missing", long_name));
    SHOW(rename("b", long_name));
    SHOW(rename(long_name, "y"));
    make("gone", "x");
    int gone = MUST(open("gone", O_RDONLY));
    MUST(unlink("gone"));
    snprintf(magic, sizeof magic, "/proc/self/fd/%d", gone);
    SHOW(linkat(AT_FDCWD, magic, AT_FDCWD, "back", AT_SYMLINK_FOLLOW));
    MUST(close(gone));
    SHOW(rmdir("dirlink"));
    SHOW(rename("dirlink", "dirlink2"));
    SHOW(unlink("dirlink2/"));
    SHOW(unlink("dirlink2"));

    const char *names[] = { "a", "b", "soft", "dangling", "nowhere", "hardsoft", "hardfile", "loop1", "loop2", "d/x" };
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        SHOW(unlink(names[i]));
    SHOW(rmdir("d"));
    SHOW(rmdir("e"));
    return 0;
}
