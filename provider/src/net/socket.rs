//! What every socket family implements: [`Socket`], and what goes through it: [`Outgoing`], [`Incoming`], [`Received`].
//!
//! Sockets never block: what cannot be done yet is `EAGAIN`, and [`super::transfer`] waits in one place.

use super::{Address, Common};
use crate::errno::Errno;
use crate::fs::{OpenFile, Ready, Sink, Source, WaitSource};
use crate::task::CurrentTask;
use std::any::Any;
use std::fmt::{self, Debug};
use std::sync::Arc;

bitflags::bitflags! {
    /// The MSG_* flags of send(2) and recv(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MessageFlags: u32 {
        /// Urgent data.
        const OOB = 0x1;
        /// Look, do not consume.
        const PEEK = 0x2;
        /// No gateway.
        const DONTROUTE = 0x4;
        /// Control data did not fit.
        const CTRUNC = 0x8;
        /// Asks only for reachability; nothing is sent.
        const PROBE = 0x10;
        /// Data did not fit; as an argument: tell the real length.
        const TRUNC = 0x20;
        /// Never wait.
        const DONTWAIT = 0x40;
        /// The end of a record.
        const EOR = 0x80;
        /// Wait for all that was asked for.
        const WAITALL = 0x100;
        /// A connection ends behind this data.
        const FIN = 0x200;
        /// A connection begins.
        const SYN = 0x400;
        /// The neighbour is reachable.
        const CONFIRM = 0x800;
        /// A connection is reset.
        const RST = 0x1000;
        /// The queue of errors.
        const ERRQUEUE = 0x2000;
        /// No SIGPIPE.
        const NOSIGNAL = 0x4000;
        /// More follows.
        const MORE = 0x8000;
        /// recvmmsg(2): wait for the first message only.
        const WAITFORONE = 0x1_0000;
        /// Several datagrams.
        const BATCH = 0x4_0000;
        /// Send from the caller's pages.
        const ZEROCOPY = 0x400_0000;
        /// Data in the first packet.
        const FASTOPEN = 0x2000_0000;
        /// Received descriptors are closed on exec.
        const CMSG_CLOEXEC = 0x4000_0000;
    }
}

/// How [`Socket::shutdown`] ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Nothing more is received.
    Receive,
    /// Nothing more is sent.
    Send,
    /// Both.
    Both,
}

impl Shutdown {
    /// Tells whether it ends receiving.
    pub fn receives(self) -> bool {
        matches!(self, Self::Receive | Self::Both)
    }

    /// Tells whether it ends sending.
    pub fn sends(self) -> bool {
        matches!(self, Self::Send | Self::Both)
    }
}

/// A control message as a program passes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawControl {
    /// The protocol that it is of (SOL_*).
    pub level: i32,
    /// What it says.
    pub kind: i32,
    /// The data behind the header.
    pub data: Vec<u8>,
}

/// A control message for a program.
#[derive(Debug)]
pub enum Control {
    /// Bytes.
    Data(RawControl),
    /// Open files, which become descriptors (SCM_RIGHTS).
    Files(Vec<Arc<OpenFile>>),
}

impl Control {
    /// Makes a message of bytes.
    pub fn data(level: u32, kind: u32, data: &[u8]) -> Self {
        let number = |value: u32| i32::try_from(value).unwrap_or_default();
        Self::Data(RawControl { level: number(level), kind: number(kind), data: data.to_vec() })
    }
}

/// A message to be sent.
pub struct Outgoing<'a> {
    /// The data.
    pub data: &'a mut dyn Source,
    /// Where to, if it is said.
    pub to: Option<&'a [u8]>,
    /// Control messages.
    pub control: &'a [RawControl],
    /// Flags.
    pub flags: MessageFlags,
}

/// Room for a message.
pub struct Incoming<'a> {
    /// Where the data goes.
    pub data: &'a mut dyn Sink,
    /// Flags.
    pub flags: MessageFlags,
    /// Whether the caller asks who sent it.
    pub wants_name: bool,
}

impl Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("to", &self.to).field("flags", &self.flags).finish_non_exhaustive()
    }
}

impl Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("flags", &self.flags).finish_non_exhaustive()
    }
}

/// What was received.
#[derive(Debug, Default)]
pub struct Received {
    /// What the call returns: bytes delivered, or the real length where MSG_TRUNC asks for it.
    pub len: usize,
    /// Who sent it.
    pub from: Option<Address>,
    /// Control messages.
    pub control: Vec<Control>,
    /// Flags for the program: MSG_TRUNC, MSG_EOR…
    pub flags: u32,
    /// Nothing more may be added by a caller that would wait for more: the data ends here for a reason.
    pub is_complete: bool,
}

/// A socket.
pub trait Socket: Send + Sync + Debug + Any {
    /// What all families have.
    fn common(&self) -> &Common;

    /// Gives it an address.
    fn bind(&self, task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno>;

    /// Lets others connect.
    fn listen(&self, _task: &CurrentTask<'_>, _backlog: i32) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Takes the next connection; `EAGAIN` if there is none.
    fn accept(&self, _task: &CurrentTask<'_>) -> Result<Arc<dyn Socket>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Connects. `EAGAIN` and `EINPROGRESS`: not yet; a caller that waits asks [`Self::finish_connect`] after each change, another
    /// gets the error.
    fn connect(&self, task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno>;

    /// Asks how a connection comes along that [`Self::connect`] has begun.
    fn finish_connect(&self, task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno> {
        self.connect(task, address)
    }

    /// Its own address.
    fn local_address(&self) -> Result<Address, Errno>;

    /// The other side's; `ENOTCONN`.
    fn peer_address(&self) -> Result<Address, Errno>;

    /// Sends as much as fits; `EAGAIN` if that is nothing.
    fn send(&self, task: &CurrentTask<'_>, message: &mut Outgoing<'_>) -> Result<usize, Errno>;

    /// Receives what is there; `EAGAIN` if nothing is.
    fn receive(&self, task: &CurrentTask<'_>, message: &mut Incoming<'_>) -> Result<Received, Errno>;

    /// Ends one direction or both.
    fn shutdown(&self, how: Shutdown) -> Result<(), Errno>;

    /// Reads an option; the caller cuts the value to the program's room, which is `room` bytes.
    fn option(&self, task: &CurrentTask<'_>, level: u32, name: u32, room: usize) -> Result<Vec<u8>, Errno> {
        super::options::get(self.common(), task, level, name, room)
    }

    /// Sets an option.
    fn set_option(&self, task: &CurrentTask<'_>, level: u32, name: u32, value: &[u8]) -> Result<(), Errno> {
        super::options::set(self.common(), task, level, name, value)
    }

    /// Device control.
    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno>;

    /// What it is ready for.
    fn ready(&self) -> Ready;

    /// What to wait on for a change.
    fn wait_source(&self) -> WaitSource<'_> {
        WaitSource::Queue(&self.common().queue)
    }

    /// Tells whether data has no boundaries, so that a write may be continued.
    fn is_stream(&self) -> bool {
        false
    }

    /// The last open file is gone.
    fn close(&self);

    /// For downcasts within one family.
    fn as_any(&self) -> &dyn Any;
}
