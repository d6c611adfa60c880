//! Host files as sources of mappings.

use super::MemoryError;
use super::arena::host_error;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A regular host file that may be mapped. Chunks of it are mapped once, by (device, inode), for all address spaces.
#[derive(Debug)]
pub struct HostFile {
    fd: OwnedFd,
    device: u64,
    inode: u64,
    writable: bool,
}

impl HostFile {
    /// Takes a descriptor of a regular file. `writable`: shared mappings of it may be written.
    pub fn new(fd: OwnedFd, device: u64, inode: u64, writable: bool) -> Self {
        Self { fd, device, inode, writable }
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Which file it is, for the host: (device, inode).
    pub fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Whether shared mappings may be written.
    pub(super) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Its present size in bytes.
    pub(super) fn size(&self) -> Result<u64, MemoryError> {
        let mut stat = MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: the descriptor is open and the buffer is a whole `stat`.
        if unsafe { libc::fstat(self.fd.as_raw_fd(), stat.as_mut_ptr()) } != 0 {
            return Err(host_error());
        }
        // SAFETY: fstat succeeded, and all-zero was valid before.
        let stat = unsafe { stat.assume_init() };
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }
}
