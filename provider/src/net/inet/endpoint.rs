//! What TCP and UDP sockets have in common: a family, addresses as that family shows them, options of IP.

use super::IpOptions;
use super::ports::{FIRST_UNPRIVILEGED, Reach};
use crate::errno::Errno;
use crate::net::Address;
use crate::net::address::{INET_LEN, INET6_LEN_SHORT, encode, family, parse_inet, parse_inet6};
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::task::CurrentTask;
use linux_raw_sys::net::{AF_INET, AF_INET6, AF_UNSPEC};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// CAP_NET_BIND_SERVICE.
const NET_BIND_SERVICE: u32 = 10;
/// The broadcast address of the loopback network.
pub(super) const LOOPBACK_BROADCAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

/// The internet side of a socket.
#[derive(Debug)]
pub struct Endpoint {
    family: u32,
    options: Mutex<IpOptions>,
}

/// What bind asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Which addresses.
    pub(super) reach: Reach,
    /// The address as getsockname shows it.
    pub(super) address: SocketAddr,
}

impl Endpoint {
    /// An endpoint of AF_INET or AF_INET6.
    pub(super) fn new(family: u32) -> Self {
        Self::with(family, IpOptions::default())
    }

    fn with(family: u32, options: IpOptions) -> Self {
        Self { family, options: Mutex::new(Rank::Leaf, options) }
    }

    /// One with the same options: an accepted connection's.
    pub(super) fn child(&self) -> Self {
        Self::with(self.family, self.options().clone())
    }

    /// Tells whether it is of AF_INET6.
    pub(super) fn is_v6(&self) -> bool {
        self.family == AF_INET6
    }

    /// The options of IP, locked: a leaf.
    pub(super) fn options(&self) -> MutexGuard<'_, IpOptions> {
        self.options.lock()
    }

    /// An address as this family shows it.
    pub(super) fn show(&self, address: SocketAddr) -> Address {
        encode(address, self.family)
    }

    /// The address that means any.
    pub(super) fn unspecified(&self) -> SocketAddr {
        let any = if self.is_v6() { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        SocketAddr::new(any, 0)
    }

    /// What a socket without an address of its own reaches.
    pub(super) fn everything(&self) -> Reach {
        let v6_only = self.options().v6_only;
        Reach {
            v4: (!self.is_v6() || !v6_only).then_some(Ipv4Addr::UNSPECIFIED),
            v6: self.is_v6().then_some(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// Reads what bind asks for (inet_bind, inet6_bind).
    ///
    /// # Errors
    /// `EINVAL`, `EAFNOSUPPORT`, `EADDRNOTAVAIL` for an address that is not local, `EACCES` for a low port.
    pub(super) fn parse_bind(&self, task: &CurrentTask<'_>, address: &[u8]) -> Result<Wanted, Errno> {
        let wanted = if self.is_v6() { self.parse_bind_v6(address)? } else { self.parse_bind_v4(address)? };
        let port = wanted.address.port();
        if port != 0 && port < FIRST_UNPRIVILEGED && !task.credentials().has(NET_BIND_SERVICE) {
            return Err(Errno::EACCES);
        }
        Ok(wanted)
    }

    fn parse_bind_v4(&self, address: &[u8]) -> Result<Wanted, Errno> {
        let given = parse_inet(address)?;
        let fits = match family(address) {
            Some(AF_INET) => true,
            // Old programs leave the family out.
            Some(AF_UNSPEC) => given.ip().is_unspecified(),
            _ => false,
        };
        if !fits {
            return Err(Errno::EAFNOSUPPORT);
        }
        self.check_local_v4(*given.ip())?;
        Ok(Wanted { reach: Reach { v4: Some(*given.ip()), v6: None }, address: SocketAddr::V4(given) })
    }

    fn check_local_v4(&self, ip: Ipv4Addr) -> Result<(), Errno> {
        let is_local = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast();
        if is_local || self.options().free_bind { Ok(()) } else { Err(Errno::EADDRNOTAVAIL) }
    }

    fn parse_bind_v6(&self, address: &[u8]) -> Result<Wanted, Errno> {
        if address.len() < INET6_LEN_SHORT {
            return Err(Errno::EINVAL);
        }
        if family(address) != Some(AF_INET6) {
            return Err(Errno::EAFNOSUPPORT);
        }
        let given = parse_inet6(address)?;
        let ip = *given.ip();
        let reach = if let Some(v4) = ip.to_ipv4_mapped() {
            if self.options().v6_only {
                return Err(Errno::EINVAL);
            }
            self.check_local_v4(v4)?;
            Reach { v4: Some(v4), v6: None }
        } else if ip.is_unspecified() {
            self.everything()
        } else if ip.is_loopback() || ip.is_multicast() || self.options().free_bind {
            Reach { v4: None, v6: Some(ip) }
        } else {
            return Err(Errno::EADDRNOTAVAIL);
        };
        Ok(Wanted { reach, address: SocketAddr::V6(given) })
    }

    /// Reads where a connection or a datagram is to go. IPv4 destinations are told as such, whatever the family.
    pub(super) fn parse_destination(&self, address: &[u8]) -> Result<SocketAddr, Errno> {
        match (self.is_v6(), family(address)) {
            (_, None) => Err(Errno::EINVAL),
            (false, Some(AF_INET | AF_UNSPEC)) => parse_inet(address).map(SocketAddr::V4),
            (false, Some(_)) if address.len() < INET_LEN => Err(Errno::EINVAL),
            (true, Some(AF_INET6)) => {
                let given = parse_inet6(address)?;
                let v6_only = self.options().v6_only;
                match given.ip().to_ipv4_mapped() {
                    Some(_) if v6_only => Err(Errno::ENETUNREACH),
                    Some(v4) => Ok(SocketAddr::new(IpAddr::V4(v4), given.port())),
                    None => Ok(SocketAddr::V6(given)),
                }
            }
            (true, Some(_)) if address.len() < INET6_LEN_SHORT => Err(Errno::EINVAL),
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }

    /// As [`Self::parse_destination`], for datagrams: sockets of AF_INET6 take addresses of AF_INET, too, unless they are for IPv6
    /// only, which fails with `refusal`.
    pub(super) fn parse_datagram_destination(&self, address: &[u8], refusal: Errno) -> Result<SocketAddr, Errno> {
        match (self.is_v6(), family(address)) {
            (true, Some(AF_INET)) if self.options().v6_only => Err(refusal),
            (true, Some(AF_INET)) => parse_inet(address).map(SocketAddr::V4),
            _ => self.parse_destination(address),
        }
    }
}

/// The address that a destination stands for: this host for none; `ENETUNREACH` for what is not here.
pub(super) fn route(to: SocketAddr) -> Result<SocketAddr, Errno> {
    let ip = match to.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        local if local.is_loopback() => local,
        _ => return Err(Errno::ENETUNREACH),
    };
    Ok(SocketAddr::new(ip, to.port()))
}

/// What a destination is to a socket that has an address of the other version: IPv6 does not know such a source at all.
pub(super) fn unreachable(to: SocketAddr) -> Errno {
    if to.is_ipv4() { Errno::ENETUNREACH } else { Errno::EAFNOSUPPORT }
}

/// The source address of what goes to a routed destination.
pub(super) fn source_for(to: IpAddr) -> IpAddr {
    match to {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}
