//! Copy-up: an object of the lower layer gets a copy in the upper one, under all the directories that lead to it.

use super::OverlayInode;
use super::inode::Layers;
use super::upper::{PRIVATE, Upper, contents};
use crate::errno::Errno;
use crate::fs::host::HostInode;
use crate::fs::{FileKind, Inode, NewNode, Stat};
use std::os::fd::AsFd;
use std::sync::Arc;

impl OverlayInode {
    /// Makes sure that the object is in the upper layer, and returns it there. `size`: the file is about to get this size, so no
    /// more of it need be copied.
    pub(super) fn copy_up(&self, size: Option<u64>) -> Result<Upper, Errno> {
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        let _changes = self.union.changes.lock();
        self.copy_up_locked(size)
    }

    /// [`Self::copy_up`] for who holds the lock for changes.
    pub(super) fn copy_up_locked(&self, size: Option<u64>) -> Result<Upper, Errno> {
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        // From the first directory that is in the upper layer down to the object.
        let mut chain: Vec<Arc<OverlayInode>> = Vec::new();
        let mut at = self.place.lock().clone();
        while let Some((parent, _)) = at {
            if parent.upper().is_some() {
                break;
            }
            at = parent.place.lock().clone();
            chain.push(parent);
        }
        for directory in chain.iter().rev() {
            directory.copy_one(None)?;
        }
        self.copy_one(size)
    }

    /// Copies this object; its directory is in the upper layer.
    fn copy_one(&self, size: Option<u64>) -> Result<Upper, Errno> {
        let Layers { lower, upper, .. } = self.layers();
        if let Some(upper) = upper {
            return Ok(upper);
        }
        let lower = lower.ok_or(Errno::EIO)?;
        let stat = lower.stat()?;
        let target = if stat.kind == FileKind::Symlink { lower.link_text()? } else { Vec::new() };
        let node = NewNode {
            kind: stat.kind,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            rdev: stat.rdev,
            target: &target,
        };
        let prepare = |copy: &Upper| prepare(&lower, &stat, copy, size);
        let place = self.place.lock().clone();
        let has_other_names = stat.links > 1 && stat.kind != FileKind::Directory;
        let parking = self.union.parking.as_ref().filter(|_| has_other_names);
        let copy = match place {
            Some((parent, name)) => {
                let directory = parent.upper().ok_or(Errno::EIO)?;
                let before = directory.stat()?;
                let copy = match parking {
                    Some(parking) => {
                        let copy = parking.make(&node, prepare)?;
                        directory.name(&name, &copy).inspect_err(|_| parking.remove(&copy))?;
                        copy
                    }
                    None => directory.make(&name, &node, prepare)?,
                };
                // Copying is no change of the directory that a program may see.
                if let Upper::Host(_) = &directory {
                    directory.imitate(&before)?;
                }
                copy
            }
            // Unlinked, and still open or known by other names.
            None => match parking {
                Some(parking) => parking.make(&node, prepare)?,
                None => {
                    let copy = self.union.upper_root.make_unlinked(&node)?;
                    prepare(&copy)?;
                    copy
                }
            },
        };
        self.copied(copy.clone(), stat.links)?;
        Ok(copy)
    }
}

/// Makes a new object in the upper layer what the lower one is.
fn prepare(lower: &HostInode, stat: &Stat, copy: &Upper, size: Option<u64>) -> Result<(), Errno> {
    if stat.kind == FileKind::Regular {
        let bytes = size.map_or(stat.size, |size| size.min(stat.size));
        if bytes > 0 {
            copy.fill(contents(lower)?.as_fd(), bytes)?;
        }
    }
    if matches!(stat.kind, FileKind::Regular | FileKind::Directory) {
        copy_xattrs(lower, copy)?;
    }
    copy.imitate(stat)
}

/// Copies the attributes that a program may have set. A host file system without any is no error.
fn copy_xattrs(lower: &HostInode, copy: &Upper) -> Result<(), Errno> {
    let names = match lower.list_xattr() {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return Ok(()),
        names => names?,
    };
    for name in names.iter().filter(|name| name.starts_with(b"user.") && !name.starts_with(PRIVATE)) {
        copy.inode().set_xattr(name, &lower.get_xattr(name)?, 0)?;
    }
    Ok(())
}
