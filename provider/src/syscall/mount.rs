//! Mounting: mount(2), umount2(2), pivot_root(2).

use super::fs::{AtFlags, locate, locate_bytes};
use crate::errno::Errno;
use crate::fs::{
    Depth, Fd, FileKind, LastLink, Layer, Location, MountFlags, MountRequest, Propagation, UnmountFlags, Want,
    check_access,
};
use crate::syscall::args::flags_arg;
use crate::task::CurrentTask;
use crate::user::{PATH_MAX, UserCStr};
use vmm::addr::{PAGE_SIZE, UserAddr};

bitflags::bitflags! {
    /// mount(2)'s flags, in Linux's numbering.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MsFlags: u64 {
        /// Read-only.
        const RDONLY = 1;
        /// No set-id bits.
        const NOSUID = 2;
        /// No devices.
        const NODEV = 4;
        /// No programs.
        const NOEXEC = 8;
        /// Writes are seen at once.
        const SYNCHRONOUS = 0x10;
        /// Change what is mounted.
        const REMOUNT = 0x20;
        /// Mandatory locks: no longer known to Linux.
        const MANDLOCK = 0x40;
        /// Changes of directories are seen at once.
        const DIRSYNC = 0x80;
        /// No symbolic links.
        const NOSYMFOLLOW = 0x100;
        /// No access times.
        const NOATIME = 0x400;
        /// None of directories.
        const NODIRATIME = 0x800;
        /// Show it at another place, too.
        const BIND = 0x1000;
        /// Move it.
        const MOVE = 0x2000;
        /// With all below it.
        const REC = 0x4000;
        /// Say nothing.
        const SILENT = 0x8000;
        /// Never bound.
        const UNBINDABLE = 0x2_0000;
        /// Shared with nobody.
        const PRIVATE = 0x4_0000;
        /// Follow the peers.
        const SLAVE = 0x8_0000;
        /// Share with peers.
        const SHARED = 0x10_0000;
        /// Access times as relatime has them: the default.
        const RELATIME = 0x20_0000;
        /// All access times.
        const STRICTATIME = 0x100_0000;
        /// Times are written late.
        const LAZYTIME = 0x200_0000;
        /// The kernel's own mounts only.
        const NOUSER = 0x8000_0000;
    }
}

flags_arg! {
    MsFlags => "MS_";
    UnmountFlags => "MNT_";
}

/// What old programs have in the upper half of the flags (MS_MGC_VAL).
const MAGIC: u64 = 0xC0ED_0000;
/// Its bits (MS_MGC_MSK).
const MAGIC_MASK: u64 = 0xffff_0000;

const CAP_SYS_ADMIN: u32 = 21;

/// `EPERM` unless the caller may change what is mounted (may_mount).
pub(super) fn check_may_mount(task: &CurrentTask<'_>) -> Result<(), Errno> {
    if task.credentials().has(CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
}

/// A text argument of mount(2); `None` for NULL. Too long a one is `EINVAL` (copy_mount_string).
fn text(task: &CurrentTask<'_>, at: UserCStr) -> Result<Option<Vec<u8>>, Errno> {
    if at.is_null() {
        return Ok(None);
    }
    task.mm().read_cstr(at.0, PATH_MAX)?.ok_or(Errno::EINVAL).map(Some)
}

/// The options: a page, or what can be read of it, up to a zero byte (copy_mount_options).
fn options(task: &CurrentTask<'_>, at: UserAddr) -> Result<Vec<u8>, Errno> {
    let mut page = vec![0; usize::try_from(PAGE_SIZE).unwrap_or_default()];
    if at.0 == 0 {
        return Ok(Vec::new());
    }
    let read = task.mm().read_partial(at, &mut page)?;
    let end = page[..read].iter().position(|byte| *byte == 0).unwrap_or(read);
    page.truncate(end);
    Ok(page)
}

/// What holds for the mount alone, of mount(2)'s flags (path_mount).
fn mount_flags(flags: MsFlags) -> MountFlags {
    let kept = MountFlags::all().difference(MountFlags::RELATIME);
    // The numbers are the same; what does not fit is no mount's flag.
    let mut of_mount =
        MountFlags::from_bits_truncate(u32::try_from(flags.bits() & 0xffff_ffff).unwrap_or_default()) & kept;
    if !flags.intersects(MsFlags::NOATIME | MsFlags::STRICTATIME) {
        of_mount |= MountFlags::RELATIME;
    }
    if flags.contains(MsFlags::STRICTATIME) {
        of_mount.remove(MountFlags::NOATIME);
    }
    of_mount
}

/// As [`mount_flags`] for a remount: without a word on access times they stay as they are.
fn remount_flags(flags: MsFlags, at: &Location) -> MountFlags {
    let times = MsFlags::NOATIME | MsFlags::NODIRATIME | MsFlags::RELATIME | MsFlags::STRICTATIME;
    let own = MountFlags::NOATIME | MountFlags::NODIRATIME | MountFlags::RELATIME;
    let new = mount_flags(flags);
    if flags.intersects(times) { new } else { new.difference(own) | (at.mount_flags() & own) }
}

/// mount(2).
pub(super) fn mount(
    task: &CurrentTask<'_>,
    source: UserCStr,
    target: UserCStr,
    kind: UserCStr,
    flags: MsFlags,
    data: UserAddr,
) -> Result<(), Errno> {
    let kind = text(task, kind)?;
    let source = text(task, source)?;
    let data = options(task, data)?;
    let at = locate(task, Fd::CWD, target, AtFlags::empty(), LastLink::Follow)?;
    let raw = if flags.bits() & MAGIC_MASK == MAGIC { flags.bits() & !MAGIC_MASK } else { flags.bits() };
    let flags = MsFlags::from_bits_retain(raw);
    if flags.contains(MsFlags::NOUSER) {
        return Err(Errno::EINVAL);
    }
    check_may_mount(task)?;
    let namespace = task.kernel().namespace();
    let depth = if flags.contains(MsFlags::REC) { Depth::Tree } else { Depth::One };
    if flags.contains(MsFlags::REMOUNT | MsFlags::BIND) {
        let new = remount_flags(flags, &at);
        return namespace.change_mount_flags(task, &at, Depth::One, |_| new);
    }
    if flags.contains(MsFlags::REMOUNT) {
        let new = remount_flags(flags, &at);
        return namespace.remount(task, &at, &data, flags.contains(MsFlags::RDONLY), new);
    }
    let other = || {
        let path = source.clone().filter(|path| !path.is_empty()).ok_or(Errno::EINVAL)?;
        locate_bytes(task, Fd::CWD, &path, AtFlags::empty(), LastLink::Follow)
    };
    if flags.contains(MsFlags::BIND) {
        return namespace.bind(task, &other()?, &at, depth);
    }
    if let Some(to) = propagation(flags)? {
        return namespace.change_propagation(task, &at, to, depth);
    }
    if flags.contains(MsFlags::MOVE) {
        return namespace.move_mount(task, &other()?, &at, Layer::OnTop);
    }
    let mut request = MountRequest::new(&kind.ok_or(Errno::EINVAL)?)?;
    request.source = source.unwrap_or_default();
    request.read_only = flags.contains(MsFlags::RDONLY);
    request.options(&data)?;
    namespace.mount_file_system(task, &request, &at, mount_flags(flags))
}

/// Which kind of sharing the flags ask for, if any: at most one, and nothing else (flags_to_propagation_type).
fn propagation(flags: MsFlags) -> Result<Option<Propagation>, Errno> {
    let kinds = [
        (MsFlags::SHARED, Propagation::Shared),
        (MsFlags::SLAVE, Propagation::Slave),
        (MsFlags::PRIVATE, Propagation::Private),
        (MsFlags::UNBINDABLE, Propagation::Unbindable),
    ];
    let asked = flags.difference(MsFlags::REC | MsFlags::SILENT);
    let any = kinds.iter().any(|(flag, _)| flags.contains(*flag));
    match kinds.into_iter().find(|(flag, _)| asked == *flag) {
        Some((_, kind)) => Ok(Some(kind)),
        None if any => Err(Errno::EINVAL),
        None => Ok(None),
    }
}

/// umount2(2).
pub(super) fn umount2(task: &CurrentTask<'_>, path: UserCStr, flags: UnmountFlags) -> Result<(), Errno> {
    if !UnmountFlags::all().contains(flags) {
        return Err(Errno::EINVAL);
    }
    let last = if flags.contains(UnmountFlags::NOFOLLOW) { LastLink::Keep } else { LastLink::Follow };
    let at = locate(task, Fd::CWD, path, AtFlags::empty(), last)?;
    check_may_mount(task)?;
    task.kernel().namespace().unmount(task, at, flags)
}

/// pivot_root(2).
pub(super) fn pivot_root(task: &CurrentTask<'_>, new: UserCStr, put_old: UserCStr) -> Result<(), Errno> {
    check_may_mount(task)?;
    let directory = |path| {
        let place = locate(task, Fd::CWD, path, AtFlags::empty(), LastLink::Follow)?;
        if place.kind() != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        check_access(&task.credentials(), &place, Want::EXECUTE).map(|()| place)
    };
    let new = directory(new)?;
    let put_old = directory(put_old)?;
    put_old.inode().hold()?;
    new.inode().hold()?;
    task.kernel().namespace().pivot_root(task, &new, &put_old)
}
