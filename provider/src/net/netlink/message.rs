//! Netlink messages: headers, attributes, and what an answer is built with.

use crate::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// NLM_F_REQUEST.
pub(super) const REQUEST: u16 = 1;
/// NLM_F_MULTI.
const MULTI: u16 = 2;
/// NLM_F_ACK.
pub(super) const ACK: u16 = 4;
/// NLM_F_DUMP: NLM_F_ROOT and NLM_F_MATCH; either asks for all.
const DUMP: u16 = 0x100 | 0x200;

/// The same request for all objects.
pub(super) fn dump(request: Header) -> Header {
    Header { flags: request.flags | DUMP, ..request }
}

/// Kinds below are of netlink itself (NLMSG_MIN_TYPE).
pub(super) const FIRST_KIND: u16 = 0x10;
/// NLMSG_ERROR.
const ERROR: u16 = 2;
/// NLMSG_DONE.
pub(super) const DONE: u16 = 3;

/// `struct nlmsghdr`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    /// Bytes, this header's included.
    pub(super) len: u32,
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) port: u32,
}

impl Header {
    /// Tells whether it asks for all objects, which only a request that gets something can.
    pub(super) fn is_dump(&self) -> bool {
        self.flags & DUMP != 0
    }
}

const HEADER: usize = size_of::<Header>();
const _: () = assert!(HEADER == 16);

/// Builds the messages of an answer.
#[derive(Debug)]
pub(super) struct Writer {
    sequence: u32,
    port: u32,
    is_dump: bool,
    messages: Vec<Vec<u8>>,
}

impl Writer {
    /// Starts the answer to a request of the socket with that port number.
    pub(super) fn new(request: &Header, port: u32) -> Self {
        let is_dump = request.is_dump();
        Self { sequence: request.sequence, port, is_dump, messages: Vec::new() }
    }

    fn push(&mut self, kind: u16, flags: u16, body: &[u8]) {
        let len = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
        let header = Header { len, kind, flags, sequence: self.sequence, port: self.port };
        let mut message = [header.as_bytes(), body].concat();
        message.resize(message.len().next_multiple_of(4), 0);
        self.messages.push(message);
    }

    /// Adds a message: a family's header and attributes.
    pub(super) fn message(&mut self, kind: u16, head: &[u8], attributes: &Attributes) {
        let flags = if self.is_dump { MULTI } else { 0 };
        self.push(kind, flags, &[head, &attributes.0].concat());
    }

    /// Ends a dump.
    pub(super) fn done(&mut self) {
        self.push(DONE, MULTI, &0u32.to_ne_bytes());
    }

    /// Adds an acknowledgement, or an error with the header of what it is about.
    pub(super) fn acknowledge(&mut self, request: &Header, error: Option<Errno>) {
        let number = error.map_or(0, |error| -i32::from(error.raw()));
        self.push(ERROR, 0, &[&number.to_ne_bytes()[..], request.as_bytes()].concat());
    }

    /// The messages, as many to a datagram as `limit` bytes hold; the end of a dump stands alone, as Linux sends it.
    pub(super) fn datagrams(self, limit: usize) -> Vec<Vec<u8>> {
        let mut datagrams: Vec<Vec<u8>> = Vec::new();
        for message in self.messages {
            let is_end = message.get(4..6) == Some(&DONE.to_ne_bytes()[..]);
            match datagrams.last_mut() {
                Some(last) if !is_end && last.len() + message.len() <= limit => last.extend(message),
                _ => datagrams.push(message),
            }
        }
        datagrams
    }
}

/// Attributes (`struct rtattr`) in a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// Adds an attribute.
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a number.
    pub(super) fn word(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds a byte.
    pub(super) fn byte(self, kind: u16, value: u8) -> Self {
        self.bytes(kind, &[value])
    }

    /// Adds a string with its NUL.
    pub(super) fn string(self, kind: u16, value: &[u8]) -> Self {
        self.bytes(kind, &[value, b"\0"].concat())
    }
}

/// The attributes behind a family's header of `skip` bytes: kind and value.
pub(super) fn attributes(body: &[u8], skip: usize) -> Vec<(u16, &[u8])> {
    let mut rest = body.get(skip..).unwrap_or_default();
    let mut found = Vec::new();
    while let Ok(([len, kind], _)) = <[u16; 2]>::read_from_prefix(rest) {
        let Some(value) = rest.get(4..usize::from(len)) else { break };
        found.push((kind, value));
        rest = rest.get(usize::from(len).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_written() {
        let written = Attributes::default().string(3, b"lo").word(4, 7).byte(5, 9);
        assert_eq!(attributes(&written.0, 0), [(3, &b"lo\0"[..]), (4, &7u32.to_ne_bytes()[..]), (5, &[9][..])]);
        assert_eq!(attributes(&[3, 0, 1, 0], 0), []);
    }

    #[test]
    fn the_end_of_a_dump_stands_alone() {
        let request = Header { flags: REQUEST | DUMP, ..Header::default() };
        let mut writer = Writer::new(&request, 1);
        for _ in 0..3 {
            writer.message(16, &[0; 16], &Attributes::default());
        }
        writer.done();
        let sizes: Vec<usize> = writer.datagrams(70).iter().map(Vec::len).collect();
        assert_eq!(sizes, [64, 32, 20]);
    }
}
