//! What the program sees: builds the mounts that a configuration describes.

use super::hiding::Hiding;
use super::host::{Hidden, HostFs, Secret};
use super::location::{Entry, Location};
use super::mount::{MountFlags, MountNamespace, MountTable, NewMount, SuperBlock};
use super::overlay::{OverlayFs, PARKING, UpperLayer};
use super::tmp::{Budget, TmpFs, new_device};
use super::walk::{LastLink, Resolve, Walker};
use super::{FileKind, FileSystem, Inode, Namespace, NewNode, Timestamp, dev, proc, sys};
use crate::config::{Bind, Config, View};
use crate::errno::Errno;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vmm::memory::GuestMemory;

/// Why the view could not be built.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct ViewError {
    /// Which host path.
    pub path: String,
    /// What is wrong with it.
    pub reason: std::io::Error,
}

impl ViewError {
    fn new(path: &Path, reason: impl Into<std::io::Error>) -> Self {
        Self { path: path.display().to_string(), reason: reason.into() }
    }
}

/// A host tree, or a single file, that a view shows: what the monitor has to reach as long as the sandbox lives.
#[derive(Debug)]
pub struct Grant {
    /// The object itself (O_PATH), as it was found: whatever its path leads to later.
    pub tree: OwnedFd,
    /// What is done to what lies in it.
    pub access: HostAccess,
}

/// What is done to a host tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAccess {
    /// It is read.
    Read,
    /// Programs change it.
    Write,
    /// It keeps what an overlay's programs write: changes, and whiteouts, which are device nodes.
    Keep,
}

impl Grant {
    fn new(host: &HostFs, access: HostAccess) -> Result<Self, std::io::Error> {
        Ok(Self { tree: host.descriptor()?, access })
    }
}

impl From<Errno> for std::io::Error {
    fn from(error: Errno) -> Self {
        Self::from_raw_os_error(error.raw().into())
    }
}

/// The least that names and attributes in memory may take, and the part of the memory limit beyond it.
const BUDGET_MIN: u64 = 16 << 20;
/// One in so many bytes of the memory limit may be names and attributes.
const BUDGET_PART: u64 = 8;

/// What holds for the mounts of a view. Set-id bits of the host's files are ignored.
const MOUNT_FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::RELATIME);

/// A view that is being built.
struct Builder<'a> {
    memory: &'a Arc<GuestMemory>,
    budget: Arc<Budget>,
    namespace: Namespace,
}

impl Namespace {
    /// Builds the view that the configuration describes, with `queues` at /dev/mqueue, and tells which host trees it shows. Host problems
    /// (a root or bind that does not exist) are named in the error.
    pub fn build(
        config: &Config,
        memory: &Arc<GuestMemory>,
        queues: Arc<dyn FileSystem>,
    ) -> Result<(Self, Vec<Grant>), ViewError> {
        let budget = Arc::new(Budget::new(BUDGET_MIN.max(memory.limit() / BUDGET_PART)));
        let hiding = Hiding::new(config);
        let nameless = TmpFs::new(memory, &budget, 0o700).map_err(|error| ViewError::new(Path::new("memfd"), error))?;
        let mut grants = Vec::new();
        let namespace = Self::new(root(&config.view, &hiding, (memory, &budget), &mut grants)?, nameless);
        let mut builder = Builder { memory, budget, namespace };
        builder.own_file_systems(config.limits.cpus)?;
        builder.mount("/dev/mqueue", queues, "mqueue")?;
        for (index, bind) in config.view.binds.iter().enumerate() {
            let fail = |error| ViewError::new(&bind.source, error);
            let host = HostFs::open(&bind.source, bind.writable, hiding.in_bind(index), memory).map_err(fail)?;
            let access = if bind.writable { HostAccess::Write } else { HostAccess::Read };
            grants.push(Grant::new(&host, access).map_err(fail)?);
            builder.bind(host, bind)?;
        }
        Ok((builder.namespace, grants))
    }
}

/// The root: the host's tree under the overlay.
fn root(
    view: &View,
    hiding: &Hiding,
    (memory, budget): (&Arc<GuestMemory>, &Arc<Budget>),
    grants: &mut Vec<Grant>,
) -> Result<(Arc<MountTable>, Arc<MountNamespace>), ViewError> {
    let root = view.root.clone().unwrap_or_else(|| PathBuf::from("/"));
    let fail = |reason: std::io::Error| ViewError::new(&root, reason);
    let lower = HostFs::open(&root, false, hiding.in_root(), memory).map_err(fail)?;
    if lower.root().kind() != FileKind::Directory {
        return Err(fail(Errno::ENOTDIR.into()));
    }
    grants.push(Grant::new(&lower, HostAccess::Read).map_err(fail)?);
    let upper = match &view.upper {
        None => UpperLayer::Memory(TmpFs::new(memory, budget, 0o755).map_err(|error| fail(error.into()))?),
        Some(path) => {
            let mut hidden = Hidden::default();
            if let Some(private) = Secret::find(&path.join(PARKING)) {
                hidden.add(&private);
            }
            let upper = HostFs::open(path, true, hidden, memory).map_err(|reason| ViewError::new(path, reason))?;
            if upper.root().kind() != FileKind::Directory {
                return Err(ViewError::new(path, Errno::ENOTDIR));
            }
            grants.push(Grant::new(&upper, HostAccess::Keep).map_err(|reason| ViewError::new(path, reason))?);
            UpperLayer::Host(upper)
        }
    };
    let overlay = OverlayFs::new(&lower, upper).map_err(|error| fail(error.into()))?;
    let superblock = SuperBlock::new(Arc::new(overlay), None);
    Ok(MountTable::new(&NewMount { superblock, source: b"overlay", flags: MOUNT_FLAGS }))
}

impl Builder<'_> {
    /// Mounts /proc, /sys, /dev and the like: a sandbox has its own, whatever the host's tree has there.
    fn own_file_systems(&mut self, cpus: u32) -> Result<(), ViewError> {
        let now = Timestamp::now();
        self.mount("/proc", proc::file_system(new_device(), now), "proc")?;
        self.mount("/sys", sys::file_system(new_device(), now, cpus), "sysfs")?;
        let devices = self.tmpfs("/dev", 0o755)?;
        let directory = devices.tmp_root().as_dir().ok_or_else(|| ViewError::new(Path::new("/dev"), Errno::ENOTDIR))?;
        dev::populate(directory).map_err(|error| ViewError::new(Path::new("/dev"), error))?;
        self.mount("/dev/pts", dev::pts::file_system(new_device(), now), "devpts")?;
        self.tmpfs("/dev/shm", 0o1777)?;
        self.tmpfs("/tmp", 0o1777)?;
        Ok(())
    }

    fn tmpfs(&mut self, path: &str, mode: u32) -> Result<Arc<TmpFs>, ViewError> {
        let made = TmpFs::new(self.memory, &self.budget, mode);
        let file_system = made.map_err(|error| ViewError::new(Path::new(path), error))?;
        self.mount(path, file_system.clone(), "tmpfs")?;
        Ok(file_system)
    }

    fn mount(&mut self, path: &str, file_system: Arc<dyn FileSystem>, source: &str) -> Result<(), ViewError> {
        let place = self.place(Path::new(path), FileKind::Directory)?;
        let superblock = SuperBlock::new(file_system, None);
        self.namespace.own.push(superblock.clone());
        let new = NewMount { superblock, source: source.as_bytes(), flags: MOUNT_FLAGS };
        self.namespace.mounts.mount(&new, place).map_err(|error| ViewError::new(Path::new(path), error))
    }

    /// Shows a host tree or file at a place.
    fn bind(&mut self, host: HostFs, bind: &Bind) -> Result<(), ViewError> {
        let place = self.place(&bind.target, host.root().kind())?;
        let flags = if bind.writable { MOUNT_FLAGS } else { MOUNT_FLAGS | MountFlags::READ_ONLY };
        let superblock = SuperBlock::new(Arc::new(host), None);
        if !bind.writable {
            superblock.fix_read_only();
        }
        let new = NewMount { superblock, source: bind.source.as_os_str().as_bytes(), flags };
        self.namespace.mounts.mount(&new, place).map_err(|error| ViewError::new(&bind.target, error))
    }

    /// Finds the place for a mount, and makes what is missing of the path to it.
    fn place(&mut self, path: &Path, kind: FileKind) -> Result<Location, ViewError> {
        let fail = |error: Errno| ViewError::new(path, error);
        let mut at = self.namespace.root();
        let names: Vec<_> = path.as_os_str().as_bytes().split(|byte| *byte == b'/').collect();
        let names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
        for (index, name) in names.iter().enumerate() {
            let last = index + 1 == names.len();
            let walked = Walker::new(&self.namespace, None, self.namespace.root(), at.clone(), Resolve::empty())
                .walk(name, LastLink::Follow);
            at = match walked {
                Ok(place) => place,
                // EACCES: one of the host's kernel file systems, which the view does not show.
                Err(Errno::ENOENT | Errno::EACCES) => {
                    self.fill_in(&at, name, if last { kind } else { FileKind::Directory }).map_err(fail)?
                }
                Err(error) => return Err(fail(error)),
            };
        }
        // Neither the place nor what leads to it is replaced when the host changes: what is mounted there would come off.
        self.namespace.pinned.push(Entry::pin(at.entry()));
        let fits = (at.kind() == FileKind::Directory) == (kind == FileKind::Directory);
        if fits { Ok(at) } else { Err(fail(Errno::ENOTDIR)) }
    }

    /// Makes a mount point: in the file system if that is in memory, else as an entry that only the view knows. A writable
    /// host directory is not written for the sake of a mount.
    fn fill_in(&mut self, directory: &Location, name: &[u8], kind: FileKind) -> Result<Location, Errno> {
        let kind = if kind == FileKind::Directory { kind } else { FileKind::Regular };
        let mount = directory.mount().ok_or(Errno::ENOENT)?.clone();
        let mode = if kind == FileKind::Directory { 0o755 } else { 0o644 };
        let node = NewNode { kind, mode, uid: 0, gid: 0, rdev: 0, target: b"" };
        let in_memory = matches!(mount.file_system.type_name(), "tmpfs" | "overlay");
        let made: Option<Arc<dyn Inode>> = match directory.inode().as_dir() {
            // What is there but not shown (EACCES, EEXIST) is covered by an entry of the view's.
            Some(operations) if in_memory && matches!(operations.find(name), Err(Errno::ENOENT)) => {
                operations.create(name, &node).ok()
            }
            _ => None,
        };
        let inode = match made {
            Some(inode) => inode,
            None if kind == FileKind::Directory => TmpFs::new(self.memory, &self.budget, mode)?.tmp_root().clone(),
            None => TmpFs::new(self.memory, &self.budget, 0o755)?.tmp_root().make(name, &node)?,
        };
        Ok(Location::new(mount, directory.entry().adopt(name, inode)))
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
