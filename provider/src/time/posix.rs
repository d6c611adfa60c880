//! A process's POSIX timers, see timer_create(2).

use super::countdown::{Base, Countdown};
use super::service::{Expiry, TimerKey, TimerService};
use super::types::Timespec;
use crate::errno::Errno;
use crate::signal::send::{Target, send_timer};
use crate::signal::{Detail, SigInfo, Signal, SignalCode};
use crate::sync::{Mutex, Rank};
use crate::task::{CpuTimeOf, Task};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use vmm::clock::ClockKind;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct itimerspec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TimerSpec {
    /// Time between expirations after the first; 0: there is only one.
    pub interval: Timespec,
    /// Time until, or of, the next; 0: none.
    pub value: Timespec,
}

/// Which clock a timer counts by.
#[derive(Clone, Debug)]
pub enum TimerClock {
    /// One that runs by itself.
    Running(ClockKind),
    /// CPU time.
    Cpu(CpuTimeOf),
}

/// What happens when a timer expires.
#[derive(Clone, Debug)]
pub enum Notify {
    /// Nothing: the program looks.
    Nothing,
    /// A signal, with a value, for the process or for one thread.
    Signal {
        /// Which.
        signal: Signal,
        /// si_value; `None`: the timer's id.
        value: Option<u64>,
        /// Whom it is for.
        target: Target,
        /// The thread that it is for, or one of the process.
        task: Weak<Task>,
    },
}

#[derive(Debug)]
struct Timer {
    id: i32,
    key: TimerKey,
    clock: TimerClock,
    notify: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    armed: Option<Countdown>,
    interval_ns: u64,
    /// Its signal is queued and was not taken yet: further expirations are overruns.
    pending: bool,
    overruns: u64,
    /// What timer_getoverrun tells: the overruns of the last signal taken.
    last_overruns: i32,
}

impl Timer {
    /// As fs/proc/base.c shows it.
    fn describe(&self) -> String {
        let (signal, value, way, tid) = match &self.notify {
            Notify::Nothing => (0, 0, "none/pid", 0),
            Notify::Signal { signal, value, target, task } => {
                let task = task.upgrade();
                let (way, id) = match target {
                    Target::Process => ("signal/pid", task.map_or(0, |task| task.group().pid().0)),
                    Target::Thread => ("signal/tid", task.map_or(0, |task| task.tid().0)),
                };
                (signal.raw(), value.unwrap_or_default(), way, id)
            }
        };
        let clock = match &self.clock {
            TimerClock::Running(ClockKind::Wall | ClockKind::WallCoarse) => 0,
            TimerClock::Running(ClockKind::Boot) => 7,
            TimerClock::Running(ClockKind::Atomic) => 11,
            TimerClock::Running(_) => 1,
            TimerClock::Cpu(_) => 2,
        };
        format!("ID: {}\nsignal: {signal}/{value:016x}\nnotify: {way}.{tid}\nClockID: {clock}\n", self.id)
    }
}

impl Expiry for Timer {
    fn expired(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        let armed = state.armed.clone()?;
        if !armed.remaining(now).is_zero() {
            return Some(armed.next_look(now));
        }
        let next = (state.interval_ns != 0).then(|| armed.advance(now, state.interval_ns));
        let missed = next.as_ref().map_or(0, |(_, missed)| *missed);
        state.armed = next.map(|(next, _)| next);
        let again = state.armed.as_ref().map(|next| next.next_look(now));
        let Notify::Signal { signal, value, target, task } = &self.notify else { return again };
        if state.pending {
            state.overruns = state.overruns.saturating_add(missed).saturating_add(1);
            return again;
        }
        (state.pending, state.overruns) = (true, missed);
        drop(state);
        let value = value.unwrap_or_else(|| u64::try_from(self.id).unwrap_or_default());
        let detail = Detail::Timer { id: self.id, overrun: 0, value };
        let info = SigInfo { signal: *signal, errno: 0, code: SignalCode::SI_TIMER, detail };
        let queued = task.upgrade().is_some_and(|task| send_timer(&task, *target, info));
        if !queued {
            self.state.lock().pending = false;
        }
        again
    }
}

/// The timers of a process.
#[derive(Debug)]
pub struct PosixTimers {
    timers: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    by_id: BTreeMap<i32, Arc<Timer>>,
    next: i32,
}

impl Default for PosixTimers {
    fn default() -> Self {
        Self { timers: Mutex::new(Rank::Timers, Slots::default()) }
    }
}

impl PosixTimers {
    /// Makes a timer, disarmed; `EAGAIN` if there are `limit` already.
    pub fn create(&self, service: &TimerService, clock: TimerClock, notify: Notify, limit: u64) -> Result<i32, Errno> {
        let mut slots = self.timers.lock();
        if u64::try_from(slots.by_id.len()).is_ok_and(|count| count >= limit) {
            return Err(Errno::EAGAIN);
        }
        while slots.by_id.contains_key(&slots.next) {
            slots.next = slots.next.checked_add(1).unwrap_or(0);
        }
        let id = slots.next;
        slots.next = id.checked_add(1).unwrap_or(0);
        let state = Mutex::new(Rank::TimerState, State::default());
        let timer = Arc::new(Timer { id, key: service.new_key(), clock, notify, state });
        slots.by_id.insert(id, timer);
        Ok(id)
    }

    /// All of them as /proc/PID/timers shows them.
    pub(crate) fn describe(&self) -> String {
        let timers: Vec<Arc<Timer>> = self.timers.lock().by_id.values().cloned().collect();
        timers.iter().map(|timer| timer.describe()).collect()
    }

    fn find(&self, id: i32) -> Result<Arc<Timer>, Errno> {
        self.timers.lock().by_id.get(&id).cloned().ok_or(Errno::EINVAL)
    }

    /// What is left of a timer, and its interval; `EINVAL` for no such timer.
    pub fn get(&self, id: i32) -> Result<TimerSpec, Errno> {
        let timer = self.find(id)?;
        let state = timer.state.lock();
        Ok(report(&state, matches!(timer.notify, Notify::Nothing)))
    }

    /// Sets a timer; with `absolute`, its value is a point in time, and `absolute` what its clock shows now. Returns what it was.
    pub fn set(
        &self,
        service: &TimerService,
        id: i32,
        new: &TimerSpec,
        absolute: Option<u64>,
    ) -> Result<TimerSpec, Errno> {
        let (value, interval_ns) = (new.value.to_nanoseconds()?, new.interval.to_nanoseconds()?);
        let timer = self.find(id)?;
        let base = match &timer.clock {
            // A span does not change when the clock is set (common_hrtimer_arm).
            TimerClock::Running(ClockKind::Wall) if absolute.is_some() => Base::Wall,
            TimerClock::Running(_) => Base::Monotonic,
            TimerClock::Cpu(clock) => Base::Cpu(clock.clone()),
        };
        let now = Instant::now();
        let armed = (value != 0).then(|| match absolute {
            None => Countdown::after(base, now, value),
            Some(now_ns) => Countdown::at(base, now, value, value.saturating_sub(now_ns)),
        });
        let look = armed.as_ref().map(|armed| armed.next_look(now));
        let old = {
            let mut state = timer.state.lock();
            let old = report(&state, matches!(timer.notify, Notify::Nothing));
            (state.armed, state.interval_ns) = (armed, if value == 0 { 0 } else { interval_ns });
            (state.overruns, state.last_overruns) = (0, 0);
            old
        };
        let target: Weak<Timer> = Arc::downgrade(&timer);
        service.set(timer.key, look, target);
        Ok(old)
    }

    /// The clock of a timer; `EINVAL` for no such timer.
    pub fn clock(&self, id: i32) -> Result<TimerClock, Errno> {
        self.find(id).map(|timer| timer.clock.clone())
    }

    /// The overruns of the last signal that was taken.
    pub fn overruns(&self, id: i32) -> Result<i32, Errno> {
        let timer = self.find(id)?;
        let overruns = timer.state.lock().last_overruns;
        Ok(overruns)
    }

    /// Deletes a timer.
    pub fn delete(&self, service: &TimerService, id: i32) -> Result<(), Errno> {
        let timer = self.timers.lock().by_id.remove(&id).ok_or(Errno::EINVAL)?;
        let target: Weak<Timer> = Arc::downgrade(&timer);
        service.set(timer.key, None, target);
        Ok(())
    }

    /// Deletes all, as exec and exit do.
    pub fn clear(&self) {
        let _old = std::mem::take(&mut *self.timers.lock());
    }

    /// A timer's signal is taken: says how many expirations it stands for besides the first. `None` for a timer that is gone.
    pub(crate) fn signal_taken(&self, id: i32) -> Option<i32> {
        let timer = self.find(id).ok()?;
        let mut state = timer.state.lock();
        state.pending = false;
        let overruns = i32::try_from(std::mem::take(&mut state.overruns)).unwrap_or(i32::MAX);
        state.last_overruns = overruns;
        Some(overruns)
    }
}

fn report(state: &State, silent: bool) -> TimerSpec {
    let left = state.armed.as_ref().map_or(Duration::ZERO, |armed| armed.remaining(Instant::now()));
    let mut left_ns = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
    if state.armed.is_some() && !silent {
        // Armed never reads as 0, which would mean disarmed (common_timer_get).
        left_ns = left_ns.max(1);
    }
    TimerSpec { interval: Timespec::from_nanoseconds(state.interval_ns), value: Timespec::from_nanoseconds(left_ns) }
}
