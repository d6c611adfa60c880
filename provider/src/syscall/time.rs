//! Clock calls, sleeping, and interval timers.

use super::Outcome;
use super::constants::{ClockNumber, IntervalTimerNumber, TimerFlags};
use crate::errno::Errno;
use crate::task::{CpuTimeOf, CurrentTask, Deadline, Wake};
use crate::time::{ClockId, IntervalTimer, Timespec, Timeval, Which};
use crate::user::{UserIn, UserOut};
use std::sync::Arc;
use std::time::Duration;
use vmm::clock::ClockKind;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// TIMER_ABSTIME: the time is a point, not a span.
const ABSOLUTE: i32 = 1;

pub(super) fn clock_gettime(task: &CurrentTask<'_>, clock: ClockNumber, to: UserOut<Timespec>) -> Result<(), Errno> {
    let now = ClockId::from_raw(task, clock.0)?.now(task);
    to.write(task, &Timespec::from_nanoseconds(now))
}

pub(super) fn clock_getres(task: &CurrentTask<'_>, clock: ClockNumber, to: UserOut<Timespec>) -> Result<(), Errno> {
    let step = ClockId::from_raw(task, clock.0)?.resolution(task);
    to.write_opt(task, &Timespec::from_nanoseconds(step))
}

pub(super) fn clock_settime(task: &CurrentTask<'_>, clock: ClockNumber, from: UserIn<Timespec>) -> Result<(), Errno> {
    match ClockId::from_raw(task, clock.0)? {
        ClockId::Running(ClockKind::Wall) => {
            from.read(task)?.to_nanoseconds()?;
            // The host's time is not a sandbox's to change, whoever it believes to be.
            Err(Errno::EPERM)
        }
        ClockId::Cpu(_) => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// `struct timezone`: only ever zero.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Timezone {
    minutes_west: i32,
    dst: i32,
}

pub(super) fn gettimeofday(task: &CurrentTask<'_>, to: UserOut<Timeval>, zone: UserOut<Timezone>) -> Result<(), Errno> {
    to.write_opt(task, &Timeval::from_nanoseconds(task.kernel().now(ClockKind::Wall)))?;
    zone.write_opt(task, &Timezone { minutes_west: 0, dst: 0 })
}

pub(super) fn settimeofday(task: &CurrentTask<'_>, from: UserIn<Timeval>, zone: UserIn<Timezone>) -> Result<(), Errno> {
    if let Some(time) = from.read_opt(task)? {
        time.to_nanoseconds()?;
    }
    zone.read_opt(task)?;
    Err(Errno::EPERM)
}

pub(super) fn time(task: &CurrentTask<'_>, to: UserOut<i64>) -> Result<i64, Errno> {
    // As Linux: the seconds of the coarse clock.
    let seconds = Timespec::from_nanoseconds(task.kernel().now(ClockKind::WallCoarse)).seconds;
    to.write_opt(task, &seconds)?;
    Ok(seconds)
}

pub(super) fn nanosleep(
    task: &CurrentTask<'_>,
    span: UserIn<Timespec>,
    left: UserOut<Timespec>,
) -> Result<Outcome, Errno> {
    let span = span.read(task)?.to_duration()?;
    sleep_until(task, Deadline::after(span), left)
}

pub(super) fn clock_nanosleep(
    task: &CurrentTask<'_>,
    clock: ClockNumber,
    flags: TimerFlags,
    request: UserIn<Timespec>,
    left: UserOut<Timespec>,
) -> Result<Outcome, Errno> {
    let kind = match ClockId::from_raw(task, clock.0)? {
        ClockId::Running(kind @ (ClockKind::Wall | ClockKind::Monotonic | ClockKind::Boot | ClockKind::Atomic)) => kind,
        ClockId::Alarm(_) if flags.0 & !ABSOLUTE != 0 => return Err(Errno::EINVAL),
        ClockId::Alarm(kind) => {
            task.check_wake_alarm()?;
            kind
        }
        ClockId::Cpu(_) if clock.0 == THREAD_CPU => return Err(Errno::EOPNOTSUPP),
        ClockId::Cpu(CpuTimeOf::Thread(thread)) if std::ptr::eq(thread.as_ptr(), Arc::as_ptr(task.task())) => {
            // While it sleeps its clock stands still.
            return Err(Errno::EINVAL);
        }
        ClockId::Cpu(time) => {
            let ns = request.read(task)?.to_nanoseconds()?;
            let from = if flags.0 & ABSOLUTE == 0 { time.now().unwrap_or_default() } else { Duration::ZERO };
            let left = (flags.0 & ABSOLUTE == 0).then_some(left);
            return sleep_while_others_work(task, time, from.saturating_add(Duration::from_nanos(ns)), left);
        }
        ClockId::Running(_) => return Err(Errno::EOPNOTSUPP),
    };
    let ns = request.read(task)?.to_nanoseconds()?;
    if flags.0 & ABSOLUTE == 0 {
        return sleep_until(task, Deadline::after(Duration::from_nanos(ns)), left);
    }
    let deadline = Deadline::at(kind, ns, task.kernel().now(kind));
    match task.block_until(deadline, |_| Ok(None::<()>))? {
        Wake::Done(()) | Wake::TimedOut => Ok(Outcome::Return(0)),
        Wake::Interrupted => Err(Errno::ERESTARTNOHAND),
    }
}

/// CLOCK_THREAD_CPUTIME_ID
const THREAD_CPU: i32 = 3;

/// Sleeps until a CPU clock shows `until`. With `left` it is a span, which goes on to the same end after a signal without a handler.
fn sleep_while_others_work(
    task: &CurrentTask<'_>,
    time: CpuTimeOf,
    until: Duration,
    left: Option<UserOut<Timespec>>,
) -> Result<Outcome, Errno> {
    /// It is looked at no more often than a scheduler ticks.
    const TICK: Duration = Duration::from_millis(1);
    loop {
        // Nobody of whom it is the clock is left: it stands still for ever, and Linux returns, too.
        let Some(now) = time.now() else { return Ok(Outcome::Return(0)) };
        let remaining = until.saturating_sub(now);
        if remaining.is_zero() {
            return Ok(Outcome::Return(0));
        }
        let look = Deadline::after((remaining / time.parallel()).max(TICK));
        if task.block_until(look, |_| Ok(None::<()>))? != Wake::Interrupted {
            continue;
        }
        let Some(left) = left else { return Err(Errno::ERESTARTNOHAND) };
        let ns = u64::try_from(remaining.as_nanos()).unwrap_or(u64::MAX);
        left.write_opt(task, &Timespec::from_nanoseconds(ns))?;
        return Err(task.restart_with(move |task| sleep_while_others_work(task, time, until, Some(left))));
    }
}

/// Sleeps; an interrupted sleep tells what was left of it and, if no handler ran, goes on to the same end.
fn sleep_until(task: &CurrentTask<'_>, deadline: Deadline, left: UserOut<Timespec>) -> Result<Outcome, Errno> {
    match task.block_until(deadline, |_| Ok(None::<()>))? {
        Wake::Done(()) | Wake::TimedOut => Ok(Outcome::Return(0)),
        Wake::Interrupted => {
            let remaining = deadline.remaining().unwrap_or_default();
            if remaining.is_zero() {
                return Ok(Outcome::Return(0));
            }
            let ns = u64::try_from(remaining.as_nanos()).unwrap_or(u64::MAX);
            left.write_opt(task, &Timespec::from_nanoseconds(ns))?;
            Err(task.restart_with(move |task| sleep_until(task, deadline, left)))
        }
    }
}

pub(super) fn getitimer(
    task: &CurrentTask<'_>,
    which: IntervalTimerNumber,
    to: UserOut<IntervalTimer>,
) -> Result<(), Errno> {
    let which = Which::from_raw(which.0)?;
    to.write(task, &task.group().interval_timers().get(which))
}

pub(super) fn setitimer(
    task: &CurrentTask<'_>,
    which: IntervalTimerNumber,
    new: UserIn<IntervalTimer>,
    old: UserOut<IntervalTimer>,
) -> Result<(), Errno> {
    // NULL disarms, an old habit that Linux keeps.
    let new = new.read_opt(task)?.unwrap_or_default();
    let which = Which::from_raw(which.0)?;
    let before = task.group().interval_timers().set(task.kernel().timers(), task.group(), which, &new)?;
    old.write_opt(task, &before)
}

pub(super) fn alarm(task: &CurrentTask<'_>, seconds: u32) -> Result<i64, Errno> {
    let value = Timeval { seconds: i64::from(seconds), microseconds: 0 };
    let new = IntervalTimer { interval: Timeval::default(), value };
    let timers = task.group().interval_timers();
    let before = timers.set(task.kernel().timers(), task.group(), Which::Real, &new)?.value;
    // Rounded, but never to 0 while something was left (alarm_setitimer).
    let up = before.microseconds >= 500_000 || (before.seconds == 0 && before.microseconds != 0);
    Ok(before.seconds + i64::from(up))
}
