//! Changes of code that virtual CPUs may be running.

use super::super::arena::usize_of;
use super::super::coherence::Changes;
use super::super::entry::Sharing;
use super::super::tables::{index, load, swap};
use super::super::{Entry, MemoryError, raw};
use super::edit::small_table;
use super::{Access, AddressSpace, State, check, pack};
use crate::addr::{PAGE_SIZE, UserAddr, UserRange};

impl AddressSpace {
    /// Replaces the bytes `from` at `at` by as many others, if they are there and lie in one page that user mode may execute
    /// and not store to; the page becomes this space's own. Returns whether it did. The mapping must be a private one.
    ///
    /// Virtual CPUs that run the code meanwhile see all the bytes change at once: the new ones are put into another frame,
    /// which takes the place of the old, and no virtual CPU has a translation of that any more when this returns. A store
    /// to the page itself would need all of them out of the guest: a fetch that races with it may see half of it.
    ///
    /// # Panics
    /// If the bytes cross a page, or their numbers differ.
    pub fn exchange_code(&self, at: UserAddr, from: &[u8], to: &[u8]) -> Result<bool, MemoryError> {
        let page = at.page();
        check(UserRange { start: page, end: UserAddr(page.0 + PAGE_SIZE) });
        assert!(
            from.len() == to.len() && at.0 - page.0 + from.len() as u64 <= PAGE_SIZE,
            "code is changed in one page"
        );
        self.make_ready(page)?;
        self.memory.with_reclaim(|| self.exchange_in(&mut self.edit(), at, from, to))
    }

    fn exchange_in(&self, state: &mut State, at: UserAddr, from: &[u8], to: &[u8]) -> Result<bool, MemoryError> {
        let memory = &*self.memory;
        self.unpack(state, at.page(), pack::Source::Limit)?;
        let Some(directory) = state.tables.block(&memory.arena, at) else { return Ok(false) };
        let granted = load(directory);
        if granted.is_large() && !is_code(granted) {
            return Ok(false);
        }
        let mut changes = Changes::new(memory);
        let table = small_table(memory, directory, &mut changes);
        let result = match table.map(|table| &table[index(at, 0)]) {
            Some(slot) if load(slot).is_leaf() && is_code(load(slot)) => {
                let old = load(slot);
                self.copy_exchanged(state, old, at, (from, to)).map(|new| match new {
                    Some(new) => {
                        changes.swapped(swap(slot, new));
                        true
                    }
                    None => false,
                })
            }
            _ => Ok(false),
        };
        changes.finish(&self.sync);
        result
    }

    /// Copies the page behind `old` to a frame of its own, with other bytes at `at`; `None` if they are not what is expected.
    fn copy_exchanged(
        &self,
        state: &mut State,
        old: Entry,
        at: UserAddr,
        (from, to): (&[u8], &[u8]),
    ) -> Result<Option<Entry>, MemoryError> {
        let memory = &*self.memory;
        let failed = |_| MemoryError::Io(libc::EFAULT);
        let (source, within) = (memory.arena.host(old.frame()), usize_of(at.0 % PAGE_SIZE));
        let mut page = [0; usize_of(PAGE_SIZE)];
        // SAFETY: a frame of the arena, and a buffer of a page.
        unsafe { raw::copy(raw::buffer(&mut page), source, page.len()) }.map_err(failed)?;
        let code = &mut page[within..within + from.len()];
        if code != from {
            return Ok(None);
        }
        code.copy_from_slice(to);
        let taken = state.blocks.take(memory, &mut memory.pool(), at.0 / PAGE_SIZE, 1)?;
        let target = memory.arena.host(taken.frame);
        // SAFETY: a frame that was just taken, which nobody else has, and a buffer of a page.
        if let Err(stopped) = unsafe { raw::copy(target, page.as_ptr(), page.len()) } {
            memory.pool().put(&memory.arena, taken.frame, taken.count, false);
            return Err(failed(stopped));
        }
        Ok(Some(Entry::leaf(taken.frame, old.access(), Sharing::Plain)))
    }
}

/// Tells whether user mode may execute what an entry shows, and not store to it.
fn is_code(entry: Entry) -> bool {
    entry.access().contains(Access::EXEC) && !entry.access().contains(Access::WRITE)
}
