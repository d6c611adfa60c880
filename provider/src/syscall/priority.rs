//! Nice values and I/O priorities: kept and told, with no effect on the host.

use crate::errno::Errno;
use crate::task::{CurrentTask, Pid, Policy, Task};
use std::sync::Arc;

/// CAP_SYS_ADMIN
const CAP_SYS_ADMIN: u32 = 21;
/// CAP_SYS_NICE
const CAP_SYS_NICE: u32 = 23;

const PRIO_PROCESS: i32 = 0;
const PRIO_GROUP: i32 = 1;
const PRIO_USER: i32 = 2;

/// Tasks that a call with `which` and `who` means; `EINVAL`, `ESRCH`.
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
    let mut result = Ok(());
    for target in chosen(task, which, who)? {
        // One that is refused does not keep the others from being changed; the last refusal is told (set_one_prio).
        if let Err(error) = may_set(task, &target) {
            result = Err(error);
        } else if nice < target.nice() && !task.may_renice(&target, nice) {
            result = Err(Errno::EACCES);
        } else {
            target.set_nice(nice);
        }
    }
    result
}

/// The caller has the task's user id, or CAP_SYS_NICE (set_one_prio_perm).
fn may_set(task: &CurrentTask<'_>, target: &Task) -> Result<(), Errno> {
    let (own, other) = (task.credentials(), target.credentials());
    let same = other.uid == own.euid || other.euid == own.euid;
    if same || own.has(CAP_SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
}

/// IOPRIO_WHO_PROCESS is one more than PRIO_PROCESS, and so on.
const WHO_PROCESS: i32 = PRIO_PROCESS + 1;

const CLASS_NONE: u16 = 0;
const CLASS_REAL_TIME: u16 = 1;
const CLASS_BEST_EFFORT: u16 = 2;
const CLASS_IDLE: u16 = 3;

/// The class and the level within it; what lies between is a hint.
fn parts(io_priority: u16) -> (u16, u16) {
    (io_priority >> 13, io_priority & 7)
}

/// What a task's I/O priority amounts to: one that was not set follows from the nice value (__get_task_ioprio).
fn effective(task: &Task) -> u16 {
    let scheduling = task.scheduling();
    if parts(scheduling.io_priority).0 != CLASS_NONE {
        return scheduling.io_priority;
    }
    let class = match scheduling.policy {
        Policy::Idle => CLASS_IDLE,
        policy if policy.is_real_time() => CLASS_REAL_TIME,
        _ => CLASS_BEST_EFFORT,
    };
    class << 13 | u16::try_from((scheduling.nice + 20) / 5).unwrap_or_default()
}

pub(super) fn ioprio_get(task: &CurrentTask<'_>, which: i32, who: i32) -> Result<i32, Errno> {
    let found = chosen(task, which.wrapping_sub(1), who)?;
    if which == WHO_PROCESS {
        return Ok(found.first().map_or(0, |task| i32::from(task.scheduling().io_priority)));
    }
    // The lower the number, the better.
    Ok(found.iter().map(|task| i32::from(effective(task))).min().unwrap_or_default())
}

pub(super) fn ioprio_set(task: &CurrentTask<'_>, which: i32, who: i32, io_priority: i32) -> Result<(), Errno> {
    // Bits beyond the sixteen are ignored, as by Linux, which keeps an unsigned short.
    let [low, high, ..] = io_priority.to_le_bytes();
    let value = u16::from_le_bytes([low, high]);
    let credentials = task.credentials();
    match parts(value) {
        (CLASS_REAL_TIME, _) if !credentials.has(CAP_SYS_ADMIN) && !credentials.has(CAP_SYS_NICE) => {
            return Err(Errno::EPERM);
        }
        (CLASS_REAL_TIME | CLASS_BEST_EFFORT | CLASS_IDLE, _) | (CLASS_NONE, 0) => {}
        _ => return Err(Errno::EINVAL),
    }
    for target in chosen(task, which.wrapping_sub(1), who)? {
        may_set_io(task, &target)?;
        target.with_attributes(|attributes| attributes.scheduling.io_priority = value);
    }
    Ok(())
}

/// As for the nice value, but compared with the caller's real user id, too (set_task_ioprio).
fn may_set_io(task: &CurrentTask<'_>, target: &Task) -> Result<(), Errno> {
    let (own, other) = (task.credentials(), target.credentials());
    let same = other.uid == own.euid || other.uid == own.uid;
    if same || own.has(CAP_SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
}
