//! inotify(7), and F_NOTIFY of fcntl(2): who is told what happens to files and in directories.
//!
//! [`Watches`] knows who watches which object, by the object's place in memory, which a watch keeps. The calls that read, write and
//! change names tell it what they did ([`Watches::tell`] and its kin); with no watch in the sandbox that is one load. An
//! `Instance` queues the events for its descriptor. Changes that others make to the host's files are not seen.
//!
//! Locks are leaves, taken one after the other: an event may come from wherever a file is closed.

mod dnotify;
mod instance;

#[cfg(test)]
mod tests;

pub use dnotify::DirectoryEvents;
pub(crate) use instance::{Added, Instance};

use self::dnotify::DirectoryNotice;
use super::{FileKind, Inode, Location};
use crate::sync::{Mutex, Rank};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

bitflags::bitflags! {
    /// Events, what they are told with, and how a watch is made (IN_*, inotify(7)).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Mask: u32 {
        /// Read, or executed.
        const ACCESS = 0x1;
        /// Written or truncated.
        const MODIFY = 0x2;
        /// Attributes or the number of links changed.
        const ATTRIB = 0x4;
        /// A file that was open for writing was closed.
        const CLOSE_WRITE = 0x8;
        /// Something that was not open for writing was closed.
        const CLOSE_NOWRITE = 0x10;
        /// Opened.
        const OPEN = 0x20;
        /// A name was moved away from the directory.
        const MOVED_FROM = 0x40;
        /// A name was moved into the directory.
        const MOVED_TO = 0x80;
        /// A name was made in the directory.
        const CREATE = 0x100;
        /// A name was removed from the directory.
        const DELETE = 0x200;
        /// The watched object is gone.
        const DELETE_SELF = 0x400;
        /// The watched object was moved.
        const MOVE_SELF = 0x800;
        /// The file system of the watched object was unmounted.
        const UNMOUNT = 0x2000;
        /// Events were lost.
        const Q_OVERFLOW = 0x4000;
        /// The watch is gone.
        const IGNORED = 0x8000;
        /// The path must be a directory's.
        const ONLYDIR = 0x0100_0000;
        /// A last symbolic link is not followed.
        const DONT_FOLLOW = 0x0200_0000;
        /// Names that were removed are not told of.
        const EXCL_UNLINK = 0x0400_0000;
        /// There must be no watch yet.
        const MASK_CREATE = 0x1000_0000;
        /// Added to what is watched for already.
        const MASK_ADD = 0x2000_0000;
        /// The event is about a directory.
        const ISDIR = 0x4000_0000;
        /// One event, then the watch goes.
        const ONESHOT = 0x8000_0000;
        /// What a watch can be for.
        const EVENTS = 0xfff;
    }
}

/// The most watches in a sandbox: each keeps an object in the monitor's memory.
pub(crate) const WATCHES_MAX: usize = 65536;
/// The most instances.
pub(crate) const INSTANCES_MAX: usize = 128;
/// The most events that wait in an instance.
pub(crate) const QUEUE_MAX: usize = 16384;

/// One watched object of one instance.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The watch descriptor.
    pub(crate) wd: i32,
    /// What it is for, with ONESHOT and EXCL_UNLINK.
    mask: AtomicU32,
    inode: Arc<dyn Inode>,
    listener: Weak<dyn Listener>,
    gone: AtomicBool,
}

impl Watch {
    /// What it is for.
    pub(crate) fn mask(&self) -> Mask {
        Mask::from_bits_retain(self.mask.load(Ordering::Relaxed))
    }
}

/// Who is told through a watch.
trait Listener: Send + Sync + Debug {
    /// Something happened that the watch is for. Called with no lock held but those of names.
    fn hear(&self, watch: &Arc<Watch>, news: &News<'_>);
    /// The watched object is gone, and the watch with it.
    fn lose(&self, watch: &Arc<Watch>);
}

/// An event as it is told to watches.
#[derive(Clone, Copy, Debug)]
struct News<'a> {
    mask: Mask,
    cookie: u32,
    /// The name in the watched directory.
    name: &'a [u8],
    /// It came through an open file whose name was removed before: IN_EXCL_UNLINK excludes it.
    excluded: bool,
    /// It is a move from one name to another in the same directory.
    stays: bool,
}

/// Who watches what in a sandbox.
#[derive(Debug)]
pub struct Watches {
    count: AtomicUsize,
    instances: AtomicUsize,
    cookie: AtomicU32,
    by_inode: Mutex<HashMap<usize, Vec<Arc<Watch>>>>,
    /// Open directories that signal what happens in them (F_NOTIFY).
    directories: Mutex<Vec<Arc<DirectoryNotice>>>,
}

impl Default for Watches {
    fn default() -> Self {
        Self {
            count: AtomicUsize::new(0),
            instances: AtomicUsize::new(0),
            cookie: AtomicU32::new(0),
            by_inode: Mutex::new(Rank::Leaf, HashMap::new()),
            directories: Mutex::new(Rank::Leaf, Vec::new()),
        }
    }
}

fn key(inode: &Arc<dyn Inode>) -> usize {
    Arc::as_ptr(inode).addr()
}

impl Watches {
    fn is_idle(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// The watches of an object.
    fn of(&self, inode: &Arc<dyn Inode>) -> Vec<Arc<Watch>> {
        self.by_inode.lock().get(&key(inode)).cloned().unwrap_or_default()
    }

    fn send(&self, inode: &Arc<dyn Inode>, news: News<'_>) {
        for watch in self.of(inode) {
            let wanted = watch.mask();
            if !wanted.intersects(news.mask & Mask::EVENTS) || (news.excluded && wanted.contains(Mask::EXCL_UNLINK)) {
                continue;
            }
            if let Some(listener) = watch.listener.upgrade() {
                listener.hear(&watch, &news);
            }
        }
    }

    /// Tells of a change of attributes of the object at a place: who watches its directory, with its name, and who watches it.
    pub fn tell(&self, place: &Location, mask: Mask) {
        self.tell_both(place, mask, false);
    }

    /// Tells of a use of the object at a place through an open file.
    pub fn tell_use(&self, place: &Location, mask: Mask) {
        self.tell_both(place, mask, place.is_removed());
    }

    fn tell_both(&self, place: &Location, mask: Mask, excluded: bool) {
        if self.is_idle() {
            return;
        }
        let mask = with_kind(mask, place.inode());
        if let Some(parent) = place.entry().parent() {
            let name = place.entry().name();
            self.send(parent.inode(), News { mask, cookie: 0, name: &name, excluded, stays: false });
        }
        self.send(place.inode(), News { mask, cookie: 0, name: b"", excluded, stays: false });
    }

    /// Tells of something that concerns nobody but who watches the object itself.
    pub(super) fn tell_own(&self, inode: &Arc<dyn Inode>, mask: Mask) {
        if !self.is_idle() {
            self.send(
                inode,
                News { mask: with_kind(mask, inode), cookie: 0, name: b"", excluded: false, stays: false },
            );
        }
    }

    /// Tells of a name that was made or removed in a directory; it leads, or led, to `inode`.
    pub(super) fn tell_name(&self, directory: &Arc<dyn Inode>, name: &[u8], inode: &Arc<dyn Inode>, mask: Mask) {
        if !self.is_idle() {
            self.send(directory, News { mask: with_kind(mask, inode), cookie: 0, name, excluded: false, stays: false });
        }
    }

    /// Tells of an object that went from one name to another, which `replaced` lost.
    pub(super) fn tell_move(
        &self,
        (from, name): (&Arc<dyn Inode>, &[u8]),
        (to, to_name): (&Arc<dyn Inode>, &[u8]),
        moved: &Arc<dyn Inode>,
        replaced: Option<&Arc<dyn Inode>>,
    ) {
        if self.is_idle() {
            return;
        }
        let stays = Arc::ptr_eq(from, to);
        let cookie = self.cookie.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        for (directory, name, mask) in [(from, name, Mask::MOVED_FROM), (to, to_name, Mask::MOVED_TO)] {
            self.send(directory, News { mask: with_kind(mask, moved), cookie, name, excluded: false, stays });
        }
        if let Some(replaced) = replaced {
            self.tell_own(replaced, Mask::ATTRIB);
        }
        self.send(moved, News { mask: Mask::MOVE_SELF, cookie: 0, name: b"", excluded: false, stays: false });
    }

    /// Tells those who watch an object that it is gone: it has neither a name nor a user any more. Their watches end.
    pub(super) fn tell_gone(&self, inode: &Arc<dyn Inode>) {
        if self.is_idle() {
            return;
        }
        self.send(inode, News { mask: Mask::DELETE_SELF, cookie: 0, name: b"", excluded: false, stays: false });
        for watch in self.of(inode) {
            if let Some(listener) = watch.listener.upgrade() {
                listener.lose(&watch);
            }
        }
    }

    /// Tells whether anybody watches the object.
    pub(super) fn has(&self, inode: &Arc<dyn Inode>) -> bool {
        !self.is_idle() && self.by_inode.lock().contains_key(&key(inode))
    }

    fn add(&self, watch: &Arc<Watch>) {
        self.by_inode.lock().entry(key(&watch.inode)).or_default().push(watch.clone());
    }

    fn remove(&self, watch: &Arc<Watch>) {
        let mut by_inode = self.by_inode.lock();
        if let Some(watches) = by_inode.get_mut(&key(&watch.inode)) {
            watches.retain(|other| !Arc::ptr_eq(other, watch));
            if watches.is_empty() {
                by_inode.remove(&key(&watch.inode));
            }
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds IN_ISDIR for a directory. (IN_DELETE_SELF and IN_MOVE_SELF have always come without: inotify_handle_inode_event.)
fn with_kind(mask: Mask, inode: &Arc<dyn Inode>) -> Mask {
    if inode.kind() == FileKind::Directory { mask | Mask::ISDIR } else { mask }
}
