//! Who uses which file: what open files and running programs forbid each other (`ETXTBSY`), and when an object is gone for good.
//!
//! Linux counts in the inode (`i_writecount`); objects of the host's have none of ours, so one table counts, by the object's place in
//! memory, which whoever is counted keeps. Only what was opened by a path is counted, as on Linux: a memfd may be executed through
//! the descriptor that wrote it.

use super::mount::{Mount, Writing};
use super::notify::{Mask, Watches};
use super::{FileKind, Inode, Location};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Open files.
    opens: u32,
    /// Those of them that write.
    writers: u32,
    /// Programs that run it.
    texts: u32,
}

/// The counts of all files of a view.
#[derive(Debug)]
pub(super) struct Usage {
    watches: Arc<Watches>,
    counts: Mutex<HashMap<usize, Counts>>,
}

impl Default for Usage {
    fn default() -> Self {
        Self { watches: Arc::default(), counts: Mutex::new(Rank::Leaf, HashMap::new()) }
    }
}

fn key(inode: &Arc<dyn Inode>) -> usize {
    Arc::as_ptr(inode).addr()
}

/// Counts an open file until it is dropped.
#[derive(Debug)]
pub(super) struct Opened {
    usage: Arc<Usage>,
    inode: Arc<dyn Inode>,
    writes: bool,
    /// Through which mount it is written.
    _writing: Option<Writing>,
}

/// Keeps a program's file from being written until it is dropped (deny_write_access).
#[derive(Debug)]
pub struct TextGuard {
    usage: Arc<Usage>,
    inode: Arc<dyn Inode>,
}

impl Usage {
    /// Who is told of what happens.
    pub(super) fn watches(&self) -> &Arc<Watches> {
        &self.watches
    }

    /// Counts an open file; `ETXTBSY` if it writes what is being run.
    fn open(self: &Arc<Self>, mount: &Arc<Mount>, inode: &Arc<dyn Inode>, writes: bool) -> Result<Opened, Errno> {
        let writes = writes && inode.kind() == FileKind::Regular;
        {
            let mut counts = self.counts.lock();
            if writes && counts.get(&key(inode)).is_some_and(|counts| counts.texts > 0) {
                return Err(Errno::ETXTBSY);
            }
            let entry = counts.entry(key(inode)).or_default();
            entry.opens += 1;
            entry.writers += u32::from(writes);
        }
        Ok(Opened {
            usage: self.clone(),
            inode: inode.clone(),
            writes,
            _writing: writes.then(|| Writing::through(mount)),
        })
    }

    fn deny_writes(self: &Arc<Self>, inode: &Arc<dyn Inode>) -> Result<TextGuard, Errno> {
        {
            let mut counts = self.counts.lock();
            let entry = counts.entry(key(inode)).or_default();
            if entry.writers > 0 {
                return Err(Errno::ETXTBSY);
            }
            entry.texts += 1;
        }
        Ok(TextGuard { usage: self.clone(), inode: inode.clone() })
    }

    /// Changes the counts of an object; tells whether no open file is left.
    fn count_down(&self, inode: &Arc<dyn Inode>, change: impl FnOnce(&mut Counts)) -> bool {
        let mut counts = self.counts.lock();
        let Some(entry) = counts.get_mut(&key(inode)) else { return true };
        change(entry);
        let Counts { opens, texts, .. } = *entry;
        if opens == 0 && texts == 0 {
            counts.remove(&key(inode));
        }
        opens == 0
    }

    /// Makes sure that an object that somebody watches can be asked for its links after it lost a name.
    pub(super) fn before_unnaming(&self, inode: &Arc<dyn Inode>) {
        if self.watches.has(inode) {
            // What cannot be held has no name left.
            let _ = inode.hold();
        }
    }

    /// An object lost a name: tells who watches it that it is gone, if it has no other and nobody has it open.
    pub(super) fn unnamed(&self, inode: &Arc<dyn Inode>) {
        if !self.watches.has(inode) {
            return;
        }
        let open = self.counts.lock().get(&key(inode)).is_some_and(|counts| counts.opens > 0);
        if !open && is_nameless(inode) {
            self.watches.tell_gone(inode);
        }
    }
}

/// An object that cannot be asked any more has no name either.
fn is_nameless(inode: &Arc<dyn Inode>) -> bool {
    inode.stat().map_or(true, |stat| stat.links == 0)
}

impl Opened {
    /// Who is told of what happens to the file.
    pub(super) fn watches(&self) -> &Arc<Watches> {
        &self.usage.watches
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let writes = self.writes;
        let last = self.usage.count_down(&self.inode, |counts| {
            counts.opens -= 1;
            counts.writers -= u32::from(writes);
        });
        if last && self.usage.watches.has(&self.inode) && is_nameless(&self.inode) {
            self.usage.watches.tell_gone(&self.inode);
        }
    }
}

impl Drop for TextGuard {
    fn drop(&mut self) {
        self.usage.count_down(&self.inode, |counts| counts.texts -= 1);
    }
}

impl Location {
    fn usage(&self) -> Option<&Arc<Usage>> {
        self.mount().map(|mount| &mount.usage)
    }

    /// Counts a file that is opened here; `None` for what is in no tree.
    pub(super) fn opened(&self, writes: bool) -> Result<Option<Opened>, Errno> {
        let Some(mount) = self.mount() else { return Ok(None) };
        mount.usage.open(mount, self.inode(), writes).map(Some)
    }

    /// How many open files read the object only, and how many write it; `None` for what is in no tree.
    pub(super) fn open_counts(&self) -> Option<(u32, u32)> {
        let counts = self.usage()?.counts.lock().get(&key(self.inode())).copied().unwrap_or_default();
        Some((counts.opens - counts.writers, counts.writers))
    }

    /// Makes sure that nobody writes the file while it runs; `ETXTBSY` if somebody has it open for writing. `None` for what is in no
    /// tree.
    pub fn deny_writes(&self) -> Result<Option<TextGuard>, Errno> {
        self.usage().map(|usage| usage.deny_writes(self.inode())).transpose()
    }

    /// Tells who watches of what happened to the object here.
    pub fn tell(&self, mask: Mask) {
        if let Some(usage) = self.usage() {
            usage.watches.tell(self, mask);
        }
    }
}
