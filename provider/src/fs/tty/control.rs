//! Job control: whose terminal it is, and who may use it now (drivers/tty/tty_jobctrl.c).

use super::Terminal;
use crate::errno::Errno;
use crate::fs::OpenFlags;
use crate::kernel::Kernel;
use crate::signal::send::{self, send_to_process_group};
use crate::signal::{Disposition, SigInfo, Signal};
use crate::task::{CurrentTask, Pid, ThreadGroup};
use crate::user::{UserIn, UserOut};
use linux_raw_sys::ioctl as number;
use std::sync::Arc;
use vmm::addr::UserAddr;

/// CAP_SYS_ADMIN
pub(super) const CAP_SYS_ADMIN: u32 = 21;

/// Whom a terminal belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Control {
    /// The session whose controlling terminal it is.
    pub(crate) session: Option<Pid>,
    /// The process group that may read, and that typed signals go to.
    pub(crate) foreground: Option<Pid>,
}

/// Whether a request came through the terminal itself or through the other side of a pseudo-terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Terminal,
    Outside,
}

/// Tells whether the terminal controls the task's session.
fn is_own(task: &CurrentTask<'_>, terminal: &Terminal) -> bool {
    !task.group().has_left_terminal() && terminal.control().session == Some(task.group().session())
}

/// Lets a task use its terminal only from the foreground (__tty_check_change): from the background it gets `signal`, and
/// `ERESTARTSYS`. A task that ignores or blocks SIGTTOU may go on; one that does so with SIGTTIN, and one of a group that nobody
/// would continue, get `EIO`.
pub(super) fn check_foreground(task: &CurrentTask<'_>, terminal: &Terminal, signal: Signal) -> Result<(), Errno> {
    let own = task.group().process_group();
    let foreground = terminal.control().foreground;
    if !is_own(task, terminal) || foreground.is_none_or(|foreground| foreground == own) {
        return Ok(());
    }
    let ignored = task.group().signals().handlers().get(signal).disposition() == Disposition::Ignore;
    if ignored || task.signals().blocked().contains(signal) {
        return if signal == Signal::SIGTTIN { Err(Errno::EIO) } else { Ok(()) };
    }
    if task.kernel().families().is_orphaned(own) {
        return Err(Errno::EIO);
    }
    // The signal is sent once.
    task.needs_thread()?;
    send_to_process_group(task.kernel(), own, &SigInfo::kernel(signal));
    Err(Errno::ERESTARTSYS)
}

/// Sends a typed signal to the foreground group.
pub(super) fn signal_foreground(kernel: &Kernel, terminal: &Terminal, signals: &[Signal]) {
    let Some(foreground) = terminal.control().foreground else { return };
    for signal in signals {
        send_to_process_group(kernel, foreground, &SigInfo::kernel(*signal));
    }
}

/// Makes the terminal the task's controlling one as it is opened, if the task's session has none and it has no session.
pub(super) fn adopt_on_open(task: &CurrentTask<'_>, terminal: &Terminal, flags: OpenFlags) {
    let leads = task.group().pid() == task.group().session();
    let has_one = task.kernel().terminals().of_task(task).is_some();
    if flags.contains(OpenFlags::NOCTTY) || !flags.reads() || !leads || has_one {
        return;
    }
    let taken = taken_by(task);
    let mut control = terminal.control.lock();
    if control.session.is_none() {
        *control = taken;
        drop(control);
        task.group().take_terminal();
    }
}

fn taken_by(task: &CurrentTask<'_>) -> Control {
    Control { session: Some(task.group().session()), foreground: Some(task.group().process_group()) }
}

/// Serves the job-control requests; `None` for another one. `flags` are those that the descriptor was opened with.
pub(super) fn ioctl(
    task: &CurrentTask<'_>,
    terminal: &Terminal,
    side: Side,
    flags: OpenFlags,
    request: u32,
    arg: u64,
) -> Option<Result<u64, Errno>> {
    if let Err(error) = task.needs_thread() {
        // Most of them may signal the caller's own process, or wait.
        return Some(Err(error));
    }
    let at = UserAddr(arg);
    let result = match request {
        number::TIOCSCTTY => make_controlling(task, terminal, flags, arg == 1),
        number::TIOCNOTTY => give_up(task, terminal, side),
        number::TIOCGPGRP => foreground(task, terminal, side).and_then(|group| UserOut::new(at).write(task, &group.0)),
        number::TIOCSPGRP => set_foreground(task, terminal, at),
        number::TIOCGSID => session(task, terminal, side).and_then(|session| UserOut::new(at).write(task, &session.0)),
        _ => return None,
    };
    Some(result.map(|()| 0))
}

/// TIOCSCTTY (tiocsctty).
fn make_controlling(task: &CurrentTask<'_>, terminal: &Terminal, flags: OpenFlags, steal: bool) -> Result<(), Errno> {
    let group = task.group();
    let (leads, own) = (group.pid() == group.session(), group.session());
    if leads && terminal.control().session == Some(own) {
        return Ok(());
    }
    if !leads || task.kernel().terminals().of_task(task).is_some() {
        return Err(Errno::EPERM);
    }
    let admin = task.credentials().has(CAP_SYS_ADMIN);
    let taken = taken_by(task);
    let mut control = terminal.control.lock();
    if control.session.is_some() && !(steal && admin) {
        return Err(Errno::EPERM);
    }
    if !flags.reads() && !admin {
        return Err(Errno::EPERM);
    }
    *control = taken;
    drop(control);
    group.take_terminal();
    Ok(())
}

/// TIOCNOTTY: a leader's whole session loses the terminal, another process only loses its own sight of it.
fn give_up(task: &CurrentTask<'_>, terminal: &Terminal, side: Side) -> Result<(), Errno> {
    if side == Side::Outside || !is_own(task, terminal) {
        return Err(Errno::ENOTTY);
    }
    if task.group().pid() == task.group().session() {
        let foreground = std::mem::take(&mut *terminal.control.lock()).foreground;
        if let Some(foreground) = foreground {
            send_to_process_group(task.kernel(), foreground, &SigInfo::kernel(Signal::SIGHUP));
            send_to_process_group(task.kernel(), foreground, &SigInfo::kernel(Signal::SIGCONT));
        }
    }
    task.group().leave_terminal();
    Ok(())
}

/// TIOCGPGRP. The other side of a pseudo-terminal may ask whoever's terminal it is.
fn foreground(task: &CurrentTask<'_>, terminal: &Terminal, side: Side) -> Result<Pid, Errno> {
    if side == Side::Terminal && !is_own(task, terminal) {
        return Err(Errno::ENOTTY);
    }
    if terminal.is_lent() {
        // The caller's shell has put another job into the foreground: a group of another pid namespace shows as 0.
        return Ok(Pid(0));
    }
    Ok(terminal.control().foreground.unwrap_or(Pid(0)))
}

/// TIOCGSID.
fn session(task: &CurrentTask<'_>, terminal: &Terminal, side: Side) -> Result<Pid, Errno> {
    if side == Side::Terminal && !is_own(task, terminal) {
        return Err(Errno::ENOTTY);
    }
    terminal.control().session.ok_or(Errno::ENOTTY)
}

/// TIOCSPGRP (tiocspgrp).
fn set_foreground(task: &CurrentTask<'_>, terminal: &Terminal, at: UserAddr) -> Result<(), Errno> {
    match check_foreground(task, terminal, Signal::SIGTTOU) {
        Err(Errno::EIO) => return Err(Errno::ENOTTY),
        other => other?,
    }
    let group = Pid(UserIn::<i32>::new(at).read(task)?);
    if group.0 < 0 {
        return Err(Errno::EINVAL);
    }
    if !is_own(task, terminal) {
        return Err(Errno::ENOTTY);
    }
    let groups = task.kernel().tasks().groups();
    // A number that is a process's and no group's counts as that process's session (session_of_pgrp).
    let member = groups.iter().find(|member| member.process_group() == group);
    let member = member.or_else(|| groups.iter().find(|member| member.pid() == group)).ok_or(Errno::ESRCH)?;
    if member.session() != task.group().session() {
        return Err(Errno::EPERM);
    }
    terminal.control.lock().foreground = Some(group);
    Ok(())
}

/// The terminal is gone (__tty_hangup): its session has none any more, and the session's leader is told.
pub(super) fn hang_up(kernel: &Kernel, terminal: &Terminal) {
    let Control { session: Some(session), foreground } = std::mem::take(&mut *terminal.control.lock()) else { return };
    kernel.terminals().remember_hung_up(session, foreground);
    if let Some(leader) = kernel.tasks().get(session) {
        tell(leader.group(), Signal::SIGHUP);
        tell(leader.group(), Signal::SIGCONT);
    }
}

fn tell(group: &Arc<ThreadGroup>, signal: Signal) {
    // Signals of the kernel's are never refused.
    let _: Result<(), Errno> = send::send_to_group(group, SigInfo::kernel(signal));
}

/// A process ends. With a session's leader its terminal is free again, and who was in the foreground is told (disassociate_ctty).
pub(crate) fn process_exits(kernel: &Kernel, group: &ThreadGroup) {
    let session = group.session();
    if group.pid() != session {
        return;
    }
    let terminals = kernel.terminals();
    let old = terminals.forget_hung_up(session);
    if let Some(terminal) = terminals.controlling(session) {
        let foreground = std::mem::take(&mut *terminal.control.lock()).foreground;
        if let Some(foreground) = foreground {
            send_to_process_group(kernel, foreground, &SigInfo::kernel(Signal::SIGHUP));
        }
    } else if let Some(old) = old {
        send_to_process_group(kernel, old, &SigInfo::kernel(Signal::SIGHUP));
        send_to_process_group(kernel, old, &SigInfo::kernel(Signal::SIGCONT));
    }
}
