//! File systems in memory: /tmp, /dev, /dev/shm, and the upper layer of the overlay.
//!
//! A file's data lives in a memory object's frames, so reads, writes and mappings agree by construction and the sandbox's memory
//! limit counts them. Names and attributes live in the monitor; a [`Budget`] that all instances share bounds them.
//! Locks: a directory's entries (`Inode`), attributes (`Leaf`).

mod budget;
mod directory;
mod file;
mod inode;
mod options;
mod seals;
#[cfg(test)]
mod tests;

pub(super) use budget::Budget;
pub(super) use inode::TmpInode;
pub(super) use options::TmpOptions;
pub use seals::Seals;

use options::Quota;

use super::{FileKind, FileSystem, FsStat, Inode, NewNode};
use crate::errno::Errno;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use vmm::memory::GuestMemory;

/// TMPFS_MAGIC (statfs(2)).
const MAGIC: u64 = 0x0102_1994;
/// Bytes of a block, as st_blksize and statfs(2) report.
const BLOCK: u64 = 4096;

/// Minor numbers of the device numbers that file systems of our own report. Linux counts from 1 upwards with major 0; we start
/// where the host's own will hardly be, so that (device, inode) pairs stay apart from the host's.
static NEXT_MINOR: AtomicU32 = AtomicU32::new(0x4_0000);

/// A device number that no other file system has.
pub(super) fn new_device() -> u64 {
    rustix::fs::makedev(0, NEXT_MINOR.fetch_add(1, Ordering::Relaxed))
}

/// What the inodes of one instance share.
#[derive(Debug)]
struct Shared {
    memory: Arc<GuestMemory>,
    budget: Arc<Budget>,
    /// What this instance may hold.
    quota: Quota,
    device: u64,
    next_inode: AtomicU64,
}

/// A file system in memory.
#[derive(Debug)]
pub(super) struct TmpFs {
    root: Arc<TmpInode>,
    type_name: &'static str,
}

impl TmpFs {
    /// Makes one whose root directory belongs to root and has these permission bits.
    pub(super) fn new(memory: &Arc<GuestMemory>, budget: &Arc<Budget>, mode: u32) -> Result<Arc<Self>, Errno> {
        let options = TmpOptions { mode: Some(mode), ..TmpOptions::default() };
        Self::with(memory, budget, "tmpfs", &options)
    }

    /// Makes one beside another, for a program: with a mode of 01777, if the options say nothing else.
    pub(super) fn like(other: &Self, type_name: &'static str, options: &TmpOptions) -> Result<Arc<Self>, Errno> {
        let shared = other.root.shared();
        Self::with(&shared.memory, &shared.budget, type_name, options)
    }

    fn with(
        memory: &Arc<GuestMemory>,
        budget: &Arc<Budget>,
        type_name: &'static str,
        options: &TmpOptions,
    ) -> Result<Arc<Self>, Errno> {
        let shared = Arc::new(Shared {
            memory: memory.clone(),
            budget: budget.clone(),
            quota: Quota::new(options),
            device: new_device(),
            next_inode: AtomicU64::new(1),
        });
        let node = NewNode {
            kind: FileKind::Directory,
            mode: options.mode.unwrap_or(0o1777),
            uid: options.uid.unwrap_or_default(),
            gid: options.gid.unwrap_or_default(),
            rdev: 0,
            target: b"",
        };
        Ok(Arc::new(Self { root: TmpInode::new(&shared, &node)?, type_name }))
    }

    /// The root with its own type.
    pub(super) fn tmp_root(&self) -> &Arc<TmpInode> {
        &self.root
    }
}

impl FileSystem for TmpFs {
    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn options(&self) -> String {
        self.root.shared().quota.show()
    }

    fn reconfigure(&self, options: &TmpOptions) -> Result<(), Errno> {
        self.root.shared().quota.change(options)
    }

    fn stat(&self) -> Result<FsStat, Errno> {
        let shared = self.root.shared();
        let (limit, held) = shared.quota.size().unwrap_or_else(|| (shared.memory.limit(), shared.memory.held()));
        let free = limit.saturating_sub(held) / BLOCK;
        let (files, files_free) = match shared.quota.inodes() {
            Some((files, used)) => (files, files.saturating_sub(used)),
            None => shared.budget.inodes(),
        };
        Ok(FsStat {
            magic: MAGIC,
            block_size: BLOCK,
            blocks: limit / BLOCK,
            blocks_free: free,
            blocks_available: free,
            files,
            files_free,
            id: shared.device,
            name_max: 255,
            flags: 0,
        })
    }

    fn device(&self) -> u64 {
        self.root.shared().device
    }
}
