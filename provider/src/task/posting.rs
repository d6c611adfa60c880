//! What a task keeps about calls that it posts: how far one got before it needed its own thread, and which ones do so all
//! the time.

use crate::syscall::names::SIZE;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// In a row: calls that needed the thread until they are no longer posted, and calls that never slept until they are again.
/// A post in vain costs a tenth of the trap that follows, so this is about not keeping the server awake for nothing.
const PATIENCE: u8 = 8;

/// Set in a call's habit while it is not posted.
const RESTS: u8 = 0x80;

/// Bits of a number of bytes in the word of progress; no call transfers 2 GiB (MAX_RW_COUNT).
const BYTES: u32 = 32;

/// A change of how calls of one number are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// They are no longer posted.
    Rest,
    /// They are posted again.
    Post,
}

/// What a task keeps about its posted calls.
#[derive(Debug, Default)]
pub(super) struct Posting {
    /// Number and bytes of the call that goes on by trap; 0: there is none.
    progress: AtomicU64,
    /// By number: what happened in a row. Made when a call first needs its thread.
    habits: OnceLock<Box<[AtomicU8]>>,
}

impl Posting {
    /// Notes that a call has transferred bytes and needs its thread for the rest.
    pub(super) fn keep_progress(&self, number: u64, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or_default() & ((1 << BYTES) - 1);
        self.progress.store(if bytes == 0 { 0 } else { number << BYTES | bytes }, Ordering::SeqCst);
    }

    /// Takes what was noted, which is for the next call that the thread makes, and for no other.
    pub(super) fn take_progress(&self, number: u64) -> usize {
        if self.progress.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let noted = self.progress.swap(0, Ordering::SeqCst);
        let bytes = if noted >> BYTES == number { noted & ((1 << BYTES) - 1) } else { 0 };
        usize::try_from(bytes).unwrap_or_default()
    }

    /// A posted call was answered.
    pub(super) fn answered(&self, number: u64) {
        if let Some(habit) = self.habit(number) {
            habit.store(0, Ordering::Relaxed);
        }
    }

    /// A posted call needs its thread.
    pub(super) fn refused(&self, number: u64) -> Option<Change> {
        self.habits.get_or_init(|| (0..SIZE).map(|_| AtomicU8::new(0)).collect());
        let habit = self.habit(number)?;
        let row = (habit.load(Ordering::Relaxed) & !RESTS).saturating_add(1);
        let rests = row >= PATIENCE;
        habit.store(if rests { RESTS } else { row }, Ordering::Relaxed);
        rests.then_some(Change::Rest)
    }

    /// A call was made by trap, and slept or not.
    pub(super) fn trapped(&self, number: u64, slept: bool) -> Option<Change> {
        let habit = self.habit(number)?;
        let before = habit.load(Ordering::Relaxed);
        if before & RESTS == 0 {
            return None;
        }
        let row = if slept { 0 } else { (before & !RESTS).saturating_add(1) };
        let posts = row >= PATIENCE;
        habit.store(if posts { 0 } else { RESTS | row }, Ordering::Relaxed);
        posts.then_some(Change::Post)
    }

    fn habit(&self, number: u64) -> Option<&AtomicU8> {
        self.habits.get()?.get(usize::try_from(number).ok()?)
    }
}

impl super::Task {
    /// Notes that a posted call was answered.
    pub(crate) fn posted_well(&self, number: u64) {
        self.posting.answered(number);
    }

    /// Notes that a posted call needs its thread; says what that changes.
    pub(crate) fn posted_in_vain(&self, number: u64) -> Option<Change> {
        self.posting.refused(number)
    }

    /// Notes that a call was made by trap, and whether it slept; says what that changes.
    pub(crate) fn made_by_trap(&self, number: u64, slept: bool) -> Option<Change> {
        self.posting.trapped(number, slept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_for_the_next_call_alone() {
        let posting = Posting::default();
        assert_eq!(posting.take_progress(1), 0);
        posting.keep_progress(1, 70_000);
        assert_eq!(posting.take_progress(1), 70_000);
        assert_eq!(posting.take_progress(1), 0);
        posting.keep_progress(1, 5);
        assert_eq!(posting.take_progress(20), 0);
        assert_eq!(posting.take_progress(1), 0);
        posting.keep_progress(1, 0);
        assert_eq!(posting.take_progress(1), 0);
    }

    #[test]
    fn a_call_that_keeps_sleeping_rests_until_it_no_longer_does() {
        let posting = Posting::default();
        assert_eq!(posting.trapped(0, true), None);
        let last = (0..PATIENCE).map(|_| posting.refused(0)).collect::<Vec<_>>();
        assert_eq!(last.iter().flatten().collect::<Vec<_>>(), [&Change::Rest]);
        assert_eq!(last.last(), Some(&Some(Change::Rest)));
        // One that sleeps begins the row anew.
        (1..PATIENCE).for_each(|_| assert_eq!(posting.trapped(0, false), None));
        assert_eq!(posting.trapped(0, true), None);
        (1..PATIENCE).for_each(|_| assert_eq!(posting.trapped(0, false), None));
        assert_eq!(posting.trapped(0, false), Some(Change::Post));
        assert_eq!(posting.trapped(0, false), None);
    }

    #[test]
    fn an_answer_ends_a_row_of_refusals() {
        let posting = Posting::default();
        (1..PATIENCE).for_each(|_| assert_eq!(posting.refused(0), None));
        posting.answered(0);
        (1..PATIENCE).for_each(|_| assert_eq!(posting.refused(0), None));
        assert_eq!(posting.refused(0), Some(Change::Rest));
        assert_eq!(posting.refused(u64::MAX), None);
    }
}
