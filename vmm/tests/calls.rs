//! System calls that take no trap: answers that lie ready, posts, and whatever interrupts them.

#[path = "personality/mod.rs"]
mod personality;

use guest::layout::{CALL_PAGE, FAST_PAGE, PAGE};
use personality::{Event, Rig, calls, run};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vmm::pico::{Posting, Stopped, Thread};
use vmm::trap::Registers;

// A call without SYSCALL: RAX is its number, RCX where it returns to.
macro_rules! fast {
    () => {
        "lea rcx, [rip + 77f]\nmov r11, -0x62a3a000\njmp r11\n77:"
    };
}
const _: () = assert!(guest::layout::FAST_ENTRY == 0_u64.wrapping_sub(0x62a3_a000));

// R15 collects differences; the result must be in R14 and DF and CF as they were.
macro_rules! check {
    () => {
        "pushfq\ncld\npop rdx\nand edx, 0x401\nxor edx, 0x401\nor r15, rdx\nxor rax, r14\nor r15, rax\nxor rdi, 7\nor r15, rdi\nxor rsi, 11\nor r15, rsi"
    };
}

// Notes the differences, and ends.
macro_rules! done {
    () => {
        "mov rdi, r15\nmov eax, 7\nsyscall\nxor edi, edi\nxor eax, eax\nsyscall"
    };
}

payload!(
    answered,
    "xor r15d, r15d",
    "mov r14, 0x7bcdef0123456789",
    "mov qword ptr [rsp - 8], 0x5a5a",
    "mov ebx, 1000",
    "2:",
    "mov edi, 7",
    "mov esi, 11",
    "mov eax, 20",
    "std",
    "stc",
    fast!(),
    check!(),
    "mov edi, 7",
    "mov esi, 11",
    "mov eax, 20",
    "std",
    "stc",
    "syscall",
    check!(),
    "dec ebx",
    "jnz 2b",
    done!(),
);

#[test]
fn an_answer_that_lies_ready_takes_no_trap() {
    let Some(rig) = Rig::open(None) else { return };
    rig.run(answered());
    assert_eq!(rig.script.notes(), [0]);
    assert!(rig.host.call_paths().answered >= 1000, "{:?}", rig.host.call_paths());
}

payload!(
    posted, // RBX: how often
    "xor r15d, r15d",
    "mov r14d, 32",
    "2:",
    "mov edi, 7",
    "mov esi, 11",
    "mov eax, 21",
    "std",
    "stc",
    fast!(),
    check!(),
    "mov edi, 7",
    "mov esi, 11",
    "mov eax, 22",
    "std",
    "stc",
    fast!(),
    check!(),
    "dec ebx",
    "jnz 2b",
    done!(),
);

/// How often the loops of [`posted`], which makes two calls, and [`kicked`] run: fewer times where each post is waited for,
/// since on one processor that takes until the next turn of the host's scheduler.
fn rounds(posting: Posting) -> u64 {
    if posting == Posting::Always { 250 } else { 4000 }
}

/// Starts [`posted`].
fn start_posted(rig: &Rig, posting: Posting) -> Arc<Thread> {
    rig.start_with(posted(), |registers| Registers { rbx: rounds(posting), ..registers }).1
}

/// Runs [`posted`], whose calls must all be made once, and returns how many were made by post.
fn run_posted(posting: Posting) -> Option<u64> {
    let rig = Rig::open_posting(None, posting)?;
    start_posted(&rig, posting);
    rig.script.wait_for(|events| matches!(events.last(), Some(Event::ProcessEnd(_))));
    assert_eq!(rig.script.notes(), [0]);
    let posted = rig.script.posted.load(Ordering::Relaxed);
    assert_eq!(posted + rig.script.trapped.load(Ordering::Relaxed), 2 * rounds(posting));
    assert_eq!(rig.host.call_paths().posted, posted);
    Some(posted)
}

#[test]
fn each_posted_call_is_served_once() {
    // A program may be over before the attendant gets a processor for the first time.
    assert!((0..100).any(|_| run_posted(Posting::Always) != Some(0)));
}

#[test]
fn without_posting_each_call_traps() {
    assert!(matches!(run_posted(Posting::Never), None | Some(0)));
}

#[test]
fn posts_that_come_and_go_lose_no_call() {
    run_posted(Posting::Flapping);
}

#[test]
fn posts_may_be_attended_to_or_not() {
    run_posted(Posting::Auto);
}

#[test]
fn a_kick_finds_each_call_made_or_not_made() {
    for posting in [Posting::Always, Posting::Flapping, Posting::Never] {
        let Some(rig) = Rig::open_posting(None, posting) else { return };
        let thread = start_posted(&rig, posting);
        let all = 2 * rounds(posting);
        let calls = || rig.script.posted.load(Ordering::Relaxed) + rig.script.trapped.load(Ordering::Relaxed);
        while calls() < all {
            // It must get on in between: kicked at each entry it would never make a call.
            let before = calls();
            thread.kick();
            while calls() == before && before < all {
                std::thread::yield_now();
            }
        }
        rig.script.wait_for(|events| matches!(events.last(), Some(Event::ProcessEnd(_))));
        assert_eq!((calls(), rig.script.notes()), (all, vec![0]), "{posting:?}");
    }
}

payload!(
    kicked, // RBX: how often
    "xor r15d, r15d",
    "2:",
    "mov edi, 7",
    "mov esi, 11",
    "mov eax, 23",
    fast!(),
    "xor rax, 32",
    "or r15, rax",
    "mov eax, 24",
    "syscall",
    "or r15, rax",
    "dec ebx",
    "jnz 2b",
    done!(),
);

#[test]
fn what_a_call_kicks_its_thread_for_comes_before_the_result() {
    for posting in [Posting::Always, Posting::Flapping, Posting::Never] {
        let Some(rig) = Rig::open_posting(None, posting) else { return };
        rig.start_with(kicked(), |registers| Registers { rbx: rounds(posting), ..registers });
        rig.script.wait_for(|events| matches!(events.last(), Some(Event::ProcessEnd(_))));
        assert_eq!(rig.script.notes(), [0], "{posting:?}");
    }
}

#[test]
fn a_stopped_thread_never_stands_in_the_fast_path() {
    let Some(rig) = Rig::open_posting(None, Posting::Always) else { return };
    let thread = start_posted(&rig, Posting::Always);
    let mut stops = 0;
    loop {
        thread.suspend();
        match thread.wait_stopped() {
            Ok(Stopped::Parked) => {
                let registers = thread.registers().expect("a stopped thread");
                assert!(!(FAST_PAGE..FAST_PAGE + PAGE).contains(&registers.rip), "{registers:x?}");
                assert!(!(CALL_PAGE..CALL_PAGE + PAGE).contains(&registers.rsp), "{registers:x?}");
                stops += 1;
            }
            Ok(Stopped::Ended) => break,
            _ => {}
        }
        thread.resume();
    }
    assert_eq!(rig.script.notes(), [0], "after {stops} stops");
}

// Posts by itself what it likes: a call that ends the thread, one that does not exist, and one whose answer it does not
// wait for. Then its calls are as right as before.
payload!(
    forged,
    "mov r8, -0x62a34000",
    "xor r15d, r15d",
    "mov ebx, 2000",
    "2:",
    "mov dword ptr [r8], 0",
    "mov qword ptr [r8 + 8], 0",
    "mov dword ptr [r8], 1",
    "mov qword ptr [r8 + 8], -1",
    "mov dword ptr [r8], 1",
    "mov qword ptr [r8 + 8], 21",
    "mov dword ptr [r8], 1",
    "mov dword ptr [r8], 3",
    "mov qword ptr [r8 + 0x80], 1",
    "mov edi, 7",
    "mov esi, 11",
    "mov eax, 22",
    "syscall",
    "cmp rax, 32",
    "setne al",
    "movzx eax, al",
    "or r15d, eax",
    "dec ebx",
    "jnz 2b",
    done!(),
);
const _: () = assert!(CALL_PAGE == 0_u64.wrapping_sub(0x62a3_4000));

#[test]
fn a_program_that_forges_posts_harms_no_call_by_trap() {
    for posting in [Posting::Always, Posting::Flapping] {
        let Some(rig) = Rig::open_posting(None, posting) else { return };
        rig.run(forged());
        let notes = rig.script.notes();
        assert_eq!(notes.len(), 1, "{posting:?}: the thread ended where it asked for it");
    }
}

// The answers page can be read, and not be written; the fast path's code neither be written nor be left out of.
payload!(
    intruder,
    "lea rdi, [rip + 9f]",
    "mov eax, 4",
    "syscall",
    "mov r14d, 4",
    "mov r8, -0x62a35000",
    "mov r9, [r8]",
    "mov dword ptr [r8], r9d", // 3 bytes and a nop
    "nop",
    "mov r8, -0x62a3a000",
    "mov dword ptr [r8], r9d",
    "nop",
    "xor edi, edi",
    "xor eax, eax",
    "syscall",
    "9:",
    "mov edi, r14d",
    "mov eax, 8",
    "syscall",
);

#[test]
fn the_pages_of_the_fast_path_are_as_writable_as_they_should_be() {
    let Some(script) = run(intruder()) else { return };
    let faults: Vec<_> = script.exceptions().iter().map(|&(vector, _, address, _)| (vector, address)).collect();
    assert_eq!(faults, [(14, guest::layout::ANSWERS_PAGE), (14, FAST_PAGE)]);
}

#[test]
fn the_table_of_calls_says_how_each_is_made() {
    use vmm::pico::Way;
    let Some(rig) = Rig::open(None) else { return };
    let (_process, thread) = rig.start(posted());
    let table = thread.calls();
    let ways = [calls::ANSWERED, calls::POSTED, 5, 479, 480, u64::MAX];
    table.set(479, Way::Answer(u64::MAX >> 1));
    table.set(480, Way::Post);
    let expected = [Way::Answer(calls::ANSWER), Way::Post, Way::Trap, Way::Answer(u64::MAX >> 1), Way::Trap, Way::Trap];
    assert_eq!(ways.map(|number| table.way(number)), expected);
    table.trap_all(true);
    assert_eq!(ways.map(|number| table.way(number)), [Way::Trap; 6]);
    table.trap_all(false);
    assert_eq!(ways.map(|number| table.way(number)), expected);
}
