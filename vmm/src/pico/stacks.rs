//! The user stacks of all threads of a process, as a tool asks for them.

use super::process::Process;
use super::stop::Stopped;
use super::thread::Thread;
use super::walk::{MOST_FRAMES, StackFrame};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A thread's user stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadStack {
    /// The host's number for the thread.
    pub thread: u64,
    /// The number that its personality knows it by.
    pub number: u64,
    /// The name that its personality gives it; may be empty.
    pub name: Vec<u8>,
    /// How it stood still meanwhile.
    pub stopped: Stopped,
    /// Its frames, innermost first; none if it has ended.
    pub frames: Vec<StackFrame>,
}

/// A process that is suspended as long as this lives.
struct Suspension<'a>(&'a Process);

impl<'a> Suspension<'a> {
    fn of(process: &'a Process) -> Self {
        process.suspend();
        Self(process)
    }
}

impl Drop for Suspension<'_> {
    fn drop(&mut self) {
        self.0.resume();
    }
}

impl Process {
    /// Walks the user stacks of all threads (NT: `WalkUserStack`). The process is suspended meanwhile, so that the stacks
    /// are those of one moment; a thread that its provider serves, perhaps for ever, is walked from where it trapped.
    /// A minimal process has none.
    pub fn walk_stacks(&self) -> Vec<ThreadStack> {
        let _suspension = Suspension::of(self);
        let threads = self.threads();
        // All of them stop at the same time.
        let stops: Vec<_> = threads.iter().map(|thread| thread.wait_stopped().unwrap_or(Stopped::Ended)).collect();
        threads.iter().zip(stops).filter_map(|(thread, stopped)| self.walk_stack(thread, stopped)).collect()
    }

    fn walk_stack(&self, thread: &Arc<Thread>, stopped: Stopped) -> Option<ThreadStack> {
        let provider = self.host.provider()?;
        let context = thread.context();
        let mut frames = Vec::new();
        if let (Stopped::Parked | Stopped::InProvider, Ok(registers)) = (stopped, thread.trapped_registers()) {
            provider.walk_user_stack(context, &registers, &mut |frame| {
                frames.push(frame);
                if frames.len() < MOST_FRAMES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
        }
        let (number, name) = (provider.thread_number(context), provider.thread_name(context));
        Some(ThreadStack { thread: thread.id(), number, name, stopped, frames })
    }
}
