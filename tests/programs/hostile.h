/* What hostile programs share: each attempt runs in a child of its own, and what becomes of the child is printed. */
#ifndef HOSTILE_H
#define HOSTILE_H
#include "show.h"
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Runs a statement in a child; returns the child's wait status. */
#define ATTEMPT(...) ({ \
        fflush(stdout); \
        pid_t child_ = MUST(fork()); \
        if (!child_) { \
            __VA_ARGS__; \
            _exit(0); \
        } \
        int status_; \
        MUST(waitpid(child_, &status_, 0)); \
        status_ & ~0x80; \
    })

static inline const char *end_name(int status)
{
    static char text[32];
    if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "signal %d", WTERMSIG(status));
    else
        snprintf(text, sizeof text, "status %d", WEXITSTATUS(status));
    return text;
}

/* Prints what became of an attempt. */
#define OUTCOME(name, ...) do { int end_ = ATTEMPT(__VA_ARGS__); printf("%s: %s\n", name, end_name(end_)); } while (0)

/* Makes an attempt of whose end nothing is said: it depends on the processor. Only that there is one counts. */
#define SURVIVE(name, ...) do { (void)ATTEMPT(__VA_ARGS__); printf("%s: over\n", name); } while (0)

/* The next of a row of numbers that looks random and is the same everywhere (xorshift64). */
static inline uint64_t next_number(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* An attempt that hangs ends here, in an end of its own. */
static inline void hurry(unsigned seconds)
{
    alarm(seconds);
}

__attribute__((constructor)) static inline void no_cores(void)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
}

#endif
