//! Beginning and ending to trace.

use super::Call;
use crate::errno::Errno;
use crate::ptrace::{Look, Options, StopKind, Tracer, may_access};
use crate::signal::send::{self, Target};
use crate::signal::{SigInfo, Signal};
use crate::task::{CurrentTask, Task};
use std::sync::Arc;
use vmm::addr::UserAddr;

/// PTRACE_O_SUSPEND_SECCOMP
const SUSPEND_SECCOMP: u64 = 1 << 21;

/// PTRACE_TRACEME: the thread that made the caller's process traces it.
pub(super) fn trace_me(task: &CurrentTask<'_>) -> Result<u64, Errno> {
    if task.tracee().is_traced() {
        return Err(Errno::EPERM);
    }
    let parent = task.kernel().families().parent_thread(task.group().pid()).ok_or(Errno::EPERM)?;
    let parent = task.kernel().tasks().get(parent).ok_or(Errno::EPERM)?;
    let tracer = Tracer { thread: parent.tid(), process: parent.group().pid() };
    task.kernel().bonds().attach(tracer, task.task(), false, Options::empty())?;
    Ok(0)
}

/// What ATTACH and SEIZE have in common (ptrace_attach). A thread that stands still with its process does so for the tracer when the
/// call returns, which need not wait(2) for it.
fn begin(task: &CurrentTask<'_>, tracee: &Arc<Task>, seized: bool, options: Options) -> Result<u64, Errno> {
    if Arc::ptr_eq(task.group(), tracee.group()) || !may_access(task, tracee, Look::AsCall) {
        return Err(Errno::EPERM);
    }
    let tracer = Tracer { thread: task.tid(), process: task.group().pid() };
    let group = tracee.group();
    let stands_still = group.is_stopped() && !group.waits_to_stop(tracee.tid());
    task.kernel().bonds().attach(tracer, tracee, seized, options)?;
    let traps = group.is_stopped();
    if traps {
        // It says so. This goes first: the signal wakes it, and it would stop once for either.
        tracee.trap_for_tracer();
    }
    if !seized {
        // The kernel's own is never refused.
        let _ = send::send(tracee, Target::Thread, SigInfo::kernel(Signal::SIGSTOP));
    }
    if traps && stands_still {
        // Its stop and its end wake the tracer. Whoever waits elsewhere in this process may have taken the end.
        task.sleep_through_signals(|| {
            tracee.tracee().lock().stop.is_some()
                || !tracee.tracee().is_traced()
                || task.kernel().bonds().has_ended(tracee.tid())
        });
    }
    Ok(0)
}

pub(super) fn attach(task: &CurrentTask<'_>, tracee: &Arc<Task>) -> Result<u64, Errno> {
    begin(task, tracee, false, Options::empty())
}

pub(super) fn seize(task: &CurrentTask<'_>, tracee: &Arc<Task>, address: UserAddr, data: u64) -> Result<u64, Errno> {
    let options = u32::try_from(data).ok().and_then(Options::from_bits).filter(|_| address.0 == 0);
    begin(task, tracee, true, options.ok_or(Errno::EIO)?)
}

/// PTRACE_KILL: in a tracee of whatever state.
pub(super) fn kill(tracee: &Arc<Task>) -> Result<u64, Errno> {
    // SIGKILL is never refused.
    let _ = send::send(tracee, Target::Process, SigInfo::kernel(Signal::SIGKILL));
    Ok(0)
}

/// PTRACE_INTERRUPT: a seized tracee stops; one that listens has news.
pub(super) fn interrupt(tracee: &Arc<Task>) -> Result<u64, Errno> {
    if !tracee.tracee().lock().seized {
        return Err(Errno::EIO);
    }
    tracee.interrupt_tracee();
    Ok(0)
}

impl Call<'_, '_> {
    /// PTRACE_DETACH: the tracee is free, and gets the signal. One whose process is stopped stays stopped.
    pub(super) fn detach(&self) -> Result<u64, Errno> {
        let signal = self.signal()?;
        self.task.kernel().bonds().detach(&self.tracee, signal);
        Ok(0)
    }

    /// PTRACE_LISTEN: a seized tracee in a group stop stays there, as if nobody traced it, until there is news.
    pub(super) fn listen(&self) -> Result<u64, Errno> {
        if !self.state(|state| state.seized) {
            return Err(Errno::EIO);
        }
        self.stopped(|stop| {
            if stop.kind != StopKind::Group {
                return Err(Errno::EIO);
            }
            stop.listening = true;
            Ok(0)
        })?;
        self.tracee.tell_listener();
        Ok(0)
    }

    pub(super) fn set_options(&self) -> Result<u64, Errno> {
        let known = u64::from(Options::all().bits()) | SUSPEND_SECCOMP;
        if self.data & !known != 0 {
            return Err(Errno::EINVAL);
        }
        if self.data & SUSPEND_SECCOMP != 0 {
            return Err(self.task.unsupported("ptrace: PTRACE_O_SUSPEND_SECCOMP", Errno::EINVAL));
        }
        let options = u32::try_from(self.data).ok().and_then(Options::from_bits).ok_or(Errno::EINVAL)?;
        self.state(|state| state.options = options);
        Ok(0)
    }
}
