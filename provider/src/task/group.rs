//! Thread groups: processes.

use super::{ExitStatus, Pid, ResourceLimits};
use crate::sync::{Mutex, Rank};
use std::sync::Arc;

/// A process: the threads that share a pid, signal handlers and limits.
#[derive(Debug)]
pub struct ThreadGroup {
    pid: Pid,
    limits: ResourceLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    exit_status: Option<ExitStatus>,
}

impl ThreadGroup {
    /// Makes a process with no thread yet.
    pub fn new(pid: Pid, limits: ResourceLimits) -> Arc<Self> {
        Arc::new(Self { pid, limits, state: Mutex::new(Rank::ThreadGroup, State::default()) })
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its resource limits.
    pub fn limits(&self) -> &ResourceLimits {
        &self.limits
    }

    /// How it ended, once it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.state.lock().exit_status
    }

    /// Notes how it ends; the first status stays.
    pub(super) fn set_exit_status(&self, status: ExitStatus) {
        self.state.lock().exit_status.get_or_insert(status);
    }
}
