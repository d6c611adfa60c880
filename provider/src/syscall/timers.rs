//! POSIX timers.

use super::constants::{ClockNumber, TimerFlags};
use crate::errno::Errno;
use crate::signal::Signal;
use crate::signal::send::Target;
use crate::task::{CurrentTask, Pid, Resource};
use crate::time::{ClockId, Notify, TimerClock, TimerSpec};
use crate::user::{UserIn, UserOut};
use std::sync::Arc;
use vmm::clock::ClockKind;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct sigevent`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct SignalEvent {
    pub(super) value: u64,
    pub(super) signal: i32,
    pub(super) notify: i32,
    thread: i32,
    rest: [i32; 11],
}

const _: () = assert!(size_of::<SignalEvent>() == 64);

pub(super) const SIGEV_SIGNAL: i32 = 0;
pub(super) const SIGEV_NONE: i32 = 1;
pub(super) const SIGEV_THREAD: i32 = 2;
const SIGEV_THREAD_ID: i32 = 4;
/// TIMER_ABSTIME
const ABSOLUTE: i32 = 1;

/// Checks an event (good_sigevent).
fn notify(task: &CurrentTask<'_>, event: Option<&SignalEvent>) -> Result<Notify, Errno> {
    let group =
        |signal, value| Notify::Signal { signal, value, target: Target::Process, task: Arc::downgrade(task.task()) };
    let Some(event) = event else { return Ok(group(Signal::SIGALRM, None)) };
    let signal = Signal::from_raw(event.signal).ok_or(Errno::EINVAL);
    match event.notify {
        SIGEV_NONE => Ok(Notify::Nothing),
        SIGEV_SIGNAL | SIGEV_THREAD => Ok(group(signal?, Some(event.value))),
        SIGEV_THREAD_ID => {
            let found = task.kernel().tasks().get(Pid(event.thread)).ok_or(Errno::EINVAL)?;
            if found.group().pid() != task.group().pid() {
                return Err(Errno::EINVAL);
            }
            Ok(Notify::Signal {
                signal: signal?,
                value: Some(event.value),
                target: Target::Thread,
                task: Arc::downgrade(&found),
            })
        }
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn timer_create(
    task: &CurrentTask<'_>,
    clock: ClockNumber,
    event: UserIn<SignalEvent>,
    id: UserOut<i32>,
) -> Result<(), Errno> {
    let event = event.read_opt(task)?;
    let clock = match ClockId::from_raw(task, clock.0)? {
        ClockId::Running(ClockKind::Raw | ClockKind::WallCoarse | ClockKind::MonotonicCoarse) => {
            return Err(Errno::EOPNOTSUPP);
        }
        ClockId::Running(kind) => TimerClock::Running(kind),
        ClockId::Alarm(kind) => {
            task.check_wake_alarm()?;
            TimerClock::Running(kind)
        }
        ClockId::Cpu(time) => TimerClock::Cpu(time),
    };
    let notify = notify(task, event.as_ref())?;
    let limit = task.group().limits().soft(Resource::PendingSignals);
    let timers = task.group().posix_timers();
    let made = timers.create(task.kernel().timers(), clock, notify, limit)?;
    let written = id.write(task, &made);
    if written.is_err() {
        timers.delete(task.kernel().timers(), made)?;
    }
    written
}

pub(super) fn timer_settime(
    task: &CurrentTask<'_>,
    id: i32,
    flags: TimerFlags,
    new: UserIn<TimerSpec>,
    old: UserOut<TimerSpec>,
) -> Result<(), Errno> {
    if new.is_null() {
        return Err(Errno::EINVAL);
    }
    let new = new.read(task)?;
    let timers = task.group().posix_timers();
    new.value.to_nanoseconds()?;
    new.interval.to_nanoseconds()?;
    let absolute = match (flags.0 & ABSOLUTE, timers.clock(id)?) {
        (0, _) => None,
        (_, TimerClock::Running(kind)) => Some(task.kernel().now(kind)),
        (_, TimerClock::Cpu(_)) => Some(0),
    };
    let before = timers.set(task.kernel().timers(), id, &new, absolute)?;
    old.write_opt(task, &before)
}

pub(super) fn timer_gettime(task: &CurrentTask<'_>, id: i32, to: UserOut<TimerSpec>) -> Result<(), Errno> {
    to.write(task, &task.group().posix_timers().get(id)?)
}

pub(super) fn timer_getoverrun(task: &CurrentTask<'_>, id: i32) -> Result<i32, Errno> {
    task.group().posix_timers().overruns(id)
}

pub(super) fn timer_delete(task: &CurrentTask<'_>, id: i32) -> Result<(), Errno> {
    task.group().posix_timers().delete(task.kernel().timers(), id)
}
