//! Symbolic links.

use super::{FileKind, Node};
use crate::errno::Errno;
use crate::fs::{AttributeChange, File, Inode, Link, LinkTarget, OpenFlags, Stat};
use crate::task::CurrentTask;
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// Where a pseudo link leads.
pub(crate) trait Target: Send + Sync + Debug + 'static {
    /// The text that readlink(2) returns.
    fn text(&self, reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno>;

    /// Where a path walk goes on.
    fn follow(&self, walker: &CurrentTask<'_>) -> Result<LinkTarget, Errno> {
        self.text(walker).map(LinkTarget::Path)
    }

    /// The size stat(2) shows; procfs shows 0 for links that depend on who looks, and 64 for descriptors.
    fn size(&self) -> u64 {
        0
    }
}

impl Target for &'static [u8] {
    fn text(&self, _reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
        Ok(self.to_vec())
    }

    fn size(&self) -> u64 {
        u64::try_from(self.len()).unwrap_or(u64::MAX)
    }
}

/// A symbolic link.
#[derive(Debug)]
pub(crate) struct LinkInode<T> {
    node: Node,
    target: T,
}

impl<T: Target> LinkInode<T> {
    /// Makes a link.
    pub(crate) fn new(node: Node, target: T) -> Arc<Self> {
        Arc::new(Self { node, target })
    }
}

impl<T: Target> Inode for LinkInode<T> {
    fn kind(&self) -> FileKind {
        FileKind::Symlink
    }

    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.node.stat(FileKind::Symlink, self.target.size(), 1))
    }

    fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        self.node.change(change)
    }

    fn as_link(&self) -> Option<&dyn Link> {
        Some(self)
    }

    fn open(self: Arc<Self>, _task: &CurrentTask<'_>, _flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        Err(Errno::ELOOP)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<T: Target> Link for LinkInode<T> {
    fn text(&self, task: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
        self.target.text(task)
    }

    fn follow(&self, task: &CurrentTask<'_>) -> Result<LinkTarget, Errno> {
        self.target.follow(task)
    }
}
