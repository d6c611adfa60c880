/* The three descriptors that a program starts with: what they are and what can be done with them. */
#include "show.h"
#include <termios.h>

int main(void)
{
    for (int fd = 0; fd < 3; fd++) {
        struct stat st;
        if (fstat(fd, &st) == -1) {
            printf("%d: %s\n", fd, error_name(errno));
            continue;
        }
        printf("%d: type %o, size %ld, terminal %d, position %ld\n", fd, st.st_mode & S_IFMT,
               S_ISREG(st.st_mode) && fd == 0 ? (long)st.st_size : 0L, isatty(fd), S_ISREG(st.st_mode) && fd ? 0L : (long)lseek(fd, 0, SEEK_CUR));
        printf("flags %x, close-on-exec %d\n", fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK), fcntl(fd, F_GETFD));
    }
    char line[100];
    long n;
    while ((n = read(0, line, 10)) > 0)
        printf("read %ld: %.*s\n", n, (int)n, line);
    printf("end: %ld %s\n", n, n ? error_name(errno) : "");
    fprintf(stderr, "error output\n");
    SHOW(write(0, "x", 1) == -1 ? errno == EBADF : 1);
    return 0;
}
