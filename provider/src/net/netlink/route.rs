//! NETLINK_ROUTE (rtnetlink(7)): the loopback interface, its addresses and routes.

use super::message::{Attributes, Header, Writer, attributes};
use crate::errno::Errno;
use crate::net::interface::{FLAGS, HARDWARE, MTU, QUEUE};
use crate::net::options::{LOOPBACK_INDEX, LOOPBACK_NAME};
use linux_raw_sys::net::{AF_INET, AF_INET6, AF_UNSPEC};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::FromBytes;

/// RTM_NEWLINK, and the kinds of messages from there on: four for each object.
pub(super) const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
pub(super) const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
pub(super) const NEW_ADDRESS: u16 = 20;
pub(super) const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
pub(super) const GET_ROUTE: u16 = 26;
pub(super) const GET_NEIGHBOUR: u16 = 30;
pub(super) const GET_RULE: u16 = 34;
const NEW_RULE: u16 = 32;
/// The last kind that Linux has (RTM_MAX).
const LAST_KIND: u16 = 123;

/// Bytes of a `struct ifinfomsg`.
pub(super) const LINK_HEAD: usize = 16;
/// IFLA_IFNAME.
const LINK_NAME: u16 = 3;
/// IFLA_MTU.
const LINK_MTU: u16 = 4;
/// IFF_LOWER_UP, which only netlink shows.
const LOWER_UP: u32 = 0x1_0000;
/// IFA_F_PERMANENT.
const PERMANENT: u32 = 0x80;
/// RT_SCOPE_HOST.
const SCOPE_HOST: u8 = 254;
/// RT_TABLE_LOCAL.
const TABLE_LOCAL: u8 = 255;
/// RTPROT_KERNEL.
const BY_KERNEL: u8 = 2;
/// RTN_LOCAL.
const LOCAL: u8 = 2;
/// RTN_BROADCAST.
const BROADCAST: u8 = 3;

/// Serves a request.
///
/// `may_change`: the caller has CAP_NET_ADMIN.
pub(super) fn serve(request: &Header, body: &[u8], may_change: bool, writer: &mut Writer) -> Result<(), Errno> {
    if request.kind > LAST_KIND {
        return Err(Errno::EOPNOTSUPP);
    }
    let family = u32::from(body.first().copied().unwrap_or_default());
    let is_dump = request.is_dump();
    match request.kind {
        GET_LINK if is_dump => link(writer),
        GET_LINK => {
            if !names_loopback(body) {
                return Err(Errno::ENODEV);
            }
            link(writer);
        }
        GET_ADDRESS if is_dump => addresses(family, writer),
        GET_ROUTE if is_dump => routes(family, writer),
        GET_ROUTE => route_to(family, body, writer)?,
        // Nobody is next to a loopback interface.
        GET_NEIGHBOUR if is_dump => {}
        GET_RULE if is_dump => rules(family, writer),
        kind if !asks(kind) && !may_change => return Err(Errno::EPERM),
        DELETE_LINK if !names_loopback(body) => return Err(Errno::ENODEV),
        // It belongs to no module that could remove it.
        DELETE_LINK => return Err(Errno::EOPNOTSUPP),
        NEW_LINK | SET_LINK => change_link(request.kind, body)?,
        kind if !asks(kind) => return Err(Errno::EPERM),
        _ => return Err(Errno::EOPNOTSUPP),
    }
    Ok(())
}

/// Of each four kinds the third asks; the others change something.
pub(super) fn asks(kind: u16) -> bool {
    kind % 4 == 2
}

/// Changes the interface: it may be told to be as it is, and up. `EOPNOTSUPP` for another interface's making.
fn change_link(kind: u16, body: &[u8]) -> Result<(), Errno> {
    /// IFF_UP.
    const UP: u32 = 1;
    let word = |at: usize| body.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_ne_bytes);
    if !names_loopback(body) {
        return Err(if kind == NEW_LINK { Errno::EOPNOTSUPP } else { Errno::ENODEV });
    }
    let (flags, mask) = (word(8), word(12));
    let mask = if mask == 0 { flags } else { mask };
    let stays_up = mask & UP == 0 || flags & UP != 0;
    let same = attributes(body, LINK_HEAD).into_iter().all(|(kind, value)| match kind {
        LINK_NAME => name_of(value) == LOOPBACK_NAME,
        LINK_MTU => value == MTU.to_ne_bytes(),
        _ => false,
    });
    if stays_up && same { Ok(()) } else { Err(Errno::EPERM) }
}

/// Tells whether a request for one interface, by index or name, means the only one there is.
fn names_loopback(body: &[u8]) -> bool {
    let index = body.get(4..8).and_then(|part| part.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let name = attributes(body, LINK_HEAD).into_iter().find(|(kind, _)| *kind == LINK_NAME).map(|(_, value)| value);
    match (index, name) {
        (LOOPBACK_INDEX, _) => true,
        (0, Some(name)) => name_of(name) == LOOPBACK_NAME,
        _ => false,
    }
}

/// A name up to its NUL.
fn name_of(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The interface.
fn link(writer: &mut Writer) {
    let flags = u32::from(FLAGS) | LOWER_UP;
    // struct ifinfomsg.
    let head = [
        &[0, 0][..],
        &HARDWARE.to_ne_bytes(),
        &LOOPBACK_INDEX.to_ne_bytes(),
        &flags.to_ne_bytes(),
        &0u32.to_ne_bytes(),
    ]
    .concat();
    let attributes = Attributes::default()
        .string(3, LOOPBACK_NAME)
        .word(13, QUEUE)
        // Its state is unknown, as that of every loopback interface.
        .byte(16, 0)
        .byte(17, 0)
        .word(4, MTU)
        .word(27, 0)
        .word(30, 0)
        .word(31, 1)
        .word(32, 1)
        .byte(33, 1)
        .string(6, b"noqueue")
        .bytes(1, &[0; 6])
        .bytes(2, &[0; 6])
        // Nothing is counted: struct rtnl_link_stats64 and rtnl_link_stats.
        .bytes(23, &[0; 200])
        .bytes(7, &[0; 100]);
    writer.message(NEW_LINK, &head, &attributes);
}

/// The interface's addresses.
fn addresses(family: u32, writer: &mut Writer) {
    // struct ifaddrmsg.
    let head = |family: u32, prefix: u8| {
        let family = u8::try_from(family).unwrap_or_default();
        [&[family, prefix, PERMANENT.to_ne_bytes()[0], SCOPE_HOST][..], &LOOPBACK_INDEX.to_ne_bytes()].concat()
    };
    // For ever: struct ifa_cacheinfo.
    let cache: Vec<u8> = [u32::MAX, u32::MAX, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
    if matches!(family, AF_UNSPEC | AF_INET) {
        let local = Ipv4Addr::LOCALHOST.octets();
        let attributes = Attributes::default()
            .bytes(1, &local)
            .bytes(2, &local)
            .string(3, LOOPBACK_NAME)
            .word(8, PERMANENT)
            .bytes(6, &cache);
        writer.message(NEW_ADDRESS, &head(AF_INET, 8), &attributes);
    }
    if matches!(family, AF_UNSPEC | AF_INET6) {
        let local = Ipv6Addr::LOCALHOST.octets();
        let attributes = Attributes::default().bytes(1, &local).bytes(6, &cache).word(8, PERMANENT);
        writer.message(NEW_ADDRESS, &head(AF_INET6, 128), &attributes);
    }
}

/// A route: `struct rtmsg`.
fn route(family: u32, prefix: u8, kind: u8) -> Vec<u8> {
    let family = u8::try_from(family).unwrap_or_default();
    let scope = if family == 2 { if kind == BROADCAST { 253 } else { SCOPE_HOST } } else { 0 };
    [&[family, prefix, 0, 0, TABLE_LOCAL, BY_KERNEL, scope, kind][..], &0u32.to_ne_bytes()].concat()
}

/// The routes: all lead to the interface.
fn routes(family: u32, writer: &mut Writer) {
    let common = |destination: &[u8]| Attributes::default().word(15, u32::from(TABLE_LOCAL)).bytes(1, destination);
    if matches!(family, AF_UNSPEC | AF_INET) {
        let source = Ipv4Addr::LOCALHOST.octets();
        for (destination, prefix, kind) in
            [([127, 0, 0, 0], 8, LOCAL), ([127, 0, 0, 1], 32, LOCAL), ([127, 255, 255, 255], 32, BROADCAST)]
        {
            let attributes = common(&destination).bytes(7, &source).word(4, LOOPBACK_INDEX);
            writer.message(NEW_ROUTE, &route(AF_INET, prefix, kind), &attributes);
        }
    }
    if matches!(family, AF_UNSPEC | AF_INET6) {
        let attributes = common(&Ipv6Addr::LOCALHOST.octets()).word(6, 0).word(4, LOOPBACK_INDEX);
        writer.message(NEW_ROUTE, &route(AF_INET6, 128, LOCAL), &attributes);
    }
}

/// The route to one address (`ip route get`); `ENETUNREACH`.
fn route_to(family: u32, body: &[u8], writer: &mut Writer) -> Result<(), Errno> {
    /// RTA_DST.
    const DESTINATION: u16 = 1;
    /// Bytes of a `struct rtmsg`.
    const HEAD: usize = 12;
    let given = attributes(body, HEAD).into_iter().find(|(kind, _)| *kind == DESTINATION).map(|(_, value)| value);
    let address = match family {
        AF_INET => given.and_then(|given| <[u8; 4]>::read_from_bytes(given).ok()).map(IpAddr::from),
        AF_INET6 => given.and_then(|given| <[u8; 16]>::read_from_bytes(given).ok()).map(IpAddr::from),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    let address = address.ok_or(Errno::EINVAL)?;
    if !address.is_loopback() {
        return Err(Errno::ENETUNREACH);
    }
    let (octets, source, prefix) = match address {
        IpAddr::V4(v4) => (v4.octets().to_vec(), Ipv4Addr::LOCALHOST.octets().to_vec(), 32),
        IpAddr::V6(v6) => (v6.octets().to_vec(), Ipv6Addr::LOCALHOST.octets().to_vec(), 128),
    };
    let attributes = Attributes::default()
        .word(15, u32::from(TABLE_LOCAL))
        .bytes(DESTINATION, &octets)
        .word(4, LOOPBACK_INDEX)
        .bytes(7, &source);
    writer.message(NEW_ROUTE, &route(family, prefix, LOCAL), &attributes);
    Ok(())
}

/// The rules that every kernel starts with (`ip rule`).
fn rules(family: u32, writer: &mut Writer) {
    let families: &[u32] = match family {
        AF_INET => &[AF_INET],
        AF_INET6 => &[AF_INET6],
        _ => &[AF_INET, AF_INET6],
    };
    for family in families {
        let family = u8::try_from(*family).unwrap_or_default();
        for (table, priority) in [(TABLE_LOCAL, 0u32), (254, 32766)] {
            // struct fib_rule_hdr with FR_ACT_TO_TBL.
            let head = [&[family, 0, 0, 0, table, 0, 0, 1][..], &0u32.to_ne_bytes()].concat();
            let attributes = Attributes::default().word(15, u32::from(table)).word(6, priority);
            writer.message(NEW_RULE, &head, &attributes);
        }
    }
}
