//! TCP and UDP over IPv4 and IPv6 on a loopback of the sandbox's own.
//!
//! There are no packets: a connection is two sockets that put bytes into each other's buffers, a datagram goes straight into its
//! receiver's queue, and what a packet could tell (a reset, a port that nobody has) is told by a call. `ports` knows which socket
//! has which address. Every address of 127.0.0.0/8 and ::1 is local; everything else is unreachable.

mod counters;
mod endpoint;
mod ip;
mod multicast;
pub(super) mod number;
mod ports;
pub mod tcp;
pub mod udp;

pub use counters::{Counters, Kept, Settings};
pub use endpoint::Endpoint;
pub use ip::IpOptions;
pub use ports::{FIRST_UNPRIVILEGED, Ports, Reach};

use super::{Kind, Socket};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// IPPROTO_ICMP.
const ICMP: u32 = 1;
/// IPPROTO_TCP.
pub const TCP: u32 = 6;
/// IPPROTO_UDP.
pub const UDP: u32 = 17;
/// IPPROTO_UDPLITE.
pub(super) const UDP_LITE: u32 = 136;
/// IPPROTO_ICMPV6.
const ICMPV6: u32 = 58;
/// One past the last protocol (IPPROTO_MAX).
const PROTOCOLS: u32 = 263;

/// The sandbox's internet sockets.
#[derive(Debug)]
pub struct Stack {
    /// Who has which TCP port.
    pub(super) tcp: Ports<tcp::TcpSocket>,
    /// Who has which UDP port.
    pub(super) udp: Ports<udp::UdpSocket>,
    /// Who has which UDP-Lite port.
    pub(super) udp_lite: Ports<udp::UdpSocket>,
    /// What has happened.
    pub counters: Counters,
    /// What programs may set.
    pub settings: Settings,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    tcp: BTreeMap<u64, Weak<tcp::TcpSocket>>,
    udp: BTreeMap<u64, Weak<udp::UdpSocket>>,
}

impl Default for Stack {
    fn default() -> Self {
        let all = Mutex::new(Rank::Network, All::default());
        Self {
            tcp: Ports::default(),
            udp: Ports::default(),
            udp_lite: Ports::default(),
            counters: Counters::default(),
            settings: Settings::default(),
            all,
        }
    }
}

impl Stack {
    fn add_tcp(&self, inode: u64, socket: Weak<tcp::TcpSocket>) {
        self.all.lock().tcp.insert(inode, socket);
    }

    fn add_udp(&self, inode: u64, socket: Weak<udp::UdpSocket>) {
        self.all.lock().udp.insert(inode, socket);
    }

    /// The first and the last port that are given to who does not ask for one (net.ipv4.ip_local_port_range).
    pub fn automatic_ports(&self) -> (u16, u16) {
        self.tcp.range()
    }

    /// Sets the first and the last port of those.
    pub fn set_automatic_ports(&self, first: u16, last: u16) {
        self.tcp.set_range(first, last);
        self.udp.set_range(first, last);
        self.udp_lite.set_range(first, last);
    }

    fn remove(&self, inode: u64) {
        let mut all = self.all.lock();
        all.tcp.remove(&inode);
        all.udp.remove(&inode);
    }

    /// All TCP sockets, by ascending inode number.
    pub fn tcp_sockets(&self) -> Vec<Arc<tcp::TcpSocket>> {
        let all: Vec<_> = self.all.lock().tcp.values().cloned().collect();
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// All UDP sockets, by ascending inode number.
    pub fn udp_sockets(&self) -> Vec<Arc<udp::UdpSocket>> {
        let all: Vec<_> = self.all.lock().udp.values().cloned().collect();
        all.iter().filter_map(Weak::upgrade).collect()
    }
}

/// Makes a socket of AF_INET or AF_INET6 (inet_create).
pub fn create(task: &CurrentTask<'_>, family: u32, kind: u32, protocol: u32) -> Result<Arc<dyn Socket>, Errno> {
    if protocol >= PROTOCOLS {
        return Err(Errno::EINVAL);
    }
    match check_type(task, kind, protocol)? {
        Kind::Stream => Ok(tcp::TcpSocket::new(task, family)),
        _ => Ok(udp::UdpSocket::new(task, family, if protocol == UDP_LITE { UDP_LITE } else { UDP })),
    }
}

/// What a type and a protocol mean together, for this stack and the host's alike.
pub fn check_type(task: &CurrentTask<'_>, kind: u32, protocol: u32) -> Result<Kind, Errno> {
    match (kind, protocol) {
        (1, 0 | TCP) => Ok(Kind::Stream),
        (2, 0 | UDP | UDP_LITE) => Ok(Kind::Datagram),
        // No group may use ping sockets (net.ipv4.ping_group_range is empty).
        (2, ICMP | ICMPV6) => Err(Errno::EACCES),
        (1 | 2, _) => Err(Errno::EPROTONOSUPPORT),
        (3, 0) => Err(Errno::EPROTONOSUPPORT),
        (3, _) => Err(task.unsupported("socket: raw IP", Errno::EPERM)),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}
