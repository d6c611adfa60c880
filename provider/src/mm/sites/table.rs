//! What was rewritten in an address space ([`Table`]): a value that a forked child gets a copy of.

use super::area::{Area, BREAKPOINT};
use super::shape::{JUMP_LEN, MOST_BEFORE, SYSCALL};
use super::trampoline::Trampoline;
use std::collections::BTreeMap;
use vmm::addr::{UserAddr, UserRange};

/// Trampolines that an address space ever gets.
const TRAMPOLINES_MAX: usize = 1024;
/// Areas for them that it ever gets: more than one if its code lies far apart, or if the program wants the place of one.
const AREAS_MAX: usize = 8;

/// The trampolines of an address space.
///
/// None is ever forgotten: a thread may be in it, or in a call that goes on there, however long ago its site got its own code
/// back.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// By their addresses.
    trampolines: BTreeMap<u64, Trampoline>,
    /// The windows that have a jump now, each with the address of its trampoline.
    active: BTreeMap<u64, u64>,
    areas: Vec<Area>,
    areas_made: usize,
}

impl Table {
    /// Tells whether another trampoline may be made.
    pub(super) fn has_room(&self) -> bool {
        self.trampolines.len() < TRAMPOLINES_MAX
    }

    /// The areas that there are.
    pub(super) fn areas(&mut self) -> &mut Vec<Area> {
        &mut self.areas
    }

    /// Adds an area, if it is not one too many.
    pub(super) fn add_area(&mut self, range: UserRange) -> Option<&mut Area> {
        if self.areas_made == AREAS_MAX {
            return None;
        }
        self.areas_made += 1;
        self.areas.push(Area::new(range.start.0));
        self.areas.last_mut()
    }

    /// The lowest area that overlaps `range`.
    pub(super) fn first_area_in(&self, range: UserRange) -> Option<UserRange> {
        self.areas.iter().map(Area::range).filter(|area| area.overlaps(range)).min_by_key(|area| area.start)
    }

    /// Gives up the areas that overlap `range` and returns them; their trampolines stay known.
    pub(super) fn remove_areas(&mut self, range: UserRange) -> Vec<UserRange> {
        let gone = self.areas.iter().map(Area::range).filter(|area| area.overlaps(range)).collect();
        self.areas.retain(|area| !area.range().overlaps(range));
        gone
    }

    /// A trampoline that was made for the same code before, and lies in an area that there is.
    pub(super) fn made_before(&self, wanted: &Trampoline) -> Option<u64> {
        let same = |known: &&Trampoline| {
            let lies = self.areas.iter().any(|area| area.range().contains(UserAddr(known.at)));
            lies && **known == Trampoline { at: known.at, ..wanted.clone() }
        };
        self.trampolines.values().filter(|known| known.window == wanted.window).find(same).map(|known| known.at)
    }

    /// Adds a trampoline, to which no jump leads yet.
    pub(super) fn add(&mut self, trampoline: Trampoline) {
        self.trampolines.insert(trampoline.at, trampoline);
    }

    /// The window of the trampoline at `at` has its jump from now on.
    pub(super) fn activate(&mut self, at: u64) {
        if let Some(trampoline) = self.trampolines.get(&at) {
            self.active.insert(trampoline.window, at);
        }
    }

    /// The windows in `range` have no jumps any more; returns their trampolines.
    pub(super) fn deactivate(&mut self, range: UserRange) -> Vec<Trampoline> {
        let windows: Vec<u64> = self.active_in(range).map(|trampoline| trampoline.window).collect();
        let gone = windows.iter().filter_map(|window| self.active.remove(window));
        gone.filter_map(|at| self.trampolines.get(&at)).cloned().collect()
    }

    /// As [`Self::deactivate`], for those whose trampolines lie in `range`.
    pub(super) fn deactivate_through(&mut self, range: UserRange) -> Vec<Trampoline> {
        let through: Vec<UserRange> = self
            .active
            .iter()
            .filter(|(_, at)| range.contains(UserAddr(**at)))
            .map(|(window, _)| UserRange { start: UserAddr(*window), end: UserAddr(window + 1) })
            .collect();
        through.into_iter().flat_map(|window| self.deactivate(window)).collect()
    }

    /// The trampolines whose windows have jumps and overlap `range`.
    pub(super) fn active_in(&self, range: UserRange) -> impl Iterator<Item = &Trampoline> {
        let first = range.start.0.saturating_sub(JUMP_LEN as u64 - 1);
        self.active.range(first..range.end.0.max(first)).filter_map(|(_, at)| self.trampolines.get(at))
    }

    /// Tells whether a window has a jump whose call goes on at `return_address`. The SYSCALL in front of that address may still be
    /// there then, but is nobody's to rewrite: the call of the trampoline would come back into the middle of the new window.
    pub(super) fn goes_on_at(&self, return_address: u64) -> bool {
        let before = UserRange {
            start: UserAddr(return_address.saturating_sub((MOST_BEFORE + SYSCALL.len()) as u64)),
            end: UserAddr(return_address),
        };
        self.active_in(before).any(|trampoline| trampoline.return_address() == return_address)
    }

    /// How many windows have jumps.
    pub(super) fn active(&self) -> usize {
        self.active.len()
    }

    /// The trampoline that has `rip` in it.
    pub(super) fn containing(&self, rip: u64) -> Option<&Trampoline> {
        let (_, trampoline) = self.trampolines.range(..=rip).next_back()?;
        trampoline.contains(rip).then_some(trampoline)
    }

    /// Where a thread goes on that is about to go on at `rip` of the program's.
    pub(super) fn stand_in_for(&self, rip: u64) -> Option<u64> {
        let window = UserRange { start: UserAddr(rip.saturating_sub(1)), end: UserAddr(rip) };
        self.active_in(window).find_map(|trampoline| trampoline.stand_in_for(rip))
    }

    /// The place of the program's that a thread is at which has run the breakpoint in front of `rip`, if that is one of ours,
    /// or was when the thread met it: `now` is the byte that lies there now.
    pub(super) fn behind_breakpoint(&self, rip: u64, now: u8) -> Option<u64> {
        let place = rip.wrapping_sub(1);
        let active = self.stand_in_for(place).is_some();
        let was = || now != BREAKPOINT && self.trampolines.values().any(|known| known.stand_in_for(place).is_some());
        (active || was()).then_some(place)
    }

    /// Puts the program's own bytes in place of jumps: `bytes` were read at `at`.
    pub(super) fn show_original(&self, at: UserAddr, bytes: &mut [u8]) {
        let Some(range) = UserRange::new(at, bytes.len() as u64) else { return };
        for trampoline in self.active_in(range) {
            let Some(jump) = trampoline.jump() else { continue };
            let places = (trampoline.window..).zip(jump.into_iter().zip(trampoline.original));
            let inside: Vec<(usize, u8, u8)> = places
                .filter(|(place, _)| range.contains(UserAddr(*place)))
                .filter_map(|(place, (new, old))| Some((usize::try_from(place - at.0).ok()?, new, old)))
                .collect();
            // Not if the bytes are others: the file behind the page was cut off, say, and is longer again.
            if inside.iter().all(|(index, new, _)| bytes[*index] == *new) {
                inside.iter().for_each(|(index, _, old)| bytes[*index] = *old);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::trampoline::Moved;
    use super::*;

    const AT: u64 = 0x7eff_d000_0000;
    const WINDOW: u64 = 0x7f00_1000_0123;

    fn range(start: u64, end: u64) -> UserRange {
        UserRange { start: UserAddr(start), end: UserAddr(end) }
    }

    fn after(at: u64, window: u64) -> Trampoline {
        let moved = [0x48, 0x3d, 0, 0xf0, 0xff, 0xff];
        Trampoline { at, window, original: [0x0f, 0x05, 0x48, 0x3d, 0], moved: Moved::After(moved.into()) }
    }

    fn table() -> Table {
        let mut table = Table::default();
        table.add_area(range(AT, AT + super::super::area::AREA_SIZE)).unwrap();
        for number in 0..3 {
            table.add(after(AT + 32 * number, WINDOW + 64 * number));
            table.activate(AT + 32 * number);
        }
        table
    }

    #[test]
    fn sites_are_found_by_what_overlaps_them() {
        let table = table();
        let windows = |start, end| {
            let found = table.active_in(range(start, end));
            found.map(|trampoline| (trampoline.window - WINDOW) / 64).collect::<Vec<_>>()
        };
        assert_eq!(windows(0, u64::MAX), [0, 1, 2]);
        assert_eq!(windows(WINDOW + 4, WINDOW + 64), [0]);
        assert_eq!(windows(WINDOW + 5, WINDOW + 64), [0; 0]);
        assert_eq!(windows(WINDOW + 5, WINDOW + 65), [1]);
        assert_eq!(windows(WINDOW + 5, WINDOW + 5), [0; 0]);
    }

    #[test]
    fn a_site_with_its_own_code_again_stays_known() {
        let mut table = table();
        assert_eq!(table.deactivate(range(WINDOW + 64, WINDOW + 65)), [after(AT + 32, WINDOW + 64)]);
        assert_eq!(table.deactivate(range(WINDOW + 64, WINDOW + 65)), []);
        assert_eq!(table.active(), 2);
        assert_eq!(table.stand_in_for(WINDOW + 66), None);
        assert_eq!(table.stand_in_for(WINDOW + 2), Some(AT + 17));
        assert_eq!(table.containing(AT + 32 + 17).unwrap().window, WINDOW + 64);
        assert_eq!(table.containing(AT + 32 + 28), None);
        assert_eq!(table.made_before(&after(0, WINDOW + 64)), Some(AT + 32));
        assert_eq!(table.made_before(&after(0, WINDOW + 65)), None);
    }

    #[test]
    fn an_area_takes_its_sites_along() {
        let mut table = table();
        assert_eq!(table.deactivate_through(range(AT, AT + 33)).len(), 2);
        assert_eq!(table.remove_areas(range(0, AT)), []);
        assert_eq!(table.remove_areas(range(AT + 1, AT + 2)).len(), 1);
        assert_eq!(table.made_before(&after(0, WINDOW)), None);
        assert!(table.containing(AT).is_some());
    }

    #[test]
    fn areas_and_trampolines_are_limited() {
        let mut table = Table::default();
        let made = (0..100).filter(|_| {
            let made = table.add_area(range(AT, AT + 1)).is_some();
            table.remove_areas(range(AT, AT + 1));
            made
        });
        assert_eq!(made.count(), AREAS_MAX);
        let mut number = 0;
        while table.has_room() {
            table.add(after(AT + number, WINDOW));
            number += 1;
        }
        assert_eq!(number, TRAMPOLINES_MAX as u64);
    }

    #[test]
    fn breakpoints_are_told_apart() {
        let mut table = table();
        assert_eq!(table.behind_breakpoint(WINDOW + 3, BREAKPOINT), Some(WINDOW + 2));
        assert_eq!(table.behind_breakpoint(WINDOW + 4, BREAKPOINT), None);
        table.deactivate(range(WINDOW, WINDOW + 1));
        assert_eq!(table.behind_breakpoint(WINDOW + 3, 0x48), Some(WINDOW + 2), "its own code is back");
        assert_eq!(table.behind_breakpoint(WINDOW + 3, BREAKPOINT), None, "a debugger's");
        assert_eq!(table.behind_breakpoint(0, 0), None);
    }

    #[test]
    fn readers_see_the_original() {
        let table = table();
        let jump = after(AT, WINDOW).jump().unwrap();
        let mut bytes = [&[0x31, 0xc0], &jump[..], &[0xf0, 0xff]].concat();
        table.show_original(UserAddr(WINDOW - 2), &mut bytes);
        assert_eq!(bytes, [0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0, 0xf0, 0xff]);
        let mut part = jump[3..].to_vec();
        table.show_original(UserAddr(WINDOW + 3), &mut part);
        assert_eq!(part, [0x3d, 0]);
        let mut other = vec![1, 2, 3, 4, 5];
        table.show_original(UserAddr(WINDOW), &mut other);
        assert_eq!(other, [1, 2, 3, 4, 5]);
    }
}
