//! inotify_init, inotify_add_watch, inotify_rm_watch.

use super::fs::{AtFlags, install, locate};
use crate::errno::Errno;
use crate::fs::notify::{Added, Instance, Mask};
use crate::fs::{Fd, FileKind, LastLink, OpenFile, OpenFlags, Want, check_access};
use crate::syscall::args::flags_arg;
use crate::task::CurrentTask;
use crate::user::UserCStr;
use std::sync::Arc;

flags_arg! {
    Mask => "IN_";
}

/// inotify_init(2).
pub(super) fn inotify_init(task: &CurrentTask<'_>) -> Result<Fd, Errno> {
    inotify_init1(task, OpenFlags::empty())
}

/// inotify_init1(2); its flags have open(2)'s values.
pub(super) fn inotify_init1(task: &CurrentTask<'_>, flags: OpenFlags) -> Result<Fd, Errno> {
    if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
        return Err(Errno::EINVAL);
    }
    let file = Instance::open(task.kernel().namespace().watches(), flags & OpenFlags::NONBLOCK)?;
    install(task, file, flags.contains(OpenFlags::CLOEXEC))
}

/// The instance behind an open file; `EINVAL` if it is none.
fn instance(file: &Arc<OpenFile>) -> Result<&Instance, Errno> {
    file.file().as_any().and_then(|any| any.downcast_ref()).ok_or(Errno::EINVAL)
}

/// inotify_add_watch(2), in the order of checks of fs/notify/inotify/inotify_user.c.
pub(super) fn inotify_add_watch(task: &CurrentTask<'_>, fd: Fd, path: UserCStr, mask: Mask) -> Result<i32, Errno> {
    if !Mask::all().contains(mask) || mask.is_empty() {
        return Err(Errno::EINVAL);
    }
    let file = task.files().get(fd)?;
    if mask.contains(Mask::MASK_ADD | Mask::MASK_CREATE) {
        return Err(Errno::EINVAL);
    }
    let instance = instance(&file)?;
    let last = if mask.contains(Mask::DONT_FOLLOW) { LastLink::Keep } else { LastLink::Follow };
    let place = locate(task, Fd::CWD, path, AtFlags::empty(), last)?;
    if mask.contains(Mask::ONLYDIR) && place.kind() != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    check_access(&task.credentials(), &place, Want::READ)?;
    let how = if mask.contains(Mask::MASK_CREATE) {
        Added::MustBeNew
    } else if mask.contains(Mask::MASK_ADD) {
        Added::Extends
    } else {
        Added::Replaces
    };
    instance.watch(place.inode(), mask, how)
}

/// inotify_rm_watch(2).
pub(super) fn inotify_rm_watch(task: &CurrentTask<'_>, fd: Fd, wd: i32) -> Result<(), Errno> {
    instance(&task.files().get(fd)?)?.unwatch(wd)
}
