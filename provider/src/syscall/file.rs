//! Descriptors and open files: open, close, dup, lseek, and what changes a file's contents as a whole.

use super::fs::AtFlags;
use super::fs::{base, file_limit, install, locate};
use crate::errno::Errno;
use crate::fs::notify::Mask;
use crate::fs::{Fd, FileKind, LastLink, OpenFile, OpenFlags, RangeAction, Resolve, Want, check_access};
use crate::signal::Signal;
use crate::syscall::args::FileMode;
use crate::task::{CurrentTask, Resource};
use crate::user::{UserCStr, UserIn};
use std::sync::Arc;
use vmm::addr::UserAddr;

/// Checks and completes the flags of an open (build_open_flags in fs/open.c).
fn check_open_flags(flags: OpenFlags) -> Result<OpenFlags, Errno> {
    let mut flags = flags & OpenFlags::all();
    if flags.contains(OpenFlags::PATH) {
        return Ok(flags & (OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC));
    }
    if flags.contains(OpenFlags::TMPFILE) {
        if !flags.contains(OpenFlags::DIRECTORY) || !flags.writes() || flags.contains(OpenFlags::CREAT) {
            return Err(Errno::EINVAL);
        }
    } else if flags.contains(OpenFlags::CREAT | OpenFlags::DIRECTORY) {
        return Err(Errno::EINVAL);
    }
    // A 64-bit process has O_LARGEFILE whether it says so or not.
    flags |= OpenFlags::LARGEFILE;
    Ok(flags)
}

fn open_path(
    task: &CurrentTask<'_>,
    at: Fd,
    path: &[u8],
    flags: OpenFlags,
    mode: u32,
    resolve: Resolve,
) -> Result<Fd, Errno> {
    // With RESOLVE_IN_ROOT an absolute path, too, starts at the descriptor's directory.
    let rooted = resolve.contains(Resolve::IN_ROOT) && path.starts_with(b"/");
    let base = base(task, at, if rooted { b"." } else { path })?;
    let file = task.kernel().namespace().open_how(task, base.as_ref(), path, flags, mode, resolve)?;
    install(task, file, flags.contains(OpenFlags::CLOEXEC))
}

/// open(2).
pub(super) fn open(task: &CurrentTask<'_>, path: UserCStr, flags: OpenFlags, mode: FileMode) -> Result<Fd, Errno> {
    openat(task, Fd::CWD, path, flags, mode)
}

/// openat(2).
pub(super) fn openat(
    task: &CurrentTask<'_>,
    at: Fd,
    path: UserCStr,
    flags: OpenFlags,
    mode: FileMode,
) -> Result<Fd, Errno> {
    let flags = check_open_flags(flags)?;
    open_path(task, at, &path.read_path(task)?, flags, mode.0 & 0o7777, Resolve::empty())
}

/// creat(2).
pub(super) fn creat(task: &CurrentTask<'_>, path: UserCStr, mode: FileMode) -> Result<Fd, Errno> {
    openat(task, Fd::CWD, path, OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC, mode)
}

/// Bytes of the first version of `struct open_how`.
const OPEN_HOW_BYTES: usize = 24;

/// openat2(2).
pub(super) fn openat2(task: &CurrentTask<'_>, at: Fd, path: UserCStr, how: UserAddr, size: usize) -> Result<Fd, Errno> {
    let [flags, mode, resolve]: [u64; 3] = UserIn::new(how).read_sized(task, size, OPEN_HOW_BYTES)?;
    let flags = u32::try_from(flags).ok().and_then(OpenFlags::from_bits).ok_or(Errno::EINVAL)?;
    let resolve = Resolve::from_bits(resolve).ok_or(Errno::EINVAL)?;
    let makes = flags.intersects(OpenFlags::CREAT | OpenFlags::TMPFILE);
    if resolve.contains(Resolve::BENEATH | Resolve::IN_ROOT) || (!makes && mode != 0) || mode > 0o7777 {
        return Err(Errno::EINVAL);
    }
    let with_path = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    if flags.contains(OpenFlags::PATH) && !with_path.contains(flags) {
        return Err(Errno::EINVAL);
    }
    if resolve.contains(Resolve::CACHED) {
        // Linux answers so when something is not cached; here nothing is without asking the host.
        return Err(Errno::EAGAIN);
    }
    let flags = check_open_flags(flags)?;
    let mode = u32::try_from(mode).map_err(|_| Errno::EINVAL)?;
    open_path(task, at, &path.read_path(task)?, flags, mode, resolve)
}

/// close(2).
pub(super) fn close(task: &CurrentTask<'_>, fd: Fd) -> Result<(), Errno> {
    let file = task.files().close(fd)?;
    task.kernel().namespace().descriptor_closed(task, &file);
    Ok(())
}

/// close_range(2).
pub(super) fn close_range(task: &CurrentTask<'_>, first: u32, last: u32, flags: u32) -> Result<(), Errno> {
    const UNSHARE: u32 = 2;
    const CLOEXEC: u32 = 4;
    if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    // A process of one thread shares its descriptors with nobody, so CLOSE_RANGE_UNSHARE has nothing to do.
    let action = if flags & CLOEXEC != 0 { RangeAction::MarkCloseOnExec } else { RangeAction::Close };
    for file in task.files().close_range(first, last, action) {
        task.kernel().namespace().descriptor_closed(task, &file);
    }
    Ok(())
}

/// dup(2).
pub(super) fn dup(task: &CurrentTask<'_>, fd: Fd) -> Result<Fd, Errno> {
    install(task, task.files().get_any(fd)?, false)
}

/// dup2(2).
pub(super) fn dup2(task: &CurrentTask<'_>, from: Fd, to: Fd) -> Result<Fd, Errno> {
    let file = task.files().get_any(from)?;
    if from != to {
        replace(task, file, to, false)?;
    }
    Ok(to)
}

/// dup3(2).
pub(super) fn dup3(task: &CurrentTask<'_>, from: Fd, to: Fd, flags: OpenFlags) -> Result<Fd, Errno> {
    if !OpenFlags::CLOEXEC.contains(flags) || from == to {
        return Err(Errno::EINVAL);
    }
    replace(task, task.files().get_any(from)?, to, flags.contains(OpenFlags::CLOEXEC))?;
    Ok(to)
}

fn replace(task: &CurrentTask<'_>, file: Arc<OpenFile>, at: Fd, close_on_exec: bool) -> Result<(), Errno> {
    let old = task.files().get_any(at).ok();
    task.files().replace(file, close_on_exec, at, file_limit(task))?;
    if let Some(old) = old {
        task.kernel().namespace().descriptor_closed(task, &old);
    }
    Ok(())
}

/// lseek(2).
pub(super) fn lseek(task: &CurrentTask<'_>, fd: Fd, offset: i64, whence: u32) -> Result<u64, Errno> {
    task.files().get(fd)?.seek(offset, whence)
}

/// A length argument, which programs pass as signed.
fn length(len: i64) -> Result<u64, Errno> {
    u64::try_from(len).map_err(|_| Errno::EINVAL)
}

/// RLIMIT_FSIZE for a call that sets a size; SIGXFSZ and `EFBIG` beyond it.
fn check_size(task: &CurrentTask<'_>, size: u64) -> Result<(), Errno> {
    if size > task.group().limits().soft(Resource::FileSize) {
        task.needs_thread()?;
        task.raise(Signal::SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    Ok(())
}

/// truncate(2).
pub(super) fn truncate(task: &CurrentTask<'_>, path: UserCStr, len: i64) -> Result<(), Errno> {
    let size = length(len)?;
    let place = locate(task, Fd::CWD, path, AtFlags::empty(), LastLink::Follow)?;
    match place.kind() {
        FileKind::Directory => return Err(Errno::EISDIR),
        FileKind::Regular => {}
        _ => return Err(Errno::EINVAL),
    }
    check_access(&task.credentials(), &place, Want::WRITE)?;
    check_size(task, size)?;
    task.kernel().namespace().truncate_at(task, &place, size)
}

/// ftruncate(2).
pub(super) fn ftruncate(task: &CurrentTask<'_>, fd: Fd, len: i64) -> Result<(), Errno> {
    let size = length(len)?;
    let file = task.files().get(fd)?;
    if !file.flags().writes() || file.location().kind() != FileKind::Regular {
        return Err(Errno::EINVAL);
    }
    check_size(task, size)?;
    file.file().set_size(size)?;
    file.location().tell(Mask::MODIFY);
    Ok(())
}

/// fallocate(2).
pub(super) fn fallocate(task: &CurrentTask<'_>, fd: Fd, mode: u32, offset: i64, len: i64) -> Result<(), Errno> {
    const KEEP_SIZE: u32 = 1;
    const PUNCH_HOLE: u32 = 2;
    const KNOWN: u32 = 0x7f;
    let file = task.files().get(fd)?;
    let (Ok(offset), Ok(len)) = (u64::try_from(offset), u64::try_from(len)) else { return Err(Errno::EINVAL) };
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    if mode & !KNOWN != 0 || (mode & PUNCH_HOLE != 0 && mode & KEEP_SIZE == 0) {
        return Err(Errno::EOPNOTSUPP);
    }
    if !file.flags().writes() {
        return Err(Errno::EBADF);
    }
    match file.location().kind() {
        FileKind::Regular => {}
        FileKind::Directory => return Err(Errno::EISDIR),
        FileKind::Fifo => return Err(Errno::ESPIPE),
        _ => return Err(Errno::ENODEV),
    }
    let end = offset.checked_add(len).filter(|end| i64::try_from(*end).is_ok()).ok_or(Errno::EFBIG)?;
    if mode & KEEP_SIZE == 0 {
        check_size(task, end)?;
    }
    file.file().allocate(mode, offset, len)?;
    file.tell(Mask::MODIFY);
    Ok(())
}

/// fsync(2).
pub(super) fn fsync(task: &CurrentTask<'_>, fd: Fd) -> Result<(), Errno> {
    task.files().get(fd)?.file().sync(false)
}

/// fdatasync(2).
pub(super) fn fdatasync(task: &CurrentTask<'_>, fd: Fd) -> Result<(), Errno> {
    task.files().get(fd)?.file().sync(true)
}

/// sync_file_range(2).
pub(super) fn sync_file_range(task: &CurrentTask<'_>, fd: Fd, offset: i64, len: i64, flags: u32) -> Result<(), Errno> {
    let file = task.files().get(fd)?;
    if flags & !7 != 0 || offset < 0 || offset.checked_add(len).is_none_or(|end| end < offset) {
        return Err(Errno::EINVAL);
    }
    match file.location().kind() {
        FileKind::Regular | FileKind::BlockDevice | FileKind::Directory | FileKind::Symlink => {}
        _ => return Err(Errno::ESPIPE),
    }
    file.file().sync(true)
}

/// sync(2). What reaches the host is the host's to write back; what does not is gone at exit anyway.
pub(super) fn sync(task: &CurrentTask<'_>) -> Result<(), Errno> {
    if task.kernel().config().view.reaches_host() {
        rustix::fs::sync();
    }
    Ok(())
}

/// syncfs(2).
pub(super) fn syncfs(task: &CurrentTask<'_>, fd: Fd) -> Result<(), Errno> {
    let file = task.files().get(fd)?;
    match file.file().host_fd() {
        Some(host) if task.kernel().config().view.reaches_host() => Ok(rustix::fs::syncfs(host)?),
        _ => Ok(()),
    }
}

/// fadvise64(2): advice, so that only the arguments matter.
pub(super) fn fadvise64(task: &CurrentTask<'_>, fd: Fd, _offset: i64, len: i64, advice: u32) -> Result<(), Errno> {
    let file = task.files().get(fd)?;
    if !file.file().seekable() {
        return Err(Errno::ESPIPE);
    }
    if len < 0 || advice > 5 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// readahead(2).
pub(super) fn readahead(task: &CurrentTask<'_>, fd: Fd, _offset: i64, _len: u64) -> Result<(), Errno> {
    let file = task.files().get(fd)?;
    if !file.flags().reads() {
        return Err(Errno::EBADF);
    }
    match file.location().kind() {
        FileKind::Regular | FileKind::BlockDevice => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}
