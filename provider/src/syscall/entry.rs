//! The way into a call of a task that somebody watches, and out of it (syscall_trace_enter and syscall_exit_work in
//! kernel/entry/common.c).

use super::{Outcome, RawArgs, dispatch, posted, trace, user_dispatch};
use crate::errno::Errno;
use crate::ptrace::{Event, StopKind};
use crate::seccomp::gate::{self, Gate};
use crate::signal::{SigInfo, Signal, SignalCode};
use crate::task::{CurrentTask, NO_CALL, Work};
use vmm::addr::UserAddr;

/// Makes the call in the task's registers. `Err` may be one of the internal errors by which a call says how it restarts.
pub(crate) fn serve(task: &mut CurrentTask<'_>) -> Result<Outcome, Errno> {
    task.original = task.frame.registers.rax;
    task.resume_progress();
    if task.is_watched() {
        return watched(task);
    }
    let (number, args) = requested(task);
    let result = make(task, number, &args);
    posted::made_by_trap(task, number);
    result
}

/// What the registers ask for. Linux's number is an int: the upper half of the register is ignored.
fn requested(task: &CurrentTask<'_>) -> (u64, RawArgs) {
    let registers = &task.frame.registers;
    let args = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
    (task.original & u64::from(u32::MAX), args)
}

fn make(task: &mut CurrentTask<'_>, number: u64, args: &RawArgs) -> Result<Outcome, Errno> {
    match task.kernel().tracer() {
        None => dispatch(task, number, args),
        Some(_) => trace::dispatch(task, number, args),
    }
}

fn watched(task: &mut CurrentTask<'_>) -> Result<Outcome, Errno> {
    // Neither tracer nor seccomp sees such a call.
    if task.work().contains(Work::USER_DISPATCH) && user_dispatch::diverts(task) {
        return Ok(Outcome::Resume);
    }
    let result = match enter(task) {
        Some(result) => result,
        None => {
            let (number, args) = requested(task);
            make(task, number, &args)
        }
    };
    leave(task, result)
}

/// Asks tracer and seccomp. `Some`: the call is not made, and this is its result.
fn enter(task: &mut CurrentTask<'_>) -> Option<Result<Outcome, Errno>> {
    let work = task.work();
    if work.intersects(Work::TRACE_CALLS | Work::EMULATE_CALLS) {
        task.frame.registers.rax = Errno::ENOSYS.to_return();
        if task.stop_at_call(StopKind::CallEntry).is_none() || work.contains(Work::EMULATE_CALLS) {
            return Some(Ok(Outcome::Return(task.frame.registers.rax)));
        }
    }
    if work.contains(Work::SECCOMP) {
        let (number, args) = requested(task);
        match gate::check(task, number, &args, false) {
            Gate::Open => {}
            Gate::AskTracer(data) => return ask_tracer(task, data),
            Gate::Closed(result) => return Some(refused(task, number, &args, result)),
        }
    }
    skipped(task)
}

/// A tracer that set the number to −1 has answered the call itself.
fn skipped(task: &CurrentTask<'_>) -> Option<Result<Outcome, Errno>> {
    let none = task.original & u64::from(u32::MAX) == NO_CALL & u64::from(u32::MAX);
    (none && task.registers_changed).then_some(Ok(Outcome::Return(task.frame.registers.rax)))
}

/// SECCOMP_RET_TRACE: without a tracer that wants to be asked the call does not exist.
fn ask_tracer(task: &mut CurrentTask<'_>, data: u16) -> Option<Result<Outcome, Errno>> {
    let (number, args) = requested(task);
    if !task.tracee().wants(Event::Seccomp) {
        return Some(refused(task, number, &args, Err(Errno::ENOSYS)));
    }
    task.frame.registers.rax = Errno::ENOSYS.to_return();
    task.stop_for_event(Event::Seccomp, u64::from(data));
    if task.is_killed() {
        return Some(Ok(Outcome::Return(task.frame.registers.rax)));
    }
    if let Some(result) = skipped(task) {
        return Some(result);
    }
    // The tracer may have made another call of it.
    let (number, args) = requested(task);
    match gate::check(task, number, &args, true) {
        Gate::Closed(result) => Some(refused(task, number, &args, result)),
        Gate::Open | Gate::AskTracer(_) => None,
    }
}

/// Shows a call that is not made.
fn refused(
    task: &CurrentTask<'_>,
    number: u64,
    args: &RawArgs,
    result: Result<Outcome, Errno>,
) -> Result<Outcome, Errno> {
    trace::refused(task, number, args, &result);
    result
}

/// Lets a tracer see the result, or step over the call.
fn leave(task: &mut CurrentTask<'_>, result: Result<Outcome, Errno>) -> Result<Outcome, Errno> {
    match result {
        Ok(Outcome::Exit) => return result,
        Ok(Outcome::Resume) => {}
        Ok(Outcome::Return(value)) => task.frame.registers.rax = value,
        Err(error) => task.frame.registers.rax = error.to_return(),
    }
    if task.work().contains(Work::STEP) {
        let here = UserAddr(task.frame.registers.rip);
        task.force_signal(SigInfo::fault(Signal::SIGTRAP, SignalCode::TRAP_BRKPT, here));
    } else if task.work().contains(Work::TRACE_CALLS) && !task.is_killed() {
        task.stop_at_call(StopKind::CallExit);
    }
    if !std::mem::take(&mut task.registers_changed) {
        return result;
    }
    // The tracer may have changed anything; an interrupted call is one that the registers say was interrupted.
    match Errno::restart_in(task.frame.registers.rax) {
        Some(error) if task.original != NO_CALL => Err(error),
        _ => Ok(Outcome::Resume),
    }
}
