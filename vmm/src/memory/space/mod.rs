//! Address spaces: a page-table root and the frames mapped in it.
//!
//! Edits hold the state's lock for writing until they are true for every virtual CPU; the monitor's own accesses walk
//! the tables in software and hold it for reading, so that no frame is taken away under them.

mod access;
mod code;
mod edit;
mod fork;
#[cfg(test)]
mod fork_tests;
mod io;
mod map;
mod pack;
mod share;
mod source;
#[cfg(test)]
mod tests;

pub use access::{Fault, FaultKind};
pub(super) use edit::slots;
pub use fork::{Eagerness, ForkPlan};
pub use io::IoError;
use pack::Packs;
pub(in crate::memory) use pack::{Outcome, Watch};
use share::Recent;
use source::{Source, Sources};

use super::blocks::{Blocks, Owner};
use super::coherence::Changes;
use super::tables::Tables;
use super::{Entry, Frame, GuestMemory, MemoryError};
use crate::addr::{GuestPhys, USER_END, UserAddr, UserRange};
use crate::machine::SpaceSync;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

bitflags::bitflags! {
    /// What user mode may do with a page. The processor cannot forbid reading a page that may be written or executed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u8 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXEC = 4;
    }
}

/// What an address space's entry for a page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// No frame is assigned.
    Absent,
    /// There is a page, in a frame or compressed; user mode may access it as the value says (`Access::empty()`: PROT_NONE).
    /// Where the processor has to see it first, [`AddressSpace::make_ready`] does that.
    Mapped(Access),
    /// As `Mapped`, but a store must break the sharing first.
    CopyOnWrite(Access),
    /// The host could not supply the page.
    Bus,
}

/// A page-table root and the frames mapped in it. All ranges are page-aligned and below `USER_END` (else: a panic, a provider bug).
///
/// Operations that take rights away are complete when they return: no virtual CPU has the old translation.
#[derive(Debug)]
pub struct AddressSpace {
    pub(super) memory: Arc<GuestMemory>,
    me: Weak<Self>,
    pub(super) sync: SpaceSync,
    /// Nothing of it is taken back: the store of compressed pages lies in it.
    is_store: AtomicBool,
    state: RwLock<State>,
}

/// What the lock guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) tables: Tables,
    blocks: Blocks,
    pub(super) sources: Sources,
    recent: Recent,
    packs: Packs,
}

impl AddressSpace {
    /// Makes an empty space around a zeroed page for its top-level table.
    pub(super) fn new(memory: Arc<GuestMemory>, id: u64, top: Frame) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            memory,
            me: me.clone(),
            sync: SpaceSync::default(),
            is_store: AtomicBool::new(false),
            state: RwLock::new(State {
                tables: Tables::new(top),
                blocks: Blocks::new(Owner::Space(id)),
                sources: Sources::default(),
                recent: Recent::default(),
                packs: Packs::default(),
            }),
        })
    }

    /// Notes that a virtual CPU is about to enter user mode in it.
    #[inline]
    pub(crate) fn note_entry(&self) {
        self.memory.packing.stir();
    }

    /// Makes it the space of a store: nothing of it is taken back or compressed from now on.
    pub(super) fn become_store(&self) {
        self.is_store.store(true, Ordering::Release);
    }

    /// Tells whether a store lies in it.
    pub(super) fn is_store(&self) -> bool {
        self.is_store.load(Ordering::Acquire)
    }

    /// What virtual CPUs compare as they enter.
    pub(crate) fn sync(&self) -> &SpaceSync {
        &self.sync
    }

    /// Makes a top-level page for one virtual CPU: the user half mirrors this space's, now and later; the last entry is
    /// `top_entry` (its own supervisor slot).
    pub(crate) fn make_root(&self, top_entry: Entry) -> Result<Root, MemoryError> {
        let mut state = self.edit();
        let frame = self.memory.pool().take_table(&self.memory.arena, &*self.memory.machine)?;
        state.tables.add_root(&self.memory.arena, frame, top_entry);
        let space = self.me.upgrade().ok_or(MemoryError::HostExhausted)?;
        Ok(Root { space, frame })
    }

    /// Tells what the entry for the page at `addr` says.
    pub fn page_state(&self, addr: UserAddr) -> PageState {
        if addr.0 >= USER_END {
            return PageState::Absent;
        }
        let entry = self.look().tables.leaf(&self.memory.arena, addr);
        if entry.is_bus() {
            PageState::Bus
        } else if !entry.has_contents() {
            PageState::Absent
        } else if entry.is_copy_on_write() {
            PageState::CopyOnWrite(entry.access())
        } else {
            PageState::Mapped(entry.access())
        }
    }

    fn look(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn edit(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut changes = Changes::new(&self.memory);
        edit::clear(state, &self.memory, everything(), &mut changes);
        let pages = state.tables.pages(&self.memory.arena);
        pages.into_iter().for_each(|page| changes.unlinked(page));
        changes.finish_dead();
    }
}

/// A top-level page of an address space for one virtual CPU. Dropping it gives the page back: the virtual CPU must have
/// loaded another one, or be gone, and must flush when it loads this page's frame again for another space.
#[derive(Debug)]
pub(crate) struct Root {
    space: Arc<AddressSpace>,
    frame: Frame,
}

impl Root {
    /// What CR3 is loaded with.
    pub(crate) fn phys(&self) -> GuestPhys {
        self.frame.phys()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let memory = &self.space.memory;
        if self.space.edit().tables.remove_root(self.frame) {
            let shadowed = memory.machine.paging() == crate::Paging::Shadow;
            memory.pool().retire_tables(&memory.arena, &[self.frame], shadowed);
        }
    }
}

/// The whole user half.
pub(super) fn everything() -> UserRange {
    UserRange { start: UserAddr(0), end: UserAddr(USER_END) }
}

/// Panics unless a range is one that operations take.
fn check(range: UserRange) {
    assert!(
        range.start.is_page_aligned()
            && range.end.is_page_aligned()
            && range.start <= range.end
            && range.end.0 <= USER_END,
        "{range:?} is not a page-aligned range of user addresses"
    );
}
