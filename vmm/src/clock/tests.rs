use super::estimate::Estimate;
use super::host::{self, Sample};
use super::{Clock, ClockKind, Counter};
use crate::memory::GuestMemory;
use guest::clock::{ClockPage, Record, counter};
use proptest::prelude::*;

const KINDS: [ClockKind; 7] = [
    ClockKind::Wall,
    ClockKind::Monotonic,
    ClockKind::Raw,
    ClockKind::Boot,
    ClockKind::Atomic,
    ClockKind::WallCoarse,
    ClockKind::MonotonicCoarse,
];
const STEP_NS: u64 = 4_000_000;

/// A host whose clocks are known exactly: time passes when the test says so.
#[derive(Clone, Debug)]
struct SimulatedHost {
    /// Picoseconds since it booted, of true time.
    true_ps: u128,
    /// The counter's frequency in kHz.
    khz: u64,
    /// The counter at boot.
    ticks_at_boot: u64,
    /// The monotonic clock in picoseconds, and how fast it runs in parts a billion of true time.
    monotonic_ps: u128,
    steering_ppb: i64,
    wall_offset: u64,
}

impl SimulatedHost {
    fn new(khz: u64) -> Self {
        Self {
            true_ps: 0,
            khz,
            ticks_at_boot: 1 << 40,
            monotonic_ps: 5_000_000_000_000_000,
            steering_ppb: 0,
            wall_offset: 1_700_000_000_000_000_000,
        }
    }

    fn pass_ns(&mut self, ns: u64) {
        let ps = u128::from(ns) * 1000;
        self.true_ps += ps;
        self.monotonic_ps += ps * u128::try_from(1_000_000_000 + self.steering_ppb).unwrap() / 1_000_000_000;
    }

    fn ticks(&self) -> u64 {
        self.ticks_at_boot + u64::try_from(self.true_ps * u128::from(self.khz) / 1_000_000_000).unwrap()
    }

    fn monotonic(&self) -> u64 {
        u64::try_from(self.monotonic_ps / 1000).unwrap()
    }

    fn raw(&self) -> u64 {
        u64::try_from(self.true_ps / 1000).unwrap()
    }

    /// Measures as the real one does; reading a clock takes 25 ns, of which `skew` tells how they lie.
    fn sample(&mut self, skew: u64) -> Sample {
        let before = self.ticks();
        self.pass_ns(skew);
        let monotonic_ns = self.monotonic();
        self.pass_ns(25 - skew);
        let between = self.ticks();
        self.pass_ns(skew);
        let raw_ns = self.raw();
        self.pass_ns(25 - skew);
        let after = self.ticks();
        let earliest = self.monotonic();
        self.pass_ns(25);
        let wall = self.monotonic() + self.wall_offset;
        let boot = self.monotonic();
        self.pass_ns(25);
        let latest = self.monotonic();
        Sample {
            monotonic_ticks: before.midpoint(between),
            monotonic_ns,
            raw_ticks: between.midpoint(after),
            raw_ns,
            bracket: after - before,
            wall_offset: (wall - latest, wall - earliest),
            boot_offset: (boot.wrapping_sub(latest), boot - earliest),
            leap_ns: 37_000_000_000,
            coarse_ns: self.monotonic() / STEP_NS * STEP_NS,
        }
    }
}

/// A reader of a simulated host's page: measures when the page does not answer, and checks that no clock goes back.
#[derive(Debug)]
struct Reader {
    estimate: Estimate,
    record: Record,
    last: [u64; 4],
    measurements: u32,
}

impl Reader {
    fn new(khz: u32) -> Self {
        Self { estimate: Estimate::new(khz, STEP_NS), record: Record::default(), last: [0; 4], measurements: 0 }
    }

    /// Reads `Monotonic`, and checks others beside it.
    fn read(&mut self, host: &mut SimulatedHost, skew: u64) -> u64 {
        let mut ticks = host.ticks();
        if self.record.at(ClockKind::Monotonic, ticks).is_none() {
            self.measurements += 1;
            let sample = host.sample(skew);
            ticks = host.ticks();
            self.record = self.estimate.continue_at(ticks, &sample);
        }
        let kinds = [ClockKind::Monotonic, ClockKind::Raw, ClockKind::Boot, ClockKind::MonotonicCoarse];
        let now = kinds.map(|kind| self.record.at(kind, ticks).expect("a new record holds at its anchor"));
        for ((now, last), kind) in now.iter().zip(self.last).zip(kinds) {
            assert!(*now >= last, "{kind:?} went back from {last} to {now}");
        }
        assert!(now[3] <= now[0], "the coarse clock is ahead of the fine one");
        self.last = now;
        now[0]
    }
}

#[test]
fn a_steady_host_is_followed_to_a_few_nanoseconds_and_rarely_measured() {
    let mut host = SimulatedHost::new(2_596_118);
    let mut reader = Reader::new(2_596_100);
    for round in 0..100_000 {
        host.pass_ns(100_000);
        let now = reader.read(&mut host, round % 26);
        assert!(now.abs_diff(host.monotonic()) <= 60, "round {round}: {now} {}", host.monotonic());
    }
    assert!(reader.measurements <= 110, "{} measurements in ten seconds", reader.measurements);
}

#[test]
fn without_a_known_frequency_the_first_milliseconds_are_all_measured() {
    let mut host = SimulatedHost::new(3_000_000);
    let mut reader = Reader::new(0);
    for round in 0..100 {
        host.pass_ns(100_000);
        let now = reader.read(&mut host, 12);
        // Measuring takes a while itself.
        assert!(now.abs_diff(host.monotonic()) <= 150, "round {round}");
        assert_eq!(reader.record.horizon > 1, round >= 50, "round {round}");
    }
}

#[test]
fn a_wrong_frequency_is_found_out() {
    let mut host = SimulatedHost::new(3_000_000);
    let mut reader = Reader::new(2_000_000);
    for _ in 0..10_000 {
        host.pass_ns(100_000);
        reader.read(&mut host, 12);
    }
    let now = reader.read(&mut host, 12);
    assert!(now.abs_diff(host.monotonic()) <= 60, "{now} {}", host.monotonic());
}

#[test]
fn steering_is_followed() {
    let mut host = SimulatedHost::new(2_000_000);
    let mut reader = Reader::new(2_000_000);
    for steering_ppb in [0, 500_000, -500_000, 20_000, 0] {
        host.steering_ppb = steering_ppb;
        for round in 0..30_000 {
            host.pass_ns(100_000);
            let off = reader.read(&mut host, 12).abs_diff(host.monotonic());
            // What was predicted before the change is wrong until the horizon: 1000 parts a million of 100 ms.
            assert!(off <= if round < 2100 { 100_100 } else { 60 }, "{steering_ppb} round {round}: {off}");
        }
    }
}

#[test]
fn setting_the_wall_clock_is_seen_at_the_next_measurement() {
    let mut host = SimulatedHost::new(2_000_000);
    let mut reader = Reader::new(2_000_000);
    reader.read(&mut host, 12);
    for change in [1_000_000_000_u64, 1_000_000_000_u64.wrapping_neg()] {
        host.wall_offset = host.wall_offset.wrapping_add(change);
        host.pass_ns(200_000_000);
        reader.read(&mut host, 12);
        let wall = reader.record.at(ClockKind::Wall, host.ticks()).unwrap();
        assert!(wall.abs_diff(host.monotonic() + host.wall_offset) < 100);
        let atomic = reader.record.at(ClockKind::Atomic, host.ticks()).unwrap();
        assert_eq!(atomic - wall, 37_000_000_000);
    }
}

#[test]
fn a_counter_that_was_reset_is_measured_anew() {
    let mut host = SimulatedHost::new(2_000_000);
    let mut reader = Reader::new(2_000_000);
    for _ in 0..1000 {
        host.pass_ns(1_000_000);
        reader.read(&mut host, 12);
    }
    host.ticks_at_boot = 0;
    host.true_ps = 0;
    reader.last[1] = 0;
    reader.record.raw.base_ns = 0;
    for _ in 0..1000 {
        host.pass_ns(1_000_000);
        // The raw clock of this host starts anew as well, which a real one's does not.
        reader.last[1] = 0;
        reader.read(&mut host, 12);
    }
    let now = reader.read(&mut host, 12);
    assert!(now.abs_diff(host.monotonic()) <= 60, "{now} {}", host.monotonic());
}

proptest! {
    #[test]
    fn no_clock_goes_back_whatever_the_host_does(
        khz in 1_000_000_u64..5_000_000,
        hint_ppm in -2000_i64..2000,
        events in prop::collection::vec((0_u64..300_000_000, -500_000_i64..500_000, 0_u64..26, prop::bool::weighted(0.1)), 1..200),
    ) {
        let mut host = SimulatedHost::new(khz);
        let hint = i64::try_from(khz).unwrap() * (1_000_000 + hint_ppm) / 1_000_000;
        let mut reader = Reader::new(u32::try_from(hint).unwrap());
        for (pass_ns, steering_ppb, skew, steer) in events {
            if steer {
                host.steering_ppb = steering_ppb;
            }
            host.pass_ns(pass_ns);
            let now = reader.read(&mut host, skew);
            // 1000 parts in a million of a horizon, and the wrong hint in the first one.
            prop_assert!(now.abs_diff(host.monotonic()) < 400_000, "{now} {}", host.monotonic());
        }
    }
}

/// Nanoseconds that measuring the host's clocks takes at best: 150 on a processor, microseconds on an emulated one.
fn uncertainty_ns() -> u64 {
    let once = || {
        let before = host::now(ClockKind::Monotonic);
        host::sample();
        host::now(ClockKind::Monotonic) - before
    };
    (0..20).map(|_| once()).min().unwrap_or(0)
}

/// Checks a reading between two of the host's: within them but for 1 µs, or the uncertainty if that is more. Coarse clocks
/// may be a step behind the host's, and ahead by the interrupts that the host serves late, but not of the fine clock.
fn check_against_host(kind: ClockKind, uncertainty_ns: u64, read: impl Fn() -> u64) {
    let (fine, step) = match kind {
        ClockKind::WallCoarse => (ClockKind::Wall, host::coarse_step_ns()),
        ClockKind::MonotonicCoarse => (ClockKind::Monotonic, host::coarse_step_ns()),
        _ => (kind, 0),
    };
    let (before, now, after) = (host::now(kind), read(), host::now(fine));
    let slack = uncertainty_ns.max(1000);
    assert!(now + slack + step >= before, "{kind:?} is behind: {before} {now}");
    assert!(now <= after + slack, "{kind:?} is ahead: {now} {after}");
}

#[test]
fn trapped_calls_and_the_page_agree_with_the_host_to_a_microsecond() {
    let memory = GuestMemory::detached(1 << 20).unwrap();
    let clock = Clock::new(&memory, Counter::detect(None)).unwrap();
    let uncertainty_ns = uncertainty_ns();
    let mut page_answers = 0;
    let start = host::now(ClockKind::Monotonic);
    // Busy for 50 ms: long enough for the page to answer, and for several measurements.
    while host::now(ClockKind::Monotonic) < start + 50_000_000 {
        for kind in KINDS {
            check_against_host(kind, uncertainty_ns, || clock.now(kind));
            if clock.page.get().now(kind).is_some() {
                page_answers += 1;
                check_against_host(kind, uncertainty_ns, || {
                    clock.page.get().now(kind).unwrap_or_else(|| host::now(kind))
                });
            }
        }
    }
    assert_eq!(page_answers > 0, host::keeps_time_by_counter());
}

#[test]
fn two_threads_see_one_time() {
    let memory = GuestMemory::detached(1 << 20).unwrap();
    let clock = Clock::new(&memory, Counter::detect(None)).unwrap();
    let latest = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200_000 {
                    let seen = latest.load(std::sync::atomic::Ordering::Acquire);
                    let now = clock.now(ClockKind::Monotonic);
                    assert!(now >= seen, "{seen} {now}");
                    latest.fetch_max(now, std::sync::atomic::Ordering::AcqRel);
                }
            });
        }
    });
}

#[test]
fn an_unusable_counter_leaves_the_page_silent() {
    let memory = GuestMemory::detached(1 << 20).unwrap();
    let clock = Clock::new(&memory, Counter::Unusable).unwrap();
    let uncertainty_ns = uncertainty_ns();
    for kind in KINDS {
        check_against_host(kind, uncertainty_ns, || clock.now(kind));
        assert_eq!(clock.page.get().now(kind), None);
    }
}

#[test]
fn a_published_record_reads_back_as_written() {
    let page = ClockPage::new();
    let mut estimate = Estimate::new(2_000_000, STEP_NS);
    let mut simulated = SimulatedHost::new(2_000_000);
    simulated.ticks_at_boot = counter();
    let sample = simulated.sample(12);
    let record = page.publish(|ticks| Record { horizon: 1 << 40, ..estimate.continue_at(ticks, &sample) });
    for kind in KINDS {
        let (least, now) = (record.at(kind, record.anchor).unwrap(), page.now(kind).unwrap());
        assert!(now >= least && now < least + 10_000_000_000, "{kind:?}: {least} {now}");
    }
}
