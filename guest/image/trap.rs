//! The trap image: every instruction that runs in the guest's ring 0.
//!
//! Each stub leaves the guest with one `out`, whose port says what happened; the monitor never resumes behind it but at
//! one of the ways back. No stub touches the program's stack or any register but where noted.
//! On kvm-pvm ring 0 is interpreted at 0.3 µs an instruction, by an interpreter that knows plain integer code only:
//! hence the stubs save nothing and the monitor reads the frame from the interrupt stack.
#![no_std]
#![no_main]

#[path = "../src/layout.rs"]
#[allow(dead_code, reason = "the image needs some of the constants")]
mod layout;

use core::arch::global_asm;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

global_asm!(
    // SYSCALL enters here: RIP is in RCX, RFLAGS in R11, RSP is the program's. Nothing may be pushed.
    ".section .syscall, \"ax\"",
    ".global syscall_entry",
    "syscall_entry:",
    "out {syscall_port}, al",
    "ud2",
    ".org 0x10, 0xcc",
    ".global syscall_return",
    "syscall_return:",
    "sysretq",
    ".org 0x1000, 0xcc",
    syscall_port = const layout::SYSCALL_PORT,
);

global_asm!(
    ".section .trap, \"ax\"",
    "vector = 0",
    ".rept {vectors} + 1",
    ".balign {stride}, 0xcc",
    // A page fault's stub trades RAX for CR2: two interpreted instructions cost less than KVM_GET_SREGS.
    ".if vector == 14",
    "push rax",
    "mov rax, cr2",
    ".endif",
    "out {vector_port} + vector, al",
    "ud2",
    "vector = vector + 1",
    ".endr",
    ".org 0x400, 0xcc",
    ".global iret_return",
    "iret_return:",
    "iretq",
    ".org 0x410, 0xcc",
    ".global switch_iret_return",
    "switch_iret_return:",
    "mov cr3, rax",
    "pop rax",
    "iretq",
    ".org 0x1000, 0xcc",
    vectors = const layout::VECTORS,
    stride = const layout::STUB_STRIDE,
    vector_port = const layout::VECTOR_PORT,
);

global_asm!(
    // Runs in ring 3, wherever this page is mapped. XCR0 is in EDX:EAX at the exit, the time-stamp counter in RBX; the
    // code segment there says how SYSCALL arrives.
    ".section .probe, \"ax\"",
    ".global probe",
    "probe:",
    "rdtsc",
    "shl rdx, 32",
    "lea rbx, [rax + rdx]",
    "xor ecx, ecx",
    "xgetbv",
    "syscall",
    "ud2",
    ".org 0x1000, 0xcc",
);
