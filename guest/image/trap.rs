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

/// An address of the last 2 GiB as a displacement or an immediate operand, which the processor sign-extends.
const fn near(address: u64) -> i64 {
    address.cast_signed()
}

/// FUTEX_WAKE with FUTEX_PRIVATE_FLAG (linux/futex.h).
const FUTEX_WAKE_PRIVATE: u32 = 1 | 128;

/// An address in the call page.
const fn call(offset: u64) -> i64 {
    near(layout::CALL_PAGE + offset)
}

global_asm!(
    // Runs in ring 3. RAX is the call's number, RCX where the program goes on. Only RCX and R11 may be lost, and the
    // program's stack is not touched: below its pointer a leaf function keeps variables. Until RAX holds the result, or the
    // mask is about to change, the monitor can make a trap of whatever it finds here; from there on, a return.
    ".section .fast, \"ax\"",
    ".global fast_entry",
    "fast_entry:",
    "mov [{rsp}], rsp",
    "mov rsp, {stack}",
    "pushfq",
    "jmp 2f",
    // SYSCALL on kvm-pvm: RFLAGS is in R11. A program that is stepped through traps: its RFLAGS cannot be restored here.
    ".org 0x20, 0xcc",
    ".global fast_syscall",
    "fast_syscall:",
    "mov [{rsp}], rsp",
    "mov rsp, {stack}",
    "push r11",
    "test r11d, 0x100",
    "jnz 6f",
    // Now and then a call traps that need not, so that the monitor sees where such calls are made from.
    "dec byte ptr [{sample}]",
    "jz 6f",
    // Does the answer lie ready?
    "2:",
    "cmp rax, {calls}",
    "jae 6f",
    "mov r11, [{words} + rax * 8]",
    "test r11, r11",
    "js 3f",
    "inc qword ptr [{answered}]",
    "jmp 5f",
    ".org 0x7d, 0xcc",
    "5:",
    "mov rax, r11",
    ".global fast_answered",
    "fast_answered:",
    "mov dword ptr [{state}], {free}",
    "mov r11, [{rflags}]",
    "popfq",
    "mov rsp, [{rsp}]",
    "jmp rcx",
    // May it be posted?
    ".org 0xa0, 0xcc",
    "3:",
    "cmp r11, {is_posted}",
    "jne 9f",
    "30:",
    "cmp dword ptr [{attended}], 0",
    "je 6f",
    "mov [{number}], rax",
    "mov [{arguments}], rdi",
    "mov [{arguments} + 8], rsi",
    "mov [{arguments} + 16], rdx",
    "mov [{arguments} + 24], r10",
    "mov [{arguments} + 32], r8",
    "mov [{arguments} + 40], r9",
    "mov [{back}], rcx",
    "mov dword ptr [{rounds}], {most_rounds}",
    "mov dword ptr [{state}], {posted}",
    "4:",
    "mov r11d, [{spins}]",
    "7:",
    "pause",
    "cmp dword ptr [{state}], {done}",
    "jae 8f",
    "dec r11d",
    "jnz 7b",
    // A call that somebody has taken is waited for longer.
    "dec dword ptr [{rounds}]",
    "jz 6f",
    "cmp dword ptr [{state}], {claimed}",
    "je 4b",
    "6:",
    "mov [{back}], rcx",
    "jmp qword ptr [{trap}]",
    "8:",
    "jne 6b",
    "mov r11, [{result}]",
    "jmp 5b",
    ".org 0x180, 0xcc",
    ".global fast_trap_port",
    "fast_trap_port:",
    "out {syscall_port}, al",
    "ud2",
    ".org 0x190, 0xcc",
    ".global fast_trap_syscall",
    "fast_trap_syscall:",
    "syscall",
    "ud2",
    // May it change the thread's mask? RCX is needed, and lies in the call page meanwhile.
    ".org 0x1a0, 0xcc",
    "9:",
    "cmp r11, {is_mask}",
    "jne 31f",
    "cmp r10, 8",
    "jne 6b",
    "mov [{back}], rcx",
    ".p2align 5, 0x90",
    // A fault from here on makes a trap of the call, which finds everything as it was. An address of the supervisor's half
    // would not fault.
    ".global fast_mask",
    "fast_mask:",
    "mov rcx, rsi",
    "or rcx, rdx",
    "shr rcx, 47",
    "jnz 26f",
    "mov rcx, [{mask}]",
    "mov r11, rcx",
    "test rsi, rsi",
    "jz 23f",
    "mov r11, [rsi]",
    "cmp edi, 1",
    "jb 24f",
    "je 25f",
    "cmp edi, 2",
    "je 23f",
    "26:",
    "mov rcx, [{back}]",
    "jmp 6b",
    "24:",
    "or r11, rcx",
    "jmp 23f",
    "25:",
    "not r11",
    "and r11, rcx",
    "23:",
    "and r11, {maskable}",
    "test rdx, rdx",
    "jz 27f",
    ".org 0x21d, 0x90",
    "mov [rdx], rcx",
    // What was is stored, so from here on the call is completed, whoever does it.
    ".global fast_mask_set",
    "fast_mask_set:",
    "27:",
    "xchg [{mask}], r11",
    // Whoever has something for this thread says so in the call's word, and looks at the mask then. The exchange comes
    // before the look as a locked instruction does; so one of the two sees the other.
    "mov rcx, [{back}]",
    "cmp qword ptr [{words} + rax * 8], {is_mask}",
    "jne 28f",
    "inc qword ptr [{answered}]",
    "xor eax, eax",
    "jmp fast_answered",
    "28:",
    "mov dword ptr [{state}], {changed}",
    "jmp 6b",
    ".org 0x260, 0xcc",
    ".global fast_mask_end",
    "fast_mask_end:",
    // Does it wake somebody, and does nobody wait for that word?
    "31:",
    "cmp r11, {is_wake}",
    "je 32f",
    "cmp r11, {is_wake_or_traps}",
    "jne 6b",
    "32:",
    "cmp esi, {wake}",
    "jne 34f",
    // What the call says is wrong.
    "test dil, 3",
    "jnz 34f",
    "mov r11, rdi",
    "shr r11, 47",
    "jnz 34f",
    // What the program stored there comes before the look, as a locked instruction does: who is about to wait counts itself first,
    // and then compares the word. So one of the two sees the other.
    "lock or dword ptr [{rounds}], 0",
    "mov r11, rdi",
    "shr r11, 2",
    "xor r11d, dword ptr [{salt}]",
    "imul r11d, r11d, {factor}",
    "shr r11d, {shift}",
    "cmp dword ptr [{waiters} + r11 * 4], 0",
    "jne 34f",
    "inc qword ptr [{answered}]",
    "xor r11d, r11d",
    "jmp 5b",
    "34:",
    "cmp qword ptr [{words} + rax * 8], {is_wake}",
    "je 30b",
    "jmp 6b",
    ".org 0x1000, 0xcc",
    rsp = const call(layout::call::RSP),
    stack = const call(layout::call::STACK),
    rflags = const call(layout::call::RFLAGS),
    calls = const layout::CALLS,
    words = const near(layout::ANSWERS_PAGE),
    answered = const call(layout::call::ANSWERED),
    sample = const call(layout::call::SAMPLE),
    state = const call(layout::call::STATE),
    free = const layout::call::FREE,
    posted = const layout::call::POSTED,
    claimed = const layout::call::CLAIMED,
    done = const layout::call::DONE,
    is_posted = const layout::CALL_IS_POSTED.cast_signed(),
    is_mask = const layout::CALL_IS_MASK.cast_signed(),
    is_wake = const layout::CALL_IS_WAKE.cast_signed(),
    is_wake_or_traps = const layout::CALL_IS_WAKE_OR_TRAPS.cast_signed(),
    wake = const FUTEX_WAKE_PRIVATE,
    salt = const near(layout::ANSWERS_PAGE + layout::answers::SALT),
    factor = const layout::WAITERS_FACTOR.cast_signed(),
    shift = const layout::WAITERS_SHIFT,
    waiters = const near(layout::WAITERS_PAGE),
    mask = const call(layout::call::MASK),
    maskable = const layout::MASKABLE.cast_signed(),
    changed = const layout::call::CHANGED,
    attended = const near(layout::ANSWERS_PAGE + layout::answers::ATTENDED),
    number = const call(layout::call::NUMBER),
    arguments = const call(layout::call::ARGUMENTS),
    back = const call(layout::call::RETURN),
    rounds = const call(layout::call::ROUNDS),
    most_rounds = const layout::ROUNDS,
    spins = const near(layout::ANSWERS_PAGE + layout::answers::SPINS),
    trap = const near(layout::ANSWERS_PAGE + layout::answers::TRAP),
    result = const call(layout::call::RESULT),
    syscall_port = const layout::SYSCALL_PORT,
);
