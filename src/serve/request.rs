//! What a caller hands over: a header of 32 bytes, the arguments and the environment as C strings, and descriptors.
//!
//! The descriptors come with the header's first byte: those of 0, 1 and 2 that are open, then the working directory. Both sides are the same build
//! (see [`super::address`]), so there is one version only. A spare believes nothing of it: lengths are bounded, nothing is allocated
//! on the word of one, and what does not add up is refused.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::ffi::{CString, OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, Instant};
use vmm::inherited::Inherited;

const MAGIC: [u8; 8] = *b"picorun1";
const HEADER: usize = 32;
/// Bytes of arguments and environment at the most; whoever has more runs the program himself. Linux's own limit is 6 MiB.
const LONGEST: usize = 8 << 20;
/// Descriptors at the most.
const DESCRIPTORS: usize = 4;
/// Bytes asked of the host at once.
const PIECE: usize = 64 << 10;
/// How long either side may take to say or to hear it all.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a run has from its caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// The command line, the command's own name included.
    pub(super) arguments: Vec<OsString>,
    /// The environment, ignored signals, and which standard descriptors there are.
    pub(super) inherited: Inherited,
}

/// The descriptors that came with a request.
#[derive(Debug)]
pub(super) struct Descriptors {
    /// 0, 1 and 2, where they are open.
    pub(super) standard: [Option<OwnedFd>; 3],
    /// The working directory.
    pub(super) folder: OwnedFd,
}

/// Why there is no request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RequestError {
    /// What came is none, or not all of one.
    Odd,
    /// There is too much of it, or it takes too long.
    TooMuch,
    /// The host refuses.
    Host(Errno),
}

impl From<Errno> for RequestError {
    fn from(error: Errno) -> Self {
        Self::Host(error)
    }
}

impl Request {
    fn encode(&self) -> Result<Vec<u8>, RequestError> {
        let bit = |(index, open): (usize, &bool)| u32::from(*open) << index;
        let standard: u32 = self.inherited.standard.iter().enumerate().map(bit).sum();
        let count = u32::try_from(self.arguments.len()).map_err(|_| RequestError::TooMuch)?;
        let mut bytes = vec![0; HEADER];
        for argument in &self.arguments {
            bytes.extend_from_slice(argument.as_bytes());
            bytes.push(0);
        }
        for variable in &self.inherited.environment {
            bytes.extend_from_slice(variable.as_bytes_with_nul());
        }
        let length = bytes.len() - HEADER;
        if length > LONGEST {
            return Err(RequestError::TooMuch);
        }
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&u32::try_from(length).map_err(|_| RequestError::TooMuch)?.to_le_bytes());
        bytes[12..16].copy_from_slice(&count.to_le_bytes());
        bytes[16..20].copy_from_slice(&standard.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.inherited.ignored.to_le_bytes());
        Ok(bytes)
    }

    /// Sends it to a spare, with as many descriptors as it says are open, and that of the working directory.
    pub(super) fn send(&self, socket: &OwnedFd, fds: &[BorrowedFd<'_>]) -> Result<(), RequestError> {
        let bytes = self.encode()?;
        let deadline = Instant::now() + PATIENCE;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(RequestError::TooMuch);
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match sendmsg(socket, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    rest = &rest[sent..];
                    control.clear();
                }
                Err(Errno::AGAIN) => wait(socket, PollFlags::OUT, deadline)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Receives one.
    pub(super) fn receive(socket: &OwnedFd) -> Result<(Self, Descriptors), RequestError> {
        let deadline = Instant::now() + PATIENCE;
        let (mut bytes, mut fds) = (vec![0; HEADER + PIECE], Vec::new());
        let (mut filled, mut end) = (0, HEADER);
        while filled < end {
            // Grows with what comes, not with what was said to come.
            bytes.resize(bytes.len().max(filled + PIECE), 0);
            match receive_some(socket, &mut bytes[filled..], &mut fds) {
                Ok(0) => return Err(RequestError::Odd),
                Ok(count) => filled += count,
                Err(Errno::AGAIN) => wait(socket, PollFlags::IN, deadline)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if filled >= HEADER {
                let Some(Header { length, .. }) = Header::parse(&bytes) else { return Err(RequestError::Odd) };
                if length > LONGEST {
                    return Err(RequestError::TooMuch);
                }
                end = HEADER + length;
            }
        }
        let request = Self::decode(&bytes[..filled]).ok_or(RequestError::Odd)?;
        let descriptors = distribute(request.inherited.standard, fds).ok_or(RequestError::Odd)?;
        Ok((request, descriptors))
    }

    /// Reads a whole request; `None` if it is none.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let Header { length, arguments, standard, ignored } = Header::parse(bytes)?;
        let body = bytes.get(HEADER..)?;
        let text = body.strip_suffix(&[0])?;
        if body.len() != length || standard >= 8 {
            return None;
        }
        let mut strings = text.split(|byte| *byte == 0);
        let words: Vec<_> = strings.by_ref().take(arguments).map(|word| OsString::from_vec(word.to_vec())).collect();
        let environment: Option<Vec<_>> = strings.map(|variable| CString::new(variable).ok()).collect();
        let standard = [0, 1, 2].map(|fd| standard >> fd & 1 != 0);
        (words.len() == arguments)
            .then_some(Self { arguments: words, inherited: Inherited { standard, ignored, environment: environment? } })
    }
}

struct Header {
    length: usize,
    arguments: usize,
    standard: u32,
    ignored: u64,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        if bytes.get(..8)? != MAGIC {
            return None;
        }
        Some(Self {
            length: usize::try_from(number(8)?).ok()?,
            arguments: usize::try_from(number(12)?).ok()?,
            standard: number(16)?,
            ignored: u64::from_le_bytes(bytes.get(24..32)?.try_into().ok()?),
        })
    }
}

/// The caller's environment as it is, names without a value and names that are there twice included.
pub(super) fn environment() -> Vec<CString> {
    let joined = |(name, value): (OsString, OsString)| {
        let mut bytes = name.into_vec();
        bytes.push(b'=');
        bytes.extend_from_slice(OsStr::as_bytes(&value));
        CString::new(bytes).ok()
    };
    std::env::vars_os().filter_map(joined).collect()
}

/// Who gets which descriptor; `None` if there are not as many as there should be.
fn distribute(standard: [bool; 3], fds: Vec<OwnedFd>) -> Option<Descriptors> {
    let mut fds = fds.into_iter();
    let mut next = |open: bool| if open { fds.next().map(Some) } else { Some(None) };
    let standard = [next(standard[0])?, next(standard[1])?, next(standard[2])?];
    let folder = fds.next()?;
    fds.next().is_none().then_some(Descriptors { standard, folder })
}

/// Receives some bytes, keeping the first few descriptors that come along.
fn receive_some(socket: &OwnedFd, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    // One more than there may be shows that there are too many.
    fds.truncate(DESCRIPTORS + 1);
    Ok(got.bytes)
}

fn wait(socket: &OwnedFd, flags: PollFlags, deadline: Instant) -> Result<(), RequestError> {
    let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
    match poll(&mut [PollFd::new(socket, flags)], left.as_ref()) {
        Ok(0) => Err(RequestError::TooMuch),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
    }

    fn request(variables: usize) -> Request {
        let environment = (0..variables).map(|n| CString::new(format!("N{n}={}", "x".repeat(100))).unwrap()).collect();
        let arguments = vec!["picovisor".into(), "run".into(), OsString::new(), OsString::from_vec(vec![0xff, b' '])];
        Request { arguments, inherited: Inherited { standard: [true, false, true], ignored: 1 << 63 | 5, environment } }
    }

    #[test]
    fn requests_and_descriptors_arrive() {
        // More than a socket holds at once, and nothing at all.
        for variables in [0, 3, 20_000] {
            let (one, other) = pair();
            let sent = request(variables);
            let copy = sent.clone();
            let (input, output) = std::io::pipe().unwrap();
            let folder = std::fs::File::open("/").unwrap();
            let sender = std::thread::spawn(move || {
                copy.send(&one, &[input.as_fd(), output.as_fd(), folder.as_fd()]).map(|()| one)
            });
            let (received, fds) = Request::receive(&other).unwrap();
            sender.join().unwrap().unwrap();
            assert_eq!(received, sent);
            assert!(fds.standard[0].is_some() && fds.standard[1].is_none() && fds.standard[2].is_some());
            assert!(rustix::fs::fstat(&fds.folder).unwrap().st_mode & 0o170_000 == 0o040_000);
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let good = request(2).encode().unwrap();
        let refused = |bytes: &[u8], fds: &[BorrowedFd<'_>]| {
            let (one, other) = pair();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
            sendmsg(&one, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
            drop(one);
            Request::receive(&other).unwrap_err()
        };
        let null = std::fs::File::open("/dev/null").unwrap();
        let fd = null.as_fd();
        // Too few descriptors, and too many.
        assert_eq!(refused(&good, &[]), RequestError::Odd);
        assert_eq!(refused(&good, &[fd, fd]), RequestError::Odd);
        assert_eq!(refused(&good, &[fd, fd, fd, fd]), RequestError::Odd);
        // Cut off, and with another beginning, length or end.
        assert_eq!(refused(&good[..20], &[fd, fd, fd]), RequestError::Odd);
        assert_eq!(refused(&good[..good.len() - 1], &[fd, fd, fd]), RequestError::Odd);
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            refused(&bytes, &[fd, fd, fd])
        };
        assert_eq!(changed(0, b'x'), RequestError::Odd);
        assert_eq!(changed(8, 1), RequestError::Odd);
        assert_eq!(changed(11, 0xff), RequestError::TooMuch);
        assert_eq!(changed(13, 0xff), RequestError::Odd);
        assert_eq!(changed(16, 0xff), RequestError::Odd);
        assert_eq!(changed(good.len() - 1, b'x'), RequestError::Odd);
    }

    #[test]
    fn the_environment_is_the_callers() {
        let ours = environment();
        assert_eq!(ours.len(), std::env::vars_os().count());
        assert!(ours.iter().all(|variable| variable.as_bytes().contains(&b'=')));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Request::decode(&bytes);
            let (one, other) = pair();
            rustix::io::write(&one, &[&MAGIC[..], &bytes].concat()).unwrap();
            drop(one);
            let _ = Request::receive(&other);
        }

        #[test]
        fn no_body_is_too_odd(body in proptest::collection::vec(0_u8..3, 0..200), count in 0_u8..20, open in 0_u8..9) {
            let length = u32::try_from(body.len()).unwrap().to_le_bytes();
            let head = [&MAGIC[..], &length, &[count, 0, 0, 0, open, 0, 0, 0], &[0; 12]].concat();
            let bytes = [&head[..], &body].concat();
            if let Some(request) = Request::decode(&bytes) {
                // What it takes, it could have sent.
                prop_assert_eq!(request.encode().unwrap(), bytes);
            }
        }
    }
}
