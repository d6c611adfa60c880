//! What the host's kernel says of its interfaces, addresses and routes, for a sandbox that was given its network.
//!
//! Only short requests of known kinds that ask for something are put to the host; the answers pass through, with the port number of
//! the sandbox's socket in the place of ours.

use super::message::{DONE, Header, REQUEST, attributes, dump};
use super::route::{GET_ADDRESS, GET_LINK, GET_NEIGHBOUR, GET_ROUTE, GET_RULE, LINK_HEAD, NEW_ADDRESS, NEW_LINK};
use crate::errno::Errno;
use crate::net::interface::{Assigned, Interface};
use linux_raw_sys::net::AF_INET;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::net::Ipv4Addr;
use zerocopy::{FromBytes, IntoBytes};

/// The longest request that is put to the host: a header of any family and some attributes.
const LONGEST: usize = 512;
/// Bytes of one datagram of an answer, which Linux makes no longer than a receiver has room.
const DATAGRAM: usize = 32 * 1024;
/// The most datagrams of one answer.
const MOST: usize = 256;
/// Bytes of a `struct ifaddrmsg`.
const ADDRESS_HEAD: usize = 8;

/// Tells whether a request is the host's to answer.
pub(super) fn answers(request: &Header, body: &[u8]) -> bool {
    let is_known = matches!(request.kind, GET_LINK | GET_ADDRESS | GET_ROUTE | GET_NEIGHBOUR | GET_RULE);
    is_known && body.len() <= LONGEST
}

/// Puts a request to the host; returns the datagrams of its answer as a socket of port number `port` receives them.
pub(super) fn ask(request: &Header, body: &[u8], port: u32) -> Result<Vec<Vec<u8>>, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // No protocol is NETLINK_ROUTE's number.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    let len = u32::try_from(size_of::<Header>() + body.len()).map_err(|_| Errno::EINVAL)?;
    let header = Header { len, port: 0, ..*request };
    rustix::net::send(&socket, &[header.as_bytes(), body].concat(), SendFlags::empty())?;
    let mut answer = Vec::new();
    // The kernel answers as it takes the request, and goes on with a dump whenever a part of it is taken: nothing is waited for.
    while answer.len() < MOST {
        let mut datagram = vec![0; DATAGRAM];
        let len = match rustix::net::recv(&socket, &mut datagram[..], RecvFlags::DONTWAIT) {
            Ok((_, len)) => len.min(DATAGRAM),
            Err(rustix::io::Errno::AGAIN) => break,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        datagram.truncate(len);
        let is_end = readdress(&mut datagram, port);
        answer.push(datagram);
        if is_end {
            break;
        }
    }
    Ok(answer)
}

/// Writes a port number into all messages of a datagram; tells whether one of them ends a dump.
fn readdress(datagram: &mut [u8], port: u32) -> bool {
    let mut rest = datagram;
    while let Ok((mut header, _)) = Header::read_from_prefix(rest) {
        header.port = port;
        rest[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        let len = usize::try_from(header.len).unwrap_or(usize::MAX).next_multiple_of(4);
        if header.kind == DONE {
            return true;
        }
        let Some(next) = rest.get_mut(len.max(size_of::<Header>())..) else { break };
        rest = next;
    }
    false
}

/// The messages of one kind in an answer, without their headers.
fn messages(answer: &[Vec<u8>], kind: u16) -> Vec<&[u8]> {
    let mut found = Vec::new();
    for datagram in answer {
        let mut rest = &datagram[..];
        while let Ok((header, _)) = Header::read_from_prefix(rest) {
            let len = usize::try_from(header.len).unwrap_or(usize::MAX);
            let Some(body) = rest.get(size_of::<Header>()..len) else { break };
            if header.kind == kind {
                found.push(body);
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    found
}

/// The host's interfaces with their IPv4 addresses.
pub(in crate::net) fn interfaces() -> Result<Vec<Interface>, Errno> {
    let request = |kind: u16| Header { kind, flags: REQUEST, ..Header::default() };
    let links = ask(&dump(request(GET_LINK)), &[0; LINK_HEAD], 0)?;
    let mut head = [0; ADDRESS_HEAD];
    head[0] = u8::try_from(AF_INET).unwrap_or_default();
    let addresses = ask(&dump(request(GET_ADDRESS)), &head, 0)?;
    let mut interfaces: Vec<Interface> = messages(&links, NEW_LINK).into_iter().filter_map(link).collect();
    for body in messages(&addresses, NEW_ADDRESS) {
        if let Some((index, address)) = address(body)
            && let Some(interface) = interfaces.iter_mut().find(|interface| interface.index == index)
        {
            interface.addresses.push(address);
        }
    }
    Ok(interfaces)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// Reads a `struct ifinfomsg` and its attributes.
fn link(body: &[u8]) -> Option<Interface> {
    let mut interface = Interface {
        hardware: u16::try_from(word(body, 0)? >> 16).ok()?,
        index: word(body, 4)?,
        flags: word(body, 8)?,
        ..Interface::default()
    };
    for (kind, value) in attributes(body, LINK_HEAD) {
        match kind {
            1 => interface.station = value.to_vec(),
            3 => interface.name = value.split(|byte| *byte == 0).next()?.to_vec(),
            4 => interface.mtu = word(value, 0)?,
            13 => interface.queue = word(value, 0)?,
            _ => {}
        }
    }
    Some(interface)
}

/// Reads a `struct ifaddrmsg` of IPv4 and its attributes: the interface's index and the address.
fn address(body: &[u8]) -> Option<(u32, Assigned)> {
    let prefix = *body.get(1)?;
    let mut found = Assigned { prefix, ..Assigned::default() };
    for (kind, value) in attributes(body, ADDRESS_HEAD) {
        let ip = || <[u8; 4]>::read_from_bytes(value).ok().map(Ipv4Addr::from);
        match kind {
            1 => found.peer = ip()?,
            2 => found.address = ip()?,
            3 => found.label = value.split(|byte| *byte == 0).next()?.to_vec(),
            4 => found.broadcast = ip()?,
            _ => {}
        }
    }
    Some((word(body, 4)?, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::options::LOOPBACK_NAME;

    #[test]
    fn every_host_has_a_loopback_interface() {
        let interfaces = interfaces().unwrap();
        let loopback = interfaces.iter().find(|interface| interface.name == LOOPBACK_NAME).unwrap();
        assert_eq!((loopback.index, loopback.hardware), (1, 772));
    }

    #[test]
    fn answers_are_addressed_to_who_asked() {
        let request = dump(Header { kind: GET_LINK, flags: REQUEST, sequence: 7, ..Header::default() });
        let answer = ask(&request, &[0; LINK_HEAD], 4711).unwrap();
        for datagram in &answer {
            let (header, _) = Header::read_from_prefix(datagram).unwrap();
            assert_eq!((header.port, header.sequence), (4711, 7));
        }
        assert!(!answer.is_empty());
    }

    #[test]
    fn only_questions_pass() {
        let of = |kind: u16| Header { kind, ..Header::default() };
        assert!(answers(&of(GET_ROUTE), &[0; 12]));
        assert!(!answers(&of(NEW_ADDRESS), &[0; 12]) && !answers(&of(GET_ROUTE), &[0; LONGEST + 1]));
    }
}
