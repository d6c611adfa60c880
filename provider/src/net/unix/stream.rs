//! Streams: bytes over a connection, with descriptors and credentials where they were sent (unix_stream_sendmsg and
//! unix_stream_read_generic).

use super::credentials::{Ancillary, own, read};
use super::inbox::Bytes;
use super::{CLOSED_BOTH, CLOSED_RECEIVE, CLOSED_SEND, Phase, UnixSocket, address};
use crate::abi::socket::UserCredentials;
use crate::errno::Errno;
use crate::fs::{OpenFile, Ready};
use crate::net::common::Switches;
use crate::net::socket::{Incoming, MessageFlags, Outgoing, Received};
use crate::net::{Control, Kind};
use crate::task::CurrentTask;
use linux_raw_sys::net::{SCM_CREDENTIALS, SOL_SOCKET};
use std::sync::Arc;
use zerocopy::IntoBytes;

/// Who a message without credentials comes from (overflowuid and overflowgid).
const NOBODY: UserCredentials = UserCredentials { pid: 0, uid: 65534, gid: 65534 };

impl UnixSocket {
    /// Reads the control messages of a send, and adds the sender's credentials if either side wants them.
    pub(super) fn ancillary(
        &self,
        task: &CurrentTask<'_>,
        message: &Outgoing<'_>,
        other: &UnixSocket,
    ) -> Result<Ancillary, Errno> {
        let mut ancillary =
            if message.control.is_empty() { Ancillary::default() } else { read(task, message.control, &self.names)? };
        let wanted = || self.common.has(Switches::PASSCRED) || other.common.has(Switches::PASSCRED);
        if ancillary.credentials.is_none() && wanted() {
            ancillary.credentials = Some(own(task));
        }
        Ok(ancillary)
    }

    /// Sends bytes; `EAGAIN` if not one fits.
    pub(super) fn send_bytes(&self, task: &CurrentTask<'_>, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        if message.flags.contains(MessageFlags::OOB) {
            return Err(task.unsupported("send: MSG_OOB on a Unix socket", Errno::EOPNOTSUPP));
        }
        let peer = self.peer();
        if message.to.is_some() {
            return Err(if peer.is_some() { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        let peer = peer.ok_or(Errno::ENOTCONN)?;
        if self.is_closed(CLOSED_SEND) {
            return Err(Errno::EPIPE);
        }
        self.common.check_error()?;
        let peer = peer.ok_or(Errno::EPIPE)?;
        let ancillary = self.ancillary(task, message, &peer)?;
        let limit = self.send_limit();
        let sent = {
            let mut inbox = peer.inbox.lock();
            let bytes = inbox.bytes().ok_or(Errno::EPIPE)?;
            if peer.is_closed(CLOSED_RECEIVE) {
                return Err(Errno::EPIPE);
            }
            if message.data.remaining() == 0 {
                return Ok(0);
            }
            bytes.limit = limit;
            let room = limit.saturating_sub(bytes.ring.len());
            if room == 0 {
                return Err(Errno::EAGAIN);
            }
            let sent = bytes.ring.fill(message.data, room)?;
            bytes.mark(sent, ancillary);
            sent
        };
        peer.common.queue.wake(Ready::IN | Ready::RDNORM);
        Ok(sent)
    }

    /// Receives bytes: what is there, up to where something else came along.
    pub(super) fn receive_bytes(&self, message: &mut Incoming<'_>) -> Result<Received, Errno> {
        if message.flags.contains(MessageFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let peer = match &self.state.lock().phase {
            Phase::Connected(peer) => peer.clone(),
            _ => return Err(Errno::EINVAL),
        };
        let peeks = message.flags.contains(MessageFlags::PEEK);
        let wants_credentials = self.common.has(Switches::PASSCRED);
        let mut taken = Taken::default();
        let makes_room = {
            let mut inbox = self.inbox.lock();
            let bytes = inbox.bytes().ok_or(Errno::EINVAL)?;
            if bytes.ring.is_empty() {
                drop(inbox);
                self.common.check_error()?;
                if self.is_closed(CLOSED_RECEIVE) {
                    return Ok(Received { is_complete: true, ..Received::default() });
                }
                return Err(Errno::EAGAIN);
            }
            let before = bytes.ring.len();
            if peeks {
                taken.peek(bytes, message, wants_credentials)?;
            } else {
                taken.take(bytes, message, wants_credentials)?;
            }
            let after = bytes.ring.len();
            before.saturating_mul(4) > bytes.limit && after.saturating_mul(4) <= bytes.limit
        };
        let peer = if makes_room || message.wants_name { peer.upgrade() } else { None };
        if makes_room && let Some(peer) = &peer {
            peer.common.queue.wake(Ready::OUT | Ready::WRNORM);
        }
        let from = peer.filter(|_| message.wants_name).and_then(|peer| peer.name());
        let mut received = Received {
            len: taken.len,
            from: from.map(|name| address::encode(Some(&name))),
            is_complete: !taken.rights.is_empty(),
            ..Received::default()
        };
        add_control(&mut received, wants_credentials.then_some(taken.credentials), taken.rights);
        Ok(received)
    }

    /// What a connection is ready for (unix_poll).
    pub(super) fn connection_ready(&self) -> Ready {
        let mut ready = Ready::empty();
        if self.common.error().is_some() {
            ready |= Ready::ERR;
        }
        if self.is_closed(CLOSED_BOTH) {
            ready |= Ready::HUP;
        }
        if self.is_closed(CLOSED_RECEIVE) {
            ready |= Ready::RDHUP | Ready::IN | Ready::RDNORM;
        }
        let peer = match &self.state.lock().phase {
            Phase::Connected(peer) => Some(peer.upgrade()),
            Phase::Listening(backlog) => {
                if !backlog.queue.is_empty() {
                    ready |= Ready::IN | Ready::RDNORM;
                }
                return ready;
            }
            Phase::Idle | Phase::Closed => {
                ready |= Ready::HUP;
                None
            }
        };
        if !self.inbox.lock().is_empty() {
            ready |= Ready::IN | Ready::RDNORM;
        }
        let in_flight = match (self.common.kind, peer) {
            (Kind::Stream, Some(Some(peer))) => peer.inbox.lock().len(),
            (Kind::Stream, _) => 0,
            _ => self.in_flight.load(std::sync::atomic::Ordering::SeqCst),
        };
        if self.has_room(in_flight) {
            ready |= Ready::OUT | Ready::WRNORM | Ready::WRBAND;
        }
        ready
    }
}

/// Adds what came along to what was received: credentials if they are wanted, and open files.
pub(super) fn add_control(
    received: &mut Received,
    credentials: Option<Option<UserCredentials>>,
    rights: Vec<Arc<OpenFile>>,
) {
    if let Some(credentials) = credentials {
        let shown = credentials.unwrap_or(NOBODY);
        received.control.push(Control::data(SOL_SOCKET, SCM_CREDENTIALS, shown.as_bytes()));
    }
    if !rights.is_empty() {
        received.control.push(Control::Files(rights));
    }
}

/// What one call has taken out of a stream.
#[derive(Default)]
struct Taken {
    len: usize,
    credentials: Option<UserCredentials>,
    rights: Vec<Arc<OpenFile>>,
}

impl Taken {
    /// Takes bytes until the sink is full or the stream empty, over segments that differ in nothing the receiver sees.
    fn take(&mut self, bytes: &mut Bytes, message: &mut Incoming<'_>, wants_credentials: bool) -> Result<(), Errno> {
        loop {
            let enters = bytes.marks.front().is_some_and(|mark| mark.at == bytes.position);
            let next = bytes.marks.front().filter(|_| enters).map(|mark| mark.ancillary.credentials);
            let credentials = next.unwrap_or(bytes.credentials);
            if self.len > 0 && wants_credentials && credentials != self.credentials {
                return Ok(());
            }
            if enters && let Some(mark) = bytes.marks.pop_front() {
                bytes.credentials = mark.ancillary.credentials;
                bytes.rights = mark.ancillary.rights;
            }
            let end = bytes
                .marks
                .front()
                .map_or(usize::MAX, |mark| usize::try_from(mark.at - bytes.position).unwrap_or(usize::MAX));
            let shown = match bytes.ring.show(message.data, 0, end) {
                Ok(shown) => shown,
                Err(error) if self.len == 0 => return Err(error),
                Err(_) => return Ok(()),
            };
            bytes.consume(shown);
            self.len += shown;
            self.credentials = credentials;
            self.rights.append(&mut bytes.rights.take());
            let is_over = shown < end || bytes.ring.is_empty() || message.data.remaining() == 0;
            if is_over || !self.rights.is_empty() {
                return Ok(());
            }
        }
    }

    /// As [`Self::take`], but everything stays.
    fn peek(&mut self, bytes: &Bytes, message: &mut Incoming<'_>, wants_credentials: bool) -> Result<(), Errno> {
        let mut credentials = bytes.credentials;
        let mut rights = &bytes.rights;
        let mut marks = bytes.marks.iter().peekable();
        loop {
            let position = bytes.position + self.len as u64;
            if let Some(mark) = marks.next_if(|mark| mark.at == position) {
                (credentials, rights) = (mark.ancillary.credentials, &mark.ancillary.rights);
            }
            if self.len > 0 && wants_credentials && credentials != self.credentials {
                return Ok(());
            }
            let end = marks.peek().map_or(usize::MAX, |mark| usize::try_from(mark.at - position).unwrap_or(usize::MAX));
            let shown = match bytes.ring.show(message.data, self.len, end) {
                Ok(shown) => shown,
                Err(error) if self.len == 0 => return Err(error),
                Err(_) => return Ok(()),
            };
            self.len += shown;
            self.credentials = credentials;
            self.rights.extend(rights.files().iter().cloned());
            let is_over = shown < end || self.len == bytes.ring.len() || message.data.remaining() == 0;
            if is_over || !self.rights.is_empty() {
                return Ok(());
            }
        }
    }
}
