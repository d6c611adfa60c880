/* Descriptor numbers: duplication, flags, ranges, limits. Works in the current folder. */
#include "show.h"
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <linux/close_range.h>

int main(void)
{
    int fd = MUST(open("f", O_RDWR | O_CREAT, 0600)), other;
    SHOW(fd);
    SHOW(dup(fd));
    SHOW(dup2(fd, 20));
    SHOW(dup2(fd, fd));
    SHOW(dup2(999, fd));
    SHOW(dup2(fd, -1));
    SHOW(dup3(fd, fd, 0));
    SHOW(dup3(fd, 21, O_CLOEXEC));
    SHOW(dup3(fd, 22, O_APPEND));
    SHOW(fcntl(21, F_GETFD));
    SHOW(fcntl(20, F_GETFD));
    SHOW(fcntl(20, F_SETFD, FD_CLOEXEC));
    SHOW(fcntl(20, F_GETFD));
    SHOW(fcntl(fd, F_DUPFD, 30));
    SHOW(fcntl(fd, F_DUPFD_CLOEXEC, 30));
    SHOW(fcntl(fd, F_DUPFD, -1));
    SHOW(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK));
    SHOW(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK));
    SHOW(fcntl(20, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK));
    SHOW(fcntl(fd, F_SETFL, 0));
    SHOW(fcntl(fd, 12345));
    SHOW(fcntl(999, F_GETFD));

    /* Duplicates share the offset, a second open does not. */
    SHOW(write(fd, "0123456789", 10));
    SHOW(lseek(20, 0, SEEK_CUR));
    other = MUST(open("f", O_RDONLY | O_CLOEXEC));
    SHOW(lseek(other, 0, SEEK_CUR));
    SHOW(fcntl(other, F_GETFD));
    int on = 1, waiting = -1;
    SHOW(ioctl(other, FIOCLEX));
    SHOW(ioctl(other, FIONCLEX));
    SHOW(fcntl(other, F_GETFD));
    SHOW(ioctl(other, FIONBIO, &on));
    TRUTH(fcntl(other, F_GETFL) & O_NONBLOCK);
    SHOW(ioctl(other, FIONREAD, &waiting));
    SHOW(waiting);
    SHOW(ioctl(other, 0x12345678));
    SHOW(ioctl(999, FIONREAD, &waiting));
    SHOW(isatty(other));

    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    SHOW(fcntl(fd, F_SETLK, &lock));
    SHOW(fcntl(fd, F_GETLK, &lock));
    SHOW(lock.l_type == F_UNLCK);
    lock.l_type = 99;
    SHOW(fcntl(fd, F_SETLK, &lock));

    SHOW(syscall(SYS_close_range, 20, 25, 0));
    SHOW(fcntl(20, F_GETFD));
    SHOW(fcntl(30, F_GETFD));
    SHOW(syscall(SYS_close_range, 30, ~0u, CLOSE_RANGE_CLOEXEC));
    SHOW(fcntl(30, F_GETFD));
    SHOW(syscall(SYS_close_range, 5, 4, 0));
    SHOW(syscall(SYS_close_range, 30, ~0u, 0x100));
    SHOW(syscall(SYS_close_range, 30, ~0u, 0));
    SHOW(fcntl(31, F_GETFD));

    struct rlimit limit = { 10, 10000 };
    struct rlimit old;
    SHOW(getrlimit(RLIMIT_NOFILE, &old));
    limit.rlim_max = old.rlim_max;
    SHOW(setrlimit(RLIMIT_NOFILE, &limit));
    int count = 0;
    while ((other = dup(fd)) != -1)
        count++;
    printf("duplicated until %s\n", error_name(errno));
    TRUTH(count > 0 && count < 10);
    SHOW(fcntl(fd, F_DUPFD, 10));
    SHOW(dup2(fd, 10));
    SHOW(open("f", O_RDONLY));
    SHOW(close(9));
    SHOW(dup(fd));
    SHOW(unlink("f"));
    return 0;
}
