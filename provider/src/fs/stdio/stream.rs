//! Host streams that the caller handed over: pipes, sockets, terminals.
//!
//! Their open file descriptions are shared with the caller's other processes, so O_NONBLOCK is never set on them. Instead each call
//! asks the host whether it would block. Where another process takes the data in between, a read blocks in the host; a kick ends it.

use crate::errno::Errno;
use crate::fs::io::buffer;
use crate::fs::{Ready, Sink, Source};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{ReadWriteFlags, pwritev2, retry_on_intr};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes offered to a pipe or a terminal at once.
const PIECE: usize = 64 * 1024;
/// Bytes offered to a socket at once: any datagram that Linux's default buffer sizes permit.
const DATAGRAM: usize = 256 * 1024;
/// What a pipe that reports POLLOUT surely takes at once (PIPE_BUF), and what a terminal that does takes in most states.
const SURE: usize = 4096;

/// What a host stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// A pipe or FIFO.
    Pipe,
    /// A socket of any family.
    Socket,
    /// A terminal or another character device.
    Device,
}

/// A host descriptor of a stream.
#[derive(Debug)]
pub(crate) struct HostStream {
    fd: OwnedFd,
    kind: StreamKind,
    /// Pipes take RWF_NOWAIT since Linux 6.4 only.
    takes_nowait: AtomicBool,
    /// It has taken a write with RWF_NOWAIT.
    has_taken_nowait: AtomicBool,
}

impl HostStream {
    /// Takes a descriptor.
    pub(crate) fn new(fd: OwnedFd, kind: StreamKind) -> Self {
        Self {
            fd,
            kind,
            takes_nowait: AtomicBool::new(kind == StreamKind::Pipe),
            has_taken_nowait: AtomicBool::new(false),
        }
    }

    /// Takes a pipe as on a host before Linux 6.4.
    #[cfg(test)]
    pub(super) fn without_nowait(fd: OwnedFd) -> Self {
        let (takes_nowait, has_taken_nowait) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { fd, kind: StreamKind::Pipe, takes_nowait, has_taken_nowait }
    }

    /// The descriptor, for polling and control.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What it is ready for now.
    pub(crate) fn ready(&self) -> Ready {
        ready_now(self.fd())
    }

    /// Tells whether the host certainly does not make a thread that writes wait.
    pub(crate) fn writes_without_waiting(&self) -> bool {
        match self.kind {
            StreamKind::Socket => true,
            StreamKind::Pipe => self.has_taken_nowait.load(Ordering::Relaxed),
            StreamKind::Device => false,
        }
    }

    /// Reads straight into `to`; `EAGAIN` if nothing is there.
    pub(crate) fn read(&self, to: &mut dyn Sink) -> Result<usize, Errno> {
        if to.remaining() == 0 && self.kind != StreamKind::Socket {
            return Ok(0);
        }
        if poll_now(self.fd(), PollFlags::IN).is_none_or(|ready| ready.is_empty()) {
            return Err(Errno::EAGAIN);
        }
        interruptible(to.fill_from_host(self.fd(), None))
    }

    /// Writes all that the stream takes now; `EAGAIN` if that is nothing.
    pub(crate) fn write(&self, from: &mut dyn Source) -> Result<usize, Errno> {
        let piece = if self.kind == StreamKind::Socket { DATAGRAM } else { PIECE };
        let mut bytes = buffer(piece.min(from.remaining()))?;
        let mut done = 0;
        loop {
            let wanted = bytes.len().min(from.remaining());
            let step = from.peek(&mut bytes[..wanted]).and_then(|got| {
                let accepted = self.offer(&bytes[..got])?;
                from.skip(accepted);
                Ok(accepted)
            });
            match step {
                Ok(accepted) => done += accepted,
                Err(error) if done == 0 => return Err(error),
                // What was written counts; the error is found again by the next call.
                Err(_) => return Ok(done),
            }
            if from.remaining() == 0 {
                return Ok(done);
            }
        }
    }

    /// Offers bytes; returns how many the stream took without blocking.
    fn offer(&self, bytes: &[u8]) -> Result<usize, Errno> {
        if self.kind == StreamKind::Socket {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let sent = sendmsg(&self.fd, &[IoSlice::new(bytes)], &mut SendAncillaryBuffer::default(), flags);
            return interruptible(sent.map_err(Errno::from));
        }
        if self.takes_nowait.load(Ordering::Relaxed) {
            // The offset −1 is the stream's own position.
            match pwritev2(&self.fd, &[IoSlice::new(bytes)], u64::MAX, ReadWriteFlags::NOWAIT) {
                Err(rustix::io::Errno::OPNOTSUPP) => self.takes_nowait.store(false, Ordering::Relaxed),
                other => {
                    if other.is_ok() && !self.has_taken_nowait.load(Ordering::Relaxed) {
                        self.has_taken_nowait.store(true, Ordering::Relaxed);
                    }
                    return interruptible(other.map_err(Errno::from));
                }
            }
        }
        if poll_now(self.fd(), PollFlags::OUT).is_none_or(|ready| ready.is_empty()) {
            return Err(Errno::EAGAIN);
        }
        let sure = bytes.len().min(SURE);
        interruptible(rustix::io::write(&self.fd, &bytes[..sure]).map_err(Errno::from))
    }
}

/// What a host descriptor is ready for now.
///
/// Where the host has no memory to say so it is taken for ready to read and write: who tries finds out, but who takes it for not ready may
/// wait for a change that has been.
pub(crate) fn ready_now(fd: BorrowedFd<'_>) -> Ready {
    poll_now(fd, PollFlags::all()).unwrap_or(Ready::IN | Ready::OUT)
}

/// Asks the host what a descriptor is ready for, without waiting; `None` if the host cannot say.
fn poll_now(fd: BorrowedFd<'_>, interest: PollFlags) -> Option<Ready> {
    let mut polled = [PollFd::from_borrowed_fd(fd, interest)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A kick ends even a poll that does not wait.
    retry_on_intr(|| poll(&mut polled, Some(&now))).ok()?;
    Some(Ready::from_bits_truncate(u32::from(polled[0].revents().bits())))
}

/// A host call that a kick ended is to be made again, by the one place that looks for signals first.
fn interruptible(result: Result<usize, Errno>) -> Result<usize, Errno> {
    result.map_err(|error| if error == Errno::EINTR { Errno::EAGAIN } else { error })
}
