//! POSIX message queues: mq_open(2), mq_unlink(2), mq_timedsend(2), mq_timedreceive(2), mq_notify(2), mq_getsetattr(2).

use super::fs::install;
use super::timers::{SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD, SignalEvent};
use crate::errno::Errno;
use crate::fs::io::buffer;
use crate::fs::mqueue::{COOKIE, How, PRIORITIES, Queue, Shape, queue_of};
use crate::fs::{Fd, OpenFile, OpenFlags};
use crate::net::netlink::NetlinkSocket;
use crate::signal::Signal;
use crate::syscall::args::{BytesIn, BytesOut, FileMode};
use crate::task::{CurrentTask, Deadline};
use crate::time::Timespec;
use crate::user::{UserCStr, UserIn, UserOut};
use std::sync::Arc;
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct mq_attr`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Attributes {
    flags: i64,
    messages_max: i64,
    message_size: i64,
    messages: i64,
    reserved: [i64; 4],
}

/// O_NONBLOCK, the one flag of a queue.
const NONBLOCK: i64 = OpenFlags::NONBLOCK.bits() as i64;

/// mq_open(2). The C library has taken the slash off the name.
pub(super) fn mq_open(
    task: &CurrentTask<'_>,
    name: UserCStr,
    flags: OpenFlags,
    mode: FileMode,
    attributes: UserIn<Attributes>,
) -> Result<Fd, Errno> {
    let attributes = attributes.read_opt(task)?;
    let shape = attributes.map(|new| Shape { messages: new.messages_max, message_size: new.message_size });
    let name = read_name(task, name)?;
    let queues = &task.kernel().ipc().posix;
    let file = queues.open(task, &name, flags, mode.0, shape)?;
    let made = file.has_created();
    // Descriptors of queues are always closed on exec.
    let fd = install(task, file, true);
    if fd.is_err() && made {
        // Linux takes the number first, and makes no queue without one.
        queues.unlink(task, &name)?;
    }
    fd
}

/// mq_unlink(2).
pub(super) fn mq_unlink(task: &CurrentTask<'_>, name: UserCStr) -> Result<(), Errno> {
    let name = read_name(task, name)?;
    task.kernel().ipc().posix.unlink(task, &name)
}

/// A name; an empty one is `ENOENT`, as getname says.
fn read_name(task: &CurrentTask<'_>, name: UserCStr) -> Result<Vec<u8>, Errno> {
    let name = name.read_path(task)?;
    if name.is_empty() { Err(Errno::ENOENT) } else { Ok(name) }
}

/// Until when a call waits: the wall clock's time, or for ever.
fn deadline(task: &CurrentTask<'_>, timeout: UserIn<Timespec>) -> Result<Deadline, Errno> {
    match timeout.read_opt(task)? {
        None => Ok(Deadline::Never),
        Some(at) => at.to_nanoseconds().map(Deadline::Wall),
    }
}

/// The deadline of a descriptor that waits; `None` for one that does not.
fn if_it_waits(file: &OpenFile, deadline: Deadline) -> Option<Deadline> {
    (!file.flags().contains(OpenFlags::NONBLOCK)).then_some(deadline)
}

fn message_size(queue: &Queue) -> usize {
    usize::try_from(queue.shape().message_size).unwrap_or_default()
}

/// mq_timedsend(2).
pub(super) fn mq_timedsend(
    task: &CurrentTask<'_>,
    fd: Fd,
    text: BytesIn,
    len: usize,
    priority: u32,
    timeout: UserIn<Timespec>,
) -> Result<(), Errno> {
    let deadline = deadline(task, timeout)?;
    if priority >= PRIORITIES {
        return Err(Errno::EINVAL);
    }
    let file = task.files().get(fd)?;
    let queue = queue_of(&file)?;
    if !file.flags().writes() {
        return Err(Errno::EBADF);
    }
    if len > message_size(queue) {
        return Err(Errno::EMSGSIZE);
    }
    let mut bytes = buffer(len)?;
    task.mm().read(text.0, &mut bytes)?;
    let message = queue.message(priority, bytes)?;
    queue.send(task, message, if_it_waits(&file, deadline))
}

/// mq_timedreceive(2).
pub(super) fn mq_timedreceive(
    task: &CurrentTask<'_>,
    fd: Fd,
    to: BytesOut,
    len: usize,
    priority: UserOut<u32>,
    timeout: UserIn<Timespec>,
) -> Result<usize, Errno> {
    let deadline = deadline(task, timeout)?;
    let file = task.files().get(fd)?;
    let queue = queue_of(&file)?;
    if !file.flags().reads() {
        return Err(Errno::EBADF);
    }
    if len < message_size(queue) {
        return Err(Errno::EMSGSIZE);
    }
    let message = queue.receive(task, if_it_waits(&file, deadline))?;
    // As on Linux a message that cannot be delivered is lost.
    priority.write_opt(task, &message.priority)?;
    let bytes = message.payload.bytes();
    task.mm().write(to.0, bytes)?;
    Ok(bytes.len())
}

/// mq_notify(2).
pub(super) fn mq_notify(task: &CurrentTask<'_>, fd: Fd, event: UserIn<SignalEvent>) -> Result<(), Errno> {
    let how = event.read_opt(task)?.map(|event| how(task, &event)).transpose()?;
    let file = task.files().get(fd)?;
    let queue = queue_of(&file)?;
    match how {
        Some(how) => task.kernel().ipc().posix.register(task, queue, how),
        None => {
            queue.unregister(task.group().pid());
            Ok(())
        }
    }
}

/// How the program wants to be told (do_mq_notify). With SIGEV_THREAD the signal's number is the descriptor of a netlink socket of the
/// C library's, and the value is the address of a cookie that is to be sent there.
fn how(task: &CurrentTask<'_>, event: &SignalEvent) -> Result<How, Errno> {
    match event.notify {
        SIGEV_NONE => Ok(How::Nothing),
        SIGEV_SIGNAL if event.signal == 0 => Ok(How::Signal(None, event.value)),
        SIGEV_SIGNAL => {
            let signal = Signal::from_raw(event.signal).ok_or(Errno::EINVAL)?;
            Ok(How::Signal(Some(signal), event.value))
        }
        SIGEV_THREAD => {
            let mut cookie = Box::new([0; COOKIE]);
            task.mm().read(UserAddr(event.value), &mut cookie[..])?;
            let file = task.files().get(Fd(event.signal))?;
            let socket = file.file().as_socket().ok_or(Errno::ENOTSOCK)?.socket().clone();
            if !socket.as_any().is::<NetlinkSocket>() {
                return Err(Errno::EINVAL);
            }
            Ok(How::Socket(socket, cookie))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// mq_getsetattr(2).
pub(super) fn mq_getsetattr(
    task: &CurrentTask<'_>,
    fd: Fd,
    new: UserIn<Attributes>,
    old: UserOut<Attributes>,
) -> Result<(), Errno> {
    let new = new.read_opt(task)?;
    if new.is_some_and(|new| new.flags & !NONBLOCK != 0) {
        return Err(Errno::EINVAL);
    }
    let file = task.files().get(fd)?;
    let queue = queue_of(&file)?;
    let before = attributes(&file, queue);
    if let Some(new) = new {
        let mut flags = file.flags();
        flags.set(OpenFlags::NONBLOCK, new.flags & NONBLOCK != 0);
        file.set_flags(flags)?;
    }
    old.write_opt(task, &before)
}

fn attributes(file: &OpenFile, queue: &Arc<Queue>) -> Attributes {
    let Shape { messages, message_size } = queue.shape();
    Attributes {
        flags: if file.flags().contains(OpenFlags::NONBLOCK) { NONBLOCK } else { 0 },
        messages_max: messages,
        message_size,
        messages: queue.count(),
        ..Attributes::default()
    }
}
