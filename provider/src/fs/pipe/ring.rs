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
    /// It is as it came, from a splice.
    Closed,
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
    fn consume(&mut self, len: usize) {
        self.start += len;
    }

    /// What a reader loses by taking less than all.
    pub(super) fn is_packet(&self) -> bool {
        self.kind == Kind::Packet
    }

    /// A copy of the first `len` unread bytes as another pipe's buffer, which nothing is added to.
    pub(super) fn copy(&self, len: usize, charge: Charge) -> Self {
        let kind = if self.kind == Kind::Packet { Kind::Packet } else { Kind::Closed };
        Self::new(self.unread()[..len].to_vec(), kind, charge)
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
    /// Slots that a splice under way will fill.
    reserved: usize,
}

impl Ring {
    /// Makes an empty one; its buffers are made as they are filled.
    pub(super) fn new(slots: usize) -> Self {
        Self { buffers: VecDeque::new(), slots, reserved: 0 }
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Buffers in use.
    pub(super) fn used(&self) -> usize {
        self.buffers.len() + self.reserved
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

    /// The buffers, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Buffer> {
        self.buffers.iter()
    }

    /// Takes at most `len` bytes in at most `slots` buffers out; the last may be a part, for which `charge` accounts.
    pub(super) fn take(
        &mut self,
        slots: usize,
        mut len: usize,
        charge: impl FnOnce() -> Result<Charge, Errno>,
    ) -> Result<Vec<Buffer>, Errno> {
        let mut taken = Vec::new();
        while taken.len() < slots
            && len > 0
            && let Some(front) = self.buffers.front_mut()
        {
            if front.unread().len() > len {
                match charge() {
                    Ok(charge) => {
                        taken.push(front.copy(len, charge));
                        front.consume(len);
                    }
                    Err(error) if taken.is_empty() => return Err(error),
                    Err(_) => {}
                }
                break;
            }
            len -= front.unread().len();
            taken.extend(self.buffers.pop_front());
        }
        Ok(taken)
    }

    /// Puts back what was taken and not used: `skip` bytes were. They were counted before, so they fit.
    pub(super) fn give_back(&mut self, buffers: Vec<Buffer>, mut skip: usize) {
        let mut rest = VecDeque::new();
        for mut buffer in buffers {
            let used = skip.min(buffer.unread().len());
            skip -= used;
            buffer.consume(used);
            if !buffer.unread().is_empty() {
                rest.push_back(buffer);
            }
        }
        rest.append(&mut self.buffers);
        self.buffers = rest;
    }

    /// Adds buffers to slots that were set aside; `reserved` of them are given back.
    pub(super) fn fill(&mut self, reserved: usize, buffers: Vec<Buffer>) {
        self.reserved -= reserved;
        self.buffers.extend(buffers);
    }

    /// Sets free slots aside, at most `wanted`; returns how many.
    pub(super) fn reserve(&mut self, wanted: usize) -> usize {
        let free = self.slots.saturating_sub(self.used()).min(wanted);
        self.reserved += free;
        free
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
        assert_eq!(ring.reserve(1), 0);
        assert_eq!(ring.resize(8), Ok(()));
        assert_eq!(ring.reserve(9), 5);
        assert!(ring.is_full());
        ring.fill(5, Vec::new());
        assert_eq!(ring.used(), 3);
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

    #[test]
    fn what_was_taken_and_not_used_comes_back_in_order() {
        let account = Arc::new(Account::new(1 << 30));
        let mut ring = Ring::new(4);
        for part in [b"abc", b"def", b"ghi"] {
            assert_eq!(write(&mut ring, part, true), Ok(3));
        }
        let taken = ring.take(9, 7, || Charge::take(&account)).unwrap();
        assert_eq!((taken.len(), ring.bytes()), (3, 2));
        ring.give_back(taken, 4);
        let left: Vec<u8> = ring.iter().flat_map(|buffer| buffer.unread().to_vec()).collect();
        assert_eq!(left, b"efghi");
    }
}
