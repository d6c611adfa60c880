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

/// `struct termio`: System V's, with 16 bits of each set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "termios(3) describes them")]
#[repr(C)]
pub struct Termio {
    pub c_iflag: u16,
    pub c_oflag: u16,
    pub c_cflag: u16,
    pub c_lflag: u16,
    pub c_line: u8,
    pub c_cc: [u8; 8],
    /// Byte 17: padding.
    pub padding: u8,
}

impl From<&Termios> for Termio {
    fn from(termios: &Termios) -> Self {
        let low = |flags: u32| (flags & 0xffff) as u16;
        let mut c_cc = [0; 8];
        c_cc.copy_from_slice(&termios.c_cc[..8]);
        Self {
            c_iflag: low(termios.c_iflag),
            c_oflag: low(termios.c_oflag),
            c_cflag: low(termios.c_cflag),
            c_lflag: low(termios.c_lflag),
            c_line: termios.c_line,
            c_cc,
            padding: 0,
        }
    }
}

impl Termio {
    /// Full settings: what this structure does not hold stays as in `old` (user_termio_to_kernel_termios).
    pub fn over(&self, old: Termios) -> Termios {
        let join = |old: u32, low: u16| old & 0xffff_0000 | u32::from(low);
        let mut c_cc = old.c_cc;
        c_cc[..8].copy_from_slice(&self.c_cc);
        Termios {
            c_iflag: join(old.c_iflag, self.c_iflag),
            c_oflag: join(old.c_oflag, self.c_oflag),
            c_cflag: join(old.c_cflag, self.c_cflag),
            c_lflag: join(old.c_lflag, self.c_lflag),
            c_line: self.c_line,
            c_cc,
        }
    }
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

const _: () = assert!(size_of::<Termio>() == 18);
const _: () = assert!(size_of::<Termios>() == 36 && size_of::<Termios2>() == 44 && size_of::<WindowSize>() == 8);
