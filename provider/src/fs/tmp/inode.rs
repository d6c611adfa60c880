//! In-memory objects.

use super::budget::{Budget, INODE};
use super::directory::Entries;
use super::file::{NotesReads, TmpFile};
use super::seals::{Sealing, Seals};
use super::{BLOCK, Shared};
use crate::errno::Errno;
use crate::fs::{
    AttributeChange, Directory, DirectoryFile, File, FileKind, Inode, Link, NewNode, OpenFlags, Permissions, Stat,
    Timestamp, dev,
};
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use vmm::memory::MemoryObject;

/// XATTR_CREATE.
const XATTR_CREATE: u32 = 1;
/// XATTR_REPLACE.
const XATTR_REPLACE: u32 = 2;
/// Seconds after which relatime brings an access time up to date whatever the other times are.
const DAY: i64 = 24 * 60 * 60;

/// An object of an in-memory file system.
#[derive(Debug)]
pub(in crate::fs) struct TmpInode {
    me: Weak<TmpInode>,
    shared: Arc<Shared>,
    number: u64,
    kind: FileKind,
    rdev: u64,
    born: Timestamp,
    pub(super) body: Body,
    attributes: Mutex<Attributes>,
    /// Bytes of data that the file system's quota was told of.
    counted: AtomicU64,
}

/// What an object consists of.
#[derive(Debug)]
pub(super) enum Body {
    Regular {
        object: Arc<MemoryObject>,
        /// Held by an append from asking the size to having written.
        appending: Mutex<()>,
        seals: Sealing,
    },
    Directory(Mutex<Entries>),
    Link(Box<[u8]>),
    /// A device node, FIFO or socket.
    Node,
}

#[derive(Clone, Debug)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u64,
    pub(super) accessed: Timestamp,
    pub(super) modified: Timestamp,
    pub(super) changed: Timestamp,
    pub(super) xattrs: BTreeMap<Box<[u8]>, Vec<u8>>,
}

impl TmpInode {
    /// Makes an object that no entry names yet.
    pub(super) fn new(shared: &Arc<Shared>, node: &NewNode<'_>) -> Result<Arc<Self>, Errno> {
        let target: &[u8] = if node.kind == FileKind::Symlink { node.target } else { b"" };
        shared.quota.take_inode()?;
        shared.budget.take(INODE + size(target)).inspect_err(|_| shared.quota.give_inode())?;
        let body = match node.kind {
            FileKind::Regular => {
                let (object, appending) = (shared.memory.new_object(), Mutex::new(Rank::Inode, ()));
                Body::Regular { object, appending, seals: Sealing::default() }
            }
            FileKind::Directory => Body::Directory(Mutex::new(Rank::Inode, Entries::default())),
            FileKind::Symlink => Body::Link(target.into()),
            FileKind::CharDevice | FileKind::BlockDevice | FileKind::Fifo | FileKind::Socket | FileKind::Anonymous => {
                Body::Node
            }
        };
        let now = Timestamp::now();
        let attributes = Attributes {
            mode: node.mode & 0o7777,
            uid: node.uid,
            gid: node.gid,
            links: if node.kind == FileKind::Directory { 2 } else { 0 },
            accessed: now,
            modified: now,
            changed: now,
            xattrs: BTreeMap::new(),
        };
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            shared: shared.clone(),
            number: shared.next_inode.fetch_add(1, Ordering::Relaxed),
            kind: node.kind,
            rdev: node.rdev,
            born: now,
            body,
            attributes: Mutex::new(Rank::Leaf, attributes),
            counted: AtomicU64::new(0),
        }))
    }

    /// The reference of this type behind a general one.
    pub(in crate::fs) fn from_inode(inode: &Arc<dyn Inode>) -> Option<Arc<Self>> {
        inode.as_any().downcast_ref::<Self>().and_then(|inode| inode.me.upgrade())
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.shared.budget
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Calls `update` with the attributes and the present time, which becomes the change time.
    pub(super) fn update<T>(&self, update: impl FnOnce(&mut Attributes, Timestamp) -> T) -> T {
        let now = Timestamp::now();
        let mut attributes = self.attributes.lock();
        attributes.changed = now;
        update(&mut attributes, now)
    }

    /// Notes that an entry names it; directories count theirs themselves. A further name counts as an inode of the quota's.
    pub(super) fn named(&self) {
        if self.kind == FileKind::Directory {
            return;
        }
        let links = self.update(|attributes, _| {
            attributes.links += 1;
            attributes.links
        });
        if links > 1 {
            self.shared.quota.add_inode();
        }
    }

    /// Notes a read, as relatime does: if the last noted one is older than the last change or than a day.
    pub(super) fn accessed(&self) {
        let now = Timestamp::now();
        let mut attributes = self.attributes.lock();
        let last = attributes.accessed;
        if last <= attributes.modified || last <= attributes.changed || now.seconds - last.seconds >= DAY {
            attributes.accessed = now;
        }
    }

    /// The contents of a regular file.
    pub(in crate::fs) fn object(&self) -> Result<&Arc<MemoryObject>, Errno> {
        match &self.body {
            Body::Regular { object, .. } => Ok(object),
            Body::Directory(_) => Err(Errno::EISDIR),
            Body::Link(_) | Body::Node => Err(Errno::EINVAL),
        }
    }

    /// Tells the quota what the file holds now: after whatever may have changed that. What mappings add is seen at the next such time.
    pub(super) fn count_data(&self) {
        if let Body::Regular { object, .. } = &self.body {
            let now = object.held();
            let before = self.counted.swap(now, Ordering::Relaxed);
            self.shared.quota.held(before, now);
        }
    }

    /// How many of `len` bytes at an offset the quota has room for.
    pub(super) fn room_at(&self, offset: u64, len: u64) -> Result<u64, Errno> {
        let Some((size, used)) = self.shared.quota.size() else { return Ok(len) };
        let object = self.object()?;
        let mut room = size.saturating_sub(used);
        let end = offset.saturating_add(len);
        let mut at = offset / BLOCK * BLOCK;
        while at < end {
            let data = at < object.size() && object.next_hole(at) > at;
            if data {
                at = object.next_hole(at).next_multiple_of(BLOCK);
                continue;
            }
            let hole_end = object.next_data(at).unwrap_or(u64::MAX).min(end.next_multiple_of(BLOCK));
            if hole_end - at > room {
                return Ok((at + room).saturating_sub(offset));
            }
            room -= hole_end - at;
            at = hole_end;
        }
        Ok(len)
    }

    /// The seals of a regular file.
    pub(super) fn sealing(&self) -> Result<&Sealing, Errno> {
        match &self.body {
            Body::Regular { seals, .. } => Ok(seals),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Makes a new file start with these seals in the place of the one that forbids seals.
    pub(in crate::fs) fn start_with_seals(&self, seals: Seals) {
        if let Ok(sealing) = self.sealing() {
            sealing.start_with(seals);
        }
    }

    /// Opens a regular file or a directory.
    pub(in crate::fs) fn open_file(self: &Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        let notes_reads = if flags.contains(OpenFlags::NOATIME) { NotesReads::No } else { NotesReads::Yes };
        match &self.body {
            Body::Regular { .. } => Ok(Arc::new(TmpFile::new(self.clone(), notes_reads))),
            Body::Directory(_) => Ok(Arc::new(DirectoryFile::new(self.clone()))),
            Body::Link(_) => Err(Errno::ELOOP),
            Body::Node => Err(Errno::ENXIO),
        }
    }

    pub(super) fn set_size(&self, size: u64) -> Result<(), Errno> {
        if i64::try_from(size).is_err() {
            return Err(Errno::EFBIG);
        }
        let object = self.object()?;
        self.sealing()?.check_size(object.size(), size)?;
        object.set_size(size);
        self.count_data();
        self.update(|attributes, now| attributes.modified = now);
        Ok(())
    }
}

/// A length as a number of bytes.
pub(super) fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX / 4)
}

impl Inode for TmpInode {
    fn kind(&self) -> FileKind {
        self.kind
    }

    fn stat(&self) -> Result<Stat, Errno> {
        let (size, blocks) = match &self.body {
            Body::Regular { object, .. } => (object.size(), object.held().div_ceil(512)),
            Body::Directory(entries) => (entries.lock().size(), 0),
            Body::Link(text) => (size(text), 0),
            Body::Node => (0, 0),
        };
        let attributes = self.attributes.lock();
        Ok(Stat {
            device: self.shared.device,
            inode: self.number,
            kind: self.kind,
            mode: attributes.mode,
            links: attributes.links,
            uid: attributes.uid,
            gid: attributes.gid,
            rdev: self.rdev,
            size,
            block_size: u32::try_from(BLOCK).unwrap_or_default(),
            blocks,
            accessed: attributes.accessed,
            modified: attributes.modified,
            changed: attributes.changed,
            born: Some(self.born),
        })
    }

    fn permissions(&self) -> Result<Permissions, Errno> {
        let attributes = self.attributes.lock();
        Ok(Permissions { mode: attributes.mode, uid: attributes.uid, gid: attributes.gid })
    }

    fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        if let Some(mode) = change.mode
            && self.sealing().is_ok_and(|sealing| sealing.get().contains(Seals::EXEC))
            && (mode ^ self.attributes.lock().mode) & 0o111 != 0
        {
            return Err(Errno::EPERM);
        }
        if let Some(size) = change.size {
            self.set_size(size)?;
        }
        self.update(|attributes, _| {
            attributes.mode = change.mode.map_or(attributes.mode, |mode| mode & 0o7777);
            attributes.uid = change.uid.unwrap_or(attributes.uid);
            attributes.gid = change.gid.unwrap_or(attributes.gid);
            attributes.accessed = change.accessed.unwrap_or(attributes.accessed);
            attributes.modified = change.modified.unwrap_or(attributes.modified);
        });
        Ok(())
    }

    fn as_dir(&self) -> Option<&dyn Directory> {
        matches!(self.body, Body::Directory(_)).then_some(self)
    }

    fn as_link(&self) -> Option<&dyn Link> {
        matches!(self.body, Body::Link(_)).then_some(self)
    }

    fn open(self: Arc<Self>, task: &CurrentTask<'_>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        match self.kind {
            FileKind::CharDevice | FileKind::BlockDevice => dev::open(task, self.kind, self.rdev, flags),
            _ => self.open_file(flags),
        }
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.attributes.lock().xattrs.get(name).cloned().ok_or(Errno::ENODATA)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<(), Errno> {
        let cost = size(name) + size(value) + INODE;
        self.budget().take(cost)?;
        let replaced = self.update(|attributes, _| {
            let exists = attributes.xattrs.contains_key(name);
            if exists && flags & XATTR_CREATE != 0 {
                return Err(Errno::EEXIST);
            }
            if !exists && flags & XATTR_REPLACE != 0 {
                return Err(Errno::ENODATA);
            }
            Ok(attributes.xattrs.insert(name.into(), value.to_vec()))
        });
        match replaced {
            Ok(None) => Ok(()),
            Ok(Some(old)) => {
                self.budget().give(size(name) + size(&old) + INODE);
                Ok(())
            }
            Err(error) => {
                self.budget().give(cost);
                Err(error)
            }
        }
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        let old = self.update(|attributes, _| attributes.xattrs.remove(name)).ok_or(Errno::ENODATA)?;
        self.budget().give(size(name) + size(&old) + INODE);
        Ok(())
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        Ok(self.attributes.lock().xattrs.keys().map(|name| name.to_vec()).collect())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Link for TmpInode {
    fn fixed_text(&self) -> Result<Vec<u8>, Errno> {
        self.accessed();
        self.link_text()
    }
}

impl TmpInode {
    /// The text of a symbolic link.
    pub(in crate::fs) fn link_text(&self) -> Result<Vec<u8>, Errno> {
        match &self.body {
            Body::Link(text) => Ok(text.to_vec()),
            _ => Err(Errno::EINVAL),
        }
    }
}

impl Drop for TmpInode {
    fn drop(&mut self) {
        let xattrs = std::mem::take(&mut self.attributes.lock().xattrs);
        let attributes: u64 = xattrs.iter().map(|(name, value)| size(name) + size(value) + INODE).sum();
        let target = match &self.body {
            Body::Link(text) => size(text),
            _ => 0,
        };
        self.budget().give(INODE + attributes + target);
        self.shared.quota.held(self.counted.load(Ordering::Relaxed), 0);
        self.shared.quota.give_inode();
        let Body::Directory(entries) = &self.body else { return };
        // Taken apart here, not by recursion: a program makes trees as deep as it likes.
        let mut rest = entries.lock().take_all(self.budget());
        while let Some(inode) = rest.pop() {
            if let Some(inode) = Arc::into_inner(inode)
                && let Body::Directory(entries) = &inode.body
            {
                rest.extend(entries.lock().take_all(inode.budget()));
            }
        }
    }
}
