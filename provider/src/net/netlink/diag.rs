//! NETLINK_SOCK_DIAG (sock_diag(7)): the sandbox's sockets, for `ss`.

use super::message::{Attributes, Header, Writer, attributes};
use crate::errno::Errno;
use crate::net::inet::{TCP, UDP};
use crate::net::options::LOOPBACK_INDEX;
use crate::net::unix;
use crate::net::unix::ShownState;
use crate::task::CurrentTask;
use linux_raw_sys::net::{AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AF_VSOCK, AF_XDP};
use std::net::{IpAddr, SocketAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// IPPROTO_RAW.
const RAW: u32 = 255;
/// SOCK_DIAG_BY_FAMILY.
const BY_FAMILY: u16 = 20;
/// INET_DIAG_REQ_PROTOCOL.
const PROTOCOL: u16 = 3;
/// TCP_ESTABLISHED, also of sockets that are connected without TCP.
const ESTABLISHED: u8 = 1;
/// TCP_CLOSE.
const CLOSE: u8 = 7;
/// TCP_LISTEN.
const LISTEN: u8 = 10;

/// `struct inet_diag_sockid`, in network order but for the interface.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SocketId {
    source_port: [u8; 2],
    destination_port: [u8; 2],
    source: [u8; 16],
    destination: [u8; 16],
    interface: u32,
    cookie: [u32; 2],
}

/// `struct inet_diag_req_v2`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct InetRequest {
    family: u8,
    protocol: u8,
    extensions: u8,
    padding: u8,
    /// A bit for each state that is asked for.
    states: u32,
    id: SocketId,
}

/// `struct inet_diag_msg`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct InetMessage {
    family: u8,
    state: u8,
    timer: u8,
    retransmits: u8,
    id: SocketId,
    expires: u32,
    receive_queue: u32,
    send_queue: u32,
    uid: u32,
    inode: u32,
}

/// `struct unix_diag_req`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UnixRequest {
    family: u8,
    protocol: u8,
    padding: u16,
    states: u32,
    inode: u32,
    show: u32,
    cookie: [u32; 2],
}

const _: () = assert!(size_of::<SocketId>() == 48 && size_of::<InetRequest>() == 56);
const _: () = assert!(size_of::<InetMessage>() == 72 && size_of::<UnixRequest>() == 24);

/// Serves a request.
pub(super) fn serve(task: &CurrentTask<'_>, request: &Header, body: &[u8], writer: &mut Writer) -> Result<(), Errno> {
    if request.kind != BY_FAMILY {
        return Err(Errno::EINVAL);
    }
    match body.first().map(|family| u32::from(*family)) {
        Some(AF_INET | AF_INET6) => {
            let (asked, _) = InetRequest::read_from_prefix(body).map_err(|_| Errno::EINVAL)?;
            // Protocols whose number does not fit a byte are told by an attribute; none of them is served.
            if attributes(body, size_of::<InetRequest>()).iter().any(|(kind, _)| *kind == PROTOCOL) {
                return Err(Errno::ENOENT);
            }
            inet(task, request, &asked, writer)
        }
        Some(AF_UNIX) => {
            let (asked, _) = UnixRequest::read_from_prefix(body).map_err(|_| Errno::EINVAL)?;
            unix_sockets(task, request, &asked, writer)
        }
        // Kinds of sockets of which there are none to list.
        Some(AF_NETLINK | AF_PACKET | AF_VSOCK | AF_XDP) if request.is_dump() => Ok(()),
        Some(_) => Err(Errno::ENOENT),
        None => Err(Errno::EINVAL),
    }
}

fn low(inode: u64) -> u32 {
    u32::try_from(inode).unwrap_or_default()
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// An address as the family shows it.
fn octets(ip: IpAddr, is_v6: bool) -> [u8; 16] {
    match ip {
        IpAddr::V6(v6) => v6.octets(),
        IpAddr::V4(v4) if is_v6 => v4.to_ipv6_mapped().octets(),
        IpAddr::V4(v4) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&v4.octets());
            octets
        }
    }
}

/// What of an internet socket is told.
struct Line {
    is_v6: bool,
    state: u8,
    local: SocketAddr,
    remote: SocketAddr,
    queues: [usize; 2],
    uid: u32,
    inode: u64,
}

/// Internet sockets of one protocol and version.
fn inet(task: &CurrentTask<'_>, request: &Header, asked: &InetRequest, writer: &mut Writer) -> Result<(), Errno> {
    if !request.is_dump() {
        return Err(Errno::ENOENT);
    }
    let stack = task.kernel().network().inet();
    let lines: Vec<Line> = match u32::from(asked.protocol) {
        TCP => {
            let shown = stack.tcp_sockets().into_iter().filter_map(|socket| socket.shown());
            let line = |shown: crate::net::inet::tcp::Shown| Line {
                is_v6: shown.is_v6,
                state: shown.state,
                local: shown.local,
                remote: shown.remote,
                queues: [shown.receive_queue, shown.send_queue],
                uid: shown.uid,
                inode: shown.inode,
            };
            shown.map(line).collect()
        }
        UDP => {
            let all = stack.udp_sockets();
            let shown = all.iter().filter_map(|socket| socket.shown()).filter(|shown| shown.protocol == UDP);
            let line = |shown: crate::net::inet::udp::Shown| Line {
                is_v6: shown.is_v6,
                state: if shown.is_connected { ESTABLISHED } else { CLOSE },
                local: shown.local,
                remote: shown.remote,
                queues: [shown.receive_queue, 0],
                uid: shown.uid,
                inode: shown.inode,
            };
            shown.map(line).collect()
        }
        // Raw sockets: none can be made.
        RAW => Vec::new(),
        _ => return Err(Errno::ENOENT),
    };
    let is_v6 = u32::from(asked.family) == AF_INET6;
    for line in lines.iter().filter(|line| line.is_v6 == is_v6 && asked.states >> line.state & 1 == 1) {
        let id = SocketId {
            source_port: line.local.port().to_be_bytes(),
            destination_port: line.remote.port().to_be_bytes(),
            source: octets(line.local.ip(), is_v6),
            destination: octets(line.remote.ip(), is_v6),
            interface: if line.local.ip().is_loopback() { 0 } else { asked.id.interface.min(LOOPBACK_INDEX) },
            cookie: [low(line.inode), 0],
        };
        let message = InetMessage {
            family: asked.family,
            state: line.state,
            timer: 0,
            retransmits: 0,
            id,
            expires: 0,
            receive_queue: number(line.queues[0]),
            send_queue: number(line.queues[1]),
            uid: line.uid,
            inode: low(line.inode),
        };
        writer.message(BY_FAMILY, message.as_bytes(), &Attributes::default());
    }
    Ok(())
}

/// Unix sockets.
fn unix_sockets(
    task: &CurrentTask<'_>,
    request: &Header,
    asked: &UnixRequest,
    writer: &mut Writer,
) -> Result<(), Errno> {
    /// UDIAG_SHOW_NAME, UDIAG_SHOW_PEER and UDIAG_SHOW_RQLEN.
    const SHOW: [u32; 3] = [1, 4, 0x10];
    let is_dump = request.is_dump();
    let mut found = false;
    for shown in task.kernel().network().unix().list() {
        let state = state_of(&shown);
        let wanted = if is_dump { asked.states >> state & 1 == 1 } else { low(shown.inode) == asked.inode };
        if !wanted {
            continue;
        }
        found = true;
        let kind = u8::try_from(shown.kind.number()).unwrap_or_default();
        let family = u8::try_from(AF_UNIX).unwrap_or_default();
        // struct unix_diag_msg.
        let head =
            [&[family, kind, state, 0][..], &low(shown.inode).to_ne_bytes(), &low(shown.inode).to_ne_bytes(), &[0; 4]]
                .concat();
        let mut attributes = Attributes::default();
        if asked.show & SHOW[0] != 0
            && let Some(name) = &shown.name
        {
            let is_abstract = name.first() == Some(&b'@');
            let bytes = if is_abstract { [b"\0", &name[1..]].concat() } else { name.clone() };
            attributes = attributes.bytes(0, &bytes);
        }
        if asked.show & SHOW[1] != 0
            && let Some(peer) = shown.peer
        {
            attributes = attributes.word(2, low(peer));
        }
        if asked.show & SHOW[2] != 0 {
            let queues = match shown.state {
                ShownState::Listening => [number(shown.backlog), number(shown.backlog_limit)],
                _ => [number(shown.receive_queue), 0],
            };
            attributes = attributes.bytes(4, queues.as_bytes());
        }
        writer.message(BY_FAMILY, &head, &attributes);
    }
    if is_dump || found { Ok(()) } else { Err(Errno::ENOENT) }
}

fn state_of(shown: &unix::Shown) -> u8 {
    match shown.state {
        ShownState::Listening => LISTEN,
        ShownState::Connected => ESTABLISHED,
        ShownState::Unconnected => CLOSE,
    }
}
