//! A timer's next expiration on the clock it counts by.

use super::service::after;
use crate::task::CpuTimeOf;
use std::time::{Duration, Instant};

/// What a timer counts by.
#[derive(Clone, Debug)]
pub(super) enum Base {
    /// A clock that nobody sets.
    Monotonic,
    /// The host's wall clock, in nanoseconds since the epoch. That it was set is noticed as the timer would have expired.
    Wall,
    /// CPU time.
    Cpu(CpuTimeOf),
}

/// When a timer expires next.
#[derive(Clone, Debug)]
pub(super) enum Countdown {
    Monotonic(Instant),
    Wall(u64),
    Cpu(CpuTimeOf, Duration),
}

impl Base {
    /// The wall or CPU clock's present value in nanoseconds; the monotonic clock's callers know theirs.
    fn now_ns(&self) -> u64 {
        match self {
            Self::Monotonic => 0,
            Self::Wall => wall_ns(),
            Self::Cpu(clock) => to_ns(clock.now().unwrap_or_default()),
        }
    }
}

fn wall_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    to_ns(since.unwrap_or_default())
}

fn to_ns(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl Countdown {
    /// Expires a span after `now`.
    pub(super) fn after(base: Base, now: Instant, ns: u64) -> Self {
        let point = base.now_ns().saturating_add(ns);
        Self::at(base, now, point, ns)
    }

    /// Expires when the base shows `point` nanoseconds; for the monotonic clock, which shows no number here, `left` from `now`.
    pub(super) fn at(base: Base, now: Instant, point: u64, left: u64) -> Self {
        match base {
            Base::Monotonic => Self::Monotonic(after(now, left)),
            Base::Wall => Self::Wall(point),
            Base::Cpu(clock) => Self::Cpu(clock, Duration::from_nanos(point)),
        }
    }

    /// What is left.
    pub(super) fn remaining(&self, now: Instant) -> Duration {
        match self {
            Self::Monotonic(at) => at.saturating_duration_since(now),
            Self::Wall(at) => Duration::from_nanos(at.saturating_sub(wall_ns())),
            Self::Cpu(clock, at) => clock.now().map_or(Duration::ZERO, |used| at.saturating_sub(used)),
        }
    }

    /// When to look whether it is over. CPU time passes at most as fast as real time on each CPU; it is looked at no more
    /// often than a scheduler ticks.
    pub(super) fn next_look(&self, now: Instant) -> Instant {
        const TICK: Duration = Duration::from_millis(1);
        let left = self.remaining(now);
        match self {
            Self::Cpu(clock, _) => now + (left / clock.parallel()).max(TICK),
            _ => now + left,
        }
    }

    /// The next expiration of a timer that is due, and how many were missed. Intervals are counted from the last due time.
    pub(super) fn advance(&self, now: Instant, interval_ns: u64) -> (Self, u64) {
        let late = match self {
            Self::Monotonic(at) => to_ns(now.saturating_duration_since(*at)),
            Self::Wall(at) => wall_ns().saturating_sub(*at),
            Self::Cpu(clock, at) => to_ns(clock.now().unwrap_or_default().saturating_sub(*at)),
        };
        let missed = late.checked_div(interval_ns).unwrap_or(0);
        let step = missed.saturating_add(1).saturating_mul(interval_ns);
        let next = match self {
            Self::Monotonic(at) => Self::Monotonic(after(*at, step)),
            Self::Wall(at) => Self::Wall(at.saturating_add(step)),
            Self::Cpu(clock, at) => Self::Cpu(clock.clone(), at.saturating_add(Duration::from_nanos(step))),
        };
        (next, missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_intervals_are_counted_from_the_due_time() {
        let start = Instant::now();
        let due = Countdown::after(Base::Monotonic, start, 1_000);
        let (next, missed) = due.advance(start + Duration::from_nanos(4_500), 1_000);
        assert_eq!(missed, 3);
        assert_eq!(next.remaining(start), Duration::from_nanos(5_000));
    }

    #[test]
    fn a_century_is_not_too_long() {
        let start = Instant::now();
        let countdown = Countdown::after(Base::Monotonic, start, u64::MAX);
        assert!(countdown.remaining(start) > Duration::from_secs(1 << 31));
    }
}
