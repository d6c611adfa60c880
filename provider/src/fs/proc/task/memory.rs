//! mem and pagemap: a task's memory at offsets.

use super::{Subject, may_look};
use crate::errno::Errno;
use crate::fs::pseudo::Node;
use crate::fs::{AttributeChange, File, FileKind, Inode, OffsetKeeper, OpenFlags, Sink, Source, Stat};
use crate::mm::MemoryMap;
use crate::task::CurrentTask;
use std::any::Any;
use std::sync::Arc;
use vmm::addr::{PAGE_SIZE, USER_END, UserAddr};
use vmm::memory::PageState;

/// Bytes copied at once.
const PIECE: usize = 64 * 1024;
/// Bytes of an entry of pagemap.
const ENTRY: u64 = 8;
/// The bit of a pagemap entry that says that the page is present; frame numbers are for CAP_SYS_ADMIN only, and shown as 0.
const PRESENT: u64 = 1 << 63;

/// A file over a task's memory.
trait Window: Send + Sync + std::fmt::Debug + 'static {
    /// The open file.
    fn open(mm: Arc<MemoryMap>) -> Arc<dyn File>;
}

/// /proc/PID/mem.
#[derive(Debug)]
pub(super) struct Memory {
    mm: Arc<MemoryMap>,
}

/// /proc/PID/pagemap.
#[derive(Debug)]
pub(super) struct PageMap {
    mm: Arc<MemoryMap>,
}

impl Memory {
    /// Makes the file.
    pub(super) fn inode(node: Node, subject: Subject) -> Arc<dyn Inode> {
        Arc::new(WindowInode { node, subject, window: std::marker::PhantomData::<Self> })
    }
}

impl PageMap {
    /// Makes the file.
    pub(super) fn inode(node: Node, subject: Subject) -> Arc<dyn Inode> {
        Arc::new(WindowInode { node, subject, window: std::marker::PhantomData::<Self> })
    }
}

#[derive(Debug)]
struct WindowInode<W> {
    node: Node,
    subject: Subject,
    window: std::marker::PhantomData<W>,
}

impl<W: Window> Inode for WindowInode<W> {
    fn kind(&self) -> FileKind {
        FileKind::Regular
    }

    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.node.stat(FileKind::Regular, 0, 1))
    }

    fn change(&self, change: &AttributeChange) -> Result<(), Errno> {
        self.node.change(change)
    }

    fn open(self: Arc<Self>, task: &CurrentTask<'_>, _flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        let subject = self.subject.task()?;
        if !may_look(task, &subject) {
            return Err(Errno::EACCES);
        }
        // A task without memory opens, and reads nothing; that is rare enough to be refused.
        Ok(W::open(subject.mm().ok_or(Errno::EACCES)?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Window for Memory {
    fn open(mm: Arc<MemoryMap>) -> Arc<dyn File> {
        Arc::new(Self { mm })
    }
}

impl File for Memory {
    fn read_at(&self, _task: &CurrentTask<'_>, offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        let mut bytes = vec![0; PIECE.min(to.remaining())];
        let mut done = 0;
        while to.remaining() > 0 {
            let wanted = bytes.len().min(to.remaining());
            let step = self
                .mm
                .read_as_others(address(offset, done)?, &mut bytes[..wanted])
                .and_then(|got| to.put(&bytes[..got]));
            match step {
                Ok(0) => break,
                Ok(moved) => done += moved,
                Err(_) if done == 0 => return Err(Errno::EIO),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Writes as a debugger does: also where the program has mapped something privately that it may not write.
    fn write_at(&self, _task: &CurrentTask<'_>, offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let mut bytes = vec![0; PIECE.min(from.remaining())];
        let mut done = 0;
        while from.remaining() > 0 {
            let wanted = bytes.len().min(from.remaining());
            let taken = from.take(&mut bytes[..wanted])?;
            match self.mm.write_forced(address(offset, done)?, &bytes[..taken]) {
                Ok(0) => break,
                Ok(moved) => done += moved,
                Err(_) if done == 0 => return Err(Errno::EIO),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn offset_keeper(&self) -> OffsetKeeper<'_> {
        OffsetKeeper::Unlocked
    }

    fn size(&self) -> Result<u64, Errno> {
        Err(Errno::EINVAL)
    }
}

fn address(offset: u64, done: usize) -> Result<UserAddr, Errno> {
    let done = u64::try_from(done).map_err(|_| Errno::EIO)?;
    offset.checked_add(done).filter(|address| *address < USER_END).map(UserAddr).ok_or(Errno::EIO)
}

impl Window for PageMap {
    fn open(mm: Arc<MemoryMap>) -> Arc<dyn File> {
        Arc::new(Self { mm })
    }
}

impl File for PageMap {
    fn read_at(&self, _task: &CurrentTask<'_>, offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        let len = u64::try_from(to.remaining()).unwrap_or(u64::MAX);
        if !offset.is_multiple_of(ENTRY) || !len.is_multiple_of(ENTRY) {
            return Err(Errno::EINVAL);
        }
        let first = offset / ENTRY;
        let pages = (USER_END / PAGE_SIZE).saturating_sub(first).min(len / ENTRY);
        let mut done = 0;
        for start in (first..first + pages).step_by(PIECE / 8) {
            let end = (first + pages).min(start + (PIECE / 8) as u64);
            let bytes: Vec<u8> = (start..end).flat_map(|page| self.entry(page).to_ne_bytes()).collect();
            let put = to.put(&bytes)?;
            done += put;
            if put < bytes.len() {
                break;
            }
        }
        Ok(done)
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    fn offset_keeper(&self) -> OffsetKeeper<'_> {
        OffsetKeeper::Unlocked
    }
}

impl PageMap {
    fn entry(&self, page: u64) -> u64 {
        match self.mm.space().page_state(UserAddr(page * PAGE_SIZE)) {
            PageState::Mapped(_) | PageState::CopyOnWrite(_) => PRESENT,
            PageState::Absent | PageState::Bus => 0,
        }
    }
}
