//! What mount(2), umount2(2) and pivot_root(2) do once their paths are walked, with the checks of fs/namespace.c in its order.
//!
//! Who calls has checked that the caller may mount at all.

use super::attach::Unbindable;
use super::table::{NewMount, Tree};
use super::{Mount, MountFlags, MountNamespace};
use crate::errno::Errno;
use crate::fs::location::Location;
use crate::fs::{FileKind, Namespace};
use crate::task::CurrentTask;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How a mount shares what is mounted below it (MS_SHARED and its kin).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// With its peers.
    Shared,
    /// It takes over, and gives nothing.
    Slave,
    /// Not at all.
    Private,
    /// Not at all, and it is not bound elsewhere.
    Unbindable,
}

/// Where a mount goes among those that lie at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Over all others.
    OnTop,
    /// Beneath the one that is seen (MOVE_MOUNT_BENEATH).
    Beneath,
}

/// Whether an operation goes for what is mounted below, too (MS_REC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// This mount alone.
    One,
    /// The whole tree.
    Tree,
}

bitflags::bitflags! {
    /// umount2(2)'s flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct UnmountFlags: u32 {
        /// Even if the server does not answer.
        const FORCE = 1;
        /// Now from the tree, later for good.
        const DETACH = 2;
        /// Only what nobody has used since the last such call.
        const EXPIRE = 4;
        /// A last symbolic link is not followed.
        const NOFOLLOW = 8;
    }
}

/// The mount whose root a place is.
fn mount_at(place: &Location) -> Result<&Arc<Mount>, Errno> {
    place.mount().filter(|_| place.is_mount_root()).ok_or(Errno::EINVAL)
}

/// `EINVAL` unless the mount is one of the namespace's.
fn check_ours(tree: &Tree, namespace: &MountNamespace, id: u32) -> Result<(), Errno> {
    let ours = tree.nodes.get(&id).is_some_and(|node| node.namespace == namespace.id());
    if ours { Ok(()) } else { Err(Errno::EINVAL) }
}

/// As [`check_ours`], for calls that also take what an open file alone keeps (a detached tree).
fn check_ours_or_detached(tree: &Tree, namespace: &MountNamespace, id: u32) -> Result<(), Errno> {
    let detached = tree.nodes.get(&id).is_some_and(|node| node.namespace == 0);
    if detached { Ok(()) } else { check_ours(tree, namespace, id) }
}

fn is_directory(place: &Location) -> bool {
    place.kind() == FileKind::Directory
}

impl Namespace {
    /// The place under which something is to be mounted: the top one there. `ENOENT` if its name is gone.
    fn mount_point(&self, at: &Location) -> Result<(Location, u32), Errno> {
        let at = self.mounts.top(at.clone());
        let mount = at.mount().ok_or(Errno::EINVAL)?.id;
        if at.is_removed() { Err(Errno::ENOENT) } else { Ok((at, mount)) }
    }

    /// Mounts a file system (do_add_mount). `EBUSY` if the same one lies on top there already.
    pub(in crate::fs) fn mount_new(
        &self,
        task: &CurrentTask<'_>,
        new: &NewMount<'_>,
        at: &Location,
    ) -> Result<(), Errno> {
        let (at, below) = self.mount_point(at)?;
        let namespace = task.fs().mounts();
        let mut tree = self.mounts.tree();
        check_ours(&tree, &namespace, below)?;
        let same = at.is_mount_root() && Arc::ptr_eq(&tree.node(below).mount.superblock, &new.superblock);
        if same {
            return Err(Errno::EBUSY);
        }
        let root = &new.superblock.root;
        if is_directory(&at) != (root.inode().kind() == FileKind::Directory) {
            return Err(Errno::ENOTDIR);
        }
        let id = tree.add(&new.superblock, root, (new.source, new.flags), self.mounts.usage());
        let done = self.mounts.attach(&mut tree, id, below, at.entry());
        let gone = if done.is_err() { self.mounts.forget(&mut tree, &[id]) } else { Vec::new() };
        drop(tree);
        drop(gone);
        done
    }

    /// Shows what is at `from` at another place, too (do_loopback).
    pub fn bind(&self, task: &CurrentTask<'_>, from: &Location, at: &Location, depth: Depth) -> Result<(), Errno> {
        let (at, below) = self.mount_point(at)?;
        let namespace = task.fs().mounts();
        let source = from.mount().ok_or(Errno::EINVAL)?.id;
        let mut tree = self.mounts.tree();
        check_ours(&tree, &namespace, below)?;
        if tree.nodes.get(&source).is_some_and(|node| node.unbindable) {
            return Err(Errno::EINVAL);
        }
        check_ours(&tree, &namespace, source)?;
        let copy = match depth {
            Depth::One => {
                let copy = self.mounts.copy_one(&mut tree, source, from.entry());
                tree.node_mut(copy).unbindable = false;
                copy
            }
            Depth::Tree => self.mounts.copy_tree(&mut tree, source, from.entry(), Unbindable::LeftOut)?.0,
        };
        let done = match is_directory(&at) == is_directory(from) {
            true => self.mounts.attach(&mut tree, copy, below, at.entry()),
            false => Err(Errno::ENOTDIR),
        };
        let copies = if done.is_err() { tree.subtree(copy) } else { Vec::new() };
        let gone = if done.is_err() { self.mounts.forget(&mut tree, &copies) } else { Vec::new() };
        drop(tree);
        drop(gone);
        done
    }

    /// Moves a mount with all below it, or a tree that is nowhere yet, on top of what is at a place or beneath it (do_move_mount).
    pub fn move_mount(&self, task: &CurrentTask<'_>, from: &Location, at: &Location, to: Layer) -> Result<(), Errno> {
        let (at, top) = self.mount_point(at)?;
        let (namespace, root) = (task.fs().mounts(), task.fs().root());
        let mut tree = self.mounts.tree();
        check_ours(&tree, &namespace, top)?;
        let id = mount_at(from)?.id;
        check_ours_or_detached(&tree, &namespace, id)?;
        let parent = tree.node(id).parent;
        if parent.is_none() && tree.node(id).namespace != 0 {
            return Err(Errno::EINVAL);
        }
        let (below, entry) = match to {
            Layer::OnTop => (top, at.entry().clone()),
            Layer::Beneath => {
                let (below, entry) = mount_at(&at)?.place().ok_or(Errno::EINVAL)?;
                let root = root.mount().map(|mount| mount.id);
                // Not beneath what somebody has as root, nor beneath itself (can_move_mount_beneath).
                if root == Some(top) || id == top || below.id == id {
                    return Err(Errno::EINVAL);
                }
                (below.id, entry)
            }
        };
        let unbindable = tree.subtree(id).iter().any(|id| tree.node(*id).unbindable);
        if is_directory(&at) != is_directory(from)
            || parent.is_some_and(|parent| tree.node(parent).group != 0)
            || (tree.node(below).group != 0 && unbindable)
        {
            return Err(Errno::EINVAL);
        }
        if tree.is_below(below, id) {
            return Err(Errno::ELOOP);
        }
        let old = tree.node(id).mount.place();
        self.mounts.lift(&mut tree, id);
        let done = self.mounts.attach(&mut tree, id, below, &entry);
        if let (Err(_), Some((below, entry))) = (&done, old) {
            self.mounts.put(&mut tree, id, below.id, &entry);
        }
        done
    }

    /// Changes how a mount is shared (do_change_type).
    pub fn change_propagation(
        &self,
        task: &CurrentTask<'_>,
        at: &Location,
        to: Propagation,
        depth: Depth,
    ) -> Result<(), Errno> {
        let id = mount_at(at)?.id;
        let namespace = task.fs().mounts();
        let mut tree = self.mounts.tree();
        check_ours(&tree, &namespace, id)?;
        let all = if depth == Depth::Tree { tree.subtree(id) } else { vec![id] };
        for id in all {
            match to {
                Propagation::Shared => tree.make_shared(id),
                Propagation::Slave => tree.make_slave(id),
                Propagation::Private => tree.make_private(id),
                Propagation::Unbindable => {
                    tree.make_private(id);
                    tree.node_mut(id).unbindable = true;
                }
            }
        }
        self.mounts.changed();
        Ok(())
    }

    /// Changes what holds for one mount or a tree; `EBUSY` if one becomes read-only that is being written.
    pub fn change_mount_flags(
        &self,
        task: &CurrentTask<'_>,
        at: &Location,
        depth: Depth,
        change: impl Fn(MountFlags) -> MountFlags,
    ) -> Result<(), Errno> {
        let id = mount_at(at)?.id;
        let namespace = task.fs().mounts();
        let tree = self.mounts.tree();
        check_ours_or_detached(&tree, &namespace, id)?;
        let all = if depth == Depth::Tree { tree.subtree(id) } else { vec![id] };
        self.mounts.set_flags_of(&tree, &all, change)
    }

    /// Makes a file system read-only or writable, whichever mount shows it (do_remount's part of the superblock).
    pub(in crate::fs) fn set_file_system_read_only(
        &self,
        task: &CurrentTask<'_>,
        at: &Location,
        read_only: bool,
    ) -> Result<(), Errno> {
        let mount = mount_at(at)?;
        let superblock = mount.superblock.clone();
        let namespace = task.fs().mounts();
        let tree = self.mounts.tree();
        check_ours(&tree, &namespace, mount.id)?;
        if superblock.fixed.load(Ordering::Relaxed) && !read_only {
            // As for a device that cannot be written.
            return Err(Errno::EACCES);
        }
        let mut mounts = tree.nodes.values().map(|node| &node.mount);
        let becomes = read_only && !superblock.read_only.load(Ordering::Relaxed);
        if becomes && mounts.any(|mount| Arc::ptr_eq(&mount.superblock, &superblock) && mount.has_writers()) {
            return Err(Errno::EBUSY);
        }
        superblock.set_read_only(read_only);
        Ok(())
    }

    /// Unmounts what a place is the root of (do_umount). `at` is the caller's only reference to it.
    pub fn unmount(&self, task: &CurrentTask<'_>, at: Location, flags: UnmountFlags) -> Result<(), Errno> {
        let mount = mount_at(&at)?.clone();
        let root = task.fs().root();
        let namespace = task.fs().mounts();
        let mut tree = self.mounts.tree();
        check_ours(&tree, &namespace, mount.id)?;
        let is_root = root.mount().is_some_and(|root| Arc::ptr_eq(root, &mount));
        drop(root);
        // `at`, `mount`, and the root that was just dropped.
        let own = 2;
        if flags.contains(UnmountFlags::EXPIRE) {
            if is_root || flags.intersects(UnmountFlags::FORCE | UnmountFlags::DETACH) {
                return Err(Errno::EINVAL);
            }
            if self.mounts.is_busy(&tree, mount.id, own) {
                return Err(Errno::EBUSY);
            }
            if !mount.expiring.swap(true, Ordering::SeqCst) {
                return Err(Errno::EAGAIN);
            }
        }
        if tree.node(mount.id).parent.is_none() {
            // The tree's root: Linux makes it read-only, which cannot be while it is used.
            return Err(if flags.contains(UnmountFlags::DETACH) { Errno::EINVAL } else { Errno::EBUSY });
        }
        if !flags.contains(UnmountFlags::DETACH) && self.mounts.is_busy_anywhere(&tree, mount.id, own) {
            return Err(Errno::EBUSY);
        }
        let gone = self.mounts.unmount_tree(&mut tree, mount.id);
        drop(tree);
        drop(gone);
        Ok(())
    }

    /// Unmounts whatever lies on an entry whose name is gone, in the namespaces where it could be removed (detach_mounts).
    pub(in crate::fs) fn detach_from(&self, place: &Location) {
        if !place.entry().is_mount_point() {
            return;
        }
        let mut tree = self.mounts.tree();
        let covers = |mount: &Arc<Mount>| mount.place().is_some_and(|(_, entry)| Arc::ptr_eq(&entry, place.entry()));
        let ids: Vec<u32> = tree.nodes.values().filter(|node| covers(&node.mount)).map(|node| node.mount.id).collect();
        let mut gone = Vec::new();
        for id in ids {
            if tree.nodes.contains_key(&id) {
                let all = tree.subtree(id);
                gone.extend(self.mounts.forget(&mut tree, &all));
            }
        }
        drop(tree);
        drop(gone);
    }

    /// Makes `new` the root of the tree and puts the old root at `put_old` (pivot_root).
    pub fn pivot_root(&self, task: &CurrentTask<'_>, new: &Location, put_old: &Location) -> Result<(), Errno> {
        let (put_old, _) = self.mount_point(put_old)?;
        let namespace = task.fs().mounts();
        let root = task.fs().root();
        let ids = |place: &Location| place.mount().map(|mount| mount.id).ok_or(Errno::EINVAL);
        let (new_id, root_id, old_id) = (ids(new)?, ids(&root)?, ids(&put_old)?);
        let mut tree = self.mounts.tree();
        for id in [root_id, new_id] {
            check_ours(&tree, &namespace, id)?;
        }
        let (new_parent, root_parent) = (tree.node(new_id).parent, tree.node(root_id).parent);
        let shared = |id: Option<u32>| id.is_some_and(|id| tree.nodes.get(&id).is_some_and(|node| node.group != 0));
        if shared(Some(old_id)) || shared(new_parent) || shared(root_parent) {
            return Err(Errno::EINVAL);
        }
        if new.is_removed() {
            return Err(Errno::ENOENT);
        }
        if new_id == root_id || old_id == root_id {
            return Err(Errno::EBUSY);
        }
        let below = |place: &Location, above: &Location| {
            let mut at = Some(place.clone());
            std::iter::from_fn(|| {
                let place = at.take()?;
                at = place.parent_through();
                Some(place)
            })
            .any(|place| place.is_same(above))
        };
        if !root.is_mount_root() || !new.is_mount_root() || new_parent.is_none() {
            return Err(Errno::EINVAL);
        }
        if !below(&put_old, new) || !below(new, &root) {
            return Err(Errno::EINVAL);
        }
        let root_place = tree.node(root_id).mount.place();
        self.mounts.lift(&mut tree, new_id);
        self.mounts.lift(&mut tree, root_id);
        match root_place {
            Some((below, entry)) => self.mounts.put(&mut tree, new_id, below.id, &entry),
            None => namespace.set_root(new_id),
        }
        self.mounts.put(&mut tree, root_id, old_id, put_old.entry());
        self.mounts.changed();
        drop(tree);
        self.change_roots(task, &root, new);
        Ok(())
    }

    /// Whoever had the old root as root or working directory has the new one (chroot_fs_refs).
    fn change_roots(&self, task: &CurrentTask<'_>, from: &Location, to: &Location) {
        for other in task.kernel().tasks().all() {
            let Some(context) = other.fs() else { continue };
            if context.root().is_same(from) {
                context.change_root(to.clone());
            }
            if context.cwd().is_same(from) {
                context.change_cwd(to.clone());
            }
        }
    }
}
