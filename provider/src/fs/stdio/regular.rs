//! Regular files (and block devices) that the caller handed over.

use crate::errno::Errno;
use crate::fs::{AttributeChange, Mapping, OpenFlags, Sink, Source, Timestamp};
use rustix::fs::{SeekFrom, Timestamps, UTIME_OMIT, fstat, ftruncate, futimens, seek};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::time::Timespec;
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
        u64::try_from(fstat(&self.fd)?.st_size).map_err(|_| Errno::EIO)
    }

    /// Sets the size.
    pub(crate) fn set_size(&self, size: u64) -> Result<(), Errno> {
        Ok(ftruncate(&self.fd, size)?)
    }

    /// Changes size and times. Mode and owner of the caller's file are not the sandbox's to change.
    pub(crate) fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        if change.mode.is_some() || change.uid.is_some() || change.gid.is_some() || !self.access.writes() {
            return Err(Errno::EPERM);
        }
        if let Some(size) = change.size {
            self.set_size(size)?;
        }
        if change.accessed.is_some() || change.modified.is_some() {
            let times =
                Timestamps { last_access: host_time(change.accessed), last_modification: host_time(change.modified) };
            futimens(&self.fd, &times)?;
        }
        Ok(())
    }

    /// What mmap maps.
    pub(crate) fn mapping(&self) -> Result<Mapping, Errno> {
        let stat = fstat(&self.fd)?;
        let fd = fcntl_dupfd_cloexec(&self.fd, 3)?;
        Ok(Mapping::Host(Arc::new(HostFile::new(fd, stat.st_dev, stat.st_ino, self.access.writes()))))
    }
}

fn host_time(time: Option<Timestamp>) -> Timespec {
    time.map_or(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, |time| Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    })
}
