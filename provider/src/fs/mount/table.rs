//! The tree of mounts.

use super::propagation::Groups;
use super::{Looks, Mount, MountFlags, MountNamespace, Place, SuperBlock, make};
use crate::errno::Errno;
use crate::fs::location::{Entry, Location};
use crate::fs::usage::Usage;
use crate::sync::{Mutex, MutexGuard, Rank};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Mounts in one namespace (sysctl fs.mount-max): fewer than Linux permits, since unmounting shared ones takes the square of their number.
pub(super) const MOUNTS_MAX: usize = 4096;
/// The first mount's number, as a booted Linux has it.
const FIRST_ID: u32 = 21;

/// A mount that is to be made.
#[derive(Debug)]
pub(in crate::fs) struct NewMount<'a> {
    pub(in crate::fs) superblock: Arc<SuperBlock>,
    pub(in crate::fs) source: &'a [u8],
    pub(in crate::fs) flags: MountFlags,
}

/// What the tree knows of a mount.
pub(super) struct Node {
    pub(super) mount: Arc<Mount>,
    /// Whose it is; 0: it is in no namespace (any more, or yet).
    pub(super) namespace: u64,
    pub(super) parent: Option<u32>,
    /// In the order they were mounted.
    pub(super) children: Vec<u32>,
    /// The peer group it shares what is mounted below it with; 0: none.
    pub(super) group: u32,
    /// The peer group it takes over mounts from; 0: none.
    pub(super) master: u32,
    /// It is not bound elsewhere.
    pub(super) unbindable: bool,
}

/// All mounts of a sandbox, by number.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) nodes: BTreeMap<u32, Node>,
    pub(super) groups: Groups,
    /// How many mounts each namespace has.
    pub(super) counts: HashMap<u64, usize>,
    next_id: u32,
}

/// The tree, and what walks look at.
pub(in crate::fs) struct MountTable {
    tree: Mutex<Tree>,
    /// By the number of the mount below and the covered entry's address (which the mount keeps alive).
    covered: Mutex<HashMap<(u32, usize), Arc<Mount>>>,
    usage: Arc<Usage>,
    /// Changes of namespaces, for whoever polls /proc/PID/mounts.
    pub(super) changes: AtomicU64,
}

fn address(entry: &Arc<Entry>) -> usize {
    Arc::as_ptr(entry).addr()
}

impl Tree {
    /// A mount that exists.
    pub(super) fn node(&self, id: u32) -> &Node {
        self.nodes.get(&id).expect("the tree's own numbers name mounts that it has")
    }

    /// A mount that exists.
    pub(super) fn node_mut(&mut self, id: u32) -> &mut Node {
        self.nodes.get_mut(&id).expect("the tree's own numbers name mounts that it has")
    }

    /// A mount and all below it, parents first.
    pub(super) fn subtree(&self, id: u32) -> Vec<u32> {
        let mut all = vec![id];
        let mut at = 0;
        while at < all.len() {
            all.extend_from_slice(&self.node(all[at]).children);
            at += 1;
        }
        all
    }

    /// Tells whether `id` is `above` or lies below it.
    pub(super) fn is_below(&self, id: u32, above: u32) -> bool {
        let mut at = Some(id);
        while let Some(id) = at {
            if id == above {
                return true;
            }
            at = self.node(id).parent;
        }
        false
    }

    /// Takes a mount in that is nowhere yet.
    pub(super) fn add(
        &mut self,
        superblock: &Arc<SuperBlock>,
        root: &Arc<Entry>,
        (source, flags): (&[u8], MountFlags),
        usage: &Arc<Usage>,
    ) -> u32 {
        let id = FIRST_ID.max(self.next_id);
        self.next_id = id.wrapping_add(1);
        let mount = make(id, superblock, root, &Looks { source, flags }, usage);
        let node =
            Node { mount, namespace: 0, parent: None, children: Vec::new(), group: 0, master: 0, unbindable: false };
        self.nodes.insert(id, node);
        id
    }
}

impl MountTable {
    /// Makes a table with the root of the first namespace.
    pub(in crate::fs) fn new(new: &NewMount<'_>) -> (Arc<Self>, Arc<MountNamespace>) {
        let table = Arc::new(Self {
            tree: Mutex::new(Rank::Mounts, Tree::default()),
            covered: Mutex::new(Rank::Leaf, HashMap::new()),
            usage: Arc::default(),
            changes: AtomicU64::new(1),
        });
        let mut tree = table.tree();
        let root = tree.add(&new.superblock, &new.superblock.root, (new.source, new.flags), &table.usage);
        let namespace = MountNamespace::new(&table, root);
        tree.node_mut(root).namespace = namespace.id();
        tree.counts.insert(namespace.id(), 1);
        drop(tree);
        (table, namespace)
    }

    pub(super) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock()
    }

    /// Who uses the files.
    pub(in crate::fs) fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// The mount that covers exactly this place, under whatever covers that in turn.
    pub(super) fn child_at(&self, mount: u32, entry: &Arc<Entry>) -> Option<Arc<Mount>> {
        if !entry.is_mount_point() {
            return None;
        }
        self.covered.lock().get(&(mount, address(entry))).cloned()
    }

    /// The root of what is mounted at a place, or the place itself.
    pub(in crate::fs) fn top(&self, mut at: Location) -> Location {
        while let Some(mount) = at.mount().and_then(|mount| self.child_at(mount.id, at.entry())) {
            at = mount.top();
        }
        at
    }

    /// Puts a mount that is nowhere at a place where nothing is.
    pub(super) fn put(&self, tree: &mut Tree, id: u32, below: u32, entry: &Arc<Entry>) {
        let mount = tree.node(id).mount.clone();
        let place = Place { below: tree.node(below).mount.clone(), covering: Entry::cover(entry) };
        let old = mount.place.lock().replace(place);
        debug_assert!(old.is_none(), "a mount is at one place");
        let before = self.covered.lock().insert((below, address(entry)), mount);
        debug_assert!(before.is_none(), "a place is covered by one mount; the next covers that one's root");
        tree.node_mut(id).parent = Some(below);
        tree.node_mut(below).children.push(id);
    }

    /// Takes a mount from its place.
    pub(super) fn lift(&self, tree: &mut Tree, id: u32) {
        let mount = tree.node(id).mount.clone();
        let place = mount.place.lock().take();
        if let Some(place) = &place {
            let key = (place.below.id, address(place.covering.entry()));
            let gone = self.covered.lock().remove(&key);
            drop(gone);
        }
        if let Some(parent) = tree.node_mut(id).parent.take() {
            tree.node_mut(parent).children.retain(|child| *child != id);
        }
    }

    /// Forgets mounts; the caller drops what is returned where no lock is held.
    pub(super) fn forget(&self, tree: &mut Tree, ids: &[u32]) -> Vec<Arc<Mount>> {
        let mut gone = Vec::new();
        for id in ids {
            self.lift(tree, *id);
            tree.make_private(*id);
        }
        for id in ids {
            let Some(node) = tree.nodes.remove(id) else { continue };
            if let Some(count) = tree.counts.get_mut(&node.namespace) {
                *count = count.saturating_sub(1);
            }
            gone.push(node.mount);
        }
        self.changed();
        gone
    }

    /// Notes that a namespace has changed.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// Makes a mount and puts it on top of what is at a place; `ENOSPC` if there are too many.
    pub(in crate::fs) fn mount(&self, new: &NewMount<'_>, at: Location) -> Result<(), Errno> {
        let at = self.top(at);
        let Some(below) = at.mount().map(|mount| mount.id) else { return Err(Errno::EINVAL) };
        let mut tree = self.tree();
        let id = tree.add(&new.superblock, &new.superblock.root, (new.source, new.flags), &self.usage);
        let done = self.attach(&mut tree, id, below, at.entry());
        let gone = if done.is_err() { self.forget(&mut tree, &[id]) } else { Vec::new() };
        drop(tree);
        drop(gone);
        done
    }
}

impl fmt::Debug for MountTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountTable").field("mounts", &self.covered.lock().len()).finish_non_exhaustive()
    }
}
