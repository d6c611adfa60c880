//! Making, linking, removing and renaming, with the checks and the order of errors of fs/namei.c.

use super::access::{self, Want, capability};
use super::notify::Mask;
use super::opening::new_node;
use super::walk::{LastLink, Special, Tail};
use super::{FileKind, Inode, Location, Namespace, NewNode};
use crate::errno::Errno;
use crate::task::{Credentials, CurrentTask};
use std::sync::Arc;

/// renameat2(2)'s RENAME_NOREPLACE.
pub const RENAME_NOREPLACE: u32 = 1;
/// renameat2(2)'s RENAME_EXCHANGE.
pub const RENAME_EXCHANGE: u32 = 2;

/// A path with the directory it is relative to.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// `None`: the working directory.
    pub base: Option<&'a Location>,
    /// The path.
    pub path: &'a [u8],
}

impl Namespace {
    /// Makes `name` in a directory where a lookup did not find it; the umask is applied here.
    #[expect(clippy::too_many_arguments, reason = "what mknod and symlink have between them")]
    pub(super) fn make(
        &self,
        task: &CurrentTask<'_>,
        directory: &Location,
        name: &[u8],
        kind: FileKind,
        mode: u32,
        rdev: u64,
        target: &[u8],
    ) -> Result<Location, Errno> {
        if directory.is_read_only() {
            return Err(Errno::EROFS);
        }
        let who = task.credentials();
        check_create(&who, directory)?;
        let operations = directory.inode().as_dir().ok_or(Errno::ENOTDIR)?;
        let mode = if kind == FileKind::Symlink { 0o777 } else { mode & 0o7777 & !task.fs().umask() };
        let node = NewNode { rdev, target, ..new_node(&who, directory, kind, mode)? };
        let inode = operations.create_for(task, name, &node)?;
        let mount = directory.mount().ok_or(Errno::ENOENT)?;
        let made = Location::new(mount.clone(), directory.entry().adopt(name, inode));
        self.watches().tell_name(directory.inode(), name, made.inode(), Mask::CREATE);
        Ok(made)
    }

    /// Makes a device node (mknod).
    pub fn create_device(
        &self,
        task: &CurrentTask<'_>,
        at: At<'_>,
        kind: FileKind,
        mode: u32,
        rdev: u64,
    ) -> Result<(), Errno> {
        let (directory, name) = self.free_name(task, at, kind)?;
        if directory.is_read_only() {
            return Err(Errno::EROFS);
        }
        let who = task.credentials();
        check_create(&who, &directory)?;
        if !who.has(capability::MKNOD) {
            return Err(Errno::EPERM);
        }
        self.make(task, &directory, &name, kind, mode, rdev, b"").map(|_| ())
    }

    /// Makes a directory, node or symbolic link (mkdir, mknod, symlink).
    pub fn create(
        &self,
        task: &CurrentTask<'_>,
        at: At<'_>,
        kind: FileKind,
        mode: u32,
        target: &[u8],
    ) -> Result<(), Errno> {
        let (directory, name) = self.free_name(task, at, kind)?;
        self.make(task, &directory, &name, kind, mode, 0, target).map(|_| ())
    }

    /// Walks to a name that must not exist yet (filename_create).
    fn free_name(&self, task: &CurrentTask<'_>, at: At<'_>, kind: FileKind) -> Result<(Location, Vec<u8>), Errno> {
        let mut walker = self.walker(task, at.base, super::Resolve::empty());
        let Tail::Name { directory, name, slash } = walker.walk_to_tail(at.path)? else {
            return Err(Errno::EEXIST);
        };
        match walker.step(&directory, &name) {
            Ok(_) => Err(Errno::EEXIST),
            Err(Errno::ENOENT) if slash && kind != FileKind::Directory => Err(Errno::ENOENT),
            Err(Errno::ENOENT) => Ok((directory, name)),
            Err(error) => Err(error),
        }
    }

    /// Adds a hard link to `object`.
    pub fn link(&self, task: &CurrentTask<'_>, object: &Location, at: At<'_>) -> Result<(), Errno> {
        let (directory, name) = self.free_name(task, at, object.kind())?;
        let same_mount = match (object.mount(), directory.mount()) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            // A file with no name (O_TMPFILE) knows its file system by itself.
            (None, _) => true,
            _ => false,
        };
        if !same_mount {
            return Err(Errno::EXDEV);
        }
        if directory.is_read_only() {
            return Err(Errno::EROFS);
        }
        let who = task.credentials();
        check_linkable(&who, object.inode().as_ref())?;
        check_create(&who, &directory)?;
        if object.kind() == FileKind::Directory {
            return Err(Errno::EPERM);
        }
        // A file that lost its last name gets none again (vfs_link); one that was made without a name may get its first.
        let may_be_named = object.mount().is_none() && !object.is_removed();
        if !may_be_named && object.inode().stat()?.links == 0 {
            return Err(Errno::ENOENT);
        }
        let operations = directory.inode().as_dir().ok_or(Errno::ENOTDIR)?;
        operations.link(&name, object.inode())?;
        if object.mount().is_none() {
            object.give_up_names();
        }
        self.watches().tell_own(object.inode(), Mask::ATTRIB);
        self.watches().tell_name(directory.inode(), &name, object.inode(), Mask::CREATE);
        Ok(())
    }

    /// Removes a name that is not a directory's (unlink).
    pub fn unlink(&self, task: &CurrentTask<'_>, at: At<'_>) -> Result<(), Errno> {
        let Tail::Name { directory, name, slash } = self.walk_to_tail(task, at.base, at.path)? else {
            return Err(Errno::EISDIR);
        };
        if directory.is_read_only() {
            return Err(Errno::EROFS);
        }
        let victim = self.child(Some(task), &directory, &name)?;
        if slash {
            return Err(if victim.kind() == FileKind::Directory { Errno::EISDIR } else { Errno::ENOTDIR });
        }
        check_delete(&task.credentials(), &directory, &victim)?;
        if victim.kind() == FileKind::Directory {
            return Err(Errno::EISDIR);
        }
        self.remove(&directory, &name, &victim)
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, task: &CurrentTask<'_>, at: At<'_>) -> Result<(), Errno> {
        let (directory, name) = match self.walk_to_tail(task, at.base, at.path)? {
            Tail::Name { directory, name, .. } => (directory, name),
            Tail::Place(_, Special::Dot) => return Err(Errno::EINVAL),
            Tail::Place(_, Special::DotDot) => return Err(Errno::ENOTEMPTY),
            Tail::Place(_, Special::Root) => return Err(Errno::EBUSY),
        };
        if directory.is_read_only() {
            return Err(Errno::EROFS);
        }
        let victim = self.child(Some(task), &directory, &name)?;
        check_delete(&task.credentials(), &directory, &victim)?;
        if victim.kind() != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        self.remove(&directory, &name, &victim)
    }

    fn remove(&self, directory: &Location, name: &[u8], victim: &Location) -> Result<(), Errno> {
        let renames = self.renaming();
        if is_mount_root(directory, victim) {
            return Err(Errno::EBUSY);
        }
        // The walk may have let go of the object's descriptor; whoever still has the object open keeps it reachable.
        let operations = directory.inode().as_dir().ok_or(Errno::ENOTDIR)?;
        self.usage().before_unnaming(victim.inode());
        operations.remove(name, victim.kind() == FileKind::Directory)?;
        directory.entry().removed(name);
        drop(renames);
        self.detach_from(victim);
        if victim.kind() != FileKind::Directory {
            self.watches().tell_own(victim.inode(), Mask::ATTRIB);
        }
        self.usage().unnamed(victim.inode());
        self.watches().tell_name(directory.inode(), name, victim.inode(), Mask::DELETE);
        Ok(())
    }

    /// Moves or exchanges names (renameat2).
    pub fn rename(&self, task: &CurrentTask<'_>, from: At<'_>, to: At<'_>, flags: u32) -> Result<(), Errno> {
        let exchange = flags & RENAME_EXCHANGE != 0;
        let keep_target = flags & RENAME_NOREPLACE != 0;
        let old_tail = self.walk_to_tail(task, from.base, from.path)?;
        let new_tail = self.walk_to_tail(task, to.base, to.path)?;
        check_same_mount(&old_tail, &new_tail)?;
        let Tail::Name { directory: old_directory, name: old_name, slash: old_slash } = old_tail else {
            return Err(Errno::EBUSY);
        };
        let Tail::Name { directory: new_directory, name: new_name, slash: new_slash } = new_tail else {
            return Err(if keep_target { Errno::EEXIST } else { Errno::EBUSY });
        };
        if old_directory.is_read_only() {
            return Err(Errno::EROFS);
        }
        let renames = self.renaming();
        let old = self.child(Some(task), &old_directory, &old_name)?;
        let new = match self.child(Some(task), &new_directory, &new_name) {
            Ok(_) if keep_target => return Err(Errno::EEXIST),
            Ok(new) => Some(new),
            Err(Errno::ENOENT) if exchange => return Err(Errno::ENOENT),
            Err(Errno::ENOENT) => None,
            Err(error) => return Err(error),
        };
        let moves_directory = old.kind() == FileKind::Directory;
        let replaces_directory = new.as_ref().is_some_and(|new| new.kind() == FileKind::Directory);
        if exchange && new_slash && !replaces_directory {
            return Err(Errno::ENOTDIR);
        }
        if !moves_directory && (old_slash || (!exchange && new_slash)) {
            return Err(Errno::ENOTDIR);
        }
        if new_directory.entry().is_within(old.entry()) {
            return Err(Errno::EINVAL);
        }
        if let Some(new) = &new
            && old_directory.entry().is_within(new.entry())
        {
            return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        if new.as_ref().is_some_and(|new| same_object(new, &old)) {
            return Ok(());
        }
        let who = task.credentials();
        check_delete(&who, &old_directory, &old)?;
        match &new {
            None => check_create(&who, &new_directory)?,
            Some(new) => {
                check_delete(&who, &new_directory, new)?;
                if !exchange && moves_directory && !replaces_directory {
                    return Err(Errno::ENOTDIR);
                }
                if !exchange && !moves_directory && replaces_directory {
                    return Err(Errno::EISDIR);
                }
            }
        }
        // A directory that changes its parent is written: its `..` changes.
        if !old_directory.is_same(&new_directory) {
            if moves_directory {
                access::check_inode(&who, old.inode().as_ref(), Want::WRITE)?;
            }
            if exchange
                && replaces_directory
                && let Some(new) = &new
            {
                access::check_inode(&who, new.inode().as_ref(), Want::WRITE)?;
            }
        }
        if is_mount_root(&old_directory, &old) || new.as_ref().is_some_and(|new| is_mount_root(&new_directory, new)) {
            return Err(Errno::EBUSY);
        }
        let source = old_directory.inode().as_dir().ok_or(Errno::ENOTDIR)?;
        let target = new_directory.inode().as_dir().ok_or(Errno::ENOTDIR)?;
        if let Some(new) = &new {
            self.usage().before_unnaming(new.inode());
        }
        source.rename(&old_name, target, &new_name, flags)?;
        let (source, target) = (old_directory.entry(), new_directory.entry());
        if exchange {
            source.exchanged(&old_name, target, &new_name);
        } else {
            source.moved(&old_name, target, &new_name);
        }
        drop(renames);
        if let Some(new) = new.as_ref().filter(|_| !exchange) {
            self.detach_from(new);
        }
        let from = (old_directory.inode(), &old_name[..]);
        let to = (new_directory.inode(), &new_name[..]);
        let replaced = new.as_ref().filter(|_| !exchange).map(Location::inode);
        self.watches().tell_move(from, to, old.inode(), replaced);
        match &new {
            Some(new) if exchange => self.watches().tell_move(to, from, new.inode(), None),
            Some(new) => self.usage().unnamed(new.inode()),
            None => {}
        }
        Ok(())
    }

    /// Walks to an object for a call that takes `AT_SYMLINK_NOFOLLOW` or `AT_SYMLINK_FOLLOW`.
    pub fn find(&self, task: &CurrentTask<'_>, at: At<'_>, last: LastLink) -> Result<Location, Errno> {
        self.walk(task, at.base, at.path, last)
    }
}

fn same_object(a: &Location, b: &Location) -> bool {
    Arc::ptr_eq(a.inode(), b.inode())
}

/// Tells whether what was found in a directory is mounted there.
fn is_mount_root(directory: &Location, found: &Location) -> bool {
    match (directory.mount(), found.mount()) {
        (Some(directory), Some(found)) => !Arc::ptr_eq(directory, found),
        _ => true,
    }
}

fn check_same_mount(old: &Tail, new: &Tail) -> Result<(), Errno> {
    let mount = |tail: &Tail| match tail {
        Tail::Name { directory, .. } => directory.mount().cloned(),
        Tail::Place(place, _) => place.mount().cloned(),
    };
    // The parents count, and `.` and `..` are `EBUSY` whichever mount they lead to.
    let is_dots = |tail: &Tail| matches!(tail, Tail::Place(_, Special::Dot | Special::DotDot));
    if is_dots(old) || is_dots(new) {
        return Ok(());
    }
    match (mount(old), mount(new)) {
        (Some(old), Some(new)) if Arc::ptr_eq(&old, &new) => Ok(()),
        _ => Err(Errno::EXDEV),
    }
}

/// May an entry be made in the directory (may_create)?
fn check_create(who: &Credentials, directory: &Location) -> Result<(), Errno> {
    if directory.is_removed() {
        return Err(Errno::ENOENT);
    }
    access::check_inode(who, directory.inode().as_ref(), Want::WRITE | Want::EXECUTE)
}

/// May the entry be removed from the directory (may_delete)?
fn check_delete(who: &Credentials, directory: &Location, victim: &Location) -> Result<(), Errno> {
    let parent = directory.inode();
    access::check_inode(who, parent.as_ref(), Want::WRITE | Want::EXECUTE)?;
    access::check_sticky(who, parent.permissions()?, victim.inode().permissions()?)
}

/// May a link to the object be made by who does not own it (may_linkat, with fs.protected_hardlinks on as everywhere)?
fn check_linkable(who: &Credentials, object: &dyn Inode) -> Result<(), Errno> {
    let permissions = object.permissions()?;
    if access::owns(who, permissions) || who.has(capability::DAC_OVERRIDE) {
        return Ok(());
    }
    let special =
        object.kind() != FileKind::Regular || permissions.mode & 0o4000 != 0 || permissions.mode & 0o2010 == 0o2010;
    let usable = access::check(who, permissions, object.kind(), Want::READ | Want::WRITE).is_ok();
    if special || !usable { Err(Errno::EPERM) } else { Ok(()) }
}
