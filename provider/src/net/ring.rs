//! Bytes on their way from one side of a connection to the other: a ring that grows with use.

use crate::errno::Errno;
use crate::fs::io::buffer;
use crate::fs::{Sink, Source};
use crate::net::Budget;
use std::sync::Arc;

/// What a ring starts with once something is written.
const SMALLEST: usize = 4096;
/// An empty ring above this size gives its memory back.
const KEPT: usize = 64 * 1024;

/// A ring of bytes in the monitor's memory.
#[derive(Debug)]
pub struct Ring {
    space: Vec<u8>,
    head: usize,
    len: usize,
    budget: Arc<Budget>,
}

impl Ring {
    /// Makes an empty ring, which takes no memory yet. What it takes later is charged to `budget`.
    pub fn new(budget: &Arc<Budget>) -> Self {
        Self { space: Vec::new(), head: 0, len: 0, budget: budget.clone() }
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for `more` bytes as far as the budget goes; returns how many fit now.
    fn reserve(&mut self, more: usize) -> usize {
        let wanted = self.len.saturating_add(more);
        if wanted > self.space.len() {
            let size = wanted.next_power_of_two().max(SMALLEST);
            let more = size - self.space.len();
            if !self.budget.take(more) {
                // What there is room for already may do.
            } else if let Ok(mut space) = buffer(size) {
                let (first, second) = self.parts(0, self.len);
                space[..first.len()].copy_from_slice(first);
                space[first.len()..self.len].copy_from_slice(second);
                (self.space, self.head) = (space, 0);
            } else {
                self.budget.give(more);
            }
        }
        more.min(self.space.len() - self.len)
    }

    /// `len` bytes from `skip` on, in two parts.
    fn parts(&self, skip: usize, len: usize) -> (&[u8], &[u8]) {
        if len == 0 {
            return (&[], &[]);
        }
        let size = self.space.len();
        let start = (self.head + skip) % size;
        let first = len.min(size - start);
        (&self.space[start..start + first], &self.space[..len - first])
    }

    /// Takes up to `limit` bytes from a source; returns how many. Fewer than `limit` if the source has no more, at a fault after
    /// some bytes, and where the budget is spent; `EFAULT` if not one could be read, `ENOBUFS` if there is no memory at all.
    pub fn fill(&mut self, from: &mut dyn Source, limit: usize) -> Result<usize, Errno> {
        let wanted = limit.min(from.remaining());
        let room = self.reserve(wanted);
        if wanted > 0 && room == 0 {
            return Err(Errno::ENOBUFS);
        }
        let mut done = 0;
        while done < room {
            let size = self.space.len();
            let start = (self.head + self.len) % size;
            let step = (room - done).min(size - start);
            match from.take(&mut self.space[start..start + step]) {
                Ok(taken) => {
                    self.len += taken;
                    done += taken;
                    if taken < step {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Gives up to `limit` bytes, `skip` bytes in, to a sink without consuming them; returns how many it took.
    pub fn show(&self, to: &mut dyn Sink, skip: usize, limit: usize) -> Result<usize, Errno> {
        let len = limit.min(self.len.saturating_sub(skip)).min(to.remaining());
        let (first, second) = self.parts(skip, len);
        let mut done = if first.is_empty() { 0 } else { to.put(first)? };
        if done == first.len() && !second.is_empty() {
            done += to.put(second).or_else(|error| if done > 0 { Ok(0) } else { Err(error) })?;
        }
        Ok(done)
    }

    /// The byte `skip` bytes in.
    pub fn byte(&self, skip: usize) -> Option<u8> {
        (skip < self.len).then(|| self.space[(self.head + skip) % self.space.len()])
    }

    /// Drops `count` bytes from the front, at the most what is there.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.len);
        self.len -= count;
        if self.len > 0 {
            self.head = (self.head + count) % self.space.len();
            return;
        }
        self.head = 0;
        if self.space.len() > KEPT {
            self.budget.give(self.space.len());
            self.space = Vec::new();
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.budget.give(self.space.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{BufferSink, BufferSource};

    fn read(ring: &mut Ring, count: usize) -> Vec<u8> {
        let mut space = vec![0; count];
        let shown = ring.show(&mut BufferSink::new(&mut space), 0, count).unwrap();
        ring.consume(shown);
        space.truncate(shown);
        space
    }

    #[test]
    fn bytes_come_out_in_order_whatever_the_sizes() {
        let budget = Arc::new(Budget::new(1 << 20));
        let mut ring = Ring::new(&budget);
        let (mut written, mut seen) = (0usize, 0usize);
        for step in 1..400usize {
            let bytes: Vec<u8> = (0..step * 7 % 301).map(|at| u8::try_from((written + at) % 251).unwrap()).collect();
            ring.fill(&mut BufferSource::new(&bytes), usize::MAX).unwrap();
            written += bytes.len();
            for byte in read(&mut ring, step * 5 % 293) {
                assert_eq!(usize::from(byte), seen % 251);
                seen += 1;
            }
        }
        assert_eq!(ring.len(), written - seen);
        drop(ring);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_spent_budget_is_an_error_only_when_nothing_fits() {
        let budget = Arc::new(Budget::new(4096));
        let mut ring = Ring::new(&budget);
        assert_eq!(ring.fill(&mut BufferSource::new(&[1; 4000]), 4000), Ok(4000));
        assert_eq!(ring.fill(&mut BufferSource::new(&[1; 4000]), 4000), Ok(96));
        assert_eq!(ring.fill(&mut BufferSource::new(&[1; 4000]), 4000), Err(Errno::ENOBUFS));
        assert_eq!(read(&mut ring, 10), [1; 10]);
        assert_eq!(ring.fill(&mut BufferSource::new(&[1; 4000]), 4000), Ok(10));
    }
}
