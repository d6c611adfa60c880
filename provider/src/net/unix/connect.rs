//! Names, connections, and their end.

use super::address::{Key, Name, Wanted, parse};
use super::credentials::PeerCredentials;
use super::garbage::dispose;
use super::inbox::Inbox;
use super::names::AbstractKey;
use super::{Backlog, Blocked, CLOSED_BOTH, CLOSED_RECEIVE, Phase, UnixSocket};
use crate::errno::Errno;
use crate::fs::{At, FileKind, LastLink, Ready, Want, check_access};
use crate::net::common::Switches;
use crate::net::{Budget, SOMAXCONN, address};
use crate::task::CurrentTask;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

impl UnixSocket {
    /// Gives the socket a name (unix_bind).
    pub(super) fn bind_to(&self, task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno> {
        let names = task.kernel().network().unix();
        match parse(address)? {
            Wanted::Any => self.bind_automatically(task),
            Wanted::Abstract(name) => {
                let mut state = self.state.lock();
                if state.name.is_some() {
                    return Err(Errno::EINVAL);
                }
                drop(state);
                names.add_abstract(self.abstract_key(&name), &self.me)?;
                state = self.state.lock();
                (state.name, state.is_registered) = (Some(Arc::new(Name::Abstract(name))), true);
                Ok(())
            }
            Wanted::Path(path) => {
                let namespace = task.kernel().namespace();
                let at = At { base: None, path: &path };
                let made = namespace.create(task, at, FileKind::Socket, 0o777, b"");
                made.map_err(|error| if error == Errno::EEXIST { Errno::EADDRINUSE } else { error })?;
                if self.state.lock().name.is_some() {
                    namespace.unlink(task, at)?;
                    return Err(Errno::EINVAL);
                }
                let key = key_of(task, &path)?;
                names.add_path(key, &self.me);
                let mut state = self.state.lock();
                (state.name, state.is_registered) = (Some(Arc::new(Name::Path(path, key))), true);
                Ok(())
            }
        }
    }

    /// Abstract names are a space of their own for each type of socket.
    fn abstract_key(&self, name: &[u8]) -> AbstractKey {
        (self.common.kind, name.to_vec())
    }

    /// Gives the socket a name that nobody has, unless it has one.
    fn bind_automatically(&self, task: &CurrentTask<'_>) -> Result<(), Errno> {
        if self.state.lock().name.is_some() {
            return Ok(());
        }
        let name = task.kernel().network().unix().add_automatic(self.common.kind, &self.me)?;
        let mut state = self.state.lock();
        (state.name, state.is_registered) = (Some(Arc::new(name)), true);
        Ok(())
    }

    /// A socket that passes credentials needs a name to pass (unix_autobind's callers).
    pub(super) fn name_for_credentials(&self, task: &CurrentTask<'_>) -> Result<(), Errno> {
        if self.common.has(Switches::PASSCRED) { self.bind_automatically(task) } else { Ok(()) }
    }

    /// listen(2).
    pub(super) fn start_listening(&self, task: &CurrentTask<'_>, backlog: i32) -> Result<(), Errno> {
        if !self.is_connection() {
            return Err(Errno::EOPNOTSUPP);
        }
        // A negative backlog is a huge one, as Linux's conversion makes it.
        let limit = usize::try_from(backlog).unwrap_or(SOMAXCONN).min(SOMAXCONN);
        let credentials = PeerCredentials::of(task);
        let blocked = {
            let mut state = self.state.lock();
            if state.name.is_none() {
                return Err(Errno::EINVAL);
            }
            // A listener's SO_PEERCRED is its own.
            let own = Some(credentials.clone());
            match &mut state.phase {
                Phase::Idle => {
                    state.peer_credentials = own;
                    let (queue, blocked) = (VecDeque::new(), Blocked::default());
                    state.phase = Phase::Listening(Backlog { limit, queue, blocked, credentials });
                    Blocked::default()
                }
                Phase::Listening(backlog) => {
                    (backlog.limit, backlog.credentials) = (limit, credentials);
                    let blocked = backlog.blocked.take();
                    state.peer_credentials = own;
                    blocked
                }
                Phase::Connected(_) | Phase::Closed => return Err(Errno::EINVAL),
            }
        };
        blocked.wake();
        Ok(())
    }

    /// accept(2).
    pub(super) fn take_connection(&self, _task: &CurrentTask<'_>) -> Result<Arc<UnixSocket>, Errno> {
        if !self.is_connection() {
            return Err(Errno::EOPNOTSUPP);
        }
        let (socket, blocked, more) = {
            let mut state = self.state.lock();
            let Phase::Listening(backlog) = &mut state.phase else { return Err(Errno::EINVAL) };
            match backlog.queue.pop_front() {
                Some(socket) => (socket, backlog.blocked.take(), !backlog.queue.is_empty()),
                None if self.is_closed(CLOSED_RECEIVE) => return Err(Errno::EINVAL),
                None => return Err(Errno::EAGAIN),
            }
        };
        blocked.wake();
        if more {
            self.common.queue.wake(Ready::IN | Ready::RDNORM);
        }
        Ok(socket)
    }

    /// Finds the socket that an address names, of the same type (unix_find_other).
    pub(super) fn find(&self, task: &CurrentTask<'_>, wanted: &Wanted) -> Result<Arc<UnixSocket>, Errno> {
        let names = task.kernel().network().unix();
        let found = match wanted {
            Wanted::Any => return Err(Errno::ECONNREFUSED),
            Wanted::Abstract(name) => names.at_abstract(&self.abstract_key(name)),
            Wanted::Path(path) => {
                let place = task.kernel().namespace().walk(task, None, path, LastLink::Follow)?;
                check_access(&task.credentials(), &place, Want::WRITE)?;
                if place.kind() != FileKind::Socket {
                    return Err(Errno::ECONNREFUSED);
                }
                let stat = place.inode().stat()?;
                names.at_path((stat.device, stat.inode))
            }
        };
        let found = found.ok_or(Errno::ECONNREFUSED)?;
        if found.common.kind == self.common.kind { Ok(found) } else { Err(Errno::EPROTOTYPE) }
    }

    /// connect(2) of a stream or packet socket (unix_stream_connect); `EAGAIN` while the backlog is full.
    pub(super) fn connect_to_listener(&self, task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno> {
        let wanted = parse_destination(address)?;
        self.name_for_credentials(task)?;
        let listener = self.find(task, &wanted)?;
        let server = Self::with_common(task, listener.common.child(listener.common.uid));
        let connected = self.join(task, &listener, &server);
        if connected.is_err() {
            task.kernel().network().unix().remove(&server, None);
        }
        connected?;
        listener.common.queue.wake(Ready::IN | Ready::RDNORM);
        self.common.queue.wake_all();
        Ok(())
    }

    /// Puts `server`, the other side of this socket's connection, into the listener's backlog.
    fn join(&self, task: &CurrentTask<'_>, listener: &UnixSocket, server: &Arc<UnixSocket>) -> Result<(), Errno> {
        // One lock at a time: the phase, which is claimed before the backlog is entered, tells two connects of one socket apart.
        let mine = PeerCredentials::of(task);
        {
            let mut state = server.state.lock();
            state.phase = Phase::Connected(self.me.clone());
            state.peer_credentials = Some(mine);
        }
        let (theirs, name) = {
            let mut state = listener.state.lock();
            let name = state.name.clone();
            let Phase::Listening(backlog) = &mut state.phase else { return Err(Errno::ECONNREFUSED) };
            if listener.is_closed(CLOSED_RECEIVE) {
                return Err(Errno::ECONNREFUSED);
            }
            if backlog.is_full() {
                backlog.blocked.add(&self.me);
                return Err(Errno::EAGAIN);
            }
            (backlog.credentials.clone(), name)
        };
        server.state.lock().name = name;
        let previous = {
            let mut state = self.state.lock();
            match &state.phase {
                Phase::Idle => {}
                Phase::Connected(_) => return Err(Errno::EISCONN),
                Phase::Listening(_) | Phase::Closed => return Err(Errno::EINVAL),
            }
            state.phase = Phase::Connected(Arc::downgrade(server));
            state.peer_credentials.replace(theirs)
        };
        let queued = {
            let mut state = listener.state.lock();
            match &mut state.phase {
                Phase::Listening(backlog) if backlog.is_full() => {
                    backlog.blocked.add(&self.me);
                    Err(Errno::EAGAIN)
                }
                Phase::Listening(backlog) => {
                    backlog.queue.push_back(server.clone());
                    Ok(())
                }
                _ => Err(Errno::ECONNREFUSED),
            }
        };
        if queued.is_err() {
            let mut state = self.state.lock();
            (state.phase, state.peer_credentials) = (Phase::Idle, previous);
        }
        queued
    }

    /// connect(2) of a datagram socket: the default destination; AF_UNSPEC takes it away.
    pub(super) fn set_destination(&self, task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno> {
        let destination = if address::is_unspecified(address) {
            None
        } else {
            let wanted = parse_destination(address)?;
            self.name_for_credentials(task)?;
            let other = self.find(task, &wanted)?;
            if !other.accepts_from(self) {
                return Err(Errno::EPERM);
            }
            Some(other)
        };
        let old = {
            let mut state = self.state.lock();
            let phase = destination.as_ref().map_or(Phase::Idle, |other| Phase::Connected(Arc::downgrade(other)));
            std::mem::replace(&mut state.phase, phase)
        };
        if let Phase::Connected(old) = old
            && let Some(old) = old.upgrade()
        {
            let same = destination.as_ref().is_some_and(|other| Arc::ptr_eq(other, &old));
            // unix_dgram_disconnected: what the old partner has sent is void.
            if !same {
                let mut dropped = self.inbox.lock().take(&self.budget);
                if !dropped.is_empty() && old.is_connected_to(self) {
                    old.common.set_error(Errno::ECONNRESET);
                    old.common.queue.wake_all();
                }
                dropped.take_blocked().wake();
                dispose(dropped);
            }
        }
        self.common.queue.wake_all();
        Ok(())
    }

    /// Tells whether a datagram socket takes messages of `sender`: one with a destination only of that (unix_may_send).
    pub(super) fn accepts_from(&self, sender: &UnixSocket) -> bool {
        match &self.state.lock().phase {
            Phase::Connected(peer) => peer.ptr_eq(&sender.me),
            _ => true,
        }
    }

    /// The end (unix_release_sock): names go, the other side is told, what was not received is dropped.
    pub(super) fn disappear(&self) {
        let (phase, name) = {
            let mut state = self.state.lock();
            let name = if state.is_registered { state.name.clone() } else { None };
            (std::mem::replace(&mut state.phase, Phase::Closed), name)
        };
        self.names.remove(self, name.as_deref());
        self.close_direction(CLOSED_BOTH);
        let mut dropped = self.inbox.lock().take(&self.budget);
        let unread = !dropped.is_empty();
        let blocked = dropped.take_blocked();
        dispose(dropped);
        match phase {
            Phase::Connected(peer) if self.is_connection() => self.leave(&peer, unread),
            Phase::Connected(_) | Phase::Idle | Phase::Closed => {}
            Phase::Listening(backlog) => {
                for embryo in backlog.queue {
                    embryo.abandon();
                }
                backlog.blocked.wake();
            }
        }
        blocked.wake();
        self.names.in_flight().collect();
    }

    /// Shows what this socket has received, and what those in its backlog have.
    pub(super) fn for_each_inbox(&self, mut show: impl FnMut(&mut Inbox, &Arc<Budget>)) {
        show(&mut self.inbox.lock(), &self.budget);
        let embryos: Vec<Arc<UnixSocket>> = match &self.state.lock().phase {
            Phase::Listening(backlog) => backlog.queue.iter().cloned().collect(),
            _ => return,
        };
        for embryo in embryos {
            show(&mut embryo.inbox.lock(), &self.budget);
        }
    }

    /// Tells the other side of a connection that this one is gone.
    fn leave(&self, peer: &Weak<UnixSocket>, unread: bool) {
        let Some(peer) = peer.upgrade() else { return };
        peer.close_direction(CLOSED_BOTH);
        if unread {
            peer.common.set_error(Errno::ECONNRESET);
        }
        peer.common.queue.wake_all();
    }

    /// Ends a connection that nobody has accepted.
    fn abandon(&self) {
        if let Some(Some(peer)) = self.peer() {
            peer.common.set_error(Errno::ECONNRESET);
        }
        self.disappear();
    }
}

/// An address to connect or send to: it must have a name (unix_validate_addr).
pub(super) fn parse_destination(address: &[u8]) -> Result<Wanted, Errno> {
    match parse(address)? {
        Wanted::Any => Err(Errno::EINVAL),
        wanted => Ok(wanted),
    }
}

/// What tells the object at `path` from others.
fn key_of(task: &CurrentTask<'_>, path: &[u8]) -> Result<Key, Errno> {
    let place = task.kernel().namespace().walk(task, None, path, LastLink::Keep)?;
    let stat = place.inode().stat()?;
    Ok((stat.device, stat.inode))
}
