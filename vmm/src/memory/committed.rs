//! Which frames the host has committed: handing frames out is eager, committing them lazy.
//!
//! Two host calls tell, and neither is always right or always cheap. `mincore` looks at 512 pages in 1 to 6 µs, but says the
//! same of a page that was swapped out as of one that was never touched. The page map tells them apart, at 0.3 µs for each
//! page that is there. So the page map is asked about few pages, and about many only while something is swapped out.

use super::arena::{FRAMES, usize_of};
use super::file::read_whole;
use super::{Entry, Frame, GuestMemory};
use crate::addr::PAGE_SIZE;
use std::collections::HashMap;
use std::fs::File;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// Pages up to which the page map is asked.
const FEW: u32 = 96;

/// What the host said of the frames that were asked about, at one moment.
pub(super) struct Committed<'m> {
    memory: &'m GuestMemory,
    /// By extent; `None`: the host does not tell.
    known: HashMap<u32, Option<Known>>,
}

/// What is known of an extent: the frames of one range.
struct Known {
    first: u32,
    flags: Vec<bool>,
}

impl<'m> Committed<'m> {
    /// Starts with nothing known.
    pub(super) fn new(memory: &'m GuestMemory) -> Self {
        Self { memory, known: HashMap::new() }
    }

    /// Tells whether none of the frames behind a leaf was ever touched. Asks about the extent it lies in, once.
    pub(super) fn untouched(&mut self, entry: Entry) -> bool {
        let frame = entry.frame();
        let extent = frame.extent();
        let known = self.known.entry(extent).or_insert_with(|| self.memory.committed(extent, 0, FRAMES));
        known.as_ref().is_some_and(|known| {
            if entry.is_large() { known.flags.iter().all(|&committed| !committed) } else { known.is_free(frame.slot()) }
        })
    }

    /// How many of the pages behind a leaf were touched; all, if the host does not tell.
    pub(super) fn touched(&mut self, entry: Entry) -> u64 {
        if entry.is_large() {
            let extent = entry.frame().extent();
            let known = self.known.entry(extent).or_insert_with(|| self.memory.committed(extent, 0, FRAMES));
            let counted = |known: &Known| known.flags.iter().filter(|&&committed| committed).count() as u64;
            return known.as_ref().map_or(u64::from(FRAMES), counted);
        }
        u64::from(!self.untouched(entry))
    }

    /// Asks about some frames of an extent ahead of [`Self::untouched`], which knows of no others of it then.
    pub(super) fn ask(&mut self, extent: u32, slots: std::ops::Range<u32>) {
        let mut slots = slots;
        if let Some(known) = self.known.get(&extent) {
            let Some(known) = known else { return };
            let end = known.first + u32::try_from(known.flags.len()).unwrap_or(FRAMES);
            if known.first <= slots.start && slots.end <= end {
                return;
            }
            slots = slots.start.min(known.first)..slots.end.max(end);
        }
        let answer = self.memory.committed(extent, slots.start, slots.end - slots.start);
        self.known.insert(extent, answer);
    }
}

impl Known {
    fn is_free(&self, slot: u32) -> bool {
        let at = slot.checked_sub(self.first).map(|at| at as usize);
        at.and_then(|at| self.flags.get(at)).is_some_and(|&committed| !committed)
    }
}

impl GuestMemory {
    /// Tells which of `count` frames of an extent from `slot` on the host has committed.
    fn committed(&self, extent: u32, slot: u32, count: u32) -> Option<Known> {
        let start = self.arena().host(Frame::at(extent, slot));
        let flags = if count > FEW && !host_has_swapped() { resident(start, count) } else { page_map(start, count) };
        flags.map(|flags| Known { first: slot, flags })
    }
}

/// Tells whether the host has swapped anything out, of whomever.
fn host_has_swapped() -> bool {
    let mut info = MaybeUninit::<libc::sysinfo>::zeroed();
    // SAFETY: the buffer is a whole `sysinfo`.
    let failed = unsafe { libc::sysinfo(info.as_mut_ptr()) } != 0;
    // SAFETY: all-zero was valid before the call, and the call writes it whole.
    let info = unsafe { info.assume_init() };
    failed || info.totalswap != info.freeswap
}

/// Which of the pages from `start` on are in memory.
fn resident(start: *mut u8, count: u32) -> Option<Vec<bool>> {
    let mut pages = vec![0_u8; count as usize];
    let bytes = usize_of(u64::from(count) * PAGE_SIZE);
    // SAFETY: the pages are the arena's, and the vector has a byte for each.
    let failed = unsafe { libc::mincore(start.cast(), bytes, pages.as_mut_ptr()) } != 0;
    (!failed).then(|| pages.into_iter().map(|page| page & 1 != 0).collect())
}

/// Which of the pages from `start` on are in memory or swapped out (Documentation/admin-guide/mm/pagemap.rst).
fn page_map(start: *mut u8, count: u32) -> Option<Vec<bool>> {
    static PAGEMAP: OnceLock<Option<File>> = OnceLock::new();
    const PRESENT_OR_SWAPPED: u64 = 3 << 62;
    let file = PAGEMAP.get_or_init(|| File::open("/proc/self/pagemap").ok()).as_ref()?;
    let mut bytes = vec![0_u8; count as usize * 8];
    read_whole(file, &mut bytes, start.addr() as u64 / PAGE_SIZE * 8)?;
    let (words, _) = bytes.as_chunks::<8>();
    Some(words.iter().map(|word| u64::from_ne_bytes(*word) & PRESENT_OR_SWAPPED != 0).collect())
}
