//! The second personality in both forms, in Rust and as a signed shared object written in C: each test runs the same payload
//! under both, on the same host code, and expects the same.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is the test's failure")]

#[path = "foreign/mod.rs"]
mod foreign;
#[path = "personality/mod.rs"]
mod personality;

use foreign::ForeignRig;
use personality::{CODE, DATA, Event, FORKED, Rig, STACK, Script};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vmm::addr::UserAddr;
use vmm::pico::walk::Found;
use vmm::pico::{
    Activity, Chance, ExitReason, HandleError, Host, Process, ProcessAccess, Stopped, Thread, ThreadAccess,
};
use vmm::protect::Failure;

/// A host with the personality in one of its forms.
enum Form {
    Rust(Rig),
    Object(ForeignRig),
}

impl Form {
    fn script(&self) -> &Arc<Script> {
        match self {
            Self::Rust(rig) => &rig.script,
            Self::Object(rig) => &rig.recorder.script,
        }
    }

    fn host(&self) -> &Host {
        match self {
            Self::Rust(rig) => &rig.host,
            Self::Object(rig) => &rig.host,
        }
    }

    /// Starts a process with a payload.
    fn start(&self, payload: &[u8]) {
        match self {
            Self::Rust(rig) => drop(rig.start(payload)),
            Self::Object(rig) => rig.start(payload, 0),
        }
    }

    /// Starts a process with a payload that runs until somebody interferes, and returns it with its thread.
    fn start_lasting(&self, payload: &[u8]) -> (Arc<Process>, Arc<Thread>) {
        match self {
            Self::Rust(rig) => rig.start(payload),
            Self::Object(rig) => {
                rig.start(payload, 0);
                rig.found()
            }
        }
    }

    /// Waits until so many processes have ended.
    fn wait_ended(&self, count: usize) {
        let is_end = |event: &&Event| matches!(event, Event::ProcessEnd(_));
        self.script().wait_for(|events| events.iter().filter(is_end).count() >= count);
    }

    /// Runs a payload until as many processes have ended.
    fn run(&self, payload: &[u8], processes: usize) -> Vec<Event> {
        self.start(payload);
        self.wait_ended(processes);
        self.script().events()
    }
}

/// Makes two tests of one.
macro_rules! in_both_forms {
    ($(fn $name:ident($form:ident) $body:block)+) => {
        $(mod $name {
            use super::*;

            fn check($form: &Form) $body

            #[test]
            fn in_rust() {
                let Some(rig) = Rig::open(None) else { return };
                check(&Form::Rust(rig));
            }

            #[test]
            fn as_a_shared_object() {
                let Some(rig) = ForeignRig::open("") else { return };
                check(&Form::Object(rig));
            }
        })+
    };
}

payload!(
    calls,
    "mov edi, 42",
    "mov eax, 7",
    "syscall",
    // A log of the first bytes of data.
    "mov rax, 0x6f6c6c6568",
    "mov edi, 0x500000",
    "mov [rdi], rax",
    "mov esi, 5",
    "mov eax, 1",
    "syscall",
    "mov rdi, rax",
    "mov eax, 7",
    "syscall",
    // A log of nowhere, and no such call.
    "mov edi, 0x1000",
    "mov esi, 5",
    "mov eax, 1",
    "syscall",
    "mov rdi, rax",
    "mov eax, 7",
    "syscall",
    "mov eax, 99",
    "syscall",
    "mov rdi, rax",
    "mov eax, 7",
    "syscall",
    // Memory of its own, used and taken away: a fault.
    "mov edi, 0x10000000",
    "mov esi, 0x2000",
    "mov edx, 3",
    "mov eax, 2",
    "syscall",
    "mov qword ptr [0x10001ff8], 77",
    "mov rdi, [0x10001ff8]",
    "mov eax, 7",
    "syscall",
    "mov edi, 0x10001000",
    "mov esi, 0x1000",
    "mov eax, 3",
    "syscall",
    // The registers as the provider sees them.
    "mov edi, 0x500100",
    "mov eax, 9",
    "syscall",
    "mov rdi, [0x500108]",
    "mov eax, 7",
    "syscall",
    "mov edi, 3",
    "xor eax, eax",
    "syscall",
);

payload!(
    faults,
    "lea rdi, [rip + 9f]",
    "mov eax, 4",
    "syscall",
    "xor ecx, ecx",
    "xor edx, edx",
    "div ecx",
    "ud2",
    "mov eax, 0x1000",
    "mov ebx, [rax]",
    "mov eax, 0x400008",
    "mov [rax], ebx",
    "mov edi, 1",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
    // The handler notes the vector, and goes on behind the instruction: each has two bytes.
    "9:",
    "mov eax, 7",
    "syscall",
    "mov edi, 2",
    "mov eax, 8",
    "syscall",
);

payload!(unhandled, "mov rax, 0x6f00000000", "jmp rax");

payload!(
    threads,
    "mov ebx, 8",
    "2:",
    "lea rdi, [rip + 8f]",
    "mov rsi, rbx",
    "shl rsi, 10",
    "add rsi, 0x500000",
    "mov rdx, rbx",
    "mov eax, 5",
    "syscall",
    "test rax, rax",
    "jnz 9f",
    "dec ebx",
    "jnz 2b",
    "xor eax, eax",
    "syscall",
    "9:",
    "ud2",
    // A thread: its number becomes the base of FS; a note of what it finds there, through the stack it was given.
    "8:",
    "push rdi",
    "lea rdi, [rdi + 0x500000]",
    "mov rsi, 0x600000",
    "mov eax, 6",
    "syscall",
    "rdfsbase rdi",
    "sub rdi, 0x500000",
    "pop rax",
    "cmp rax, rdi",
    "jne 9b",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
);

payload!(
    forks,
    "mov edi, 0x60000000",
    "mov esi, 0x100000",
    "mov edx, 3",
    "mov eax, 2",
    "syscall",
    "mov r14d, 1",
    "lea r15, [rip + 2f]",
    "jmp 5f",
    "2:",
    "lea rdi, [rip + 4f]",
    "mov eax, 10",
    "syscall",
    // The parent stores, and lets the child go.
    "mov r14d, 100",
    "lea r15, [rip + 3f]",
    "jmp 5f",
    "3:",
    "mov eax, 11",
    "syscall",
    "mov edi, 1",
    "mov eax, 12",
    "syscall",
    "lea r15, [rip + 8f]",
    "jmp 7f",
    // The child: what it was given, then its own.
    "4:",
    "lea r15, [rip + 2f]",
    "jmp 7f",
    "2:",
    "mov r14d, 1000",
    "lea r15, [rip + 3f]",
    "jmp 5f",
    "3:",
    "lea r15, [rip + 8f]",
    "jmp 7f",
    "8:",
    "xor eax, eax",
    "syscall",
    // Stores r14 to the first word of each page.
    "5:",
    "mov rbx, 0x60000000",
    "6:",
    "mov [rbx], r14",
    "add rbx, 4096",
    "cmp rbx, 0x60100000",
    "jb 6b",
    "jmp r15",
    // Notes the sum.
    "7:",
    "mov rbx, 0x60000000",
    "xor edi, edi",
    "6:",
    "add rdi, [rbx]",
    "add rbx, 4096",
    "cmp rbx, 0x60100000",
    "jb 6b",
    "mov eax, 7",
    "syscall",
    "jmp r15",
);

payload!(
    waits_for_seven,
    "mov dword ptr [0x500000], 1",
    "2:",
    "pause",
    "cmp rbx, 7",
    "jne 2b",
    "mov edi, 0x77",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
);

payload!(
    a_chain_of_frames,
    "lea rax, [rip + 8f]",
    "push rax",
    "xor ebp, ebp",
    "push rbp",
    "mov rbp, rsp",
    "mov dword ptr [0x500000], 1",
    "2: jmp 2b",
    "8: ud2",
);

/// Waits until a payload has stored its mark.
fn wait_mark(process: &Process) {
    let space = process.space();
    while space.load_u32(UserAddr(DATA)).unwrap() == 0 {
        std::thread::yield_now();
    }
}

in_both_forms! {
    fn system_calls_reach_the_provider_and_its_answers_the_program(form) {
        let events = form.run(calls(), 1);
        assert_eq!(form.script().log(), b"hello");
        let notes = [42, 5, u64::MAX, u64::MAX, 77, STACK - 256].map(Event::Note);
        let ends = [Event::Exit(3), Event::ThreadEnd(ExitReason::Exited), Event::ProcessEnd(ExitReason::Exited)];
        assert_eq!(events, [&notes[..], &ends].concat());
    }

    fn exceptions_reach_the_provider_which_sends_them_to_a_handler(form) {
        form.run(faults(), 1);
        // Whether the page was present is a hint only, on some hosts.
        let judge = |(vector, error, address, rip)| {
            assert!((CODE..CODE + 4096).contains(&rip));
            (vector, error & !1, address)
        };
        let seen: Vec<_> = form.script().exceptions().into_iter().map(judge).collect();
        assert_eq!(seen, [(0, 0, 0), (6, 0, 0), (14, 4, 0x1000), (14, 6, CODE + 8)]);
        assert_eq!(form.script().notes(), [0, 6, 14, 14, 1]);
    }

    fn an_exception_that_is_handled_at_neither_chance_ends_the_process(form) {
        let events = form.run(unhandled(), 1);
        let chances = [Event::Unhandled(Chance::First), Event::Unhandled(Chance::Second)];
        let ends = [Event::ThreadEnd(ExitReason::Unhandled), Event::ProcessEnd(ExitReason::Unhandled)];
        assert_eq!(events, [&chances[..], &ends].concat());
    }

    fn threads_run_with_the_registers_and_bases_they_were_given(form) {
        let events = form.run(threads(), 1);
        let mut notes = form.script().notes();
        notes.sort_unstable();
        assert_eq!(notes, (1..=8).collect::<Vec<_>>(), "{events:?}");
        let ends = events.iter().filter(|event| **event == Event::ThreadEnd(ExitReason::Exited)).count();
        assert_eq!(ends, 9);
    }

    fn a_fork_gives_each_side_its_own(form) {
        let events = form.run(forks(), 2);
        assert_eq!(form.script().notes(), [256, 256_000, 25_600], "{events:?}");
        assert!(form.script().exceptions().is_empty(), "{events:?}");
    }

    fn a_thread_is_suspended_read_changed_and_resumed(form) {
        let (process, thread) = form.start_lasting(waits_for_seven());
        wait_mark(&process);
        thread.suspend();
        assert_eq!(thread.wait_stopped(), Ok(Stopped::Parked));
        let mut registers = thread.registers().unwrap();
        assert_eq!((registers.rsp, registers.rbx), (STACK - 256, 0));
        registers.rbx = 7;
        thread.set_registers(registers).unwrap();
        thread.resume();
        form.wait_ended(1);
        assert_eq!(form.script().notes(), [0x77]);
    }

    fn a_kicked_thread_comes_to_its_provider(form) {
        let (process, thread) = form.start_lasting(waits_for_seven());
        wait_mark(&process);
        thread.kick();
        form.script().wait_for(|events| events.contains(&Event::Kick));
        thread.terminate();
        form.wait_ended(1);
    }

    fn the_provider_is_asked_to_terminate_and_hears_of_the_end(form) {
        let (process, _thread) = form.start_lasting(waits_for_seven());
        wait_mark(&process);
        process.request_termination();
        form.wait_ended(1);
        let reason = ExitReason::Terminated;
        let ends = [Event::Terminate, Event::ThreadEnd(reason), Event::ProcessEnd(reason)];
        assert_eq!(form.script().events(), ends);
        assert!(process.is_over());
    }

    fn faults_of_the_hosts_own_accesses_are_taken_to_the_provider(form) {
        let (process, _thread) = form.start_lasting(waits_for_seven());
        wait_mark(&process);
        // The personality maps pages here when they are touched, and nowhere else.
        process.write_memory(UserAddr(FORKED.start + 10), b"bytes").unwrap();
        let mut bytes = [0; 5];
        process.read_memory(UserAddr(FORKED.start + 10), &mut bytes).unwrap();
        assert_eq!(&bytes, b"bytes");
        assert_eq!(process.read_memory(UserAddr(0x1000), &mut bytes).unwrap_err().address, UserAddr(0x1000));
        let asked = |event: &Event| if let Event::IoFault(at) = event { Some(*at) } else { None };
        form.script().wait_for(|events| events.contains(&Event::IoFault(0x1000)));
        let asked: Vec<_> = form.script().events().iter().filter_map(asked).collect();
        assert_eq!(asked, [FORKED.start + 10, 0x1000]);
        process.terminate();
        form.wait_ended(1);
    }

    fn handles_carry_the_rights_that_the_provider_allows(form) {
        let (process, thread) = form.start_lasting(waits_for_seven());
        wait_mark(&process);
        // System asks for the host: it may do everything but write.
        let host = form.host().system();
        let all = ProcessAccess::all() - ProcessAccess::VM_WRITE;
        let refused = process.open(host, ProcessAccess::all()).unwrap_err();
        assert_eq!(refused, HandleError::ProcessDenied(ProcessAccess::VM_WRITE));
        let handle = process.open(host, all).unwrap();
        let whole = thread.open(host, ThreadAccess::all()).unwrap();
        // A process of the personality may only look.
        let both = ProcessAccess::QUERY | ProcessAccess::TERMINATE;
        let refused = process.open(&process, both).unwrap_err();
        assert_eq!(refused, HandleError::ProcessDenied(ProcessAccess::TERMINATE));
        process.open(&process, ProcessAccess::QUERY).unwrap();
        let refused = thread.open(&process, ThreadAccess::TERMINATE).unwrap_err();
        assert_eq!(refused, HandleError::ThreadDenied(ThreadAccess::TERMINATE));

        let info = handle.info().unwrap();
        let details = info.details.unwrap();
        assert_eq!((info.name.as_slice(), details.activity), (&b"script"[..], Activity::Running));
        assert_eq!((details.command.as_slice(), details.parent, details.handles), (&b"script\0--test\0"[..], None, 0));
        assert!(info.number.is_some_and(|number| number >= 1000));
        assert_eq!(whole.info().unwrap().name, b"actor");
        handle.terminate().unwrap();
        form.wait_ended(1);
        assert_eq!(process.info().details.unwrap().activity, Activity::Ended);
    }

    fn tools_see_names_and_stacks(form) {
        let (process, thread) = form.start_lasting(a_chain_of_frames());
        wait_mark(&process);
        assert_eq!(process.name(), b"script");
        let stacks = process.walk_stacks();
        let [stack] = &stacks[..] else { panic!("{stacks:?}") };
        assert_eq!((stack.thread, stack.name.as_slice()), (thread.id(), &b"actor"[..]));
        assert!(stack.number > 0);
        let frames: Vec<_> = stack.frames.iter().map(|frame| (frame.found, frame.symbol.is_none())).collect();
        assert_eq!(frames, [(Found::Registers, true), (Found::FramePointer, true)]);
        // It jumps to itself; what it "returns" to lies right behind.
        assert_eq!(stack.frames[1].address.0, stack.frames[0].address.0 + 2);
        process.terminate();
        form.wait_ended(1);
    }
}

#[test]
fn a_shared_object_gets_its_contexts_back_when_its_processes_are_forgotten() {
    let Some(rig) = ForeignRig::open("handover") else { return };
    let form = Form::Object(rig);
    form.run(forks(), 2);
    let Form::Object(rig) = &form else { unreachable!("it was made so above") };
    wait_given_back(rig, 2);
}

/// Waits until the object was given the contexts of so many processes back, with one thread each: nobody calls it any more.
fn wait_given_back(rig: &ForeignRig, count: usize) {
    while rig.recorder.given_back.each_ref().map(|count| count.load(Ordering::SeqCst)) != [count; 2] {
        std::thread::yield_now();
    }
}

#[test]
fn what_a_shared_object_dispatches_through_is_protected() {
    let Some(rig) = ForeignRig::open("handover") else { return };
    let form = Form::Object(rig);
    form.run(unhandled(), 1);
    let Form::Object(rig) = &form else { unreachable!("it was made so above") };
    wait_given_back(rig, 1);
    let host = &rig.host;
    host.verify().unwrap();
    let ranges = host.protected_ranges().unwrap();
    let memory = std::fs::OpenOptions::new().read(true).write(true).open("/proc/self/mem").unwrap();
    for name in [
        "the script's table",
        "the callbacks of the foreign provider",
        "the code of the foreign provider",
        "constants of the foreign provider",
    ] {
        let found: Vec<_> = ranges.iter().filter(|range| range.name() == name).collect();
        assert!(!found.is_empty(), "{name} is not protected");
        for range in found {
            let at = (range.address() + range.len() - 1) as u64;
            let mut byte = [0];
            memory.read_exact_at(&mut byte, at).unwrap();
            if memory.write_all_at(&[byte[0] ^ 1], at).is_err() {
                println!("skipped: this host's policy keeps the monitor's memory from being changed");
                return;
            }
            let verdict = host.verify();
            memory.write_all_at(&byte, at).unwrap();
            let Err(Failure::Corrupt(corruption)) = verdict else { panic!("{name}: {verdict:?}") };
            assert!(corruption.name.contains("foreign provider") || corruption.name.contains(name), "{corruption:?}");
            host.verify().unwrap();
        }
    }
}
