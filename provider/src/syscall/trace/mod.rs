//! Tracing: each call as one line, from the same table that dispatches it.
//!
//! Everything shown of a program's memory is read as the program could read it, bounded, and quoted; a pointer that cannot be
//! read is shown as a number.

mod errors;
mod render;

use super::args::ShownCall;
use super::handler::{Outcome, RawArgs, ResultForm};
use super::{names, table};
use crate::config::{Trace, TraceFormat};
use crate::errno::Errno;
use crate::signal::SigInfo;
use crate::task::{CurrentTask, ExitStatus, Pid, Task};
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// Writes the trace of a sandbox.
#[derive(Debug)]
pub struct Tracer {
    format: TraceFormat,
    output: Mutex<Output>,
}

#[derive(Debug)]
enum Output {
    Stderr,
    File(File),
}

impl Tracer {
    /// Opens the trace that a configuration asks for.
    pub fn open(trace: &Trace) -> io::Result<Self> {
        let output = match &trace.output {
            Some(path) => Output::File(File::create(path)?),
            None => Output::Stderr,
        };
        Ok(Self { format: trace.format, output: Mutex::new(output) })
    }

    /// Shows a call that has returned, or (without a result) one that does not return.
    fn call(&self, task: &Task, number: u64, call: &ShownCall<'_>) {
        let name = names::name(number);
        let args = match table::find(number) {
            Some(syscall) => render::args(syscall, call),
            None => call.args.iter().map(|arg| format!("{arg:#x}")).collect(),
        };
        let form = table::find(number).map_or(ResultForm::Number, |syscall| syscall.form);
        let line = match self.format {
            TraceFormat::Text => render::text(&render::prefix(task), number, name, &args, call.result, form),
            TraceFormat::Json => render::json(task, number, name, &args, call.result),
        };
        self.write(&line);
    }

    /// Shows a signal as it is taken.
    pub fn signal(&self, task: &Task, info: &SigInfo) {
        let line = match self.format {
            TraceFormat::Text => format!("{}--- {} ---", render::prefix(task), render::signal(info)),
            TraceFormat::Json => render::signal_json(task, info),
        };
        self.write(&line);
    }

    /// Shows the end of a process.
    pub fn exited(&self, pid: Pid, status: ExitStatus) {
        let line = match (self.format, status) {
            (TraceFormat::Text, ExitStatus::Exited(code)) => format!("+++ exited with {code} +++"),
            (TraceFormat::Text, ExitStatus::Signaled(signal)) => format!("+++ killed by {signal} +++"),
            (TraceFormat::Text, ExitStatus::Dumped(signal)) => format!("+++ killed by {signal} (core dumped) +++"),
            (TraceFormat::Json, ExitStatus::Exited(code)) => {
                serde_json::json!({"pid": pid.0, "exited": code}).to_string()
            }
            (TraceFormat::Json, ExitStatus::Signaled(signal)) => {
                serde_json::json!({"pid": pid.0, "killed": signal.to_string()}).to_string()
            }
            (TraceFormat::Json, ExitStatus::Dumped(signal)) => {
                serde_json::json!({"pid": pid.0, "killed": signal.to_string(), "core": true}).to_string()
            }
        };
        self.write(&line);
    }

    /// A trace that cannot be written must not disturb the program: errors are dropped.
    fn write(&self, line: &str) {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let _ = match &mut *self.output.lock().unwrap_or_else(PoisonError::into_inner) {
            Output::Stderr => io::stderr().write_all(&bytes),
            Output::File(file) => file.write_all(&bytes),
        };
    }
}

/// Serves a call and shows it: as it is made if it never returns, else as it returns.
pub fn dispatch(task: &mut CurrentTask<'_>, number: u64, args: &RawArgs) -> Result<Outcome, Errno> {
    let kernel = task.kernel().clone();
    let Some(tracer) = kernel.tracer() else { return super::dispatch(task, number, args) };
    // An exec puts other memory under the task; its arguments are in the old.
    let memory = task.task().mm();
    let show = |task: &CurrentTask<'_>, result| {
        tracer.call(task, number, &ShownCall { args: *args, result, memory: memory.as_deref() });
    };
    let returns = table::find(number).is_none_or(|syscall| syscall.form != ResultForm::Never);
    if !returns {
        show(task, None);
    }
    let result = super::dispatch(task, number, args);
    if returns {
        show(
            task,
            match result {
                Ok(Outcome::Return(value)) => Some(Ok(value)),
                Ok(Outcome::Resume) => Some(Ok(task.frame.registers.rax)),
                Ok(Outcome::Exit) => None,
                Err(error) => Some(Err(error)),
            },
        );
    }
    result
}

/// Shows a call that seccomp or a tracer has answered.
pub(crate) fn refused(task: &CurrentTask<'_>, number: u64, args: &RawArgs, result: &Result<Outcome, Errno>) {
    let Some(tracer) = task.kernel().tracer() else { return };
    let result = match result {
        Ok(Outcome::Return(value)) => Some(Ok(*value)),
        Ok(Outcome::Resume | Outcome::Exit) => None,
        Err(error) => Some(Err(*error)),
    };
    let memory = task.task().mm();
    tracer.call(task, number, &ShownCall { args: *args, result, memory: memory.as_deref() });
}

/// The result of a call, for a trace.
pub(super) type Shown = Option<Result<u64, Errno>>;
