//! Delivery: what happens to pending signals as a task is about to return to user mode.

use super::frame::{self, FrameError};
use super::{ActionFlags, DefaultAction, Disposition, SigAction, SigInfo, Signal, SignalSet};
use crate::errno::Errno;
use crate::task::{CurrentTask, ExitStatus, NO_CALL};

/// How the task goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// No register but what the call itself set has changed.
    Nothing,
    /// The registers were rewritten: a handler's frame, or a restarted call.
    Registers,
    /// A signal has ended the process.
    Exit,
}

/// The call that a signal may have interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptedCall {
    /// Its number, which `rax` has again when it is restarted.
    pub number: u64,
    /// The restart error it ended with.
    pub error: Errno,
}

impl InterruptedCall {
    /// The call that the registers say was interrupted, if they do.
    fn in_registers(task: &CurrentTask<'_>) -> Option<Self> {
        let number = task.original;
        let error = Errno::restart_in(task.frame.registers.rax)?;
        (number != NO_CALL).then_some(Self { number, error })
    }
}

/// Bytes in the SYSCALL instruction.
const SYSCALL_LEN: u64 = 2;

impl CurrentTask<'_> {
    /// Takes pending signals: runs default actions and builds handlers' frames until nothing is left (get_signal and
    /// arch_do_signal_or_restart). `interrupted` is the call that ended with a restart error, if one did.
    pub fn deliver_signals(&mut self, mut interrupted: Option<InterruptedCall>) -> Delivery {
        let mut delivery = Delivery::Nothing;
        loop {
            self.signals().clear_attention();
            self.wait_while_stopped();
            if self.is_dismissed() && self.group().exit_requested().is_none() {
                self.leave_last_words();
                self.exit_thread(ExitStatus::Exited(0));
                return Delivery::Exit;
            }
            let Some(status) = self.group().exit_requested() else {
                let next = self.next_handler();
                if std::mem::take(&mut self.registers_changed) {
                    // What the tracer left in the registers says whether there is a call to restart.
                    delivery = Delivery::Registers;
                    interrupted = InterruptedCall::in_registers(self);
                }
                match next {
                    Next::Handler(info, action) => {
                        delivery = Delivery::Registers;
                        if let Some(call) = interrupted.take() {
                            self.finish_call(call, &action);
                        }
                        self.hide_step();
                        self.run_handler(&info, &action);
                        self.original = NO_CALL;
                        self.stop_for_step();
                        continue;
                    }
                    Next::Killed(info) => {
                        let dumps = DefaultAction::of(info.signal) == DefaultAction::Core;
                        let status = if dumps { self.dump_core(&info) } else { ExitStatus::Signaled(info.signal) };
                        self.exit_process(status);
                        return Delivery::Exit;
                    }
                    Next::Nothing => break,
                }
            };
            self.exit_process(status);
            return Delivery::Exit;
        }
        if self.registers_changed {
            delivery = Delivery::Registers;
            interrupted = InterruptedCall::in_registers(self);
            self.registers_changed = false;
        }
        self.forget_stepping();
        if let Some(call) = interrupted {
            self.restart_call(call);
            delivery = Delivery::Registers;
        }
        // No handler's frame has saved the mask that a temporary one replaced, so it comes back here.
        let saved = self.signals().state().saved_mask.take();
        if let Some(saved) = saved {
            self.set_blocked(saved);
        }
        delivery
    }

    /// Takes pending signals until one needs a handler or ends the process.
    fn next_handler(&mut self) -> Next {
        loop {
            let wanted = !self.signals().blocked();
            let Some(mut info) = self.take_signal(wanted) else { return Next::Nothing };
            if self.tracee().is_traced() && info.signal != Signal::SIGKILL {
                match self.show_signal(info) {
                    Some(shown) => info = shown,
                    None if self.is_killed() => return Next::Nothing,
                    None => continue,
                }
            }
            let signal = info.signal;
            let action = self.group().signals().handlers().take(signal);
            self.trace_signal(&info);
            match action.disposition() {
                Disposition::Ignore => {}
                Disposition::Handler(_) => return Next::Handler(info, action),
                Disposition::Default => match DefaultAction::of(signal) {
                    DefaultAction::Ignore | DefaultAction::Continue => {}
                    // Nobody would continue it.
                    DefaultAction::Stop if signal != Signal::SIGSTOP && self.is_orphan() => {}
                    DefaultAction::Stop => self.stop(signal),
                    DefaultAction::Terminate | DefaultAction::Core => return Next::Killed(info),
                },
            }
        }
    }

    /// Settles an interrupted call before its handler runs (handle_signal): it fails with EINTR, or is restarted after the handler.
    fn finish_call(&mut self, call: InterruptedCall, action: &SigAction) {
        let restart = match call.error {
            Errno::ERESTARTSYS => action.flags().contains(ActionFlags::RESTART),
            Errno::ERESTARTNOINTR => true,
            _ => false,
        };
        if restart {
            self.rewind(call.number);
        } else {
            self.frame.registers.rax = Errno::EINTR.to_return();
        }
    }

    /// Restarts an interrupted call for which no handler runs.
    fn restart_call(&mut self, call: InterruptedCall) {
        match call.error {
            Errno::ERESTART_RESTARTBLOCK => self.rewind(u64::from(linux_raw_sys::general::__NR_restart_syscall)),
            _ => self.rewind(call.number),
        }
    }

    /// Puts the thread back at its SYSCALL instruction.
    fn rewind(&mut self, number: u64) {
        let registers = &mut self.frame.registers;
        registers.rax = number;
        registers.rip = registers.rip.wrapping_sub(SYSCALL_LEN);
    }

    /// Builds a handler's frame and blocks what its action says; a frame that cannot be written is a SIGSEGV.
    fn run_handler(&mut self, info: &SigInfo, action: &SigAction) {
        match frame::push(self, info, action) {
            Ok(()) => {
                let mut blocked = self.signals().blocked() | action.mask;
                if !action.flags().contains(ActionFlags::NODEFER) {
                    blocked = blocked.with(info.signal);
                }
                self.signals().state().saved_mask = None;
                self.set_blocked(blocked);
            }
            Err(FrameError) => self.force_segv_for_frame(info.signal),
        }
    }

    /// Replaces the blocked mask; what it unblocks is delivered before the next instruction of the program.
    pub fn set_blocked(&self, mask: SignalSet) {
        self.signals().replace_blocked(mask);
        if self.pending_for_us(!mask.blockable()) {
            self.signals().raise_attention();
        }
    }

    /// Sees what the mask lets through that the thread may have changed by itself.
    pub(crate) fn look_behind_mask(&self) {
        if self.pending_for_us(!self.signals().blocked()) {
            self.signals().raise_attention();
        }
    }

    /// Runs `wait` with another mask, as sigsuspend and ppoll do. If a signal ended the wait with a restart error, the new mask
    /// stays until the signal's frame is built, which saves the old one; otherwise the old comes back at once.
    pub fn with_temporary_mask<T>(
        &self,
        mask: Option<SignalSet>,
        wait: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let Some(mask) = mask else { return wait() };
        // A signal that comes meanwhile may count on the mask.
        self.needs_thread()?;
        let old = self.signals().blocked();
        self.set_blocked(mask);
        let result = wait();
        if result.as_ref().err().is_some_and(|error| error.is_restart() || *error == Errno::EINTR) {
            self.signals().state().saved_mask = Some(old);
        } else {
            self.set_blocked(old);
        }
        result
    }
}

/// What the next pending signal asks for.
enum Next {
    Handler(SigInfo, SigAction),
    Killed(SigInfo),
    Nothing,
}
