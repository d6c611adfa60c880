//! Copying a process's memory (`dup_mmap`).

use super::vma::{Vma, VmaFlags};
use super::{MemoryMap, State};
use crate::aio::Contexts;
use crate::errno::Errno;
use crate::sync::{Mutex, Rank, RwLock};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use vmm::addr::{PAGE_SIZE, UserAddr, UserRange};
use vmm::memory::ForkPlan;

/// Bytes of the stack that are likely to be stored to after a fork: those around the stack pointer.
const HOT_STACK: u64 = 2 * PAGE_SIZE;

impl MemoryMap {
    /// Makes the memory of a forked child. `stack_pointer` is the forking thread's.
    ///
    /// What MADV_DONTFORK names is not mapped in it, what MADV_WIPEONFORK names is empty, and nothing is locked.
    ///
    /// # Errors
    /// `ENOMEM`
    pub fn fork(&self, stack_pointer: UserAddr) -> Result<Arc<Self>, Errno> {
        // Held over the copy of the pages, so that mappings and pages agree.
        let state = self.state.write();
        let plan = plan(&state, stack_pointer);
        let space = self.space.fork(&plan)?;
        let mut tree = super::tree::VmaTree::default();
        for vma in state.tree.iter().filter(|vma| !vma.flags.contains(VmaFlags::DONTFORK)) {
            let flags = vma.flags.difference(VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT);
            tree.insert(Vma { flags, ..vma.clone() });
        }
        let copy = State {
            tree,
            layout: state.layout,
            heap: state.heap,
            future_flags: VmaFlags::empty(),
            program: state.program.clone(),
        };
        Ok(Arc::new(Self {
            space,
            memory: Arc::clone(&self.memory),
            limits: self.limits.clone(),
            state: RwLock::new(Rank::MemoryMap, copy),
            last_run: Mutex::new(Rank::Leaf, super::fault::LastRun::default()),
            conduct: self.conduct.duplicate(),
            users: AtomicUsize::new(0),
            // Requests are those of the parent.
            aio: Contexts::default(),
            sites: self.sites.fork(without_copies(&state)),
        }))
    }
}

/// The ranges whose contents the child does not have.
fn without_copies(state: &State) -> impl Iterator<Item = UserRange> {
    let empty = VmaFlags::DONTFORK | VmaFlags::WIPEONFORK;
    state.tree.iter().filter(move |vma| vma.flags.intersects(empty)).map(|vma| vma.range)
}

/// What the mechanism must know: what is left out, and where the child and the parent will store next.
fn plan(state: &State, stack_pointer: UserAddr) -> ForkPlan {
    let left_out = without_copies(state).collect();
    let around = UserRange {
        start: UserAddr(stack_pointer.page().0.saturating_sub(PAGE_SIZE)),
        end: UserAddr(stack_pointer.page().0.saturating_add(HOT_STACK)),
    };
    let stack = state.tree.find(stack_pointer).and_then(|vma| vma.range.intersect(around));
    ForkPlan { left_out, hot: stack.into_iter().collect(), ..ForkPlan::default() }
}
