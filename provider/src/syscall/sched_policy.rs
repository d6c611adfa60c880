//! Scheduling policies: sched_setscheduler(2), sched_setattr(2) and their like.

use super::sched::find;
use crate::errno::Errno;
use crate::task::{CurrentTask, Pid, Policy, Reservation, Scheduling, Task};
use crate::time::Timespec;
use crate::user::{UserIn, UserOut};
use std::sync::Arc;
use vmm::addr::{PAGE_SIZE, UserAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// SCHED_RESET_ON_FORK, which may be added to a policy.
const RESET_ON_FORK: u32 = 0x4000_0000;
/// The slice of an ordinary thread that sched_getattr tells (sysctl_sched_base_slice on two CPUs).
const SLICE_NS: u64 = 2_800_000;

pub(super) fn sched_getscheduler(task: &CurrentTask<'_>, tid: Pid) -> Result<u32, Errno> {
    let scheduling = find(task, tid)?.scheduling();
    Ok(scheduling.policy.raw() | if scheduling.reset_on_fork { RESET_ON_FORK } else { 0 })
}

pub(super) fn sched_setscheduler(
    task: &CurrentTask<'_>,
    tid: Pid,
    policy: i32,
    parameter: UserIn<i32>,
) -> Result<(), Errno> {
    let policy = u32::try_from(policy).map_err(|_| Errno::EINVAL)?;
    let (target, priority) = target(task, tid, parameter)?;
    let reset_on_fork = policy & RESET_ON_FORK != 0;
    let policy = Policy::from_raw(policy & !RESET_ON_FORK).ok_or(Errno::EINVAL)?;
    task.schedule(&target, Scheduling { policy, reset_on_fork, priority, ..target.scheduling() })
}

pub(super) fn sched_setparam(task: &CurrentTask<'_>, tid: Pid, parameter: UserIn<i32>) -> Result<(), Errno> {
    let (target, priority) = target(task, tid, parameter)?;
    task.schedule(&target, Scheduling { priority, ..target.scheduling() })
}

/// The task that is meant and the priority for it.
fn target(task: &CurrentTask<'_>, tid: Pid, parameter: UserIn<i32>) -> Result<(Arc<Task>, u32), Errno> {
    if tid.0 < 0 || parameter.is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = parameter.read(task)?;
    let target = find(task, tid)?;
    // A negative one is out of range.
    Ok((target, priority.cast_unsigned()))
}

pub(super) fn sched_getparam(task: &CurrentTask<'_>, tid: Pid, parameter: UserOut<i32>) -> Result<(), Errno> {
    if parameter.is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = find(task, tid)?.scheduling().priority;
    parameter.write(task, &priority.cast_signed())
}

pub(super) fn sched_get_priority_max(_task: &CurrentTask<'_>, policy: u32) -> Result<i32, Errno> {
    let policy = Policy::from_raw(policy).ok_or(Errno::EINVAL)?;
    Ok(if policy.is_real_time() { 99 } else { 0 })
}

pub(super) fn sched_get_priority_min(_task: &CurrentTask<'_>, policy: u32) -> Result<i32, Errno> {
    let policy = Policy::from_raw(policy).ok_or(Errno::EINVAL)?;
    Ok(i32::from(policy.is_real_time()))
}

pub(super) fn sched_rr_get_interval(task: &CurrentTask<'_>, tid: Pid, to: UserOut<Timespec>) -> Result<(), Errno> {
    /// RR_TIMESLICE
    const ROUND_ROBIN_NS: u64 = 100_000_000;
    let slice = match find(task, tid)?.scheduling().policy {
        Policy::RoundRobin => ROUND_ROBIN_NS,
        // An idle CPU gives no slices; a busy one's is shorter than can be relied upon.
        _ => 0,
    };
    to.write(task, &Timespec::from_nanoseconds(slice))
}

/// `struct sched_attr`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    utilization_min: u32,
    utilization_max: u32,
}

const SIZE: usize = size_of::<RawAttributes>();
/// The structure as it was first: without the last two fields.
const FIRST_SIZE: usize = 48;
/// SCHED_FLAG_*
const FLAG_RESET_ON_FORK: u64 = 1;
const FLAG_KEEP_POLICY: u64 = 8;
const FLAG_KEEP_PARAMETERS: u64 = 16;
const FLAGS_CLAMP: u64 = 0x60;
const FLAGS: u64 = 0x7f;

pub(super) fn sched_setattr(task: &CurrentTask<'_>, tid: Pid, from: UserAddr, flags: u32) -> Result<(), Errno> {
    if from.0 == 0 || tid.0 < 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let raw = read(task, from)?;
    if raw.policy.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    let target = find(task, tid)?;
    let old = target.scheduling();
    let keep_policy = raw.flags & FLAG_KEEP_POLICY != 0;
    let policy = if keep_policy { Some(old.policy) } else { Policy::from_raw(raw.policy) };
    let mut new = Scheduling {
        policy: policy.ok_or(Errno::EINVAL)?,
        reset_on_fork: if keep_policy { old.reset_on_fork } else { raw.flags & FLAG_RESET_ON_FORK != 0 },
        nice: raw.nice.clamp(-20, 19),
        priority: raw.priority,
        reservation: Reservation { runtime: raw.runtime, deadline: raw.deadline, period: raw.period },
        io_priority: old.io_priority,
    };
    if raw.flags & FLAG_KEEP_PARAMETERS != 0 {
        new = Scheduling { nice: old.nice, priority: old.priority, reservation: old.reservation, ..new };
    }
    if raw.flags & !FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    if raw.flags & FLAGS_CLAMP != 0 {
        // Linux without CONFIG_UCLAMP_TASK.
        return Err(task.unsupported("sched_setattr: utilization clamping", Errno::EOPNOTSUPP));
    }
    if !new.policy.is_fair() {
        new.nice = old.nice;
    }
    task.schedule(&target, new)
}

/// Reads the structure, whose size the program says; a field that we do not know must be 0 (sched_copy_attr).
fn read(task: &CurrentTask<'_>, from: UserAddr) -> Result<RawAttributes, Errno> {
    let size = UserIn::<u32>::new(from).read(task)?;
    let size = if size == 0 { FIRST_SIZE } else { usize::try_from(size).unwrap_or(usize::MAX) };
    let too_big = || {
        // Tells how much is known; that it cannot be told changes nothing.
        let known = u32::try_from(SIZE).unwrap_or_default();
        let _ = UserOut::new(from).write(task, &known);
        Errno::E2BIG
    };
    if size < FIRST_SIZE || size > usize::try_from(PAGE_SIZE).unwrap_or(SIZE) {
        return Err(too_big());
    }
    let mut bytes = vec![0; size.max(SIZE)];
    task.mm().read(from, &mut bytes[..size])?;
    if bytes[SIZE..].iter().any(|byte| *byte != 0) {
        return Err(too_big());
    }
    let raw = RawAttributes::read_from_bytes(&bytes[..SIZE]).map_err(|_| Errno::EINVAL)?;
    if raw.flags & FLAGS_CLAMP != 0 && size < SIZE { Err(Errno::EINVAL) } else { Ok(raw) }
}

pub(super) fn sched_getattr(
    task: &CurrentTask<'_>,
    tid: Pid,
    to: UserAddr,
    size: u32,
    flags: u32,
) -> Result<(), Errno> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if to.0 == 0 || tid.0 < 0 || size < FIRST_SIZE || size > usize::try_from(PAGE_SIZE).unwrap_or(SIZE) || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let scheduling = find(task, tid)?.scheduling();
    let size = size.min(SIZE);
    let mut raw = RawAttributes {
        size: u32::try_from(size).unwrap_or_default(),
        policy: scheduling.policy.raw(),
        flags: if scheduling.reset_on_fork { FLAG_RESET_ON_FORK } else { 0 },
        ..RawAttributes::default()
    };
    match scheduling.policy {
        Policy::Deadline => {
            let Reservation { runtime, deadline, period } = scheduling.reservation;
            let period = if period == 0 { deadline } else { period };
            (raw.runtime, raw.deadline, raw.period) = (runtime, deadline, period);
        }
        policy if policy.is_real_time() => raw.priority = scheduling.priority,
        _ => (raw.nice, raw.runtime) = (scheduling.nice, SLICE_NS),
    }
    task.mm().write(to, &raw.as_bytes()[..size])
}
