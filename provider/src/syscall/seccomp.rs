//! seccomp(2).

use super::constants::SeccompOperation;
use crate::errno::Errno;
use crate::seccomp::check::{Instruction, MAX_INSTRUCTIONS};
use crate::seccomp::{Action, FilterFlags, install, install_strict};
use crate::task::CurrentTask;
use crate::user::{UserIn, UserOut};
use linux_raw_sys::ptrace as raw;
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// CAP_SYS_ADMIN
const CAP_SYS_ADMIN: u32 = 21;

/// `struct sock_fprog`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Program {
    len: u16,
    padding: [u16; 3],
    at: u64,
}

/// `struct seccomp_notif_sizes`.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct NotifySizes {
    request: u16,
    response: u16,
    data: u16,
}

pub(super) fn seccomp(
    task: &CurrentTask<'_>,
    SeccompOperation(operation): SeccompOperation,
    flags: u32,
    args: UserAddr,
) -> Result<i32, Errno> {
    match operation {
        raw::SECCOMP_SET_MODE_STRICT if flags == 0 && args.0 == 0 => set_strict(task),
        raw::SECCOMP_SET_MODE_FILTER => set_filter(task, flags, args),
        raw::SECCOMP_GET_ACTION_AVAIL if flags == 0 => {
            let action = UserIn::<u32>::new(args).read(task)?;
            Action::known(action).map(|_| 0).ok_or(Errno::EOPNOTSUPP)
        }
        raw::SECCOMP_GET_NOTIF_SIZES if flags == 0 => {
            // struct seccomp_notif, seccomp_notif_resp, seccomp_data
            UserOut::new(args).write(task, &NotifySizes { request: 80, response: 24, data: 64 })?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// SECCOMP_SET_MODE_STRICT; `EINVAL` where there are filters.
pub(super) fn set_strict(task: &CurrentTask<'_>) -> Result<i32, Errno> {
    install_strict(task)?;
    Ok(0)
}

/// SECCOMP_SET_MODE_FILTER: 0, or the thread that the filter could not be given to (seccomp_set_mode_filter).
pub(super) fn set_filter(task: &CurrentTask<'_>, flags: u32, args: UserAddr) -> Result<i32, Errno> {
    let flags = FilterFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let (all_threads, listens) = (flags.contains(FilterFlags::TSYNC), flags.contains(FilterFlags::NEW_LISTENER));
    if all_threads && listens && !flags.contains(FilterFlags::TSYNC_ESRCH) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(FilterFlags::WAIT_KILLABLE_RECV) && !listens {
        return Err(Errno::EINVAL);
    }
    let program = UserIn::<Program>::new(args).read(task)?;
    let len = usize::from(program.len);
    if len == 0 || len > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    if !task.attributes().no_new_privileges && !task.credentials().has(CAP_SYS_ADMIN) {
        return Err(Errno::EACCES);
    }
    let mut instructions = vec![Instruction::new_zeroed(); len];
    task.mm().read(UserAddr(program.at), instructions.as_mut_bytes())?;
    if listens {
        return Err(task.unsupported("seccomp: SECCOMP_FILTER_FLAG_NEW_LISTENER", Errno::EINVAL));
    }
    match install(task, &instructions, flags)? {
        None => Ok(0),
        Some(_) if flags.contains(FilterFlags::TSYNC_ESRCH) => Err(Errno::ESRCH),
        Some(thread) => Ok(thread.0),
    }
}
