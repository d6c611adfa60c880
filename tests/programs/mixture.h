/* What the parts of mixture share: actors, their random numbers and digests, and system calls that are watched closely. */
#ifndef MIXTURE_H
#define MIXTURE_H
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, PROCESSES = 2, ACTORS = 2 };

/* One thread that makes calls, and whom it makes them with. All that it folds into its digest is its own doing. */
struct actor {
    uint64_t random, digest;
    /* Other numbers, for how calls are made: how many calls it takes to wait for something depends on timing. */
    uint64_t manner;
    int process, index;
    pid_t pid, tid, parent, echo;
    int trace, is_child;
    int file, pipe[2], to_echo, from_echo, events, poll;
    char *code;
    /* Says something to its mirror, a thread of the same process, which says it again. */
    _Atomic uint32_t said, heard;
    /* Signals that it has sent to itself, and has handled. */
    volatile int handled;
    char folder[32];
};

/* Of all processes. */
struct board {
    pid_t pids[PROCESSES];
    uint64_t digests[PROCESSES][ACTORS];
    /* Queued signals: how many there are for a process, and what their values add up to. */
    _Atomic uint64_t sent[PROCESSES], sent_sum[PROCESSES], received[PROCESSES], received_sum[PROCESSES];
};

static struct board *board;
static __thread struct actor *self;

/* The next of a row of random numbers (xorshift). */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 11;
}

/* A random number below `limit`. */
static uint64_t draw(uint64_t limit) { return next_random(&self->random) % limit; }

static void fold(uint64_t value)
{
    self->digest = (self->digest ^ value) * 0x100000001b3;
    self->digest ^= self->digest >> 29;
    if (self->trace)
        dprintf(2, "  %lld\n", (long long)value);
}

static void fold_bytes(const void *bytes, size_t size)
{
    uint64_t sum = 14695981039346656037u;
    for (size_t at = 0; at < size; at++)
        sum = (sum ^ ((const unsigned char *)bytes)[at]) * 0x100000001b3;
    fold(sum);
}

/* Says what is wrong: a line that no sound run has. */
static void complain(const char *what, long a, long b)
{
    char line[200];
    int length = snprintf(line, sizeof line, "wrong: %s (%ld, %ld)\n", what, a, b);
    if (write(1, line, (size_t)length) != length)
        _exit(98);
}

#define CHECK(condition) do { if (!(condition)) complain(#condition, __LINE__, errno); } while (0)

/* The registers before a call and after it. */
struct registers {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rflags;
    uint64_t red_zone[3];
    uint64_t unused;
    uint64_t xmm[16][2];
};

/* Loads all registers and the ends and the middle of the red zone, makes a call in the way that SITE says, and stores
 * them all again. Between the two, nothing but the call may change anything. */
#define MAKES_CALL(name, site) \
    void name(struct registers *); \
    asm(".text\n.type " #name ",@function\n" #name ":\n" \
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n push %rdi\n" \
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movups 160+16*\\n(%rdi), %xmm\\n\n .endr\n" \
        "pushq 120(%rdi)\n popfq\n" \
        "mov 128(%rdi), %rax\n mov %rax, -8(%rsp)\n" \
        "mov 136(%rdi), %rax\n mov %rax, -64(%rsp)\n" \
        "mov 144(%rdi), %rax\n mov %rax, -128(%rsp)\n" \
        "mov (%rdi), %rax\n mov 8(%rdi), %rbx\n mov 16(%rdi), %rcx\n mov 24(%rdi), %rdx\n mov 32(%rdi), %rsi\n" \
        "mov 48(%rdi), %rbp\n mov 56(%rdi), %r8\n mov 64(%rdi), %r9\n mov 72(%rdi), %r10\n mov 80(%rdi), %r11\n" \
        "mov 88(%rdi), %r12\n mov 96(%rdi), %r13\n mov 104(%rdi), %r14\n mov 112(%rdi), %r15\n mov 40(%rdi), %rdi\n" \
        site "\n" \
        "mov %rdi, -16(%rsp)\n mov (%rsp), %rdi\n" \
        "mov %rax, (%rdi)\n mov %rbx, 8(%rdi)\n mov %rcx, 16(%rdi)\n mov %rdx, 24(%rdi)\n mov %rsi, 32(%rdi)\n" \
        "mov -16(%rsp), %rax\n mov %rax, 40(%rdi)\n mov %rbp, 48(%rdi)\n mov %r8, 56(%rdi)\n mov %r9, 64(%rdi)\n" \
        "mov %r10, 72(%rdi)\n mov %r11, 80(%rdi)\n mov %r12, 88(%rdi)\n mov %r13, 96(%rdi)\n mov %r14, 104(%rdi)\n" \
        "mov %r15, 112(%rdi)\n" \
        "mov -8(%rsp), %rax\n mov %rax, 128(%rdi)\n" \
        "mov -64(%rsp), %rax\n mov %rax, 136(%rdi)\n" \
        "mov -128(%rsp), %rax\n mov %rax, 144(%rdi)\n" \
        "pushfq\n popq 120(%rdi)\n cld\n" \
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movups %xmm\\n, 160+16*\\n(%rdi)\n .endr\n" \
        "pop %rdi\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n")

#define STRING(text) STRING_(text)
#define STRING_(text) #text
/* The usual site, where the number is a constant. */
#define WITH_NUMBER(name, number) MAKES_CALL(name, "mov $" STRING(number) ", %eax\n syscall")

MAKES_CALL(call_plainly, "syscall\n nop");
/* As in syscall(2) of glibc: what stands behind the call may be part of a rewritten site. */
MAKES_CALL(call_and_compare, "syscall\n cmp $-4096, %rax");
MAKES_CALL(call_and_compare_errors, "syscall\n cmp $-4095, %rax");
/* A usual site whose call is also jumped to, past its number: with another one. */
MAKES_CALL(call_in_passing, "jmp 1f\n mov $" STRING(__NR_getpid) ", %eax\n 1: syscall");
/* Moves between the number and the call. */
MAKES_CALL(call_after_moves, "mov %rax, -24(%rsp)\n mov %edx, %edx\n mov -24(%rsp), %rax\n mov %r10, %r10\n syscall");
WITH_NUMBER(call_getpid, __NR_getpid);
WITH_NUMBER(call_gettid, __NR_gettid);
WITH_NUMBER(call_getuid, __NR_getuid);
WITH_NUMBER(call_getppid, __NR_getppid);
WITH_NUMBER(call_sched_yield, __NR_sched_yield);
WITH_NUMBER(call_write, __NR_write);
WITH_NUMBER(call_lseek, __NR_lseek);
WITH_NUMBER(call_pread, __NR_pread64);
WITH_NUMBER(call_fcntl, __NR_fcntl);
WITH_NUMBER(call_rt_sigprocmask, __NR_rt_sigprocmask);
WITH_NUMBER(call_futex, __NR_futex);

typedef void make_call(struct registers *);

/* A site of the call's own, or one that takes any. */
static make_call *some_site(long number)
{
    static make_call *const any[] = {call_plainly, call_and_compare, call_and_compare_errors, call_in_passing, call_after_moves};
    static const struct { long number; make_call *site; } own[] = {
        {__NR_getpid, call_getpid}, {__NR_gettid, call_gettid}, {__NR_getuid, call_getuid}, {__NR_getppid, call_getppid},
        {__NR_sched_yield, call_sched_yield}, {__NR_write, call_write}, {__NR_lseek, call_lseek}, {__NR_pread64, call_pread},
        {__NR_fcntl, call_fcntl}, {__NR_rt_sigprocmask, call_rt_sigprocmask}, {__NR_futex, call_futex},
    };
    uint64_t which = next_random(&self->manner) % 8;
    for (size_t at = 0; at < sizeof own / sizeof *own; at++)
        if (own[at].number == number && which >= 4)
            return own[at].site;
    return any[which % 5];
}

uint64_t flags_of_comparison(uint64_t value, uint64_t with);
asm(".text\nflags_of_comparison:\n cmp %rsi, %rdi\n pushfq\n pop %rax\n ret\n");

/* CF, PF, AF, ZF, SF, DF and OF. */
enum { FLAGS = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x400 | 0x800 };

static void check_registers(long number, make_call *site, struct registers before, const struct registers *after)
{
    uint64_t flags = before.rflags;
    if (site == call_and_compare || site == call_and_compare_errors) {
        flags = flags_of_comparison(after->rax, (uint64_t)(site == call_and_compare ? -4096 : -4095));
        flags = (flags & ~0x400ul) | (before.rflags & 0x400);
    }
    if (((flags ^ after->rflags) & FLAGS) != 0)
        complain("flags changed by call", number, (long)((flags ^ after->rflags) & FLAGS));
    before.rflags = after->rflags;
    /* The call clobbers these three. */
    before.rax = after->rax, before.rcx = after->rcx, before.r11 = after->r11;
    if (site == call_after_moves)
        before.rdx = (uint32_t)before.rdx;
    const uint64_t *a = (const uint64_t *)&before, *b = (const uint64_t *)after;
    for (size_t at = 0; at < sizeof before / 8; at++)
        if (a[at] != b[at])
            complain("call changed word", number, (long)at);
}

/* Makes a call at some site with random registers, and checks them all; returns what it returned, as the kernel does. */
static long call6(long number, long a, long b, long c, long d, long e, long f)
{
    struct registers registers;
    uint64_t *words = (uint64_t *)&registers;
    for (size_t at = 0; at < sizeof registers / 8; at++)
        words[at] = self->manner * (2 * at + 0x9e3779b97f4a7c15u);
    make_call *site = some_site(number);
    /* What an instruction between the number and the call would change is not random. */
    if (site == call_after_moves && (uint64_t)c >> 32 != 0)
        site = call_plainly;
    registers.rax = (uint64_t)number, registers.rdi = (uint64_t)a, registers.rsi = (uint64_t)b, registers.rdx = (uint64_t)c;
    registers.r10 = (uint64_t)d, registers.r8 = (uint64_t)e, registers.r9 = (uint64_t)f;
    registers.rflags &= FLAGS;
    struct registers before = registers;
    site(&registers);
    check_registers(number, site, before, &registers);
    return (long)registers.rax;
}

#define CALL6(n, a, b, c, d, e, f, ...) call6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define CALL(...) CALL6(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

#endif
