//! Time: the clock page that programs read without a trap, and the same time for calls that do trap.
//!
//! A [`Clock`] measures the host's clocks against the time-stamp counter and publishes a line through them in a
//! [`ClockPage`], a page of guest memory that the provider maps read-only into programs. The host's own scale
//! factors are not readable, so the line is an estimate: a few nanoseconds off at the moment of a measurement, tens at
//! the end of its horizon (at most 100 ms later), and as far off as the host's clock is steered in between.
//!
//! No timer runs. A reader past the horizon asks the host (the vDSO traps), [`Clock::now`] measures again, and the next
//! 100 ms are free. So an idle sandbox wakes nobody, and steering or setting the host's clock is seen within 100 ms of
//! use. Monotonic clocks never go back, also across the change of lines: a line that turns out to be ahead is continued
//! at a slower rate until the host has caught up.
//!
//! This module knows clocks by [`ClockKind`]; which numbers a personality gives them is its own affair.
//! Lock rank: the measurement's lock is a leaf; readers of a line that holds take none.

mod estimate;
mod host;

use crate::addr::PAGE_SIZE;
use crate::memory::{GuestMemory, MemoryError, MemoryObject};
use estimate::Estimate;
pub use guest::clock::{ClockKind, ProcessorNumber};
use guest::clock::{ClockPage, counter};
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// What the time-stamp counter is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counter {
    /// The host keeps time by it, and programs read the same one.
    Shared {
        /// Its frequency as KVM or the processor states it; without one, the first milliseconds of clock calls trap.
        khz: Option<u32>,
    },
    /// The host keeps time by something else, or programs read another value: every clock call traps.
    #[default]
    Unusable,
}

impl Counter {
    /// Asks the host what it keeps time by. `khz` is the counter's frequency, if it is known.
    pub fn detect(khz: Option<u32>) -> Self {
        if host::keeps_time_by_counter() { Self::Shared { khz } } else { Self::Unusable }
    }
}

/// A sandbox's clocks.
pub struct Clock {
    page: Page,
    counter: Counter,
    estimate: Mutex<Estimate>,
}

impl Clock {
    /// Makes the clock page in guest memory. Nothing is measured before the first reading.
    pub fn new(memory: &Arc<GuestMemory>, counter: Counter) -> Result<Self, MemoryError> {
        let khz = match counter {
            Counter::Shared { khz } => khz,
            Counter::Unusable => None,
        };
        let estimate = Mutex::new(Estimate::new(khz.unwrap_or(0), host::coarse_step_ns()));
        Ok(Self { page: Page::new(memory)?, counter, estimate })
    }

    /// The memory object of one page that programs see right before the vDSO: to be mapped shared and read-only.
    pub fn object(&self) -> &Arc<MemoryObject> {
        &self.page.object
    }

    /// Says how programs find out which processor they run on; at first, they ask.
    ///
    /// [`ProcessorNumber::Answers`] shows the host's numbers, and what it shows is as old as the thread's last entry: right
    /// for one that keeps to a processor, and out of date at worst for others, as the answer of any call may be.
    /// Not TSC_AUX: on kvm-pvm RDTSCP and RDPID read the host's in ring 3, its processor's number (LSL of Linux's segment
    /// for it gives 0), but nothing promises that; elsewhere it belongs to the virtual CPU, whose host thread moves.
    pub fn set_processor_number(&self, how: ProcessorNumber) {
        self.page.get().set_processor_number(how);
    }

    /// Returns a clock's value in nanoseconds, the one that a program reads from its page at the same moment.
    pub fn now(&self, kind: ClockKind) -> u64 {
        if self.counter == Counter::Unusable {
            return host::now(kind);
        }
        self.page.get().now(kind).unwrap_or_else(|| self.measure(kind))
    }

    /// Nanoseconds between two steps of the coarse clocks.
    pub fn coarse_step_ns(&self) -> u64 {
        self.lock().coarse_step_ns()
    }

    /// Measures the host's clocks, publishes the line through them, and reads `kind` from it.
    #[cold]
    fn measure(&self, kind: ClockKind) -> u64 {
        let mut estimate = self.lock();
        // Somebody else may have measured while this thread waited for the lock.
        if let Some(ns) = self.page.get().now(kind) {
            return ns;
        }
        let sample = host::sample();
        let record = self.page.get().publish(|ticks| estimate.continue_at(ticks, &sample));
        record.at(kind, record.anchor).unwrap_or_else(|| host::now(kind))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Estimate> {
        // A panic while the lock is held leaves an estimate that the next measurement corrects.
        self.estimate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clock page's home: the only page of a memory object that this module owns.
struct Page {
    object: Arc<MemoryObject>,
    address: NonNull<ClockPage>,
}

// SAFETY: the address is used for atomic access only, and what it points to lives as long as the object.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    fn new(memory: &Arc<GuestMemory>) -> Result<Self, MemoryError> {
        let object = memory.new_object();
        object.set_size(PAGE_SIZE);
        let page = Self { address: object.pinned_page(0)?.cast(), object };
        // A first touch: only untouched frames are ever taken back.
        page.get().set_processor_number(ProcessorNumber::Ask);
        Ok(page)
    }

    fn get(&self) -> &ClockPage {
        // SAFETY: a pinned page is aligned, was zeroed (a valid clock page) and stays as long as its object. Only this
        // module writes to it, through atomics; programs have it read-only.
        unsafe { self.address.as_ref() }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("counter", &self.counter).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
