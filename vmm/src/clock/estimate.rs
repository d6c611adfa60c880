//! The arithmetic of the clock page: from samples of the host's clocks to the next record. No clock is read here.

use super::host::Sample;
use guest::clock::{ClockKind, Line, RATE_SHIFT, Record, rate_of_khz};

/// The shortest time over which a rate is measured: 30 ns of uncertainty are 6 parts in a million of it.
const SHORTEST_NS: u64 = 5_000_000;
/// The same for uncertain samples (an emulated or overloaded host), as a multiple of the uncertainty.
const SHORTEST_UNCERTAINTIES: u64 = 10_000;
/// The longest horizon.
const LONGEST_NS: u64 = 100_000_000;
/// How far back a rate's measurement goes at least, once it can. Twice that at most.
const WINDOW_NS: u64 = 1_000_000_000;
/// A prediction that is wrong by more means that the host's rate has changed since.
const SURPRISE_NS: u64 = 500;
/// Linux steers a clock by at most 500 parts in a million. A prediction that is wrong by more than twice that means that
/// the counter or the host stood still, or that the frequency was not known after all: everything is measured anew.
const PLAUSIBLE: u64 = 1000;

/// A counter value and a clock's value at the same moment.
#[derive(Clone, Copy, Debug)]
struct Point {
    ticks: u64,
    ns: u64,
}

/// Estimates how fast one clock runs against the counter.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    /// The best estimate, or 0 for none yet.
    rate: u64,
    /// The point from which the rate is measured, the one that will replace it, and the last one.
    points: Option<[Point; 3]>,
}

impl Rate {
    fn from_khz(khz: u32) -> Self {
        Self { rate: rate_of_khz(khz), points: None }
    }

    /// Takes a point in; `tolerance_ns` is how uncertain its time is.
    fn observe(&mut self, point: Point, tolerance_ns: u64) {
        let Some([mut from, mut next, last]) = self.points else {
            self.points = Some([point; 3]);
            return;
        };
        let (Some(ticks), Some(ns)) = (point.ticks.checked_sub(last.ticks), point.ns.checked_sub(last.ns)) else {
            *self = Self { rate: 0, points: Some([point; 3]) };
            return;
        };
        let expected_ns = SURPRISE_NS.max(tolerance_ns);
        let off_ns = Line { base_ns: 0, rate: self.rate }.after(ticks).abs_diff(ns);
        if self.rate != 0 && off_ns > expected_ns {
            if off_ns > expected_ns + ns / PLAUSIBLE {
                *self = Self { rate: 0, points: Some([point; 3]) };
                return;
            }
            (from, next) = (last, last);
        }
        if point.ns - from.ns >= SHORTEST_NS.max(tolerance_ns.saturating_mul(SHORTEST_UNCERTAINTIES)) {
            self.rate = ratio(point.ns - from.ns, point.ticks - from.ticks);
        }
        if point.ns - next.ns >= WINDOW_NS {
            (from, next) = (next, point);
        }
        self.points = Some([from, next, point]);
    }

    /// Nanoseconds over which the rate has been measured.
    fn age_ns(&self) -> u64 {
        self.points.map_or(0, |[from, _, last]| last.ns - from.ns)
    }

    /// The clock's value when the counter reads `ticks`, which is shortly after the last point.
    fn at(&self, ticks: u64) -> u64 {
        let Some([_, _, last]) = self.points else { return 0 };
        Line { base_ns: last.ns, rate: self.rate }.after(ticks.saturating_sub(last.ticks))
    }

    /// Makes a line that starts at `ticks`, not before `floor_ns`, and meets the clock again within `horizon_ns`.
    fn line(&self, ticks: u64, floor_ns: u64, horizon_ns: u64) -> Line {
        let host_ns = self.at(ticks);
        let Some(ahead) = floor_ns.checked_sub(host_ns) else {
            return Line { base_ns: host_ns, rate: self.rate };
        };
        // At half speed at the slowest: a clock that stands still makes programs spin.
        let slower = ratio(ahead.min(horizon_ns / 2), horizon_ns);
        let rate = self.rate - multiply(self.rate, slower);
        Line { base_ns: floor_ns, rate }
    }
}

/// All that is known about the host's clocks.
#[derive(Debug)]
pub(super) struct Estimate {
    record: Record,
    monotonic: Rate,
    raw: Rate,
}

impl Estimate {
    /// Knows the counter's frequency (0: not even that) and the step of the host's coarse clocks.
    pub(super) fn new(khz: u32, coarse_step_ns: u64) -> Self {
        let rate = Rate::from_khz(khz);
        Self { record: Record { coarse_step_ns, ..Record::default() }, monotonic: rate, raw: rate }
    }

    pub(super) fn coarse_step_ns(&self) -> u64 {
        self.record.coarse_step_ns
    }

    /// Takes a sample in and returns the record that holds from `ticks`, a moment shortly after the sample.
    ///
    /// Its monotonic clocks continue where the old record's are then, or (the old record's horizon has passed) from the
    /// last value that it can have shown.
    pub(super) fn continue_at(&mut self, ticks: u64, sample: &Sample) -> Record {
        let tolerance_ns = Line { base_ns: 0, rate: self.monotonic.rate }.after(sample.bracket);
        self.monotonic.observe(Point { ticks: sample.monotonic_ticks, ns: sample.monotonic_ns }, tolerance_ns);
        self.raw.observe(Point { ticks: sample.raw_ticks, ns: sample.raw_ns }, tolerance_ns);

        let old = &self.record;
        let shown = ticks.wrapping_sub(old.anchor).min(old.horizon.saturating_sub(1));
        let coarse_floor_ns = old.at(ClockKind::MonotonicCoarse, old.anchor.wrapping_add(shown)).unwrap_or(0);
        // As long as the rate has been measured, so long it is trusted: the error at the end is that of one sample.
        let horizon_ns = self.monotonic.age_ns().clamp(SHORTEST_NS, LONGEST_NS);
        let known = self.monotonic.rate != 0 && self.raw.rate != 0;
        let wall_offset = narrow(old.wall_offset, sample.wall_offset);
        self.record = Record {
            anchor: ticks,
            // Without a rate the record is good for this very moment: for the caller, not for readers of the page.
            horizon: if known { ratio(horizon_ns, self.monotonic.rate).max(1) } else { 1 },
            monotonic: self.monotonic.line(ticks, old.monotonic.after(shown), horizon_ns),
            raw: self.raw.line(ticks, old.raw.after(shown), horizon_ns),
            wall_offset,
            boot_offset: narrow(old.boot_offset, sample.boot_offset),
            atomic_offset: wall_offset.wrapping_add(sample.leap_ns),
            coarse_base_ns: sample.coarse_ns,
            coarse_step_ns: old.coarse_step_ns,
            coarse_floor_ns,
        };
        self.record
    }
}

/// Keeps an offset that the new bounds allow, else takes the lower bound. An offset is constant until the clock is set
/// or the host sleeps, so this only ever raises it, towards the truth, and the clock on it does not go back.
fn narrow(offset: u64, (least, most): (u64, u64)) -> u64 {
    if offset.wrapping_sub(least) <= most.wrapping_sub(least) { offset } else { least }
}

/// `numerator / denominator` with `RATE_SHIFT` fractional bits; saturates.
fn ratio(numerator: u64, denominator: u64) -> u64 {
    let quotient = (u128::from(numerator) << RATE_SHIFT).checked_div(u128::from(denominator)).unwrap_or(0);
    u64::try_from(quotient).unwrap_or(u64::MAX)
}

/// A product of two values with `RATE_SHIFT` fractional bits.
fn multiply(left: u64, right: u64) -> u64 {
    Line { base_ns: 0, rate: left }.after(right)
}
