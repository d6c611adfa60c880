//! Mounts: file systems at places of the tree. The set is fixed when the view is built, so a walk takes no lock for it.

use super::location::{Entry, Location};
use super::usage::Usage;
use super::{FileSystem, Inode};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A file system, or a subtree of one, at a place.
pub struct Mount {
    /// The number that /proc/PID/mountinfo shows.
    pub id: u32,
    /// The file system.
    pub file_system: Arc<dyn FileSystem>,
    /// What was mounted, as /proc/PID/mounts shows it (`overlay`, `tmpfs`, a host path).
    pub source: Vec<u8>,
    /// Whether writes are refused with `EROFS`.
    pub read_only: bool,
    /// Where it is mounted: the mount below and the covered entry; `None` for the root.
    pub(super) place: Option<(Arc<Mount>, Arc<Entry>)>,
    pub(super) root: Arc<Entry>,
    /// Who uses the files of the view.
    pub(super) usage: Arc<Usage>,
}

impl Mount {
    /// Mounts a file system nowhere: what is in it has paths, but no path leads there (the kernel's own mounts).
    pub(super) fn detached(file_system: Arc<dyn FileSystem>, source: &[u8]) -> Arc<Self> {
        /// Below those of the table.
        const ID: u32 = 20;
        let root = Entry::root(file_system.root(), b"/");
        let (source, usage) = (source.to_vec(), Arc::default());
        Arc::new(Self { id: ID, file_system, source, read_only: false, place: None, root, usage })
    }

    /// The path it is mounted at.
    pub fn path(&self) -> Vec<u8> {
        match &self.place {
            Some((mount, entry)) => Location::new(mount.clone(), entry.clone()).path(),
            None => b"/".to_vec(),
        }
    }

    /// The number of the mount below it; its own for the root.
    pub fn parent_id(&self) -> u32 {
        self.place.as_ref().map_or(self.id, |(mount, _)| mount.id)
    }

    /// The root directory (or, for a bind of one file, the file).
    pub fn root(&self) -> &Arc<dyn Inode> {
        self.root.inode()
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount")
            .field("id", &self.id)
            .field("type", &self.file_system.type_name())
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

/// A mount that is to be made.
#[derive(Debug)]
pub(super) struct NewMount<'a> {
    pub(super) file_system: Arc<dyn FileSystem>,
    /// The root; `None`: the file system's.
    pub(super) root: Option<Arc<dyn Inode>>,
    pub(super) source: &'a [u8],
    pub(super) read_only: bool,
}

/// All mounts of a sandbox.
#[derive(Debug)]
pub(super) struct MountTable {
    mounts: Vec<Arc<Mount>>,
    /// By the number of the mount below and the covered entry's address (which the mount keeps alive).
    covered: HashMap<(u32, usize), Arc<Mount>>,
    usage: Arc<Usage>,
}

fn address(entry: &Arc<Entry>) -> usize {
    Arc::as_ptr(entry).addr()
}

impl MountTable {
    /// Makes a table with only a root.
    pub(super) fn new(new: NewMount<'_>) -> Self {
        let mut table = Self { mounts: Vec::new(), covered: HashMap::new(), usage: Arc::default() };
        table.add(new, None);
        table
    }

    /// Mounts at a place; a mount that is there already is covered in turn.
    pub(super) fn mount(&mut self, new: NewMount<'_>, at: Location) {
        let at = self.top(at);
        let Some(mount) = at.mount().cloned() else { return };
        self.add(new, Some((mount, at.entry().clone())));
    }

    fn add(&mut self, new: NewMount<'_>, place: Option<(Arc<Mount>, Arc<Entry>)>) {
        let id = u32::try_from(self.mounts.len()).map_or(u32::MAX, |count| count + 21);
        let inode = new.root.unwrap_or_else(|| new.file_system.root());
        let mount = Arc::new(Mount {
            id,
            file_system: new.file_system,
            source: new.source.to_vec(),
            read_only: new.read_only,
            place,
            root: Entry::root(inode, b"/"),
            usage: self.usage.clone(),
        });
        if let Some((below, entry)) = &mount.place {
            entry.covered.store(true, Ordering::Relaxed);
            self.covered.insert((below.id, address(entry)), mount.clone());
        }
        self.mounts.push(mount);
    }

    /// Who uses the files.
    pub(super) fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// The root of the tree.
    pub(super) fn root(&self) -> Location {
        let mount = &self.mounts[0];
        Location::new(mount.clone(), mount.root.clone())
    }

    /// The root of what is mounted at a place, or the place itself.
    pub(super) fn top(&self, mut at: Location) -> Location {
        while at.entry().is_covered()
            && let Some(mount) = at.mount().and_then(|mount| self.covered.get(&(mount.id, address(at.entry()))))
        {
            at = Location::new(mount.clone(), mount.root.clone());
        }
        at
    }

    /// The mounts in the order they were made, the root first.
    pub(super) fn list(&self) -> &[Arc<Mount>] {
        &self.mounts
    }
}
