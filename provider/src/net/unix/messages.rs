//! Datagrams, and packets over a connection (unix_dgram_sendmsg and __unix_dgram_recvmsg).

use super::connect::parse_destination;
use super::inbox::{Charge, Packet};
use super::stream::add_control;
use super::{CLOSED_BOTH, CLOSED_RECEIVE, CLOSED_SEND, Phase, QUEUE_LIMIT, UnixSocket, address};
use crate::errno::Errno;
use crate::fs::Ready;
use crate::net::Kind;
use crate::net::common::Switches;
use crate::net::messages::Payload;
use crate::net::socket::{Incoming, MessageFlags, Outgoing, Received};
use crate::task::CurrentTask;
use linux_raw_sys::net::MSG_TRUNC;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What of SO_SNDBUF a message must leave over.
const RESERVE: usize = 32;

impl UnixSocket {
    /// Where a message goes.
    fn destination(&self, task: &CurrentTask<'_>, message: &Outgoing<'_>) -> Result<Arc<UnixSocket>, Errno> {
        match message.to {
            // A packet socket ignores the name.
            Some(to) if self.common.kind == Kind::Datagram => self.find(task, &parse_destination(to)?),
            _ => match self.peer() {
                None => Err(Errno::ENOTCONN),
                Some(Some(peer)) => Ok(peer),
                Some(None) if self.common.kind == Kind::Datagram => {
                    self.state.lock().phase = Phase::Idle;
                    Err(Errno::ECONNREFUSED)
                }
                Some(None) => Err(Errno::EPIPE),
            },
        }
    }

    /// Sends one message; `EAGAIN` while there is no room for it here or there.
    pub(super) fn send_packet(&self, task: &CurrentTask<'_>, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        if message.flags.contains(MessageFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let is_packet = self.common.kind == Kind::SeqPacket;
        if self.peer().is_none() && (is_packet || message.to.is_none()) {
            return Err(Errno::ENOTCONN);
        }
        self.name_for_credentials(task)?;
        let len = message.data.remaining();
        if len.saturating_add(RESERVE) > self.send_limit() {
            return Err(Errno::EMSGSIZE);
        }
        self.common.check_error()?;
        if self.is_closed(CLOSED_SEND) {
            return Err(Errno::EPIPE);
        }
        let other = self.destination(task, message)?;
        if self.in_flight.load(Ordering::SeqCst) >= self.send_limit() {
            return Err(Errno::EAGAIN);
        }
        if !is_packet && !other.accepts_from(self) {
            return Err(Errno::EPERM);
        }
        if other.is_gone() {
            return Err(if is_packet { Errno::EPIPE } else { Errno::ECONNREFUSED });
        }
        if other.is_closed(CLOSED_RECEIVE) {
            return Err(Errno::EPIPE);
        }
        let ancillary = self.ancillary(task, message, &other)?;
        let payload = Payload::read(message.data, &self.budget)?;
        let is_mutual = other.is_connected_to(self);
        let packet = Packet { from: self.name(), ancillary, _charge: Charge::new(self, len) };
        // Dropped where no lock is held, should it not be wanted.
        let mut packet = Some((payload, packet));
        {
            let mut inbox = other.inbox.lock();
            let Some(packets) = inbox.packets() else { return Err(Errno::EPROTOTYPE) };
            if !is_mutual && packets.messages.len() > QUEUE_LIMIT && !other.me.ptr_eq(&self.me) {
                packets.blocked.add(&self.me);
            } else if let Some((payload, packet)) = packet.take() {
                packets.messages.push(payload, packet);
            }
        }
        if packet.is_some() {
            return Err(Errno::EAGAIN);
        }
        message.data.skip(len);
        other.common.queue.wake(Ready::IN | Ready::RDNORM);
        Ok(len)
    }

    /// Tells whether the socket is closed for good.
    fn is_gone(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Closed)
    }

    /// Receives one message; `EAGAIN` if there is none.
    pub(super) fn receive_packet(&self, message: &mut Incoming<'_>) -> Result<Received, Errno> {
        if message.flags.contains(MessageFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let is_packet = self.common.kind == Kind::SeqPacket;
        if is_packet && self.peer().is_none() {
            return Err(Errno::ENOTCONN);
        }
        self.common.check_error()?;
        let wants_credentials = self.common.has(Switches::PASSCRED);
        let peeks = message.flags.contains(MessageFlags::PEEK);
        let mut inbox = self.inbox.lock();
        let packets = inbox.packets().ok_or(Errno::EINVAL)?;
        let Some((payload, packet)) = packets.messages.front() else {
            drop(inbox);
            let is_over =
                self.is_closed(CLOSED_RECEIVE) && (is_packet || !message.flags.contains(MessageFlags::DONTWAIT));
            return if is_over { Ok(Received::default()) } else { Err(Errno::EAGAIN) };
        };
        let shown = payload.show(message.data)?;
        let whole = payload.bytes().len();
        let mut received = Received {
            len: if message.flags.contains(MessageFlags::TRUNC) { whole } else { shown },
            from: packet.from.as_ref().map(|name| address::encode(Some(name))),
            flags: if shown < whole { MSG_TRUNC } else { 0 },
            is_complete: true,
            ..Received::default()
        };
        let credentials = wants_credentials.then_some(packet.ancillary.credentials);
        if peeks {
            let rights = packet.ancillary.rights.files().to_vec();
            drop(inbox);
            add_control(&mut received, credentials, rights);
            return Ok(received);
        }
        let taken = packets.messages.pop();
        let blocked = packets.blocked.take();
        drop(inbox);
        if let Some((_, mut packet)) = taken {
            add_control(&mut received, credentials, packet.ancillary.rights.take());
        }
        blocked.wake();
        Ok(received)
    }

    /// What a datagram socket is ready for (unix_dgram_poll).
    pub(super) fn datagram_ready(&self) -> Ready {
        let mut ready = Ready::empty();
        if self.common.error().is_some() {
            ready |= Ready::ERR;
        }
        if self.is_closed(CLOSED_RECEIVE) {
            ready |= Ready::RDHUP | Ready::IN | Ready::RDNORM;
        }
        if self.is_closed(CLOSED_BOTH) {
            ready |= Ready::HUP;
        }
        if !self.inbox.lock().is_empty() {
            ready |= Ready::IN | Ready::RDNORM;
        }
        if self.has_room(self.in_flight.load(Ordering::SeqCst)) && !self.is_destination_full() {
            ready |= Ready::OUT | Ready::WRNORM | Ready::WRBAND;
        }
        ready
    }

    /// Tells whether the default destination takes nothing now; then this socket is woken when it does again.
    fn is_destination_full(&self) -> bool {
        let Some(Some(peer)) = self.peer() else { return false };
        if peer.is_connected_to(self) {
            return false;
        }
        let mut inbox = peer.inbox.lock();
        let Some(packets) = inbox.packets() else { return false };
        let is_full = packets.messages.len() > QUEUE_LIMIT;
        if is_full {
            packets.blocked.add(&self.me);
        }
        is_full
    }
}
