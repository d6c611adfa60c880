/* Wide registers and floating-point control over system calls, signals and faults. */
#include "faults.h"
#include <cpuid.h>
#include <sys/mman.h>

static unsigned char before[32 * 16], after[32 * 16];

static void clobber(int number)
{
    (void)number;
    __asm__ volatile("vzeroall" ::: "memory");
}

__attribute__((target("avx"))) static void keep(const char *what, long number, long a, long b)
{
    for (unsigned i = 0; i < sizeof before; i++)
        before[i] = (unsigned char)(i * 37 + 11);
    memset(after, 0, sizeof after);
    __asm__ volatile(
        "vmovdqu 0(%[in]), %%ymm0; vmovdqu 32(%[in]), %%ymm1; vmovdqu 64(%[in]), %%ymm2; vmovdqu 96(%[in]), %%ymm7;"
        "vmovdqu 128(%[in]), %%ymm8; vmovdqu 160(%[in]), %%ymm15;"
        "syscall;"
        "vmovdqu %%ymm0, 0(%[out]); vmovdqu %%ymm1, 32(%[out]); vmovdqu %%ymm2, 64(%[out]); vmovdqu %%ymm7, 96(%[out]);"
        "vmovdqu %%ymm8, 128(%[out]); vmovdqu %%ymm15, 160(%[out])"
        : "+a"(number) : [in] "r"(before), [out] "r"(after), "D"(a), "S"(b)
        : "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm7", "xmm8", "xmm15");
    printf("%s keeps 256-bit registers: %s\n", what, memcmp(before, after, 192) == 0 ? "yes" : "no");
}

int main(void)
{
    unsigned a, b, c, d;
    unsigned control = 0x1fa0 | 0x6000, now = 0;
    unsigned short x87 = 0x0f7f, x87_now = 0;
    __asm__ volatile("ldmxcsr %0; fldcw %1" :: "m"(control), "m"(x87));
    getppid();
    usleep(1000);
    __asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(now), "=m"(x87_now));
    printf("mxcsr %x, x87 control %x\n", now, x87_now);
    control = 0x1f80;
    __asm__ volatile("ldmxcsr %0; fninit" :: "m"(control));

    __cpuid(1, a, b, c, d);
    printf("XSAVE is used: %d\n", (c & bit_OSXSAVE) != 0);
    printf("AVX %d, AVX2 %d, FMA %d\n", !!__builtin_cpu_supports("avx"), !!__builtin_cpu_supports("avx2"), !!__builtin_cpu_supports("fma"));
    if (!__builtin_cpu_supports("avx")) {
        printf("no AVX here\n");
        return 0;
    }
    signal(SIGUSR1, clobber);
    keep("a system call", SYS_getpid, 0, 0);
    keep("a refused call", 1000, 0, 0);
    struct timespec { long s, n; } sleep = { 0, 1000000 };
    keep("sleep", SYS_nanosleep, (long)&sleep, 0);
    keep("a signal handler", SYS_kill, getpid(), SIGUSR1);

    /* Page faults in between, served without the program's knowledge. */
    volatile char *p = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    double sum = 0;
    for (int i = 0; i < 64; i++) {
        p[(long)i << 20] = (char)i;
        sum += 1.0 / (i + 1);
    }
    printf("%.12f\n", sum);

    /* What CPUID promises about the state's size holds: XSAVE of all components that it names writes no further than the size of
       those that are enabled now, and that is not more than the most. */
    unsigned enabled, most;
    __cpuid_count(0xd, 0, a, enabled, most, d);
    unsigned char *area = aligned_alloc(64, 65536);
    memset(area, 0xee, 65536);
    memset(area, 0, 576);
    __asm__ volatile("xsave (%0)" :: "r"(area), "a"(a), "d"(d) : "memory");
    int beyond = enabled > most;
    for (unsigned i = enabled; i < 65536; i++)
        beyond += area[i] != 0xee;
    SHOW(beyond);
    return 0;
}
