//! The caller's terminal modes: a program that is ended from outside cannot put them back itself.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{Stdin, stdin};

/// The modes of the terminal on standard input at start.
#[derive(Debug)]
pub(crate) struct TerminalModes {
    saved: Option<(Stdin, Termios)>,
}

impl TerminalModes {
    /// Remembers the modes, if standard input is a terminal.
    pub(crate) fn save() -> Self {
        let stdin = stdin();
        let saved = tcgetattr(&stdin).ok().map(|modes| (stdin, modes));
        Self { saved }
    }

    /// Whether standard input is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.saved.is_some()
    }

    /// Puts the modes back. Meant for a program that was ended by a signal or a limit: what a program changed and left
    /// changed when it exited by itself, as `stty` does, is what the user asked for.
    pub(crate) fn restore(&self) {
        if let Some((stdin, modes)) = &self.saved {
            // A background job that changed nothing must not be stopped by SIGTTOU for it, and a terminal that hung up
            // has no modes to restore: only a difference is written, and failure has no one to go to.
            if tcgetattr(stdin).is_ok_and(|now| !same(&now, modes)) {
                let _ = tcsetattr(stdin, OptionalActions::Drain, modes);
            }
        }
    }
}

fn same(a: &Termios, b: &Termios) -> bool {
    (a.input_modes, a.output_modes, a.control_modes, a.local_modes)
        == (b.input_modes, b.output_modes, b.control_modes, b.local_modes)
        && format!("{:?}", a.special_codes) == format!("{:?}", b.special_codes)
}
