/* Computation, which no sandbox slows down unless it translates. */
#include <immintrin.h>
#include <stdint.h>

#include "micro.h"

static volatile uint64_t sink;

double integer(void) {
    enum { SIZE = 1 << 15 };
    static uint32_t table[SIZE];
    uint64_t state = 88172645463325252u;
    double before = now_ns();
    for (int round = 0; round < 400; round++)
        for (int i = 0; i < SIZE; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            table[state % SIZE] += (uint32_t)(state / (1 + table[i]));
        }
    double after = now_ns();
    for (int i = 0; i < SIZE; i++) sink += table[i];
    return after - before;
}

__attribute__((target("avx2,fma"))) double avx(void) {
    enum { SIZE = 4096 };
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return -1;
    static float left[SIZE] __attribute__((aligned(32))), right[SIZE] __attribute__((aligned(32)));
    for (int i = 0; i < SIZE; i++) left[i] = (float)i, right[i] = 1.0f / (float)(i + 1);
    double before = now_ns();
    for (int round = 0; round < 60000; round++) {
        __m256 factor = _mm256_set1_ps(1.0f - 1e-6f);
        for (int i = 0; i < SIZE; i += 32)
            for (int j = i; j < i + 32; j += 8)
                _mm256_store_ps(left + j, _mm256_fmadd_ps(_mm256_load_ps(left + j), factor, _mm256_load_ps(right + j)));
    }
    double after = now_ns();
    for (int i = 0; i < SIZE; i++) sink += (uint64_t)left[i];
    return after - before;
}
