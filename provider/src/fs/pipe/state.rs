//! A pipe: its contents, its ends, and who waits for either.

use super::Times;
use super::account::{Account, Charge, Quota};
use super::ring::{PAGE, Ring};
use crate::errno::Errno;
use crate::fs::{Ready, Sink, Source, Timestamp};
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::task::{Credentials, WaitQueue};
use std::sync::Arc;

/// What changes for readers.
pub(super) const READABLE: Ready = Ready::IN.union(Ready::RDNORM);
/// What changes for writers.
pub(super) const WRITABLE: Ready = Ready::OUT.union(Ready::WRNORM);

/// A pipe or FIFO.
#[derive(Debug)]
pub(crate) struct Pipe {
    state: Mutex<State>,
    changed: WaitQueue,
    account: Arc<Account>,
}

/// What a pipe's lock guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) ring: Ring,
    quota: Quota,
    pub(super) times: Times,
    pub(super) readers: End,
    pub(super) writers: End,
}

/// How often one side is open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct End {
    /// Now.
    pub(super) open: u32,
    /// Since the pipe was made: an open that waits for this side sees that somebody came, even if they left.
    pub(super) ever: u32,
}

impl End {
    fn add(&mut self) {
        self.open += 1;
        self.ever = self.ever.wrapping_add(1);
    }
}

/// Which sides an open file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sides {
    pub(super) reads: bool,
    pub(super) writes: bool,
}

impl Pipe {
    /// Makes a pipe with no ends.
    pub(super) fn new(quota: Quota, account: Arc<Account>) -> Arc<Self> {
        let now = Timestamp::now();
        let state = State {
            ring: Ring::new(quota.slots()),
            quota,
            times: Times { accessed: now, modified: now },
            readers: End::default(),
            writers: End::default(),
        };
        Arc::new(Self { state: Mutex::new(Rank::Pipe, state), changed: WaitQueue::default(), account })
    }

    /// Woken at each change.
    pub(super) fn changed(&self) -> &WaitQueue {
        &self.changed
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Accounts for a buffer.
    pub(super) fn charge(&self) -> Result<Charge, Errno> {
        Charge::take(&self.account)
    }

    /// Adds an open file of these sides; returns the ends as they are with it.
    pub(super) fn open(&self, sides: Sides) -> (End, End) {
        let mut state = self.lock();
        if sides.reads {
            state.readers.add();
        }
        if sides.writes {
            state.writers.add();
        }
        (state.readers, state.writers)
    }

    /// Takes an open file of these sides away; with the last of one side the other learns of it, with the last of both the contents go.
    pub(super) fn close(&self, sides: Sides) {
        let mut state = self.lock();
        state.readers.open -= u32::from(sides.reads);
        state.writers.open -= u32::from(sides.writes);
        let (reads, writes) = (state.readers.open > 0, state.writers.open > 0);
        if !reads && !writes {
            state.ring.clear();
        }
        drop(state);
        if reads != writes {
            self.changed.wake_all();
        }
    }

    /// Reads what is there, at most to the end of a packet; 0 when all writers are gone, `EAGAIN` while they are not.
    pub(super) fn read(&self, to: &mut dyn Sink) -> Result<usize, Errno> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let mut state = self.lock();
        if state.ring.is_empty() {
            return if state.writers.open == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        let was_full = state.ring.is_full();
        let read = state.ring.read(to);
        if read.is_ok() {
            state.times.accessed = Timestamp::now();
        }
        self.after_reading(state, was_full);
        read
    }

    /// Wakes whom a read concerns: writers when there is room again, and the next reader if something is left.
    pub(super) fn after_reading(&self, state: MutexGuard<'_, State>, was_full: bool) {
        let (room, left) = (was_full && !state.ring.is_full(), !state.ring.is_empty());
        drop(state);
        if room {
            self.changed.wake(WRITABLE);
        }
        if left {
            self.changed.wake_next(READABLE);
        }
    }

    /// Writes what fits; `EAGAIN` if that is nothing, `EPIPE` without readers.
    pub(super) fn write(&self, from: &mut dyn Source, packets: bool) -> Result<usize, Errno> {
        if from.remaining() == 0 {
            return Ok(0);
        }
        let mut state = self.lock();
        if state.readers.open == 0 {
            return Err(Errno::EPIPE);
        }
        let written = state.ring.write(from, packets, || self.charge());
        if written.is_ok() {
            state.times.modified = Timestamp::now();
            self.after_writing(state);
        }
        written
    }

    /// Wakes whom a write concerns: readers, and the next writer if there is room left.
    pub(super) fn after_writing(&self, state: MutexGuard<'_, State>) {
        let room = !state.ring.is_full();
        drop(state);
        self.changed.wake(READABLE);
        if room {
            self.changed.wake_next(WRITABLE);
        }
    }

    /// Bytes that wait to be read (FIONREAD).
    pub(super) fn bytes(&self) -> usize {
        self.lock().ring.bytes()
    }

    /// The capacity in bytes (F_GETPIPE_SZ).
    pub(crate) fn size(&self) -> usize {
        self.lock().ring.slots() * PAGE
    }

    /// Changes the capacity (F_SETPIPE_SZ); returns what it is then. `EINVAL`, `EPERM`, `EBUSY` if more is in the pipe.
    pub(crate) fn resize(&self, size: u32, who: &Credentials) -> Result<usize, Errno> {
        let mut state = self.lock();
        let slots = state.quota.judge(size, who)?;
        state.ring.resize(slots)?;
        state.quota.change(slots);
        let room = !state.ring.is_full();
        drop(state);
        if room {
            self.changed.wake(WRITABLE);
        }
        Ok(slots * PAGE)
    }
}
