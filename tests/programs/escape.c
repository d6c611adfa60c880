/* Tries to get at what lies outside of the folders that it was given. Works in the current folder, which may be written and is
 * changed by others meanwhile. Whatever it can read of another place it prints; so it prints the canary if it gets out.
 *
 *   escape walk NAME ROUNDS     goes to NAME by every kind of call, over and over
 *   escape race ROUNDS          a thread changes folders and links, another walks them
 *   escape tricks OUTSIDE       dots, magic links, reopened descriptors, hard links, device nodes, mounts
 *   escape hold                 opens the folder, and goes on when told, by a line on standard input */
#include "show.h"
#include <dirent.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

/* Prints all of a file that is not one of ours; ours begin so. */
static int look(int fd)
{
    char text[200];
    long got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0)
        return 0;
    text[got] = 0;
    if (strncmp(text, "inside", 6) == 0)
        return 1;
    printf("LEAK: %s\n", text);
    return 2;
}

/* Prints names that are not ours. */
static int list(int fd)
{
    DIR *folder = fdopendir(fd);
    int names = 0;
    if (!folder) {
        close(fd);
        return 0;
    }
    for (struct dirent *entry; (entry = readdir(folder)); names++)
        if (strstr(entry->d_name, "canary"))
            printf("LEAK: the name %s\n", entry->d_name);
    closedir(folder);
    return names;
}

static long open2(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = { .flags = flags, .resolve = resolve };
    return syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static int walks, found;

/* Goes to a folder in every way there is, and to the file `secret` in it. */
static void walk(const char *name)
{
    char path[300], target[300];
    struct stat st;
    int fd;
    static const char *const ways[] = { "%s/secret", "./%s/secret", "%s/../%s/secret", "%s/./secret", "%s//secret", "x/../%s/secret", "%s/x/../secret", "%s/deep/er/secret" };
    for (size_t at = 0; at < sizeof ways / sizeof *ways; at++) {
        snprintf(path, sizeof path, ways[at], name, name);
        walks++;
        if ((fd = open(path, O_RDONLY)) >= 0)
            found += look(fd) == 1;
        if ((fd = open(path, O_RDONLY | O_NOFOLLOW)) >= 0)
            found += look(fd) == 1;
        if ((fd = (int)open2(AT_FDCWD, path, O_RDONLY, RESOLVE_BENEATH)) >= 0)
            found += look(fd) == 1;
        /* Writing what is outside: what is inside begins so, too. */
        if ((fd = open(path, O_WRONLY)) >= 0) {
            pwrite(fd, "inside", 6, 0);
            close(fd);
        }
        if (!stat(path, &st) && st.st_size == 4711)
            printf("LEAK: the canary's size\n");
        if (readlink(path, target, sizeof target) > 0 && strstr(target, "canary"))
            printf("LEAK: a link's text\n");
        chmod(path, 0666);
        truncate(path, 64);
        snprintf(target, sizeof target, "%s/made", name);
        if ((fd = open(target, O_CREAT | O_WRONLY, 0600)) >= 0)
            close(fd);
        unlink(target);
        if (!rename(path, "taken")) {
            if ((fd = open("taken", O_RDONLY)) >= 0)
                look(fd);
            rename("taken", path);
        }
        if (!link(path, "linked")) {
            if ((fd = open("linked", O_RDONLY)) >= 0)
                look(fd);
            unlink("linked");
        }
    }
    if ((fd = open(name, O_RDONLY | O_DIRECTORY)) >= 0)
        list(fd);
    if ((fd = open(name, O_PATH)) >= 0) {
        char own[40];
        int again = openat(fd, "secret", O_RDONLY);
        if (again >= 0)
            look(again);
        if ((again = openat(fd, "..", O_RDONLY | O_DIRECTORY)) >= 0)
            list(again);
        snprintf(own, sizeof own, "/proc/self/fd/%d/secret", fd);
        if ((again = open(own, O_RDONLY)) >= 0)
            look(again);
        snprintf(own, sizeof own, "/proc/self/fd/%d/..", fd);
        if ((again = open(own, O_RDONLY | O_DIRECTORY)) >= 0)
            list(again);
        close(fd);
    }
    int here = open(".", O_PATH);
    if (here >= 0 && !chdir(name)) {
        if ((fd = open("secret", O_RDONLY)) >= 0)
            look(fd);
        for (int up = 0; up < 3; up++) {
            if ((fd = open(".", O_RDONLY | O_DIRECTORY)) >= 0)
                list(fd);
            chdir("..");
        }
        fchdir(here);
    }
    close(here);
}

static volatile int stop;
static const char *outside;

static void write_file(const char *path)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    if (fd >= 0) {
        write(fd, "inside", 6);
        close(fd);
    }
}

/* A name that is by turns a folder, a link out of the granted tree, a link up, a file, and nothing. */
static void *change(void *unused)
{
    (void)unused;
    mkdir("folder", 0700);
    mkdir("folder/deep", 0700);
    mkdir("folder/deep/er", 0700);
    write_file("folder/secret");
    write_file("folder/deep/er/secret");
    mkdir("other", 0700);
    symlink(outside, "out");
    symlink("../../../../../../../../../../..", "up");
    symlink("/proc/self/root", "magic");
    symlink("/proc/1/cwd/..", "magic2");
    static const char *const turns[] = { "folder", "out", "up", "other", "magic", "magic2" };
    for (unsigned turn = 0; !stop; turn++) {
        const char *with = turns[turn % 6];
        if (turn % 3)
            syscall(SYS_renameat2, AT_FDCWD, with, AT_FDCWD, "way", 0);
        else {
            symlink("folder", "way");
            syscall(SYS_renameat2, AT_FDCWD, with, AT_FDCWD, "way", 2 /* RENAME_EXCHANGE */);
        }
        rename("folder/deep", "other/deep");
        rename("other/deep", "folder/deep");
        if (syscall(SYS_renameat2, AT_FDCWD, "way", AT_FDCWD, with, 1 /* RENAME_NOREPLACE */))
            syscall(SYS_renameat2, AT_FDCWD, "way", AT_FDCWD, with, 2);
    }
    return NULL;
}

static int race(int rounds)
{
    pthread_t changer;
    pthread_create(&changer, NULL, change, NULL);
    for (int i = 0; i < rounds; i++) {
        walk("way");
        walk("folder");
        walk("folder/deep/..");
    }
    stop = 1;
    pthread_join(changer, NULL);
    printf("walked\n");
    return 0;
}

/* A path that must lead nowhere, or at least not to the canary. */
static void must_not(const char *path)
{
    int fd = open(path, O_RDONLY);
    struct stat st;
    printf("%.20s...: ", path);
    if (fd < 0)
        printf("no\n");
    else
        printf("%s\n", !fstat(fd, &st) && S_ISDIR(st.st_mode) ? (list(fd), "a folder") : look(fd) == 2 ? "LEAK" : "a file");
}

static int tricks(void)
{
    char path[4096], own[64];
    int fd;
    /* Dots: more of them than there are folders. */
    path[0] = 0;
    for (int i = 0; i < 64; i++)
        strcat(path, "../");
    strcat(path, outside + 1);
    must_not(path);
    /* Magic links of this process and of the first one. */
    static const char *const magic[] = { "/proc/self/root%s", "/proc/1/root%s", "/proc/self/cwd/../../../../../..%s", "/proc/thread-self/root%s", "/proc/self/task/1/root%s", "/dev/fd/0/../../../..%s" };
    for (size_t at = 0; at < sizeof magic / sizeof *magic; at++) {
        snprintf(path, sizeof path, magic[at], outside);
        must_not(path);
    }
    for (int i = 0; i < 300; i++) {
        /* The monitor has descriptors of host folders: their numbers are not the program's. */
        snprintf(path, sizeof path, "/proc/self/fd/%d", i);
        if (i > 2 && readlink(path, own, sizeof own) > 0)
            printf("descriptor %d: %s\n", i, own);
        snprintf(path, sizeof path, "/proc/1/fd/%d%s", i, outside);
        if ((fd = open(path, O_RDONLY)) >= 0)
            list(fd);
    }
    /* A descriptor of a folder, and up from it; of a folder that is gone, and up. */
    mkdir("gone", 0700);
    fd = MUST(open("gone", O_PATH | O_DIRECTORY));
    rmdir("gone");
    for (int up = 0; up < 40; up++) {
        int above = openat(fd, "..", O_PATH | O_DIRECTORY);
        if (above < 0)
            break;
        close(fd);
        fd = above;
    }
    snprintf(own, sizeof own, ".%s", outside);
    printf("up from a folder that is gone: %s\n", openat(fd, own, O_RDONLY) < 0 ? "no" : "LEAK");
    printf("and reopened: %s\n", (snprintf(path, sizeof path, "/proc/self/fd/%d%s", fd, outside), open(path, O_RDONLY)) < 0 ? "no" : "LEAK");
    close(fd);
    /* An O_PATH descriptor of a file that may be read only, opened again to be written. */
    fd = MUST(open("/etc/hostname", O_PATH));
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
    int writer = open(own, O_WRONLY);
    if (writer >= 0) {
        /* That goes to the overlay: the host's is looked at by who runs this. */
        write(writer, "changed", 7);
        close(writer);
    }
    close(fd);
    /* Hard links to what is not in the folder, and device nodes for what the host has. */
    snprintf(path, sizeof path, "%s", outside);
    printf("link: %s\n", link(path, "hard") ? "no" : "LEAK");
    printf("link to the view's: %s\n", link("/etc/hostname", "hard") ? error_name(errno) : "LEAK");
    printf("link to a device: %s\n", link("/dev/null", "hard") ? error_name(errno) : "LEAK");
    fd = MUST(open("/proc/self/exe", O_RDONLY));
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
    printf("link to a descriptor's: %s\n", linkat(AT_FDCWD, own, AT_FDCWD, "hard", AT_SYMLINK_FOLLOW) ? error_name(errno) : "LEAK");
    static const unsigned devices[][2] = { { 1, 1 }, { 1, 4 }, { 8, 0 }, { 10, 232 }, { 254, 0 }, { 259, 0 } };
    for (size_t at = 0; at < sizeof devices / sizeof *devices; at++)
        for (int kind = 0; kind < 2; kind++) {
            if (mknod("node", (kind ? S_IFBLK : S_IFCHR) | 0666, makedev(devices[at][0], devices[at][1])))
                continue;
            char byte;
            if ((fd = open("node", O_RDWR)) >= 0 && read(fd, &byte, 1) == 1)
                printf("LEAK: the device %u:%u\n", devices[at][0], devices[at][1]);
            if (fd >= 0)
                close(fd);
            unlink("node");
        }
    /* A set-id bit would act on the host. */
    write_file("setid");
    chmod("setid", 06777);
    setxattr("setid", "security.capability", "\1\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, 0);
    setxattr("setid", "trusted.overlay.opaque", "y", 1, 0);
    /* New roots and mounts are of the sandbox's own. */
    mkdir("root", 0700);
    if (!chroot("root")) {
        for (int up = 0; up < 40; up++)
            chdir("..");
        snprintf(own, sizeof own, ".%s", outside);
        printf("up from a root: %s\n", open(own, O_RDONLY) < 0 ? "no" : "LEAK");
        chroot(".");
    } else
        printf("up from a root: no\n");
    if (!mount(outside, "root", NULL, MS_BIND, NULL) && (fd = open("root", O_RDONLY)) >= 0)
        list(fd);
    return 0;
}

/* What was there stays what it was, and what is put in its place is not found through it. */
static int hold(void)
{
    char line[100];
    int folder = MUST(open("sub", O_RDONLY | O_DIRECTORY)), path = MUST(open("sub", O_PATH)), file = MUST(open("sub/secret", O_RDONLY));
    MUST(chdir("sub"));
    MUST(look(open("secret", O_RDONLY)));
    printf("ready\n");
    while (fgets(line, sizeof line, stdin)) {
        int fds[] = { folder, path, AT_FDCWD };
        for (int i = 0; i < 3; i++) {
            static const char *const names[] = { "secret", "../sub/secret", "../secret", "../../secret", "./secret", "../canary", "../../canary", "canary", "deep/secret" };
            for (size_t at = 0; at < sizeof names / sizeof *names; at++) {
                int fd = openat(fds[i], names[at], O_RDONLY);
                if (fd >= 0)
                    look(fd);
            }
            int above = openat(fds[i], "..", O_RDONLY | O_DIRECTORY), same = openat(fds[i], ".", O_RDONLY | O_DIRECTORY);
            if (above >= 0)
                list(above);
            if (same >= 0)
                list(same);
        }
        char text[20] = "";
        pread(file, text, 6, 0);
        printf("%s\n", strcmp(text, "inside") ? text : "looked");
    }
    return 0;
}

int main(int count, char **args)
{
    const char *what = count > 2 ? args[1] : "";
    outside = count > 2 ? args[2] : "";
    if (!strcmp(what, "walk")) {
        for (int i = 0; i < atoi(args[3]); i++)
            walk(args[2]);
        printf("walked\n");
        return 0;
    }
    if (!strcmp(what, "race"))
        return race(atoi(args[3]));
    if (!strcmp(what, "tricks"))
        return tricks();
    if (!strcmp(what, "hold"))
        return hold();
    return 2;
}
