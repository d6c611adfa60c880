//! What is typed, on its way to programs (n_tty_receive_buf_common and below).

use super::characters::to_lower;
use super::echo::Echo;
use super::edit::Erase;
use super::{Cell, Effects, INPUT_LIMIT, LineDiscipline};
use crate::signal::Signal;

impl LineDiscipline {
    /// Takes bytes from the outside; returns how many, fewer than given once the input queue is full, and what follows from them.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> (usize, Effects) {
        let mut effects = Effects::default();
        for (done, byte) in bytes.iter().enumerate() {
            if !self.make_room() {
                self.release_echo();
                return (done, effects);
            }
            self.receive_byte(*byte, &mut effects);
        }
        self.release_echo();
        (bytes.len(), effects)
    }

    /// Tells whether a byte can be taken. A line that is longer than the queue loses its last byte for each new one, so that its
    /// end can still be typed; with PARMRK its last two, since a byte of ones becomes two.
    fn make_room(&mut self) -> bool {
        let free = INPUT_LIMIT.saturating_sub(self.input.len());
        // With PARMRK a byte may become three.
        let room = if self.settings.parity_marks() { free.div_ceil(3) } else { free };
        if room > 1 {
            return true;
        }
        if !self.settings.canonical() || self.complete > 0 {
            return false;
        }
        let next = if self.settings.parity_marks() { 2 } else { 1 };
        self.input.truncate(INPUT_LIMIT - next);
        true
    }

    fn receive_byte(&mut self, byte: u8, effects: &mut Effects) {
        let mut byte = if self.settings.strips_eighth_bit() { byte & 0x7f } else { byte };
        if self.settings.input_to_lower() && self.settings.extended() {
            byte = to_lower(byte);
        }
        if self.settings.external() {
            return self.queue(byte, false);
        }
        if std::mem::take(&mut self.literal_next) {
            return self.receive_plain(byte, effects);
        }
        if self.settings.flow_control() && self.receive_flow(byte, effects) {
            return;
        }
        if let Some(signal) = self.signal_of(byte) {
            return self.receive_signal(signal, byte, effects);
        }
        let typed = byte;
        match byte {
            b'\r' if self.settings.ignores_return() => return self.restart_flow(effects),
            b'\r' if self.settings.return_to_newline() => byte = b'\n',
            b'\n' if self.settings.newline_to_return() => byte = b'\r',
            _ => {}
        }
        self.restart_flow(effects);
        if self.settings.canonical() && self.receive_canonical(byte) {
            return;
        }
        if byte == b'\n' && typed == b'\r' {
            // A return that became a newline moves the cursor; a newline itself is shown as ^J.
            if self.settings.echo() {
                self.finish_erasing();
                self.echo_raw(byte);
            }
            return self.queue(byte, false);
        }
        self.receive_plain(byte, effects);
    }

    /// ^S and ^Q. Tells whether the byte was one.
    fn receive_flow(&mut self, byte: u8, effects: &mut Effects) -> bool {
        if self.settings.is_start(byte) {
            effects.packet = effects.packet.then(self.start());
            self.release_echo();
        } else if self.settings.is_stop(byte) {
            effects.packet = effects.packet.then(self.stop());
        } else {
            return false;
        }
        true
    }

    /// With IXANY any character lets the output go on.
    fn restart_flow(&mut self, effects: &mut Effects) {
        if self.settings.flow_control() && self.settings.any_restarts() {
            effects.packet = effects.packet.then(self.start());
        }
    }

    fn signal_of(&self, byte: u8) -> Option<Signal> {
        let settings = &self.settings;
        match byte {
            _ if !settings.signals() => None,
            _ if settings.is_interrupt(byte) => Some(Signal::SIGINT),
            _ if settings.is_quit(byte) => Some(Signal::SIGQUIT),
            _ if settings.is_suspend(byte) => Some(Signal::SIGTSTP),
            _ => None,
        }
    }

    fn receive_signal(&mut self, signal: Signal, byte: u8, effects: &mut Effects) {
        *effects = std::mem::take(effects).then(self.raise(signal));
        if self.settings.flow_control() {
            effects.packet = effects.packet.then(self.start());
        }
        if self.settings.echo() {
            self.echo_char(byte);
        }
    }

    /// Generates a signal as if its character had been typed (isig): unless NOFLSH is set, both queues are flushed.
    pub(crate) fn raise(&mut self, signal: Signal) -> Effects {
        let mut effects = Effects { signals: vec![signal], ..Effects::default() };
        if !self.settings.keeps_on_signal() {
            self.discard_echo();
            effects.packet = self.flush_output() | self.flush_input();
        }
        effects
    }

    /// Editing characters and ends of lines. Tells whether the byte was one.
    fn receive_canonical(&mut self, byte: u8) -> bool {
        let settings = self.settings;
        if settings.is_erase(byte) {
            self.erase(Erase::Character);
        } else if settings.is_kill(byte) {
            self.erase(Erase::Line);
        } else if settings.extended() && settings.is_word_erase(byte) {
            self.erase(Erase::Word);
        } else if settings.extended() && settings.is_literal_next(byte) {
            self.literal_next = true;
            if settings.echo() {
                self.finish_erasing();
                if settings.echo_control() {
                    self.echo_raw(b'^');
                    self.echo_raw(0x08);
                }
            }
        } else if settings.extended() && settings.echo() && settings.is_reprint(byte) {
            self.reprint(byte);
        } else if byte == b'\n' {
            if settings.echo() || settings.echo_newline() {
                self.echo_raw(b'\n');
            }
            self.end_line(byte);
        } else if settings.is_end_of_file(byte) {
            self.end_line(0);
        } else if settings.is_end_of_line(byte) || (settings.extended() && settings.is_second_end_of_line(byte)) {
            if settings.echo() {
                self.note_line_start();
                self.echo_char(byte);
            }
            self.mark_parity(byte);
            self.end_line(byte);
        } else {
            return false;
        }
        true
    }

    /// A byte with no meaning of its own.
    fn receive_plain(&mut self, byte: u8, effects: &mut Effects) {
        self.restart_flow(effects);
        if self.settings.echo() {
            self.finish_erasing();
            self.note_line_start();
            self.echo_char(byte);
        }
        self.mark_parity(byte);
        self.queue(byte, false);
    }

    /// The first character of a line notes where on the screen the line begins.
    fn note_line_start(&mut self) {
        if self.line_is_empty() {
            self.push_echo(Echo::LineStart);
        }
    }

    /// With PARMRK a byte of ones is doubled, so that it is no mark.
    fn mark_parity(&mut self, byte: u8) {
        if byte == 0xff && self.settings.parity_marks() {
            self.queue(byte, false);
        }
    }

    fn end_line(&mut self, byte: u8) {
        self.queue(byte, true);
        self.complete = self.input.len();
    }

    fn queue(&mut self, byte: u8, ends_line: bool) {
        self.input.push_back(Cell { byte, ends_line });
    }
}

impl Effects {
    /// Both, one after the other.
    pub(crate) fn then(mut self, later: Self) -> Self {
        self.signals.extend(later.signals);
        Self { packet: self.packet.then(later.packet), ..self }
    }
}
