//! Where trampolines lie ([`Area`]): pages that no mapping of the program's has, near its code.
//!
//! The program's map does not know of them, so that it is what Linux would make of it; whatever is mapped where an area
//! lies takes its place. Areas lie where Linux's searches for free addresses come last.

use super::shape::JUMP_LEN;
use vmm::addr::{PAGE_SIZE, UserAddr, UserRange};

/// Bytes of an area: all the displacements that differ in their lower two bytes.
pub(super) const AREA_SIZE: u64 = 1 << 16;
/// Trampolines begin at multiples of this.
const UNIT: u64 = 16;
/// Units in a word of the map of those in use.
const WORD: u64 = 64;
/// Words of that map.
const WORDS: usize = 64;
/// The breakpoint instruction, which a jump has as its second byte where threads may come back to that.
pub(super) const BREAKPOINT: u8 = 0xcc;
/// How far code and area are from each other at the most: what a displacement reaches, less what both are long.
const REACH: u64 = (1 << 31) - 2 * AREA_SIZE;
/// Room that must be free on both sides of an area.
const MARGIN: u64 = 1 << 20;
/// The lowest address that an area may have.
const LOWEST: u64 = 1 << 20;

const _: () = assert!(WORDS as u64 * WORD * UNIT == AREA_SIZE, "each unit has a bit");

/// Where in an area a trampoline may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Anywhere.
    Any,
    /// So that the jump from the window there has [`BREAKPOINT`] as its second byte.
    Breakpoint,
}

/// Pages with trampolines.
#[derive(Clone, Debug)]
pub(super) struct Area {
    start: u64,
    /// A bit for each unit that is taken. None is given back: threads may be in it, or come back to it.
    used: [u64; WORDS],
}

impl Area {
    /// Makes an area at a page-aligned address.
    pub(super) fn new(start: u64) -> Self {
        debug_assert!(start.is_multiple_of(PAGE_SIZE));
        Self { start, used: [0; WORDS] }
    }

    /// Its addresses.
    pub(super) fn range(&self) -> UserRange {
        range_at(self.start)
    }

    /// Takes `len` bytes for the trampoline of the window at `window`; `None` if there are none.
    pub(super) fn take(&mut self, window: u64, len: usize, fit: Fit) -> Option<u64> {
        if window.abs_diff(self.start) > REACH {
            return None;
        }
        let units = (len as u64).div_ceil(UNIT);
        let fits = |at: u64| fit == Fit::Any || second_byte(window, at) == BREAKPOINT;
        let free = |at: u64| (0..units).all(|unit| !self.is_used((at - self.start) / UNIT + unit));
        let last = self.start + AREA_SIZE - units * UNIT;
        let at = (self.start..=last).step_by(UNIT_STEP).find(|at| fits(*at) && free(*at))?;
        for unit in 0..units {
            let (word, bit) = place((at - self.start) / UNIT + unit);
            self.used[word] |= bit;
        }
        Some(at)
    }

    fn is_used(&self, unit: u64) -> bool {
        let (word, bit) = place(unit);
        self.used[word] & bit != 0
    }
}

/// [`UNIT`], as iterators count.
const UNIT_STEP: usize = 16;

fn place(unit: u64) -> (usize, u64) {
    (usize::try_from(unit / WORD).unwrap_or(usize::MAX), 1 << (unit % WORD))
}

/// The addresses of an area at `start`.
fn range_at(start: u64) -> UserRange {
    UserRange { start: UserAddr(start), end: UserAddr(start + AREA_SIZE) }
}

/// The second byte of a jump from `window` to `at`: the one at the third byte of the window.
fn second_byte(window: u64, at: u64) -> u8 {
    let displacement = at.wrapping_sub(window + JUMP_LEN as u64).to_le_bytes();
    displacement[1]
}

/// Chooses where an area for the code at `window` goes; `is_free` tells whether a range is, and will stay so as far as one
/// can tell.
///
/// Below the code by preference: mappings are placed from the top down, and heaps and programs without a fixed place have
/// nothing below them. Code in the lowest 2 GiB has the room below the usual place of a program that must lie there.
pub(super) fn choose(window: u64, is_free: impl Fn(UserRange) -> bool) -> Option<UserRange> {
    const STEP: u64 = 256 << 20;
    let code = window & !(AREA_SIZE - 1);
    let below = [4, 5, 6, 3, 2, 7].into_iter().filter_map(|steps| code.checked_sub(steps * STEP));
    let low = (2..32).rev().map(|part| part * MARGIN);
    let above = [4, 5, 6, 3, 2, 7].into_iter().map(|steps| code + steps * STEP);
    let near = [code.saturating_sub(STEP / 2), code + STEP / 2];
    let reaches = |start: &u64| *start >= LOWEST && window.abs_diff(*start) <= REACH;
    below.chain(low).chain(above).chain(near).filter(reaches).map(range_at).find(|range| {
        let around = UserRange::new(UserAddr(range.start.0 - MARGIN), AREA_SIZE + 2 * MARGIN);
        around.is_some_and(&is_free)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const START: u64 = 0x7eff_d000_0000;
    const WINDOW: u64 = START + (1 << 30) + 0x1_2345;

    #[test]
    fn trampolines_do_not_overlap_and_end_with_the_area() {
        let mut area = Area::new(START);
        let taken: Vec<u64> = std::iter::from_fn(|| area.take(WINDOW, 28, Fit::Any)).collect();
        assert_eq!(taken.len() as u64, AREA_SIZE / 32);
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), taken.len());
        assert!(taken.iter().all(|at| at % 32 == 0 && area.range().contains(UserAddr(*at))));
    }

    #[test]
    fn a_jump_has_a_breakpoint_where_threads_come_back() {
        for window in (WINDOW..WINDOW + 0x2_0000).step_by(0x1_0f3) {
            let mut area = Area::new(START);
            let at = area.take(window, 28, Fit::Breakpoint).unwrap();
            assert_eq!(second_byte(window, at), BREAKPOINT, "{window:x}");
        }
    }

    #[test]
    fn what_is_out_of_reach_gets_nothing() {
        let mut area = Area::new(START);
        assert_eq!(area.take(START + (1 << 31), 28, Fit::Any), None);
        assert_eq!(area.take(START - (1 << 31), 28, Fit::Any), None);
    }

    #[test]
    fn an_area_goes_below_the_code_or_where_there_is_room() {
        let range = choose(WINDOW, |_| true).unwrap();
        assert!(range.start.0 < WINDOW && WINDOW - range.start.0 < 1 << 31);
        assert!(range.start.is_page_aligned());
        // A program that is linked for the lowest addresses.
        let low = choose(0x40_1234, |range| range.end.0 <= 0x40_0000).unwrap();
        assert!(low.start.0 >= LOWEST && low.end.0 <= 0x40_0000);
        let above = choose(0x40_1234, |range| range.start.0 > 0x1000_0000).unwrap();
        assert!(above.end.0 < 1 << 31);
        assert_eq!(choose(WINDOW, |_| false), None);
    }
}
