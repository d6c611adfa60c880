//! What is to be done around a task's system calls besides the calls.

use super::Task;
use std::sync::atomic::Ordering;

bitflags::bitflags! {
    /// Reasons to look twice at a call (Linux: SYSCALL_WORK_*). Most tasks have none, and pay one load for that.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Work: u32 {
        /// It is under seccomp's rules.
        const SECCOMP = 1;
        /// Its tracer wants to see it before and after each call.
        const TRACE_CALLS = 1 << 1;
        /// Its tracer serves its calls.
        const EMULATE_CALLS = 1 << 2;
        /// Its tracer steps: a call ends in a trap.
        const STEP = 1 << 3;
        /// It is stepped to see when what its tracer watches changes.
        const WATCH = 1 << 4;
        /// Some of its calls become signals (PR_SET_SYSCALL_USER_DISPATCH).
        const USER_DISPATCH = 1 << 5;
    }
}

impl Task {
    /// What is to be done around its calls.
    pub fn work(&self) -> Work {
        // Set by the task itself, or by others while it is stopped or with no promise when it takes effect.
        Work::from_bits_truncate(self.work.load(Ordering::Relaxed))
    }

    /// Tells whether somebody has to see each of its calls: its tracer, or seccomp.
    pub(crate) fn is_watched(&self) -> bool {
        !self.work().is_empty() || self.tracee().is_traced()
    }

    /// Asks for work from the next call on.
    pub(crate) fn add_work(&self, work: Work) {
        self.work.fetch_or(work.bits(), Ordering::SeqCst);
        self.look_who_watches();
    }

    /// Replaces the part of its work that `mask` names.
    pub(crate) fn replace_work(&self, mask: Work, work: Work) {
        self.work.fetch_and(!mask.bits(), Ordering::SeqCst);
        self.add_work(work & mask);
    }
}
