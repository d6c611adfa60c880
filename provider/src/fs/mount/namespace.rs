//! Mount namespaces, see mount_namespaces(7).

use super::table::{MountTable, Tree};
use super::{Mount, MountFlags};
use crate::errno::Errno;
use crate::fs::FsContext;
use crate::fs::location::Location;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The first namespace's inode number (MNT_NS_INIT_INO); those made later count up from there, as /proc/PID/ns shows them.
const FIRST: u64 = 0xEFFF_FFF8;
/// Where the numbers of namespaces start that programs make (PROC_DYNAMIC_FIRST).
static NEXT: AtomicU64 = AtomicU64::new(0xF000_0000);

/// A number for a namespace of any kind that a program makes.
pub(crate) fn new_number() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The mounts that some tasks see. With the last of them they are unmounted.
pub struct MountNamespace {
    id: u64,
    table: Arc<MountTable>,
    root: AtomicU32,
}

/// How a mount is shared, as /proc/PID/mountinfo and statmount(2) show it; 0: not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// The peer group.
    pub group: u32,
    /// The group it takes mounts over from.
    pub master: u32,
    /// The nearest group above that one which the reader can see.
    pub from: u32,
    /// It is not bound elsewhere.
    pub unbindable: bool,
}

impl MountNamespace {
    /// Makes the first one.
    pub(super) fn new(table: &Arc<MountTable>, root: u32) -> Arc<Self> {
        Arc::new(Self { id: FIRST, table: table.clone(), root: AtomicU32::new(root) })
    }

    /// The number in /proc/PID/ns.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn root_id(&self) -> u32 {
        self.root.load(Ordering::SeqCst)
    }

    pub(super) fn set_root(&self, id: u32) {
        self.root.store(id, Ordering::SeqCst);
    }

    /// The root of the tree: of what is mounted on top there.
    pub fn root(&self) -> Location {
        let root = self.table.tree().node(self.root_id()).mount.clone();
        self.table.top(root.top())
    }

    /// Its mounts in the order they were made, with how they are shared.
    pub fn list(&self) -> Vec<(Arc<Mount>, Sharing)> {
        let tree = self.table.tree();
        let ours = tree.nodes.values().filter(|node| node.namespace == self.id);
        ours.map(|node| (node.mount.clone(), self.sharing_of(&tree, node.mount.id))).collect()
    }

    /// How a mount is shared.
    pub fn sharing(&self, id: u32) -> Option<Sharing> {
        let tree = self.table.tree();
        tree.nodes.get(&id).filter(|node| node.namespace == self.id).map(|_| self.sharing_of(&tree, id))
    }

    fn sharing_of(&self, tree: &Tree, id: u32) -> Sharing {
        let node = tree.node(id);
        let mut from = 0;
        let mut group = node.master;
        // The nearest of the groups above that has a member here (get_dominating_id).
        while group != 0 {
            if tree.groups.peers(group).iter().any(|peer| tree.node(*peer).namespace == self.id) {
                from = group;
                break;
            }
            group = tree.groups.peers(group).first().map_or(0, |peer| tree.node(*peer).master);
        }
        let from = if from == node.master { 0 } else { from };
        Sharing { group: node.group, master: node.master, from, unbindable: node.unbindable }
    }

    /// Changes so far, of this namespace and others.
    pub fn changes(&self) -> u64 {
        self.table.changes.load(Ordering::SeqCst)
    }

    /// A copy of all mounts, and the root and working directory of `context` in it (copy_mnt_ns).
    pub fn copy(&self, context: &FsContext) -> Result<Arc<Self>, Errno> {
        let table = &self.table;
        let (root, cwd) = (context.root(), context.cwd());
        let mut tree = table.tree();
        let old = tree.node(self.root_id()).mount.clone();
        let (new_root, pairs) = table.copy_tree(&mut tree, old.id, &old.root, super::attach::Unbindable::Copied)?;
        let namespace = Arc::new(Self { id: new_number(), table: table.clone(), root: AtomicU32::new(new_root) });
        for (_, copy) in &pairs {
            tree.node_mut(*copy).namespace = namespace.id;
        }
        tree.counts.insert(namespace.id, pairs.len());
        let moved = |place: Location| {
            let copy = place.mount().and_then(|mount| pairs.iter().find(|(old, _)| *old == mount.id));
            match copy {
                Some((_, copy)) => Location::new(tree.node(*copy).mount.clone(), place.entry().clone()),
                None => place,
            }
        };
        let (root, cwd) = (moved(root), moved(cwd));
        drop(tree);
        context.change_root(root);
        context.change_cwd(cwd);
        context.change_mounts(namespace.clone());
        Ok(namespace)
    }

    /// Makes a task's context one of this namespace (mntns_install).
    pub fn enter(self: &Arc<Self>, context: &FsContext) {
        let root = self.root();
        context.change_root(root.clone());
        context.change_cwd(root);
        context.change_mounts(self.clone());
    }
}

impl Drop for MountNamespace {
    fn drop(&mut self) {
        let mut tree = self.table.tree();
        let all: Vec<u32> =
            tree.nodes.values().filter(|node| node.namespace == self.id).map(|it| it.mount.id).collect();
        let gone = self.table.forget(&mut tree, &all);
        tree.counts.remove(&self.id);
        drop(tree);
        drop(gone);
    }
}

impl fmt::Debug for MountNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountNamespace").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The words of mount options for what holds for a mount, but for `ro` and `rw` (show_mnt_opts).
pub(crate) fn option_words(flags: MountFlags) -> Vec<&'static str> {
    let words = [
        (MountFlags::NOSUID, "nosuid"),
        (MountFlags::NODEV, "nodev"),
        (MountFlags::NOEXEC, "noexec"),
        (MountFlags::NOATIME, "noatime"),
        (MountFlags::NODIRATIME, "nodiratime"),
        (MountFlags::RELATIME, "relatime"),
        (MountFlags::NOSYMFOLLOW, "nosymfollow"),
    ];
    words.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, word)| word).collect()
}
