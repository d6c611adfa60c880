//! Small things that a task says about itself (prctl, personality, nice) and CPU accounting.

use super::{CurrentTask, Task, ThreadGroup};
use std::sync::OnceLock;
use vmm::addr::UserAddr;
use vmm::usage::Usage;

/// The timer slack that a program starts with, in nanoseconds.
pub const TIMER_SLACK_NS: u64 = 50_000;

/// When a task wants to hear of broken memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MceKill {
    /// When it uses it.
    Late,
    /// As soon as it is known.
    Early,
    /// As the system does.
    Default,
}

impl MceKill {
    /// As PR_MCE_KILL_GET tells it.
    pub fn raw(self) -> u64 {
        match self {
            Self::Late => 0,
            Self::Early => 1,
            Self::Default => 2,
        }
    }
}

/// What prctl(2) and its like set and read back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own in Linux, too")]
pub struct Attributes {
    /// Sent when the parent ends; 0: none.
    pub parent_death_signal: i32,
    /// PR_SET_NO_NEW_PRIVS. Set-user-id bits are ignored anyway.
    pub no_new_privileges: bool,
    /// PR_SET_IO_FLUSHER.
    pub io_flusher: bool,
    /// PR_MCE_KILL.
    pub mce_kill: MceKill,
    /// PR_SET_TIMERSLACK.
    pub timer_slack_ns: u64,
    /// personality(2).
    pub personality: u32,
    /// The nice value.
    pub nice: i32,
    /// CPUs that sched_setaffinity asked for, as a mask of 64-bit words; `None`: all.
    pub affinity: Option<Vec<u64>>,
    /// Where 0 is written, and a futex woken, as the thread ends.
    pub clear_child_tid: UserAddr,
    /// The head of the list of robust futexes.
    pub robust_list: UserAddr,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            parent_death_signal: 0,
            no_new_privileges: false,
            io_flusher: false,
            mce_kill: MceKill::Default,
            timer_slack_ns: TIMER_SLACK_NS,
            personality: 0,
            nice: 0,
            affinity: None,
            clear_child_tid: UserAddr(0),
            robust_list: UserAddr(0),
        }
    }
}

impl Task {
    /// A copy of its attributes.
    pub fn attributes(&self) -> Attributes {
        self.attributes.lock().clone()
    }

    /// Looks at or changes its attributes.
    pub fn with_attributes<T>(&self, change: impl FnOnce(&mut Attributes) -> T) -> T {
        change(&mut self.attributes.lock())
    }

    /// The nice value.
    pub fn nice(&self) -> i32 {
        self.attributes.lock().nice
    }

    /// Sets the nice value. It is kept; the host's scheduler treats all threads of the sandbox alike.
    pub fn set_nice(&self, nice: i32) {
        self.attributes.lock().nice = nice;
    }

    /// The CPUs it asked for, if it did.
    pub fn affinity(&self) -> Option<Vec<u64>> {
        self.attributes.lock().affinity.clone()
    }

    /// Notes the CPUs it asked for.
    pub fn set_affinity(&self, words: Vec<u64>) {
        self.attributes.lock().affinity = Some(words);
    }

    /// Where 0 is written as it ends.
    pub fn clear_child_tid(&self) -> UserAddr {
        self.attributes.lock().clear_child_tid
    }

    /// Sets where 0 is written as it ends.
    pub fn set_clear_child_tid(&self, at: UserAddr) {
        self.attributes.lock().clear_child_tid = at;
    }

    /// The head of its list of robust futexes.
    pub fn robust_list(&self) -> UserAddr {
        self.attributes.lock().robust_list
    }

    /// Sets the head of its list of robust futexes.
    pub fn set_robust_list(&self, head: UserAddr) {
        self.attributes.lock().robust_list = head;
    }
}

/// When a task's host thread began with it, in the host thread's CPU time.
#[derive(Debug, Default)]
pub(super) struct CpuBase(OnceLock<Usage>);

impl CurrentTask<'_> {
    /// Notes at the task's first trap that this host thread serves it, and keeps it to the sandbox's CPUs.
    pub(crate) fn begin_accounting(&self) {
        self.task().cpu_base.0.get_or_init(|| {
            let cpus = self.kernel().cpus();
            if cpus.are_fewer_than_the_hosts() {
                cpus.bind_this_thread(&cpus.all());
            }
            Usage::of_this_thread()
        });
    }

    /// CPU time that this thread has used. The host thread that serves the trap is the one that runs it.
    pub fn cpu_usage(&self) -> Usage {
        let base = self.task().cpu_base.0.get().copied().unwrap_or_default();
        Usage::of_this_thread().since(&base)
    }
}

impl ThreadGroup {
    /// CPU time that all threads of the process have used, `current` being the one that asks.
    pub fn cpu_usage(&self, current: &CurrentTask<'_>) -> Usage {
        // Other live threads' time is known to the host threads that run them only.
        current.cpu_usage().plus(&self.ended_usage())
    }
}
