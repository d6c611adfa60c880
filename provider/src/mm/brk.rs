//! The heap that brk(2) moves the end of.

use super::account::Growth;
use super::vma::Vma;
use super::{MemoryMap, State};
use crate::errno::Errno;
use vmm::addr::{PAGE_SIZE, USER_END, UserAddr, UserRange};
use vmm::memory::Access;

impl MemoryMap {
    /// Puts an empty heap at `start`, as exec does.
    pub fn set_heap(&self, start: UserAddr) {
        self.state.write().heap = UserRange { start, end: start };
    }

    /// The heap: from its fixed start to the break.
    pub fn heap(&self) -> UserRange {
        self.state.read().heap
    }

    /// Moves the break and returns where it is then. What cannot be granted changes nothing (brk(2) has no errors).
    pub fn brk(&self, to: UserAddr) -> UserAddr {
        let mut state = self.state.write();
        let heap = state.heap;
        if to < heap.start || to.0 > USER_END || to.0 - heap.start.0 > self.limits.data() {
            return heap.end;
        }
        let (Some(old_end), Some(new_end)) = (heap.end.page_up(), to.page_up()) else { return heap.end };
        let mut removed = Vec::new();
        if new_end < old_end {
            removed = self.remove(&mut state, UserRange { start: new_end, end: old_end });
        } else if new_end > old_end && self.grow_heap(&mut state, UserRange { start: old_end, end: new_end }).is_err() {
            return heap.end;
        }
        state.heap.end = to;
        drop(state);
        drop(removed);
        to
    }

    fn grow_heap(&self, state: &mut State, range: UserRange) -> Result<(), Errno> {
        // A page stays free between the heap and what follows.
        let blocked =
            state.tree.find_from(range.start).is_some_and(|next| range.end.0 + PAGE_SIZE > next.guarded_start());
        if blocked || range.end.0 > USER_END {
            return Err(Errno::ENOMEM);
        }
        let len = range.len();
        self.check_growth(state, Growth { mapped: len, data: len, accountable: len })?;
        let mut vma = Vma::anonymous(range, Access::READ | Access::WRITE);
        vma.flags |= state.future_flags;
        if vma.flags.contains(super::VmaFlags::LOCKED) {
            self.check_locked(state, len, false)?;
        }
        self.withdraw_trampolines(range);
        if let Err(error) = self.assign_eagerly(&vma, range) {
            self.space.unmap(range);
            return Err(error.into());
        }
        state.tree.insert(vma);
        Ok(())
    }
}
