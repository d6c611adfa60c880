//! Every system call, with arguments that no program would pass. Nothing may panic, hang or take a lock out of order.
//!
//! A fresh process with memory of its own and no more than a pipe makes some calls, in a sandbox that shows no file of the host's. The
//! process is about to be killed, so that every sleep ends at once. To make a sandbox takes longer than the calls do, so one serves many
//! runs: what one leaves there (files, message queues, mounts) the next ones find.

use super::input::Input;
use crate::fs::FdTable;
use crate::mm::MemoryMap;
use crate::signal::send::{Target, send};
use crate::signal::{SigInfo, Signal};
use crate::syscall::served;
use crate::task::Resources;
use crate::testing::{Fixture, config, fixture_with};
use linux_raw_sys::general::{
    __NR_clone, __NR_clone3, __NR_exit, __NR_exit_group, __NR_fork, __NR_munmap, __NR_pipe2, __NR_sync, __NR_syncfs,
    __NR_vfork,
};
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::{Arc, OnceLock};
use vmm::addr::UserAddr;

/// Calls of one input at the most.
const CALLS: usize = 12;
/// Bytes of memory that arguments may point into.
const MEMORY: u64 = 2 << 12;

/// Runs in one sandbox at the most.
const RUNS: u32 = 256;

/// What may stand where arguments point, besides any bytes.
const PATHS: [&[u8]; 16] = [
    b"/\0",
    b".\0",
    b"..\0",
    b"x\0",
    b"/tmp\0",
    b"/tmp/x\0",
    b"/tmp/x/y\0",
    b"/proc/self/fd/3\0",
    b"/proc/self/mem\0",
    b"/proc/sys/kernel/hostname\0",
    b"/dev/ptmx\0",
    b"/dev/pts/0\0",
    b"/dev/zero\0",
    b"/dev/shm/x\0",
    b"/proc/self/ns/mnt\0",
    b"tmpfs\0",
];

/// A sandbox, with a process that stays, and how many runs it has served. At the end of the thread it is left as it is: what it would
/// need to end is gone by then.
struct Served {
    first: ManuallyDrop<Fixture>,
    runs: u32,
}

thread_local! {
    static SANDBOX: RefCell<Option<Served>> = const { RefCell::new(None) };
}

/// End the task, make the host write all it has, or make tasks that nobody would run.
const LEFT_OUT: [u32; 8] =
    [__NR_exit, __NR_exit_group, __NR_sync, __NR_syncfs, __NR_fork, __NR_vfork, __NR_clone, __NR_clone3];

/// Makes calls.
pub fn calls(data: &[u8]) {
    static SERVED: OnceLock<Vec<u32>> = OnceLock::new();
    let served = SERVED.get_or_init(|| served().filter(|number| !LEFT_OUT.contains(number)).collect());
    SANDBOX.with_borrow_mut(|sandbox| {
        if let Some(worn) = sandbox.take_if(|sandbox| sandbox.runs == RUNS) {
            drop(ManuallyDrop::into_inner(worn.first));
        }
        let new = || Served { first: ManuallyDrop::new(fixture_with(empty())), runs: 0 };
        let sandbox = sandbox.get_or_insert_with(new);
        sandbox.runs += 1;
        run(&sandbox.first, served, Input::new(data));
    });
}

/// A sandbox in which there is nothing of the host's.
fn empty() -> crate::config::Config {
    let mut config = config();
    config.view.root = Some(super::empty_folder());
    config
}

fn run(first: &Fixture, served: &[u32], mut input: Input<'_>) {
    let kernel = first.kernel.clone();
    let mm = MemoryMap::new(kernel.memory()).expect("an empty map needs little memory");
    let fs = Arc::new(kernel.namespace().root_context());
    let resources = Resources { mm: Some(mm), files: Some(Arc::new(FdTable::default())), fs: Some(fs) };
    let mut fixture = Fixture::over(kernel, resources);
    let pages = fixture.allocate(MEMORY + 4096).0;
    // A page behind that there is not, and two descriptors that there are.
    let set_up = [(__NR_munmap, [pages + MEMORY, 4096]), (__NR_pipe2, [pages, 0])];
    for (number, arguments) in set_up {
        fixture.returned(number, &arguments).expect("a new task may have a pipe");
    }
    send(&fixture.task, Target::Process, SigInfo::kernel(Signal::SIGKILL)).expect("the task is there");
    for _ in 0..CALLS {
        if input.is_empty() {
            break;
        }
        step(&mut fixture, served, pages, &mut input);
    }
}

fn step(fixture: &mut Fixture, served: &[u32], pages: u64, input: &mut Input<'_>) {
    // Contents for what arguments point at.
    let filling = usize::from(input.byte());
    let at = pages + input.below(MEMORY / 8) * 8;
    let bytes = if filling < 64 { PATHS[filling % PATHS.len()] } else { input.bytes(filling - 64) };
    let _ = fixture.current().mm().write(UserAddr(at), bytes);
    let number = served[(usize::from(input.byte()) | usize::from(input.byte()) << 8) % served.len()];
    let arguments = [(); 6].map(|()| argument(pages, input));
    let _ = fixture.call(number, &arguments);
}

fn argument(pages: u64, input: &mut Input<'_>) -> u64 {
    match input.byte() % 16 {
        0 => 0,
        1 | 2 => input.below(8),
        3 => u64::from(input.byte()),
        4 => u64::MAX - input.below(16),
        5..8 => pages + input.below(MEMORY / 8) * 8,
        8 => pages + MEMORY - input.below(64),
        9 => pages + u64::from(input.byte()),
        10 => 1 << input.below(64),
        11 => 0x7fff_ffff_f000 - u64::from(input.byte()) * 32,
        12 => 0xffff_ffff_8000_0000 | u64::from(input.byte()),
        13 => u64::from(u32::MAX) << input.below(32),
        14 => u64::from(input.byte()) << 8 | u64::from(input.byte()),
        _ => input.word(),
    }
}
