//! UDP and UDP-Lite without packets (udp(7), udplite(7)): a datagram goes straight into its receiver's queue. Checksums are not
//! computed, so the two differ in their ports only.

mod data;
mod errors;
mod options;

use self::errors::Failure;
use super::endpoint::{Endpoint, LOOPBACK_BROADCAST, route, source_for, unreachable};
use super::ports::{Claim, Ports, Reach, Sharing};
use super::{Stack, UDP};
use crate::errno::Errno;
use crate::fs::{Ready, Timestamp};
use crate::net::address::{is_unspecified, unmapped};
use crate::net::common::Switches;
use crate::net::messages::Messages;
use crate::net::socket::{Incoming, Outgoing, Received, Shutdown, Socket};
use crate::net::{Address, Budget, Common, Kind};
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

/// A UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    me: Weak<Self>,
    common: Common,
    endpoint: Endpoint,
    stack: Arc<Stack>,
    budget: Arc<Budget>,
    state: Mutex<State>,
    inbox: Mutex<Messages<data::Datagram>>,
    /// Datagrams that found nobody, and where they went.
    errors: Mutex<Messages<Failure>>,
}

/// What SIOCGSTAMP has to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stamp {
    /// Nothing was received.
    #[default]
    Nothing,
    /// Something was, when nobody had asked for times.
    Unknown,
    /// When the last datagram came.
    At(Timestamp),
}

#[derive(Debug, Default)]
struct State {
    local: Option<Local>,
    remote: Option<SocketAddr>,
    /// Nothing more is received.
    no_receive: bool,
    /// Nothing more is sent.
    no_send: bool,
    stamp: Stamp,
    /// Times are asked for by SIOCGSTAMP.
    keeps_stamps: bool,
}

/// A socket's own address.
#[derive(Clone, Copy, Debug)]
struct Local {
    address: SocketAddr,
    /// What was asked for, for when a connection has narrowed it.
    bound: Option<(SocketAddr, Reach)>,
    /// The port was asked for.
    keeps_port: bool,
}

/// A socket as /proc/net/udp shows it.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the columns of /proc/net/udp")]
pub struct Shown {
    pub inode: u64,
    pub uid: u32,
    pub is_v6: bool,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub is_connected: bool,
    /// IPPROTO_UDP or IPPROTO_UDPLITE.
    pub protocol: u32,
    pub receive_queue: usize,
}

impl UdpSocket {
    /// Makes a socket.
    pub fn new(task: &CurrentTask<'_>, family: u32, protocol: u32) -> Arc<Self> {
        let network = task.kernel().network();
        let socket = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            common: Common::new(task, family, Kind::Datagram, protocol),
            endpoint: Endpoint::new(family),
            stack: network.inet().clone(),
            budget: network.budget().clone(),
            state: Mutex::new(Rank::Socket, State::default()),
            inbox: Mutex::new(Rank::SocketBuffer, Messages::default()),
            errors: Mutex::new(Rank::SocketBuffer, Messages::default()),
        });
        socket.stack.add_udp(socket.common.inode, socket.me.clone());
        socket
    }

    /// The ports of its protocol.
    fn ports(&self) -> &Ports<Self> {
        if self.common.protocol == UDP { &self.stack.udp } else { &self.stack.udp_lite }
    }

    fn claim(&self, reach: Reach) -> Claim {
        let switches = self.common.options().switches;
        let mut sharing = Sharing::empty();
        sharing.set(Sharing::ADDRESS, switches.contains(Switches::REUSEADDR));
        sharing.set(Sharing::PORT, switches.contains(Switches::REUSEPORT));
        Claim {
            id: self.common.inode,
            reach,
            sharing,
            uid: self.common.uid,
            listens: false,
            connection: None,
            lingers: None,
        }
    }

    /// Claims a port and lets datagrams in.
    fn take_port(&self, asked: u16, ip: IpAddr, reach: Reach) -> Result<Local, Errno> {
        let claim = self.claim(reach);
        let port = self.ports().claim(asked, claim)?;
        let address = SocketAddr::new(ip, port);
        let bound = (asked != 0 || !ip.is_unspecified()).then_some((address, reach));
        let local = Local { address, bound, keeps_port: asked != 0 };
        self.ports().receive(port, claim, None, &self.me)?;
        self.state.lock().local = Some(local);
        Ok(local)
    }

    /// Gives the socket a port, unless it has one.
    fn bind_automatically(&self) -> Result<Local, Errno> {
        if let Some(local) = self.state.lock().local {
            return Ok(local);
        }
        self.take_port(0, self.endpoint.unspecified().ip(), self.endpoint.everything())
    }

    /// Sets the one place to send to and to receive from; narrows the address to what goes there.
    fn set_destination(&self, address: &[u8]) -> Result<(), Errno> {
        let to = self.endpoint.parse_datagram_destination(address, Errno::EAFNOSUPPORT)?;
        let to = if is_many(to.ip()) { self.route_to_many(to)? } else { route(to)? };
        let local = self.bind_automatically()?;
        let source = source_for(to.ip());
        let ip = unmapped(local.address.ip());
        let ip = if ip.is_unspecified() { source } else { ip };
        if ip.is_ipv4() != to.is_ipv4() {
            return Err(unreachable(to));
        }
        let from = SocketAddr::new(ip, local.address.port());
        let reach = Reach::one(ip);
        {
            let mut state = self.state.lock();
            state.remote = Some(to);
            state.local = Some(Local { address: from, ..local });
        }
        self.ports().receive(from.port(), self.claim(reach), Some(to), &self.me)
    }

    /// Dissolves the association; the address becomes what was asked for (__udp_disconnect).
    fn dissolve(&self) -> Result<(), Errno> {
        let local = {
            let mut state = self.state.lock();
            if state.remote.take().is_none() {
                return Ok(());
            }
            state.local
        };
        let Some(local) = local else { return Ok(()) };
        if !local.keeps_port {
            self.ports().release(local.address.port(), self.common.inode);
            self.state.lock().local = None;
            return match local.bound {
                // The address was asked for, the port was not.
                Some((address, reach)) if !address.ip().is_unspecified() => {
                    self.take_port(0, address.ip(), reach).map(|_| ())
                }
                _ => Ok(()),
            };
        }
        let (address, reach) = local.bound.unwrap_or_else(|| (self.endpoint.unspecified(), self.endpoint.everything()));
        let address = SocketAddr::new(address.ip(), local.address.port());
        self.state.lock().local = Some(Local { address, ..local });
        self.ports().receive(address.port(), self.claim(reach), None, &self.me)
    }

    /// What is shown of it; `None` while it has no port.
    pub fn shown(&self) -> Option<Shown> {
        let (local, remote) = {
            let state = self.state.lock();
            (state.local?.address, state.remote)
        };
        Some(Shown {
            inode: self.common.inode,
            uid: self.common.uid,
            is_v6: self.endpoint.is_v6(),
            local,
            remote: remote.unwrap_or_else(|| self.endpoint.unspecified()),
            is_connected: remote.is_some(),
            protocol: self.common.protocol,
            receive_queue: self.inbox.lock().bytes(),
        })
    }
}

impl Socket for UdpSocket {
    fn common(&self) -> &Common {
        &self.common
    }

    fn bind(&self, task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno> {
        let wanted = self.endpoint.parse_bind(task, address)?;
        if self.state.lock().local.is_some() {
            return Err(Errno::EINVAL);
        }
        self.take_port(wanted.address.port(), wanted.address.ip(), wanted.reach).map(|_| ())
    }

    fn connect(&self, _task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno> {
        if is_unspecified(address) { self.dissolve() } else { self.set_destination(address) }
    }

    fn local_address(&self) -> Result<Address, Errno> {
        let local = self.state.lock().local.map(|local| local.address);
        Ok(self.endpoint.show(local.unwrap_or_else(|| self.endpoint.unspecified())))
    }

    fn peer_address(&self) -> Result<Address, Errno> {
        let remote = self.state.lock().remote.filter(|remote| remote.port() != 0).ok_or(Errno::ENOTCONN)?;
        Ok(self.endpoint.show(remote))
    }

    fn send(&self, _task: &CurrentTask<'_>, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        self.send_datagram(message)
    }

    fn receive(&self, _task: &CurrentTask<'_>, message: &mut Incoming<'_>) -> Result<Received, Errno> {
        self.receive_datagram(message)
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        let is_connected = {
            let mut state = self.state.lock();
            state.no_receive |= how.receives();
            state.no_send |= how.sends();
            state.remote.is_some()
        };
        self.common.queue.wake_all();
        if is_connected { Ok(()) } else { Err(Errno::ENOTCONN) }
    }

    fn option(&self, task: &CurrentTask<'_>, level: u32, name: u32, room: usize) -> Result<Vec<u8>, Errno> {
        self.read_option(task, level, name, room)
    }

    fn set_option(&self, task: &CurrentTask<'_>, level: u32, name: u32, value: &[u8]) -> Result<(), Errno> {
        self.write_option(task, level, name, value)
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        self.control(task, request, arg)
    }

    fn ready(&self) -> Ready {
        let mut ready = Ready::OUT | Ready::WRNORM | Ready::WRBAND;
        let (errors_wait, is_urgent) = self.waiting_errors();
        if errors_wait || self.common.error().is_some() {
            ready |= Ready::ERR;
        }
        if is_urgent {
            ready |= Ready::PRI;
        }
        {
            let state = self.state.lock();
            if state.no_receive {
                ready |= Ready::RDHUP | Ready::IN | Ready::RDNORM;
            }
            if state.no_receive && state.no_send {
                ready |= Ready::HUP;
            }
        }
        if !self.inbox.lock().is_empty() {
            ready |= Ready::IN | Ready::RDNORM;
        }
        ready
    }

    fn close(&self) {
        let local = self.state.lock().local.take();
        if let Some(local) = local {
            self.ports().release(local.address.port(), self.common.inode);
        }
        self.stack.remove(self.common.inode);
        let dropped = std::mem::take(&mut *self.inbox.lock());
        drop(dropped);
        self.drop_errors();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Tells whether an address is a group's or means all of a network.
fn is_many(to: IpAddr) -> bool {
    to.is_multicast() || is_broadcast(to)
}

fn is_broadcast(to: IpAddr) -> bool {
    matches!(to, IpAddr::V4(v4) if v4.is_broadcast() || v4 == LOOPBACK_BROADCAST)
}
