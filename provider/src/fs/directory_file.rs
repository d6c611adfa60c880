//! The open file of a directory whose entries have positions of their own ([`super::Directory::list`]).

use super::{DirEntry, DirSink, File, FileKind, Inode, Sink, Source};
use crate::errno::Errno;
use crate::task::CurrentTask;
use std::sync::Arc;

/// How many positions `.` and `..` take.
const DOTS: u64 = 2;

/// Moves positions by [`DOTS`].
struct BehindDots<'a>(&'a mut dyn DirSink);

impl DirSink for BehindDots<'_> {
    fn entry(&mut self, entry: &DirEntry<'_>) -> bool {
        self.0.entry(&DirEntry { next: entry.next.saturating_add(DOTS), ..*entry })
    }
}

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
        let directory = self.inode.as_dir().ok_or(Errno::ENOTDIR)?;
        let itself = self.inode.stat()?.inode;
        // Positions 0 and 1 are `.` and `..` (whose inode number is not worth a look), the directory's own follow.
        for (at, name) in [(0, &b"."[..]), (1, b"..")] {
            let entry = DirEntry { name, inode: itself, kind: FileKind::Directory, next: at + 1 };
            if position <= at && !sink.entry(&entry) {
                return Ok(());
            }
        }
        let mut behind_dots = BehindDots(sink);
        directory.list(task, position.saturating_sub(DOTS), &mut behind_dots)
    }

    fn size(&self) -> Result<u64, Errno> {
        // SEEK_END on a directory: the largest position there is.
        Ok(u64::from(u32::MAX) >> 1)
    }

    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }
}
