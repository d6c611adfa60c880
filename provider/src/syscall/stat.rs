//! Attributes: the stat family, statfs, access, readlink.

use super::fs::{AtFlags, base, locate, locate_bytes, read_path};
use crate::abi::stat::{UserStat, UserStatfs, UserStatx};
use crate::errno::Errno;
use crate::fs::{Fd, FileKind, FsStat, LastLink, Location, MountFlags, Stat, Want, check_access};
use crate::syscall::args::BytesOut;
use crate::task::{Credentials, CurrentTask};
use crate::user::{UserCStr, UserOut};

/// Walks to what (descriptor, path, flags) means and reads its attributes.
fn stat_at(
    task: &CurrentTask<'_>,
    at: Fd,
    path: UserCStr,
    flags: AtFlags,
    last: LastLink,
) -> Result<(Location, Stat), Errno> {
    let path = read_path(task, path, flags)?;
    if path.is_empty() {
        let place = locate_bytes(task, at, &path, flags, last)?;
        let stat = place.inode().stat()?;
        return Ok((place, stat));
    }
    let base = base(task, at, &path)?;
    task.kernel().namespace().walk_and_stat(task, base.as_ref(), &path, last)
}

fn put(
    task: &CurrentTask<'_>,
    at: Fd,
    path: UserCStr,
    to: UserOut<UserStat>,
    flags: AtFlags,
    last: LastLink,
) -> Result<(), Errno> {
    let (_, stat) = stat_at(task, at, path, flags, last)?;
    to.write(task, &UserStat::from(&stat))
}

/// stat(2).
pub(super) fn stat(task: &CurrentTask<'_>, path: UserCStr, to: UserOut<UserStat>) -> Result<(), Errno> {
    put(task, Fd::CWD, path, to, AtFlags::empty(), LastLink::Follow)
}

/// lstat(2).
pub(super) fn lstat(task: &CurrentTask<'_>, path: UserCStr, to: UserOut<UserStat>) -> Result<(), Errno> {
    put(task, Fd::CWD, path, to, AtFlags::empty(), LastLink::Keep)
}

/// fstat(2).
pub(super) fn fstat(task: &CurrentTask<'_>, fd: Fd, to: UserOut<UserStat>) -> Result<(), Errno> {
    to.write(task, &UserStat::from(&task.files().get_any(fd)?.location().inode().stat()?))
}

/// newfstatat(2).
pub(super) fn newfstatat(
    task: &CurrentTask<'_>,
    at: Fd,
    path: UserCStr,
    to: UserOut<UserStat>,
    flags: AtFlags,
) -> Result<(), Errno> {
    let flags = flags.permit(AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH)?;
    put(task, at, path, to, flags, flags.last())
}

/// statx(2). All fields are reported, asked for or not, as the call permits.
pub(super) fn statx(
    task: &CurrentTask<'_>,
    at: Fd,
    path: UserCStr,
    flags: AtFlags,
    mask: u32,
    to: UserOut<UserStatx>,
) -> Result<(), Errno> {
    const RESERVED: u32 = 0x8000_0000;
    let sync = AtFlags::STATX_FORCE_SYNC | AtFlags::STATX_DONT_SYNC;
    if mask & RESERVED != 0 || flags.contains(sync) {
        return Err(Errno::EINVAL);
    }
    let known = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH | sync;
    let flags = flags.permit(known)?;
    let (place, stat) = stat_at(task, at, path, flags, flags.last())?;
    let mount = place.mount().map(|mount| (mount.id, place.is_mount_root()));
    to.write(task, &UserStatx::new(&stat, mount))
}

fn figures(place: &Location) -> Result<FsStat, Errno> {
    match (place.inode().file_system_stat(), place.mount()) {
        (Some(figures), _) => figures,
        (None, Some(mount)) => mount.file_system.stat(),
        // Pipes and their kin: the figures of PIPEFS_MAGIC's file system, which has no blocks.
        (None, None) => Ok(FsStat::without_storage(0x5049_5045)),
    }
}

/// The flags of a mount as statfs(2) has them (flags_by_mnt).
fn statfs_flags(place: &Location) -> u64 {
    let flags = place.mount_flags();
    let named = [
        (MountFlags::NOSUID, 2),
        (MountFlags::NODEV, 4),
        (MountFlags::NOEXEC, 8),
        (MountFlags::NOATIME, 0x400),
        (MountFlags::NODIRATIME, 0x800),
        (MountFlags::RELATIME, 0x1000),
        (MountFlags::NOSYMFOLLOW, 0x2000),
    ];
    let bits = named.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, bit)| bit);
    bits.sum::<u64>() | u64::from(place.is_read_only())
}

fn put_figures(task: &CurrentTask<'_>, place: &Location, to: UserOut<UserStatfs>) -> Result<(), Errno> {
    const VALID: u64 = 0x20;
    let mut figures = figures(place)?;
    figures.flags = VALID | statfs_flags(place);
    to.write(task, &UserStatfs::from(&figures))
}

/// statfs(2).
pub(super) fn statfs(task: &CurrentTask<'_>, path: UserCStr, to: UserOut<UserStatfs>) -> Result<(), Errno> {
    put_figures(task, &locate(task, Fd::CWD, path, AtFlags::empty(), LastLink::Follow)?, to)
}

/// fstatfs(2).
pub(super) fn fstatfs(task: &CurrentTask<'_>, fd: Fd, to: UserOut<UserStatfs>) -> Result<(), Errno> {
    put_figures(task, task.files().get_any(fd)?.location(), to)
}

/// The credentials that access(2) judges by: the real ids, with root's capabilities if the real user is root.
fn real(who: &Credentials) -> Credentials {
    let effective = if who.uid == 0 { who.permitted } else { 0 };
    Credentials { fsuid: who.uid, fsgid: who.gid, effective, ..who.clone() }
}

fn check(task: &CurrentTask<'_>, at: Fd, path: UserCStr, mode: u32, flags: AtFlags) -> Result<(), Errno> {
    let want = Want::from_bits(mode).ok_or(Errno::EINVAL)?;
    // AT_EACCESS has AT_REMOVEDIR's number.
    let flags = flags.permit(AtFlags::REMOVEDIR | AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH)?;
    let place = locate(task, at, path, flags, flags.last())?;
    if want.is_empty() {
        return Ok(());
    }
    let who = task.credentials();
    let real = real(&who);
    let who: &Credentials = if flags.contains(AtFlags::REMOVEDIR) { &who } else { &real };
    check_access(who, &place, want)
}

/// access(2).
pub(super) fn access(task: &CurrentTask<'_>, path: UserCStr, mode: u32) -> Result<(), Errno> {
    check(task, Fd::CWD, path, mode, AtFlags::empty())
}

/// faccessat(2), which has no flags: the C library's are its own.
pub(super) fn faccessat(task: &CurrentTask<'_>, at: Fd, path: UserCStr, mode: u32) -> Result<(), Errno> {
    check(task, at, path, mode, AtFlags::empty())
}

/// faccessat2(2).
pub(super) fn faccessat2(
    task: &CurrentTask<'_>,
    at: Fd,
    path: UserCStr,
    mode: u32,
    flags: AtFlags,
) -> Result<(), Errno> {
    check(task, at, path, mode, flags)
}

/// readlink(2).
pub(super) fn readlink(task: &CurrentTask<'_>, path: UserCStr, to: BytesOut, size: i32) -> Result<usize, Errno> {
    readlinkat(task, Fd::CWD, path, to, size)
}

/// readlinkat(2). An empty path means the link that an O_PATH descriptor stands for.
pub(super) fn readlinkat(
    task: &CurrentTask<'_>,
    at: Fd,
    path: UserCStr,
    to: BytesOut,
    size: i32,
) -> Result<usize, Errno> {
    let Ok(size) = usize::try_from(size) else { return Err(Errno::EINVAL) };
    if size == 0 {
        return Err(Errno::EINVAL);
    }
    let path = path.read_path(task)?;
    let place = locate_bytes(task, at, &path, AtFlags::EMPTY_PATH, LastLink::Keep)?;
    let Some(link) = place.inode().as_link() else {
        // fs/stat.c: what is found by an empty path and is no link does not "exist" as one.
        return Err(if path.is_empty() { Errno::ENOENT } else { Errno::EINVAL });
    };
    debug_assert_eq!(place.kind(), FileKind::Symlink);
    let text = link.text(task)?;
    let count = text.len().min(size);
    task.mm().write(to.0, &text[..count])?;
    Ok(count)
}
