//! Objects of the overlay.

use super::file::{OverlayDirectory, OverlayFile};
use super::upper::{PRIVATE, Upper};
use super::{UPPER_NUMBERS, Union};
use crate::errno::Errno;
use crate::fs::host::HostInode;
use crate::fs::{AttributeChange, Directory, File, FileKind, Inode, Link, OpenFlags, Permissions, Stat};
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};

/// A directory and a name in it.
pub(super) type Place = (Arc<OverlayInode>, Box<[u8]>);

/// An object of the overlay.
#[derive(Debug)]
pub(in crate::fs) struct OverlayInode {
    pub(super) union: Arc<Union>,
    me: Weak<OverlayInode>,
    kind: FileKind,
    /// The lower layer's (device, inode), for what came from there: it stays over a copy-up.
    origin: Option<(u64, u64)>,
    layers: Mutex<Layers>,
    /// A directory and a name in it that lead here; `None` for the root and for what has lost its name.
    pub(super) place: Mutex<Option<Place>>,
    /// Links that were added since (for a directory: subdirectories), on top of what the lower layer counts.
    pub(super) more_links: AtomicI64,
    /// Somebody uses the lower layer's object although its name may go: the copy must be as reachable.
    held: AtomicBool,
    /// For a directory: its path in the lower layer, noted when the upper layer has to remember it.
    pub(super) lower_path: Option<Box<[u8]>>,
}

/// What an object consists of. At least one is there.
#[derive(Clone, Debug)]
pub(super) struct Layers {
    pub(super) lower: Option<Arc<HostInode>>,
    pub(super) upper: Option<Upper>,
    /// Links that the lower layer counted when the object was copied.
    pub(super) lower_links: Option<u64>,
}

impl OverlayInode {
    pub(super) fn root(union: &Arc<Union>, lower: Arc<HostInode>, upper: Upper) -> Result<Arc<Self>, Errno> {
        let path = matches!(upper, Upper::Host(_)).then(|| b"".as_slice().into());
        let links = lower.stat()?.links;
        let layers = Layers { lower: Some(lower), upper: Some(upper), lower_links: Some(links) };
        Self::new(union, layers, None, path)
    }

    pub(super) fn new(
        union: &Arc<Union>,
        layers: Layers,
        place: Option<Place>,
        lower_path: Option<Box<[u8]>>,
    ) -> Result<Arc<Self>, Errno> {
        let (kind, origin) = match (&layers.lower, &layers.upper) {
            (Some(lower), _) => (lower.kind(), Some((lower.key().device, lower.key().inode))),
            (None, Some(upper)) => (upper.inode().kind(), None),
            (None, None) => return Err(Errno::ENOENT),
        };
        let addresses = layers.addresses();
        let inode = Arc::new_cyclic(|me| Self {
            union: union.clone(),
            me: me.clone(),
            kind,
            origin,
            layers: Mutex::new(Rank::Leaf, layers),
            place: Mutex::new(Rank::Leaf, place),
            more_links: AtomicI64::new(0),
            held: AtomicBool::new(false),
            lower_path,
        });
        let mut known = union.known.lock();
        let others = addresses.iter().flatten().find_map(|address| known.get(address).and_then(Weak::upgrade));
        if let Some(other) = others {
            // Another task was faster with the same object.
            drop(known);
            return Ok(other);
        }
        for address in addresses.into_iter().flatten() {
            known.insert(address, Arc::downgrade(&inode));
        }
        drop(known);
        Ok(inode)
    }

    pub(super) fn this(&self) -> Result<Arc<Self>, Errno> {
        self.me.upgrade().ok_or(Errno::ENOENT)
    }

    pub(super) fn address(&self) -> usize {
        self.me.as_ptr().addr()
    }

    pub(super) fn layers(&self) -> Layers {
        self.layers.lock().clone()
    }

    pub(super) fn upper(&self) -> Option<Upper> {
        self.layers.lock().upper.clone()
    }

    pub(super) fn lower(&self) -> Option<Arc<HostInode>> {
        self.layers.lock().lower.clone()
    }

    /// Switches to a copy.
    pub(super) fn copied(&self, copy: Upper, lower_links: u64) -> Result<(), Errno> {
        self.union.known.lock().insert(copy.address(), self.me.clone());
        let mut layers = self.layers.lock();
        layers.upper = Some(copy);
        layers.lower_links = Some(lower_links);
        // A file with other names below must be found through them.
        let dropped = if self.kind != FileKind::Directory && lower_links <= 1 { layers.lower.take() } else { None };
        drop(layers);
        if let Some(lower) = &dropped {
            self.union.known.lock().remove(&Arc::as_ptr(lower).addr());
        }
        self.keep()?;
        // After the switch: whoever asks from now on holds the copy.
        if self.held.load(Ordering::SeqCst) { self.current()?.hold() } else { Ok(()) }
    }

    /// Makes sure that the object, or its copy, stays reachable whatever becomes of its name: it is open, or a working directory.
    pub(super) fn hold_over_copy(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    /// Holds on to the object until [`Self::forget`]: it is not what a fresh look at the lower layer would make.
    pub(super) fn keep(&self) -> Result<(), Errno> {
        let this = self.this()?;
        let _old = self.union.kept.lock().insert(self.address(), this);
        Ok(())
    }

    /// Tells whether the lower layer has the object, or had it when it was copied.
    pub(super) fn is_from_below(&self) -> bool {
        self.origin.is_some()
    }

    /// Lets the object go when its last user does: it has no name any more.
    pub(super) fn forget(&self) {
        let _kept = self.union.kept.lock().remove(&self.address());
    }

    /// The object as the layer has it that counts.
    pub(super) fn current(&self) -> Result<Arc<dyn Inode>, Errno> {
        let layers = self.layers();
        match (layers.upper, layers.lower) {
            (Some(upper), _) => Ok(upper.shared()),
            (None, Some(lower)) => Ok(lower),
            (None, None) => Err(Errno::EIO),
        }
    }

    /// The number that stat and directory listings report.
    pub(super) fn number(&self, upper: &Stat) -> (u64, u64) {
        self.origin.unwrap_or((self.union.device, UPPER_NUMBERS | upper.inode))
    }

    /// The inode number of the object, if it came from the lower layer.
    pub(super) fn lower_number(&self) -> Option<u64> {
        self.origin.map(|(_, inode)| inode)
    }

    fn links(&self, counted: u64) -> u64 {
        counted.saturating_add_signed(self.more_links.load(Ordering::Relaxed))
    }
}

impl OverlayInode {
    /// The attributes, from what `ask` says of the layer that counts.
    fn stat_by(&self, ask: impl FnOnce(&dyn Inode) -> Result<Stat, Errno>) -> Result<Stat, Errno> {
        let layers = self.layers();
        let Some(upper) = &layers.upper else {
            let stat = ask(layers.lower.ok_or(Errno::EIO)?.as_ref())?;
            return Ok(Stat { links: self.links(stat.links), ..stat });
        };
        let stat = ask(upper.inode())?;
        let (device, inode) = self.number(&stat);
        let links = layers.lower_links.map_or(stat.links, |counted| self.links(counted));
        let mut stat = Stat { device, inode, links, ..stat };
        if self.kind == FileKind::Directory
            && let Some(lower) = &layers.lower
            && let Ok(below) = lower.stat()
        {
            stat.size = below.size;
            stat.blocks = below.blocks;
        }
        Ok(stat)
    }
}

impl Layers {
    /// Where the parts lie in memory.
    fn addresses(&self) -> [Option<usize>; 2] {
        [self.lower.as_ref().map(|lower| Arc::as_ptr(lower).addr()), self.upper.as_ref().map(Upper::address)]
    }
}

impl Inode for OverlayInode {
    fn kind(&self) -> FileKind {
        self.kind
    }

    fn stat(&self) -> Result<Stat, Errno> {
        self.stat_by(|layer| layer.stat())
    }

    fn stat_found(&self) -> Result<Stat, Errno> {
        self.stat_by(|layer| layer.stat_found())
    }

    fn permissions(&self) -> Result<Permissions, Errno> {
        self.current()?.permissions()
    }

    fn hold(&self) -> Result<(), Errno> {
        self.hold_over_copy();
        self.current()?.hold()
    }

    fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        self.copy_up(change.size)?.inode().change(change)
    }

    fn as_dir(&self) -> Option<&dyn Directory> {
        (self.kind == FileKind::Directory).then_some(self)
    }

    fn as_link(&self) -> Option<&dyn Link> {
        (self.kind == FileKind::Symlink).then_some(self)
    }

    fn open(self: Arc<Self>, task: &CurrentTask<'_>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        match self.kind {
            FileKind::Directory => Ok(Arc::new(OverlayDirectory::open(self)?)),
            FileKind::Regular => {
                if flags.writes() || flags.contains(OpenFlags::TRUNC) {
                    self.copy_up(flags.contains(OpenFlags::TRUNC).then_some(0))?;
                }
                Ok(Arc::new(OverlayFile::open(self, flags)?))
            }
            _ => self.current()?.open(task, flags),
        }
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        if name.starts_with(PRIVATE) {
            return Err(Errno::ENODATA);
        }
        self.current()?.get_xattr(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<(), Errno> {
        if name.starts_with(PRIVATE) {
            return Err(Errno::EPERM);
        }
        self.copy_up(None)?.inode().set_xattr(name, value, flags)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        // Asked first, so that an attribute that is not there copies nothing.
        self.get_xattr(name)?;
        self.copy_up(None)?.inode().remove_xattr(name)
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = self.current()?.list_xattr()?;
        names.retain(|name| !name.starts_with(PRIVATE));
        Ok(names)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Link for OverlayInode {
    fn fixed_text(&self) -> Result<Vec<u8>, Errno> {
        self.current()?.as_link().ok_or(Errno::EINVAL)?.fixed_text()
    }
}

impl Drop for OverlayInode {
    fn drop(&mut self) {
        let addresses = self.layers.lock().addresses();
        let mut known = self.union.known.lock();
        for address in addresses.into_iter().flatten() {
            if known.get(&address).is_some_and(|inode| inode.strong_count() == 0) {
                known.remove(&address);
            }
        }
        drop(known);
        if let (Some(parking), Some(upper)) = (&self.union.parking, &self.layers.lock().upper) {
            parking.remove(upper);
        }
        // A chain of directories that only this object kept is taken apart here, not by recursion.
        let mut above = self.place.lock().take();
        while let Some((parent, _)) = above {
            above = Arc::into_inner(parent).and_then(|parent| parent.place.lock().take());
        }
    }
}
