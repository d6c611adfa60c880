/* inotify: what is told about files and directories, in which order, and how watches are made and end. */
#define _GNU_SOURCE
#include "show.h"
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <utime.h>

static int in;

// The events that wait, one a line; cookies as how many were given before.
static void drain(const char *what) {
    static uint32_t first_cookie;
    printf("-- %s\n", what);
    char buffer[1 << 16];
    ssize_t got = read(in, buffer, sizeof buffer);
    if (got < 0) {
        printf("  read: %s\n", error_name(errno));
        return;
    }
    for (ssize_t at = 0; at < got;) {
        struct inotify_event *event = (void *)(buffer + at);
        if (event->cookie && !first_cookie) first_cookie = event->cookie;
        printf("  wd %d mask %x cookie %u len %u %s\n", event->wd, event->mask,
               event->cookie ? event->cookie - first_cookie + 1 : 0, event->len, event->len ? event->name : "-");
        at += sizeof *event + event->len;
    }
}

static int watch(const char *path, uint32_t mask) {
    int wd = inotify_add_watch(in, path, mask);
    printf("watch %s %x: %d %s\n", path, mask, wd, wd < 0 ? error_name(errno) : "");
    return wd;
}

static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) printf("put %s failed\n", path);
    close(fd);
}

static void errors(void) {
    SHOW(inotify_init1(1));
    SHOW(inotify_add_watch(in, "d", 0));
    SHOW(inotify_add_watch(99, "d", 0));
    SHOW(inotify_add_watch(99, "d", IN_OPEN));
    SHOW(inotify_add_watch(0, "d", IN_OPEN));
    SHOW(inotify_add_watch(in, "d", 0x10000 | IN_OPEN));
    SHOW(inotify_add_watch(in, "d", IN_MASK_ADD | IN_MASK_CREATE | IN_OPEN));
    SHOW(inotify_add_watch(in, "absent", IN_OPEN));
    SHOW(inotify_add_watch(in, "d/f", IN_OPEN | IN_ONLYDIR));
    SHOW(inotify_add_watch(in, (char *)8, IN_OPEN));
    SHOW(inotify_rm_watch(in, 77));
    SHOW(inotify_rm_watch(0, 1));
    SHOW(inotify_rm_watch(99, 1));
    char byte;
    SHOW(write(in, "x", 1));
    SHOW(read(in, &byte, 1));
    SHOW(lseek(in, 0, SEEK_SET));
    struct stat st;
    SHOW(fstat(in, &st));
    printf("mode %o size %ld\n", st.st_mode, (long)st.st_size);
    char link[64] = {0};
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", in);
    SHOW(readlink(path, link, sizeof link - 1));
    puts(link);
}

int main(void) {
    mkdir("d", 0755);
    mkdir("other", 0755);
    put("d/f", "text");
    in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    errors();
    int d = watch("d", IN_ALL_EVENTS), f = watch("d/f", IN_ALL_EVENTS);
    drain("nothing yet");

    char buffer[64];
    int fd = open("d/f", O_RDWR);
    SHOW(read(fd, buffer, 2));
    SHOW(read(fd, buffer, 0));
    SHOW(pread(fd, buffer, 10, 100));
    SHOW(write(fd, "ab", 2));
    SHOW(write(fd, "cd", 2));
    SHOW(write(fd, "", 0));
    SHOW(ftruncate(fd, 3));
    SHOW(fallocate(fd, 0, 0, 10));
    SHOW(fchmod(fd, 0600));
    SHOW(fsetxattr(fd, "user.a", "v", 1, 0) < 0 ? 0 : 0);
    close(fd);
    drain("a file's own life");

    close(open("d/f", O_RDONLY));
    close(open("d/f", O_PATH));
    close(open("d/f", O_WRONLY | O_TRUNC));
    SHOW(truncate("d/f", 20));
    SHOW(chmod("d/f", 0644));
    struct timespec times[2] = {{1, 0}, {2, 0}};
    SHOW(utimensat(AT_FDCWD, "d/f", times, 0));
    times[0].tv_nsec = UTIME_OMIT;
    SHOW(utimensat(AT_FDCWD, "d/f", times, 0));
    times[0].tv_nsec = 0, times[1].tv_nsec = UTIME_OMIT;
    SHOW(utimensat(AT_FDCWD, "d/f", times, 0));
    SHOW(chown("d/f", -1, -1));
    drain("attributes");

    close(open("d/new", O_CREAT | O_WRONLY, 0600));
    SHOW(mkdir("d/sub", 0755));
    SHOW(symlink("f", "d/link"));
    SHOW(link("d/f", "d/hard"));
    SHOW(mknod("d/fifo", S_IFIFO | 0600, 0));
    drain("names made");
    SHOW(unlink("d/link"));
    SHOW(rmdir("d/sub"));
    SHOW(unlink("d/hard"));
    SHOW(unlink("d/fifo"));
    drain("names removed");

    int other = watch("other", IN_ALL_EVENTS);
    SHOW(rename("d/new", "d/renamed"));
    SHOW(rename("d/renamed", "other/there"));
    SHOW(rename("d/f", "other/f"));
    drain("moved");
    put("other/victim", "1");
    int victim = watch("other/victim", IN_ALL_EVENTS);
    drain("a victim");
    SHOW(rename("other/f", "other/victim"));
    drain("replaced");
    put("d/x", "1");
    SHOW(renameat2(AT_FDCWD, "d/x", AT_FDCWD, "other/there", RENAME_EXCHANGE));
    drain("exchanged");
    printf("%d %d %d %d\n", d, f, other, victim);

    fd = open("other/victim", O_RDONLY);
    SHOW(unlink("other/victim"));
    drain("unlinked and open");
    close(fd);
    drain("closed");
    SHOW(inotify_rm_watch(in, f));

    put("other/self", "1");
    int self = watch("other/self", IN_DELETE_SELF | IN_ATTRIB);
    SHOW(unlink("other/self"));
    drain("unlinked");
    SHOW(inotify_rm_watch(in, self));

    DIR *directory = opendir("other");
    while (readdir(directory)) {}
    closedir(directory);
    drain("listed");

    SHOW(inotify_rm_watch(in, other));
    drain("removed");
    SHOW(inotify_rm_watch(in, other));
    put("other/more", "1");
    drain("silence");

    put("d/once", "1");
    drain("before once");
    int once = watch("d/once", IN_MODIFY | IN_ONESHOT);
    printf("again %d\n", watch("d/once", IN_ATTRIB | IN_MASK_ADD | IN_ONESHOT) == once);
    SHOW(inotify_add_watch(in, "d/once", IN_MODIFY | IN_MASK_CREATE));
    chmod("d/once", 0600);
    chmod("d/once", 0644);
    drain("once");

    watch("d", IN_ALL_EVENTS | IN_EXCL_UNLINK);
    fd = open("d/once", O_RDWR);
    SHOW(unlink("d/once"));
    drain("unlinked");
    SHOW(write(fd, "x", 1));
    SHOW(fchmod(fd, 0640));
    SHOW(ftruncate(fd, 0));
    close(fd);
    drain("excluded");
    put("d/once", "1");
    watch("d/once", IN_ALL_EVENTS | IN_EXCL_UNLINK);
    fd = open("d/once", O_RDWR);
    SHOW(unlink("d/once"));
    SHOW(write(fd, "x", 1));
    SHOW(fchmod(fd, 0600));
    close(fd);
    drain("excluded itself");

    put("d/size", "1");
    int waiting = 0;
    SHOW(ioctl(in, FIONREAD, &waiting));
    printf("waiting %d\n", waiting);
    struct pollfd poll_in = {.fd = in, .events = POLLIN | POLLOUT};
    SHOW(poll(&poll_in, 1, 0));
    printf("revents %x\n", poll_in.revents);
    SHOW(read(in, buffer, 31));
    SHOW(read(in, buffer, 33));
    drain("the rest");
    SHOW(poll(&poll_in, 1, 0));

    int second = inotify_init();
    printf("own numbers %d\n", inotify_add_watch(second, "d", IN_CREATE));
    put("d/both", "1");
    drain("first");
    int first = in;
    in = second;
    fcntl(in, F_SETFL, O_NONBLOCK);
    drain("second");
    close(second);
    in = first;

    rmdir("other");
    unlink("d/both"), unlink("d/size"), unlink("d/x"), unlink("d/there");
    drain("emptied");
    SHOW(rmdir("d"));
    drain("the directory itself");
    return 0;
}
