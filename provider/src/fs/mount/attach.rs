//! Copies of trees of mounts, and putting them where they are to be.

use super::MountFlags;
use super::propagation::{Target, covers_root};
use super::table::{MOUNTS_MAX, MountTable, Tree};
use crate::errno::Errno;
use crate::fs::location::Entry;
use std::collections::HashMap;
use std::sync::Arc;

/// What becomes of unbindable mounts in a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unbindable {
    /// They are left out; a copy of one alone is `EINVAL`.
    LeftOut,
    /// They are copied, too (a new namespace).
    Copied,
}

impl MountTable {
    /// A copy of one mount that shows what is at `root`, in the same groups.
    pub(super) fn copy_one(&self, tree: &mut Tree, id: u32, root: &Arc<Entry>) -> u32 {
        let node = tree.node(id);
        let (mount, group, master, unbindable) = (node.mount.clone(), node.group, node.master, node.unbindable);
        let copy = tree.add(&mount.superblock, root, (&mount.source, mount.flags()), &mount.usage);
        tree.join(copy, group);
        tree.follow(copy, master);
        tree.node_mut(copy).unbindable = unbindable;
        copy
    }

    /// A copy of a mount with what is mounted at and below `root`; returns its root and pairs of mounts and their copies, parents first.
    pub(super) fn copy_tree(
        &self,
        tree: &mut Tree,
        id: u32,
        root: &Arc<Entry>,
        unbindable: Unbindable,
    ) -> Result<(u32, Vec<(u32, u32)>), Errno> {
        let left_out = |tree: &Tree, id: u32| unbindable == Unbindable::LeftOut && tree.node(id).unbindable;
        if left_out(tree, id) {
            return Err(Errno::EINVAL);
        }
        let copy = self.copy_one(tree, id, root);
        let mut pairs = vec![(id, copy)];
        let mut at = 0;
        while at < pairs.len() {
            let (old, new) = pairs[at];
            for child in tree.node(old).children.clone() {
                let Some((_, entry)) = tree.node(child).mount.place() else { continue };
                if left_out(tree, child) || (at == 0 && !entry.is_within(root)) {
                    continue;
                }
                let child_root = tree.node(child).mount.root.clone();
                let copied = self.copy_one(tree, child, &child_root);
                self.put(tree, copied, new, &entry);
                pairs.push((child, copied));
            }
            at += 1;
        }
        Ok((copy, pairs))
    }

    /// Puts a tree of mounts that is nowhere at a place, and copies of it at the same place below the peers and followers of the mount
    /// there (attach_recursive_mnt). `ENOSPC` if a namespace had too many mounts then.
    pub(super) fn attach(&self, tree: &mut Tree, id: u32, dest: u32, entry: &Arc<Entry>) -> Result<(), Errno> {
        let members = tree.subtree(id);
        let targets: Vec<Target> = tree.targets(dest);
        let reaches = |tree: &Tree, target: &Target| entry.is_within(&tree.node(target.mount).mount.root);
        self.check_room(tree, dest, &targets, members.len())?;
        if tree.node(dest).group != 0 {
            members.iter().for_each(|member| tree.make_shared(*member));
        }
        let mut sources: HashMap<usize, u32> = HashMap::from([(0, id)]);
        let mut copies = Vec::new();
        for target in &targets {
            let source = sources.get(&target.source).copied().unwrap_or(id);
            if !reaches(tree, target) {
                // What follows it takes its copies from where it would have.
                target.becomes.map(|number| sources.insert(number, source));
                continue;
            }
            let root = tree.node(source).mount.root.clone();
            let (copy, pairs) = self.copy_tree(tree, source, &root, Unbindable::Copied)?;
            for (old, new) in pairs {
                if target.follows {
                    tree.make_private(new);
                    let group = tree.node(old).group;
                    tree.follow(new, group);
                }
                if target.shares {
                    tree.make_shared(new);
                }
            }
            target.becomes.map(|number| sources.insert(number, copy));
            copies.push((copy, target.mount));
        }
        self.put_beneath(tree, id, dest, entry);
        for (copy, below) in copies {
            self.put_beneath(tree, copy, below, entry);
        }
        self.changed();
        Ok(())
    }

    /// `ENOSPC` if there are too many mounts for one more that is in no namespace.
    pub(super) fn check_detached(&self, tree: &Tree) -> Result<(), Errno> {
        if tree.nodes.len() < 2 * MOUNTS_MAX { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    fn check_room(&self, tree: &Tree, dest: u32, targets: &[Target], count: usize) -> Result<(), Errno> {
        let mut more: HashMap<u64, usize> = HashMap::new();
        for mount in targets.iter().map(|target| target.mount).chain([dest]) {
            *more.entry(tree.node(mount).namespace).or_default() += count;
        }
        let fits = |(namespace, more): (&u64, &usize)| {
            tree.counts.get(namespace).copied().unwrap_or_default() + more <= MOUNTS_MAX
        };
        // The namespaces' own bounds do not bound what propagation makes of one call.
        if more.iter().all(fits) && more.values().sum::<usize>() + tree.nodes.len() <= 2 * MOUNTS_MAX {
            Ok(())
        } else {
            Err(Errno::ENOSPC)
        }
    }

    /// Puts a tree at a place, in the namespace of the mount there; what covers the place lies on the tree's root then.
    fn put_beneath(&self, tree: &mut Tree, id: u32, below: u32, entry: &Arc<Entry>) {
        let covering = self.child_at(below, entry).map(|mount| mount.id);
        if let Some(covering) = covering {
            self.lift(tree, covering);
        }
        self.put(tree, id, below, entry);
        let namespace = tree.node(below).namespace;
        for member in tree.subtree(id) {
            let before = std::mem::replace(&mut tree.node_mut(member).namespace, namespace);
            if before != namespace {
                if let Some(count) = tree.counts.get_mut(&before) {
                    *count = count.saturating_sub(1);
                }
                *tree.counts.entry(namespace).or_default() += 1;
            }
        }
        if let Some(covering) = covering {
            let root = tree.node(id).mount.root.clone();
            self.put(tree, covering, id, &root);
        }
    }

    /// Unmounts a mount with all below it and what goes with them elsewhere; returns what is to be dropped where no lock is held.
    pub(super) fn unmount_tree(&self, tree: &mut Tree, id: u32) -> Vec<Arc<super::Mount>> {
        let mut all = tree.subtree(id);
        let more = self.propagate_unmount(tree, &all);
        all.extend(more);
        self.forget(tree, &all)
    }

    /// Tells whether somebody uses a mount, beyond the table and `own` references of the caller's: open files, working directories,
    /// other mounts below it.
    pub(super) fn is_busy(&self, tree: &Tree, id: u32, own: usize) -> bool {
        let node = tree.node(id);
        // The node's, and the table's of covered places.
        let known = 1 + usize::from(node.parent.is_some()) + own;
        !node.children.is_empty() || Arc::strong_count(&node.mount) > known
    }

    /// Tells whether the unmounting of a mount would meet one in use, there or where it is propagated to (propagate_mount_busy).
    pub(super) fn is_busy_anywhere(&self, tree: &Tree, id: u32, own: usize) -> bool {
        if self.is_busy(tree, id, own) {
            return true;
        }
        let Some((below, entry)) = tree.node(id).mount.place() else { return false };
        tree.targets(below.id).iter().any(|target| {
            let Some(child) = self.child_at(target.mount, &entry) else { return false };
            let children = &tree.node(child.id).children;
            let topper = matches!(children[..], [only] if covers_root(tree, only, &child.root));
            // The table's two, ours, and the topper's.
            let known = 3 + usize::from(topper);
            (children.is_empty() || topper) && Arc::strong_count(&child) > known
        })
    }

    /// Says what holds for the mounts of a whole tree.
    pub(super) fn set_flags_of(
        &self,
        tree: &Tree,
        ids: &[u32],
        change: impl Fn(MountFlags) -> MountFlags,
    ) -> Result<(), Errno> {
        let changes = |id: &u32| {
            let mount = &tree.node(*id).mount;
            (mount.clone(), change(mount.flags()))
        };
        let becomes = |(mount, flags): &(Arc<super::Mount>, MountFlags)| {
            flags.contains(MountFlags::READ_ONLY) && !mount.flags().contains(MountFlags::READ_ONLY)
        };
        let all: Vec<_> = ids.iter().map(changes).collect();
        if all.iter().any(|change| becomes(change) && change.0.has_writers()) {
            return Err(Errno::EBUSY);
        }
        for (mount, flags) in all {
            mount.set_flags(flags)?;
        }
        self.changed();
        Ok(())
    }
}
