//! Where a static executable begins: before the C library relocates it.
//!
//! A position-independent executable writes to every page that holds an address, of its tables of functions above all, before anything
//! else: some fifty pages, each with a fault that copies a page of the file. Asking for all of them at once takes 3 us for each instead of 5.
//! Nothing of the process runs before, and nothing has been relocated: so this is a few instructions that look at no memory.
//!
//! For pages that are only mapped, code above all, it does not pay: a fault maps sixteen of them, and these cost more than the fault.
//!
//! An executable begins here if it is linked so; the launcher's build script does. In others nothing refers to this.

use std::arch::global_asm;

// The C library's start wants the stack pointer, and in RDX what is to be called at exit (the System V ABI's supplement for
// AMD64, 3.4.1). Whether the kernel could do it (Linux 5.14) does not matter: what is missing is had by faults.
global_asm!(
    ".pushsection .text.picovisor_entry, \"ax\", @progbits",
    ".globl picovisor_entry",
    ".type picovisor_entry, @function",
    ".weak _start",
    ".hidden __fini_array_start",
    ".hidden _end",
    "picovisor_entry:",
    "mov r8, rdx",
    // From the first of what is relocated to the end of the image.
    "lea rdi, [rip + __fini_array_start]",
    "and rdi, -{page}",
    "lea rsi, [rip + _end]",
    "sub rsi, rdi",
    "mov edx, {populate}",
    "mov eax, {madvise}",
    "syscall",
    "mov rdx, r8",
    "jmp _start",
    ".size picovisor_entry, . - picovisor_entry",
    ".popsection",
    page = const 4096,
    populate = const libc::MADV_POPULATE_WRITE,
    madvise = const libc::SYS_madvise,
);
