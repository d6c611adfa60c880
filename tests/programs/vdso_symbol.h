/* Finds a function in the vDSO as dynamic linkers do. */
#ifndef VDSO_SYMBOL_H
#define VDSO_SYMBOL_H
#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>

/* Returns the number of symbols that a GNU hash table (header, filter, buckets, chains) knows: one past the last chain. */
static inline uint32_t symbols_hashed(const uint32_t *table)
{
    uint32_t buckets = table[0], first = table[1], last = 0;
    const uint32_t *bucket = table + 4 + 2 * table[2], *chain = bucket + buckets;
    for (uint32_t i = 0; i < buckets; i++)
        last = bucket[i] > last ? bucket[i] : last;
    if (last < first)
        return first;
    while (!(chain[last - first] & 1))
        last++;
    return last + 1;
}

/* Returns the address of a symbol that the vDSO defines, or NULL. */
static inline void *vdso_symbol(const char *name)
{
    const char *image = (const char *)getauxval(AT_SYSINFO_EHDR), *base = image;
    const Elf64_Dyn *dynamic = NULL;
    if (image == NULL)
        return NULL;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
    const Elf64_Phdr *segments = (const Elf64_Phdr *)(image + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++) {
        if (segments[i].p_type == PT_LOAD)
            base = image + segments[i].p_offset - segments[i].p_vaddr;
        else if (segments[i].p_type == PT_DYNAMIC)
            dynamic = (const Elf64_Dyn *)(image + segments[i].p_offset);
    }
    const char *strings = NULL;
    const Elf64_Sym *symbols = NULL;
    const uint32_t *hashes = NULL;
    for (; dynamic != NULL && dynamic->d_tag != DT_NULL; dynamic++) {
        const void *at = base + dynamic->d_un.d_ptr;
        if (dynamic->d_tag == DT_STRTAB)
            strings = at;
        else if (dynamic->d_tag == DT_SYMTAB)
            symbols = at;
        else if (dynamic->d_tag == DT_GNU_HASH)
            hashes = at;
    }
    if (strings == NULL || symbols == NULL || hashes == NULL)
        return NULL;
    uint32_t count = symbols_hashed(hashes);
    for (uint32_t i = 0; i < count; i++)
        if (symbols[i].st_shndx != SHN_UNDEF && strcmp(strings + symbols[i].st_name, name) == 0)
            return (void *)(base + symbols[i].st_value);
    return NULL;
}

#endif
