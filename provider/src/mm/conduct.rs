//! What a process says about its memory as a whole (prctl(2)).

use super::MemoryMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Whether others with the same user may look at a process's memory, and own its files in /proc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dumpable {
    /// Nobody but the privileged.
    No,
    /// Yes.
    Yes,
}

impl Dumpable {
    /// As PR_GET_DUMPABLE tells it.
    pub fn raw(self) -> u32 {
        u32::from(self == Self::Yes)
    }
}

/// The state of it. Looked at without the map's lock.
#[derive(Debug)]
pub(super) struct Conduct {
    dumpable: AtomicBool,
    refuses_huge_pages: AtomicBool,
    /// Which barriers its threads have registered for (membarrier(2)).
    barriers: AtomicU32,
    core_filter: AtomicU32,
}

/// What a core has unless it is changed: private and shared anonymous memory, ELF headers, private huge pages.
const CORE_FILTER: u32 = 0x33;

impl Default for Conduct {
    fn default() -> Self {
        Self {
            dumpable: AtomicBool::new(true),
            refuses_huge_pages: AtomicBool::new(false),
            barriers: AtomicU32::new(0),
            core_filter: AtomicU32::new(CORE_FILTER),
        }
    }
}

impl Conduct {
    /// A copy, for fork.
    pub(super) fn duplicate(&self) -> Self {
        let copy = |flag: &AtomicBool| AtomicBool::new(flag.load(Ordering::Relaxed));
        Self {
            dumpable: copy(&self.dumpable),
            refuses_huge_pages: copy(&self.refuses_huge_pages),
            barriers: AtomicU32::new(self.barriers.load(Ordering::Relaxed)),
            core_filter: AtomicU32::new(self.core_filter.load(Ordering::Relaxed)),
        }
    }
}

impl MemoryMap {
    /// Whether others may look at it.
    pub fn dumpable(&self) -> Dumpable {
        if self.conduct.dumpable.load(Ordering::Relaxed) { Dumpable::Yes } else { Dumpable::No }
    }

    /// Changes that.
    pub fn set_dumpable(&self, dumpable: Dumpable) {
        self.conduct.dumpable.store(dumpable == Dumpable::Yes, Ordering::Relaxed);
    }

    /// Whether it asked not to get huge pages. Kept: where they come from does not differ.
    pub fn refuses_huge_pages(&self) -> bool {
        self.conduct.refuses_huge_pages.load(Ordering::Relaxed)
    }

    /// Changes that.
    pub fn refuse_huge_pages(&self, refuse: bool) {
        self.conduct.refuses_huge_pages.store(refuse, Ordering::Relaxed);
    }

    /// Which barriers its threads have registered for: commands of membarrier(2).
    pub fn barriers(&self) -> u32 {
        self.conduct.barriers.load(Ordering::SeqCst)
    }

    /// Registers its threads for a barrier.
    pub fn register_barrier(&self, command: u32) {
        self.conduct.barriers.fetch_or(command, Ordering::SeqCst);
    }

    /// Which mappings a core would have (/proc/PID/coredump_filter).
    pub fn core_filter(&self) -> u32 {
        self.conduct.core_filter.load(Ordering::Relaxed)
    }

    /// Changes that; bits without a meaning are dropped.
    pub fn set_core_filter(&self, filter: u32) {
        self.conduct.core_filter.store(filter & 0x1ff, Ordering::Relaxed);
    }
}
