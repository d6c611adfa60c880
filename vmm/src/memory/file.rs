//! Host files as sources of mappings.
use std::os::fd::{BorrowedFd, OwnedFd};

/// A regular host file that may be mapped. Chunks of it are mapped once, by (device, inode), for all address spaces.
#[derive(Debug)]
pub struct HostFile {}

#[expect(unused_variables, reason = "skeleton")]
impl HostFile {
    /// Takes a descriptor of a regular file. `writable`: shared mappings of it may be written.
    pub fn new(fd: OwnedFd, device: u64, inode: u64, writable: bool) -> Self {
        todo!()
    }
    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        todo!()
    }
}
