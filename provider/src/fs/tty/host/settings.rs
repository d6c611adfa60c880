//! The kernel's termios structures and the host library's, converted into each other.

use crate::abi::termios::{Termios, Termios2};
use crate::errno::Errno;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, tcgetattr, tcsetattr,
};
use std::os::fd::BorrowedFd;

/// The control characters in the order of the kernel's array. The last two of its 19 places have no meaning.
const INDICES: [SpecialCodeIndex; 17] = [
    SpecialCodeIndex::VINTR,
    SpecialCodeIndex::VQUIT,
    SpecialCodeIndex::VERASE,
    SpecialCodeIndex::VKILL,
    SpecialCodeIndex::VEOF,
    SpecialCodeIndex::VTIME,
    SpecialCodeIndex::VMIN,
    SpecialCodeIndex::VSWTC,
    SpecialCodeIndex::VSTART,
    SpecialCodeIndex::VSTOP,
    SpecialCodeIndex::VSUSP,
    SpecialCodeIndex::VEOL,
    SpecialCodeIndex::VREPRINT,
    SpecialCodeIndex::VDISCARD,
    SpecialCodeIndex::VWERASE,
    SpecialCodeIndex::VLNEXT,
    SpecialCodeIndex::VEOL2,
];

/// `CBAUD`: the bits of c_cflag that encode the speed.
const SPEED_BITS: u32 = 0o10017;
/// `BOTHER`: the speed is the one in c_ospeed.
const SPEED_OTHER: u32 = 0o10000;

/// The terminal's settings.
pub(in super::super) fn get(fd: BorrowedFd<'_>) -> Result<Termios2, Errno> {
    let host = tcgetattr(fd)?;
    let mut termios = Termios {
        c_iflag: host.input_modes.bits(),
        c_oflag: host.output_modes.bits(),
        c_cflag: host.control_modes.bits(),
        c_lflag: host.local_modes.bits(),
        c_line: host.line_discipline,
        ..Termios::default()
    };
    for (character, index) in termios.c_cc.iter_mut().zip(INDICES) {
        *character = host.special_codes[index];
    }
    Ok(Termios2 { termios, c_ispeed: host.input_speed(), c_ospeed: host.output_speed() })
}

/// Changes the settings. Speeds count where c_cflag says that they do (`BOTHER`); else c_cflag encodes them.
pub(in super::super) fn set(
    fd: BorrowedFd<'_>,
    when: OptionalActions,
    new: &Termios,
    speeds: Option<(u32, u32)>,
) -> Result<(), Errno> {
    let mut host = tcgetattr(fd)?;
    host.input_modes = InputModes::from_bits_retain(new.c_iflag);
    host.output_modes = OutputModes::from_bits_retain(new.c_oflag);
    host.control_modes = ControlModes::from_bits_retain(new.c_cflag);
    host.local_modes = LocalModes::from_bits_retain(new.c_lflag);
    host.line_discipline = new.c_line;
    for (character, index) in new.c_cc.iter().zip(INDICES) {
        host.special_codes[index] = *character;
    }
    if let Some((input, output)) = speeds
        && new.c_cflag & SPEED_BITS == SPEED_OTHER
    {
        host.set_input_speed(input)?;
        host.set_output_speed(output)?;
    }
    Ok(tcsetattr(fd, when, &host)?)
}
