//! Copies from file to file: sendfile(2), copy_file_range(2).

use super::io::{limit_size, write_once};
use crate::errno::Errno;
use crate::fs::io::buffer;
use crate::fs::{BufferSink, BufferSource, Fd, FileKind, MAX_RW_COUNT, Mapping, OpenFile, OpenFlags};
use crate::task::CurrentTask;
use crate::user::UserInOut;
use linux_raw_sys::general::{SEEK_CUR, SEEK_SET};
use std::sync::Arc;
use vmm::addr::{PAGE_SIZE, UserAddr};

/// Bytes that go through the monitor's memory at once where nothing more direct is possible.
const CHUNK: usize = 128 << 10;

/// Where a copy reads or writes: at an offset of the caller's, or at the file's own.
type Position = Option<u64>;

fn read_chunk(task: &CurrentTask<'_>, from: &OpenFile, at: Position, chunk: &mut [u8]) -> Result<usize, Errno> {
    let mut sink = BufferSink::new(chunk);
    match at {
        Some(offset) => from.read_at(task, offset, &mut sink),
        None => from.read(task, &mut sink),
    }
}

/// Writes what the file takes of a chunk, up to the limit of its size.
pub(super) fn write_chunk(task: &CurrentTask<'_>, to: &OpenFile, at: Position, chunk: &[u8]) -> Result<usize, Errno> {
    let mut source = BufferSource::new(chunk);
    limit_size(task, to, at, &mut source)?;
    write_once(task, to, at, &mut source)
}

/// Copies up to `len` bytes through the monitor's memory. What was read and not taken by the target is not lost: a copy reads at
/// an offset, and the caller moves the file's own by what was written.
fn bounce(
    task: &CurrentTask<'_>,
    from: &OpenFile,
    from_offset: u64,
    to: &OpenFile,
    to_offset: Position,
    len: usize,
) -> Result<usize, Errno> {
    let mut chunk = buffer(len.min(CHUNK))?;
    let mut done = 0;
    while done < len {
        let want = (len - done).min(CHUNK);
        let step = (|| {
            let read = read_chunk(task, from, Some(from_offset + bytes(done)), &mut chunk[..want])?;
            if read == 0 {
                return Ok((0, 0));
            }
            let at = to_offset.map(|offset| offset + bytes(done));
            write_chunk(task, to, at, &chunk[..read]).map(|written| (read, written))
        })();
        match step {
            Ok((read, written)) => {
                done += written;
                if written < read || read == 0 {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The most bytes of one call.
pub(super) fn cap(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX).min(MAX_RW_COUNT)
}

/// An offset that the caller passed by reference.
pub(super) fn offset_at(task: &CurrentTask<'_>, at: UserInOut<i64>) -> Result<Option<u64>, Errno> {
    if at.is_null() {
        return Ok(None);
    }
    u64::try_from(at.read(task)?).map(Some).map_err(|_| Errno::EINVAL)
}

/// The offset that the file keeps, wherever that is.
fn own_offset(file: &OpenFile) -> Result<u64, Errno> {
    file.seek(0, SEEK_CUR)
}

/// Moves the caller's offset, or the file's own.
pub(super) fn advance(
    task: &CurrentTask<'_>,
    at: UserInOut<i64>,
    file: &OpenFile,
    from: u64,
    count: usize,
) -> Result<(), Errno> {
    let next = from.saturating_add(bytes(count));
    let next = i64::try_from(next).unwrap_or(i64::MAX);
    if at.is_null() {
        return file.seek(next, SEEK_SET).map(|_| ());
    }
    at.write(task, &next)
}

/// sendfile(2).
pub(super) fn sendfile(
    task: &CurrentTask<'_>,
    to: Fd,
    from: Fd,
    offset: UserInOut<i64>,
    len: u64,
) -> Result<usize, Errno> {
    let start = offset_at(task, offset)?;
    let source = task.files().get(from)?;
    if !source.flags().reads() {
        return Err(Errno::EBADF);
    }
    if start.is_some() && !source.file().seekable() {
        return Err(Errno::ESPIPE);
    }
    let target = task.files().get(to)?;
    if !target.flags().writes() {
        return Err(Errno::EBADF);
    }
    let is_directory = source.location().kind() == FileKind::Directory;
    if target.flags().contains(OpenFlags::APPEND) || !source.file().seekable() || is_directory {
        return Err(Errno::EINVAL);
    }
    let start = start.map_or_else(|| own_offset(&source), Ok)?;
    // The sum counts as a signed offset (rw_verify_area), before anything is cut.
    if start.wrapping_add(len).cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    let len = cap(len);
    let into = if target.file().seekable() { own_offset(&target)? } else { 0 };
    let copied = match direct(task, &source, start, &target, into, len) {
        Some(copied) => {
            let copied = copied?;
            advance(task, UserInOut::new(UserAddr(0)), &target, into, copied)?;
            copied
        }
        None => bounce(task, &source, start, &target, None, len)?,
    };
    advance(task, offset, &source, start, copied)?;
    task.transfers().note_read(&Ok(copied));
    task.transfers().note_write(&Ok(copied));
    Ok(copied)
}

/// Copies without the monitor's memory between: the host from file to file, or a host file into frames. `None` where neither is
/// possible.
fn direct(
    task: &CurrentTask<'_>,
    from: &OpenFile,
    from_offset: u64,
    to: &OpenFile,
    to_offset: u64,
    len: usize,
) -> Option<Result<usize, Errno>> {
    let source = from.file().host_fd()?;
    if to.location().kind() != FileKind::Regular || !to.file().seekable() {
        return None;
    }
    let mut room = BufferSource::new(&[]);
    if let Err(error) = limit_size(task, to, Some(to_offset), &mut room) {
        return Some(Err(error));
    }
    if task.group().limits().soft(crate::task::Resource::FileSize) != u64::MAX {
        return None;
    }
    if let Some(target) = to.file().host_fd() {
        let (mut read, mut written) = (from_offset, to_offset);
        return match rustix::fs::copy_file_range(source, Some(&mut read), target, Some(&mut written), len) {
            Ok(copied) => Some(Ok(copied)),
            Err(error) if cannot(error) => None,
            Err(error) => Some(Err(error.into())),
        };
    }
    let Ok(Mapping::Object(object)) = to.file().mapping() else { return None };
    if !to_offset.is_multiple_of(PAGE_SIZE) {
        return None;
    }
    let size = match from.file().size() {
        Ok(size) => size,
        Err(error) => return Some(Err(error)),
    };
    let len = bytes(len).min(size.saturating_sub(from_offset));
    if len == 0 {
        return Some(Ok(0));
    }
    // A write of nothing at the end brings the times up to date as the copy's own would.
    let copied = object.copy_from_host(source, from_offset, to_offset, len).map_err(Errno::from);
    Some(copied.and_then(|()| to.file().set_size(object.size())).map(|()| cap(len)))
}

/// Host errors that say "not between these two".
fn cannot(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno as Host;
    matches!(error, Host::XDEV | Host::OPNOTSUPP | Host::NOSYS | Host::INVAL)
}

fn regular(file: &OpenFile) -> Result<(), Errno> {
    match file.location().kind() {
        FileKind::Regular => Ok(()),
        FileKind::Directory => Err(Errno::EISDIR),
        _ => Err(Errno::EINVAL),
    }
}

fn same(a: &Arc<OpenFile>, b: &Arc<OpenFile>) -> bool {
    Arc::ptr_eq(a.location().inode(), b.location().inode())
}

/// copy_file_range(2).
pub(super) fn copy_file_range(
    task: &CurrentTask<'_>,
    from: Fd,
    from_at: UserInOut<i64>,
    to: Fd,
    to_at: UserInOut<i64>,
    len: u64,
    flags: u32,
) -> Result<usize, Errno> {
    let (source, target) = (task.files().get(from)?, task.files().get(to)?);
    let (from_offset, to_offset) = (offset_at(task, from_at)?, offset_at(task, to_at)?);
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    regular(&source)?;
    regular(&target)?;
    if !source.flags().reads() || !target.flags().writes() || target.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF);
    }
    let from_offset = from_offset.map_or_else(|| own_offset(&source), Ok)?;
    let to_offset = to_offset.map_or_else(|| own_offset(&target), Ok)?;
    // Unsigned, as generic_copy_file_checks has it: programs ask for SSIZE_MAX bytes at any offset.
    let overflows = |offset: u64| offset.checked_add(len).is_none();
    if overflows(from_offset) || overflows(to_offset) {
        return Err(Errno::EOVERFLOW);
    }
    let size = source.file().size()?;
    let len = cap(len.min(size.saturating_sub(from_offset)));
    if to_offset.checked_add(bytes(len)).is_none_or(|end| i64::try_from(end).is_err()) {
        return Err(Errno::EFBIG);
    }
    let (from_end, to_end) = (from_offset + bytes(len), to_offset + bytes(len));
    if same(&source, &target) && from_end > to_offset && to_end > from_offset {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let copied = match direct(task, &source, from_offset, &target, to_offset, len) {
        Some(copied) => copied?,
        None => bounce(task, &source, from_offset, &target, Some(to_offset), len)?,
    };
    advance(task, from_at, &source, from_offset, copied)?;
    advance(task, to_at, &target, to_offset, copied)?;
    Ok(copied)
}
