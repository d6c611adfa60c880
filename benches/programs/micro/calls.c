/* System calls, one after another. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "micro.h"

void null_syscall(long count) {
    for (long i = 0; i < count; i++) syscall(SYS_getpid);
}

void gettid_call(long count) {
    for (long i = 0; i < count; i++) syscall(SYS_gettid);
}

void getuid_call(long count) {
    for (long i = 0; i < count; i++) syscall(SYS_getuid);
}

void clock_vdso(long count) {
    struct timespec time;
    for (long i = 0; i < count; i++) clock_gettime(CLOCK_MONOTONIC, &time);
}

void clock_trapped(long count) {
    struct timespec time;
    for (long i = 0; i < count; i++) syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &time);
}

void read_zero(long count) {
    static int zero = -1;
    char byte;
    if (zero < 0 && (zero = open("/dev/zero", O_RDONLY)) < 0) fail("/dev/zero");
    for (long i = 0; i < count; i++)
        if (read(zero, &byte, 1) != 1) fail("read");
}

void open_fstat_close(long count) {
    struct stat about;
    for (long i = 0; i < count; i++) {
        int file = open(own_path, O_RDONLY | O_CLOEXEC);
        if (file < 0 || fstat(file, &about) != 0 || about.st_size == 0) fail(own_path);
        close(file);
    }
}

void write_null(long count) {
    static int null = -1;
    if (null < 0 && (null = open("/dev/null", O_WRONLY)) < 0) fail("/dev/null");
    for (long i = 0; i < count; i++)
        if (write(null, "", 1) != 1) fail("write");
}

/* This program's own file: it exists everywhere, and has just been read. */
static int own_file(void) {
    static int file = -1;
    if (file < 0 && (file = open(own_path, O_RDONLY | O_CLOEXEC)) < 0) fail(own_path);
    return file;
}

void lseek_call(long count) {
    int file = own_file();
    for (long i = 0; i < count; i++)
        if (lseek(file, i & 4095, SEEK_SET) != (i & 4095)) fail("lseek");
}

void fstat_call(long count) {
    struct stat about;
    int file = own_file();
    for (long i = 0; i < count; i++)
        if (fstat(file, &about) != 0) fail("fstat");
}

void pread_4k(long count) {
    static char page[4096];
    int file = own_file();
    for (long i = 0; i < count; i++)
        if (pread(file, page, sizeof page, 4096 * (i & 63)) != sizeof page) fail("pread");
}
