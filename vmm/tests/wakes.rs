//! Calls that wake nobody, which the guest answers by itself where nobody is counted.

#[path = "personality/mod.rs"]
mod personality;

use guest::layout::FAST_ENTRY;
use personality::{Event, Rig, calls};
use vmm::addr::UserAddr;
use vmm::pico::Posting;
use vmm::trap::Registers;

const _: () = assert!(FAST_ENTRY == 0_u64.wrapping_sub(0x62a3_a000) && calls::WAKE == 26);

// Wakes the word at R12 as R13 says, RBX times, without SYSCALL. R15 gets each result, and what became of registers and flags.
payload!(
    wakes,
    "xor r15d, r15d",
    "2:",
    "mov rdi, r12",
    "mov rsi, r13",
    "mov edx, 1",
    "mov eax, 26",
    "std",
    "stc",
    "lea rcx, [rip + 77f]",
    "mov r11, -0x62a3a000",
    "jmp r11",
    "77:",
    "pushfq",
    "cld",
    "pop rcx",
    "and ecx, 0x401",
    "xor ecx, 0x401",
    "or r15, rcx",
    "or r15, rax",
    "xor rdi, r12",
    "or r15, rdi",
    "xor rsi, r13",
    "or r15, rsi",
    "xor edx, 1",
    "or r15, rdx",
    "dec rbx",
    "jnz 2b",
    "mov rdi, r15",
    "mov eax, 7",
    "syscall",
    "xor edi, edi",
    "xor eax, eax",
    "syscall",
);

const ROUNDS: u64 = 1000;
const WORD: u64 = 0x7fff_1234_5670;
/// FUTEX_WAKE | FUTEX_PRIVATE_FLAG.
const WAKE: u64 = 129;

/// Wakes a word; returns what the calls returned (1 if any was made) and how many were answered in the guest.
fn wake(rig: &Rig, address: u64, how: u64) -> (u64, u64) {
    let before = rig.host.call_paths().answered;
    let (process, _) =
        rig.start_with(wakes(), |registers| Registers { rbx: ROUNDS, r12: address, r13: how, ..registers });
    rig.script.wait_for(|events| matches!(events.last(), Some(Event::ProcessEnd(_))));
    drop(process);
    let returned = *rig.script.notes().last().expect("what the program noted");
    (returned, rig.host.call_paths().answered - before)
}

#[test]
fn a_wake_is_answered_where_nobody_waits() {
    let Some(rig) = Rig::open_posting(None, Posting::Never) else { return };
    assert_eq!(wake(&rig, WORD, WAKE), (0, ROUNDS));
}

#[test]
fn a_wake_is_made_while_somebody_waits() {
    let Some(rig) = Rig::open_posting(None, Posting::Never) else { return };
    let waiting = rig.host.memory().waiters().count(calls::SALT, UserAddr(WORD));
    assert_eq!(wake(&rig, WORD, WAKE), (1, 0));
    drop(waiting);
}

#[test]
fn what_is_no_such_wake_is_made() {
    for (address, how) in [(WORD, 1), (WORD, 128), (WORD + 2, WAKE), (1 << 47, WAKE), (WORD, WAKE | 256)] {
        let Some(rig) = Rig::open_posting(None, Posting::Never) else { return };
        assert_eq!(wake(&rig, address, how), (1, 0), "{address:#x}, {how}");
    }
}
