//! System V message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2).

use super::ipc::{self, INFO, REMOVE, SET, STATUS};
use crate::errno::Errno;
use crate::fs::io::buffer;
use crate::ipc::{Ipc, Key, Message, MessageQueue, RawPermissions, Selection};
use crate::task::CurrentTask;
use crate::user::{UserIn, UserOut};
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// CAP_SYS_RESOURCE
const CAP_SYS_RESOURCE: u32 = 24;

const NO_WAIT: u32 = 0o4000;
const NO_ERROR: u32 = 0o10000;
const EXCEPT: u32 = 0o20000;
const COPY: u32 = 0o40000;

pub(super) fn msgget(task: &CurrentTask<'_>, key: i32, flags: u32) -> Result<i32, Errno> {
    let ipc = task.kernel().ipc();
    let make = |permissions| Ok(MessageQueue::new(permissions, ipc.limits.queue_bytes.get()));
    ipc.messages.get(task, Key(key), flags, |_| Ok(()), make)
}

/// The text follows the type, a `long`.
fn text(at: UserAddr) -> UserAddr {
    UserAddr(at.0.wrapping_add(8))
}

pub(super) fn msgsnd(task: &CurrentTask<'_>, id: i32, at: UserAddr, size: usize, flags: u32) -> Result<(), Errno> {
    let kind = UserIn::<i64>::new(at).read(task)?;
    let most = usize::try_from(task.kernel().ipc().limits.message_size.get()).unwrap_or(usize::MAX);
    if size > most || id < 0 || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let mut bytes = buffer(size)?;
    task.mm().read(text(at), &mut bytes)?;
    let queue = task.kernel().ipc().messages.find(id)?;
    queue.status().permissions.check(task, 0o222)?;
    queue.send(task, Message::new(task.kernel(), kind, bytes)?, flags & NO_WAIT == 0)
}

pub(super) fn msgrcv(
    task: &CurrentTask<'_>,
    id: i32,
    at: UserAddr,
    size: usize,
    kind: i64,
    flags: u32,
) -> Result<usize, Errno> {
    if id < 0 || i64::try_from(size).is_err() {
        return Err(Errno::EINVAL);
    }
    let selection = match kind {
        _ if flags & COPY != 0 => {
            if flags & EXCEPT != 0 || flags & NO_WAIT == 0 {
                return Err(Errno::EINVAL);
            }
            Selection::Copy(usize::try_from(kind).unwrap_or(usize::MAX))
        }
        0 => Selection::Any,
        ..0 => Selection::AtMost(kind.saturating_neg()),
        _ if flags & EXCEPT != 0 => Selection::Not(kind),
        _ => Selection::Is(kind),
    };
    let queue = task.kernel().ipc().messages.find(id)?;
    queue.status().permissions.check(task, 0o444)?;
    let room = (size, flags & NO_ERROR != 0);
    let message = queue.receive(task, selection, room, flags & NO_WAIT == 0)?;
    // As on Linux a message that cannot be delivered is lost.
    UserOut::new(at).write(task, &message.kind)?;
    let bytes = &message.text()[..message.text().len().min(size)];
    task.mm().write(text(at), bytes)?;
    Ok(bytes.len())
}

/// `struct msqid64_ds`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawStatus {
    permissions: RawPermissions,
    sent: i64,
    received: i64,
    changed: i64,
    bytes: u64,
    count: u64,
    bytes_max: u64,
    last_sender: i32,
    last_receiver: i32,
    unused: [u64; 2],
}

/// `struct msginfo`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Info {
    pool: i32,
    map: i32,
    text_max: i32,
    bytes_max: i32,
    queues_max: i32,
    segment_size: i32,
    headers: i32,
    segments: u16,
    padding: u16,
}

const STATUS_OF_SLOT: i32 = 11;
const TOTALS: i32 = 12;
const STATUS_OF_ANY: i32 = 13;

/// What IPC_INFO tells: most of it means nothing any longer.
fn limits(ipc: &Ipc) -> Info {
    let bytes_max = ipc.limits.queue_bytes.as_int();
    let queues_max = i32::try_from(ipc.messages.most()).unwrap_or_default();
    Info {
        pool: queues_max.saturating_mul(bytes_max) / 1024,
        map: bytes_max,
        text_max: ipc.limits.message_size.as_int(),
        bytes_max,
        queues_max,
        segment_size: 16,
        headers: bytes_max,
        segments: u16::MAX,
        padding: 0,
    }
}

pub(super) fn msgctl(task: &CurrentTask<'_>, id: i32, command: i32, at: UserAddr) -> Result<i32, Errno> {
    if id < 0 || command < 0 {
        return Err(Errno::EINVAL);
    }
    let queues = &task.kernel().ipc().messages;
    match command {
        INFO | TOTALS => {
            let mut info = limits(task.kernel().ipc());
            if command == TOTALS {
                let all: Vec<_> = queues.all().iter().map(|found| found.object.status()).collect();
                let number = |value: u64| i32::try_from(value).unwrap_or(i32::MAX);
                info.pool = i32::try_from(all.len()).unwrap_or(i32::MAX);
                info.map = number(all.iter().map(|status| status.count).sum());
                info.headers = number(all.iter().map(|status| status.bytes).sum());
            }
            UserOut::new(at).write(task, &info)?;
            Ok(queues.highest_slot())
        }
        STATUS | STATUS_OF_SLOT | STATUS_OF_ANY => {
            let found = ipc::select(queues, id, command == STATUS)?;
            let status = found.object.status();
            if command != STATUS_OF_ANY {
                status.permissions.check(task, 0o444)?;
            }
            let raw = RawStatus {
                permissions: status.permissions.raw(0),
                sent: status.sent,
                received: status.received,
                changed: status.changed,
                bytes: status.bytes,
                count: status.count,
                bytes_max: status.bytes_max,
                last_sender: status.last_sender.0,
                last_receiver: status.last_receiver.0,
                unused: [0; 2],
            };
            UserOut::new(at).write(task, &raw)?;
            Ok(if command == STATUS { 0 } else { found.id })
        }
        SET => {
            let new = UserIn::<RawStatus>::new(at).read(task)?;
            let queue = queues.find(id)?;
            queue.status().permissions.check_owner(task)?;
            if new.bytes_max > task.kernel().ipc().limits.queue_bytes.get() && !task.credentials().has(CAP_SYS_RESOURCE)
            {
                return Err(Errno::EPERM);
            }
            queue.change(new.permissions.changes(), new.bytes_max).map(|()| 0)
        }
        REMOVE => {
            let queue = queues.find(id)?;
            queue.status().permissions.check_owner(task)?;
            queues.remove(id);
            queue.remove();
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
