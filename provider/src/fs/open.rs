//! Open file descriptions.

use super::epoll::Item;
use super::notify::Mask;
use super::sigio::Notice;
use super::usage::Opened;
use super::{DirSink, File, FileLocks, Location, OffsetKeeper, OpenFlags, Sink, Source};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use linux_raw_sys::general::{SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// The most bytes one read or write moves (MAX_RW_COUNT in include/linux/fs.h): INT_MAX without the last page's part.
pub const MAX_RW_COUNT: usize = 0x7fff_f000;

/// Numbers open files, for the owners of locks.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// An open file description: what dup(2) and fork(2) share.
#[derive(Debug)]
pub struct OpenFile {
    id: u64,
    file: Arc<dyn File>,
    location: Location,
    flags: AtomicU32,
    /// Held for the whole of a read or write that uses it, as Linux holds f_pos_lock: files with a position never block. Files say
    /// otherwise with [`File::offset_keeper`].
    offset: Mutex<u64>,
    /// What it signals and to whom, once that was asked for.
    notice: OnceLock<Arc<Notice>>,
    /// Where it has locks, if it ever had one: they go with it.
    locks: OnceLock<Arc<FileLocks>>,
    /// The items of epolls that watch it: they go with it.
    watches: Mutex<Vec<Weak<Item>>>,
    /// That it was opened by a path.
    opened: Option<Opened>,
    /// The open made the file (F_CREATED_QUERY).
    created: AtomicBool,
}

impl OpenFile {
    /// The flags that F_GETFL does not report: they counted at open only.
    const OPEN_ONLY: OpenFlags = OpenFlags::CREAT
        .union(OpenFlags::EXCL)
        .union(OpenFlags::NOCTTY)
        .union(OpenFlags::TRUNC)
        .union(OpenFlags::CLOEXEC);

    /// The flags that F_SETFL changes.
    const CHANGEABLE: OpenFlags =
        OpenFlags::APPEND.union(OpenFlags::NONBLOCK).union(OpenFlags::DIRECT).union(OpenFlags::NOATIME);

    /// Makes one at offset 0.
    pub fn new(file: Arc<dyn File>, location: Location, flags: OpenFlags) -> Arc<Self> {
        Self::counted(file, location, flags, None)
    }

    /// Makes one that was opened by a path, for reading.
    pub fn by_path(file: Arc<dyn File>, location: Location, flags: OpenFlags) -> Result<Arc<Self>, Errno> {
        let opened = location.opened(flags.writes())?;
        Ok(Self::counted(file, location, flags, opened))
    }

    /// Makes one that is counted as open.
    pub(super) fn counted(
        file: Arc<dyn File>,
        location: Location,
        flags: OpenFlags,
        opened: Option<Opened>,
    ) -> Arc<Self> {
        let this = Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            file,
            location,
            flags: AtomicU32::new(flags.difference(Self::OPEN_ONLY).bits()),
            offset: Mutex::new(Rank::OpenFile, 0),
            notice: OnceLock::new(),
            locks: OnceLock::new(),
            watches: Mutex::new(Rank::Leaf, Vec::new()),
            opened,
            created: AtomicBool::new(false),
        });
        this.tell(Mask::OPEN);
        this
    }

    /// Tells whether the open made the file.
    pub fn has_created(&self) -> bool {
        self.created.load(Ordering::Relaxed)
    }

    /// Notes that the open made the file.
    pub(super) fn note_created(&self) {
        self.created.store(true, Ordering::Relaxed);
    }

    /// Tells who watches the file of what happened to it.
    pub fn tell(&self, mask: Mask) {
        if let Some(opened) = &self.opened {
            opened.watches().tell_use(&self.location, mask);
        }
    }

    fn told_read(&self, read: Result<usize, Errno>) -> Result<usize, Errno> {
        if matches!(read, Ok(1..)) {
            self.tell(Mask::ACCESS);
        }
        read
    }

    fn told_write(&self, written: Result<usize, Errno>) -> Result<usize, Errno> {
        if matches!(written, Ok(1..)) {
            self.tell(Mask::MODIFY);
        }
        written
    }

    /// A number that no other open file of this monitor has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The file behind it.
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Where it was opened.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Status flags (F_GETFL).
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Changes those status flags that F_SETFL may change.
    pub fn set_flags(&self, flags: OpenFlags) -> Result<(), Errno> {
        let new = self.flags().difference(Self::CHANGEABLE) | (flags & Self::CHANGEABLE);
        self.file.set_flags(new)?;
        self.flags.store(new.bits(), Ordering::Relaxed);
        Ok(())
    }

    /// What it signals, if that was ever asked for.
    pub(crate) fn notice(&self) -> Option<&Arc<Notice>> {
        self.notice.get()
    }

    /// What it signals, to be changed.
    pub(crate) fn notice_mut(&self, task: &CurrentTask<'_>) -> &Arc<Notice> {
        self.notice.get_or_init(|| Notice::new(task))
    }

    /// Notes whether it signals (O_ASYNC), which only that code changes.
    pub(crate) fn mark_async(&self, on: bool) {
        if on {
            self.flags.fetch_or(OpenFlags::ASYNC.bits(), Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!OpenFlags::ASYNC.bits(), Ordering::Relaxed);
        }
    }

    /// Notes that it has locks.
    pub(super) fn remember_locks(&self, locks: &Arc<FileLocks>) {
        // There is one table of locks in a sandbox.
        let _ = self.locks.set(locks.clone());
    }

    /// Tells whether it was opened by a path.
    pub(super) fn is_counted(&self) -> bool {
        self.opened.is_some()
    }

    /// Notes that an epoll watches it.
    pub(super) fn add_watch(&self, item: &Arc<Item>) {
        self.watches.lock().push(Arc::downgrade(item));
    }

    /// Forgets an item of an epoll.
    pub(super) fn remove_watch(&self, item: &Arc<Item>) {
        self.watches.lock().retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(item)));
    }

    /// The present offset.
    pub fn offset(&self) -> u64 {
        match self.file.offset_keeper() {
            OffsetKeeper::OpenFile | OffsetKeeper::Unlocked => *self.offset.lock(),
            OffsetKeeper::Zero => 0,
            OffsetKeeper::File(own) => own.seek(0, SEEK_CUR).unwrap_or_default(),
        }
    }

    /// Calls `change` with the offset, which it may change, while no read or write uses it.
    pub fn with_offset<T>(&self, change: impl FnOnce(&mut u64) -> T) -> T {
        change(&mut self.offset.lock())
    }

    /// Reads at the offset and moves it; `EBADF` if it was not opened for reading, `EAGAIN` if nothing is there yet.
    pub fn read(&self, task: &CurrentTask<'_>, to: &mut dyn Sink) -> Result<usize, Errno> {
        self.check_read(to)?;
        self.told_read(self.read_next(task, to))
    }

    fn read_next(&self, task: &CurrentTask<'_>, to: &mut dyn Sink) -> Result<usize, Errno> {
        if !self.file.seekable() {
            return self.file.read_at(task, 0, to);
        }
        match self.file.offset_keeper() {
            OffsetKeeper::OpenFile => {
                let mut offset = self.offset.lock();
                let read = self.file.read_at(task, *offset, to)?;
                *offset = offset.saturating_add(bytes(read));
                Ok(read)
            }
            OffsetKeeper::Unlocked => {
                let offset = *self.offset.lock();
                let read = self.file.read_at(task, offset, to)?;
                *self.offset.lock() = offset.saturating_add(bytes(read));
                Ok(read)
            }
            OffsetKeeper::Zero => self.file.read_at(task, 0, to),
            OffsetKeeper::File(own) => own.read(to),
        }
    }

    /// Reads at `offset` (pread); `ESPIPE` for a stream.
    pub fn read_at(&self, task: &CurrentTask<'_>, offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        if !self.file.seekable() {
            return Err(Errno::ESPIPE);
        }
        self.check_read(to)?;
        self.told_read(self.file.read_at(task, offset, to))
    }

    /// Writes at the offset (with O_APPEND: at the end) and moves it.
    pub fn write(&self, task: &CurrentTask<'_>, from: &mut dyn Source) -> Result<usize, Errno> {
        self.check_write(from)?;
        self.told_write(self.write_next(task, from))
    }

    fn write_next(&self, task: &CurrentTask<'_>, from: &mut dyn Source) -> Result<usize, Errno> {
        if !self.file.seekable() {
            return self.file.write_at(task, 0, from);
        }
        let appends = self.flags().contains(OpenFlags::APPEND);
        match self.file.offset_keeper() {
            OffsetKeeper::OpenFile => {
                let mut offset = self.offset.lock();
                if appends {
                    let (written, end) = self.file.append(task, from)?;
                    *offset = end;
                    return Ok(written);
                }
                let written = self.file.write_at(task, *offset, from)?;
                *offset = offset.saturating_add(bytes(written));
                Ok(written)
            }
            OffsetKeeper::Unlocked => {
                let offset = *self.offset.lock();
                let written = self.file.write_at(task, offset, from)?;
                *self.offset.lock() = offset.saturating_add(bytes(written));
                Ok(written)
            }
            OffsetKeeper::Zero => self.file.write_at(task, 0, from),
            OffsetKeeper::File(own) => {
                if appends {
                    own.seek(0, SEEK_END)?;
                }
                own.write(from)
            }
        }
    }

    /// Moves the offset as lseek(2) says; returns the new one. `ESPIPE` for a stream, `EINVAL` for an unknown `whence` and for
    /// an offset before the start, `ENXIO` beyond the last data or hole.
    pub fn seek(&self, offset: i64, whence: u32) -> Result<u64, Errno> {
        if whence > SEEK_HOLE {
            return Err(Errno::EINVAL);
        }
        if !self.file.seekable() && !matches!(self.file.offset_keeper(), OffsetKeeper::Zero) {
            return Err(Errno::ESPIPE);
        }
        match self.file.offset_keeper() {
            OffsetKeeper::OpenFile => {
                let mut current = self.offset.lock();
                *current = self.target(*current, offset, whence)?;
                Ok(*current)
            }
            OffsetKeeper::Unlocked => {
                let current = *self.offset.lock();
                let target = self.target(current, offset, whence)?;
                *self.offset.lock() = target;
                Ok(target)
            }
            OffsetKeeper::Zero => Ok(0),
            OffsetKeeper::File(own) => own.seek(offset, whence),
        }
    }

    /// Where a seek leads.
    fn target(&self, current: u64, offset: i64, whence: u32) -> Result<u64, Errno> {
        let from = match whence {
            SEEK_SET => 0,
            SEEK_CUR => current,
            SEEK_END => self.file.size()?,
            _ => {
                let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                return self.file.seek_sparse(offset, whence != SEEK_DATA);
            }
        };
        from.checked_add_signed(offset).filter(|target| i64::try_from(*target).is_ok()).ok_or(Errno::EINVAL)
    }

    /// Writes at `offset` (pwrite). With O_APPEND it appends, as Linux does against POSIX (pwrite(2), BUGS).
    pub fn write_at(&self, task: &CurrentTask<'_>, offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        if !self.file.seekable() {
            return Err(Errno::ESPIPE);
        }
        self.check_write(from)?;
        let written = if self.flags().contains(OpenFlags::APPEND) {
            self.file.append(task, from).map(|(written, _)| written)
        } else {
            self.file.write_at(task, offset, from)
        };
        self.told_write(written)
    }

    /// Writes at the end as if it had O_APPEND, and moves the offset only if `moves` (pwritev2's RWF_APPEND).
    pub fn append(&self, task: &CurrentTask<'_>, from: &mut dyn Source, moves: bool) -> Result<usize, Errno> {
        self.check_write(from)?;
        let appended = if moves {
            let mut offset = self.offset.lock();
            self.file.append(task, from).map(|(written, end)| {
                *offset = end;
                written
            })
        } else {
            self.file.append(task, from).map(|(written, _)| written)
        };
        self.told_write(appended)
    }

    /// Lists directory entries at the offset; the sink's last taken entry says where to go on.
    pub fn read_dir(&self, task: &CurrentTask<'_>, position: u64, sink: &mut dyn DirSink) -> Result<(), Errno> {
        self.file.read_dir(task, position, sink)?;
        self.tell(Mask::ACCESS);
        Ok(())
    }

    fn check_read(&self, to: &mut dyn Sink) -> Result<(), Errno> {
        to.limit(MAX_RW_COUNT);
        if self.flags().reads() { Ok(()) } else { Err(Errno::EBADF) }
    }

    fn check_write(&self, from: &mut dyn Source) -> Result<(), Errno> {
        from.limit(MAX_RW_COUNT);
        if self.flags().writes() { Ok(()) } else { Err(Errno::EBADF) }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let watches = std::mem::take(&mut *self.watches.lock());
        for item in watches.iter().filter_map(Weak::upgrade) {
            item.file_closed();
        }
        if let Some(locks) = self.locks.get() {
            locks.released(self);
        }
        if let (Some(opened), Some(_)) = (&self.opened, self.notice.get()) {
            opened.watches().directory_closed(self, None);
        }
        self.file.released();
        self.tell(if self.flags().writes() { Mask::CLOSE_WRITE } else { Mask::CLOSE_NOWRITE });
    }
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
