//! What other threads want from a pico thread, and how it gets to know.

use super::door::Door;
use crate::statistics::Kicks;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

/// The requests that a pico thread looks at before it enters user mode.
#[derive(Debug, Default)]
pub(crate) struct Attention {
    raised: AtomicU32,
    whereabouts: Mutex<Whereabouts>,
    kicks: Arc<Kicks>,
}

/// Where a request finds the thread.
#[derive(Debug, Default)]
enum Whereabouts {
    /// Where it looks for requests before it goes on.
    #[default]
    Awake,
    /// Behind the door of the virtual CPU that runs it.
    Behind(Arc<Door>),
    /// Parked, until there is a virtual CPU for it.
    Parked(Thread),
}

impl Attention {
    /// The provider wants to be called.
    pub(crate) const KICK: u32 = 1;
    /// The thread is to park.
    pub(crate) const SUSPEND: u32 = 2;
    /// The thread is to end.
    pub(crate) const TERMINATE: u32 = 4;
    /// The thread is to give its virtual CPU to another.
    pub(crate) const YIELD: u32 = 8;

    /// Makes the requests of a thread, which are counted in `kicks`.
    pub(crate) fn new(kicks: &Arc<Kicks>) -> Self {
        Self { kicks: kicks.clone(), ..Self::default() }
    }

    /// Raises a request; a thread in user mode is interrupted.
    pub(crate) fn raise(&self, request: u32) {
        self.raised.fetch_or(request, Ordering::SeqCst);
        let interrupted = match &*self.whereabouts() {
            Whereabouts::Awake => false,
            Whereabouts::Behind(door) => door.kick(),
            Whereabouts::Parked(thread) => {
                thread.unpark();
                false
            }
        };
        self.kicks.add(interrupted);
    }

    /// Has the calling thread, which is not in user mode, call its provider before it enters it again.
    pub(super) fn owe(&self) {
        self.raised.fetch_or(Self::KICK, Ordering::SeqCst);
    }

    /// Takes a request back.
    pub(crate) fn clear(&self, request: u32) {
        self.raised.fetch_and(!request, Ordering::SeqCst);
    }

    /// Takes a request; tells whether it was raised.
    pub(crate) fn take(&self, request: u32) -> bool {
        self.raised.load(Ordering::SeqCst) & request != 0
            && self.raised.fetch_and(!request, Ordering::SeqCst) & request != 0
    }

    /// Tells whether a request is raised.
    pub(crate) fn is_raised(&self, request: u32) -> bool {
        self.raised.load(Ordering::SeqCst) & request != 0
    }

    /// Tells whether any request is raised.
    pub(crate) fn any(&self) -> bool {
        self.raised.load(Ordering::SeqCst) != 0
    }

    /// Says which virtual CPU runs the thread from now on. Requests raised before are seen at the next entry.
    pub(super) fn attach(&self, door: Arc<Door>) {
        *self.whereabouts() = Whereabouts::Behind(door);
    }

    /// Says that the calling host thread is going to park: requests raised from now on unpark it.
    pub(super) fn park_here(&self) {
        *self.whereabouts() = Whereabouts::Parked(std::thread::current());
    }

    /// Says that no virtual CPU runs the thread any longer, and that it is not parked.
    pub(super) fn detach(&self) {
        *self.whereabouts() = Whereabouts::Awake;
    }

    fn whereabouts(&self) -> MutexGuard<'_, Whereabouts> {
        self.whereabouts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
