//! Which socket has which name, and all sockets there are.

use super::address::{Key, Name};
use super::garbage::InFlight;
use super::{Phase, UnixSocket};
use crate::errno::Errno;
use crate::net::{Common, Kind};
use crate::sync::{Mutex, Rank};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

/// Abstract names that autobind tries (five hexadecimal digits).
const AUTOMATIC: u32 = 1 << 20;

/// What an abstract name is found by: each type of socket has names of its own.
pub(super) type AbstractKey = (Kind, Vec<u8>);

/// The names of a sandbox's Unix sockets.
#[derive(Debug)]
pub struct Names {
    tables: Mutex<Tables>,
    in_flight: Arc<InFlight>,
}

#[derive(Debug, Default)]
struct Tables {
    paths: HashMap<Key, Weak<UnixSocket>>,
    names: HashMap<AbstractKey, Weak<UnixSocket>>,
    /// By inode number.
    all: BTreeMap<u64, Weak<UnixSocket>>,
    next_automatic: u32,
}

impl Default for Names {
    fn default() -> Self {
        Self { tables: Mutex::new(Rank::Network, Tables::default()), in_flight: Arc::default() }
    }
}

/// A socket as /proc/net/unix and `ss` show it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns of /proc/net/unix")]
pub struct Shown {
    pub inode: u64,
    pub kind: Kind,
    pub uid: u32,
    pub state: State,
    /// The name as it is shown: a path, or an abstract name behind an `@`.
    pub name: Option<Vec<u8>>,
    /// The inode of the other side of a connection.
    pub peer: Option<u64>,
    pub receive_queue: usize,
    pub backlog: usize,
    pub backlog_limit: usize,
}

/// What a socket does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing yet, or no more.
    Unconnected,
    /// Others may connect.
    Listening,
    /// It is connected.
    Connected,
}

impl Names {
    /// The open files that messages carry.
    pub(super) fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    /// Makes a new socket known.
    pub(super) fn add(&self, socket: &Arc<UnixSocket>) {
        self.tables.lock().all.insert(inode(&socket.common), Arc::downgrade(socket));
    }

    /// Notes that the object at `key` is `socket`.
    pub(super) fn add_path(&self, key: Key, socket: &Weak<UnixSocket>) {
        self.tables.lock().paths.insert(key, socket.clone());
    }

    /// Gives an abstract name; `EADDRINUSE`.
    pub(super) fn add_abstract(&self, name: AbstractKey, socket: &Weak<UnixSocket>) -> Result<(), Errno> {
        let mut tables = self.tables.lock();
        if tables.names.contains_key(&name) {
            return Err(Errno::EADDRINUSE);
        }
        tables.names.insert(name, socket.clone());
        Ok(())
    }

    /// Gives an abstract name of five hexadecimal digits; `ENOSPC` if all are taken.
    pub(super) fn add_automatic(&self, kind: Kind, socket: &Weak<UnixSocket>) -> Result<Name, Errno> {
        let mut tables = self.tables.lock();
        for _ in 0..AUTOMATIC {
            let number = tables.next_automatic;
            tables.next_automatic = (number + 1) % AUTOMATIC;
            let name = format!("{number:05x}").into_bytes();
            if let Entry::Vacant(place) = tables.names.entry((kind, name.clone())) {
                place.insert(socket.clone());
                return Ok(Name::Abstract(name));
            }
        }
        Err(Errno::ENOSPC)
    }

    /// The socket bound to the object at `key`.
    pub(super) fn at_path(&self, key: Key) -> Option<Arc<UnixSocket>> {
        let found = self.tables.lock().paths.get(&key).cloned();
        found.and_then(|socket| socket.upgrade())
    }

    /// The socket of that abstract name.
    pub(super) fn at_abstract(&self, name: &AbstractKey) -> Option<Arc<UnixSocket>> {
        let found = self.tables.lock().names.get(name).cloned();
        found.and_then(|socket| socket.upgrade())
    }

    /// Forgets a socket and, if it was found by it, its name.
    pub(super) fn remove(&self, socket: &UnixSocket, name: Option<&Name>) {
        let mut tables = self.tables.lock();
        tables.all.remove(&inode(&socket.common));
        let is_it = |found: Option<&Weak<UnixSocket>>| found.is_some_and(|found| found.ptr_eq(&socket.me));
        match name {
            Some(Name::Path(_, key)) if is_it(tables.paths.get(key)) => drop(tables.paths.remove(key)),
            Some(Name::Abstract(name)) => {
                let key = (socket.common.kind, name.clone());
                if is_it(tables.names.get(&key)) {
                    tables.names.remove(&key);
                }
            }
            Some(Name::Path(..)) | None => {}
        }
    }

    /// All sockets, by ascending inode number.
    pub fn list(&self) -> Vec<Shown> {
        let all: Vec<Weak<UnixSocket>> = self.tables.lock().all.values().cloned().collect();
        all.iter().filter_map(Weak::upgrade).map(|socket| socket.shown()).collect()
    }
}

fn inode(common: &Common) -> u64 {
    common.inode
}

impl UnixSocket {
    fn shown(&self) -> Shown {
        let (state, name, peer, (backlog, backlog_limit)) = {
            let locked = self.state.lock();
            let (state, peer, backlog) = match &locked.phase {
                Phase::Idle | Phase::Closed => (State::Unconnected, None, (0, 0)),
                Phase::Listening(backlog) => (State::Listening, None, (backlog.queue.len(), backlog.limit)),
                Phase::Connected(peer) => (State::Connected, Some(peer.clone()), (0, 0)),
            };
            (state, locked.name.clone(), peer, backlog)
        };
        let name = name.map(|name| match &*name {
            Name::Path(path, _) => path.clone(),
            // A NUL within an abstract name is shown as @, too.
            Name::Abstract(name) => {
                let shown = name.iter().map(|byte| if *byte == 0 { b'@' } else { *byte });
                std::iter::once(b'@').chain(shown).collect()
            }
        });
        Shown {
            inode: self.common.inode,
            kind: self.common.kind,
            uid: self.common.uid,
            state,
            name,
            peer: peer.and_then(|peer| peer.upgrade()).map(|peer| peer.common.inode),
            receive_queue: self.inbox.lock().len(),
            backlog,
            backlog_limit,
        }
    }
}
