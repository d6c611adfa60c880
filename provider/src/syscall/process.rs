//! The end of threads and processes, and waiting for it.

use super::handler::Never;
use crate::errno::Errno;
use crate::task::{CurrentTask, ExitStatus};
use vmm::addr::UserAddr;

/// The low byte of the status is what a parent sees.
fn status(code: i32) -> ExitStatus {
    ExitStatus::Exited(code.to_le_bytes()[0])
}

pub(super) fn exit(task: &mut CurrentTask<'_>, code: i32) -> Result<Never, Errno> {
    task.exit_thread(status(code));
    Ok(Never)
}

pub(super) fn exit_group(task: &mut CurrentTask<'_>, code: i32) -> Result<Never, Errno> {
    task.exit_process(status(code));
    Ok(Never)
}

const WNOHANG: u32 = 1;
const WSTOPPED: u32 = 2;
const WEXITED: u32 = 4;
const WCONTINUED: u32 = 8;
const WNOWAIT: u32 = 0x0100_0000;
/// __WNOTHREAD, __WALL, __WCLONE.
const W_LINUX: u32 = 0xe000_0000;

pub(super) fn wait4(
    _task: &CurrentTask<'_>,
    pid: i32,
    _status: UserAddr,
    options: u32,
    _usage: UserAddr,
) -> Result<(), Errno> {
    if options & !(WNOHANG | WSTOPPED | WCONTINUED | W_LINUX) != 0 {
        return Err(Errno::EINVAL);
    }
    if pid == i32::MIN {
        return Err(Errno::ESRCH);
    }
    // No process has children yet.
    Err(Errno::ECHILD)
}

const P_ALL: i32 = 0;
const P_PID: i32 = 1;
const P_PGID: i32 = 2;
const P_PIDFD: i32 = 3;

pub(super) fn waitid(
    _task: &CurrentTask<'_>,
    which: i32,
    id: i32,
    _info: UserAddr,
    options: u32,
    _usage: UserAddr,
) -> Result<(), Errno> {
    let known = WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | W_LINUX;
    if options & !known != 0 || options & (WEXITED | WSTOPPED | WCONTINUED) == 0 {
        return Err(Errno::EINVAL);
    }
    match which {
        P_ALL => Err(Errno::ECHILD),
        P_PID if id > 0 => Err(Errno::ECHILD),
        P_PGID if id >= 0 => Err(Errno::ECHILD),
        // No descriptor stands for a process yet.
        P_PIDFD if id >= 0 => Err(Errno::EBADF),
        _ => Err(Errno::EINVAL),
    }
}
