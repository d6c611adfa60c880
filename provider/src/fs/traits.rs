//! The traits that a file system implements.
//!
//! Files never block: they answer `EAGAIN` and say what to wait for ([`File::wait_source`]); the caller blocks in one place.

use super::{Sink, Source};
use crate::errno::Errno;
use crate::task::CurrentTask;
use std::any::Any;
use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use vmm::memory::{HostFile, MemoryObject};

/// The type of an inode (the S_IFMT bits of its mode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "inode(7) describes them")]
pub enum FileKind {
    Regular,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

/// A point in time since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds, may be negative.
    pub seconds: i64,
    /// Nanoseconds, below 10⁹.
    pub nanoseconds: u32,
}

/// An inode's attributes, as stat(2) and statx(2) report them.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "stat(3type) describes them")]
pub struct Stat {
    /// The device number, in the kernel's `dev_t` encoding of user space (see makedev(3)).
    pub device: u64,
    pub inode: u64,
    pub kind: FileKind,
    /// Permission, set-id and sticky bits: the low 12 bits.
    pub mode: u32,
    pub links: u64,
    pub uid: u32,
    pub gid: u32,
    /// The device a device node stands for.
    pub rdev: u64,
    pub size: u64,
    pub block_size: u32,
    /// Units of 512 bytes.
    pub blocks: u64,
    pub accessed: Timestamp,
    pub modified: Timestamp,
    pub changed: Timestamp,
    pub born: Option<Timestamp>,
}

/// A file system's figures, as statfs(2) reports them.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "statfs(2) describes them")]
pub struct FsStat {
    pub magic: u64,
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub id: u64,
    pub name_max: u64,
    pub flags: u64,
}

/// What a chmod, chown, truncate or utimensat changes; `None` stays as it is. Permission was checked by the caller.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the fields of Stat")]
pub struct AttributeChange {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub accessed: Option<Timestamp>,
    pub modified: Option<Timestamp>,
}

/// A directory entry to be made.
#[derive(Clone, Debug)]
pub struct NewNode<'a> {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits; the umask is already applied.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// For a device node: which.
    pub rdev: u64,
    /// For a symbolic link: its text.
    pub target: &'a [u8],
}

bitflags::bitflags! {
    /// open(2) flags, in Linux's numbering.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[expect(missing_docs, reason = "open(2) describes them")]
    pub struct OpenFlags: u32 {
        const WRONLY = 0o1;
        const RDWR = 0o2;
        const CREAT = 0o100;
        const EXCL = 0o200;
        const NOCTTY = 0o400;
        const TRUNC = 0o1000;
        const APPEND = 0o2000;
        const NONBLOCK = 0o4000;
        const DSYNC = 0o1_0000;
        const ASYNC = 0o2_0000;
        const DIRECT = 0o4_0000;
        const LARGEFILE = 0o10_0000;
        const DIRECTORY = 0o20_0000;
        const NOFOLLOW = 0o40_0000;
        const NOATIME = 0o100_0000;
        const CLOEXEC = 0o200_0000;
        const SYNC = 0o400_0000;
        const PATH = 0o1000_0000;
        const TMPFILE = 0o2000_0000;
    }
}

impl OpenFlags {
    /// Tells whether the access mode permits reading.
    pub fn reads(self) -> bool {
        !self.contains(Self::PATH) && self.bits() & 3 != 1
    }

    /// Tells whether the access mode permits writing.
    pub fn writes(self) -> bool {
        !self.contains(Self::PATH) && matches!(self.bits() & 3, 1 | 2)
    }
}

bitflags::bitflags! {
    /// What a file is ready for: the POLL* bits of poll(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[expect(missing_docs, reason = "poll(2) describes them")]
    pub struct Ready: u32 {
        const IN = 0x1;
        const PRI = 0x2;
        const OUT = 0x4;
        const ERR = 0x8;
        const HUP = 0x10;
        const NVAL = 0x20;
        const RDNORM = 0x40;
        const RDBAND = 0x80;
        const WRNORM = 0x100;
        const WRBAND = 0x200;
        const RDHUP = 0x2000;
    }
}

/// What to wait on until a file may be ready.
#[derive(Debug)]
pub enum WaitSource<'a> {
    /// Always ready; waiting would never end otherwise.
    Always,
    /// A queue of the provider's that is woken at each change.
    Queue(&'a crate::task::WaitQueue),
    /// A host descriptor to be polled.
    Host(BorrowedFd<'a>),
}

/// What mmap maps.
#[derive(Clone, Debug)]
pub enum Mapping {
    /// A regular host file.
    Host(Arc<HostFile>),
    /// An in-memory file.
    Object(Arc<MemoryObject>),
    /// /dev/zero: anonymous memory.
    Zero,
}

/// A mounted file system.
pub trait FileSystem: Send + Sync + Debug {
    /// The root directory.
    fn root(&self) -> Arc<dyn Inode>;
    /// The type's name, as /proc/filesystems has it.
    fn type_name(&self) -> &'static str;
    /// The figures.
    fn stat(&self) -> Result<FsStat, Errno>;
}

/// A file system object.
pub trait Inode: Send + Sync + Debug + Any {
    /// The object's type; it never changes.
    fn kind(&self) -> FileKind;
    /// The attributes.
    fn stat(&self) -> Result<Stat, Errno>;
    /// Changes attributes.
    fn change(&self, change: &AttributeChange) -> Result<(), Errno>;
    /// The directory operations, for a directory.
    fn as_dir(&self) -> Option<&dyn Directory> {
        None
    }
    /// The link operations, for a symbolic link.
    fn as_link(&self) -> Option<&dyn Link> {
        None
    }
    /// Opens it. Permission was checked by the caller.
    fn open(self: Arc<Self>, task: &CurrentTask<'_>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno>;
    /// Reads an extended attribute.
    fn get_xattr(&self, _name: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// Sets an extended attribute; `flags` are XATTR_CREATE and XATTR_REPLACE.
    fn set_xattr(&self, _name: &[u8], _value: &[u8], _flags: u32) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// Removes an extended attribute.
    fn remove_xattr(&self, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// Names of the extended attributes.
    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// For downcasts within one file system.
    fn as_any(&self) -> &dyn Any;
}

/// A directory's operations. Names have no slash and are neither empty, `.` nor `..`.
pub trait Directory {
    /// Finds an entry.
    fn lookup(&self, task: &CurrentTask<'_>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno>;
    /// Makes an entry; `EEXIST` if there is one.
    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>, Errno>;
    /// Makes a regular file with no name (O_TMPFILE).
    fn create_unnamed(&self, _node: &NewNode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// Adds a hard link.
    fn link(&self, name: &[u8], inode: &Arc<dyn Inode>) -> Result<(), Errno>;
    /// Removes an entry that is not a directory (unlink) or is an empty one (rmdir).
    fn remove(&self, name: &[u8], directory: bool) -> Result<(), Errno>;
    /// Moves an entry here or to another directory of the same file system; `flags` are renameat2's.
    fn rename(&self, name: &[u8], to: &dyn Directory, to_name: &[u8], flags: u32) -> Result<(), Errno>;
    /// Lists entries from `position` (0 first) until the sink is full; `.` and `..` are the caller's.
    fn list(&self, task: &CurrentTask<'_>, position: u64, sink: &mut dyn DirSink) -> Result<(), Errno>;
    /// For downcasts within one file system.
    fn as_any(&self) -> &dyn Any;
}

/// A directory entry.
#[derive(Clone, Debug)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode number.
    pub inode: u64,
    /// The type.
    pub kind: FileKind,
    /// The position of the entry behind this one.
    pub next: u64,
}

/// Receives directory entries.
pub trait DirSink {
    /// Takes an entry, or answers `false`: full.
    fn entry(&mut self, entry: &DirEntry<'_>) -> bool;
}

/// Where a symbolic link leads.
#[derive(Debug)]
pub enum LinkTarget {
    /// To a path, taken from the link's directory.
    Path(Vec<u8>),
    /// To an object, whatever its name (/proc/self/fd/N, /proc/self/exe).
    Object(super::Location),
}

/// A symbolic link's operations.
pub trait Link {
    /// The text readlink(2) returns.
    fn text(&self, task: &CurrentTask<'_>) -> Result<Vec<u8>, Errno>;
    /// Where a path walk goes on.
    fn follow(&self, task: &CurrentTask<'_>) -> Result<LinkTarget, Errno> {
        self.text(task).map(LinkTarget::Path)
    }
}

/// What an open file description does. The offset is [`super::OpenFile`]'s.
pub trait File: Send + Sync + Debug {
    /// Reads at `offset`; returns bytes, 0 at the end. For a stream the offset means nothing.
    fn read_at(&self, task: &CurrentTask<'_>, offset: u64, to: &mut dyn Sink) -> Result<usize, Errno>;
    /// Writes at `offset`; returns bytes.
    fn write_at(&self, task: &CurrentTask<'_>, offset: u64, from: &mut dyn Source) -> Result<usize, Errno>;
    /// Tells whether lseek and pread work: `false` gives ESPIPE.
    fn seekable(&self) -> bool {
        true
    }
    /// The size that SEEK_END and O_APPEND start from.
    fn size(&self) -> Result<u64, Errno> {
        Ok(0)
    }
    /// SEEK_DATA (`hole == false`) and SEEK_HOLE.
    fn seek_sparse(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        let size = self.size()?;
        if offset >= size { Err(Errno::ENXIO) } else { Ok(if hole { size } else { offset }) }
    }
    /// Device-specific control; the result is the call's.
    fn ioctl(&self, _task: &CurrentTask<'_>, _request: u32, _arg: u64) -> Result<u64, Errno> {
        Err(Errno::ENOTTY)
    }
    /// What the file is ready for now.
    fn ready(&self) -> Ready {
        Ready::IN | Ready::OUT | Ready::RDNORM | Ready::WRNORM
    }
    /// What to wait on until it may be ready for more.
    fn wait_source(&self) -> WaitSource<'_> {
        WaitSource::Always
    }
    /// What mmap maps; `ENODEV` if it cannot be mapped.
    fn mapping(&self) -> Result<Mapping, Errno> {
        Err(Errno::ENODEV)
    }
    /// Writes data through to storage.
    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
    /// Sets the size (ftruncate).
    fn set_size(&self, _size: u64) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
    /// fallocate(2), with its mode bits.
    fn allocate(&self, _mode: u32, _offset: u64, _len: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// A host descriptor of a regular file behind this one, for copy_file_range and sendfile between host files.
    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// The last reference is gone: flock and lease clean-up.
    fn released(&self) {}
}
