//! Stores that a mapping's rights do not permit: a debugger's breakpoints (FOLL_FORCE).

use super::vma::Vma;
use super::{MemoryMap, Sharing};
use crate::errno::Errno;
use vmm::addr::{PAGE_SIZE, UserAddr};
use vmm::memory::Access;

impl MemoryMap {
    /// Copies to user memory, also where it is mapped privately and may not be written: such a page becomes the process's own.
    /// Returns how many bytes, up to the first page that cannot be had; `EFAULT` if none.
    pub fn write_forced(&self, to: UserAddr, from: &[u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < from.len() {
            let at = UserAddr(to.0.wrapping_add(done as u64));
            let room = usize::try_from(PAGE_SIZE - at.0 % PAGE_SIZE).unwrap_or(usize::MAX);
            let piece = &from[done..from.len().min(done + room)];
            if self.write(at, piece).is_err() && self.poke(at, piece).is_err() {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
            done += piece.len();
        }
        Ok(done)
    }

    /// Stores within a page of a private mapping.
    fn poke(&self, at: UserAddr, bytes: &[u8]) -> Result<(), Errno> {
        let rights = {
            let state = self.state.read();
            // Only where there might be a copy of the program's own (is_cow_mapping, mm/gup.c): not in the clocks.
            let may = |vma: &&Vma| vma.sharing == Sharing::Private && vma.max_access.contains(Access::WRITE);
            let vma = state.tree.find(at).filter(may).ok_or(Errno::EFAULT)?;
            vma.access & (Access::READ | Access::EXEC)
        };
        // A page that was never touched gets its frame first.
        self.resolve_fault(at, rights).map_err(|_| Errno::EFAULT)?;
        self.poke_code(at, bytes).map_err(|_| Errno::EFAULT)
    }
}
