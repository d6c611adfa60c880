//! Breaking copy on write: a store to a page that others have, too.

use super::super::arena::{FRAMES, Frame, Table, usize_of};
use super::super::coherence::Changes;
use super::super::extent::Home;
use super::super::pool::Pool;
use super::super::tables::{index, load, store, swap};
use super::super::{MemoryError, raw};
use super::edit::small_table;
use super::{AddressSpace, State, check, pack};
use crate::addr::{PAGE_SIZE, UserAddr, UserRange};
use crate::memory::Entry;
use std::sync::atomic::AtomicU64;

/// Pages that one store copies at the most: 64 KiB.
const LONGEST_RUN: usize = 16;
/// Forks for which a page that was stored to counts as hot.
const FORKS: u8 = 8;
/// Hot pages remembered.
const HOT_MAX: usize = 64;

/// The pages that were stored to after a fork: the next fork copies them at once, since they will be stored to again.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Page numbers, each with the forks it is remembered for.
    pages: Vec<(u64, u8)>,
    /// The page behind the last that was copied, and how many were copied at once.
    last: (u64, usize),
}

impl Recent {
    /// How many pages to copy for a store to `page`: more each time while stores go on where the last run ended.
    fn next_run(&mut self, page: u64) -> usize {
        let (end, len) = self.last;
        let run = if page == end { (len * 4).clamp(1, LONGEST_RUN) } else { 1 };
        self.last = (page + run as u64, run);
        run
    }

    fn note(&mut self, page: u64) {
        if let Some((_, forks)) = self.pages.iter_mut().find(|(known, _)| *known == page) {
            *forks = FORKS;
        } else if self.pages.len() < HOT_MAX {
            self.pages.push((page, FORKS));
        }
    }

    /// The pages that are hot at a fork, which makes each a fork older.
    pub(super) fn take(&mut self) -> Vec<u64> {
        let hot = self.pages.iter().map(|(page, _)| *page).collect();
        self.pages.retain_mut(|(_, forks)| {
            *forks -= 1;
            *forks > 0
        });
        hot
    }
}

/// A page to be copied: its entry and its frames, theirs and ours.
struct Copy<'a> {
    slot: &'a AtomicU64,
    from: Frame,
    to: Frame,
}

impl AddressSpace {
    /// Gives the page's sharing up: after it the page is private (or was alone already) and writable as its access says.
    /// Neighbours may be treated likewise.
    pub fn break_copy(&self, page: UserAddr) -> Result<(), MemoryError> {
        let page = page.page();
        check(UserRange { start: page, end: UserAddr(page.0 + PAGE_SIZE) });
        self.memory.with_reclaim(|| self.break_copy_at(&mut self.edit(), page))
    }

    pub(super) fn break_copy_at(&self, state: &mut State, page: UserAddr) -> Result<(), MemoryError> {
        let memory = &*self.memory;
        self.unpack(state, page, pack::Source::Limit)?;
        let Some(directory) = state.tables.block(&memory.arena, page) else { return Ok(()) };
        let entry = load(directory);
        if entry.is_large() && entry.is_copy_on_write() && self.is_alone(entry, FRAMES) {
            store(directory, entry.unshared());
            return Ok(());
        }
        let shared = entry.is_table() || entry.is_large() && entry.is_copy_on_write();
        if !shared {
            return Ok(());
        }
        let mut changes = Changes::new(memory);
        let result = match small_table(memory, directory, &mut changes) {
            Some(table) => self.break_in_table(state, table, page, &mut changes),
            None => Ok(()),
        };
        changes.finish(&self.sync);
        result
    }

    fn break_in_table(
        &self,
        state: &mut State,
        table: &Table,
        page: UserAddr,
        changes: &mut Changes<'_>,
    ) -> Result<(), MemoryError> {
        let memory = &*self.memory;
        let (at, number) = (index(page, 0), page.0 / PAGE_SIZE);
        let entry = load(&table[at]);
        if !entry.is_leaf() || !entry.is_copy_on_write() {
            return Ok(());
        }
        state.recent.note(number);
        let copies = {
            let mut pool = memory.pool();
            if is_last_holder(&pool, entry) {
                // The others are gone, so they are from the block's other pages: no more faults for those.
                let alone = |slot: &&AtomicU64| load(slot).is_copy_on_write() && is_last_holder(&pool, load(slot));
                table.iter().filter(alone).for_each(|slot| store(slot, load(slot).unshared()));
                return Ok(());
            }
            let run = if is_forked(&pool, entry) { state.recent.next_run(number) } else { 1 };
            let mut copies = Vec::with_capacity(run);
            for (number, slot) in (number..).zip(table[at..].iter().take(run)) {
                let next = load(slot);
                let alike = next.is_copy_on_write() && next.access() == entry.access();
                if !alike || is_last_holder(&pool, next) {
                    break;
                }
                match state.blocks.take(memory, &mut pool, number, 1) {
                    Ok(taken) => copies.push(Copy { slot, from: next.frame(), to: taken.frame }),
                    Err(error) if copies.is_empty() => return Err(error),
                    // One page is all that was asked for.
                    Err(_) => break,
                }
            }
            copies
        };
        for (done, copy) in copies.iter().enumerate() {
            let (to, from) = (memory.arena.host(copy.to), memory.arena.host(copy.from));
            // SAFETY: two frames of the arena; ours is fresh, so they differ.
            if unsafe { raw::copy(to, from, usize_of(PAGE_SIZE)) }.is_err() {
                let mut pool = memory.pool();
                copies[done..].iter().for_each(|copy| pool.put(&memory.arena, copy.to, 1, false));
                return if done == 0 { Err(MemoryError::Io(libc::EFAULT)) } else { Ok(()) };
            }
            let new = Entry::leaf(copy.to, entry.access(), super::super::entry::Sharing::Plain);
            changes.swapped(swap(copy.slot, new));
        }
        Ok(())
    }

    fn is_alone(&self, entry: Entry, frames: u32) -> bool {
        let pool = self.memory.pool();
        (0..frames).all(|at| pool.count(entry.frame().add(at)) == 1)
    }
}

/// Tells whether nobody else has the frame of a leaf.
fn is_last_holder(pool: &Pool, entry: Entry) -> bool {
    let frame = entry.frame();
    entry.is_leaf() && pool.count(frame) == 1 && !pool.extent(frame.extent()).is_window()
}

/// Tells whether the frame of a leaf is shared by forked spaces, not by an object or a host file.
fn is_forked(pool: &Pool, entry: Entry) -> bool {
    matches!(pool.extent(entry.frame().extent()).home, Home::Space { .. })
}
