//! poll(2) and select(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct pollfd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PollFd {
    /// The descriptor; negative: ignored.
    pub fd: i32,
    /// What is asked for: POLL* bits.
    pub events: u16,
    /// What was found.
    pub revents: u16,
}

/// The sixth argument of pselect6: where the signal mask is, and its size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigsetArgument {
    /// Address of the mask; 0: none.
    pub mask: u64,
    /// `sizeof(sigset_t)` as the kernel has it: 8.
    pub size: u64,
}

const _: () = assert!(size_of::<PollFd>() == 8 && size_of::<SigsetArgument>() == 16);
