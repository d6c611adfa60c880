//! `picovisor run`.

use crate::cli::RunOptions;
use crate::failure::Failure;
use crate::settings;

/// Runs the program and returns the exit status.
pub(crate) fn run(options: &RunOptions) -> Result<u8, Failure> {
    options.unsupported()?;
    let config = settings::config(options)?;
    Err(Failure::ours(format_args!("{}: this version cannot start programs yet", config.program.display())))
}
