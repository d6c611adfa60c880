/* How names are walked: lengths, dots, slashes, links, O_PATH, openat2. Works in the current folder. */
#include "show.h"
#include <linux/openat2.h>

static long open2(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = { .flags = flags, .resolve = resolve };
    return syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static void resolved(const char *label, long fd)
{
    printf("%s: %s\n", label, fd == -1 ? error_name(errno) : "opened");
    if (fd != -1)
        close((int)fd);
}

int main(void)
{
    char name[5000], chain[32];
    struct stat st;
    memset(name, 'n', sizeof name);
    name[255] = 0;
    SHOW(close(MUST(open(name, O_CREAT | O_WRONLY, 0600))));
    SHOW(unlink(name));
    name[255] = 'n';
    name[256] = 0;
    DONE(open(name, O_CREAT | O_WRONLY, 0600));
    name[256] = 'n';
    name[4999] = 0;
    DONE(open(name, O_RDONLY));
    for (int i = 0; i < 4998; i += 2)
        memcpy(name + i, "./", 2);
    name[4094] = '.';
    name[4095] = 0;
    DONE(stat(name, &st));
    name[4095] = '/';
    name[4096] = 0;
    DONE(stat(name, &st));
    SHOW(close(MUST(open("odd \n\xff\x01", O_CREAT | O_WRONLY, 0600))));
    SHOW(access("odd \n\xff\x01", F_OK));
    SHOW(unlink("odd \n\xff\x01"));

    MUST(mkdir("d", 0755));
    MUST(mkdir("d/e", 0755));
    MUST(close(MUST(open("d/f", O_CREAT | O_WRONLY, 0600))));
    SHOW(access("d//e/../f", F_OK));
    SHOW(access("./d/./e/.././/f", F_OK));
    SHOW(access("d/f/", F_OK));
    SHOW(access("d/f/..", F_OK));
    SHOW(access("d/missing/..", F_OK));
    SHOW(access("/../../..", F_OK));
    SHOW(access("///", F_OK));

    /* Forty links are followed, not one more. */
    MUST(symlink("d/f", "s0"));
    for (int i = 1; i <= 40; i++) {
        char next[32];
        snprintf(chain, sizeof chain, "s%d", i - 1);
        snprintf(next, sizeof next, "s%d", i);
        MUST(symlink(chain, next));
    }
    SHOW(access("s39", F_OK));
    SHOW(access("s40", F_OK));
    for (int i = 0; i <= 40; i++) {
        snprintf(chain, sizeof chain, "s%d", i);
        MUST(unlink(chain));
    }
    MUST(symlink("e/../f", "d/relative"));
    SHOW(access("d/relative", F_OK));
    MUST(symlink("/", "d/root"));
    SHOW(access("d/root/dev/null", F_OK));
    SHOW(lstat("d/root", &st));
    SHOW(st.st_size);
    SHOW(lstat("d/root/", &st));
    TRUTH(S_ISDIR(st.st_mode));

    int fd = MUST(open("d/f", O_PATH));
    char byte;
    SHOW(read(fd, &byte, 1));
    SHOW(fstat(fd, &st));
    SHOW(fchmod(fd, 0600));
    SHOW(fcntl(fd, F_GETFL) == O_PATH);
    SHOW(close(fd));
    fd = MUST(open("d/relative", O_PATH | O_NOFOLLOW));
    SHOW(fstat(fd, &st));
    TRUTH(S_ISLNK(st.st_mode));
    SHOW(readlinkat(fd, "", name, sizeof name));
    SHOW(close(fd));

    fd = MUST(open("d", O_PATH | O_DIRECTORY));
    SHOW(close(MUST(openat(fd, "f", O_RDONLY))));
    SHOW(openat(fd, "../missing", O_RDONLY));
    SHOW(openat(0x7ffffff, "f", O_RDONLY));
    SHOW(faccessat(0x7ffffff, "/dev/null", F_OK, 0));
    resolved("beneath f", open2(fd, "f", O_RDONLY, RESOLVE_BENEATH));
    resolved("beneath ..", open2(fd, "..", O_RDONLY, RESOLVE_BENEATH));
    resolved("beneath /", open2(fd, "/dev", O_RDONLY, RESOLVE_BENEATH));
    resolved("in root ..", open2(fd, "../../f", O_RDONLY, RESOLVE_IN_ROOT));
    resolved("in root /f", open2(fd, "/f", O_RDONLY, RESOLVE_IN_ROOT));
    resolved("no links", open2(fd, "relative", O_RDONLY, RESOLVE_NO_SYMLINKS));
    resolved("links", open2(fd, "relative", O_RDONLY, 0));
    resolved("bad flag", open2(fd, "f", 1ull << 40, 0));
    resolved("bad resolve", open2(fd, "f", O_RDONLY, 1ull << 40));
    struct open_how how = { .flags = O_RDONLY };
    SHOW(syscall(SYS_openat2, fd, "f", &how, 8));
    SHOW(syscall(SYS_openat2, fd, "f", &how, 100000));
    SHOW(close(fd));
    SHOW(unlink("d/root"));
    SHOW(unlink("d/relative"));
    SHOW(unlink("d/f"));
    SHOW(rmdir("d/e"));
    SHOW(rmdir("d"));
    return 0;
}
