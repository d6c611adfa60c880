//! Internet sockets of the host, for a sandbox that was given its network (`--net host`).
//!
//! A [`HostSocket`] is one descriptor of the host, which never blocks; waiting is for the descriptor. Addresses and data pass through,
//! flags and options that are known here, too: what the host's kernel can do beyond that stays out of reach. Unix sockets remain the
//! sandbox's own whatever the network.

mod options;

use super::address::{encode, family, is_unspecified, parse_inet, parse_inet6};
use super::inet::check_type;
use super::socket::{Incoming, MessageFlags, Outgoing, Received, Shutdown, Socket};
use super::{Address, Common, Kind, interface};
use crate::errno::Errno;
use crate::fs::io::buffer;
use crate::fs::stdio::ready_now;
use crate::fs::{Ready, WaitSource};
use crate::task::CurrentTask;
use crate::user::UserOut;
use linux_raw_sys::ioctl::FIONREAD;
use linux_raw_sys::net::{AF_INET, AF_INET6, AF_UNSPEC, MSG_TRUNC};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, acceptfrom_with, ipproto,
};
use std::any::Any;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use vmm::addr::UserAddr;

/// The most bytes of a stream that one call hands to the host.
const PIECE: usize = 256 * 1024;
/// The most bytes of a datagram.
const DATAGRAM: usize = 64 * 1024;

/// An internet socket of the host.
#[derive(Debug)]
pub struct HostSocket {
    common: Common,
    fd: OwnedFd,
}

/// Makes a socket of AF_INET or AF_INET6.
pub fn create(task: &CurrentTask<'_>, family: u32, kind: u32, protocol: u32) -> Result<Arc<HostSocket>, Errno> {
    let kind = check_type(task, kind, protocol)?;
    if protocol == super::inet::UDP_LITE {
        return Err(task.unsupported("socket: UDP-Lite of the host", Errno::EPROTONOSUPPORT));
    }
    let (host_kind, protocol, number) = match kind {
        Kind::Stream => (SocketType::STREAM, ipproto::TCP, super::inet::TCP),
        _ => (SocketType::DGRAM, ipproto::UDP, super::inet::UDP),
    };
    let host_family = if family == AF_INET6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(host_family, host_kind, flags, Some(protocol))?;
    Ok(Arc::new(HostSocket { common: Common::new(task, family, kind, number), fd }))
}

/// A host call that a kick ended is to be made again, by the one place that looks for signals first.
fn again<T>(result: Result<T, rustix::io::Errno>) -> Result<T, Errno> {
    result.map_err(|error| if error == rustix::io::Errno::INTR { Errno::EAGAIN } else { error.into() })
}

impl HostSocket {
    /// Reads an address of the socket's family; datagrams may also go to IPv4 addresses by their own form.
    fn parse(&self, address: &[u8]) -> Result<SocketAddr, Errno> {
        match (self.common.family, family(address)) {
            (_, None) => Err(Errno::EINVAL),
            (AF_INET, Some(AF_INET | AF_UNSPEC)) => parse_inet(address).map(SocketAddr::V4),
            (AF_INET6, Some(AF_INET6)) => parse_inet6(address).map(SocketAddr::V6),
            (AF_INET6, Some(AF_INET)) if self.common.kind == Kind::Datagram => parse_inet(address).map(SocketAddr::V4),
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }

    fn show(&self, address: SocketAddrAny) -> Result<Address, Errno> {
        let address = SocketAddr::try_from(address).map_err(|_| Errno::EAFNOSUPPORT)?;
        Ok(encode(address, self.common.family))
    }
}

impl Socket for HostSocket {
    fn common(&self) -> &Common {
        &self.common
    }

    fn bind(&self, _task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno> {
        Ok(rustix::net::bind(&self.fd, &self.parse(address)?)?)
    }

    fn listen(&self, _task: &CurrentTask<'_>, backlog: i32) -> Result<(), Errno> {
        Ok(rustix::net::listen(&self.fd, backlog)?)
    }

    fn accept(&self, _task: &CurrentTask<'_>) -> Result<Arc<dyn Socket>, Errno> {
        let (fd, _) = again(acceptfrom_with(&self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK))?;
        Ok(Arc::new(Self { common: self.common.child(self.common.uid), fd }))
    }

    /// The host tells how a connection comes along when it is asked for once more; only then it counts the socket as connected.
    fn connect(&self, _task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno> {
        if is_unspecified(address) {
            return Ok(rustix::net::connect_unspec(&self.fd)?);
        }
        Ok(rustix::net::connect(&self.fd, &self.parse(address)?)?)
    }

    fn local_address(&self) -> Result<Address, Errno> {
        self.show(rustix::net::getsockname(&self.fd)?)
    }

    fn peer_address(&self) -> Result<Address, Errno> {
        self.show(rustix::net::getpeername(&self.fd)?.ok_or(Errno::ENOTCONN)?)
    }

    fn send(&self, task: &CurrentTask<'_>, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        if !message.control.is_empty() {
            return Err(task.unsupported("sendmsg: control messages to a host socket", Errno::EINVAL));
        }
        let len = message.data.remaining();
        if self.common.kind == Kind::Datagram && len > DATAGRAM {
            return Err(Errno::EMSGSIZE);
        }
        let mut bytes = buffer(len.min(PIECE))?;
        let got = if bytes.is_empty() { 0 } else { message.data.peek(&mut bytes)? };
        if self.common.kind == Kind::Datagram && got < len {
            return Err(Errno::EFAULT);
        }
        let mut flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        flags.set(SendFlags::OOB, message.flags.contains(MessageFlags::OOB));
        flags.set(SendFlags::MORE, message.flags.contains(MessageFlags::MORE));
        let to = match message.to {
            // A connected stream ignores it.
            Some(to) if self.common.kind == Kind::Datagram => Some(self.parse(to)?),
            _ => None,
        };
        let sent = again(match to {
            Some(to) => rustix::net::sendto(&self.fd, &bytes[..got], flags, &to),
            None => rustix::net::send(&self.fd, &bytes[..got], flags),
        })?;
        message.data.skip(sent);
        Ok(sent)
    }

    fn receive(&self, _task: &CurrentTask<'_>, message: &mut Incoming<'_>) -> Result<Received, Errno> {
        let known = MessageFlags::OOB | MessageFlags::PEEK | MessageFlags::TRUNC;
        let plain = !message.flags.intersects(known | MessageFlags::ERRQUEUE);
        if message.flags.contains(MessageFlags::ERRQUEUE) {
            return Err(Errno::EAGAIN);
        }
        if self.is_stream() && plain && message.data.remaining() > 0 {
            // No copy in the monitor. A host call that a kick ended is made again after a look at signals.
            let read = message.data.fill_from_host(self.fd.as_fd(), None);
            let len = read.map_err(|error| if error == Errno::EINTR { Errno::EAGAIN } else { error })?;
            return Ok(Received { len, ..Received::default() });
        }
        let most = if self.is_stream() { PIECE } else { DATAGRAM };
        let mut bytes = buffer(message.data.remaining().min(most))?;
        let mut flags = RecvFlags::DONTWAIT;
        flags.set(RecvFlags::OOB, message.flags.contains(MessageFlags::OOB));
        flags.set(RecvFlags::PEEK, message.flags.contains(MessageFlags::PEEK));
        // A datagram's whole length tells whether it was cut.
        let asks = message.flags.contains(MessageFlags::TRUNC);
        flags.set(RecvFlags::TRUNC, !self.is_stream() || asks);
        let (_, whole, from) = again(rustix::net::recvfrom(&self.fd, &mut bytes[..], flags))?;
        let shown = whole.min(bytes.len());
        let dropped = self.is_stream() && asks && !message.flags.contains(MessageFlags::PEEK);
        if shown > 0 && !dropped && message.data.put(&bytes[..shown])? < shown {
            return Err(Errno::EFAULT);
        }
        let is_cut = !self.is_stream() && whole > shown;
        Ok(Received {
            len: if asks { whole } else { shown },
            from: from.filter(|_| !self.is_stream()).and_then(|from| self.show(from).ok()),
            flags: if is_cut { MSG_TRUNC } else { 0 },
            ..Received::default()
        })
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        Ok(rustix::net::shutdown(
            &self.fd,
            match how {
                Shutdown::Receive => rustix::net::Shutdown::Read,
                Shutdown::Send => rustix::net::Shutdown::Write,
                Shutdown::Both => rustix::net::Shutdown::Both,
            },
        )?)
    }

    fn option(&self, task: &CurrentTask<'_>, level: u32, name: u32, room: usize) -> Result<Vec<u8>, Errno> {
        self.read_option(task, level, name, room)
    }

    fn set_option(&self, task: &CurrentTask<'_>, level: u32, name: u32, value: &[u8]) -> Result<(), Errno> {
        self.write_option(task, level, name, value)
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        if request != FIONREAD {
            return interface::control(task, request, arg);
        }
        let waiting = i32::try_from(rustix::io::ioctl_fionread(&self.fd)?).unwrap_or(i32::MAX);
        UserOut::new(UserAddr(arg)).write(task, &waiting)?;
        Ok(0)
    }

    fn ready(&self) -> Ready {
        ready_now(self.fd.as_fd())
    }

    fn wait_source(&self) -> WaitSource<'_> {
        WaitSource::Host(self.fd.as_fd())
    }

    fn is_stream(&self) -> bool {
        self.common.kind == Kind::Stream
    }

    /// The descriptor is closed with the last reference; a shutdown now would be seen by nobody.
    fn close(&self) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}
