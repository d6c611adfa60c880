//! Objects of no file system that are known by descriptors only: what Linux calls anonymous inodes (epoll, eventfd, inotify, …).
//!
//! All of a sandbox's share one inode, as on Linux: its number says nothing about what a descriptor is, the link in
//! /proc/PID/fd does.

use super::{AttributeChange, File, FileKind, FsStat, Inode, Location, OpenFile, OpenFlags, Stat, Timestamp};
use crate::errno::Errno;
use crate::task::CurrentTask;
use std::any::Any;
use std::sync::{Arc, OnceLock};

/// ANON_INODE_FS_MAGIC (statfs(2)).
const MAGIC: u64 = 0x0904_1934;

/// The one inode.
#[derive(Debug)]
struct AnonymousInode {
    device: u64,
    made: Timestamp,
}

/// Opens a file that has no name; `name` is what its type is called in /proc/PID/fd, as in `anon_inode:[eventfd]`.
pub(crate) fn open_anonymous(file: Arc<dyn File>, name: &str, flags: OpenFlags) -> Arc<OpenFile> {
    static INODE: OnceLock<Arc<AnonymousInode>> = OnceLock::new();
    let make = || Arc::new(AnonymousInode { device: super::tmp::new_device(), made: Timestamp::now() });
    let inode = INODE.get_or_init(make).clone();
    OpenFile::new(file, Location::anonymous(inode, format!("anon_inode:{name}").as_bytes()), flags)
}

impl Inode for AnonymousInode {
    fn kind(&self) -> FileKind {
        FileKind::Anonymous
    }

    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat::without_storage(FileKind::Anonymous, 0o600, self.device, 1, self.made))
    }

    fn file_system_stat(&self) -> Option<Result<FsStat, Errno>> {
        Some(Ok(FsStat::without_storage(MAGIC)))
    }

    fn change(&self, _change: &AttributeChange) -> Result<(), Errno> {
        // It belongs to all of them (anon_inode_setattr).
        Err(Errno::EOPNOTSUPP)
    }

    fn open(self: Arc<Self>, _task: &CurrentTask<'_>, _flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        Err(Errno::ENXIO)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
