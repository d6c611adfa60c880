//! Copying an address space (fork): the tables are copied, the frames are shared.
//!
//! What happens to a page of the original:
//!
//! | page | original | copy |
//! |---|---|---|
//! | of a shared mapping | stays | the same frame, stores seen by both |
//! | private, not writable, or copy on write already | copy on write | the same frame, copy on write |
//! | private, writable, never touched | stays | absent: the memory map assigns a frame when it is touched |
//! | private, writable, and hot | stays | a frame of its own, with the same bytes |
//! | private, writable, else | copy on write | the same frame, copy on write |
//!
//! Only the last row is a downgrade, which virtual CPUs must see, and costs both sides a trap at the next store (22 µs on
//! kvm-pvm, where copying a page costs one). So the pages are hot that will be stored to soon: those whose sharing was
//! broken after an earlier fork, those that the caller names, and all of them in a space that has only a few.
//! Virtual CPUs are kept out of the original meanwhile, so that the copy shows one moment.

use super::super::arena::{Frame, Table, usize_of};
use super::super::coherence::Changes;
use super::super::committed::Committed;
use super::super::entry::Sharing;
use super::super::tables::{load, store};
use super::super::{GuestMemory, MemoryError, MemoryObject, raw};
use super::edit::{make_table, slots};
use super::{AddressSpace, Source, State, check, everything};
use crate::addr::{BLOCK_SIZE, PAGE_SIZE, UserAddr, UserRange};
use crate::memory::Entry;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// How a copy of an address space differs from the original, and what is known about its use.
#[derive(Clone, Debug, Default)]
pub struct ForkPlan {
    /// Ranges that are absent in the copy; ascending, without overlaps.
    pub left_out: Vec<UserRange>,
    /// Ranges that are likely to be stored to soon: their pages are copied at once.
    pub hot: Vec<UserRange>,
    /// Which pages are copied at once at all.
    pub copies: Eagerness,
}

/// Which pages a fork copies at once, instead of sharing them until a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eagerness {
    /// Those that are likely to be stored to soon, which costs memory and saves faults.
    #[default]
    Likely,
    /// None.
    Never,
}

/// Touched pages up to which a space is copied whole, 256 KiB: a small program's data, heap and stack.
const SMALL: usize = 64;

impl AddressSpace {
    /// Makes a copy: stores on one side are not seen by the other, but in what both map shared.
    ///
    /// # Errors
    /// No memory for page tables or for the pages that are copied at once. Nothing has changed that a program could see.
    pub fn fork(&self, plan: &ForkPlan) -> Result<Arc<Self>, MemoryError> {
        plan.left_out.iter().chain(&plan.hot).for_each(|range| check(*range));
        self.memory.with_reclaim(|| {
            let child = self.memory.new_space()?;
            self.copy_to(&child, plan).map(|()| child)
        })
    }

    fn copy_to(&self, child: &Self, plan: &ForkPlan) -> Result<(), MemoryError> {
        let memory = &*self.memory;
        let mut state = self.edit();
        let mut to = child.edit();
        let outside = memory.machine().hold_out(&self.sync);
        to.sources = state.sources.copy(&plan.left_out);
        for (_, source, _, _) in to.sources.all() {
            if let Source::Object(object) = source {
                MemoryObject::add_mapper(&mut object.edit(), &child.me);
            }
        }
        let recent = state.recent.take();
        let (hot, ranges) = match plan.copies {
            Eagerness::Likely => (recent.into_iter().collect(), plan.hot.as_slice()),
            Eagerness::Never => (HashSet::new(), [].as_slice()),
        };
        let mut fork = Fork {
            memory,
            committed: Committed::new(memory),
            changes: Changes::new(memory),
            hot,
            ranges,
            small: false,
            packs: &state.packs,
        };
        let pieces = pieces(&state, &plan.left_out);
        // Looked for once: most pieces are gaps, and each look goes through every directory's cache lines.
        let blocks = state.tables.filled(&memory.arena, everything());
        fork.small = plan.copies == Eagerness::Likely && fork.is_small(&pieces, &blocks);
        let result = pieces.iter().try_for_each(|piece| fork.copy_piece(&mut to, piece, &blocks));
        fork.changes.finish(&self.sync);
        drop(outside);
        result
    }
}

/// A range of the original whose pages are copied alike.
struct Piece {
    range: UserRange,
    kind: Kind,
}

enum Kind {
    /// Private zeros.
    Anonymous,
    /// A private mapping of an object or a file.
    Private,
    /// A shared mapping of an object, from this offset.
    Object(Arc<MemoryObject>, u64),
    /// A shared mapping of a host file.
    File,
}

/// Cuts the user half into pieces, without what is left out.
fn pieces(state: &State, left_out: &[UserRange]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = UserAddr(0);
    let end = everything().end;
    let mut add = |range: UserRange, kind: &dyn Fn(UserAddr) -> Kind| {
        let mut at = range.start;
        for gap in left_out.iter().filter(|gap| gap.overlaps(range)) {
            if at < gap.start {
                pieces.push(Piece { range: UserRange { start: at, end: gap.start }, kind: kind(at) });
            }
            at = at.max(gap.end);
        }
        if at < range.end {
            pieces.push(Piece { range: UserRange { start: at, end: range.end }, kind: kind(at) });
        }
    };
    for (range, source, private, offset) in state.sources.all() {
        add(UserRange { start: at, end: range.start }, &|_| Kind::Anonymous);
        add(range, &|start| match source {
            _ if private => Kind::Private,
            Source::Object(object) => Kind::Object(object.clone(), offset + (start.0 - range.start.0)),
            Source::File(_) => Kind::File,
        });
        at = range.end;
    }
    add(UserRange { start: at, end }, &|_| Kind::Anonymous);
    pieces
}

/// A block that has a directory entry which is not empty: its range, and the entry.
type Block<'m> = (UserRange, &'m AtomicU64);

/// The parts of blocks, which ascend, that lie in a range.
fn parts<'b, 'm>(blocks: &'b [Block<'m>], range: UserRange) -> impl Iterator<Item = Block<'m>> + use<'b, 'm> {
    let first = blocks.partition_point(|(block, _)| block.end <= range.start);
    let overlapping = blocks[first..].iter().take_while(move |(block, _)| block.start < range.end);
    overlapping.map(move |&(block, directory)| {
        let part = UserRange { start: block.start.max(range.start), end: block.end.min(range.end) };
        (part, directory)
    })
}

/// A copy in progress.
struct Fork<'m> {
    memory: &'m GuestMemory,
    committed: Committed<'m>,
    /// Of the original.
    changes: Changes<'m>,
    /// Page numbers that are hot.
    hot: HashSet<u64>,
    /// Ranges that are.
    ranges: &'m [UserRange],
    /// All pages are hot.
    small: bool,
    /// Of the original.
    packs: &'m super::Packs,
}

/// A leaf that a store reaches without a trap, and that is not shared.
fn is_open(entry: Entry) -> bool {
    entry.is_leaf() && entry.is_writable()
}

impl<'m> Fork<'m> {
    /// Tells whether the original has so few touched pages that it is copied whole.
    fn is_small(&mut self, pieces: &[Piece], blocks: &[Block<'m>]) -> bool {
        let mut pages = 0;
        for piece in pieces.iter().filter(|piece| matches!(piece.kind, Kind::Anonymous | Kind::Private)) {
            for (part, directory) in parts(blocks, piece.range) {
                let entry = load(directory);
                if entry.is_large() && !entry.is_copy_on_write() && !self.committed.untouched(entry) {
                    return false;
                }
                if !entry.is_table() {
                    continue;
                }
                let table = self.memory.arena.table(entry.frame());
                self.ask(&table[slots(part)]);
                for slot in &table[slots(part)] {
                    let entry = load(slot);
                    if is_open(entry) && (matches!(piece.kind, Kind::Private) || !self.committed.untouched(entry)) {
                        pages += 1;
                    }
                    if pages > SMALL {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Asks the host about the frames of open entries that lie in one extent, as nearly all of a table do.
    fn ask(&mut self, slots: &[AtomicU64]) {
        let open = || slots.iter().map(load).filter(|entry| is_open(*entry));
        let Some(extent) = open().next().map(|entry| entry.frame().extent()) else { return };
        let inside = || open().map(Entry::frame).filter(move |frame| frame.extent() == extent).map(Frame::slot);
        if let (Some(first), Some(last)) = (inside().min(), inside().max()) {
            self.committed.ask(extent, first..last + 1);
        }
    }

    fn copy_piece(&mut self, to: &mut State, piece: &Piece, blocks: &[Block<'m>]) -> Result<(), MemoryError> {
        for (part, directory) in parts(blocks, piece.range) {
            let entry = load(directory);
            if entry.is_large() {
                if part.len() < BLOCK_SIZE {
                    // A part of a block is left out, so its pages go different ways.
                    super::edit::small_table(self.memory, directory, &mut self.changes);
                } else {
                    self.copy_large(to, part, directory)?;
                    continue;
                }
            }
            let entry = load(directory);
            if entry.is_table() {
                let table = self.memory.arena.table(entry.frame());
                self.copy_table(to, part, table, piece)?;
            }
        }
        Ok(())
    }

    /// Copies a 2 MiB entry.
    fn copy_large(&mut self, to: &mut State, part: UserRange, directory: &AtomicU64) -> Result<(), MemoryError> {
        let entry = load(directory);
        if entry.is_writable() && self.committed.untouched(entry) {
            return Ok(());
        }
        let (memory, machine) = (self.memory, self.memory.machine());
        let mut pool = memory.pool();
        let there = to.tables.make_block(&memory.arena, part.start, || pool.take_table(&memory.arena, machine))?;
        pool.promise_table(&memory.arena, machine)?;
        pool.extent_mut(entry.frame().extent()).hold_whole();
        let shared = entry.shared();
        store(directory, shared);
        self.changes.changed(entry, shared);
        store(there, shared);
        Ok(())
    }

    /// Copies the pages of one page table.
    fn copy_table(&mut self, to: &mut State, part: UserRange, table: &Table, piece: &Piece) -> Result<(), MemoryError> {
        let range = slots(part);
        if table[range.clone()].iter().all(|slot| load(slot).is_empty()) {
            return Ok(());
        }
        if matches!(piece.kind, Kind::Anonymous) {
            self.ask(&table[range.clone()]);
        }
        let memory = self.memory;
        let there = {
            let mut pool = memory.pool();
            let make = || pool.take_table(&memory.arena, memory.machine());
            let directory = to.tables.make_block(&memory.arena, part.start, make)?;
            make_table(&mut pool, memory, directory)?
        };
        // Shared by runs of consecutive frames: one look at an extent's counts for many.
        let mut run = Run::default();
        for at in range.clone() {
            let page = UserAddr(part.start.0 + (at - range.start) as u64 * PAGE_SIZE);
            let entry = load(&table[at]);
            if let Some(number) = entry.packed_number() {
                // Each side brings back a page of its own.
                to.packs.share(self.packs, number);
                store(&there[at], entry);
                continue;
            }
            if !entry.is_leaf() {
                // A page that the host could not supply may be there for the copy.
                continue;
            }
            match &piece.kind {
                Kind::Object(object, offset) => {
                    let shown = (offset + (page.0 - piece.range.start.0)) / PAGE_SIZE;
                    // The object may have given the frame up, and be waiting for us to take this entry away.
                    if object.look().frame(shown) == Some(entry.frame()) {
                        run.add(memory, entry.frame());
                        store(&there[at], entry);
                    }
                }
                Kind::File => {
                    run.add(memory, entry.frame());
                    store(&there[at], entry);
                }
                Kind::Anonymous | Kind::Private => {
                    if entry.is_writable() {
                        if matches!(piece.kind, Kind::Anonymous) && self.committed.untouched(entry) {
                            continue;
                        }
                        if self.is_hot(page) && self.copy_page(to, page, entry, &there[at])? {
                            continue;
                        }
                    }
                    let shared = entry.shared();
                    if !entry.is_copy_on_write() {
                        store(&table[at], shared);
                        self.changes.changed(entry, shared);
                    }
                    run.add(memory, entry.frame());
                    store(&there[at], shared);
                }
            }
        }
        run.finish(memory);
        Ok(())
    }

    fn is_hot(&self, page: UserAddr) -> bool {
        self.small || self.hot.contains(&(page.0 / PAGE_SIZE)) || self.ranges.iter().any(|range| range.contains(page))
    }

    /// Gives the copy a frame of its own for a page. `false`: the page cannot be read, or memory is short; sharing needs none.
    fn copy_page(&self, to: &mut State, page: UserAddr, entry: Entry, slot: &AtomicU64) -> Result<bool, MemoryError> {
        let memory = self.memory;
        let taken = match to.blocks.take(memory, &mut memory.pool(), page.0 / PAGE_SIZE, 1) {
            Ok(taken) => taken,
            Err(MemoryError::LimitReached) => return Ok(false),
            Err(error) => return Err(error),
        };
        let (ours, theirs) = (memory.arena.host(entry.frame()), memory.arena.host(taken.frame));
        // SAFETY: two frames of the arena; the copy's is fresh, so they differ.
        if unsafe { raw::copy(theirs, ours, usize_of(PAGE_SIZE)) }.is_err() {
            memory.pool().put(&memory.arena, taken.frame, 1, false);
            return Ok(false);
        }
        store(slot, Entry::leaf(taken.frame, entry.access(), Sharing::Plain));
        Ok(true)
    }
}

/// Consecutive frames that get another holder.
#[derive(Default)]
struct Run {
    first: Option<Frame>,
    count: u32,
}

impl Run {
    fn add(&mut self, memory: &GuestMemory, frame: Frame) {
        match self.first {
            Some(first) if first.add(self.count) == frame && first.extent() == frame.extent() => self.count += 1,
            _ => {
                std::mem::take(self).finish(memory);
                *self = Self { first: Some(frame), count: 1 };
            }
        }
    }

    fn finish(self, memory: &GuestMemory) {
        if let Some(first) = self.first {
            memory.pool().share(first, self.count);
        }
    }
}
