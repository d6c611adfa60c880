//! The way into a call of a task that somebody watches (syscall_trace_enter in kernel/entry/common.c).

use super::{Outcome, RawArgs, dispatch, trace};
use crate::errno::Errno;
use crate::seccomp::gate::{self, Gate};
use crate::task::{CurrentTask, Work};

/// Makes the call in the task's registers.
pub(crate) fn serve(task: &mut CurrentTask<'_>, number: u64, args: &RawArgs) -> Result<Outcome, Errno> {
    if !task.work().is_empty() {
        return watched(task, number, args);
    }
    make(task, number, args)
}

fn make(task: &mut CurrentTask<'_>, number: u64, args: &RawArgs) -> Result<Outcome, Errno> {
    match task.kernel().tracer() {
        None => dispatch(task, number, args),
        Some(_) => trace::dispatch(task, number, args),
    }
}

fn watched(task: &mut CurrentTask<'_>, number: u64, args: &RawArgs) -> Result<Outcome, Errno> {
    if task.work().contains(Work::SECCOMP) {
        match gate::check(task, number, args, false) {
            Gate::Open => {}
            // Nobody traces: the call does not exist.
            Gate::AskTracer(_) => return refuse(task, number, args, Err(Errno::ENOSYS)),
            Gate::Closed(result) => return refuse(task, number, args, result),
        }
    }
    make(task, number, args)
}

/// Shows a call that is not made.
fn refuse(
    task: &CurrentTask<'_>,
    number: u64,
    args: &RawArgs,
    result: Result<Outcome, Errno>,
) -> Result<Outcome, Errno> {
    trace::refused(task, number, args, &result);
    result
}
