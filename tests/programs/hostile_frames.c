/* Signal frames that no kernel made: rt_sigreturn(2) with every field wrong in turn, frames at addresses that are none, and
 * handlers whose stack goes. The argument says what. */
#include "hostile.h"
#include <ucontext.h>

/* What the kernel puts on a stack for a handler (arch/x86/include/asm/sigframe.h). */
struct frame {
    void *back;
    ucontext_t context;
    siginfo_t info;
};

static struct frame sound;
static struct _libc_fpstate *vectors;
static size_t vector_size;
static char area[1 << 16] __attribute__((aligned(64)));
static char vector_area[1 << 14] __attribute__((aligned(64)));
static char alternate[1 << 16];

/* Keeps a frame as the kernel makes it, to be spoiled. */
static void keep(int number, siginfo_t *info, void *context)
{
    (void)number;
    sound.context = *(ucontext_t *)context;
    sound.info = *info;
    vectors = (struct _libc_fpstate *)vector_area;
    /* The size lies in the software's bytes of the legacy area (struct _fpx_sw_bytes). */
    uint32_t *words = (uint32_t *)((char *)((ucontext_t *)context)->uc_mcontext.fpregs + 464);
    vector_size = words[0] == 0x46505853 ? words[1] : 512;
    if (vector_size > sizeof vector_area)
        _exit(98);
    memcpy(vector_area, ((ucontext_t *)context)->uc_mcontext.fpregs, vector_size);
}

static void arrived(void)
{
    unsigned long flags;
    unsigned short cs, ss;
    __asm__ volatile("pushfq; pop %0; mov %%cs, %1; mov %%ss, %2; cld" : "=r"(flags), "=r"(cs), "=r"(ss));
    printf("  arrived: flags %lx, cs %x, ss %x\n", flags & 0x7f7600, cs, ss);
    fflush(stdout);
    _exit(0);
}

/* Goes back by a frame. */
static void go_back(void *frame)
{
    __asm__ volatile("mov %0, %%rsp\n add $8, %%rsp\n mov $15, %%eax\n syscall\n ud2" : : "r"(frame) : "memory");
}

static struct frame *fresh(void)
{
    struct frame *frame = (struct frame *)(area + sizeof area / 2);
    memcpy(frame, &sound, sizeof *frame);
    frame->context.uc_mcontext.fpregs = vectors;
    frame->context.uc_mcontext.gregs[REG_RIP] = (greg_t)arrived;
    frame->context.uc_mcontext.gregs[REG_RSP] = (greg_t)(area + sizeof area / 4 + 8);
    return frame;
}

#define GREGS(frame) ((frame)->context.uc_mcontext.gregs)

static void expect_fault(int number, siginfo_t *info, void *context)
{
    (void)context;
    char text[60];
    int length = snprintf(text, sizeof text, "  signal %d, code %d\n", number, info->si_code);
    write(1, text, length);
    _exit(100 + number);
}

static void catch(void)
{
    MUST(sigaltstack(&(stack_t){ .ss_sp = alternate, .ss_size = sizeof alternate }, NULL));
    struct sigaction action = { .sa_sigaction = expect_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    int numbers[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
    for (int i = 0; i < 5; i++)
        MUST(sigaction(numbers[i], &action, NULL));
    hurry(10);
}

static const uint64_t nowhere[] = {
    0, 1, 7, 0x7ffffffff000, 0x7fffffffffff, 0x800000000000, 0xffff7fffffffffff, 0xffff800000000000, 0xffffffff9d5c3000,
    0xffffffff9d5c5000, 0xffffffff9d5cc000, 0xffffffffff600000, 0xfffffffffffffff0, 0xffffffffffffffff, 0x8000000000000000,
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static void fields(void)
{
    char name[64];
    for (size_t i = 0; i < COUNT(nowhere); i++) {
        snprintf(name, sizeof name, "rip %lx", nowhere[i]);
        OUTCOME(name, ({ struct frame *f = fresh(); GREGS(f)[REG_RIP] = nowhere[i]; catch(); go_back(f); }));
        snprintf(name, sizeof name, "rsp %lx", nowhere[i]);
        OUTCOME(name, ({ struct frame *f = fresh(); GREGS(f)[REG_RSP] = nowhere[i]; catch(); go_back(f); }));
        snprintf(name, sizeof name, "vectors at %lx", nowhere[i]);
        OUTCOME(name, ({ struct frame *f = fresh(); f->context.uc_mcontext.fpregs = (void *)nowhere[i]; catch(); go_back(f); }));
        snprintf(name, sizeof name, "frame at %lx", nowhere[i]);
        OUTCOME(name, catch(), go_back((void *)nowhere[i]));
    }
    /* Code and stack segments: csgsfs holds CS, GS, FS and SS, sixteen bits each. Those of 32-bit programs differ. */
    static const unsigned selectors[] = { 0, 1, 3, 8, 0x10, 0x1b, 0x2b, 0x30, 0x31, 0x33, 0x40, 0x43, 0x53, 0xffff };
    for (size_t i = 0; i < COUNT(selectors); i++) {
        snprintf(name, sizeof name, "cs %x", selectors[i]);
        OUTCOME(name, ({ struct frame *f = fresh(); GREGS(f)[REG_CSGSFS] = (GREGS(f)[REG_CSGSFS] & ~0xffffL) | selectors[i]; catch(); go_back(f); }));
        snprintf(name, sizeof name, "ss %x", selectors[i]);
        OUTCOME(name, ({ struct frame *f = fresh(); GREGS(f)[REG_CSGSFS] = (GREGS(f)[REG_CSGSFS] & 0xffffffffffffL) | (long)selectors[i] << 48; catch(); go_back(f); }));
    }
    for (int bit = 0; bit < 64; bit++) {
        /* RF and the arithmetic flags are as they are wherever one looks. */
        snprintf(name, sizeof name, "flag %d", bit);
        OUTCOME(name, ({ struct frame *f = fresh(); GREGS(f)[REG_EFL] |= 1L << bit; catch(); go_back(f); }));
    }
    OUTCOME("all flags but TF and AC", ({ struct frame *f = fresh(); GREGS(f)[REG_EFL] = ~0x40100L; catch(); go_back(f); }));
    OUTCOME("all flags", ({ struct frame *f = fresh(); GREGS(f)[REG_EFL] = ~0L; catch(); go_back(f); }));
    for (int bit = 0; bit < 64; bit++) {
        snprintf(name, sizeof name, "uc_flags %d", bit);
        OUTCOME(name, ({ struct frame *f = fresh(); f->context.uc_flags ^= 1L << bit; catch(); go_back(f); }));
    }
    OUTCOME("every signal blocked", ({
        struct frame *f = fresh(); memset(&f->context.uc_sigmask, 0xff, sizeof f->context.uc_sigmask); catch(); go_back(f); }));
    OUTCOME("an alternate stack that is none", ({
        struct frame *f = fresh(); f->context.uc_stack = (stack_t){ .ss_sp = (void *)0x800000000000, .ss_size = 1, .ss_flags = 77 }; catch(); go_back(f); }));
}

static void vector_state(void)
{
    char name[64];
    uint32_t *software = (uint32_t *)(vector_area + 464), *mxcsr = (uint32_t *)(vector_area + 24);
    uint64_t *header = (uint64_t *)(vector_area + 512);
    OUTCOME("vectors as they were", ({ struct frame *f = fresh(); catch(); go_back(f); }));
    for (int offset = 1; offset < 64; offset += 9) {
        snprintf(name, sizeof name, "vectors at an odd address, %d", offset);
        OUTCOME(name, ({ struct frame *f = fresh(); static char copy[1 << 14] __attribute__((aligned(64)));
            memcpy(copy + offset, vector_area, vector_size); f->context.uc_mcontext.fpregs = (void *)(copy + offset); catch(); go_back(f); }));
    }
    for (int bit = 0; bit < 32; bit++) {
        /* Misaligned exceptions, which some processors have. */
        if (bit == 17)
            continue;
        snprintf(name, sizeof name, "mxcsr %d", bit);
        OUTCOME(name, ({ struct frame *f = fresh(); *mxcsr |= 1u << bit; catch(); go_back(f); }));
    }
    static const uint32_t sizes[] = { 0, 1, 511, 512, 575, 576, 0x7fffffff, 0xffffffff };
    for (size_t i = 0; i < COUNT(sizes); i++) {
        snprintf(name, sizeof name, "extended size %x", sizes[i]);
        OUTCOME(name, ({ struct frame *f = fresh(); software[1] = sizes[i]; catch(); go_back(f); }));
        snprintf(name, sizeof name, "state size %x", sizes[i]);
        OUTCOME(name, ({ struct frame *f = fresh(); software[4] = sizes[i]; catch(); go_back(f); }));
    }
    OUTCOME("another magic", ({ struct frame *f = fresh(); software[0] ^= 1; catch(); go_back(f); }));
    OUTCOME("no second magic", ({ struct frame *f = fresh(); if (vector_size > 512) memset(vector_area + vector_size - 4, 0, 4); catch(); go_back(f); }));
    for (int bit = 0; bit < 64; bit++) {
        snprintf(name, sizeof name, "feature %d", bit);
        OUTCOME(name, ({ struct frame *f = fresh(); *(uint64_t *)(software + 2) ^= 1UL << bit; catch(); go_back(f); }));
        snprintf(name, sizeof name, "header %d", bit);
        /* What the processor has of these differs: only that there is an end. */
        (void)ATTEMPT(({ struct frame *f = fresh(); header[0] |= 1UL << bit; close(1); catch(); go_back(f); }));
    }
    for (int word = 1; word < 8; word++) {
        snprintf(name, sizeof name, "header, word %d", word);
        OUTCOME(name, ({ struct frame *f = fresh(); header[word] = ~0UL; catch(); go_back(f); }));
    }
    OUTCOME("vectors of noise", ({
        struct frame *f = fresh(); uint64_t state = 88172645463325252;
        for (size_t i = 0; i < vector_size / 8; i++) ((uint64_t *)vector_area)[i] = next_number(&state);
        catch(); go_back(f); }));
}

/* Frames of noise: none of them may be more than one process's end. */
static void noise(void)
{
    uint64_t state = 0x9e3779b97f4a7c15;
    for (int round = 0; round < 300; round++) {
        uint64_t seed = next_number(&state);
        (void)ATTEMPT(({
            struct frame *f = fresh();
            uint64_t own = seed;
            int changes = 1 + own % 8;
            for (int i = 0; i < changes; i++) {
                uint64_t *words = next_number(&own) % 3 ? (uint64_t *)f : (uint64_t *)vector_area;
                size_t count = words == (uint64_t *)f ? sizeof *f / 8 : vector_size / 8;
                size_t at = next_number(&own) % count;
                uint64_t value = next_number(&own);
                words[at] = value % 4 == 0 ? value : value % 4 == 1 ? nowhere[value / 4 % COUNT(nowhere)] : value % 4 == 2 ? words[at] ^ 1UL << (value / 4 % 64) : ~0UL;
            }
            close(1);
            catch();
            go_back(f);
        }));
    }
    printf("noise: over\n");
}

static volatile int depth;

static void deeper(int number)
{
    /* The stack on which the next frame is to lie goes away. */
    if (++depth < 4)
        raise(number);
    else
        munmap((void *)((uintptr_t)&number & ~0xfffL), 4096), raise(number);
}

static void handlers(void)
{
    /* A handler that has no address, by a signal from outside and by a fault. */
    for (size_t i = 0; i < COUNT(nowhere); i++) {
        char name[64];
        snprintf(name, sizeof name, "handler at %lx", nowhere[i]);
        if (nowhere[i] < 2)
            continue;
        OUTCOME(name, signal(SIGUSR1, (void (*)(int))nowhere[i]), hurry(10), raise(SIGUSR1));
        OUTCOME(" and catching that", catch(), signal(SIGUSR1, (void (*)(int))nowhere[i]), raise(SIGUSR1));
        OUTCOME(" of its own fault", signal(SIGSEGV, (void (*)(int))nowhere[i]), hurry(10), *(volatile int *)8 = 1);
        snprintf(name, sizeof name, "alternate stack at %lx", nowhere[i]);
        OUTCOME(name, ({
            struct sigaction action = { .sa_sigaction = expect_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
            sigaction(SIGUSR1, &action, NULL);
            hurry(10);
            printf("  sigaltstack: %d\n", sigaltstack(&(stack_t){ .ss_sp = (void *)nowhere[i], .ss_size = 1 << 16 }, NULL));
            fflush(stdout);
            raise(SIGUSR1); }));
        snprintf(name, sizeof name, "restorer at %lx", nowhere[i]);
        OUTCOME(name, ({
            struct { void *handler; unsigned long flags; void *restorer; uint64_t mask; } raw = { deeper, 0x04000000, (void *)nowhere[i], 0 };
            depth = 100;
            hurry(10);
            syscall(SYS_rt_sigaction, SIGUSR2, &raw, NULL, 8);
            syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR2); }));
    }
    OUTCOME("a stack that goes", ({
        char *stack = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        sigaltstack(&(stack_t){ .ss_sp = stack, .ss_size = 1 << 16 }, NULL);
        struct sigaction action = { .sa_handler = deeper, .sa_flags = SA_ONSTACK | SA_NODEFER };
        sigaction(SIGUSR1, &action, NULL);
        hurry(10);
        raise(SIGUSR1); }));
    OUTCOME("a frame on a page that is read-only", ({
        char *stack = mmap(NULL, 1 << 16, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        sigaltstack(&(stack_t){ .ss_sp = stack, .ss_size = 1 << 16 }, NULL);
        struct sigaction action = { .sa_handler = deeper, .sa_flags = SA_ONSTACK };
        sigaction(SIGUSR1, &action, NULL);
        raise(SIGUSR1); }));
    OUTCOME("sigreturn with no frame, many times", ({
        catch();
        __asm__ volatile("xor %esp, %esp; 1: mov $15, %eax; syscall; jmp 1b"); }));
}

int main(int count, char **args)
{
    const char *what = count > 1 ? args[1] : "";
    struct sigaction action = { .sa_sigaction = keep, .sa_flags = SA_SIGINFO };
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    signal(SIGUSR1, SIG_DFL);
    if (!strcmp(what, "fields"))
        fields();
    else if (!strcmp(what, "vectors"))
        vector_state();
    else if (!strcmp(what, "noise"))
        noise();
    else if (!strcmp(what, "handlers"))
        handlers();
    else
        return 2;
    return 0;
}
