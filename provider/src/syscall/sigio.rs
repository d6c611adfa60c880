//! Signals when files become ready: what fcntl(2) and ioctl(2) set of them.

use crate::errno::Errno;
use crate::fs::sigio::Owner;
use crate::fs::{Fd, FileKind, OpenFile, OpenFlags};
use crate::signal::Signal;
use crate::task::{CurrentTask, Pid};
use crate::user::{UserIn, UserOut};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct f_owner_ex`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct UserOwner {
    kind: i32,
    pid: i32,
}

/// F_OWNER_TID, F_OWNER_PID and F_OWNER_PGRP.
const THREAD: i32 = 0;
const PROCESS: i32 = 1;
const GROUP: i32 = 2;

/// What becomes of O_ASYNC for a file that never signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unable {
    /// It stays clear (F_SETFL).
    Ignore,
    /// `ENOTTY` (FIOASYNC).
    Refuse,
}

/// Sets or clears O_ASYNC.
pub(super) fn set_async(
    task: &CurrentTask<'_>,
    file: &OpenFile,
    fd: Fd,
    on: bool,
    unable: Unable,
) -> Result<(), Errno> {
    if on == file.flags().contains(OpenFlags::ASYNC) {
        return Ok(());
    }
    // Those whose file operations have `fasync` on Linux.
    let able = matches!(file.location().kind(), FileKind::Fifo | FileKind::Socket | FileKind::CharDevice);
    let notice = file.notice_mut(task);
    if !on {
        notice.stop();
        file.mark_async(false);
        return Ok(());
    }
    let started = if able { notice.start(task.kernel(), file, fd.0) } else { Err(Errno::EPERM) };
    match (started, unable) {
        (Ok(()), _) => {
            file.mark_async(true);
            Ok(())
        }
        (Err(Errno::EPERM), Unable::Ignore) => Ok(()),
        (Err(Errno::EPERM), Unable::Refuse) => Err(Errno::ENOTTY),
        (Err(error), _) => Err(error),
    }
}

/// F_GETOWN: a process, or a negated process group.
pub(super) fn owner(file: &OpenFile) -> i32 {
    file.notice().map_or(0, |notice| match notice.owner() {
        Owner::Group(group) => group.0.saturating_neg(),
        other => other.pid().0,
    })
}

/// F_SETOWN: `ESRCH` if there is no such process or group.
pub(super) fn set_owner(task: &CurrentTask<'_>, file: &OpenFile, owner: i32) -> Result<(), Errno> {
    match owner {
        i32::MIN => Err(Errno::EINVAL),
        group if group < 0 => set(task, file, Owner::Group(Pid(-group))),
        _ => set(task, file, Owner::Process(Pid(owner))),
    }
}

/// F_GETOWN_EX.
pub(super) fn owner_ex(task: &CurrentTask<'_>, file: &OpenFile, to: UserOut<UserOwner>) -> Result<(), Errno> {
    let owner = file.notice().map_or(Owner::Process(Pid(0)), |notice| notice.owner());
    let kind = match owner {
        Owner::Thread(_) => THREAD,
        Owner::Process(_) => PROCESS,
        Owner::Group(_) => GROUP,
    };
    to.write(task, &UserOwner { kind, pid: owner.pid().0 })
}

/// F_SETOWN_EX.
pub(super) fn set_owner_ex(task: &CurrentTask<'_>, file: &OpenFile, owner: UserIn<UserOwner>) -> Result<(), Errno> {
    let UserOwner { kind, pid } = owner.read(task)?;
    set(
        task,
        file,
        match kind {
            THREAD => Owner::Thread(Pid(pid)),
            PROCESS => Owner::Process(Pid(pid)),
            GROUP => Owner::Group(Pid(pid)),
            _ => return Err(Errno::EINVAL),
        },
    )
}

fn set(task: &CurrentTask<'_>, file: &OpenFile, owner: Owner) -> Result<(), Errno> {
    let tasks = task.kernel().tasks();
    let exists = match owner {
        owner if owner.pid().0 == 0 => true,
        Owner::Thread(pid) | Owner::Process(pid) => tasks.get(pid).is_some(),
        Owner::Group(group) => tasks.groups().iter().any(|member| member.process_group() == group),
    };
    if !exists {
        return Err(Errno::ESRCH);
    }
    file.notice_mut(task).set_owner(task, owner);
    Ok(())
}

/// F_GETSIG: 0 for the usual one.
pub(super) fn signal(file: &OpenFile) -> u64 {
    let signal = file.notice().and_then(|notice| notice.signal());
    signal.and_then(|signal| u64::try_from(signal.raw()).ok()).unwrap_or_default()
}

/// F_SETSIG: 0 for the usual one; `EINVAL` for no signal.
pub(super) fn set_signal(task: &CurrentTask<'_>, file: &OpenFile, signal: u64) -> Result<(), Errno> {
    let signal = match i32::try_from(signal).map_err(|_| Errno::EINVAL)? {
        0 => None,
        raw => Some(Signal::from_raw(raw).ok_or(Errno::EINVAL)?),
    };
    file.notice_mut(task).set_signal(signal);
    Ok(())
}
