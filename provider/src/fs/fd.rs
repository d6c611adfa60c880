//! Descriptors.

use super::io::{buffer, grow};
use super::{OpenFile, OpenFlags};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use std::sync::Arc;

/// A file descriptor number; any `int` a program may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fd(pub i32);

impl Fd {
    /// Stands for the working directory in the `*at` calls (AT_FDCWD).
    pub const CWD: Self = Self(linux_raw_sys::general::AT_FDCWD);

    fn index(self) -> Option<usize> {
        usize::try_from(self.0).ok()
    }
}

#[derive(Clone, Debug)]
struct Slot {
    file: Arc<OpenFile>,
    close_on_exec: bool,
}

/// A process's descriptors.
#[derive(Debug)]
pub struct FdTable {
    slots: Mutex<Slots>,
}

#[derive(Clone, Debug, Default)]
struct Slots {
    slots: Vec<Option<Slot>>,
    /// A bit a slot: which are in use, so that a free number among many thousands is found quickly.
    used: Vec<u64>,
    /// Every number below it is in use.
    first_free: usize,
}

/// Bits of a word of the map of used numbers.
const WORD: usize = 64;

/// The highest number that any limit permits (sysctl fs.nr_open).
const NR_OPEN: u64 = 1 << 20;

impl Default for FdTable {
    fn default() -> Self {
        Self { slots: Mutex::new(Rank::Files, Slots::default()) }
    }
}

impl Slots {
    fn lowest_free(&self, from: usize) -> usize {
        let start = from.max(self.first_free);
        // Bits below the start count as used in its word.
        let mut below = (1 << (start % WORD)) - 1;
        for (index, word) in self.used.iter().enumerate().skip(start / WORD) {
            let used = word | std::mem::take(&mut below);
            if used != u64::MAX {
                return index * WORD + used.trailing_ones() as usize;
            }
        }
        start.max(self.used.len() * WORD)
    }

    /// Notes whether a number is in use.
    fn mark(&mut self, at: usize, used: bool) {
        let (word, bit) = (at / WORD, 1 << (at % WORD));
        if used {
            self.used[word] |= bit;
        } else {
            self.used[word] &= !bit;
        }
    }

    fn put(&mut self, at: usize, slot: Slot) -> Result<Option<Slot>, Errno> {
        grow(&mut self.slots, at + 1)?;
        grow(&mut self.used, at / WORD + 1)?;
        let old = self.slots[at].replace(slot);
        self.mark(at, true);
        if at == self.first_free {
            self.first_free = self.lowest_free(at + 1);
        }
        Ok(old)
    }

    fn take(&mut self, at: usize) -> Option<Slot> {
        let taken = self.slots.get_mut(at)?.take()?;
        self.mark(at, false);
        self.first_free = self.first_free.min(at);
        Some(taken)
    }
}

impl FdTable {
    /// Finds an open file, O_PATH ones included; `EBADF`.
    pub fn get_any(&self, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
        let slots = self.slots.lock();
        let slot = fd.index().and_then(|index| slots.slots.get(index)).and_then(Option::as_ref);
        slot.map(|slot| slot.file.clone()).ok_or(Errno::EBADF)
    }

    /// Finds an open file that is open for more than its place: O_PATH descriptors are `EBADF`, too.
    pub fn get(&self, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
        let file = self.get_any(fd)?;
        if file.flags().contains(OpenFlags::PATH) { Err(Errno::EBADF) } else { Ok(file) }
    }

    /// Puts an open file at the lowest free number at or above `from`; `EMFILE` at `limit` (RLIMIT_NOFILE), `ENOMEM`.
    pub fn insert(&self, file: Arc<OpenFile>, close_on_exec: bool, from: i32, limit: u64) -> Result<Fd, Errno> {
        let mut slots = self.slots.lock();
        let at = slots.lowest_free(usize::try_from(from).map_err(|_| Errno::EINVAL)?);
        let fd = i32::try_from(at).map_err(|_| Errno::EMFILE)?;
        if u64::try_from(at).map_or(true, |at| at >= limit.min(NR_OPEN)) {
            return Err(Errno::EMFILE);
        }
        slots.put(at, Slot { file, close_on_exec })?;
        Ok(Fd(fd))
    }

    /// Puts an open file at a given number, in the place of what is there (dup2); `EBADF` for a number beyond `limit`, `ENOMEM`.
    pub fn replace(&self, file: Arc<OpenFile>, close_on_exec: bool, at: Fd, limit: u64) -> Result<(), Errno> {
        let index = at.index().ok_or(Errno::EBADF)?;
        if u64::try_from(index).map_or(true, |index| index >= limit.min(NR_OPEN)) {
            return Err(Errno::EBADF);
        }
        // Dropped after the lock: the last reference closes the file.
        let _old = self.slots.lock().put(index, Slot { file, close_on_exec })?;
        Ok(())
    }

    /// Closes a descriptor; returns the open file it stood for.
    pub fn close(&self, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
        let index = fd.index().ok_or(Errno::EBADF)?;
        let slot = self.slots.lock().take(index);
        slot.map(|slot| slot.file).ok_or(Errno::EBADF)
    }

    /// Tells whether the descriptor is closed on exec (F_GETFD).
    pub fn closes_on_exec(&self, fd: Fd) -> Result<bool, Errno> {
        let slots = self.slots.lock();
        let slot = fd.index().and_then(|index| slots.slots.get(index)).and_then(Option::as_ref);
        slot.map(|slot| slot.close_on_exec).ok_or(Errno::EBADF)
    }

    /// Says whether the descriptor is closed on exec (F_SETFD, FIOCLEX).
    pub fn set_close_on_exec(&self, fd: Fd, close_on_exec: bool) -> Result<(), Errno> {
        let mut slots = self.slots.lock();
        let slot = fd.index().and_then(|index| slots.slots.get_mut(index)).and_then(Option::as_mut);
        slot.ok_or(Errno::EBADF)?.close_on_exec = close_on_exec;
        Ok(())
    }

    /// Closes the descriptors that are marked close-on-exec; returns them, so that they are dropped where no lock is held.
    pub fn close_on_exec(&self) -> Vec<Arc<OpenFile>> {
        let mut closed = Vec::new();
        {
            let mut slots = self.slots.lock();
            for at in 0..slots.slots.len() {
                if slots.slots[at].as_ref().is_some_and(|slot| slot.close_on_exec) {
                    closed.extend(slots.take(at).map(|slot| slot.file));
                }
            }
        }
        closed
    }

    /// Closes (or, if `mark`, marks close-on-exec) all descriptors from `first` to `last`, both included (close_range).
    pub fn close_range(&self, first: u32, last: u32, action: RangeAction) -> Vec<Arc<OpenFile>> {
        let mut closed = Vec::new();
        let mut slots = self.slots.lock();
        let end = usize::try_from(last).map_or(usize::MAX, |last| last.saturating_add(1)).min(slots.slots.len());
        for at in usize::try_from(first).unwrap_or(usize::MAX)..end {
            match action {
                RangeAction::Close => closed.extend(slots.take(at).map(|slot| slot.file)),
                RangeAction::MarkCloseOnExec => {
                    if let Some(slot) = &mut slots.slots[at] {
                        slot.close_on_exec = true;
                    }
                }
            }
        }
        closed
    }

    /// A copy with the same open files (fork, unshare of CLONE_FILES), no larger than they need (sane_fdtable_size); `ENOMEM`.
    pub fn copy(&self) -> Result<Self, Errno> {
        let original = self.slots.lock();
        let used = original.slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let (mut slots, mut words) = (buffer(used)?, buffer(used.div_ceil(WORD))?);
        slots.clone_from_slice(&original.slots[..used]);
        words.copy_from_slice(&original.used[..used.div_ceil(WORD)]);
        let copy = Slots { slots, used: words, first_free: original.first_free };
        Ok(Self { slots: Mutex::new(Rank::Files, copy) })
    }

    /// One more than the highest number that was in use since the table was made.
    pub fn size(&self) -> usize {
        self.slots.lock().slots.len()
    }

    /// The numbers in use, ascending (/proc/PID/fd).
    pub fn numbers(&self) -> Vec<Fd> {
        let slots = self.slots.lock();
        let used = slots.slots.iter().enumerate().filter(|(_, slot)| slot.is_some());
        used.filter_map(|(at, _)| i32::try_from(at).ok().map(Fd)).collect()
    }
}

/// What [`FdTable::close_range`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeAction {
    /// Close the descriptors.
    Close,
    /// Mark them close-on-exec.
    MarkCloseOnExec,
}

#[cfg(test)]
#[path = "fd_tests.rs"]
mod tests;
