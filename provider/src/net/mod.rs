//! Sockets: the families' common ground, and what a sandbox's network is made of ([`Network`]).
//!
//! A [`Socket`] is behind a [`SocketFile`], which is an open file like any other. Families: [`unix`], [`inet`], [`netlink`]. Everything is the provider's
//! own unless the sandbox was given the host's network ([`host`]): a connection is buffers of the monitor with wait queues, and no packet leaves the sandbox.
//!
//! Locks: the tables of names are of rank `Network`, a socket's state is of rank `Socket`, what it has received is of rank
//! `SocketBuffer`; two sockets' locks of one rank are never held together.

pub mod address;
pub mod budget;
pub mod common;
pub mod control;
pub mod file;
pub mod host;
pub mod inet;
pub mod interface;
pub mod messages;
pub mod netlink;
pub mod options;
pub mod ring;
pub mod socket;
pub mod transfer;
pub mod unix;

pub use address::{ADDRESS_MAX, Address};
pub use budget::Budget;
pub use common::{Common, Kind, SOMAXCONN};
pub use file::{SocketFile, open};
pub use socket::{Control, Incoming, MessageFlags, Outgoing, RawControl, Received, Shutdown, Socket};

use crate::config;
use crate::errno::Errno;
use crate::task::CurrentTask;
use linux_raw_sys::net::{AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX};
use std::sync::Arc;

/// A sandbox's network.
#[derive(Debug)]
pub struct Network {
    budget: Arc<Budget>,
    unix: Arc<unix::Names>,
    inet: Arc<inet::Stack>,
    netlink: Arc<netlink::PortIds>,
}

impl Network {
    /// Makes the network of a sandbox that may hold `memory` bytes: an eighth of that may be data in flight, and no more than
    /// `Self::MOST`.
    pub fn new(memory: u64) -> Self {
        let limit = usize::try_from(memory / 8).unwrap_or(usize::MAX).min(Self::MOST);
        Self {
            budget: Arc::new(Budget::new(limit)),
            unix: Arc::default(),
            inet: Arc::default(),
            netlink: Arc::default(),
        }
    }

    /// The most data in flight, in bytes.
    const MOST: usize = 1 << 30;

    /// The bound on data in flight.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The names of Unix sockets.
    pub fn unix(&self) -> &Arc<unix::Names> {
        &self.unix
    }

    /// The internet sockets.
    pub fn inet(&self) -> &Arc<inet::Stack> {
        &self.inet
    }

    /// The port numbers of netlink sockets.
    pub fn netlink(&self) -> &Arc<netlink::PortIds> {
        &self.netlink
    }
}

/// Makes a socket (sock_create); `EAFNOSUPPORT`, `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`, `EINVAL`, `EPERM`.
pub fn create(task: &CurrentTask<'_>, family: u32, kind: u32, protocol: u32) -> Result<Arc<dyn Socket>, Errno> {
    match family {
        AF_UNIX => Ok(unix::UnixSocket::new(task, unix::kind(kind, protocol)?)),
        AF_INET | AF_INET6 if task.kernel().config().network == config::Network::Host => {
            Ok(host::create(task, family, kind, protocol)?)
        }
        AF_INET | AF_INET6 => inet::create(task, family, kind, protocol),
        AF_NETLINK => Ok(netlink::NetlinkSocket::new(task, kind, protocol)?),
        AF_PACKET => Err(task.unsupported("socket: packets", Errno::EPERM)),
        _ => Err(task.unsupported("socket: an address family", Errno::EAFNOSUPPORT)),
    }
}

/// Makes two sockets that are connected to each other.
pub fn create_pair(
    task: &CurrentTask<'_>,
    family: u32,
    kind: u32,
    protocol: u32,
) -> Result<[Arc<dyn Socket>; 2], Errno> {
    if family != AF_UNIX {
        create(task, family, kind, protocol)?;
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(unix::UnixSocket::pair(task, unix::kind(kind, protocol)?).map(|socket| socket as Arc<dyn Socket>))
}
