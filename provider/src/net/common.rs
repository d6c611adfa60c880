//! What the sockets of all families have: identity, the options of SOL_SOCKET, a pending error, who waits.

use crate::errno::Errno;
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::task::{CurrentTask, WaitQueue};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The default of SO_SNDBUF and SO_RCVBUF, and their limit (net.core.wmem_default and wmem_max).
pub const BUFFER_DEFAULT: usize = 212_992;
/// The smallest SO_SNDBUF (SOCK_MIN_SNDBUF).
pub const SEND_BUFFER_MIN: usize = 4608;
/// The smallest SO_RCVBUF (SOCK_MIN_RCVBUF).
pub const RECEIVE_BUFFER_MIN: usize = 2304;
/// The limit on listen's backlog (net.core.somaxconn).
pub const SOMAXCONN: usize = 4096;

/// Sockets' inode numbers; they start where no other pseudo file's are likely to be.
static NEXT_INODE: AtomicU64 = AtomicU64::new(0x1_0000);

/// The type of a socket (SOCK_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bytes over a connection.
    Stream,
    /// Messages.
    Datagram,
    /// Messages over a connection.
    SeqPacket,
    /// Messages of a protocol below (netlink, ICMP).
    Raw,
}

impl Kind {
    /// Its number.
    pub fn number(self) -> u32 {
        match self {
            Self::Stream => 1,
            Self::Datagram => 2,
            Self::Raw => 3,
            Self::SeqPacket => 5,
        }
    }
}

bitflags::bitflags! {
    /// Options of SOL_SOCKET that are on or off.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Switches: u32 {
        /// SO_DEBUG.
        const DEBUG = 1;
        /// SO_REUSEADDR.
        const REUSEADDR = 1 << 1;
        /// SO_REUSEPORT.
        const REUSEPORT = 1 << 2;
        /// SO_KEEPALIVE.
        const KEEPALIVE = 1 << 3;
        /// SO_BROADCAST.
        const BROADCAST = 1 << 4;
        /// SO_OOBINLINE.
        const OOBINLINE = 1 << 5;
        /// SO_DONTROUTE.
        const DONTROUTE = 1 << 6;
        /// SO_PASSCRED.
        const PASSCRED = 1 << 7;
        /// SO_PASSSEC.
        const PASSSEC = 1 << 8;
        /// SO_TIMESTAMP.
        const TIMESTAMP = 1 << 9;
        /// SO_TIMESTAMPNS.
        const TIMESTAMPNS = 1 << 10;
        /// SO_NO_CHECK.
        const NO_CHECK = 1 << 11;
        /// SO_RXQ_OVFL.
        const RXQ_OVFL = 1 << 12;
        /// SO_SELECT_ERR_QUEUE.
        const SELECT_ERR_QUEUE = 1 << 13;
        /// SO_LOCK_FILTER.
        const LOCK_FILTER = 1 << 14;
    }
}

/// The values of SOL_SOCKET's options.
#[derive(Clone, Debug)]
pub struct Options {
    /// Those that are on or off.
    pub switches: Switches,
    /// SO_SNDBUF as it is reported: twice what was asked for.
    pub send_buffer: usize,
    /// SO_RCVBUF as it is reported.
    pub receive_buffer: usize,
    /// A program has set SO_SNDBUF.
    pub send_buffer_set: bool,
    /// A program has set SO_RCVBUF.
    pub receive_buffer_set: bool,
    /// SO_LINGER: seconds.
    pub linger: Option<u32>,
    /// SO_RCVLOWAT.
    pub low_water: usize,
    /// SO_RCVTIMEO.
    pub receive_timeout: Option<Duration>,
    /// SO_SNDTIMEO.
    pub send_timeout: Option<Duration>,
    /// SO_PRIORITY.
    pub priority: i32,
    /// SO_MARK.
    pub mark: u32,
    /// SO_BINDTODEVICE: the interface's index, 0 for any.
    pub device: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            switches: Switches::empty(),
            send_buffer: BUFFER_DEFAULT,
            receive_buffer: BUFFER_DEFAULT,
            send_buffer_set: false,
            receive_buffer_set: false,
            linger: None,
            low_water: 1,
            receive_timeout: None,
            send_timeout: None,
            priority: 0,
            mark: 0,
            device: 0,
        }
    }
}

/// What all sockets have.
#[derive(Debug)]
pub struct Common {
    /// AF_*.
    pub family: u32,
    /// SOCK_*.
    pub kind: Kind,
    /// The protocol within the family.
    pub protocol: u32,
    /// The number in `socket:[N]`.
    pub inode: u64,
    /// The user that made it.
    pub uid: u32,
    /// Who waits for a change.
    pub queue: WaitQueue,
    error: Mutex<Option<Errno>>,
    options: Mutex<Options>,
}

impl Common {
    /// Makes the common part of a new socket.
    pub fn new(task: &CurrentTask<'_>, family: u32, kind: Kind, protocol: u32) -> Self {
        Self::owned(task.credentials().fsuid, family, kind, protocol, Options::default())
    }

    /// Makes the common part of a socket that another one gives birth to (accept): it takes over the options.
    pub fn child(&self, uid: u32) -> Self {
        Self::owned(uid, self.family, self.kind, self.protocol, self.options().clone())
    }

    fn owned(uid: u32, family: u32, kind: Kind, protocol: u32, options: Options) -> Self {
        Self {
            family,
            kind,
            protocol,
            inode: NEXT_INODE.fetch_add(1, Ordering::Relaxed),
            uid,
            queue: WaitQueue::default(),
            error: Mutex::new(Rank::Leaf, None),
            options: Mutex::new(Rank::Leaf, options),
        }
    }

    /// The options, locked: a leaf.
    pub fn options(&self) -> MutexGuard<'_, Options> {
        self.options.lock()
    }

    /// Tells whether a switch is on.
    pub fn has(&self, switch: Switches) -> bool {
        self.options.lock().switches.contains(switch)
    }

    /// Leaves an error for the next call (SO_ERROR).
    pub fn set_error(&self, error: Errno) {
        *self.error.lock() = Some(error);
    }

    /// Takes the pending error.
    pub fn take_error(&self) -> Option<Errno> {
        self.error.lock().take()
    }

    /// The pending error, which stays.
    pub fn error(&self) -> Option<Errno> {
        *self.error.lock()
    }

    /// Fails with the pending error, which is thereby taken.
    pub fn check_error(&self) -> Result<(), Errno> {
        self.take_error().map_or(Ok(()), Err)
    }
}
