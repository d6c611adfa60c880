//! Editing the line that is being typed: ERASE, WERASE, KILL and REPRINT (eraser in n_tty.c).

use super::LineDiscipline;
use super::characters::{is_alphanumeric, is_control};
use super::echo::Echo;

/// What an editing character takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Erase {
    Character,
    Word,
    Line,
}

impl LineDiscipline {
    /// Tells whether the line that is edited is empty.
    pub(super) fn line_is_empty(&self) -> bool {
        self.input.len() == self.complete
    }

    /// Takes back what was typed.
    pub(super) fn erase(&mut self, what: Erase) {
        if self.line_is_empty() {
            return;
        }
        if what == Erase::Line && !self.shows_killing() {
            return self.kill_unseen();
        }
        let mut seen_word = false;
        while !self.line_is_empty() {
            let Some(start) = self.last_character() else { break };
            let byte = self.input[start].byte;
            if what == Erase::Word {
                if is_alphanumeric(byte) || byte == b'_' {
                    seen_word = true;
                } else if seen_word {
                    break;
                }
            }
            let erased: Vec<u8> = self.input.drain(start..).map(|cell| cell.byte).collect();
            if self.settings.echo() {
                self.show_erasure(what, &erased);
            }
            if what == Erase::Character {
                break;
            }
        }
        if self.line_is_empty() && self.settings.echo() {
            self.finish_erasing();
        }
    }

    /// Shows the line again on a new one (REPRINT).
    pub(super) fn reprint(&mut self, byte: u8) {
        self.finish_erasing();
        self.echo_char(byte);
        self.echo_raw(b'\n');
        let line: Vec<u8> = self.input.iter().skip(self.complete).map(|cell| cell.byte).collect();
        line.into_iter().for_each(|byte| self.echo_char(byte));
    }

    /// Tells whether KILL takes the line off the screen, character by character.
    fn shows_killing(&self) -> bool {
        let settings = &self.settings;
        settings.echo() && settings.echo_kill() && settings.echo_kill_erase() && settings.echo_erase()
    }

    /// Drops the line and leaves it on the screen.
    fn kill_unseen(&mut self) {
        self.input.truncate(self.complete);
        if self.settings.echo() {
            self.finish_erasing();
            self.echo_char(self.settings.kill_character());
            if self.settings.echo_kill() {
                self.echo_raw(b'\n');
            }
        }
    }

    /// Where the last character of the line begins: with IUTF8 several bytes may be one. `None` for a sequence that has lost its start.
    fn last_character(&self) -> Option<usize> {
        let at = (self.complete..self.input.len()).rev().find(|at| !self.settings.continues(self.input[*at].byte));
        at.filter(|at| *at >= self.complete)
    }

    fn show_erasure(&mut self, what: Erase, erased: &[u8]) {
        let byte = erased[0];
        if self.settings.echo_print() {
            if !std::mem::replace(&mut self.erasing, true) {
                self.echo_raw(b'\\');
            }
            self.echo_char(byte);
            for byte in &erased[1..] {
                self.echo_raw(*byte);
                self.push_echo(Echo::BackColumn);
            }
        } else if what == Erase::Character && !self.settings.echo_erase() {
            self.echo_char(self.settings.erase_character());
        } else if byte == b'\t' {
            let (before, after_tab) = self.places_before_tab();
            self.push_echo(Echo::TabRubout { before, after_tab });
        } else if !is_control(byte) {
            self.echo_rubout(1);
        } else if self.settings.echo_control() {
            self.echo_rubout(2);
        }
    }

    /// How many places the characters at the line's end take, back to a tab or to the line's start; and whether it was a tab.
    fn places_before_tab(&self) -> (usize, bool) {
        let mut places = 0;
        for cell in self.input.iter().skip(self.complete).rev() {
            match cell.byte {
                b'\t' => return (places, true),
                byte if is_control(byte) => places += if self.settings.echo_control() { 2 } else { 0 },
                byte if self.settings.continues(byte) => {}
                _ => places += 1,
            }
        }
        (places, false)
    }
}
