//! What programs print, on its way to the outside (do_output_char).

use super::characters::{is_control, to_upper};
use super::{LineDiscipline, OUTPUT_LIMIT};

/// Columns between tab stops.
pub(super) const TAB: usize = 8;

impl LineDiscipline {
    /// Bytes that can be printed now; 0 while the output is stopped.
    pub(crate) fn output_room(&self) -> usize {
        if self.flow.stopped { 0 } else { OUTPUT_LIMIT.saturating_sub(self.output.len()) }
    }

    /// Bytes that were printed and not taken.
    pub(crate) fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Prints bytes; returns how many there was room for.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        self.release_echo();
        if !self.settings.processes_output() {
            let count = bytes.len().min(self.output_room());
            self.output.extend(&bytes[..count]);
            return count;
        }
        for (done, byte) in bytes.iter().enumerate() {
            let (expansion, len) = self.expand(*byte);
            // Even what is not printed waits for room.
            if len.max(1) > self.output_room() {
                return done;
            }
            self.output.extend(&expansion[..len]);
            self.move_cursor(*byte);
        }
        bytes.len()
    }

    /// Takes at most `limit` bytes for the outside.
    pub(crate) fn take_output(&mut self, limit: usize) -> Vec<u8> {
        let count = limit.min(self.output.len());
        let taken = self.output.drain(..count).collect();
        self.release_echo();
        taken
    }

    /// What a byte becomes under OPOST, where the cursor is now.
    pub(super) fn expand(&self, byte: u8) -> ([u8; TAB], usize) {
        let mut expansion = [b' '; TAB];
        expansion[0] = byte;
        let settings = &self.settings;
        let len = match byte {
            b'\n' if settings.newline_returns() => {
                expansion[..2].copy_from_slice(b"\r\n");
                2
            }
            b'\r' if settings.no_return_at_start() && self.column == 0 => 0,
            b'\r' if settings.output_return_to_newline() => {
                expansion[0] = b'\n';
                1
            }
            b'\t' if settings.expands_tabs() => {
                expansion[0] = b' ';
                TAB - self.column % TAB
            }
            _ => {
                if settings.output_to_upper() {
                    expansion[0] = to_upper(byte);
                }
                1
            }
        };
        (expansion, len)
    }

    /// Follows the cursor as a byte is printed under OPOST.
    pub(super) fn move_cursor(&mut self, byte: u8) {
        match byte {
            b'\n' => {
                if self.settings.newline_returns() || self.settings.newline_does_return() {
                    self.column = 0;
                }
                self.line_column = self.column;
            }
            b'\r' if self.settings.output_return_to_newline() => {
                if self.settings.newline_does_return() {
                    (self.column, self.line_column) = (0, 0);
                }
            }
            b'\r' => (self.column, self.line_column) = (0, 0),
            b'\t' => self.column += TAB - self.column % TAB,
            0x08 => self.column = self.column.saturating_sub(1),
            _ if is_control(byte) => {}
            // Upper case comes first, although it may make a letter of Latin-1 into a continuation.
            _ if self.settings.continues(if self.settings.output_to_upper() { to_upper(byte) } else { byte }) => {}
            _ => self.column += 1,
        }
    }
}
