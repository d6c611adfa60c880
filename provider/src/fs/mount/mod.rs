//! Mounts: file systems, or parts of them, at places of the tree.
//!
//! A [`Mount`] shows a subtree of a file system; several may show the same one (bind mounts), and then share its entries, so that what
//! is renamed through one is renamed in all. Which mount covers which place is the [`MountTable`]'s: one for all mount namespaces of a
//! sandbox, since a place is a mount and an entry, and no two namespaces share a mount. A [`MountNamespace`] is the set of mounts below
//! one root. [`propagation`] keeps shared subtrees alike, [`operations`] has what mount(2) and its kin do, in Linux's order of errors.
//!
//! Locks: the table's tree (`Mounts`); what walks need of it is in leaves.

mod attach;
mod detached;
mod namespace;
mod operations;
mod propagation;
mod table;
#[cfg(test)]
mod tests;

pub use namespace::{MountNamespace, Sharing};
pub(crate) use namespace::{new_number, option_words};
pub use operations::{Depth, Layer, Propagation, UnmountFlags};
pub(super) use table::{MountTable, NewMount};

use super::location::{Covering, Entry, Location};
use super::usage::Usage;
use super::{FileSystem, Inode};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

bitflags::bitflags! {
    /// What holds for one mount, whatever the file system's other mounts say: the MS_* numbers of mount(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MountFlags: u32 {
        /// Nothing is written.
        const READ_ONLY = 1;
        /// Set-id bits do not count.
        const NOSUID = 2;
        /// Device nodes are not opened.
        const NODEV = 4;
        /// Nothing is executed.
        const NOEXEC = 8;
        /// Symbolic links are not followed.
        const NOSYMFOLLOW = 0x100;
        /// Access times stay.
        const NOATIME = 0x400;
        /// Those of directories stay.
        const NODIRATIME = 0x800;
        /// Access times are brought up to date only if they are older than the last change.
        const RELATIME = 0x20_0000;
    }
}

/// A file system that is mounted at least once, with what all its mounts share.
pub(super) struct SuperBlock {
    pub(super) file_system: Arc<dyn FileSystem>,
    root: Arc<Entry>,
    read_only: AtomicBool,
    /// The caller of the monitor said so: no program changes it.
    fixed: AtomicBool,
}

impl SuperBlock {
    /// Takes a file system; `root` is what its mounts show, if that is not the file system's root.
    pub(super) fn new(file_system: Arc<dyn FileSystem>, root: Option<Arc<dyn Inode>>) -> Arc<Self> {
        let root = Entry::root(root.unwrap_or_else(|| file_system.root()), b"/");
        Arc::new(Self { file_system, root, read_only: AtomicBool::new(false), fixed: AtomicBool::new(false) })
    }

    /// Says that nothing may ever be written through any mount.
    pub(super) fn fix_read_only(&self) {
        self.set_read_only(true);
        self.fixed.store(true, Ordering::Relaxed);
    }

    /// Says whether anything may be written through any mount.
    pub(super) fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Relaxed);
    }
}

/// A file system, or a subtree of one, at a place.
pub struct Mount {
    /// The number that /proc/PID/mountinfo shows.
    pub id: u32,
    /// The file system.
    pub file_system: Arc<dyn FileSystem>,
    /// What was mounted, as /proc/PID/mounts shows it (`overlay`, `tmpfs`, a host path).
    pub source: Vec<u8>,
    pub(super) superblock: Arc<SuperBlock>,
    pub(super) root: Arc<Entry>,
    flags: AtomicU32,
    /// Files that are open for writing through it.
    writers: AtomicU32,
    /// MNT_EXPIRE has asked once, and nobody has used it since.
    pub(super) expiring: AtomicBool,
    /// Where it is mounted; `None` for the root of a namespace and for what is mounted no longer.
    place: Mutex<Option<Place>>,
    /// Who uses the files of the view.
    pub(super) usage: Arc<Usage>,
}

/// Where something is mounted: the mount below and the covered entry.
struct Place {
    below: Arc<Mount>,
    covering: Covering,
}

impl Mount {
    /// Mounts a file system nowhere: what is in it has paths, but no path leads there (the kernel's own mounts).
    pub(super) fn detached(file_system: Arc<dyn FileSystem>, source: &[u8]) -> Arc<Self> {
        /// Below those of the table.
        const ID: u32 = 20;
        let superblock = SuperBlock::new(file_system, None);
        let looks = Looks { source, flags: MountFlags::empty() };
        make(ID, &superblock, &superblock.root, &looks, &Arc::default())
    }

    /// Where it is mounted.
    pub(super) fn place(&self) -> Option<(Arc<Mount>, Arc<Entry>)> {
        self.place.lock().as_ref().map(|place| (place.below.clone(), place.covering.entry().clone()))
    }

    /// The number of the mount below it; its own for the root.
    pub fn parent_id(&self) -> u32 {
        self.place.lock().as_ref().map_or(self.id, |place| place.below.id)
    }

    /// Its root as a place.
    pub(super) fn top(self: &Arc<Self>) -> Location {
        Location::new(self.clone(), self.root.clone())
    }

    /// The path it is mounted at as a task sees it whose root is `root`; `None` if it cannot be reached from there.
    pub fn path_from(self: &Arc<Self>, root: &Location) -> Option<Vec<u8>> {
        let (path, reached) = self.top().path_from(Some(root));
        reached.then_some(path)
    }

    /// The path of its root within its file system.
    pub fn root_path(&self) -> Vec<u8> {
        self.root.path_within()
    }

    /// The root directory (or, for a bind of one file, the file).
    pub fn root(&self) -> &Arc<dyn Inode> {
        self.root.inode()
    }

    /// What holds for it.
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(self.flags.load(Ordering::Relaxed))
    }

    /// Whether writes are refused with `EROFS`, through this mount or through any.
    pub fn is_read_only(&self) -> bool {
        self.flags().contains(MountFlags::READ_ONLY) || self.is_superblock_read_only()
    }

    /// Whether the file system itself is read-only.
    pub fn is_superblock_read_only(&self) -> bool {
        self.superblock.read_only.load(Ordering::Relaxed)
    }

    /// Changes what holds for it; `EBUSY` if it becomes read-only while files are open for writing.
    pub(super) fn set_flags(&self, flags: MountFlags) -> Result<(), Errno> {
        let becomes = flags.contains(MountFlags::READ_ONLY) && !self.flags().contains(MountFlags::READ_ONLY);
        if becomes && self.writers.load(Ordering::SeqCst) > 0 {
            return Err(Errno::EBUSY);
        }
        self.flags.store(flags.bits(), Ordering::Relaxed);
        Ok(())
    }

    /// Tells whether files are open for writing.
    fn has_writers(&self) -> bool {
        self.writers.load(Ordering::SeqCst) > 0
    }
}

/// Counts a file that is open for writing through a mount.
#[derive(Debug)]
pub(super) struct Writing(Arc<Mount>);

impl Writing {
    /// Counts one more.
    pub(super) fn through(mount: &Arc<Mount>) -> Self {
        mount.writers.fetch_add(1, Ordering::SeqCst);
        Self(mount.clone())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.writers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount")
            .field("id", &self.id)
            .field("type", &self.file_system.type_name())
            .field("flags", &self.flags())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SuperBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SuperBlock").field("type", &self.file_system.type_name()).finish_non_exhaustive()
    }
}

/// Makes a mount that is nowhere yet.
fn make(id: u32, superblock: &Arc<SuperBlock>, root: &Arc<Entry>, like: &Looks<'_>, usage: &Arc<Usage>) -> Arc<Mount> {
    Arc::new(Mount {
        id,
        file_system: superblock.file_system.clone(),
        source: like.source.to_vec(),
        superblock: superblock.clone(),
        root: root.clone(),
        flags: AtomicU32::new(like.flags.bits()),
        writers: AtomicU32::new(0),
        expiring: AtomicBool::new(false),
        place: Mutex::new(Rank::Leaf, None),
        usage: usage.clone(),
    })
}

/// What a mount is called and what holds for it.
struct Looks<'a> {
    source: &'a [u8],
    flags: MountFlags,
}
