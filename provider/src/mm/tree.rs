//! The mappings of an address space in order ([`VmaTree`]): lookup, splitting, merging, totals, and the search for free addresses.

use super::vma::{Vma, VmaFlags};
use std::collections::BTreeMap;
use std::ops::Bound;
use vmm::addr::{UserAddr, UserRange};

/// Bytes by kind, kept up to date with each change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// All mappings (RLIMIT_AS).
    pub(super) mapped: u64,
    /// Private writable mappings that are not stacks (RLIMIT_DATA).
    pub(super) data: u64,
    /// Locked mappings (RLIMIT_MEMLOCK).
    pub(super) locked: u64,
}

impl Totals {
    fn add(&mut self, vma: &Vma) {
        let len = vma.range.len();
        self.mapped += len;
        self.data += if vma.is_data() { len } else { 0 };
        self.locked += if vma.flags.contains(VmaFlags::LOCKED) { len } else { 0 };
    }

    fn remove(&mut self, vma: &Vma) {
        let len = vma.range.len();
        self.mapped -= len;
        self.data -= if vma.is_data() { len } else { 0 };
        self.locked -= if vma.flags.contains(VmaFlags::LOCKED) { len } else { 0 };
    }
}

/// What a search for free addresses needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    /// Bytes wanted; a multiple of the page size, not zero.
    pub(super) len: u64,
    /// Alignment of the start: a power of two, at least a page.
    pub(super) align: u64,
    /// The lowest address allowed.
    pub(super) low: u64,
    /// One past the highest address allowed.
    pub(super) high: u64,
}

/// Knowledge left by the last search: every gap at or above `above` (and below `high`) is shorter than `shorter_than`.
#[derive(Clone, Copy, Debug)]
struct Searched {
    above: u64,
    shorter_than: u64,
    high: u64,
}

/// Non-overlapping mappings in address order. Neighbours that continue each other are merged.
#[derive(Debug, Default)]
pub(super) struct VmaTree {
    by_start: BTreeMap<u64, Vma>,
    totals: Totals,
    searched: Option<Searched>,
}

impl VmaTree {
    /// Number of mappings.
    pub(super) fn len(&self) -> usize {
        self.by_start.len()
    }

    /// Bytes by kind.
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// All mappings in address order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.by_start.values()
    }

    /// The mapping that contains `addr`.
    pub(super) fn find(&self, addr: UserAddr) -> Option<&Vma> {
        self.by_start.range(..=addr.0).next_back().map(|(_, vma)| vma).filter(|vma| vma.range.contains(addr))
    }

    /// The first mapping that ends above `addr` (Linux's `find_vma`).
    pub(super) fn find_from(&self, addr: UserAddr) -> Option<&Vma> {
        self.find(addr).or_else(|| self.by_start.range(addr.0..).next().map(|(_, vma)| vma))
    }

    /// The last mapping that ends at or below `addr`.
    pub(super) fn find_before(&self, addr: UserAddr) -> Option<&Vma> {
        self.by_start.range(..addr.0).rev().map(|(_, vma)| vma).find(|vma| vma.range.end <= addr)
    }

    /// The mappings that overlap `range`, whole, in order.
    pub(super) fn overlapping(&self, range: UserRange) -> impl Iterator<Item = &Vma> {
        let first = self.find(range.start).map_or(range.start.0, |vma| vma.range.start.0);
        self.by_start.range(first..range.end.0.max(first)).map(|(_, vma)| vma)
    }

    /// Tells whether no mapping overlaps `range`.
    pub(super) fn is_free(&self, range: UserRange) -> bool {
        self.overlapping(range).next().is_none()
    }

    /// Bytes of `range` that are mapped, up to the first hole.
    pub(super) fn covered(&self, range: UserRange) -> u64 {
        let mut at = range.start;
        for vma in self.overlapping(range) {
            if vma.range.start > at {
                break;
            }
            at = vma.range.end.min(range.end);
        }
        at.0 - range.start.0
    }

    /// Adds a mapping where there is none, merging it with its neighbours.
    pub(super) fn insert(&mut self, mut vma: Vma) {
        debug_assert!(!vma.range.is_empty() && self.is_free(vma.range), "{vma:?} overlaps another mapping");
        self.totals.add(&vma);
        if let Some((_, before)) = self.by_start.range(..vma.range.start.0).next_back()
            && before.continues_into(&vma)
        {
            let start = before.range.start;
            if let Some(mut merged) = self.by_start.remove(&start.0) {
                merged.range.end = vma.range.end;
                vma = merged;
            }
        }
        if let Some(after) = self.by_start.get(&vma.range.end.0)
            && vma.continues_into(after)
        {
            let end = after.range.end;
            self.by_start.remove(&vma.range.end.0);
            vma.range.end = end;
        }
        self.by_start.insert(vma.range.start.0, vma);
    }

    /// Takes everything in `range` out, splitting mappings at its ends, and returns it in order.
    pub(super) fn carve(&mut self, range: UserRange) -> Vec<Vma> {
        let starts: Vec<u64> = self.overlapping(range).map(|vma| vma.range.start.0).collect();
        let mut carved = Vec::with_capacity(starts.len());
        for start in starts {
            let Some(vma) = self.by_start.remove(&start) else { continue };
            if vma.range.start < range.start {
                self.put(vma.clipped(UserRange { start: vma.range.start, end: range.start }));
            }
            if vma.range.end > range.end {
                self.put(vma.clipped(UserRange { start: range.end, end: vma.range.end }));
            }
            let middle = vma.clipped(range);
            self.totals.remove(&middle);
            carved.push(middle);
        }
        if !carved.is_empty() {
            self.forget_gap_around(range);
        }
        carved
    }

    /// Moves the start of the growing mapping at `start` down to `to`; the caller has checked that the space is free.
    pub(super) fn grow_down(&mut self, start: UserAddr, to: UserAddr) {
        if let Some(mut vma) = self.by_start.remove(&start.0) {
            self.totals.remove(&vma);
            vma.range.start = to;
            self.totals.add(&vma);
            self.put(vma);
        }
    }

    /// Finds the highest free range that satisfies `gap` (Linux's `vm_unmapped_area` from the top down).
    pub(super) fn find_gap(&mut self, gap: Gap) -> Option<UserAddr> {
        let known = self.searched.filter(|known| known.high == gap.high && gap.len >= known.shorter_than);
        let mut ceiling = known.map_or(gap.high, |known| known.above.min(gap.high));
        let found = 'search: {
            for vma in self.by_start.range((Bound::Unbounded, Bound::Excluded(ceiling))).rev().map(|(_, vma)| vma) {
                if let Some(start) = fit(ceiling, gap)
                    && start >= vma.range.end.0
                {
                    break 'search Some(start);
                }
                ceiling = ceiling.min(vma.guarded_start());
                if ceiling <= gap.low {
                    break 'search None;
                }
            }
            fit(ceiling, gap)
        }
        .filter(|start| *start >= gap.low)?;
        // Alignment skips gaps that another request could use, so only page-aligned searches leave knowledge behind.
        if gap.align == vmm::addr::PAGE_SIZE {
            self.searched = Some(Searched { above: found, shorter_than: gap.len, high: gap.high });
        }
        Some(UserAddr(found))
    }

    fn put(&mut self, vma: Vma) {
        self.by_start.insert(vma.range.start.0, vma);
    }

    /// `range` became free: the gap around it may now satisfy what no gap did.
    fn forget_gap_around(&mut self, range: UserRange) {
        if let Some(known) = &mut self.searched {
            let next = self.by_start.range(range.end.0..).next();
            let gap_end = next.map_or(known.high, |(_, vma)| vma.range.start.0);
            if gap_end > known.above {
                known.above = gap_end.min(known.high);
            }
        }
    }
}

/// The highest aligned start of `gap.len` bytes that end at or below `ceiling`.
fn fit(ceiling: u64, gap: Gap) -> Option<u64> {
    Some(ceiling.checked_sub(gap.len)? & !(gap.align - 1))
}
