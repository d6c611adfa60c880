/* Prints calls with their results, so that two runs of a program can be compared line by line.
 *
 * SHOW(call) prints the value, or -1 and the error's name; DONE(call) only whether it succeeded, for results that vary. */
#ifndef SHOW_H
#define SHOW_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline const char *error_name(int error)
{
    static char other[32];
    switch (error) {
#define NAME(e) case e: return #e
    NAME(E2BIG); NAME(EACCES); NAME(EADDRINUSE); NAME(EADDRNOTAVAIL); NAME(EALREADY); NAME(ECONNABORTED); NAME(ECONNREFUSED);
    NAME(ECONNRESET); NAME(EDESTADDRREQ); NAME(EINPROGRESS); NAME(EISCONN); NAME(EMSGSIZE); NAME(ENETUNREACH); NAME(ENOBUFS);
    NAME(ENOPROTOOPT); NAME(ENOTCONN); NAME(EPROTONOSUPPORT); NAME(EPROTOTYPE); NAME(ESOCKTNOSUPPORT); NAME(ETOOMANYREFS);
    NAME(EAFNOSUPPORT); NAME(EAGAIN); NAME(EBADF); NAME(EBUSY); NAME(ECHILD);
    NAME(EDEADLK); NAME(EDOM); NAME(EEXIST); NAME(EFAULT); NAME(EFBIG); NAME(EINTR); NAME(EINVAL); NAME(EIO); NAME(EISDIR);
    NAME(ELOOP); NAME(EMFILE); NAME(EMLINK); NAME(ENAMETOOLONG); NAME(ENFILE); NAME(ENODATA); NAME(ENODEV); NAME(ENOENT);
    NAME(ENOEXEC); NAME(ENOMEM); NAME(ENOSPC); NAME(ENOSYS); NAME(ENOTBLK); NAME(ENOTDIR); NAME(ENOTEMPTY); NAME(ENOTSOCK);
    NAME(ENOTTY); NAME(ENXIO); NAME(EOPNOTSUPP); NAME(EOVERFLOW); NAME(EPERM); NAME(EPIPE); NAME(ERANGE); NAME(EROFS);
    NAME(ESPIPE); NAME(ESRCH); NAME(ESTALE); NAME(ETIMEDOUT); NAME(ETXTBSY); NAME(EXDEV);
#undef NAME
    }
    snprintf(other, sizeof other, "error %d", error);
    return error == 0 ? "no error" : other;
}

static inline void show_result(const char *text, long result, int error)
{
    if (result == -1)
        printf("%s = -1 %s\n", text, error_name(error));
    else
        printf("%s = %ld\n", text, result);
}

static inline void show_success(const char *text, long result, int error)
{
    if (result == -1)
        printf("%s: %s\n", text, error_name(error));
    else
        printf("%s: ok\n", text);
}

#define SHOW(call) do { errno = 0; long result_ = (long)(call); show_result(#call, result_, errno); } while (0)
#define DONE(call) do { errno = 0; long result_ = (long)(call); show_success(#call, result_, errno); } while (0)
#define TRUTH(condition) printf("%s: %s\n", #condition, (condition) ? "yes" : "no")

/* For set-up that cannot fail on a sound system. */
#define MUST(call) must(#call, (long)(call))
static inline long must(const char *text, long result)
{
    if (result == -1) {
        printf("set-up failed: %s: %s\n", text, error_name(errno));
        exit(99);
    }
    return result;
}

/* Line-buffered: what was printed before a death by signal is not lost. */
__attribute__((constructor)) static inline void buffer_lines(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
}

#endif
