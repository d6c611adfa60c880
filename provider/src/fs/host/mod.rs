//! The host's file system, through directory descriptors.
//!
//! A name is looked up one component at a time with `statx` on the parent's descriptor, so that symbolic links are walked by
//! us (the overlay must see them) and nothing is followed that the program chose. Directories keep an O_PATH descriptor; other
//! objects are known by (parent, name) and their identity until they are opened, so that `find` over a large tree does not hold
//! a descriptor for each file. Every use of a name confirms the identity (device, inode, mount): what another host process put in
//! its place is `ENOENT`, never the wrong file.
//!
//! **Coherence**: nothing about the host is cached without a system call that confirms it. A name costs one `statx` (0.4 to 1.3 µs),
//! which also brings the attributes for the permission check; a cached answer could be wrong for as long as the host changes, and a
//! watch (inotify) has limits and misses remote changes. A way through directories that are known is confirmed as a whole: one
//! `openat2` that follows no link and leaves the tree nowhere must arrive at the very directory that was there before.
//!
//! Regular files and directories are opened, nothing else: FIFOs, sockets and device nodes are not, and after an open the descriptor
//! must be that of the object whose type and permissions were looked at; if the host has put another in its place just then, it is
//! closed untouched. Set-id bits are never written to the host.
//!
//! **Descriptors** are the monitor's, and it needs some for itself: what would take the last [`RESERVE`] is `ENFILE` (host files
//! only; what lies in memory takes none).

mod directory;
mod file;
mod hidden;
mod inode;
mod set_ids;
mod ways;

pub(super) use file::HostDirectory;
pub(super) use hidden::{Finder, Hidden, Secret};
pub(super) use inode::{HostInode, stat};

use super::{FileSystem, FsStat, Inode};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use rustix::fs::{CWD, Mode, OFlags, openat};
use set_ids::SetIds;
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Weak};
use vmm::memory::GuestMemory;
use ways::Searches;

/// What makes a host object the same one. The mount is part of it: the same directory shows other things below another mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) mount: u64,
}

/// Descriptors below the host's limit that host files leave to the rest of the monitor: vCPUs, memory, the program's own streams.
const RESERVE: u64 = 256;

/// What the inodes of one host tree share.
#[derive(Debug)]
struct Tree {
    writable: bool,
    hidden: Hidden,
    /// /proc/self/fd: an object is opened through its descriptor there.
    descriptors: OwnedFd,
    /// The user and group that the host gives to what we make.
    owner: (u32, u32),
    /// Descriptors that the host lets the monitor have.
    most: u64,
    /// Whose searches the host judges as Linux would.
    searches: Searches,
    inodes: Mutex<HashMap<Key, Weak<HostInode>>>,
    /// Set-id bits that the sandbox has given.
    set_ids: SetIds,
    /// Where its files are mapped.
    memory: Arc<GuestMemory>,
}

/// A host tree.
#[derive(Debug)]
pub(super) struct HostFs {
    root: Arc<HostInode>,
}

impl HostFs {
    /// Opens a host tree, or a single file. `writable`: changes reach the host.
    pub(super) fn open(
        source: &Path,
        writable: bool,
        hidden: Hidden,
        memory: &Arc<GuestMemory>,
    ) -> Result<Self, std::io::Error> {
        let fd = openat(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let descriptors =
            openat(CWD, "/proc/self/fd", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        let inodes = Mutex::new(Rank::Leaf, HashMap::new());
        let tree = Arc::new(Tree {
            writable,
            hidden,
            descriptors,
            owner,
            most,
            searches: Searches::new(),
            inodes,
            set_ids: SetIds::default(),
            memory: memory.clone(),
        });
        let root = HostInode::root(tree, fd).map_err(|error| std::io::Error::from_raw_os_error(error.raw().into()))?;
        Ok(Self { root })
    }

    /// A descriptor of the root (O_PATH).
    pub(super) fn descriptor(&self) -> Result<OwnedFd, Errno> {
        self.root.with_fd(|fd| Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?))
    }

    /// The root with its own type.
    pub(super) fn host_root(&self) -> &Arc<HostInode> {
        &self.root
    }
}

impl FileSystem for HostFs {
    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn type_name(&self) -> &'static str {
        // What /proc/mounts names the host's type is the host's business; programs look for the usual disk file system.
        "ext4"
    }

    fn stat(&self) -> Result<FsStat, Errno> {
        self.root.host_stat_fs()
    }
}

/// The figures of the host file system behind a descriptor.
fn stat_fs(fd: BorrowedFd<'_>) -> Result<FsStat, Errno> {
    let host = rustix::fs::fstatfs(fd)?;
    let more = rustix::fs::fstatvfs(fd)?;
    Ok(FsStat {
        magic: host.f_type.cast_unsigned(),
        block_size: host.f_bsize.cast_unsigned(),
        blocks: host.f_blocks,
        blocks_free: host.f_bfree,
        blocks_available: host.f_bavail,
        files: host.f_files,
        files_free: host.f_ffree,
        id: more.f_fsid,
        name_max: host.f_namelen.cast_unsigned(),
        flags: host.f_flags.cast_unsigned(),
    })
}

impl Tree {
    /// Keeps a new descriptor; `ENFILE` if the monitor has nearly as many as the host permits. The host gives the lowest free
    /// number, so a number says how many there are.
    fn keep(&self, fd: OwnedFd) -> Result<OwnedFd, Errno> {
        /// Numbers that no limit is below, so that most opens need not ask for it.
        const FEW: u64 = 512;
        let number = u64::try_from(fd.as_raw_fd()).unwrap_or(u64::MAX);
        if number < FEW {
            return Ok(fd);
        }
        if number.saturating_add(RESERVE) < self.most { Ok(fd) } else { Err(Errno::ENFILE) }
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptors.as_fd()
    }
}
