/* Which signal each kind of fault raises, with code and address. */
#include "faults.h"
#include <sys/mman.h>

static volatile int zero, one = 1, minus_one = -1, smallest = -2147483647 - 1;

int main(void)
{
    catch_faults();
    volatile int sink = 0;
    FAULT(0, *(volatile int *)0 = 1);
    FAULT(0, sink = *(volatile int *)0xdead000);
    FAULT(0, *(volatile char *)0x800000000000 = 1);
    FAULT(0, sink = *(volatile char *)0xffffc90000000000);
    FAULT(&main, *(volatile char *)&main = 1);
    FAULT(0, ((void (*)(void))0x10)());
    FAULT(0, ((void (*)(void))0x800000000000)());
    FAULT(fault_address, sink = one / zero);
    FAULT(fault_address, sink = smallest / minus_one);
    FAULT(fault_address, __asm__ volatile("ud2"));
    FAULT(0, __asm__ volatile("int3"));
    FAULT(0, __asm__ volatile("hlt"));
    FAULT(0, __asm__ volatile("int $0x20"));
    FAULT(0, __asm__ volatile("mov %%rax, %%cr3" ::: "memory"));
    FAULT(0, __asm__ volatile("wrmsr" :: "a"(0), "c"(0), "d"(0)));
    FAULT(0, __asm__ volatile("lgdt (%rsp)"));
    FAULT(0, __asm__ volatile("out %al, $0x80"));
    FAULT(0, __asm__ volatile("movaps (%0), %%xmm0" :: "r"((char *)&fault_return + 1 + (16 - (uintptr_t)&fault_return % 16)) : "xmm0"));
    /* Floating-point exceptions, unmasked. */
    unsigned control = 0x1f80 & ~0x200;
    FAULT(fault_address, __asm__ volatile("ldmxcsr %0" :: "m"(control)); volatile double d = 0; d = 1.0 / d; sink = (int)d);
    control = 0x1f80;
    __asm__ volatile("ldmxcsr %0" :: "m"(control));
    /* The trap flag: one instruction, then SIGTRAP. */
    FAULT(fault_address, __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc"));
    printf("%d\n", sink & 0);
    return 0;
}
