//! What owners change: modes, owners, times.

use super::fs::{AtFlags, locate, locate_bytes};
use crate::errno::Errno;
use crate::fs::notify::Mask;
use crate::fs::{AttributeChange, Fd, FileKind, LastLink, Location, Permissions, Timestamp, Want, check_access};
use crate::syscall::args::FileMode;
use crate::task::{Credentials, CurrentTask};
use crate::user::{UserCStr, UserIn};
use vmm::addr::UserAddr;

const CAP_CHOWN: u32 = 0;
const CAP_FOWNER: u32 = 3;
const CAP_FSETID: u32 = 4;
const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;
/// utimensat(2): leave it as it is.
const UTIME_OMIT: i64 = 0x3fff_fffe;
/// utimensat(2): the present time.
const UTIME_NOW: i64 = 0x3fff_ffff;

fn owns(who: &Credentials, object: Permissions) -> bool {
    who.fsuid == object.uid || who.has(CAP_FOWNER)
}

fn in_group(who: &Credentials, gid: u32) -> bool {
    who.fsgid == gid || who.groups.contains(&gid)
}

fn change_mode(task: &CurrentTask<'_>, place: &Location, mode: u32) -> Result<(), Errno> {
    if place.is_read_only() {
        return Err(Errno::EROFS);
    }
    let (who, object) = (task.credentials(), place.inode().permissions()?);
    if !owns(&who, object) {
        return Err(Errno::EPERM);
    }
    if place.kind() == FileKind::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut mode = mode & 0o7777;
    if !in_group(&who, object.gid) && !who.has(CAP_FSETID) {
        mode &= !SET_GROUP_ID;
    }
    change(place, &AttributeChange { mode: Some(mode), ..AttributeChange::default() })
}

/// Changes attributes and tells who watches, as fsnotify_change does: one time alone looks like a read or a write.
fn change(place: &Location, change: &AttributeChange) -> Result<(), Errno> {
    place.inode().change(change)?;
    let owned = change.mode.is_some() || change.uid.is_some() || change.gid.is_some();
    let timed = change.accessed.is_some() || change.modified.is_some();
    if !owned && !timed {
        return Ok(());
    }
    place.tell(match (change.accessed.is_some(), change.modified.is_some()) {
        (true, false) if !owned => Mask::ACCESS,
        (false, true) if !owned => Mask::MODIFY,
        _ => Mask::ATTRIB,
    });
    Ok(())
}

/// chmod(2).
pub(super) fn chmod(task: &CurrentTask<'_>, path: UserCStr, mode: FileMode) -> Result<(), Errno> {
    fchmodat(task, Fd::CWD, path, mode)
}

/// fchmod(2).
pub(super) fn fchmod(task: &CurrentTask<'_>, fd: Fd, mode: FileMode) -> Result<(), Errno> {
    change_mode(task, task.files().get(fd)?.location(), mode.0)
}

/// fchmodat(2), which has no flags: the C library's are its own.
pub(super) fn fchmodat(task: &CurrentTask<'_>, at: Fd, path: UserCStr, mode: FileMode) -> Result<(), Errno> {
    fchmodat2(task, at, path, mode, AtFlags::empty())
}

/// fchmodat2(2).
pub(super) fn fchmodat2(
    task: &CurrentTask<'_>,
    at: Fd,
    path: UserCStr,
    mode: FileMode,
    flags: AtFlags,
) -> Result<(), Errno> {
    let flags = flags.permit(AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH)?;
    change_mode(task, &locate(task, at, path, flags, flags.last())?, mode.0)
}

/// Checks and makes a change of owner (chown_common, chown_ok, chgrp_ok); −1 leaves an id as it is.
fn change_owner(task: &CurrentTask<'_>, place: &Location, uid: u32, gid: u32) -> Result<(), Errno> {
    if place.is_read_only() {
        return Err(Errno::EROFS);
    }
    let id = |id: u32| (id != u32::MAX).then_some(id);
    let (uid, gid) = (id(uid), id(gid));
    let (who, object) = (task.credentials(), place.inode().permissions()?);
    let is_owner = who.fsuid == object.uid;
    let uid_ok = uid.is_none_or(|uid| is_owner && uid == object.uid);
    let gid_ok = gid.is_none_or(|gid| is_owner && (gid == object.gid || in_group(&who, gid)));
    let permitted = (uid_ok && gid_ok) || who.has(CAP_CHOWN);
    if !permitted {
        return Err(Errno::EPERM);
    }
    // A change of owner takes the set-id bits from what can be run; Linux does so for root, too.
    let mut mode = object.mode;
    if !matches!(place.kind(), FileKind::Directory | FileKind::Symlink) && (uid.is_some() || gid.is_some()) {
        mode &= !SET_USER_ID;
        if mode & GROUP_EXECUTE != 0 {
            mode &= !SET_GROUP_ID;
        }
    }
    let mode = (mode != object.mode).then_some(mode);
    change(place, &AttributeChange { mode, uid, gid, ..AttributeChange::default() })
}

/// chown(2).
pub(super) fn chown(task: &CurrentTask<'_>, path: UserCStr, uid: u32, gid: u32) -> Result<(), Errno> {
    fchownat(task, Fd::CWD, path, uid, gid, AtFlags::empty())
}

/// lchown(2).
pub(super) fn lchown(task: &CurrentTask<'_>, path: UserCStr, uid: u32, gid: u32) -> Result<(), Errno> {
    fchownat(task, Fd::CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
}

/// fchown(2).
pub(super) fn fchown(task: &CurrentTask<'_>, fd: Fd, uid: u32, gid: u32) -> Result<(), Errno> {
    change_owner(task, task.files().get(fd)?.location(), uid, gid)
}

/// fchownat(2).
pub(super) fn fchownat(
    task: &CurrentTask<'_>,
    at: Fd,
    path: UserCStr,
    uid: u32,
    gid: u32,
    flags: AtFlags,
) -> Result<(), Errno> {
    let flags = flags.permit(AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH)?;
    change_owner(task, &locate(task, at, path, flags, flags.last())?, uid, gid)
}

/// A time to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NewTime {
    Omit,
    Now,
    At(Timestamp),
}

impl NewTime {
    /// From seconds and nanoseconds, with utimensat's special values.
    fn from_timespec([seconds, nanoseconds]: [i64; 2]) -> Result<Self, Errno> {
        match nanoseconds {
            UTIME_OMIT => Ok(Self::Omit),
            UTIME_NOW => Ok(Self::Now),
            0..1_000_000_000 => {
                let nanoseconds = u32::try_from(nanoseconds).map_err(|_| Errno::EINVAL)?;
                Ok(Self::At(Timestamp { seconds, nanoseconds }))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// From seconds and microseconds.
    fn from_timeval([seconds, microseconds]: [i64; 2]) -> Result<Self, Errno> {
        match microseconds {
            0..1_000_000 => Self::from_timespec([seconds, microseconds * 1000]),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Sets times as utimensat(2) does: who may write the object may set both to the present, its owner to anything.
fn change_times(task: &CurrentTask<'_>, place: &Location, accessed: NewTime, modified: NewTime) -> Result<(), Errno> {
    if place.is_read_only() {
        return Err(Errno::EROFS);
    }
    let (who, object) = (task.credentials(), place.inode().permissions()?);
    if accessed == NewTime::Now && modified == NewTime::Now {
        if !owns(&who, object) {
            check_access(&who, place, Want::WRITE)?;
        }
    } else if !owns(&who, object) {
        return Err(Errno::EPERM);
    }
    let now = Timestamp::now();
    let time = |time: NewTime| match time {
        NewTime::Omit => None,
        NewTime::Now => Some(now),
        NewTime::At(time) => Some(time),
    };
    let times = AttributeChange { accessed: time(accessed), modified: time(modified), ..AttributeChange::default() };
    change(place, &times)
}

/// The place whose times are set: with a null path the descriptor's own (utimensat(2), C library differences).
fn timed(task: &CurrentTask<'_>, at: Fd, path: UserCStr, flags: AtFlags) -> Result<Location, Errno> {
    if path.is_null() && at != Fd::CWD {
        if !flags.is_empty() {
            return Err(Errno::EINVAL);
        }
        return Ok(task.files().get(at)?.location().clone());
    }
    locate_bytes(task, at, &path.read_path(task)?, flags, flags.last())
}

/// utimensat(2).
pub(super) fn utimensat(
    task: &CurrentTask<'_>,
    at: Fd,
    path: UserCStr,
    times: UserIn<[[i64; 2]; 2]>,
    flags: AtFlags,
) -> Result<(), Errno> {
    let times = match times.read_opt(task)? {
        None => [NewTime::Now; 2],
        Some([accessed, modified]) => {
            // With both omitted nothing is looked at, not even the path.
            if accessed[1] == UTIME_OMIT && modified[1] == UTIME_OMIT {
                return Ok(());
            }
            [NewTime::from_timespec(accessed)?, NewTime::from_timespec(modified)?]
        }
    };
    let flags = flags.permit(AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH)?;
    change_times(task, &timed(task, at, path, flags)?, times[0], times[1])
}

/// futimesat(2).
pub(super) fn futimesat(
    task: &CurrentTask<'_>,
    at: Fd,
    path: UserCStr,
    times: UserIn<[[i64; 2]; 2]>,
) -> Result<(), Errno> {
    let times = match times.read_opt(task)? {
        None => [NewTime::Now; 2],
        Some([accessed, modified]) => [NewTime::from_timeval(accessed)?, NewTime::from_timeval(modified)?],
    };
    change_times(task, &timed(task, at, path, AtFlags::empty())?, times[0], times[1])
}

/// utimes(2).
pub(super) fn utimes(task: &CurrentTask<'_>, path: UserCStr, times: UserIn<[[i64; 2]; 2]>) -> Result<(), Errno> {
    futimesat(task, Fd::CWD, path, times)
}

/// utime(2).
pub(super) fn utime(task: &CurrentTask<'_>, path: UserCStr, times: UserAddr) -> Result<(), Errno> {
    let times = match UserIn::<[i64; 2]>::new(times).read_opt(task)? {
        None => [NewTime::Now; 2],
        Some([accessed, modified]) => [NewTime::from_timespec([accessed, 0])?, NewTime::from_timespec([modified, 0])?],
    };
    let place = locate(task, Fd::CWD, path, AtFlags::empty(), LastLink::Follow)?;
    change_times(task, &place, times[0], times[1])
}
