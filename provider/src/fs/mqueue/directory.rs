//! The directory that all queues are in.

use super::inode::QueueInode;
use super::limits::{Asker, Limits, Shape};
use super::queue::Queue;
use super::{BLOCK, DEVICE_INODES};
use crate::errno::Errno;
use crate::fs::tmp::new_device;
use crate::fs::{
    AttributeChange, DirEntry, DirSink, Directory, DirectoryFile, File, FileKind, Inode, NewNode, OpenFlags,
    Permissions, Stat, Timestamp,
};
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes that an entry adds to the directory's size (DIRENT_SIZE).
const ENTRY: u64 = 20;
/// The most bytes of a name (NAME_MAX).
const NAME_MAX: usize = 255;
/// CAP_SYS_RESOURCE.
const CAP_SYS_RESOURCE: u32 = 24;

/// The root of the file system of queues.
#[derive(Debug)]
pub(super) struct QueueDirectory {
    device: u64,
    number: u64,
    limits: Arc<Limits>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queues: BTreeMap<Box<[u8]>, (u64, Arc<QueueInode>)>,
    /// The place in a listing of the queue that is made next.
    next: u64,
    permissions: Permissions,
    accessed: Timestamp,
    modified: Timestamp,
    changed: Timestamp,
}

/// Who asks for a queue: the caller, with what limits it.
pub(super) fn asker(task: &CurrentTask<'_>) -> Asker {
    let credentials = task.credentials();
    Asker {
        uid: credentials.uid,
        privileged: credentials.has(CAP_SYS_RESOURCE),
        limit: task.group().limits().soft(crate::task::Resource::MessageQueues),
    }
}

impl QueueDirectory {
    pub(super) fn new(limits: Arc<Limits>) -> Arc<Self> {
        let now = Timestamp::now();
        let state = State {
            queues: BTreeMap::new(),
            next: 0,
            permissions: Permissions { mode: 0o1777, uid: 0, gid: 0 },
            accessed: now,
            modified: now,
            changed: now,
        };
        let number = DEVICE_INODES.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { device: new_device(), number, limits, state: Mutex::new(Rank::Inode, state) })
    }

    pub(super) fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Makes a queue of this shape, or of the default one; `EEXIST`, and as [`Limits::charge`].
    pub(super) fn make(
        &self,
        name: &[u8],
        permissions: Permissions,
        asker: Asker,
        shape: Option<Shape>,
    ) -> Result<Arc<QueueInode>, Errno> {
        let mut state = self.state.lock();
        if state.queues.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let (shape, charge) = self.limits.charge(asker, shape)?;
        let inode = QueueInode::new(Queue::new(shape, charge), self.device, permissions);
        let at = state.next;
        state.queues.insert(name.into(), (at, inode.clone()));
        state.next += 1;
        let now = Timestamp::now();
        (state.accessed, state.modified, state.changed) = (now, now, now);
        Ok(inode)
    }
}

impl Inode for QueueDirectory {
    fn kind(&self) -> FileKind {
        FileKind::Directory
    }

    fn stat(&self) -> Result<Stat, Errno> {
        let state = self.state.lock();
        Ok(Stat {
            device: self.device,
            inode: self.number,
            kind: FileKind::Directory,
            mode: state.permissions.mode,
            links: 2,
            uid: state.permissions.uid,
            gid: state.permissions.gid,
            rdev: 0,
            size: (2 + u64::try_from(state.queues.len()).unwrap_or(0)) * ENTRY,
            block_size: BLOCK,
            blocks: 0,
            accessed: state.accessed,
            modified: state.modified,
            changed: state.changed,
            born: None,
        })
    }

    fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        let state = &mut *self.state.lock();
        state.permissions.mode = change.mode.map_or(state.permissions.mode, |mode| mode & 0o7777);
        state.permissions.uid = change.uid.unwrap_or(state.permissions.uid);
        state.permissions.gid = change.gid.unwrap_or(state.permissions.gid);
        state.accessed = change.accessed.unwrap_or(state.accessed);
        state.modified = change.modified.unwrap_or(state.modified);
        state.changed = Timestamp::now();
        Ok(())
    }

    fn as_dir(&self) -> Option<&dyn Directory> {
        Some(self)
    }

    fn open(self: Arc<Self>, _task: &CurrentTask<'_>, _flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        Ok(Arc::new(DirectoryFile::new(self)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Directory for QueueDirectory {
    fn find(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let found = self.state.lock().queues.get(name).map(|(_, inode)| inode.clone());
        found.map(|inode| inode as Arc<dyn Inode>).ok_or(Errno::ENOENT)
    }

    fn confirm(&self, name: &[u8], inode: &Arc<dyn Inode>) -> bool {
        self.find(name).is_ok_and(|found| Arc::ptr_eq(&found, inode))
    }

    fn create(&self, _name: &[u8], _node: &NewNode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        // The caller's limits count, which only `create_for` knows.
        Err(Errno::EPERM)
    }

    fn create_for(&self, task: &CurrentTask<'_>, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        if node.kind != FileKind::Regular {
            return Err(Errno::EPERM);
        }
        let permissions = Permissions { mode: node.mode, uid: node.uid, gid: node.gid };
        let made = self.make(name, permissions, asker(task), None)?;
        Ok(made)
    }

    fn link(&self, _name: &[u8], _inode: &Arc<dyn Inode>) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    fn remove(&self, name: &[u8], directory: bool) -> Result<(), Errno> {
        if directory {
            return Err(Errno::EPERM);
        }
        let removed = {
            let mut state = self.state.lock();
            let (_, inode) = state.queues.remove(name).ok_or(Errno::ENOENT)?;
            let now = Timestamp::now();
            (state.accessed, state.modified, state.changed) = (now, now, now);
            inode
        };
        removed.unlinked();
        Ok(())
    }

    fn rename(&self, _name: &[u8], _to: &dyn Directory, _to_name: &[u8], _flags: u32) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    fn list(&self, _task: &CurrentTask<'_>, position: u64, sink: &mut dyn DirSink) -> Result<(), Errno> {
        let mut listing: Vec<(u64, Box<[u8]>, u64)> = {
            let state = self.state.lock();
            let queues = state.queues.iter().filter(|(_, (at, _))| *at >= position);
            queues.map(|(name, (at, inode))| (*at, name.clone(), inode.number())).collect()
        };
        listing.sort_unstable_by_key(|(at, ..)| *at);
        for (at, name, inode) in listing {
            if !sink.entry(&DirEntry { name: &name, inode, kind: FileKind::Regular, next: at + 1 }) {
                break;
            }
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
