//! Where reads deliver and writes take their bytes: user memory, or the monitor's own buffer.

use crate::errno::Errno;
use std::os::fd::BorrowedFd;
use vmm::memory::MemoryObject;

/// Receives the bytes of a read.
pub trait Sink {
    /// Bytes it can still take.
    fn remaining(&self) -> usize;
    /// Takes bytes; returns how many (short at a fault after some were taken, `EFAULT` if none could be).
    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno>;
    /// Takes bytes straight from a host descriptor, at `offset` or its own position: no copy in the monitor.
    fn fill_from_host(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>) -> Result<usize, Errno>;
    /// Takes bytes straight from a memory object: one copy.
    fn fill_from_object(&mut self, object: &MemoryObject, offset: u64) -> Result<usize, Errno>;
}

/// Supplies the bytes of a write.
pub trait Source {
    /// Bytes still to come.
    fn remaining(&self) -> usize;
    /// Copies the next bytes without consuming them; returns how many (short at a fault after some, `EFAULT` if none).
    fn peek(&mut self, bytes: &mut [u8]) -> Result<usize, Errno>;
    /// Consumes bytes, at the most what remains: those of a peek that the other side accepted.
    fn skip(&mut self, len: usize);
    /// Gives bytes; returns how many.
    fn take(&mut self, bytes: &mut [u8]) -> Result<usize, Errno> {
        let taken = self.peek(bytes)?;
        self.skip(taken);
        Ok(taken)
    }
    /// Gives bytes straight to a host descriptor.
    fn drain_to_host(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>) -> Result<usize, Errno>;
    /// Gives bytes straight to a memory object.
    fn drain_to_object(&mut self, object: &MemoryObject, offset: u64) -> Result<usize, Errno>;
}
