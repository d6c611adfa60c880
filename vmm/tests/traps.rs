//! System calls and exceptions from assembly payloads: what reaches the provider, and what the program finds afterwards.

#[path = "personality/mod.rs"]
mod personality;

use personality::{CODE, DATA, Event, STACK, run};
use vmm::pico::ExitReason;

payload!(one_call, "mov eax, 7", "mov edi, 42", "syscall", "mov edi, 3", "xor eax, eax", "syscall", "ud2");

#[test]
fn a_system_call_traps_returns_and_a_thread_exits() {
    let Some(script) = run(one_call()) else { return };
    let ended = [Event::ThreadEnd(ExitReason::Exited), Event::ProcessEnd(ExitReason::Exited)];
    assert_eq!(script.events(), [&[Event::Note(42), Event::Exit(3)][..], &ended].concat());
}

payload!(
    registers_survive,
    "mov rbx, 0x1111111111111111",
    "mov rdx, 0x2222222222222222",
    "mov rsi, 0x3333333333333333",
    "mov rbp, 0x4444444444444444",
    "mov r8, 0x8888888888888888",
    "mov r9, 0x9999999999999999",
    "mov r10, 0xaaaaaaaaaaaaaaaa",
    "mov r12, 0xcccccccccccccccc",
    "mov r13, 0xdddddddddddddddd",
    "mov r14, 0xeeeeeeeeeeeeeeee",
    "mov r15, -2",
    "mov rdi, 7",
    "mov qword ptr [rsp - 8], 0x5a5a",
    "mov qword ptr [rsp - 128], 0x6b6b",
    "std",
    "stc",
    "mov eax, 77", // no such call: -1
    "syscall",
    "2:",
    "pushfq",
    "cld",
    "xor r15, -2", // collects differences
    "inc rax",
    "or r15, rax",
    "lea rax, [rip + 2b]",
    "xor rcx, rax",
    "or r15, rcx",
    "pop rax",
    "xor r11, rax",
    "or r15, r11",
    "and eax, 0x401", // DF and CF
    "xor eax, 0x401",
    "or r15, rax",
    "mov rax, 0x1111111111111111",
    "xor rbx, rax",
    "or r15, rbx",
    "mov rax, 0x2222222222222222",
    "xor rdx, rax",
    "or r15, rdx",
    "mov rax, 0x3333333333333333",
    "xor rsi, rax",
    "or r15, rsi",
    "mov rax, 0x4444444444444444",
    "xor rbp, rax",
    "or r15, rbp",
    "mov rax, 0x8888888888888888",
    "xor r8, rax",
    "or r15, r8",
    "mov rax, 0x9999999999999999",
    "xor r9, rax",
    "or r15, r9",
    "mov rax, 0xaaaaaaaaaaaaaaaa",
    "xor r10, rax",
    "or r15, r10",
    "mov rax, 0xcccccccccccccccc",
    "xor r12, rax",
    "or r15, r12",
    "mov rax, 0xdddddddddddddddd",
    "xor r13, rax",
    "or r15, r13",
    "mov rax, 0xeeeeeeeeeeeeeeee",
    "xor r14, rax",
    "or r15, r14",
    "xor rdi, 7",
    "or r15, rdi",
    "mov rax, [rsp - 128]",
    "xor rax, 0x6b6b",
    "or r15, rax",
    "mov rdi, r15",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
);

#[test]
fn a_system_call_changes_rax_rcx_and_r11_only() {
    let Some(script) = run(registers_survive()) else { return };
    assert_eq!(script.notes(), [0]);
}

// Each fault: r14 says how many bytes the handler skips, r13 where RIP must be; r12 collects differences.
payload!(
    faults,
    "lea rdi, [rip + 9f]",
    "mov eax, 4",
    "syscall",
    "xor r12d, r12d",
    // #DE at a two-byte instruction.
    "mov r14d, 2",
    "lea r13, [rip + 2f]",
    "xor ecx, ecx",
    "xor edx, edx",
    "mov eax, 1",
    "2: div ecx",
    // #BP is a trap: RIP is behind it.
    "mov r14d, 0",
    "lea r13, [rip + 2f]",
    "int3",
    "2:",
    // #UD
    "mov r14d, 2",
    "lea r13, [rip + 2f]",
    "2: ud2",
    // #GP by privileged instructions.
    "mov r14d, 1",
    "lea r13, [rip + 2f]",
    "2: hlt",
    "lea r13, [rip + 2f]",
    "2: cli",
    "lea r13, [rip + 2f]",
    "mov edx, 0x80",
    "2: out dx, al",
    "mov r14d, 2",
    "lea r13, [rip + 2f]",
    "2: in al, 0x60",
    // The port of system calls is nobody's but the trap code's.
    "lea r13, [rip + 2f]",
    "2: out 0x10, al",
    "lea r13, [rip + 2f]",
    "mov eax, 0x77",
    "2: in al, 0x10",
    "xor eax, 0x77",
    "or r12, rax",
    "mov r14d, 1",
    "mov edx, 0x10",
    "lea r13, [rip + 2f]",
    "2: out dx, al",
    // #GP by an address that is not canonical.
    "mov r14d, 3",
    "lea r13, [rip + 2f]",
    "mov rax, 0x4000000000000000",
    "2: mov rbx, [rax]",
    // #PF: a load of nothing, a store to code.
    "mov r14d, 2",
    "lea r13, [rip + 2f]",
    "mov eax, 0x1000",
    "2: mov ebx, [rax]",
    "lea r13, [rip + 2f]",
    "mov eax, 0x400008",
    "2: mov [rax], ebx",
    // int 0x80 is a trap.
    "mov r14d, 0",
    "lea r13, [rip + 2f]",
    "int 0x80",
    "2:",
    "mov rdi, r12",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
    "9:",
    "xor rcx, r13",
    "or r12, rcx",
    "mov edi, r14d",
    "mov eax, 8",
    "syscall",
);

#[test]
fn every_exception_of_ring_3_reaches_the_provider_with_its_rip() {
    let Some(script) = run(faults()) else { return };
    let seen: Vec<_> =
        script.exceptions().iter().map(|&(vector, error, address, _)| (vector, error, address)).collect();
    // Whether the page was present is a hint only (kvm-pvm), so that bit is left out.
    let seen: Vec<_> = seen.into_iter().map(|(v, e, a)| if v == 14 { (v, e & !1, a) } else { (v, e, a) }).collect();
    let gp = (13, 0, 0);
    let expected = [
        (0, 0, 0),
        (3, 0, 0),
        (6, 0, 0),
        gp,
        gp,
        gp,
        gp,
        gp,
        gp,
        gp,
        gp,
        (14, 4, 0x1000),
        (14, 6, CODE + 8),
        (0x80, 0, 0),
    ];
    assert_eq!(seen, expected, "{:x?}", script.events());
    assert_eq!(script.notes(), [0], "a RIP or a register is wrong");
}

// As above, for what QEMU's emulated processor does not do.
payload!(
    more_faults,
    "lea rdi, [rip + 9f]",
    "mov eax, 4",
    "syscall",
    "xor r12d, r12d",
    // A vector without a gate for ring 3.
    "mov r14d, 2",
    "lea r13, [rip + 2f]",
    "mov r14d, 2",
    "2: int 0x21",
    // #SS: the stack pointer is not canonical. The handler's system call is made with it.
    "mov rax, 0x4000000000000000",
    "mov r14d, 4",
    "lea r13, [rip + 2f]",
    "mov rbp, rsp",
    "mov rsp, rax",
    "2: mov rbx, [rsp]",
    "mov rsp, rbp",
    // #XM: an unmasked division by zero.
    "mov dword ptr [rsp - 8], 0x1d80",
    "ldmxcsr [rsp - 8]",
    "mov eax, 1",
    "cvtsi2sd xmm0, eax",
    "xorpd xmm1, xmm1",
    "mov r14d, 4",
    "lea r13, [rip + 2f]",
    "2: divsd xmm0, xmm1",
    // #AC: alignment checks on.
    "mov r14d, 4",
    "lea r13, [rip + 2f]",
    "pushfq",
    "or dword ptr [rsp], 0x40000",
    "popfq",
    "2: mov eax, [rsp + 1]",
    "pushfq",
    "and dword ptr [rsp], 0xfffbffff",
    "popfq",
    "mov rdi, r12",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
    "9:",
    "xor rcx, r13",
    "or r12, rcx",
    "mov edi, r14d",
    "mov eax, 8",
    "syscall",
);

/// Whether the processor is QEMU's emulation, which lacks #SS, #XM and #AC and reports other error codes for `int n`.
fn is_emulated() -> bool {
    let leaf = std::arch::x86_64::__cpuid(0x4000_0000);
    leaf.ebx.to_le_bytes() == *b"TCGT"
}

#[test]
fn rarer_exceptions_reach_the_provider_too() {
    if is_emulated() {
        println!("skipped: this processor is emulated and does not raise them");
        return;
    }
    let Some(script) = run(more_faults()) else { return };
    let seen: Vec<_> = script.exceptions().iter().map(|&(vector, error, ..)| (vector, error)).collect();
    assert_eq!(seen, [(13, 0x21 << 3 | 2), (12, 0), (19, 0), (17, 0)], "{:x?}", script.events());
    assert_eq!(script.notes(), [0], "a RIP is wrong");
}

payload!(
    not_executable,
    "lea rdi, [rip + 9f]",
    "mov eax, 4",
    "syscall",
    "mov rbx, rsp",
    "mov eax, 0x500000",
    "call rax",
    "9:",
    "mov rdi, rcx",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
);

#[test]
fn data_is_not_executed() {
    let Some(script) = run(not_executable()) else { return };
    assert_eq!(script.notes(), [DATA]);
    let [(14, error, address, _)] = script.exceptions()[..] else { panic!("{:?}", script.events()) };
    assert_eq!((error & 16, address), (16, DATA));
}

payload!(
    supervisor_pages,
    // No page of the machine's own can be read, written or called (kvm-pvm: the system-call page can be executed, and is
    // a system call then).
    "lea rdi, [rip + 9f]",
    "mov eax, 4",
    "syscall",
    // The trap page, see `guest::layout`.
    "mov r15, -0x62a3c000",
    "mov r14d, 3",
    "mov rax, [r15]",
    "mov [r15], rax",
    "add r15, 0x5000",
    "mov rax, [r15]",
    "mov [r15], rax",
    "mov eax, 0",
    "syscall",
    "9:",
    "mov edi, r14d",
    "mov eax, 8",
    "syscall",
);

#[test]
fn supervisor_pages_are_out_of_reach() {
    let Some(script) = run(supervisor_pages()) else { return };
    let trap = guest::layout::TRAP_PAGE;
    let addresses: Vec<_> = script.exceptions().iter().map(|&(vector, _, address, _)| (vector, address)).collect();
    assert_eq!(addresses, [(14, trap), (14, trap), (14, trap + 0x5000), (14, trap + 0x5000)]);
}

payload!(
    vsyscall_call,
    "lea rdi, [rip + 9f]",
    "mov eax, 4",
    "syscall",
    "mov rax, -0xa00000",
    "call rax",
    "9:",
    "mov rdi, rcx",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
);

#[test]
fn a_call_of_the_vsyscall_page_is_a_page_fault_there() {
    let Some(script) = run(vsyscall_call()) else { return };
    assert_eq!(script.notes(), [0xffff_ffff_ff60_0000]);
    assert!(matches!(script.exceptions()[..], [(14, _, 0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_0000)]));
}

payload!(
    single_step,
    // TF set over a SYSCALL: no trap inside the trap code, one behind the next instruction.
    "lea rdi, [rip + 9f]",
    "mov eax, 4",
    "syscall",
    "mov edi, 1",
    "mov eax, 7",
    "pushfq",
    "or dword ptr [rsp], 0x100",
    "popfq",
    "syscall",
    "nop",
    "2: pushfq",
    "and dword ptr [rsp], 0xfffffeff",
    "popfq",
    "nop",
    "lea rdi, [rip + 2b]",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
    "9:",
    "xor edi, edi",
    "mov eax, 8",
    "syscall",
);

#[test]
fn a_single_step_over_a_system_call_traps_behind_it() {
    let Some(script) = run(single_step()) else { return };
    let notes = script.notes();
    let [1, behind_nop] = notes[..] else { panic!("{:?}", script.events()) };
    let exceptions = script.exceptions();
    assert!(exceptions.iter().all(|&(vector, ..)| vector == 1), "{exceptions:?}");
    // Behind the nop that follows the SYSCALL, and behind each instruction until TF is cleared.
    assert!(exceptions.iter().any(|&(_, _, _, rip)| rip == behind_nop), "{behind_nop:#x}: {exceptions:x?}");
    assert!(exceptions.iter().all(|&(_, _, _, rip)| (CODE..CODE + 4096).contains(&rip)), "{exceptions:x?}");
}

payload!(
    stack_switch_step,
    // A load of SS holds a single-step trap back over the next instruction: into the trap code, if that is a SYSCALL.
    "lea rdi, [rip + 9f]",
    "mov eax, 4",
    "syscall",
    "mov ecx, ss",
    "mov edi, 5",
    "mov eax, 7",
    "pushfq",
    "or dword ptr [rsp], 0x100",
    "popfq",
    "mov ss, ecx",
    "syscall",
    "mov r12, rsp",
    "pushfq",
    "and dword ptr [rsp], 0xfffffeff",
    "popfq",
    "mov rdi, r12",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
    "9:",
    "xor edi, edi",
    "mov eax, 8",
    "syscall",
);

#[test]
fn a_debug_exception_that_is_held_back_into_the_trap_code_does_no_harm() {
    let Some(script) = run(stack_switch_step()) else { return };
    assert_eq!(script.notes(), [5, STACK - 256], "{:x?}", script.events());
    let exceptions = script.exceptions();
    let in_code = |&(vector, _, _, rip): &(u8, u32, u64, u64)| vector == 1 && (CODE..CODE + 4096).contains(&rip);
    assert!(exceptions.iter().all(in_code), "{exceptions:x?}");
}

payload!(
    bases,
    "mov edi, 0x500000",
    "mov esi, 0x500100",
    "mov eax, 6",
    "syscall",
    "mov qword ptr [rdi], 11",
    "mov qword ptr [rsi], 22",
    "mov rdi, fs:[0]",
    "mov eax, 7",
    "syscall",
    "mov rdi, gs:[0]",
    "mov eax, 7",
    "syscall",
    // User mode changes them itself, and they stay over traps.
    "mov ecx, 0x500200",
    "wrfsbase rcx",
    "mov qword ptr fs:[0], 33",
    "mov eax, 77",
    "syscall",
    "rdfsbase rdi",
    "mov eax, 7",
    "syscall",
    "mov rdi, fs:[0]",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
);

#[test]
fn fs_and_gs_bases_are_set_and_kept() {
    let Some(script) = run(bases()) else { return };
    assert_eq!(script.notes(), [11, 22, DATA + 0x200, 33]);
}

payload!(
    vector_state,
    "mov eax, 0x12345678",
    "vmovd xmm3, eax",
    "vpbroadcastd ymm3, xmm3",
    "mov eax, 77",
    "syscall",
    "vextracti128 xmm4, ymm3, 1",
    "vmovd edi, xmm4",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
);

#[test]
fn vector_registers_survive_traps() {
    let Some(script) = run(vector_state()) else { return };
    assert_eq!(script.notes(), [0x1234_5678]);
}

payload!(
    wild_jump,
    "lea rdi, [rip + 9f]",
    "mov eax, 4",
    "syscall",
    "mov rax, 0x4000000000000000",
    "jmp rax",
    "9:",
    "xor eax, eax",
    "syscall"
);

#[test]
fn a_jump_to_an_address_that_is_not_canonical_is_a_protection_fault() {
    let Some(script) = run(wild_jump()) else { return };
    assert!(matches!(script.exceptions()[..], [(13, 0, 0, _)]), "{:?}", script.events());
}

payload!(
    hidden_return,
    // RCX is what a SYSCALL leaves in it, also when the provider loads every register (call 8).
    "lea rdi, [rip + 9f]",
    "mov eax, 4",
    "syscall",
    "mov rcx, 0x1234567812345678",
    "mov r11, 0x8765432187654321",
    "ud2",
    "mov rdi, rcx",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
    "9:",
    "mov rbx, r11",
    "mov edi, 2",
    "mov eax, 8",
    "syscall",
);

#[test]
fn a_full_resume_loads_rcx_too() {
    let Some(script) = run(hidden_return()) else { return };
    assert_eq!(script.notes(), [0x1234_5678_1234_5678]);
}

payload!(
    stack_below,
    "mov eax, 9",
    "mov edi, 0x500000",
    "syscall",
    "mov rdi, [0x500008]",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall"
);

#[test]
fn the_frame_says_where_the_stack_is() {
    let Some(script) = run(stack_below()) else { return };
    assert_eq!(script.notes(), [STACK - 256]);
}
