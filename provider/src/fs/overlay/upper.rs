//! The upper layer of the overlay: in memory, or a host directory that keeps the changes.
//!
//! The format is overlayfs' with `userxattr`: a whiteout is a character device 0:0, a directory that hides the one below has
//! `user.overlay.opaque`, one that was renamed names the lower directory it goes on with in `user.overlay.redirect`.

use super::super::host::HostInode;
use super::super::tmp::TmpInode;
use crate::errno::Errno;
use crate::fs::{AttributeChange, Directory, File, FileKind, Inode, NewNode, OpenFlags, RENAME_EXCHANGE, Stat};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Names of extended attributes that are the overlay's own.
pub(super) const PRIVATE: &[u8] = b"user.overlay.";
const OPAQUE: &[u8] = b"user.overlay.opaque";
const REDIRECT: &[u8] = b"user.overlay.redirect";
/// renameat2(2)'s RENAME_WHITEOUT.
const RENAME_WHITEOUT: u32 = 4;

/// An object of the upper layer.
#[derive(Clone, Debug)]
pub(super) enum Upper {
    Memory(Arc<TmpInode>),
    Host(Arc<HostInode>),
}

/// An entry: its name, and what it leads to.
pub(super) type Named = (Box<[u8]>, Upper);

/// A whiteout as a node.
const WHITEOUT: NewNode<'static> =
    NewNode { kind: FileKind::CharDevice, mode: 0, uid: 0, gid: 0, rdev: 0, target: b"" };

impl Upper {
    pub(super) fn inode(&self) -> &dyn Inode {
        match self {
            Self::Memory(inode) => inode.as_ref(),
            Self::Host(inode) => inode.as_ref(),
        }
    }

    pub(super) fn shared(&self) -> Arc<dyn Inode> {
        match self {
            Self::Memory(inode) => inode.clone(),
            Self::Host(inode) => inode.clone(),
        }
    }

    /// Where the object lies in the monitor's memory: its identity while somebody holds it.
    pub(super) fn address(&self) -> usize {
        match self {
            Self::Memory(inode) => Arc::as_ptr(inode).addr(),
            Self::Host(inode) => Arc::as_ptr(inode).addr(),
        }
    }

    fn directory(&self) -> Result<&dyn Directory, Errno> {
        self.inode().as_dir().ok_or(Errno::ENOTDIR)
    }

    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        self.inode().stat()
    }

    pub(super) fn is_directory(&self) -> bool {
        self.inode().kind() == FileKind::Directory
    }

    pub(super) fn is_whiteout(&self) -> bool {
        self.inode().kind() == FileKind::CharDevice && self.stat().is_ok_and(|stat| stat.rdev == 0)
    }

    /// The entry of that name, whiteouts included; `None` if there is none.
    pub(super) fn child(&self, name: &[u8]) -> Result<Option<Self>, Errno> {
        let found = match self {
            Self::Memory(inode) => inode.child(name).map(Self::Memory),
            Self::Host(inode) => inode.child(name).map(Self::Host),
        };
        match found {
            Ok(child) => Ok(Some(child)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All entries, whiteouts included.
    pub(super) fn listing(&self) -> Result<Vec<Named>, Errno> {
        match self {
            Self::Memory(inode) => {
                Ok(inode.listing()?.into_iter().map(|(name, inode)| (name, Self::Memory(inode))).collect())
            }
            Self::Host(inode) => {
                let names = inode.names()?;
                Ok(names
                    .into_iter()
                    .filter_map(|name| inode.child(&name).ok().map(|it| (name, Self::Host(it))))
                    .collect())
            }
        }
    }

    /// Makes an object that has no name yet; `None` where the layer can only make it under its name (a host directory, node or
    /// link, or a file on a host file system without O_TMPFILE).
    fn make_nameless(&self, node: &NewNode<'_>) -> Result<Option<Self>, Errno> {
        match self {
            Self::Memory(inode) => inode.make_nameless(node).map(Self::Memory).map(Some),
            Self::Host(inode) if node.kind == FileKind::Regular => match inode.make_unnamed(node) {
                Ok(made) => Ok(Some(Self::Host(made))),
                Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL) => Ok(None),
                Err(error) => Err(error),
            },
            Self::Host(_) => Ok(None),
        }
    }

    /// Makes an object, prepares it with `prepare`, and gives it `name`, in the place of a whiteout.
    pub(super) fn make(
        &self,
        name: &[u8],
        node: &NewNode<'_>,
        prepare: impl FnOnce(&Self) -> Result<(), Errno>,
    ) -> Result<Self, Errno> {
        if let Some(made) = self.make_nameless(node)? {
            prepare(&made)?;
            self.name(name, &made)?;
            return Ok(made);
        }
        let Self::Host(directory) = self else { return Err(Errno::EIO) };
        self.clear_whiteout(name)?;
        let made = Self::Host(directory.make(name, node)?);
        match prepare(&made) {
            Ok(()) => Ok(made),
            Err(error) => {
                directory.remove(name, made.is_directory())?;
                Err(error)
            }
        }
    }

    /// Makes an object that will never have a name: an unlinked file is written to.
    pub(super) fn make_unlinked(&self, node: &NewNode<'_>) -> Result<Self, Errno> {
        self.make_nameless(node)?.ok_or(Errno::EOPNOTSUPP)
    }

    /// Gives an object a name (another one), in the place of a whiteout.
    pub(super) fn name(&self, name: &[u8], object: &Self) -> Result<(), Errno> {
        match (self, object) {
            (Self::Memory(directory), Self::Memory(object)) => directory.place(name, object),
            _ => {
                self.clear_whiteout(name)?;
                self.directory()?.link(name, &object.shared())
            }
        }
    }

    fn clear_whiteout(&self, name: &[u8]) -> Result<(), Errno> {
        match self.child(name)? {
            Some(child) if child.is_whiteout() => self.directory()?.remove(name, false),
            _ => Ok(()),
        }
    }

    /// Removes an entry; with `whiteout`, one is left in its place. A directory may hold nothing but whiteouts.
    pub(super) fn remove(&self, name: &[u8], whiteout: bool) -> Result<(), Errno> {
        let child = self.child(name)?;
        if let Some(child) = &child
            && child.is_directory()
        {
            child.clear()?;
        }
        match self {
            Self::Memory(directory) if whiteout => directory.place(name, &directory.make_nameless(&WHITEOUT)?),
            Self::Host(directory) if whiteout => {
                if let Some(child) = child {
                    directory.remove(name, child.is_directory())?;
                }
                directory.make_whiteout(name)
            }
            _ => match child {
                Some(child) => self.directory()?.remove(name, child.is_directory()),
                None => Err(Errno::ENOENT),
            },
        }
    }

    /// Removes the whiteouts of a directory that shows nothing.
    fn clear(&self) -> Result<(), Errno> {
        for (name, child) in self.listing()? {
            if !child.is_whiteout() {
                return Err(Errno::ENOTEMPTY);
            }
            self.directory()?.remove(&name, false)?;
        }
        Ok(())
    }

    /// Moves an entry over a file, a whiteout or a directory that shows nothing; with `whiteout`, one is left where it was.
    pub(super) fn rename(&self, name: &[u8], to: &Self, to_name: &[u8], whiteout: bool) -> Result<(), Errno> {
        if let Some(target) = to.child(to_name)?
            && target.is_directory()
        {
            target.clear()?;
        }
        match (self, to) {
            (Self::Memory(from), Self::Memory(to)) => {
                let leave = if whiteout { Some(from.make_nameless(&WHITEOUT)?) } else { None };
                from.displace(name, to, to_name, leave)
            }
            _ => {
                to.clear_whiteout(to_name)?;
                if !whiteout {
                    return self.directory()?.rename(name, to.directory()?, to_name, 0);
                }
                match self.directory()?.rename(name, to.directory()?, to_name, RENAME_WHITEOUT) {
                    // A host file system without RENAME_WHITEOUT.
                    Err(Errno::EINVAL | Errno::EPERM) => {
                        self.directory()?.rename(name, to.directory()?, to_name, 0)?;
                        self.remove(name, true)
                    }
                    other => other,
                }
            }
        }
    }

    /// Exchanges two entries.
    pub(super) fn exchange(&self, name: &[u8], to: &Self, to_name: &[u8]) -> Result<(), Errno> {
        match (self, to) {
            (Self::Memory(from), Self::Memory(to)) => from.exchange(name, to, to_name),
            _ => self.directory()?.rename(name, to.directory()?, to_name, RENAME_EXCHANGE),
        }
    }

    /// Tells whether the directory hides the one below it.
    pub(super) fn is_opaque(&self) -> bool {
        self.inode().get_xattr(OPAQUE).is_ok_and(|value| value == b"y")
    }

    /// Makes the directory hide whatever lies below its name.
    pub(super) fn set_opaque(&self) -> Result<(), Errno> {
        self.inode().set_xattr(OPAQUE, b"y", 0)
    }

    /// The path in the lower layer that a renamed directory goes on with.
    pub(super) fn redirect(&self) -> Option<Vec<u8>> {
        self.inode().get_xattr(REDIRECT).ok()
    }

    /// Notes the path in the lower layer that the directory goes on with.
    pub(super) fn set_redirect(&self, path: &[u8]) -> Result<(), Errno> {
        self.inode().set_xattr(REDIRECT, path, 0)
    }

    /// Opens a regular file.
    pub(super) fn open(&self, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        match self {
            Self::Memory(inode) => inode.open_file(flags),
            Self::Host(inode) => inode.open_file(flags),
        }
    }

    /// Fills a new file with the first `size` bytes of a host file: one copy.
    pub(super) fn fill(&self, from: BorrowedFd<'_>, size: u64) -> Result<(), Errno> {
        match self {
            Self::Memory(inode) => match inode.object()?.fill_from_host(from, size) {
                Err(vmm::memory::MemoryError::LimitReached) => Err(Errno::ENOSPC),
                other => Ok(other?),
            },
            Self::Host(inode) => inode.fill(from, size),
        }
    }

    /// Gives a copy the attributes of what it was copied from.
    pub(super) fn imitate(&self, stat: &Stat) -> Result<(), Errno> {
        let mode = (stat.kind != FileKind::Symlink).then_some(stat.mode);
        let times = AttributeChange {
            mode,
            accessed: Some(stat.accessed),
            modified: Some(stat.modified),
            ..AttributeChange::default()
        };
        self.inode().change(&times)
    }
}

/// The contents of a lower file, for [`Upper::fill`].
pub(super) fn contents(lower: &HostInode) -> Result<OwnedFd, Errno> {
    lower.open_contents()
}
