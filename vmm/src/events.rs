//! Readiness of host descriptors: one thread of the System process waits for all that somebody watches.
//!
//! [`HostEvents::watch`] names a descriptor and what to call; the call comes from that thread at each change (edge-triggered), so it must
//! neither block nor watch. Dropping the [`Watch`] ends it; a call that is under way may still come.

use crate::threads::{HostThreads, Owner};
use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, RemoteEndpoint, SubscriberId};
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

/// Bytes of the thread's stack: it calls little.
const STACK: usize = 128 << 10;

/// Why a descriptor cannot be watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The host has no more descriptors, threads or memory for it.
    #[error("no more host descriptors can be watched: {0}")]
    Host(std::io::Error),
    /// It is nothing that becomes ready (a regular file).
    #[error("the descriptor cannot be waited for")]
    NotPollable,
}

/// What a watcher is called with: the EPOLL* bits that may have come.
pub type Call = Box<dyn Fn(u32) + Send>;

/// The descriptors that are watched, and the thread that waits for them. It starts with the first.
#[derive(Debug, Default)]
pub struct HostEvents {
    threads: Arc<HostThreads>,
    endpoint: Mutex<Option<RemoteEndpoint<Subscriber>>>,
    /// Tells the thread to end.
    over: Arc<AtomicBool>,
}

/// A descriptor that is watched, until this is dropped.
#[derive(Debug)]
pub struct Watch {
    endpoint: RemoteEndpoint<Subscriber>,
    id: SubscriberId,
}

/// A watched descriptor as the event manager knows it.
struct Subscriber {
    /// A duplicate: it stays open until the event manager has let go of it, and belongs to one watch.
    fd: OwnedFd,
    call: Call,
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl MutEventSubscriber for Subscriber {
    fn process(&mut self, events: Events, _ops: &mut EventOps<'_>) {
        (self.call)(events.event_set().bits());
    }

    fn init(&mut self, _ops: &mut EventOps<'_>) {
        // The request that adds it adds its descriptor, too: it wants to know of errors.
    }
}

/// Converts errors of the event manager.
struct Failure(WatchError);

impl From<event_manager::Error> for Failure {
    fn from(error: event_manager::Error) -> Self {
        Self(match error {
            event_manager::Error::Epoll(errno) if errno.errno() == libc::EPERM => WatchError::NotPollable,
            event_manager::Error::Epoll(errno) | event_manager::Error::EventFd(errno) => WatchError::Host(errno.into()),
            other => WatchError::Host(std::io::Error::other(other.to_string())),
        })
    }
}

impl HostEvents {
    /// Watches nothing yet. The thread, once it is needed, is one of `threads`.
    pub fn new(threads: Arc<HostThreads>) -> Self {
        Self { threads, endpoint: Mutex::default(), over: Arc::default() }
    }

    /// Calls `call` whenever the descriptor may have become ready for something, first for what it is ready for now.
    pub fn watch(&self, fd: BorrowedFd<'_>, call: Call) -> Result<Watch, WatchError> {
        let fd = fd.try_clone_to_owned().map_err(WatchError::Host)?;
        let endpoint = self.endpoint()?;
        let add = |ops: &mut dyn event_manager::SubscriberOps<Subscriber = Subscriber>| {
            let raw = fd.as_raw_fd();
            let id = ops.add_subscriber(Subscriber { fd, call });
            let interest =
                EventSet::IN | EventSet::OUT | EventSet::PRIORITY | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
            let added = ops.event_ops(id).and_then(|mut events| events.add(Events::new_raw(raw, interest)));
            if let Err(error) = added {
                ops.remove_subscriber(id)?;
                return Err(Failure::from(error));
            }
            Ok(id)
        };
        let id = endpoint.call_blocking(add).map_err(|Failure(error)| error)?;
        Ok(Watch { endpoint, id })
    }

    fn endpoint(&self) -> Result<RemoteEndpoint<Subscriber>, WatchError> {
        let mut endpoint = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = &*endpoint {
            return Ok(endpoint.clone());
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        // The manager is made on its thread: it may not be sent there.
        let over = self.over.clone();
        let thread = self.threads.spawn("events", STACK, Owner::System, move || run(&sender, &over));
        thread.map_err(WatchError::Host)?;
        let made = receiver.recv().map_err(|error| WatchError::Host(std::io::Error::other(error)))?;
        let made = made.map_err(|error| Failure::from(error).0)?;
        *endpoint = Some(made.clone());
        Ok(made)
    }
}

/// What the thread reports of its start.
type Started = Result<RemoteEndpoint<Subscriber>, event_manager::Error>;

/// Waits for events until `over` is set.
fn run(started: &std::sync::mpsc::Sender<Started>, over: &AtomicBool) {
    let mut manager = match EventManager::<Subscriber>::new() {
        Ok(manager) => manager,
        Err(error) => {
            // Whoever asked is waiting for this.
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(manager.remote_endpoint()));
    while !over.load(Ordering::Acquire) {
        if let Err(error) = manager.run() {
            tracing::error!(%error, "host descriptors are no longer watched");
            return;
        }
    }
}

impl Drop for HostEvents {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        let endpoint = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Fails only if the thread has more to read than a counter holds: then it wakes anyway.
        let _ = endpoint.map(|endpoint| endpoint.kick());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let id = self.id;
        // Not waited for: the last reference may go on the events thread itself.
        let removed = self.endpoint.fire(move |ops| drop(ops.remove_subscriber(id)));
        if let Err(error) = removed {
            tracing::debug!(%error, "a watch outlived the thread that served it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::sync::mpsc::channel;

    #[test]
    fn a_change_is_told_until_the_watch_ends() {
        let events = HostEvents::default();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let (sender, receiver) = channel();
        let watch = events.watch(reader.as_fd(), Box::new(move |bits| sender.send(bits).unwrap_or_default())).unwrap();
        writer.write_all(b"x").unwrap();
        assert_eq!(receiver.recv().unwrap() & 1, 1);
        drop(watch);
        // The sender goes with the watch.
        while receiver.recv().is_ok() {}
    }

    #[test]
    fn a_regular_file_is_not_watched() {
        let file = tempfile::tempfile().unwrap();
        let watched = HostEvents::default().watch(file.as_fd(), Box::new(|_| ()));
        assert!(matches!(watched, Err(WatchError::NotPollable)));
    }
}
