//! Taking back what was handed out for nothing, and finding out why the host could not supply a page.

use super::arena::{FRAMES, usize_of};
use super::coherence::Changes;
use super::committed::Committed;
use super::extent::Home;
use super::tables::{load, store};
use super::{AddressSpace, Entry, GuestMemory, MemoryError};
use crate::addr::{BLOCK_SIZE, PAGE_SIZE};
use std::sync::atomic::AtomicU64;

/// What to do after the host could not supply a page to a running virtual CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Entries were taken away: run again, so that the access faults with its address.
    Retry,
    /// Nothing is wrong that we could find: the host is out of memory. Running again would fail for ever.
    Hopeless,
}

/// How often memory is made free by compression for one request: another thread may be faster to use it.
const RELIEFS: usize = 4;
/// Requests for more bytes than these are for later.
const AHEAD_OF_USE: u64 = BLOCK_SIZE;

impl GuestMemory {
    /// Tries, and if the limit stands in the way takes back what was never touched, then compresses, and tries again.
    pub(super) fn with_reclaim<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, MemoryError>,
    ) -> Result<T, MemoryError> {
        let mut result = self.with_untouched(&mut attempt);
        for _ in 0..RELIEFS {
            if !matches!(result, Err(MemoryError::LimitReached)) || self.relieve() == 0 {
                break;
            }
            result = attempt();
        }
        self.note_held();
        result
    }

    /// As [`Self::with_reclaim`], for `bytes` of frames: for many of them, which the caller asks for ahead of their use,
    /// nothing is compressed that is in use.
    pub(super) fn with_reclaim_for<T>(
        &self,
        bytes: u64,
        mut attempt: impl FnMut() -> Result<T, MemoryError>,
    ) -> Result<T, MemoryError> {
        if bytes <= AHEAD_OF_USE {
            return self.with_reclaim(attempt);
        }
        let result = self.with_untouched(&mut attempt);
        self.note_held();
        result
    }

    fn with_untouched<T>(&self, attempt: &mut impl FnMut() -> Result<T, MemoryError>) -> Result<T, MemoryError> {
        match attempt() {
            Err(MemoryError::LimitReached) if self.reclaim_untouched() > 0 => attempt(),
            other => other,
        }
    }

    /// Takes frames back that were assigned but never touched; returns how many. Mapping is eager and the host commits
    /// lazily, so a program that maps more than it uses must not meet the limit for that.
    pub(super) fn reclaim_untouched(&self) -> u64 {
        let spaces = self.spaces();
        spaces.iter().filter(|space| !space.is_store()).map(|space| space.reclaim_untouched()).sum()
    }
}

impl AddressSpace {
    fn reclaim_untouched(&self) -> u64 {
        let state = self.edit();
        let memory = &*self.memory;
        let mut committed = Committed::new(memory);
        let mut taken: Vec<(&AtomicU64, Entry)> = Vec::new();
        state.tables.for_blocks(&memory.arena, super::space::everything(), |_, directory| {
            let entry = load(directory);
            let slots = match entry {
                _ if entry.is_large() => std::slice::from_ref(directory),
                _ if entry.is_table() => memory.arena.table(entry.frame()).as_slice(),
                _ => return,
            };
            for slot in slots {
                let entry = load(slot);
                if entry.is_leaf() && memory.is_alone(entry) && committed.untouched(entry) {
                    taken.push((slot, entry));
                }
            }
        });
        // Out of reach first, and only then judged again: a virtual CPU may have touched them in between.
        let mut changes = Changes::new(memory);
        for &(slot, entry) in &taken {
            store(slot, Entry::EMPTY);
            changes.changed(entry, Entry::EMPTY);
        }
        changes.finish(&self.sync);
        let mut committed = Committed::new(memory);
        let mut changes = Changes::new(memory);
        let mut frames = 0;
        for (slot, entry) in taken {
            if committed.untouched(entry) {
                frames += if entry.is_large() { u64::from(FRAMES) } else { 1 };
                changes.untouched(entry);
            } else {
                store(slot, entry);
            }
        }
        changes.finish(&self.sync);
        frames
    }

    /// Looks for pages of this space that the host cannot supply and takes them away, so that the access that failed
    /// inside the guest fails again as a page fault with its address.
    pub(crate) fn resolve_efault(&self) -> Resolution {
        let state = self.edit();
        let memory = &*self.memory;
        let mut changes = Changes::new(memory);
        let found = std::cell::Cell::new(false);
        let mut drop_pages = |range: crate::addr::UserRange, bad: &dyn Fn(Entry) -> bool, mark: Entry| {
            state.tables.for_blocks(&memory.arena, range, |part, directory| {
                let entry = load(directory);
                if !entry.is_table() {
                    return;
                }
                for slot in &memory.arena.table(entry.frame())[super::space::slots(part)] {
                    let entry = load(slot);
                    if entry.is_leaf() && memory.is_window(entry) && bad(entry) {
                        store(slot, mark);
                        changes.released(entry);
                        found.set(true);
                    }
                }
            });
        };
        let files = state.sources.files();
        for (range, file, offset) in &files {
            let inside = file.size().unwrap_or(0).saturating_sub(*offset).next_multiple_of(PAGE_SIZE);
            let beyond = crate::addr::UserAddr(range.start.0 + inside.min(range.len()));
            drop_pages(crate::addr::UserRange { start: beyond, end: range.end }, &|_| true, Entry::EMPTY);
        }
        if !found.get() {
            for (range, _, _) in &files {
                let fails = |entry: Entry| {
                    let advice = if entry.is_writable() { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ };
                    !memory.arena.populate(entry.frame(), advice)
                };
                drop_pages(*range, &fails, Entry::BUS);
            }
        }
        changes.finish(&self.sync);
        drop(state);
        drop(files);
        if found.get() { Resolution::Retry } else { Resolution::Hopeless }
    }
}

impl GuestMemory {
    /// Tells whether a leaf is the only holder of frames of the pool.
    pub(super) fn is_alone(&self, entry: Entry) -> bool {
        let pool = self.pool();
        let count = if entry.is_large() { FRAMES } else { 1 };
        let frame = entry.frame();
        !pool.extent(frame.extent()).is_window() && (0..count).all(|at| pool.count(frame.add(at)) == 1)
    }

    /// Tells whether a leaf of a file's mapping points to a frame that is not the file's.
    pub(super) fn is_copy(&self, entry: Entry) -> bool {
        matches!(self.pool().extent(entry.frame().extent()).home, Home::Space { .. } | Home::Common)
    }

    /// Tells whether a leaf points into the file window.
    fn is_window(&self, entry: Entry) -> bool {
        self.pool().extent(entry.frame().extent()).is_window()
    }
}

const _: () = assert!(usize_of(PAGE_SIZE) == 4096);
