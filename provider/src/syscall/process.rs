//! The end of threads and processes, and waiting for it.

use super::Outcome;
use crate::errno::Errno;
use crate::task::{CurrentTask, ExitStatus};

/// The low byte of the status is what a parent sees.
fn status(code: i32) -> ExitStatus {
    ExitStatus::Exited(code.to_le_bytes()[0])
}

pub(super) fn exit(task: &mut CurrentTask<'_>, code: i32) -> Result<Outcome, Errno> {
    task.exit_thread(status(code));
    Ok(Outcome::Exit)
}

pub(super) fn exit_group(task: &mut CurrentTask<'_>, code: i32) -> Result<Outcome, Errno> {
    task.exit_process(status(code));
    Ok(Outcome::Exit)
}
