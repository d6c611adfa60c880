//! Mappings of objects and host files.

use super::super::arena::{FRAMES, Frame, Table, usize_of};
use super::super::coherence::Changes;
use super::super::entry::Sharing;
use super::super::object::{Copies, read_frames};
use super::super::pool::Pool;
use super::super::tables::{block_part, index, load, store};
use super::super::{Entry, HostFile, MemoryError, MemoryObject};
use super::edit::{make_table, slots};
use super::source::Sources;
use super::{Access, AddressSpace, Source, State, check};
use crate::addr::{PAGE_SIZE, UserAddr, UserRange};
use std::sync::Arc;

/// Private writable mappings of files up to this size are copied when they are mapped: data segments, that is. A page
/// costs about 1 µs then. When its first store traps, kvm-pvm takes 80 µs: the trap, the same copy, and an `mprotect` and back
/// to make KVM forget the file's page, which costs the neighbours their translations, too. So copying pays if one page in
/// eighty is stored to; Python's start stores to 294 of the 318 in its data segment.
pub(super) const COPY_MAX: u64 = 2 << 20;

impl AddressSpace {
    /// Maps an object's pages from `offset`. Shared: the object's own frames. Private (`private`): copy on write.
    /// Pages wholly beyond the object's end stay absent, and pages that have a frame are left alone.
    pub fn map_object(
        &self,
        range: UserRange,
        object: &Arc<MemoryObject>,
        offset: u64,
        access: Access,
        private: bool,
    ) -> Result<(), MemoryError> {
        check(range);
        let sharing = if private { Sharing::CopyOnWrite } else { Sharing::Plain };
        let gone = self.memory.with_reclaim_for(range.len(), || {
            let mut state = self.edit();
            // Registered before the first entry, under the object's lock: whoever shrinks it later finds us.
            let mut content = object.edit();
            MemoryObject::add_mapper(&mut content, &self.me);
            let gone = state.sources.insert(range, Source::Object(object.clone()), offset, private);
            let shown = shown(range, offset, content.size());
            let memory = &*self.memory;
            let pages = self.fill_absent(&mut state, shown, |_, table, page, count| {
                let file_page = (offset + (page.0 - range.start.0)) / PAGE_SIZE;
                let (frame, count) = content.provide(memory, file_page, count)?;
                memory.pool().share(frame, count);
                link(table, page, frame, count, access, sharing);
                Ok(count)
            });
            pages.map(|()| gone)
        })?;
        drop(gone);
        Ok(())
    }

    /// Maps a host file's pages from `offset` through the file window, shared or copy-on-write.
    /// Pages wholly beyond the file's present end stay absent, and pages that have a frame are left alone.
    pub fn map_file(
        &self,
        range: UserRange,
        file: &Arc<HostFile>,
        offset: u64,
        access: Access,
        private: bool,
    ) -> Result<(), MemoryError> {
        check(range);
        let shown = shown(range, offset, file.size()?);
        let copy = private && access.contains(Access::WRITE) && range.len() <= COPY_MAX;
        let gone = self.memory.with_reclaim_for(range.len(), || {
            let mut state = self.edit();
            let gone = state.sources.insert(range, Source::File(file.clone()), offset, private);
            let at = |page: UserAddr| offset + (page.0 - range.start.0);
            let pages = if copy {
                self.copy_file(&mut state, shown, file, at, access)
            } else {
                let sharing = if private { Sharing::CopyOnWrite } else { Sharing::Plain };
                self.show_file(&mut state, shown, file, at, (access, sharing))
            };
            pages.map(|()| gone)
        })?;
        drop(gone);
        Ok(())
    }

    /// Copies a file's pages into frames of this space.
    fn copy_file(
        &self,
        state: &mut State,
        range: UserRange,
        file: &HostFile,
        offset: impl Fn(UserAddr) -> u64,
        access: Access,
    ) -> Result<(), MemoryError> {
        let memory = &*self.memory;
        self.fill_absent(state, range, |state, table, page, count| {
            let taken = state.blocks.take(memory, &mut memory.pool(), page.0 / PAGE_SIZE, count)?;
            let bytes = usize_of(u64::from(taken.count) * PAGE_SIZE);
            let read = read_frames(memory, file.fd(), taken.frame, offset(page), bytes);
            if let Err(error) = read {
                memory.pool().put(&memory.arena, taken.frame, taken.count, false);
                return Err(error);
            }
            link(table, page, taken.frame, taken.count, access, Sharing::Plain);
            Ok(taken.count)
        })
    }

    /// Points entries at the window's chunks of a file.
    fn show_file(
        &self,
        state: &mut State,
        range: UserRange,
        file: &HostFile,
        offset: impl Fn(UserAddr) -> u64,
        (access, sharing): (Access, Sharing),
    ) -> Result<(), MemoryError> {
        let memory = &*self.memory;
        let mut window = memory.window();
        self.fill_absent(state, range, |_, table, page, count| {
            let file_page = offset(page) / PAGE_SIZE;
            let extent = window.chunk(memory, file, file_page / u64::from(FRAMES))?;
            let slot = u32::try_from(file_page % u64::from(FRAMES)).unwrap_or(0);
            let count = count.min(FRAMES - slot);
            let frame = Frame::at(extent, slot);
            memory.pool().share(frame, count);
            link(table, page, frame, count, access, sharing);
            Ok(count)
        })
    }

    /// Calls back for each run of absent pages in a range, with their page table; the callback fills some and says how many.
    fn fill_absent(
        &self,
        state: &mut State,
        range: UserRange,
        mut fill: impl FnMut(&mut State, &Table, UserAddr, u32) -> Result<u32, MemoryError>,
    ) -> Result<(), MemoryError> {
        let memory = &*self.memory;
        let mut at = range.start;
        while at < range.end {
            let part = block_part(at, range.end);
            at = part.end;
            let table = {
                let mut pool: std::sync::MutexGuard<'_, Pool> = memory.pool();
                let make = || pool.take_table(&memory.arena, memory.machine());
                let directory = state.tables.make_block(&memory.arena, part.start, make)?;
                if load(directory).is_large() {
                    continue;
                }
                make_table(&mut pool, memory, directory)?
            };
            let all = slots(part);
            let mut slot = all.start;
            while slot < all.end {
                let absent = table[slot..all.end].iter().take_while(|entry| load(entry).is_empty()).count();
                if absent == 0 {
                    slot += 1;
                    continue;
                }
                let page = UserAddr(part.start.0 + (slot - all.start) as u64 * PAGE_SIZE);
                slot += fill(state, table, page, u32::try_from(absent).unwrap_or(FRAMES))? as usize;
            }
        }
        Ok(())
    }

    /// Takes the pages away that show offsets of an object whose frames (`gone`, in order) go.
    pub(in crate::memory) fn forget_object(
        &self,
        object: u64,
        offsets: std::ops::Range<u64>,
        copies: Copies,
        gone: &[Frame],
    ) {
        // A private copy has a frame of its own, which other copies may share since a fork.
        let goes = |frame: Frame| copies == Copies::Too || gone.binary_search(&frame).is_ok();
        self.forget(|sources| sources.showing(object, offsets.start, offsets.end), goes, copies);
    }

    /// Takes away all pages that show a host file from `size` on, private copies, too: it was truncated.
    pub(in crate::memory) fn forget_file_behind(&self, identity: (u64, u64), size: u64) {
        self.forget(|sources| sources.showing_file(identity, size.next_multiple_of(PAGE_SIZE)), |_| true, Copies::Too);
    }

    /// Takes those pages away that `goes` tells, in the ranges that `find` finds. Compressed ones are copies, all of them.
    fn forget(&self, find: impl FnOnce(&Sources) -> Vec<UserRange>, goes: impl Fn(Frame) -> bool, copies: Copies) {
        let mut state = self.edit();
        let State { tables, sources, packs, .. } = &mut *state;
        let memory = &*self.memory;
        let mut changes = Changes::new(memory);
        for range in find(sources) {
            tables.for_blocks(&memory.arena, range, |part, directory| {
                let entry = load(directory);
                if !entry.is_table() {
                    return;
                }
                for slot in &memory.arena.table(entry.frame())[slots(part)] {
                    let entry = load(slot);
                    if entry.is_leaf() && goes(entry.frame()) {
                        store(slot, Entry::EMPTY);
                        changes.released(entry);
                    } else if let (Some(number), Copies::Too) = (entry.packed_number(), copies) {
                        store(slot, Entry::EMPTY);
                        packs.release(number);
                    }
                }
            });
        }
        changes.finish(&self.sync);
    }
}

/// The part of a range that shows pages before the end of its source.
fn shown(range: UserRange, offset: u64, size: u64) -> UserRange {
    let bytes = size.saturating_sub(offset).min(range.len()).next_multiple_of(PAGE_SIZE);
    UserRange { start: range.start, end: UserAddr(range.start.0 + bytes) }
}

/// Makes entries of a page table point to consecutive frames.
fn link(table: &Table, page: UserAddr, frame: Frame, count: u32, access: Access, sharing: Sharing) {
    let first = index(page, 0);
    for (slot, ahead) in table[first..first + count as usize].iter().zip(0..) {
        store(slot, Entry::leaf(frame.add(ahead), access, sharing));
    }
}
