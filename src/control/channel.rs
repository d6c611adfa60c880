//! Messages on a connected socket: framed, versioned, bounded, and late rather than never.
//!
//! A frame is a header of twelve bytes (`pico`, version and zero as 16-bit numbers, length as a 32-bit number, all little-endian) and as
//! many bytes of JSON. The header's form never changes, so that two versions can tell each other apart. Whoever is at the other end is
//! not trusted: nothing is allocated on the word of a length, a message that is begun has to end soon, and none is longer than the
//! receiver says.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The version of the messages.
pub(crate) const VERSION: u16 = 1;
/// Bytes of a request at the most: the arguments and the environment of a program.
pub(crate) const LONGEST_REQUEST: u32 = 8 << 20;
/// Bytes of a reply at the most: some ten thousand processes.
pub(crate) const LONGEST_REPLY: u32 = 64 << 20;
/// How long the rest of a message may take.
const PATIENCE: Duration = Duration::from_secs(5);

const MAGIC: [u8; 4] = *b"pico";
const HEADER: usize = 12;
/// Descriptors that come with a message at the most: standard input, output and error.
const DESCRIPTORS: usize = 3;
/// Bytes asked of the host at once.
const PIECE: usize = 64 << 10;

/// Why no message came or went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ChannelError {
    /// The other side has closed the connection.
    Closed,
    /// The other side takes too long.
    Late,
    /// What came is no message.
    Alien,
    /// The other side speaks another version.
    Version(u16),
    /// The message is longer than this side takes.
    TooLong(u32),
    /// The message is none that this side knows.
    Malformed(String),
    /// The host refuses.
    Host(Errno),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection was closed"),
            Self::Late => f.write_str("no answer in time"),
            Self::Alien => f.write_str("the other side does not speak picovisor's protocol"),
            Self::Version(theirs) => write!(f, "the other side speaks version {theirs} of the protocol, not {VERSION}"),
            Self::TooLong(length) => write!(f, "a message of {length} bytes is too long"),
            Self::Malformed(why) => write!(f, "a message that is not understood: {why}"),
            Self::Host(error) => write!(f, "the connection failed: {error}"),
        }
    }
}

/// Makes the header of a message of `length` bytes.
fn header(version: u16, length: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&version.to_le_bytes());
    header[8..].copy_from_slice(&length.to_le_bytes());
    header
}

/// The length that a header tells, if it is one of this version and the message no longer than `most`.
fn length(header: [u8; HEADER], most: u32) -> Result<u32, ChannelError> {
    let [m0, m1, m2, m3, v0, v1, _, _, l0, l1, l2, l3] = header;
    let (version, length) = (u16::from_le_bytes([v0, v1]), u32::from_le_bytes([l0, l1, l2, l3]));
    if [m0, m1, m2, m3] != MAGIC {
        Err(ChannelError::Alien)
    } else if version != VERSION {
        Err(ChannelError::Version(version))
    } else if length > most {
        Err(ChannelError::TooLong(length))
    } else {
        Ok(length)
    }
}

/// Reads a message's body.
fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ChannelError> {
    serde_json::from_slice(body).map_err(|error| ChannelError::Malformed(error.to_string()))
}

/// A connection. Both sides may use it from several threads, if each sends, or receives, alone.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
}

/// A message and the descriptors that came with it.
pub(crate) type Received<T> = (T, Vec<OwnedFd>);

impl Channel {
    /// Makes a channel of a connected socket that does not block.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// The socket.
    #[cfg(test)]
    fn socket(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.socket)
    }

    /// Sends a message.
    pub(crate) fn send(&self, message: &impl Serialize) -> Result<(), ChannelError> {
        self.send_with(message, &[])
    }

    /// Sends a message with descriptors, at most three.
    pub(crate) fn send_with(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let body = serde_json::to_vec(message).map_err(|error| ChannelError::Malformed(error.to_string()))?;
        let length = u32::try_from(body.len()).map_err(|_| ChannelError::TooLong(u32::MAX))?;
        let mut bytes = header(VERSION, length).to_vec();
        bytes.extend(body);
        let deadline = Instant::now() + PATIENCE;
        let mut sent = self.send_piece(&bytes, fds, deadline)?;
        while sent < bytes.len() {
            sent += self.send_piece(&bytes[sent..], &[], deadline)?;
        }
        Ok(())
    }

    fn send_piece(&self, bytes: &[u8], fds: &[BorrowedFd<'_>], deadline: Instant) -> Result<usize, ChannelError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        loop {
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(ChannelError::Host(Errno::INVAL));
            }
            match sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
                Ok(count) => return Ok(count),
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, Some(deadline))?,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(ChannelError::Closed),
                Err(error) => return Err(ChannelError::Host(error)),
            }
        }
    }

    /// Receives a message of at most `most` bytes, which has to begin within `idle`, if that is given.
    pub(crate) fn receive<T: DeserializeOwned>(
        &self,
        most: u32,
        idle: Option<Duration>,
    ) -> Result<Received<T>, ChannelError> {
        let mut fds = Vec::new();
        self.wait(PollFlags::IN, idle.map(|idle| Instant::now() + idle))?;
        let deadline = Instant::now() + PATIENCE;
        let mut start = [0; HEADER];
        self.fill(&mut start, &mut fds, deadline)?;
        let mut left = usize::try_from(length(start, most)?).unwrap_or(usize::MAX);
        let mut body = Vec::new();
        while left > 0 {
            // Grows with what comes, not with what was said to come.
            let at = body.len();
            body.resize(at + left.min(PIECE), 0);
            self.fill(&mut body[at..], &mut fds, deadline)?;
            left -= body.len() - at;
        }
        Ok((decode(&body)?, fds))
    }

    /// Fills `bytes`, keeping the first few descriptors that come along.
    fn fill(&self, mut bytes: &mut [u8], fds: &mut Vec<OwnedFd>, deadline: Instant) -> Result<(), ChannelError> {
        while !bytes.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let got = recvmsg(&self.socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    fds.extend(rights);
                }
            }
            fds.truncate(DESCRIPTORS);
            match got.map(|got| got.bytes) {
                Ok(0) | Err(Errno::CONNRESET) => return Err(ChannelError::Closed),
                Ok(count) => bytes = &mut bytes[count..],
                Err(Errno::AGAIN) => self.wait(PollFlags::IN, Some(deadline))?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(ChannelError::Host(error)),
            }
        }
        Ok(())
    }

    /// Closes the connection for both sides; what was sent is still received.
    pub(crate) fn hang_up(&self) {
        // Fails only if the other side was faster.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// Tells whether the other side has gone away; what it has sent and nobody has received keeps it here.
    pub(crate) fn is_closed(&self) -> bool {
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let (mut pieces, mut none) = ([IoSliceMut::new(&mut byte)], RecvAncillaryBuffer::default());
        let peeked = recvmsg(&self.socket, &mut pieces, &mut none, flags).map(|peeked| peeked.bytes);
        !matches!(peeked, Ok(1..) | Err(Errno::AGAIN | Errno::INTR))
    }

    /// Waits until the socket is ready, or has failed: then the call that follows says how.
    fn wait(&self, flags: PollFlags, deadline: Option<Instant>) -> Result<(), ChannelError> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&self.socket, flags)], timeout.as_ref()) {
                Ok(0) => return Err(ChannelError::Late),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(ChannelError::Host(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::messages::{Reply, Request};
    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::io::Read;
    use std::os::fd::AsFd;

    fn pair() -> (Channel, Channel) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        (Channel::new(one), Channel::new(other))
    }

    /// Receives what somebody has written who closes the connection then.
    fn receive_raw(bytes: &[u8]) -> Result<Request, ChannelError> {
        let (one, other) = pair();
        assert_eq!(rustix::io::write(one.socket(), bytes), Ok(bytes.len()));
        drop(one);
        other.receive(1024, Some(Duration::ZERO)).map(|(request, _)| request)
    }

    #[test]
    fn messages_and_descriptors_arrive() {
        let (one, other) = pair();
        let request = Request::Signal { pid: Some(7), signal: 15 };
        let (reader, writer) = std::io::pipe().unwrap();
        one.send_with(&request, &[writer.as_fd()]).unwrap();
        one.send(&Request::Processes).unwrap();
        drop(writer);
        let (received, fds): Received<Request> = other.receive(LONGEST_REQUEST, None).unwrap();
        assert_eq!((received, fds.len()), (request, 1));
        assert_eq!(rustix::io::write(&fds[0], b"x"), Ok(1));
        drop(fds);
        let mut text = String::new();
        let mut reader = reader;
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        let (received, fds): Received<Request> = other.receive(LONGEST_REQUEST, None).unwrap();
        assert_eq!((received, fds.len()), (Request::Processes, 0));
    }

    #[test]
    fn a_long_message_arrives_in_pieces() {
        let (one, other) = pair();
        let why = "x".repeat(3 << 20);
        let sent = Reply::Refused(why.clone());
        let sender = std::thread::spawn(move || one.send(&sent));
        let (received, _): Received<Reply> = other.receive(LONGEST_REPLY, None).unwrap();
        sender.join().unwrap().unwrap();
        assert!(matches!(received, Reply::Refused(text) if text == why));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let good = br#""Wait""#;
        let framed =
            |version, length: usize, body: &[u8]| [&header(version, u32::try_from(length).unwrap())[..], body].concat();
        assert_eq!(receive_raw(&framed(VERSION, good.len(), good)), Ok(Request::Wait));
        assert_eq!(receive_raw(b""), Err(ChannelError::Closed));
        assert_eq!(receive_raw(b"pico"), Err(ChannelError::Closed));
        assert_eq!(receive_raw(b"GET / HTTP/1.1\r\n\r\n"), Err(ChannelError::Alien));
        assert_eq!(receive_raw(&framed(VERSION + 1, 0, b"")), Err(ChannelError::Version(VERSION + 1)));
        assert_eq!(receive_raw(&framed(VERSION, 1025, b"")), Err(ChannelError::TooLong(1025)));
        assert_eq!(receive_raw(&framed(VERSION, 1024, b"{}")), Err(ChannelError::Closed));
        for body in [&b""[..], b"{}", b"\"Other\"", b"\xff", b"[[[[", &[b'['; 1000]] {
            let result = receive_raw(&framed(VERSION, body.len(), body));
            assert!(matches!(result, Err(ChannelError::Malformed(_))), "{body:?}: {result:?}");
        }
    }

    #[test]
    fn who_says_nothing_is_not_waited_for() {
        let (_one, other) = pair();
        let received: Result<Received<Request>, _> = other.receive(1024, Some(Duration::ZERO));
        assert!(matches!(received, Err(ChannelError::Late)));
        assert!(!other.is_closed());
    }

    #[test]
    fn who_is_gone_is_noticed() {
        let (one, other) = pair();
        drop(one);
        assert!(other.is_closed());
        assert_eq!(other.send(&Request::Wait), Err(ChannelError::Closed));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = receive_raw(&bytes);
            let _ = decode::<Request>(&bytes);
            let _ = decode::<Reply>(&bytes);
        }

        #[test]
        fn no_body_is_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let length = u32::try_from(bytes.len()).unwrap();
            let _ = receive_raw(&[&header(VERSION, length)[..], &bytes].concat());
        }
    }
}
