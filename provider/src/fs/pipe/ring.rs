//! What is in a pipe: buffers of up to a page each, as in fs/pipe.c.
//!
//! How bytes are laid out over buffers is visible (a pipe is full when its buffers are used up, whatever they hold), so writes merge
//! and split as Linux's do.

use super::account::Charge;
use crate::errno::Errno;
use crate::fs::{Sink, Source};
use std::collections::VecDeque;

/// Bytes of a buffer (PAGE_SIZE).
pub(super) const PAGE: usize = 4096;

/// What later writes and reads do with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The next write may add to it.
    Mergeable,
    /// It is a packet: a read takes it whole or loses the rest (O_DIRECT).
    Packet,
}

/// A buffer.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Bytes at the front that were read.
    start: usize,
    kind: Kind,
    _charge: Charge,
}

impl Buffer {
    /// Makes one of at most a page of bytes.
    pub(super) fn new(bytes: Vec<u8>, kind: Kind, charge: Charge) -> Self {
        debug_assert!(bytes.len() <= PAGE);
        Self { bytes, start: 0, kind, _charge: charge }
    }

    /// What was not read yet.
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Takes read bytes off the front.
    pub(super) fn consume(&mut self, len: usize) {
        self.start += len;
    }

    /// Room for another write's bytes.
    fn room(&self) -> usize {
        if self.kind == Kind::Mergeable { PAGE - self.bytes.len() } else { 0 }
    }

    /// Adds `len` bytes of a source; `EFAULT` if it has not as many.
    fn extend(&mut self, from: &mut dyn Source, len: usize) -> Result<(), Errno> {
        let old = self.bytes.len();
        self.bytes.resize(old + len, 0);
        match from.take(&mut self.bytes[old..]) {
            Ok(taken) if taken == len => Ok(()),
            other => {
                self.bytes.truncate(old);
                other.and(Err(Errno::EFAULT))
            }
        }
    }
}

/// The buffers of a pipe, the oldest first.
#[derive(Debug)]
pub(super) struct Ring {
    buffers: VecDeque<Buffer>,
    /// How many buffers it may hold.
    slots: usize,
}

impl Ring {
    /// Makes an empty one; its buffers are made as they are filled.
    pub(super) fn new(slots: usize) -> Self {
        Self { buffers: VecDeque::new(), slots }
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Buffers in use.
    pub(super) fn used(&self) -> usize {
        self.buffers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.used() >= self.slots
    }

    /// Bytes that were written and not read.
    pub(super) fn bytes(&self) -> usize {
        self.buffers.iter().map(|buffer| buffer.unread().len()).sum()
    }

    /// Changes the number of slots; `EBUSY` if more are in use.
    pub(super) fn resize(&mut self, slots: usize) -> Result<(), Errno> {
        if self.used() > slots {
            return Err(Errno::EBUSY);
        }
        self.slots = slots;
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.buffers = VecDeque::new();
    }

    /// Takes what fits of a write, as packets if `packets`; `EAGAIN` if that is nothing. The bytes of a write of up to a page are
    /// next to each other: they go into one buffer or wait for one. `charge` accounts for a new buffer.
    pub(super) fn write(
        &mut self,
        from: &mut dyn Source,
        packets: bool,
        mut charge: impl FnMut() -> Result<Charge, Errno>,
    ) -> Result<usize, Errno> {
        let mut written = 0;
        // What is over whole pages goes first, if it fits behind what is there.
        let odd = from.remaining() % PAGE;
        if odd > 0
            && let Some(last) = self.buffers.back_mut()
            && last.room() >= odd
        {
            last.extend(from, odd)?;
            written = odd;
        }
        while from.remaining() > 0 && !self.is_full() {
            let len = from.remaining().min(PAGE);
            let kind = if packets { Kind::Packet } else { Kind::Mergeable };
            let made = charge().and_then(|charge| {
                let mut buffer = Buffer::new(Vec::with_capacity(len), Kind::Mergeable, charge);
                buffer.extend(from, len)?;
                buffer.kind = kind;
                Ok(buffer)
            });
            match made {
                Ok(buffer) => self.buffers.push_back(buffer),
                Err(error) if written == 0 => return Err(error),
                Err(_) => return Ok(written),
            }
            written += len;
        }
        if written == 0 { Err(Errno::EAGAIN) } else { Ok(written) }
    }

    /// Gives bytes until the sink is full, a packet ends or nothing is left; 0 if nothing is there. What cannot be delivered stays.
    pub(super) fn read(&mut self, to: &mut dyn Sink) -> Result<usize, Errno> {
        let mut read = 0;
        while to.remaining() > 0
            && let Some(buffer) = self.buffers.front_mut()
        {
            let len = buffer.unread().len().min(to.remaining());
            match to.put(&buffer.unread()[..len]) {
                Ok(put) if put == len => {}
                Ok(_) | Err(_) if read > 0 => break,
                other => return other.and(Err(Errno::EFAULT)),
            }
            read += len;
            buffer.consume(len);
            let packet = buffer.kind == Kind::Packet;
            if packet || buffer.unread().is_empty() {
                self.buffers.pop_front();
            }
            if packet {
                break;
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::account::Account;
    use super::*;
    use crate::fs::{BufferSink, BufferSource};
    use std::sync::Arc;

    /// Writes and tells how much was taken.
    fn write(ring: &mut Ring, bytes: &[u8], packets: bool) -> Result<usize, Errno> {
        let account = Arc::new(Account::new(1 << 30));
        ring.write(&mut BufferSource::new(bytes), packets, || Charge::take(&account))
    }

    fn read(ring: &mut Ring, len: usize) -> Vec<u8> {
        let mut space = vec![0; len];
        let count = ring.read(&mut BufferSink::new(&mut space)).unwrap();
        space.truncate(count);
        space
    }

    #[test]
    fn small_writes_share_a_buffer() {
        let mut ring = Ring::new(2);
        assert_eq!(write(&mut ring, b"ab", false), Ok(2));
        assert_eq!(write(&mut ring, b"cd", false), Ok(2));
        assert_eq!((ring.used(), ring.bytes()), (1, 4));
        assert_eq!(read(&mut ring, 3), b"abc");
        assert_eq!(read(&mut ring, 3), b"d");
        assert!(ring.is_empty());
    }

    #[test]
    fn a_write_of_a_page_or_less_is_not_split() {
        let mut ring = Ring::new(2);
        assert_eq!(write(&mut ring, &[1; PAGE], false), Ok(PAGE));
        assert_eq!(write(&mut ring, &[2; PAGE - 10], false), Ok(PAGE - 10));
        assert_eq!(write(&mut ring, &[3; 11], false), Err(Errno::EAGAIN));
        assert_eq!(write(&mut ring, &[3; 10], false), Ok(10));
        assert!(ring.is_full());
    }

    #[test]
    fn the_odd_part_of_a_long_write_fills_a_started_buffer() {
        let mut ring = Ring::new(2);
        assert_eq!(write(&mut ring, b"x", false), Ok(1));
        let long: Vec<u8> = (0..=u8::MAX).cycle().take(PAGE + 100).collect();
        assert_eq!(write(&mut ring, &long, false), Ok(PAGE + 100));
        assert_eq!(ring.used(), 2);
        assert_eq!(read(&mut ring, 1), b"x");
        assert_eq!(read(&mut ring, 2 * PAGE), long);
    }

    #[test]
    fn a_packet_is_read_whole_or_cut() {
        let mut ring = Ring::new(4);
        assert_eq!(write(&mut ring, b"one", true), Ok(3));
        assert_eq!(write(&mut ring, b"three", true), Ok(5));
        assert_eq!(read(&mut ring, 10), b"one");
        assert_eq!(read(&mut ring, 2), b"th");
        assert!(ring.is_empty());
    }

    #[test]
    fn nothing_is_added_to_a_packet() {
        let mut ring = Ring::new(4);
        assert_eq!(write(&mut ring, b"one", true), Ok(3));
        assert_eq!(write(&mut ring, b"two", false), Ok(3));
        assert_eq!(ring.used(), 2);
    }

    #[test]
    fn slots_in_use_cannot_be_taken_away() {
        let mut ring = Ring::new(4);
        assert_eq!(write(&mut ring, &[0; 3 * PAGE], false), Ok(3 * PAGE));
        assert_eq!(ring.resize(2), Err(Errno::EBUSY));
        assert_eq!(ring.resize(3), Ok(()));
        assert!(ring.is_full());
        assert_eq!(ring.resize(8), Ok(()));
        assert!(!ring.is_full());
    }

    #[test]
    fn memory_for_buffers_can_run_out() {
        let mut ring = Ring::new(4);
        let account = Arc::new(Account::new(4096));
        let mut source = BufferSource::new(&[0; 2 * PAGE]);
        assert_eq!(ring.write(&mut source, false, || Charge::take(&account)), Ok(PAGE));
        assert_eq!(ring.write(&mut source, false, || Charge::take(&account)), Err(Errno::ENOMEM));
        ring.clear();
        assert_eq!(ring.write(&mut source, false, || Charge::take(&account)), Ok(PAGE));
    }
}
