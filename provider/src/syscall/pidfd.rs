//! Calls on descriptors of processes: pidfd_open(2) and its kin.

use super::signals::RawSignal;
use crate::errno::Errno;
use crate::fs::pidfd::PidFd;
use crate::fs::proc::process_of_directory;
use crate::fs::{Fd, OpenFile, OpenFlags};
use crate::signal::send::{Target, send, send_to_group};
use crate::signal::{SIGINFO_SIZE, SigInfo, SignalCode};
use crate::task::{CurrentTask, Pid, Resource};
use crate::user::UserIn;
use std::sync::Arc;

/// PIDFD_NONBLOCK, which is O_NONBLOCK.
const NONBLOCK: u32 = 0x800;
/// PIDFD_THREAD, which is O_EXCL.
const THREAD: u32 = 0x80;

/// Puts an open file at the lowest free descriptor, which exec closes.
pub(super) fn install(task: &CurrentTask<'_>, file: Arc<OpenFile>) -> Result<Fd, Errno> {
    task.files().insert(file, true, 0, task.group().limits().soft(Resource::Files))
}

pub(super) fn pidfd_open(task: &CurrentTask<'_>, pid: Pid, flags: u32) -> Result<Fd, Errno> {
    if flags & !(NONBLOCK | THREAD) != 0 || pid.0 <= 0 {
        return Err(Errno::EINVAL);
    }
    let found = task.kernel().tasks().get(pid).ok_or(Errno::ESRCH)?;
    let pidfd = match flags & THREAD {
        0 if found.tid() != found.group().pid() => return Err(Errno::EINVAL),
        0 => PidFd::of_process(found.group()),
        _ => PidFd::of_thread(&found),
    };
    let status = if flags & NONBLOCK == 0 { OpenFlags::empty() } else { OpenFlags::NONBLOCK };
    install(task, pidfd.open(status))
}

/// The open file behind a descriptor of a process; `EBADF` for any other.
fn find(task: &CurrentTask<'_>, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
    let file = task.files().get(fd)?;
    if pidfd_of(&file).is_some() { Ok(file) } else { Err(Errno::EBADF) }
}

fn pidfd_of(file: &OpenFile) -> Option<&PidFd> {
    file.file().as_any()?.downcast_ref()
}

/// What an open /proc/PID stands for: signals can be sent by it as if it were a descriptor of the process (tgid_pidfd_to_pid).
fn process_behind(file: &OpenFile) -> Result<Option<PidFd>, Errno> {
    let Some(process) = process_of_directory(file.location().inode().as_ref()) else { return Ok(None) };
    let process = process.upgrade().ok_or(Errno::ESRCH)?;
    Ok(Some(PidFd::of_process(process.group())))
}

/// The process that a descriptor stands for, and whether it is not to be waited for (O_NONBLOCK); `EBADF`.
pub(super) fn process_of(task: &CurrentTask<'_>, fd: Fd) -> Result<(Pid, bool), Errno> {
    let file = find(task, fd)?;
    let pidfd = pidfd_of(&file).ok_or(Errno::EBADF)?;
    // Once it was waited for, its number may be another's.
    let pid = if pidfd.group().is_forgotten() { Pid(0) } else { pidfd.group().pid() };
    Ok((pid, file.flags().contains(OpenFlags::NONBLOCK)))
}

/// Whom a signal is for: PIDFD_SIGNAL_*.
const TO_THREAD: u32 = 1;
const TO_PROCESS: u32 = 2;
const TO_GROUP: u32 = 4;

pub(super) fn pidfd_send_signal(
    task: &CurrentTask<'_>,
    fd: Fd,
    signal: RawSignal,
    info: UserIn<[u8; SIGINFO_SIZE]>,
    flags: u32,
) -> Result<(), Errno> {
    if flags & !(TO_THREAD | TO_PROCESS | TO_GROUP) != 0 || flags.count_ones() > 1 {
        return Err(Errno::EINVAL);
    }
    let file = task.files().get(fd)?;
    let directory = process_behind(&file)?;
    let pidfd = pidfd_of(&file).or(directory.as_ref()).ok_or(Errno::EBADF)?;
    let target = match flags {
        0 if pidfd.is_of_thread() => TO_THREAD,
        0 => TO_PROCESS,
        other => other,
    };
    let own = task.group().pid();
    let given = match info.read_opt(task)? {
        None => None,
        Some(bytes) => {
            let number = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let code = SignalCode(i32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]));
            if !signal.is(number) {
                return Err(Errno::EINVAL);
            }
            let ourselves = pidfd.group().pid() == own && target != TO_GROUP;
            if !ourselves && (code.0 >= 0 || code == SignalCode::SI_TKILL) {
                return Err(Errno::EPERM);
            }
            Some(bytes)
        }
    };
    let found = pidfd.task(task)?;
    let signal = signal.checked_or_zero()?;
    if target == TO_GROUP {
        let jobs = found.group().process_group();
        return super::signals::kill_group(task, jobs, signal);
    }
    super::signals::check_permission(task, &found, signal)?;
    let Some(signal) = signal else { return Ok(()) };
    let code = if target == TO_THREAD { SignalCode::SI_TKILL } else { SignalCode::SI_USER };
    let info = match given {
        Some(bytes) => SigInfo::from_bytes(signal, &bytes),
        None => SigInfo::sent(signal, code, own, task.credentials().uid),
    };
    if target == TO_THREAD { send(&found, Target::Thread, info) } else { send_to_group(found.group(), info) }
}

pub(super) fn pidfd_getfd(task: &CurrentTask<'_>, fd: Fd, wanted: Fd, flags: u32) -> Result<Fd, Errno> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let file = find(task, fd)?;
    let target = pidfd_of(&file).ok_or(Errno::EBADF)?.task(task)?;
    task.may_attach(&target)?;
    let files = target.files().ok_or(Errno::ESRCH)?;
    install(task, files.get_any(wanted)?)
}
