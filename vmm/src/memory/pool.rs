//! The pool: which extents and frames are whose, how much is held, and the memory slots beneath.
//!
//! Extents are handed out by 2 MiB block of a space or an object, so that a page keeps its offset modulo 2 MiB. When the
//! arena runs out of extents (many blocks with a page or two each), single free frames of any extent serve. Frames are
//! committed by the host at their first touch; the limit bounds the frames handed out.

use super::MemoryError;
use super::arena::{Arena, FRAMES, Frame};
use super::extent::{Extent, Home};
use super::raw;
use crate::addr::{BLOCK_SIZE, PAGE_SIZE};
use crate::machine::Machine;

/// Extents in the memory slots, in the order in which they are added; the last size repeats. A slot costs kvm-pvm 50 µs
/// for 64 MiB and 0.4 ms for 1 GiB (shadow paging allocates 0.2 % of its size), so a small program must need one.
const SLOTS: [u32; 6] = [16, 16, 32, 64, 128, 256];
const LATER_SLOTS: u32 = 512;
/// Extents that get huge host pages together, so that the host's mapping is not split for each.
const HUGE_GROUP: u32 = 16;
/// Free frames that may stay committed with stale bytes, to be zeroed when they are reused.
const DIRTY_MAX: u32 = 4096;
/// Frames by which the store of compressed pages may go beyond the limit while it grows: a slab, and tables for it.
const MARGIN: u64 = 16;
/// Frames beyond the limit that pages may come back to, 1 MiB: a process that waits for another to be killed for want of
/// memory needs its stack.
const RESERVE: u64 = 256;
/// Frames that are zeroed by hand when they are reused; a longer run goes back to the host.
const CLEAN_MAX: u32 = 16;

/// The pool's state, behind one lock (the innermost but the machine's own).
#[derive(Debug)]
pub(crate) struct Pool {
    extents: Vec<Extent>,
    /// Extents below this number are in a memory slot.
    open: u32,
    /// Memory slots added.
    slots: usize,
    free: Vec<u32>,
    free_huge: Vec<u32>,
    /// Extents whose home is [`Home::Common`]; the last is tried first.
    common: Vec<u32>,
    /// Where the search for a single free frame goes on when there is no extent left.
    scan: u32,
    dirty: u32,
    held: u64,
    limit: u64,
    pub(super) tables: super::tables::TableStock,
    /// Window extents that no entry points to any more, oldest first.
    idle_chunks: std::collections::VecDeque<u32>,
}

/// Frames taken from the pool, consecutive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) frame: Frame,
    pub(crate) count: u32,
}

impl Pool {
    /// Makes an empty pool that holds at most `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            extents: Vec::new(),
            open: 0,
            slots: 0,
            free: Vec::new(),
            free_huge: Vec::new(),
            common: Vec::new(),
            scan: 0,
            dirty: 0,
            held: 0,
            limit: limit / PAGE_SIZE,
            tables: super::tables::TableStock::default(),
            idle_chunks: std::collections::VecDeque::new(),
        }
    }

    /// Holds at most `limit` bytes from now on; false if there are more already.
    pub(crate) fn lower_limit(&mut self, limit: u64) -> bool {
        let fits = self.held <= limit / PAGE_SIZE;
        if fits {
            self.limit = limit / PAGE_SIZE;
        }
        fits
    }

    /// Frames held.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    /// Counts `frames` more as held.
    pub(crate) fn charge(&mut self, frames: u64) -> Result<(), MemoryError> {
        if self.held + frames > self.limit {
            return Err(MemoryError::LimitReached);
        }
        self.held += frames;
        Ok(())
    }

    /// Counts `frames` more as held, even beyond the limit: for what cannot be refused.
    pub(crate) fn charge_always(&mut self, frames: u64) {
        self.held += frames;
    }

    /// Counts `frames` less as held.
    pub(crate) fn discharge(&mut self, frames: u64) {
        self.held = self.held.checked_sub(frames).expect("frames are discharged as often as charged");
    }

    /// The record of an extent.
    pub(crate) fn extent(&self, extent: u32) -> &Extent {
        &self.extents[extent as usize]
    }

    /// The record of an extent, to change.
    pub(crate) fn extent_mut(&mut self, extent: u32) -> &mut Extent {
        &mut self.extents[extent as usize]
    }

    /// Lets `take` go beyond the limit by a little: for what makes more room than it takes.
    pub(crate) fn beyond_limit<T>(&mut self, take: impl FnOnce(&mut Self) -> T) -> T {
        let limit = self.limit;
        self.limit = limit.max(self.held) + MARGIN;
        let taken = take(self);
        self.limit = limit;
        taken
    }

    /// Lets `take` go beyond the limit if that was not done much before: for what has to come back for somebody to be able to
    /// give memory up.
    pub(crate) fn take_reserve<T>(
        &mut self,
        take: impl FnOnce(&mut Self) -> Result<T, MemoryError>,
    ) -> Result<T, MemoryError> {
        if self.held >= self.limit + RESERVE { Err(MemoryError::LimitReached) } else { self.beyond_limit(take) }
    }

    /// Tells whether one holder has a frame of the pool to itself.
    pub(crate) fn is_private(&self, frame: Frame) -> bool {
        let extent = self.extent(frame.extent());
        !extent.is_window() && extent.count(frame.slot()) == 1
    }

    /// Notes that an extent is not for huge host pages any more; tells whether it was.
    pub(crate) fn forget_huge(&mut self, extent: u32) -> bool {
        std::mem::take(&mut self.extents[extent as usize].huge)
    }

    /// How many hold a frame.
    pub(crate) fn count(&self, frame: Frame) -> u32 {
        self.extent(frame.extent()).count(frame.slot())
    }

    /// Takes an extent for `home`.
    pub(crate) fn take_extent(&mut self, arena: &Arena, machine: &dyn Machine, home: Home) -> Result<u32, MemoryError> {
        let extent = match self.free.pop() {
            Some(extent) => extent,
            None => match self.fresh(arena, machine, 1, home) {
                Ok(extent) => extent,
                Err(error) => self.free_huge.pop().ok_or(error)?,
            },
        };
        self.extents[extent as usize].home = home;
        Ok(extent)
    }

    /// Takes an extent with huge host pages for `home`; `more` says how many the caller will want in all.
    pub(crate) fn take_huge(
        &mut self,
        arena: &Arena,
        machine: &dyn Machine,
        home: Home,
        more: u32,
    ) -> Result<u32, MemoryError> {
        if self.free_huge.is_empty() {
            let left = self.room(arena, home);
            let group = more.max(HUGE_GROUP).min(left).max(1);
            let first = self.fresh(arena, machine, group, home)?;
            arena.advise_huge(first, group);
            for extent in (first..first + group).rev() {
                self.extents[extent as usize].huge = true;
                self.free_huge.push(extent);
            }
        }
        let extent = self.free_huge.pop().ok_or(MemoryError::HostExhausted)?;
        self.extents[extent as usize].home = home;
        Ok(extent)
    }

    /// Extents for `home` that were never used. Some are kept for page tables: a program that maps a page in each of very
    /// many blocks uses up the others, and its next page can still be a frame of another block but needs a table.
    fn room(&self, arena: &Arena, home: Home) -> u32 {
        // No more tables than the limit has frames, of which a sparse program's data takes as many.
        let limit = u32::try_from(self.limit / (2 * u64::from(FRAMES))).unwrap_or(u32::MAX);
        let kept = if home == Home::Tables { 0 } else { limit.saturating_add(1).min(arena.extents() / 4) };
        let used = u32::try_from(self.extents.len()).unwrap_or(u32::MAX);
        (arena.extents() - kept).saturating_sub(used)
    }

    /// Takes `count` consecutive extents that were never used, adding memory slots as needed. Returns the first.
    fn fresh(&mut self, arena: &Arena, machine: &dyn Machine, count: u32, home: Home) -> Result<u32, MemoryError> {
        if count > self.room(arena, home) {
            return Err(MemoryError::HostExhausted);
        }
        let first = u32::try_from(self.extents.len()).map_err(|_| MemoryError::HostExhausted)?;
        while first + count > self.open {
            self.add_slot(arena, machine)?;
        }
        self.extents.extend((0..count).map(|_| Extent::new(false)));
        Ok(first)
    }

    fn add_slot(&mut self, arena: &Arena, machine: &dyn Machine) -> Result<(), MemoryError> {
        let step = SLOTS.get(self.slots).copied().unwrap_or(LATER_SLOTS).min(arena.extents() - self.open);
        if step == 0 {
            return Err(MemoryError::HostExhausted);
        }
        arena.open(self.open, step)?;
        let guest = Frame::at(self.open, 0).phys();
        // SAFETY: these extents were reserved for the machine, are in no slot yet, and stay mapped as long as the arena.
        unsafe { machine.add_slot(guest, arena.slot_base(self.open), u64::from(step) * BLOCK_SIZE)? };
        self.open += step;
        self.slots += 1;
        Ok(())
    }

    /// Holds up to `max` free frames of an extent from `slot` on, zeroed; returns how many (0: the first is not free).
    pub(crate) fn take_run(&mut self, arena: &Arena, extent: u32, slot: u32, max: u32) -> Result<u32, MemoryError> {
        let run = self.extent(extent).free_run(slot, max);
        if run == 0 {
            return Ok(0);
        }
        let room = u32::try_from(self.limit.saturating_sub(self.held)).unwrap_or(u32::MAX);
        let run = run.min(room);
        if run == 0 {
            return Err(MemoryError::LimitReached);
        }
        let record = &mut self.extents[extent as usize];
        record.hold(slot, run);
        if record.may_be_dirty() {
            let stale: Vec<u32> = (slot..slot + run).filter(|&at| record.take_dirty(at)).collect();
            self.dirty -= u32::try_from(stale.len()).unwrap_or(self.dirty);
            for group in stale.chunk_by(|a, b| a + 1 == *b) {
                clean(arena, Frame::at(extent, group[0]), u32::try_from(group.len()).unwrap_or(FRAMES));
            }
        }
        self.held += u64::from(run);
        Ok(run)
    }

    /// Holds a whole free extent, zeroed.
    pub(crate) fn take_whole(&mut self, arena: &Arena, extent: u32) -> Result<(), MemoryError> {
        self.charge(u64::from(FRAMES))?;
        self.wash(arena, extent);
        let fresh = self.extents[extent as usize].hold_whole();
        assert_eq!(fresh, FRAMES, "only a free extent is taken as a whole");
        Ok(())
    }

    /// Holds one free frame, zeroed, wherever there is one.
    pub(crate) fn take_single(&mut self, arena: &Arena, machine: &dyn Machine) -> Result<Frame, MemoryError> {
        while let Some(&extent) = self.common.last() {
            let record = self.extent(extent);
            if record.home == Home::Common
                && let Some(slot) = record.next_free(0)
            {
                self.take_run(arena, extent, slot, 1)?;
                return Ok(Frame::at(extent, slot));
            }
            self.common.pop();
        }
        if self.held >= self.limit {
            return Err(MemoryError::LimitReached);
        }
        if let Ok(extent) = self.take_extent(arena, machine, Home::Common) {
            self.common.push(extent);
            self.take_run(arena, extent, 0, 1)?;
            return Ok(Frame::at(extent, 0));
        }
        self.scavenge(arena)
    }

    /// Holds a free frame of an extent that serves something else: the last resort when the arena is used up.
    fn scavenge(&mut self, arena: &Arena) -> Result<Frame, MemoryError> {
        let total = u32::try_from(self.extents.len()).unwrap_or(u32::MAX);
        for step in 0..total {
            let extent = (self.scan + step) % total;
            let record = self.extent(extent);
            let usable = matches!(record.home, Home::Common | Home::Space { .. } | Home::Object { .. });
            if usable && let Some(slot) = record.next_free(0) {
                self.scan = extent;
                self.take_run(arena, extent, slot, 1)?;
                return Ok(Frame::at(extent, slot));
            }
        }
        Err(MemoryError::HostExhausted)
    }

    /// Adds a holder to each of `count` frames that are held already (or belong to a file's chunk).
    pub(crate) fn share(&mut self, frame: Frame, count: u32) {
        self.extents[frame.extent() as usize].hold(frame.slot(), count);
    }

    /// Takes a holder of each of `count` frames away. With `zeroed`, the frames that become free read as zeros already.
    pub(crate) fn put(&mut self, arena: &Arena, frame: Frame, count: u32, zeroed: bool) {
        let mut at = frame;
        let end = frame.0 + count;
        while at.0 < end {
            let part = (FRAMES - at.slot()).min(end - at.0);
            self.put_in_extent(arena, at, part, zeroed);
            at = at.add(part);
        }
    }

    fn put_in_extent(&mut self, arena: &Arena, frame: Frame, count: u32, zeroed: bool) {
        let extent = frame.extent();
        let window = self.extent(extent).is_window();
        if self.extent(extent).home == Home::Common && self.extent(extent).used() == FRAMES {
            self.common.push(extent);
        }
        for slot in frame.slot()..frame.slot() + count {
            if !self.extents[extent as usize].release(slot) || window {
                continue;
            }
            self.held -= 1;
            if zeroed {
                continue;
            }
            if self.dirty >= DIRTY_MAX {
                arena.discard(Frame::at(extent, slot), 1);
            } else {
                self.extents[extent as usize].soil(slot);
                self.dirty += 1;
            }
        }
        self.settle(extent);
    }

    /// Takes a holder of a whole extent away. With `zeroed`, it reads as zeros already if it becomes free.
    pub(crate) fn put_whole(&mut self, arena: &Arena, extent: u32, zeroed: bool) {
        let before = self.extent(extent).used();
        self.extents[extent as usize].release_whole();
        let freed = before - self.extent(extent).used();
        self.held -= u64::from(freed);
        if freed == FRAMES && !zeroed {
            arena.discard(Frame::at(extent, 0), FRAMES);
        } else if freed > 0 && !zeroed {
            // Single frames of it are held still: only the free ones lose their contents.
            (0..FRAMES)
                .filter(|&slot| self.extent(extent).count(slot) == 0)
                .for_each(|slot| arena.discard(Frame::at(extent, slot), 1));
        }
        self.settle(extent);
    }

    /// Gives an extent that nobody holds any more back.
    pub(crate) fn settle(&mut self, extent: u32) {
        let record = &mut self.extents[extent as usize];
        if record.used() > 0 {
            return;
        }
        match record.home {
            Home::Free | Home::Tables | Home::Common => {}
            Home::Window { .. } => {
                if !std::mem::replace(&mut record.queued, true) {
                    self.idle_chunks.push_back(extent);
                }
            }
            Home::Space { .. } | Home::Object { .. } => {
                record.clear();
                if record.huge { self.free_huge.push(extent) } else { self.free.push(extent) }
            }
        }
    }

    /// Gives a window's extent back, after the host mapping was made anonymous again.
    pub(crate) fn put_window(&mut self, extent: u32) {
        let record = &mut self.extents[extent as usize];
        assert!(record.is_window() && record.used() == 0, "only an idle chunk is given back");
        record.clear();
        record.huge = false;
        self.free.push(extent);
    }

    /// Takes an extent to map a chunk of a file over it: whatever it held is replaced.
    pub(crate) fn take_window(&mut self, arena: &Arena, machine: &dyn Machine, home: Home) -> Result<u32, MemoryError> {
        let extent = self.take_extent(arena, machine, home)?;
        self.dirty -= self.extents[extent as usize].wash();
        Ok(extent)
    }

    /// Takes the chunk that has been idle longest, if any still is.
    pub(crate) fn next_idle(&mut self) -> Option<u32> {
        while let Some(extent) = self.idle_chunks.pop_front() {
            let record = &mut self.extents[extent as usize];
            record.queued = false;
            if record.is_window() && record.used() == 0 {
                return Some(extent);
            }
        }
        None
    }

    /// Zeroes the stale frames of a free extent.
    fn wash(&mut self, arena: &Arena, extent: u32) {
        let dirty = self.extents[extent as usize].wash();
        if dirty > 0 {
            self.dirty -= dirty;
            arena.discard(Frame::at(extent, 0), FRAMES);
        }
    }
}

/// Zeroes frames that are about to be handed out. Many are given back to the host instead: who maps ahead of use may never
/// touch them, and then they would stay committed for nothing.
fn clean(arena: &Arena, frame: Frame, count: u32) {
    if count > CLEAN_MAX {
        arena.discard(frame, count);
        return;
    }
    let bytes = super::arena::usize_of(u64::from(count) * PAGE_SIZE);
    // SAFETY: consecutive frames of one extent of the pool.
    let done = unsafe { raw::zero(arena.host(frame), bytes) };
    assert!(done.is_ok(), "the host backs its own anonymous memory, or kills us");
}
