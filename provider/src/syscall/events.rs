//! Descriptors of events: eventfd(2), timerfd_create(2), signalfd(2).

use super::fs::install;
use crate::errno::Errno;
use crate::fs::eventfd::{EventFd, Takes};
use crate::fs::{Fd, OpenFile, OpenFlags, open_anonymous};
use crate::signal::{SignalFd, SignalSet};
use crate::syscall::args::flags_arg;
use crate::syscall::constants::ClockNumber;
use crate::task::CurrentTask;
use crate::time::{ClockId, Setting, TimerFd, TimerSpec};
use crate::user::{UserIn, UserOut};
use std::sync::Arc;
use vmm::clock::ClockKind;

bitflags::bitflags! {
    /// eventfd2(2)'s flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EventFdFlags: u32 {
        /// Each read takes one.
        const SEMAPHORE = 1;
        /// Never wait.
        const NONBLOCK = OpenFlags::NONBLOCK.bits();
        /// Close on exec.
        const CLOEXEC = OpenFlags::CLOEXEC.bits();
    }
}

flags_arg! {
    EventFdFlags => "EFD_";
}

/// eventfd(2).
pub(super) fn eventfd(task: &CurrentTask<'_>, count: u32) -> Result<Fd, Errno> {
    eventfd2(task, count, EventFdFlags::empty())
}

/// eventfd2(2).
pub(super) fn eventfd2(task: &CurrentTask<'_>, count: u32, flags: EventFdFlags) -> Result<Fd, Errno> {
    if !EventFdFlags::all().contains(flags) {
        return Err(Errno::EINVAL);
    }
    let takes = if flags.contains(EventFdFlags::SEMAPHORE) { Takes::One } else { Takes::All };
    let status = OpenFlags::from_bits_retain(flags.bits()) & OpenFlags::NONBLOCK;
    let file = open_anonymous(Arc::new(EventFd::new(count, takes)), "[eventfd]", OpenFlags::RDWR | status);
    install(task, file, flags.contains(EventFdFlags::CLOEXEC))
}

bitflags::bitflags! {
    /// timerfd_create(2)'s flags, and signalfd4(2)'s.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EventFlags: u32 {
        /// Never wait.
        const NONBLOCK = OpenFlags::NONBLOCK.bits();
        /// Close on exec.
        const CLOEXEC = OpenFlags::CLOEXEC.bits();
    }
}

bitflags::bitflags! {
    /// timerfd_settime(2)'s flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TimerFdFlags: u32 {
        /// The value is a point on the clock.
        const TIMER_ABSTIME = 1;
        /// Setting the clock ends it.
        const TIMER_CANCEL_ON_SET = 2;
    }
}

flags_arg! {
    EventFlags => "O_";
    TimerFdFlags => "TFD_";
}

fn status(flags: EventFlags) -> OpenFlags {
    OpenFlags::from_bits_retain(flags.bits()) & OpenFlags::NONBLOCK
}

/// timerfd_create(2).
pub(super) fn timerfd_create(task: &CurrentTask<'_>, clock: ClockNumber, flags: EventFlags) -> Result<Fd, Errno> {
    let (kind, wakes) = match ClockId::from_raw(task, clock.0)? {
        ClockId::Running(kind @ (ClockKind::Wall | ClockKind::Monotonic | ClockKind::Boot)) => (kind, false),
        ClockId::Alarm(kind) => (kind, true),
        _ => return Err(Errno::EINVAL),
    };
    if !EventFlags::all().contains(flags) {
        return Err(Errno::EINVAL);
    }
    if wakes {
        task.check_wake_alarm()?;
    }
    let timer = TimerFd::new(task.kernel(), kind, clock.0);
    let file = open_anonymous(timer, "[timerfd]", OpenFlags::RDWR | status(flags));
    install(task, file, flags.contains(EventFlags::CLOEXEC))
}

/// The timer behind a descriptor; `EINVAL` for one of something else.
fn timer(file: &OpenFile) -> Result<&TimerFd, Errno> {
    file.file().as_any().and_then(|file| file.downcast_ref()).ok_or(Errno::EINVAL)
}

/// timerfd_settime(2).
pub(super) fn timerfd_settime(
    task: &CurrentTask<'_>,
    fd: Fd,
    flags: TimerFdFlags,
    new: UserIn<TimerSpec>,
    old: UserOut<TimerSpec>,
) -> Result<(), Errno> {
    let spec = new.read(task)?;
    if !TimerFdFlags::all().contains(flags) {
        return Err(Errno::EINVAL);
    }
    spec.value.to_nanoseconds()?;
    spec.interval.to_nanoseconds()?;
    let file = task.files().get(fd)?;
    let setting = Setting {
        spec,
        absolute: flags.contains(TimerFdFlags::TIMER_ABSTIME),
        cancelled_by_clock: flags.contains(TimerFdFlags::TIMER_CANCEL_ON_SET),
        flags: flags.bits(),
    };
    let before = timer(&file)?.set(task.kernel(), &setting)?;
    old.write_opt(task, &before)
}

/// timerfd_gettime(2).
pub(super) fn timerfd_gettime(task: &CurrentTask<'_>, fd: Fd, to: UserOut<TimerSpec>) -> Result<(), Errno> {
    let file = task.files().get(fd)?;
    to.write(task, &timer(&file)?.get(task.kernel()))
}

/// signalfd(2).
pub(super) fn signalfd(task: &CurrentTask<'_>, fd: Fd, set: UserIn<SignalSet>, size: usize) -> Result<Fd, Errno> {
    signalfd4(task, fd, set, size, EventFlags::empty())
}

/// signalfd4(2): makes a descriptor if `fd` is −1, else changes what an existing one takes.
pub(super) fn signalfd4(
    task: &CurrentTask<'_>,
    fd: Fd,
    set: UserIn<SignalSet>,
    size: usize,
    flags: EventFlags,
) -> Result<Fd, Errno> {
    if size != size_of::<SignalSet>() {
        return Err(Errno::EINVAL);
    }
    let set = set.read(task)?;
    if !EventFlags::all().contains(flags) {
        return Err(Errno::EINVAL);
    }
    if fd.0 == -1 {
        let signals = Arc::new(SignalFd::new(task.kernel(), set));
        let file = open_anonymous(signals, "[signalfd]", OpenFlags::RDWR | status(flags));
        return install(task, file, flags.contains(EventFlags::CLOEXEC));
    }
    let file = task.files().get(fd)?;
    let signals: Option<&SignalFd> = file.file().as_any().and_then(|file| file.downcast_ref());
    signals.ok_or(Errno::EINVAL)?.change(set);
    Ok(fd)
}
