/* Random bytes from the vDSO, which the C library that this is linked with need not know. */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

#include "../../../tests/programs/vdso_symbol.h"
#include "micro.h"

static ssize_t (*fill)(void *to, size_t len, unsigned flags, void *state, size_t state_len);
static struct {
    uint32_t state_size, prot, flags, reserved[13];
} parameters;
static void *state;

static void draw(long count) {
    char bytes[16];
    for (long i = 0; i < count; i++)
        if (fill(bytes, sizeof bytes, 0, state, parameters.state_size) != sizeof bytes) fail("getrandom");
}

double getrandom_vdso(void) {
    void *symbol = vdso_symbol("__vdso_getrandom");
    if (symbol == NULL) return -1;
    fill = symbol;
    if (fill(NULL, 0, 0, &parameters, ~0ul) != 0) return -1;
    state = mmap(NULL, 4096, parameters.prot, parameters.flags, -1, 0);
    if (state == MAP_FAILED) fail("mmap");
    return repeated(draw);
}
