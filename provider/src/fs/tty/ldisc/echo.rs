//! Echo: what is shown of what is typed.
//!
//! Echo is queued as operations, which are carried out once all bytes that came together are taken: a ^S among them holds it back, a
//! ^C drops it. It waits while the output is stopped or full. What depends on the cursor's column, or on settings for output, is
//! settled as it is shown.

use super::characters::is_control;
use super::output::TAB;
use super::{ECHO_LIMIT, LineDiscipline};

/// Operations that wait before some are carried out although more bytes come (ECHO_COMMIT_WATERMARK).
const ECHO_BLOCK: usize = 256;

/// Something to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Echo {
    /// A byte, as if a program printed it.
    Printed(u8),
    /// A byte as it is.
    Exact(u8),
    /// A control character as ^X.
    Control(u8),
    /// The cursor goes back over a tab that stood this far behind another tab, or behind the line's start.
    TabRubout { before: usize, after_tab: bool },
    /// The line that is edited begins here.
    LineStart,
    /// The last byte took no column.
    BackColumn,
}

impl LineDiscipline {
    /// Shows a typed character, a control character as ^X if ECHOCTL is on (echo_char).
    pub(super) fn echo_char(&mut self, byte: u8) {
        if self.settings.echo_control() && is_control(byte) && byte != b'\t' {
            self.push_echo(Echo::Control(byte));
        } else {
            self.echo_raw(byte);
        }
    }

    /// Shows a byte as if a program printed it (echo_char_raw).
    pub(super) fn echo_raw(&mut self, byte: u8) {
        // Linux's code for an operation is shown as it is.
        self.push_echo(if byte == 0xff { Echo::Exact(byte) } else { Echo::Printed(byte) });
    }

    /// Takes `count` places back on the screen.
    pub(super) fn echo_rubout(&mut self, count: usize) {
        for _ in 0..count {
            for byte in *b"\x08 \x08" {
                self.echo_raw(byte);
            }
        }
    }

    /// Ends an erasure with ECHOPRT.
    pub(super) fn finish_erasing(&mut self) {
        if std::mem::take(&mut self.erasing) {
            self.echo_raw(b'/');
        }
    }

    pub(super) fn push_echo(&mut self, echo: Echo) {
        if self.echo.len() >= ECHO_BLOCK {
            self.release_echo();
        }
        if self.echo.len() == ECHO_LIMIT {
            self.echo.pop_front();
        }
        self.echo.push_back(echo);
    }

    /// Shows echo that has waited, as far as there is room.
    pub(super) fn release_echo(&mut self) {
        while let Some(echo) = self.echo.front().copied() {
            if !self.show(echo) {
                return;
            }
            self.echo.pop_front();
        }
    }

    /// Forgets echo that has waited.
    pub(super) fn discard_echo(&mut self) {
        self.echo.clear();
    }

    /// Carries an operation out; answers `false` if there is no room.
    fn show(&mut self, echo: Echo) -> bool {
        let room = self.output_room();
        match echo {
            Echo::Printed(byte) if self.settings.processes_output() => {
                let (expansion, len) = self.expand(byte);
                if len.max(1) > room {
                    return false;
                }
                self.output.extend(&expansion[..len]);
                self.move_cursor(byte);
            }
            Echo::Printed(byte) | Echo::Exact(byte) => {
                if room == 0 {
                    return false;
                }
                self.output.push_back(byte);
                self.column += usize::from(echo == Echo::Exact(byte));
            }
            Echo::Control(byte) => {
                if room < 2 {
                    return false;
                }
                self.output.extend([b'^', byte ^ 0x40]);
                self.column += 2;
            }
            Echo::TabRubout { before, after_tab } => {
                let start = if after_tab { before } else { before + self.line_column };
                let back = TAB - start % TAB;
                if room < back {
                    return false;
                }
                self.output.extend(std::iter::repeat_n(0x08, back));
                self.column = self.column.saturating_sub(back);
            }
            Echo::LineStart => self.line_column = self.column,
            Echo::BackColumn => self.column = self.column.saturating_sub(1),
        }
        true
    }
}
