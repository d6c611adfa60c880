//! The end of threads and processes, and waiting for it.

use super::handler::Never;
use super::limits::RawUsage;
use super::pidfd::process_of;
use crate::errno::Errno;
use crate::fs::Fd;
use crate::signal::{Signal, SignalCode};
use crate::task::{ChildState, CurrentTask, ExitStatus, Found, Pid, WaitFor, WaitOptions};
use crate::user::UserOut;
use vmm::addr::UserAddr;
use zerocopy::IntoBytes;

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

/// `struct rusage` of a child, unless nobody asks.
fn write_usage(task: &CurrentTask<'_>, at: UserAddr, found: Option<&Found>) -> Result<(), Errno> {
    match found {
        Some(found) if at.0 != 0 => UserOut::new(at).write(task, &RawUsage::of(&found.usage, 0)),
        _ => Ok(()),
    }
}

pub(super) fn wait4(
    task: &CurrentTask<'_>,
    pid: i32,
    status: UserOut<i32>,
    options: u32,
    usage: UserAddr,
) -> Result<Pid, Errno> {
    let allowed = WaitOptions::NO_HANG
        | WaitOptions::STOPPED
        | WaitOptions::CONTINUED
        | WaitOptions::NO_THREAD
        | WaitOptions::ALL
        | WaitOptions::CLONE;
    let options = WaitOptions::from_bits(options).filter(|options| allowed.contains(*options)).ok_or(Errno::EINVAL)?;
    let which = match pid {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => WaitFor::Any,
        0 => WaitFor::Group(task.group().process_group()),
        1.. => WaitFor::Process(Pid(pid)),
        _ => WaitFor::Group(Pid(-pid)),
    };
    let found = task.wait_for_child(which, options | WaitOptions::EXITED)?;
    // As on Linux the child is gone even if its status cannot be written.
    if let Some(found) = &found {
        status.write_opt(task, &found.state.to_wait_status())?;
    }
    write_usage(task, usage, found.as_ref())?;
    Ok(found.map_or(Pid(0), |found| found.pid))
}

const P_ALL: i32 = 0;
const P_PID: i32 = 1;
const P_PGID: i32 = 2;
const P_PIDFD: i32 = 3;

pub(super) fn waitid(
    task: &CurrentTask<'_>,
    which: i32,
    id: i32,
    info: UserAddr,
    options: u32,
    usage: UserAddr,
) -> Result<(), Errno> {
    let options = WaitOptions::from_bits(options).ok_or(Errno::EINVAL)?;
    if !options.intersects(WaitOptions::EXITED | WaitOptions::STOPPED | WaitOptions::CONTINUED) {
        return Err(Errno::EINVAL);
    }
    let mut unless_ready = false;
    let which = match (which, id) {
        (P_ALL, _) => WaitFor::Any,
        (P_PID, 1..) => WaitFor::Process(Pid(id)),
        (P_PGID, 0) => WaitFor::Group(task.group().process_group()),
        (P_PGID, 1..) => WaitFor::Group(Pid(id)),
        (P_PIDFD, 0..) => {
            let (pid, no_hang) = process_of(task, Fd(id))?;
            unless_ready = no_hang && !options.contains(WaitOptions::NO_HANG);
            WaitFor::Process(pid)
        }
        _ => return Err(Errno::EINVAL),
    };
    let hang = if unless_ready { options | WaitOptions::NO_HANG } else { options };
    let found = task.wait_for_child(which, hang)?;
    if unless_ready && found.is_none() {
        return Err(Errno::EAGAIN);
    }
    write_usage(task, usage, found.as_ref())?;
    if info.0 != 0 {
        write_info(task, info, found.as_ref())?;
    }
    Ok(())
}

/// Writes the fields of `siginfo_t` that waitid sets, and no others; zeros if nothing was found.
fn write_info(task: &CurrentTask<'_>, at: UserAddr, found: Option<&Found>) -> Result<(), Errno> {
    let mut head = [0_i32; 3];
    let mut child = [0_i32; 3];
    if let Some(found) = found {
        let (code, status) = match found.state {
            ChildState::Ended(status) => status.to_child_info(),
            ChildState::Stopped(signal) => (SignalCode::CLD_STOPPED, signal.raw()),
            ChildState::Trapped(code) => (SignalCode::CLD_TRAPPED, code),
            ChildState::Continued => (SignalCode::CLD_CONTINUED, Signal::SIGCONT.raw()),
        };
        head = [Signal::SIGCHLD.raw(), 0, code.0];
        child = [found.pid.0, found.uid.cast_signed(), status];
    }
    task.mm().write(at, head.as_bytes())?;
    // The union, on an eight-byte boundary.
    task.mm().write(UserAddr(at.0.wrapping_add(16)), child.as_bytes())
}
