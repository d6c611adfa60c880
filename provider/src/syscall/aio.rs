//! Asynchronous I/O: io_setup(2) and its kin, in the order of fs/aio.c.

use super::io::{limit_size, read_file, write_file};
use super::poll::read_mask;
use crate::aio::{Context, Event, MAX_EVENTS, Poll};
use crate::errno::Errno;
use crate::fs::eventfd::EventFd;
use crate::fs::{Fd, FileKind, OpenFile, Ready};
use crate::mm::{Backing, Content, Label, MapRequest, Sharing, Source, UserBuffers};
use crate::signal::SignalSet;
use crate::task::{CurrentTask, Deadline, Wake};
use crate::time::Timespec;
use crate::user::{UserIn, UserInOut, UserOut};
use std::sync::Arc;
use std::time::Duration;
use vmm::addr::{PAGE_SIZE, UserAddr};
use vmm::memory::Access;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// More events than any ring can have: 256 MiB of them, with twice as many as were asked for.
const TOO_MANY: u32 = 0x1000_0000 / 32 / 2;
/// Pointers read, and events written, at a time.
const BATCH: usize = 128;

/// `struct iocb`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Request {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: u16,
    fd: i32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: i32,
}

const _: () = assert!(size_of::<Request>() == 64);

const READ: u16 = 0;
const WRITE: u16 = 1;
const SYNC: u16 = 2;
const DATA_SYNC: u16 = 3;
const POLL: u16 = 5;
const READ_VECTOR: u16 = 7;
const WRITE_VECTOR: u16 = 8;

/// IOCB_FLAG_RESFD.
const TELL: u32 = 1;
/// RWF_HIPRI, RWF_DSYNC and RWF_SYNC: a hint, and what a sync afterwards keeps.
const RW_KEPT: u32 = 0x7;
const RW_SYNCED: u32 = 0x6;
const RW_ALL: u32 = 0x4;

/// Makes a context and stores its address, over a zero.
pub(super) fn io_setup(task: &CurrentTask<'_>, events: u32, to: UserInOut<u64>) -> Result<(), Errno> {
    if to.read(task)? != 0 || events == 0 || events > TOO_MANY {
        return Err(Errno::EINVAL);
    }
    if u64::from(events) > MAX_EVENTS {
        return Err(Errno::EAGAIN);
    }
    let context = Context::new(task.kernel().aio(), events, task.kernel().cpus().count())?;
    let mm = task.mm();
    let at = mm.map(ring(task))?;
    mm.aio().insert(at, context);
    let written = to.write(task, &at.0);
    if written.is_err() {
        io_destroy(task, at)?;
    }
    written
}

/// The page that names a context.
fn ring(task: &CurrentTask<'_>) -> MapRequest {
    let object = task.kernel().memory().new_object();
    object.set_size(PAGE_SIZE);
    let content = Content {
        backing: Backing::Source { source: Source::Object(object), offset: 0 },
        sharing: Sharing::Shared,
        max_access: Access::all(),
        label: Label::Special("/[aio] (deleted)"),
    };
    MapRequest { content: Ok(content), ..MapRequest::anonymous(PAGE_SIZE, Access::READ | Access::WRITE) }
}

pub(super) fn io_destroy(task: &CurrentTask<'_>, at: UserAddr) -> Result<(), Errno> {
    let mm = task.mm();
    mm.aio().remove(at)?.end();
    // The program may have unmapped the page itself.
    mm.unmap(at, PAGE_SIZE)
}

/// Submits requests until one is refused; an error only if it is the first.
pub(super) fn io_submit(task: &CurrentTask<'_>, at: UserAddr, count: i64, requests: UserAddr) -> Result<usize, Errno> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let context = task.mm().aio().get(at)?;
    for index in 0..count.min(context.capacity()) {
        let place = u64::try_from(index * size_of::<u64>()).unwrap_or(u64::MAX);
        let place = UserAddr(requests.0.saturating_add(place));
        let submitted =
            UserIn::<u64>::new(place).read(task).and_then(|request| submit(task, &context, UserAddr(request)));
        match submitted {
            Ok(()) => {}
            Err(error) if index == 0 => return Err(error),
            Err(_) => return Ok(index),
        }
    }
    Ok(count.min(context.capacity()))
}

fn submit(task: &CurrentTask<'_>, context: &Arc<Context>, at: UserAddr) -> Result<(), Errno> {
    let request = UserIn::<Request>::new(at).read(task)?;
    if request.reserved != 0 || i64::try_from(request.bytes).is_err() {
        return Err(Errno::EINVAL);
    }
    context.reserve()?;
    start(task, context, at, &request).inspect_err(|_| context.unreserve())
}

/// Starts a request that has room (__io_submit_one).
fn start(task: &CurrentTask<'_>, context: &Arc<Context>, at: UserAddr, request: &Request) -> Result<(), Errno> {
    let file = task.files().get(Fd(request.fd))?;
    let tell = match request.flags & TELL {
        0 => None,
        _ => {
            let eventfd = task.files().get(Fd(request.eventfd))?;
            EventFd::of(&eventfd).ok_or(Errno::EINVAL)?;
            Some(eventfd)
        }
    };
    // The key that io_cancel(2) looks for (KIOCB_KEY).
    UserOut::new(UserAddr(at.0.saturating_add(8))).write(task, &0_u32)?;
    let event = Event { data: request.data, request: at.0, result: 0, second: 0 };
    let result = match request.opcode {
        READ | READ_VECTOR => read(task, &file, request)?,
        WRITE | WRITE_VECTOR => write(task, &file, request)?,
        SYNC | DATA_SYNC => sync(&file, request)?,
        POLL => return poll(task, context, file, request, event, tell),
        _ => return Err(Errno::EINVAL),
    };
    // A call that a signal interrupts is not made again by itself.
    let result = result.map_err(|error| if error.is_restart() { Errno::EINTR } else { error });
    let result = match result {
        Ok(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
        Err(error) => -i64::from(error.raw()),
    };
    context.complete(Event { result, ..event }, tell.as_deref());
    Ok(())
}

/// The buffers of a request: one, or iovecs.
fn buffers<'m>(mm: &'m crate::mm::MemoryMap, request: &Request) -> Result<UserBuffers<'m>, Errno> {
    match request.opcode {
        READ | WRITE => UserBuffers::single(mm, UserAddr(request.buffer), request.bytes),
        _ => UserBuffers::import(mm, UserAddr(request.buffer), request.bytes),
    }
}

/// Checks the file's mode, the flags and where a transfer starts (aio_prep_rw, rw_verify_area); a stream has no place.
fn place(task: &CurrentTask<'_>, file: &OpenFile, permitted: bool, request: &Request) -> Result<u64, Errno> {
    if !permitted {
        return Err(Errno::EBADF);
    }
    if request.rw_flags & !RW_KEPT != 0 {
        return Err(task.unsupported("io_submit: RWF_NOWAIT, RWF_APPEND or newer flags", Errno::EOPNOTSUPP));
    }
    if file.location().kind() == FileKind::Directory {
        return Err(Errno::EINVAL);
    }
    u64::try_from(request.offset).map_err(|_| Errno::EINVAL)
}

/// What the read returned; an error of the outer kind refuses the request.
fn read(task: &CurrentTask<'_>, file: &OpenFile, request: &Request) -> Result<Result<usize, Errno>, Errno> {
    let offset = place(task, file, file.flags().reads(), request)?;
    let mm = task.mm();
    let mut to = buffers(&mm, request)?;
    Ok(if file.file().seekable() { file.read_at(task, offset, &mut to) } else { read_file(task, file, &mut to) })
}

fn write(task: &CurrentTask<'_>, file: &OpenFile, request: &Request) -> Result<Result<usize, Errno>, Errno> {
    let offset = place(task, file, file.flags().writes(), request)?;
    let mm = task.mm();
    let mut from = buffers(&mm, request)?;
    if !file.file().seekable() {
        return Ok(write_file(task, file, &mut from));
    }
    let written = limit_size(task, file, Some(offset), &mut from).and_then(|()| file.write_at(task, offset, &mut from));
    if written.is_ok() && request.rw_flags & RW_SYNCED != 0 {
        return Ok(file.file().sync(request.rw_flags & RW_ALL == 0).and(written));
    }
    Ok(written)
}

fn sync(file: &OpenFile, request: &Request) -> Result<Result<usize, Errno>, Errno> {
    if request.buffer != 0 || request.offset != 0 || request.bytes != 0 || request.rw_flags != 0 {
        return Err(Errno::EINVAL);
    }
    match file.file().sync(request.opcode == DATA_SYNC) {
        // A file that cannot be synced.
        Err(Errno::EINVAL) => Err(Errno::EINVAL),
        synced => Ok(synced.map(|()| 0)),
    }
}

fn poll(
    task: &CurrentTask<'_>,
    context: &Arc<Context>,
    file: Arc<OpenFile>,
    request: &Request,
    event: Event,
    tell: Option<Arc<OpenFile>>,
) -> Result<(), Errno> {
    let interest = u16::try_from(request.buffer).map_err(|_| Errno::EINVAL)?;
    if request.offset != 0 || request.bytes != 0 || request.rw_flags != 0 {
        return Err(Errno::EINVAL);
    }
    Poll::start(task, context, file, Ready::from_bits_truncate(interest.into()), event, tell)
}

/// Gives a poll up; its event comes all the same, so this never succeeds: `EINPROGRESS`. Nothing else can be cancelled.
pub(super) fn io_cancel(
    task: &CurrentTask<'_>,
    at: UserAddr,
    request: UserAddr,
    _result: UserOut<Event>,
) -> Result<(), Errno> {
    let key = UserIn::<u32>::new(UserAddr(request.0.saturating_add(8))).read(task)?;
    if key != 0 {
        return Err(Errno::EINVAL);
    }
    task.mm().aio().get(at)?.cancel(request)?;
    Err(Errno::EINPROGRESS)
}

pub(super) fn io_getevents(
    task: &CurrentTask<'_>,
    at: UserAddr,
    least: i64,
    most: i64,
    events: UserAddr,
    timeout: UserIn<Timespec>,
) -> Result<usize, Errno> {
    let deadline = deadline(timeout.read_opt(task)?);
    fetch(task, at, least, most, events, deadline)
}

/// `struct __aio_sigset`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Mask {
    mask: u64,
    size: u64,
}

pub(super) fn io_pgetevents(
    task: &CurrentTask<'_>,
    at: UserAddr,
    least: i64,
    most: i64,
    events: UserAddr,
    timeout: UserIn<Timespec>,
    mask: UserIn<Mask>,
) -> Result<usize, Errno> {
    let deadline = deadline(timeout.read_opt(task)?);
    let mask = match mask.read_opt(task)? {
        None => None,
        Some(Mask { mask, size }) => {
            let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
            read_mask(task, UserIn::<SignalSet>::new(UserAddr(mask)), size)?
        }
    };
    task.with_temporary_mask(mask, || fetch(task, at, least, most, events, deadline)).map_err(|error| match error {
        Errno::EINTR => Errno::ERESTARTNOHAND,
        other => other,
    })
}

/// When to stop waiting: Linux does not check the time; one before now does not wait.
fn deadline(timeout: Option<Timespec>) -> Deadline {
    let Some(timeout) = timeout else { return Deadline::Never };
    let seconds = u64::try_from(timeout.seconds).map(Duration::from_secs);
    let rest = u64::try_from(timeout.nanoseconds).map(Duration::from_nanos);
    Deadline::after(seconds.unwrap_or_default().saturating_add(rest.unwrap_or_default()))
}

/// Waits for `least` events and stores at most `most`; fewer when the time is over or a signal comes.
fn fetch(
    task: &CurrentTask<'_>,
    at: UserAddr,
    least: i64,
    most: i64,
    events: UserAddr,
    deadline: Deadline,
) -> Result<usize, Errno> {
    let context = task.mm().aio().get(at)?;
    let least = usize::try_from(least).map_err(|_| Errno::EINVAL)?;
    let most = usize::try_from(most).ok().filter(|most| *most >= least).ok_or(Errno::EINVAL)?;
    let mut told = 0;
    // What was stored counts, whatever happens then (read_events).
    let step = |told: &mut usize| match tell(task, &context, events, *told, most) {
        Ok(more) => {
            *told += more;
            Ok((*told >= least).then_some(()))
        }
        Err(_) if *told > 0 => Ok(Some(())),
        Err(error) => Err(error),
    };
    if deadline.remaining() == Some(Duration::ZERO) {
        step(&mut told)?;
        return Ok(told);
    }
    let woken = task.block_until(deadline, |waiter| {
        waiter.on_queue(context.changed());
        step(&mut told)
    })?;
    if told == 0 && woken == Wake::Interrupted { Err(Errno::EINTR) } else { Ok(told) }
}

/// Stores the events that are there behind the first `told`, `most` in all.
fn tell(task: &CurrentTask<'_>, context: &Context, events: UserAddr, told: usize, most: usize) -> Result<usize, Errno> {
    let mut more = 0;
    loop {
        if context.has_ended() {
            return Err(Errno::EINVAL);
        }
        let found = context.take(BATCH.min(most - told - more));
        if found.is_empty() {
            return Ok(more);
        }
        let offset = u64::try_from((told + more) * size_of::<Event>()).unwrap_or(u64::MAX);
        let written = task.mm().write(UserAddr(events.0.saturating_add(offset)), found.as_bytes());
        if let Err(error) = written {
            context.put_back(&found);
            return if more > 0 { Ok(more) } else { Err(error) };
        }
        more += found.len();
    }
}

#[cfg(test)]
#[path = "aio_tests.rs"]
mod tests;
