//! Device nodes.

use super::{FileKind, Node};
use crate::errno::Errno;
use crate::fs::{AttributeChange, File, Inode, OpenFlags, Stat, dev};
use crate::task::CurrentTask;
use std::any::Any;
use std::sync::Arc;

/// A character device node.
#[derive(Debug)]
pub(crate) struct DeviceInode {
    node: Node,
    rdev: u64,
}

impl DeviceInode {
    /// Makes a node for the device with this number.
    pub(crate) fn new(node: Node, rdev: u64) -> Arc<Self> {
        Arc::new(Self { node, rdev })
    }
}

impl Inode for DeviceInode {
    fn kind(&self) -> FileKind {
        FileKind::CharDevice
    }

    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat { rdev: self.rdev, ..self.node.stat(FileKind::CharDevice, 0, 1) })
    }

    fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        self.node.change(change)
    }

    fn open(self: Arc<Self>, task: &CurrentTask<'_>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        dev::open(task, FileKind::CharDevice, self.rdev, flags)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
