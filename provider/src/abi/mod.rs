//! Structures that programs and the kernel share, where linux-raw-sys's are not zerocopy types.

pub mod epoll;
pub mod poll;
pub mod socket;
pub mod stat;
pub mod termios;
