//! The object behind an inherited descriptor.

use super::file::{Position, RegularFile, StreamFile};
use super::{HostRegular, HostStream};
use crate::errno::Errno;
use crate::fs::{AttributeChange, File, FileKind, FsStat, Inode, OpenFlags, Stat, host};
use crate::task::CurrentTask;
use rustix::fs::fstatfs;
use std::any::Any;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// What lies behind an inherited descriptor.
#[derive(Clone, Debug)]
pub(super) enum Backing {
    /// A pipe, a socket, a character device.
    Stream(Arc<HostStream>),
    /// A regular file or a block device.
    Regular(Arc<HostRegular>),
}

impl Backing {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stream(host) => host.fd(),
            Self::Regular(host) => host.fd(),
        }
    }

    /// The open file that shares the caller's position.
    pub(super) fn inherited(&self) -> Arc<dyn File> {
        match self {
            Self::Stream(host) => Arc::new(StreamFile(Arc::clone(host))),
            Self::Regular(host) => Arc::new(RegularFile::new(Arc::clone(host), Position::Shared)),
        }
    }
}

/// An inherited object. It is in no directory of the sandbox; /proc/PID/fd leads to it.
#[derive(Debug)]
pub(super) struct HostInode {
    backing: Backing,
}

impl HostInode {
    /// Makes the object.
    pub(super) fn new(backing: Backing) -> Self {
        Self { backing }
    }
}

impl Inode for HostInode {
    fn kind(&self) -> FileKind {
        self.stat().map_or(FileKind::Fifo, |stat| stat.kind)
    }

    fn stat(&self) -> Result<Stat, Errno> {
        host::stat(self.backing.fd())
    }

    fn file_system_stat(&self) -> Option<Result<FsStat, Errno>> {
        let figures = match fstatfs(self.backing.fd()) {
            Ok(figures) => figures,
            Err(error) => return Some(Err(error.into())),
        };
        let count = |value: i64| u64::try_from(value).unwrap_or(0);
        Some(Ok(FsStat {
            magic: count(figures.f_type),
            block_size: count(figures.f_bsize),
            blocks: figures.f_blocks,
            blocks_free: figures.f_bfree,
            blocks_available: figures.f_bavail,
            files: figures.f_files,
            files_free: figures.f_ffree,
            name_max: count(figures.f_namelen),
            ..FsStat::default()
        }))
    }

    fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        match &self.backing {
            Backing::Regular(host) => host.change(change),
            Backing::Stream(_) if change.size.is_some() => Err(Errno::EINVAL),
            Backing::Stream(_) => Err(Errno::EPERM),
        }
    }

    /// Opens it anew (/dev/stdout, /proc/self/fd/1). A regular file gets a position of its own.
    fn open(self: Arc<Self>, _task: &CurrentTask<'_>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        match &self.backing {
            Backing::Regular(host) if host.permits(flags) => {
                Ok(Arc::new(RegularFile::new(Arc::clone(host), Position::Own)))
            }
            Backing::Regular(_) => Err(Errno::EACCES),
            // Linux's answer for a socket (sock_no_open).
            Backing::Stream(_) if self.kind() == FileKind::Socket => Err(Errno::ENXIO),
            Backing::Stream(host) => Ok(Arc::new(StreamFile(Arc::clone(host)))),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
