//! The tree of names: mounts, cached entries, and the ways into it.

use super::location::{Entry, Pinned};
use super::mount::{MountNamespace, MountTable, SuperBlock};
use super::notify::Watches;
use super::tmp::TmpFs;
use super::usage::Usage;
use super::walk::{LastLink, Resolve, Tail, Walker};
use super::{FileKind, FileLocks, FsContext, Location, NewNode, OpenFile, OpenFlags, Recall, Seals, Stat};
use crate::errno::Errno;
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::task::{Credentials, CurrentTask};
use std::fmt;
use std::sync::Arc;

/// Entries that are kept although nobody uses them: the next walk finds them and what hangs on them (a host directory's
/// descriptor). A direct-mapped table: no bookkeeping at a hit, and the memory is bounded whatever a program walks.
const RECENT: usize = 1024;

/// Bytes of a name (NAME_MAX).
const NAME_MAX: usize = 255;

/// The mount table with the entries that were walked.
pub struct Namespace {
    pub(super) mounts: Arc<MountTable>,
    first: Arc<MountNamespace>,
    recent: Mutex<Vec<Option<Arc<Entry>>>>,
    /// The view's own mount points, which no file system may hold: they stay as long as the view.
    pub(super) pinned: Vec<Pinned>,
    /// Held while a name moves, so that no directory can be moved below itself.
    renames: Mutex<()>,
    locks: Arc<FileLocks>,
    /// Where files live that have no name (memfd_create).
    nameless: Arc<TmpFs>,
    /// The kernel's own file systems (proc and the like), which programs may mount again.
    pub(super) own: Vec<Arc<SuperBlock>>,
}

impl Namespace {
    pub(super) fn new((mounts, first): (Arc<MountTable>, Arc<MountNamespace>), nameless: Arc<TmpFs>) -> Self {
        Self {
            mounts,
            first,
            recent: Mutex::new(Rank::Leaf, Vec::new()),
            pinned: Vec::new(),
            renames: Mutex::new(Rank::Rename, ()),
            locks: Arc::default(),
            nameless,
            own: Vec::new(),
        }
    }

    pub(super) fn nameless(&self) -> &TmpFs {
        &self.nameless
    }

    /// Advisory locks.
    pub fn locks(&self) -> &Arc<FileLocks> {
        &self.locks
    }

    /// A process closed a descriptor, which need not be the file's last: what belongs to the process goes (filp_flush in fs/open.c).
    pub fn descriptor_closed(&self, task: &CurrentTask<'_>, file: &OpenFile) {
        self.locks.closed(task.group().pid(), file);
        self.watches().directory_closed(file, Some(task.group().pid()));
        file.file().descriptor_closed(task);
    }

    /// Who is told of what happens to files (inotify).
    pub fn watches(&self) -> &Arc<Watches> {
        self.mounts.usage().watches()
    }

    pub(super) fn usage(&self) -> &Usage {
        self.mounts.usage()
    }

    /// Opens a new file in memory that has no name; `name` is for /proc/PID/fd.
    pub fn memory_file(
        &self,
        task: &CurrentTask<'_>,
        name: &[u8],
        mode: u32,
        seals: Seals,
    ) -> Result<Arc<OpenFile>, Errno> {
        let who = task.credentials();
        let node = NewNode { kind: FileKind::Regular, mode, uid: who.fsuid, gid: who.fsgid, rdev: 0, target: b"" };
        let inode = self.nameless.tmp_root().make_nameless(&node)?;
        inode.start_with_seals(seals);
        let file = inode.open_file(OpenFlags::RDWR)?;
        let name = [b"/memfd:", name, b" (deleted)"].concat();
        Ok(OpenFile::new(file, Location::anonymous(inode, &name), OpenFlags::RDWR | OpenFlags::LARGEFILE))
    }

    /// The mounts that the first process sees.
    pub fn first_mounts(&self) -> &Arc<MountNamespace> {
        &self.first
    }

    /// The root of the first namespace's tree.
    pub fn root(&self) -> Location {
        self.first.root()
    }

    /// A context that starts at the root.
    pub fn root_context(&self) -> FsContext {
        FsContext::new(self.first.clone())
    }

    pub(super) fn top(&self, place: Location) -> Location {
        self.mounts.top(place)
    }

    pub(super) fn renaming(&self) -> MutexGuard<'_, ()> {
        self.renames.lock()
    }

    /// Walks a path from the task's root or working directory, or from `base`.
    pub fn walk(
        &self,
        task: &CurrentTask<'_>,
        base: Option<&Location>,
        path: &[u8],
        last: LastLink,
    ) -> Result<Location, Errno> {
        self.walker(task, base, Resolve::empty()).walk(path, last)
    }

    /// [`Self::walk`], with the attributes of what is there.
    pub fn walk_and_stat(
        &self,
        task: &CurrentTask<'_>,
        base: Option<&Location>,
        path: &[u8],
        last: LastLink,
    ) -> Result<(Location, Stat), Errno> {
        let mut walker = self.walker(task, base, Resolve::empty());
        let place = walker.walk(path, last)?;
        let stat = walker.stat(&place)?;
        Ok((place, stat))
    }

    /// Walks all but the last component.
    pub(super) fn walk_to_tail(
        &self,
        task: &CurrentTask<'_>,
        base: Option<&Location>,
        path: &[u8],
    ) -> Result<Tail, Errno> {
        self.walker(task, base, Resolve::empty()).walk_to_tail(path)
    }

    pub(super) fn walker<'a, 't>(
        &'a self,
        task: &'a CurrentTask<'t>,
        base: Option<&Location>,
        resolve: Resolve,
    ) -> Walker<'a, 't> {
        let context = task.fs();
        let base = base.cloned().unwrap_or_else(|| context.cwd());
        Walker::new(self, Some(task), context.root(), base, resolve)
    }

    /// Finds the entry of that name, and what is mounted there; `ENAMETOOLONG` only when the name is looked up, as file systems
    /// tell it: a rename misses its source before its target's name is too long. `task` is `None` while the view is built.
    pub(super) fn child(
        &self,
        task: Option<&CurrentTask<'_>>,
        directory: &Location,
        name: &[u8],
    ) -> Result<Location, Errno> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let entry = directory.entry();
        let known = entry.child(name);
        let place = |child: Arc<Entry>| match directory.mount() {
            Some(mount) => Ok(self.top(Location::new(mount.clone(), child))),
            None => Err(Errno::ENOTDIR),
        };
        if let Some(child) = &known
            && child.is_covered()
        {
            return place(child.clone());
        }
        let operations = directory.inode().as_dir().ok_or(Errno::ENOTDIR)?;
        if let Some(child) = known
            && operations.confirm(name, child.inode())
        {
            return place(child);
        }
        let inode = match task {
            Some(task) => operations.lookup(task, name)?,
            None => operations.find(name)?,
        };
        let child = entry.adopt(name, inode);
        self.keep(&child);
        place(child)
    }

    /// The directory that `name` stood for when it was last looked at, or what is mounted there; `None` if nothing is remembered, or
    /// something else.
    pub(super) fn recall(&self, who: &Credentials, directory: &Location, name: &[u8]) -> Option<(Location, Recall)> {
        let child = directory.entry().child(name).filter(|child| child.inode().kind() == FileKind::Directory)?;
        let recall = if child.is_covered() {
            Recall::Certain
        } else {
            directory.inode().as_dir()?.recall(who, name, child.inode())
        };
        let place = Location::new(directory.mount()?.clone(), child);
        match recall {
            Recall::Nothing => None,
            Recall::Certain => Some((self.top(place), recall)),
            Recall::Likely => Some((place, recall)),
        }
    }

    fn keep(&self, entry: &Arc<Entry>) {
        // Entries are some 200 bytes apart: these bits differ between neighbours.
        let slot = (Arc::as_ptr(entry).addr() >> 6) % RECENT;
        let mut recent = self.recent.lock();
        if recent.is_empty() {
            recent.resize(RECENT, None);
        }
        let old = recent[slot].replace(entry.clone());
        drop(recent);
        // Dropped where no lock is held: it may be the last of a chain.
        drop(old);
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("mounts", &self.mounts).finish_non_exhaustive()
    }
}
