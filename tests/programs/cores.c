/* Cores: when one is written, what waiters hear, and what it holds. */
#include "show.h"
#include <elf.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/procfs.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define THREADS 3
#define MARK 0x1122334455667788ul

static char *core;
static size_t core_size;
static volatile unsigned long in_data = MARK;
static volatile unsigned long *on_heap, *in_map, *in_shared, *hidden, *untouched;
static pthread_barrier_t together;

static void *meet(void *argument)
{
    pthread_barrier_wait(&together);
    for (;;)
        pause();
    return argument;
}

static volatile unsigned long *mark(int flags)
{
    unsigned long *page = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    page[100000] = MARK;
    return page + 100000;
}

/* Runs a child that dies in some way, and shows what its parent hears. */
static pid_t die(const char *what, rlim_t limit, void (*way)(void))
{
    int status;
    siginfo_t info;
    unlink("core");
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){ limit, RLIM_INFINITY });
        way();
        _exit(0);
    }
    MUST(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    printf("%s: code %d, status %d", what, info.si_code, info.si_status);
    MUST(waitpid(child, &status, 0));
    struct stat st = { 0 };
    int there = stat("core", &st) == 0;
    printf(", word %#x, core %d, mode %o\n", status, there, st.st_mode);
    return child;
}

static void fault(void)
{
    *(volatile int *)16 = 1;
}

static void quit(void)
{
    kill(getpid(), SIGQUIT);
}

static void terminate(void)
{
    kill(getpid(), SIGTERM);
}

static void fault_undumpable(void)
{
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    fault();
}

static void fault_nowhere(void)
{
    mkdir("gone", 0700);
    MUST(chdir("gone"));
    rmdir("../gone");
    fault();
}

static void fault_with_threads(void)
{
    pthread_t thread;
    pthread_barrier_init(&together, NULL, THREADS);
    for (int at = 1; at < THREADS; at++)
        pthread_create(&thread, NULL, meet, NULL);
    pthread_barrier_wait(&together);
    __asm__ volatile("mov %0, %%r15\n\tmovq %1, %%xmm7\n\tmovl $1, 16" : : "r"(MARK), "r"(on_heap) : "r15", "xmm7", "memory");
}

/* The word at an address, if the core has it. */
static void show_word(const char *what, volatile void *address)
{
    Elf64_Ehdr *header = (void *)core;
    Elf64_Phdr *segments = (void *)(core + header->e_phoff);
    for (int at = 0; at < header->e_phnum; at++) {
        Elf64_Phdr *s = &segments[at];
        Elf64_Addr a = (Elf64_Addr)address;
        if (s->p_type == PT_LOAD && a >= s->p_vaddr && a < s->p_vaddr + s->p_memsz) {
            if (a - s->p_vaddr + 8 > s->p_filesz)
                printf("%s: not in the core\n", what);
            else
                printf("%s: %lx\n", what, *(unsigned long *)(core + s->p_offset + (a - s->p_vaddr)));
            return;
        }
    }
    printf("%s: not mapped\n", what);
}

static void show_notes(pid_t child)
{
    Elf64_Ehdr *header = (void *)core;
    Elf64_Phdr *notes = (void *)(core + header->e_phoff);
    printf("%.4s type %d machine %d, notes first: %d\n", core + 0, header->e_type, header->e_machine, notes->p_type == PT_NOTE);
    int threads = 0, floats = 0, extended = 0;
    unsigned long heap = 0;
    for (char *at = core + notes->p_offset; at < core + notes->p_offset + notes->p_filesz;) {
        Elf64_Nhdr *note = (void *)at;
        char *name = at + sizeof *note, *contents = name + ((note->n_namesz + 3) & ~3u);
        struct elf_prstatus *status = (void *)contents;
        struct elf_prpsinfo *process = (void *)contents;
        siginfo_t *info = (void *)contents;
        switch (note->n_type) {
        case NT_PRSTATUS:
            if (threads++ == 0) {
                printf("status: %u bytes, signal %d, ", note->n_descsz, status->pr_cursig);
                printf("first %d, r15 %llx\n", status->pr_pid == child, (unsigned long long)status->pr_reg[0]);
                TRUTH(status->pr_ppid == getpid() && status->pr_pgrp == getpgrp());
            }
            break;
        case NT_PRPSINFO:
            printf("process: %u bytes, %.4s %d\n", note->n_descsz, process->pr_fname, process->pr_pid == child);
            break;
        case NT_SIGINFO:
            printf("signal %d code %d at %p\n", info->si_signo, info->si_code, info->si_addr);
            break;
        case NT_FPREGSET:
            if (floats++ == 0)
                memcpy(&heap, contents + 160 + 7 * 16, 8);
            break;
        case NT_X86_XSTATE:
            extended += strcmp(name, "LINUX") == 0;
            break;
        case NT_AUXV:
            TRUTH(note->n_descsz > 0);
            break;
        case NT_FILE:
            TRUTH(memmem(contents, note->n_descsz, "cores", 5) != NULL);
            break;
        case 0x205:
            /* NT_X86_XSAVE_LAYOUT: new in Linux 6.12. */
            break;
        default:
            printf("unexpected note %x\n", note->n_type);
        }
        at = contents + ((note->n_descsz + 3) & ~3u);
    }
    printf("threads: %d, %d, %d\n", threads, floats, extended);
    show_word("what xmm7 points to", (void *)heap);
}

int main(void)
{
    int status;
    die("no limit", RLIM_INFINITY, fault);
    die("quit", RLIM_INFINITY, quit);
    die("not that signal", RLIM_INFINITY, terminate);
    die("none allowed", 0, fault);
    die("less than a page", 4095, fault);
    die("undumpable", RLIM_INFINITY, fault_undumpable);
    die("nowhere", RLIM_INFINITY, fault_nowhere);
    die("a page", 4096, fault);
    struct stat st;
    on_heap = malloc(64);
    *on_heap = MARK;
    in_map = mark(MAP_PRIVATE);
    in_shared = mark(MAP_SHARED);
    hidden = mark(MAP_PRIVATE);
    MUST(madvise((void *)((unsigned long)(hidden - 100000) & ~4095ul), 1 << 20, MADV_DONTDUMP));
    untouched = mmap(NULL, 1l << 32, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    untouched[1 << 27] = MARK;
    pid_t child = die("with threads", RLIM_INFINITY, fault_with_threads);
    int fd = MUST(open("core", O_RDONLY));
    MUST(fstat(fd, &st));
    core_size = st.st_size;
    core = mmap(NULL, core_size, PROT_READ, MAP_PRIVATE, fd, 0);
    show_notes(child);
    show_word("data", &in_data);
    show_word("private", in_map);
    show_word("shared", in_shared);
    show_word("hidden", hidden);
    show_word("untouched", untouched + (1 << 28));
    show_word("code", (void *)(((unsigned long)main & ~7ul)));
    show_word("touched there", untouched + (1 << 27));
    TRUTH(st.st_blocks * 512 < 64l << 20);
    unlink("core");
    SHOW(waitpid(-1, &status, 0));
    return 0;
}
