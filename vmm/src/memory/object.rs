//! Memory objects: contents that live in pool frames, whoever maps them.

use super::arena::{FRAMES, Frame, usize_of};
use super::blocks::{Blocks, Owner};
use super::coherence::Changes;
use super::raw::{self, Stopped};
use super::{AddressSpace, GuestMemory, MemoryError};
use crate::addr::PAGE_SIZE;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

/// Pages whose frames are recorded together.
const GROUP: u64 = 16;
/// The frames of a group; 0 is a hole.
type Group = [u32; usize_of(GROUP)];
const HOLES: Group = [0; usize_of(GROUP)];
/// Pages at an object's start that get single frames, so that a small file does not occupy an extent.
const SMALL_PAGES: u64 = 16;

/// Bytes in pool frames with a size: the contents of an in-memory file, a memfd, a shared mapping.
/// Holes read as zeros and hold no frame. Read, write and mappings all see the same frames.
#[derive(Debug)]
pub struct MemoryObject {
    memory: Arc<GuestMemory>,
    id: u64,
    content: RwLock<Content>,
}

/// What an object's lock guards.
#[derive(Debug)]
pub(super) struct Content {
    size: u64,
    /// Frames by page number divided by [`GROUP`]; 0 is a hole.
    groups: BTreeMap<u64, Group>,
    blocks: Blocks,
    held: u64,
    /// Spaces that may map it.
    mappers: Vec<Weak<AddressSpace>>,
}

impl MemoryObject {
    pub(super) fn new(memory: Arc<GuestMemory>, id: u64) -> Arc<Self> {
        let content = Content {
            size: 0,
            groups: BTreeMap::new(),
            blocks: Blocks::new(Owner::Object(id)),
            held: 0,
            mappers: Vec::new(),
        };
        Arc::new(Self { memory, id, content: RwLock::new(content) })
    }

    /// A number no other object of this sandbox ever has (half of a shared futex's key).
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.look().size
    }

    /// Sets the size; beyond it frames are given back and mappings of them become bus errors; the last page's tail is zeroed.
    pub fn set_size(&self, size: u64) {
        let mut content = self.edit();
        let old = std::mem::replace(&mut content.size, size);
        let end = old.min(size);
        // A mapping may have written behind the end; growing must not bring those bytes into the file.
        content.zero(&self.memory, end, end.next_multiple_of(PAGE_SIZE));
        if size < old {
            let gone = content.take_out(size.div_ceil(PAGE_SIZE)..u64::MAX);
            let mappers = content.mappers();
            drop(content);
            self.give_back(gone, &mappers, size.next_multiple_of(PAGE_SIZE)..u64::MAX, Copies::Too);
        }
    }

    /// Copies bytes at `offset` into `to`; returns how many (short at the end).
    pub fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<usize, MemoryError> {
        let content = self.look();
        let bytes = to.len().min(usize_of(content.size.saturating_sub(offset)));
        let copied = content.copy_out(&self.memory, offset, raw::buffer(to), bytes);
        copied.map_err(|_| MemoryError::HostExhausted)?;
        Ok(bytes)
    }

    /// Writes bytes at `offset`, growing the object. Returns how many; fewer than asked only when memory ran out.
    pub fn write_at(&self, offset: u64, from: &[u8]) -> Result<usize, MemoryError> {
        self.memory.with_reclaim(|| {
            let from_ptr = from.as_ptr().cast_mut();
            match self.edit().copy_in(&self.memory, offset, from_ptr, from.len()) {
                (0, Err(error)) => Err(error),
                (copied, _) => Ok(copied),
            }
        })
    }

    /// Gives frames back so that the range reads as zeros (fallocate PUNCH_HOLE).
    pub fn punch_hole(&self, offset: u64, len: u64) {
        let mut content = self.edit();
        let end = offset.saturating_add(len).min(content.size.next_multiple_of(PAGE_SIZE));
        if offset >= end {
            return;
        }
        let (first, last) = (offset.div_ceil(PAGE_SIZE), end / PAGE_SIZE);
        content.zero(&self.memory, offset, end.min(offset.next_multiple_of(PAGE_SIZE)));
        content.zero(&self.memory, offset.max(last * PAGE_SIZE), end);
        if first < last {
            let gone = content.take_out(first..last);
            let mappers = content.mappers();
            drop(content);
            self.give_back(gone, &mappers, first * PAGE_SIZE..last * PAGE_SIZE, Copies::Stay);
        }
    }

    /// Bytes of frames held (st_blocks).
    pub fn held(&self) -> u64 {
        self.look().held * PAGE_SIZE
    }

    /// The next offset at or after `offset` that holds a frame, or `None`.
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        let content = self.look();
        let page = content.next_page(offset / PAGE_SIZE)?;
        let at = offset.max(page * PAGE_SIZE);
        (at < content.size).then_some(at)
    }

    /// The next offset at or after `offset` that holds no frame (at the most the size).
    pub fn next_hole(&self, offset: u64) -> u64 {
        let content = self.look();
        let mut page = offset / PAGE_SIZE;
        while page * PAGE_SIZE < content.size && content.frame(page).is_some() {
            page += 1;
        }
        offset.max(page * PAGE_SIZE).min(content.size)
    }

    /// Fills this object from a host file straight into its frames (copy-up): exactly one copy.
    /// Its size becomes `size`; where the host's file is shorter, zeros follow.
    pub fn fill_from_host(&self, fd: BorrowedFd<'_>, size: u64) -> Result<(), MemoryError> {
        self.set_size(size);
        self.copy_from_host(fd, 0, 0, size)
    }

    /// Reads `len` bytes at `from` of a host file straight into the frames from `to` on, which is the first byte of a page.
    /// The object grows as needed; where the host's file is shorter, what was there stays.
    pub fn copy_from_host(&self, fd: BorrowedFd<'_>, from: u64, to: u64, len: u64) -> Result<(), MemoryError> {
        assert!(to.is_multiple_of(PAGE_SIZE), "the caller asks for whole pages");
        let end = to.checked_add(len).filter(|end| i64::try_from(*end).is_ok()).ok_or(MemoryError::Io(libc::EFBIG))?;
        let mut at = to;
        while at < end {
            at += self.memory.with_reclaim(|| {
                let mut content = self.edit();
                let pages = (end - at).div_ceil(PAGE_SIZE);
                let count = u32::try_from(pages).unwrap_or(FRAMES).min(FRAMES);
                let (frame, count) = content.provide(&self.memory, at / PAGE_SIZE, count)?;
                let bytes = (u64::from(count) * PAGE_SIZE).min(end - at);
                read_frames(&self.memory, fd, frame, from + (at - to), usize_of(bytes))?;
                content.size = content.size.max(at + bytes);
                Ok(bytes)
            })?;
        }
        Ok(())
    }

    /// Gives a page a frame and returns where the monitor finds it. The frame stays the page's as long as the object lives
    /// and its owner neither truncates it nor punches a hole there.
    pub(crate) fn pinned_page(&self, page: u64) -> Result<NonNull<u8>, MemoryError> {
        self.memory.with_reclaim(|| {
            let (frame, _) = self.edit().provide(&self.memory, page, 1)?;
            NonNull::new(self.memory.arena().host(frame)).ok_or(MemoryError::HostExhausted)
        })
    }

    /// Notes that a space maps this object, for as long as it lives.
    pub(super) fn add_mapper(content: &mut Content, space: &Weak<AddressSpace>) {
        content.mappers.retain(|other| other.strong_count() > 0);
        if !content.mappers.iter().any(|other| other.ptr_eq(space)) {
            content.mappers.push(space.clone());
        }
    }

    pub(super) fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    pub(super) fn look(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn edit(&self) -> RwLockWriteGuard<'_, Content> {
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes pages from all mappers, then gives their frames back.
    fn give_back(
        &self,
        mut gone: Vec<Frame>,
        mappers: &[Arc<AddressSpace>],
        offsets: std::ops::Range<u64>,
        copies: Copies,
    ) {
        gone.sort_unstable();
        for space in mappers {
            space.forget_object(self.id, offsets.clone(), copies, &gone);
        }
        let mut changes = Changes::new(&self.memory);
        gone.into_iter().for_each(|frame| changes.dropped(frame));
        changes.finish_dead();
    }
}

/// What happens to private copies of an object's pages when the pages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copies {
    /// They go too: the object was truncated.
    Too,
    /// They stay: a hole was punched.
    Stay,
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The frame that holds a page.
    pub(super) fn frame(&self, page: u64) -> Option<Frame> {
        let frame = self.groups.get(&(page / GROUP))?[usize_of(page % GROUP)];
        (frame != 0).then_some(Frame(frame))
    }

    /// The first page at or after `page` that has a frame.
    fn next_page(&self, page: u64) -> Option<u64> {
        self.groups.range(page / GROUP..).find_map(|(&group, frames)| {
            let first = page.saturating_sub(group * GROUP);
            (first..GROUP).find(|&at| frames[usize_of(at)] != 0).map(|at| group * GROUP + at)
        })
    }

    /// The frame of a page, and how many of the next pages (at most `max`) have the frames behind it.
    fn run(&self, page: u64, max: u64) -> Option<(Frame, u64)> {
        let first = self.frame(page)?;
        let follows = |&ahead: &u64| {
            let continues = |frame: Frame| u64::from(frame.0) == u64::from(first.0) + ahead;
            // A run stays in one extent: the next one has counts of its own.
            self.frame(page + ahead).is_some_and(|frame| continues(frame) && frame.extent() == first.extent())
        };
        Some((first, 1 + (1..max).take_while(follows).count() as u64))
    }

    /// Sees to it that a page has a frame; returns it with the number of frames behind it for the next pages, `max` at most.
    pub(super) fn provide(&mut self, memory: &GuestMemory, page: u64, max: u32) -> Result<(Frame, u32), MemoryError> {
        if let Some((frame, count)) = self.run(page, u64::from(max)) {
            return Ok((frame, u32::try_from(count).unwrap_or(max)));
        }
        let holes = (1..u64::from(max)).take_while(|ahead| self.frame(page + ahead).is_none()).count();
        let max = u32::try_from(holes).unwrap_or(0) + 1;
        let mut pool = memory.pool();
        let taken = if page < SMALL_PAGES {
            let frame = pool.take_single(memory.arena(), memory.machine())?;
            super::pool::Taken { frame, count: 1 }
        } else {
            self.blocks.take(memory, &mut pool, page, max)?
        };
        drop(pool);
        for ahead in 0..taken.count {
            let page = page + u64::from(ahead);
            self.groups.entry(page / GROUP).or_insert(HOLES)[usize_of(page % GROUP)] = taken.frame.add(ahead).0;
        }
        self.held += u64::from(taken.count);
        Ok((taken.frame, taken.count))
    }

    /// Copies bytes that lie inside the size, or anything: what has no frame is zeros.
    pub(super) fn copy_out(&self, memory: &GuestMemory, offset: u64, to: *mut u8, bytes: usize) -> Result<(), Stopped> {
        let mut done = 0;
        while done < bytes {
            let at = offset + done as u64;
            let within = at % PAGE_SIZE;
            let left = (bytes - done) as u64;
            let pages = (within + left).div_ceil(PAGE_SIZE);
            let to = to.wrapping_add(done);
            let result = match self.run(at / PAGE_SIZE, pages) {
                Some((frame, count)) => {
                    let piece = usize_of((count * PAGE_SIZE - within).min(left));
                    let from = memory.arena().host(frame).wrapping_add(usize_of(within));
                    done += piece;
                    // SAFETY: frames that this object holds, and the caller's buffer of at least `bytes`.
                    unsafe { raw::copy(to, from, piece) }.map_err(|stop| (piece, stop))
                }
                None => {
                    let piece = usize_of((PAGE_SIZE - within).min(left));
                    done += piece;
                    // SAFETY: the caller's buffer of at least `bytes`.
                    unsafe { raw::zero(to, piece) }.map_err(|stop| (piece, stop))
                }
            };
            result.map_err(|(piece, stop)| Stopped { done: done - piece + stop.done })?;
        }
        Ok(())
    }

    /// Copies bytes in, growing as needed; returns how many, and why it stopped.
    pub(super) fn copy_in(
        &mut self,
        memory: &GuestMemory,
        offset: u64,
        from: *mut u8,
        bytes: usize,
    ) -> (usize, Result<(), MemoryError>) {
        if offset.checked_add(bytes as u64).is_none_or(|end| end > i64::MAX.cast_unsigned()) {
            return (0, Err(MemoryError::Io(libc::EFBIG)));
        }
        if bytes > 0 && offset > self.size {
            // A mapping may have written behind the old end, which becomes part of the file now.
            self.zero(memory, self.size, self.size.next_multiple_of(PAGE_SIZE).min(offset));
        }
        let mut done = 0;
        let result = loop {
            if done == bytes {
                break Ok(());
            }
            let at = offset + done as u64;
            let within = at % PAGE_SIZE;
            let left = (bytes - done) as u64;
            let pages = u32::try_from((within + left).div_ceil(PAGE_SIZE)).unwrap_or(u32::MAX);
            let (frame, count) = match self.provide(memory, at / PAGE_SIZE, pages) {
                Ok(run) => run,
                Err(error) => break Err(error),
            };
            let piece = usize_of((u64::from(count) * PAGE_SIZE - within).min(left));
            let to = memory.arena().host(frame).wrapping_add(usize_of(within));
            // SAFETY: frames that this object holds, and the caller's buffer of at least `bytes`.
            if let Err(stop) = unsafe { raw::copy(to, from.wrapping_add(done), piece) } {
                done += stop.done;
                break Err(MemoryError::Io(libc::EFAULT));
            }
            done += piece;
        };
        if done > 0 {
            self.size = self.size.max(offset + done as u64);
        }
        (done, result)
    }

    /// Zeroes offsets inside one page, if it has a frame.
    fn zero(&self, memory: &GuestMemory, from: u64, to: u64) {
        if from >= to {
            return;
        }
        if let Some(frame) = self.frame(from / PAGE_SIZE) {
            let at = memory.arena().host(frame).wrapping_add(usize_of(from % PAGE_SIZE));
            // SAFETY: inside a frame that this object holds.
            let zeroed = unsafe { raw::zero(at, usize_of(to - from)) };
            assert!(zeroed.is_ok(), "the host backs its own anonymous memory, or kills us");
        }
    }

    /// Forgets the frames of pages and returns them.
    fn take_out(&mut self, pages: std::ops::Range<u64>) -> Vec<Frame> {
        let mut gone = Vec::new();
        let groups = pages.start / GROUP..=pages.end.saturating_sub(1) / GROUP;
        let touched: Vec<u64> = self.groups.range(groups).map(|(&group, _)| group).collect();
        for group in touched {
            let Some(frames) = self.groups.get_mut(&group) else { continue };
            for (at, frame) in (0..).zip(frames.iter_mut()) {
                if pages.contains(&(group * GROUP + at)) && *frame != 0 {
                    gone.push(Frame(std::mem::take(frame)));
                }
            }
            if frames.iter().all(|&frame| frame == 0) {
                self.groups.remove(&group);
            }
        }
        self.held -= gone.len() as u64;
        gone
    }

    fn mappers(&self) -> Vec<Arc<AddressSpace>> {
        self.mappers.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Drop for MemoryObject {
    fn drop(&mut self) {
        let content = self.content.get_mut().unwrap_or_else(PoisonError::into_inner);
        let gone = content.take_out(0..u64::MAX);
        let mut changes = Changes::new(&self.memory);
        gone.into_iter().for_each(|frame| changes.dropped(frame));
        changes.finish_dead();
    }
}

/// Reads from a host file at `offset` into consecutive frames. A short file leaves the rest as it is.
pub(super) fn read_frames(
    memory: &GuestMemory,
    fd: BorrowedFd<'_>,
    frame: Frame,
    offset: u64,
    bytes: usize,
) -> Result<(), MemoryError> {
    let to = memory.arena().host(frame);
    let mut done = 0;
    while done < bytes {
        let at = libc::off_t::try_from(offset + done as u64).map_err(|_| MemoryError::Io(libc::EFBIG))?;
        let rest = to.wrapping_add(done).cast();
        let piece = libc::iovec { iov_base: rest, iov_len: bytes - done };
        // SAFETY: the piece is of the frames, which are the caller's and at least `bytes` long.
        let moved = unsafe { libc::preadv2(fd.as_raw_fd(), &raw const piece, 1, at, 0) };
        match usize::try_from(moved) {
            Ok(0) => return Ok(()),
            Ok(moved) => done += moved,
            Err(_) => match super::arena::host_error() {
                MemoryError::Io(libc::EINTR) => {}
                error => return Err(error),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
