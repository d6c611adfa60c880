//! Page tables: pages for them, and walks.
//!
//! Table pages live in private memory that is never given back, protected or advised, because the processor's walk
//! counts as a write there. A retired page still has its shadow on shadow paging, which may link to frames that are
//! alive elsewhere: it is reused only after all shadows were dropped, which is done for many at once.

use super::MemoryError;
use super::arena::{Arena, FRAMES, Frame};
use super::entry::Entry;
use super::extent::Home;
use super::pool::Pool;
use crate::addr::{BLOCK_SIZE, UserAddr, UserRange};
use crate::machine::Machine;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that an entry of each level spans: page table, directory, pointer table, top.
const SPAN: [u64; 4] = [1 << 12, 1 << 21, 1 << 30, 1 << 39];

/// Pages for tables.
#[derive(Debug, Default)]
pub(crate) struct TableStock {
    /// Never used, consecutive: the next, and how many.
    next: u32,
    left: u32,
    /// Zeroed and unknown to any shadow.
    free: Vec<Frame>,
    /// Given back, but a shadow of them may live.
    retired: Vec<Frame>,
    /// Pages promised to 2 MiB entries, which need one when they are split (Linux deposits a table likewise).
    promised: u32,
}

impl TableStock {
    fn ready(&self) -> u32 {
        self.left + u32::try_from(self.free.len()).unwrap_or(u32::MAX)
    }
}

impl Pool {
    /// Takes a zeroed page for a table or another system page and counts it as held.
    pub(crate) fn take_table(&mut self, arena: &Arena, machine: &dyn Machine) -> Result<Frame, MemoryError> {
        self.stock_tables(arena, machine, 1)?;
        self.charge(1)?;
        self.pop_table().ok_or(MemoryError::HostExhausted)
    }

    /// Sets a page aside for the split of a 2 MiB entry.
    pub(crate) fn promise_table(&mut self, arena: &Arena, machine: &dyn Machine) -> Result<(), MemoryError> {
        self.stock_tables(arena, machine, 1)?;
        self.tables.promised += 1;
        Ok(())
    }

    /// Takes back a promise that was not needed.
    pub(crate) fn forget_promise(&mut self, count: u32) {
        self.tables.promised -= count;
    }

    /// Takes the page that was promised. It is charged even beyond the limit: giving memory back must not fail.
    pub(crate) fn take_promised(&mut self) -> Frame {
        self.tables.promised -= 1;
        self.charge_always(1);
        self.pop_table().expect("a page is kept for every promise")
    }

    /// Gives table pages back, which no walk reaches any more. `shadowed`: a shadow of them may live.
    pub(crate) fn retire_tables(&mut self, arena: &Arena, pages: &[Frame], shadowed: bool) {
        for &page in pages {
            for entry in arena.table(page) {
                entry.store(0, Ordering::Relaxed);
            }
        }
        self.discharge(pages.len() as u64);
        let list = if shadowed { &mut self.tables.retired } else { &mut self.tables.free };
        list.extend_from_slice(pages);
    }

    fn stock_tables(&mut self, arena: &Arena, machine: &dyn Machine, wanted: u32) -> Result<(), MemoryError> {
        if self.tables.ready() >= self.tables.promised + wanted {
            return Ok(());
        }
        if !self.tables.retired.is_empty() {
            machine.drop_shadows();
            let retired = std::mem::take(&mut self.tables.retired);
            self.tables.free.extend(retired);
        }
        while self.tables.ready() < self.tables.promised + wanted {
            let first = Frame::at(self.take_extent(arena, machine, Home::Tables)?, 0);
            if self.tables.left == 0 {
                (self.tables.next, self.tables.left) = (first.0, FRAMES);
            } else {
                self.tables.free.extend((0..FRAMES).map(|slot| first.add(slot)));
            }
        }
        Ok(())
    }

    fn pop_table(&mut self) -> Option<Frame> {
        if let Some(page) = self.tables.free.pop() {
            return Some(page);
        }
        self.tables.left = self.tables.left.checked_sub(1)?;
        self.tables.next += 1;
        Some(Frame(self.tables.next - 1))
    }
}

/// The tables of one address space: a top-level page that only the monitor uses, whose lower half is mirrored in the
/// roots that processors use.
#[derive(Debug)]
pub(crate) struct Tables {
    top: Frame,
    roots: Vec<Frame>,
    /// The pointer tables below the top.
    pointers: Vec<Frame>,
    /// The directories by the number of their gibibyte. A program has a handful in 131,072 places, and looking for them
    /// through the tables themselves took 3 % of the time of a fork and an exit.
    directories: BTreeMap<u64, Frame>,
}

impl Tables {
    /// Makes empty tables around a zeroed page.
    pub(crate) fn new(top: Frame) -> Self {
        Self { top, roots: Vec::new(), pointers: Vec::new(), directories: BTreeMap::new() }
    }

    /// Adds a root: a zeroed page that gets this space's lower half and `top_entry` as its last entry.
    pub(crate) fn add_root(&mut self, arena: &Arena, root: Frame, top_entry: Entry) {
        let (from, to) = (arena.table(self.top), arena.table(root));
        for (from, to) in from.iter().zip(to).take(256) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        to[511].store(top_entry.0, Ordering::Release);
        self.roots.push(root);
    }

    /// Forgets a root; tells whether it was one.
    pub(crate) fn remove_root(&mut self, root: Frame) -> bool {
        let before = self.roots.len();
        self.roots.retain(|&other| other != root);
        self.roots.len() < before
    }

    /// Finds the directory entry of the block at `addr`, if there is a directory for it.
    pub(crate) fn block<'a>(&self, arena: &'a Arena, addr: UserAddr) -> Option<&'a AtomicU64> {
        let mut table = arena.table(self.top);
        for level in [3, 2] {
            let entry = load(&table[index(addr, level)]);
            if !entry.is_table() {
                return None;
            }
            table = arena.table(entry.frame());
        }
        Some(&table[index(addr, 1)])
    }

    /// Finds the leaf for the page at `addr`: an entry that is a leaf, empty, or a mark.
    pub(crate) fn leaf(&self, arena: &Arena, addr: UserAddr) -> Entry {
        let Some(directory) = self.block(arena, addr) else { return Entry::EMPTY };
        let entry = load(directory);
        if !entry.is_table() {
            return entry;
        }
        load(&arena.table(entry.frame())[index(addr, 0)])
    }

    /// Finds or makes the directory entry of the block at `addr`.
    pub(crate) fn make_block<'a>(
        &mut self,
        arena: &'a Arena,
        addr: UserAddr,
        mut page: impl FnMut() -> Result<Frame, MemoryError>,
    ) -> Result<&'a AtomicU64, MemoryError> {
        let mut table = arena.table(self.top);
        for level in [3, 2] {
            let slot = &table[index(addr, level)];
            let mut entry = load(slot);
            if !entry.is_table() {
                let frame = page()?;
                entry = Entry::table(frame);
                slot.store(entry.0, Ordering::Release);
                if level == 2 {
                    self.directories.insert(addr.0 / SPAN[2], frame);
                } else {
                    self.pointers.push(frame);
                    // Only ever added, so that roots need no flush.
                    for &root in &self.roots {
                        arena.table(root)[index(addr, level)].store(entry.0, Ordering::Release);
                    }
                }
            }
            table = arena.table(entry.frame());
        }
        Ok(&table[index(addr, 1)])
    }

    /// Calls back for each block of `range` whose directory entry is not empty: the part of the range in it, and the entry.
    pub(crate) fn for_blocks<'a>(
        &self,
        arena: &'a Arena,
        range: UserRange,
        mut each: impl FnMut(UserRange, &'a AtomicU64),
    ) {
        let numbers = range.start.0 / SPAN[2]..range.end.0.div_ceil(SPAN[2]);
        for (number, &directory) in self.directories.range(numbers) {
            let mut at = range.start.max(UserAddr(number * SPAN[2]));
            for slot in &arena.table(directory)[index(at, 1)..] {
                if at >= range.end {
                    return;
                }
                let part = block_part(at, range.end);
                if !load(slot).is_empty() {
                    each(part, slot);
                }
                at = part.end;
            }
        }
    }

    /// The blocks of `range` whose directory entry is not empty: the part of the range in each, and the entry.
    pub(crate) fn filled<'a>(&self, arena: &'a Arena, range: UserRange) -> Vec<(UserRange, &'a AtomicU64)> {
        let mut found = Vec::new();
        self.for_blocks(arena, range, |part, directory| found.push((part, directory)));
        found
    }

    /// All pages of these tables: the top, the tables below it, and the roots.
    pub(crate) fn pages(&self, arena: &Arena) -> Vec<Frame> {
        let mut pages = vec![self.top];
        pages.extend_from_slice(&self.pointers);
        for &directory in self.directories.values() {
            pages.push(directory);
            let below = arena.table(directory).iter().map(load).filter(|entry| entry.is_table());
            pages.extend(below.map(Entry::frame));
        }
        pages.extend_from_slice(&self.roots);
        pages
    }
}

/// The part of a block from `at` to its end or to `end`.
pub(crate) fn block_part(at: UserAddr, end: UserAddr) -> UserRange {
    let block_end = UserAddr((at.0 / BLOCK_SIZE + 1) * BLOCK_SIZE);
    UserRange { start: at, end: block_end.min(end) }
}

/// Reads an entry.
pub(crate) fn load(slot: &AtomicU64) -> Entry {
    Entry(slot.load(Ordering::Acquire))
}

/// Writes an entry.
pub(crate) fn store(slot: &AtomicU64, entry: Entry) {
    slot.store(entry.0, Ordering::Release);
}

/// Writes an entry and returns what was there, with what a processor has noted in it until now.
pub(crate) fn swap(slot: &AtomicU64, entry: Entry) -> Entry {
    Entry(slot.swap(entry.0, Ordering::AcqRel))
}

/// The index of an address in a table of `level` (0: page table).
pub(crate) fn index(addr: UserAddr, level: usize) -> usize {
    super::arena::usize_of(addr.0 / SPAN[level]) % 512
}
