//! What programs do, counted: system calls by number, page faults by what was tried, wake-ups.
//!
//! A count is one relaxed addition to a word that all threads share: some nanoseconds in a call, which takes microseconds.

use crate::syscall::names;
use std::sync::atomic::{AtomicU64, Ordering};
use vmm::memory::Access;

/// The counters of a sandbox.
#[derive(Debug)]
pub struct Statistics {
    /// By number.
    calls: Vec<AtomicU64>,
    unknown_calls: AtomicU64,
    read_faults: AtomicU64,
    write_faults: AtomicU64,
    fetch_faults: AtomicU64,
    failed_faults: AtomicU64,
    wake_ups: AtomicU64,
    spared_signals: AtomicU64,
    patched_sites: AtomicU64,
}

/// Page faults that the provider was asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Reads that it made possible.
    pub read: u64,
    /// Stores that it made possible, by copying a page or assigning memory.
    pub write: u64,
    /// Fetches of instructions that it made possible.
    pub fetch: u64,
    /// Accesses that the program had no right to: signals.
    pub failed: u64,
}

impl Default for Statistics {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            calls: (0..names::SIZE).map(|_| zero()).collect(),
            unknown_calls: zero(),
            read_faults: zero(),
            write_faults: zero(),
            fetch_faults: zero(),
            failed_faults: zero(),
            wake_ups: zero(),
            spared_signals: zero(),
            patched_sites: zero(),
        }
    }
}

impl Statistics {
    /// Counts a system call.
    pub(crate) fn call(&self, number: u64) {
        let counter = usize::try_from(number).ok().and_then(|number| self.calls.get(number));
        add(counter.unwrap_or(&self.unknown_calls));
    }

    /// Counts a page fault that was resolved.
    pub(crate) fn fault(&self, access: Access) {
        add(match access {
            Access::EXEC => &self.fetch_faults,
            Access::WRITE => &self.write_faults,
            _ => &self.read_faults,
        });
    }

    /// Counts a page fault that became a signal.
    pub(crate) fn failed_fault(&self) {
        add(&self.failed_faults);
    }

    /// Counts that a thread that slept goes on.
    pub(crate) fn wake_up(&self) {
        add(&self.wake_ups);
    }

    /// Counts a signal that interrupted nobody: its thread was not in user mode, and sees it before it returns there.
    pub(crate) fn spared_signal(&self) {
        add(&self.spared_signals);
    }

    /// Counts a call site that was patched.
    pub(crate) fn patched_site(&self) {
        add(&self.patched_sites);
    }

    /// How many call sites were patched.
    pub fn patched_sites(&self) -> u64 {
        self.patched_sites.load(Ordering::Relaxed)
    }

    /// The calls that were made, by name, and how often; those without a name last.
    pub fn calls(&self) -> Vec<(String, u64)> {
        let named = |(number, counter): (u64, &AtomicU64)| {
            let name = names::name(number).map_or_else(|| format!("system call {number}"), str::to_owned);
            (name, counter.load(Ordering::Relaxed))
        };
        let unknown = ("unknown".to_owned(), self.unknown_calls.load(Ordering::Relaxed));
        (0..).zip(&self.calls).map(named).chain([unknown]).filter(|(_, count)| *count > 0).collect()
    }

    /// The page faults.
    pub fn faults(&self) -> FaultCounts {
        FaultCounts {
            read: self.read_faults.load(Ordering::Relaxed),
            write: self.write_faults.load(Ordering::Relaxed),
            fetch: self.fetch_faults.load(Ordering::Relaxed),
            failed: self.failed_faults.load(Ordering::Relaxed),
        }
    }

    /// How many signals interrupted nobody.
    pub fn spared_signals(&self) -> u64 {
        self.spared_signals.load(Ordering::Relaxed)
    }

    /// How often a thread that slept in a call went on.
    pub fn wake_ups(&self) -> u64 {
        self.wake_ups.load(Ordering::Relaxed)
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_faults_are_counted_by_kind() {
        let statistics = Statistics::default();
        for number in [0, 1, 1, u64::from(u32::MAX)] {
            statistics.call(number);
        }
        let counts: Vec<_> =
            [("read", 1), ("write", 2), ("unknown", 1)].map(|(name, count)| (name.to_owned(), count)).into();
        assert_eq!(statistics.calls(), counts);
        for access in [Access::READ, Access::WRITE, Access::WRITE, Access::EXEC] {
            statistics.fault(access);
        }
        statistics.failed_fault();
        assert_eq!(statistics.faults(), FaultCounts { read: 1, write: 2, fetch: 1, failed: 1 });
        statistics.wake_up();
        statistics.spared_signal();
        statistics.spared_signal();
        assert_eq!(statistics.spared_signals(), 2);
        assert_eq!(statistics.wake_ups(), 1);
    }
}
