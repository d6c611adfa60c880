//! What a Unix socket has received and not delivered yet.

use super::address::Name;
use super::credentials::Ancillary;
use super::garbage::Rights;
use super::{Blocked, UnixSocket};
use crate::abi::socket::UserCredentials;
use crate::fs::OpenFile;
use crate::net::Budget;
use crate::net::messages::{Messages, OVERHEAD};
use crate::net::ring::Ring;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// What a socket has received.
#[derive(Debug)]
pub(super) enum Inbox {
    /// A stream's bytes.
    Bytes(Bytes),
    /// Datagrams or packets.
    Packets(Packets),
}

impl Inbox {
    /// Bytes in it.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.ring.len(),
            Self::Packets(packets) => packets.messages.bytes(),
        }
    }

    /// Tells whether there is nothing to receive.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.ring.is_empty(),
            Self::Packets(packets) => packets.messages.is_empty(),
        }
    }

    /// A stream's.
    pub(super) fn bytes(&mut self) -> Option<&mut Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Packets(_) => None,
        }
    }

    /// A queue of messages.
    pub(super) fn packets(&mut self) -> Option<&mut Packets> {
        match self {
            Self::Packets(packets) => Some(packets),
            Self::Bytes(_) => None,
        }
    }

    /// Takes the sockets that wait for room in it.
    pub(super) fn take_blocked(&mut self) -> Blocked {
        match self {
            Self::Bytes(_) => Blocked::default(),
            Self::Packets(packets) => packets.blocked.take(),
        }
    }

    /// Takes everything out, to be dropped where no lock is held.
    pub(super) fn take(&mut self, budget: &Arc<Budget>) -> Self {
        let empty = match self {
            Self::Bytes(_) => Self::Bytes(Bytes::new(budget)),
            Self::Packets(_) => Self::Packets(Packets::default()),
        };
        std::mem::replace(self, empty)
    }

    /// Shows each open file that messages in it carry.
    pub(super) fn for_each_right(&self, show: impl FnMut(&Arc<OpenFile>)) {
        match self {
            Self::Bytes(bytes) => {
                let waiting = bytes.marks.iter().flat_map(|mark| mark.ancillary.rights.files());
                waiting.chain(bytes.rights.files()).for_each(show);
            }
            Self::Packets(packets) => {
                packets.messages.iter().flat_map(|packet| packet.ancillary.rights.files()).for_each(show);
            }
        }
    }
}

/// A stream's bytes, with marks where something came along.
#[derive(Debug)]
pub(super) struct Bytes {
    pub(super) ring: Ring,
    /// Bytes ever taken out: the position of the next one.
    pub(super) position: u64,
    /// Where segments start, by ascending position.
    pub(super) marks: VecDeque<Mark>,
    /// Of the segment that is being read.
    pub(super) credentials: Option<UserCredentials>,
    /// That segment's open files, until its first byte is taken.
    pub(super) rights: Rights,
    /// The credentials of what was written last.
    last: Option<UserCredentials>,
    /// What is written next must not join what was written last.
    split: bool,
    /// The sender's limit when it last wrote.
    pub(super) limit: usize,
}

/// The start of a segment.
#[derive(Debug)]
pub(super) struct Mark {
    /// The position of its first byte.
    pub(super) at: u64,
    pub(super) ancillary: Ancillary,
}

impl Bytes {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            ring: Ring::new(budget),
            position: 0,
            marks: VecDeque::new(),
            credentials: None,
            rights: Rights::none(),
            last: None,
            split: false,
            limit: 0,
        }
    }

    /// Notes what comes along with the `len` bytes that were just written.
    pub(super) fn mark(&mut self, len: usize, ancillary: Ancillary) {
        let carries = !ancillary.rights.is_empty();
        if !carries && !self.split && ancillary.credentials == self.last {
            return;
        }
        (self.split, self.last) = (carries, ancillary.credentials);
        let at = self.position + (self.ring.len() - len) as u64;
        self.marks.push_back(Mark { at, ancillary });
    }

    /// Takes `count` bytes off the front.
    pub(super) fn consume(&mut self, count: usize) {
        self.ring.consume(count);
        self.position += count as u64;
    }
}

/// What is known of a packet.
#[derive(Debug)]
pub(super) struct Packet {
    /// The sender's name.
    pub(super) from: Option<Arc<Name>>,
    pub(super) ancillary: Ancillary,
    /// Held until it is received or dropped.
    pub(super) _charge: Charge,
}

/// Packets that wait.
#[derive(Debug, Default)]
pub(super) struct Packets {
    pub(super) messages: Messages<Packet>,
    /// Senders that found the queue full.
    pub(super) blocked: Blocked,
}

/// A message's weight on its sender.
#[derive(Debug)]
pub(super) struct Charge {
    sender: Weak<UnixSocket>,
    bytes: usize,
}

impl Charge {
    /// Charges a message of `len` bytes.
    pub(super) fn new(sender: &UnixSocket, len: usize) -> Self {
        let bytes = len + OVERHEAD;
        sender.in_flight.fetch_add(bytes, Ordering::SeqCst);
        Self { sender: sender.me.clone(), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Some(sender) = self.sender.upgrade() else { return };
        let before = sender.in_flight.fetch_sub(self.bytes, Ordering::SeqCst);
        if !sender.has_room(before) && sender.has_room(before - self.bytes) {
            sender.common.queue.wake(crate::fs::Ready::OUT | crate::fs::Ready::WRNORM);
        }
    }
}
