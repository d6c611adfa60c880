//! What goes wrong on our side: one line for the user, and an exit status that tells it apart from the program's own.

use std::fmt;

/// The exit status of a failure that is ours (as `docker run`, `env` and `timeout` have it).
pub(crate) const OURS: u8 = 125;
/// The exit status when `--timeout` ended the sandbox (as timeout(1) has it).
pub(crate) const TIMED_OUT: u8 = 124;

/// A failure to start or to run the sandbox.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    /// Makes a failure of ours from anything that explains itself.
    pub(crate) fn ours(message: impl fmt::Display) -> Self {
        Self::with_status(OURS, message)
    }

    /// Makes a failure with an exit status of its own.
    pub(crate) fn with_status(status: u8, message: impl fmt::Display) -> Self {
        Self { status, message: message.to_string() }
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        self.status
    }
}

impl fmt::Display for Failure {
    /// Prints the message as one line, whatever the names in it contain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.message.chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { fmt::Write::write_char(f, c)? }
        }
        Ok(())
    }
}

/// What an I/O error says, without Rust's "(os error 2)".
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::with_status(127, "a\nb\u{1b}[31m");
        assert_eq!(failure.to_string(), "a\\nb\\u{1b}[31m");
        assert_eq!(failure.status(), 127);
    }
}
