//! The tracee's side: standing still (ptrace_stop in kernel/signal.c).

use super::registers::{Snapshot, TF};
use super::{EVENT_STOP, Event, Onward, Options, Order, Stop, StopKind, TraceeState};
use crate::signal::send::{self, Target};
use crate::signal::{Detail, SigInfo, Signal, SignalCode};
use crate::task::{CurrentTask, Pid, Task, Work};
use std::sync::Arc;

/// What a tracer is told by PTRACE_GETEVENTMSG in a stop at a call (PTRACE_EVENTMSG_SYSCALL_*).
const AT_ENTRY: u64 = 1;
const AT_EXIT: u64 = 2;
/// The bit that PTRACE_O_TRACESYSGOOD adds to SIGTRAP.
const SYSGOOD_BIT: i32 = 0x80;

/// What came of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resumed {
    /// The signal that the tracer gave.
    pub(crate) signal: Option<Signal>,
    /// How the task goes on; `None` if there was no stop, or it was killed in it.
    pub(crate) onward: Option<Onward>,
}

impl Task {
    /// Makes a tracee stop as soon as it can, whatever it does (JOBCTL_TRAP_STOP).
    pub(crate) fn trap_for_tracer(self: &Arc<Self>) {
        self.tracee().lock().trap = true;
        send::notify(self);
    }

    /// Ends a tracee's stop. Answers `false` if it does not stand still any more.
    pub(crate) fn resume_tracee(&self, onward: Onward, signal: Option<Signal>) -> bool {
        {
            let mut state = self.tracee().lock();
            let Some(stop) = state.stop.take() else { return false };
            let info = stop.info.filter(|info| Some(info.signal) == signal);
            state.order = Some(Order { onward, signal, snapshot: stop.snapshot, info });
        }
        self.parker().wake();
        true
    }

    /// A group stop has begun or ended: a tracee tells its tracer once more.
    pub(crate) fn group_stop_changed(&self, begins: bool) {
        if !self.tracee().is_traced() {
            return;
        }
        {
            let mut state = self.tracee().lock();
            state.seen_stop = false;
            state.trap |= state.seized && !begins;
            end_listening(&mut state);
        }
        send::notify(self);
    }

    /// PTRACE_INTERRUPT: a seized tracee stops as soon as it can, and one that listens stops anew.
    pub(crate) fn interrupt_tracee(&self) {
        {
            let mut state = self.tracee().lock();
            state.trap = true;
            end_listening(&mut state);
        }
        send::notify(self);
    }

    /// A tracee has begun to listen: what came between is news already.
    pub(crate) fn tell_listener(&self) {
        {
            let mut state = self.tracee().lock();
            if !state.trap {
                return;
            }
            end_listening(&mut state);
        }
        send::notify(self);
    }
}

/// Lets a tracee that only listens go, so that it stops anew and tells.
fn end_listening(state: &mut TraceeState) {
    if state.stop.as_ref().is_some_and(|stop| stop.listening) {
        let end = |stop: Stop| Order { onward: Onward::Freely, signal: None, snapshot: stop.snapshot, info: None };
        state.order = state.stop.take().map(end);
    }
}

impl CurrentTask<'_> {
    /// Information as ptrace_notify makes it: sent by the task itself, with the stop's code.
    fn trap_info(&self, code: i32) -> SigInfo {
        let detail = Detail::Sender { pid: self.tid(), uid: self.credentials().uid };
        SigInfo { signal: Signal::SIGTRAP, errno: 0, code: SignalCode(code), detail }
    }

    /// Whether the task will not stop for this, or no longer: it is killed. A task that ends anyway still tells that it does.
    fn is_over_for(&self, kind: StopKind) -> bool {
        match kind {
            StopKind::Event(Event::Exit) => self.has_kill_pending(),
            _ => self.is_killed(),
        }
    }

    /// Stands still until the tracer lets the task go on, the tracer goes, or the task is killed.
    fn stand_still(&mut self, code: i32, kind: StopKind, info: Option<SigInfo>, message: Option<u64>) -> Option<Order> {
        let stepping = self.tracee().lock().stepping;
        let snapshot = Snapshot::take(self, stepping);
        if self.is_over_for(kind) {
            return None;
        }
        let tracer = {
            let mut state = self.tracee().lock();
            let tracer = state.tracer?;
            if let Some(message) = message {
                state.message = message;
            }
            state.trap = false;
            state.order = None;
            state.stop = Some(Stop { code, kind, info, snapshot, told: false, listening: false });
            tracer
        };
        let seized = self.tracee().lock().seized;
        let why = if kind == StopKind::Group && !seized { SignalCode::CLD_STOPPED } else { SignalCode::CLD_TRAPPED };
        super::bonds::tell(self.kernel(), tracer, self.task(), why, code & 0x7f);
        let task = self.task().clone();
        self.sleep_until(|| task.tracee().has_order() || self.is_over_for(kind));
        let mut state = self.tracee().lock();
        // Killed: the registers do not matter any more.
        state.stop = None;
        state.order.take()
    }

    /// As [`Self::stand_still`], and goes on as ordered.
    fn stop_for_tracer(
        &mut self,
        code: i32,
        kind: StopKind,
        info: Option<SigInfo>,
        message: Option<u64>,
    ) -> (Resumed, Option<SigInfo>) {
        let Some(order) = self.stand_still(code, kind, info, message) else {
            return (Resumed { signal: None, onward: None }, None);
        };
        order.snapshot.load(self);
        self.registers_changed = true;
        let (steps, work) = match order.onward {
            Onward::Freely => (false, Work::empty()),
            Onward::ToCall => (false, Work::TRACE_CALLS),
            Onward::Step => (true, Work::STEP),
            Onward::Emulate => (false, Work::EMULATE_CALLS),
            Onward::EmulateStep => (true, Work::EMULATE_CALLS | Work::STEP),
        };
        self.replace_work(Work::TRACE_CALLS | Work::EMULATE_CALLS | Work::STEP, work);
        // A trap flag of the program's own is not the tracer's to take away.
        self.tracee().lock().stepping = steps && self.frame.registers.rflags & TF == 0;
        if steps {
            self.frame.registers.rflags |= TF;
        }
        self.load_debug_registers();
        self.watch_on();
        (Resumed { signal: order.signal, onward: Some(order.onward) }, order.info)
    }

    /// Stops before (`at_entry`) or after a call, and sends the signal that the tracer gave (ptrace_report_syscall).
    /// `None` if the task was killed meanwhile.
    pub(crate) fn stop_at_call(&mut self, kind: StopKind) -> Option<Onward> {
        let good = self.tracee().lock().options.contains(Options::SYSGOOD);
        let code = Signal::SIGTRAP.raw() | if good { SYSGOOD_BIT } else { 0 };
        let message = if kind == StopKind::CallEntry { AT_ENTRY } else { AT_EXIT };
        let info = self.trap_info(code);
        let (resumed, _) = self.stop_for_tracer(code, kind, Some(info), Some(message));
        self.receive(resumed.signal);
        if self.is_killed() { None } else { resumed.onward }
    }

    /// Sends the task what its tracer gave it in a stop that was about something else.
    fn receive(&self, signal: Option<Signal>) {
        if let Some(signal) = signal {
            // From the kernel to itself: never refused.
            let _ = send::send(self.task(), Target::Thread, SigInfo::kernel(signal));
        }
    }

    /// Tells the tracer of an event, if it asked (ptrace_event). Answers whether it stopped for it.
    pub(crate) fn stop_for_event(&mut self, event: Event, message: u64) -> bool {
        if !self.tracee().wants(event) {
            return false;
        }
        let code = Signal::SIGTRAP.raw() | event.number() << 8;
        let info = self.trap_info(code);
        self.stop_for_tracer(code, StopKind::Event(event), Some(info), Some(message));
        true
    }

    /// Shows the tracer a signal that is about to be delivered, and returns what is delivered instead (ptrace_signal).
    pub(crate) fn show_signal(&mut self, info: SigInfo) -> Option<SigInfo> {
        let tracer = self.tracee().tracer();
        let code = info.signal.raw();
        let (resumed, kept) = self.stop_for_tracer(code, StopKind::Signal, Some(info.clone()), Some(0));
        if resumed.onward.is_none() {
            return if self.is_killed() { None } else { Some(info) };
        }
        let signal = resumed.signal?;
        let info = kept.unwrap_or_else(|| {
            // The tracer's own: as if it had sent it.
            let pid = tracer.map_or(Pid(0), |tracer| tracer.process);
            let uid = self.kernel().tasks().get(pid).map_or(0, |task| task.credentials().uid);
            SigInfo::sent(signal, SignalCode::SI_USER, pid, uid)
        });
        if self.signals().blocked().contains(signal) {
            // It waits until it is unblocked.
            let _ = send::send(self.task(), Target::Thread, info);
            return None;
        }
        Some(info)
    }

    /// Before a handler's frame is built: the trap flag in it is to be the program's own.
    pub(crate) fn hide_step(&mut self) {
        if self.tracee().is_stepping() {
            self.frame.registers.rflags &= !TF;
        }
    }

    /// Stops where a handler is about to start, if the tracer steps (signal_setup_done).
    pub(crate) fn stop_for_step(&mut self) {
        if !self.work().contains(Work::STEP) {
            self.watch_on();
            return;
        }
        self.frame.registers.rflags &= !TF;
        self.tracee().lock().stepping = false;
        let code = Signal::SIGTRAP.raw();
        let info = self.trap_info(code);
        let (resumed, _) = self.stop_for_tracer(code, StopKind::Step, Some(info), Some(0));
        self.receive(resumed.signal);
    }

    /// Stops because the tracer interrupted the task or its process is stopped (do_jobctl_trap); a tracee that was let out of a
    /// group stop stays out.
    pub(crate) fn stop_with_group(&mut self) {
        let signal = self.group().stop_signal();
        let (seized, trap, seen) = {
            let mut state = self.tracee().lock();
            let trap = std::mem::take(&mut state.trap);
            let seen = std::mem::replace(&mut state.seen_stop, signal.is_some());
            (state.seized, trap, seen)
        };
        if !trap && (seen || signal.is_none()) {
            return;
        }
        let (code, info) = if seized {
            let code = signal.unwrap_or(Signal::SIGTRAP).raw() | EVENT_STOP << 8;
            (code, Some(self.trap_info(code)))
        } else {
            (signal.unwrap_or(Signal::SIGSTOP).raw(), None)
        };
        self.stop_for_tracer(code, StopKind::Group, info, Some(0));
    }

    /// Registers as the program's own, should the tracer go while it steps.
    pub(crate) fn forget_stepping(&mut self) {
        if !self.tracee().is_traced() && self.work().intersects(Work::STEP | Work::WATCH) {
            self.replace_work(Work::TRACE_CALLS | Work::EMULATE_CALLS | Work::STEP | Work::WATCH, Work::empty());
            self.frame.registers.rflags &= !TF;
        }
    }
}
