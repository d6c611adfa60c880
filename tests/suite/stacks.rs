//! Walks of the stacks of real programs: by unwind tables, by frame pointers, out of signal handlers, with names.

use crate::harness::{Link, need_kvm, program_with};
use provider::config::{CallSites, Config, Limits, Network, User, View};
use provider::sandbox::{Sandbox, SandboxEnd};
use std::path::Path;
use vmm::pico::walk::{Found, StackFrame};
use vmm::pico::{Host, HostConfig, Posting, ProcessKind, Stopped, ThreadStack};

/// `__NR_pause`
const PAUSE: u64 = 34;

fn config(program: &Path) -> Config {
    Config {
        program: program.into(),
        args: vec![program.into()],
        env: Vec::new(),
        view: View::default(),
        user: User { uid: 1000, gid: 1000, groups: vec![1000] },
        workdir: Some("/".into()),
        hostname: "picovisor".into(),
        limits: Limits { memory: 256 << 20, pids: 64, files: 1024, cpus: 2, timeout: None },
        network: Network::Loopback,
        terminal: None,
        trace: None,
        call_sites: CallSites::Patch,
        name: None,
    }
}

/// Runs the program until both its threads wait in pause(2), and walks their stacks.
fn stacks(program: &Path) -> Vec<ThreadStack> {
    let host = Host::open(&HostConfig { memory: 256 << 20, vcpus: None, posting: Posting::default() }).unwrap();
    let sandbox = Sandbox::start(&host, config(program)).unwrap();
    let process = host.processes().into_iter().find(|process| process.kind() == ProcessKind::Pico).unwrap();
    let waits = || {
        let threads = process.threads();
        let pauses = |thread: &std::sync::Arc<vmm::pico::Thread>| {
            thread.trapped_registers().is_ok_and(|registers| registers.rax == PAUSE)
        };
        threads.len() == 2 && threads.iter().all(pauses)
    };
    while !waits() {
        assert!(!process.is_over(), "the program has ended");
        std::thread::yield_now();
    }
    let stacks = process.walk_stacks();
    sandbox.terminate();
    assert_eq!(sandbox.wait(|| ()), SandboxEnd::Signaled(9));
    stacks
}

/// The names of the functions that frames are in.
fn names(frames: &[StackFrame]) -> Vec<String> {
    let name = |frame: &StackFrame| {
        frame.symbol.as_ref().map_or("?".to_owned(), |symbol| String::from_utf8_lossy(&symbol.name).into_owned())
    };
    frames.iter().map(name).collect()
}

/// Checks that functions are on a stack in this order, each called by the next.
#[track_caller]
fn check(stack: &ThreadStack, functions: &[&str]) {
    let names = names(&stack.frames);
    let mut rest = names.iter();
    for function in functions {
        assert!(rest.any(|name| name == function), "no {function} where it should be: {names:?}");
    }
}

/// How the frame of a function was found.
fn found(stack: &ThreadStack, function: &str) -> Found {
    let at = names(&stack.frames).iter().position(|name| name == function).unwrap();
    stack.frames[at].found
}

#[test]
fn stacks_without_frame_pointers_are_walked_by_unwind_tables() {
    need_kvm!();
    let program = program_with("stacks.c", Link::Dynamic, &["-fomit-frame-pointer"]);
    let stacks = stacks(&program);
    assert!(stacks.iter().all(|stack| stack.stopped == Stopped::InProvider));
    // Out of the handler's stack, through the C library, to where the program began.
    check(&stacks[0], &["innermost", "on_signal", "raises", "main", "_start"]);
    check(&stacks[1], &["innermost", "second"]);
    for stack in &stacks {
        assert_eq!(stack.frames[0].found, Found::Registers);
        assert!(stack.frames[1..].iter().all(|frame| frame.found == Found::UnwindTable), "{stack:?}");
        assert_eq!(stack.name, &b"stacks-c-Dynamic-fomit-frame-pointer"[..15]);
    }
    assert_eq!(stacks.iter().map(|stack| stack.number).collect::<Vec<_>>(), [1, 2]);
    // Each frame tells whose code it is.
    let module = |index: usize| stacks[0].frames[index].module.clone().unwrap().name;
    assert!(module(0).ends_with(b"libc.so.6"));
    assert_eq!(module(1), program.as_os_str().as_encoded_bytes());
    let symbol = stacks[0].frames[1].symbol.clone().unwrap();
    assert!((1..64).contains(&symbol.offset), "{symbol:?}");
}

#[test]
fn stacks_without_unwind_tables_are_walked_by_frame_pointers() {
    need_kvm!();
    // The C library has its tables: its functions keep no frame pointers.
    let flags = ["-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"];
    let stacks = stacks(&program_with("stacks.c", Link::Dynamic, &flags));
    check(&stacks[0], &["innermost", "on_signal"]);
    check(&stacks[1], &["innermost", "second"]);
    assert_eq!(found(&stacks[0], "on_signal"), Found::FramePointer);
    assert_eq!(found(&stacks[1], "second"), Found::FramePointer);
}
