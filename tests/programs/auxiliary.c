/* What a program is given at start: the auxiliary vector, the stack, its own image. */
#include "show.h"
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

extern char **environ;
extern char __executable_start, _end;

int main(int argc, char **argv)
{
    printf("page %lu, tick %lu, secure %lu, phent %lu, flags %lu\n", getauxval(AT_PAGESZ), getauxval(AT_CLKTCK),
           getauxval(AT_SECURE), getauxval(AT_PHENT), getauxval(AT_FLAGS));
    TRUTH(getauxval(AT_UID) == getuid() && getauxval(AT_EUID) == geteuid());
    TRUTH(getauxval(AT_GID) == getgid() && getauxval(AT_EGID) == getegid());
    printf("platform %s\n", (char *)getauxval(AT_PLATFORM));
    const char *name = (char *)getauxval(AT_EXECFN);
    TRUTH(name != NULL && strcmp(name, argv[0]) == 0);
    const unsigned char *random = (void *)getauxval(AT_RANDOM);
    unsigned sum = 0;
    for (int i = 0; i < 16; i++)
        sum |= random[i];
    TRUTH(sum != 0);
    TRUTH(getauxval(AT_MINSIGSTKSZ) >= 1024);
    TRUTH(getauxval(AT_HWCAP) != 0);
    const ElfW(Phdr) *header = (void *)getauxval(AT_PHDR);
    TRUTH((char *)header > &__executable_start && (char *)header < &_end);
    int loads = 0, stacks = 0;
    for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++) {
        loads += header[i].p_type == PT_LOAD;
        stacks += header[i].p_type == PT_GNU_STACK;
    }
    TRUTH(loads >= 2 && stacks == 1);
    const unsigned char *vdso = (void *)getauxval(AT_SYSINFO_EHDR);
    TRUTH(vdso != NULL && memcmp(vdso, ELFMAG, 4) == 0);
    /* The kernel's order on the stack: argc, argv, environ, auxiliary vector, strings. */
    TRUTH((long)((long *)argv)[-1] == argc);
    TRUTH(environ == argv + argc + 1);
    TRUTH(((uintptr_t)argv - 8) % 16 == 0);
    for (int i = 0; i < argc; i++)
        TRUTH(argv[i] > (char *)environ);
    char link[4096];
    long n = MUST(readlink("/proc/self/exe", link, sizeof link - 1));
    link[n] = 0;
    const char *slash = strrchr(link, '/'), *own = strrchr(argv[0], '/');
    TRUTH(slash && own && strcmp(slash, own) == 0);
    return 0;
}
