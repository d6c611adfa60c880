//! The kit that procfs, sysfs and devpts are made of: directories and links made at start or on demand, and files whose content is
//! a function that renders text.
//!
//! [`Super`] is one mounted instance: it gives out inode numbers and knows the device number. [`Node`] holds what every object has.
//! [`TextInode`] renders a [`Text`] at each open and each return to offset 0, as Linux's seq_file does. [`DirInode`] asks its
//! [`Entries`] at each look-up, [`Tree`] being the fixed ones. Nothing here takes a lock while a [`Text`] renders.

pub(crate) mod bits;
mod device;
mod dir;
mod filesystem;
mod lazy;
mod leaves;
mod link;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use device::DeviceInode;
pub(crate) use dir::{DirInode, Entries, Entry, Tree};
pub(crate) use filesystem::PseudoFs;
pub(crate) use lazy::Lazy;
pub(crate) use leaves::{Leaf, Look, grow};
pub(crate) use link::{LinkInode, Target};
pub(crate) use text::{Seeks, Text, TextInode};

use super::{AttributeChange, FileKind, Permissions, Stat, Timestamp};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The first inode number of objects that are made once: Linux's PROC_DYNAMIC_FIRST. Those derived from a process id lie below.
pub(crate) const FIRST_FIXED_INODE: u64 = 0xf000_0000;

/// One instance of a pseudo file system.
#[derive(Debug)]
pub(crate) struct Super {
    device: u64,
    made: Timestamp,
    next_inode: AtomicU64,
    flavour: Flavour,
}

/// What file systems of one type have in common: how they refuse that entries are made or removed, and their block size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flavour {
    /// For open(2) with O_CREAT and for mknod(2).
    pub(crate) create: Errno,
    /// For mkdir(2), symlink(2), link(2) and rename(2).
    pub(crate) make: Errno,
    /// For unlink(2) and rmdir(2).
    pub(crate) remove: Errno,
    /// What stat(2) shows as st_blksize.
    pub(crate) block_size: u32,
}

impl Flavour {
    /// procfs: its look-up of a new name fails first.
    pub(crate) const PROC: Self =
        Self { create: Errno::ENOENT, make: Errno::ENOENT, remove: Errno::EPERM, block_size: 1024 };
    /// sysfs.
    pub(crate) const SYS: Self =
        Self { create: Errno::EACCES, make: Errno::EPERM, remove: Errno::EPERM, block_size: 4096 };
    /// devpts.
    pub(crate) const PTS: Self = Self { block_size: 1024, ..Self::SYS };
}

impl Super {
    /// Makes an instance that shows `device` as st_dev and `made` as the time of all its objects.
    pub(crate) fn new(device: u64, made: Timestamp, flavour: Flavour) -> Arc<Self> {
        Arc::new(Self { device, made, next_inode: AtomicU64::new(FIRST_FIXED_INODE), flavour })
    }

    /// What it has in common with others of its type.
    pub(crate) fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Makes the attributes of an object with a number of its own.
    pub(crate) fn node(self: &Arc<Self>, mode: u32) -> Node {
        let inode = self.next_inode.fetch_add(1, Ordering::Relaxed);
        self.node_numbered(inode, mode, Owner::ROOT)
    }

    /// Makes the attributes of an object with a given number and owner.
    pub(crate) fn node_numbered(self: &Arc<Self>, inode: u64, mode: u32, owner: Owner) -> Node {
        let mutable = Mutable { mode, owner, accessed: self.made, modified: self.made, changed: self.made };
        Node { home: Arc::clone(self), inode, mutable: Mutex::new(Rank::Leaf, mutable) }
    }
}

/// To whom an object belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
}

impl Owner {
    /// The superuser.
    pub(crate) const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// What every pseudo object has: where it lives, its number, and attributes that chmod, chown and utimensat change until it is
/// looked up anew.
#[derive(Debug)]
pub(crate) struct Node {
    home: Arc<Super>,
    inode: u64,
    mutable: Mutex<Mutable>,
}

#[derive(Clone, Copy, Debug)]
struct Mutable {
    mode: u32,
    owner: Owner,
    accessed: Timestamp,
    modified: Timestamp,
    changed: Timestamp,
}

impl Node {
    /// The instance it belongs to.
    pub(crate) fn home(&self) -> &Arc<Super> {
        &self.home
    }

    /// The attributes of an object of this kind, size and number of links.
    pub(crate) fn stat(&self, kind: FileKind, size: u64, links: u64) -> Stat {
        let mutable = *self.mutable.lock();
        Stat {
            device: self.home.device,
            inode: self.inode,
            kind,
            mode: mutable.mode,
            links,
            uid: mutable.owner.uid,
            gid: mutable.owner.gid,
            rdev: 0,
            size,
            block_size: self.home.flavour.block_size,
            blocks: 0,
            accessed: mutable.accessed,
            modified: mutable.modified,
            changed: mutable.changed,
            born: None,
        }
    }

    /// What a permission check needs.
    pub(crate) fn permissions(&self) -> Permissions {
        let Mutable { mode, owner, .. } = *self.mutable.lock();
        Permissions { mode, uid: owner.uid, gid: owner.gid }
    }

    /// Changes attributes. A size is accepted and ignored, as O_TRUNC on such files is.
    pub(crate) fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        let mut mutable = self.mutable.lock();
        if let Some(mode) = change.mode {
            mutable.mode = mode & 0o7777;
        }
        if let Some(uid) = change.uid {
            mutable.owner.uid = uid;
        }
        if let Some(gid) = change.gid {
            mutable.owner.gid = gid;
        }
        if let Some(accessed) = change.accessed {
            mutable.accessed = accessed;
        }
        if let Some(modified) = change.modified {
            mutable.modified = modified;
        }
        Ok(())
    }
}
