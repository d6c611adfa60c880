//! The end of threads and processes.

use super::{CurrentTask, Task};
use crate::futex;
use crate::ptrace::Dead;
use crate::signal::{Signal, SignalCode, send};
use std::sync::Arc;
use vmm::usage::Usage;

/// WCOREFLAG
const CORE_FLAG: i32 = 0x80;

/// How a process ended, as wait(2) reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called exit; the low byte of its code.
    Exited(u8),
    /// A signal killed it.
    Signaled(Signal),
    /// A signal killed it, and a core was written.
    Dumped(Signal),
}

impl ExitStatus {
    /// The status word of wait4(2).
    pub fn to_wait_status(self) -> i32 {
        match self {
            Self::Exited(code) => i32::from(code) << 8,
            Self::Signaled(signal) => signal.raw() & 0x7f,
            Self::Dumped(signal) => signal.raw() & 0x7f | CORE_FLAG,
        }
    }

    /// What SIGCHLD and waitid tell: si_code and si_status.
    pub(crate) fn to_child_info(self) -> (SignalCode, i32) {
        match self {
            Self::Exited(code) => (SignalCode::CLD_EXITED, i32::from(code)),
            Self::Signaled(signal) => (SignalCode::CLD_KILLED, signal.raw()),
            Self::Dumped(signal) => (SignalCode::CLD_DUMPED, signal.raw()),
        }
    }
}

impl CurrentTask<'_> {
    /// Ends this thread; the last one of a process ends the process with `status`, unless that has one already.
    pub fn exit_thread(&mut self, status: ExitStatus) {
        self.tell_exit(status);
        // The last look of its own, so that its process counts it exactly.
        self.cpu_usage();
        end(self.task(), status);
    }

    /// Ends all threads of the process.
    pub fn exit_process(&mut self, status: ExitStatus) {
        request_exit(self.task(), status);
        self.exit_thread(status);
    }
}

/// Asks every thread of a task's process to end; the first status stays.
pub(crate) fn request_exit(task: &Task, status: ExitStatus) {
    let group = task.group();
    group.request_exit(status);
    for thread in group.threads() {
        if thread.tid() != task.tid() {
            send::notify(&thread);
        }
    }
}

/// Ends a task: gives back what it holds; with the last one of a process, the process is a zombie, or gone.
pub(crate) fn end(task: &Arc<Task>, status: ExitStatus) {
    let group = task.group();
    futex::leave(task);
    // Dropped outside all locks: memory and files may take their time.
    drop(task.release());
    task.return_memory();
    // Only now: whoever waits for the process finds that all its threads have given everything back.
    let last = group.remove_thread(task.tid());
    task.note_stopped();
    let kernel = task.kernel();
    kernel.families().thread_ended(task);
    for orphan in kernel.bonds().tracer_ended(task.tid()) {
        kernel.families().bury_tracee(kernel, &orphan);
    }
    if task.tid() != group.pid() && !kernel.bonds().tracee_ended(kernel, task, Dead { status, usage: Usage::default() })
    {
        kernel.tasks().remove(task.tid());
    }
    if last {
        task.kernel().release_file_locks(group.pid());
        group.posix_timers().clear();
        group.leave_process();
        let status = group.final_status(status);
        kernel.process_ended(group, status);
        crate::fs::tty::control::process_exits(kernel, group);
        kernel.families().process_ended(kernel, group, status);
    }
    group.end_events().wake_all();
}
