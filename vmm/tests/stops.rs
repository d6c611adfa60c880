//! What is done to threads from outside: they are stopped wherever they are, looked at, and go on as if nothing had been.

#[path = "personality/mod.rs"]
mod personality;

use personality::{CODE, DATA, Event, Rig, STACK, UNHANDLED};
use vmm::addr::UserAddr;
use vmm::pico::walk::Found;
use vmm::pico::{Chance, ExitReason, NotStopped, Process, Stopped, Thread, ThreadStatus};
use vmm::trap::Registers;

payload!(spin, "2:", "inc qword ptr [0x500000]", "jmp 2b");

fn progress(process: &Process) -> u32 {
    process.space().load_u32(UserAddr(DATA)).expect("the data is mapped")
}

/// Waits until a spinning process has made progress.
fn wait_progress(process: &Process) {
    let before = progress(process);
    while progress(process) == before {
        std::thread::yield_now();
    }
}

fn ended(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::ProcessEnd(_)))
}

#[test]
fn a_suspended_thread_stands_still_until_it_is_resumed() {
    let Some(rig) = Rig::open(None) else { return };
    let (process, thread) = rig.start(spin());
    assert_eq!(thread.wait_stopped(), Err(NotStopped));
    for _ in 0..100 {
        wait_progress(&process);
        thread.suspend();
        thread.suspend();
        assert_eq!(thread.wait_stopped(), Ok(Stopped::Parked));
        assert_eq!(thread.status(), ThreadStatus::Suspended);
        let before = progress(&process);
        thread.resume();
        // One suspension is left.
        assert_eq!((thread.wait_stopped(), progress(&process)), (Ok(Stopped::Parked), before));
        thread.resume();
    }
    wait_progress(&process);
    process.terminate();
    rig.script.wait_for(ended);
    assert_eq!((thread.wait_stopped(), thread.status()), (Ok(Stopped::Ended), ThreadStatus::Ended));
}

payload!(
    waits,
    // Waits in the provider until a process has ended, then says so.
    "mov ebx, 0x1234",
    "mov edi, 1",
    "mov eax, 12",
    "syscall",
    "mov edi, ebx",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
);

payload!(ends, "xor eax, eax", "syscall");

/// Waits until the provider serves a thread.
fn wait_in_provider(thread: &Thread) {
    while thread.status() != ThreadStatus::InProvider {
        std::thread::yield_now();
    }
}

#[test]
fn a_thread_that_waits_in_its_provider_is_stopped_as_it_is() {
    let Some(rig) = Rig::open(None) else { return };
    let (process, thread) = rig.start(waits());
    wait_in_provider(&thread);
    process.suspend();
    assert_eq!(thread.wait_stopped(), Ok(Stopped::InProvider));
    // The registers it trapped with can be read, and not changed.
    let trapped = thread.trapped_registers().unwrap();
    assert_eq!((trapped.rbx, trapped.rax, trapped.rdi, trapped.rsp), (0x1234, 12, 1, STACK - 256));
    assert_eq!(thread.set_registers(trapped), Err(NotStopped));
    // What it waits for comes, and it parks instead of going on.
    rig.start(ends());
    while thread.status() != ThreadStatus::Suspended {
        std::thread::yield_now();
    }
    assert!(rig.script.notes().is_empty());
    assert_eq!(thread.registers().unwrap().rax, 0);
    process.resume();
    rig.script.wait_for(|events| events.contains(&Event::Note(0x1234)));
}

#[test]
fn a_thread_made_in_a_suspended_process_waits_for_its_resumption() {
    let Some(rig) = Rig::open(None) else { return };
    let (process, first) = rig.start(spin());
    process.suspend();
    let registers = Registers { rip: CODE, rsp: STACK - 512, ..Registers::default() };
    let second = rig.spawn(&process, registers).unwrap();
    for thread in [&first, &second] {
        assert_eq!(thread.wait_stopped(), Ok(Stopped::Parked));
    }
    let before = progress(&process);
    assert!(process.is_suspended() && second.is_suspended());
    assert_eq!((second.registers().unwrap().rip, progress(&process)), (CODE, before));
    process.resume();
    assert!(!process.is_suspended() && !second.is_suspended());
    wait_progress(&process);
    // One too many changes nothing.
    process.resume();
    process.terminate();
    rig.script.wait_for(ended);
}

#[test]
fn suspensions_and_resumptions_of_several_at_once_cancel_out() {
    let Some(rig) = Rig::open(None) else { return };
    let (process, thread) = rig.start(spin());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    thread.suspend();
                    thread.resume();
                }
            });
        }
    });
    assert!(!thread.is_suspended());
    wait_progress(&process);
    process.terminate();
    rig.script.wait_for(ended);
}

#[test]
fn a_suspended_thread_can_be_ended() {
    let Some(rig) = Rig::open(None) else { return };
    let (process, thread) = rig.start(spin());
    thread.suspend();
    assert_eq!(thread.wait_stopped(), Ok(Stopped::Parked));
    process.request_termination();
    rig.script.wait_for(|events| events.contains(&Event::ProcessEnd(ExitReason::Terminated)));
    assert_eq!(thread.wait_stopped(), Ok(Stopped::Ended));
}

payload!(jumps_off, "mov rax, 0x6f00000000", "jmp rax");

#[test]
fn an_exception_that_is_never_handled_ends_the_process() {
    let Some(rig) = Rig::open(None) else { return };
    assert_eq!(UNHANDLED, 0x6f_0000_0000);
    let (process, first) = rig.start(spin());
    process.space().map_anonymous(personality::range(CODE + 0x1000, 0x1000), personality::access(5), false).unwrap();
    process.space().poke(UserAddr(CODE + 0x1000), jumps_off()).unwrap();
    let registers = Registers { rip: CODE + 0x1000, rsp: STACK - 512, ..Registers::default() };
    rig.spawn(&process, registers).unwrap();
    rig.script.wait_for(ended);
    let events = rig.script.events();
    assert_eq!(events[..2], [Event::Unhandled(Chance::First), Event::Unhandled(Chance::Second)]);
    // The one that raised it, and the one that went with it.
    for reason in [ExitReason::Unhandled, ExitReason::Terminated] {
        assert_eq!(events.iter().filter(|event| **event == Event::ThreadEnd(reason)).count(), 1, "{events:?}");
    }
    assert_eq!(first.wait_stopped(), Ok(Stopped::Ended));
}

payload!(
    deep,
    "push rbp",
    "mov rbp, rsp",
    "call 3f",
    "2:",
    "jmp 2b",
    "3:",
    "push rbp",
    "mov rbp, rsp",
    "mov edi, 1",
    "mov eax, 12",
    "syscall",
    "xor eax, eax",
    "syscall",
);

#[test]
fn the_stacks_of_all_threads_are_walked_wherever_they_are() {
    let Some(rig) = Rig::open(None) else { return };
    // One thread waits in the provider two calls deep, another computes.
    let (process, waiting) = rig.start(deep());
    wait_in_provider(&waiting);
    let spinning = rig.spawn(&process, Registers { rip: CODE + 9, rsp: STACK - 4096, ..Registers::default() }).unwrap();
    let stacks = process.walk_stacks();
    assert_eq!(stacks.iter().map(|stack| stack.thread).collect::<Vec<_>>(), [waiting.id(), spinning.id()]);
    assert_eq!((stacks[0].stopped, stacks[1].stopped), (Stopped::InProvider, Stopped::Parked));
    assert!(stacks.iter().all(|stack| stack.name == b"actor" && stack.number > 0));
    let frames: Vec<(u64, Found)> = stacks[0].frames.iter().map(|frame| (frame.address.0, frame.found)).collect();
    assert_eq!(frames[0], (waiting.trapped_registers().unwrap().rip, Found::Registers));
    // The call's return address, behind which it would spin.
    assert_eq!(frames[1..], [(CODE + 9, Found::FramePointer)]);
    assert_eq!(stacks[1].frames[0].address.0, CODE + 9);
    assert!(!process.is_suspended());
    rig.start(ends());
    rig.script.wait_for(|events| events.contains(&Event::ThreadEnd(ExitReason::Exited)));
    process.terminate();
}
