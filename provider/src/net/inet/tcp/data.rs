//! Bytes over a connection: sending, receiving, urgent data, readiness (net/ipv4/tcp.c).

use super::{Ended, Phase, TcpSocket};
use crate::errno::Errno;
use crate::fs::Ready;
use crate::net::common::Switches;
use crate::net::ring::Ring;
use crate::net::socket::{Incoming, MessageFlags, Outgoing, Received};
use crate::net::{Budget, Control};
use linux_raw_sys::net::{MSG_OOB, SOL_TCP, TCP_INQ};
use std::sync::Arc;
use zerocopy::IntoBytes;

/// What a socket has received.
#[derive(Debug)]
pub(super) struct Inbox {
    ring: Ring,
    /// The position of the next byte.
    position: u64,
    urgent: Option<Urgent>,
    /// What the ring may hold, as the sender last knew.
    limit: usize,
    budget: Arc<Budget>,
}

/// Where urgent data is: one byte, as Linux sees it.
#[derive(Clone, Copy, Debug)]
struct Urgent {
    position: u64,
    was_read: bool,
}

impl Inbox {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { ring: Ring::new(budget), position: 0, urgent: None, limit: 0, budget: budget.clone() }
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(&self.budget.clone());
    }

    fn consume(&mut self, count: usize) {
        self.ring.consume(count);
        self.position += count as u64;
    }

    /// Bytes before the urgent one.
    fn before_urgent(&self) -> Option<usize> {
        let ahead = self.urgent?.position.checked_sub(self.position)?;
        usize::try_from(ahead).ok()
    }

    /// Tells whether the next byte is the urgent one (SIOCATMARK).
    pub(super) fn is_at_mark(&self) -> bool {
        self.before_urgent() == Some(0)
    }

    fn is_writable(&self) -> bool {
        self.ring.len().saturating_mul(3) <= self.limit.saturating_mul(2)
    }
}

impl TcpSocket {
    /// Sends bytes; `EAGAIN` if not one fits.
    pub(super) fn send_bytes(&self, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        if matches!(self.state.lock().phase, Phase::Connecting) && self.common.error().is_none() {
            return Err(Errno::EAGAIN);
        }
        self.common.check_error()?;
        let peer = self.peer().ok_or(Errno::EPIPE)?;
        if self.ended().intersects(Ended::SENT | Ended::RESET) {
            return Err(Errno::EPIPE);
        }
        let wanted = message.data.remaining();
        if wanted == 0 {
            return Ok(0);
        }
        let Some(peer) = peer else {
            // What has room in the buffer goes out; the answer is a reset, which the next call sees.
            let sent = wanted.min(self.share(true).max(1));
            message.data.skip(sent);
            self.tell_remembered(None);
            self.reset();
            return Ok(sent);
        };
        let limit = self.share(true).saturating_add(peer.share(false));
        let sent = {
            let mut inbox = peer.inbox.lock();
            inbox.limit = limit;
            let room = limit.saturating_sub(inbox.ring.len());
            if room == 0 {
                return Err(Errno::EAGAIN);
            }
            let sent = inbox.ring.fill(message.data, room)?;
            if message.flags.contains(MessageFlags::OOB) && message.data.remaining() == 0 {
                let position = inbox.position + inbox.ring.len() as u64 - 1;
                inbox.urgent = Some(Urgent { position, was_read: false });
            }
            sent
        };
        let urgent = if message.flags.contains(MessageFlags::OOB) { Ready::PRI } else { Ready::empty() };
        peer.common.queue.wake(Ready::IN | Ready::RDNORM | urgent);
        Ok(sent)
    }

    /// Receives what is there.
    pub(super) fn receive_bytes(&self, message: &mut Incoming<'_>) -> Result<Received, Errno> {
        if message.flags.contains(MessageFlags::ERRQUEUE) {
            return Err(Errno::EAGAIN);
        }
        if matches!(self.state.lock().phase, Phase::Listening(_)) {
            return Err(Errno::ENOTCONN);
        }
        if message.flags.contains(MessageFlags::OOB) {
            return self.receive_urgent(message);
        }
        let peeks = message.flags.contains(MessageFlags::PEEK);
        let inline = self.common.has(Switches::OOBINLINE);
        let left;
        let (taken, makes_room) = {
            let mut inbox = self.inbox.lock();
            if inbox.is_at_mark() && !inline && !peeks {
                // The urgent byte is not in line.
                inbox.consume(1);
                inbox.urgent = inbox.urgent.filter(|urgent| !urgent.was_read);
            }
            if inbox.is_empty() {
                drop(inbox);
                return self.nothing_there();
            }
            let was_writable = inbox.is_writable();
            let end = inbox.before_urgent().filter(|before| *before > 0).unwrap_or(usize::MAX);
            let taken = if message.flags.contains(MessageFlags::TRUNC) {
                let dropped = inbox.len().min(end).min(message.data.remaining());
                message.data.limit(message.data.remaining() - dropped);
                dropped
            } else {
                inbox.ring.show(message.data, 0, end)?
            };
            if !peeks {
                inbox.consume(taken);
            }
            left = inbox.len();
            (taken, !was_writable && inbox.is_writable())
        };
        if makes_room && let Some(Some(peer)) = self.peer() {
            peer.common.queue.wake(Ready::OUT | Ready::WRNORM);
        }
        let mut received = Received { len: taken, ..Received::default() };
        if self.options.lock().value(TCP_INQ) == Some(1) {
            let left = i32::try_from(left).unwrap_or(i32::MAX);
            received.control.push(Control::data(SOL_TCP, TCP_INQ, left.as_bytes()));
        }
        Ok(received)
    }

    /// Why nothing is there, in Linux's order.
    fn nothing_there(&self) -> Result<Received, Errno> {
        let ended = self.ended();
        let is_over = Received { is_complete: true, ..Received::default() };
        if ended.contains(Ended::RECEIVED) && !ended.contains(Ended::RESET) {
            return Ok(is_over);
        }
        self.common.check_error()?;
        if ended.intersects(Ended::RECEIVED | Ended::READING) {
            return Ok(is_over);
        }
        match self.state.lock().phase {
            Phase::Idle => Err(Errno::ENOTCONN),
            _ => Err(Errno::EAGAIN),
        }
    }

    /// MSG_OOB: the urgent byte (tcp_recv_urg).
    fn receive_urgent(&self, message: &mut Incoming<'_>) -> Result<Received, Errno> {
        let mut inbox = self.inbox.lock();
        let urgent = inbox.urgent.filter(|urgent| !urgent.was_read).ok_or(Errno::EINVAL)?;
        if self.common.has(Switches::OOBINLINE) {
            return Err(Errno::EINVAL);
        }
        let skip = inbox.before_urgent().ok_or(Errno::EINVAL)?;
        let taken = inbox.ring.show(message.data, skip, 1)?;
        if !message.flags.contains(MessageFlags::PEEK) {
            inbox.urgent = Some(Urgent { was_read: true, ..urgent });
        }
        Ok(Received { len: taken, flags: MSG_OOB, is_complete: true, ..Received::default() })
    }

    /// What it is ready for (tcp_poll).
    pub(super) fn readiness(&self) -> Ready {
        const READABLE: Ready = Ready::IN.union(Ready::RDNORM);
        const WRITABLE: Ready = Ready::OUT.union(Ready::WRNORM);
        let mut ready = Ready::empty();
        let ended = self.ended();
        let (is_connecting, is_idle, peer) = {
            let state = self.state.lock();
            match &state.phase {
                Phase::Listening(backlog) => {
                    return if backlog.queue.is_empty() { ready } else { READABLE };
                }
                Phase::Connecting => (true, false, None),
                Phase::Connected(peer) => (false, false, peer.upgrade()),
                Phase::Idle => (false, true, None),
            }
        };
        let shut_both = ended.contains(Ended::SENT) && ended.intersects(Ended::RECEIVED | Ended::READING);
        if shut_both || is_idle {
            ready |= Ready::HUP;
        }
        if ended.intersects(Ended::RECEIVED | Ended::READING) {
            ready |= READABLE | Ready::RDHUP;
        }
        if self.common.error().is_some() {
            ready |= Ready::ERR;
        }
        if is_connecting {
            return ready;
        }
        {
            let least = self.common.options().low_water;
            let inbox = self.inbox.lock();
            let waits = inbox.len() - usize::from(inbox.is_at_mark() && !self.common.has(Switches::OOBINLINE));
            if waits >= least.min(inbox.limit.max(1)) {
                ready |= READABLE;
            }
            if inbox.urgent.is_some_and(|urgent| !urgent.was_read) {
                ready |= Ready::PRI;
            }
        }
        let writable = match peer {
            Some(peer) if !ended.contains(Ended::SENT) => {
                let inbox = peer.inbox.lock();
                inbox.is_empty() || inbox.is_writable()
            }
            _ => true,
        };
        if writable {
            ready |= WRITABLE;
        }
        ready
    }
}
