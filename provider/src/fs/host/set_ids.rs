//! Set-id bits of host files, which are kept from the host.
//!
//! A program may give a file of its own the set-user-id bit; on the host that would hand out the caller's rights. So such bits are
//! remembered here and shown to the sandbox only, for as long as it runs. A file is known by its identity and the time it was
//! made, so that one that gets the number of a removed one does not inherit its bits.

use super::Key;
use crate::fs::{Stat, Timestamp};
use crate::sync::{Mutex, Rank};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most files whose bits are remembered: those of others are as the host has them.
const FILES_MAX: usize = 65536;

/// The bits of one tree's files.
#[derive(Debug)]
pub(super) struct SetIds {
    files: Mutex<HashMap<Key, (Option<Timestamp>, u32)>>,
    count: AtomicUsize,
}

impl Default for SetIds {
    fn default() -> Self {
        Self { files: Mutex::new(Rank::Leaf, HashMap::new()), count: AtomicUsize::new(0) }
    }
}

impl SetIds {
    /// Tells whether no file has any.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Attributes as the host has them, with the bits that it does not have.
    pub(super) fn shown(&self, key: Key, mut stat: Stat) -> Stat {
        if !self.is_empty()
            && let Some((born, bits)) = self.files.lock().get(&key)
            && *born == stat.born
        {
            stat.mode |= bits;
        }
        stat
    }

    /// Remembers the bits of a file; none: forgets it.
    pub(super) fn note(&self, key: Key, born: Option<Timestamp>, bits: u32) {
        if bits == 0 && self.is_empty() {
            return;
        }
        let mut files = self.files.lock();
        if bits == 0 {
            files.remove(&key);
        } else if files.len() < FILES_MAX || files.contains_key(&key) {
            files.insert(key, (born, bits));
        }
        self.count.store(files.len(), Ordering::Relaxed);
    }
}
