//! The connection between a caller and the spare that runs its program: notices of eight bytes.
//!
//! The spare first says whether it takes the request. From then on the caller tells which signals came, and the spare when the program has stopped
//! and how it ended. Whichever side finds the other gone ends: a sandbox does not outlive its `picovisor run`.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::stdio;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vmm::signals::{HostSignal, take};

use crate::complain;
use crate::failure::Failure;

/// What one side tells the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// To the caller: from here on the program is the spare's to run.
    Accepted,
    /// To the caller: the spare has done nothing, and does nothing for this request.
    Declined(Reason),
    /// To the caller: the program has stopped.
    Stopped,
    /// To the caller: it is over.
    Ended(u8),
    /// To the spare: the caller got a signal.
    Signal(HostSignal),
}

/// Why a spare does not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The command line asks for something that is made at the very start, or is wrong.
    Options,
    /// The caller has other rights, or sees another system.
    Standing,
    /// The caller's limits, priority or folder cannot be taken over.
    Surroundings,
}

impl Reason {
    const ALL: [Self; 3] = [Self::Options, Self::Standing, Self::Surroundings];

    /// For people.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Options => "a spare cannot do what the options ask for",
            Self::Standing => "the spare's rights or namespaces are not the caller's",
            Self::Surroundings => "a spare could not take over the caller's limits, priority or folder",
        }
    }
}

const SIZE: usize = 8;

impl Notice {
    fn encode(self) -> [u8; SIZE] {
        let (kind, flag, value) = match self {
            Self::Accepted => (1, 0, 0),
            Self::Declined(reason) => (2, 0, reason as u32),
            Self::Stopped => (3, 0, 0),
            Self::Ended(status) => (4, 0, status.into()),
            Self::Signal(HostSignal { number, from_kernel }) => (5, from_kernel.into(), number.cast_unsigned()),
        };
        let [a, b, c, d] = value.to_le_bytes();
        [b'p', kind, flag, 0, a, b, c, d]
    }

    fn decode([mark, kind, flag, zero, a, b, c, d]: [u8; SIZE]) -> Option<Self> {
        let value = u32::from_le_bytes([a, b, c, d]);
        match (mark, kind, flag, zero) {
            (b'p', 1, 0, 0) if value == 0 => Some(Self::Accepted),
            (b'p', 2, 0, 0) => Reason::ALL.into_iter().find(|reason| *reason as u32 == value).map(Self::Declined),
            (b'p', 3, 0, 0) if value == 0 => Some(Self::Stopped),
            (b'p', 4, 0, 0) => u8::try_from(value).ok().map(Self::Ended),
            (b'p', 5, 0 | 1, 0) => {
                let number = i32::try_from(value).ok().filter(|number| (1..=64).contains(number))?;
                Some(Self::Signal(HostSignal { number, from_kernel: flag == 1 }))
            }
            _ => None,
        }
    }

    /// Sends it. There is room for some thousands.
    pub(super) fn send(self, socket: &OwnedFd) -> Result<(), Errno> {
        match retry_on_intr(|| send(socket, &self.encode(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT))? {
            SIZE => Ok(()),
            // A socket has room for a few bytes or for none.
            _ => Err(Errno::PIPE),
        }
    }

    /// Takes one that has come; `None` if there is none. `EPIPE` if the other side is gone, or makes no sense.
    pub(super) fn take(socket: &OwnedFd) -> Result<Option<Self>, Errno> {
        let mut bytes = [0; SIZE];
        match recv(socket, &mut bytes[..], RecvFlags::DONTWAIT) {
            // They are sent whole, and so they come.
            Ok((SIZE, _)) => Self::decode(bytes).map(Some).ok_or(Errno::PIPE),
            Ok(_) | Err(Errno::CONNRESET) => Err(Errno::PIPE),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The spare's end, while the program runs.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    /// Signals that somebody sends to the spare's own process.
    signals: OwnedFd,
    /// /dev/null.
    null: OwnedFd,
    ended: AtomicBool,
}

/// What the spare's end heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A signal for the program.
    Signal(HostSignal),
    /// The caller is gone.
    Gone,
    /// The caller is gone, and knows how it ended.
    Over,
    /// Nothing, for as long as was asked.
    Nothing,
}

impl Link {
    /// Makes it of the connection, a descriptor of signals, and /dev/null.
    pub(super) fn new(socket: OwnedFd, signals: OwnedFd, null: OwnedFd) -> Self {
        Self { socket, signals, null, ended: AtomicBool::new(false) }
    }

    /// Waits until something is heard.
    pub(crate) fn hear(&self, timeout: Option<Duration>) -> std::io::Result<Heard> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut ends = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        match poll(&mut ends, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(signal) = take(&self.signals)? {
            return Ok(Heard::Signal(signal));
        }
        match Notice::take(&self.socket) {
            Ok(Some(Notice::Signal(signal))) => Ok(Heard::Signal(signal)),
            Ok(None) => Ok(Heard::Nothing),
            // Who knows that it is over may go.
            _ if self.ended.load(Ordering::SeqCst) => Ok(Heard::Over),
            // What a caller never says is as good as silence for ever.
            Ok(Some(_)) | Err(_) => Ok(Heard::Gone),
        }
    }

    /// Tells the caller that the program has stopped, so that its shell sees the job stop.
    pub(crate) fn stopped(&self) {
        // A caller that is gone is noticed elsewhere.
        let _ = Notice::Stopped.send(&self.socket);
    }

    /// Tells the caller's user what went wrong, if anything did, and the caller that it is over. Only the first time counts.
    ///
    /// The caller's standard descriptors are let go of before: who reads to the end of a pipe has waited long enough.
    pub(crate) fn end(&self, result: &Result<u8, Failure>) {
        if self.ended.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Err(failure) = result {
            complain(failure);
        }
        let put = [stdio::dup2_stdin, stdio::dup2_stdout, stdio::dup2_stderr];
        // Neither of these fails with a descriptor that is open; the caller learns of the end even so.
        put.iter().for_each(|put| _ = put(&self.null));
        let _ = Notice::Ended(result.as_ref().map_or_else(Failure::status, |status| *status)).send(&self.socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn notices_arrive() {
        let (one, other) = pair();
        let signal = |number, from_kernel| Notice::Signal(HostSignal { number, from_kernel });
        let notices = [Notice::Accepted, Notice::Stopped, Notice::Ended(255), signal(1, true), signal(64, false)];
        let notices: Vec<_> = notices.into_iter().chain(Reason::ALL.map(Notice::Declined)).collect();
        notices.iter().for_each(|notice| notice.send(&one).unwrap());
        for notice in notices {
            assert_eq!(Notice::take(&other), Ok(Some(notice)));
        }
        assert_eq!(Notice::take(&other), Ok(None));
        drop(one);
        assert_eq!(Notice::take(&other), Err(Errno::PIPE));
        assert_eq!(Notice::Accepted.send(&other), Err(Errno::PIPE));
    }

    #[test]
    fn what_is_no_notice_is_the_end() {
        for bytes in [&b"p\x01"[..], b"p\x05\0\0\0\0\0\0", b"p\x05\0\0\x41\0\0\0", b"p\x04\0\0\0\x01\0\0", b"GET / HT"]
        {
            let (one, other) = pair();
            rustix::io::write(&one, bytes).unwrap();
            assert_eq!(Notice::take(&other), Err(Errno::PIPE), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_understood_could_have_been_sent(bytes in any::<[u8; SIZE]>(), kind in 0_u8..7, value in 0_u8..70) {
            for bytes in [bytes, [b'p', kind, bytes[0] & 1, 0, value, 0, 0, 0]] {
                if let Some(notice) = Notice::decode(bytes) {
                    prop_assert_eq!(notice.encode(), bytes);
                }
            }
        }
    }
}
