//! The mounted instance as the mount table sees it.

use crate::errno::Errno;
use crate::fs::{FileSystem, FsStat, Inode};
use std::sync::Arc;

/// A pseudo file system.
#[derive(Debug)]
pub(crate) struct PseudoFs {
    root: Arc<dyn Inode>,
    type_name: &'static str,
    magic: u64,
}

impl PseudoFs {
    /// Makes a file system of a root directory; `magic` is its number of <linux/magic.h>.
    pub(crate) fn new(root: Arc<dyn Inode>, type_name: &'static str, magic: u64) -> Arc<Self> {
        Arc::new(Self { root, type_name, magic })
    }
}

impl FileSystem for PseudoFs {
    fn root(&self) -> Arc<dyn Inode> {
        Arc::clone(&self.root)
    }

    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn stat(&self) -> Result<FsStat, Errno> {
        Ok(FsStat::without_storage(self.magic))
    }
}
