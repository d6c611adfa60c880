//! The line discipline: what lies between a terminal's two sides (N_TTY, drivers/tty/n_tty.c).
//!
//! Bytes typed on the outside go through [`LineDiscipline::receive`], which edits lines, echoes and finds signals; a program takes them
//! with [`LineDiscipline::read`]. What it prints goes through [`LineDiscipline::write`] into the output queue, which the outside
//! takes with [`LineDiscipline::take_output`]. It is a state machine with no lock, no clock and no files: whoever owns it sends the
//! signals and wakes the sleepers that an [`Effects`] names.

mod characters;
mod echo;
mod edit;
mod output;
mod receive;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use settings::Settings;

use crate::signal::Signal;
use echo::Echo;
use std::collections::VecDeque;

/// Bytes that the input queue holds (N_TTY_BUF_SIZE). A line has one byte less, without its end.
const INPUT_LIMIT: usize = 4096;
/// Bytes of output that stay whatever is flushed: on Linux they have reached the other side's own input queue.
const DELIVERED: usize = INPUT_LIMIT - 1;
/// Bytes that the output queue holds: the above, and those on the way (tty_buffer_set_limit in pty.c).
const OUTPUT_LIMIT: usize = DELIVERED + 8192;
/// Operations of echo that wait while the output is stopped. As on Linux the oldest go when there are more.
const ECHO_LIMIT: usize = 4096;

/// A byte that was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    byte: u8,
    /// It ends a line. A line that ends with the end-of-file character has a NUL there, which is not read.
    ends_line: bool,
}

impl Cell {
    fn is_end_of_file(self) -> bool {
        self.ends_line && self.byte == 0
    }
}

bitflags::bitflags! {
    /// What packet mode reports to the outside, see ioctl_tty(2), TIOCPKT.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct PacketStatus: u8 {
        /// The input queue was flushed.
        const FLUSH_READ = 1;
        /// The output queue was flushed.
        const FLUSH_WRITE = 2;
        /// Output was stopped.
        const STOP = 4;
        /// Output goes on.
        const START = 8;
        /// ^S and ^Q are no longer for flow control.
        const NO_STOP = 16;
        /// They are.
        const DO_STOP = 32;
        /// Settings were changed while EXTPROC is on.
        const IOCTL = 64;
    }
}

impl PacketStatus {
    /// What is to be reported after a later change: of two that contradict each other the later counts.
    pub(crate) fn then(self, later: Self) -> Self {
        let contradictions = [(Self::STOP, Self::START), (Self::NO_STOP, Self::DO_STOP)];
        let outdated = contradictions.into_iter().fold(Self::empty(), |outdated, (one, other)| {
            let by_one = if later.contains(one) { other } else { Self::empty() };
            outdated | by_one | if later.contains(other) { one } else { Self::empty() }
        });
        self.difference(outdated) | later
    }
}

/// Who has stopped the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flow {
    /// It stands.
    stopped: bool,
    /// tcflow(3) has stopped it: a typed character does not start it again.
    by_program: bool,
}

/// What a step means for others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// For the foreground process group, in this order.
    pub(crate) signals: Vec<Signal>,
    /// For the outside in packet mode, and what it takes back.
    pub(crate) packet: PacketStatus,
}

/// A terminal's line discipline with its queues.
#[derive(Debug, Default)]
pub(crate) struct LineDiscipline {
    settings: Settings,
    /// What was typed and is not read yet.
    input: VecDeque<Cell>,
    /// How many of these cells belong to lines that are complete: a program in canonical mode sees no more.
    complete: usize,
    /// The next byte is taken as it is.
    literal_next: bool,
    /// Characters are being erased with ECHOPRT: a slash will end it.
    erasing: bool,
    /// What was printed and not taken yet.
    output: VecDeque<u8>,
    /// Echo that waits for the output to go on.
    echo: VecDeque<Echo>,
    flow: Flow,
    /// Where the cursor is.
    column: usize,
    /// Where the line that is edited began.
    line_column: usize,
}

impl LineDiscipline {
    /// The settings.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes the settings (n_tty_set_termios, pty_set_termios).
    pub(crate) fn change_settings(&mut self, new: Settings) -> Effects {
        let old = std::mem::replace(&mut self.settings, new);
        if old.canonical() != new.canonical() || old.external() != new.external() {
            self.input.iter_mut().for_each(|cell| cell.ends_line = false);
            self.complete = 0;
            if let (true, Some(last)) = (new.canonical(), self.input.back_mut()) {
                // What was typed before is a line of its own, with no end but where it ends.
                last.ends_line = true;
                self.complete = self.input.len();
            }
            (self.erasing, self.literal_next) = (false, false);
        }
        let mut effects = Effects::default();
        if old.flow_control() && !new.flow_control() && !self.flow.by_program {
            effects.packet |= self.start();
        }
        let flow = new.usual_flow_control();
        if flow != old.usual_flow_control() {
            effects.packet |= if flow { PacketStatus::DO_STOP } else { PacketStatus::NO_STOP };
        }
        if old.external() || new.external() {
            effects.packet |= PacketStatus::IOCTL;
        }
        effects
    }

    /// Tells whether a read of at least `minimum` bytes would return now. In canonical mode a line, however short, is enough.
    pub(crate) fn is_readable(&self, minimum: usize) -> bool {
        if self.settings.edits_lines() { self.complete > 0 } else { self.input.len() >= minimum.max(1) }
    }

    /// Takes at most `limit` bytes; in canonical mode at most a line, and none for an end of file.
    pub(crate) fn read(&mut self, limit: usize) -> Vec<u8> {
        if !self.settings.edits_lines() {
            let count = limit.min(self.input.len());
            self.complete = self.complete.saturating_sub(count);
            return self.input.drain(..count).map(|cell| cell.byte).collect();
        }
        let mut bytes = Vec::new();
        while self.complete > 0 {
            let next = self.input.front().copied();
            // An end of file right behind the last byte that fits goes with it (canon_skip_eof).
            if bytes.len() == limit && !next.is_some_and(Cell::is_end_of_file) {
                break;
            }
            let Some(cell) = self.input.pop_front() else { break };
            self.complete -= 1;
            if !cell.is_end_of_file() {
                bytes.push(cell.byte);
            }
            if cell.ends_line {
                break;
            }
        }
        bytes
    }

    /// Bytes that can be read (FIONREAD): of complete lines in canonical mode, without ends of file.
    pub(crate) fn readable_bytes(&self) -> usize {
        if self.settings.edits_lines() {
            self.input.iter().take(self.complete).filter(|cell| !cell.is_end_of_file()).count()
        } else {
            self.input.len()
        }
    }

    /// Drops what was typed and not read (TCIFLUSH).
    pub(crate) fn flush_input(&mut self) -> PacketStatus {
        self.input.clear();
        self.complete = 0;
        (self.erasing, self.literal_next) = (false, false);
        PacketStatus::FLUSH_READ
    }

    /// Drops what was printed and has not reached the other side (TCOFLUSH).
    pub(crate) fn flush_output(&mut self) -> PacketStatus {
        self.output.truncate(DELIVERED);
        PacketStatus::FLUSH_WRITE
    }

    /// Drops what was printed even if it has reached the other side, which does not want it.
    pub(crate) fn discard_output(&mut self) {
        self.output.clear();
    }

    /// Stops the output on behalf of a program (TCOOFF).
    pub(crate) fn stop_by_program(&mut self) -> PacketStatus {
        if self.flow.by_program {
            return PacketStatus::empty();
        }
        self.flow.by_program = true;
        self.stop()
    }

    /// Lets the output go on on behalf of a program (TCOON), if one has stopped it.
    pub(crate) fn start_by_program(&mut self) -> PacketStatus {
        if !self.flow.by_program {
            return PacketStatus::empty();
        }
        self.flow.by_program = false;
        self.start()
    }

    /// Sends the control character at a place of c_cc to the other side, past everything (tty_send_xchar).
    pub(crate) fn send_character(&mut self, index: u32) {
        let byte = self.settings.character(index);
        if byte != 0 {
            self.output.push_front(byte);
        }
    }

    /// Stops the output (stop_tty).
    fn stop(&mut self) -> PacketStatus {
        if self.flow.stopped {
            return PacketStatus::empty();
        }
        self.flow.stopped = true;
        PacketStatus::STOP
    }

    /// Lets the output go on, with the echo that has waited (start_tty).
    fn start(&mut self) -> PacketStatus {
        if !self.flow.stopped || self.flow.by_program {
            return PacketStatus::empty();
        }
        self.flow.stopped = false;
        self.release_echo();
        PacketStatus::START
    }
}

#[cfg(any(test, fuzzing))]
impl LineDiscipline {
    /// Panics unless the queues keep to their bounds and what is counted is there.
    pub(crate) fn check(&self) {
        assert!(self.input.len() <= INPUT_LIMIT, "{} bytes of input", self.input.len());
        assert!(self.complete <= self.input.len(), "{} of {} are complete", self.complete, self.input.len());
        assert!(self.echo.len() <= ECHO_LIMIT, "{} operations of echo", self.echo.len());
        assert!(self.readable_bytes() <= self.input.len(), "more can be read than there is");
        if self.settings.edits_lines() && self.complete > 0 {
            let last = self.input.get(self.complete - 1);
            assert!(last.is_some_and(|cell| cell.ends_line), "what is complete ends with a line's end");
        }
    }
}
