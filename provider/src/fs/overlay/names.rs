//! Names of the overlay: lookup, and changes of names.

use super::inode::Layers;
use super::upper::Upper;
use super::{OverlayInode, Union};
use crate::errno::Errno;
use crate::fs::host::HostInode;
use crate::fs::{DirSink, Directory, FileKind, Inode, NewNode, RENAME_EXCHANGE, RENAME_NOREPLACE, Recall};
use crate::task::{Credentials, CurrentTask};
use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Union {
    fn known(&self, address: usize) -> Option<Arc<OverlayInode>> {
        self.known.lock().get(&address).and_then(std::sync::Weak::upgrade)
    }

    /// The lower directory of a path that a redirect names; `None` if there is none any more.
    fn lower_at(&self, path: &[u8]) -> Option<Arc<HostInode>> {
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        names.into_iter().try_fold(self.lower_root.clone(), |at, name| match name {
            b"." | b".." => None,
            name => at.child(name).ok(),
        })
    }
}

impl OverlayInode {
    /// What the lower layer has under `name`.
    fn lower_child(&self, name: &[u8]) -> Result<Option<Arc<HostInode>>, Errno> {
        match self.lower().map(|lower| lower.child(name)) {
            None | Some(Err(Errno::ENOENT)) => Ok(None),
            Some(Ok(child)) => Ok(Some(child)),
            Some(Err(error)) => Err(error),
        }
    }

    /// What the upper layer has under `name`, whiteouts included.
    fn upper_child(&self, name: &[u8]) -> Result<Option<Upper>, Errno> {
        self.upper().map_or(Ok(None), |upper| upper.child(name))
    }

    /// Finds the object that `name` shows.
    pub(super) fn child(&self, name: &[u8]) -> Result<Arc<OverlayInode>, Errno> {
        let found = match self.upper_child(name)? {
            Some(upper) if upper.is_whiteout() => return Err(Errno::ENOENT),
            Some(upper) => match self.union.known(upper.address()) {
                Some(inode) => inode,
                None => return self.first_seen(name, upper),
            },
            None => {
                let lower = self.lower_child(name)?.ok_or(Errno::ENOENT)?;
                match self.union.known(Arc::as_ptr(&lower).addr()) {
                    Some(inode) => inode,
                    None => {
                        let path = self.path_below(&lower, name);
                        let layers = Layers { lower: Some(lower), upper: None, lower_links: None };
                        return OverlayInode::new(&self.union, layers, Some((self.this()?, name.into())), path);
                    }
                }
            }
        };
        let _old = found.place.lock().replace((self.this()?, name.into()));
        Ok(found)
    }

    /// The object of an entry of the upper layer that nobody holds: made in this run and let go, or in an earlier one.
    fn first_seen(&self, name: &[u8], upper: Upper) -> Result<Arc<OverlayInode>, Errno> {
        let (mut lower, mut path) = (None, None);
        if upper.is_directory() && !upper.is_opaque() {
            let below = match upper.redirect() {
                Some(redirect) => {
                    path = Some(redirect.as_slice().into());
                    self.union.lower_at(&redirect)
                }
                None => self.lower_child(name)?,
            };
            lower = below.filter(|below| below.kind() == FileKind::Directory);
        }
        if let Some(lower) = &lower
            && path.is_none()
        {
            path = self.path_below(lower, name);
        }
        let lower_links = lower.as_ref().map(|lower| lower.stat()).transpose()?.map(|stat| stat.links);
        let layers = Layers { lower, upper: Some(upper), lower_links };
        OverlayInode::new(&self.union, layers, Some((self.this()?, name.into())), path)
    }

    fn path_below(&self, lower: &HostInode, name: &[u8]) -> Option<Box<[u8]>> {
        let path = self.lower_path.as_ref().filter(|_| lower.kind() == FileKind::Directory)?;
        Some([path, &b"/"[..], name].concat().into())
    }

    /// Names that the directory shows.
    pub(super) fn is_empty(&self) -> Result<bool, Errno> {
        let mut hidden = HashSet::new();
        if let Some(upper) = self.upper() {
            for (name, child) in upper.listing()? {
                if !child.is_whiteout() {
                    return Ok(false);
                }
                hidden.insert(name);
            }
        }
        match self.lower() {
            None => Ok(true),
            Some(lower) => {
                let mut empty = true;
                lower.open_listing()?.entries_all(&mut |entry| {
                    empty = hidden.contains(entry.name);
                    empty
                })?;
                Ok(empty)
            }
        }
    }

    /// Notes that `name` in this directory, one of `links` in all, does not lead to the object any more.
    fn unnamed(&self, object: &OverlayInode, name: &[u8], links: u64) -> Result<(), Errno> {
        let mut place = object.place.lock();
        let was_here = place.as_ref().is_some_and(|(parent, at)| std::ptr::eq(parent.as_ref(), self) && **at == *name);
        let old = if was_here { place.take() } else { None };
        drop(place);
        drop(old);
        let is_directory = object.kind() == FileKind::Directory;
        if is_directory {
            self.more_links.fetch_sub(1, Ordering::Relaxed);
        }
        object.more_links.fetch_sub(if is_directory { 2 } else { 1 }, Ordering::Relaxed);
        if is_directory || links <= 1 {
            object.forget();
        } else if object.is_from_below() {
            // The lower layer goes on counting the name.
            object.keep()?;
        }
        Ok(())
    }

    /// The upper directory, which is about to change.
    fn changing(&self) -> Result<Upper, Errno> {
        self.copy_up_locked(None)
    }

    /// Makes a renamed directory go on with the lower directory it had, or hide the one that lies below its new name.
    fn anchor(&self, upper: &Upper, covers: bool) -> Result<(), Errno> {
        if self.kind() != FileKind::Directory {
            return Ok(());
        }
        match (&self.lower_path, self.lower()) {
            (Some(path), Some(_)) => upper.set_redirect(path),
            // In memory the object itself is kept, with its lower directory.
            (None, Some(_)) => Ok(()),
            (_, None) if covers => upper.set_opaque(),
            (_, None) => Ok(()),
        }
    }
}

fn overlay(object: &dyn Any) -> Result<&OverlayInode, Errno> {
    object.downcast_ref::<OverlayInode>().ok_or(Errno::EXDEV)
}

impl Directory for OverlayInode {
    fn find(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let child: Arc<dyn Inode> = self.child(name)?;
        Ok(child)
    }

    fn confirm(&self, name: &[u8], inode: &Arc<dyn Inode>) -> bool {
        let Ok(object) = overlay(inode.as_any()) else { return false };
        let layers = object.layers();
        match self.upper_child(name) {
            Ok(Some(upper)) => layers.upper.is_some_and(|ours| ours.address() == upper.address()),
            Ok(None) => match (self.lower(), layers.lower) {
                (Some(directory), Some(lower)) => directory.still_has(name, &lower),
                _ => false,
            },
            Err(_) => false,
        }
    }

    fn recall(&self, who: &Credentials, name: &[u8], inode: &Arc<dyn Inode>) -> Recall {
        let Ok(object) = overlay(inode.as_any()) else { return Recall::Nothing };
        match self.upper() {
            // Others may write to a host directory, too.
            Some(Upper::Host(_)) => return Recall::Nothing,
            Some(upper) => match upper.child(name) {
                Ok(None) => {}
                Ok(Some(upper)) if object.upper().is_some_and(|ours| ours.address() == upper.address()) => {
                    return Recall::Certain;
                }
                _ => return Recall::Nothing,
            },
            None => {}
        }
        match (self.lower(), object.lower()) {
            (Some(directory), Some(lower)) if directory.may_recall(who, name, &lower) => Recall::Likely,
            _ => Recall::Nothing,
        }
    }

    fn confirm_way(&self, way: &[u8], inode: &Arc<dyn Inode>) -> bool {
        let Ok(object) = overlay(inode.as_any()) else { return false };
        match (self.lower(), object.lower()) {
            (Some(directory), Some(lower)) => directory.still_leads(way, &lower),
            _ => false,
        }
    }

    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        // What the layers have for "nothing" (ovl_mknod).
        if node.kind == FileKind::CharDevice && node.rdev == 0 {
            return Err(Errno::EPERM);
        }
        let _changes = self.union.changes.lock();
        match self.child(name) {
            Ok(_) => return Err(Errno::EEXIST),
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
        let directory = self.changing()?;
        let is_directory = node.kind == FileKind::Directory;
        let covers = is_directory && self.lower_child(name)?.is_some();
        let made = directory.make(name, node, |made| if covers { made.set_opaque() } else { Ok(()) })?;
        directory.inode().change(&modified_now())?;
        if is_directory {
            self.more_links.fetch_add(1, Ordering::Relaxed);
        }
        let layers = Layers { lower: None, upper: Some(made), lower_links: None };
        let made: Arc<dyn Inode> = OverlayInode::new(&self.union, layers, Some((self.this()?, name.into())), None)?;
        Ok(made)
    }

    fn create_unnamed(&self, node: &NewNode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        let upper = self.union.upper_root.make_unlinked(node)?;
        let layers = Layers { lower: None, upper: Some(upper), lower_links: None };
        let made: Arc<dyn Inode> = OverlayInode::new(&self.union, layers, None, None)?;
        Ok(made)
    }

    fn link(&self, name: &[u8], inode: &Arc<dyn Inode>) -> Result<(), Errno> {
        let object = overlay(inode.as_any())?;
        if !Arc::ptr_eq(&object.union, &self.union) {
            return Err(Errno::EXDEV);
        }
        let _changes = self.union.changes.lock();
        if self.child(name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let upper = object.copy_up_locked(None)?;
        let directory = self.changing()?;
        directory.name(name, &upper)?;
        directory.inode().change(&modified_now())?;
        object.more_links.fetch_add(1, Ordering::Relaxed);
        let mut place = object.place.lock();
        if place.is_none() {
            *place = Some((self.this()?, name.into()));
        }
        Ok(())
    }

    fn remove(&self, name: &[u8], directory: bool) -> Result<(), Errno> {
        let _changes = self.union.changes.lock();
        let victim = self.child(name)?;
        if directory != (victim.kind() == FileKind::Directory) {
            return Err(if directory { Errno::ENOTDIR } else { Errno::EISDIR });
        }
        if directory && !victim.is_empty()? {
            return Err(Errno::ENOTEMPTY);
        }
        let below = self.lower_child(name)?.is_some();
        let links = victim.stat()?.links;
        let upper = self.changing()?;
        upper.remove(name, below)?;
        upper.inode().change(&modified_now())?;
        self.unnamed(&victim, name, links)
    }

    fn rename(&self, name: &[u8], to: &dyn Directory, to_name: &[u8], flags: u32) -> Result<(), Errno> {
        let to = overlay(to.as_any())?;
        if !Arc::ptr_eq(&to.union, &self.union) {
            return Err(Errno::EXDEV);
        }
        let _changes = self.union.changes.lock();
        let moved = self.child(name)?;
        let replaced = match to.child(to_name) {
            Ok(_) if flags & RENAME_NOREPLACE != 0 => return Err(Errno::EEXIST),
            Ok(object) => Some(object),
            Err(Errno::ENOENT) => None,
            Err(error) => return Err(error),
        };
        if flags & RENAME_EXCHANGE != 0 {
            let other = replaced.ok_or(Errno::ENOENT)?;
            return self.exchange(name, &moved, to, to_name, &other);
        }
        if let Some(victim) = &replaced
            && victim.kind() == FileKind::Directory
            && !victim.is_empty()?
        {
            return Err(Errno::ENOTEMPTY);
        }
        let replaced = replaced.map(|victim| victim.stat().map(|stat| (victim, stat.links))).transpose()?;
        let upper = moved.copy_up_locked(None)?;
        let (from_upper, to_upper) = (self.changing()?, to.changing()?);
        ensure_named(&from_upper, name, &upper)?;
        moved.anchor(&upper, to.lower_child(to_name)?.is_some())?;
        from_upper.rename(name, &to_upper, to_name, self.lower_child(name)?.is_some())?;
        for directory in [&from_upper, &to_upper] {
            directory.inode().change(&modified_now())?;
        }
        if let Some((victim, links)) = &replaced {
            to.unnamed(victim, to_name, *links)?;
        }
        moved.moved(self, to, to_name)
    }

    fn list(&self, task: &CurrentTask<'_>, position: u64, sink: &mut dyn DirSink) -> Result<(), Errno> {
        use crate::fs::File;
        super::file::OverlayDirectory::open(self.this()?)?.read_dir(task, position, sink)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl OverlayInode {
    fn exchange(
        &self,
        name: &[u8],
        ours: &OverlayInode,
        to: &OverlayInode,
        to_name: &[u8],
        theirs: &OverlayInode,
    ) -> Result<(), Errno> {
        let (our_upper, their_upper) = (ours.copy_up_locked(None)?, theirs.copy_up_locked(None)?);
        let (from_upper, to_upper) = (self.changing()?, to.changing()?);
        ensure_named(&from_upper, name, &our_upper)?;
        ensure_named(&to_upper, to_name, &their_upper)?;
        ours.anchor(&our_upper, to.lower_child(to_name)?.is_some())?;
        theirs.anchor(&their_upper, self.lower_child(name)?.is_some())?;
        from_upper.exchange(name, &to_upper, to_name)?;
        ours.moved(self, to, to_name)?;
        theirs.moved(to, self, name)
    }

    /// Notes that the object went from one directory to a name in another.
    fn moved(&self, from: &OverlayInode, to: &OverlayInode, to_name: &[u8]) -> Result<(), Errno> {
        if self.kind() == FileKind::Directory {
            from.more_links.fetch_sub(1, Ordering::Relaxed);
            to.more_links.fetch_add(1, Ordering::Relaxed);
        }
        let place = (to.this()?, to_name.into());
        let old = self.place.lock().replace(place);
        drop(old);
        Ok(())
    }
}

/// Gives a copied object its name in the upper layer, where it has only another one of a hard-linked file's.
fn ensure_named(directory: &Upper, name: &[u8], object: &Upper) -> Result<(), Errno> {
    match directory.child(name)? {
        Some(_) => Ok(()),
        None => directory.name(name, object),
    }
}

/// What a change of its names does to a directory.
fn modified_now() -> crate::fs::AttributeChange {
    crate::fs::AttributeChange { modified: Some(crate::fs::Timestamp::now()), ..Default::default() }
}
