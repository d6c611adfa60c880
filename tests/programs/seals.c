/* Seals of memory files, and who may write what is being run. */
#define _GNU_SOURCE
#include "show.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Of Linux 6.3. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8
#define MFD_EXEC 16
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif

static int sealed(unsigned seals, int flags) {
    int fd = memfd_create("sealed", flags);
    if (ftruncate(fd, 8192) || fcntl(fd, F_ADD_SEALS, seals)) printf("cannot seal %x: %s\n", seals, error_name(errno));
    return fd;
}

static void try_all(unsigned seals) {
    char page[9000] = {0};
    int fd = sealed(seals, MFD_ALLOW_SEALING);
    printf("== seals %x: %x\n", seals, fcntl(fd, F_GET_SEALS));
    SHOW(ftruncate(fd, 4096));
    SHOW(ftruncate(fd, 8192));
    SHOW(ftruncate(fd, 9000));
    SHOW(ftruncate(fd, 8192));
    SHOW(pwrite(fd, page, 10, 0));
    SHOW(pwrite(fd, page, 10, 8190));
    SHOW(pwrite(fd, page, 9000, 0));
    SHOW(pwrite(fd, page, 1, 8192));
    SHOW(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    SHOW(fallocate(fd, 0, 0, 20000));
    SHOW(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 20000));
    SHOW(fchmod(fd, 0600));
    SHOW(fchmod(fd, 0700));
    void *map = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    printf("shared writable: %s\n", map == MAP_FAILED ? error_name(errno) : "mapped");
    map = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    printf("private writable: %s\n", map == MAP_FAILED ? error_name(errno) : "mapped");
    map = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
    printf("shared readable: %s\n", map == MAP_FAILED ? error_name(errno) : "mapped");
    if (map != MAP_FAILED) SHOW(mprotect(map, 4096, PROT_READ | PROT_WRITE));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    close(fd);
}

static void running(void) {
    char self[4096] = {0};
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) puts("no exe");
    printf("write what runs: %d %s\n", open(self, O_RDWR), error_name(errno));
    printf("truncate what runs: %d %s\n", truncate(self, 10), error_name(errno));
    errno = 0;
    int fd = open("script", O_CREAT | O_RDWR, 0755);
    if (write(fd, "#!/bin/true\n", 12) != 12) puts("short");
    char *args[] = {"script", 0};
    printf("run what is written: %d %s\n", execve("script", args, args), error_name(errno));
    unlink("script");
}

static void nameless(void) {
    int fd = open(".", O_TMPFILE | O_RDWR, 0600);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SHOW(linkat(AT_FDCWD, path, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW));
    SHOW(unlink("linked"));
    SHOW(linkat(AT_FDCWD, path, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW));
    fd = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SHOW(linkat(AT_FDCWD, path, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW));
    fd = memfd_create("m", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SHOW(linkat(AT_FDCWD, path, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW));
}

/* Runs a copy in the current folder: the program's own folder may be mounted read-only, where truncate() says EROFS first. */
static void run_a_copy(void) {
    static char bytes[65536];
    int from = MUST(open("/proc/self/exe", O_RDONLY)), to = MUST(open("copy", O_CREAT | O_WRONLY, 0755));
    for (long n; (n = MUST(read(from, bytes, sizeof bytes))) > 0;)
        MUST(write(to, bytes, n));
    close(from), close(to);
    MUST(execl("./copy", "copy", "running", NULL));
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "running") == 0) {
        running();
        MUST(unlink("copy"));
        return 0;
    }
    for (unsigned seals = 0; seals < 0x40; seals = seals ? seals * 2 : 1)
        if (seals != F_SEAL_SEAL) try_all(seals);
    try_all(F_SEAL_SEAL);
    try_all(F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE);

    int fd = memfd_create("plain", 0);
    printf("plain %x\n", fcntl(fd, F_GET_SEALS));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    fd = memfd_create("noexec", MFD_NOEXEC_SEAL);
    printf("noexec %x\n", fcntl(fd, F_GET_SEALS));
    SHOW(fchmod(fd, 0755));
    SHOW(memfd_create("bad", 0x40));
    SHOW(memfd_create("both", MFD_EXEC | MFD_NOEXEC_SEAL));
    fd = sealed(0, MFD_ALLOW_SEALING);
    SHOW(fcntl(fd, F_ADD_SEALS, 0x1000));
    SHOW(fcntl(fd, F_ADD_SEALS, 1L << 40));
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int readable = open(path, O_RDONLY);
    SHOW(fcntl(readable, F_ADD_SEALS, F_SEAL_WRITE));
    printf("seen by both %x\n", fcntl(readable, F_GET_SEALS));
    void *map = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
    munmap(map, 4096);
    map = mmap(0, 4096, PROT_READ, MAP_SHARED, readable, 0);
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    SHOW(fcntl(0, F_GET_SEALS));
    nameless();
    puts("== running");
    run_a_copy();
}
