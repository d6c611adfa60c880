//! Messages that wait to be received: what datagram and packet sockets queue.

use crate::errno::Errno;
use crate::fs::io::buffer;
use crate::fs::{Sink, Source};
use crate::net::Budget;
use std::collections::VecDeque;
use std::sync::Arc;

/// What a message costs besides its data: Linux charges a socket buffer's own memory, too.
pub const OVERHEAD: usize = 512;

/// A message's data, charged to a budget while it lives.
#[derive(Debug)]
pub struct Payload {
    bytes: Box<[u8]>,
    budget: Arc<Budget>,
}

impl Payload {
    /// Reads the rest of a source as one message; `ENOBUFS` where the budget is spent, `EFAULT` if not all could be read.
    pub fn read(from: &mut dyn Source, budget: &Arc<Budget>) -> Result<Self, Errno> {
        let len = from.remaining();
        let bytes = buffer(len)?.into();
        if !budget.take(len + OVERHEAD) {
            return Err(Errno::ENOBUFS);
        }
        let mut payload = Self { bytes, budget: budget.clone() };
        if len > 0 && from.peek(&mut payload.bytes)? < len {
            return Err(Errno::EFAULT);
        }
        Ok(payload)
    }

    /// Takes bytes of the monitor's own making.
    pub fn new(bytes: Vec<u8>, budget: &Arc<Budget>) -> Result<Self, Errno> {
        if !budget.take(bytes.len() + OVERHEAD) {
            return Err(Errno::ENOBUFS);
        }
        Ok(Self { bytes: bytes.into(), budget: budget.clone() })
    }

    /// The data.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Copies as much as fits to a sink; returns bytes, short where the sink is.
    pub fn show(&self, to: &mut dyn Sink) -> Result<usize, Errno> {
        let len = self.bytes.len().min(to.remaining());
        if len == 0 {
            return Ok(0);
        }
        // A message that cannot be delivered whole is not delivered.
        if to.put(&self.bytes[..len])? < len { Err(Errno::EFAULT) } else { Ok(len) }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.budget.give(self.bytes.len() + OVERHEAD);
    }
}

/// A queue of messages, each with what its family knows about it.
#[derive(Debug)]
pub struct Messages<T> {
    queue: VecDeque<(Payload, T)>,
    bytes: usize,
}

impl<T> Default for Messages<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Messages<T> {
    /// Messages in it.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes of data in it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it holds as a limit counts it.
    pub fn charge(&self) -> usize {
        self.bytes + self.queue.len() * OVERHEAD
    }

    /// Adds a message.
    pub fn push(&mut self, payload: Payload, about: T) {
        self.bytes += payload.bytes.len();
        self.queue.push_back((payload, about));
    }

    /// The first message.
    pub fn front(&self) -> Option<&(Payload, T)> {
        self.queue.front()
    }

    /// Takes the first message.
    pub fn pop(&mut self) -> Option<(Payload, T)> {
        let message = self.queue.pop_front()?;
        self.bytes -= message.0.bytes.len();
        Some(message)
    }

    /// What is known of each message, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.queue.iter().map(|(_, about)| about)
    }
}
