//! Addresses, connections, and their end.

use super::{Backlog, CAPACITY, Ended, Local, Phase, Progress, State, TcpSocket};
use crate::errno::Errno;
use crate::fs::Ready;
use crate::net::SOMAXCONN;
use crate::net::address::is_unspecified;
use crate::net::inet::Reach;
use crate::net::inet::endpoint::{route, source_for, unreachable};
use crate::net::socket::Shutdown;
use crate::task::CurrentTask;
use linux_raw_sys::net::TCP_LINGER2;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long a port is remembered after both sides have ended (TCP_TIMEWAIT_LEN), and, unless TCP_LINGER2 says otherwise, while
/// only this one has (net.ipv4.tcp_fin_timeout).
const TIME_WAIT: Duration = Duration::from_secs(60);

impl TcpSocket {
    /// bind(2).
    pub(super) fn bind_to(&self, task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno> {
        let wanted = self.endpoint.parse_bind(task, address)?;
        if wanted.address.ip().is_multicast() && wanted.address.is_ipv6() {
            return Err(Errno::EINVAL);
        }
        {
            let state = self.state.lock();
            if state.local.is_some() || !matches!(state.phase, Phase::Idle) {
                return Err(Errno::EINVAL);
            }
        }
        let asked = wanted.address.port();
        let port = self.stack.tcp.claim(asked, self.claim(wanted.reach, false))?;
        let address = SocketAddr::new(wanted.address.ip(), port);
        let keeps_address = !wanted.address.ip().is_unspecified();
        let local = Local { address, reach: wanted.reach, keeps_address, keeps_port: asked != 0 };
        self.state.lock().local = Some(local);
        Ok(())
    }

    /// Gives the socket a port of its own, unless it has one.
    fn bind_automatically(&self, reach: Reach, ip: IpAddr) -> Result<Local, Errno> {
        if let Some(local) = self.state.lock().local {
            return Ok(local);
        }
        let port = self.stack.tcp.claim(0, self.claim(reach, false))?;
        let local = Local { address: SocketAddr::new(ip, port), reach, keeps_address: false, keeps_port: false };
        self.state.lock().local = Some(local);
        Ok(local)
    }

    /// listen(2).
    pub(super) fn start_listening(&self, backlog: i32) -> Result<(), Errno> {
        // A negative backlog is a huge one, as Linux's conversion makes it.
        let limit = usize::try_from(backlog).unwrap_or(SOMAXCONN).min(SOMAXCONN);
        {
            let mut state = self.state.lock();
            let progress = state.progress;
            match &mut state.phase {
                Phase::Idle if progress == Progress::Unconnected => {}
                Phase::Listening(backlog) => {
                    backlog.limit = limit;
                    return Ok(());
                }
                _ => return Err(Errno::EINVAL),
            }
        }
        let local = self.bind_automatically(self.endpoint.everything(), self.endpoint.unspecified().ip())?;
        let claim = self.claim(local.reach, true);
        self.stack.tcp.receive(local.address.port(), claim, None, &self.me)?;
        self.ended.store(0, std::sync::atomic::Ordering::Release);
        let backlog = Backlog { limit, queue: VecDeque::new(), waiting: VecDeque::new() };
        self.state.lock().phase = Phase::Listening(backlog);
        Ok(())
    }

    /// accept(2).
    pub(super) fn take_connection(&self) -> Result<Arc<TcpSocket>, Errno> {
        let (socket, waiting, more) = {
            let mut state = self.state.lock();
            let Phase::Listening(backlog) = &mut state.phase else { return Err(Errno::EINVAL) };
            let socket = backlog.queue.pop_front().ok_or(Errno::EAGAIN)?;
            (socket, backlog.waiting.pop_front(), !backlog.queue.is_empty())
        };
        if let Some(waiting) = waiting.and_then(|waiting| waiting.upgrade()) {
            self.admit(&waiting);
        }
        if more {
            self.common.queue.wake(Ready::IN | Ready::RDNORM);
        }
        Ok(socket)
    }

    /// connect(2): begins; what has come of it is seen by [`Self::connected`], at once if there was a place.
    pub(super) fn start_connecting(&self, address: &[u8]) -> Result<(), Errno> {
        if is_unspecified(address) {
            self.disconnect();
            return Ok(());
        }
        let destination = self.endpoint.parse_destination(address);
        let (progress, idle) = {
            let state = self.state.lock();
            (state.progress, matches!(state.phase, Phase::Idle))
        };
        match progress {
            Progress::Connected => return Err(Errno::EISCONN),
            Progress::Connecting => {
                return self
                    .connected()
                    .map_err(|error| if error == Errno::EINPROGRESS { Errno::EALREADY } else { error });
            }
            Progress::Unconnected if !idle => return Err(Errno::EISCONN),
            Progress::Unconnected => {}
        }
        let to = route(destination?)?;
        let source = source_for(to.ip());
        let bound = self.bind_automatically(Reach::one(source), source)?;
        let ip = if bound.address.ip().is_unspecified() {
            source
        } else {
            crate::net::address::unmapped(bound.address.ip())
        };
        let from = SocketAddr::new(ip, bound.address.port());
        if from.is_ipv4() != to.is_ipv4() {
            return Err(unreachable(to));
        }
        self.stack.tcp.connect(from.port(), self.common.inode, from.ip(), to)?;
        {
            let mut state = self.state.lock();
            (state.progress, state.phase, state.remote) = (Progress::Connecting, Phase::Connecting, Some(to));
            state.local = Some(Local { address: from, ..bound });
        }
        self.ended.store(0, std::sync::atomic::Ordering::Release);
        self.stack.counters.tcp_active_opens.count();
        match self.stack.tcp.find(to, from).and_then(|listener| listener.me.upgrade()) {
            Some(listener) => listener.admit(self),
            // Its own SYN meets it: a simultaneous open with itself.
            None if to == from => self.become_connected(self.me.clone(), self.common.inode),
            None => self.refuse(),
        }
        Err(Errno::EINPROGRESS)
    }

    /// Tells what has become of a connect.
    pub(super) fn connected(&self) -> Result<(), Errno> {
        let (forget, port) = {
            let mut state = self.state.lock();
            let port = state.local.map(|local| local.address.port());
            match state.phase {
                Phase::Connecting => return Err(Errno::EINPROGRESS),
                Phase::Connected(_) if !self.ended().contains(Ended::RESET) => {
                    state.progress = Progress::Connected;
                    return Ok(());
                }
                _ => {
                    (state.progress, state.phase, state.remote) = (Progress::Unconnected, Phase::Idle, None);
                    (forget_automatic(&mut state), port)
                }
            }
        };
        self.give_up_connection(forget, port);
        self.ended.store(0, std::sync::atomic::Ordering::Release);
        Err(self.common.take_error().unwrap_or(Errno::ECONNABORTED))
    }

    /// Nobody listens there.
    fn refuse(&self) {
        {
            let mut state = self.state.lock();
            if !matches!(state.phase, Phase::Connecting) {
                return;
            }
            state.phase = Phase::Idle;
        }
        self.stack.counters.tcp_attempt_fails.count();
        self.common.set_error(Errno::ECONNREFUSED);
        self.end(Ended::RESET | Ended::RECEIVED | Ended::SENT);
        self.common.queue.wake_all();
    }

    /// Makes a connection of a client that asks for one, if there is a place in the backlog.
    fn admit(&self, client: &TcpSocket) {
        let (Some(from), Some(to)) = ({
            let state = client.state.lock();
            let asks = matches!(state.phase, Phase::Connecting);
            (state.local.filter(|_| asks).map(|local| local.address), state.remote)
        }) else {
            return;
        };
        {
            let mut state = self.state.lock();
            match &mut state.phase {
                // Linux lets one more in than was asked for.
                Phase::Listening(backlog) if backlog.queue.len() > backlog.limit => {
                    backlog.waiting.retain(|waiting| waiting.strong_count() > 0);
                    backlog.waiting.push_back(client.me.clone());
                    return;
                }
                Phase::Listening(_) => {}
                _ => {
                    drop(state);
                    return client.refuse();
                }
            }
        }
        let child = self.child(client, to, from);
        let queued = {
            let mut state = self.state.lock();
            match &mut state.phase {
                Phase::Listening(backlog) => {
                    backlog.queue.push_back(child.clone());
                    true
                }
                _ => false,
            }
        };
        if !queued {
            self.stack.remove(child.common.inode);
            return client.refuse();
        }
        self.stack.counters.tcp_passive_opens.count();
        self.stack.tcp.join(to.port(), child.claim(Reach::one(to.ip()), false));
        client.become_connected(Arc::downgrade(&child), child.common.inode);
        self.common.queue.wake(Ready::IN | Ready::RDNORM);
    }

    /// A connection has come about with the socket of that inode number.
    fn become_connected(&self, peer: Weak<TcpSocket>, inode: u64) {
        self.grow_send_buffer();
        {
            let mut state = self.state.lock();
            (state.phase, state.peer) = (Phase::Connected(peer), inode);
        }
        self.common.queue.wake_all();
    }

    /// Lets SO_SNDBUF show what a connection takes, unless a program has set it (tcp_init_buffer_space).
    fn grow_send_buffer(&self) {
        let mut options = self.common.options();
        if !options.send_buffer_set {
            options.send_buffer = CAPACITY;
        }
    }

    /// The listener's side of a connection.
    fn child(&self, client: &TcpSocket, to: SocketAddr, from: SocketAddr) -> Arc<TcpSocket> {
        let local = Local { address: to, reach: Reach::one(to.ip()), keeps_address: true, keeps_port: true };
        let state = State {
            progress: Progress::Connected,
            phase: Phase::Connected(client.me.clone()),
            local: Some(local),
            remote: Some(from),
            peer: client.common.inode,
        };
        let budget = self.inbox.lock().budget().clone();
        let options = self.options.lock().clone();
        let common = self.common.child(self.common.uid);
        let child = Self::with(common, self.endpoint.child(), &self.stack, &budget, options, state);
        child.grow_send_buffer();
        child
    }

    /// shutdown(2) (inet_shutdown).
    pub(super) fn shut(&self, how: Shutdown) -> Result<(), Errno> {
        let is_connected = match &self.state.lock().phase {
            Phase::Listening(_) if !how.receives() => return Ok(()),
            Phase::Listening(_) | Phase::Connecting => None,
            Phase::Connected(_) => Some(!self.is_over()),
            Phase::Idle => Some(false),
        };
        let Some(is_connected) = is_connected else {
            self.disconnect();
            return Ok(());
        };
        if how.receives() {
            self.end(Ended::READING);
        }
        if how.sends() && !self.ended().contains(Ended::SENT) {
            let first = if self.ended().contains(Ended::RECEIVED) { Ended::empty() } else { Ended::FIRST };
            self.end(Ended::SENT | first);
            match self.peer() {
                Some(Some(peer)) => {
                    peer.end(Ended::RECEIVED);
                    peer.common.queue.wake_all();
                }
                Some(None) => self.tell_remembered(Some(Instant::now() + TIME_WAIT)),
                None => {}
            }
        }
        self.common.queue.wake_all();
        if is_connected { Ok(()) } else { Err(Errno::ENOTCONN) }
    }

    /// The other side has sent a reset (tcp_reset).
    pub(super) fn reset(&self) {
        self.stack.counters.tcp_resets.count();
        let error = if self.ended().contains(Ended::RECEIVED) { Errno::EPIPE } else { Errno::ECONNRESET };
        self.common.set_error(error);
        self.end(Ended::RESET | Ended::RECEIVED | Ended::SENT);
        self.common.queue.wake_all();
    }

    /// Ends what the socket does, whatever it is, and leaves it as new but for an address that was asked for.
    fn disconnect(&self) {
        let (phase, forget, port, remote) = {
            let mut state = self.state.lock();
            let phase = std::mem::replace(&mut state.phase, Phase::Idle);
            state.progress = Progress::Unconnected;
            let remote = state.remote.take();
            let port = state.local.map(|local| local.address.port());
            (phase, forget_automatic(&mut state), port, remote)
        };
        match phase {
            Phase::Connected(peer) => self.reset_peer(&peer, remote),
            Phase::Listening(backlog) => {
                if let Some(port) = port {
                    self.stack.tcp.stop_receiving(port, self.common.inode);
                }
                end_backlog(backlog);
            }
            // Whoever waits for it is told (tcp_disconnect).
            Phase::Connecting => self.common.set_error(Errno::ECONNRESET),
            Phase::Idle => {}
        }
        self.give_up_connection(forget, port);
        self.inbox.lock().clear();
        self.ended.store(0, std::sync::atomic::Ordering::Release);
        self.common.queue.wake_all();
    }

    /// Gives a port back that was not asked for, and else the connection that was made from it.
    fn give_up_connection(&self, forget: Option<u16>, port: Option<u16>) {
        match (forget, port) {
            (Some(port), _) => self.stack.tcp.release(port, self.common.inode),
            (None, Some(port)) => self.stack.tcp.disconnect(port, self.common.inode),
            (None, None) => {}
        }
    }

    fn reset_peer(&self, peer: &Weak<TcpSocket>, remote: Option<SocketAddr>) {
        if self.ended().contains(Ended::RESET) {
            return;
        }
        self.stack.counters.tcp_resets.count();
        self.stack.counters.tcp_resets_sent.count();
        match peer.upgrade().filter(|peer| !peer.ended().contains(Ended::CLOSED)) {
            Some(peer) => peer.reset(),
            None => self.tell_port_of(remote, None),
        }
    }

    /// Tells the port of the other side, which is gone but remembered, for how long it still is; none: a reset has ended that.
    pub(super) fn tell_remembered(&self, until: Option<Instant>) {
        let remote = self.state.lock().remote;
        self.tell_port_of(remote, until);
    }

    fn tell_port_of(&self, remote: Option<SocketAddr>, until: Option<Instant>) {
        let peer = self.state.lock().peer;
        if let Some(remote) = remote {
            self.stack.tcp.keep_lingering(remote.port(), peer, until);
        }
    }

    /// How long the port is remembered of a side that has ended first (tcp_fin_time); `None`: not at all.
    fn patience(&self, ended: Ended) -> Option<Duration> {
        if ended.contains(Ended::RECEIVED) {
            return Some(TIME_WAIT);
        }
        let seconds = self.options.lock().value(TCP_LINGER2).unwrap_or_default();
        u64::try_from(seconds).ok().map(|seconds| if seconds == 0 { TIME_WAIT } else { Duration::from_secs(seconds) })
    }

    /// The end (tcp_close): what was not read, or no patience, resets the connection.
    pub(super) fn disappear(&self) {
        let (phase, local, remote) = {
            let mut state = self.state.lock();
            (std::mem::replace(&mut state.phase, Phase::Idle), state.local.take(), state.remote)
        };
        let was = self.ended();
        self.end(Ended::CLOSED | Ended::READING | Ended::SENT);
        let unread = {
            let mut inbox = self.inbox.lock();
            let unread = !inbox.is_empty();
            inbox.clear();
            unread
        };
        let is_reset = unread || was.contains(Ended::RESET) || self.common.options().linger == Some(0);
        let is_first = was.contains(Ended::FIRST) || !was.intersects(Ended::SENT | Ended::RECEIVED);
        let patience = match phase {
            Phase::Connected(_) if is_first && !is_reset => self.patience(was),
            _ => None,
        };
        match (local.map(|local| local.address.port()), patience) {
            (Some(port), Some(patience)) => self.stack.tcp.linger(port, self.common.inode, Instant::now() + patience),
            (Some(port), None) => self.stack.tcp.release(port, self.common.inode),
            (None, _) => {}
        }
        self.stack.remove(self.common.inode);
        match phase {
            Phase::Connected(peer) if is_reset => self.reset_peer(&peer, remote),
            Phase::Connected(peer) => {
                let peer = peer.upgrade().filter(|peer| !peer.ended().contains(Ended::CLOSED));
                if !was.contains(Ended::SENT) {
                    match &peer {
                        Some(peer) => peer.end(Ended::RECEIVED),
                        None => self.tell_port_of(remote, Some(Instant::now() + TIME_WAIT)),
                    }
                }
                if let Some(peer) = peer {
                    peer.common.queue.wake_all();
                }
            }
            Phase::Listening(backlog) => end_backlog(backlog),
            Phase::Idle | Phase::Connecting => {}
        }
    }
}

/// Connections that nobody accepted are reset, those that waited for a place refused.
fn end_backlog(backlog: Backlog) {
    for child in backlog.queue {
        child.common.options().linger = Some(0);
        child.disappear();
    }
    for waiting in backlog.waiting.iter().filter_map(Weak::upgrade) {
        waiting.refuse();
    }
}

/// Forgets what of the socket's address was not asked for; returns the port to give back.
fn forget_automatic(state: &mut State) -> Option<u16> {
    let local = state.local.as_mut()?;
    if !local.keeps_address {
        let any = match local.address {
            SocketAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        };
        local.address.set_ip(any);
    }
    if local.keeps_port {
        return None;
    }
    state.local.take().map(|local| local.address.port())
}
