// Memory that compresses four to one: more of it than a limit that is too small for it as it is.
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8 };

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

// A quarter of a page is noise, the rest one word of its own.
static uint64_t word(uint64_t page, int at)
{
    return at < WORDS / 4 - 4 ? mix(page * WORDS + at) : page;
}

static void fill(uint64_t *memory, uint64_t page)
{
    for (int at = 0; at < WORDS; at++)
        memory[page * WORDS + at] = word(page, at);
}

static int check(const uint64_t *memory, uint64_t page, uint64_t tag)
{
    for (int at = 0; at < WORDS; at++)
        if (memory[page * WORDS + at] != word(page, at) + (at == WORDS - 1 ? tag : 0)) {
            printf("page %lu: word %d is %lx\n", (unsigned long)page, at, (unsigned long)memory[page * WORDS + at]);
            return 1;
        }
    return 0;
}

static int all(const uint64_t *memory, uint64_t pages, uint64_t tag)
{
    int wrong = 0;
    for (uint64_t page = 0; page < pages && !wrong; page++)
        wrong = check(memory, page, tag);
    return wrong;
}

int main(int argc, char **argv)
{
    uint64_t pages = (argc > 1 ? strtoul(argv[1], NULL, 0) : 96) << 8;
    const char *then = argc > 2 ? argv[2] : "";
    uint64_t *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return perror("mmap"), 1;
    for (uint64_t page = 0; page < pages; page++)
        fill(memory, page);
    puts("written");
    fflush(stdout);
    if (!strcmp(then, "wait")) {
        // Until somebody says that it is time to look.
        if (getchar() == EOF)
            return 1;
    }
    if (all(memory, pages, 0))
        return 1;
    puts("read");
    // Far from each other, and back.
    for (uint64_t step = 0; step < pages / 8; step++) {
        uint64_t page = mix(step) % pages;
        if (check(memory, page, 0))
            return 1;
    }
    puts("read here and there");
    // A kernel's access, both ways.
    int ends[2];
    char bytes[64];
    if (pipe(ends) || write(ends[1], memory + 5 * WORDS, 64) != 64 || read(ends[0], bytes, 64) != 64)
        return perror("pipe"), 1;
    if (memcmp(bytes, memory + 5 * WORDS, 64))
        return puts("other bytes were written"), 1;
    puts("written to a pipe");
    // Read-only stays so, and nothing of it is lost.
    if (mprotect(memory, 64 * PAGE, PROT_READ))
        return perror("mprotect"), 1;
    if (read(ends[0], memory, 0) != 0 || write(ends[1], "x", 1) != 1 || read(ends[0], memory + 7, 1) != -1 || errno != EFAULT)
        return puts("a read-only page was written to"), 1;
    if (mprotect(memory, 64 * PAGE, PROT_READ | PROT_WRITE))
        return perror("mprotect"), 1;
    // A child has the same pages, and changes of its own.
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        for (uint64_t page = 0; page < pages / 8; page++)
            memory[page * WORDS + WORDS - 1] += 77;
        int wrong = all(memory, pages / 8, 77) || all(memory, 1, 77);
        puts(wrong ? "the child's pages are wrong" : "changed by a child");
        fflush(stdout);
        _exit(wrong);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        return puts("the child failed"), 1;
    if (all(memory, pages, 0))
        return 1;
    puts("as it was");
    return 0;
}
