//! What the rules of a task do to a call that it is about to make (__seccomp_filter in kernel/seccomp.c).

use super::{AUDIT_ARCH, Action, Seccomp, SeccompData};
use crate::errno::Errno;
use crate::signal::{Detail, SigInfo, Signal, SignalCode};
use crate::syscall::{Outcome, RawArgs};
use crate::task::{CurrentTask, ExitStatus};
use linux_raw_sys::general::{__NR_exit, __NR_read, __NR_rt_sigreturn, __NR_write};
use vmm::addr::UserAddr;

/// The highest error number (MAX_ERRNO).
const MAX_ERRNO: u16 = 4095;

/// What becomes of a call.
#[derive(Debug)]
pub(crate) enum Gate {
    /// It is made.
    Open,
    /// The tracer is asked, and told this number; then the rules are asked once more.
    AskTracer(u16),
    /// It is not made, and this is its result.
    Closed(Result<Outcome, Errno>),
}

/// Asks the rules. `asked` says that the tracer has decided already. The registers hold the call, `rip` behind it.
pub(crate) fn check(task: &mut CurrentTask<'_>, number: u64, args: &RawArgs, asked: bool) -> Gate {
    let filter = match task.seccomp() {
        Seccomp::Disabled => return Gate::Open,
        Seccomp::Strict => return strict(task, number),
        Seccomp::Filter(filter) => filter,
    };
    let registers = &task.frame.registers;
    let call = number_of(number);
    let verdict = filter.judge(&SeccompData { number: call, instruction_pointer: registers.rip, args: *args });
    match verdict.action {
        Action::Allow => Gate::Open,
        Action::Log => {
            log(task, call, "allowed");
            Gate::Open
        }
        Action::Trace if asked => Gate::Open,
        Action::Trace => Gate::AskTracer(verdict.data),
        Action::Errno => {
            if verdict.logged {
                log(task, call, "refused");
            }
            // A number, not an error: the program gets what the filter says, be it one of those that restart calls.
            let result = 0_u64.wrapping_sub(u64::from(verdict.data.min(MAX_ERRNO)));
            Gate::Closed(Ok(Outcome::Return(result)))
        }
        // Nobody listens: SECCOMP_FILTER_FLAG_NEW_LISTENER is refused.
        Action::Notify => Gate::Closed(Err(Errno::ENOSYS)),
        Action::Trap => {
            if verdict.logged {
                log(task, call, "trapped");
            }
            let info = sigsys(task, call, verdict.data);
            task.force_signal(info);
            roll_back(task, number)
        }
        Action::KillThread if task.group().threads().len() > 1 => {
            log(task, call, "killed the thread");
            task.exit_thread(ExitStatus::Signaled(Signal::SIGSYS));
            Gate::Closed(Ok(Outcome::Exit))
        }
        Action::KillThread | Action::KillProcess => {
            log(task, call, "killed the process");
            let info = sigsys(task, call, verdict.data);
            task.force_fatal_signal(info);
            roll_back(task, number)
        }
    }
}

/// A call's number as filters see it.
#[expect(clippy::cast_possible_truncation, reason = "Linux's number is an int")]
fn number_of(number: u64) -> i32 {
    (number as u32).cast_signed()
}

fn strict(task: &mut CurrentTask<'_>, number: u64) -> Gate {
    let allowed = [__NR_read, __NR_write, __NR_exit, __NR_rt_sigreturn];
    if allowed.iter().any(|call| u64::from(*call) == number) {
        return Gate::Open;
    }
    log(task, number_of(number), "killed the thread");
    task.exit_thread(ExitStatus::Signaled(Signal::SIGKILL));
    Gate::Closed(Ok(Outcome::Exit))
}

/// The call has not happened: its number is in `rax` again (syscall_rollback), and a signal comes.
fn roll_back(task: &mut CurrentTask<'_>, number: u64) -> Gate {
    task.frame.registers.rax = number;
    Gate::Closed(Ok(Outcome::Resume))
}

fn sigsys(task: &CurrentTask<'_>, call: i32, data: u16) -> SigInfo {
    let address = UserAddr(task.frame.registers.rip);
    let detail = Detail::Call { address, number: call, architecture: AUDIT_ARCH };
    SigInfo { signal: Signal::SIGSYS, errno: i32::from(data), code: SignalCode::SYS_SECCOMP, detail }
}

/// What Linux writes to the audit log goes to the monitor's.
fn log(task: &CurrentTask<'_>, call: i32, what: &'static str) {
    tracing::info!(pid = task.group().pid().0, tid = task.tid().0, call, "seccomp {what}");
}
