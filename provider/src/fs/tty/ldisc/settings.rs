//! A terminal's settings as the discipline asks for them.

use crate::abi::termios::{Termios, Termios2};
use linux_raw_sys::general as raw;

/// `CIBAUD` lies this many bits above `CBAUD`: the input speed, if it is another.
const INPUT_SPEED_SHIFT: u32 = 16;

/// The speeds that c_cflag can encode, by `CBAUD` with `CBAUDEX` (bit 12) as bit 4.
const SPEEDS: [u32; 31] = [
    0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200, 230_400,
    460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000, 2_500_000, 3_000_000, 3_500_000,
    4_000_000,
];

/// The settings of a terminal, with a name for each question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings(Termios2);

macro_rules! flags {
    ($($field:ident { $($name:ident = $flag:ident),* $(,)? })*) => {
        impl Settings {
            $($(pub(super) fn $name(&self) -> bool {
                self.0.termios.$field & raw::$flag != 0
            })*)*
        }
    };
}

flags! {
    c_iflag {
        parity_marks = PARMRK,
        strips_eighth_bit = ISTRIP,
        newline_to_return = INLCR,
        ignores_return = IGNCR,
        return_to_newline = ICRNL,
        input_to_lower = IUCLC,
        flow_control = IXON,
        any_restarts = IXANY,
        utf8 = IUTF8,
    }
    c_oflag {
        processes_output = OPOST,
        output_to_upper = OLCUC,
        newline_returns = ONLCR,
        output_return_to_newline = OCRNL,
        no_return_at_start = ONOCR,
        newline_does_return = ONLRET,
    }
    c_lflag {
        signals = ISIG,
        canonical = ICANON,
        echo = ECHO,
        echo_erase = ECHOE,
        echo_kill = ECHOK,
        echo_newline = ECHONL,
        keeps_on_signal = NOFLSH,
        stops_background_output = TOSTOP,
        echo_control = ECHOCTL,
        echo_print = ECHOPRT,
        echo_kill_erase = ECHOKE,
        extended = IEXTEN,
        external = EXTPROC,
    }
}

/// The character that a place of c_cc names, if it is enabled.
macro_rules! characters {
    ($($name:ident = $index:ident),* $(,)?) => {
        impl Settings {
            $(pub(super) fn $name(&self, byte: u8) -> bool {
                // 0 is _POSIX_VDISABLE: it never matches.
                byte != 0 && self.character(raw::$index) == byte
            })*
        }
    };
}

characters! {
    is_interrupt = VINTR,
    is_quit = VQUIT,
    is_suspend = VSUSP,
    is_erase = VERASE,
    is_kill = VKILL,
    is_end_of_file = VEOF,
    is_start = VSTART,
    is_stop = VSTOP,
    is_end_of_line = VEOL,
    is_second_end_of_line = VEOL2,
    is_reprint = VREPRINT,
    is_word_erase = VWERASE,
    is_literal_next = VLNEXT,
}

impl Default for Settings {
    /// What a pseudo-terminal starts with (tty_std_termios, less what pty_set_termios takes away).
    fn default() -> Self {
        let mut c_cc = [0; crate::abi::termios::CONTROL_CHARACTERS];
        let characters = [
            (raw::VINTR, 0x03),
            (raw::VQUIT, 0x1c),
            (raw::VERASE, 0x7f),
            (raw::VKILL, 0x15),
            (raw::VEOF, 0x04),
            (raw::VMIN, 1),
            (raw::VSTART, 0x11),
            (raw::VSTOP, 0x13),
            (raw::VSUSP, 0x1a),
            (raw::VREPRINT, 0x12),
            (raw::VDISCARD, 0x0f),
            (raw::VWERASE, 0x17),
            (raw::VLNEXT, 0x16),
        ];
        for (index, character) in characters {
            if let Some(place) = c_cc.get_mut(usize::try_from(index).unwrap_or(usize::MAX)) {
                *place = character;
            }
        }
        let termios = Termios {
            c_iflag: raw::ICRNL | raw::IXON,
            c_oflag: raw::OPOST | raw::ONLCR,
            c_cflag: raw::B38400 | raw::CS8 | raw::CREAD,
            c_lflag: raw::ISIG
                | raw::ICANON
                | raw::ECHO
                | raw::ECHOE
                | raw::ECHOK
                | raw::ECHOCTL
                | raw::ECHOKE
                | raw::IEXTEN,
            c_line: 0,
            c_cc,
        };
        Self(Termios2 { termios, c_ispeed: 38_400, c_ospeed: 38_400 })
    }
}

impl Settings {
    /// The kernel's structure.
    pub(crate) fn to_abi(self) -> Termios2 {
        self.0
    }

    /// Settings as a program gives them. `speeds` (input, output) count where c_cflag says `BOTHER`; elsewhere c_cflag encodes them.
    /// A pseudo-terminal has eight bits and no parity, and always receives (pty_set_termios).
    pub(crate) fn from_abi(mut termios: Termios, speeds: Option<(u32, u32)>) -> Self {
        let (input, output) = speeds.unwrap_or_default();
        let c_ospeed = speed(termios.c_cflag, output);
        let c_ispeed = match termios.c_cflag >> INPUT_SPEED_SHIFT & raw::CBAUD {
            0 => c_ospeed,
            bits => speed(bits, input),
        };
        termios.c_cflag = termios.c_cflag & !(raw::CSIZE | raw::PARENB) | raw::CS8 | raw::CREAD;
        Self(Termios2 { termios, c_ispeed, c_ospeed })
    }

    pub(super) fn character(&self, index: u32) -> u8 {
        usize::try_from(index).ok().and_then(|index| self.0.termios.c_cc.get(index)).copied().unwrap_or_default()
    }

    /// VMIN.
    pub(crate) fn minimum(&self) -> usize {
        self.character(raw::VMIN).into()
    }

    /// VTIME, in tenths of a second.
    pub(crate) fn time(&self) -> u8 {
        self.character(raw::VTIME)
    }

    /// The character that kills a line, as it is echoed.
    pub(super) fn kill_character(&self) -> u8 {
        self.character(raw::VKILL)
    }

    /// The character that erases one, as it is echoed.
    pub(super) fn erase_character(&self) -> u8 {
        self.character(raw::VERASE)
    }

    /// Tells whether tabs are printed as spaces.
    pub(super) fn expands_tabs(&self) -> bool {
        self.0.termios.c_oflag & raw::TABDLY == raw::TAB3
    }

    /// Tells whether a program in the background is stopped as it writes.
    pub(crate) fn stops_writers(&self) -> bool {
        self.stops_background_output()
    }

    /// Tells whether lines are edited before they can be read. External processing (EXTPROC) leaves that to the other side.
    pub(crate) fn edits_lines(&self) -> bool {
        self.canonical() && !self.external()
    }

    /// Tells whether ^S and ^Q, and these, control the flow: what packet mode reports.
    pub(crate) fn usual_flow_control(&self) -> bool {
        self.flow_control() && self.is_stop(0x13) && self.is_start(0x11)
    }

    /// Tells whether a byte continues a UTF-8 sequence, and so takes no column.
    pub(super) fn continues(&self, byte: u8) -> bool {
        self.utf8() && byte & 0xc0 == 0x80
    }
}

/// The speed in bits a second that c_cflag encodes, or `other` for `BOTHER`.
fn speed(flags: u32, other: u32) -> u32 {
    let bits = flags & raw::CBAUD;
    if bits == raw::BOTHER {
        return other;
    }
    let index = (bits & 0xf) + if bits & raw::BOTHER == 0 { 0 } else { 15 };
    usize::try_from(index).ok().and_then(|index| SPEEDS.get(index)).copied().unwrap_or_default()
}
