//! Moving contents between pipes and files without the program's memory: what splice(2), tee(2) and vmsplice(2) are made of.
//!
//! No file is read or written while a pipe is locked. Into a pipe: free slots are set aside ([`Pipe::reserve`]) and filled later. Out of a
//! pipe: buffers are taken out, and what was not used is put back in front. Between two pipes both happen, one lock at a time.

use super::account::Charge;
use super::ring::{Buffer, Kind, PAGE};
use super::state::Pipe;
use crate::errno::Errno;
use crate::fs::Timestamp;

/// Slots of a pipe that are set aside; those that were not filled are given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    pipe: &'a Pipe,
    slots: usize,
}

/// Buffers that were taken out of a pipe; what was not used goes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    pipe: &'a Pipe,
    buffers: Vec<Buffer>,
    used: usize,
    was_full: bool,
}

impl Pipe {
    /// Sets slots for at most `bytes` bytes aside: `EAGAIN` if none is free, `EPIPE` without readers.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<Reserved<'_>, Errno> {
        let mut state = self.lock();
        if state.readers.open == 0 {
            return Err(Errno::EPIPE);
        }
        match state.ring.reserve(bytes.div_ceil(PAGE)) {
            0 => Err(Errno::EAGAIN),
            slots => Ok(Reserved { pipe: self, slots }),
        }
    }

    /// Takes at most `len` bytes out; nothing if all writers are gone, `EAGAIN` while they are not.
    pub(crate) fn take(&self, len: usize) -> Result<Option<Taken<'_>>, Errno> {
        self.take_some(usize::MAX, len)
    }

    fn take_some(&self, slots: usize, len: usize) -> Result<Option<Taken<'_>>, Errno> {
        let mut state = self.lock();
        if state.ring.is_empty() {
            return if state.writers.open == 0 { Ok(None) } else { Err(Errno::EAGAIN) };
        }
        let was_full = state.ring.is_full();
        let buffers = state.ring.take(slots, len, || self.charge())?;
        Ok(Some(Taken { pipe: self, buffers, used: 0, was_full }))
    }

    /// `EAGAIN` while it is empty and has writers. Asked before slots are reserved: to give them back wakes who waits for them.
    pub(crate) fn expect_bytes(&self) -> Result<(), Errno> {
        let state = self.lock();
        if state.ring.is_empty() && state.writers.open > 0 { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    /// Moves at most `len` bytes to another pipe's slots; returns how many, 0 if all writers are gone.
    pub(crate) fn move_to(&self, to: Reserved<'_>, len: usize) -> Result<usize, Errno> {
        let Some(mut taken) = self.take_some(to.slots, len)? else { return Ok(0) };
        let buffers = std::mem::take(&mut taken.buffers);
        Ok(to.fill(buffers))
    }

    /// Copies at most `len` bytes to another pipe's slots and keeps them; returns how many, 0 if all writers are gone.
    pub(crate) fn copy_to(&self, to: Reserved<'_>, mut len: usize) -> Result<usize, Errno> {
        let mut copies = Vec::new();
        let state = self.lock();
        if state.ring.is_empty() {
            return if state.writers.open == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        for buffer in state.ring.iter().take(to.slots) {
            let part = buffer.unread().len().min(len);
            if part == 0 {
                break;
            }
            match to.pipe.charge() {
                Ok(charge) => copies.push(buffer.copy(part, charge)),
                Err(error) if copies.is_empty() => return Err(error),
                Err(_) => break,
            }
            len -= part;
        }
        drop(state);
        Ok(to.fill(copies))
    }
}

impl Reserved<'_> {
    /// How many bytes the slots hold.
    pub(crate) fn bytes(&self) -> usize {
        self.slots * PAGE
    }

    /// Fills them with bytes, at most as many as they hold; returns how many. The first slot gets at most `first` bytes: what is left
    /// of the page that the bytes start in, as a file's pages lie in a pipe.
    pub(crate) fn fill_with(self, bytes: &[u8], first: usize) -> Result<usize, Errno> {
        let (head, rest) = bytes.split_at(first.min(bytes.len()));
        let mut buffers = Vec::new();
        for page in head.chunks(PAGE).chain(rest.chunks(PAGE)) {
            match self.pipe.charge() {
                Ok(charge) => buffers.push(closed(page, charge)),
                Err(error) if buffers.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(self.fill(buffers))
    }

    fn fill(mut self, buffers: Vec<Buffer>) -> usize {
        let bytes = buffers.iter().map(|buffer| buffer.unread().len()).sum();
        let slots = std::mem::take(&mut self.slots);
        let mut state = self.pipe.lock();
        state.ring.fill(slots, buffers);
        state.times.modified = Timestamp::now();
        self.pipe.after_writing(state);
        bytes
    }
}

fn closed(page: &[u8], charge: Charge) -> Buffer {
    Buffer::new(page.to_vec(), Kind::Closed, charge)
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.slots > 0 {
            let mut state = self.pipe.lock();
            state.ring.fill(self.slots, Vec::new());
            self.pipe.after_writing(state);
        }
    }
}

impl Taken<'_> {
    /// The bytes: one piece, or one for each packet.
    pub(crate) fn pieces(&self) -> Vec<Vec<u8>> {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut open = false;
        for buffer in &self.buffers {
            match pieces.last_mut() {
                Some(last) if open && !buffer.is_packet() => last.extend_from_slice(buffer.unread()),
                _ => pieces.push(buffer.unread().to_vec()),
            }
            open = !buffer.is_packet();
        }
        pieces
    }

    /// Says that the next `len` bytes were used.
    pub(crate) fn used(&mut self, len: usize) {
        self.used += len;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut state = self.pipe.lock();
        state.ring.give_back(std::mem::take(&mut self.buffers), self.used);
        state.times.accessed = Timestamp::now();
        self.pipe.after_reading(state, self.was_full);
    }
}
