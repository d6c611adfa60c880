//! Calls that a task posts: another host thread serves them while the task's own waits in user mode for the result.
//!
//! The table marks the calls that may be served so ([`Path::Posted`]), and says there what that promises. A call that turns out to
//! need its own thread (it would sleep, or signal the task itself) ends with [`Errno::NEEDS_THREAD`], is as if it had never been
//! made, and comes again by trap. Calls that do so all the time are no longer posted for a while.

use super::handler::Outcome;
use super::table::{self, Path};
use crate::errno::Errno;
use crate::fs::sigio;
use crate::task::{Change, CurrentTask, Task, call_site};
use std::sync::Arc;
use vmm::pico::{CpuState, PostedCall, TrapFrame};
use vmm::trap::{DebugRegisters, Registers};

/// The processor state of a thread that is in user mode: not to be had. No call that is posted asks for it.
#[derive(Debug)]
struct Elsewhere;

impl CpuState for Elsewhere {
    fn xsave_size(&self) -> usize {
        0
    }
    fn xcr0(&self) -> u64 {
        0
    }
    fn save_xsave(&mut self, _area: &mut [u8]) {}
    fn load_xsave(&mut self, _area: &[u8]) {}
    fn reset_xsave(&mut self) {}
    fn segment_bases(&mut self) -> (u64, u64) {
        (0, 0)
    }
    fn set_segment_bases(&mut self, _fs: u64, _gs: u64) {}
    fn traps_at_addresses(&self) -> bool {
        false
    }
    fn set_debug_registers(&mut self, _registers: &DebugRegisters) {}
    fn take_debug_status(&mut self) -> u64 {
        0
    }
}

/// The numbers of the calls that may be posted.
pub(crate) fn numbers() -> impl Iterator<Item = u64> {
    (0..).zip(&table::TABLE).filter(|(_, line)| line.is_some_and(|line| line.path == Path::Posted)).map(|(at, _)| at)
}

/// Serves a call that `task` has posted, on any host thread; the task does nothing else meanwhile. `None`: nothing was done, and the
/// task has to make it by trap.
pub(crate) fn serve(task: Arc<Task>, call: &PostedCall) -> Option<u64> {
    let PostedCall { number, arguments: args, return_address } = *call;
    let line = table::find(number).filter(|line| line.path == Path::Posted)?;
    // Whatever is pending is taken first; and nobody who has to see each call sees these.
    if task.signals().needs_attention() || task.is_watched() || task.kernel().tracer().is_some() {
        return None;
    }
    if call_site::note_posted(&task, return_address) {
        return None;
    }
    let [rdi, rsi, rdx, r10, r8, r9] = args;
    let registers = Registers { rax: number, rdi, rsi, rdx, r10, r8, r9, rip: return_address, ..Registers::default() };
    let mut cpu = Elsewhere;
    let mut current = CurrentTask::posted(task, TrapFrame { registers, cpu: &mut cpu });
    sigio::begin_trap();
    let result = (line.call)(&mut current, &args);
    let task = current.task();
    sigio::end_trap(task.kernel());
    if task.signals().needs_attention() {
        // What the call has made pending is taken before the program goes on. If somebody else has, that is once too often.
        task.kick();
    }
    let value = match result {
        Ok(Outcome::Return(value)) => value,
        Ok(Outcome::Resume | Outcome::Exit) => unreachable!("a handler that has no registers returns a value"),
        Err(error) if error == Errno::NEEDS_THREAD || error.is_restart() => {
            if let Some(change) = task.posted_in_vain(number) {
                task.change_way(number, change);
            }
            return None;
        }
        Err(error) => error.to_return(),
    };
    task.posted_well(number);
    task.kernel().statistics().call(number);
    Some(value)
}

/// A call that nobody watches was made by trap: if it was one that may be posted it may be so again.
pub(super) fn made_by_trap(task: &CurrentTask<'_>, number: u64) {
    if let Some(Change::Post) = task.made_by_trap(number, task.has_slept()) {
        task.change_way(number, Change::Post);
    }
}
