//! Program images: ELF, scripts, the initial stack.

use crate::task::CurrentTask;
use std::ffi::{OsStr, OsString};

/// Why a program could not be loaded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// No such program.
    #[error("{0}: not found")]
    NotFound(String),
}

impl LoadError {
    /// The exit status that a launcher reports: 127 for a program that is not found, 126 for one that cannot be executed.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::NotFound(_) => 127,
        }
    }
}

/// Loads the sandbox's first program, looking `program` up in the PATH of `env` if it has no slash. `args` are without its name.
/// Afterwards the task has the program's memory, and its registers are those to start with.
pub fn start(
    _task: &mut CurrentTask<'_>,
    _program: &OsStr,
    _args: &[OsString],
    _env: &[OsString],
) -> Result<(), LoadError> {
    todo!("program loading")
}
