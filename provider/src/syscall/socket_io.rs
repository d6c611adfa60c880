//! Sockets: sending and receiving.

use super::socket::{read_address, socket_file, write_address};
use crate::abi::socket::{MessageHeader, MultiHeader};
use crate::errno::Errno;
use crate::fs::{Fd, OpenFile};
use crate::mm::{IOV_MAX, UserBuffers};
use crate::net::control::{self, OnExec, Writer};
use crate::net::transfer::{self, file_flags};
use crate::net::{ADDRESS_MAX, Incoming, MessageFlags, Outgoing, Socket};
use crate::syscall::args::{BytesIn, BytesOut};
use crate::task::{CurrentTask, Deadline};
use crate::time::Timespec;
use crate::user::{UserIn, UserInOut, UserOut};
use std::mem::offset_of;
use vmm::addr::UserAddr;

/// sendto(2).
pub(super) fn sendto(
    task: &CurrentTask<'_>,
    fd: Fd,
    data: BytesIn,
    len: u64,
    flags: MessageFlags,
    to: UserAddr,
    to_len: i32,
) -> Result<usize, Errno> {
    let mm = task.mm();
    let mut data = UserBuffers::single(&mm, data.0, len)?;
    let (file, socket) = socket_file(task, fd)?;
    let to = if to.0 == 0 { None } else { Some(read_address(task, to, to_len)?) };
    let to = to.as_ref().map(|to| to.bytes());
    let flags = file_flags(&file, flags);
    transfer::send(task, socket.as_ref(), &mut Outgoing { data: &mut data, to, control: &[], flags })
}

/// recvfrom(2).
pub(super) fn recvfrom(
    task: &CurrentTask<'_>,
    fd: Fd,
    data: BytesOut,
    len: u64,
    flags: MessageFlags,
    from: UserAddr,
    from_len: UserInOut<i32>,
) -> Result<usize, Errno> {
    let mm = task.mm();
    let mut data = UserBuffers::single(&mm, data.0, len)?;
    let (file, socket) = socket_file(task, fd)?;
    let flags = file_flags(&file, flags);
    let mut message = Incoming { data: &mut data, flags, wants_name: from.0 != 0 };
    let received = transfer::receive(task, socket.as_ref(), &mut message)?;
    if from.0 != 0 {
        let address = received.from.as_ref().map(|address| address.bytes()).unwrap_or_default();
        write_address(task, address, from, from_len)?;
    }
    Ok(received.len)
}

/// sendmsg(2).
pub(super) fn sendmsg(
    task: &CurrentTask<'_>,
    fd: Fd,
    header: UserIn<MessageHeader>,
    flags: MessageFlags,
) -> Result<usize, Errno> {
    let (file, socket) = socket_file(task, fd)?;
    send_one(task, &file, socket.as_ref(), &header.read(task)?, flags)
}

/// The length of a name that a header says; `EINVAL`.
fn name_len(header: &MessageHeader) -> Result<i32, Errno> {
    if header.name == 0 {
        return Ok(0);
    }
    let len = i32::try_from(header.name_len).map_err(|_| Errno::EINVAL)?;
    Ok(len.min(i32::try_from(ADDRESS_MAX).unwrap_or(i32::MAX)))
}

/// Takes the buffers of a header; `EMSGSIZE` if there are too many.
fn buffers<'m>(mm: &'m crate::mm::MemoryMap, header: &MessageHeader) -> Result<UserBuffers<'m>, Errno> {
    if header.iov_len > IOV_MAX as u64 {
        return Err(Errno::EMSGSIZE);
    }
    UserBuffers::import(mm, UserAddr(header.iov), header.iov_len)
}

fn send_one(
    task: &CurrentTask<'_>,
    file: &OpenFile,
    socket: &dyn Socket,
    header: &MessageHeader,
    flags: MessageFlags,
) -> Result<usize, Errno> {
    let mm = task.mm();
    let to = match name_len(header)? {
        0 => None,
        len => Some(read_address(task, UserAddr(header.name), len)?),
    };
    let mut data = buffers(&mm, header)?;
    let control = match header.control {
        _ if header.control_len == 0 => Vec::new(),
        at => control::read(&mm, UserAddr(at), header.control_len)?,
    };
    let to = to.as_ref().map(|to| to.bytes());
    let flags = file_flags(file, flags);
    transfer::send(task, socket, &mut Outgoing { data: &mut data, to, control: &control, flags })
}

/// recvmsg(2).
pub(super) fn recvmsg(
    task: &CurrentTask<'_>,
    fd: Fd,
    header: UserInOut<MessageHeader>,
    flags: MessageFlags,
) -> Result<usize, Errno> {
    let (file, socket) = socket_file(task, fd)?;
    receive_one(task, &file, socket.as_ref(), header.0, flags)
}

fn receive_one(
    task: &CurrentTask<'_>,
    file: &OpenFile,
    socket: &dyn Socket,
    at: UserAddr,
    flags: MessageFlags,
) -> Result<usize, Errno> {
    let header: MessageHeader = UserIn::new(at).read(task)?;
    let room = usize::try_from(name_len(&header)?).unwrap_or_default();
    let mm = task.mm();
    let mut data = buffers(&mm, &header)?;
    let mut message = Incoming { data: &mut data, flags: file_flags(file, flags), wants_name: header.name != 0 };
    let received = transfer::receive(task, socket, &mut message)?;
    let mut control = Writer::new(UserAddr(header.control), if header.control == 0 { 0 } else { header.control_len });
    let on_exec = if flags.contains(MessageFlags::CMSG_CLOEXEC) { OnExec::Close } else { OnExec::Keep };
    for message in received.control {
        control.put(task, message, on_exec)?;
    }
    if header.name != 0 {
        let address = received.from.as_ref().map(|address| address.bytes()).unwrap_or_default();
        mm.write(UserAddr(header.name), &address[..room.min(address.len())])?;
        let len = u32::try_from(address.len()).unwrap_or_default();
        UserOut::new(field(at, offset_of!(MessageHeader, name_len))).write(task, &len)?;
    }
    let shown = received.flags | control.flags | (flags & MessageFlags::CMSG_CLOEXEC).bits();
    UserOut::new(field(at, offset_of!(MessageHeader, flags))).write(task, &shown)?;
    let used = control.used() as u64;
    UserOut::new(field(at, offset_of!(MessageHeader, control_len))).write(task, &used)?;
    Ok(received.len)
}

fn field(at: UserAddr, offset: usize) -> UserAddr {
    UserAddr(at.0.wrapping_add(offset as u64))
}

/// The header at `index` of an array.
fn element(array: UserAddr, index: u32) -> UserAddr {
    UserAddr(array.0.wrapping_add(u64::from(index) * size_of::<MultiHeader>() as u64))
}

/// Notes what one message of an array moved.
fn put_len(task: &CurrentTask<'_>, at: UserAddr, len: usize) -> Result<(), Errno> {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    UserOut::new(field(at, offset_of!(MultiHeader, len))).write(task, &len)
}

/// The result of a call over several messages: how many went well, or why the first did not.
fn outcome(count: u32, failed: Option<Errno>) -> Result<u32, Errno> {
    match failed {
        Some(error) if count == 0 => Err(error),
        _ => Ok(count),
    }
}

/// sendmmsg(2).
pub(super) fn sendmmsg(
    task: &CurrentTask<'_>,
    fd: Fd,
    array: UserAddr,
    count: u32,
    flags: MessageFlags,
) -> Result<u32, Errno> {
    let (file, socket) = socket_file(task, fd)?;
    let mut done = 0;
    let mut failed = None;
    while done < count.min(u32::try_from(IOV_MAX).unwrap_or(u32::MAX)) && failed.is_none() {
        let at = element(array, done);
        let sent = UserIn::<MessageHeader>::new(at)
            .read(task)
            .and_then(|header| send_one(task, &file, socket.as_ref(), &header, flags))
            .and_then(|len| put_len(task, at, len));
        match sent {
            Ok(()) => done += 1,
            Err(error) => failed = Some(error),
        }
    }
    outcome(done, failed)
}

/// recvmmsg(2). The timeout is looked at after each message only, as Linux does; what is left of it is written back.
pub(super) fn recvmmsg(
    task: &CurrentTask<'_>,
    fd: Fd,
    array: UserAddr,
    count: u32,
    flags: MessageFlags,
    timeout: UserInOut<Timespec>,
) -> Result<u32, Errno> {
    let given = if timeout.is_null() { None } else { Some(timeout.read(task)?.to_duration()?) };
    let deadline = given.map(Deadline::after);
    let (file, socket) = socket_file(task, fd)?;
    socket.common().check_error()?;
    let mut flags = flags;
    let mut done = 0;
    let mut failed = None;
    while done < count.min(u32::try_from(IOV_MAX).unwrap_or(u32::MAX)) && failed.is_none() {
        let at = element(array, done);
        let received = receive_one(task, &file, socket.as_ref(), at, flags.difference(MessageFlags::WAITFORONE))
            .and_then(|len| put_len(task, at, len));
        match received {
            Ok(()) => done += 1,
            Err(error) => failed = Some(error),
        }
        if flags.contains(MessageFlags::WAITFORONE) {
            flags |= MessageFlags::DONTWAIT;
        }
        if let Some(left) = deadline.and_then(Deadline::remaining) {
            let left = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
            timeout.write(task, &Timespec::from_nanoseconds(left))?;
            if left == 0 {
                break;
            }
        }
    }
    if let (Some(error), true) = (failed, done > 0)
        && !matches!(error, Errno::EAGAIN | Errno::EINTR | Errno::ERESTARTSYS)
    {
        // The next call tells.
        socket.common().set_error(error);
    }
    outcome(done, failed)
}
