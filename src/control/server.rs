//! The monitor's side: who may connect, and a thread for each who does.
//!
//! The event loop accepts. It asks the kernel who has connected, turns away everybody but the owner and root without a word, and gives the
//! connection to a thread of System's, of which there are few at a time. A connection is closed when it is idle; one that waits for the
//! sandbox's end has no thread until then.

use rustix::net::{SocketFlags, accept_with};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use vmm::events::Watch;
use vmm::threads::{HostThreads, Owner};

use super::address::Listener;
use super::channel::{Channel, ChannelError, LONGEST_REQUEST, Received};
use super::messages::{Execute, Reply, Request};
use super::service::Monitor;
use crate::complain;
use crate::failure::Failure;

/// Connections that are served at the same time.
const SERVED: usize = 32;
/// Connections that wait for the sandbox's end at the same time.
const WAITING: usize = 256;
/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(10);
/// How long a sandbox that has ended stays for the answers that are under way.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// The stack of a connection's thread; pages are committed as they are touched.
const STACK: usize = 512 << 10;

/// A sandbox's control socket. Dropping it closes the socket.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    names: Mutex<Option<Names>>,
    watch: Mutex<Option<Watch>>,
}

/// What keeps the sandbox's names from being another's.
#[derive(Debug)]
struct Names {
    listener: Arc<OwnedFd>,
    _reservation: Option<OwnedFd>,
}

#[derive(Debug)]
struct Shared {
    monitor: Weak<Monitor>,
    /// The user who may talk to it, besides root.
    uid: u32,
    threads: Arc<HostThreads>,
    served: AtomicUsize,
    waiting: Mutex<Waiting>,
    /// Requests that are being answered.
    answering: Mutex<usize>,
    answered: Condvar,
}

/// Who waits for the sandbox's end.
#[derive(Debug, Default)]
struct Waiting {
    clients: Vec<Arc<Channel>>,
    /// The exit status, once it is known.
    ended: Option<u8>,
}

impl Server {
    /// Makes the server of `monitor`; nobody is accepted before [`Self::start`].
    pub(crate) fn new(listener: Listener, monitor: &Arc<Monitor>) -> Self {
        let shared = Shared {
            monitor: Arc::downgrade(monitor),
            uid: listener.address.uid,
            threads: monitor.host.threads().clone(),
            served: AtomicUsize::new(0),
            waiting: Mutex::default(),
            answering: Mutex::default(),
            answered: Condvar::new(),
        };
        let names = Names { listener: Arc::new(listener.socket), _reservation: listener.reservation };
        Self { shared: Arc::new(shared), names: Mutex::new(Some(names)), watch: Mutex::default() }
    }

    /// Lets the event loop accept connections, first those that wait already. Starts its thread, which takes longer than the first
    /// process should have to wait: not for the thread that starts that.
    pub(crate) fn start(&self) {
        let Some(monitor) = self.shared.monitor.upgrade() else { return };
        // Without names the sandbox has ended already.
        let Some(listener) = lock(&self.names).as_ref().map(|names| names.listener.clone()) else { return };
        let (own, shared) = (listener.clone(), self.shared.clone());
        let accept = move |_| accept_all(&own, &shared);
        match monitor.sandbox.host_events().watch(listener.as_fd(), Box::new(accept)) {
            Ok(watch) => {
                *lock(&self.watch) = Some(watch);
                // It may have ended meanwhile, which does not wait for this.
                if lock(&self.names).is_none() {
                    drop(lock(&self.watch).take());
                }
            }
            Err(error) => complain(&format_args!("picovisor ps and its like will not reach this sandbox: {error}")),
        }
    }

    /// Gives the sandbox's names up, tells everybody who waits that it has ended, and accepts nobody any more. Who has asked for
    /// something is answered first: it may be what has ended the sandbox.
    pub(crate) fn finish(&self, status: u8) {
        if let Some(Names { listener, _reservation }) = lock(&self.names).take() {
            // The event loop may hold the socket for a moment longer.
            let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
        }
        drop(lock(&self.watch).take());
        let clients = {
            let mut waiting = lock(&self.shared.waiting);
            waiting.ended = Some(status);
            std::mem::take(&mut waiting.clients)
        };
        for client in clients {
            // Whoever is gone does not want to know.
            let _ = client.send(&Reply::Ended { status });
        }
        let answering = lock(&self.shared.answering);
        // Not for ever: a client may be slow to take its answer.
        drop(self.shared.answered.wait_timeout_while(answering, LAST_ANSWERS, |answering| *answering > 0));
    }
}

fn accept_all(listener: &OwnedFd, shared: &Arc<Shared>) {
    loop {
        match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => admit(shared, socket),
            // One that was closed before it was accepted.
            Err(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => {}
            // There is none; or the host has no descriptor for it, and it waits for the next one's call.
            Err(_) => return,
        }
    }
}

/// Finds a thread for a connection of somebody who may talk to the sandbox.
fn admit(shared: &Arc<Shared>, socket: OwnedFd) {
    let own = shared.uid;
    if !vmm::peer::peer(socket.as_fd()).is_ok_and(|peer| peer.uid == own || peer.uid == 0) {
        return;
    }
    let channel = Arc::new(Channel::new(socket));
    if shared.served.fetch_add(1, Ordering::Relaxed) >= SERVED {
        shared.served.fetch_sub(1, Ordering::Relaxed);
        // Its buffer is empty, so this does not wait.
        let _ = channel.send(&Reply::Refused("too many tools talk to it at the same time".into()));
        return;
    }
    let own = Arc::clone(shared);
    let served = move || {
        own.serve(&channel);
        own.served.fetch_sub(1, Ordering::Relaxed);
    };
    if let Err(error) = shared.threads.spawn("control", STACK, Owner::System, served) {
        shared.served.fetch_sub(1, Ordering::Relaxed);
        tracing::warn!(%error, "no thread for a tool");
    }
}

impl Shared {
    /// Answers one request after another.
    fn serve(&self, channel: &Arc<Channel>) {
        loop {
            let received: Result<Received<Request>, _> = channel.receive(LONGEST_REQUEST, Some(IDLE));
            let sent = match received {
                Ok((Request::Wait, _)) => return self.wait(channel),
                Ok((Request::Execute(what), fds)) => return self.execute(&what, fds, channel),
                Ok((request, fds)) => match self.monitor.upgrade() {
                    Some(monitor) => self.answer(|| monitor.answer(&request, fds, channel)),
                    // The sandbox is being taken down.
                    None => return,
                },
                // It hears what it should have said; another version sees ours in the header.
                Err(error @ (ChannelError::Version(_) | ChannelError::TooLong(_) | ChannelError::Malformed(_))) => {
                    let _ = channel.send(&Reply::Refused(error.to_string()));
                    return;
                }
                Err(_) => return,
            };
            if sent.is_err() {
                return;
            }
        }
    }

    /// Runs a program for whoever is at the other end, which takes a thread for itself.
    fn execute(&self, what: &Execute, fds: Vec<OwnedFd>, channel: &Arc<Channel>) {
        let started = match self.monitor.upgrade() {
            Some(monitor) => monitor.execute(what, fds),
            None => return,
        };
        let refused = match started {
            Ok(attended) => {
                let own = channel.clone();
                match self.threads.spawn("exec", STACK, Owner::System, move || attended.serve(&own)) {
                    Ok(_) => return,
                    Err(error) => Failure::ours(format_args!("no thread for it: {error}")),
                }
            }
            Err(failure) => failure,
        };
        let _ = channel.send(&Reply::NotStarted { status: refused.status(), why: refused.to_string() });
    }

    /// Answers a request, which the sandbox's end waits for.
    fn answer<T>(&self, answer: impl FnOnce() -> T) -> T {
        *lock(&self.answering) += 1;
        let result = answer();
        *lock(&self.answering) -= 1;
        self.answered.notify_all();
        result
    }

    /// Keeps a connection until the sandbox has ended, and says that it does.
    fn wait(&self, channel: &Arc<Channel>) {
        let mut waiting = lock(&self.waiting);
        waiting.clients.retain(|client| !client.is_closed());
        let reply = match waiting.ended {
            Some(status) => Reply::Ended { status },
            None if waiting.clients.len() < WAITING => Reply::Done,
            None => Reply::Refused("too many tools wait for its end".into()),
        };
        // Under the lock, so that the end is not told before. The buffer has room for so little.
        if channel.send(&reply).is_ok() && matches!(reply, Reply::Done) {
            waiting.clients.push(channel.clone());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
