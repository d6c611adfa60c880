//! Directories.

use super::{FileKind, Node};
use crate::errno::Errno;
use crate::fs::{
    AttributeChange, DirEntry, DirSink, Directory, DirectoryFile, File, Inode, NewNode, OpenFlags, Permissions, Stat,
};
use crate::task::CurrentTask;
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// What a directory contains.
pub(crate) trait Entries: Send + Sync + Debug + 'static {
    /// Finds an entry; `ENOENT`.
    fn find(&self, task: &CurrentTask<'_>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno>;

    /// Lists the entries whose position is at least `from`, in ascending order of position.
    fn list(&self, task: &CurrentTask<'_>, from: u64) -> Result<Vec<Entry>, Errno>;

    /// The directory's number of links: two and one for each directory in it.
    fn links(&self) -> u64 {
        2
    }

    /// The size stat(2) shows.
    fn size(&self) -> u64 {
        0
    }
}

/// An entry as a listing shows it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where it stands: the next listing starts behind it.
    pub(crate) position: u64,
    /// The name.
    pub(crate) name: Vec<u8>,
    /// The inode number.
    pub(crate) inode: u64,
    /// The type.
    pub(crate) kind: FileKind,
}

/// A directory.
#[derive(Debug)]
pub(crate) struct DirInode<E> {
    node: Node,
    entries: E,
}

impl<E: Entries> DirInode<E> {
    /// Makes a directory.
    pub(crate) fn new(node: Node, entries: E) -> Arc<Self> {
        Arc::new(Self { node, entries })
    }

    /// What it contains.
    pub(crate) fn entries(&self) -> &E {
        &self.entries
    }
}

impl<E: Entries> Inode for DirInode<E> {
    fn kind(&self) -> FileKind {
        FileKind::Directory
    }

    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.node.stat(FileKind::Directory, self.entries.size(), self.entries.links()))
    }

    /// Does not count the entries, as stat does: every walk through the directory asks.
    fn permissions(&self) -> Result<Permissions, Errno> {
        Ok(self.node.permissions())
    }

    fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        self.node.change(change)
    }

    fn as_dir(&self) -> Option<&dyn Directory> {
        Some(self)
    }

    fn open(self: Arc<Self>, _task: &CurrentTask<'_>, _flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        Ok(Arc::new(DirectoryFile::new(self)))
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        Ok(Vec::new())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<E: Entries> Directory for DirInode<E> {
    fn lookup(&self, task: &CurrentTask<'_>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        self.entries.find(task, name)
    }

    fn create(&self, _name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        let flavour = self.node.home().flavour();
        Err(match node.kind {
            FileKind::Directory | FileKind::Symlink => flavour.make,
            _ => flavour.create,
        })
    }

    fn link(&self, _name: &[u8], _inode: &Arc<dyn Inode>) -> Result<(), Errno> {
        Err(self.node.home().flavour().make)
    }

    fn remove(&self, _name: &[u8], _directory: bool) -> Result<(), Errno> {
        Err(self.node.home().flavour().remove)
    }

    fn rename(&self, _name: &[u8], _to: &dyn Directory, _to_name: &[u8], _flags: u32) -> Result<(), Errno> {
        Err(self.node.home().flavour().make)
    }

    fn list(&self, task: &CurrentTask<'_>, position: u64, sink: &mut dyn DirSink) -> Result<(), Errno> {
        for entry in self.entries.list(task, position)? {
            let next = entry.position + 1;
            if !sink.entry(&DirEntry { name: &entry.name, inode: entry.inode, kind: entry.kind, next }) {
                break;
            }
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Entries that are made once.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    entries: Vec<(String, Arc<dyn Inode>)>,
    directories: u64,
}

impl Tree {
    /// Adds an entry; entries are listed in the order in which they were added.
    pub(crate) fn add(&mut self, name: &str, inode: Arc<dyn Inode>) {
        if inode.kind() == FileKind::Directory {
            self.directories += 1;
        }
        self.entries.push((name.to_owned(), inode));
    }

    /// Sorts the entries as procfs lists them: short names first.
    pub(crate) fn sort_as_procfs(&mut self) {
        self.entries.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    }

    /// Finds an entry.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&Arc<dyn Inode>> {
        self.entries.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, inode)| inode)
    }
}

impl Entries for Tree {
    fn find(&self, _task: &CurrentTask<'_>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        self.get(name).cloned().ok_or(Errno::ENOENT)
    }

    fn list(&self, _task: &CurrentTask<'_>, from: u64) -> Result<Vec<Entry>, Errno> {
        let entries = (0u64..).zip(&self.entries).filter(|(position, _)| *position >= from);
        entries
            .map(|(position, (name, inode))| {
                let name = name.as_bytes().to_vec();
                Ok(Entry { position, name, inode: inode.stat()?.inode, kind: inode.kind() })
            })
            .collect()
    }

    fn links(&self) -> u64 {
        2 + self.directories
    }
}
