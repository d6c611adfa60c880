//! Clock ids, see clock_gettime(2).

use crate::errno::Errno;
use crate::task::{CpuTimeOf, CurrentTask, Pid};
use std::sync::Arc;
use vmm::clock::ClockKind;

/// A clock that a program may name.
#[derive(Clone, Debug)]
pub enum ClockId {
    /// One that runs by itself, and whether timers may use it.
    Running(ClockKind),
    /// CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM: as their plain forms, but timers could wake the machine.
    Alarm(ClockKind),
    /// CPU time of a process or a thread.
    Cpu(CpuTimeOf),
}

/// Bits of a clock id that names a process's or thread's CPU clock (include/linux/posix-timers_types.h).
const CPU_CLOCK_KIND: i32 = 3;
const CPU_CLOCK_THREAD: i32 = 4;
/// The kind that is a descriptor of a clock device.
const FD_CLOCK: i32 = 3;

impl ClockId {
    /// Finds a clock by Linux's number; `EINVAL`. Clock devices are not there.
    pub fn from_raw(task: &CurrentTask<'_>, raw: i32) -> Result<Self, Errno> {
        Ok(match raw {
            0 => Self::Running(ClockKind::Wall),
            1 => Self::Running(ClockKind::Monotonic),
            2 => Self::Cpu(task.process_cpu_time()),
            3 => Self::Cpu(task.thread_cpu_time()),
            4 => Self::Running(ClockKind::Raw),
            5 => Self::Running(ClockKind::WallCoarse),
            6 => Self::Running(ClockKind::MonotonicCoarse),
            7 => Self::Running(ClockKind::Boot),
            8 => Self::Alarm(ClockKind::Wall),
            9 => Self::Alarm(ClockKind::Boot),
            11 => Self::Running(ClockKind::Atomic),
            ..0 => return Self::cpu_clock(task, raw),
            _ => return Err(Errno::EINVAL),
        })
    }

    fn cpu_clock(task: &CurrentTask<'_>, raw: i32) -> Result<Self, Errno> {
        let pid = Pid(!(raw >> 3));
        if raw & CPU_CLOCK_KIND == FD_CLOCK {
            return Err(Errno::EINVAL);
        }
        let found = match pid {
            Pid(0) => Some(task.task().clone()),
            _ => task.kernel().tasks().get(pid),
        };
        let found = found.ok_or(Errno::EINVAL)?;
        if raw & CPU_CLOCK_THREAD == 0 {
            // Any process, by its own number; 0 is the caller's.
            let group = found.group();
            let named = pid.0 == 0 || pid == group.pid();
            return if named { Ok(Self::Cpu(CpuTimeOf::Process(Arc::downgrade(group)))) } else { Err(Errno::EINVAL) };
        }
        // Any thread of the caller's process.
        let ours = Arc::ptr_eq(found.group(), task.group());
        if ours { Ok(Self::Cpu(CpuTimeOf::Thread(Arc::downgrade(&found)))) } else { Err(Errno::EINVAL) }
    }

    /// The clock's value in nanoseconds; the vDSO gives the same.
    pub fn now(&self, task: &CurrentTask<'_>) -> u64 {
        match self {
            Self::Running(kind) | Self::Alarm(kind) => task.kernel().now(*kind),
            Self::Cpu(time) => nanoseconds(time.now().unwrap_or_default()),
        }
    }

    /// The distance between two values, in nanoseconds.
    pub fn resolution(&self, task: &CurrentTask<'_>) -> u64 {
        match self {
            Self::Running(ClockKind::WallCoarse | ClockKind::MonotonicCoarse) => task.kernel().coarse_step_ns(),
            _ => 1,
        }
    }
}

/// CAP_WAKE_ALARM
const CAP_WAKE_ALARM: u32 = 35;

impl CurrentTask<'_> {
    /// `EPERM` unless the task may set timers that wake the machine. Such a timer works as one of the plain clock: a sandbox
    /// does not run while its host sleeps.
    pub(crate) fn check_wake_alarm(&self) -> Result<(), Errno> {
        if self.credentials().has(CAP_WAKE_ALARM) { Ok(()) } else { Err(Errno::EPERM) }
    }
}

fn nanoseconds(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
