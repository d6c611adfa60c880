//! Places in the tree: the directory entries that were walked ([`Entry`]), and where a task stands ([`Location`]).
//!
//! An entry belongs to its parent; children are found again through weak references, so the tree holds what is in use (working
//! directories, open files, mount points) plus what the walk's bounded cache keeps. A rename moves the entry, so whoever holds it
//! (a working directory below it, an open file) sees its new path.

use super::mount::{Mount, MountFlags};
use super::{FileKind, Inode};
use crate::sync::{Mutex, Rank};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

/// A name in a directory together with the object it led to when it was walked.
pub(super) struct Entry {
    inode: Arc<dyn Inode>,
    place: Mutex<Place>,
    children: Mutex<HashMap<Box<[u8]>, Weak<Entry>>>,
    /// How many mounts, of all namespaces, lie right here.
    mounts: AtomicU32,
    /// How many lie here or below: while there are any, the walk neither confirms nor replaces the entry.
    pins: AtomicU32,
}

#[derive(Clone)]
struct Place {
    /// `None` for the root of a mount.
    parent: Option<Arc<Entry>>,
    name: Arc<[u8]>,
    removed: bool,
}

impl Entry {
    /// Makes the root of a mount, or an object that is in no directory.
    pub(super) fn root(inode: Arc<dyn Inode>, name: &[u8]) -> Arc<Self> {
        Self::at(inode, None, name)
    }

    fn at(inode: Arc<dyn Inode>, parent: Option<Arc<Entry>>, name: &[u8]) -> Arc<Self> {
        let place = Place { parent, name: name.into(), removed: false };
        Arc::new(Self {
            inode,
            place: Mutex::new(Rank::Leaf, place),
            children: Mutex::new(Rank::Leaf, HashMap::new()),
            mounts: AtomicU32::new(0),
            pins: AtomicU32::new(0),
        })
    }

    /// The object.
    pub(super) fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// The name in its directory.
    pub(super) fn name(&self) -> Arc<[u8]> {
        self.place.lock().name.clone()
    }

    /// The directory it is in, on the same mount.
    pub(super) fn parent(&self) -> Option<Arc<Entry>> {
        self.place.lock().parent.clone()
    }

    /// Tells whether the name was removed.
    pub(super) fn is_removed(&self) -> bool {
        self.place.lock().removed
    }

    /// Tells whether something is mounted here or below, or was when the view was built.
    pub(super) fn is_covered(&self) -> bool {
        self.pins.load(Ordering::Relaxed) > 0
    }

    /// Tells whether something is mounted right here, in whatever namespace.
    pub(super) fn is_mount_point(&self) -> bool {
        self.mounts.load(Ordering::Relaxed) > 0
    }

    /// Keeps an entry and what leads to it in their places until the result is dropped.
    pub(super) fn pin(entry: &Arc<Self>) -> Pinned {
        let mut all = Vec::new();
        let mut at = Some(entry.clone());
        while let Some(entry) = at {
            entry.pins.fetch_add(1, Ordering::Relaxed);
            at = entry.parent();
            all.push(entry);
        }
        Pinned(all)
    }

    /// Notes that something is mounted here, until the result is dropped.
    pub(super) fn cover(entry: &Arc<Self>) -> Covering {
        entry.mounts.fetch_add(1, Ordering::Relaxed);
        Covering { entry: entry.clone(), _pinned: Self::pin(entry) }
    }

    /// The path from the root of the file system, as far as it was walked.
    pub(super) fn path_within(self: &Arc<Self>) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = self.clone();
        while let Some(parent) = at.parent() {
            names.push(at.name());
            at = parent;
        }
        let mut path = path_upwards(&names);
        if self.is_removed() {
            path.extend_from_slice(b"//deleted");
        }
        path
    }

    /// The child of that name that is in use or cached.
    pub(super) fn child(&self, name: &[u8]) -> Option<Arc<Entry>> {
        self.children.lock().get(name).and_then(Weak::upgrade)
    }

    /// Makes `inode` the child of that name. If another task was faster with the same object, theirs is the one.
    pub(super) fn adopt(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Entry> {
        if let Some(child) = self.child(name)
            && Arc::ptr_eq(&child.inode, &inode)
        {
            return child;
        }
        let child = Self::at(inode, Some(self.clone()), name);
        self.children.lock().insert(name.into(), Arc::downgrade(&child));
        child
    }

    /// Notes that the name is gone.
    pub(super) fn removed(&self, name: &[u8]) {
        let child = self.children.lock().remove(name).and_then(|child| child.upgrade());
        if let Some(child) = child {
            child.place.lock().removed = true;
        }
    }

    /// Moves the child `name`, if it is known, to `to_name` in `to`; whatever was known there is removed.
    pub(super) fn moved(&self, name: &[u8], to: &Arc<Entry>, to_name: &[u8]) {
        let child = self.children.lock().remove(name).and_then(|child| child.upgrade());
        to.removed(to_name);
        if let Some(child) = child {
            child.put_at(to, to_name);
        }
    }

    /// Exchanges two known children.
    pub(super) fn exchanged(self: &Arc<Self>, name: &[u8], to: &Arc<Entry>, to_name: &[u8]) {
        let ours = self.children.lock().remove(name).and_then(|child| child.upgrade());
        let theirs = to.children.lock().remove(to_name).and_then(|child| child.upgrade());
        if let Some(child) = ours {
            child.put_at(to, to_name);
        }
        if let Some(child) = theirs {
            child.put_at(self, name);
        }
    }

    fn put_at(self: &Arc<Self>, parent: &Arc<Entry>, name: &[u8]) {
        let place = Place { parent: Some(parent.clone()), name: name.into(), removed: false };
        // Dropped after the lock: it may be the last reference to the old parent.
        let _old = std::mem::replace(&mut *self.place.lock(), place);
        parent.children.lock().insert(name.into(), Arc::downgrade(self));
    }

    /// Tells whether `self` is `other` or lies below it.
    pub(super) fn is_within(self: &Arc<Self>, other: &Arc<Entry>) -> bool {
        let mut at = self.clone();
        loop {
            if Arc::ptr_eq(&at, other) {
                return true;
            }
            match at.parent() {
                Some(parent) => at = parent,
                None => return false,
            }
        }
    }
}

/// An entry, and those above it, that stay in their places.
#[derive(Debug)]
pub(super) struct Pinned(Vec<Arc<Entry>>);

impl Drop for Pinned {
    fn drop(&mut self) {
        for entry in &self.0 {
            entry.pins.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Something is mounted on an entry.
#[derive(Debug)]
pub(super) struct Covering {
    entry: Arc<Entry>,
    _pinned: Pinned,
}

impl Covering {
    /// What is covered.
    pub(super) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }
}

impl Drop for Covering {
    fn drop(&mut self) {
        self.entry.mounts.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let place = self.place.lock().clone();
        let Some(mut parent) = place.parent else { return };
        // Entries are dropped when their last user lets go, so a child that is found now is a newer one of the same name.
        {
            let mut children = parent.children.lock();
            if children.get(&place.name[..]).is_some_and(|child| child.strong_count() == 0) {
                children.remove(&place.name[..]);
            }
        }
        // A chain of ancestors whose last child this was is taken apart here, not by recursion: paths may be very long.
        self.place.lock().parent = None;
        while let Some(entry) = Arc::into_inner(parent) {
            let above = entry.place.lock().clone();
            match above.parent {
                Some(next) => {
                    let name = above.name;
                    {
                        let mut children = next.children.lock();
                        if children.get(&name[..]).is_some_and(|child| child.strong_count() == 0) {
                            children.remove(&name[..]);
                        }
                    }
                    entry.place.lock().parent = None;
                    parent = next;
                }
                None => return,
            }
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("name", &String::from_utf8_lossy(&self.name())).finish_non_exhaustive()
    }
}

/// A place in the tree: an object together with how it was reached (mount and directory entry), for `..`, getcwd and readlink.
#[derive(Clone)]
pub struct Location {
    /// `None` for an object that is in no tree (a pipe, a descriptor of the caller's).
    mount: Option<Arc<Mount>>,
    entry: Arc<Entry>,
}

impl Location {
    pub(super) fn new(mount: Arc<Mount>, entry: Arc<Entry>) -> Self {
        Self { mount: Some(mount), entry }
    }

    /// Places an object that is in no tree; `name` is what readlink of its /proc/PID/fd entry gives, such as `pipe:[4]`.
    pub fn anonymous(inode: Arc<dyn Inode>, name: &[u8]) -> Self {
        Self { mount: None, entry: Entry::root(inode, name) }
    }

    /// Says of an object that has no name that it will never get one (O_TMPFILE with O_EXCL), or has had its chance.
    pub(super) fn give_up_names(&self) {
        self.entry.place.lock().removed = true;
    }

    /// The object there.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.entry.inode
    }

    /// Its type.
    pub fn kind(&self) -> FileKind {
        self.entry.inode.kind()
    }

    pub(super) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// The mount it is on; `None` for an object that is in no tree.
    pub fn mount(&self) -> Option<&Arc<Mount>> {
        self.mount.as_ref()
    }

    /// Tells whether the mount forbids writing.
    pub fn is_read_only(&self) -> bool {
        self.mount.as_ref().is_some_and(|mount| mount.is_read_only())
    }

    /// What holds for the mount; nothing for an object that is in no tree.
    pub fn mount_flags(&self) -> MountFlags {
        self.mount.as_ref().map_or(MountFlags::empty(), |mount| mount.flags())
    }

    /// Tells whether it lies in a file system of memory.
    pub(super) fn in_memory(&self) -> bool {
        self.mount.as_ref().is_some_and(|mount| matches!(mount.file_system.type_name(), "tmpfs" | "ramfs"))
    }

    /// Tells whether it is the root of its mount.
    pub fn is_mount_root(&self) -> bool {
        self.mount.as_ref().is_some_and(|mount| Arc::ptr_eq(&mount.root, &self.entry))
    }

    /// Tells whether the name it was reached by was removed.
    pub fn is_removed(&self) -> bool {
        self.entry.is_removed()
    }

    /// Tells whether both are the same place.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.entry, &other.entry)
            && match (&self.mount, &other.mount) {
                (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
                (None, None) => true,
                _ => false,
            }
    }

    /// The place one up, over mount roots; `None` at the root of the tree.
    pub(super) fn parent(&self) -> Option<Self> {
        let mut at = self.clone();
        while at.is_mount_root() {
            let (mount, entry) = at.mount.as_ref()?.place()?;
            at = Self::new(mount, entry);
        }
        let parent = at.entry.parent()?;
        Some(Self { mount: at.mount, entry: parent })
    }

    /// The place one up as mounts lie on each other: from the root of a mount to what it covers.
    pub(super) fn parent_through(&self) -> Option<Self> {
        if self.is_mount_root() {
            let (mount, entry) = self.mount.as_ref()?.place()?;
            return Some(Self::new(mount, entry));
        }
        let parent = self.entry.parent()?;
        Some(Self { mount: self.mount.clone(), entry: parent })
    }

    /// The name in its directory, over mount roots; `None` at the root of the tree.
    fn name(&self) -> Option<Arc<[u8]>> {
        let mut at = self.clone();
        while at.is_mount_root() {
            let (mount, entry) = at.mount.as_ref()?.place()?;
            at = Self::new(mount, entry);
        }
        at.entry.parent().map(|_| at.entry.name())
    }

    /// The absolute path from the sandbox's root, as /proc/PID/maps and /proc/PID/fd show it: with ` (deleted)` behind a
    /// removed name.
    pub fn path(&self) -> Vec<u8> {
        if self.mount.is_none() {
            return self.entry.name().to_vec();
        }
        let (mut path, _) = self.path_from(None);
        if self.is_removed() {
            path.extend_from_slice(b" (deleted)");
        }
        path
    }

    /// The path from `root` (or the tree's root), and whether `root` was met on the way up.
    pub fn path_from(&self, root: Option<&Self>) -> (Vec<u8>, bool) {
        let mut names = Vec::new();
        let mut at = self.clone();
        let reached = loop {
            if root.is_some_and(|root| root.is_same(&at)) {
                break true;
            }
            let Some(name) = at.name() else { break root.is_none() };
            let Some(parent) = at.parent() else { break root.is_none() };
            names.push(name);
            at = parent;
        };
        (path_upwards(&names), reached)
    }
}

/// The path of these names, the last of which is below the root.
fn path_upwards(names: &[Arc<[u8]>]) -> Vec<u8> {
    if names.is_empty() {
        return b"/".to_vec();
    }
    let mut path = Vec::new();
    for name in names.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({})", String::from_utf8_lossy(&self.path()))
    }
}
