//! Kicks, suspension, termination, leases and address spaces: what other threads do to a pico thread.

#[path = "personality/mod.rs"]
mod personality;

use personality::{DATA, Event, Rig};
use vmm::addr::UserAddr;
use vmm::pico::{ExitReason, Thread};

payload!(spin, "2:", "inc qword ptr [0x500000]", "jmp 2b");

/// How many kicks reached the provider.
fn kicks_seen(events: &[Event]) -> usize {
    events.iter().filter(|event| **event == Event::Kick).count()
}

#[test]
fn no_kick_of_a_spinning_thread_is_lost() {
    let Some(rig) = Rig::open(None) else { return };
    let (_process, thread) = rig.start(spin());
    for round in 1..=2000 {
        thread.kick();
        // A lost kick would make this wait for ever.
        rig.script.wait_for(|events| kicks_seen(events) >= round);
    }
    thread.terminate();
    rig.script.wait_for(|events| events.contains(&Event::ProcessEnd(ExitReason::Terminated)));
}

payload!(busy_calls, "2:", "mov eax, 77", "syscall", "inc qword ptr [0x500000]", "jmp 2b");

#[test]
fn kicks_between_system_calls_leave_the_program_as_it_was() {
    let Some(rig) = Rig::open(None) else { return };
    let (process, thread) = rig.start(busy_calls());
    let space = process.space();
    for _ in 0..2000 {
        thread.kick();
        std::thread::yield_now();
    }
    let before = space.load_u32(UserAddr(DATA)).unwrap();
    // It still makes progress.
    while space.load_u32(UserAddr(DATA)).unwrap() == before {
        std::thread::yield_now();
    }
    process.terminate();
    rig.script.wait_for(|events| events.contains(&Event::ProcessEnd(ExitReason::Terminated)));
    assert!(rig.script.exceptions().is_empty(), "{:?}", rig.script.exceptions());
}

payload!(
    counts_to_a_million,
    "mov ecx, 50000000",
    "xor edi, edi",
    "2:",
    "inc edi",
    "dec ecx",
    "jnz 2b",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall"
);

#[test]
fn kicks_do_not_disturb_a_computation() {
    let Some(rig) = Rig::open(None) else { return };
    let (_process, thread) = rig.start(counts_to_a_million());
    // One kick after the other: a storm of them would let nothing run on a slow machine.
    for seen in 1..=100 {
        thread.kick();
        rig.script.wait_for(|events| kicks_seen(events) >= seen || events.contains(&Event::Note(50_000_000)));
    }
    rig.script.wait_for(|events| events.contains(&Event::Note(50_000_000)));
    assert_eq!(rig.script.notes(), [50_000_000]);
    assert!(kicks_seen(&rig.script.events()) > 0);
}

fn wait_stopped(thread: &Thread) {
    while thread.registers().is_err() {
        std::thread::yield_now();
    }
}

payload!(
    parked_state,
    "mov eax, 0x600d",
    "vmovd xmm5, eax",
    "mov ecx, 0x500400",
    "wrfsbase rcx",
    "mov dword ptr [0x500010], 1",
    "2:",
    "pause",
    "cmp rbx, 7",
    "jne 2b",
    "vmovd edi, xmm5",
    "mov eax, 7",
    "syscall",
    "rdfsbase rdi",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
);

#[test]
fn a_suspended_thread_shows_its_registers_and_takes_new_ones() {
    let Some(rig) = Rig::open(None) else { return };
    let (process, thread) = rig.start(parked_state());
    let space = process.space();
    while space.load_u32(UserAddr(DATA + 16)).unwrap() == 0 {
        std::thread::yield_now();
    }
    thread.suspend();
    wait_stopped(&thread);
    let mut registers = thread.registers().unwrap();
    assert_eq!(registers.rcx, DATA + 0x400);
    assert_eq!(thread.segment_bases().unwrap().0, DATA + 0x400);
    registers.rbx = 7;
    thread.set_registers(registers).unwrap();
    thread.resume();
    rig.script.wait_for(|events| events.contains(&Event::ProcessEnd(ExitReason::Exited)));
    assert_eq!(rig.script.notes(), [0x600d, DATA + 0x400]);
}

payload!(
    many_threads,
    // Starts rdi threads at the second part, each with its number, and ends.
    "mov rbx, rdi",
    "2:",
    "lea rdi, [rip + 8f]",
    "mov rsi, rbx",
    "shl rsi, 8",
    "add rsi, 0x500000",
    "mov rdx, rbx",
    "mov eax, 5",
    "syscall",
    "test rax, rax",
    "jnz 9f",
    "dec rbx",
    "jnz 2b",
    "xor eax, eax",
    "syscall",
    "9:",
    "ud2",
    // A thread: its number in all kinds of state, traps in between, then a note of the number if all is well.
    "8:",
    "mov r12, rdi",
    "vmovd xmm7, edi",
    "vpbroadcastd ymm7, xmm7",
    "lea rax, [rdi + 0x500000]",
    "wrfsbase rax",
    "mov r13d, 40",
    "3:",
    "mov eax, 77",
    "syscall",
    "mov ecx, 2000",
    "4:",
    "dec ecx",
    "jnz 4b",
    "vextracti128 xmm6, ymm7, 1",
    "vmovd eax, xmm6",
    "cmp rax, r12",
    "jne 9b",
    "rdfsbase rax",
    "sub rax, 0x500000",
    "cmp rax, r12",
    "jne 9b",
    "dec r13d",
    "jnz 3b",
    "mov rdi, r12",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
);

fn run_many(vcpus: Option<usize>, count: u64) {
    let Some(rig) = Rig::open(vcpus) else { return };
    rig.start_with(many_threads(), |registers| vmm::trap::Registers { rdi: count, ..registers });
    rig.script.wait_for(|events| events.iter().any(|event| matches!(event, Event::ProcessEnd(_))));
    let mut notes = rig.script.notes();
    notes.sort_unstable();
    assert_eq!(notes, (1..=count).collect::<Vec<_>>(), "{:?}", rig.script.exceptions());
}

#[test]
fn threads_keep_their_state_on_virtual_cpus_of_their_own() {
    run_many(None, 40);
}

#[test]
fn more_threads_than_virtual_cpus_take_turns() {
    run_many(Some(3), 24);
    run_many(Some(1), 4);
}

payload!(
    spin_then_stop,
    "2:",
    "pause",
    "cmp dword ptr [0x500000], 0",
    "je 2b",
    "mov edi, 5",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall"
);

#[test]
fn a_thread_that_does_not_trap_cannot_keep_the_only_virtual_cpu() {
    let Some(rig) = Rig::open(Some(1)) else { return };
    let (first, _) = rig.start(spin_then_stop());
    let (_second, _) = rig.start(counts_to_a_million());
    rig.script.wait_for(|events| events.contains(&Event::Note(50_000_000)));
    first.space().write(UserAddr(DATA), &1_u32.to_le_bytes()).unwrap();
    rig.script.wait_for(|events| events.contains(&Event::Note(5)));
}

payload!(
    two_spaces,
    "mov [0x500000], rdi",
    "mov ecx, 2000",
    "2:",
    "mov eax, 77",
    "mov ebx, ecx",
    "syscall",
    "mov ecx, ebx",
    "mov rax, [0x500000]",
    "cmp rax, rdi",
    "jne 9f",
    "dec ecx",
    "jnz 2b",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
    "9:",
    "ud2"
);

#[test]
fn processes_do_not_see_each_others_memory() {
    let Some(rig) = Rig::open(None) else { return };
    let number = |value| move |registers| vmm::trap::Registers { rdi: value, ..registers };
    rig.start_with(two_spaces(), number(111));
    rig.start_with(two_spaces(), number(222));
    let ended = |events: &[Event]| events.iter().filter(|event| matches!(event, Event::ProcessEnd(_))).count() == 2;
    rig.script.wait_for(ended);
    let mut notes = rig.script.notes();
    notes.sort_unstable();
    assert_eq!(notes, [111, 222], "{:?}", rig.script.events());
}

#[test]
fn a_worker_is_clean_for_its_next_thread() {
    let Some(rig) = Rig::open(Some(2)) else { return };
    // One direct worker: both processes run on the same virtual CPU, one after the other.
    rig.run(parked_state_without_wait());
    rig.run(looks_at_fresh_state());
    assert_eq!(rig.script.notes(), [0, 0, 0x37f, 0x1f80]);
}

payload!(
    parked_state_without_wait,
    "mov eax, 0x600d",
    "vmovd xmm5, eax",
    "mov ecx, 0x500400",
    "wrfsbase rcx",
    "mov dword ptr [rsp - 8], 0x1fa0",
    "ldmxcsr [rsp - 8]",
    "xor eax, eax",
    "syscall",
);

payload!(
    looks_at_fresh_state,
    "vmovd edi, xmm5",
    "mov eax, 7",
    "syscall",
    "rdfsbase rdi",
    "mov eax, 7",
    "syscall",
    "xor edi, edi",
    "fnstcw [rsp - 8]",
    "movzx edi, word ptr [rsp - 8]",
    "mov eax, 7",
    "syscall",
    "stmxcsr [rsp - 8]",
    "mov edi, [rsp - 8]",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
);

#[test]
fn dropping_the_host_ends_running_threads() {
    let Some(rig) = Rig::open(None) else { return };
    let (process, _) = rig.start(spin());
    let script = rig.script.clone();
    drop(process);
    drop(rig);
    let ended = |event: &Event| *event == Event::ProcessEnd(ExitReason::Terminated);
    assert!(script.events().iter().any(ended), "{:?}", script.events());
}

#[test]
fn unmapping_under_a_running_thread_stops_it_at_once() {
    let Some(rig) = Rig::open(None) else { return };
    let (process, _thread) = rig.start(spin());
    let space = process.space();
    while space.load_u32(UserAddr(DATA)).unwrap() == 0 {
        std::thread::yield_now();
    }
    let range = vmm::addr::UserRange::new(UserAddr(DATA), 4096).unwrap();
    space.unmap(range);
    // The thread has no handler, so its first store after the unmap ends it.
    rig.script.wait_for(|events| events.iter().any(|event| matches!(event, Event::ProcessEnd(_))));
    let [(14, _, DATA, _)] = rig.script.exceptions()[..] else { panic!("{:?}", rig.script.events()) };
}
