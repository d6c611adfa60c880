//! How much of the monitor's memory names and attributes may take.

use crate::errno::Errno;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that an inode takes, generously: its attributes, its lock, its share of tables.
pub(super) const INODE: u64 = 640;
/// Bytes that a directory entry takes besides its name, which is stored twice.
const ENTRY: u64 = 160;

/// A bound on the monitor's memory for names, attributes, link texts and extended attributes of in-memory file systems.
/// Beyond it a program gets `ENOSPC`, as from a tmpfs that is out of inodes.
#[derive(Debug)]
pub(in crate::fs) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    /// Makes a budget of `limit` bytes.
    pub(in crate::fs) fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    /// Takes bytes; `ENOSPC` if they are not there.
    pub(super) fn take(&self, bytes: u64) -> Result<(), Errno> {
        let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map(|_| ()).map_err(|_| Errno::ENOSPC)
    }

    /// Gives bytes back.
    pub(super) fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What a directory entry of that name takes.
    pub(super) fn entry(name: &[u8]) -> u64 {
        ENTRY + 2 * u64::try_from(name.len()).unwrap_or(u64::MAX / 4)
    }

    /// (Inodes there could be, inodes that still can be made).
    pub(super) fn inodes(&self) -> (u64, u64) {
        let free = self.limit.saturating_sub(self.used.load(Ordering::Relaxed));
        (self.limit / INODE, free / INODE)
    }

    /// Bytes in use.
    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}
