//! Which call sites are hot ([`Heat`]): a fixed number of counters, whatever a program does.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use vmm::addr::{USER_END, UserRange};

/// Calls after which a site is hot.
///
/// A patch costs what some six to ten calls gain by it (see [`super`]). What has made this many calls will make as many
/// again more often than not: a loop is likelier to go on the longer it has run.
pub(super) const THRESHOLD: u64 = 32;
/// Counters of an address space. A program's start makes calls from some fifty sites, a busy server from as many.
const SLOTS: usize = 256;
/// The bits of a counter's word below the address.
const COUNT_BITS: u32 = 16;
/// The bit that says that a site has been dealt with: patched, or found to be none that can be.
const SETTLED: u64 = 1 << 15;
/// What the bits below that hold: calls so far, or how well a settled site keeps its slot against others.
const COUNT: u64 = SETTLED - 1;
/// The most that a count goes up to.
const MOST: u64 = 1024;

/// Counts of calls by return address.
///
/// Each slot belongs to one address at a time. Calls from others with the same hash wear its count down, and take the slot
/// at zero: so frequent ones win, and rare ones cost nothing. Updates race, which loses a count now and then.
#[derive(Default)]
pub(super) struct Heat {
    slots: OnceLock<Box<[AtomicU64]>>,
}

impl Heat {
    /// Counts `calls` that go on at `address`; tells whether its site is hot and nobody has dealt with it.
    pub(super) fn note(&self, address: u64, calls: u64) -> bool {
        if address >= USER_END {
            return false;
        }
        let slot = self.slot(address);
        let word = slot.load(Ordering::Relaxed);
        let count = word & COUNT;
        let known = word >> COUNT_BITS == address;
        if !known && count > calls {
            slot.store(word - calls, Ordering::Relaxed);
            return false;
        }
        let word = if known { word } else { address << COUNT_BITS };
        let count = (word & COUNT).saturating_add(calls).min(MOST);
        slot.store(word & !COUNT | count, Ordering::Relaxed);
        word & SETTLED == 0 && count >= THRESHOLD
    }

    /// A hot site has been dealt with, for better or worse.
    pub(super) fn settle(&self, address: u64) {
        if address < USER_END {
            self.slot(address).store(address << COUNT_BITS | SETTLED | MOST, Ordering::Relaxed);
        }
    }

    /// Other code lies in `range` from now on.
    pub(super) fn forget(&self, range: UserRange) {
        for slot in self.slots.get().into_iter().flatten() {
            let address = slot.load(Ordering::Relaxed) >> COUNT_BITS;
            // A call at the very end of the range goes on right behind it.
            if range.start.0 < address && address <= range.end.0 {
                slot.store(0, Ordering::Relaxed);
            }
        }
    }

    fn slot(&self, address: u64) -> &AtomicU64 {
        let slots = self.slots.get_or_init(|| (0..SLOTS).map(|_| AtomicU64::new(0)).collect());
        // Fibonacci hashing: the upper bits of the product depend on all of the address.
        let hash = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &slots[usize::try_from(hash).unwrap_or(0) % SLOTS]
    }
}

impl fmt::Debug for Heat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used =
            self.slots.get().map_or(0, |slots| slots.iter().filter(|slot| slot.load(Ordering::Relaxed) != 0).count());
        f.debug_struct("Heat").field("used", &used).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm::addr::UserAddr;

    const SITE: u64 = 0x7f12_3456_789a;

    fn calls_until_hot(heat: &Heat, address: u64) -> u64 {
        (1..=2 * THRESHOLD).find(|_| heat.note(address, 1)).unwrap()
    }

    #[test]
    fn a_site_is_hot_until_it_is_settled() {
        let heat = Heat::default();
        assert_eq!(calls_until_hot(&heat, SITE), THRESHOLD);
        assert!(heat.note(SITE, 1));
        heat.settle(SITE);
        assert!((0..10 * MOST).all(|_| !heat.note(SITE, 1)));
    }

    #[test]
    fn one_call_may_stand_for_many() {
        let heat = Heat::default();
        assert!(heat.note(SITE, THRESHOLD));
        heat.settle(SITE);
        assert!(!heat.note(SITE, THRESHOLD) && !heat.note(SITE, u64::MAX));
    }

    #[test]
    fn other_code_at_the_same_place_starts_anew() {
        let heat = Heat::default();
        heat.settle(SITE);
        heat.forget(UserRange { start: UserAddr(SITE), end: UserAddr(SITE + 1) });
        assert!((0..MOST).all(|_| !heat.note(SITE, 1)), "a range that begins behind the call is not about it");
        heat.forget(UserRange { start: UserAddr(SITE - 2), end: UserAddr(SITE) });
        assert_eq!(calls_until_hot(&heat, SITE), THRESHOLD);
    }

    #[test]
    fn a_million_cold_sites_do_not_hide_a_hot_one() {
        let heat = Heat::default();
        let mut found = false;
        for cold in 0..1_000_000 {
            assert!(!heat.note(0x1000 + cold * 2, 1), "nobody calls twice there");
            found |= heat.note(SITE, 1);
        }
        assert!(found);
    }

    #[test]
    fn what_is_no_address_is_not_counted() {
        let heat = Heat::default();
        assert!((0..MOST).all(|_| !heat.note(u64::MAX, 1) && !heat.note(USER_END, 1)));
        heat.settle(u64::MAX);
    }
}
