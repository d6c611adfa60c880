/* Fills 64 MiB with pages that compress 4:1, says so, waits for a line, and touches each page once: `compressed sequence` one
 * after another, `compressed random` in random order. Prints nanoseconds a page.
 *
 * Whoever runs it has the pages compressed between the two. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE = 4096, PAGES = 16384, NOISE = PAGE / 4 };

static uint64_t random_word(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    static uint32_t order[PAGES];
    for (uint32_t page = 0; page < PAGES; page++) order[page] = page;
    if (strcmp(argv[1], "random") == 0) {
        for (uint32_t page = PAGES - 1; page > 0; page--) {
            uint32_t other = random_word() % (page + 1), swapped = order[page];
            order[page] = order[other];
            order[other] = swapped;
        }
    }
    unsigned char *memory = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 1;
    /* Its first byte says which page it is. */
    for (size_t page = 0; page < PAGES; page++) {
        for (size_t at = 0; at < NOISE; at += 8) {
            uint64_t word = random_word();
            memcpy(memory + page * PAGE + at, &word, 8);
        }
        memory[page * PAGE] = page % 251;
    }
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF) return 1;
    double before = now_ns();
    for (size_t at = 0; at < PAGES; at++) {
        if (((volatile unsigned char *)memory)[(size_t)order[at] * PAGE] != order[at] % 251) return 3;
    }
    printf("%.0f\n", (now_ns() - before) / PAGES);
    return 0;
}
