//! Reading and writing: read(2), write(2) and their kin.

use crate::errno::Errno;
use crate::fs::{Fd, FileKind, OpenFile, OpenFlags, Ready, Source};
use crate::mm::UserBuffers;
use crate::signal::Signal;
use crate::syscall::args::{BytesIn, BytesOut};
use crate::task::{CurrentTask, Resource};
use vmm::addr::UserAddr;

/// Reads at the file's offset, waiting for bytes unless the file is non-blocking.
pub(super) fn read_file(task: &CurrentTask<'_>, file: &OpenFile, to: &mut UserBuffers<'_>) -> Result<usize, Errno> {
    let read = read_uncounted(task, file, to);
    task.transfers().note_read(&read);
    read
}

fn read_uncounted(task: &CurrentTask<'_>, file: &OpenFile, to: &mut UserBuffers<'_>) -> Result<usize, Errno> {
    if let Some(socket) = file.file().as_socket() {
        return socket.read(task, file, to);
    }
    match file.read(task, to) {
        Err(Errno::EAGAIN) if !file.flags().contains(OpenFlags::NONBLOCK) => {
            let waited = file.file().read_blocking(task, to);
            waited.unwrap_or_else(|| task.block_on_file(file.file().as_ref(), Ready::IN, || file.read(task, to)))
        }
        other => other,
    }
}

/// Writes at the file's offset, waiting for room unless the file is non-blocking. A stream takes all bytes in several steps, as
/// Linux's pipes and terminals do. A broken pipe raises SIGPIPE.
pub(super) fn write_file(task: &CurrentTask<'_>, file: &OpenFile, from: &mut UserBuffers<'_>) -> Result<usize, Errno> {
    let written = write_uncounted(task, file, from);
    task.transfers().note_write(&written);
    written
}

fn write_uncounted(task: &CurrentTask<'_>, file: &OpenFile, from: &mut UserBuffers<'_>) -> Result<usize, Errno> {
    if let Some(socket) = file.file().as_socket() {
        return socket.write(task, file, from);
    }
    if !file.flags().writes() {
        return Err(Errno::EBADF);
    }
    limit_size(task, file, None, from)?;
    let blocks = !file.flags().contains(OpenFlags::NONBLOCK);
    let mut total = task.take_progress();
    from.skip(total);
    loop {
        let step = write_once(task, file, None, from);
        match step {
            Ok(written) => total += written,
            Err(Errno::NEEDS_THREAD) => return Err(task.keep_progress(total)),
            Err(error) if total == 0 => return Err(error),
            // What was written counts.
            Err(_) => return Ok(total),
        }
        if step == Ok(0) || !blocks || file.file().seekable() || from.remaining() == 0 {
            return Ok(total);
        }
    }
}

/// One write at an offset, or at the file's own: waits for room unless the file is non-blocking; a broken pipe raises SIGPIPE.
pub(super) fn write_once(
    task: &CurrentTask<'_>,
    file: &OpenFile,
    offset: Option<u64>,
    from: &mut dyn Source,
) -> Result<usize, Errno> {
    let mut write = || match offset {
        Some(offset) => file.write_at(task, offset, from),
        None => file.write(task, from),
    };
    let written = match write() {
        Err(Errno::EAGAIN) if !file.flags().contains(OpenFlags::NONBLOCK) => {
            task.block_on_file(file.file().as_ref(), Ready::OUT, write)
        }
        other => other,
    };
    if written == Err(Errno::EPIPE) {
        // Whoever raises a signal takes it before the call returns.
        task.needs_thread()?;
        task.raise(Signal::SIGPIPE);
    }
    written
}

/// Cuts a write at RLIMIT_FSIZE; SIGXFSZ and `EFBIG` if nothing is left of it (generic_write_check_limits).
pub(super) fn limit_size(
    task: &CurrentTask<'_>,
    file: &OpenFile,
    offset: Option<u64>,
    from: &mut dyn Source,
) -> Result<(), Errno> {
    let limit = task.group().limits().soft(Resource::FileSize);
    if limit == u64::MAX || file.location().kind() != FileKind::Regular || from.remaining() == 0 {
        return Ok(());
    }
    let start = if file.flags().contains(OpenFlags::APPEND) {
        file.file().size()?
    } else {
        offset.unwrap_or_else(|| file.offset())
    };
    match limit.checked_sub(start) {
        None | Some(0) => {
            task.needs_thread()?;
            task.raise(Signal::SIGXFSZ);
            Err(Errno::EFBIG)
        }
        Some(room) => {
            from.limit(usize::try_from(room).unwrap_or(usize::MAX));
            Ok(())
        }
    }
}

fn readable(task: &CurrentTask<'_>, fd: Fd) -> Result<std::sync::Arc<OpenFile>, Errno> {
    let file = task.files().get(fd)?;
    if file.flags().reads() { Ok(file) } else { Err(Errno::EBADF) }
}

fn writable(task: &CurrentTask<'_>, fd: Fd) -> Result<std::sync::Arc<OpenFile>, Errno> {
    let file = task.files().get(fd)?;
    if file.flags().writes() { Ok(file) } else { Err(Errno::EBADF) }
}

/// A position argument, which programs pass as signed.
fn position(offset: i64) -> Result<u64, Errno> {
    u64::try_from(offset).map_err(|_| Errno::EINVAL)
}

/// read(2).
pub(super) fn read(task: &CurrentTask<'_>, fd: Fd, buffer: BytesOut, len: u64) -> Result<usize, Errno> {
    let file = readable(task, fd)?;
    let mm = task.mm();
    read_file(task, &file, &mut UserBuffers::single(&mm, buffer.0, len)?)
}

/// write(2).
pub(super) fn write(task: &CurrentTask<'_>, fd: Fd, buffer: BytesIn, len: u64) -> Result<usize, Errno> {
    let file = writable(task, fd)?;
    let mm = task.mm();
    write_file(task, &file, &mut UserBuffers::single(&mm, buffer.0, len)?)
}

/// readv(2).
pub(super) fn readv(task: &CurrentTask<'_>, fd: Fd, buffers: UserAddr, count: u64) -> Result<usize, Errno> {
    let file = readable(task, fd)?;
    let mm = task.mm();
    read_file(task, &file, &mut UserBuffers::import(&mm, buffers, count)?)
}

/// writev(2).
pub(super) fn writev(task: &CurrentTask<'_>, fd: Fd, buffers: UserAddr, count: u64) -> Result<usize, Errno> {
    let file = writable(task, fd)?;
    let mm = task.mm();
    write_file(task, &file, &mut UserBuffers::import(&mm, buffers, count)?)
}

/// pread64(2).
pub(super) fn pread64(task: &CurrentTask<'_>, fd: Fd, buffer: BytesOut, len: u64, offset: i64) -> Result<usize, Errno> {
    let offset = position(offset)?;
    let file = task.files().get(fd)?;
    let mm = task.mm();
    read_at(task, &file, offset, || UserBuffers::single(&mm, buffer.0, len))
}

/// pwrite64(2).
pub(super) fn pwrite64(task: &CurrentTask<'_>, fd: Fd, buffer: BytesIn, len: u64, offset: i64) -> Result<usize, Errno> {
    let offset = position(offset)?;
    let file = task.files().get(fd)?;
    let mm = task.mm();
    write_at(task, &file, offset, || UserBuffers::single(&mm, buffer.0, len))
}

/// Refuses a transfer that would end beyond the largest signed offset (rw_verify_area).
fn check_end(offset: u64, buffers: &dyn Source) -> Result<(), Errno> {
    let len = u64::try_from(buffers.remaining()).unwrap_or(u64::MAX);
    offset.checked_add(len).and_then(|end| i64::try_from(end).ok()).map(drop).ok_or(Errno::EINVAL)
}

fn read_at<'m>(
    task: &CurrentTask<'_>,
    file: &OpenFile,
    offset: u64,
    buffers: impl FnOnce() -> Result<UserBuffers<'m>, Errno>,
) -> Result<usize, Errno> {
    if !file.file().seekable() {
        return Err(Errno::ESPIPE);
    }
    if !file.flags().reads() {
        return Err(Errno::EBADF);
    }
    let mut buffers = buffers()?;
    check_end(offset, &buffers)?;
    let read = file.read_at(task, offset, &mut buffers);
    task.transfers().note_read(&read);
    read
}

fn write_at<'m>(
    task: &CurrentTask<'_>,
    file: &OpenFile,
    offset: u64,
    buffers: impl FnOnce() -> Result<UserBuffers<'m>, Errno>,
) -> Result<usize, Errno> {
    if !file.file().seekable() {
        return Err(Errno::ESPIPE);
    }
    if !file.flags().writes() {
        return Err(Errno::EBADF);
    }
    let mut buffers = buffers()?;
    check_end(offset, &buffers)?;
    limit_size(task, file, Some(offset), &mut buffers)?;
    let written = file.write_at(task, offset, &mut buffers);
    task.transfers().note_write(&written);
    written
}

/// preadv(2). The sixth register is the upper half of the offset on 32-bit machines only.
pub(super) fn preadv(
    task: &CurrentTask<'_>,
    fd: Fd,
    buffers: UserAddr,
    count: u64,
    offset: i64,
) -> Result<usize, Errno> {
    let offset = position(offset)?;
    let file = task.files().get(fd)?;
    let mm = task.mm();
    read_at(task, &file, offset, || UserBuffers::import(&mm, buffers, count))
}

/// pwritev(2).
pub(super) fn pwritev(
    task: &CurrentTask<'_>,
    fd: Fd,
    buffers: UserAddr,
    count: u64,
    offset: i64,
) -> Result<usize, Errno> {
    let offset = position(offset)?;
    let file = task.files().get(fd)?;
    let mm = task.mm();
    write_at(task, &file, offset, || UserBuffers::import(&mm, buffers, count))
}

/// RWF_HIPRI, RWF_DSYNC and RWF_SYNC: hints, and promises that a sync keeps.
const RWF_KEPT: u32 = 0x1 | RWF_SYNCED;
/// RWF_DSYNC and RWF_SYNC.
const RWF_SYNCED: u32 = 0x2 | 0x4;

/// RWF_APPEND.
const RWF_APPEND: u32 = 0x10;

/// Refuses the RWF_* flags that are not served; Linux refuses those that a file does not support with the same error.
fn check_flags(task: &CurrentTask<'_>, flags: u32) -> Result<(), Errno> {
    if flags & !RWF_KEPT == 0 {
        return Ok(());
    }
    Err(task.unsupported("preadv2, pwritev2: RWF_NOWAIT or newer flags", Errno::EOPNOTSUPP))
}

/// preadv2(2). The fifth argument is the offset's upper half on 32-bit machines only.
pub(super) fn preadv2(
    task: &CurrentTask<'_>,
    fd: Fd,
    buffers: UserAddr,
    count: u64,
    offset: i64,
    _high: u64,
    flags: u32,
) -> Result<usize, Errno> {
    check_flags(task, flags)?;
    if offset == -1 { readv(task, fd, buffers, count) } else { preadv(task, fd, buffers, count, offset) }
}

/// pwritev2(2).
pub(super) fn pwritev2(
    task: &CurrentTask<'_>,
    fd: Fd,
    buffers: UserAddr,
    count: u64,
    offset: i64,
    _high: u64,
    flags: u32,
) -> Result<usize, Errno> {
    check_flags(task, flags & !RWF_APPEND)?;
    let written = match offset {
        _ if flags & RWF_APPEND != 0 => append(task, fd, buffers, count, offset)?,
        -1 => writev(task, fd, buffers, count)?,
        _ => pwritev(task, fd, buffers, count, offset)?,
    };
    sync_written(task, fd, flags)?;
    Ok(written)
}

/// Writes at the end whatever the offset says; the file's own moves only if it is asked for.
fn append(task: &CurrentTask<'_>, fd: Fd, buffers: UserAddr, count: u64, offset: i64) -> Result<usize, Errno> {
    let moves = offset == -1;
    if !moves {
        position(offset)?;
    }
    let file = writable(task, fd)?;
    let mm = task.mm();
    let mut buffers = UserBuffers::import(&mm, buffers, count)?;
    if !file.file().seekable() {
        return if moves { write_file(task, &file, &mut buffers) } else { Err(Errno::ESPIPE) };
    }
    limit_size(task, &file, Some(file.file().size()?), &mut buffers)?;
    let written = file.append(task, &mut buffers, moves);
    task.transfers().note_write(&written);
    written
}

/// Writes what a call with RWF_DSYNC or RWF_SYNC has written through to storage.
fn sync_written(task: &CurrentTask<'_>, fd: Fd, flags: u32) -> Result<(), Errno> {
    if flags & RWF_SYNCED == 0 {
        return Ok(());
    }
    task.files().get(fd)?.file().sync(flags & 0x4 == 0)
}
