//! The host's clocks.

use super::counter;
use guest::clock::ClockKind;

/// The host's clocks around one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// The counter, half way between its values before and after the monotonic clock was read.
    pub(super) monotonic_ticks: u64,
    /// The monotonic clock.
    pub(super) monotonic_ns: u64,
    /// The counter, likewise, where the raw clock was read.
    pub(super) raw_ticks: u64,
    /// The raw clock.
    pub(super) raw_ns: u64,
    /// Ticks that the whole measurement took: how uncertain it is.
    pub(super) bracket: u64,
    /// What the wall clock has more than the monotonic clock: at least and at most (modulo 2^64).
    pub(super) wall_offset: (u64, u64),
    /// What the boot clock has more than the monotonic clock, likewise.
    pub(super) boot_offset: (u64, u64),
    /// What atomic time has more than the wall clock: whole seconds, in nanoseconds.
    pub(super) leap_ns: u64,
    /// The coarse monotonic clock.
    pub(super) coarse_ns: u64,
}

const NS_PER_SECOND: u64 = 1_000_000_000;
/// A sample is taken this often, and the quickest one counts: the others were interrupted.
const TRIES: u32 = 4;

/// Reads all clocks, several times; returns the reading that took the fewest ticks.
pub(super) fn sample() -> Sample {
    let first = sample_once();
    (1..TRIES).fold(first, |best, _| {
        let next = sample_once();
        if next.bracket < best.bracket { next } else { best }
    })
}

fn sample_once() -> Sample {
    let before = counter();
    let monotonic_ns = read(libc::CLOCK_MONOTONIC);
    let between = counter();
    let raw_ns = read(libc::CLOCK_MONOTONIC_RAW);
    let after = counter();
    let earliest = read(libc::CLOCK_MONOTONIC);
    let wall = read(libc::CLOCK_REALTIME);
    let atomic = read(libc::CLOCK_TAI);
    let boot = read(libc::CLOCK_BOOTTIME);
    let latest = read(libc::CLOCK_MONOTONIC);
    Sample {
        monotonic_ticks: before.midpoint(between),
        monotonic_ns,
        raw_ticks: between.midpoint(after),
        raw_ns,
        bracket: after.wrapping_sub(before),
        wall_offset: (wall.wrapping_sub(latest), wall.wrapping_sub(earliest)),
        boot_offset: (boot.wrapping_sub(latest), boot.wrapping_sub(earliest)),
        // Read one after the other, so a little more than the whole seconds between them.
        leap_ns: atomic.saturating_sub(wall) / NS_PER_SECOND * NS_PER_SECOND,
        coarse_ns: read(libc::CLOCK_MONOTONIC_COARSE),
    }
}

/// Reads one clock.
pub(super) fn now(kind: ClockKind) -> u64 {
    read(match kind {
        ClockKind::Wall => libc::CLOCK_REALTIME,
        ClockKind::Monotonic => libc::CLOCK_MONOTONIC,
        ClockKind::Raw => libc::CLOCK_MONOTONIC_RAW,
        ClockKind::Boot => libc::CLOCK_BOOTTIME,
        ClockKind::Atomic => libc::CLOCK_TAI,
        ClockKind::WallCoarse => libc::CLOCK_REALTIME_COARSE,
        ClockKind::MonotonicCoarse => libc::CLOCK_MONOTONIC_COARSE,
    })
}

/// Nanoseconds between two steps of the host's coarse clocks.
pub(super) fn coarse_step_ns() -> u64 {
    let mut step = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec on this stack.
    let result = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut step) };
    assert_eq!(result, 0, "every Linux since 2.6.32 has coarse clocks");
    nanoseconds(step)
}

/// Tells whether the host's own clocks run on the time-stamp counter.
pub(super) fn keeps_time_by_counter() -> bool {
    std::fs::read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
        // The second is what the first is called in the first seconds after boot.
        .is_ok_and(|name| matches!(name.trim_ascii(), b"tsc" | b"tsc-early"))
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec on this stack.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "the clock exists on every Linux since 3.10");
    nanoseconds(time)
}

/// Nanoseconds of a time since 1970, which a wall clock set before then does not have: it counts as 1970.
fn nanoseconds(time: libc::timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(NS_PER_SECOND).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}
