//! Host objects.

use super::file::{HostDirectory, HostOpen, Shared};
use super::{Key, Tree, stat_fs};
use crate::errno::Errno;
use crate::fs::{
    AttributeChange, Directory, File, FileKind, FsStat, Inode, Link, OpenFlags, Permissions, Stat, Timestamp,
};
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags,
};
use rustix::fs::{chmodat, chownat, openat, openat2, readlinkat, statx, utimensat};
use std::any::Any;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use vmm::memory::HostFile;

/// The host's fields that we report.
const FIELDS: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME).union(StatxFlags::MNT_ID);

/// Bytes of a symbolic link's text that is read at the most (PATH_MAX).
const LINK_MAX: usize = 4096;

/// A directory and a name in it.
type Place = (Arc<HostInode>, Box<[u8]>);

/// An object of the host's.
#[derive(Debug)]
pub(in crate::fs) struct HostInode {
    pub(super) tree: Arc<Tree>,
    me: Weak<HostInode>,
    key: Key,
    kind: FileKind,
    /// An O_PATH descriptor: always there for a directory, else once somebody holds the object.
    handle: OnceLock<OwnedFd>,
    /// It was mapped at some time.
    mapped: AtomicBool,
    /// What open files read and write through: a deleted object is reached through any of them that is left.
    opened: Mutex<Vec<Weak<Shared>>>,
    /// Where it was last found, for an object that is no directory. Leaf.
    place: Mutex<Option<Place>>,
    /// A name that nobody takes away while the object is in use: it is reached through this one, wherever it is found.
    home: OnceLock<Place>,
    /// The attributes as the last lookup or stat found them.
    seen: Mutex<Stat>,
}

/// What lies behind a descriptor.
pub(in crate::fs) fn stat(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    Ok(convert(&attributes(fd, b"")?))
}

/// Reads attributes of `name` in a directory, or of the descriptor itself for an empty name. No link is followed.
pub(super) fn attributes(fd: BorrowedFd<'_>, name: &[u8]) -> Result<Statx, Errno> {
    let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT };
    Ok(statx(fd, name, flags, FIELDS)?)
}

pub(super) fn key(host: &Statx) -> Key {
    Key {
        device: rustix::fs::makedev(host.stx_dev_major, host.stx_dev_minor),
        inode: host.stx_ino,
        mount: host.stx_mnt_id,
    }
}

fn kind(host: &Statx) -> FileKind {
    FileKind::from_mode(u32::from(host.stx_mode)).unwrap_or(FileKind::Regular)
}

fn permissions(host: &Statx) -> Permissions {
    Permissions { mode: u32::from(host.stx_mode) & 0o7777, uid: host.stx_uid, gid: host.stx_gid }
}

fn timestamp(host: rustix::fs::StatxTimestamp) -> Timestamp {
    Timestamp { seconds: host.tv_sec, nanoseconds: host.tv_nsec }
}

fn convert(host: &Statx) -> Stat {
    Stat {
        device: rustix::fs::makedev(host.stx_dev_major, host.stx_dev_minor),
        inode: host.stx_ino,
        kind: kind(host),
        mode: u32::from(host.stx_mode) & 0o7777,
        links: u64::from(host.stx_nlink),
        uid: host.stx_uid,
        gid: host.stx_gid,
        rdev: rustix::fs::makedev(host.stx_rdev_major, host.stx_rdev_minor),
        size: host.stx_size,
        block_size: host.stx_blksize,
        blocks: host.stx_blocks,
        accessed: timestamp(host.stx_atime),
        modified: timestamp(host.stx_mtime),
        changed: timestamp(host.stx_ctime),
        born: StatxFlags::from_bits_retain(host.stx_mask)
            .contains(StatxFlags::BTIME)
            .then(|| timestamp(host.stx_btime)),
    }
}

/// The directory and name through which the host is asked about an object, or its descriptor and an empty name.
enum Reach<'a> {
    Handle(BorrowedFd<'a>),
    Opened(Arc<HostFile>),
    Name(Arc<HostInode>, Box<[u8]>),
}

impl HostInode {
    pub(super) fn root(tree: Arc<Tree>, fd: OwnedFd) -> Result<Arc<Self>, Errno> {
        let host = attributes(fd.as_fd(), b"")?;
        Ok(Self::at(tree, &host, Some(fd), None))
    }

    fn at(tree: Arc<Tree>, host: &Statx, fd: Option<OwnedFd>, place: Option<(Arc<HostInode>, Box<[u8]>)>) -> Arc<Self> {
        let handle = OnceLock::new();
        if let Some(fd) = fd {
            // A fresh cell takes a value.
            let _ = handle.set(fd);
        }
        let key = key(host);
        let seen = tree.set_ids.shown(key, convert(host));
        let inode = Arc::new_cyclic(|me| Self {
            tree,
            me: me.clone(),
            key,
            kind: kind(host),
            handle,
            mapped: AtomicBool::new(false),
            opened: Mutex::new(Rank::Leaf, Vec::new()),
            place: Mutex::new(Rank::Leaf, place),
            home: OnceLock::new(),
            seen: Mutex::new(Rank::Leaf, seen),
        });
        inode.tree.inodes.lock().insert(key, Arc::downgrade(&inode));
        inode
    }

    /// The reference to itself that a child keeps.
    pub(super) fn this(&self) -> Result<Arc<Self>, Errno> {
        self.me.upgrade().ok_or(Errno::ENOENT)
    }

    /// The identity.
    pub(in crate::fs) fn key(&self) -> Key {
        self.key
    }

    /// The descriptor of a directory.
    pub(super) fn directory_fd(&self) -> Result<BorrowedFd<'_>, Errno> {
        if self.kind != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        self.handle.get().map(AsFd::as_fd).ok_or(Errno::ENOTDIR)
    }

    /// Finds what `name` stands for in this directory.
    pub(in crate::fs) fn child(&self, name: &[u8]) -> Result<Arc<Self>, Errno> {
        let directory = self.directory_fd()?;
        let mut host = attributes(directory, name)?;
        if self.hides(name, &host) {
            return Err(Errno::ENOENT);
        }
        if let Some(inode) = self.known(name, &host) {
            return Ok(inode);
        }
        if kind(&host) != FileKind::Directory {
            let place = Some((self.this()?, name.into()));
            return Ok(Self::at(self.tree.clone(), &host, None, place));
        }
        let fd = self.tree.keep(open_path(directory, name)?)?;
        // Another process may have changed the name in between: the descriptor says what was opened.
        host = attributes(fd.as_fd(), b"")?;
        if self.hides(name, &host) {
            return Err(Errno::ENOENT);
        }
        if key(&host).mount != self.key.mount && is_forbidden(fd.as_fd()) {
            return Err(Errno::EACCES);
        }
        match self.known(name, &host) {
            Some(inode) => Ok(inode),
            None if kind(&host) == FileKind::Directory => Ok(Self::at(self.tree.clone(), &host, Some(fd), None)),
            None => Err(Errno::ENOENT),
        }
    }

    /// Tells whether `name` still stands for `inode`.
    pub(in crate::fs) fn still_has(&self, name: &[u8], inode: &Self) -> bool {
        let Ok(host) = self.directory_fd().and_then(|directory| attributes(directory, name)) else { return false };
        if key(&host) != inode.key || kind(&host) != inode.kind || self.hides(name, &host) {
            return false;
        }
        inode.found(self, name, &host);
        true
    }

    /// Tells whether these attributes, just read, are this object's; if so they are what is known of it from now on.
    pub(super) fn is_still(&self, host: &Statx) -> bool {
        let same = key(host) == self.key && kind(host) == self.kind;
        if same {
            *self.seen.lock() = self.tree.set_ids.shown(self.key, convert(host));
        }
        same
    }

    fn hides(&self, name: &[u8], host: &Statx) -> bool {
        let found = key(host);
        let directory = (self.key.device, self.key.inode);
        self.tree.hidden.hides(directory, name, (found.device, found.inode))
    }

    /// Tells whether a listed entry is hidden; the listing names the inode but not the device.
    pub(super) fn hides_entry(&self, name: &[u8], inode: u64) -> bool {
        self.tree.hidden.hides((self.key.device, self.key.inode), name, (self.key.device, inode))
    }

    fn known(&self, name: &[u8], host: &Statx) -> Option<Arc<Self>> {
        let inode = self.tree.inodes.lock().get(&key(host)).and_then(Weak::upgrade)?;
        if inode.kind != kind(host) {
            return None;
        }
        inode.found(self, name, host);
        Some(inode)
    }

    /// Notes where and how it was found just now.
    fn found(&self, parent: &Self, name: &[u8], host: &Statx) {
        *self.seen.lock() = self.tree.set_ids.shown(self.key, convert(host));
        if self.kind != FileKind::Directory {
            self.moved_to(parent, name);
        }
    }

    /// Notes a new place.
    pub(super) fn moved_to(&self, parent: &Self, name: &[u8]) {
        if self.kind != FileKind::Directory
            && let Ok(parent) = parent.this()
        {
            let _old = self.place.lock().replace((parent, name.into()));
        }
    }

    /// Makes `name` in `parent`, which leads to the object, the way it is reached from now on.
    pub(in crate::fs) fn settle_at(&self, parent: &Self, name: &[u8]) -> Result<(), Errno> {
        // Set once, by who has just made the object.
        let _ = self.home.set((parent.this()?, name.into()));
        Ok(())
    }

    /// The name that [`Self::settle_at`] gave it.
    pub(in crate::fs) fn home(&self) -> Option<&(Arc<Self>, Box<[u8]>)> {
        self.home.get()
    }

    fn reach(&self) -> Result<Reach<'_>, Errno> {
        if let Some(handle) = self.handle.get() {
            return Ok(Reach::Handle(handle.as_fd()));
        }
        let opened = self.opened.lock().iter().find_map(Weak::upgrade);
        if let Some(opened) = opened {
            return Ok(Reach::Opened(opened.host.clone()));
        }
        let place = self.home.get().cloned().or_else(|| self.place.lock().clone());
        place.map(|(parent, name)| Reach::Name(parent, name)).ok_or(Errno::ENOENT)
    }

    fn host_attributes(&self) -> Result<Statx, Errno> {
        let host = match self.reach()? {
            Reach::Handle(fd) => attributes(fd, b"")?,
            Reach::Opened(file) => attributes(file.fd(), b"")?,
            Reach::Name(parent, name) => {
                let host = attributes(parent.directory_fd()?, &name)?;
                if key(&host) != self.key {
                    return Err(Errno::ENOENT);
                }
                host
            }
        };
        *self.seen.lock() = self.tree.set_ids.shown(self.key, convert(&host));
        Ok(host)
    }

    /// Calls `operation` with a descriptor of exactly this object (O_PATH, or an open file's).
    pub(super) fn with_fd<T>(&self, operation: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>) -> Result<T, Errno> {
        match self.reach()? {
            Reach::Handle(fd) => operation(fd),
            Reach::Opened(file) => operation(file.fd()),
            Reach::Name(parent, name) => {
                let fd = open_path(parent.directory_fd()?, &name)?;
                if key(&attributes(fd.as_fd(), b"")?) != self.key {
                    return Err(Errno::ENOENT);
                }
                operation(fd.as_fd())
            }
        }
    }

    /// Calls `operation` with a name in [`Tree::descriptors`] that leads to exactly this object.
    fn with_link<T>(&self, operation: impl FnOnce(&str) -> Result<T, Errno>) -> Result<T, Errno> {
        self.with_fd(|fd| operation(&fd.as_raw_fd().to_string()))
    }

    fn with_path<T>(&self, operation: impl FnOnce(&str) -> Result<T, Errno>) -> Result<T, Errno> {
        self.with_fd(|fd| operation(&format!("/proc/self/fd/{}", fd.as_raw_fd())))
    }

    pub(super) fn open_host(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        match self.open_as_it_is(flags) {
            Err(Errno::EACCES) if self.tree.writable && self.kind == FileKind::Regular => self.open_as_owner(flags),
            other => other,
        }
    }

    /// Opens a file of the monitor's own user whose mode forbids that. Whoever asks has made it just now, and holds what it opened
    /// by that whatever the mode (open(2)), or is root inside; the host sees neither. So the mode permits it for a moment.
    fn open_as_owner(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        let host = self.with_fd(|fd| attributes(fd, b""))?;
        if host.stx_uid != self.tree.owner.0 {
            return Err(Errno::EACCES);
        }
        let mode = Mode::from_raw_mode(u32::from(host.stx_mode) & 0o7777);
        let change = |mode| self.with_link(|link| Ok(chmodat(&self.tree, link, mode, AtFlags::empty())?));
        change(mode | Mode::RUSR | Mode::WUSR)?;
        let opened = self.open_as_it_is(flags);
        change(mode)?;
        opened
    }

    fn open_as_it_is(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        match self.reach()? {
            Reach::Name(parent, name) => self.open_named(&parent, &name, flags),
            _ => self.with_link(|link| self.tree.keep(openat(&self.tree, link, flags, Mode::empty())?)),
        }
    }

    /// Opens the object by a name that led to it: one call, and one more to see that it still did. What has taken its place
    /// meanwhile is let go before anything is done with it; a FIFO does not make us wait, and a terminal does not become ours.
    fn open_named(&self, parent: &Self, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let fd = openat2(parent.directory_fd()?, name, flags, Mode::empty(), resolve)?;
        let host = attributes(fd.as_fd(), b"")?;
        if key(&host) != self.key || kind(&host) != self.kind {
            return Err(Errno::ENOENT);
        }
        self.tree.keep(fd)
    }

    /// Opens the directory for listing.
    pub(in crate::fs) fn open_listing(&self) -> Result<HostDirectory, Errno> {
        let fd = self.open_host(OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(HostDirectory::new(self.this()?, fd))
    }

    /// Opens the directory for listing, or the regular file.
    pub(in crate::fs) fn open_file(&self, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        match self.kind {
            FileKind::Directory => Ok(Arc::new(self.open_listing()?)),
            FileKind::Regular => {
                let kept = OpenFlags::WRONLY
                    | OpenFlags::RDWR
                    | OpenFlags::APPEND
                    | OpenFlags::DIRECT
                    | OpenFlags::NOATIME
                    | OpenFlags::DSYNC
                    | OpenFlags::SYNC;
                if flags.writes() && !self.tree.writable {
                    return Err(Errno::EROFS);
                }
                let flags = flags & kept;
                let known = self
                    .opened
                    .lock()
                    .iter()
                    .filter_map(Weak::upgrade)
                    .find(|shared| shared.flags == flags && !shared.is_private.load(Ordering::Relaxed));
                let shared = match known {
                    Some(shared) => shared,
                    None => {
                        let shared = Shared::new(self.open_shared(flags)?, flags);
                        let mut opened = self.opened.lock();
                        opened.retain(|file| file.strong_count() > 0);
                        opened.push(Arc::downgrade(&shared));
                        shared
                    }
                };
                Ok(Arc::new(HostOpen::new(shared, self.this()?)))
            }
            FileKind::Symlink => Err(Errno::ELOOP),
            FileKind::CharDevice | FileKind::BlockDevice | FileKind::Anonymous => Err(Errno::EACCES),
            FileKind::Fifo | FileKind::Socket => Err(Errno::ENXIO),
        }
    }

    /// Opens a descriptor with these flags of the regular file.
    pub(super) fn open_shared(&self, flags: OpenFlags) -> Result<Arc<HostFile>, Errno> {
        let fd = self.open_host(OFlags::from_bits_retain(flags.bits()))?;
        Ok(Arc::new(HostFile::new(fd, self.key.device, self.key.inode, flags.writes())))
    }

    /// Makes a descriptor its only user's own; `false` if it has others.
    pub(super) fn take_private(&self, shared: &Arc<Shared>) -> bool {
        let opened = self.opened.lock();
        let alone = Arc::strong_count(shared) == 1;
        if alone {
            shared.is_private.store(true, Ordering::Relaxed);
        }
        drop(opened);
        alone
    }

    /// Opens the regular file's contents for a copy of them.
    pub(in crate::fs) fn open_contents(&self) -> Result<OwnedFd, Errno> {
        match self.kind {
            FileKind::Regular => self.open_host(OFlags::RDONLY),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The text of a symbolic link.
    pub(in crate::fs) fn link_text(&self) -> Result<Vec<u8>, Errno> {
        let read = |fd: BorrowedFd<'_>, name: &[u8]| -> Result<Vec<u8>, Errno> {
            Ok(readlinkat(fd, name, Vec::with_capacity(256))?.into_bytes())
        };
        let text = match self.reach()? {
            Reach::Handle(fd) => read(fd, b"")?,
            Reach::Opened(file) => read(file.fd(), b"")?,
            Reach::Name(parent, name) => read(parent.directory_fd()?, &name)?,
        };
        if text.len() > LINK_MAX { Err(Errno::ENAMETOOLONG) } else { Ok(text) }
    }

    pub(super) fn host_stat_fs(&self) -> Result<FsStat, Errno> {
        self.with_fd(stat_fs)
    }

    /// Notes that it is about to be mapped.
    pub(super) fn maps(&self) {
        self.mapped.store(true, Ordering::Relaxed);
    }

    /// Sets the size through a descriptor that may write.
    pub(super) fn truncate(&self, fd: BorrowedFd<'_>, size: u64) -> Result<(), Errno> {
        rustix::fs::ftruncate(fd, size)?;
        if self.mapped.load(Ordering::Relaxed) {
            self.tree.memory.file_truncated((self.key.device, self.key.inode), size);
        }
        Ok(())
    }

    /// Gives a new object the owner and mode that it should have, as far as the host lets us.
    pub(super) fn settle(&self, mode: u32, owner: (u32, u32)) -> Result<(), Errno> {
        let host = self.host_attributes()?;
        let found = permissions(&host);
        if owner != self.tree.owner && owner != (found.uid, found.gid) {
            // Without the right to give files away they stay the caller's: there is no mapping of ids.
            let _ = self.change_owner(Some(owner.0), Some(owner.1));
        }
        let kept = kept_bits(self.kind);
        if self.kind != FileKind::Symlink {
            if found.mode & kept != mode & kept {
                self.change_mode(mode)?;
            } else {
                self.note_set_ids(mode);
            }
        }
        self.host_attributes().map(|_| ())
    }

    fn change_mode(&self, mode: u32) -> Result<(), Errno> {
        let host = Mode::from_raw_mode(mode & kept_bits(self.kind));
        self.with_link(|link| Ok(chmodat(&self.tree, link, host, AtFlags::empty())?))?;
        self.note_set_ids(mode);
        Ok(())
    }

    /// Notes the bits of a mode that are kept from the host.
    fn note_set_ids(&self, mode: u32) {
        let bits = mode & 0o7777 & !kept_bits(self.kind);
        let born = self.seen.lock().born;
        self.tree.set_ids.note(self.key, born, bits);
    }

    /// The file was written: who may not keep its set-id bits takes them away (file_remove_privs).
    pub(super) fn written(&self, task: &CurrentTask<'_>) {
        const CAP_FSETID: u32 = 4;
        if self.tree.set_ids.is_empty() || task.credentials().has(CAP_FSETID) {
            return;
        }
        let mode = self.seen.lock().mode;
        // Without the group's right to execute, its bit means something else.
        let kept = if mode & 0o010 != 0 { 0 } else { mode & 0o2000 };
        self.note_set_ids(mode & 0o1777 | kept);
        let mut seen = self.seen.lock();
        seen.mode = mode & !0o6000 | kept;
    }

    fn change_owner(&self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let (uid, gid) = (uid.map(rustix::fs::Uid::from_raw), gid.map(rustix::fs::Gid::from_raw));
        self.with_fd(|fd| Ok(chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH)?))
    }
}

/// The mode bits that are written to the host: a file with set-id bits would hand out rights there; on a directory the group's
/// only says which group new files get.
pub(super) fn kept_bits(kind: FileKind) -> u32 {
    if kind == FileKind::Directory { 0o3777 } else { 0o1777 }
}

/// Opens an O_PATH descriptor of `name` itself.
fn open_path(directory: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(directory, name, flags, Mode::empty(), resolve)?)
}

/// Tells whether a mount that a walk would cross into shows the host's kernel, not files.
fn is_forbidden(fd: BorrowedFd<'_>) -> bool {
    /// proc, debugfs, tracefs, bpf, securityfs, configfs, devpts (statfs(2)).
    const KERNEL: [i64; 7] = [0x9fa0, 0x6462_6720, 0x7472_6163, 0xcafe_4a11, 0x7363_6673, 0x6265_6570, 0x1cd1];
    rustix::fs::fstatfs(fd).is_ok_and(|host| KERNEL.contains(&host.f_type))
}

fn timespec(time: Option<Timestamp>) -> Timespec {
    match time {
        Some(time) => Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) },
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    }
}

impl Inode for HostInode {
    fn kind(&self) -> FileKind {
        self.kind
    }

    fn stat(&self) -> Result<Stat, Errno> {
        self.host_attributes()?;
        self.stat_found()
    }

    fn permissions(&self) -> Result<Permissions, Errno> {
        let seen = self.seen.lock();
        Ok(Permissions { mode: seen.mode, uid: seen.uid, gid: seen.gid })
    }

    fn stat_found(&self) -> Result<Stat, Errno> {
        Ok(*self.seen.lock())
    }

    fn hold(&self) -> Result<(), Errno> {
        if self.handle.get().is_none() {
            let fd = self.with_fd(|fd| self.tree.keep(rustix::io::fcntl_dupfd_cloexec(fd, 0)?))?;
            // Another task may have been faster; its descriptor is as good.
            let _ = self.handle.set(fd);
        }
        Ok(())
    }

    fn file_system_stat(&self) -> Option<Result<FsStat, Errno>> {
        Some(self.host_stat_fs())
    }

    fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        if !self.tree.writable {
            return Err(Errno::EROFS);
        }
        if change.uid.is_some() || change.gid.is_some() {
            self.change_owner(change.uid, change.gid)?;
        }
        if let Some(mode) = change.mode {
            self.change_mode(mode)?;
        }
        if let Some(size) = change.size {
            let fd = self.open_host(OFlags::WRONLY)?;
            self.truncate(fd.as_fd(), size)?;
        }
        if change.accessed.is_some() || change.modified.is_some() {
            let times =
                Timestamps { last_access: timespec(change.accessed), last_modification: timespec(change.modified) };
            match self.kind {
                FileKind::Symlink => {
                    self.with_fd(|fd| Ok(utimensat(fd, "", &times, AtFlags::EMPTY_PATH)?))?;
                }
                _ => self.with_link(|link| Ok(utimensat(&self.tree, link, &times, AtFlags::empty())?))?,
            }
        }
        self.host_attributes().map(|_| ())
    }

    fn as_dir(&self) -> Option<&dyn Directory> {
        (self.kind == FileKind::Directory).then_some(self)
    }

    fn as_link(&self) -> Option<&dyn Link> {
        (self.kind == FileKind::Symlink).then_some(self)
    }

    fn open(self: Arc<Self>, _task: &CurrentTask<'_>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        self.open_file(flags)
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        if self.kind == FileKind::Symlink {
            return Err(Errno::ENODATA);
        }
        self.with_path(|path| {
            // rustix wants room even for nothing.
            let mut value = Vec::with_capacity(rustix::fs::getxattr_query(path, name)?.max(1));
            rustix::fs::getxattr(path, name, rustix::buffer::spare_capacity(&mut value))?;
            Ok(value)
        })
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<(), Errno> {
        if !self.tree.writable {
            return Err(Errno::EROFS);
        }
        if !name.starts_with(b"user.") || self.kind == FileKind::Symlink {
            // security.capability is a set-id bit by another name; ACLs would name ids that are not mapped.
            return Err(Errno::EPERM);
        }
        let flags = XattrFlags::from_bits_retain(flags);
        self.with_path(|path| Ok(rustix::fs::setxattr(path, name, value, flags)?))
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        if !self.tree.writable {
            return Err(Errno::EROFS);
        }
        if !name.starts_with(b"user.") || self.kind == FileKind::Symlink {
            return Err(Errno::EPERM);
        }
        self.with_path(|path| Ok(rustix::fs::removexattr(path, name)?))
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        if self.kind == FileKind::Symlink {
            return Ok(Vec::new());
        }
        self.with_path(|path| {
            let mut names = Vec::with_capacity(rustix::fs::listxattr_query(path)?.max(1));
            rustix::fs::listxattr(path, rustix::buffer::spare_capacity(&mut names))?;
            Ok(names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Link for HostInode {
    fn fixed_text(&self) -> Result<Vec<u8>, Errno> {
        self.link_text()
    }
}

impl Drop for HostInode {
    fn drop(&mut self) {
        let mut inodes = self.tree.inodes.lock();
        if inodes.get(&self.key).is_some_and(|inode| inode.strong_count() == 0) {
            inodes.remove(&self.key);
        }
    }
}
