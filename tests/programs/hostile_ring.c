/* What ring 3 may not do, tried in ring 3: every interrupt, every opcode, ports, descriptor tables, control registers, bad
 * stack pointers, segments, flags. The first argument says what. */
#include "hostile.h"
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <ucontext.h>

static char alternate[1 << 16];
static unsigned char *code;

/* Tells how a fault was reported, and ends. */
static void report(int number, siginfo_t *info, void *context)
{
    char text[80];
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    int length = snprintf(text, sizeof text, "  signal %d, code %d, trap %lld\n", number, info->si_code, g[REG_TRAPNO]);
    write(1, text, length);
    _exit(100 + number);
}

static void report_faults(void)
{
    MUST(sigaltstack(&(stack_t){ .ss_sp = alternate, .ss_size = sizeof alternate }, NULL));
    struct sigaction action = { .sa_sigaction = report, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    int numbers[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS };
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
        MUST(sigaction(numbers[i], &action, NULL));
}

static void make_code(void)
{
    code = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Puts bytes between breakpoints: whatever is left of a longer instruction is one. */
static void put(const unsigned char *bytes, size_t size)
{
    memset(code, 0xcc, 4096);
    memcpy(code + 64, bytes, size);
}

/* Jumps to the code with every register but the stack pointer at a page that may be written. */
static void go(void)
{
    static char scratch[1 << 14] __attribute__((aligned(4096)));
    char *middle = scratch + sizeof scratch / 2;
    report_faults();
    hurry(10);
    __asm__ volatile("mov %0, %%rax\n mov %1, %%r15\n"
                     "mov %%rax, %%rbx\n mov %%rax, %%rcx\n mov %%rax, %%rdx\n mov %%rax, %%rsi\n mov %%rax, %%rdi\n"
                     "mov %%rax, %%r8\n mov %%rax, %%r9\n mov %%rax, %%r10\n mov %%rax, %%r11\n mov %%rax, %%r12\n"
                     "mov %%rax, %%r13\n mov %%rax, %%r14\n mov %%rax, %%rsp\n mov %%rax, %%rbp\n"
                     "push %%r15\n mov %%rax, %%r15\n ret\n"
                     :
                     : "r"(middle), "r"(code + 64)
                     : "memory");
}

/* Interrupts: 3 and 4 may be, 0x80 belongs to 32-bit programs, all others are protection faults. */
static void interrupts(void)
{
    for (int vector = 0; vector < 256; vector++) {
        if (vector == 0x80)
            continue;
        put((unsigned char[]){ 0xcd, vector }, 2);
        printf("int %d: %s\n", vector, end_name(ATTEMPT(go())));
    }
    put((unsigned char[]){ 0xcd, 0x80 }, 2);
    SURVIVE("int 128", report_faults(); go());
}

struct instruction {
    const char *name;
    unsigned char bytes[12];
    int size;
};
#define I(name, ...) { name, { __VA_ARGS__ }, sizeof((unsigned char[]){ __VA_ARGS__ }) }

/* What only a kernel may do. */
static const struct instruction privileged[] = {
    I("hlt", 0xf4), I("cli", 0xfa), I("sti", 0xfb), I("in 8", 0xe4, 0x10), I("in 32", 0xe5, 0x10), I("out 8", 0xe6, 0x10),
    I("out 32", 0xe7, 0x10), I("out 8, call's port", 0xe6, 0x10), I("out 8, fault's port", 0xe6, 0x2e), I("in dx 8", 0xec),
    I("in dx 32", 0xed), I("out dx 8", 0xee), I("out dx 32", 0xef), I("insb", 0x6c), I("insd", 0x6d), I("outsb", 0x6e),
    I("outsd", 0x6f), I("rep insb", 0xf3, 0x6c), I("rep outsb", 0xf3, 0x6e), I("out 16", 0x66, 0xe7, 0x10),
    I("rep outsd", 0xf3, 0x6f), I("lgdt", 0x0f, 0x01, 0x10), I("lidt", 0x0f, 0x01, 0x18), I("lldt", 0x0f, 0x00, 0xd0),
    I("ltr", 0x0f, 0x00, 0xd8), I("lmsw", 0x0f, 0x01, 0xf0), I("invlpg", 0x0f, 0x01, 0x38), I("swapgs", 0x0f, 0x01, 0xf8),
    I("clts", 0x0f, 0x06), I("sysret", 0x48, 0x0f, 0x07), I("sysret 32", 0x0f, 0x07), I("invd", 0x0f, 0x08),
    I("wbinvd", 0x0f, 0x09), I("wrmsr", 0x0f, 0x30), I("rdmsr", 0x0f, 0x32), I("sysexit", 0x48, 0x0f, 0x35),
    I("mov cr0, rax", 0x0f, 0x22, 0xc0), I("mov cr2, rax", 0x0f, 0x22, 0xd0), I("mov cr3, rax", 0x0f, 0x22, 0xd8),
    I("mov cr4, rax", 0x0f, 0x22, 0xe0), I("mov cr8, rax", 0x44, 0x0f, 0x22, 0xc0), I("mov rax, cr0", 0x0f, 0x20, 0xc0),
    I("mov rax, cr2", 0x0f, 0x20, 0xd0), I("mov rax, cr3", 0x0f, 0x20, 0xd8), I("mov rax, cr4", 0x0f, 0x20, 0xe0),
    I("mov rax, cr8", 0x44, 0x0f, 0x20, 0xc0), I("mov cr1, rax", 0x0f, 0x22, 0xc8), I("mov cr15, rax", 0x44, 0x0f, 0x22, 0xf8),
    I("mov dr0, rax", 0x0f, 0x23, 0xc0), I("mov dr6, rax", 0x0f, 0x23, 0xf0), I("mov dr7, rax", 0x0f, 0x23, 0xf8),
    I("mov rax, dr0", 0x0f, 0x21, 0xc0), I("mov rax, dr7", 0x0f, 0x21, 0xf8), I("xsetbv", 0x0f, 0x01, 0xd1),
    I("pop ss", 0x17), I("pop ds", 0x1f), I("pop es", 0x07), I("push cs", 0x0e), I("into", 0xce), I("far jump", 0xea, 0, 0, 0, 0, 8, 0),
    I("far call", 0x9a, 0, 0, 0, 0, 8, 0), I("icebp", 0xf1), I("ud0", 0x0f, 0xff, 0xc0), I("ud1", 0x0f, 0xb9, 0xc0), I("ud2", 0x0f, 0x0b),
    I("lock nop", 0xf0, 0x90), I("lock ud2", 0xf0, 0x0f, 0x0b), I("16 bytes", 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66),
    I("rsm", 0x0f, 0xaa), I("getsec", 0x0f, 0x37), I("bound", 0x62, 0x00), I("lds", 0xc5, 0x00), I("aam", 0xd4, 0x00), I("salc", 0xd6),
    I("int1 by prefix", 0xf3, 0xf1), I("iret 16", 0x66, 0xcf), I("iret 32", 0xcf), I("iret 64", 0x48, 0xcf), I("far ret", 0xcb),
    I("far ret 64", 0x48, 0xcb), I("mov ss, rax", 0x8e, 0xd0), I("mov cs, rax", 0x8e, 0xc8),
};

/* What differs between processors or hosts: that it ends is enough. */
static const struct instruction peculiar[] = {
    I("sysenter", 0x0f, 0x34), I("vmcall", 0x0f, 0x01, 0xc1), I("vmmcall", 0x0f, 0x01, 0xd9), I("vmlaunch", 0x0f, 0x01, 0xc2),
    I("vmresume", 0x0f, 0x01, 0xc3), I("vmxoff", 0x0f, 0x01, 0xc4), I("vmrun", 0x0f, 0x01, 0xd8), I("vmload", 0x0f, 0x01, 0xda),
    I("stgi", 0x0f, 0x01, 0xdc), I("clgi", 0x0f, 0x01, 0xdd), I("skinit", 0x0f, 0x01, 0xde), I("vmread", 0x0f, 0x78, 0x00),
    I("vmwrite", 0x0f, 0x79, 0x00), I("vmptrld", 0x0f, 0xc7, 0x30), I("vmxon", 0xf3, 0x0f, 0xc7, 0x30), I("invept", 0x66, 0x0f, 0x38, 0x80, 0x00),
    I("invpcid", 0x66, 0x0f, 0x38, 0x82, 0x00), I("enclu", 0x0f, 0x01, 0xd7), I("encls", 0x0f, 0x01, 0xcf), I("monitor", 0x0f, 0x01, 0xc8),
    I("mwait", 0x0f, 0x01, 0xc9), I("clac", 0x0f, 0x01, 0xca), I("stac", 0x0f, 0x01, 0xcb), I("rdpmc", 0x0f, 0x33), I("rdtscp", 0x0f, 0x01, 0xf9),
    I("sgdt", 0x0f, 0x01, 0x00), I("sidt", 0x0f, 0x01, 0x08), I("sldt", 0x0f, 0x00, 0x00), I("str", 0x0f, 0x00, 0x08),
    I("smsw", 0x0f, 0x01, 0xe0), I("smsw 16", 0x0f, 0x01, 0x20), I("rdpkru", 0x0f, 0x01, 0xee), I("wrpkru", 0x0f, 0x01, 0xef),
    I("xbegin", 0xc7, 0xf8, 0, 0, 0, 0), I("xabort", 0xc6, 0xf8, 0), I("umwait", 0xf2, 0x0f, 0xae, 0xf0), I("tpause", 0x66, 0x0f, 0xae, 0xf0),
    I("wrfsbase", 0xf3, 0x48, 0x0f, 0xae, 0xd0), I("wrgsbase", 0xf3, 0x48, 0x0f, 0xae, 0xd8), I("saveprevssp", 0xf3, 0x0f, 0x01, 0xea),
    I("senduipi", 0xf3, 0x0f, 0xc7, 0xf0), I("tilerelease", 0xc4, 0xe2, 0x78, 0x49, 0xc0), I("cldemote", 0x0f, 0x1c, 0x00), I("pconfig", 0x0f, 0x01, 0xc5),
    I("serialize", 0x0f, 0x01, 0xe8), I("tdcall", 0x66, 0x0f, 0x01, 0xcc), I("verr", 0x0f, 0x00, 0xe0), I("lar", 0x0f, 0x02, 0xc0), I("lsl", 0x0f, 0x03, 0xc0),
    I("cpuid", 0x0f, 0xa2), I("xgetbv", 0x0f, 0x01, 0xd0), I("xrstor", 0x0f, 0xae, 0x28), I("fxrstor", 0x0f, 0xae, 0x08),
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void instructions(void)
{
    for (size_t i = 0; i < COUNT(privileged); i++) {
        put(privileged[i].bytes, privileged[i].size);
        printf("%s: %s\n", privileged[i].name, end_name(ATTEMPT(go())));
    }
}

/* Into another code segment, by a far return: 32-bit code, data, a gate, none. */
static void far_return(uint64_t selector)
{
    report_faults();
    hurry(10);
    __asm__ volatile("push %0; push %1; lretq" : : "r"(selector), "r"((uint64_t)code + 64) : "memory");
}

/* Descriptors of the program's own, with every type: code and data of ring 3 are all that they may be. */
static void descriptor(uint32_t number)
{
    struct user_desc entry = { .entry_number = number % 8192, .base_addr = number * 0x1234567, .limit = number & 0xfffff,
                               .seg_32bit = number & 1, .contents = number >> 1 & 3, .read_exec_only = number >> 3 & 1,
                               .limit_in_pages = number >> 4 & 1, .seg_not_present = number >> 5 & 1, .useable = number >> 6 & 1 };
    unsigned short selector = (number % 8192) << 3 | 7;
    report_faults();
    syscall(SYS_modify_ldt, number & 128 ? 1 : 0x11, &entry, sizeof entry);
    __asm__ volatile("mov %0, %%es; mov %0, %%gs" : : "r"(selector));
    getppid();
    raise(SIGURG);
    far_return(selector);
}

static void strange(void)
{
    close(1);
    MUST(open("/dev/null", O_WRONLY));
    for (size_t i = 0; i < COUNT(peculiar); i++) {
        put(peculiar[i].bytes, peculiar[i].size);
        SURVIVE(peculiar[i].name, go());
    }
    put((unsigned char[]){ 0xb8, 39, 0, 0, 0, 0x0f, 0x05 }, 7);
    for (uint64_t selector = 0; selector < 0x60; selector++)
        SURVIVE("far return", far_return(selector));
    for (uint32_t number = 0; number < 256; number++)
        SURVIVE("descriptor", descriptor(number * 33));
    /* And with prefixes, and each byte that could follow 0F 01. */
    for (int last = 0; last < 256; last++) {
        put((unsigned char[]){ 0x0f, 0x01, last }, 3);
        SURVIVE("0f 01", go());
    }
    for (int last = 0; last < 256; last++) {
        put((unsigned char[]){ 0xf3, 0x0f, 0xae, last }, 4);
        SURVIVE("f3 0f ae", go());
    }
}

/* Each opcode of the first two maps, with operands that are memory and that are registers. */
static void opcodes(void)
{
    for (int map = 0; map < 2; map++)
        for (int opcode = 0; opcode < 256; opcode++)
            for (int operand = 0; operand < 2; operand++) {
                unsigned char bytes[] = { 0x0f, opcode, operand ? 0xc0 : 0, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90 };
                /* Calls, interrupts, jumps that depend on chance, and what differs between processors. */
                static const unsigned char left_out[2][32] = {
                    { 0xcd, 0x9c, 0x9d, 0x62, 0xc4, 0xc5, 0xc7, 0xc6, 0xd6 },
                    { 0x05, 0x34, 0x0b, 0x31, 0x33, 0xa2, 0x00, 0x01, 0x78, 0x79, 0xc7, 0xae, 0x37, 0x0e, 0x0f, 0x02, 0x03, 0x04, 0x0a, 0x0c, 0x24, 0x25, 0x26, 0x27, 0x36, 0x39, 0x3b, 0x1a, 0x1b, 0x38, 0x3a } };
                if (memchr(left_out[map], opcode, sizeof left_out[map]) && opcode)
                    continue;
                put(bytes + !map, sizeof bytes - !map);
                printf("%d %x %d: %s\n", map, opcode, operand, end_name(ATTEMPT(go())));
            }
}

/* Faults with a stack pointer that leads nowhere: a kernel that pushed there would die of it. */
static const uint64_t nowhere[] = {
    0, 7, 0xdead0007, 0x7fffffffffff, 0x800000000008, 0xffff7fffffffffff, 0xffff800000000000, 0xffffffff9d5c3000,
    0xffffffff9d5c3ff8, 0xffffffff9d5c7000, 0xfffffffffffffff8, 0x8000000000000000,
};

static const struct instruction faulting[] = {
    I("ud2", 0x0f, 0x0b), I("int3", 0xcc), I("divide", 0x31, 0xc9, 0xf7, 0xf1), I("hlt", 0xf4), I("out", 0xe6, 0x10), I("push", 0x50), I("pop", 0x58), I("ret", 0xc3),
    I("call", 0xe8, 0, 0, 0, 0), I("enter", 0xc8, 0xff, 0xff, 31), I("leave", 0xc9), I("pushf", 0x9c), I("popf", 0x9d),
    I("load", 0x48, 0x8b, 0x04, 0x24), I("store through 0", 0x31, 0xc0, 0x89, 0x00), I("int 0", 0xcd, 0), I("int 8", 0xcd, 8), I("icebp", 0xf1),
    I("getpid, then ud2", 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x0f, 0x0b), I("sigreturn", 0xb8, 15, 0, 0, 0, 0x0f, 0x05),
};

static void run_with_stack(uint64_t stack)
{
    __asm__ volatile("mov %0, %%rsp\n mov %1, %%rbp\n xor %%edx, %%edx\n jmp *%2\n" : : "r"(stack), "r"(stack), "r"(code + 64) : "memory");
}

static void stacks(void)
{
    for (size_t at = 0; at < COUNT(nowhere); at++)
        for (size_t i = 0; i < COUNT(faulting); i++) {
            char name[64];
            put(faulting[i].bytes, faulting[i].size);
            snprintf(name, sizeof name, "%s at %lx", faulting[i].name, nowhere[at]);
            /* With no handler, with one whose frame has no room, and with one on a stack that is none. */
            OUTCOME(name, hurry(10), run_with_stack(nowhere[at]));
            OUTCOME(" with a handler", {
                report_faults();
                MUST(sigaltstack(&(stack_t){ .ss_flags = SS_DISABLE }, NULL));
                hurry(10);
                run_with_stack(nowhere[at]);
            });
            OUTCOME(" with a handler nowhere", {
                report_faults();
                MUST(sigaltstack(&(stack_t){ .ss_sp = (void *)nowhere[(at + 5) % COUNT(nowhere)], .ss_size = 65536 }, NULL));
                hurry(10);
                run_with_stack(nowhere[at]);
            });
        }
    /* With a stack that is there, but not where the processor would like it. */
    static char odd[8192];
    for (int offset = 1; offset < 16; offset += 2) {
        put(faulting[0].bytes, faulting[0].size);
        OUTCOME("ud2 on an odd stack", report_faults(), run_with_stack((uint64_t)odd + 4096 + offset));
        OUTCOME("and with the handler there", {
            report_faults();
            MUST(sigaltstack(&(stack_t){ .ss_sp = alternate + offset, .ss_size = sizeof alternate - 16 }, NULL));
            run_with_stack((uint64_t)odd + 4096 + offset);
        });
    }
}

/* Jumps to where there is no code. */
static void jumps(void)
{
    for (size_t at = 0; at < COUNT(nowhere); at++) {
        uint64_t to = nowhere[at];
        char name[40];
        /* What user mode executes here faults elsewhere: not at that address itself. */
        snprintf(name, sizeof name, "jump to %lx", to);
        OUTCOME(name, report_faults(), hurry(10), ({ __asm__ volatile("jmp *%0" : : "r"(to)); }));
        snprintf(name, sizeof name, "return to %lx", to);
        OUTCOME(name, report_faults(), hurry(10), ({ __asm__ volatile("push %0; ret" : : "r"(to)); }));
    }
    /* An instruction that ends where the user half ends cannot be: the last page is nobody's. */
    SHOW(mmap((void *)0x7ffffffff000, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
}

static long flags_after(unsigned long set)
{
    unsigned long flags;
    __asm__ volatile("pushfq; orq %1, (%%rsp); popfq; mov $39, %%eax; syscall; pushfq; pop %0; cld" : "=r"(flags) : "r"(set) : "rax", "rcx", "r11", "memory", "cc");
    return flags;
}

static void flags(void)
{
    for (int bit = 0; bit < 64; bit++) {
        /* TF: a trap after each instruction. AC: glibc's own accesses would fault. */
        if (bit == 8 || bit == 18)
            continue;
        printf("flag %d: ", bit);
        fflush(stdout);
        OUTCOME("set", report_faults(), printf("%lx ", flags_after(1UL << bit) & 0x3f7fd7 & ~0x8d5UL), fflush(stdout));
    }
    OUTCOME("all but TF and AC", report_faults(), printf("%lx ", flags_after(~0x40100UL) & 0x3f7fd7 & ~0x8d5UL), fflush(stdout));
    OUTCOME("TF over a call", report_faults(), ({ __asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq; mov $39, %%eax; syscall; nop; nop" ::: "rax", "rcx", "r11", "memory"); }));
    OUTCOME("AC and a crooked access", report_faults(), ({
        static char bytes[64] __attribute__((aligned(64)));
        __asm__ volatile("pushfq; orl $0x40000, (%%rsp); popfq; movl $1, 1(%0)" : : "r"(bytes) : "memory"); }));
    OUTCOME("AC over a call", report_faults(), ({
        long number = SYS_getpid;
        __asm__ volatile("pushfq; orl $0x40000, (%%rsp); popfq; syscall; pushfq; andl $~0x40000, (%%rsp); popfq" : "+a"(number) : : "rcx", "r11", "memory", "cc");
        _exit(number != getpid()); }));
    OUTCOME("DF over a call", report_faults(), ({
        char from[16];
        long number = SYS_read;
        int zero = MUST(open("/dev/zero", O_RDONLY));
        __asm__ volatile("std; syscall; cld" : "+a"(number) : "D"((long)zero), "S"(from), "d"(16L) : "rcx", "r11", "memory", "cc");
        _exit(number != 16); }));
    OUTCOME("TF over a software interrupt", report_faults(), ({ __asm__ volatile("pushfq; orl $0x100, (%rsp); popfq; int $0x40"); }));
    OUTCOME("TF over a repeated move", report_faults(), ({
        static char a[4096], b[4096];
        char *to = a, *from = b;
        long count = 4096;
        __asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq; rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); }));
    OUTCOME("NT and an iret", report_faults(), ({ __asm__ volatile("pushfq; orl $0x4000, (%rsp); popfq; iretq"); }));
}

#define LOAD(register, selector) OUTCOME(name, report_faults(), ({ __asm__ volatile("mov %0, %%" register : : "r"((unsigned short)(selector))); _exit(0); }))

static void segments(void)
{
    static const int selectors[] = { 0, 1, 2, 3, 4, 7, 8, 0x10, 0x13, 0x1b, 0x1f, 0x2b, 0x2f, 0x33, 0x40, 0x43, 0x53, 0xff, 0xfff8, 0xffff };
    char name[40];
    for (size_t i = 0; i < COUNT(selectors); i++) {
        snprintf(name, sizeof name, "ds, es, fs, gs, ss = %x", selectors[i]);
        /* The C library needs FS, so nothing of it may run behind that one. */
        LOAD("ds", selectors[i]);
        LOAD("es", selectors[i]);
        OUTCOME(name, report_faults(), ({ __asm__ volatile("mov %0, %%gs; mov $231, %%eax; xor %%edi, %%edi; syscall" : : "r"((unsigned short)selectors[i]) : "rax", "rdi"); }));
        OUTCOME(name, ({ __asm__ volatile("mov %0, %%fs; mov $231, %%eax; xor %%edi, %%edi; syscall" : : "r"((unsigned short)selectors[i]) : "rax", "rdi"); }));
        OUTCOME(name, report_faults(), ({ __asm__ volatile("mov %0, %%ss; mov $231, %%eax; xor %%edi, %%edi; syscall" : : "r"((unsigned short)selectors[i]) : "rax", "rdi"); }));
    }
    /* Segments are kept over a call and over a signal. */
    OUTCOME("kept", ({
        unsigned short ds = 0x2b, es = 0x2b, gs = 0x2b;
        __asm__ volatile("mov %0, %%ds; mov %1, %%es; mov %2, %%gs" : : "r"(ds), "r"(es), "r"(gs));
        raise(SIGURG);
        getppid();
        __asm__ volatile("mov %%ds, %0; mov %%es, %1; mov %%gs, %2" : "=r"(ds), "=r"(es), "=r"(gs));
        _exit((ds == 0x2b) + 2 * (es == 0x2b) + 4 * (gs == 0x2b)); }));
}

/* The base addresses of FS and GS where no address is. */
static void bases(void)
{
    for (size_t at = 0; at < COUNT(nowhere); at++) {
        uint64_t to = nowhere[at];
        printf("%lx: ", to);
        SHOW(syscall(SYS_arch_prctl, ARCH_SET_GS, to));
        OUTCOME("used", report_faults(), ({ __asm__ volatile("movb $1, %%gs:0x18" ::: "memory"); }));
        OUTCOME("FS", ({
            long result;
            __asm__ volatile("syscall; mov %%eax, %%edi; neg %%edi; mov $231, %%eax; syscall" : "=a"(result) : "a"(SYS_arch_prctl), "D"(ARCH_SET_FS), "S"(to) : "rcx", "r11", "memory"); }));
    }
    syscall(SYS_arch_prctl, ARCH_SET_GS, 0);
    SHOW(syscall(SYS_arch_prctl, ARCH_GET_FS, 0xffffffff9d5cc000));
    SHOW(syscall(SYS_arch_prctl, ARCH_GET_FS, 0x800000000000));
    SHOW(syscall(SYS_arch_prctl, 0x7fffffff, 0));
}

int main(int count, char **args)
{
    const char *what = count > 1 ? args[1] : "";
    make_code();
    if (!strcmp(what, "interrupts"))
        interrupts();
    else if (!strcmp(what, "instructions"))
        instructions();
    else if (!strcmp(what, "strange"))
        strange();
    else if (!strcmp(what, "opcodes"))
        opcodes();
    else if (!strcmp(what, "stacks"))
        stacks();
    else if (!strcmp(what, "jumps"))
        jumps();
    else if (!strcmp(what, "flags"))
        flags();
    else if (!strcmp(what, "segments"))
        segments();
    else if (!strcmp(what, "bases"))
        bases();
    else
        return 2;
    return 0;
}
