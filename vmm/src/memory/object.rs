//! Memory objects: contents that live in pool frames, whoever maps them.
use super::MemoryError;

/// Bytes in pool frames with a size: the contents of an in-memory file, a memfd, a shared mapping.
/// Holes read as zeros and hold no frame. Read, write and mappings all see the same frames.
#[derive(Debug)]
pub struct MemoryObject {}

#[expect(unused_variables, reason = "skeleton")]
impl MemoryObject {
    /// A number no other object of this sandbox ever has (half of a shared futex's key).
    pub fn id(&self) -> u64 {
        todo!()
    }
    /// Size in bytes.
    pub fn size(&self) -> u64 {
        todo!()
    }
    /// Sets the size; beyond it frames are given back and mappings of them become bus errors; the last page's tail is zeroed.
    pub fn set_size(&self, size: u64) {
        todo!()
    }
    /// Copies bytes at `offset` into `to`; returns how many (short at the end).
    pub fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<usize, MemoryError> {
        todo!()
    }
    /// Writes bytes at `offset`, growing the object.
    pub fn write_at(&self, offset: u64, from: &[u8]) -> Result<usize, MemoryError> {
        todo!()
    }
    /// Gives frames back so that the range reads as zeros (fallocate PUNCH_HOLE).
    pub fn punch_hole(&self, offset: u64, len: u64) {
        todo!()
    }
    /// Returns where the page at `offset` lies in the monitor, assigning its frame if it has none. The frame is zeroed when
    /// assigned, belongs to the offset and does not move as long as the object lives and is not truncated below it.
    pub(crate) fn pinned_page(&self, offset: u64) -> Result<std::ptr::NonNull<u8>, MemoryError> {
        todo!()
    }
    /// Bytes of frames held (st_blocks).
    pub fn held(&self) -> u64 {
        todo!()
    }
    /// The next offset at or after `offset` that holds a frame, or `None`.
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        todo!()
    }
    /// The next offset at or after `offset` that holds no frame (at the most the size).
    pub fn next_hole(&self, offset: u64) -> u64 {
        todo!()
    }
    /// Fills this object from a host file straight into its frames (copy-up): exactly one copy.
    pub fn fill_from_host(&self, fd: std::os::fd::BorrowedFd<'_>, size: u64) -> Result<(), MemoryError> {
        todo!()
    }
}
