//! Sockets: making, naming, connecting and ending them, and their options. [`super::socket_io`] moves data.

use super::args::flags_arg;
use crate::errno::Errno;
use crate::fs::{Fd, OpenFile, OpenFlags};
use crate::net::netlink::LIST_MEMBERSHIPS;
use crate::net::{self, ADDRESS_MAX, Address, Shutdown, Socket, transfer};
use crate::task::{CurrentTask, Resource};
use crate::user::{UserInOut, UserOut};
use linux_raw_sys::net::SOL_NETLINK;
use std::sync::Arc;
use vmm::addr::UserAddr;
use zerocopy::IntoBytes;

/// The most bytes of an option's value that are looked at.
const OPTION_MAX: usize = 4096;

bitflags::bitflags! {
    /// The flags that come with a socket's type.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SocketFlags: u32 {
        /// Never wait.
        const NONBLOCK = 0o4000;
        /// Close on exec.
        const CLOEXEC = 0o200_0000;
    }
}

flags_arg! {
    SocketFlags => "SOCK_";
    net::MessageFlags => "MSG_";
}

impl SocketFlags {
    fn open_flags(self) -> OpenFlags {
        if self.contains(Self::NONBLOCK) { OpenFlags::NONBLOCK } else { OpenFlags::empty() }
    }
}

/// The open file behind a descriptor that must be a socket; `EBADF`, `ENOTSOCK`.
pub(super) fn socket_file(task: &CurrentTask<'_>, fd: Fd) -> Result<(Arc<OpenFile>, Arc<dyn Socket>), Errno> {
    let file = task.files().get(fd)?;
    let socket = file.file().as_socket().map(|file| file.socket().clone()).ok_or(Errno::ENOTSOCK)?;
    Ok((file, socket))
}

/// Reads an address; `EINVAL` for an impossible length.
pub(super) fn read_address(task: &CurrentTask<'_>, at: UserAddr, len: i32) -> Result<Address, Errno> {
    let len = usize::try_from(len).ok().filter(|len| *len <= ADDRESS_MAX).ok_or(Errno::EINVAL)?;
    let mut bytes = [0; ADDRESS_MAX];
    task.mm().read(at, &mut bytes[..len])?;
    Ok(Address::new(&bytes[..len]))
}

/// Writes as much of an address as the program has room for, and its whole length (move_addr_to_user).
pub(super) fn write_address(
    task: &CurrentTask<'_>,
    address: &[u8],
    at: UserAddr,
    len: UserInOut<i32>,
) -> Result<(), Errno> {
    let room = usize::try_from(len.read(task)?).map_err(|_| Errno::EINVAL)?;
    // Where there is no address, nothing is written anywhere.
    let shown = &address[..room.min(address.len())];
    if !shown.is_empty() {
        task.mm().write(at, shown)?;
    }
    len.write(task, &i32::try_from(address.len()).unwrap_or_default())
}

/// Puts a socket at the lowest free descriptor.
fn install(task: &CurrentTask<'_>, socket: Arc<dyn Socket>, flags: SocketFlags) -> Result<Fd, Errno> {
    let limit = task.group().limits().soft(Resource::Files);
    let file = net::open(socket, flags.open_flags());
    task.files().insert(file, flags.contains(SocketFlags::CLOEXEC), 0, limit)
}

/// Takes a type apart: what it is, and flags; `EINVAL`.
fn split_type(kind: u32) -> Result<(u32, SocketFlags), Errno> {
    /// The bits of the type proper (SOCK_TYPE_MASK).
    const MASK: u32 = 0xf;
    /// One past the last type (SOCK_MAX).
    const END: u32 = 11;
    let flags = SocketFlags::from_bits(kind & !MASK).ok_or(Errno::EINVAL)?;
    if kind & MASK >= END { Err(Errno::EINVAL) } else { Ok((kind & MASK, flags)) }
}

/// socket(2).
pub(super) fn socket(task: &CurrentTask<'_>, family: u32, kind: u32, protocol: u32) -> Result<Fd, Errno> {
    let (kind, flags) = split_type(kind)?;
    let socket = net::create(task, family, kind, protocol)?;
    install(task, socket, flags)
}

/// socketpair(2): of Unix sockets only.
pub(super) fn socketpair(
    task: &CurrentTask<'_>,
    family: u32,
    kind: u32,
    protocol: u32,
    to: UserOut<[i32; 2]>,
) -> Result<(), Errno> {
    let (kind, flags) = split_type(kind)?;
    let [one, other] = net::create_pair(task, family, kind, protocol)?;
    let first = install(task, one, flags)?;
    let second = install(task, other, flags);
    let written = second
        .and_then(|second| to.write(task, &[first.0, second.0]).inspect_err(|_| drop(task.files().close(second))));
    if written.is_err() {
        drop(task.files().close(first));
    }
    written
}

/// bind(2).
pub(super) fn bind(task: &CurrentTask<'_>, fd: Fd, address: UserAddr, len: i32) -> Result<(), Errno> {
    let (_, socket) = socket_file(task, fd)?;
    socket.bind(task, read_address(task, address, len)?.bytes())
}

/// listen(2).
pub(super) fn listen(task: &CurrentTask<'_>, fd: Fd, backlog: i32) -> Result<(), Errno> {
    let (_, socket) = socket_file(task, fd)?;
    socket.listen(task, backlog)
}

/// accept(2).
pub(super) fn accept(task: &CurrentTask<'_>, fd: Fd, address: UserAddr, len: UserInOut<i32>) -> Result<Fd, Errno> {
    accept4(task, fd, address, len, SocketFlags::empty())
}

/// accept4(2).
pub(super) fn accept4(
    task: &CurrentTask<'_>,
    fd: Fd,
    address: UserAddr,
    len: UserInOut<i32>,
    flags: SocketFlags,
) -> Result<Fd, Errno> {
    if !SocketFlags::all().contains(flags) {
        return Err(Errno::EINVAL);
    }
    let (file, socket) = socket_file(task, fd)?;
    let accepted = transfer::accept(task, &file, socket.as_ref())?;
    let accepted_file = net::open(accepted.clone(), flags.open_flags());
    if address.0 != 0 {
        let peer = accepted.peer_address().map_err(|_| Errno::ECONNABORTED)?;
        write_address(task, peer.bytes(), address, len)?;
    }
    let limit = task.group().limits().soft(Resource::Files);
    task.files().insert(accepted_file, flags.contains(SocketFlags::CLOEXEC), 0, limit)
}

/// connect(2).
pub(super) fn connect(task: &CurrentTask<'_>, fd: Fd, address: UserAddr, len: i32) -> Result<(), Errno> {
    let (file, socket) = socket_file(task, fd)?;
    let address = read_address(task, address, len)?;
    transfer::connect(task, &file, socket.as_ref(), address.bytes())
}

/// getsockname(2).
pub(super) fn getsockname(task: &CurrentTask<'_>, fd: Fd, address: UserAddr, len: UserInOut<i32>) -> Result<(), Errno> {
    let (_, socket) = socket_file(task, fd)?;
    write_address(task, socket.local_address()?.bytes(), address, len)
}

/// getpeername(2).
pub(super) fn getpeername(task: &CurrentTask<'_>, fd: Fd, address: UserAddr, len: UserInOut<i32>) -> Result<(), Errno> {
    let (_, socket) = socket_file(task, fd)?;
    write_address(task, socket.peer_address()?.bytes(), address, len)
}

/// shutdown(2).
pub(super) fn shutdown(task: &CurrentTask<'_>, fd: Fd, how: i32) -> Result<(), Errno> {
    let (_, socket) = socket_file(task, fd)?;
    socket.shutdown(match how {
        0 => Shutdown::Receive,
        1 => Shutdown::Send,
        2 => Shutdown::Both,
        _ => return Err(Errno::EINVAL),
    })
}

/// getsockopt(2).
pub(super) fn getsockopt(
    task: &CurrentTask<'_>,
    fd: Fd,
    level: u32,
    name: u32,
    value: UserAddr,
    len: UserInOut<i32>,
) -> Result<(), Errno> {
    let (_, socket) = socket_file(task, fd)?;
    let room = usize::try_from(len.read(task)?).map_err(|_| Errno::EINVAL)?;
    let found = socket.option(task, level, name, room)?;
    let shown = &found[..room.min(found.len())];
    task.mm().write(value, shown.as_bytes())?;
    // This one tells how much there is, not how much of it was shown (netlink_getsockopt).
    let tells_all = (level, name) == (SOL_NETLINK, LIST_MEMBERSHIPS);
    let told = if tells_all { found.len() } else { shown.len() };
    len.write(task, &i32::try_from(told).unwrap_or_default())
}

/// setsockopt(2).
pub(super) fn setsockopt(
    task: &CurrentTask<'_>,
    fd: Fd,
    level: u32,
    name: u32,
    value: UserAddr,
    len: i32,
) -> Result<(), Errno> {
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    let (_, socket) = socket_file(task, fd)?;
    let mut bytes = vec![0; len.min(OPTION_MAX)];
    // Options that are an int are judged by their length before they are read.
    if len >= size_of::<i32>() || value.0 != 0 {
        task.mm().read(value, &mut bytes)?;
    }
    socket.set_option(task, level, name, &bytes)
}
