//! The options of IP and IPv6 (ip(7), ipv6(7)).

use super::multicast::{Memberships, check_group_v4, request_v4, request_v6};
use super::number::{
    IP_ADD_MEMBERSHIP, IP_BIND_ADDRESS_NO_PORT, IP_DROP_MEMBERSHIP, IP_FREEBIND, IP_MINTTL, IP_MTU, IP_MTU_DISCOVER,
    IP_MULTICAST_ALL, IP_MULTICAST_IF, IP_MULTICAST_LOOP, IP_MULTICAST_TTL, IP_OPTIONS, IP_PKTINFO, IP_RECVERR,
    IP_RECVOPTS, IP_RECVORIGDSTADDR, IP_RECVTOS, IP_RECVTTL, IP_RETOPTS, IP_TOS, IP_TRANSPARENT, IP_TTL,
    IPV6_ADD_MEMBERSHIP, IPV6_AUTOFLOWLABEL, IPV6_DROP_MEMBERSHIP, IPV6_FREEBIND, IPV6_MTU, IPV6_MTU_DISCOVER,
    IPV6_MULTICAST_ALL, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_IF, IPV6_MULTICAST_LOOP, IPV6_RECVERR, IPV6_RECVHOPLIMIT,
    IPV6_RECVORIGDSTADDR, IPV6_RECVPKTINFO, IPV6_RECVTCLASS, IPV6_TCLASS, IPV6_TRANSPARENT, IPV6_UNICAST_HOPS,
    IPV6_V6ONLY,
};
use super::{Endpoint, TCP};
use crate::errno::Errno;
use crate::net::Common;
use crate::net::interface::MTU;
use crate::net::options::{LOOPBACK_INDEX, int, int_bytes};
use crate::task::CurrentTask;
use linux_raw_sys::net::{SOL_IP, SOL_IPV6};
use std::net::Ipv4Addr;

/// The hop limit that packets start with.
const HOPS: i32 = 64;

/// Options that keep an `int` and whose values have these bounds: level, number, what it is at first, least and greatest.
const NUMBERS: &[(u32, u32, i32, i32, i32)] = &[
    (SOL_IP, IP_MTU_DISCOVER, 1, 0, 5),
    (SOL_IP, IP_MINTTL, 0, 0, 255),
    (SOL_IP, IP_MULTICAST_TTL, 1, 0, 255),
    (SOL_IPV6, IPV6_UNICAST_HOPS, HOPS, 0, 255),
    (SOL_IPV6, IPV6_MULTICAST_HOPS, 1, 0, 255),
    (SOL_IPV6, IPV6_MTU_DISCOVER, 1, 0, 5),
    (SOL_IPV6, IPV6_TCLASS, 0, 0, 255),
];

/// Options that are on or off: level, number, what they are at first.
const SWITCHES: &[(u32, u32, i32)] = &[
    (SOL_IP, IP_RECVOPTS, 0),
    (SOL_IP, IP_RETOPTS, 0),
    (SOL_IP, IP_PKTINFO, 0),
    (SOL_IP, IP_RECVERR, 0),
    (SOL_IP, IP_RECVTTL, 0),
    (SOL_IP, IP_RECVTOS, 0),
    (SOL_IP, IP_RECVORIGDSTADDR, 0),
    (SOL_IP, IP_BIND_ADDRESS_NO_PORT, 0),
    (SOL_IP, IP_MULTICAST_LOOP, 1),
    (SOL_IP, IP_MULTICAST_ALL, 1),
    (SOL_IPV6, IPV6_MULTICAST_LOOP, 1),
    (SOL_IPV6, IPV6_MULTICAST_ALL, 1),
    (SOL_IPV6, IPV6_RECVERR, 0),
    (SOL_IPV6, IPV6_RECVPKTINFO, 0),
    (SOL_IPV6, IPV6_RECVHOPLIMIT, 0),
    (SOL_IPV6, IPV6_RECVTCLASS, 0),
    (SOL_IPV6, IPV6_AUTOFLOWLABEL, 1),
    (SOL_IPV6, IPV6_RECVORIGDSTADDR, 0),
];

/// The options of IP that a socket has.
#[derive(Clone, Debug)]
pub struct IpOptions {
    /// IPV6_V6ONLY.
    pub(super) v6_only: bool,
    /// IP_FREEBIND.
    pub(super) free_bind: bool,
    /// IP_TTL.
    pub(super) ttl: u8,
    /// IP_TOS.
    pub(super) tos: u8,
    /// IP_MULTICAST_IF: the loopback interface was chosen.
    pub(super) multicast_interface: bool,
    /// The groups it has joined.
    pub(super) memberships: Memberships,
    /// Those of [`NUMBERS`] and [`SWITCHES`] that differ from what they are at first.
    others: Vec<(u32, u32, i32)>,
}

impl Default for IpOptions {
    fn default() -> Self {
        Self {
            v6_only: false,
            free_bind: false,
            ttl: 64,
            tos: 0,
            multicast_interface: false,
            memberships: Memberships::default(),
            others: Vec::new(),
        }
    }
}

impl IpOptions {
    /// The value of one of [`NUMBERS`] or [`SWITCHES`].
    pub(super) fn value(&self, level: u32, name: u32) -> Option<i32> {
        let kept = self.others.iter().find(|(l, n, _)| (*l, *n) == (level, name)).map(|(.., value)| *value);
        let number = || NUMBERS.iter().find(|(l, n, ..)| (*l, *n) == (level, name)).map(|(_, _, first, ..)| *first);
        let switch = || SWITCHES.iter().find(|(l, n, _)| (*l, *n) == (level, name)).map(|(.., first)| *first);
        kept.or_else(number).or_else(switch)
    }

    /// Tells whether one of [`SWITCHES`] is on.
    pub(super) fn is_on(&self, level: u32, name: u32) -> bool {
        self.value(level, name).is_some_and(|value| value != 0)
    }

    fn keep(&mut self, level: u32, name: u32, value: i32) {
        self.others.retain(|(l, n, _)| (*l, *n) != (level, name));
        self.others.push((level, name, value));
    }
}

impl Endpoint {
    /// Sets an option of SOL_IP or SOL_IPV6. `is_bound`: IPV6_V6ONLY can no longer change.
    pub(super) fn set_ip_option(
        &self,
        common: &Common,
        task: &CurrentTask<'_>,
        option: (u32, u32),
        value: &[u8],
        is_bound: bool,
    ) -> Result<(), Errno> {
        let (level, name) = option;
        if level == SOL_IPV6 && !self.is_v6() {
            return Err(Errno::ENOPROTOOPT);
        }
        match (level, name) {
            (SOL_IP, IP_ADD_MEMBERSHIP | IP_DROP_MEMBERSHIP)
            | (SOL_IPV6, IPV6_ADD_MEMBERSHIP | IPV6_DROP_MEMBERSHIP) => {
                return self.change_membership(common, option, value);
            }
            (SOL_IP, IP_MULTICAST_IF) => return self.choose_interface(value),
            // No options travel with what never becomes a packet; an empty list is what there is.
            (SOL_IP, IP_OPTIONS) if value.is_empty() => return Ok(()),
            (SOL_IP, IP_OPTIONS) => return Err(task.unsupported("setsockopt: IP_OPTIONS", Errno::EINVAL)),
            _ => {}
        }
        // Options of IPv4 may be a byte.
        let number = match (level, value) {
            (SOL_IP, []) => 0,
            (SOL_IP, [byte, ..]) if value.len() < 4 => i32::from(*byte),
            _ => int(value)?,
        };
        let mut options = self.options();
        match (level, name) {
            (SOL_IP, IP_TOS) => options.tos = number.to_ne_bytes()[0],
            (SOL_IP, IP_TTL) => match number {
                -1 => options.ttl = 64,
                1..=255 => options.ttl = number.to_ne_bytes()[0],
                _ => return Err(Errno::EINVAL),
            },
            (SOL_IP, IP_FREEBIND) | (SOL_IPV6, IPV6_FREEBIND) => options.free_bind = number != 0,
            (SOL_IP, IP_TRANSPARENT) | (SOL_IPV6, IPV6_TRANSPARENT) if number != 0 => return Err(Errno::EPERM),
            (SOL_IP, IP_TRANSPARENT) | (SOL_IPV6, IPV6_TRANSPARENT) => {}
            (SOL_IPV6, IPV6_V6ONLY) if is_bound => return Err(Errno::EINVAL),
            (SOL_IPV6, IPV6_V6ONLY) => options.v6_only = number != 0,
            (SOL_IPV6, IPV6_MULTICAST_IF) => match u32::try_from(number) {
                Ok(0) => options.multicast_interface = false,
                Ok(LOOPBACK_INDEX) => options.multicast_interface = true,
                _ => return Err(Errno::ENODEV),
            },
            (SOL_IPV6, IPV6_MULTICAST_LOOP) | (SOL_IP, IP_MULTICAST_ALL) if !(0..=1).contains(&number) => {
                return Err(Errno::EINVAL);
            }
            _ => {
                if let Some((.., first, least, most)) = NUMBERS.iter().find(|(l, n, ..)| (*l, *n) == option) {
                    // −1 asks for what it was at first.
                    let number = if number == -1 && *most == 255 { *first } else { number };
                    if !(*least..=*most).contains(&number) {
                        return Err(Errno::EINVAL);
                    }
                    options.keep(level, name, number);
                } else if SWITCHES.iter().any(|(l, n, _)| (*l, *n) == option) {
                    options.keep(level, name, i32::from(number != 0));
                } else {
                    drop(options);
                    return Err(task.unsupported("setsockopt: an option of IP", Errno::ENOPROTOOPT));
                }
            }
        }
        Ok(())
    }

    fn change_membership(&self, common: &Common, option: (u32, u32), value: &[u8]) -> Result<(), Errno> {
        if common.protocol == TCP {
            return Err(Errno::EPROTO);
        }
        if option == (SOL_IP, IP_ADD_MEMBERSHIP) {
            check_group_v4(value)?;
        }
        let group = if option.0 == SOL_IP { request_v4(value)? } else { request_v6(value)? };
        let memberships = &mut self.options().memberships;
        match option {
            (SOL_IP, IP_ADD_MEMBERSHIP) | (SOL_IPV6, IPV6_ADD_MEMBERSHIP) => memberships.join(group),
            _ => memberships.leave(group),
        }
    }

    /// IP_MULTICAST_IF: an address, `struct ip_mreq` or `struct ip_mreqn`.
    fn choose_interface(&self, value: &[u8]) -> Result<(), Errno> {
        let at = if value.len() >= 8 { 4 } else { 0 };
        let address: [u8; 4] = value.get(at..at + 4).and_then(|part| part.try_into().ok()).ok_or(Errno::EINVAL)?;
        let index = value.get(8..12).and_then(|part| part.try_into().ok()).map_or(0, u32::from_ne_bytes);
        let address = Ipv4Addr::from(address);
        let chosen = match (index, address) {
            (LOOPBACK_INDEX, _) => true,
            (0, address) if address.is_loopback() => true,
            (0, address) if address.is_unspecified() => false,
            _ => return Err(Errno::EADDRNOTAVAIL),
        };
        self.options().multicast_interface = chosen;
        Ok(())
    }

    /// What reading an option of a level gives that the protocol does not have.
    pub(super) fn unknown_level(&self) -> Errno {
        if self.is_v6() { Errno::ENOPROTOOPT } else { Errno::EOPNOTSUPP }
    }

    /// Reads an option of SOL_IP or SOL_IPV6. `is_connected`: there is a path, and so an MTU.
    pub(super) fn ip_option(
        &self,
        task: &CurrentTask<'_>,
        option: (u32, u32),
        room: usize,
        is_connected: bool,
    ) -> Result<Vec<u8>, Errno> {
        let (level, name) = option;
        if level == SOL_IPV6 && !self.is_v6() {
            return Err(self.unknown_level());
        }
        let options = self.options();
        let value = match (level, name) {
            (SOL_IP, IP_TOS) => i32::from(options.tos),
            (SOL_IP, IP_TTL) => i32::from(options.ttl),
            (SOL_IP, IP_FREEBIND) | (SOL_IPV6, IPV6_FREEBIND) => i32::from(options.free_bind),
            (SOL_IP, IP_TRANSPARENT) | (SOL_IPV6, IPV6_TRANSPARENT) => 0,
            (SOL_IP, IP_OPTIONS) => return Ok(Vec::new()),
            (SOL_IP, IP_MULTICAST_IF) => {
                let address = if options.multicast_interface { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
                return Ok(address.octets().to_vec());
            }
            (SOL_IP, IP_MTU) | (SOL_IPV6, IPV6_MTU) if !is_connected => return Err(Errno::ENOTCONN),
            (SOL_IP, IP_MTU) | (SOL_IPV6, IPV6_MTU) => i32::try_from(MTU).unwrap_or(i32::MAX),
            (SOL_IPV6, IPV6_V6ONLY) => i32::from(options.v6_only),
            (SOL_IPV6, IPV6_MULTICAST_IF) => i32::from(options.multicast_interface),
            _ => match options.value(level, name) {
                Some(value) => value,
                None => {
                    drop(options);
                    return Err(task.unsupported("getsockopt: an option of IP", Errno::ENOPROTOOPT));
                }
            },
        };
        // A small value fits a small buffer.
        match (level, u8::try_from(value)) {
            (SOL_IP, Ok(byte)) if (1..4).contains(&room) => Ok(vec![byte]),
            _ => Ok(int_bytes(value)),
        }
    }
}
