//! What the host and its tools learn of tasks and processes, and who may open them. Called on any host thread.

use crate::signal::send::may_signal;
use crate::task::{Pid, Task, ThreadGroup, may_attach};
use crate::unwind;
use std::sync::Arc;
use vmm::pico::walk::Visit;
use vmm::pico::{Activity, ProcessAccess, ProcessDetails, ThreadAccess};
use vmm::trap::Registers;

/// A process or thread id as the host shows it.
pub(crate) fn number(pid: Pid) -> u64 {
    u64::from(pid.0.unsigned_abs())
}

/// What a tool shows of a process.
pub(crate) fn details(group: &ThreadGroup) -> ProcessDetails {
    let threads = group.threads();
    let first = threads.first();
    let command = first.and_then(|task| task.mm()).map(|mm| mm.command_line()).unwrap_or_default();
    let handles = first.and_then(|task| task.files()).map_or(0, |files| files.numbers().len() as u64);
    let parent = Some(number(group.parent())).filter(|parent| *parent != 0);
    ProcessDetails { parent, activity: activity(group, &threads), command, handles }
}

/// What /proc/PID/stat has a letter for.
fn activity(group: &ThreadGroup, threads: &[Arc<Task>]) -> Activity {
    if group.exit_status().is_some() || threads.iter().all(|task| task.mm().is_none()) {
        Activity::Ended
    } else if group.is_stopped() || threads.iter().all(|task| task.tracee().is_stopped()) {
        Activity::Stopped
    } else if threads.iter().all(|task| task.parker().is_asleep()) {
        Activity::Waiting
    } else {
        Activity::Running
    }
}

/// Which rights to a process another one may have: anybody may look at it, whoever may signal it may end and stop it, and
/// whoever may trace it may look into it. The host's own components act for whoever runs the sandbox.
pub(crate) fn process_access(
    group: &ThreadGroup,
    opener: Option<&Arc<ThreadGroup>>,
    wanted: ProcessAccess,
) -> ProcessAccess {
    let signal = ProcessAccess::TERMINATE | ProcessAccess::SUSPEND_RESUME;
    let trace = ProcessAccess::VM_READ | ProcessAccess::VM_WRITE;
    let refused = match relation(group, opener) {
        Relation { may_signal: false, .. } => signal | trace,
        Relation { may_trace: false, .. } => trace,
        _ => ProcessAccess::empty(),
    };
    wanted - refused
}

/// Which rights to a thread another process may have; as [`process_access`].
pub(crate) fn thread_access(task: &Task, opener: Option<&Arc<ThreadGroup>>, wanted: ThreadAccess) -> ThreadAccess {
    let signal = ThreadAccess::TERMINATE | ThreadAccess::SUSPEND_RESUME;
    let trace = ThreadAccess::GET_CONTEXT | ThreadAccess::SET_CONTEXT;
    let refused = match relation(task.group(), opener) {
        Relation { may_signal: false, .. } => signal | trace,
        Relation { may_trace: false, .. } => trace,
        _ => ThreadAccess::empty(),
    };
    wanted - refused
}

/// What one process may do to another.
struct Relation {
    may_signal: bool,
    /// Never without the former here.
    may_trace: bool,
}

fn relation(group: &ThreadGroup, opener: Option<&Arc<ThreadGroup>>) -> Relation {
    let all = Relation { may_signal: true, may_trace: true };
    let Some(opener) = opener else { return all };
    if opener.pid() == group.pid() {
        return all;
    }
    let (ours, theirs) = (opener.threads(), group.threads());
    let (Some(ours), Some(theirs)) = (ours.first(), theirs.first()) else {
        return Relation { may_signal: false, may_trace: false };
    };
    let credentials = ours.credentials();
    Relation {
        may_signal: may_signal(&credentials, &theirs.credentials()),
        may_trace: may_attach(&credentials, theirs),
    }
}

/// Visits the frames of a task's user stack.
pub(crate) fn walk(task: &Task, registers: &Registers, visit: &mut Visit<'_>) {
    if let Some(mm) = task.mm() {
        let mut registers = *registers;
        mm.show_place(&mut registers);
        unwind::walk(&mm, &registers, visit);
    }
}
