//! A task's mask of blocked signals ([`Blocked`]), which its thread changes without a call where it can.
//!
//! rt_sigprocmask(2) is then a few instructions in the guest ([`Way::Mask`](vmm::pico::Way::Mask)), which know nothing of pending signals. So
//! that none is missed that such a change lets through:
//!
//! - whoever queues a signal takes that way from each thread that it may be for, and looks at masks only then
//!   ([`Task::take_mask_back`](crate::task::Task::take_mask_back)). A thread that has changed its mask looks whether it still has the way, and else calls the provider.
//! - a thread gets the way while nothing is pending for it or its process ([`Task::give_mask`](crate::task::Task::give_mask)): it is given first and
//!   taken back if something is found then, so that of a sender at the same time one of the two sees the other.
//!
//! The mask is the program's own word about its own thread; only [`SignalSet::blockable`] makes a mask of it.

use super::SignalSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use vmm::pico::Calls;

/// A mask of blocked signals.
#[derive(Debug)]
pub(super) struct Blocked {
    /// Before the task has a thread, and in most tests.
    before: AtomicU64,
    calls: OnceLock<Arc<Calls>>,
}

impl Blocked {
    pub(super) fn new(mask: SignalSet) -> Self {
        Self { before: AtomicU64::new(mask.blockable().0), calls: OnceLock::new() }
    }

    pub(super) fn get(&self) -> SignalSet {
        let word = self.calls.get().map_or_else(|| self.before.load(Ordering::SeqCst), |calls| calls.mask());
        SignalSet(word).blockable()
    }

    /// Replaces the mask of a task that does not at the same time.
    pub(super) fn set(&self, mask: SignalSet) {
        let word = mask.blockable().0;
        match self.calls.get() {
            Some(calls) => calls.set_mask(word),
            None => self.before.store(word, Ordering::SeqCst),
        }
    }

    pub(super) fn keep_in(&self, calls: &Arc<Calls>) {
        calls.set_mask(self.get().0);
        // A task has one thread from start to end.
        let _ = self.calls.set(calls.clone());
    }
}
