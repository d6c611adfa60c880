//! Host files as sources of mappings.

use super::MemoryError;
use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

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
        let found = statx(&self.fd, "", AtFlags::EMPTY_PATH, StatxFlags::SIZE);
        found.map(|found| found.stx_size).map_err(|error| MemoryError::Io(error.raw_os_error()))
    }
}

/// Reads from a file at an offset, as pread(2) does. That would be a call more that a jailed monitor may make.
///
/// # Errors
/// The host's; `EINVAL` for an offset that no file has.
pub fn read_at(file: impl AsFd, to: &mut [u8], offset: u64) -> Result<usize, Errno> {
    // The call's offset -1 is the descriptor's own position.
    if i64::try_from(offset).is_err() {
        return Err(Errno::INVAL);
    }
    preadv2(file, &mut [IoSliceMut::new(to)], offset, ReadWriteFlags::empty())
}

/// Reads all of `to` from a file at an offset; `None` if the host refuses, or the file ends before.
pub(crate) fn read_whole(file: impl AsFd, to: &mut [u8], offset: u64) -> Option<()> {
    let mut done = 0;
    while done < to.len() {
        match read_at(&file, &mut to[done..], offset + done as u64) {
            Ok(0) => return None,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    Some(())
}
