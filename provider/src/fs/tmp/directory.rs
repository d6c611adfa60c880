//! In-memory directories.

use super::budget::Budget;
use super::inode::{Body, TmpInode};
use crate::errno::Errno;
use crate::fs::{DirEntry, DirSink, Directory, FileKind, Inode, NewNode, RENAME_EXCHANGE, RENAME_NOREPLACE};
use crate::sync::MutexGuard;
use crate::task::CurrentTask;
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Bytes that an entry adds to a directory's st_size (BOGO_DIRENT_SIZE in mm/shmem.c).
const ENTRY_SIZE: u64 = 20;
/// Entries that are copied out of the lock at once when a directory is listed.
const BATCH: usize = 64;

/// An entry: its name, and what it leads to.
type Named = (Box<[u8]>, Arc<TmpInode>);

/// The entries of a directory, by name and by the position at which a listing shows them: the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Entries {
    by_name: HashMap<Box<[u8]>, (u64, Arc<TmpInode>)>,
    by_position: BTreeMap<u64, Box<[u8]>>,
    next: u64,
    /// The directory was removed: nothing can be made in it any more.
    removed: bool,
}

impl Entries {
    /// st_size.
    pub(super) fn size(&self) -> u64 {
        ENTRY_SIZE * (2 + u64::try_from(self.by_name.len()).unwrap_or(0))
    }

    fn get(&self, name: &[u8]) -> Option<&Arc<TmpInode>> {
        self.by_name.get(name).map(|(_, inode)| inode)
    }

    /// Puts an entry, which must have been paid for, in place of one of that name.
    fn put(&mut self, name: &[u8], inode: Arc<TmpInode>) -> Option<Arc<TmpInode>> {
        if let Some((_, old)) = self.by_name.get_mut(name) {
            return Some(std::mem::replace(old, inode));
        }
        self.by_name.insert(name.into(), (self.next, inode));
        self.by_position.insert(self.next, name.into());
        self.next += 1;
        None
    }

    fn take(&mut self, name: &[u8]) -> Option<Arc<TmpInode>> {
        let (position, inode) = self.by_name.remove(name)?;
        self.by_position.remove(&position);
        Some(inode)
    }

    /// Empties the directory and gives back what the entries cost.
    pub(super) fn take_all(&mut self, budget: &Budget) -> Vec<Arc<TmpInode>> {
        self.by_position.clear();
        self.by_name
            .drain()
            .map(|(name, (_, inode))| {
                budget.give(Budget::entry(&name));
                inode
            })
            .collect()
    }
}

impl TmpInode {
    fn entries(&self) -> Result<MutexGuard<'_, Entries>, Errno> {
        match &self.body {
            Body::Directory(entries) => Ok(entries.lock()),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Finds an entry.
    pub(in crate::fs) fn child(&self, name: &[u8]) -> Result<Arc<TmpInode>, Errno> {
        self.entries()?.get(name).cloned().ok_or(Errno::ENOENT)
    }

    /// Makes an entry.
    pub(in crate::fs) fn make(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<TmpInode>, Errno> {
        let inode = self.make_nameless(node)?;
        self.attach(name, &inode)?;
        Ok(inode)
    }

    /// Makes an object that no entry names yet.
    pub(in crate::fs) fn make_nameless(&self, node: &NewNode<'_>) -> Result<Arc<TmpInode>, Errno> {
        TmpInode::new(self.shared(), node)
    }

    /// Names an inode.
    fn attach(&self, name: &[u8], inode: &Arc<TmpInode>) -> Result<(), Errno> {
        if self.entries()?.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        self.place(name, inode)?;
        self.touched(0);
        Ok(())
    }

    /// Names an inode, in one step in place of an object of that name which is no directory with entries. The directory's times
    /// stay: this is also how the overlay copies an object up.
    pub(in crate::fs) fn place(&self, name: &[u8], inode: &Arc<TmpInode>) -> Result<(), Errno> {
        let mut entries = self.entries()?;
        if entries.removed {
            return Err(Errno::ENOENT);
        }
        if entries.get(name).is_none() {
            self.budget().take(Budget::entry(name))?;
        }
        let old = entries.put(name, inode.clone());
        drop(entries);
        let mut subdirectories = i64::from(inode.kind() == FileKind::Directory);
        inode.named();
        if let Some(old) = old {
            subdirectories -= i64::from(old.kind() == FileKind::Directory);
            TmpInode::detached(&old);
        }
        self.count(subdirectories);
        Ok(())
    }

    fn count(&self, subdirectories: i64) {
        self.update(|attributes, _| attributes.links = attributes.links.saturating_add_signed(subdirectories));
    }

    /// Notes a change of the entries that gave the directory `subdirectories` more (or fewer).
    fn touched(&self, subdirectories: i64) {
        self.update(|attributes, now| {
            attributes.modified = now;
            attributes.links = attributes.links.saturating_add_signed(subdirectories);
        });
    }

    /// Takes one name off an inode that lost its entry; an empty directory is marked as gone.
    fn detached(inode: &Arc<TmpInode>) {
        let is_directory = inode.kind() == FileKind::Directory;
        let left = inode.update(|attributes, _| {
            attributes.links = if is_directory { 0 } else { attributes.links.saturating_sub(1) };
            attributes.links
        });
        if left > 0 {
            inode.shared().quota.give_inode();
        }
    }

    /// Checks that a directory may go, and lets nothing be made in it any more; `ENOTEMPTY`.
    fn close_directory(inode: &Arc<TmpInode>) -> Result<(), Errno> {
        if let Body::Directory(entries) = &inode.body {
            let mut entries = entries.lock();
            if !entries.by_name.is_empty() {
                return Err(Errno::ENOTEMPTY);
            }
            entries.removed = true;
        }
        Ok(())
    }

    /// Names with their objects, in listing order.
    pub(in crate::fs) fn listing(&self) -> Result<Vec<Named>, Errno> {
        let entries = self.entries()?;
        let named = entries.by_name.iter().map(|(name, (at, inode))| (*at, (name.clone(), inode.clone())));
        let mut listing: Vec<(u64, Named)> = named.collect();
        listing.sort_by_key(|(at, _)| *at);
        Ok(listing.into_iter().map(|(_, entry)| entry).collect())
    }

    fn sibling<'a>(&self, to: &'a dyn Directory) -> Result<&'a TmpInode, Errno> {
        let other = to.as_any().downcast_ref::<TmpInode>().ok_or(Errno::EXDEV)?;
        if Arc::ptr_eq(self.shared(), other.shared()) { Ok(other) } else { Err(Errno::EXDEV) }
    }

    /// Exchanges two entries.
    pub(in crate::fs) fn exchange(&self, name: &[u8], to: &TmpInode, to_name: &[u8]) -> Result<(), Errno> {
        let (ours, theirs) = (self.child(name)?, to.child(to_name)?);
        let (our_kind, their_kind) = (ours.kind(), theirs.kind());
        let _ours = to.entries()?.put(to_name, ours);
        let _theirs = self.entries()?.put(name, theirs);
        let change = i64::from(their_kind == FileKind::Directory) - i64::from(our_kind == FileKind::Directory);
        let change = if std::ptr::eq(self, to) { 0 } else { change };
        self.touched(change);
        to.touched(-change);
        Ok(())
    }

    /// Moves an entry, replacing one that may be replaced.
    /// With `leave`, that object takes the old name in the same step.
    pub(in crate::fs) fn displace(
        &self,
        name: &[u8],
        to: &TmpInode,
        to_name: &[u8],
        leave: Option<Arc<TmpInode>>,
    ) -> Result<(), Errno> {
        let moved = self.child(name)?;
        let replaced = to.child(to_name).ok();
        match &replaced {
            Some(victim) => TmpInode::close_directory(victim)?,
            None => self.budget().take(Budget::entry(to_name))?,
        }
        let mut entries = to.entries()?;
        if entries.removed {
            drop(entries);
            self.budget().give(Budget::entry(to_name));
            return Err(Errno::ENOENT);
        }
        // The new name first: a lookup finds one of the two at any time.
        let _replaced = entries.put(to_name, moved.clone());
        drop(entries);
        let mut entries = self.entries()?;
        let _moved = match leave {
            Some(inode) => entries.put(name, inode),
            None => {
                self.budget().give(Budget::entry(name));
                entries.take(name)
            }
        };
        drop(entries);
        let is_directory = i64::from(moved.kind() == FileKind::Directory);
        let lost = replaced.as_ref().map_or(0, |victim| i64::from(victim.kind() == FileKind::Directory));
        if let Some(victim) = &replaced {
            TmpInode::detached(victim);
        }
        moved.update(|_, _| ());
        if std::ptr::eq(self, to) {
            self.touched(-lost);
        } else {
            self.touched(-is_directory);
            to.touched(is_directory - lost);
        }
        Ok(())
    }
}

impl Directory for TmpInode {
    fn find(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let child: Arc<dyn Inode> = self.child(name)?;
        Ok(child)
    }

    fn confirm(&self, name: &[u8], inode: &Arc<dyn Inode>) -> bool {
        let found = self.entries().ok().and_then(|entries| entries.get(name).map(|inode| inode.number()));
        found.is_some_and(|number| inode.as_any().downcast_ref().is_some_and(|it: &TmpInode| it.number() == number))
    }

    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        let made: Arc<dyn Inode> = self.make(name, node)?;
        Ok(made)
    }

    fn create_unnamed(&self, node: &NewNode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        let made: Arc<dyn Inode> = TmpInode::new(self.shared(), node)?;
        Ok(made)
    }

    fn link(&self, name: &[u8], inode: &Arc<dyn Inode>) -> Result<(), Errno> {
        // Only the overlay links inodes that it holds by this type; a path walk gives the same object.
        let any: Arc<dyn Inode> = inode.clone();
        let inode = TmpInode::from_inode(&any).ok_or(Errno::EXDEV)?;
        if !Arc::ptr_eq(self.shared(), inode.shared()) {
            return Err(Errno::EXDEV);
        }
        // A further name counts as an inode (shmem_link).
        if inode.stat()?.links > 0 && self.shared().quota.inodes().is_some_and(|(limit, used)| used >= limit) {
            return Err(Errno::ENOSPC);
        }
        self.attach(name, &inode)
    }

    fn remove(&self, name: &[u8], directory: bool) -> Result<(), Errno> {
        let victim = self.child(name)?;
        if directory != (victim.kind() == FileKind::Directory) {
            return Err(if directory { Errno::ENOTDIR } else { Errno::EISDIR });
        }
        TmpInode::close_directory(&victim)?;
        if self.entries()?.take(name).is_none() {
            return Err(Errno::ENOENT);
        }
        self.budget().give(Budget::entry(name));
        TmpInode::detached(&victim);
        self.touched(-i64::from(directory));
        Ok(())
    }

    fn rename(&self, name: &[u8], to: &dyn Directory, to_name: &[u8], flags: u32) -> Result<(), Errno> {
        let to = self.sibling(to)?;
        if flags & RENAME_EXCHANGE != 0 {
            return self.exchange(name, to, to_name);
        }
        if flags & RENAME_NOREPLACE != 0 && to.child(to_name).is_ok() {
            return Err(Errno::EEXIST);
        }
        self.displace(name, to, to_name, None)
    }

    fn list(&self, _task: &CurrentTask<'_>, position: u64, sink: &mut dyn DirSink) -> Result<(), Errno> {
        let mut position = position;
        self.accessed();
        loop {
            let batch: Vec<_> = {
                let entries = self.entries()?;
                let range = entries.by_position.range(position..).take(BATCH);
                range
                    .filter_map(|(at, name)| {
                        entries.get(name).map(|inode| (*at, name.clone(), inode.number(), inode.kind()))
                    })
                    .collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            for (at, name, inode, kind) in batch {
                position = at + 1;
                if !sink.entry(&DirEntry { name: &name, inode, kind, next: position }) {
                    return Ok(());
                }
            }
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
