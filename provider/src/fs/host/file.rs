//! Open host files and directories.

use super::HostInode;
use crate::errno::Errno;
use crate::fs::{DirEntry, DirSink, File, FileKind, Inode, Mapping, OpenFlags, Sink, Source};
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use rustix::fs::{AtFlags, FallocateFlags, FileType, OFlags, RawDir, SeekFrom, StatxFlags, statx};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use vmm::memory::HostFile;

/// A descriptor of a regular file. Reads and writes name their offsets, so open files of one object with the same flags share one:
/// a program that opens a file a thousand times takes one descriptor of the monitor's.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) host: Arc<HostFile>,
    pub(super) flags: OpenFlags,
    /// Its flags were changed: it is no one else's.
    pub(super) is_private: AtomicBool,
}

impl Shared {
    pub(super) fn new(host: Arc<HostFile>, flags: OpenFlags) -> Arc<Self> {
        Arc::new(Self { host, flags, is_private: AtomicBool::new(false) })
    }
}

/// An open regular file. Bytes go straight between the host's descriptor and the program's pages.
#[derive(Debug)]
pub(in crate::fs) struct HostOpen {
    shared: Arc<Shared>,
    /// A descriptor of its own, since its flags were changed.
    own: OnceLock<Arc<HostFile>>,
    /// The object, which is found through the open file.
    inode: Arc<HostInode>,
}

/// The flags that F_SETFL changes and the host must know.
const HOST_FLAGS: OpenFlags = OpenFlags::APPEND.union(OpenFlags::DIRECT).union(OpenFlags::NOATIME);

impl HostOpen {
    pub(super) fn new(shared: Arc<Shared>, inode: Arc<HostInode>) -> Self {
        Self { shared, own: OnceLock::new(), inode }
    }

    fn host(&self) -> &Arc<HostFile> {
        self.own.get().unwrap_or(&self.shared.host)
    }
}

impl File for HostOpen {
    fn read_at(&self, _task: &CurrentTask<'_>, offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        match to.fill_from_host(self.host().fd(), Some(offset)) {
            // Linux looks for the file's end before it touches the buffer.
            Err(Errno::EFAULT) if offset >= self.size()? => Ok(0),
            other => other,
        }
    }

    fn write_at(&self, task: &CurrentTask<'_>, offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let written = from.drain_to_host(self.host().fd(), Some(offset))?;
        self.inode.written(task);
        Ok(written)
    }

    fn append(&self, task: &CurrentTask<'_>, from: &mut dyn Source) -> Result<(usize, u64), Errno> {
        // The descriptor has O_APPEND, so the host ignores the offset and appends, against other host processes, too.
        let written = from.drain_to_host(self.host().fd(), Some(0))?;
        self.inode.written(task);
        Ok((written, self.size()?))
    }

    fn set_flags(&self, flags: OpenFlags) -> Result<(), Errno> {
        if self.own.get().is_none() && (flags ^ self.shared.flags) & HOST_FLAGS == OpenFlags::empty() {
            return Ok(());
        }
        if self.own.get().is_none() && !self.inode.take_private(&self.shared) {
            let own = self.inode.open_shared(self.shared.flags)?;
            // Another task may have been faster; its descriptor is as good.
            let _ = self.own.set(own);
        }
        Ok(rustix::fs::fcntl_setfl(self.host().fd(), OFlags::from_bits_retain((flags & HOST_FLAGS).bits()))?)
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(statx(self.host().fd(), "", AtFlags::EMPTY_PATH, StatxFlags::SIZE)?.stx_size)
    }

    fn seek_sparse(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        // Reads and writes name their offset, so the descriptor's own may be moved.
        let from = if hole { SeekFrom::Hole(offset) } else { SeekFrom::Data(offset) };
        Ok(rustix::fs::seek(self.host().fd(), from)?)
    }

    fn ioctl(&self, _task: &CurrentTask<'_>, _request: u32, _arg: u64) -> Result<u64, Errno> {
        Err(Errno::ENOTTY)
    }

    fn mapping(&self) -> Result<Mapping, Errno> {
        self.inode.maps();
        Ok(Mapping::Host(self.host().clone()))
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        let fd = self.host().fd();
        // A host call that a sandbox which writes nothing need not be able to make.
        if data_only && self.inode.tree.writable {
            rustix::fs::fdatasync(fd)?;
        } else {
            rustix::fs::fsync(fd)?;
        }
        Ok(())
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        self.inode.truncate(self.host().fd(), size)
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        Ok(rustix::fs::fallocate(self.host().fd(), FallocateFlags::from_bits_retain(mode), offset, len)?)
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.host().fd())
    }
}

/// Bytes of host directory entries fetched at once.
const LISTING: usize = 32 << 10;

/// An open directory. Positions are the host's, so they are as stable as the host's file system makes them.
#[derive(Debug)]
pub(in crate::fs) struct HostDirectory {
    inode: Arc<HostInode>,
    fd: OwnedFd,
    /// Where the descriptor stands; `None` after the sink was full in the middle of what was fetched.
    at: Mutex<Option<u64>>,
}

impl HostDirectory {
    pub(super) fn new(inode: Arc<HostInode>, fd: OwnedFd) -> Self {
        Self { inode, fd, at: Mutex::new(Rank::InodeChild, Some(0)) }
    }

    /// Lists all entries, `.` and `..` excluded.
    pub(in crate::fs) fn entries_all(&self, take: &mut dyn FnMut(&DirEntry<'_>) -> bool) -> Result<(), Errno> {
        self.entries(0, &mut |entry| matches!(entry.name, b"." | b"..") || take(entry))
    }

    /// Lists entries, `.` and `..` among them, from `position` until `take` answers `false`.
    pub(in crate::fs) fn entries(
        &self,
        position: u64,
        take: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let mut at = self.at.lock();
        if *at != Some(position) {
            rustix::fs::seek(&self.fd, SeekFrom::Start(position))?;
        }
        *at = None;
        let mut space = vec![MaybeUninit::<u8>::uninit(); LISTING];
        let mut listing = RawDir::new(&self.fd, &mut space);
        let mut next = position;
        while let Some(entry) = listing.next() {
            let entry = entry?;
            next = entry.next_entry_cookie();
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") && self.inode.hides_entry(name, entry.ino()) {
                continue;
            }
            let kind = entry_kind(entry.file_type()).or_else(|| self.inode.child(name).ok().map(|inode| inode.kind()));
            let Some(kind) = kind else { continue };
            if !take(&DirEntry { name, inode: entry.ino(), kind, next }) {
                return Ok(());
            }
        }
        *at = Some(next);
        Ok(())
    }
}

fn entry_kind(host: FileType) -> Option<FileKind> {
    Some(match host {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        _ => return None,
    })
}

impl File for HostDirectory {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, _to: &mut dyn Sink) -> Result<usize, Errno> {
        Err(Errno::EISDIR)
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }

    fn read_dir(&self, _task: &CurrentTask<'_>, position: u64, sink: &mut dyn DirSink) -> Result<(), Errno> {
        self.entries(position, &mut |entry| sink.entry(entry))
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(i64::MAX.unsigned_abs())
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        let fd = self.fd.as_fd();
        // A host call that a sandbox which writes nothing need not be able to make.
        if data_only && self.inode.tree.writable {
            rustix::fs::fdatasync(fd)?;
        } else {
            rustix::fs::fsync(fd)?;
        }
        Ok(())
    }
}
