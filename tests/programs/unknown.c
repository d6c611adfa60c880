/* Calls that do not exist or that nobody may make here: refused, never fatal. */
#include "show.h"
#include <sys/mount.h>
#include <sys/reboot.h>

int main(void)
{
    long numbers[] = { 1000, 400, 511, 0x7fffffff, -1, 0x40000000, 1L << 32 | 1000 };
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        errno = 0;
        long result = syscall(numbers[i], 0, 0, 0, 0, 0, 0);
        printf("call %ld: %ld %s\n", numbers[i], result, error_name(errno));
    }
    SHOW(syscall(7L << 32 | SYS_getuid));
    /* The upper half of an int argument is ignored, as Linux's entry code does. */
    SHOW(syscall(SYS_close, 0x1234567800000063L));
    SHOW(syscall(SYS_dup2, 0x100000001L, 0x200000005L));
    SHOW(fcntl(5, F_GETFD));
    SHOW(syscall(SYS_getpid, 1, 2, 3, 4, 5, 6) > 0);
    return 0;
}
