//! Resource limits and what was used of them.

use super::constants::{ResourceNumber, UsageOf};
use crate::errno::Errno;
use crate::task::{CurrentTask, Limit, Pid, Resource, ThreadGroup};
use crate::time::Timeval;
use crate::user::{UserIn, UserOut};
use std::sync::Arc;
use std::time::Duration;
use vmm::clock::ClockKind;
use vmm::usage::Usage;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// CAP_SYS_RESOURCE
const CAP_SYS_RESOURCE: u32 = 24;
/// The most descriptors that RLIMIT_NOFILE may allow (/proc/sys/fs/nr_open).
const NR_OPEN: u64 = 1 << 20;

/// `struct rlimit`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RawLimit {
    soft: u64,
    hard: u64,
}

impl From<Limit> for RawLimit {
    fn from(limit: Limit) -> Self {
        Self { soft: limit.soft, hard: limit.hard }
    }
}

pub(super) fn getrlimit(task: &CurrentTask<'_>, resource: ResourceNumber, to: UserOut<RawLimit>) -> Result<(), Errno> {
    let resource = Resource::from_raw(resource.0).ok_or(Errno::EINVAL)?;
    to.write(task, &task.group().limits().get(resource).into())
}

pub(super) fn setrlimit(task: &CurrentTask<'_>, resource: ResourceNumber, from: UserIn<RawLimit>) -> Result<(), Errno> {
    let new = from.read(task)?;
    let resource = Resource::from_raw(resource.0).ok_or(Errno::EINVAL)?;
    set(task, task.group(), resource, new)
}

pub(super) fn prlimit64(
    task: &CurrentTask<'_>,
    pid: Pid,
    resource: ResourceNumber,
    new: UserIn<RawLimit>,
    old: UserOut<RawLimit>,
) -> Result<(), Errno> {
    let new = new.read_opt(task)?;
    let target = match pid.0 {
        0 => task.group().clone(),
        _ => task.kernel().tasks().get(pid).ok_or(Errno::ESRCH)?.group().clone(),
    };
    if target.pid() != task.group().pid() {
        may_look_at(task, &target)?;
    }
    let resource = Resource::from_raw(resource.0).ok_or(Errno::EINVAL)?;
    let before = target.limits().get(resource);
    if let Some(new) = new {
        set(task, &target, resource, new)?;
    }
    old.write_opt(task, &before.into())
}

/// Only one's own processes, or with CAP_SYS_RESOURCE (check_prlimit_permission).
fn may_look_at(task: &CurrentTask<'_>, target: &ThreadGroup) -> Result<(), Errno> {
    let own = task.credentials();
    let same = |other: &crate::task::Credentials| {
        [other.uid, other.euid, other.suid].iter().all(|uid| *uid == own.uid)
            && [other.gid, other.egid, other.sgid].iter().all(|gid| *gid == own.gid)
    };
    let allowed = own.has(CAP_SYS_RESOURCE) || target.threads().iter().all(|thread| same(&thread.credentials()));
    if allowed { Ok(()) } else { Err(Errno::EPERM) }
}

fn set(task: &CurrentTask<'_>, group: &Arc<ThreadGroup>, resource: Resource, new: RawLimit) -> Result<(), Errno> {
    if new.soft > new.hard {
        return Err(Errno::EINVAL);
    }
    if resource == Resource::Files && new.hard > NR_OPEN {
        return Err(Errno::EPERM);
    }
    let configured = task.kernel().config().limits;
    let ceiling = match resource {
        // The sandbox's own limits hold for its root, too.
        Resource::Files => configured.files,
        Resource::Processes => u64::from(configured.pids),
        _ => u64::MAX,
    };
    let old = group.limits().get(resource);
    if new.hard > old.hard && (new.hard > ceiling || !task.credentials().has(CAP_SYS_RESOURCE)) {
        return Err(Errno::EPERM);
    }
    group.limits().set(resource, Limit { soft: new.soft, hard: new.hard })?;
    if resource == Resource::Cpu {
        group.watch_cpu_limit(task.kernel().timers());
    }
    for thread in group.threads() {
        if let Some(mm) = thread.mm() {
            mm.limits().set(resource, new.soft);
        }
    }
    Ok(())
}

/// `struct rusage`. Fields that Linux does not keep are zero.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RawUsage {
    user: Timeval,
    system: Timeval,
    max_resident_kib: i64,
    unused_sizes: [i64; 3],
    minor_faults: i64,
    major_faults: i64,
    unused_counts: [i64; 6],
    voluntary_switches: i64,
    involuntary_switches: i64,
}

const _: () = assert!(size_of::<RawUsage>() == 144);

const RUSAGE_CHILDREN: i32 = -1;
const RUSAGE_SELF: i32 = 0;
const RUSAGE_THREAD: i32 = 1;

pub(super) fn getrusage(task: &CurrentTask<'_>, who: UsageOf, to: UserOut<RawUsage>) -> Result<(), Errno> {
    let usage = match who.0 {
        RUSAGE_SELF => task.process_cpu_usage(),
        RUSAGE_THREAD => task.cpu_usage(),
        RUSAGE_CHILDREN => task.group().children_usage(),
        _ => return Err(Errno::EINVAL),
    };
    let resident = if who.0 == RUSAGE_CHILDREN { 0 } else { task.mm().usage().resident };
    to.write(task, &RawUsage::of(&usage, resident))
}

impl RawUsage {
    /// The structure for this CPU time and this many bytes of resident memory.
    pub(super) fn of(usage: &Usage, resident: u64) -> Self {
        let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Self {
            user: timeval(usage.user),
            system: timeval(usage.system),
            max_resident_kib: count(resident / 1024),
            minor_faults: count(usage.minor_faults),
            major_faults: count(usage.major_faults),
            voluntary_switches: count(usage.voluntary_switches),
            involuntary_switches: count(usage.involuntary_switches),
            ..Self::default()
        }
    }
}

fn timeval(span: Duration) -> Timeval {
    Timeval::from_nanoseconds(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}

/// `struct tms`, in ticks.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct ProcessTimes {
    user: i64,
    system: i64,
    children_user: i64,
    children_system: i64,
}

/// Nanoseconds in a tick of times(2): USER_HZ is 100.
const TICK_NS: u64 = 10_000_000;

pub(super) fn times(task: &CurrentTask<'_>, to: UserOut<ProcessTimes>) -> Result<i64, Errno> {
    let usage = task.process_cpu_usage();
    let ticks = |span: Duration| i64::try_from(span.as_nanos() / u128::from(TICK_NS)).unwrap_or(i64::MAX);
    let children = task.group().children_usage();
    let raw = ProcessTimes {
        user: ticks(usage.user),
        system: ticks(usage.system),
        children_user: ticks(children.user),
        children_system: ticks(children.system),
    };
    to.write_opt(task, &raw)?;
    // Ticks since some point in the past: boot will do.
    Ok((task.kernel().now(ClockKind::Boot) / TICK_NS).cast_signed())
}
