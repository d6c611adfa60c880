//! TCP without packets (tcp(7)).
//!
//! A [`TcpSocket`] owns the bytes it has received; its peer writes into that buffer and is woken when there is room. A FIN, a reset and
//! a refusal are calls to the other side. What Linux does later, when packets or timers arrive, is done at once: nothing is lost, and data counts as acknowledged as soon as it is in the receiver's buffer. Only the port of who ended a connection
//! first is remembered for a while, as TIME_WAIT does: programs see that.

mod connect;
mod data;
mod options;
mod show;

pub use show::Shown;

use self::data::Inbox;
use self::options::TcpOptions;
use super::ports::{Claim, Reach, Sharing};
use super::{Endpoint, Stack};
use crate::errno::Errno;
use crate::fs::Ready;
use crate::net::common::{RECEIVE_BUFFER_MIN, Switches};
use crate::net::socket::{Incoming, Outgoing, Received, Shutdown, Socket};
use crate::net::{Address, Budget, Common, Kind};
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use std::any::Any;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

/// SO_SNDBUF of a new socket (net.ipv4.tcp_wmem).
const SEND_BUFFER: usize = 16_384;
/// SO_RCVBUF of a new socket (net.ipv4.tcp_rmem).
const RECEIVE_BUFFER: usize = 131_072;
/// What either side adds to a direction's capacity unless a program has set its buffer: Linux's grow by themselves.
const CAPACITY: usize = 131_072;

bitflags::bitflags! {
    /// What has ended.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Ended: u8 {
        /// The other side sends no more.
        const RECEIVED = 1;
        /// This side sends no more.
        const SENT = 2;
        /// This side reads no more.
        const READING = 4;
        /// The connection was reset or refused.
        const RESET = 8;
        /// The last descriptor is gone.
        const CLOSED = 16;
        /// This side's end was sent before the other's came: it is this side that waits (TIME_WAIT).
        const FIRST = 32;
    }
}

/// A TCP socket.
#[derive(Debug)]
pub struct TcpSocket {
    me: Weak<Self>,
    common: Common,
    endpoint: Endpoint,
    stack: Arc<Stack>,
    ended: AtomicU8,
    state: Mutex<State>,
    inbox: Mutex<Inbox>,
    options: Mutex<TcpOptions>,
}

#[derive(Debug)]
struct State {
    progress: Progress,
    phase: Phase,
    local: Option<Local>,
    remote: Option<SocketAddr>,
    /// The inode number of the other side of a connection.
    peer: u64,
}

/// How far connect(2) has come, as its caller knows (`sock->state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Unconnected,
    Connecting,
    Connected,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Listening(Backlog),
    /// Waits for a place in a backlog.
    Connecting,
    Connected(Weak<TcpSocket>),
}

#[derive(Debug)]
struct Backlog {
    limit: usize,
    queue: VecDeque<Arc<TcpSocket>>,
    /// Who waits for a place.
    waiting: VecDeque<Weak<TcpSocket>>,
}

/// A socket's own address.
#[derive(Clone, Copy, Debug)]
struct Local {
    address: SocketAddr,
    reach: Reach,
    /// The address was asked for.
    keeps_address: bool,
    /// The port was asked for.
    keeps_port: bool,
}

impl TcpSocket {
    /// Makes a socket.
    pub fn new(task: &CurrentTask<'_>, family: u32) -> Arc<Self> {
        let network = task.kernel().network();
        let common = Common::new(task, family, Kind::Stream, super::TCP);
        {
            let mut options = common.options();
            (options.send_buffer, options.receive_buffer) = (SEND_BUFFER, RECEIVE_BUFFER);
        }
        let state = State { progress: Progress::Unconnected, phase: Phase::Idle, local: None, remote: None, peer: 0 };
        let endpoint = Endpoint::new(family);
        Self::with(common, endpoint, network.inet(), network.budget(), TcpOptions::default(), state)
    }

    fn with(
        common: Common,
        endpoint: Endpoint,
        stack: &Arc<Stack>,
        budget: &Arc<Budget>,
        options: TcpOptions,
        state: State,
    ) -> Arc<Self> {
        let socket = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            common,
            endpoint,
            stack: stack.clone(),
            ended: AtomicU8::new(0),
            state: Mutex::new(Rank::Socket, state),
            inbox: Mutex::new(Rank::SocketBuffer, Inbox::new(budget)),
            options: Mutex::new(Rank::Leaf, options),
        });
        stack.add_tcp(socket.common.inode, socket.me.clone());
        socket
    }

    fn ended(&self) -> Ended {
        Ended::from_bits_truncate(self.ended.load(Ordering::Acquire))
    }

    fn end(&self, what: Ended) {
        self.ended.fetch_or(what.bits(), Ordering::AcqRel);
    }

    /// What it claims of its port.
    fn claim(&self, reach: Reach, listens: bool) -> Claim {
        let switches = self.common.options().switches;
        let mut sharing = Sharing::empty();
        sharing.set(Sharing::ADDRESS, switches.contains(Switches::REUSEADDR));
        sharing.set(Sharing::PORT, switches.contains(Switches::REUSEPORT));
        Claim { id: self.common.inode, reach, sharing, uid: self.common.uid, listens, connection: None, lingers: None }
    }

    /// The other side of a connection; `Some(None)` once it is gone.
    fn peer(&self) -> Option<Option<Arc<TcpSocket>>> {
        match &self.state.lock().phase {
            Phase::Connected(peer) => Some(peer.upgrade().filter(|peer| !peer.ended().contains(Ended::CLOSED))),
            _ => None,
        }
    }

    /// Tells whether a connection that was is over for good (TCP_CLOSE).
    fn is_over(&self) -> bool {
        let ended = self.ended();
        ended.contains(Ended::RESET) || ended.contains(Ended::RECEIVED | Ended::SENT)
    }

    /// Bytes that this side's buffers add to what may be on its way to it, or from it.
    fn share(&self, sends: bool) -> usize {
        let options = self.common.options();
        match sends {
            true if options.send_buffer_set => options.send_buffer,
            false if options.receive_buffer_set => options.receive_buffer.max(RECEIVE_BUFFER_MIN),
            _ => CAPACITY,
        }
    }
}

impl Socket for TcpSocket {
    fn common(&self) -> &Common {
        &self.common
    }

    fn bind(&self, task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno> {
        self.bind_to(task, address)
    }

    fn listen(&self, _task: &CurrentTask<'_>, backlog: i32) -> Result<(), Errno> {
        self.start_listening(backlog)
    }

    fn accept(&self, _task: &CurrentTask<'_>) -> Result<Arc<dyn Socket>, Errno> {
        self.take_connection().map(|socket| socket as Arc<dyn Socket>)
    }

    fn connect(&self, _task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno> {
        self.start_connecting(address)
    }

    fn finish_connect(&self, _task: &CurrentTask<'_>, _address: &[u8]) -> Result<(), Errno> {
        self.connected()
    }

    fn local_address(&self) -> Result<Address, Errno> {
        let local = self.state.lock().local.map(|local| local.address);
        Ok(self.endpoint.show(local.unwrap_or_else(|| self.endpoint.unspecified())))
    }

    fn peer_address(&self) -> Result<Address, Errno> {
        let remote = {
            let state = self.state.lock();
            if matches!(state.phase, Phase::Connected(_)) { state.remote } else { None }
        };
        match remote {
            Some(remote) if !self.is_over() => Ok(self.endpoint.show(remote)),
            _ => Err(Errno::ENOTCONN),
        }
    }

    fn send(&self, _task: &CurrentTask<'_>, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        self.send_bytes(message)
    }

    fn receive(&self, _task: &CurrentTask<'_>, message: &mut Incoming<'_>) -> Result<Received, Errno> {
        self.receive_bytes(message)
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        self.shut(how)
    }

    fn option(&self, task: &CurrentTask<'_>, level: u32, name: u32, room: usize) -> Result<Vec<u8>, Errno> {
        self.read_option(task, level, name, room)
    }

    fn set_option(&self, task: &CurrentTask<'_>, level: u32, name: u32, value: &[u8]) -> Result<(), Errno> {
        self.write_option(task, level, name, value)
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        self.control(task, request, arg)
    }

    fn ready(&self) -> Ready {
        self.readiness()
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn close(&self) {
        self.disappear();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
