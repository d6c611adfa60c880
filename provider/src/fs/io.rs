//! Where reads deliver and writes take their bytes: user memory ([`crate::mm::UserBuffers`]) or the monitor's own
//! ([`BufferSink`], [`BufferSource`]).

use crate::errno::Errno;
use rustix::io::{ReadWriteFlags, pwritev2, read, retry_on_intr, write};
use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use vmm::memory::{MemoryObject, read_at};

/// Receives the bytes of a read.
pub trait Sink {
    /// Bytes it can still take.
    fn remaining(&self) -> usize;
    /// Shortens it to at most `bytes`.
    fn limit(&mut self, bytes: usize);
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
    /// Shortens it to at most `bytes`.
    fn limit(&mut self, bytes: usize);
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

/// Makes room for as many elements as a program has asked to move at once; `ENOMEM` if the host has none.
pub(crate) fn buffer<T: Clone + Default>(len: usize) -> Result<Vec<T>, Errno> {
    vmm::allocator::try_filled(len).ok_or(Errno::ENOMEM)
}

/// Makes a table as long as a program asks, if it is shorter; `ENOMEM` if the host has no room.
pub(crate) fn grow<T: Clone + Default>(table: &mut Vec<T>, len: usize) -> Result<(), Errno> {
    vmm::allocator::try_grow(table, len).ok_or(Errno::ENOMEM)
}

/// A sink in the monitor's memory: for program images, links between files, tests.
#[derive(Debug)]
pub struct BufferSink<'a> {
    space: &'a mut [u8],
    filled: usize,
}

impl<'a> BufferSink<'a> {
    /// Makes a sink that takes as many bytes as `space` has.
    pub fn new(space: &'a mut [u8]) -> Self {
        Self { space, filled: 0 }
    }

    /// Bytes taken so far.
    pub fn filled(&self) -> usize {
        self.filled
    }

    fn advance(&mut self, read: usize) -> usize {
        self.filled += read;
        read
    }
}

impl Sink for BufferSink<'_> {
    fn remaining(&self) -> usize {
        self.space.len() - self.filled
    }

    fn limit(&mut self, bytes: usize) {
        let end = self.filled.saturating_add(bytes).min(self.space.len());
        self.space = &mut std::mem::take(&mut self.space)[..end];
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let count = bytes.len().min(self.remaining());
        self.space[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
        Ok(self.advance(count))
    }

    fn fill_from_host(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>) -> Result<usize, Errno> {
        let rest = &mut self.space[self.filled..];
        let count = match offset {
            // No signal interrupts a file's transfer (signal(7)), but a kick may where the file system is a network's or FUSE.
            Some(offset) => retry_on_intr(|| read_at(fd, rest, offset))?,
            None => read(fd, rest)?,
        };
        Ok(self.advance(count))
    }

    fn fill_from_object(&mut self, object: &MemoryObject, offset: u64) -> Result<usize, Errno> {
        let count = object.read_at(offset, &mut self.space[self.filled..])?;
        Ok(self.advance(count))
    }
}

/// A source in the monitor's memory.
#[derive(Debug)]
pub struct BufferSource<'a> {
    bytes: &'a [u8],
}

impl<'a> BufferSource<'a> {
    /// Makes a source of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn advance(&mut self, written: usize) -> usize {
        self.bytes = &self.bytes[written.min(self.bytes.len())..];
        written
    }
}

impl Source for BufferSource<'_> {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn limit(&mut self, bytes: usize) {
        self.bytes = &self.bytes[..bytes.min(self.bytes.len())];
    }

    fn peek(&mut self, bytes: &mut [u8]) -> Result<usize, Errno> {
        let count = bytes.len().min(self.bytes.len());
        bytes[..count].copy_from_slice(&self.bytes[..count]);
        Ok(count)
    }

    fn skip(&mut self, len: usize) {
        self.advance(len);
    }

    fn drain_to_host(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>) -> Result<usize, Errno> {
        let count = match offset {
            // pwrite(2) would be a call more that a jailed monitor may make; the offset -1 is the descriptor's own position here.
            Some(offset) if i64::try_from(offset).is_err() => return Err(Errno::EINVAL),
            Some(offset) => {
                let bytes = [IoSlice::new(self.bytes)];
                retry_on_intr(|| pwritev2(fd, &bytes, offset, ReadWriteFlags::empty()))?
            }
            None => write(fd, self.bytes)?,
        };
        Ok(self.advance(count))
    }

    fn drain_to_object(&mut self, object: &MemoryObject, offset: u64) -> Result<usize, Errno> {
        let count = object.write_at(offset, self.bytes)?;
        Ok(self.advance(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_takes_what_fits() {
        let mut space = [0; 5];
        let mut sink = BufferSink::new(&mut space);
        assert_eq!(sink.put(b"abc"), Ok(3));
        assert_eq!(sink.put(b"def"), Ok(2));
        assert_eq!((sink.remaining(), sink.filled()), (0, 5));
        assert_eq!(&space, b"abcde");
    }

    #[test]
    fn a_limit_counts_from_where_the_sink_is() {
        let mut space = [0; 5];
        let mut sink = BufferSink::new(&mut space);
        sink.put(b"ab").unwrap();
        sink.limit(1);
        assert_eq!(sink.put(b"cd"), Ok(1));
    }

    #[test]
    fn a_source_gives_each_byte_once() {
        let mut source = BufferSource::new(b"abcdef");
        let mut two = [0; 2];
        assert_eq!(source.take(&mut two), Ok(2));
        source.limit(3);
        let mut rest = [0; 8];
        assert_eq!(source.take(&mut rest), Ok(3));
        assert_eq!((&two, &rest[..3]), (b"ab", &b"cde"[..]));
    }
}
