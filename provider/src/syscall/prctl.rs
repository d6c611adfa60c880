//! prctl(2).

use super::constants::ProcessOption;
use crate::errno::Errno;
use crate::signal::Signal;
use crate::task::{Credentials, CurrentTask, NAME_MAX};
use crate::user::UserOut;
use linux_raw_sys::prctl as pr;
use vmm::addr::UserAddr;

/// CAP_SETPCAP
const CAP_SETPCAP: u32 = 8;
/// Capabilities that there are.
const CAPABILITIES: u64 = 41;

/// One function for all: most options are one line on the task's attributes.
pub(super) fn prctl(
    task: &CurrentTask<'_>,
    ProcessOption(option): ProcessOption,
    arg2: u64,
    arg3: u64,
    arg4: u64,
    arg5: u64,
) -> Result<u64, Errno> {
    let rest_is_zero = (arg3, arg4, arg5) == (0, 0, 0);
    let all_are_zero = arg2 == 0 && rest_is_zero;
    let attributes = task.attributes();
    match option {
        pr::PR_SET_PDEATHSIG => {
            let signal = i32::try_from(arg2).ok().filter(|raw| *raw == 0 || Signal::from_raw(*raw).is_some());
            task.with_attributes(|attributes| {
                attributes.parent_death_signal = signal.ok_or(Errno::EINVAL)?;
                Ok(0)
            })
        }
        pr::PR_GET_PDEATHSIG => {
            write_int(task, arg2, attributes.parent_death_signal)?;
            Ok(0)
        }
        pr::PR_GET_DUMPABLE => Ok(u64::from(attributes.dumpable)),
        pr::PR_SET_DUMPABLE => set_flag(task, arg2 <= 1, |attributes| attributes.dumpable = arg2 == 1),
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
        pr::PR_GET_KEEPCAPS => Ok(u64::from(attributes.keep_capabilities)),
        pr::PR_SET_KEEPCAPS => set_flag(task, arg2 <= 1, |attributes| attributes.keep_capabilities = arg2 == 1),
        pr::PR_GET_TIMING => Ok(0),
        pr::PR_SET_TIMING => set_flag(task, arg2 == 0, |_| {}),
        pr::PR_GET_SECCOMP => Ok(0),
        pr::PR_SET_SECCOMP => Err(task.unsupported("prctl: PR_SET_SECCOMP", Errno::EINVAL)),
        pr::PR_CAPBSET_READ => match arg2 {
            0..CAPABILITIES => Ok(task.credentials().bounding >> arg2 & 1),
            _ => Err(Errno::EINVAL),
        },
        pr::PR_CAPBSET_DROP => drop_from_bounding_set(task, arg2),
        pr::PR_CAP_AMBIENT => ambient(task, arg2, arg3, (arg4, arg5) == (0, 0)),
        pr::PR_GET_SECUREBITS => Ok(0),
        pr::PR_GET_TIMERSLACK => Ok(attributes.timer_slack_ns),
        pr::PR_SET_TIMERSLACK => {
            // 0 is the default again. The host's own slack applies; the value is only kept.
            let slack = if arg2 == 0 { crate::task::TIMER_SLACK_NS } else { arg2 };
            set_flag(task, true, |attributes| attributes.timer_slack_ns = slack)
        }
        pr::PR_GET_TSC => {
            // PR_TSC_ENABLE
            write_int(task, arg2, 1)?;
            Ok(0)
        }
        pr::PR_SET_TSC if arg2 == 1 => Ok(0),
        pr::PR_SET_CHILD_SUBREAPER => set_flag(task, true, |attributes| attributes.subreaper = arg2 != 0),
        pr::PR_GET_CHILD_SUBREAPER => {
            write_int(task, arg2, i32::from(attributes.subreaper))?;
            Ok(0)
        }
        pr::PR_SET_NO_NEW_PRIVS => {
            set_flag(task, arg2 == 1 && rest_is_zero, |attributes| attributes.no_new_privileges = true)
        }
        pr::PR_GET_NO_NEW_PRIVS if all_are_zero => Ok(u64::from(attributes.no_new_privileges)),
        pr::PR_GET_TID_ADDRESS => {
            UserOut::new(UserAddr(arg2)).write(task, &task.clear_child_tid().0)?;
            Ok(0)
        }
        pr::PR_GET_THP_DISABLE if all_are_zero => Ok(u64::from(attributes.no_huge_pages)),
        pr::PR_SET_THP_DISABLE => set_flag(task, rest_is_zero, |attributes| attributes.no_huge_pages = arg2 != 0),
        pr::PR_SET_VMA if arg2 == u64::from(pr::PR_SET_VMA_ANON_NAME) => {
            Err(task.unsupported("prctl: PR_SET_VMA_ANON_NAME", Errno::EINVAL))
        }
        pr::PR_SET_MM => Err(task.unsupported("prctl: PR_SET_MM", Errno::EPERM)),
        pr::PR_GET_SPECULATION_CTRL => Err(Errno::ENODEV),
        _ => Err(Errno::EINVAL),
    }
}

fn set_flag(
    task: &CurrentTask<'_>,
    valid: bool,
    change: impl FnOnce(&mut crate::task::Attributes),
) -> Result<u64, Errno> {
    if !valid {
        return Err(Errno::EINVAL);
    }
    task.with_attributes(change);
    Ok(0)
}

fn write_int(task: &CurrentTask<'_>, at: u64, value: i32) -> Result<(), Errno> {
    UserOut::new(UserAddr(at)).write(task, &value)
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

fn drop_from_bounding_set(task: &CurrentTask<'_>, capability: u64) -> Result<u64, Errno> {
    let old = task.credentials();
    if !old.has(CAP_SETPCAP) {
        return Err(Errno::EPERM);
    }
    if capability >= CAPABILITIES {
        return Err(Errno::EINVAL);
    }
    let bounding = old.bounding & !(1 << capability);
    task.set_credentials(Credentials { bounding, ..Credentials::clone(&old) });
    Ok(0)
}

/// PR_CAP_AMBIENT: a capability may be raised that is both permitted and inheritable.
fn ambient(task: &CurrentTask<'_>, operation: u64, capability: u64, rest_is_zero: bool) -> Result<u64, Errno> {
    let old = task.credentials();
    let set = |ambient| task.set_credentials(Credentials { ambient, ..Credentials::clone(&old) });
    let operation = u32::try_from(operation).map_err(|_| Errno::EINVAL)?;
    if operation == pr::PR_CAP_AMBIENT_CLEAR_ALL {
        if capability != 0 || !rest_is_zero {
            return Err(Errno::EINVAL);
        }
        set(0);
        return Ok(0);
    }
    if capability >= CAPABILITIES || !rest_is_zero {
        return Err(Errno::EINVAL);
    }
    let bit = 1 << capability;
    match operation {
        pr::PR_CAP_AMBIENT_IS_SET => Ok(u64::from(old.ambient & bit != 0)),
        pr::PR_CAP_AMBIENT_RAISE if old.permitted & old.inheritable & bit == 0 => Err(Errno::EPERM),
        pr::PR_CAP_AMBIENT_RAISE => {
            set(old.ambient | bit);
            Ok(0)
        }
        pr::PR_CAP_AMBIENT_LOWER => {
            set(old.ambient & !bit);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
