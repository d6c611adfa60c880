//! What happens in a host, counted: traps by kind, and the interruptions of user mode that the monitor asks for.
//!
//! A count is one relaxed addition to a word that all threads share: some nanoseconds at a trap, which takes microseconds.

use crate::trap::{Trap, Vector};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Exception vectors that the processor has.
const VECTORS: usize = 32;

/// A counter that goes up.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Requests that a thread leave user mode: signals, suspensions, ends.
#[derive(Debug, Default)]
pub(crate) struct Kicks {
    sent: Count,
    spared: Count,
}

impl Kicks {
    /// A request was made; the thread had to be interrupted, or not.
    pub(crate) fn add(&self, interrupted: bool) {
        if interrupted { self.sent.add() } else { self.spared.add() }
    }
}

/// Calls that threads have posted.
#[derive(Debug, Default)]
pub(crate) struct Posts {
    served: Count,
    refused: Count,
    missed: Count,
}

impl Posts {
    /// A call was served.
    pub(crate) fn served(&self) {
        self.served.add();
    }

    /// A call needed its thread.
    pub(crate) fn refused(&self) {
        self.refused.add();
    }

    /// Nobody took a call in time.
    pub(crate) fn missed(&self) {
        self.missed.add();
    }

    /// All counters, with the calls that were `answered` in the guest.
    pub(crate) fn paths(&self, answered: u64) -> CallPaths {
        let (posted, refused, missed) = (self.served.get(), self.refused.get(), self.missed.get());
        CallPaths { answered, posted, refused, missed }
    }
}

/// How system calls were made that took no trap, or tried to do without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallPaths {
    /// Answered in the guest. The programs count these: any of them may make it any number.
    pub answered: u64,
    /// Posted, and served while the thread spun in user mode.
    pub posted: u64,
    /// Posted, and made by trap after all, because they needed their thread.
    pub refused: u64,
    /// Posted, and made by trap after all, because nobody took them in time.
    pub missed: u64,
}

/// The counters of a host.
#[derive(Debug, Default)]
pub struct Statistics {
    system_calls: Count,
    kicked: Count,
    exceptions: [Count; VECTORS],
    legacy: Count,
    kicks: Arc<Kicks>,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Traps by SYSCALL.
    pub system_calls: u64,
    /// Traps by exceptions, by vector; those that came.
    pub exceptions: Vec<(Vector, u64)>,
    /// Traps because somebody asked for them.
    pub kicked: u64,
    /// Requests to leave user mode for which a thread was interrupted.
    pub kicks_sent: u64,
    /// Requests to leave user mode to threads that were not there.
    pub kicks_spared: u64,
}

impl Statistics {
    /// Counts a trap.
    pub(crate) fn trap(&self, trap: Trap) {
        match trap {
            Trap::Syscall => self.system_calls.add(),
            Trap::Kicked => self.kicked.add(),
            Trap::Exception(exception) => match self.exceptions.get(usize::from(exception.vector.0)) {
                Some(count) => count.add(),
                // The only one beyond is the gate of old system calls.
                None => self.legacy.add(),
            },
        }
    }

    /// Where requests to leave user mode are counted.
    pub(crate) fn kicks(&self) -> &Arc<Kicks> {
        &self.kicks
    }

    /// All counters.
    pub fn counts(&self) -> Counts {
        let processors = (0..).map(Vector).zip(&self.exceptions).map(|(vector, count)| (vector, count.get()));
        let all = processors.chain([(Vector::LEGACY_SYSCALL, self.legacy.get())]);
        Counts {
            system_calls: self.system_calls.get(),
            exceptions: all.filter(|(_, count)| *count > 0).collect(),
            kicked: self.kicked.get(),
            kicks_sent: self.kicks.sent.get(),
            kicks_spared: self.kicks.spared.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::UserAddr;
    use crate::trap::Exception;

    #[test]
    fn traps_are_counted_by_kind() {
        let statistics = Statistics::default();
        let exception = |vector| Trap::Exception(Exception { vector, error: 0, address: UserAddr(0) });
        let traps = [
            Trap::Syscall,
            exception(Vector::PAGE_FAULT),
            Trap::Kicked,
            exception(Vector::LEGACY_SYSCALL),
            exception(Vector::PAGE_FAULT),
            Trap::Syscall,
            Trap::Syscall,
        ];
        traps.into_iter().for_each(|trap| statistics.trap(trap));
        statistics.kicks().add(true);
        statistics.kicks().add(false);
        statistics.kicks().add(false);
        let counts = Counts {
            system_calls: 3,
            exceptions: vec![(Vector::PAGE_FAULT, 2), (Vector::LEGACY_SYSCALL, 1)],
            kicked: 1,
            kicks_sent: 1,
            kicks_spared: 2,
        };
        assert_eq!(statistics.counts(), counts);
    }
}
