//! Small things that a task says about itself: prctl, personality, nice.

use super::{Scheduling, Task};
use vmm::addr::UserAddr;

/// The timer slack that a sandbox's first program starts with, in nanoseconds.
const TIMER_SLACK_NS: u64 = 50_000;

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
    /// What PR_SET_TIMERSLACK with 0 sets again: the slack that the creator had.
    pub default_timer_slack_ns: u64,
    /// personality(2).
    pub personality: u32,
    /// How the task is to be scheduled.
    pub scheduling: Scheduling,
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
            default_timer_slack_ns: TIMER_SLACK_NS,
            personality: 0,
            scheduling: Scheduling::default(),
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
        self.attributes.lock().scheduling.nice
    }

    /// Sets the nice value. It is kept; the host's scheduler treats all threads of the sandbox alike.
    pub fn set_nice(&self, nice: i32) {
        self.attributes.lock().scheduling.nice = nice;
    }

    /// The CPUs it asked for, if it did.
    pub fn affinity(&self) -> Option<Vec<u64>> {
        self.attributes.lock().affinity.clone()
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
