//! The queue of errors (IP_RECVERR, MSG_ERRQUEUE of recvmsg(2)): which datagrams found nobody, and
//! which were too long to be sent.

use super::UdpSocket;
use crate::errno::Errno;
use crate::net::common::Switches;
use crate::net::inet::number;
use crate::net::interface::MTU;
use crate::net::messages::Payload;
use crate::net::socket::{Incoming, MessageFlags, Received};
use crate::net::{Address, Control};
use linux_raw_sys::net::{MSG_ERRQUEUE, MSG_TRUNC, SOL_IP, SOL_IPV6};
use std::net::SocketAddr;
use zerocopy::{Immutable, IntoBytes};

/// The most of a datagram that an ICMP message quotes: of its 576 bytes, 20 and 8 are its own headers, and as many the datagram's.
const QUOTED_V4: usize = 576 - 2 * (20 + 8);
/// That of an ICMPv6 message: of 1,280 bytes, 40 and 8 twice.
const QUOTED_V6: usize = 1280 - 2 * (40 + 8);
/// SO_EE_ORIGIN_ICMP, ICMP_DEST_UNREACH and ICMP_PORT_UNREACH.
const PORT_UNREACHABLE_V4: [u8; 3] = [2, 3, 3];
/// SO_EE_ORIGIN_ICMP6, ICMPV6_DEST_UNREACH and ICMPV6_PORT_UNREACH.
const PORT_UNREACHABLE_V6: [u8; 3] = [3, 1, 4];
/// SO_EE_ORIGIN_LOCAL, with no type nor code.
const LOCAL: [u8; 3] = [1, 0, 0];

/// What went wrong with a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// Where it was to go.
    to: SocketAddr,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Nobody has the port.
    Refused,
    /// No packet is so long.
    TooLong,
}

/// `struct sock_extended_err`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct ExtendedError {
    errno: u32,
    /// Origin, type and code.
    what: [u8; 3],
    padding: u8,
    info: u32,
    data: u32,
}

const _: () = assert!(size_of::<ExtendedError>() == 16);

impl UdpSocket {
    /// Tells whether the program asked for errors of what goes to an address.
    fn wants_errors(&self, to: SocketAddr) -> bool {
        let (level, name) = match to {
            SocketAddr::V4(_) => (SOL_IP, number::IP_RECVERR),
            SocketAddr::V6(_) => (SOL_IPV6, number::IPV6_RECVERR),
        };
        self.endpoint.options().is_on(level, name)
    }

    /// Nobody has the port that a datagram went to (icmp_unreach, udp_err): that is told to a socket that asked for errors, or that
    /// sends there only.
    pub(super) fn refused(&self, payload: Payload, to: SocketAddr, is_connected: bool) {
        let asks = self.wants_errors(to);
        if !asks && !is_connected {
            return;
        }
        if asks {
            let most = if to.is_ipv4() { QUOTED_V4 } else { QUOTED_V6 };
            let quoted = payload.bytes()[..payload.bytes().len().min(most)].to_vec();
            drop(payload);
            self.queue_failure(quoted, Failure { to, why: Why::Refused });
        }
        self.common.set_error(Errno::ECONNREFUSED);
        self.common.queue.wake_all();
    }

    /// A datagram is longer than any packet (ip_local_error, ipv6_local_error): that is queued for who asked, with no data.
    pub(super) fn too_long(&self, to: SocketAddr) {
        if self.wants_errors(to) {
            self.queue_failure(Vec::new(), Failure { to, why: Why::TooLong });
            self.common.queue.wake_all();
        }
    }

    /// Queues a failure; one too many is dropped.
    fn queue_failure(&self, quoted: Vec<u8>, failure: Failure) {
        let limit = self.common.options().receive_buffer;
        let Ok(quoted) = Payload::new(quoted, &self.budget) else { return };
        let mut errors = self.errors.lock();
        if errors.charge() <= limit {
            errors.push(quoted, failure);
        }
    }

    /// Receives from the queue of errors (ip_recv_error, ipv6_recv_error); `EAGAIN` if there is none.
    pub(super) fn receive_error(&self, message: &mut Incoming<'_>) -> Result<Received, Errno> {
        let (received, taken) = {
            let mut errors = self.errors.lock();
            let (payload, failure) = errors.front().ok_or(Errno::EAGAIN)?;
            let shown = payload.show(message.data)?;
            let whole = payload.bytes().len();
            let received = Received {
                len: if message.flags.contains(MessageFlags::TRUNC) { whole } else { shown },
                from: message.wants_name.then(|| self.endpoint.show(failure.to)),
                control: vec![self.error_message(*failure)],
                flags: MSG_ERRQUEUE | if shown < whole { MSG_TRUNC } else { 0 },
                is_complete: true,
            };
            let taken = errors.pop();
            if errors.is_empty() {
                // With the last message, the error that it left is gone, too.
                let _ = self.common.take_error();
            }
            (received, taken)
        };
        drop(taken);
        Ok(received)
    }

    /// What happened, and whose doing it was: the destination's, without its port, or nobody's.
    fn error_message(&self, failure: Failure) -> Control {
        let refused = if failure.to.is_ipv4() { PORT_UNREACHABLE_V4 } else { PORT_UNREACHABLE_V6 };
        let (errno, what, info) = match failure.why {
            Why::Refused => (Errno::ECONNREFUSED, refused, 0),
            // The longest packet is told.
            Why::TooLong => (Errno::EMSGSIZE, LOCAL, MTU),
        };
        let error = ExtendedError { errno: u32::from(errno.raw()), what, padding: 0, info, data: 0 };
        let offender: Address = self.endpoint.show(SocketAddr::new(failure.to.ip(), 0));
        let mut data = [error.as_bytes(), offender.bytes()].concat();
        if failure.why == Why::TooLong {
            data[size_of::<ExtendedError>()..].fill(0);
        }
        if self.endpoint.is_v6() {
            Control::data(SOL_IPV6, number::IPV6_RECVERR, &data)
        } else {
            Control::data(SOL_IP, number::IP_RECVERR, &data)
        }
    }

    /// Forgets all errors: nobody asks for them any more.
    pub(super) fn drop_errors(&self) {
        let dropped = std::mem::take(&mut *self.errors.lock());
        drop(dropped);
    }

    /// Tells whether an error waits, and whether that counts as urgent data (SO_SELECT_ERR_QUEUE).
    pub(super) fn waiting_errors(&self) -> (bool, bool) {
        let waits = !self.errors.lock().is_empty();
        (waits, waits && self.common.has(Switches::SELECT_ERR_QUEUE))
    }
}
