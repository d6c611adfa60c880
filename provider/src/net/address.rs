//! Socket addresses as calls pass them: bytes that start with a family.

use crate::errno::Errno;
use linux_raw_sys::net::{AF_INET, AF_INET6, AF_UNSPEC};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The longest address (`struct sockaddr_storage`).
pub const ADDRESS_MAX: usize = 128;
/// Bytes of a `struct sockaddr_in`.
pub const INET_LEN: usize = 16;
/// Bytes of a `struct sockaddr_in6`.
pub const INET6_LEN: usize = 28;
/// Bytes of a `struct sockaddr_in6` without its scope, which old programs pass (SIN6_LEN_RFC2133).
pub const INET6_LEN_SHORT: usize = 24;

/// An address: as many bytes as its family uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Address {
    bytes: [u8; ADDRESS_MAX],
    len: u8,
}

impl Address {
    /// Copies an address; what is beyond [`ADDRESS_MAX`] is cut, but no caller has more.
    pub fn new(bytes: &[u8]) -> Self {
        let len = bytes.len().min(ADDRESS_MAX);
        let mut address = Self { bytes: [0; ADDRESS_MAX], len: u8::try_from(len).unwrap_or_default() };
        address.bytes[..len].copy_from_slice(&bytes[..len]);
        address
    }

    /// An address that says no more than its family.
    pub fn of_family(family: u16) -> Self {
        Self::new(&family.to_ne_bytes())
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Address").field(&self.bytes()).finish()
    }
}

/// The family an address names; `None` if it is too short to name one.
pub fn family(bytes: &[u8]) -> Option<u32> {
    Some(u32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?)))
}

/// Tells whether an address is AF_UNSPEC, which dissolves associations.
pub fn is_unspecified(bytes: &[u8]) -> bool {
    family(bytes) == Some(AF_UNSPEC)
}

fn port(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[2], bytes[3]])
}

/// Reads a `struct sockaddr_in`, whatever its family says; `EINVAL` if it is too short.
pub fn parse_inet(bytes: &[u8]) -> Result<SocketAddrV4, Errno> {
    let bytes = bytes.get(..INET_LEN).ok_or(Errno::EINVAL)?;
    Ok(SocketAddrV4::new(Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]), port(bytes)))
}

/// Reads a `struct sockaddr_in6`, whatever its family says; `EINVAL` if it is too short.
pub fn parse_inet6(bytes: &[u8]) -> Result<SocketAddrV6, Errno> {
    let word = |from: usize| bytes.get(from..from + 4).and_then(|word| <[u8; 4]>::try_from(word).ok());
    let octets: [u8; 16] = bytes.get(8..24).and_then(|part| part.try_into().ok()).ok_or(Errno::EINVAL)?;
    let flow = word(4).map_or(0, u32::from_be_bytes);
    let scope = word(24).map_or(0, u32::from_ne_bytes);
    Ok(SocketAddrV6::new(Ipv6Addr::from(octets), port(bytes), flow, scope))
}

/// Writes an address as a socket of `family` (AF_INET or AF_INET6) shows it: IPv4 ones mapped where it is AF_INET6.
pub fn encode(address: SocketAddr, family: u32) -> Address {
    match (address, family) {
        (SocketAddr::V4(v4), AF_INET6) => encode_v6(&SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0)),
        (SocketAddr::V4(v4), _) => {
            let mut bytes = [0; INET_LEN];
            put_family(&mut bytes, AF_INET);
            bytes[2..4].copy_from_slice(&v4.port().to_be_bytes());
            bytes[4..8].copy_from_slice(&v4.ip().octets());
            Address::new(&bytes)
        }
        (SocketAddr::V6(v6), _) => encode_v6(&v6),
    }
}

fn encode_v6(v6: &SocketAddrV6) -> Address {
    let mut bytes = [0; INET6_LEN];
    put_family(&mut bytes, AF_INET6);
    bytes[2..4].copy_from_slice(&v6.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
    bytes[8..24].copy_from_slice(&v6.ip().octets());
    bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
    Address::new(&bytes)
}

fn put_family(bytes: &mut [u8], family: u32) {
    bytes[..2].copy_from_slice(&u16::try_from(family).unwrap_or_default().to_ne_bytes());
}

/// An IPv6 address that stands for an IPv4 one becomes that one.
pub fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_both_ways() {
        let v4: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let plain = encode(v4, AF_INET);
        assert_eq!(plain.bytes(), [2, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(SocketAddr::V4(parse_inet(plain.bytes()).unwrap()), v4);
        let mapped = parse_inet6(encode(v4, AF_INET6).bytes()).unwrap();
        assert_eq!((unmapped(IpAddr::V6(*mapped.ip())), mapped.port()), (v4.ip(), 80));
    }

    #[test]
    fn short_addresses_are_refused() {
        assert_eq!(parse_inet(&[2, 0, 0, 80, 127, 0, 0]), Err(Errno::EINVAL));
        assert_eq!(parse_inet6(&[10; 23]), Err(Errno::EINVAL));
        assert!(parse_inet6(&[10; INET6_LEN_SHORT]).is_ok());
        assert_eq!(family(&[1]), None);
    }
}
