/* Vectored and positioned transfers, holes, copies between descriptors. Works in the current folder. */
#include "show.h"
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <limits.h>

int main(void)
{
    char a[8] = "", b[8] = "", c[64] = "";
    int fd = MUST(open("f", O_RDWR | O_CREAT, 0600));
    struct iovec out[] = { { "abc", 3 }, { "", 0 }, { "defgh", 5 } };
    struct iovec in[] = { { a, 2 }, { b, 4 }, { c, 60 } };
    SHOW(writev(fd, out, 3));
    SHOW(preadv(fd, in, 3, 0));
    printf("%s|%s|%s\n", a, b, c);
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(pwritev(fd, out, 3, 20));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(readv(fd, in, 3));
    SHOW(readv(fd, in, -1));
    SHOW(readv(fd, in, IOV_MAX + 1));
    SHOW(readv(fd, (void *)1, 1));
    SHOW(readv(fd, in, 0));
    SHOW(preadv(fd, in, 3, -1));
    struct iovec bad[] = { { a, 2 }, { (void *)1, 4 } };
    SHOW(preadv(fd, bad, 2, 0));
    struct iovec negative[] = { { a, 2 }, { b, (size_t)-1 } };
    SHOW(preadv(fd, negative, 2, 0));
    SHOW(preadv2(fd, in, 3, 0, 0));
    SHOW(preadv2(fd, in, 3, 0, 0x40000000));
    SHOW(lseek(fd, 2, SEEK_SET));
    SHOW(preadv2(fd, in, 1, -1, 0));
    printf("%.2s\n", a);
    SHOW(lseek(fd, 0, SEEK_CUR));

    int to = MUST(open("g", O_RDWR | O_CREAT, 0600));
    off_t offset = 1;
    SHOW(sendfile(to, fd, &offset, 4));
    SHOW(offset);
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(sendfile(to, fd, NULL, 3));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(sendfile(to, fd, &offset, 1000));
    SHOW(sendfile(to, fd, &offset, 1000));
    SHOW(sendfile(to, 999, &offset, 1000));
    memset(c, 0, sizeof c);
    SHOW(pread(to, c, sizeof c - 1, 0));
    printf("%.7s\n", c);
    offset = 0;
    loff_t at = 40;
    SHOW(copy_file_range(fd, &offset, to, &at, 8, 0));
    printf("%ld %ld\n", (long)offset, (long)at);
    SHOW(copy_file_range(fd, &offset, to, &at, 8, 1));
    /* cp and cat ask for nearly SSIZE_MAX bytes, also far into a file. */
    MUST(ftruncate(fd, 3L << 30));
    offset = (3L << 30) - 5;
    SHOW(copy_file_range(fd, &offset, to, &at, 0x7fffffffc0000000, 0));
    SHOW(copy_file_range(fd, &offset, to, &at, 0x7fffffffc0000000, 0));
    at = INT64_MAX - 5;
    SHOW(copy_file_range(fd, &offset, to, &at, -1, 0));
    printf("%ld\n", (long)offset);
    offset = 1000;
    at = 48;
    MUST(ftruncate(fd, 10));
    SHOW(copy_file_range(fd, &offset, to, &at, 8, 0));
    SHOW(pread(to, c, 8, 40));
    printf("%.8s\n", c);
    SHOW(pread(to, c, 8, INT64_MAX - 8));
    SHOW(pread(to, c, 8, INT64_MAX - 7));
    SHOW(pwrite(to, c, 8, INT64_MAX - 7));

    SHOW(ftruncate(fd, 0));
    SHOW(fallocate(fd, 0, 0, 8192));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(fallocate(fd, FALLOC_FL_KEEP_SIZE, 8192, 4096));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(fallocate(fd, 0, -1, 10));
    SHOW(fallocate(fd, 0, 0, 0));
    SHOW(pwrite(fd, "x", 1, 4096));
    SHOW(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096));
    SHOW(pread(fd, c, 1, 4096));
    TRUTH(c[0] == 0);
    SHOW(fallocate(to, FALLOC_FL_PUNCH_HOLE, 0, 1));
    SHOW(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
    SHOW(posix_fadvise(fd, 0, 0, 99));
    SHOW(readahead(fd, 0, 100));
    SHOW(fsync(fd));
    SHOW(fdatasync(fd));
    SHOW(fsync(999));
    SHOW(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
    SHOW(ftruncate(fd, 0));
    SHOW(lseek(fd, 0, SEEK_DATA));
    SHOW(lseek(fd, 0, SEEK_HOLE));
    SHOW(write(fd, "data", 4));
    SHOW(lseek(fd, 1, SEEK_DATA));
    SHOW(lseek(fd, 0, SEEK_HOLE));
    SHOW(lseek(fd, 4, SEEK_DATA));
    SHOW(unlink("f"));
    SHOW(unlink("g"));
    return 0;
}
