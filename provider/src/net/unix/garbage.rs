//! Open files in flight, and those among them that nobody can ever receive.
//!
//! A Unix socket may lie in a queue of messages that only it, or another such socket, could read. Counting references does not end
//! such a cycle, so [`InFlight::collect`] looks for it: a socket all of whose references are in flight in the queues of such sockets
//! is garbage, and its queue is emptied. It runs when a socket is closed and when much is in flight, as Linux's (net/unix/garbage.c).

use super::UnixSocket;
use super::inbox::Inbox;
use crate::fs::OpenFile;
use crate::sync::{Mutex, Rank};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// Sockets in flight at which a send looks for garbage first.
const MANY: usize = 512;

/// The open files that messages carry.
#[derive(Debug)]
pub(super) struct InFlight {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Unix sockets, by their open file's number.
    sockets: HashMap<u64, Flight>,
    /// All files, sockets or not.
    total: u64,
    /// Sockets in flight at which the next send collects.
    next: usize,
}

#[derive(Clone, Debug)]
struct Flight {
    file: Weak<OpenFile>,
    count: usize,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { state: Mutex::new(Rank::Leaf, State { next: MANY, ..State::default() }) }
    }
}

/// Open files on board of a message.
#[derive(Debug)]
pub(super) struct Rights {
    files: Vec<Arc<OpenFile>>,
    registry: Option<Arc<InFlight>>,
}

impl Rights {
    /// No files.
    pub(super) fn none() -> Self {
        Self { files: Vec::new(), registry: None }
    }

    /// Puts files on board.
    pub(super) fn new(files: Vec<Arc<OpenFile>>, registry: &Arc<InFlight>) -> Self {
        registry.enter(&files);
        Self { files, registry: Some(registry.clone()) }
    }

    /// The files.
    pub(super) fn files(&self) -> &[Arc<OpenFile>] {
        &self.files
    }

    /// Tells whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Takes the files off board.
    pub(super) fn take(&mut self) -> Vec<Arc<OpenFile>> {
        if let Some(registry) = self.registry.take() {
            registry.leave(&self.files);
        }
        std::mem::take(&mut self.files)
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        drop(self.take());
    }
}

fn unix_socket(file: &OpenFile) -> Option<&UnixSocket> {
    file.file().as_socket().and_then(|file| file.socket().as_any().downcast_ref())
}

impl InFlight {
    /// Files in flight.
    pub(super) fn total(&self) -> u64 {
        self.state.lock().total
    }

    fn enter(&self, files: &[Arc<OpenFile>]) {
        let mut state = self.state.lock();
        for file in files {
            state.total += 1;
            if unix_socket(file).is_some() {
                let flight = || Flight { file: Arc::downgrade(file), count: 0 };
                state.sockets.entry(file.id()).or_insert_with(flight).count += 1;
            }
        }
    }

    fn leave(&self, files: &[Arc<OpenFile>]) {
        let mut state = self.state.lock();
        for file in files {
            state.total = state.total.saturating_sub(1);
            if let Some(flight) = state.sockets.get_mut(&file.id()) {
                flight.count -= 1;
                if flight.count == 0 {
                    state.sockets.remove(&file.id());
                }
            }
        }
    }

    /// Looks for garbage if much is in flight.
    pub(super) fn collect_if_many(&self) {
        let (many, sockets) = {
            let state = self.state.lock();
            (state.sockets.len() >= state.next, state.sockets.len())
        };
        if many {
            self.collect();
            // Twice what survived: so the search costs little on the whole.
            self.state.lock().next = (sockets * 2).max(MANY);
        }
    }

    /// The sockets all of whose references are in flight, with how many those are.
    fn candidates(&self) -> HashMap<u64, Flight> {
        let state = self.state.lock();
        let all = state.sockets.iter().filter(|(_, flight)| flight.file.strong_count() == flight.count);
        all.map(|(id, flight)| (*id, flight.clone())).collect()
    }

    /// Empties the queues of sockets that nobody can reach. To be called where no lock of a socket is held.
    pub(super) fn collect(&self) {
        let mut candidates = self.candidates();
        if candidates.is_empty() {
            return;
        }
        // The candidates hold each other only; whoever is held from elsewhere is none, nor is what it holds.
        loop {
            let mut held: HashMap<u64, usize> = HashMap::new();
            for flight in candidates.values() {
                for id in carried(flight) {
                    *held.entry(id).or_default() += 1;
                }
            }
            let before = candidates.len();
            candidates.retain(|id, flight| held.get(id).copied().unwrap_or_default() == flight.count);
            if candidates.len() == before {
                break;
            }
        }
        // What was received meanwhile by somebody has one more reference: then this was no state that ever was.
        let now = self.candidates();
        let still = |(id, flight): (&u64, &Flight)| now.get(id).is_some_and(|now| now.count == flight.count);
        if !candidates.iter().all(still) {
            return;
        }
        let mut dropped: Vec<Inbox> = Vec::new();
        for flight in candidates.values() {
            if let Some(file) = flight.file.upgrade()
                && let Some(socket) = unix_socket(&file)
            {
                socket.for_each_inbox(|inbox, budget| dropped.push(inbox.take(budget)));
            }
        }
        dropped.into_iter().for_each(dispose);
    }
}

/// The numbers of the open files in what a socket has received.
fn carried(flight: &Flight) -> Vec<u64> {
    let mut ids = Vec::new();
    if let Some(file) = flight.file.upgrade()
        && let Some(socket) = unix_socket(&file)
    {
        socket.for_each_inbox(|inbox, _| inbox.for_each_right(|file| ids.push(file.id())));
    }
    ids
}

thread_local! {
    /// What is still to be dropped, while something is.
    static PENDING: RefCell<Option<Vec<Inbox>>> = const { RefCell::new(None) };
}

/// Drops what a socket has received. A socket in it may be the last reference to another one, and so on: the chain is taken apart
/// here and not by recursion, since a program decides how long it is. To be called where no lock of a socket is held.
pub(super) fn dispose(inbox: Inbox) {
    let is_outermost = PENDING.with_borrow_mut(|pending| match pending {
        Some(pending) => {
            pending.push(inbox);
            false
        }
        None => {
            *pending = Some(vec![inbox]);
            true
        }
    });
    if !is_outermost {
        return;
    }
    while let Some(next) = PENDING.with_borrow_mut(|pending| pending.as_mut().and_then(Vec::pop)) {
        drop(next);
    }
    PENDING.set(None);
}
