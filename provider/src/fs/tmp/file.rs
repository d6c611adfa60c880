//! Open in-memory files.

use super::inode::{Body, TmpInode};
use crate::errno::Errno;
use crate::fs::{File, Inode, Mapping, Seals, Sink, Source};
use crate::task::CurrentTask;
use std::sync::Arc;
use vmm::addr::UserAddr;

/// Capability that keeps set-id bits when a file is written (CAP_FSETID).
const CAP_FSETID: u32 = 4;
/// fallocate(2): FALLOC_FL_KEEP_SIZE.
const KEEP_SIZE: u32 = 1;
/// fallocate(2): FALLOC_FL_PUNCH_HOLE.
const PUNCH_HOLE: u32 = 2;

/// An open regular file.
#[derive(Debug)]
pub(super) struct TmpFile {
    inode: Arc<TmpInode>,
    notes_reads: NotesReads,
}

/// Whether reads bring the access time up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fs) enum NotesReads {
    /// As relatime does.
    Yes,
    /// Not with O_NOATIME, nor on a mount without access times.
    No,
}

impl TmpFile {
    pub(super) fn new(inode: Arc<TmpInode>, notes_reads: NotesReads) -> Self {
        Self { inode, notes_reads }
    }

    /// Notes a write: the times, and that the set-id bits go (file_remove_privs).
    fn written(&self, task: &CurrentTask<'_>) {
        let has_set_ids = self.inode.update(|attributes, now| {
            attributes.modified = now;
            attributes.mode & 0o6000 != 0
        });
        // Who writes is looked up while the attributes are not locked: both locks are leaves.
        if has_set_ids && !task.credentials().has(CAP_FSETID) {
            self.inode.update(|attributes, _| {
                let group_execute = attributes.mode & 0o010 != 0;
                attributes.mode &= if group_execute { !0o6000 } else { !0o4000 };
            });
        }
    }
}

impl File for TmpFile {
    fn read_at(&self, _task: &CurrentTask<'_>, offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        let object = self.inode.object()?;
        if self.notes_reads == NotesReads::Yes {
            self.inode.accessed();
        }
        if offset >= object.size() || to.remaining() == 0 {
            return Ok(0);
        }
        to.fill_from_object(object, offset)
    }

    fn write_at(&self, task: &CurrentTask<'_>, offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        if from.remaining() == 0 {
            return Ok(0);
        }
        let room = i64::MAX.unsigned_abs().saturating_sub(offset);
        if room == 0 {
            return Err(Errno::EFBIG);
        }
        from.limit(usize::try_from(room).unwrap_or(usize::MAX));
        let object = self.inode.object()?;
        let bytes = u64::try_from(from.remaining()).unwrap_or(u64::MAX);
        let room = self.inode.sealing()?.writable(offset, bytes, object.size())?;
        let room = room.min(self.inode.room_at(offset, room.min(bytes))?);
        if room == 0 && bytes > 0 {
            return Err(Errno::ENOSPC);
        }
        from.limit(usize::try_from(room).unwrap_or(usize::MAX));
        let written = from.drain_to_object(object, offset);
        self.inode.count_data();
        let written = written?;
        self.written(task);
        Ok(written)
    }

    fn append(&self, task: &CurrentTask<'_>, from: &mut dyn Source) -> Result<(usize, u64), Errno> {
        let Body::Regular { object, appending, .. } = &self.inode.body else { return Err(Errno::EINVAL) };
        let _appending = appending.lock();
        let end = object.size();
        let written = self.write_at(task, end, from)?;
        Ok((written, end.saturating_add(u64::try_from(written).unwrap_or(0))))
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.inode.object()?.size())
    }

    fn seek_sparse(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        let object = self.inode.object()?;
        if offset >= object.size() {
            return Err(Errno::ENXIO);
        }
        if hole { Ok(object.next_hole(offset)) } else { object.next_data(offset).ok_or(Errno::ENXIO) }
    }

    fn mapping(&self) -> Result<Mapping, Errno> {
        Ok(Mapping::Object(self.inode.object()?.clone()))
    }

    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        self.inode.change(&crate::fs::AttributeChange { size: Some(size), ..Default::default() })
    }

    fn seals(&self) -> Result<Seals, Errno> {
        Ok(self.inode.sealing()?.get())
    }

    fn add_seals(&self, seals: Seals, is_mapped: &dyn Fn() -> bool) -> Result<(), Errno> {
        self.inode.sealing()?.add(seals, self.inode.permissions()?.mode, is_mapped)
    }

    fn map_writable(&self, map: &mut dyn FnMut(Seals) -> Result<UserAddr, Errno>) -> Result<UserAddr, Errno> {
        let seals = self.inode.sealing()?.lock();
        map(*seals)
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        let object = self.inode.object()?;
        let seals = self.inode.sealing()?.get();
        let punches = mode & PUNCH_HOLE != 0;
        if punches && seals.intersects(Seals::UNWRITABLE)
            || !punches && seals.contains(Seals::GROW) && offset.saturating_add(len) > object.size()
        {
            return Err(Errno::EPERM);
        }
        match mode {
            // Frames are given at the first write; the sandbox's memory limit is what a reservation would have to ask.
            0 | KEEP_SIZE if self.inode.room_at(offset, len)? < len => Err(Errno::ENOSPC),
            0 => {
                let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
                if end > object.size() { self.set_size(end) } else { Ok(()) }
            }
            KEEP_SIZE => Ok(()),
            mode if mode == KEEP_SIZE | PUNCH_HOLE => {
                object.punch_hole(offset, len);
                self.inode.count_data();
                self.inode.update(|attributes, now| attributes.modified = now);
                Ok(())
            }
            _ => Err(Errno::EOPNOTSUPP),
        }
    }
}
