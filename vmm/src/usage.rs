//! CPU time of host threads: what a pico thread has used, since one host thread runs it.

mod spans;

pub use spans::CpuSplit;
pub(crate) use spans::Span;

use crate::threads;
use spans::Spans;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// CPU time, and how it was spent. Guest mode counts as user time, as the host accounts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In user mode, the program's and the monitor's.
    pub user: Duration,
    /// In the host's kernel.
    pub system: Duration,
    /// Faults that the host served without I/O.
    pub minor_faults: u64,
    /// Faults that needed I/O.
    pub major_faults: u64,
    /// Times it gave its CPU up.
    pub voluntary_switches: u64,
    /// Times its CPU was taken away.
    pub involuntary_switches: u64,
}

impl Usage {
    /// What the calling host thread has used since it started.
    pub fn of_this_thread() -> Self {
        Self::of(libc::RUSAGE_THREAD)
    }

    /// What the monitor's threads have used, those that have ended included.
    pub fn of_this_process() -> Self {
        Self::of(libc::RUSAGE_SELF)
    }

    fn of(whom: libc::c_int) -> Self {
        let mut raw = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the call writes one rusage to the pointer, which has room for exactly one.
        unsafe { libc::getrusage(whom, raw.as_mut_ptr()) };
        // SAFETY: it was zeroed, which is a value of every field, and then perhaps written whole.
        let raw = unsafe { raw.assume_init() };
        Self {
            user: span(raw.ru_utime),
            system: span(raw.ru_stime),
            minor_faults: count(raw.ru_minflt),
            major_faults: count(raw.ru_majflt),
            voluntary_switches: count(raw.ru_nvcsw),
            involuntary_switches: count(raw.ru_nivcsw),
        }
    }

    /// User and system time together.
    pub fn total(&self) -> Duration {
        self.user + self.system
    }

    /// What was used since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            minor_faults: self.minor_faults.saturating_sub(earlier.minor_faults),
            major_faults: self.major_faults.saturating_sub(earlier.major_faults),
            voluntary_switches: self.voluntary_switches.saturating_sub(earlier.voluntary_switches),
            involuntary_switches: self.involuntary_switches.saturating_sub(earlier.involuntary_switches),
        }
    }

    /// The sum of two.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            user: self.user + other.user,
            system: self.system + other.system,
            minor_faults: self.minor_faults + other.minor_faults,
            major_faults: self.major_faults + other.major_faults,
            voluntary_switches: self.voluntary_switches + other.voluntary_switches,
            involuntary_switches: self.involuntary_switches + other.involuntary_switches,
        }
    }
}

fn span(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or_default())
}

fn count(value: libc::c_long) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// The CPU-time clock of one host thread, which any other thread may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuClock(libc::clockid_t);

impl CpuClock {
    /// The calling thread's.
    pub fn of_this_thread() -> Self {
        let mut clock = libc::CLOCK_THREAD_CPUTIME_ID;
        // SAFETY: the handle is the calling thread's own, which is alive.
        let this = unsafe { libc::pthread_self() };
        // SAFETY: `this` is alive, and the pointer is to one clockid_t. On failure the clock stays the caller's own.
        unsafe { libc::pthread_getcpuclockid(this, &raw mut clock) };
        Self(clock)
    }

    /// CPU time used so far; `None` once the thread is gone.
    pub fn now(self) -> Option<Duration> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to one timespec; a clock of a thread that is gone is an error, not a fault.
        let result = unsafe { libc::clock_gettime(self.0, &raw mut time) };
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
        (result == 0).then(|| Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds))
    }
}

/// The CPU time of a pico thread: its host thread's since it began, and what other host threads did for it.
#[derive(Debug, Default)]
pub struct Meter {
    state: Mutex<Metered>,
    spans: Spans,
}

/// A pico thread that waits, until this is dropped.
#[derive(Debug)]
pub struct Resting<'m> {
    meter: &'m Meter,
    before: Span,
}

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        self.meter.spans.switch(self.before);
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Metered {
    /// The host thread's clock, while that serves the pico thread.
    clock: Option<CpuClock>,
    /// What the host thread had used when it began.
    begin: Usage,
    /// What was used at the last look of the host thread itself.
    sampled: Usage,
    /// What others did.
    others: Usage,
}

impl Meter {
    fn state(&self) -> MutexGuard<'_, Metered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calling host thread serves the pico thread from now on.
    pub(crate) fn begin(&self) {
        let mut state = self.state();
        (state.begin, state.clock) = (Usage::of_this_thread(), Some(CpuClock::of_this_thread()));
        threads::lend(state.begin.total());
        self.spans.switch(Span::Provider);
    }

    /// The calling host thread serves the pico thread no longer.
    pub(crate) fn end(&self) {
        self.sample();
        self.spans.switch(Span::Rest);
        let mut state = self.state();
        state.clock = None;
        threads::take_back(state.begin.total() + state.sampled.total());
    }

    /// Adds what the calling host thread, another one, did.
    pub(crate) fn add(&self, usage: &Usage) {
        threads::was_lent(usage.total());
        let mut state = self.state();
        state.others = state.others.plus(usage);
    }

    /// The pico thread's time goes to user mode, or to its provider, from now on; for the host thread that serves it.
    pub(crate) fn switch(&self, to: Span) {
        self.spans.switch(to);
    }

    /// The pico thread waits until the guard is dropped; for the host thread that serves it.
    pub fn rest(&self) -> Resting<'_> {
        Resting { meter: self, before: self.spans.switch(Span::Rest) }
    }

    /// CPU time by what it went to. What others did was done in user mode.
    pub fn split(&self) -> CpuSplit {
        let others = self.state().others.total();
        let own = self.usage().total().saturating_sub(others);
        self.spans.divide(own).plus(&CpuSplit { user: others, ..CpuSplit::default() })
    }

    /// Looks at everything; for the host thread that serves the pico thread.
    pub fn sample(&self) {
        let mut state = self.state();
        if state.clock.is_some() {
            state.sampled = Usage::of_this_thread().since(&state.begin);
        }
    }

    /// What was used so far. The total is exact; how it was spent is as of the last sample, and user time since.
    pub fn usage(&self) -> Usage {
        let state = *self.state();
        let mut usage = state.sampled;
        if let Some(now) = state.clock.and_then(CpuClock::now) {
            let total = now.saturating_sub(state.begin.total());
            usage.user += total.saturating_sub(state.sampled.total());
        }
        usage.plus(&state.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_and_seen_from_another_thread() {
        let clock = CpuClock::of_this_thread();
        let before = (Usage::of_this_thread(), clock.now().unwrap());
        let mut sum = 0u64;
        while clock.now().unwrap() < before.1 + Duration::from_millis(20) {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        std::hint::black_box(sum);
        assert!(Usage::of_this_thread().since(&before.0).total() >= Duration::from_millis(5));
        let seen = std::thread::spawn(move || clock.now().unwrap()).join().unwrap();
        assert!(seen >= before.1 + Duration::from_millis(20));
    }

    #[test]
    fn a_meter_counts_its_own_span_and_what_others_add() {
        let meter = Meter::default();
        assert_eq!(meter.usage(), Usage::default());
        meter.begin();
        let clock = CpuClock::of_this_thread();
        let start = clock.now().unwrap();
        while clock.now().unwrap() < start + Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        // Another thread sees it, too, before any sample.
        let seen = std::thread::scope(|scope| scope.spawn(|| meter.usage().total()).join().unwrap());
        assert!(seen >= Duration::from_millis(4));
        meter.add(&Usage { system: Duration::from_secs(1), ..Usage::default() });
        meter.end();
        let ended = meter.usage();
        assert!(ended.total() >= Duration::from_secs(1) + Duration::from_millis(4));
        while clock.now().unwrap() < start + Duration::from_millis(10) {
            std::hint::spin_loop();
        }
        assert_eq!(meter.usage(), ended);
    }
}
