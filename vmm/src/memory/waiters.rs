//! Who waits for words of user memory: counts that programs look at before they call to wake somebody.
//!
//! The counts of a machine lie in one page, which its programs can read ([`layout::WAITERS_PAGE`]). So they say little: a word's count is
//! found by a hash of its address and of a salt that each address space has of its own, and is that of other words too.

use crate::addr::UserAddr;
use guest::layout::{self, WAITERS};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The counts of a machine.
#[derive(Debug, Default)]
pub struct Waiters {
    /// None as long as there is no processor that could look at them.
    counts: OnceLock<&'static [AtomicU32; WAITERS]>,
}

impl Waiters {
    /// Has programs look at these counts, which are zero, from their first instruction on.
    pub(crate) fn show(&self, counts: &'static [AtomicU32; WAITERS]) {
        // A machine has one page of them.
        let _ = self.counts.set(counts);
    }

    /// Counts somebody who waits for a word of the space with this salt, or is about to and has not looked at it yet, until the guard
    /// is dropped.
    pub fn count(&self, salt: u32, address: UserAddr) -> Waiting {
        let count = self.counts.get().map(|counts| &counts[index(salt, address)]);
        // Before the word is looked at, as who wakes looks here behind its store: one of the two sees the other.
        count.inspect(|count| _ = count.fetch_add(1, Ordering::SeqCst));
        Waiting { count }
    }
}

/// Which count is a word's, as the fast path finds it.
fn index(salt: u32, address: UserAddr) -> usize {
    let word = u32::try_from(address.0 >> 2 & u64::from(u32::MAX)).unwrap_or_default();
    let mixed = (word ^ salt).wrapping_mul(layout::WAITERS_FACTOR) >> layout::WAITERS_SHIFT;
    usize::try_from(mixed).unwrap_or_default() % WAITERS
}

/// Somebody who waits for a word.
#[derive(Debug)]
#[must_use = "programs wake nobody who is not counted"]
pub struct Waiting {
    count: Option<&'static AtomicU32>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.count.inspect(|count| _ = count.fetch_sub(1, Ordering::SeqCst));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_counted_until_its_guard_is_gone() {
        let counts: &[AtomicU32; WAITERS] = Box::leak(Box::new([const { AtomicU32::new(0) }; WAITERS]));
        let waiters = Waiters::default();
        drop(waiters.count(7, UserAddr(0x1000)));
        waiters.show(counts);
        let sum = || counts.iter().map(|count| count.load(Ordering::SeqCst)).sum::<u32>();
        let words = (0..4000).map(|word| UserAddr(0x7fff_0000_0000 + word * 4));
        let waiting: Vec<_> = words.map(|word| waiters.count(7, word)).collect();
        assert_eq!(sum(), 4000);
        assert!(counts.iter().all(|count| count.load(Ordering::SeqCst) < 40), "they are spread: {counts:?}");
        drop(waiting);
        assert_eq!(sum(), 0);
    }

    #[test]
    fn spaces_have_other_counts_for_the_same_word() {
        let indices = |salt| (0..64).map(move |word| index(salt, UserAddr(0x5000 + word * 4)));
        assert!(indices(1).zip(indices(0x8765_4321)).any(|(one, other)| one != other));
    }
}
