//! Changing what the program may do with its memory (mprotect).

use super::account::Growth;
use super::layout::MAX_MAP_COUNT;
use super::vma::{Vma, VmaFlags};
use super::{MemoryMap, State};
use crate::errno::Errno;
use vmm::addr::UserRange;
use vmm::memory::Access;

/// Whether a change reaches the end of a growing mapping (PROT_GROWSDOWN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extend {
    /// Only the range named.
    No,
    /// Down to the start of the growing mapping.
    Down,
}

impl MemoryMap {
    /// Sets what the program may do with `range`, whole pages, not empty.
    ///
    /// As on Linux the change is made mapping by mapping: those before an error are changed.
    ///
    /// # Errors
    /// `ENOMEM` (a hole, a limit), `EACCES` (the file was not opened for this), `EINVAL` (`extend`, but nothing grows there).
    pub fn protect(&self, range: UserRange, access: Access, extend: Extend) -> Result<(), Errno> {
        let mut state = self.state.write();
        let first = state.tree.find_from(range.start).ok_or(Errno::ENOMEM)?;
        let mut at = range.start;
        if extend == Extend::Down {
            if first.range.start >= range.end {
                return Err(Errno::ENOMEM);
            }
            if !first.flags.contains(VmaFlags::GROWSDOWN) {
                return Err(Errno::EINVAL);
            }
            at = first.range.start;
        } else if first.range.start > range.start {
            return Err(Errno::ENOMEM);
        }
        while at < range.end {
            let vma = state.tree.find(at).ok_or(Errno::ENOMEM)?;
            let part = vma.clipped(UserRange { start: at, end: range.end });
            if !part.max_access.contains(access) {
                return Err(Errno::EACCES);
            }
            at = part.range.end;
            if part.access != access {
                self.protect_part(&mut state, part, access)?;
            }
        }
        Ok(())
    }

    /// Changes `part`, which lies in one mapping.
    fn protect_part(&self, state: &mut State, part: Vma, access: Access) -> Result<(), Errno> {
        let changed = Vma { access, ..part.clone() };
        let range = part.range;
        if changed.is_data() && !part.is_data() {
            let accountable = if changed.is_accountable() { range.len() } else { 0 };
            self.check_growth(state, Growth { mapped: 0, data: range.len(), accountable })?;
        }
        if state.tree.len() >= MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        drop(state.tree.carve(range));
        // Whoever may store to its code finds what it has put there.
        self.restore_code(range);
        self.space.protect(range, access);
        // What had no frames while nobody could touch it gets them now, unless faults are to bring them.
        let assigned = self.assign_eagerly(&changed, range);
        state.tree.insert(changed);
        assigned.map_err(Errno::from)
    }
}
