//! prctl(2).

use super::constants::ProcessOption;
use super::{seccomp, user_dispatch};
use crate::errno::Errno;
use crate::mm::Dumpable;
use crate::signal::Signal;
use crate::task::{Attributes, CurrentTask, MceKill, NAME_MAX};
use crate::user::UserOut;
use linux_raw_sys::prctl as pr;
use vmm::addr::UserAddr;

mod capabilities;

/// CAP_SYS_RESOURCE
const CAP_SYS_RESOURCE: u32 = 24;
/// PR_TSC_ENABLE: the time-stamp counter may be read.
const TSC_ENABLED: u64 = 1;
/// Bytes of `struct prctl_mm_map`.
const MM_MAP_BYTES: u32 = 104;
/// Bytes that PR_GET_AUXV says there are (mm_struct's saved_auxv on x86-64).
const SAVED_AUXV_BYTES: usize = 368;
/// The highest signal that PR_SET_PDEATHSIG takes (valid_signal).
const LAST_SIGNAL: u64 = 64;

/// One function for all: most options are one line on the task's attributes.
pub(super) fn prctl(
    task: &CurrentTask<'_>,
    ProcessOption(option): ProcessOption,
    arg2: u64,
    arg3: u64,
    arg4: u64,
    arg5: u64,
) -> Result<u64, Errno> {
    if let Some(result) = capabilities::option(task, option, [arg2, arg3, arg4, arg5]) {
        return result;
    }
    let last_two_zero = (arg4, arg5) == (0, 0);
    let rest_is_zero = arg3 == 0 && last_two_zero;
    let all_are_zero = arg2 == 0 && rest_is_zero;
    let attributes = task.attributes();
    match option {
        pr::PR_SET_PDEATHSIG => {
            let signal = i32::try_from(arg2).ok().filter(|_| arg2 <= LAST_SIGNAL).ok_or(Errno::EINVAL)?;
            set(task, true, |attributes| {
                attributes.parent_death_signal = Signal::from_raw(signal).map_or(0, Signal::raw);
            })
        }
        pr::PR_GET_PDEATHSIG => write_int(task, arg2, attributes.parent_death_signal),
        pr::PR_GET_DUMPABLE => Ok(u64::from(task.mm().dumpable().raw())),
        pr::PR_SET_DUMPABLE => {
            let dumpable = match arg2 {
                0 => Dumpable::No,
                1 => Dumpable::Yes,
                _ => return Err(Errno::EINVAL),
            };
            task.mm().set_dumpable(dumpable);
            Ok(0)
        }
        pr::PR_SET_NAME => {
            let name = read_name(task, UserAddr(arg2))?;
            task.set_name(&name);
            Ok(0)
        }
        pr::PR_GET_NAME => {
            let mut name = task.name();
            name.resize(NAME_MAX + 1, 0);
            task.mm().write(UserAddr(arg2), &name)?;
            Ok(0)
        }
        // PR_TIMING_STATISTICAL is the only method there is.
        pr::PR_GET_TIMING => Ok(0),
        pr::PR_SET_TIMING => set(task, arg2 == 0, |_| {}),
        pr::PR_GET_SECCOMP => Ok(u64::from(task.seccomp().mode())),
        pr::PR_SET_SECCOMP => set_seccomp(task, arg2, UserAddr(arg3)),
        pr::PR_GET_TIMERSLACK => Ok(attributes.timer_slack_ns),
        pr::PR_SET_TIMERSLACK => {
            // 0, and what would be negative, is the default again. The host's own slack applies; the value is only kept.
            set(task, true, |attributes| {
                attributes.timer_slack_ns =
                    if arg2.cast_signed() <= 0 { attributes.default_timer_slack_ns } else { arg2 };
            })
        }
        pr::PR_GET_TSC => write_int(task, arg2, 1),
        pr::PR_SET_TSC if arg2 == TSC_ENABLED => Ok(0),
        pr::PR_SET_TSC => Err(task.unsupported("prctl: PR_SET_TSC", Errno::EINVAL)),
        // There are no performance events.
        pr::PR_TASK_PERF_EVENTS_DISABLE | pr::PR_TASK_PERF_EVENTS_ENABLE => Ok(0),
        pr::PR_MCE_KILL if last_two_zero => {
            let policy = mce_policy(arg2, arg3).ok_or(Errno::EINVAL)?;
            set(task, true, |attributes| attributes.mce_kill = policy)
        }
        pr::PR_MCE_KILL_GET if all_are_zero => Ok(attributes.mce_kill.raw()),
        pr::PR_SET_CHILD_SUBREAPER => {
            task.group().set_subreaper(arg2 != 0);
            Ok(0)
        }
        pr::PR_GET_CHILD_SUBREAPER => write_int(task, arg2, i32::from(task.group().is_subreaper())),
        pr::PR_SET_NO_NEW_PRIVS => {
            set(task, arg2 == 1 && rest_is_zero, |attributes| attributes.no_new_privileges = true)
        }
        pr::PR_GET_NO_NEW_PRIVS if all_are_zero => Ok(u64::from(attributes.no_new_privileges)),
        pr::PR_GET_TID_ADDRESS => {
            UserOut::new(UserAddr(arg2)).write(task, &task.clear_child_tid().0)?;
            Ok(0)
        }
        pr::PR_GET_THP_DISABLE if all_are_zero => Ok(u64::from(task.mm().refuses_huge_pages())),
        pr::PR_SET_THP_DISABLE if rest_is_zero => {
            task.mm().refuse_huge_pages(arg2 != 0);
            Ok(0)
        }
        pr::PR_SET_VMA if arg2 == u64::from(pr::PR_SET_VMA_ANON_NAME) => {
            Err(task.unsupported("prctl: PR_SET_VMA_ANON_NAME", Errno::EINVAL))
        }
        pr::PR_SET_MM => set_mm(task, arg2, arg3, last_two_zero),
        pr::PR_GET_AUXV if last_two_zero => auxiliary_vector(task, UserAddr(arg2), arg3),
        pr::PR_GET_SPECULATION_CTRL if rest_is_zero => match u32::try_from(arg2) {
            // As /proc/PID/status says: nothing is mitigated per task.
            Ok(pr::PR_SPEC_STORE_BYPASS | pr::PR_SPEC_INDIRECT_BRANCH) => Ok(u64::from(pr::PR_SPEC_ENABLE)),
            Ok(pr::PR_SPEC_L1D_FLUSH) => Ok(u64::from(pr::PR_SPEC_FORCE_DISABLE)),
            _ => Err(Errno::ENODEV),
        },
        pr::PR_SET_SPECULATION_CTRL if last_two_zero => match u32::try_from(arg2) {
            Ok(pr::PR_SPEC_STORE_BYPASS) => Err(Errno::ENXIO),
            Ok(pr::PR_SPEC_INDIRECT_BRANCH | pr::PR_SPEC_L1D_FLUSH) => Err(Errno::EPERM),
            _ => Err(Errno::ENODEV),
        },
        pr::PR_SET_IO_FLUSHER | pr::PR_GET_IO_FLUSHER if !task.credentials().has(CAP_SYS_RESOURCE) => Err(Errno::EPERM),
        pr::PR_SET_IO_FLUSHER if rest_is_zero => set(task, arg2 <= 1, |attributes| attributes.io_flusher = arg2 == 1),
        pr::PR_GET_IO_FLUSHER if all_are_zero => Ok(u64::from(attributes.io_flusher)),
        pr::PR_GET_MDWE if all_are_zero => Ok(0),
        pr::PR_SET_MDWE => Err(task.unsupported("prctl: PR_SET_MDWE", Errno::EINVAL)),
        pr::PR_GET_MEMORY_MERGE if all_are_zero => Ok(0),
        pr::PR_SET_MEMORY_MERGE => Err(task.unsupported("prctl: PR_SET_MEMORY_MERGE", Errno::EINVAL)),
        pr::PR_SET_SYSCALL_USER_DISPATCH => user_dispatch::set(task, arg2, arg3, arg4, UserAddr(arg5)),
        pr::PR_SCHED_CORE => Err(task.unsupported("prctl: PR_SCHED_CORE", Errno::EINVAL)),
        // Among these are the options of other architectures, and PR_SET_PTRACER: there is no Yama.
        _ => Err(Errno::EINVAL),
    }
}

fn set(task: &CurrentTask<'_>, valid: bool, change: impl FnOnce(&mut Attributes)) -> Result<u64, Errno> {
    if !valid {
        return Err(Errno::EINVAL);
    }
    task.with_attributes(change);
    Ok(0)
}

fn write_int(task: &CurrentTask<'_>, at: u64, value: i32) -> Result<u64, Errno> {
    UserOut::new(UserAddr(at)).write(task, &value)?;
    Ok(0)
}

fn set_seccomp(task: &CurrentTask<'_>, mode: u64, program: UserAddr) -> Result<u64, Errno> {
    /// SECCOMP_MODE_STRICT
    const STRICT: u64 = 1;
    /// SECCOMP_MODE_FILTER
    const FILTER: u64 = 2;
    match mode {
        STRICT => seccomp::set_strict(task)?,
        FILTER => seccomp::set_filter(task, 0, program)?,
        _ => return Err(Errno::EINVAL),
    };
    Ok(0)
}

/// What PR_MCE_KILL asks for; `None` if there is no such policy.
fn mce_policy(operation: u64, policy: u64) -> Option<MceKill> {
    let (operation, policy) = (u32::try_from(operation).ok()?, u32::try_from(policy).ok()?);
    match (operation, policy) {
        (pr::PR_MCE_KILL_CLEAR, 0) | (pr::PR_MCE_KILL_SET, pr::PR_MCE_KILL_DEFAULT) => Some(MceKill::Default),
        (pr::PR_MCE_KILL_SET, pr::PR_MCE_KILL_EARLY) => Some(MceKill::Early),
        (pr::PR_MCE_KILL_SET, pr::PR_MCE_KILL_LATE) => Some(MceKill::Late),
        _ => None,
    }
}

/// Reads a name: at most 15 bytes of a string, whose rest is ignored.
fn read_name(task: &CurrentTask<'_>, at: UserAddr) -> Result<Vec<u8>, Errno> {
    let mut bytes = [0; NAME_MAX];
    // The string may end right before a hole.
    let got = task.mm().read_partial(at, &mut bytes)?;
    let end = bytes[..got].iter().position(|byte| *byte == 0);
    match end {
        Some(end) => Ok(bytes[..end].to_vec()),
        None if got == NAME_MAX => Ok(bytes.to_vec()),
        None => Err(Errno::EFAULT),
    }
}

/// PR_SET_MM moves landmarks of the address space, for tools that restore processes: not ours to offer.
fn set_mm(task: &CurrentTask<'_>, what: u64, at: u64, last_two_zero: bool) -> Result<u64, Errno> {
    let what = u32::try_from(what).map_err(|_| Errno::EINVAL)?;
    if !last_two_zero && !matches!(what, pr::PR_SET_MM_AUXV | pr::PR_SET_MM_MAP | pr::PR_SET_MM_MAP_SIZE) {
        return Err(Errno::EINVAL);
    }
    if what == pr::PR_SET_MM_MAP_SIZE {
        UserOut::new(UserAddr(at)).write(task, &MM_MAP_BYTES)?;
        return Ok(0);
    }
    Err(task.unsupported("prctl: PR_SET_MM", Errno::EPERM))
}

/// PR_GET_AUXV: as much of the vector as fits; the result is the size of the whole.
fn auxiliary_vector(task: &CurrentTask<'_>, at: UserAddr, len: u64) -> Result<u64, Errno> {
    let mut vector = task.mm().program().map(|program| program.auxv.clone()).unwrap_or_default();
    vector.resize(SAVED_AUXV_BYTES.max(vector.len()), 0);
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(vector.len());
    task.mm().write(at, &vector[..len])?;
    Ok(u64::try_from(vector.len()).unwrap_or_default())
}
