//! The three interval timers of a process, see setitimer(2) and alarm(2).

use super::countdown::{Base, Countdown};
use super::service::{Expiry, TimerKey, TimerService};
use super::types::Timeval;
use crate::errno::Errno;
use crate::signal::send::send_to_group;
use crate::signal::{SigInfo, Signal};
use crate::sync::{Mutex, Rank};
use crate::task::{CpuTimeOf, ThreadGroup};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Wall time, SIGALRM.
    Real,
    /// User CPU time, SIGVTALRM.
    Virtual,
    /// CPU time, SIGPROF.
    Profile,
}

impl Which {
    /// Finds one by Linux's number; `EINVAL`.
    pub fn from_raw(raw: i32) -> Result<Self, Errno> {
        match raw {
            0 => Ok(Self::Real),
            1 => Ok(Self::Virtual),
            2 => Ok(Self::Profile),
            _ => Err(Errno::EINVAL),
        }
    }

    fn signal(self) -> Signal {
        match self {
            Self::Real => Signal::SIGALRM,
            Self::Virtual => Signal::SIGVTALRM,
            Self::Profile => Signal::SIGPROF,
        }
    }
}

/// `struct itimerval`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IntervalTimer {
    /// Time between expirations after the first; 0: there is only one.
    pub interval: Timeval,
    /// Time until the next; 0: none.
    pub value: Timeval,
}

#[derive(Debug)]
struct Timer {
    which: Which,
    key: TimerKey,
    group: Weak<ThreadGroup>,
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    armed: Option<Countdown>,
    interval_ns: u64,
}

impl Expiry for Timer {
    fn expired(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        let armed = state.armed.clone()?;
        if !armed.remaining(now).is_zero() {
            return Some(armed.next_look(now));
        }
        let next = (state.interval_ns != 0).then(|| armed.advance(now, state.interval_ns).0);
        state.armed.clone_from(&next);
        drop(state);
        let group = self.group.upgrade()?;
        // A standard signal is never refused.
        let _ = send_to_group(&group, SigInfo::kernel(self.which.signal()));
        next.map(|next| next.next_look(now))
    }
}

/// A process's interval timers.
#[derive(Debug)]
pub struct IntervalTimers {
    timers: [Mutex<Option<Arc<Timer>>>; 3],
}

impl Default for IntervalTimers {
    fn default() -> Self {
        Self { timers: std::array::from_fn(|_| Mutex::new(Rank::Timers, None)) }
    }
}

impl IntervalTimers {
    /// What is left of a timer, and its interval.
    pub fn get(&self, which: Which) -> IntervalTimer {
        let slot = self.slot(which).lock();
        let Some(timer) = slot.as_ref() else { return IntervalTimer::default() };
        let state = timer.state.lock().clone();
        let left = state.armed.as_ref().map_or(Duration::ZERO, |armed| armed.remaining(Instant::now()));
        let mut left_ns = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
        if state.armed.is_some() {
            // Armed never reads as 0, which would mean disarmed (it_real_value in kernel/time/itimer.c).
            left_ns = left_ns.max(1000);
        }
        IntervalTimer {
            interval: Timeval::from_nanoseconds(state.interval_ns),
            value: Timeval::from_nanoseconds(left_ns),
        }
    }

    /// Sets a timer; returns what it was.
    pub fn set(
        &self,
        service: &TimerService,
        group: &Arc<ThreadGroup>,
        which: Which,
        new: &IntervalTimer,
    ) -> Result<IntervalTimer, Errno> {
        let (value_ns, interval_ns) = (new.value.to_nanoseconds()?, new.interval.to_nanoseconds()?);
        let old = self.get(which);
        let base = match which {
            Which::Real => Base::Monotonic,
            Which::Virtual | Which::Profile => Base::Cpu(CpuTimeOf::Process(Arc::downgrade(group))),
        };
        let mut slot = self.slot(which).lock();
        let timer = slot.get_or_insert_with(|| {
            let state = Mutex::new(Rank::TimerState, State::default());
            Arc::new(Timer { which, key: service.new_key(), group: Arc::downgrade(group), state })
        });
        let now = Instant::now();
        let armed = (value_ns != 0).then(|| Countdown::after(base, now, value_ns));
        let look = armed.as_ref().map(|armed| armed.next_look(now));
        *timer.state.lock() = State { armed, interval_ns: if value_ns == 0 { 0 } else { interval_ns } };
        let target: Weak<Timer> = Arc::downgrade(timer);
        service.set(timer.key, look, target);
        Ok(old)
    }

    fn slot(&self, which: Which) -> &Mutex<Option<Arc<Timer>>> {
        match which {
            Which::Real => &self.timers[0],
            Which::Virtual => &self.timers[1],
            Which::Profile => &self.timers[2],
        }
    }
}
