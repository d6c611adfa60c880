/* Modes, owners, times, access. Works in the current folder. */
#include "show.h"
#include <sys/time.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <utime.h>

static struct stat at(const char *name)
{
    struct stat st;
    MUST(lstat(name, &st));
    return st;
}

static void mode(const char *name)
{
    struct stat st = at(name);
    printf("%s: mode %o, owner %d:%d, size %ld\n", name, st.st_mode, st.st_uid, st.st_gid, S_ISDIR(st.st_mode) ? 0L : (long)st.st_size);
}

int main(void)
{
    struct stat st;
    SHOW(umask(027));
    SHOW(umask(027));
    MUST(close(MUST(open("f", O_CREAT | O_WRONLY, 0666))));
    MUST(mkdir("d", 0777));
    MUST(symlink("f", "l"));
    mode("f");
    mode("d");
    mode("l");
    SHOW(umask(022));
    SHOW(chmod("f", 0604));
    mode("f");
    SHOW(chmod("d", 01777));
    mode("d");
    SHOW(chmod("l", 0755));
    mode("f");
    SHOW(chmod("missing", 0755));
    SHOW(fchmodat(AT_FDCWD, "f", 0600, 0x4000));
    if (getuid() == 0) {
        SHOW(chown("f", 12, 34));
        mode("f");
        SHOW(lchown("l", 56, 78));
        mode("l");
        SHOW(chown("f", -1, -1));
        SHOW(chown("f", 0, -1));
        mode("f");
    }
    SHOW(stat("l", &st));
    TRUTH(S_ISREG(st.st_mode));
    SHOW(fstatat(AT_FDCWD, "l", &st, AT_SYMLINK_NOFOLLOW));
    TRUTH(S_ISLNK(st.st_mode));
    SHOW(fstatat(AT_FDCWD, "", &st, 0));
    SHOW(fstatat(AT_FDCWD, "", &st, AT_EMPTY_PATH));
    TRUTH(S_ISDIR(st.st_mode));
    SHOW(stat("f", (void *)1) == -1 ? errno == EFAULT : 0);
    SHOW(stat("f/", &st));
    SHOW(stat("missing", &st));

    SHOW(access("f", F_OK));
    SHOW(access("f", X_OK));
    SHOW(access("f", 8));
    SHOW(access("missing", F_OK));
    SHOW(access("f/x", F_OK));
    SHOW(chmod("f", 0));
    SHOW(access("f", X_OK));
    TRUTH(access("f", R_OK) == 0 || getuid() != 0);
    SHOW(chmod("f", 0644));

    struct timespec times[2] = { { 1000000000, 123456789 }, { 1200000000, 987654321 } };
    SHOW(utimensat(AT_FDCWD, "f", times, 0));
    st = at("f");
    printf("%ld.%09ld %ld.%09ld\n", (long)st.st_atim.tv_sec, st.st_atim.tv_nsec, (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    times[0].tv_nsec = UTIME_OMIT;
    times[1].tv_sec = 5;
    SHOW(utimensat(AT_FDCWD, "f", times, 0));
    st = at("f");
    printf("%ld %ld\n", (long)st.st_atim.tv_sec, (long)st.st_mtim.tv_sec);
    times[1].tv_nsec = 1000000000;
    SHOW(utimensat(AT_FDCWD, "f", times, 0));
    times[1].tv_nsec = UTIME_NOW;
    SHOW(utimensat(AT_FDCWD, "f", times, 0));
    TRUTH(labs((long)(at("f").st_mtim.tv_sec - time(NULL))) < 60);
    SHOW(utimensat(AT_FDCWD, "missing", NULL, 0));
    times[0] = times[1] = (struct timespec){ 77, 0 };
    SHOW(utimensat(AT_FDCWD, "l", times, AT_SYMLINK_NOFOLLOW));
    TRUTH(at("l").st_mtim.tv_sec == 77 && at("f").st_mtim.tv_sec != 77);
    SHOW(utime("f", &(struct utimbuf){ 1, 2 }));
    TRUTH(at("f").st_mtim.tv_sec == 2);
    int fd = MUST(open("f", O_RDWR));
    SHOW(write(fd, "x", 1));
    TRUTH(at("f").st_mtim.tv_sec > 1000);
    SHOW(fchmod(fd, 0600));
    SHOW(futimens(fd, times));
    SHOW(fchown(fd, -1, -1));
    mode("f");
    SHOW(close(fd));
    SHOW(fchmod(fd, 0600));

    struct statx sx;
    SHOW(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &sx));
    printf("mask %x, mode %o, size %lld, mtime %lld\n", sx.stx_mask & STATX_BASIC_STATS, sx.stx_mode, (long long)sx.stx_size, (long long)sx.stx_mtime.tv_sec);
    st = at("f");
    TRUTH(sx.stx_ino == st.st_ino && makedev(sx.stx_dev_major, sx.stx_dev_minor) == st.st_dev);
    SHOW(statx(AT_FDCWD, "f", 0x40000000, STATX_BASIC_STATS, &sx));
    SHOW(statx(AT_FDCWD, "f", 0, 0x80000000, &sx));

    /* A folder's mtime follows its entries. */
    times[0] = times[1] = (struct timespec){ 1000, 0 };
    MUST(utimensat(AT_FDCWD, "d", times, 0));
    MUST(close(MUST(open("d/new", O_CREAT | O_WRONLY, 0600))));
    TRUTH(at("d").st_mtim.tv_sec > 1000);
    MUST(utimensat(AT_FDCWD, "d", times, 0));
    MUST(unlink("d/new"));
    TRUTH(at("d").st_mtim.tv_sec > 1000);
    SHOW(unlink("f"));
    SHOW(unlink("l"));
    SHOW(rmdir("d"));
    return 0;
}
