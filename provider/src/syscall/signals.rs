//! Signal calls: dispositions, masks, waiting, sending.

use super::Outcome;
use super::args::{Arg, ShownCall};
use super::constants::MaskChange;
use crate::errno::Errno;
use crate::signal::send::{self, Target, may_signal, send, send_to_group};
use crate::signal::{
    ActionFlags, AltStack, Disposition, SIGINFO_SIZE, SigAction, SigInfo, Signal, SignalCode, SignalSet, frame,
};
use crate::task::{CurrentTask, Deadline, NO_CALL, Pid, Task, ThreadGroup, Wake};
use crate::time::Timespec;
use crate::user::{UserIn, UserOut};
use std::fmt::Write;
use std::sync::Arc;
use vmm::addr::UserAddr;
use zerocopy::IntoBytes;

/// A signal's number as a call gets it; the handler decides what numbers it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawSignal(i32);

impl RawSignal {
    /// Tells whether it is this number.
    pub(super) fn is(self, number: i32) -> bool {
        self.0 == number
    }

    /// The signal, or `EINVAL`.
    fn checked(self) -> Result<Signal, Errno> {
        Signal::from_raw(self.0).ok_or(Errno::EINVAL)
    }

    /// As [`Self::checked`], with 0 for the question whether one may be sent.
    pub(super) fn checked_or_zero(self) -> Result<Option<Signal>, Errno> {
        if self.0 == 0 { Ok(None) } else { self.checked().map(Some) }
    }
}

impl Arg for RawSignal {
    fn decode(raw: u64) -> Self {
        Self(i32::decode(raw))
    }
    fn show(call: &ShownCall<'_>, index: usize, out: &mut String) {
        let raw = i32::decode(call.args[index]);
        let _ = match Signal::from_raw(raw) {
            Some(signal) => write!(out, "{signal}"),
            None => write!(out, "{raw}"),
        };
    }
}

/// Bytes of the kernel's signal set.
const SET_SIZE: usize = 8;

fn check_size(size: usize) -> Result<(), Errno> {
    if size == SET_SIZE { Ok(()) } else { Err(Errno::EINVAL) }
}

pub(super) fn rt_sigaction(
    task: &CurrentTask<'_>,
    signal: RawSignal,
    new: UserIn<SigAction>,
    old: UserOut<SigAction>,
    size: usize,
) -> Result<(), Errno> {
    check_size(size)?;
    let new = new.read_opt(task)?;
    let signal = signal.checked()?;
    let group = task.group().signals();
    let Some(mut action) = new else { return old.write_opt(task, &group.handlers().get(signal)) };
    if SignalSet::UNBLOCKABLE.contains(signal) {
        return Err(Errno::EINVAL);
    }
    action.mask = action.mask.blockable();
    action.flags &= ActionFlags::KEPT.bits();
    let before = group.handlers().set(signal, action);
    if group.handlers().ignores(signal) && action.disposition() != Disposition::Handler(UserAddr(action.handler)) {
        // What is ignored from now on must not be delivered by a later change of mind (POSIX 3.3.1.3).
        send::discard(task.group(), SignalSet::of(signal));
    }
    old.write_opt(task, &before)
}

pub(super) fn rt_sigprocmask(
    task: &CurrentTask<'_>,
    how: MaskChange,
    new: UserIn<SignalSet>,
    old: UserOut<SignalSet>,
    size: usize,
) -> Result<(), Errno> {
    check_size(size)?;
    let before = task.signals().blocked();
    if let Some(set) = new.read_opt(task)? {
        let after = match how.0 {
            0 => before | set,
            1 => before & !set,
            2 => set,
            _ => return Err(Errno::EINVAL),
        };
        if task.pending_for_us(!after.blockable()) {
            // A signal that is unblocked is taken before the call returns.
            task.needs_thread()?;
        }
        task.set_blocked(after);
    }
    // The next one may need nobody.
    task.give_mask();
    old.write_opt(task, &before)
}

pub(super) fn rt_sigpending(task: &CurrentTask<'_>, set: UserAddr, size: usize) -> Result<(), Errno> {
    if size > SET_SIZE {
        return Err(Errno::EINVAL);
    }
    let pending = (task.signals().pending() | task.group().signals().pending()) & task.signals().blocked();
    task.mm().write(set, &pending.as_bytes()[..size])
}

pub(super) fn rt_sigsuspend(task: &CurrentTask<'_>, mask: UserIn<SignalSet>, size: usize) -> Result<(), Errno> {
    check_size(size)?;
    let mask = mask.read(task)?;
    task.with_temporary_mask(Some(mask), || sleep_for_signal(task))
}

pub(super) fn pause(task: &CurrentTask<'_>) -> Result<(), Errno> {
    sleep_for_signal(task)
}

/// Sleeps until a signal runs a handler or ends the process.
fn sleep_for_signal(task: &CurrentTask<'_>) -> Result<(), Errno> {
    task.block_until(Deadline::Never, |_| Ok(None::<()>))?;
    Err(Errno::ERESTARTNOHAND)
}

pub(super) fn rt_sigtimedwait(
    task: &CurrentTask<'_>,
    set: UserIn<SignalSet>,
    info: UserOut<[u8; SIGINFO_SIZE]>,
    timeout: UserIn<Timespec>,
    size: usize,
) -> Result<i32, Errno> {
    check_size(size)?;
    let wanted = set.read(task)?.blockable();
    let deadline = match timeout.read_opt(task)? {
        Some(timeout) => Deadline::after(timeout.to_duration()?),
        None => Deadline::Never,
    };
    match task.block_until(deadline, |_| Ok(task.take_signal(wanted)))? {
        Wake::Done(taken) => {
            info.write_opt(task, &taken.to_bytes())?;
            Ok(taken.signal.raw())
        }
        Wake::TimedOut => Err(Errno::EAGAIN),
        Wake::Interrupted => Err(Errno::EINTR),
    }
}

pub(super) fn rt_sigreturn(task: &mut CurrentTask<'_>) -> Result<Outcome, Errno> {
    frame::pop(task);
    task.watch_on();
    // What the frame restores is no call's result.
    task.original = NO_CALL;
    Ok(Outcome::Resume)
}

pub(super) fn sigaltstack(task: &CurrentTask<'_>, new: UserIn<AltStack>, old: UserOut<AltStack>) -> Result<(), Errno> {
    let sp = task.frame.registers.rsp;
    let new = new.read_opt(task)?;
    let before = task.signals().alt_stack().report(sp);
    if let Some(new) = new {
        task.set_alt_stack(&new)?;
    }
    old.write_opt(task, &before)
}

pub(super) fn restart_syscall(task: &CurrentTask<'_>) -> Result<Outcome, Errno> {
    match task.take_restart() {
        Some(restart) => restart(task),
        None => Err(Errno::EINTR),
    }
}

/// Checks that the caller may signal a process, and sends (group_send_sig_info).
fn send_checked(task: &CurrentTask<'_>, group: &Arc<ThreadGroup>, signal: Option<Signal>) -> Result<(), Errno> {
    // A zombie has credentials still; it takes any signal and does nothing.
    let leader = group.threads().first().cloned().or_else(|| task.kernel().tasks().get(group.pid()));
    if let Some(target) = leader {
        check_permission(task, &target, signal)?;
    }
    let Some(signal) = signal else { return Ok(()) };
    send_to_group(group, SigInfo::sent(signal, SignalCode::SI_USER, task.group().pid(), task.credentials().uid))
}

pub(super) fn check_permission(task: &CurrentTask<'_>, target: &Task, signal: Option<Signal>) -> Result<(), Errno> {
    let same_process = target.group().pid() == task.group().pid();
    let continues = signal == Some(Signal::SIGCONT) && target.group().session() == task.group().session();
    if same_process || continues || may_signal(&task.credentials(), &target.credentials()) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

pub(super) fn kill(task: &CurrentTask<'_>, pid: Pid, signal: RawSignal) -> Result<(), Errno> {
    let wanted: Box<dyn Fn(&ThreadGroup) -> bool> = match pid.0 {
        1.. => {
            let found = task.kernel().tasks().get(pid).ok_or(Errno::ESRCH)?;
            let signal = signal.checked_or_zero()?;
            // A thread's number names its process.
            return send_checked(task, found.group(), signal);
        }
        0 => {
            let own = task.group().process_group();
            Box::new(move |group| group.process_group() == own)
        }
        -1 => {
            let own = task.group().pid();
            Box::new(move |group| group.pid() != own && group.pid() != crate::kernel::INIT)
        }
        i32::MIN => return Err(Errno::ESRCH),
        other => Box::new(move |group| group.process_group().0 == -other),
    };
    let results = task.kernel().families().for_those(wanted, |group| {
        let signal = signal.checked_or_zero()?;
        send_checked(task, group, signal)
    });
    let refused = results.iter().all(|result| *result == Err(Errno::EPERM));
    match results.last() {
        None => Err(Errno::ESRCH),
        // All processes there are: those that may not be signalled do not count (kill_something_info).
        Some(_) if pid.0 == -1 && refused => Ok(()),
        // One that was reached is enough; else the last error counts.
        Some(_) if results.iter().any(Result::is_ok) => Ok(()),
        Some(last) => *last,
    }
}

/// Sends a signal to a process group.
pub(super) fn kill_group(task: &CurrentTask<'_>, jobs: Pid, signal: Option<Signal>) -> Result<(), Errno> {
    let in_group = |group: &ThreadGroup| group.process_group() == jobs;
    let results = task.kernel().families().for_those(in_group, |group| send_checked(task, group, signal));
    if results.iter().any(Result::is_ok) { Ok(()) } else { results.last().copied().unwrap_or(Err(Errno::ESRCH)) }
}

pub(super) fn tkill(task: &CurrentTask<'_>, tid: Pid, signal: RawSignal) -> Result<(), Errno> {
    if tid.0 <= 0 {
        return Err(Errno::EINVAL);
    }
    send_to_thread(task, None, tid, signal)
}

pub(super) fn tgkill(task: &CurrentTask<'_>, pid: Pid, tid: Pid, signal: RawSignal) -> Result<(), Errno> {
    if pid.0 <= 0 || tid.0 <= 0 {
        return Err(Errno::EINVAL);
    }
    send_to_thread(task, Some(pid), tid, signal)
}

fn find_thread(task: &CurrentTask<'_>, pid: Option<Pid>, tid: Pid) -> Result<Arc<Task>, Errno> {
    let found = task.kernel().tasks().get(tid).ok_or(Errno::ESRCH)?;
    if pid.is_some_and(|pid| found.group().pid() != pid) { Err(Errno::ESRCH) } else { Ok(found) }
}

fn send_to_thread(task: &CurrentTask<'_>, pid: Option<Pid>, tid: Pid, signal: RawSignal) -> Result<(), Errno> {
    let target = find_thread(task, pid, tid)?;
    let signal = signal.checked_or_zero()?;
    check_permission(task, &target, signal)?;
    let Some(signal) = signal else { return Ok(()) };
    let info = SigInfo::sent(signal, SignalCode::SI_TKILL, task.group().pid(), task.credentials().uid);
    send(&target, Target::Thread, info)
}

/// Reads what rt_sigqueueinfo sends; only a process itself may pretend that the kernel or kill sent it.
fn queued_info(
    task: &CurrentTask<'_>,
    pid: Pid,
    signal: RawSignal,
    info: UserIn<[u8; SIGINFO_SIZE]>,
) -> Result<Option<SigInfo>, Errno> {
    let bytes = info.read(task)?;
    let code = SignalCode(i32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]));
    if (code.0 >= 0 || code == SignalCode::SI_TKILL) && pid != task.group().pid() {
        return Err(Errno::EPERM);
    }
    Ok(signal.checked_or_zero()?.map(|signal| SigInfo::from_bytes(signal, &bytes)))
}

pub(super) fn rt_sigqueueinfo(
    task: &CurrentTask<'_>,
    pid: Pid,
    signal: RawSignal,
    info: UserIn<[u8; SIGINFO_SIZE]>,
) -> Result<(), Errno> {
    let info = queued_info(task, pid, signal, info)?;
    let target = task.kernel().tasks().get(pid).ok_or(Errno::ESRCH)?;
    check_permission(task, &target, info.as_ref().map(|info| info.signal))?;
    info.map_or(Ok(()), |info| send_to_group(target.group(), info))
}

pub(super) fn rt_tgsigqueueinfo(
    task: &CurrentTask<'_>,
    pid: Pid,
    tid: Pid,
    signal: RawSignal,
    info: UserIn<[u8; SIGINFO_SIZE]>,
) -> Result<(), Errno> {
    if pid.0 <= 0 || tid.0 <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = queued_info(task, pid, signal, info)?;
    let target = find_thread(task, Some(pid), tid)?;
    check_permission(task, &target, info.as_ref().map(|info| info.signal))?;
    info.map_or(Ok(()), |info| send(&target, Target::Thread, info))
}
