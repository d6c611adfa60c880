//! Extended attributes.

use super::fs::{AtFlags, locate};
use crate::errno::Errno;
use crate::fs::notify::Mask;
use crate::fs::{Fd, FileKind, LastLink, Location, Want, check_access};
use crate::task::CurrentTask;
use crate::user::UserCStr;
use vmm::addr::UserAddr;

/// Bytes of the longest name (XATTR_NAME_MAX).
const NAME_MAX: usize = 255;
/// Bytes of the largest value, and of the longest list (XATTR_SIZE_MAX, XATTR_LIST_MAX).
const SIZE_MAX: u64 = 65536;
/// XATTR_CREATE and XATTR_REPLACE.
const FLAGS: u32 = 3;
const CAP_FOWNER: u32 = 3;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SETFCAP: u32 = 31;
/// S_ISVTX.
const STICKY: u32 = 0o1000;

/// What an attribute's object is found by.
enum Object {
    Path(UserCStr, LastLink),
    Open(Fd),
}

impl Object {
    fn place(&self, task: &CurrentTask<'_>) -> Result<Location, Errno> {
        match self {
            Self::Path(path, last) => locate(task, Fd::CWD, *path, AtFlags::empty(), *last),
            Self::Open(fd) => Ok(task.files().get(*fd)?.location().clone()),
        }
    }
}

fn read_name(task: &CurrentTask<'_>, name: UserCStr) -> Result<Vec<u8>, Errno> {
    let name = task.mm().read_cstr(name.0, NAME_MAX + 1)?.ok_or(Errno::ERANGE)?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

/// The permission that an attribute's name space asks for (xattr_permission in fs/xattr.c).
fn check(task: &CurrentTask<'_>, place: &Location, name: &[u8], want: Want) -> Result<(), Errno> {
    if want == Want::WRITE && place.is_read_only() {
        return Err(Errno::EROFS);
    }
    let denied = if want == Want::WRITE { Errno::EPERM } else { Errno::ENODATA };
    if name.starts_with(b"security.") {
        // Without a security module in charge (cap_inode_setxattr); a file's capabilities have a rule of their own.
        let needed = if name == b"security.capability" { CAP_SETFCAP } else { CAP_SYS_ADMIN };
        let permitted = want != Want::WRITE || task.credentials().has(needed);
        return if permitted { Ok(()) } else { Err(Errno::EPERM) };
    }
    if name.starts_with(b"system.") {
        return Ok(());
    }
    if name.starts_with(b"trusted.") {
        return if task.credentials().has(CAP_SYS_ADMIN) { Ok(()) } else { Err(denied) };
    }
    if name.starts_with(b"user.") {
        if !matches!(place.kind(), FileKind::Regular | FileKind::Directory) {
            return Err(denied);
        }
        let who = task.credentials();
        let object = place.inode().permissions()?;
        let is_sticky = place.kind() == FileKind::Directory && object.mode & STICKY != 0;
        if want == Want::WRITE && is_sticky && who.fsuid != object.uid && !who.has(CAP_FOWNER) {
            return Err(Errno::EPERM);
        }
        check_access(&who, place, want)?;
        // The prefix alone names nothing (xattr_resolve_name).
        return if name == b"user." { Err(Errno::EINVAL) } else { Ok(()) };
    }
    Err(Errno::EOPNOTSUPP)
}

fn set(
    task: &CurrentTask<'_>,
    object: &Object,
    name: UserCStr,
    (value, size): (UserAddr, u64),
    flags: u32,
) -> Result<(), Errno> {
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let name = read_name(task, name)?;
    if size > SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(|_| Errno::E2BIG)?];
    task.mm().read(value, &mut bytes)?;
    let place = object.place(task)?;
    check(task, &place, &name, Want::WRITE)?;
    if !name.starts_with(b"user.") {
        return Err(task.unsupported("setxattr: name spaces besides user", Errno::EOPNOTSUPP));
    }
    place.inode().set_xattr(&name, &bytes, flags)?;
    place.tell(Mask::ATTRIB);
    Ok(())
}

/// Writes a value or list of names, or tells its size if there is no room asked about.
fn put(task: &CurrentTask<'_>, bytes: &[u8], to: UserAddr, size: u64) -> Result<usize, Errno> {
    if size != 0 {
        if usize::try_from(size).is_ok_and(|size| size < bytes.len()) {
            return Err(Errno::ERANGE);
        }
        task.mm().write(to, bytes)?;
    }
    Ok(bytes.len())
}

fn get(task: &CurrentTask<'_>, object: &Object, name: UserCStr, to: UserAddr, size: u64) -> Result<usize, Errno> {
    let name = read_name(task, name)?;
    let place = object.place(task)?;
    check(task, &place, &name, Want::READ)?;
    put(task, &place.inode().get_xattr(&name)?, to, size)
}

fn list(task: &CurrentTask<'_>, object: &Object, to: UserAddr, size: u64) -> Result<usize, Errno> {
    let place = object.place(task)?;
    let sees_trusted = task.credentials().has(CAP_SYS_ADMIN);
    let mut bytes = Vec::new();
    let names = match place.inode().list_xattr() {
        // A file system without attributes lists none.
        Err(Errno::EOPNOTSUPP) => Vec::new(),
        names => names?,
    };
    for name in names.iter().filter(|name| sees_trusted || !name.starts_with(b"trusted.")) {
        bytes.extend_from_slice(name);
        bytes.push(0);
    }
    put(task, &bytes, to, size)
}

fn remove(task: &CurrentTask<'_>, object: &Object, name: UserCStr) -> Result<(), Errno> {
    let name = read_name(task, name)?;
    let place = object.place(task)?;
    check(task, &place, &name, Want::WRITE)?;
    place.inode().remove_xattr(&name)?;
    place.tell(Mask::ATTRIB);
    Ok(())
}

/// setxattr(2).
pub(super) fn setxattr(
    task: &CurrentTask<'_>,
    path: UserCStr,
    name: UserCStr,
    value: UserAddr,
    size: u64,
    flags: u32,
) -> Result<(), Errno> {
    set(task, &Object::Path(path, LastLink::Follow), name, (value, size), flags)
}

/// lsetxattr(2).
pub(super) fn lsetxattr(
    task: &CurrentTask<'_>,
    path: UserCStr,
    name: UserCStr,
    value: UserAddr,
    size: u64,
    flags: u32,
) -> Result<(), Errno> {
    set(task, &Object::Path(path, LastLink::Keep), name, (value, size), flags)
}

/// fsetxattr(2).
pub(super) fn fsetxattr(
    task: &CurrentTask<'_>,
    fd: Fd,
    name: UserCStr,
    value: UserAddr,
    size: u64,
    flags: u32,
) -> Result<(), Errno> {
    set(task, &Object::Open(fd), name, (value, size), flags)
}

/// getxattr(2).
pub(super) fn getxattr(
    task: &CurrentTask<'_>,
    path: UserCStr,
    name: UserCStr,
    to: UserAddr,
    size: u64,
) -> Result<usize, Errno> {
    get(task, &Object::Path(path, LastLink::Follow), name, to, size)
}

/// lgetxattr(2).
pub(super) fn lgetxattr(
    task: &CurrentTask<'_>,
    path: UserCStr,
    name: UserCStr,
    to: UserAddr,
    size: u64,
) -> Result<usize, Errno> {
    get(task, &Object::Path(path, LastLink::Keep), name, to, size)
}

/// fgetxattr(2).
pub(super) fn fgetxattr(
    task: &CurrentTask<'_>,
    fd: Fd,
    name: UserCStr,
    to: UserAddr,
    size: u64,
) -> Result<usize, Errno> {
    get(task, &Object::Open(fd), name, to, size)
}

/// listxattr(2).
pub(super) fn listxattr(task: &CurrentTask<'_>, path: UserCStr, to: UserAddr, size: u64) -> Result<usize, Errno> {
    list(task, &Object::Path(path, LastLink::Follow), to, size)
}

/// llistxattr(2).
pub(super) fn llistxattr(task: &CurrentTask<'_>, path: UserCStr, to: UserAddr, size: u64) -> Result<usize, Errno> {
    list(task, &Object::Path(path, LastLink::Keep), to, size)
}

/// flistxattr(2).
pub(super) fn flistxattr(task: &CurrentTask<'_>, fd: Fd, to: UserAddr, size: u64) -> Result<usize, Errno> {
    list(task, &Object::Open(fd), to, size)
}

/// removexattr(2).
pub(super) fn removexattr(task: &CurrentTask<'_>, path: UserCStr, name: UserCStr) -> Result<(), Errno> {
    remove(task, &Object::Path(path, LastLink::Follow), name)
}

/// lremovexattr(2).
pub(super) fn lremovexattr(task: &CurrentTask<'_>, path: UserCStr, name: UserCStr) -> Result<(), Errno> {
    remove(task, &Object::Path(path, LastLink::Keep), name)
}

/// fremovexattr(2).
pub(super) fn fremovexattr(task: &CurrentTask<'_>, fd: Fd, name: UserCStr) -> Result<(), Errno> {
    remove(task, &Object::Open(fd), name)
}
