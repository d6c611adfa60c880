/* The vDSO is an ELF image at the address that the auxiliary vector names, and neither it nor the page before it, which
 * holds the clocks, can be written. */
#include "faults.h"
#include <elf.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>

/* A thread that keeps to a processor finds itself there, however it looks. */
static void processors(void)
{
    cpu_set_t all, one;
    int wrong = 0;
    MUST(sched_getaffinity(0, sizeof all, &all));
    for (unsigned number = 0; number < CPU_SETSIZE; number++) {
        unsigned by_call = ~0u;
        if (!CPU_ISSET(number, &all))
            continue;
        CPU_ZERO(&one);
        CPU_SET(number, &one);
        MUST(sched_setaffinity(0, sizeof one, &one));
        MUST(syscall(SYS_getcpu, &by_call, NULL, NULL));
        wrong += by_call != number || sched_getcpu() != (int)number;
    }
    SHOW(wrong);
    MUST(sched_setaffinity(0, sizeof all, &all));
}

int main(void)
{
    char *image = (char *)getauxval(AT_SYSINFO_EHDR);
    catch_faults();
    TRUTH(image != NULL && (uintptr_t)image % 4096 == 0);
    TRUTH(memcmp(image, ELFMAG, SELFMAG) == 0);
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
    TRUTH(header->e_type == ET_DYN && header->e_machine == EM_X86_64);
    const Elf64_Phdr *segments = (const Elf64_Phdr *)(image + header->e_phoff);
    int loads = 0, dynamics = 0;
    for (int i = 0; i < header->e_phnum; i++) {
        loads += segments[i].p_type == PT_LOAD;
        dynamics += segments[i].p_type == PT_DYNAMIC;
    }
    TRUTH(loads == 1 && dynamics == 1);
    FAULT(image, *(volatile char *)image = 0);
    FAULT(image, *(volatile char *)(image - 4096) = 0);
    FAULT(image, *(volatile char *)(image + 100) = 0);
    processors();
    return 0;
}
