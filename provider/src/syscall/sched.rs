//! Scheduling: the host's kernel schedules; a program may look and state wishes.

use crate::errno::Errno;
use crate::task::{CurrentTask, Pid, Task};
use crate::time::Timespec;
use crate::user::{UserIn, UserOut};
use std::sync::Arc;
use vmm::addr::UserAddr;

/// CAP_SYS_NICE
const CAP_SYS_NICE: u32 = 23;

pub(super) fn sched_yield(_task: &CurrentTask<'_>) -> Result<(), Errno> {
    rustix::thread::sched_yield();
    Ok(())
}

/// Finds a thread by its id; 0 is the caller. Negative ids are `EINVAL`.
fn find(task: &CurrentTask<'_>, tid: Pid) -> Result<Arc<Task>, Errno> {
    match tid.0 {
        ..0 => Err(Errno::EINVAL),
        0 => Ok(task.task().clone()),
        _ => task.kernel().tasks().get(tid).ok_or(Errno::ESRCH),
    }
}

/// Bytes in the unit of a CPU mask.
const WORD: usize = 8;

pub(super) fn sched_getaffinity(task: &CurrentTask<'_>, tid: Pid, size: u32, mask: UserAddr) -> Result<usize, Errno> {
    let cpus = task.kernel().cpus();
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    if size * 8 < cpus.count() || !size.is_multiple_of(WORD) {
        return Err(Errno::EINVAL);
    }
    // Negative ids find nobody here.
    let found = find(task, tid).map_err(|_| Errno::ESRCH)?;
    let words = found.affinity().unwrap_or_else(|| cpus.all());
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let size = size.min(bytes.len());
    task.mm().write(mask, &bytes[..size])?;
    Ok(size)
}

pub(super) fn sched_setaffinity(task: &CurrentTask<'_>, tid: Pid, size: u32, mask: UserAddr) -> Result<(), Errno> {
    let cpus = task.kernel().cpus();
    let mut words = vec![0u64; cpus.all().len()];
    let mut bytes = vec![0; words.len() * WORD];
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?.min(bytes.len());
    task.mm().read(mask, &mut bytes[..size])?;
    let target = find(task, tid).map_err(|_| Errno::ESRCH)?;
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(WORD)) {
        *word = chunk.try_into().map_or(0, u64::from_le_bytes);
    }
    for (word, present) in words.iter_mut().zip(cpus.all()) {
        *word &= present;
    }
    if words.iter().all(|word| *word == 0) {
        return Err(Errno::EINVAL);
    }
    if target.tid() == task.tid() {
        cpus.bind_this_thread(&words);
    }
    target.set_affinity(words);
    Ok(())
}

pub(super) fn getcpu(
    task: &CurrentTask<'_>,
    cpu: UserOut<u32>,
    node: UserOut<u32>,
    _cache: UserAddr,
) -> Result<(), Errno> {
    cpu.write_opt(task, &task.kernel().cpus().current())?;
    node.write_opt(task, &0)
}

/// SCHED_OTHER, the only policy a sandbox has: BATCH and IDLE are taken and change nothing.
const OTHER: i32 = 0;
const FIFO: i32 = 1;
const ROUND_ROBIN: i32 = 2;
const BATCH: i32 = 3;
const IDLE: i32 = 5;
const DEADLINE: i32 = 6;
/// SCHED_RESET_ON_FORK, which may be added to a policy.
const RESET_ON_FORK: i32 = 0x4000_0000;

pub(super) fn sched_getscheduler(task: &CurrentTask<'_>, tid: Pid) -> Result<i32, Errno> {
    find(task, tid).map(|_| OTHER)
}

pub(super) fn sched_setscheduler(
    task: &CurrentTask<'_>,
    tid: Pid,
    policy: i32,
    parameter: UserIn<i32>,
) -> Result<(), Errno> {
    if policy < 0 || tid.0 < 0 || parameter.is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = parameter.read(task)?;
    find(task, tid)?;
    set_policy(task, policy & !RESET_ON_FORK, priority)
}

fn set_policy(task: &CurrentTask<'_>, policy: i32, priority: i32) -> Result<(), Errno> {
    match policy {
        OTHER | BATCH | IDLE if priority == 0 => Ok(()),
        FIFO | ROUND_ROBIN if (1..100).contains(&priority) => {
            Err(task.unsupported("sched_setscheduler: real-time policies", Errno::EPERM))
        }
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn sched_getparam(task: &CurrentTask<'_>, tid: Pid, parameter: UserOut<i32>) -> Result<(), Errno> {
    if parameter.is_null() {
        return Err(Errno::EINVAL);
    }
    find(task, tid)?;
    parameter.write(task, &0)
}

pub(super) fn sched_setparam(task: &CurrentTask<'_>, tid: Pid, parameter: UserIn<i32>) -> Result<(), Errno> {
    if parameter.is_null() || tid.0 < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = parameter.read(task)?;
    find(task, tid)?;
    set_policy(task, OTHER, priority)
}

pub(super) fn sched_get_priority_max(_task: &CurrentTask<'_>, policy: i32) -> Result<i32, Errno> {
    match policy {
        FIFO | ROUND_ROBIN => Ok(99),
        OTHER | BATCH | IDLE | DEADLINE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn sched_get_priority_min(_task: &CurrentTask<'_>, policy: i32) -> Result<i32, Errno> {
    match policy {
        FIFO | ROUND_ROBIN => Ok(1),
        OTHER | BATCH | IDLE | DEADLINE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn sched_rr_get_interval(task: &CurrentTask<'_>, tid: Pid, to: UserOut<Timespec>) -> Result<(), Errno> {
    /// The slice of an ordinary thread, about (sysctl_sched_base_slice).
    const SLICE_NS: u64 = 3_000_000;
    find(task, tid)?;
    to.write(task, &Timespec::from_nanoseconds(SLICE_NS))
}

const PRIO_PROCESS: i32 = 0;
const PRIO_GROUP: i32 = 1;
const PRIO_USER: i32 = 2;

/// Threads that getpriority and setpriority mean.
fn chosen(task: &CurrentTask<'_>, which: i32, who: i32) -> Result<Vec<Arc<Task>>, Errno> {
    let all = || task.kernel().tasks().all();
    let matching: Vec<_> = match which {
        PRIO_PROCESS if who == 0 => vec![task.task().clone()],
        PRIO_PROCESS => task.kernel().tasks().get(Pid(who)).into_iter().collect(),
        PRIO_GROUP => {
            let group = if who == 0 { task.group().process_group() } else { Pid(who) };
            all().into_iter().filter(|other| other.group().process_group() == group).collect()
        }
        PRIO_USER => {
            let uid = if who == 0 { task.credentials().uid } else { who.cast_unsigned() };
            all().into_iter().filter(|other| other.credentials().uid == uid).collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    if matching.is_empty() { Err(Errno::ESRCH) } else { Ok(matching) }
}

/// Returns 20 less the nice value: 1 to 40, so that no result reads as an error.
pub(super) fn getpriority(task: &CurrentTask<'_>, which: i32, who: i32) -> Result<i32, Errno> {
    let best = chosen(task, which, who)?.iter().map(|task| task.nice()).min().unwrap_or_default();
    Ok(20 - best)
}

pub(super) fn setpriority(task: &CurrentTask<'_>, which: i32, who: i32, nice: i32) -> Result<(), Errno> {
    let nice = nice.clamp(-20, 19);
    let privileged = task.credentials().has(CAP_SYS_NICE);
    for target in chosen(task, which, who)? {
        if nice < target.nice() && !privileged {
            return Err(Errno::EACCES);
        }
        target.set_nice(nice);
    }
    Ok(())
}
