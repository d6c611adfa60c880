//! What other threads want from a pico thread, and how it gets to know.

use std::sync::atomic::{AtomicU32, Ordering};

/// The requests that a pico thread looks at before it enters user mode.
#[derive(Debug, Default)]
pub(crate) struct Attention {
    raised: AtomicU32,
}

impl Attention {
    /// The provider wants to be called.
    pub(crate) const KICK: u32 = 1;
    /// The thread is to park.
    pub(crate) const SUSPEND: u32 = 2;
    /// The thread is to end.
    pub(crate) const TERMINATE: u32 = 4;

    /// Raises a request; a thread in user mode is interrupted.
    pub(crate) fn raise(&self, request: u32) {
        self.raised.fetch_or(request, Ordering::SeqCst);
    }

    /// Takes a request back.
    pub(crate) fn clear(&self, request: u32) {
        self.raised.fetch_and(!request, Ordering::SeqCst);
    }

    /// Takes a request; tells whether it was raised.
    pub(crate) fn take(&self, request: u32) -> bool {
        self.raised.fetch_and(!request, Ordering::SeqCst) & request != 0
    }

    /// Tells whether a request is raised.
    pub(crate) fn is_raised(&self, request: u32) -> bool {
        self.raised.load(Ordering::SeqCst) & request != 0
    }

    /// Tells whether any request is raised.
    pub(crate) fn any(&self) -> bool {
        self.raised.load(Ordering::SeqCst) != 0
    }
}
