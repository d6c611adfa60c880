//! What a tracee tells of making, replacing and ending tasks.

use super::Event;
use crate::signal::send::{self, Target};
use crate::signal::{SigInfo, Signal};
use crate::task::{CurrentTask, ExitStatus, Pid, Task};
use std::sync::Arc;

/// How a task is made, as far as a tracer cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Making {
    /// CLONE_VFORK
    pub(crate) vfork: bool,
    /// What the parent gets at the end is SIGCHLD.
    pub(crate) tells_by_sigchld: bool,
    /// CLONE_UNTRACED
    pub(crate) untraced: bool,
    /// CLONE_PTRACE
    pub(crate) traced: bool,
}

impl CurrentTask<'_> {
    /// The event that the making of a task is to the tracer, if it asked.
    pub(crate) fn event_of(&self, making: Making) -> Option<Event> {
        if making.untraced || !self.tracee().is_traced() {
            return None;
        }
        let event = match making {
            Making { vfork: true, .. } => Event::Vfork,
            Making { tells_by_sigchld: true, .. } => Event::Fork,
            _ => Event::Clone,
        };
        self.tracee().wants(event).then_some(event)
    }

    /// Makes a task that is about to run a tracee of the same tracer (ptrace_init_task): it starts with a stop.
    pub(crate) fn share_tracer(&self, child: &Arc<Task>, event: Option<Event>, making: Making) {
        if event.is_none() && (!making.traced || making.untraced) {
            return;
        }
        let (tracer, seized, options) = {
            let state = self.tracee().lock();
            (state.tracer, state.seized, state.options)
        };
        let Some(tracer) = tracer else { return };
        if self.kernel().bonds().attach(tracer, child, seized, options).is_err() {
            return;
        }
        if seized {
            child.trap_for_tracer();
        } else {
            // The kernel's own SIGSTOP is never refused.
            let _ = send::send(child, Target::Thread, SigInfo::kernel(Signal::SIGSTOP));
        }
    }

    /// After an exec that succeeded: the event, or for tracers of the old kind a SIGTRAP (ptrace_event in exec_binprm).
    pub(crate) fn tell_exec(&mut self, old_tid: Pid) {
        if !self.tracee().is_traced() {
            return;
        }
        let message = u64::try_from(old_tid.0).unwrap_or_default();
        if self.stop_for_event(Event::Exec, message) || self.tracee().lock().seized {
            return;
        }
        // Not refused: it is the kernel's.
        let _ = send::send(self.task(), Target::Thread, SigInfo::kernel(Signal::SIGTRAP));
    }

    /// Before the task ends.
    pub(crate) fn tell_exit(&mut self, status: ExitStatus) {
        let code = u64::try_from(status.to_wait_status()).unwrap_or_default();
        self.stop_for_event(Event::Exit, code);
    }
}
