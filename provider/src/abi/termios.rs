//! Terminal settings, see ioctl_tty(2). These are the kernel's structures, which differ from those of the C library.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Control characters in the kernel's structures (NCCS).
pub const CONTROL_CHARACTERS: usize = 19;

/// `struct termios` of <asm-generic/termbits.h>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "termios(3) describes them")]
#[repr(C)]
pub struct Termios {
    pub c_iflag: u32,
    pub c_oflag: u32,
    pub c_cflag: u32,
    pub c_lflag: u32,
    pub c_line: u8,
    pub c_cc: [u8; CONTROL_CHARACTERS],
}

/// `struct termios2`: with the speeds in bits a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "termios(3) describes them")]
#[repr(C)]
pub struct Termios2 {
    pub termios: Termios,
    pub c_ispeed: u32,
    pub c_ospeed: u32,
}

/// `struct winsize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "ioctl_tty(2) describes them")]
#[repr(C)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
    pub x_pixels: u16,
    pub y_pixels: u16,
}

const _: () = assert!(size_of::<Termios>() == 36 && size_of::<Termios2>() == 44 && size_of::<WindowSize>() == 8);
