//! Datagrams: sending to one or to many, and receiving with what control messages tell.

use super::{Local, Stamp, UdpSocket, is_broadcast, is_many};
use crate::errno::Errno;
use crate::fs::{Ready, Timestamp};
use crate::net::Control;
use crate::net::address::{encode, is_unspecified, unmapped};
use crate::net::common::Switches;
use crate::net::inet::endpoint::{LOOPBACK_BROADCAST, route, source_for, unreachable};
use crate::net::inet::number;
use crate::net::messages::{OVERHEAD, Payload};
use crate::net::options::LOOPBACK_INDEX;
use crate::net::socket::{Incoming, MessageFlags, Outgoing, RawControl, Received};
use linux_raw_sys::net::{AF_INET, AF_INET6, MSG_TRUNC, SCM_TIMESTAMP, SCM_TIMESTAMPNS, SOL_IP, SOL_IPV6, SOL_SOCKET};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use zerocopy::{FromBytes, IntoBytes};

/// The most bytes of a datagram over IPv4: 65,535 without the headers.
const LONGEST_V4: usize = 65_507;
/// The most bytes of a datagram over IPv6.
const LONGEST_V6: usize = 65_527;

/// What is known of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    ttl: u8,
    tos: u8,
    at: Timestamp,
}

/// What control messages of a send change for one datagram.
struct Overrides {
    ttl: u8,
    tos: u8,
    source: Option<IpAddr>,
}

impl UdpSocket {
    fn overrides(&self, control: &[RawControl], to: IpAddr) -> Result<Overrides, Errno> {
        let options = self.endpoint.options();
        let is_group = to.is_multicast();
        let (level, hops) = match to {
            IpAddr::V4(_) => (SOL_IP, number::IP_MULTICAST_TTL),
            IpAddr::V6(_) => (SOL_IPV6, if is_group { number::IPV6_MULTICAST_HOPS } else { number::IPV6_UNICAST_HOPS }),
        };
        let byte = |value: i32| value.to_ne_bytes()[0];
        let own = if to.is_ipv4() { i32::from(options.ttl) } else { 64 };
        let ttl = if is_group || to.is_ipv6() { options.value(level, hops).unwrap_or(own) } else { own };
        let class = options.value(SOL_IPV6, number::IPV6_TCLASS).unwrap_or_default();
        let tos = if to.is_ipv4() { options.tos } else { byte(class) };
        let mut overrides = Overrides { ttl: byte(ttl), tos, source: None };
        drop(options);
        for raw in control {
            let (Ok(level), Ok(kind)) = (u32::try_from(raw.level), u32::try_from(raw.kind)) else { continue };
            // −1 asks IPv6 for what a packet has anyway.
            let is_default = level == SOL_IPV6 && raw.data == (-1i32).to_ne_bytes();
            let int =
                || i32::read_from_bytes(&raw.data).ok().filter(|value| (0..=255).contains(value)).ok_or(Errno::EINVAL);
            match (level, kind) {
                (SOL_IPV6, number::IPV6_HOPLIMIT | number::IPV6_TCLASS) if is_default => {}
                (SOL_IP, number::IP_TTL) | (SOL_IPV6, number::IPV6_HOPLIMIT) => overrides.ttl = byte(int()?),
                (SOL_IP, number::IP_TOS) if raw.data.len() == 1 => overrides.tos = raw.data[0],
                (SOL_IP, number::IP_TOS) | (SOL_IPV6, number::IPV6_TCLASS) => overrides.tos = byte(int()?),
                (SOL_IP, number::IP_PKTINFO) => {
                    let source: [u8; 4] =
                        raw.data.get(4..8).and_then(|part| part.try_into().ok()).ok_or(Errno::EINVAL)?;
                    overrides.source = Some(IpAddr::from(source)).filter(|source| !source.is_unspecified());
                }
                (SOL_IPV6, number::IPV6_PKTINFO) => {
                    let source: [u8; 16] =
                        raw.data.get(..16).and_then(|part| part.try_into().ok()).ok_or(Errno::EINVAL)?;
                    overrides.source = Some(unmapped(IpAddr::from(source))).filter(|source| !source.is_unspecified());
                }
                (SOL_IP | SOL_IPV6, _) => return Err(Errno::EINVAL),
                _ => {}
            }
        }
        Ok(overrides)
    }

    /// Sends one datagram (udp_sendmsg).
    pub(super) fn send_datagram(&self, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        let len = message.data.remaining();
        // IPv6 finds out later, when it makes the packet.
        if len > usize::from(u16::MAX) && !self.endpoint.is_v6() {
            return Err(Errno::EMSGSIZE);
        }
        if message.flags.contains(MessageFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let (remote, no_send) = {
            let state = self.state.lock();
            (state.remote, state.no_send)
        };
        // To IPv6, an address of no family is none (udpv6_sendmsg).
        let given = message.to.filter(|to| !(self.endpoint.is_v6() && is_unspecified(to)));
        let to = match given {
            Some(address) => {
                let to = self.endpoint.parse_datagram_destination(address, Errno::ENETUNREACH)?;
                if to.port() == 0 {
                    return Err(Errno::EINVAL);
                }
                to
            }
            None => remote.ok_or(Errno::EDESTADDRREQ)?,
        };
        self.common.check_error()?;
        if no_send {
            return Err(Errno::EPIPE);
        }
        let overrides = self.overrides(message.control, to.ip())?;
        if len > if to.is_ipv4() { LONGEST_V4 } else { LONGEST_V6 } {
            // What goes to IPv4 and is longer than its length field can say is not even a packet (udp_sendmsg). IPv4 tells the port
            // of a connection only (ip_local_error).
            match to {
                SocketAddr::V4(_) if len > usize::from(u16::MAX) => {}
                SocketAddr::V4(v4) => {
                    let port = remote.map_or(0, |remote| remote.port());
                    self.too_long(SocketAddr::new((*v4.ip()).into(), port));
                }
                SocketAddr::V6(_) => self.too_long(to),
            }
            return Err(Errno::EMSGSIZE);
        }
        if len.saturating_add(OVERHEAD) > self.common.options().send_buffer {
            return Err(Errno::EMSGSIZE);
        }
        if is_many(to.ip()) {
            return self.send_to_many(message, to, &overrides);
        }
        let to = route(to)?;
        let from = self.source(to.ip(), &overrides, source_for(to.ip()))?;
        let payload = Payload::read(message.data, &self.budget)?;
        message.data.skip(len);
        self.stack.counters.udp_sent.count();
        match self.ports().find(to, from) {
            Some(receiver) => receiver.deliver(payload, self.datagram(from, to, &overrides)),
            None => {
                self.stack.counters.udp_no_ports.count();
                self.refused(payload, to, remote == Some(to));
            }
        }
        Ok(len)
    }

    fn datagram(&self, from: SocketAddr, to: SocketAddr, overrides: &Overrides) -> Datagram {
        Datagram { from, to, ttl: overrides.ttl, tos: overrides.tos, at: Timestamp::now() }
    }

    /// The address that a datagram comes from; a port is claimed if there is none.
    fn source(&self, to: IpAddr, overrides: &Overrides, default: IpAddr) -> Result<SocketAddr, Errno> {
        let Local { address: local, bound, .. } = self.bind_automatically()?;
        let own = unmapped(local.ip());
        // What only a connection over IPv6 has chosen does not bind what goes to IPv4 (__ip6_datagram_connect).
        let is_chosen = bound.is_none_or(|(address, _)| address.ip().is_unspecified());
        let is_foreign = own.is_ipv6() && to.is_ipv4() && is_chosen;
        let own = if own.is_unspecified() || own.is_multicast() || is_foreign { default } else { own };
        let ip = overrides.source.unwrap_or(own);
        if ip.is_ipv4() != to.is_ipv4() {
            return Err(unreachable(SocketAddr::new(to, 0)));
        }
        if overrides.source.is_some() && !ip.is_loopback() {
            return Err(Errno::EINVAL);
        }
        Ok(SocketAddr::new(ip, local.port()))
    }

    /// Finds the way to a group or to all of the network; `ENETUNREACH`, `EACCES` for a broadcast without SO_BROADCAST.
    pub(super) fn route_to_many(&self, to: SocketAddr) -> Result<SocketAddr, Errno> {
        let chosen = self.endpoint.options().multicast_interface;
        let bound_here = self.state.lock().local.is_some_and(|local| unmapped(local.address.ip()).is_loopback());
        let is_routed = to.ip() == IpAddr::V4(LOOPBACK_BROADCAST);
        // No route leads to groups: an interface must be named, by an option or by the address.
        if !is_routed && !chosen && !bound_here && self.common.options().device != LOOPBACK_INDEX {
            return Err(Errno::ENETUNREACH);
        }
        if is_broadcast(to.ip()) && !self.common.has(Switches::BROADCAST) {
            return Err(Errno::EACCES);
        }
        Ok(to)
    }

    /// Sends to a group or to all of the network. What goes out of the loopback interface comes in there, whatever
    /// IP_MULTICAST_LOOP says.
    fn send_to_many(&self, message: &mut Outgoing<'_>, to: SocketAddr, overrides: &Overrides) -> Result<usize, Errno> {
        let len = message.data.remaining();
        let to = self.route_to_many(to)?;
        let from = self.source(to.ip(), overrides, source_for(to.ip()))?;
        let mut bytes = vec![0; len];
        if len > 0 && message.data.take(&mut bytes)? < len {
            return Err(Errno::EFAULT);
        }
        self.stack.counters.udp_sent.count();
        let is_group = to.ip().is_multicast();
        if is_group && !self.is_joined(to.ip()) {
            return Ok(len);
        }
        for (receiver, reach) in self.ports().all(to.port(), from) {
            let wants = reach.fit(to.ip()).is_some() && (!is_group || receiver.wants_group(to.ip()));
            if wants && let Ok(payload) = Payload::new(bytes.clone(), &self.budget) {
                receiver.deliver(payload, self.datagram(from, to, overrides));
            }
        }
        Ok(len)
    }

    fn is_member(&self, group: IpAddr) -> bool {
        self.endpoint.options().memberships.contains(group)
    }

    /// Tells whether some socket has joined a group, or every host is in it.
    fn is_joined(&self, group: IpAddr) -> bool {
        let everybody = match group {
            IpAddr::V4(v4) => v4 == Ipv4Addr::new(224, 0, 0, 1),
            IpAddr::V6(v6) => matches!(v6.segments(), [0xff01 | 0xff02, 0, 0, 0, 0, 0, 0, 1]),
        };
        everybody || self.stack.udp_sockets().iter().any(|socket| socket.is_member(group))
    }

    /// Tells whether it receives what is sent to a group that somebody has joined (ip_mc_sf_allow, inet6_mc_check).
    fn wants_group(&self, group: IpAddr) -> bool {
        let takes_all = match group {
            IpAddr::V4(_) => (SOL_IP, number::IP_MULTICAST_ALL),
            IpAddr::V6(_) => (SOL_IPV6, number::IPV6_MULTICAST_ALL),
        };
        self.endpoint.options().is_on(takes_all.0, takes_all.1) || self.is_member(group)
    }

    /// Queues a datagram; one too many is dropped, as a network does.
    fn deliver(self: &Arc<Self>, payload: Payload, about: Datagram) {
        let limit = self.common.options().receive_buffer;
        let mut refused = Some(payload);
        {
            let mut inbox = self.inbox.lock();
            if inbox.charge() <= limit
                && let Some(payload) = refused.take()
            {
                inbox.push(payload, about);
            }
        }
        if refused.is_none() {
            self.common.queue.wake(Ready::IN | Ready::RDNORM);
        } else {
            self.stack.counters.udp_dropped.count();
        }
    }

    /// Receives one datagram; `EAGAIN` if there is none.
    pub(super) fn receive_datagram(&self, message: &mut Incoming<'_>) -> Result<Received, Errno> {
        if message.flags.contains(MessageFlags::ERRQUEUE) {
            return self.receive_error(message);
        }
        self.common.check_error()?;
        let peeks = message.flags.contains(MessageFlags::PEEK);
        let at;
        let (received, taken) = {
            let mut inbox = self.inbox.lock();
            let Some((payload, about)) = inbox.front() else {
                drop(inbox);
                let is_over = self.state.lock().no_receive && !message.flags.contains(MessageFlags::DONTWAIT);
                return if is_over { Ok(Received::default()) } else { Err(Errno::EAGAIN) };
            };
            let shown = payload.show(message.data)?;
            let whole = payload.bytes().len();
            let received = Received {
                len: if message.flags.contains(MessageFlags::TRUNC) { whole } else { shown },
                from: message.wants_name.then(|| self.endpoint.show(about.from)),
                control: self.control_messages(about),
                flags: if shown < whole { MSG_TRUNC } else { 0 },
                is_complete: true,
            };
            at = about.at;
            (received, if peeks { None } else { inbox.pop() })
        };
        drop(taken);
        self.note_stamp(at);
        if !peeks {
            self.stack.counters.udp_received.count();
        }
        Ok(received)
    }

    /// Remembers when a datagram came for SIOCGSTAMP, unless a control message has told (sock_recv_cmsgs).
    fn note_stamp(&self, at: Timestamp) {
        if self.common.options().switches.intersects(Switches::TIMESTAMP | Switches::TIMESTAMPNS) {
            return;
        }
        let mut state = self.state.lock();
        if state.keeps_stamps {
            state.stamp = Stamp::At(at);
        } else if state.stamp == Stamp::Nothing {
            state.stamp = Stamp::Unknown;
        }
    }

    /// SIOCGSTAMP (sock_gettstamp): when the last datagram came; `ENOENT` if none did. Only from the first call on times are kept.
    pub(super) fn stamp(&self) -> Result<Timestamp, Errno> {
        let mut state = self.state.lock();
        state.keeps_stamps = true;
        let at = match state.stamp {
            Stamp::Nothing => return Err(Errno::ENOENT),
            Stamp::Unknown => Timestamp::now(),
            Stamp::At(at) => at,
        };
        state.stamp = Stamp::At(at);
        Ok(at)
    }

    /// What the socket's options ask to be told of a datagram (ip_cmsg_recv, ip6_datagram_recv_ctl).
    fn control_messages(&self, about: &Datagram) -> Vec<Control> {
        let mut control = Vec::new();
        let switches = self.common.options().switches;
        let seconds = about.at.seconds;
        if switches.contains(Switches::TIMESTAMP) {
            let time = [seconds, i64::from(about.at.nanoseconds / 1000)];
            control.push(Control::data(SOL_SOCKET, SCM_TIMESTAMP, time.as_bytes()));
        }
        if switches.contains(Switches::TIMESTAMPNS) {
            let time = [seconds, i64::from(about.at.nanoseconds)];
            control.push(Control::data(SOL_SOCKET, SCM_TIMESTAMPNS, time.as_bytes()));
        }
        let options = self.endpoint.options();
        let (ttl, tos) = (i32::from(about.ttl), i32::from(about.tos));
        if let IpAddr::V4(to) = about.to.ip() {
            if options.is_on(SOL_IP, number::IP_PKTINFO) {
                let local = if to.is_loopback() { to } else { Ipv4Addr::LOCALHOST };
                let info = [&LOOPBACK_INDEX.to_ne_bytes()[..], &local.octets(), &to.octets()].concat();
                control.push(Control::data(SOL_IP, number::IP_PKTINFO, &info));
            }
            if options.is_on(SOL_IP, number::IP_RECVTTL) {
                control.push(Control::data(SOL_IP, number::IP_TTL, ttl.as_bytes()));
            }
            if options.is_on(SOL_IP, number::IP_RECVTOS) {
                control.push(Control::data(SOL_IP, number::IP_TOS, &[about.tos]));
            }
            if options.is_on(SOL_IP, number::IP_RECVORIGDSTADDR) {
                let address = encode(about.to, AF_INET);
                control.push(Control::data(SOL_IP, number::IP_RECVORIGDSTADDR, address.bytes()));
            }
        }
        if !self.endpoint.is_v6() {
            return control;
        }
        if options.is_on(SOL_IPV6, number::IPV6_RECVPKTINFO) {
            let to = match about.to.ip() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            let info = [&to.octets()[..], &LOOPBACK_INDEX.to_ne_bytes()].concat();
            control.push(Control::data(SOL_IPV6, number::IPV6_PKTINFO, &info));
        }
        if about.to.is_ipv6() {
            if options.is_on(SOL_IPV6, number::IPV6_RECVHOPLIMIT) {
                control.push(Control::data(SOL_IPV6, number::IPV6_HOPLIMIT, ttl.as_bytes()));
            }
            if options.is_on(SOL_IPV6, number::IPV6_RECVTCLASS) {
                control.push(Control::data(SOL_IPV6, number::IPV6_TCLASS, tos.as_bytes()));
            }
            if options.is_on(SOL_IPV6, number::IPV6_RECVORIGDSTADDR) {
                let address = encode(about.to, AF_INET6);
                control.push(Control::data(SOL_IPV6, number::IPV6_RECVORIGDSTADDR, address.bytes()));
            }
        }
        control
    }
}
