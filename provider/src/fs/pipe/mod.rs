//! Pipes and FIFOs, see pipe(7) and fifo(7).
//!
//! [`Pipe`] is the stream with its two ends' counts; [`PipeFile`] an open end. An anonymous pipe has an inode of its own; a FIFO is found
//! by the numbers of the inode that names it ([`Pipes::open_fifo`]), whichever file system that lies in, so that a FIFO of the host's
//! is a name to us and never opened there. Locks: a pipe's state (`Rank::Pipe`), held while
//! bytes are copied to and from user memory; wakes are made without it.

mod account;
mod file;
mod inode;
mod ring;
mod state;
#[cfg(test)]
mod tests;
mod transfer;

pub(crate) use file::PipeFile;
pub(crate) use state::Pipe;
pub(crate) use transfer::Taken;

use super::{File, Inode, Location, OpenFile, OpenFlags, Timestamp};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use account::{Account, Quota};
use inode::PipeInode;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// All pipes of a sandbox.
#[derive(Debug)]
pub(crate) struct Pipes {
    account: Arc<Account>,
    device: u64,
    next_inode: AtomicU64,
    /// Open FIFOs, by the device and inode number of what names them.
    fifos: Mutex<HashMap<(u64, u64), Weak<Pipe>>>,
}

impl Pipes {
    /// Makes a sandbox's pipes; their contents may take a quarter of `memory` bytes.
    pub(crate) fn new(memory: u64) -> Self {
        Self {
            account: Arc::new(Account::new(memory / 4)),
            device: super::tmp::new_device(),
            next_inode: AtomicU64::new(1),
            fifos: Mutex::new(Rank::Leaf, HashMap::new()),
        }
    }

    /// Makes a pipe: the reading end, then the writing end. `flags` are O_NONBLOCK and O_DIRECT.
    pub(crate) fn create(&self, task: &CurrentTask<'_>, flags: OpenFlags) -> [Arc<OpenFile>; 2] {
        let who = task.credentials();
        let pipe = Pipe::new(Quota::new(&self.account, &who), self.account.clone());
        let number = self.next_inode.fetch_add(1, Ordering::Relaxed);
        let inode = Arc::new(PipeInode::new(self.device, number, &who, pipe.clone()));
        let location = Location::anonymous(inode, format!("pipe:[{number}]").as_bytes());
        let nonblocking = flags & OpenFlags::NONBLOCK;
        let writing = OpenFlags::WRONLY | (flags & (OpenFlags::NONBLOCK | OpenFlags::DIRECT));
        [nonblocking, writing].map(|flags| OpenFile::new(PipeFile::attach(&pipe, flags), location.clone(), flags))
    }

    /// Opens the FIFO that `inode` names; waits for the other side as open(2) does.
    pub(crate) fn open_fifo(
        &self,
        task: &CurrentTask<'_>,
        inode: &Arc<dyn Inode>,
        flags: OpenFlags,
    ) -> Result<Arc<dyn File>, Errno> {
        let stat = inode.stat()?;
        let key = (stat.device, stat.inode);
        // Made before the lock is taken, and dropped after it if somebody has it open.
        let fresh = Pipe::new(Quota::new(&self.account, &task.credentials()), self.account.clone());
        let pipe = {
            let mut fifos = self.fifos.lock();
            fifos.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
                fifos.retain(|_, pipe| pipe.strong_count() > 0);
                fifos.insert(key, Arc::downgrade(&fresh));
                fresh.clone()
            })
        };
        file::open_named(task, &pipe, flags)
    }
}

/// When a pipe's contents were last read and written.
#[derive(Clone, Copy, Debug)]
struct Times {
    accessed: Timestamp,
    modified: Timestamp,
}
