//! Trees that are made when somebody looks: most programs never do, and a start should not pay for them.

use super::{Entries, Entry, Tree};
use crate::errno::Errno;
use crate::fs::Inode;
use crate::task::CurrentTask;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A directory whose entries are made at the first look.
pub(crate) struct Lazy {
    tree: OnceLock<Tree>,
    plant: Box<dyn Fn() -> Tree + Send + Sync>,
}

impl Lazy {
    /// Notes how the entries are made.
    pub(crate) fn new(plant: impl Fn() -> Tree + Send + Sync + 'static) -> Self {
        Self { tree: OnceLock::new(), plant: Box::new(plant) }
    }

    /// The entries.
    pub(crate) fn tree(&self) -> &Tree {
        self.tree.get_or_init(|| (self.plant)())
    }
}

impl fmt::Debug for Lazy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lazy").field("made", &self.tree.get().is_some()).finish_non_exhaustive()
    }
}

impl Entries for Lazy {
    fn find(&self, task: &CurrentTask<'_>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        self.tree().find(task, name)
    }

    fn list(&self, task: &CurrentTask<'_>, from: u64) -> Result<Vec<Entry>, Errno> {
        self.tree().list(task, from)
    }

    fn links(&self) -> u64 {
        self.tree().links()
    }
}
