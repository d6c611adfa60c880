//! Compressed pages of a space: watching pages for touches, packing those that stay cold, and bringing them back.
//!
//! Neither the accessed nor the dirty bit carries information here, so a page is *watched* to find out whether it is cold:
//! its entry is made not present, frame and all else as it was. Whoever touches it faults, and the entry is made present
//! again, which needs no flush and only the lock for reading. A page that is still watched when somebody comes to pack it
//! cannot be written to by a virtual CPU, so it is copied, compressed and given up without any further flush.

use super::super::arena::{FRAMES, Frame, Table, usize_of};
use super::super::coherence::Changes;
use super::super::compressed::{Codec, Handle, Page, Store};
use super::super::entry::Sharing;
use super::super::extent::Home;
use super::super::pool::Pool;
use super::super::raw;
use super::super::tables::{index, load, store};
use super::super::{Entry, MemoryError};
use super::access::{Fault, FaultKind};
use super::edit::{make_table, slots, small_table};
use super::{Access, AddressSpace, State, check};
use crate::addr::{BLOCK_SIZE, PAGE_SIZE, USER_END, UserAddr, UserRange};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pages that are watched, and roused by a touch, together: a trap costs as much as compressing five.
const GROUP: usize = 16;
/// Pages brought back at one fault at the most, while faults come in sequence.
const LONGEST_RUN: usize = 16;
/// Pages brought back last that are not packed again: an instruction may need a few at once (two of code, and two each for what
/// it reads, what it writes and its stack), and must not have the one taken away for the other for ever.
const KEPT: usize = 16;
/// Pages packed under one hold of the space's lock: some 300 µs.
const CHUNK: usize = 64;

/// Tells whether nobody else sees what this space does to the page of a leaf.
fn is_own(pool: &Pool, entry: Entry) -> bool {
    entry.is_leaf() && (pool.is_private(entry.frame()) || is_inherited(pool, entry))
}

/// Tells whether the frame of a leaf is shared since a fork, so that its bytes are nobody's to change. (An object's or a
/// file's, which others do change, is not.)
fn is_inherited(pool: &Pool, entry: Entry) -> bool {
    entry.is_copy_on_write() && matches!(pool.extent(entry.frame().extent()).home, Home::Space { .. })
}

/// How closely pages are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::memory) enum Watch {
    /// Blocks with a 2 MiB entry as a whole, others by groups of pages: to find out what is cold.
    Sample,
    /// Page by page, which splits 2 MiB entries: what is still watched is packed next.
    Pages,
    /// Nothing more: what was watched and not touched goes on to be, page by page.
    Untouched,
}

/// What frames for pages that come back are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// What the limit leaves.
    Limit,
    /// A little more.
    Reserve,
}

/// What became of pages that were to be packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::memory) struct Outcome {
    /// Pages that are in the store now, and gave a frame up.
    pub(in crate::memory) packed: u64,
    /// Pages that would not have become small enough.
    pub(in crate::memory) stubborn: u64,
}

/// What a space knows of its compressed pages.
#[derive(Debug, Default)]
pub(super) struct Packs {
    /// Where they are; `None` while there are none.
    store: Option<Arc<Store>>,
    pages: u64,
    /// The page behind the last that was brought back, and how many were at once.
    last: (u64, usize),
    /// Numbers of the pages that touches brought back last, oldest first.
    kept: VecDeque<u64>,
}

impl Packs {
    fn add(&mut self, store: &Arc<Store>, pages: u64) {
        if pages > 0 {
            self.store.get_or_insert_with(|| store.clone());
            self.pages += pages;
        }
    }

    /// Gives up a page whose entry is gone.
    pub(super) fn release(&mut self, number: u32) {
        if let Some(store) = &self.store {
            store.release(Handle(number));
            self.pages -= 1;
        }
        if self.pages == 0 {
            self.store = None;
        }
    }

    /// Becomes another holder of a page of the space that this one is a copy of.
    pub(super) fn share(&mut self, original: &Self, number: u32) {
        if let Some(store) = &original.store {
            store.share(Handle(number));
            self.add(store, 1);
        }
    }

    /// Keeps a page that a touch has brought back from being packed for a while.
    fn keep(&mut self, page: u64) {
        self.kept.retain(|kept| *kept != page);
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(page);
    }

    /// How many pages to bring back for a touch of `page`: more each time while touches go on where the last run ended.
    fn next_run(&mut self, page: u64) -> usize {
        let (end, len) = self.last;
        let run = if page == end { (len * 4).clamp(1, LONGEST_RUN) } else { 1 };
        self.last = (page + run as u64, run);
        run
    }
}

impl AddressSpace {
    /// Sees to it that the processor can use the page at `addr` as far as its access permits: a page that was compressed is
    /// brought back. `false`: nothing stood in the way but the access, or there is no page.
    pub fn make_ready(&self, addr: UserAddr) -> Result<bool, MemoryError> {
        if addr.0 >= USER_END {
            return Ok(false);
        }
        {
            let state = self.look();
            let Some(directory) = state.tables.block(&self.memory.arena, addr) else { return Ok(false) };
            let entry = load(directory);
            if entry.is_watched() {
                Entry::rouse(directory);
                return Ok(true);
            }
            if !entry.is_table() {
                return Ok(false);
            }
            let (table, at) = (self.memory.arena.table(entry.frame()), index(addr, 0));
            let entry = load(&table[at]);
            if entry.is_watched() {
                let group = &table[at / GROUP * GROUP..][..GROUP];
                group.iter().filter(|slot| load(slot).is_watched()).for_each(Entry::rouse);
                return Ok(true);
            }
            if entry.packed_number().is_none() || entry.access().is_empty() {
                return Ok(false);
            }
        }
        match self.memory.with_reclaim(|| self.unpack(&mut self.edit(), addr.page(), Source::Limit)) {
            Err(MemoryError::LimitReached) => self.unpack(&mut self.edit(), addr.page(), Source::Reserve),
            other => other,
        }
    }

    /// Runs an access of the monitor's again as long as what stopped it was a page that is watched or compressed.
    pub(super) fn with_ready<T>(&self, mut access: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
        loop {
            match access() {
                Err(fault) if self.overcome(&fault) => {}
                other => return other,
            }
        }
    }

    /// Does what it can about a fault of the monitor's own access; tells whether the access is worth another try.
    pub(super) fn overcome(&self, fault: &Fault) -> bool {
        if fault.kind != FaultKind::Entry || fault.address.0 >= USER_END {
            return false;
        }
        let entry = self.look().tables.leaf(&self.memory.arena, fault.address);
        // Another thread may have been faster to make it ready.
        let is_aside = entry.is_watched() || entry.packed_number().is_some();
        // What may be written or executed may be read, and a page that a fork shares must be copied before it is written.
        let readable = if entry.access().is_empty() { Access::empty() } else { entry.access() | Access::READ };
        let readable = if entry.is_copy_on_write() { readable - Access::WRITE } else { readable };
        let permits = entry.has_contents() && readable.contains(fault.access);
        permits && (!is_aside || self.make_ready(fault.address).is_ok())
    }

    /// Pages of this space that are compressed.
    pub fn compressed_pages(&self) -> u64 {
        self.look().packs.pages
    }

    /// Bytes of pages in `range` that are compressed.
    pub fn compressed(&self, range: UserRange) -> u64 {
        check(range);
        let mut pages = 0;
        let state = self.look();
        if state.packs.pages == 0 {
            return 0;
        }
        let arena = &self.memory.arena;
        state.tables.for_blocks(arena, range, |part, directory| {
            let entry = load(directory);
            if entry.is_table() {
                let slots = arena.table(entry.frame())[slots(part)].iter();
                pages += slots.filter(|slot| load(slot).packed_number().is_some()).count() as u64;
            }
        });
        pages * PAGE_SIZE
    }

    /// Numbers of the 2 MiB blocks that may hold pages.
    pub(in crate::memory) fn filled_blocks(&self) -> Vec<u64> {
        let state = self.look();
        let filled = state.tables.filled(&self.memory.arena, super::everything());
        filled.into_iter().map(|(part, _)| part.start.0 / BLOCK_SIZE).collect()
    }

    /// Watches the private pages of some blocks; returns how many. With [`Watch::Pages`], 2 MiB entries are split.
    pub(in crate::memory) fn watch(&self, blocks: &[u64], how: Watch) -> u64 {
        let mut state = self.edit();
        if how == Watch::Sample {
            // Whoever samples waits for touches before it packs: what was needed shows by itself.
            state.packs.kept.clear();
        }
        let memory = &*self.memory;
        let mut changes = Changes::new(memory);
        let mut watched = 0;
        for block in blocks {
            let start = UserAddr(block * BLOCK_SIZE);
            let Some(directory) = state.tables.block(&memory.arena, start) else { continue };
            let entry = load(directory);
            if entry.is_large() {
                if !memory.is_alone(entry) && !is_inherited(&memory.pool(), entry) {
                    continue;
                }
                if how == Watch::Sample && entry.is_present() {
                    store(directory, entry.watched());
                    changes.changed(entry, entry.watched());
                    watched += u64::from(FRAMES);
                    continue;
                }
                if how == Watch::Untouched && entry.is_present() {
                    continue;
                }
            } else if !entry.is_table() {
                continue;
            }
            let Some(table) = small_table(memory, directory, &mut changes) else { continue };
            let pool = memory.pool();
            for slot in table {
                let entry = load(slot);
                if !is_own(&pool, entry) || how == Watch::Untouched && entry.is_present() {
                    continue;
                }
                if entry.is_stubborn() {
                    // It is passed over this time, and tried the next.
                    Entry::forget_stubborn(slot);
                    continue;
                }
                watched += 1;
                if entry.is_present() {
                    store(slot, entry.watched());
                    changes.changed(entry, entry.watched());
                }
            }
        }
        changes.finish(&self.sync);
        watched
    }

    /// Packs the pages of a block that were watched and not touched since, and those that nobody may touch; not those that
    /// touches have just brought back.
    ///
    /// # Errors
    /// The store could not grow. What was packed before stays so.
    pub(in crate::memory) fn pack(
        &self,
        block: u64,
        into: &Arc<Store>,
        codec: &mut Codec,
        outcome: &mut Outcome,
    ) -> Result<(), MemoryError> {
        let arena = &self.memory.arena;
        for first in (0..FRAMES as usize).step_by(CHUNK) {
            let mut state = self.edit();
            // The block may have been unmapped, and mapped anew, while the lock was free.
            let Some(directory) = state.tables.block(arena, UserAddr(block * BLOCK_SIZE)) else { break };
            let entry = load(directory);
            if !entry.is_table() {
                break;
            }
            let slots = &arena.table(entry.frame())[first..first + CHUNK];
            let number = block * u64::from(FRAMES) + first as u64;
            self.pack_slots(&mut state, (number, slots), into, codec, outcome)?;
        }
        Ok(())
    }

    fn pack_slots(
        &self,
        state: &mut State,
        (number, slots): (u64, &[AtomicU64]),
        into: &Arc<Store>,
        codec: &mut Codec,
        outcome: &mut Outcome,
    ) -> Result<(), MemoryError> {
        let memory = &*self.memory;
        let cold: Vec<_> = {
            let pool = memory.pool();
            let is_cold = |entry: Entry| !entry.is_present() && !entry.is_stubborn() && is_own(&pool, entry);
            let kept = &state.packs.kept;
            let numbered = slots.iter().zip(number..).filter(|(_, number)| !kept.contains(number));
            numbered.map(|(slot, _)| slot).filter(|slot| is_cold(load(slot))).collect()
        };
        let mut gone = Vec::with_capacity(cold.len());
        let mut result = Ok(());
        for slot in cold {
            let entry = load(slot);
            let mut page: Page = [0; usize_of(PAGE_SIZE)];
            // SAFETY: a frame that this space alone holds, and a buffer of a page.
            let copied = unsafe { raw::copy(page.as_mut_ptr(), memory.arena.host(entry.frame()), page.len()) };
            if copied.is_err() {
                continue;
            }
            let Some(short) = codec.shorten(&page) else {
                store(slot, entry.roused().stubborn());
                outcome.stubborn += 1;
                continue;
            };
            // Others that have the frame, or had it until they came here before us, get one page with us.
            let shared = entry.is_copy_on_write().then_some(entry.frame());
            match into.insert(short, shared) {
                Ok(Handle(number)) => store(slot, Entry::packed(number, entry.access())),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            gone.push(entry);
        }
        state.packs.add(into, gone.len() as u64);
        outcome.packed += gone.len() as u64;
        memory.packing.packed.fetch_add(gone.len() as u64, Ordering::Relaxed);
        self.give_up(&gone);
        result
    }

    /// Gives the frames of packed pages back to the host, and to the pool.
    fn give_up(&self, gone: &[Entry]) {
        let memory = &*self.memory;
        let mut changes = Changes::new(memory);
        let (gone, shared): (Vec<Entry>, Vec<Entry>) = {
            let pool = memory.pool();
            gone.iter().partition(|entry| pool.is_private(entry.frame()))
        };
        shared.into_iter().for_each(|entry| changes.released(entry));
        for run in gone.chunk_by(|a, b| a.frame().add(1) == b.frame() && a.frame().extent() == b.frame().extent()) {
            let Some(first) = run.first().map(|entry| entry.frame()) else { continue };
            let count = u32::try_from(run.len()).unwrap_or(FRAMES);
            if memory.pool().forget_huge(first.extent()) {
                // Else the first page that comes back would bring 2 MiB of the host's memory with it.
                memory.arena.advise_small(first.extent());
            }
            memory.arena.discard(first, count);
            run.iter().for_each(|entry| changes.untouched(*entry));
        }
        changes.finish(&self.sync);
    }

    /// Brings a page back, and those behind it while touches come in sequence. `false`: it is not compressed.
    pub(super) fn unpack(&self, state: &mut State, page: UserAddr, from: Source) -> Result<bool, MemoryError> {
        let memory = &*self.memory;
        let Some(table) = self.table_at(state, page) else { return Ok(false) };
        let (at, number) = (index(page, 0), page.0 / PAGE_SIZE);
        if load(&table[at]).packed_number().is_none() {
            return Ok(false);
        }
        let run = if from == Source::Limit { state.packs.next_run(number) } else { 1 };
        state.packs.keep(number);
        for (done, slot) in table[at..].iter().take(run).enumerate() {
            let entry = load(slot);
            let Some(packed) = entry.packed_number() else { break };
            if done > 0 && entry.access().is_empty() {
                break;
            }
            let mut pool = memory.pool();
            let taken = match from {
                Source::Limit => state.blocks.take(memory, &mut pool, number + done as u64, 1),
                Source::Reserve => pool.take_reserve(|pool| state.blocks.take(memory, pool, number + done as u64, 1)),
            };
            drop(pool);
            match taken {
                Ok(taken) => self.restore(state, slot, packed, taken.frame),
                Err(error) if done == 0 => return Err(error),
                // One page is all that was asked for.
                Err(_) => break,
            }
        }
        Ok(true)
    }

    /// Makes an entry of a compressed page one of a frame with its contents.
    fn restore(&self, state: &mut State, slot: &AtomicU64, packed: u32, frame: Frame) {
        let memory = &*self.memory;
        let mut page: Page = [0; usize_of(PAGE_SIZE)];
        let read = state.packs.store.as_ref().map(|store| store.read(Handle(packed), &mut page));
        let new = if read == Some(Ok(())) {
            if page.iter().any(|&byte| byte != 0) {
                // SAFETY: a fresh frame of the arena, and a buffer of a page.
                let copied = unsafe { raw::copy(memory.arena.host(frame), page.as_ptr(), page.len()) };
                assert!(copied.is_ok(), "the host backs its own anonymous memory, or kills us");
            }
            Entry::leaf(frame, load(slot).access(), Sharing::Plain)
        } else {
            tracing::error!("a compressed page is damaged: whoever touches it gets a bus error");
            memory.packing.damaged.fetch_add(1, Ordering::Relaxed);
            memory.pool().put(&memory.arena, frame, 1, true);
            Entry::BUS
        };
        store(slot, new);
        state.packs.release(packed);
        memory.packing.restored.fetch_add(1, Ordering::Relaxed);
    }

    fn table_at(&self, state: &State, page: UserAddr) -> Option<&Table> {
        let arena = &self.memory.arena;
        let entry = load(state.tables.block(arena, page)?);
        entry.is_table().then(|| arena.table(entry.frame()))
    }

    /// Assigns frames to a range inside one block, even beyond the limit: for the store, which grows so that more frames
    /// than these can be given back.
    pub(in crate::memory) fn assign_beyond(&self, range: UserRange) -> Result<(), MemoryError> {
        check(range);
        let memory = &*self.memory;
        let mut state = self.edit();
        let mut pool = memory.pool();
        pool.beyond_limit(|pool| {
            let make = || pool.take_table(&memory.arena, memory.machine());
            let directory = state.tables.make_block(&memory.arena, range.start, make)?;
            let table = make_table(pool, memory, directory)?;
            self.fill(&mut state, pool, table, range, Access::READ | Access::WRITE)
        })
    }
}
