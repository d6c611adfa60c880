//! Changes of a thread's mask that the guest makes by itself, and whatever interrupts them.

#[path = "personality/mod.rs"]
mod personality;

use guest::layout::{FAST_ENTRY, MASKABLE};
use personality::{DATA, Event, HANDED, Rig, calls};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vmm::pico::{Posting, Thread, Way};
use vmm::trap::Registers;

/// A word in the payloads' data.
const WORD: u64 = 0x50_0040;
const _: () = assert!(WORD == DATA + 0x40 && HANDED == 0x50_0100 && calls::MASK == 25);

// Calls without SYSCALL, as in the tests of calls.
macro_rules! fast {
    () => {
        "lea rcx, [rip + 77f]\nmov r11, -0x62a3a000\njmp r11\n77:"
    };
}
const _: () = assert!(FAST_ENTRY == 0_u64.wrapping_sub(0x62a3_a000));

macro_rules! done {
    () => {
        "mov rdi, r15\nmov eax, 7\nsyscall\nxor edi, edi\nxor eax, eax\nsyscall"
    };
}

// Sets the mask from a word that gets what it was: R14 knows what must come out. RBX: how often; R13: whether by SYSCALL, too.
payload!(
    exchanged,
    "xor r15d, r15d",
    "xor r14d, r14d",
    "mov r12, 0x500040",
    "mov r10d, 8",
    "2:",
    "mov [r12], rbx",
    "mov edi, 2",
    "mov rsi, r12",
    "mov rdx, r12",
    "mov eax, 25",
    "stc",
    fast!(),
    "setnc cl",
    "movzx ecx, cl",
    "or r15, rcx",
    "or r15, rax",
    "mov rax, [r12]",
    "xor rax, r14",
    "or r15, rax",
    "mov r14, rbx",
    "and r14, -0x40101",
    // Now as SYSCALL, if R13 asks for it: adds nothing.
    "test r13, r13",
    "jz 3f",
    "mov [r12], r14",
    "xor edi, edi",
    "mov rsi, r12",
    "mov rdx, r12",
    "mov eax, 25",
    "syscall",
    "or r15, rax",
    "mov rax, [r12]",
    "xor rax, r14",
    "or r15, rax",
    "3:",
    "dec rbx",
    "jnz 2b",
    done!(),
);
const _: () = assert!(MASKABLE == 0_u64.wrapping_sub(0x4_0101));

fn start_exchanged(rig: &Rig, rounds: u64, by_syscall: bool) -> Arc<Thread> {
    rig.start_with(exchanged(), |registers| Registers { rbx: rounds, r13: by_syscall.into(), ..registers }).1
}

fn ended(events: &[Event]) -> bool {
    matches!(events.last(), Some(Event::ProcessEnd(_)))
}

#[test]
fn the_guest_changes_its_mask_without_anybody() {
    const ROUNDS: u64 = 0x5000;
    let Some(rig) = Rig::open_posting(None, Posting::Never) else { return };
    start_exchanged(&rig, ROUNDS, true);
    rig.script.wait_for(ended);
    assert_eq!(rig.script.notes(), [0]);
    let (answered, trapped) = (rig.host.call_paths().answered, rig.script.trapped.load(Ordering::Relaxed));
    assert_eq!(answered + trapped, 2 * ROUNDS, "{trapped} by trap");
    // Where SYSCALL leads into ring 0 it traps.
    assert!(answered >= ROUNDS, "{trapped} by trap");
}

#[test]
fn a_kick_finds_each_change_made_or_not_made() {
    let Some(rig) = Rig::open_posting(None, Posting::Never) else { return };
    let thread = start_exchanged(&rig, 0x40_0000, false);
    let kicked = || rig.script.kicked.load(Ordering::Relaxed);
    while !ended(&rig.script.events()) {
        let before = kicked();
        thread.kick();
        while kicked() == before && !ended(&rig.script.events()) {
            std::thread::yield_now();
        }
    }
    assert_eq!(rig.script.notes(), [0], "after {} kicks", kicked());
}

// Each change has an address that is none: nothing is made of it but by trap, and the registers are as they were.
payload!(
    bad,
    "xor r15d, r15d",
    "mov r10d, 8",
    "mov r12, 0x500040",
    "mov qword ptr [r12], 6",
    "mov r13, r12",
    "mov r14, 0x600000",
    "mov edi, 2",
    "2:",
    "mov rsi, r13",
    "mov rdx, r14",
    "mov eax, 25",
    "std",
    fast!(),
    "pushfq",
    "cld",
    "pop rbx",
    "and ebx, 0x400",
    "xor ebx, 0x400",
    "or r15, rbx",
    "inc rax",
    "or r15, rax",
    "xor rsi, r13",
    "or r15, rsi",
    "xor rdx, r14",
    "or r15, rdx",
    // An address that nothing is mapped at, the answers page, one that is not canonical; for either.
    "cmp r14, r12",
    "je 3f",
    "mov rax, -0x62a35000",
    "cmp r14, rax",
    "mov r14, rax",
    "jne 2b",
    "mov r14, r12",
    "mov r13, 0x600000",
    "jmp 2b",
    "3:",
    "mov rax, 0x8000000000000000",
    "cmp r13, rax",
    "mov r13, rax",
    "jne 2b",
    done!(),
);

#[test]
fn a_bad_address_is_found_by_trap() {
    let Some(rig) = Rig::open_posting(None, Posting::Never) else { return };
    rig.run(bad());
    assert_eq!(rig.script.notes(), [0]);
    assert_eq!((rig.script.trapped.load(Ordering::Relaxed), rig.script.exceptions()), (4, vec![]));
}

// Blocks, unblocks, and waits until it has got what was held for it. RBX: how often.
payload!(
    waiting,
    "xor r15d, r15d",
    "mov r12, 0x500040",
    "mov r13, 0x500100",
    "mov r10d, 8",
    "mov r14d, 1",
    "mov qword ptr [r12], 1",
    "2:",
    "mov ebp, 20",
    "3:",
    "xor edi, edi",
    "mov rsi, r12",
    "xor edx, edx",
    "mov eax, 25",
    fast!(),
    "or r15, rax",
    "mov edi, 1",
    "mov rsi, r12",
    "xor edx, edx",
    "mov eax, 25",
    fast!(),
    "or r15, rax",
    "dec ebp",
    "jnz 3b",
    "4:",
    "pause",
    "cmp [r13], r14",
    "jb 4b",
    "inc r14",
    "dec rbx",
    "jnz 2b",
    done!(),
);

#[test]
fn what_is_held_is_handed_over_once_it_is_unblocked() {
    const ROUNDS: u64 = 400;
    let Some(rig) = Rig::open_posting(None, Posting::Never) else { return };
    let thread = rig.start_with(waiting(), |registers| Registers { rbx: ROUNDS, ..registers }).1;
    for round in 1..=ROUNDS {
        for _ in 0..round * 7 % 500 {
            std::hint::spin_loop();
        }
        rig.script.held.store(round, Ordering::SeqCst);
        thread.calls().set(calls::MASK, Way::Trap);
        if thread.calls().mask() & 1 == 0 {
            thread.kick();
        }
        // It waits in user mode, and makes no call: were this lost, it would wait for ever.
        while rig.script.handed.load(Ordering::SeqCst) != round {
            std::thread::yield_now();
        }
    }
    rig.script.wait_for(ended);
    assert_eq!(rig.script.notes(), [0]);
}

#[test]
fn a_mask_is_the_threads_whoever_runs_it() {
    let Some(rig) = Rig::open(None) else { return };
    let thread = start_exchanged(&rig, 5, false);
    rig.script.wait_for(ended);
    assert_eq!(thread.calls().mask(), 1, "the last that it set");
    thread.calls().set_mask(7);
    assert_eq!(thread.calls().mask(), 7);
    assert_eq!(rig.script.notes(), [0]);
}
