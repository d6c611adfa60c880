//! Trees of mounts that only an open file keeps: what open_tree(2) copies and fsmount(2) makes, until move_mount(2) puts them
//! somewhere.

use super::Depth;
use super::attach::Unbindable;
use super::table::{MountTable, NewMount};
use crate::errno::Errno;
use crate::fs::location::Location;
use crate::fs::{File, Namespace, OpenFile, OpenFlags, Sink, Source};
use crate::task::CurrentTask;
use std::fmt;
use std::sync::Arc;

/// An open file that stands for a tree's root: as O_PATH, but that the tree goes with it unless it was put somewhere.
struct DetachedTree {
    table: Arc<MountTable>,
    root: u32,
}

impl File for DetachedTree {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, _to: &mut dyn Sink) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }
}

impl Drop for DetachedTree {
    fn drop(&mut self) {
        let mut tree = self.table.tree();
        let alone = tree.nodes.get(&self.root).is_some_and(|node| node.namespace == 0 && node.parent.is_none());
        let all = if alone { tree.subtree(self.root) } else { Vec::new() };
        let gone = self.table.forget(&mut tree, &all);
        drop(tree);
        drop(gone);
    }
}

impl fmt::Debug for DetachedTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachedTree").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Namespace {
    fn open_detached(&self, root: u32, place: Location) -> Arc<OpenFile> {
        OpenFile::new(Arc::new(DetachedTree { table: self.mounts.clone(), root }), place, OpenFlags::PATH)
    }

    /// Copies what is mounted at a place, with all below it or not, and opens the copy (OPEN_TREE_CLONE).
    pub fn open_copy(&self, task: &CurrentTask<'_>, at: &Location, depth: Depth) -> Result<Arc<OpenFile>, Errno> {
        let namespace = task.fs().mounts();
        let mount = at.mount().ok_or(Errno::EINVAL)?.id;
        let mut tree = self.mounts.tree();
        let node = tree.nodes.get(&mount).ok_or(Errno::EINVAL)?;
        if node.unbindable || (node.namespace != 0 && node.namespace != namespace.id()) {
            return Err(Errno::EINVAL);
        }
        self.mounts.check_detached(&tree)?;
        let copy = match depth {
            Depth::One => self.mounts.copy_one(&mut tree, mount, at.entry()),
            Depth::Tree => self.mounts.copy_tree(&mut tree, mount, at.entry(), Unbindable::LeftOut)?.0,
        };
        let place = tree.node(copy).mount.top();
        drop(tree);
        Ok(self.open_detached(copy, place))
    }

    /// Makes a mount that is nowhere yet, and opens it (fsmount).
    pub(in crate::fs) fn open_new(&self, new: &NewMount<'_>) -> Result<Arc<OpenFile>, Errno> {
        let mut tree = self.mounts.tree();
        self.mounts.check_detached(&tree)?;
        let id = tree.add(&new.superblock, &new.superblock.root, (new.source, new.flags), self.mounts.usage());
        let place = tree.node(id).mount.top();
        drop(tree);
        Ok(self.open_detached(id, place))
    }
}
