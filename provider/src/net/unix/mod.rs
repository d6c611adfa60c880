//! Unix sockets (unix(7)): streams, datagrams and packets between processes, with descriptors and credentials on board.
//!
//! A [`UnixSocket`] owns what it has received (`inbox`); a sender puts data straight into the other side's. What the sides know
//! of each other is a weak reference, so that the end of one is seen by the other. Who waits for room at another socket
//! (a full backlog, a full queue of datagrams) leaves its name there (`Blocked`) and is woken through its own queue.

mod address;
mod connect;
mod credentials;
mod garbage;
mod inbox;
mod messages;
mod names;
mod options;
mod stream;

pub use names::{Names, Shown, State as ShownState};

use self::address::Name;
use self::credentials::PeerCredentials;
use self::inbox::{Bytes, Inbox, Packets};
use super::socket::{Incoming, Outgoing, Received, Shutdown, Socket};
use super::{Address, Budget, Common, Kind};
use crate::errno::Errno;
use crate::fs::Ready;
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use linux_raw_sys::net::{AF_UNIX, SOL_SOCKET};
use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Datagrams that wait at a socket before others must wait to send to it (net.unix.max_dgram_qlen).
const QUEUE_LIMIT: usize = 10;

/// Bits of [`UnixSocket::closed`]: nothing more is received.
const CLOSED_RECEIVE: u8 = 1;
/// Nothing more is sent.
const CLOSED_SEND: u8 = 2;
const CLOSED_BOTH: u8 = CLOSED_RECEIVE | CLOSED_SEND;

/// The kind of socket that a type and a protocol ask for (unix_create).
pub fn kind(kind: u32, protocol: u32) -> Result<Kind, Errno> {
    if protocol != 0 && protocol != AF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind {
        1 => Ok(Kind::Stream),
        // BSD had raw ones, and Linux makes datagram sockets of them.
        2 | 3 => Ok(Kind::Datagram),
        5 => Ok(Kind::SeqPacket),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// Sockets that wait for room at another one.
#[derive(Debug, Default)]
struct Blocked(Vec<Weak<UnixSocket>>);

impl Blocked {
    /// Adds one that is not in it yet.
    fn add(&mut self, socket: &Weak<UnixSocket>) {
        if !self.0.iter().any(|blocked| blocked.ptr_eq(socket)) {
            // Those that died meanwhile make room.
            if self.0.len() == self.0.capacity() {
                self.0.retain(|blocked| blocked.strong_count() > 0);
            }
            self.0.push(socket.clone());
        }
    }

    fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Wakes all. To be called where no lock of a socket is held.
    fn wake(self) {
        for socket in self.0.iter().filter_map(Weak::upgrade) {
            socket.common.queue.wake(Ready::OUT | Ready::WRNORM);
        }
    }
}

/// A Unix socket.
#[derive(Debug)]
pub struct UnixSocket {
    me: Weak<Self>,
    common: Common,
    budget: Arc<Budget>,
    names: Arc<Names>,
    /// [`CLOSED_RECEIVE`] and [`CLOSED_SEND`].
    closed: AtomicU8,
    state: Mutex<State>,
    inbox: Mutex<Inbox>,
    /// Bytes of messages that it has sent and that nobody has received yet.
    in_flight: AtomicUsize,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    name: Option<Arc<Name>>,
    /// Whose name it is that others find it by: not that of an accepted socket, which shares its listener's.
    is_registered: bool,
    peer_credentials: Option<PeerCredentials>,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Listening(Backlog),
    /// A datagram socket's default destination, or a connection.
    Connected(Weak<UnixSocket>),
    Closed,
}

#[derive(Debug)]
struct Backlog {
    limit: usize,
    queue: VecDeque<Arc<UnixSocket>>,
    blocked: Blocked,
    credentials: PeerCredentials,
}

impl Backlog {
    /// Tells whether a connect must wait: Linux lets one more in than was asked for.
    fn is_full(&self) -> bool {
        self.queue.len() > self.limit
    }
}

impl UnixSocket {
    /// Makes a socket that is known to nobody.
    pub fn new(task: &CurrentTask<'_>, kind: Kind) -> Arc<Self> {
        Self::with_common(task, Common::new(task, AF_UNIX, kind, 0))
    }

    fn with_common(task: &CurrentTask<'_>, common: Common) -> Arc<Self> {
        let network = task.kernel().network();
        let budget = network.budget().clone();
        let inbox = match common.kind {
            Kind::Stream => Inbox::Bytes(Bytes::new(&budget)),
            _ => Inbox::Packets(Packets::default()),
        };
        let state = State { phase: Phase::Idle, name: None, is_registered: false, peer_credentials: None };
        let socket = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            common,
            budget,
            names: network.unix().clone(),
            closed: AtomicU8::new(0),
            state: Mutex::new(Rank::Socket, state),
            inbox: Mutex::new(Rank::SocketBuffer, inbox),
            in_flight: AtomicUsize::new(0),
        });
        network.unix().add(&socket);
        socket
    }

    /// Makes two sockets that are connected to each other (socketpair).
    pub fn pair(task: &CurrentTask<'_>, kind: Kind) -> [Arc<Self>; 2] {
        let (a, b) = (Self::new(task, kind), Self::new(task, kind));
        let credentials = PeerCredentials::of(task);
        for (one, other) in [(&a, &b), (&b, &a)] {
            let mut state = one.state.lock();
            state.phase = Phase::Connected(Arc::downgrade(other));
            state.peer_credentials = Some(credentials.clone());
        }
        [a, b]
    }

    fn is_closed(&self, direction: u8) -> bool {
        self.closed.load(Ordering::Acquire) & direction == direction
    }

    fn close_direction(&self, direction: u8) {
        self.closed.fetch_or(direction, Ordering::AcqRel);
    }

    /// The socket it is connected to; `None`: it is not connected, `Some(None)`: the other side is gone.
    fn peer(&self) -> Option<Option<Arc<UnixSocket>>> {
        match &self.state.lock().phase {
            Phase::Connected(peer) => Some(peer.upgrade()),
            _ => None,
        }
    }

    fn name(&self) -> Option<Arc<Name>> {
        self.state.lock().name.clone()
    }

    /// Tells whether it is connected to `other`.
    fn is_connected_to(&self, other: &UnixSocket) -> bool {
        match &self.state.lock().phase {
            Phase::Connected(peer) => peer.ptr_eq(&other.me),
            _ => false,
        }
    }

    /// SO_SNDBUF.
    fn send_limit(&self) -> usize {
        self.common.options().send_buffer
    }

    /// Tells whether what is in flight leaves room to be called writable (unix_writable).
    fn has_room(&self, in_flight: usize) -> bool {
        in_flight.saturating_mul(4) <= self.send_limit()
    }

    fn is_connection(&self) -> bool {
        self.common.kind != Kind::Datagram
    }
}

impl Socket for UnixSocket {
    fn common(&self) -> &Common {
        &self.common
    }

    fn bind(&self, task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno> {
        self.bind_to(task, address)
    }

    fn listen(&self, task: &CurrentTask<'_>, backlog: i32) -> Result<(), Errno> {
        self.start_listening(task, backlog)
    }

    fn accept(&self, task: &CurrentTask<'_>) -> Result<Arc<dyn Socket>, Errno> {
        self.take_connection(task).map(|socket| socket as Arc<dyn Socket>)
    }

    fn connect(&self, task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno> {
        if self.is_connection() { self.connect_to_listener(task, address) } else { self.set_destination(task, address) }
    }

    fn local_address(&self) -> Result<Address, Errno> {
        Ok(address::encode(self.name().as_deref()))
    }

    fn peer_address(&self) -> Result<Address, Errno> {
        let peer = self.peer().ok_or(Errno::ENOTCONN)?;
        // Linux keeps a closed peer's name as long as the connection; a weak reference does not.
        let name = peer.and_then(|peer| peer.name());
        Ok(address::encode(name.as_deref()))
    }

    fn send(&self, task: &CurrentTask<'_>, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        match self.common.kind {
            Kind::Stream => self.send_bytes(task, message),
            _ => self.send_packet(task, message),
        }
    }

    fn receive(&self, _task: &CurrentTask<'_>, message: &mut Incoming<'_>) -> Result<Received, Errno> {
        match self.common.kind {
            Kind::Stream => self.receive_bytes(message),
            _ => self.receive_packet(message),
        }
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        let mut mine = 0;
        let mut theirs = 0;
        if how.receives() {
            mine |= CLOSED_RECEIVE;
            theirs |= CLOSED_SEND;
        }
        if how.sends() {
            mine |= CLOSED_SEND;
            theirs |= CLOSED_RECEIVE;
        }
        self.close_direction(mine);
        if self.is_connection()
            && let Some(Some(peer)) = self.peer()
        {
            peer.close_direction(theirs);
            peer.common.queue.wake_all();
        }
        self.common.queue.wake_all();
        Ok(())
    }

    fn option(&self, task: &CurrentTask<'_>, level: u32, name: u32, room: usize) -> Result<Vec<u8>, Errno> {
        self.read_option(task, level, name, room)
    }

    fn set_option(&self, task: &CurrentTask<'_>, level: u32, name: u32, value: &[u8]) -> Result<(), Errno> {
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        super::options::set(&self.common, task, level, name, value)
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        self.control(task, request, arg)
    }

    fn ready(&self) -> Ready {
        match self.common.kind {
            Kind::Datagram => self.datagram_ready(),
            _ => self.connection_ready(),
        }
    }

    fn is_stream(&self) -> bool {
        self.common.kind == Kind::Stream
    }

    fn close(&self) {
        self.disappear();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
