//! Timers that are read, see timerfd_create(2).

use super::countdown::{Base, Countdown};
use super::service::{Expiry, TimerKey, TimerService};
use super::{TimerSpec, Timespec};
use crate::errno::Errno;
use crate::fs::{File, OffsetKeeper, Ready, Sink, Source, WaitSource};
use crate::kernel::Kernel;
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, WaitQueue};
use crate::user::UserIn;
use std::any::Any;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use vmm::addr::UserAddr;
use vmm::clock::ClockKind;

/// Bytes of a count of expirations.
const BYTES: usize = 8;
/// TFD_IOC_SET_TICKS: sets the count, for restored processes.
const SET_TICKS: u32 = 0x4008_5400;
/// By how much the wall clock may leave the monotonic one before it counts as set: more than adjustments do between two looks.
const CLOCK_JUMP_NS: u64 = 50_000_000;

/// A timer behind a descriptor.
#[derive(Debug)]
pub(crate) struct TimerFd {
    me: Weak<TimerFd>,
    kernel: Weak<Kernel>,
    key: TimerKey,
    clock: ClockKind,
    /// Linux's number of the clock, for /proc/PID/fdinfo.
    clock_number: i32,
    state: Mutex<State>,
    changed: WaitQueue,
}

#[derive(Debug, Default)]
struct State {
    armed: Option<Countdown>,
    interval_ns: u64,
    /// Expirations that were not read.
    ticks: u64,
    /// It expired and counts no further until somebody looks, so that the shortest interval costs nothing.
    expired: bool,
    /// The flags of the last setting, for /proc/PID/fdinfo.
    flags: u32,
    /// How far the wall clock was ahead when it was set so that setting the clock cancels it.
    cancels_at: Option<u64>,
}

/// How a timer is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// When, and how often.
    pub(crate) spec: TimerSpec,
    /// The value is a point on the clock.
    pub(crate) absolute: bool,
    /// A jump of the wall clock ends it with ECANCELED.
    pub(crate) cancelled_by_clock: bool,
    /// The flags as given.
    pub(crate) flags: u32,
}

impl State {
    /// Notes an expiration that is due.
    fn expire(&mut self, now: Instant) {
        if !self.expired && self.armed.as_ref().is_some_and(|armed| armed.remaining(now).is_zero()) {
            self.expired = true;
            self.ticks = self.ticks.saturating_add(1);
        }
    }

    /// Goes on after an expiration: counts those that were missed since. Tells whether it runs again.
    fn go_on(&mut self, now: Instant) -> bool {
        if !std::mem::take(&mut self.expired) {
            return false;
        }
        let next =
            self.armed.take().filter(|_| self.interval_ns != 0).map(|armed| armed.advance(now, self.interval_ns));
        let Some((next, missed)) = next else { return false };
        self.ticks = self.ticks.saturating_add(missed);
        self.armed = Some(next);
        true
    }

    /// What is left, and the interval.
    fn report(&self, now: Instant) -> TimerSpec {
        let left = self.armed.as_ref().map_or(Duration::ZERO, |armed| armed.remaining(now));
        TimerSpec {
            interval: Timespec::from_nanoseconds(self.interval_ns),
            value: Timespec::from_nanoseconds(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}

impl TimerFd {
    /// Makes a timer that is not armed. `number` is Linux's for the clock.
    pub(crate) fn new(kernel: &Arc<Kernel>, clock: ClockKind, number: i32) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            kernel: Arc::downgrade(kernel),
            key: kernel.timers().new_key(),
            clock,
            clock_number: number,
            state: Mutex::new(Rank::TimerState, State::default()),
            changed: WaitQueue::default(),
        })
    }

    /// How far the wall clock is ahead of the monotonic one.
    fn wall_offset(kernel: &Kernel) -> u64 {
        kernel.now(ClockKind::Wall).wrapping_sub(kernel.now(ClockKind::Monotonic))
    }

    /// Sets it; returns what it was. The setting's times are known to be normal.
    pub(crate) fn set(&self, kernel: &Kernel, setting: &Setting) -> Result<TimerSpec, Errno> {
        let (value, interval_ns) = (setting.spec.value.to_nanoseconds()?, setting.spec.interval.to_nanoseconds()?);
        let now = Instant::now();
        let base = if self.clock == ClockKind::Wall && setting.absolute { Base::Wall } else { Base::Monotonic };
        let armed = (value != 0).then(|| match setting.absolute {
            true => Countdown::at(base, now, value, value.saturating_sub(kernel.now(self.clock))),
            false => Countdown::after(base, now, value),
        });
        let look = armed.as_ref().map(|armed| armed.next_look(now));
        let old = {
            let mut state = self.state.lock();
            state.expire(now);
            state.go_on(now);
            let old = state.report(now);
            let cancels = setting.cancelled_by_clock && setting.absolute && self.clock == ClockKind::Wall;
            *state = State {
                armed,
                interval_ns,
                flags: setting.flags,
                cancels_at: cancels.then(|| Self::wall_offset(kernel)),
                ..State::default()
            };
            old
        };
        self.schedule(kernel.timers(), look);
        Ok(old)
    }

    /// What is left of it, and its interval.
    pub(crate) fn get(&self, kernel: &Kernel) -> TimerSpec {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.expire(now);
        let again = state.go_on(now);
        let (spec, look) = (state.report(now), state.armed.as_ref().map(|armed| armed.next_look(now)));
        drop(state);
        if again {
            self.schedule(kernel.timers(), look);
        }
        spec
    }

    fn schedule(&self, service: &TimerService, at: Option<Instant>) {
        let target: Weak<Self> = self.me.clone();
        service.set(self.key, at, target);
    }

    /// Tells whether the wall clock was set since the timer was; the next timer starts from what it is now.
    fn cancelled(state: &mut State, kernel: &Kernel) -> bool {
        let Some(before) = state.cancels_at else { return false };
        let now = Self::wall_offset(kernel);
        let jumped = now.abs_diff(before) > CLOCK_JUMP_NS;
        if jumped {
            state.cancels_at = Some(now);
        }
        jumped
    }
}

impl Expiry for TimerFd {
    fn expired(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        if state.expired {
            return None;
        }
        state.expire(now);
        if state.expired {
            drop(state);
            self.changed.wake(Ready::IN);
            return None;
        }
        // Looked at too early, as for a wall clock that was set back.
        state.armed.as_ref().map(|armed| armed.next_look(now))
    }
}

impl File for TimerFd {
    fn read_at(&self, task: &CurrentTask<'_>, _offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        if to.remaining() < BYTES {
            return Err(Errno::EINVAL);
        }
        let now = Instant::now();
        let (ticks, look) = {
            let mut state = self.state.lock();
            if Self::cancelled(&mut state, task.kernel()) {
                (state.ticks, state.expired) = (0, false);
                return Err(Errno::ECANCELED);
            }
            state.expire(now);
            if state.ticks == 0 {
                return Err(Errno::EAGAIN);
            }
            let again = state.go_on(now);
            let look = state.armed.as_ref().filter(|_| again).map(|armed| armed.next_look(now));
            (std::mem::take(&mut state.ticks), look)
        };
        if look.is_some() {
            self.schedule(task.kernel().timers(), look);
        }
        match to.put(&ticks.to_ne_bytes())? {
            BYTES => Ok(BYTES),
            _ => Err(Errno::EFAULT),
        }
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    fn seekable(&self) -> bool {
        false
    }

    fn offset_keeper(&self) -> OffsetKeeper<'_> {
        OffsetKeeper::Zero
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        if request != SET_TICKS {
            return Err(Errno::ENOTTY);
        }
        let ticks = UserIn::<u64>::new(UserAddr(arg)).read(task)?;
        if ticks == 0 {
            return Err(Errno::EINVAL);
        }
        self.state.lock().ticks = ticks;
        self.changed.wake(Ready::IN);
        Ok(0)
    }

    fn ready(&self) -> Ready {
        let mut state = self.state.lock();
        state.expire(Instant::now());
        if state.ticks > 0 { Ready::IN } else { Ready::empty() }
    }

    fn wait_source(&self) -> WaitSource<'_> {
        WaitSource::Queue(&self.changed)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn fd_info(&self) -> String {
        let state = self.state.lock();
        let spec = state.report(Instant::now());
        let pair = |time: Timespec| format!("({}, {})", time.seconds, time.nanoseconds);
        format!(
            "clockid: {}\nticks: {}\nsettime flags: 0{:o}\nit_value: {}\nit_interval: {}\n",
            self.clock_number,
            state.ticks,
            state.flags,
            pair(spec.value),
            pair(spec.interval)
        )
    }

    fn released(&self) {
        if let Some(kernel) = self.kernel.upgrade() {
            self.schedule(kernel.timers(), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::BufferSink;
    use crate::testing::fixture;

    fn setting(value: u64, interval: u64) -> Setting {
        let spec =
            TimerSpec { interval: Timespec::from_nanoseconds(interval), value: Timespec::from_nanoseconds(value) };
        Setting { spec, absolute: false, cancelled_by_clock: false, flags: 0 }
    }

    fn read(timer: &TimerFd, task: &CurrentTask<'_>) -> Result<u64, Errno> {
        let mut bytes = [0; BYTES];
        timer.read_at(task, 0, &mut BufferSink::new(&mut bytes)).map(|_| u64::from_ne_bytes(bytes))
    }

    #[test]
    fn the_shortest_interval_counts_without_running() {
        let mut fixture = fixture();
        let task = fixture.current();
        let timer = TimerFd::new(task.kernel(), ClockKind::Monotonic, 1);
        assert_eq!(read(&timer, &task), Err(Errno::EAGAIN));
        timer.set(task.kernel(), &setting(1, 1)).unwrap();
        while timer.ready().is_empty() {
            std::thread::yield_now();
        }
        assert!(read(&timer, &task).unwrap() > 1);
    }

    #[test]
    fn an_expiration_wakes_whoever_waits() {
        let mut fixture = fixture();
        let task = fixture.current();
        let timer = TimerFd::new(task.kernel(), ClockKind::Monotonic, 1);
        timer.set(task.kernel(), &setting(1_000_000, 0)).unwrap();
        assert_eq!(task.block_on_file(timer.as_ref(), Ready::IN, || read(&timer, &task)), Ok(1));
        assert_eq!(timer.get(task.kernel()), TimerSpec::default());
    }

    #[test]
    fn a_setting_tells_what_was_left_of_the_last() {
        let mut fixture = fixture();
        let task = fixture.current();
        let timer = TimerFd::new(task.kernel(), ClockKind::Boot, 7);
        timer.set(task.kernel(), &setting(3_600_000_000_000, 5)).unwrap();
        let old = timer.set(task.kernel(), &setting(0, 6)).unwrap();
        assert_eq!(old.interval, Timespec { seconds: 0, nanoseconds: 5 });
        assert!((3500..=3600).contains(&old.value.seconds));
        assert_eq!(
            timer.get(task.kernel()),
            TimerSpec { interval: Timespec { seconds: 0, nanoseconds: 6 }, value: Timespec::default() }
        );
    }
}
