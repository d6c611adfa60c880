//! The traits that a file system implements: [`FileSystem`], [`Inode`] with [`Directory`] and [`Link`], and [`File`].
//!
//! Who calls checks: permissions, sticky bits, mount points, read-only mounts and the order of Linux's errors are the
//! [`super::Namespace`]'s; an implementation answers for what only it knows (an entry exists, a directory is not empty, the
//! host refuses). Files never block: they answer `EAGAIN` and say what to wait for ([`File::wait_source`]); the caller blocks in one place.

use super::tmp::TmpOptions;
use super::{AttributeChange, FileKind, FsStat, NewNode, OpenFlags, Permissions, Ready, Seals, Sink, Source, Stat};
use crate::errno::Errno;
use crate::task::{Credentials, CurrentTask};
use std::any::Any;
use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use vmm::addr::UserAddr;
use vmm::memory::{HostFile, MemoryObject};

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

/// Who keeps an open file's offset.
#[derive(Debug)]
pub enum OffsetKeeper<'a> {
    /// [`super::OpenFile`], which holds it locked for the whole of a read or write, as Linux holds f_pos_lock.
    OpenFile,
    /// [`super::OpenFile`], not locked meanwhile: for contents that are rendered, which may look at anything, open files included.
    Unlocked,
    /// Nobody: it is always 0 (memory devices).
    Zero,
    /// The file itself.
    File(&'a dyn OwnOffset),
}

/// A file that keeps its offset itself: it lies in a host's open file description, which processes outside share.
pub trait OwnOffset: Debug {
    /// Reads at the offset and moves it.
    fn read(&self, to: &mut dyn Sink) -> Result<usize, Errno>;
    /// Writes at the offset and moves it.
    fn write(&self, from: &mut dyn Source) -> Result<usize, Errno>;
    /// Moves it as lseek(2) says; `whence` is known to be one of Linux's.
    fn seek(&self, offset: i64, whence: u32) -> Result<u64, Errno>;
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
    /// Its own mount options as /proc/PID/mounts shows them, each with a comma before it.
    fn options(&self) -> String {
        String::new()
    }
    /// Changes those of its options that are given.
    fn reconfigure(&self, _options: &TmpOptions) -> Result<(), Errno> {
        Ok(())
    }
    /// The device number that its inodes report (the root's, where they differ): /proc/PID/mountinfo shows it.
    fn device(&self) -> u64 {
        self.root().stat().map_or(0, |stat| stat.device)
    }
}

/// A file system object.
pub trait Inode: Send + Sync + Debug + Any {
    /// The object's type; it never changes.
    fn kind(&self) -> FileKind;
    /// The attributes.
    fn stat(&self) -> Result<Stat, Errno>;
    /// The attributes as the lookup found them that led here within the same call: a file system whose lookup has fetched them need
    /// not ask for them again.
    fn stat_found(&self) -> Result<Stat, Errno> {
        self.stat()
    }
    /// What a permission check needs. A path walk asks right after the lookup, so a file system whose lookup has fetched the
    /// attributes may answer from that.
    fn permissions(&self) -> Result<Permissions, Errno> {
        let stat = self.stat()?;
        Ok(Permissions { mode: stat.mode, uid: stat.uid, gid: stat.gid })
    }
    /// Makes sure that the object stays reachable through this inode whatever becomes of its name. Called once for each inode
    /// that outlives the call which looked it up without being opened (a working directory, O_PATH).
    fn hold(&self) -> Result<(), Errno> {
        Ok(())
    }
    /// The figures of the file system it lies in, where that is not the one mount's ([`FileSystem::stat`]).
    fn file_system_stat(&self) -> Option<Result<FsStat, Errno>> {
        None
    }
    /// Changes attributes; the change time is brought up to date.
    fn change(&self, change: &AttributeChange) -> Result<(), Errno>;
    /// The directory operations, for a directory.
    fn as_dir(&self) -> Option<&dyn Directory> {
        None
    }
    /// The link operations, for a symbolic link.
    fn as_link(&self) -> Option<&dyn Link> {
        None
    }
    /// Opens it: permission was checked, O_CREAT, O_EXCL, O_TRUNC and O_NOFOLLOW were dealt with. A directory without an
    /// open file of its own answers `Ok(Arc::new(super::DirectoryFile::new(self)))`.
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

/// What a directory remembers of a name ([`Directory::recall`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recall {
    /// Nothing that counts: the name has to be confirmed or looked up.
    Nothing,
    /// The name leads to the object: nobody else has a say in that.
    Certain,
    /// It led there when it was last looked at. [`Directory::confirm_way`] tells for a whole way of such names whether it still does.
    Likely,
}

/// A directory's operations. Names have no slash and are neither empty, `.` nor `..`.
pub trait Directory {
    /// Finds an entry, for a file system whose names are the same for everybody: `ENOENT`, `ENAMETOOLONG`. Also used to build
    /// the view, when there is no task yet.
    fn find(&self, _name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::ENOENT)
    }
    /// Finds an entry on behalf of a task.
    fn lookup(&self, _task: &CurrentTask<'_>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        self.find(name)
    }
    /// Tells whether `name` still leads to `inode`, which an earlier lookup has found; `false`: look it up again. This is
    /// cheaper than a lookup where objects are costly to make.
    fn confirm(&self, _name: &[u8], _inode: &Arc<dyn Inode>) -> bool {
        false
    }
    /// What is remembered, without asking anybody, of `name` having led to the directory `inode`. `Likely` only for one who is
    /// refused every search by [`Self::confirm_way`] that Linux would refuse.
    fn recall(&self, _who: &Credentials, _name: &[u8], _inode: &Arc<dyn Inode>) -> Recall {
        Recall::Nothing
    }
    /// Tells whether the relative path `way`, of names that were all `Likely`, leads from here to the directory `inode`, through
    /// directories only; `.` and `..` may be in it, but not so that it leaves this directory.
    fn confirm_way(&self, _way: &[u8], _inode: &Arc<dyn Inode>) -> bool {
        false
    }
    /// Makes an entry; `EEXIST` if there is one, `EPERM` where the file system makes none.
    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>, Errno>;
    /// [`Self::create`] on behalf of a task, for a file system that asks who makes it.
    fn create_for(&self, _task: &CurrentTask<'_>, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        self.create(name, node)
    }
    /// Makes a regular file with no name (O_TMPFILE).
    fn create_unnamed(&self, _node: &NewNode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// Adds a hard link.
    fn link(&self, name: &[u8], inode: &Arc<dyn Inode>) -> Result<(), Errno>;
    /// Removes an entry that is not a directory (unlink) or is an empty one (rmdir).
    fn remove(&self, name: &[u8], directory: bool) -> Result<(), Errno>;
    /// Moves an entry here or to another directory of the same mount, replacing a file or an empty directory there;
    /// `flags` are renameat2's. The caller has made sure that types agree, that the two are not the same object and that no
    /// directory is moved into itself. `EXDEV` if `to` is of another file system.
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
    /// The text of a link that is the same for everybody. Also used to build the view, when there is no task yet.
    fn fixed_text(&self) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }
    /// The text readlink(2) returns.
    fn text(&self, _task: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
        self.fixed_text()
    }
    /// Where a path walk goes on.
    fn follow(&self, task: &CurrentTask<'_>) -> Result<LinkTarget, Errno> {
        self.text(task).map(LinkTarget::Path)
    }
}

/// What an open file description does. The offset is [`super::OpenFile`]'s.
pub trait File: Send + Sync + Debug {
    /// Reads at `offset`; returns bytes, 0 at the end. For a stream the offset means nothing.
    fn read_at(&self, task: &CurrentTask<'_>, offset: u64, to: &mut dyn Sink) -> Result<usize, Errno>;
    /// Reads for a caller that waits, in a file whose waiting has rules of its own (a terminal's VMIN and VTIME). `None`: it waits until
    /// [`Self::read_at`] no longer answers `EAGAIN`.
    fn read_blocking(&self, _task: &CurrentTask<'_>, _to: &mut dyn Sink) -> Option<Result<usize, Errno>> {
        None
    }
    /// Writes at `offset`; returns bytes.
    fn write_at(&self, task: &CurrentTask<'_>, offset: u64, from: &mut dyn Source) -> Result<usize, Errno>;
    /// Writes at the end (O_APPEND), with no other write between; returns bytes and the offset behind them.
    fn append(&self, task: &CurrentTask<'_>, from: &mut dyn Source) -> Result<(usize, u64), Errno> {
        let end = self.size()?;
        let written = self.write_at(task, end, from)?;
        Ok((written, end.saturating_add(u64::try_from(written).unwrap_or(u64::MAX))))
    }
    /// Lists directory entries, `.` and `..` among them, from `position` (0 first) until the sink is full.
    fn read_dir(&self, _task: &CurrentTask<'_>, _position: u64, _sink: &mut dyn DirSink) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }
    /// Status flags were changed (F_SETFL); `EINVAL` if they do not suit the file.
    fn set_flags(&self, _flags: OpenFlags) -> Result<(), Errno> {
        Ok(())
    }
    /// Tells whether lseek and pread work: `false` gives ESPIPE. (To lseek alone not, if the offset is [`OffsetKeeper::Zero`].)
    fn seekable(&self) -> bool {
        true
    }
    /// Who keeps the offset.
    fn offset_keeper(&self) -> OffsetKeeper<'_> {
        OffsetKeeper::OpenFile
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
    /// What the file is ready for now, for this task: what it reads may be its own (signals).
    fn ready_for(&self, _task: &CurrentTask<'_>) -> Ready {
        self.ready()
    }
    /// What to wait on until it may be ready for more.
    fn wait_source(&self) -> WaitSource<'_> {
        WaitSource::Always
    }
    /// Tells whether those who wait to read or to write do so in turn: a wake is for one of them, who wakes the next if something
    /// is left ([`crate::task::WaitQueue::wake_next`]).
    fn takes_turns(&self) -> bool {
        false
    }
    /// The file's own type, for calls that only files of one type serve.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
    /// What /proc/PID/fdinfo shows besides offset and flags: whole lines.
    fn fd_info(&self) -> String {
        String::new()
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
    /// The seals of an in-memory file (F_GET_SEALS); `EINVAL` for a file of a file system without.
    fn seals(&self) -> Result<Seals, Errno> {
        Err(Errno::EINVAL)
    }
    /// Adds seals; `EPERM` if that is sealed, `EBUSY` if a shared mapping that may be written is in the way, which `is_mapped` tells.
    fn add_seals(&self, _seals: Seals, _is_mapped: &dyn Fn() -> bool) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
    /// Calls `map`, which makes a shared mapping that may be written, with the file's seals; none is added meanwhile.
    fn map_writable(&self, map: &mut dyn FnMut(Seals) -> Result<UserAddr, Errno>) -> Result<UserAddr, Errno> {
        map(Seals::empty())
    }
    /// fallocate(2), with its mode bits.
    fn allocate(&self, _mode: u32, _offset: u64, _len: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// A host descriptor of a regular file behind this one, for copy_file_range and sendfile between host files.
    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// The socket behind it, for what only sockets do.
    fn as_socket(&self) -> Option<&crate::net::SocketFile> {
        None
    }
    /// A process closed a descriptor of it, which need not be the last (Linux: flush).
    fn descriptor_closed(&self, _task: &CurrentTask<'_>) {}
    /// The last reference is gone: flock and lease clean-up.
    fn released(&self) {}
}
