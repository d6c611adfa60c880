//! What socket calls exchange: message headers, control messages, credentials (include/linux/socket.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct msghdr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "recvmsg(2) describes them")]
#[repr(C)]
pub struct MessageHeader {
    pub name: u64,
    pub name_len: u32,
    pub padding: u32,
    pub iov: u64,
    pub iov_len: u64,
    pub control: u64,
    pub control_len: u64,
    pub flags: u32,
    pub padding2: u32,
}

/// `struct mmsghdr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MultiHeader {
    /// The message.
    pub header: MessageHeader,
    /// Bytes sent or received.
    pub len: u32,
    /// Nothing.
    pub padding: u32,
}

/// `struct cmsghdr`: what a control message starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ControlHeader {
    /// Bytes, this header's included.
    pub len: u64,
    /// The protocol that it is of (SOL_*).
    pub level: i32,
    /// What it says.
    pub kind: i32,
}

/// `struct ucred`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "unix(7) describes them")]
#[repr(C)]
pub struct UserCredentials {
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

/// `struct linger`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Linger {
    /// Whether it counts.
    pub on: i32,
    /// Seconds.
    pub seconds: i32,
}

const _: () = assert!(size_of::<MessageHeader>() == 56 && size_of::<MultiHeader>() == 64);
const _: () = assert!(size_of::<ControlHeader>() == 16 && size_of::<UserCredentials>() == 12);
