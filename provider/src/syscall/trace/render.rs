//! The forms of a trace line.

use super::{Shown, errors};
use crate::errno::Errno;
use crate::kernel::INIT;
use crate::signal::{Detail, SigInfo};
use crate::syscall::args::{ShownCall, show_address};
use crate::syscall::handler::ResultForm;
use crate::syscall::table::Syscall;
use crate::task::Task;
use serde_json::{Value, json};

/// Where strace puts the `=`.
const RESULT_COLUMN: usize = 39;

/// `[pid N] ` for tasks other than the first.
pub(super) fn prefix(task: &Task) -> String {
    if task.tid() == INIT { String::new() } else { format!("[pid {}] ", task.tid().0) }
}

/// The arguments, each as strace would show it.
pub(super) fn args(syscall: &Syscall, call: &ShownCall<'_>) -> Vec<String> {
    let show = |(index, show): (usize, &crate::syscall::args::ShowArg)| {
        let mut text = String::new();
        show(call, index, &mut text);
        text
    };
    syscall.show.iter().enumerate().map(show).collect()
}

/// A line as strace prints it.
pub(super) fn text(
    prefix: &str,
    number: u64,
    name: Option<&str>,
    args: &[String],
    result: Shown,
    form: ResultForm,
) -> String {
    let name = name.map_or_else(|| format!("syscall_{number:#x}"), str::to_owned);
    let call = format!("{prefix}{name}({})", args.join(", "));
    let result = match result {
        None => "?".to_owned(),
        Some(Ok(value)) if form == ResultForm::Address => format!("{value:#x}"),
        Some(Ok(value)) => value_text(value),
        Some(Err(error)) => error_text(error),
    };
    format!("{call:<RESULT_COLUMN$} = {result}")
}

fn value_text(value: u64) -> String {
    value.cast_signed().to_string()
}

fn error_text(error: Errno) -> String {
    match error {
        Errno::ERESTARTSYS => "? ERESTARTSYS (To be restarted if SA_RESTART is set)".to_owned(),
        Errno::ERESTARTNOINTR => "? ERESTARTNOINTR (To be restarted)".to_owned(),
        Errno::ERESTARTNOHAND => "? ERESTARTNOHAND (To be restarted if no handler)".to_owned(),
        Errno::ERESTART_RESTARTBLOCK => "? ERESTART_RESTARTBLOCK (Interrupted by signal)".to_owned(),
        _ => match (error.name(), errors::message(error)) {
            (Some(name), Some(message)) => format!("-1 {name} ({message})"),
            (Some(name), None) => format!("-1 {name}"),
            _ => format!("-{}", error.raw()),
        },
    }
}

/// A line as one JSON object.
pub(super) fn json(task: &Task, number: u64, name: Option<&str>, args: &[String], result: Shown) -> String {
    let mut line = json!({
        "pid": task.group().pid().0,
        "tid": task.tid().0,
        "number": number,
        "call": name,
        "args": args,
    });
    let (key, value) = match result {
        None => ("result", Value::Null),
        Some(Ok(value)) => ("result", json!(value.cast_signed())),
        Some(Err(error)) => ("error", json!(error.to_string())),
    };
    line[key] = value;
    line.to_string()
}

/// A signal's information in braces.
pub(super) fn signal(info: &SigInfo) -> String {
    let mut text = format!("{} {{si_signo={}, si_code={}", info.signal, info.signal, code(info));
    match &info.detail {
        Detail::None | Detail::Raw(_) => {}
        Detail::Sender { pid, uid } => text.push_str(&format!(", si_pid={}, si_uid={uid}", pid.0)),
        Detail::Queued { pid, uid, value } => {
            text.push_str(&format!(", si_pid={}, si_uid={uid}, si_value={value:#x}", pid.0));
        }
        Detail::Timer { id, overrun, value } => {
            text.push_str(&format!(", si_timerid={id:#x}, si_overrun={overrun}, si_value={value:#x}"));
        }
        Detail::Fault { address } => {
            text.push_str(", si_addr=");
            show_address(address.0, &mut text);
        }
        Detail::Call { address, number, architecture } => {
            text.push_str(", si_call_addr=");
            show_address(address.0, &mut text);
            text.push_str(&format!(", si_syscall={number}, si_arch={architecture:#x}"));
        }
        Detail::Poll { band, fd } => text.push_str(&format!(", si_band={band}, si_fd={fd}")),
        Detail::Child { pid, uid, status, user_time, system_time } => text.push_str(&format!(
            ", si_pid={}, si_uid={uid}, si_status={status}, si_utime={user_time}, si_stime={system_time}",
            pid.0
        )),
    }
    text.push('}');
    text
}

fn code(info: &SigInfo) -> String {
    info.code.name(info.signal).map_or_else(|| info.code.0.to_string(), str::to_owned)
}

/// A signal as one JSON object.
pub(super) fn signal_json(task: &Task, info: &SigInfo) -> String {
    let mut line = json!({
        "pid": task.group().pid().0,
        "tid": task.tid().0,
        "signal": info.signal.to_string(),
        "code": code(info),
    });
    if let Detail::Fault { address } = info.detail {
        line["address"] = json!(address.0);
    }
    line.to_string()
}
