//! The inode of an anonymous pipe.

use super::file::PipeFile;
use super::state::Pipe;
use crate::errno::Errno;
use crate::fs::{AttributeChange, File, FileKind, FsStat, Inode, OpenFlags, Stat, Timestamp};
use crate::sync::{Mutex, Rank};
use crate::task::{Credentials, CurrentTask};
use std::any::Any;
use std::sync::Arc;

/// PIPEFS_MAGIC (statfs(2)).
const MAGIC: u64 = 0x5049_5045;

/// What a pipe without a name is to stat(2). It is in no directory; /proc/PID/fd leads to it.
#[derive(Debug)]
pub(super) struct PipeInode {
    device: u64,
    number: u64,
    pipe: Arc<Pipe>,
    attributes: Mutex<Attributes>,
}

#[derive(Clone, Copy, Debug)]
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    /// The change time: that of chmod and chown, or of the last write.
    changed: Timestamp,
}

impl PipeInode {
    /// Makes the inode of a new pipe.
    pub(super) fn new(device: u64, number: u64, who: &Credentials, pipe: Arc<Pipe>) -> Self {
        let attributes = Attributes { mode: 0o600, uid: who.fsuid, gid: who.fsgid, changed: Timestamp::now() };
        Self { device, number, pipe, attributes: Mutex::new(Rank::Leaf, attributes) }
    }
}

impl Inode for PipeInode {
    fn kind(&self) -> FileKind {
        FileKind::Fifo
    }

    fn stat(&self) -> Result<Stat, Errno> {
        let times = self.pipe.lock().times;
        let attributes = *self.attributes.lock();
        Ok(Stat {
            uid: attributes.uid,
            gid: attributes.gid,
            accessed: times.accessed,
            modified: times.modified,
            changed: times.modified.max(attributes.changed),
            ..Stat::without_storage(FileKind::Fifo, attributes.mode, self.device, self.number, times.modified)
        })
    }

    fn file_system_stat(&self) -> Option<Result<FsStat, Errno>> {
        Some(Ok(FsStat::without_storage(MAGIC)))
    }

    fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        if change.size.is_some() {
            return Err(Errno::EINVAL);
        }
        {
            let times = &mut self.pipe.lock().times;
            times.accessed = change.accessed.unwrap_or(times.accessed);
            times.modified = change.modified.unwrap_or(times.modified);
        }
        let mut attributes = self.attributes.lock();
        attributes.mode = change.mode.map_or(attributes.mode, |mode| mode & 0o7777);
        attributes.uid = change.uid.unwrap_or(attributes.uid);
        attributes.gid = change.gid.unwrap_or(attributes.gid);
        attributes.changed = Timestamp::now();
        Ok(())
    }

    /// Opens it anew (/proc/PID/fd/N): never waits, as a pipe has no other end to wait for.
    fn open(self: Arc<Self>, _task: &CurrentTask<'_>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        Ok(PipeFile::attach(&self.pipe, flags))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
