//! Edits of an address space's tables: mapping, unmapping, protecting, moving, breaking copies.

use super::super::arena::{Arena, FRAMES, Frame, Table, usize_of};
use super::super::coherence::Changes;
use super::super::committed::Committed;
use super::super::entry::Sharing;
use super::super::extent::Home;
use super::super::pool::Pool;
use super::super::tables::{block_part, index, load, store};
use super::super::{Entry, GuestMemory, MemoryError};
use super::{Access, AddressSpace, State, check};
use crate::addr::{BLOCK_SIZE, PAGE_SIZE, UserAddr, UserRange};
use crate::machine::Machine;
use std::sync::atomic::AtomicU64;

impl AddressSpace {
    /// Assigns a zero frame to every absent page of `range`, with `access`. Pages that have a frame are left alone.
    /// With `large`, blocks that lie wholly in the range get 2 MiB entries on huge host pages.
    ///
    /// On an error some pages of the range may have got frames, and a caller that maps ahead of use may carry on: the
    /// others stay absent and can be asked for again. Before it fails with [`MemoryError::LimitReached`], frames that
    /// were assigned but never touched are taken back from all spaces, and for up to 2 MiB other pages are compressed.
    pub fn map_anonymous(&self, range: UserRange, access: Access, large: bool) -> Result<(), MemoryError> {
        check(range);
        self.memory.with_reclaim_for(range.len(), || {
            let mut state = self.edit();
            if large {
                self.collapse(&mut state, range);
            }
            self.assign(&mut state, range, access, large)
        })
    }

    /// Takes all pages of the range away and gives their frames back.
    pub fn unmap(&self, range: UserRange) {
        check(range);
        let mut state = self.edit();
        let mut changes = Changes::new(&self.memory);
        clear(&mut state, &self.memory, range, &mut changes);
        let sources = state.sources.remove(range);
        changes.finish(&self.sync);
        drop(state);
        // Objects and files may die with their last mapping: outside the lock, because they take others.
        drop(sources);
    }

    /// Changes what user mode may do with the range's pages; absent pages stay absent, contents stay.
    pub fn protect(&self, range: UserRange, access: Access) {
        check(range);
        let state = self.edit();
        let memory = &*self.memory;
        let mut changes = Changes::new(memory);
        state.tables.for_blocks(&memory.arena, range, |part, directory| {
            let entry = load(directory);
            if entry.is_large() && part.len() == BLOCK_SIZE {
                let new = entry.with_access(access);
                store(directory, new);
                changes.changed(entry, new);
                return;
            }
            if entry.is_large() && entry.access() == access {
                return;
            }
            let Some(table) = small_table(memory, directory, &mut changes) else { return };
            for slot in &table[slots(part)] {
                let entry = load(slot);
                if entry.has_contents() {
                    let new = entry.with_access(access);
                    store(slot, new);
                    changes.changed(entry, new);
                }
            }
        });
        changes.finish(&self.sync);
    }

    /// Moves the pages of `from` to `to` (which must be absent), for mremap.
    ///
    /// On an error nothing has moved.
    pub fn move_pages(&self, from: UserRange, to: UserAddr) -> Result<(), MemoryError> {
        check(from);
        let target = UserRange::new(to, from.len()).expect("a range below USER_END does not wrap");
        check(target);
        assert!(!target.overlaps(from), "pages move to another place");
        let aligned = (from.start.0 ^ to.0).is_multiple_of(BLOCK_SIZE);
        let mut state = self.edit();
        let memory = &*self.memory;
        let mut changes = Changes::new(memory);
        let result = make_way(&mut state, memory, from, to, aligned);
        if result.is_ok() {
            let tables = &state.tables;
            tables.for_blocks(&memory.arena, from, |part, directory| {
                let entry = load(directory);
                let there = UserAddr(part.start.0 - from.start.0 + to.0);
                if entry.is_large() && part.len() == BLOCK_SIZE && aligned {
                    let Some(target) = tables.block(&memory.arena, there) else { return };
                    if load(target).is_empty() {
                        store(directory, Entry::EMPTY);
                        changes.changed(entry, Entry::EMPTY);
                        store(target, entry);
                        return;
                    }
                }
                let Some(table) = small_table(memory, directory, &mut changes) else { return };
                for (page, slot) in (0..).zip(&table[slots(part)]) {
                    let entry = load(slot);
                    if entry.is_empty() {
                        continue;
                    }
                    let there = UserAddr(there.0 + page * PAGE_SIZE);
                    let target = tables.block(&memory.arena, there).expect("the way was made above");
                    let table = memory.arena.table(load(target).frame());
                    store(slot, Entry::EMPTY);
                    if entry.is_leaf() {
                        changes.changed(entry, Entry::EMPTY);
                    }
                    store(&table[index(there, 0)], entry);
                }
            });
            state.sources.shift(from, to);
        }
        changes.finish(&self.sync);
        result
    }

    /// Bytes of pages in `range` that there are, in frames or compressed (mincore, smaps).
    pub fn assigned(&self, range: UserRange) -> u64 {
        check(range);
        let mut bytes = 0;
        let arena = &self.memory.arena;
        self.look().tables.for_blocks(arena, range, |part, directory| {
            let entry = load(directory);
            if entry.is_large() {
                bytes += part.len();
            } else if entry.is_table() {
                let held = arena.table(entry.frame())[slots(part)].iter().filter(|slot| load(slot).has_contents());
                bytes += held.count() as u64 * PAGE_SIZE;
            }
        });
        bytes
    }

    /// Bytes of pages in `range` that have a frame with memory of the host's behind it (the resident set).
    pub fn resident(&self, range: UserRange) -> u64 {
        check(range);
        let mut pages = 0;
        let arena = &self.memory.arena;
        let mut committed = Committed::new(&self.memory);
        self.look().tables.for_blocks(arena, range, |part, directory| {
            let entry = load(directory);
            if entry.is_large() {
                pages += committed.touched(entry).min(part.len() / PAGE_SIZE);
            } else if entry.is_table() {
                let held = arena.table(entry.frame())[slots(part)].iter().map(load).filter(|leaf| leaf.is_leaf());
                pages += held.map(|leaf| committed.touched(leaf)).sum::<u64>();
            }
        });
        pages * PAGE_SIZE
    }

    /// Bytes of pages in `range` that something was ever stored to: resident ones, and compressed ones.
    pub fn contents(&self, range: UserRange) -> u64 {
        self.resident(range) + self.compressed(range)
    }

    /// Tells whether `range`, which maps a file, has pages of its own: copies that were made for private stores. Those of
    /// a small in-memory file count, too.
    pub fn has_copies(&self, range: UserRange) -> bool {
        check(range);
        let mut found = false;
        let arena = &self.memory.arena;
        self.look().tables.for_blocks(arena, range, |part, directory| {
            let entry = load(directory);
            if entry.is_large() {
                found |= self.memory.is_copy(entry);
            } else if entry.is_table() {
                let own =
                    |entry: Entry| entry.packed_number().is_some() || entry.is_leaf() && self.memory.is_copy(entry);
                found = found || arena.table(entry.frame())[slots(part)].iter().any(|slot| own(load(slot)));
            }
        });
        found
    }

    /// Unlinks empty page tables where 2 MiB entries could stand instead.
    fn collapse(&self, state: &mut State, range: UserRange) {
        let memory = &*self.memory;
        let mut changes = Changes::new(memory);
        state.tables.for_blocks(&memory.arena, range, |part, directory| {
            let entry = load(directory);
            if part.len() < BLOCK_SIZE || !entry.is_table() {
                return;
            }
            if memory.arena.table(entry.frame()).iter().all(|slot| load(slot).is_empty()) {
                store(directory, Entry::EMPTY);
                changes.unlinked(entry.frame());
            }
        });
        changes.finish(&self.sync);
    }

    /// Assigns frames to absent pages.
    fn assign(&self, state: &mut State, range: UserRange, access: Access, large: bool) -> Result<(), MemoryError> {
        let memory = &*self.memory;
        let arena = &memory.arena;
        let mut at = range.start;
        while at < range.end {
            let part = block_part(at, range.end);
            let mut pool = memory.pool();
            let directory = state.tables.make_block(arena, at, || pool.take_table(arena, memory.machine()))?;
            let entry = load(directory);
            if large && entry.is_empty() && part.len() == BLOCK_SIZE {
                let left = u32::try_from((range.end.0 - at.0) / BLOCK_SIZE).unwrap_or(u32::MAX);
                let home = state.blocks.home(at.0 / BLOCK_SIZE);
                if let Some(extent) = take_large(&mut pool, arena, memory.machine(), home, left)? {
                    state.blocks.insert(at.0 / BLOCK_SIZE, extent);
                    store(directory, Entry::large_leaf(Frame::at(extent, 0), access));
                }
            }
            if !load(directory).is_large() {
                let table = make_table(&mut pool, memory, directory)?;
                self.fill(state, &mut pool, table, part, access)?;
            }
            at = part.end;
        }
        Ok(())
    }

    /// Assigns frames to the absent pages of one page table.
    pub(super) fn fill(
        &self,
        state: &mut State,
        pool: &mut Pool,
        table: &Table,
        part: UserRange,
        access: Access,
    ) -> Result<(), MemoryError> {
        let range = slots(part);
        let mut at = range.start;
        while at < range.end {
            let absent = table[at..range.end].iter().take_while(|slot| load(slot).is_empty()).count();
            if absent == 0 {
                at += 1;
                continue;
            }
            let page = part.start.0 / PAGE_SIZE + (at - range.start) as u64;
            let taken = state.blocks.take(&self.memory, pool, page, u32::try_from(absent).unwrap_or(FRAMES))?;
            for offset in 0..taken.count {
                store(&table[at], Entry::leaf(taken.frame.add(offset), access, Sharing::Plain));
                at += 1;
            }
        }
        Ok(())
    }
}

/// Clears all entries of a range.
pub(super) fn clear(state: &mut State, memory: &GuestMemory, range: UserRange, changes: &mut Changes<'_>) {
    let packs = &mut state.packs;
    state.tables.for_blocks(&memory.arena, range, |part, directory| {
        let entry = load(directory);
        if entry.is_large() && part.len() == BLOCK_SIZE {
            store(directory, Entry::EMPTY);
            changes.released(entry);
            return;
        }
        let Some(table) = small_table(memory, directory, changes) else { return };
        for slot in &table[slots(part)] {
            let entry = load(slot);
            if !entry.is_empty() {
                store(slot, Entry::EMPTY);
            }
            if entry.is_leaf() {
                changes.released(entry);
            } else if let Some(number) = entry.packed_number() {
                packs.release(number);
            }
        }
    });
    // Blocks that are empty now are looked up again by their extents' homes; the map only must not grow for ever.
    state.blocks.forget(range.start.0.div_ceil(BLOCK_SIZE)..range.end.0 / BLOCK_SIZE);
}

/// The page table under a directory entry; a 2 MiB leaf is split, and an empty entry has none.
pub(super) fn small_table<'a>(
    memory: &'a GuestMemory,
    directory: &AtomicU64,
    changes: &mut Changes<'_>,
) -> Option<&'a Table> {
    let entry = load(directory);
    if entry.is_table() {
        return Some(memory.arena.table(entry.frame()));
    }
    if !entry.is_large() {
        return None;
    }
    let mut pool = memory.pool();
    let page = pool.take_promised();
    pool.extent_mut(entry.frame().extent()).split_whole();
    let table = memory.arena.table(page);
    for (slot, at) in table.iter().zip(0..) {
        store(slot, entry.piece(at));
    }
    store(directory, Entry::table(page));
    // Also where the entry is not present: a shadow of what it was when it still was may live.
    changes.reshaped();
    Some(table)
}

/// The page table under a directory entry that is no 2 MiB leaf; made if there is none.
pub(super) fn make_table<'a>(
    pool: &mut Pool,
    memory: &'a GuestMemory,
    directory: &AtomicU64,
) -> Result<&'a Table, MemoryError> {
    let entry = load(directory);
    if entry.is_table() {
        return Ok(memory.arena.table(entry.frame()));
    }
    let page = pool.take_table(&memory.arena, memory.machine())?;
    store(directory, Entry::table(page));
    Ok(memory.arena.table(page))
}

/// Takes an extent for a 2 MiB entry, and a page for its split. `None`: none is left, single frames must do.
fn take_large(
    pool: &mut Pool,
    arena: &Arena,
    machine: &dyn Machine,
    home: Home,
    more: u32,
) -> Result<Option<u32>, MemoryError> {
    pool.promise_table(arena, machine)?;
    let taken = pool.take_huge(arena, machine, home, more);
    let result = match taken {
        Ok(extent) => pool.take_whole(arena, extent).inspect_err(|_| pool.settle(extent)).map(|()| Some(extent)),
        Err(MemoryError::HostExhausted) => Ok(None),
        Err(error) => Err(error),
    };
    if !matches!(result, Ok(Some(_))) {
        pool.forget_promise(1);
    }
    result
}

/// Makes the tables that moved pages will need, so that the move itself cannot fail.
fn make_way(
    state: &mut State,
    memory: &GuestMemory,
    from: UserRange,
    to: UserAddr,
    aligned: bool,
) -> Result<(), MemoryError> {
    let mut parts = Vec::new();
    state.tables.for_blocks(&memory.arena, from, |part, directory| {
        let entry = load(directory);
        if !entry.is_empty() {
            parts.push((part, entry.is_large() && part.len() == BLOCK_SIZE && aligned));
        }
    });
    for (part, whole) in parts {
        let start = UserAddr(part.start.0 - from.start.0 + to.0);
        let end = UserAddr(start.0 + part.len());
        let mut at = start;
        while at < end {
            let mut pool = memory.pool();
            let make = || pool.take_table(&memory.arena, memory.machine());
            let directory = state.tables.make_block(&memory.arena, at, make)?;
            assert!(!load(directory).is_large(), "pages move to where nothing is mapped");
            if !whole {
                make_table(&mut pool, memory, directory)?;
            }
            at = block_part(at, end).end;
        }
    }
    Ok(())
}

/// The entries of a page table that a part of its block is about.
pub(in crate::memory) fn slots(part: UserRange) -> std::ops::Range<usize> {
    let first = index(part.start, 0);
    first..first + usize_of(part.len() / PAGE_SIZE)
}
