//! Where signal state lives: with a task, and with its process.

use super::blocked::Blocked;
use super::{AltStack, Handlers, Pending, SigInfo, SignalSet};
use crate::sync::{Mutex, Rank};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vmm::pico::Calls;

/// A task's signal state.
#[derive(Debug)]
pub struct TaskSignals {
    state: Mutex<State>,
    blocked: Blocked,
    /// Something may be pending: looked at on each way back to user mode, so it must be cheap.
    attention: AtomicBool,
    /// The task is in user mode, or about to be: whoever sends a signal must kick it out.
    in_user_mode: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) pending: Pending,
    /// The mask that a call with a temporary one (sigsuspend, ppoll…) replaced, until a handler's frame has saved it.
    pub(super) saved_mask: Option<SignalSet>,
    pub(super) alt_stack: AltStack,
    /// trapno, err and cr2 of the last exception, which every later signal frame shows, too, as on Linux.
    pub(super) last_exception: LastException,
}

/// What a signal frame tells about the last exception.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastException {
    pub(super) vector: u64,
    pub(super) error: u64,
    pub(super) address: u64,
}

impl Default for TaskSignals {
    fn default() -> Self {
        Self::with(State::default(), SignalSet::EMPTY)
    }
}

impl TaskSignals {
    fn with(state: State, blocked: SignalSet) -> Self {
        Self {
            state: Mutex::new(Rank::Signals, state),
            blocked: Blocked::new(blocked),
            attention: AtomicBool::new(false),
            in_user_mode: AtomicBool::new(false),
        }
    }

    /// The state of a new thread or child: the mask is inherited, pending signals are not. A thread has no alternate stack
    /// yet, a child has its parent's.
    pub fn inherit(&self, alt_stack: AltStack) -> Self {
        Self::with(State { alt_stack, ..State::default() }, self.blocked())
    }

    pub(super) fn state(&self) -> crate::sync::MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The blocked mask. While the task is in user mode, it may change at any time.
    pub fn blocked(&self) -> SignalSet {
        self.blocked.get()
    }

    /// Replaces the blocked mask: only the task itself does, or somebody while it stands still.
    pub(super) fn replace_blocked(&self, mask: SignalSet) {
        self.blocked.set(mask);
    }

    /// Keeps the mask where the thread of these calls can change it by itself, before it first runs.
    pub(crate) fn keep_mask_in(&self, calls: &Arc<Calls>) {
        self.blocked.keep_in(calls);
    }

    /// The signals pending for this thread alone.
    pub fn pending(&self) -> SignalSet {
        self.state.lock().pending.set()
    }

    /// How many signals have information queued.
    pub fn queued(&self) -> usize {
        self.state.lock().pending.queued()
    }

    /// What is queued, oldest first.
    pub(crate) fn queue(&self) -> Vec<SigInfo> {
        self.state.lock().pending.list()
    }

    /// Replaces the mask of a task that stands still.
    pub(crate) fn set_mask_from_outside(&self, mask: SignalSet) {
        self.replace_blocked(mask);
        // What it no longer blocks it finds as it goes on.
        self.raise_attention();
    }

    /// The alternate stack.
    pub fn alt_stack(&self) -> AltStack {
        self.state.lock().alt_stack
    }

    /// What exec does: the alternate stack goes.
    pub fn reset_for_exec(&self) {
        self.state.lock().alt_stack = AltStack::default();
    }

    pub(crate) fn raise_attention(&self) {
        self.attention.store(true, Ordering::SeqCst);
    }

    /// Tells whether something may be pending.
    pub fn needs_attention(&self) -> bool {
        self.attention.load(Ordering::SeqCst)
    }

    pub(super) fn clear_attention(&self) {
        self.attention.store(false, Ordering::SeqCst);
    }

    /// The task has trapped: until it leaves it looks for signals itself.
    pub fn entered_provider(&self) {
        self.in_user_mode.store(false, Ordering::SeqCst);
    }

    /// The task is about to return to user mode. Answers `false` if a signal came meanwhile: look again.
    pub fn leaving_provider(&self) -> bool {
        // Store, then look; a sender sets the flag, then looks at the state: one of the two sees the other.
        self.in_user_mode.store(true, Ordering::SeqCst);
        !self.needs_attention()
    }

    /// Tells whether the task is in user mode, or about to be.
    pub(crate) fn is_in_user_mode(&self) -> bool {
        self.in_user_mode.load(Ordering::SeqCst)
    }
}

/// A process's signal state.
#[derive(Debug)]
pub struct GroupSignals {
    /// Replaced by exec if other processes share it (CLONE_SIGHAND). A leaf.
    handlers: Mutex<Arc<Handlers>>,
    pending: Mutex<Pending>,
}

impl Default for GroupSignals {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl GroupSignals {
    /// Makes the state of a process with these dispositions.
    pub fn new(handlers: Arc<Handlers>) -> Self {
        Self { handlers: Mutex::new(Rank::Leaf, handlers), pending: Mutex::new(Rank::Signals, Pending::default()) }
    }

    /// The dispositions.
    pub fn handlers(&self) -> Arc<Handlers> {
        self.handlers.lock().clone()
    }

    /// Tells whether other processes have the same dispositions (CLONE_SIGHAND).
    pub(crate) fn shares_handlers(&self) -> bool {
        Arc::strong_count(&self.handlers.lock()) > 1
    }

    /// What exec does: handlers go, and what other processes share stays as it is (unshare_sighand, flush_signal_handlers).
    pub fn reset_for_exec(&self) {
        let own = self.handlers().duplicate();
        own.reset_for_exec();
        *self.handlers.lock() = Arc::new(own);
    }

    /// The signals pending for the process as a whole.
    pub fn pending(&self) -> SignalSet {
        self.pending.lock().set()
    }

    /// How many signals have information queued.
    pub fn queued(&self) -> usize {
        self.pending.lock().queued()
    }

    /// What is queued, oldest first.
    pub(crate) fn queue(&self) -> Vec<SigInfo> {
        self.pending.lock().list()
    }

    pub(super) fn take(&self, wanted: SignalSet) -> Option<SigInfo> {
        self.pending.lock().take(wanted)
    }

    pub(super) fn with_pending<T>(&self, change: impl FnOnce(&mut Pending) -> T) -> T {
        change(&mut self.pending.lock())
    }
}
