//! Directories and names: listing, the working directory, and what makes, moves and removes names.

use super::fs::{AtFlags, base, locate, locate_bytes};
use crate::errno::Errno;
use crate::fs::check_access;
use crate::fs::{At, DirEntry, DirSink, Fd, FileKind, LastLink, Location, RENAME_EXCHANGE, RENAME_NOREPLACE, Want};
use crate::syscall::args::{BytesOut, FileMode};
use crate::task::CurrentTask;
use crate::user::UserCStr;
use vmm::addr::UserAddr;

/// The layout of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `struct linux_dirent64`: the type before the name.
    Modern,
    /// `struct linux_dirent`: the type in the record's last byte.
    Old,
}

/// Collects entries in the layout that a program reads.
struct Records {
    layout: Layout,
    bytes: Vec<u8>,
    room: usize,
    /// Where each record ends, and the position behind it.
    ends: Vec<(usize, u64)>,
    full: bool,
}

impl DirSink for Records {
    fn entry(&mut self, entry: &DirEntry<'_>) -> bool {
        // Inode, offset, length; then the type and the name with its NUL, or the name, its NUL and the type.
        let len = (19 + entry.name.len() + 1).next_multiple_of(8);
        let Ok(len16) = u16::try_from(len) else { return true };
        if self.bytes.len() + len > self.room {
            self.full = true;
            return false;
        }
        let end = self.bytes.len() + len;
        self.bytes.extend_from_slice(&entry.inode.to_ne_bytes());
        self.bytes.extend_from_slice(&entry.next.to_ne_bytes());
        self.bytes.extend_from_slice(&len16.to_ne_bytes());
        if self.layout == Layout::Modern {
            self.bytes.push(entry.kind.dirent_type());
        }
        self.bytes.extend_from_slice(entry.name);
        self.bytes.resize(end, 0);
        if self.layout == Layout::Old {
            self.bytes[end - 1] = entry.kind.dirent_type();
        }
        self.ends.push((end, entry.next));
        true
    }
}

/// The most bytes of entries that one call returns: programs ask for 32 KiB, and may ask for anything.
const LISTING_MAX: usize = 1 << 20;

fn list(task: &CurrentTask<'_>, fd: Fd, to: UserAddr, size: u32, layout: Layout) -> Result<usize, Errno> {
    let file = task.files().get(fd)?;
    // Linux counts the room in an int: more than that is less than nothing.
    let room = i32::try_from(size).map_or(0, i32::cast_unsigned);
    let room = usize::try_from(room).unwrap_or(LISTING_MAX).min(LISTING_MAX);
    let position = file.offset();
    let mut records = Records { layout, bytes: Vec::new(), room, ends: Vec::new(), full: false };
    if file.location().kind() != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    if file.location().is_removed() {
        return Err(Errno::ENOENT);
    }
    file.read_dir(task, position, &mut records)?;
    if records.bytes.is_empty() && records.full {
        return Err(Errno::EINVAL);
    }
    let (written, next) = put(task, to, &records, position)?;
    file.with_offset(|offset| *offset = next);
    Ok(written)
}

/// Writes the records, as many whole ones as memory takes; returns their bytes and the position behind them.
fn put(task: &CurrentTask<'_>, to: UserAddr, records: &Records, position: u64) -> Result<(usize, u64), Errno> {
    let mm = task.mm();
    let whole = (records.bytes.len(), records.ends.last().map_or(position, |(_, next)| *next));
    let Err(fault) = mm.write(to, &records.bytes) else { return Ok(whole) };
    let mut done = (0, position);
    for &(end, next) in &records.ends {
        let at = u64::try_from(done.0).ok().and_then(|done| to.checked_add(done)).ok_or(Errno::EFAULT)?;
        if mm.write(at, &records.bytes[done.0..end]).is_err() {
            break;
        }
        done = (end, next);
    }
    if done.0 == 0 { Err(fault) } else { Ok(done) }
}

/// getdents64(2).
pub(super) fn getdents64(task: &CurrentTask<'_>, fd: Fd, to: UserAddr, size: u32) -> Result<usize, Errno> {
    list(task, fd, to, size, Layout::Modern)
}

/// getdents(2).
pub(super) fn getdents(task: &CurrentTask<'_>, fd: Fd, to: UserAddr, size: u32) -> Result<usize, Errno> {
    list(task, fd, to, size, Layout::Old)
}

/// getcwd(2): returns the bytes with the NUL.
pub(super) fn getcwd(task: &CurrentTask<'_>, to: BytesOut, size: u64) -> Result<usize, Errno> {
    let context = task.fs();
    let cwd = context.cwd();
    if cwd.is_removed() {
        return Err(Errno::ENOENT);
    }
    let (mut path, reached) = cwd.path_from(Some(&context.root()));
    if !reached {
        path.splice(0..0, *b"(unreachable)");
    }
    path.push(0);
    if path.len() > crate::user::PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if usize::try_from(size).is_ok_and(|size| size < path.len()) {
        return Err(Errno::ERANGE);
    }
    task.mm().write(to.0, &path)?;
    Ok(path.len())
}

fn enter(task: &CurrentTask<'_>, place: Location) -> Result<(), Errno> {
    if place.kind() != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    check_access(&task.credentials(), &place, Want::EXECUTE)?;
    place.inode().hold()?;
    task.fs().change_cwd(place);
    Ok(())
}

/// chdir(2).
pub(super) fn chdir(task: &CurrentTask<'_>, path: UserCStr) -> Result<(), Errno> {
    enter(task, locate(task, Fd::CWD, path, AtFlags::empty(), LastLink::Follow)?)
}

/// fchdir(2).
pub(super) fn fchdir(task: &CurrentTask<'_>, fd: Fd) -> Result<(), Errno> {
    enter(task, task.files().get_any(fd)?.location().clone())
}

/// chroot(2).
pub(super) fn chroot(task: &CurrentTask<'_>, path: UserCStr) -> Result<(), Errno> {
    const CAP_SYS_CHROOT: u32 = 18;
    let place = locate(task, Fd::CWD, path, AtFlags::empty(), LastLink::Follow)?;
    if place.kind() != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    let who = task.credentials();
    check_access(&who, &place, Want::EXECUTE)?;
    if !who.has(CAP_SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    place.inode().hold()?;
    task.fs().change_root(place);
    Ok(())
}

/// mkdir(2).
pub(super) fn mkdir(task: &CurrentTask<'_>, path: UserCStr, mode: FileMode) -> Result<(), Errno> {
    mkdirat(task, Fd::CWD, path, mode)
}

/// mkdirat(2).
pub(super) fn mkdirat(task: &CurrentTask<'_>, at: Fd, path: UserCStr, mode: FileMode) -> Result<(), Errno> {
    let path = path.read_path(task)?;
    let base = base(task, at, &path)?;
    let at = At { base: base.as_ref(), path: &path };
    task.kernel().namespace().create(task, at, FileKind::Directory, mode.0 & 0o1777, b"")
}

/// mknod(2).
pub(super) fn mknod(task: &CurrentTask<'_>, path: UserCStr, mode: u32, device: u32) -> Result<(), Errno> {
    mknodat(task, Fd::CWD, path, mode, device)
}

/// The number of a device as mknod(2) passes it (new_decode_dev).
fn decode_device(device: u32) -> u64 {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    rustix::fs::makedev(major, minor)
}

/// mknodat(2). What a device node stands for is the sandbox's: numbers without a driver there are `ENXIO` when opened.
pub(super) fn mknodat(task: &CurrentTask<'_>, at: Fd, path: UserCStr, mode: u32, device: u32) -> Result<(), Errno> {
    let kind = match mode & 0o17_0000 {
        0 => FileKind::Regular,
        bits => FileKind::from_mode(bits).ok_or(Errno::EINVAL)?,
    };
    match kind {
        FileKind::Directory => return Err(Errno::EPERM),
        FileKind::Symlink | FileKind::Anonymous => return Err(Errno::EINVAL),
        _ => {}
    }
    let path = path.read_path(task)?;
    let base = base(task, at, &path)?;
    let at = At { base: base.as_ref(), path: &path };
    if matches!(kind, FileKind::CharDevice | FileKind::BlockDevice) {
        return task.kernel().namespace().create_device(task, at, kind, mode & 0o7777, decode_device(device));
    }
    task.kernel().namespace().create(task, at, kind, mode & 0o7777, b"")
}

/// symlink(2).
pub(super) fn symlink(task: &CurrentTask<'_>, target: UserCStr, path: UserCStr) -> Result<(), Errno> {
    symlinkat(task, target, Fd::CWD, path)
}

/// symlinkat(2).
pub(super) fn symlinkat(task: &CurrentTask<'_>, target: UserCStr, at: Fd, path: UserCStr) -> Result<(), Errno> {
    let target = target.read_path(task)?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let path = path.read_path(task)?;
    let base = base(task, at, &path)?;
    let at = At { base: base.as_ref(), path: &path };
    task.kernel().namespace().create(task, at, FileKind::Symlink, 0o777, &target)
}

/// link(2).
pub(super) fn link(task: &CurrentTask<'_>, from: UserCStr, to: UserCStr) -> Result<(), Errno> {
    linkat(task, Fd::CWD, from, Fd::CWD, to, AtFlags::empty())
}

/// linkat(2).
pub(super) fn linkat(
    task: &CurrentTask<'_>,
    from_at: Fd,
    from: UserCStr,
    to_at: Fd,
    to: UserCStr,
    flags: AtFlags,
) -> Result<(), Errno> {
    const CAP_DAC_READ_SEARCH: u32 = 2;
    let flags = flags.permit(AtFlags::SYMLINK_FOLLOW | AtFlags::EMPTY_PATH)?;
    let last = if flags.contains(AtFlags::SYMLINK_FOLLOW) { LastLink::Follow } else { LastLink::Keep };
    let from = from.read_path(task)?;
    if from.is_empty() && flags.contains(AtFlags::EMPTY_PATH) && !task.credentials().has(CAP_DAC_READ_SEARCH) {
        return Err(Errno::ENOENT);
    }
    let object = locate_bytes(task, from_at, &from, flags, last)?;
    let to = to.read_path(task)?;
    let base = base(task, to_at, &to)?;
    task.kernel().namespace().link(task, &object, At { base: base.as_ref(), path: &to })
}

/// unlink(2).
pub(super) fn unlink(task: &CurrentTask<'_>, path: UserCStr) -> Result<(), Errno> {
    unlinkat(task, Fd::CWD, path, AtFlags::empty())
}

/// rmdir(2).
pub(super) fn rmdir(task: &CurrentTask<'_>, path: UserCStr) -> Result<(), Errno> {
    unlinkat(task, Fd::CWD, path, AtFlags::REMOVEDIR)
}

/// unlinkat(2).
pub(super) fn unlinkat(task: &CurrentTask<'_>, at: Fd, path: UserCStr, flags: AtFlags) -> Result<(), Errno> {
    let flags = flags.permit(AtFlags::REMOVEDIR)?;
    let path = path.read_path(task)?;
    let base = base(task, at, &path)?;
    let at = At { base: base.as_ref(), path: &path };
    let namespace = task.kernel().namespace();
    if flags.is_empty() { namespace.unlink(task, at) } else { namespace.rmdir(task, at) }
}

/// rename(2).
pub(super) fn rename(task: &CurrentTask<'_>, from: UserCStr, to: UserCStr) -> Result<(), Errno> {
    renameat2(task, Fd::CWD, from, Fd::CWD, to, 0)
}

/// renameat(2).
pub(super) fn renameat(
    task: &CurrentTask<'_>,
    from_at: Fd,
    from: UserCStr,
    to_at: Fd,
    to: UserCStr,
) -> Result<(), Errno> {
    renameat2(task, from_at, from, to_at, to, 0)
}

/// renameat2(2). RENAME_WHITEOUT needs CAP_MKNOD, which a sandbox does not have.
pub(super) fn renameat2(
    task: &CurrentTask<'_>,
    from_at: Fd,
    from: UserCStr,
    to_at: Fd,
    to: UserCStr,
    flags: u32,
) -> Result<(), Errno> {
    const WHITEOUT: u32 = 4;
    if flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE | WHITEOUT) != 0
        || (flags & RENAME_EXCHANGE != 0 && flags & (RENAME_NOREPLACE | WHITEOUT) != 0)
    {
        return Err(Errno::EINVAL);
    }
    if flags & WHITEOUT != 0 {
        return Err(task.unsupported("renameat2: RENAME_WHITEOUT", Errno::EPERM));
    }
    let (from, to) = (from.read_path(task)?, to.read_path(task)?);
    let (from_base, to_base) = (base(task, from_at, &from)?, base(task, to_at, &to)?);
    let from = At { base: from_base.as_ref(), path: &from };
    let to = At { base: to_base.as_ref(), path: &to };
    task.kernel().namespace().rename(task, from, to, flags)
}

/// umask(2).
pub(super) fn umask(task: &CurrentTask<'_>, mask: u32) -> Result<u32, Errno> {
    Ok(task.fs().change_umask(mask))
}
