//! What a pico thread's time goes to: its own code, its provider, or nothing.
//!
//! The host counts a thread's CPU time, but not for which of the two. A clock of CPU time costs a system call, twice a trap; the
//! time-stamp counter costs a few nanoseconds, but goes on while the thread is not on a CPU. So the counter tells the *proportion* of
//! time in user mode and outside it, sleep not counted, and that proportion divides the CPU time, which is exact. Where a thread
//! loses its CPU to others, both parts lose alike. Entering and leaving the guest counts as user mode.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
use std::time::Duration;

/// What time goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Span {
    /// Nothing: the thread waits, or has not begun, or has ended.
    Rest = 0,
    /// User mode.
    User = 1,
    /// The provider, and the host on its behalf.
    Provider = 2,
}

/// CPU time by what it went to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuSplit {
    /// The program's own code, with the ways into the guest and out.
    pub user: Duration,
    /// The provider, and the host on its behalf.
    pub provider: Duration,
}

impl CpuSplit {
    /// Both.
    pub fn total(&self) -> Duration {
        self.user + self.provider
    }

    /// The sum of two.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self { user: self.user + other.user, provider: self.provider + other.provider }
    }

    /// Divides `total` as `user` is to `provider`; all of it goes to the provider if neither has had any time.
    fn of(total: Duration, user: u64, provider: u64) -> Self {
        let whole = u128::from(user) + u128::from(provider);
        // Centuries, which is as much as fits.
        let nanoseconds = u64::try_from(total.as_nanos()).unwrap_or(u64::MAX);
        let share = (u128::from(nanoseconds) * u128::from(user)).checked_div(whole).unwrap_or(0);
        // No more than `nanoseconds`.
        let user = Duration::from_nanos(u64::try_from(share).unwrap_or(nanoseconds));
        Self { user, provider: total - user }
    }
}

/// Sums of spans in ticks of the time-stamp counter. One thread writes; a version that is odd meanwhile lets any other read.
#[derive(Debug, Default)]
pub(super) struct Spans {
    version: AtomicU64,
    now: AtomicU8,
    since: AtomicU64,
    user: AtomicU64,
    provider: AtomicU64,
}

/// A moment of [`Spans`].
#[derive(Clone, Copy, Debug)]
struct Seen {
    now: u8,
    since: u64,
    user: u64,
    provider: u64,
}

impl Spans {
    /// From now on time goes to `to`; returns what it went to. For the one thread whose time it is.
    pub(super) fn switch(&self, to: Span) -> Span {
        let ticks = counter();
        let before = self.load();
        let spent = ticks.saturating_sub(before.since);
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let was = match before.now {
            1 => {
                self.user.store(before.user + spent, Ordering::Relaxed);
                Span::User
            }
            2 => {
                self.provider.store(before.provider + spent, Ordering::Relaxed);
                Span::Provider
            }
            _ => Span::Rest,
        };
        self.since.store(ticks, Ordering::Relaxed);
        self.now.store(to as u8, Ordering::Relaxed);
        self.version.store(version + 2, Ordering::Release);
        was
    }

    fn load(&self) -> Seen {
        Seen {
            now: self.now.load(Ordering::Relaxed),
            since: self.since.load(Ordering::Relaxed),
            user: self.user.load(Ordering::Relaxed),
            provider: self.provider.load(Ordering::Relaxed),
        }
    }

    /// Divides a thread's CPU time by what its time went to so far. For any thread.
    pub(super) fn divide(&self, total: Duration) -> CpuSplit {
        let Seen { now, since, user, provider } = self.consistent();
        let open = counter().saturating_sub(since);
        match now {
            1 => CpuSplit::of(total, user + open, provider),
            2 => CpuSplit::of(total, user, provider + open),
            _ => CpuSplit::of(total, user, provider),
        }
    }

    /// A moment that was one. The writer may be preempted in the middle of a change: after some tries whatever is there must do, which
    /// is wrong by one span.
    fn consistent(&self) -> Seen {
        for _ in 0..1000 {
            let before = self.version.load(Ordering::Acquire);
            let seen = self.load();
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                return seen;
            }
            std::hint::spin_loop();
        }
        self.load()
    }
}

/// The time-stamp counter. Only proportions matter, so neither its frequency nor small differences between CPUs do.
fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and it touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_divided_and_none_is_lost() {
        let total = Duration::from_nanos(1001);
        for (user, provider, expected) in [(0, 0, 0), (1, 0, 1001), (0, 7, 0), (1, 1, 500), (u64::MAX, u64::MAX, 500)] {
            let split = CpuSplit::of(total, user, provider);
            assert_eq!(split.user, Duration::from_nanos(expected), "{user}:{provider}");
            assert_eq!(split.total(), total);
        }
        let long = Duration::MAX;
        assert_eq!(CpuSplit::of(long, u64::MAX, 1).total(), long);
    }

    /// Lets so many ticks pass.
    fn pass(ticks: u64) {
        let start = counter();
        while counter() - start < ticks {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn spans_go_to_whom_they_were_for_and_rest_to_nobody() {
        let spans = Spans::default();
        assert_eq!(spans.switch(Span::Provider), Span::Rest);
        pass(1_000_000);
        assert_eq!(spans.switch(Span::Rest), Span::Provider);
        let rested = spans.divide(Duration::from_secs(1));
        assert_eq!(rested.user, Duration::ZERO);
        pass(1_000_000);
        assert_eq!(spans.switch(Span::User), Span::Rest);
        // The open span counts, too, and grows.
        pass(1_000_000);
        let open = spans.divide(Duration::from_secs(1));
        assert!(open.user > Duration::ZERO && open.provider > Duration::ZERO, "{open:?}");
        pass(1_000_000);
        assert!(spans.divide(Duration::from_secs(1)).user > open.user);
        spans.switch(Span::Rest);
        let ended = spans.divide(Duration::from_secs(1));
        pass(1_000_000);
        assert_eq!(spans.divide(Duration::from_secs(1)), ended);
    }

    #[test]
    fn another_thread_always_sees_a_moment_that_was_one() {
        let spans = Spans::default();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let Seen { now, since, .. } = spans.consistent();
                    assert!(now <= 2 && since <= counter() + 1_000_000_000);
                    assert_eq!(spans.divide(Duration::from_secs(1)).total(), Duration::from_secs(1));
                }
            });
            for _ in 0..100_000 {
                spans.switch(Span::User);
                spans.switch(Span::Provider);
            }
            over.store(true, Ordering::Relaxed);
        });
    }
}
