//! The open file of a directory whose entries have positions of their own ([`super::Directory::list`]).

use super::{DirSink, File, Inode, Sink, Source};
use crate::errno::Errno;
use crate::task::CurrentTask;
use std::sync::Arc;

/// An open directory that lists what its inode lists.
#[derive(Debug)]
pub struct DirectoryFile {
    inode: Arc<dyn Inode>,
}

impl DirectoryFile {
    /// Opens a directory's inode.
    pub fn new(inode: Arc<dyn Inode>) -> Self {
        Self { inode }
    }
}

impl File for DirectoryFile {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, _to: &mut dyn Sink) -> Result<usize, Errno> {
        Err(Errno::EISDIR)
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }

    fn read_dir(&self, task: &CurrentTask<'_>, position: u64, sink: &mut dyn DirSink) -> Result<(), Errno> {
        self.inode.as_dir().ok_or(Errno::ENOTDIR)?.list(task, position, sink)
    }

    fn size(&self) -> Result<u64, Errno> {
        // SEEK_END on a directory: the largest position there is.
        Ok(u64::from(u32::MAX) >> 1)
    }

    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }
}
