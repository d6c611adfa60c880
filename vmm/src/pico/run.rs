//! The life of a pico thread on a virtual CPU: trap, provider, disposition, and again.

use super::frame::TrapFrame;
use super::host::CreateError;
use super::observe::Notice;
use super::provider::{Chance, Disposition, ExceptionRecord, ExitReason, Provider};
use super::thread::{Phase, Thread};
use crate::trap::{Attention, Exception, Resume, Trap, UserMode};
use crate::usage::Span;
use std::sync::{Arc, PoisonError};

/// Finds a virtual CPU for a new thread and lets it run there.
pub(super) fn start(thread: &Arc<Thread>) -> Result<(), CreateError> {
    let Some(workers) = &thread.process().host.workers else { return Err(CreateError::HostExhausted) };
    {
        let mut state = thread.state();
        if state.phase != Phase::Created {
            return Err(CreateError::Over);
        }
        state.phase = Phase::Running;
    }
    let job = thread.clone();
    let started = workers.run(Box::new(move |cpu| live(&job, cpu)), &thread.attention, thread.calls(), &thread.meter);
    started.map_err(|_| {
        thread.state().phase = Phase::Created;
        CreateError::HostExhausted
    })
}

/// Ends a thread: one that never started at once, another when it is next about to enter user mode.
pub(super) fn terminate(thread: &Arc<Thread>) {
    let fresh = {
        let mut state = thread.state();
        let fresh = state.phase == Phase::Created;
        if fresh {
            state.phase = Phase::Over;
            thread.stopped.notify_all();
        }
        fresh
    };
    if fresh {
        ended(thread, ExitReason::Terminated);
    } else {
        thread.attention.raise(Attention::TERMINATE);
        let _state = thread.state();
        thread.resumed.notify_all();
    }
}

/// Runs a thread from its first to its last instruction.
fn live(thread: &Arc<Thread>, cpu: &mut dyn UserMode) {
    let process = thread.process().clone();
    thread.meter.begin();
    process.time_begins(&thread.meter);
    let reason = match thread.process().host.provider() {
        Some(provider) => {
            let provider = provider.clone();
            serve(thread, cpu, &*provider)
        }
        // A thread has a context, hence its process had a provider when it was made; providers are never removed.
        None => ExitReason::Failed,
    };
    {
        let mut state = thread.state();
        state.phase = Phase::Over;
        thread.stopped.notify_all();
    }
    ended(thread, reason);
    thread.meter.end();
    process.time_ends(&thread.meter);
}

fn ended(thread: &Arc<Thread>, reason: ExitReason) {
    if let Some(provider) = thread.process().host.provider() {
        provider.exit_thread(thread.context(), reason);
    }
    thread.process().host.tell(&Notice::ThreadEnded(thread, reason));
    thread.process().thread_ended(thread, reason);
}

/// The loop of a thread: enter user mode, take the trap to the provider, do as it says.
fn serve(thread: &Thread, cpu: &mut dyn UserMode, provider: &dyn Provider) -> ExitReason {
    let process = thread.process();
    let (mut version, mut space) = (process.space_version(), process.space());
    let mut registers = thread.state().saved.registers;
    cpu.load(&thread.state().saved);
    let mut resume = Resume::Full;
    loop {
        let now = process.space_version();
        if now != version {
            (version, space) = (now, process.space());
        }
        thread.meter.switch(Span::User);
        let left = cpu.run(&space, resume, &mut registers, &thread.attention);
        thread.meter.switch(Span::Provider);
        let trap = match left {
            Ok(trap) => trap,
            Err(failure) => {
                tracing::error!(thread = thread.id(), %failure, "a thread cannot run on");
                return ExitReason::Failed;
            }
        };
        process.host.statistics().trap(trap);
        if trap == Trap::Kicked {
            if thread.attention.is_raised(Attention::TERMINATE) {
                return ExitReason::Terminated;
            }
            if thread.attention.is_raised(Attention::SUSPEND) {
                park(thread, cpu, &mut registers);
                resume = Resume::Full;
                continue;
            }
        }
        // From here on the provider looks at everything that the kick was about.
        let kicked = thread.attention.take(Attention::KICK);
        if trap == Trap::Kicked && !kicked {
            resume = Resume::Full;
            continue;
        }
        thread.enter_provider(&registers);
        let mut frame = TrapFrame { registers, cpu: cpu.state() };
        let disposition = match trap {
            Trap::Syscall => Some(provider.dispatch_system_call(thread.context(), &mut frame)),
            Trap::Exception(exception) => dispatch_exception(thread, provider, exception, &mut frame),
            Trap::Kicked => Some(provider.dispatch_kick(thread.context(), &mut frame)),
        };
        thread.leave_provider();
        let Some(disposition) = disposition else {
            process.terminate();
            return ExitReason::Unhandled;
        };
        match (disposition, trap) {
            (Disposition::Exit, _) => return ExitReason::Exited,
            (Disposition::Return, Trap::Syscall) => {
                registers.rax = frame.registers.rax;
                resume = Resume::Return;
            }
            _ => {
                registers = frame.registers;
                resume = Resume::Full;
            }
        }
    }
}

/// Asks the provider about an exception, and again if it has not handled it; `None` if it will not.
fn dispatch_exception(
    thread: &Thread,
    provider: &dyn Provider,
    exception: Exception,
    frame: &mut TrapFrame<'_>,
) -> Option<Disposition> {
    let mut ask = |chance| provider.dispatch_exception(thread.context(), &ExceptionRecord { exception, chance }, frame);
    ask(Chance::First).or_else(|| ask(Chance::Second))
}

/// Waits out a suspension, with the thread's state open to [`Thread::set_registers`] and its like.
fn park(thread: &Thread, cpu: &mut dyn UserMode, registers: &mut crate::trap::Registers) {
    let _rest = thread.meter.rest();
    let mut saved = cpu.save();
    saved.registers = *registers;
    let mut state = thread.state();
    state.saved = saved;
    state.phase = Phase::Parked;
    thread.stopped.notify_all();
    while state.suspended > 0 && !thread.attention.is_raised(Attention::TERMINATE) {
        state = thread.resumed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state.phase = Phase::Running;
    *registers = state.saved.registers;
    cpu.load(&state.saved);
}
