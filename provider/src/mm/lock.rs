//! Locked memory (mlock and its kin). Frames are never swapped out, so locking counts, and makes pages present.

use super::vma::{Vma, VmaFlags};
use super::{MemoryMap, State};
use crate::errno::Errno;
use vmm::addr::{USER_END, UserAddr, UserRange};

/// Whether locking makes pages present at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// At once.
    Now,
    /// When they are touched (MLOCK_ONFAULT).
    OnFault,
}

impl LockMode {
    fn flags(self) -> VmaFlags {
        match self {
            Self::Now => VmaFlags::LOCKED,
            Self::OnFault => VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT,
        }
    }
}

const LOCK_FLAGS: VmaFlags = VmaFlags::LOCKED.union(VmaFlags::LOCK_ON_FAULT);

impl MemoryMap {
    /// Locks whole pages; `may_lock`: CAP_IPC_LOCK.
    ///
    /// # Errors
    /// `ENOMEM`: the limit, a hole (what lies before it is locked), or memory without access: that is locked, but cannot be made
    /// present (`__mm_populate`).
    pub fn lock(&self, range: UserRange, mode: LockMode, may_lock: bool) -> Result<(), Errno> {
        {
            let mut state = self.state.write();
            let locked: u64 = state
                .tree
                .overlapping(range)
                .filter(|vma| vma.flags.contains(VmaFlags::LOCKED))
                .filter_map(|vma| vma.range.intersect(range))
                .map(UserRange::len)
                .sum();
            let more = range.len().saturating_sub(locked);
            self.check_locked(&state, more, may_lock).map_err(|_| Errno::ENOMEM)?;
            state.set_lock(range, mode.flags())?;
        }
        if mode == LockMode::OnFault {
            return Ok(());
        }
        match self.first_inaccessible(range) {
            Some(end) => {
                self.make_present(UserRange { start: range.start, end });
                Err(Errno::ENOMEM)
            }
            None => {
                self.make_present(range);
                Ok(())
            }
        }
    }

    /// Where the first mapping starts that nothing may touch.
    fn first_inaccessible(&self, range: UserRange) -> Option<UserAddr> {
        let state = self.state.read();
        let found = state
            .tree
            .overlapping(range)
            .find(|vma| vma.access.is_empty() && !vma.flags.contains(VmaFlags::SPECIAL))?;
        Some(found.clipped(range).range.start)
    }

    /// Unlocks whole pages; `ENOMEM` at a hole.
    pub fn unlock(&self, range: UserRange) -> Result<(), Errno> {
        self.state.write().set_lock(range, VmaFlags::empty())
    }

    /// Locks all that is mapped, and if `future` all that will be; `ENOMEM` beyond the limit.
    pub fn lock_all(&self, current: bool, future: bool, mode: LockMode, may_lock: bool) -> Result<(), Errno> {
        let ranges = {
            let mut state = self.state.write();
            if current && !may_lock && state.tree.totals().mapped > self.limits.locked() {
                return Err(Errno::ENOMEM);
            }
            state.future_flags = if future { mode.flags() } else { VmaFlags::empty() };
            if current { state.set_all_locks(mode.flags()) } else { Vec::new() }
        };
        if mode == LockMode::Now {
            ranges.into_iter().for_each(|range| self.make_present(range));
        }
        Ok(())
    }

    /// Unlocks everything.
    pub fn unlock_all(&self) {
        let mut state = self.state.write();
        state.future_flags = VmaFlags::empty();
        state.set_all_locks(VmaFlags::empty());
    }

    /// Makes pages present as far as that goes: Linux ignores failures here too (`mm_populate`).
    pub fn make_present(&self, range: UserRange) {
        let parts: Vec<Vma> = self.state.read().tree.overlapping(range).map(|vma| vma.clipped(range)).collect();
        for part in parts {
            let access = part.access;
            if !access.is_empty() && !part.flags.contains(VmaFlags::SPECIAL) {
                let _ = self.populate_range(part.range, access);
            }
        }
    }
}

impl State {
    fn set_lock(&mut self, range: UserRange, flags: VmaFlags) -> Result<(), Errno> {
        let mut at = range.start;
        while at < range.end {
            let vma = self.tree.find(at).ok_or(Errno::ENOMEM)?;
            let part = vma.clipped(range);
            at = part.range.end;
            self.set_lock_of(part, flags);
        }
        Ok(())
    }

    fn set_all_locks(&mut self, flags: VmaFlags) -> Vec<UserRange> {
        let all = UserRange { start: UserAddr(0), end: UserAddr(USER_END) };
        let parts: Vec<Vma> = self.tree.overlapping(all).cloned().collect();
        let ranges = parts.iter().map(|part| part.range).collect();
        parts.into_iter().for_each(|part| self.set_lock_of(part, flags));
        ranges
    }

    fn set_lock_of(&mut self, part: Vma, flags: VmaFlags) {
        let flags = part.flags.difference(LOCK_FLAGS).union(flags);
        if flags != part.flags && !part.flags.contains(VmaFlags::SPECIAL) {
            drop(self.tree.carve(part.range));
            self.tree.insert(Vma { flags, ..part });
        }
    }
}
