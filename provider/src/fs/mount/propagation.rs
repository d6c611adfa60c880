//! Shared subtrees: what is mounted or unmounted below one mount happens below those, too, that are its peers or that follow it
//! (Documentation/filesystems/sharedsubtree.rst).
//!
//! Linux links mounts into rings and lists; here a mount names its peer group and the group it is a slave of, and [`Groups`] knows
//! the members of each. The results are the same: the slaves of one member are those of all.

use super::table::{MountTable, Tree};
use crate::fs::location::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The members and followers of peer groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: BTreeMap<u32, Group>,
}

#[derive(Debug, Default)]
struct Group {
    peers: BTreeSet<u32>,
    slaves: BTreeSet<u32>,
}

static NOBODY: BTreeSet<u32> = BTreeSet::new();

impl Groups {
    /// The members of a group.
    pub(super) fn peers(&self, group: u32) -> &BTreeSet<u32> {
        self.groups.get(&group).map_or(&NOBODY, |group| &group.peers)
    }

    /// The mounts that follow a group.
    pub(super) fn slaves(&self, group: u32) -> &BTreeSet<u32> {
        self.groups.get(&group).map_or(&NOBODY, |group| &group.slaves)
    }

    /// The lowest number that no group has; they are used again, as Linux's are.
    fn free(&self) -> u32 {
        (1..)
            .zip(self.groups.keys())
            .find(|(number, used)| number != *used)
            .map_or_else(|| u32::try_from(self.groups.len()).unwrap_or(u32::MAX - 1) + 1, |(number, _)| number)
    }
}

/// A mount that takes over what happens below another, and the groups that its copies join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) mount: u32,
    /// Which of the sources the copies are made of: 0 is what was mounted, others are the first copies in a following group.
    pub(super) source: usize,
    /// The copies follow their source instead of being its peers.
    pub(super) follows: bool,
    /// The copies start a group of their own, since the mount is shared.
    pub(super) shares: bool,
    /// The number under which the copies are the source of further ones.
    pub(super) becomes: Option<usize>,
}

impl Tree {
    /// Makes a mount a member of a group.
    pub(super) fn join(&mut self, id: u32, group: u32) {
        if group != 0 {
            self.node_mut(id).group = group;
            self.groups.groups.entry(group).or_default().peers.insert(id);
        }
    }

    /// Makes a mount follow a group.
    pub(super) fn follow(&mut self, id: u32, master: u32) {
        if master != 0 {
            self.node_mut(id).master = master;
            self.groups.groups.entry(master).or_default().slaves.insert(id);
        }
    }

    /// Gives a mount a group of its own, unless it has one (set_mnt_shared).
    pub(super) fn make_shared(&mut self, id: u32) {
        self.node_mut(id).unbindable = false;
        if self.node(id).group == 0 {
            let group = self.groups.free();
            self.join(id, group);
        }
    }

    /// Makes a mount follow its former peers (do_make_slave). The last of a group takes its followers along to its own master.
    pub(super) fn make_slave(&mut self, id: u32) {
        self.node_mut(id).unbindable = false;
        let (group, master) = (self.node(id).group, self.node(id).master);
        if group == 0 {
            return;
        }
        self.node_mut(id).group = 0;
        let Some(members) = self.groups.groups.get_mut(&group) else { return };
        members.peers.remove(&id);
        if !members.peers.is_empty() {
            self.stop_following(id);
            self.follow(id, group);
            return;
        }
        let orphans = self.groups.groups.remove(&group).map(|group| group.slaves).unwrap_or_default();
        for orphan in orphans {
            self.node_mut(orphan).master = 0;
            self.follow(orphan, master);
        }
    }

    /// Takes a mount out of all sharing.
    pub(super) fn make_private(&mut self, id: u32) {
        self.make_slave(id);
        self.stop_following(id);
    }

    fn stop_following(&mut self, id: u32) {
        let master = std::mem::take(&mut self.node_mut(id).master);
        if let Some(group) = self.groups.groups.get_mut(&master) {
            group.slaves.remove(&id);
        }
    }

    /// The mounts besides `dest` below which happens what happens below it, with what their copies are of: first the peers of a group,
    /// then its followers group by group (propagation_next). What is in no namespace takes over nothing (IS_MNT_NEW).
    pub(super) fn targets(&self, dest: u32) -> Vec<Target> {
        let mut targets = Vec::new();
        let first = self.node(dest).group;
        if first == 0 {
            return targets;
        }
        let mounted = |id: &u32| self.node(*id).namespace != 0;
        for peer in self.groups.peers(first).iter().filter(|peer| **peer != dest && mounted(peer)) {
            targets.push(Target { mount: *peer, source: 0, follows: false, shares: true, becomes: None });
        }
        let mut sources = 1;
        let mut pending = vec![(first, 0)];
        while let Some((group, source)) = pending.pop() {
            let mut seen = BTreeSet::new();
            for slave in self.groups.slaves(group).iter().filter(|slave| mounted(slave)) {
                let own = self.node(*slave).group;
                if own == 0 {
                    targets.push(Target { mount: *slave, source, follows: true, shares: false, becomes: None });
                    continue;
                }
                if !seen.insert(own) {
                    continue;
                }
                let becomes = Some(sources);
                targets.push(Target { mount: *slave, source, follows: true, shares: true, becomes });
                for peer in self.groups.peers(own).iter().filter(|peer| *peer != slave && mounted(peer)) {
                    let mount = *peer;
                    targets.push(Target { mount, source: sources, follows: false, shares: true, becomes: None });
                }
                pending.push((own, sources));
                sources += 1;
            }
        }
        targets
    }
}

impl MountTable {
    /// The mounts that go with those that are unmounted: at the same places below the peers and followers of the mounts below them,
    /// as far as nothing else is mounted on them (propagate_umount). A mount that lies right on the root of one that goes takes its place.
    pub(super) fn propagate_unmount(&self, tree: &mut Tree, ids: &[u32]) -> Vec<u32> {
        let mut going: BTreeSet<u32> = ids.iter().copied().collect();
        let mut found = Vec::new();
        // Deepest first: what goes from a mount no longer holds it.
        for id in ids.iter().rev() {
            let Some((below, entry)) = tree.node(*id).mount.place() else { continue };
            for target in tree.targets(below.id) {
                let Some(child) = self.child_at(target.mount, &entry) else { continue };
                if going.contains(&child.id) {
                    continue;
                }
                let rest: Vec<u32> =
                    tree.node(child.id).children.iter().copied().filter(|id| !going.contains(id)).collect();
                match rest[..] {
                    [] => {}
                    [topper] if covers_root(tree, topper, &child.root) => {
                        self.lift(tree, topper);
                        self.lift(tree, child.id);
                        self.put(tree, topper, target.mount, &entry);
                    }
                    _ => continue,
                }
                going.insert(child.id);
                found.push(child.id);
            }
        }
        found
    }
}

/// Tells whether a mount lies right on the root of the one below it.
pub(super) fn covers_root(tree: &Tree, id: u32, root: &Arc<Entry>) -> bool {
    tree.node(id).mount.place().is_some_and(|(_, entry)| Arc::ptr_eq(&entry, root))
}
