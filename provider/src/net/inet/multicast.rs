//! Multicast groups that sockets have joined. The loopback interface is the only one there is.

use crate::errno::Errno;
use crate::net::options::LOOPBACK_INDEX;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Groups that one socket may join (net.ipv4.igmp_max_memberships).
const MOST: usize = 20;

/// What a socket has joined.
#[derive(Clone, Debug, Default)]
pub(super) struct Memberships {
    groups: Vec<IpAddr>,
}

impl Memberships {
    /// Joins a group; `EINVAL` if it is none, `EADDRINUSE` if it was joined before, `ENOBUFS` at the limit.
    pub(super) fn join(&mut self, group: IpAddr) -> Result<(), Errno> {
        if !group.is_multicast() {
            return Err(Errno::EINVAL);
        }
        if self.groups.contains(&group) {
            return Err(Errno::EADDRINUSE);
        }
        if self.groups.len() >= MOST {
            return Err(Errno::ENOBUFS);
        }
        self.groups.push(group);
        Ok(())
    }

    /// Leaves a group; `EADDRNOTAVAIL` if it was not joined.
    pub(super) fn leave(&mut self, group: IpAddr) -> Result<(), Errno> {
        let at = self.groups.iter().position(|joined| *joined == group).ok_or(Errno::EADDRNOTAVAIL)?;
        self.groups.remove(at);
        Ok(())
    }

    /// Tells whether a group was joined.
    pub(super) fn contains(&self, group: IpAddr) -> bool {
        self.groups.contains(&group)
    }
}

fn octets<const N: usize>(value: &[u8], at: usize) -> Option<[u8; N]> {
    value.get(at..at + N)?.try_into().ok()
}

/// Reads the group of a `struct ip_mreq` or `struct ip_mreqn`; `EINVAL` if it is none, before its interface is looked at.
pub(super) fn check_group_v4(value: &[u8]) -> Result<(), Errno> {
    let group = Ipv4Addr::from(octets::<4>(value, 0).ok_or(Errno::EINVAL)?);
    if group.is_multicast() { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Reads `struct ip_mreq` or `struct ip_mreqn`: the group. Its interface must be the loopback one or unspecified, which without a
/// route to groups finds none (`ENODEV`).
pub(super) fn request_v4(value: &[u8]) -> Result<IpAddr, Errno> {
    let group = Ipv4Addr::from(octets::<4>(value, 0).ok_or(Errno::EINVAL)?);
    let address = Ipv4Addr::from(octets::<4>(value, 4).ok_or(Errno::EINVAL)?);
    let index = octets::<4>(value, 8).map_or(0, u32::from_ne_bytes);
    if index == LOOPBACK_INDEX || (index == 0 && address.is_loopback()) {
        Ok(IpAddr::V4(group))
    } else {
        Err(Errno::ENODEV)
    }
}

/// Reads `struct ipv6_mreq`: the group.
pub(super) fn request_v6(value: &[u8]) -> Result<IpAddr, Errno> {
    let group = Ipv6Addr::from(octets::<16>(value, 0).ok_or(Errno::EINVAL)?);
    match octets::<4>(value, 16).map(u32::from_ne_bytes).ok_or(Errno::EINVAL)? {
        0 | LOOPBACK_INDEX => Ok(IpAddr::V6(group)),
        _ => Err(Errno::ENODEV),
    }
}
