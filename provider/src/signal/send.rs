//! Sending signals: who may, what is dropped at once, and whom it wakes.

use super::{AltStack, DefaultAction, SigInfo, Signal, SignalSet};
use crate::errno::Errno;
use crate::fs::Ready;
use crate::kernel::Kernel;
use crate::task::{Credentials, CurrentTask, Pid, Resource, Task, ThreadGroup};
use std::sync::Arc;

/// What a signal is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One thread: tgkill, exceptions.
    Thread,
    /// Any thread of the process: kill, timers.
    Process,
}

/// CAP_KILL
const CAP_KILL: u32 = 5;

/// Tells whether `sender` may signal a task with these credentials (kill_ok_by_cred); SIGCONT within a session is the caller's.
pub fn may_signal(sender: &Credentials, target: &Credentials) -> bool {
    let ours = [sender.euid, sender.uid];
    ours.iter().any(|uid| *uid == target.suid || *uid == target.uid) || sender.has(CAP_KILL)
}

/// Sends a signal. `EAGAIN` if a queued one (sigqueue, a timer) finds the sender's queue full; others always arrive.
///
/// A signal that the process ignores and does not block is dropped here, as Linux does, so that it wakes nobody.
pub fn send(task: &Arc<Task>, target: Target, info: SigInfo) -> Result<(), Errno> {
    let signal = info.signal;
    prepare(task.group(), signal);
    let result = queue(task, target, info);
    // Only now: a thread that goes on finds the signal that it goes on for.
    if matches!(signal, Signal::SIGCONT | Signal::SIGKILL) {
        task.group().continue_all(signal);
    }
    result
}

fn queue(task: &Arc<Task>, target: Target, info: SigInfo) -> Result<(), Errno> {
    let group = task.group();
    let signal = info.signal;
    let blocked = task.signals().blocked().contains(signal);
    // A tracer sees what its tracee ignores, too.
    let hidden = !task.tracee().is_traced() || signal == Signal::SIGKILL;
    if !blocked && hidden && group.signals().handlers().ignores(signal) {
        return Ok(());
    }
    let limit = group.limits().soft(Resource::PendingSignals);
    let queued = task.signals().queued() + group.signals().queued();
    let full = u64::try_from(queued).is_ok_and(|queued| queued >= limit);
    let explicit = info.code.0 < 0 && signal.is_real_time();
    if full && explicit {
        return Err(Errno::EAGAIN);
    }
    let push = |pending: &mut super::Pending| if full { pending.push_bare(signal) } else { pending.push(info) };
    match target {
        Target::Thread => push(&mut task.signals().state().pending),
        Target::Process => group.signals().with_pending(push),
    }
    match target {
        Target::Thread => {
            task.take_mask_back();
            notify(task);
        }
        Target::Process => notify_group(group, signal),
    }
    task.kernel().signal_arrivals().wake(Ready::IN);
    Ok(())
}

/// Sends a timer's signal, which queues whatever else is pending. Answers whether it did: `false` if the signal is ignored.
pub(crate) fn send_timer(task: &Arc<Task>, target: Target, info: SigInfo) -> bool {
    let group = task.group();
    let signal = info.signal;
    prepare(group, signal);
    if signal == Signal::SIGCONT {
        group.continue_all(signal);
    }
    if !task.signals().blocked().contains(signal) && group.signals().handlers().ignores(signal) {
        return false;
    }
    match target {
        Target::Thread => {
            task.signals().state().pending.push_again(info);
            task.take_mask_back();
            notify(task);
        }
        Target::Process => {
            group.signals().with_pending(|pending| pending.push_again(info));
            notify_group(group, signal);
        }
    }
    task.kernel().signal_arrivals().wake(Ready::IN);
    true
}

/// Sends a signal to a process.
pub fn send_to_group(group: &Arc<ThreadGroup>, info: SigInfo) -> Result<(), Errno> {
    match group.threads().first() {
        Some(task) => send(task, Target::Process, info),
        // A zombie: the signal is accepted and lost.
        None => Ok(()),
    }
}

/// Sends a signal to every process of a group, none of which can be asked for permission.
pub(crate) fn send_to_process_group(kernel: &Kernel, process_group: Pid, info: &SigInfo) {
    let in_group = |group: &ThreadGroup| group.process_group() == process_group;
    // The kernel's own signals are never refused.
    let _results = kernel.families().for_those(in_group, |group| send_to_group(group, info.clone()));
}

/// The first side effect of sending (prepare_signal): stop and continue signals cancel each other. The other is that SIGCONT and
/// SIGKILL let a stopped process go on whatever its disposition.
fn prepare(group: &Arc<ThreadGroup>, signal: Signal) {
    let stops = [Signal::SIGSTOP, Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];
    let stops = stops.into_iter().fold(SignalSet::EMPTY, SignalSet::with);
    let cancelled = match (signal, DefaultAction::of(signal)) {
        (Signal::SIGCONT, _) => stops,
        (_, DefaultAction::Stop) => SignalSet::of(Signal::SIGCONT),
        _ => SignalSet::EMPTY,
    };
    if !cancelled.is_empty() {
        discard(group, cancelled);
    }
}

/// Drops signals that are pending for a process or one of its threads.
pub fn discard(group: &ThreadGroup, signals: SignalSet) {
    group.signals().with_pending(|pending| pending.discard(signals));
    for thread in group.threads() {
        thread.signals().state().pending.discard(signals);
    }
}

/// Makes a task look at its signals: kicks it out of user mode, or wakes it.
pub fn notify(task: &Task) {
    task.signals().raise_attention();
    task.parker().wake();
    if task.signals().is_in_user_mode() {
        task.kick();
    } else {
        task.kernel().statistics().spared_signal();
    }
}

/// Makes a thread that would take the signal look at it: the first that does not block it. All look at SIGKILL.
fn notify_group(group: &ThreadGroup, signal: Signal) {
    let threads = group.threads();
    threads.iter().for_each(|thread| thread.take_mask_back());
    if signal == Signal::SIGKILL {
        threads.iter().for_each(|thread| notify(thread));
        return;
    }
    let taker = threads.iter().find(|thread| !thread.signals().blocked().contains(signal));
    // If all block it, each looks as soon as it unblocks it; sigtimedwait and signalfd sleep on their own.
    match taker {
        Some(thread) => notify(thread),
        None => threads.iter().for_each(|thread| thread.parker().wake()),
    }
}

impl CurrentTask<'_> {
    /// Sends this thread a signal that it cannot escape (force_sig_info): blocked or ignored, it kills.
    pub fn force_signal(&self, info: SigInfo) {
        let signal = info.signal;
        let handlers = self.group().signals().handlers();
        let mut state = self.signals().state();
        let mask = self.signals().blocked();
        let blocked = mask.contains(signal);
        if blocked || handlers.get(signal).handler == super::SigAction::IGNORE {
            handlers.set(signal, super::SigAction::default());
            self.signals().replace_blocked(mask.without(signal));
        }
        state.pending.push(info);
        drop(state);
        // Another handler may come first, and block it meanwhile.
        self.take_mask_back();
        self.signals().raise_attention();
    }

    /// Sends this thread a signal that ends its process (force_sig_info with HANDLER_EXIT), whatever it does on such signals.
    pub(crate) fn force_fatal_signal(&self, info: SigInfo) {
        self.group().signals().handlers().set(info.signal, super::SigAction::default());
        self.force_signal(info);
    }

    /// A signal frame could not be written: SIGSEGV, which kills if it was SIGSEGV's own frame (force_sigsegv).
    pub(super) fn force_segv_for_frame(&self, failed: Signal) {
        if failed == Signal::SIGSEGV {
            self.group().signals().handlers().set(failed, super::SigAction::default());
        }
        self.force_signal(SigInfo::kernel(Signal::SIGSEGV));
    }

    /// Sets the alternate stack (sigaltstack).
    pub(crate) fn set_alt_stack(&self, new: &AltStack) -> Result<(), Errno> {
        let sp = self.frame.registers.rsp;
        self.signals().state().alt_stack.replace(new, sp)
    }

    /// Sends this thread an ordinary signal of the kernel's, such as SIGPIPE and SIGXFSZ.
    pub fn raise(&self, signal: Signal) {
        // A standard signal is never refused.
        let _ = send(self.task(), Target::Thread, SigInfo::kernel(signal));
    }
}
