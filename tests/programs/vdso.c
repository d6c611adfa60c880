/* The vDSO is an ELF image at the address that the auxiliary vector names, and neither it nor the page before it, which
 * holds the clocks, can be written. */
#include "faults.h"
#include <elf.h>
#include <sys/auxv.h>
#include <sys/mman.h>

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
    return 0;
}
