//! Regular files (and block devices) that the caller handed over.

use crate::errno::Errno;
use crate::fs::{AttributeChange, Mapping, OpenFlags, Sink, Source, host};
use rustix::fs::{SeekFrom, ftruncate, seek};
use rustix::io::fcntl_dupfd_cloexec;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use vmm::memory::HostFile;

/// A host descriptor of a file with contents at offsets.
#[derive(Debug)]
pub(crate) struct HostRegular {
    fd: OwnedFd,
    access: OpenFlags,
}

impl HostRegular {
    /// Takes a descriptor that was opened with these flags.
    pub(crate) fn new(fd: OwnedFd, access: OpenFlags) -> Self {
        Self { fd, access }
    }

    /// The descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Tells whether the descriptor permits what `flags` ask for: a sandbox may do with the caller's file what it was handed it for.
    pub(crate) fn permits(&self, flags: OpenFlags) -> bool {
        (self.access.reads() || !flags.reads()) && (self.access.writes() || !flags.writes())
    }

    /// Reads at an offset, or at the position that the caller's processes share (`None`).
    pub(crate) fn read(&self, offset: Option<u64>, to: &mut dyn Sink) -> Result<usize, Errno> {
        to.fill_from_host(self.fd(), offset)
    }

    /// Writes at an offset, or at the shared position.
    pub(crate) fn write(&self, offset: Option<u64>, from: &mut dyn Source) -> Result<usize, Errno> {
        from.drain_to_host(self.fd(), offset)
    }

    /// Moves the shared position.
    pub(crate) fn seek(&self, to: SeekFrom) -> Result<u64, Errno> {
        Ok(seek(&self.fd, to)?)
    }

    /// The present size.
    pub(crate) fn size(&self) -> Result<u64, Errno> {
        Ok(host::stat(self.fd())?.size)
    }

    /// Sets the size.
    pub(crate) fn set_size(&self, size: u64) -> Result<(), Errno> {
        Ok(ftruncate(&self.fd, size)?)
    }

    /// Changes the size. Mode, owner and times of the caller's file are not the sandbox's to change, but as a write changes them.
    pub(crate) fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        let AttributeChange { mode, uid, gid, size, accessed, modified } = change;
        let others = [mode, uid, gid].iter().any(|change| change.is_some()) || accessed.is_some() || modified.is_some();
        if others || !self.access.writes() {
            return Err(Errno::EPERM);
        }
        size.map_or(Ok(()), |size| self.set_size(size))
    }

    /// What mmap maps.
    pub(crate) fn mapping(&self) -> Result<Mapping, Errno> {
        let stat = host::stat(self.fd())?;
        let fd = fcntl_dupfd_cloexec(&self.fd, 3)?;
        Ok(Mapping::Host(Arc::new(HostFile::new(fd, stat.device, stat.inode, self.access.writes()))))
    }
}
