//! A queue as an object of the file system, and as an open file.

use super::queue::{Queue, Times};
use super::{BLOCK, DEVICE_INODES};
use crate::errno::Errno;
use crate::fs::{
    AttributeChange, File, FileKind, Inode, OpenFile, OpenFlags, Permissions, Ready, Sink, Source, Stat, Timestamp,
    WaitSource,
};
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes that stat(2) tells of a queue (FILENT_SIZE).
const SIZE: u64 = 80;

/// A queue with its attributes.
#[derive(Debug)]
pub(super) struct QueueInode {
    pub(super) queue: Arc<Queue>,
    device: u64,
    number: u64,
    attributes: Mutex<Attributes>,
}

#[derive(Debug)]
struct Attributes {
    permissions: Permissions,
    linked: bool,
}

impl QueueInode {
    pub(super) fn new(queue: Arc<Queue>, device: u64, permissions: Permissions) -> Arc<Self> {
        let number = DEVICE_INODES.fetch_add(1, Ordering::Relaxed);
        let attributes = Mutex::new(Rank::Leaf, Attributes { permissions, linked: true });
        Arc::new(Self { queue, device, number, attributes })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Its name is gone.
    pub(super) fn unlinked(&self) {
        self.attributes.lock().linked = false;
        self.queue.change_times(|times| times.changed = Timestamp::now());
    }
}

impl Inode for QueueInode {
    fn kind(&self) -> FileKind {
        FileKind::Regular
    }

    fn stat(&self) -> Result<Stat, Errno> {
        let Times { accessed, modified, changed } = self.queue.times();
        let attributes = self.attributes.lock();
        let Permissions { mode, uid, gid } = attributes.permissions;
        Ok(Stat {
            device: self.device,
            inode: self.number,
            kind: FileKind::Regular,
            mode,
            links: u64::from(attributes.linked),
            uid,
            gid,
            rdev: 0,
            size: SIZE,
            block_size: BLOCK,
            blocks: 0,
            accessed,
            modified,
            changed,
            born: None,
        })
    }

    fn permissions(&self) -> Result<Permissions, Errno> {
        Ok(self.attributes.lock().permissions)
    }

    fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        {
            let permissions = &mut self.attributes.lock().permissions;
            permissions.mode = change.mode.map_or(permissions.mode, |mode| mode & 0o7777);
            permissions.uid = change.uid.unwrap_or(permissions.uid);
            permissions.gid = change.gid.unwrap_or(permissions.gid);
        }
        self.queue.change_times(|times| {
            times.accessed = change.accessed.unwrap_or(times.accessed);
            times.modified = change.modified.unwrap_or(times.modified);
            times.changed = Timestamp::now();
        });
        Ok(())
    }

    fn open(self: Arc<Self>, _task: &CurrentTask<'_>, _flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        Ok(Arc::new(QueueFile { queue: self.queue.clone() }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open queue.
#[derive(Debug)]
struct QueueFile {
    queue: Arc<Queue>,
}

/// The queue behind an open file; `EBADF` for a file of something else.
pub(crate) fn queue_of(file: &OpenFile) -> Result<&Arc<Queue>, Errno> {
    let queue: Option<&QueueFile> = file.file().as_any().and_then(|file| file.downcast_ref());
    queue.map(|file| &file.queue).ok_or(Errno::EBADF)
}

impl File for QueueFile {
    fn read_at(&self, _task: &CurrentTask<'_>, offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        let text = self.queue.describe();
        let rest = usize::try_from(offset).ok().and_then(|start| text.as_bytes().get(start..)).unwrap_or_default();
        let rest = &rest[..rest.len().min(to.remaining())];
        if rest.is_empty() { Ok(0) } else { to.put(rest) }
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(SIZE)
    }

    fn ready(&self) -> Ready {
        self.queue.ready()
    }

    fn wait_source(&self) -> WaitSource<'_> {
        WaitSource::Queue(self.queue.changed())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn descriptor_closed(&self, task: &CurrentTask<'_>) {
        self.queue.unregister(task.group().pid());
    }
}
