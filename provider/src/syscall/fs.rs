//! What the file-system calls share: which place a (descriptor, path, flags) triple means.

use crate::errno::Errno;
use crate::fs::{Fd, FileKind, LastLink, Location, OpenFile};
use crate::syscall::args::flags_arg;
use crate::task::{CurrentTask, Resource};
use crate::user::UserCStr;
use std::sync::Arc;

bitflags::bitflags! {
    /// AT_* flags, in Linux's numbering.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct AtFlags: u32 {
        /// Do not follow a last symbolic link.
        const SYMLINK_NOFOLLOW = 0x100;
        /// AT_REMOVEDIR for unlinkat, AT_EACCESS for faccessat2.
        const REMOVEDIR = 0x200;
        /// Follow a last symbolic link, in calls that else do not.
        const SYMLINK_FOLLOW = 0x400;
        /// Mount nothing on the way.
        const NO_AUTOMOUNT = 0x800;
        /// An empty path means the descriptor's own object.
        const EMPTY_PATH = 0x1000;
        /// Ask the server.
        const STATX_FORCE_SYNC = 0x2000;
        /// Take what is cached.
        const STATX_DONT_SYNC = 0x4000;
    }
}

flags_arg! {
    AtFlags => "AT_";
}

impl AtFlags {
    /// `EINVAL` if flags are set that the call does not know.
    pub(super) fn permit(self, known: Self) -> Result<Self, Errno> {
        if known.contains(self) { Ok(self) } else { Err(Errno::EINVAL) }
    }

    /// What becomes of a last symbolic link in a call that follows unless told not to.
    pub(super) fn last(self) -> LastLink {
        if self.contains(Self::SYMLINK_NOFOLLOW) { LastLink::Keep } else { LastLink::Follow }
    }
}

/// The directory that a relative path starts from; `None`: the working directory. `EBADF`, `ENOTDIR`.
pub(super) fn base(task: &CurrentTask<'_>, at: Fd, path: &[u8]) -> Result<Option<Location>, Errno> {
    if at == Fd::CWD || path.first() == Some(&b'/') {
        return Ok(None);
    }
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let place = task.files().get_any(at)?.location().clone();
    if place.kind() == FileKind::Directory { Ok(Some(place)) } else { Err(Errno::ENOTDIR) }
}

/// Walks to what (descriptor, path, flags) means; with AT_EMPTY_PATH an empty path means the descriptor's own object.
pub(super) fn locate(
    task: &CurrentTask<'_>,
    at: Fd,
    path: UserCStr,
    flags: AtFlags,
    last: LastLink,
) -> Result<Location, Errno> {
    locate_bytes(task, at, &read_path(task, path, flags)?, flags, last)
}

/// Reads a path. Linux 6.11 takes a null pointer for an empty one, too, where AT_EMPTY_PATH is given.
pub(super) fn read_path(task: &CurrentTask<'_>, path: UserCStr, flags: AtFlags) -> Result<Vec<u8>, Errno> {
    if path.is_null() && flags.contains(AtFlags::EMPTY_PATH) { Ok(Vec::new()) } else { path.read_path(task) }
}

/// [`locate`], for a path that was read already.
pub(super) fn locate_bytes(
    task: &CurrentTask<'_>,
    at: Fd,
    path: &[u8],
    flags: AtFlags,
    last: LastLink,
) -> Result<Location, Errno> {
    if path.is_empty() && flags.contains(AtFlags::EMPTY_PATH) {
        return match at {
            Fd::CWD => Ok(task.fs().cwd()),
            fd => Ok(task.files().get_any(fd)?.location().clone()),
        };
    }
    let base = base(task, at, path)?;
    task.kernel().namespace().walk(task, base.as_ref(), path, last)
}

/// Gives an open file the lowest free number.
pub(super) fn install(task: &CurrentTask<'_>, file: Arc<OpenFile>, close_on_exec: bool) -> Result<Fd, Errno> {
    install_from(task, file, close_on_exec, 0)
}

/// Gives an open file the lowest free number at or above `from`.
pub(super) fn install_from(
    task: &CurrentTask<'_>,
    file: Arc<OpenFile>,
    close_on_exec: bool,
    from: i32,
) -> Result<Fd, Errno> {
    task.files().insert(file, close_on_exec, from, file_limit(task))
}

/// RLIMIT_NOFILE.
pub(super) fn file_limit(task: &CurrentTask<'_>) -> u64 {
    task.group().limits().soft(Resource::Files)
}
