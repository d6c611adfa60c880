//! Open files and directories of the overlay.

use super::OverlayInode;
use super::UPPER_NUMBERS;
use crate::errno::Errno;
use crate::fs::host::HostDirectory;
use crate::fs::{DirEntry, DirSink, File, FileKind, Inode, Mapping, OpenFlags, Sink, Source};
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use std::collections::HashSet;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

/// An open regular file: of the lower layer until the object is copied up, then of the upper.
#[derive(Debug)]
pub(super) struct OverlayFile {
    inode: Arc<OverlayInode>,
    flags: OpenFlags,
    lower: OnceLock<Arc<dyn File>>,
    upper: OnceLock<Arc<dyn File>>,
}

impl OverlayFile {
    pub(super) fn open(inode: Arc<OverlayInode>, flags: OpenFlags) -> Result<Self, Errno> {
        inode.hold_over_copy();
        let file = Self { inode, flags, lower: OnceLock::new(), upper: OnceLock::new() };
        file.current()?;
        Ok(file)
    }

    /// The open file of the layer that counts now.
    fn current(&self) -> Result<&Arc<dyn File>, Errno> {
        if let Some(upper) = self.upper.get() {
            return Ok(upper);
        }
        let layers = self.inode.layers();
        let (slot, file) = match (layers.upper, layers.lower) {
            (Some(upper), _) => (&self.upper, upper.open(self.flags)?),
            (None, Some(_)) if self.lower.get().is_some() => return self.lower.get().ok_or(Errno::EIO),
            (None, Some(lower)) => (&self.lower, lower.open_file(self.flags)?),
            (None, None) => return Err(Errno::EIO),
        };
        Ok(slot.get_or_init(|| file))
    }
}

impl File for OverlayFile {
    fn read_at(&self, task: &CurrentTask<'_>, offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        self.current()?.read_at(task, offset, to)
    }

    fn write_at(&self, task: &CurrentTask<'_>, offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        self.current()?.write_at(task, offset, from)
    }

    fn append(&self, task: &CurrentTask<'_>, from: &mut dyn Source) -> Result<(usize, u64), Errno> {
        self.current()?.append(task, from)
    }

    fn set_flags(&self, flags: OpenFlags) -> Result<(), Errno> {
        self.current()?.set_flags(flags)
    }

    fn size(&self) -> Result<u64, Errno> {
        self.current()?.size()
    }

    fn seek_sparse(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        self.current()?.seek_sparse(offset, hole)
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        self.current()?.ioctl(task, request, arg)
    }

    fn mapping(&self) -> Result<Mapping, Errno> {
        self.current()?.mapping()
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        // What lies in the lower layer was not written by us.
        match self.inode.upper() {
            Some(_) => self.current()?.sync(data_only),
            None => Ok(()),
        }
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        self.current()?.set_size(size)
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        self.current()?.allocate(mode, offset, len)
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        self.current().ok()?.host_fd()
    }
}

/// An entry of a merged listing.
#[derive(Clone, Debug)]
struct Listed {
    name: Box<[u8]>,
    inode: u64,
    kind: FileKind,
}

/// An open directory. While nothing of it is in the upper layer it lists what the host lists, with the host's positions; else the
/// merged entries are gathered at position 0, and positions count them.
#[derive(Debug)]
pub(super) struct OverlayDirectory {
    inode: Arc<OverlayInode>,
    lower: OnceLock<HostDirectory>,
    merged: Mutex<Option<Arc<Vec<Listed>>>>,
}

impl OverlayDirectory {
    pub(super) fn open(inode: Arc<OverlayInode>) -> Result<Self, Errno> {
        let directory = Self { inode, lower: OnceLock::new(), merged: Mutex::new(Rank::Leaf, None) };
        if directory.inode.upper().is_none() {
            directory.lower()?;
        }
        Ok(directory)
    }

    fn lower(&self) -> Result<Option<&HostDirectory>, Errno> {
        if let Some(lower) = self.lower.get() {
            return Ok(Some(lower));
        }
        let Some(lower) = self.inode.lower() else { return Ok(None) };
        let opened = lower.open_listing()?;
        Ok(Some(self.lower.get_or_init(|| opened)))
    }

    fn gather(&self) -> Result<Vec<Listed>, Errno> {
        let itself = self.inode.stat()?.inode;
        let above = match &*self.inode.place.lock() {
            Some((parent, _)) => parent.lower_number(),
            None => None,
        };
        let dot = |name: &[u8], inode| Listed { name: name.into(), inode, kind: FileKind::Directory };
        let mut entries = vec![dot(b".", itself), dot(b"..", above.unwrap_or(itself))];
        let mut seen: HashSet<Box<[u8]>> = HashSet::new();
        if let Some(upper) = self.inode.upper() {
            for (name, child) in upper.listing()? {
                if !child.is_whiteout() {
                    let number = self.inode.listed_number(&child)?;
                    entries.push(Listed { name: name.clone(), inode: number, kind: child.inode().kind() });
                }
                seen.insert(name);
            }
        }
        if let Some(lower) = self.lower()? {
            lower.entries_all(&mut |entry| {
                if !seen.contains(entry.name) {
                    entries.push(Listed { name: entry.name.into(), inode: entry.inode, kind: entry.kind });
                }
                true
            })?;
        }
        Ok(entries)
    }
}

impl File for OverlayDirectory {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, _to: &mut dyn Sink) -> Result<usize, Errno> {
        Err(Errno::EISDIR)
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }

    fn read_dir(&self, _task: &CurrentTask<'_>, position: u64, sink: &mut dyn DirSink) -> Result<(), Errno> {
        let mut merged = self.merged.lock().clone();
        if position == 0 {
            merged = match self.inode.upper() {
                Some(_) => Some(Arc::new(self.gather()?)),
                None => None,
            };
            let _old = std::mem::replace(&mut *self.merged.lock(), merged.clone());
        }
        let Some(entries) = merged else {
            return match self.lower()? {
                Some(lower) => lower.entries(position, &mut |entry| sink.entry(entry)),
                None => Ok(()),
            };
        };
        let start = usize::try_from(position).unwrap_or(usize::MAX).min(entries.len());
        for (next, entry) in (position + 1..).zip(&entries[start..]) {
            if !sink.entry(&DirEntry { name: &entry.name, inode: entry.inode, kind: entry.kind, next }) {
                break;
            }
        }
        Ok(())
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(i64::MAX.unsigned_abs())
    }

    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }
}

impl OverlayInode {
    /// The number that a listing reports for an entry of the upper layer.
    fn listed_number(&self, child: &super::Upper) -> Result<u64, Errno> {
        let known = self.union.known.lock().get(&child.address()).and_then(std::sync::Weak::upgrade);
        match known.and_then(|inode| inode.lower_number()) {
            Some(number) => Ok(number),
            None => Ok(UPPER_NUMBERS | child.stat()?.inode),
        }
    }
}
