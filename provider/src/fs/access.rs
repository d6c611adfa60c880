//! Permission checks, as inode_permission in fs/namei.c makes them for a file system without ACLs.

use super::{FileKind, Inode, Location, MountFlags, Permissions};
use crate::errno::Errno;
use crate::task::Credentials;

/// Capability numbers (capabilities(7)).
pub(super) mod capability {
    pub(in crate::fs) const DAC_OVERRIDE: u32 = 1;
    pub(in crate::fs) const DAC_READ_SEARCH: u32 = 2;
    pub(in crate::fs) const FOWNER: u32 = 3;
    pub(in crate::fs) const FSETID: u32 = 4;
    pub(in crate::fs) const MKNOD: u32 = 27;
}

bitflags::bitflags! {
    /// What a caller wants to do with an object: the bits of one mode digit, and of access(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Want: u32 {
        /// Run a file, search a directory.
        const EXECUTE = 1;
        /// Change contents.
        const WRITE = 2;
        /// Read contents.
        const READ = 4;
    }
}

/// Tells whether the credentials' file-system ids include a group.
pub(super) fn in_group(who: &Credentials, gid: u32) -> bool {
    who.fsgid == gid || who.groups.contains(&gid)
}

/// Checks an object's mode bits and the caller's capabilities; `EACCES`.
pub(super) fn check(who: &Credentials, object: Permissions, kind: FileKind, want: Want) -> Result<(), Errno> {
    let digit = if who.fsuid == object.uid {
        object.mode >> 6
    } else if in_group(who, object.gid) {
        object.mode >> 3
    } else {
        object.mode
    };
    let granted = Want::from_bits_truncate(digit & 7);
    if granted.contains(want) {
        return Ok(());
    }
    let executable = kind == FileKind::Directory || object.mode & 0o111 != 0;
    let overridden = who.has(capability::DAC_OVERRIDE) && (executable || !want.contains(Want::EXECUTE));
    let reads_only = match kind {
        FileKind::Directory => !want.contains(Want::WRITE),
        _ => want == Want::READ,
    };
    if overridden || (reads_only && who.has(capability::DAC_READ_SEARCH)) { Ok(()) } else { Err(Errno::EACCES) }
}

/// Checks an inode.
pub(super) fn check_inode(who: &Credentials, inode: &dyn Inode, want: Want) -> Result<(), Errno> {
    check(who, inode.permissions()?, inode.kind(), want)
}

/// Checks a place: also that a mount that is read-only is not written (`EROFS`; devices, FIFOs and sockets may be), and
/// that nothing is executed where nothing may be.
pub fn check_access(who: &Credentials, place: &Location, want: Want) -> Result<(), Errno> {
    let kind = place.kind();
    let contents = matches!(kind, FileKind::Regular | FileKind::Directory | FileKind::Symlink);
    if want.contains(Want::WRITE) && contents && place.is_read_only() {
        return Err(Errno::EROFS);
    }
    if want.contains(Want::EXECUTE) && kind == FileKind::Regular && place.mount_flags().contains(MountFlags::NOEXEC) {
        return Err(Errno::EACCES);
    }
    check_inode(who, place.inode().as_ref(), want)
}

/// Tells whether the caller counts as an object's owner.
pub(super) fn owns(who: &Credentials, object: Permissions) -> bool {
    who.fsuid == object.uid || who.has(capability::FOWNER)
}

/// Tells whether the caller has an object's user id, or a capability that stands in for it.
pub(super) fn owns_by_id(who: &Credentials, object: Permissions, capability: u32) -> bool {
    who.fsuid == object.uid || who.has(capability)
}

/// Checks that a directory's sticky bit permits removing `victim` from it (check_sticky); `EPERM`.
pub(super) fn check_sticky(who: &Credentials, directory: Permissions, victim: Permissions) -> Result<(), Errno> {
    const STICKY: u32 = 0o1000;
    if directory.mode & STICKY == 0 || who.fsuid == directory.uid || owns(who, victim) {
        return Ok(());
    }
    Err(Errno::EPERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(mode: u32) -> Permissions {
        Permissions { mode, uid: 1, gid: 2 }
    }

    #[test]
    fn the_first_digit_that_applies_counts_even_if_it_grants_less() {
        let owner = Credentials::new(1, 2, vec![]);
        assert_eq!(check(&owner, object(0o077), FileKind::Regular, Want::READ), Err(Errno::EACCES));
        let member = Credentials::new(9, 9, vec![2]);
        assert_eq!(check(&member, object(0o707), FileKind::Regular, Want::READ), Err(Errno::EACCES));
        assert_eq!(check(&member, object(0o040), FileKind::Regular, Want::READ), Ok(()));
    }

    #[test]
    fn root_runs_only_what_somebody_may_run() {
        let root = Credentials::new(0, 0, vec![]);
        assert_eq!(check(&root, object(0), FileKind::Regular, Want::READ | Want::WRITE), Ok(()));
        assert_eq!(check(&root, object(0o600), FileKind::Regular, Want::EXECUTE), Err(Errno::EACCES));
        assert_eq!(check(&root, object(0o601), FileKind::Regular, Want::EXECUTE), Ok(()));
        assert_eq!(check(&root, object(0), FileKind::Directory, Want::EXECUTE), Ok(()));
    }

    #[test]
    fn a_sticky_directory_protects_others_files() {
        let (directory, victim) = (Permissions { mode: 0o1777, uid: 0, gid: 0 }, object(0o644));
        assert_eq!(check_sticky(&Credentials::new(1, 1, vec![]), directory, victim), Ok(()));
        assert_eq!(check_sticky(&Credentials::new(3, 1, vec![]), directory, victim), Err(Errno::EPERM));
        assert_eq!(check_sticky(&Credentials::new(0, 0, vec![]), directory, victim), Ok(()));
    }
}
