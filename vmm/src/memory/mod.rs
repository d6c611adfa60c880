//! Guest memory: the pool of frames, memory objects, host-file windows, and the address spaces that map them.
//!
//! Everything here works without KVM too ([`GuestMemory::detached`]): the pool is the monitor's own memory and page
//! tables are data, so a provider's tests run on the real thing, less the processor.
//!
//! | module | what it knows |
//! |---|---|
//! | `arena` | the reserved host range behind guest-physical addresses; every host call on it |
//! | `raw` | the assembly that touches guest memory and recovers from faults |
//! | `extent`, `blocks`, `pool` | who holds which frames; the limit; memory slots |
//! | `entry`, `tables` | the processor's page tables |
//! | `coherence` | downgrades that virtual CPUs must see before frames are reused |
//! | `space` | address spaces: edits, the monitor's accesses, transfers |
//! | `object`, `file`, `window` | contents in pool frames; host files mapped into guest-physical space |
//! | `committed` | which frames the host has memory behind |
//! | `compressed` | cold pages kept compressed, in an address space of their own |
//! | `constant` | objects whose bytes never change |
//! | `reclaim` | taking back frames that were assigned but never touched |
//! | `waiters` | who waits for words of user memory |
//!
//! Locks, outermost first: a space's state, an object's state, the window, the pool, the machine's own. An object that
//! shrinks releases its own lock before it locks the spaces that map it.

mod arena;
mod blocks;
mod coherence;
mod committed;
mod compressed;
mod constant;
mod entry;
mod extent;
mod file;
mod object;
mod pool;
pub(crate) mod raw;
mod reclaim;
mod space;
mod tables;
#[cfg(test)]
mod tests;
mod waiters;
mod window;

pub use compressed::{CompressionReport, CompressionStats, SpawnThread};
pub use file::{HostFile, read_at};
pub use object::MemoryObject;
pub use space::{Access, AddressSpace, Eagerness, Fault, FaultKind, ForkPlan, IoError, PageState};

pub use waiters::{Waiters, Waiting};

pub(crate) use arena::Frame;
pub(crate) use entry::Entry;
pub(crate) use file::read_whole;
pub(crate) use reclaim::Resolution;
pub(crate) use space::Root;

use crate::addr::{BLOCK_SIZE, PAGE_SIZE};
use crate::machine::{Detached, Machine};
use arena::Arena;
use pool::Pool;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use thiserror::Error;
use window::Window;

/// Why memory could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// The sandbox's memory limit is reached.
    #[error("the sandbox's memory limit is reached")]
    LimitReached,
    /// The host gave no memory, no mapping or no memory slot.
    #[error("the host is out of memory, mappings or memory slots")]
    HostExhausted,
    /// A host file could not be mapped, read or written; the value is the host's error number. A page that the host
    /// cannot supply (a file that shrank) is EFAULT here: a bus error for whoever touches it.
    #[error("host I/O failed with error {0}")]
    Io(i32),
}

/// The most guest-physical memory a sandbox can address: 256 GiB, below the least physical-address width that KVM hosts have.
const EXTENTS_MAX: u64 = (256 << 30) / BLOCK_SIZE;

/// A sandbox's guest-physical memory and all that lives in it.
#[derive(Debug)]
pub struct GuestMemory {
    /// Dropped before the arena: it must not outlive the slots' memory.
    machine: Arc<dyn Machine>,
    pool: Mutex<Pool>,
    window: Mutex<Window>,
    spaces: Mutex<Vec<Weak<AddressSpace>>>,
    constants: Mutex<Vec<constant::Constant>>,
    packing: compressed::Packing,
    waiters: Arc<Waiters>,
    me: Weak<Self>,
    next_id: AtomicU64,
    limit: AtomicU64,
    arena: Arena,
}

impl GuestMemory {
    /// Makes guest memory with no virtual machine beneath it, holding at most `limit` bytes.
    pub fn detached(limit: u64) -> Result<Arc<Self>, MemoryError> {
        Self::new(Arc::new(Detached), limit, Arc::default())
    }

    /// Makes the memory of `machine`, whose programs look at `waiters`, holding at most `limit` bytes. No slot is added before memory is
    /// asked for.
    pub(crate) fn new(machine: Arc<dyn Machine>, limit: u64, waiters: Arc<Waiters>) -> Result<Arc<Self>, MemoryError> {
        raw::install_recovery();
        // Twice the limit, because blocks with few pages leave frames of their extents unused; and room for file windows.
        let extents = (limit / BLOCK_SIZE).saturating_mul(2).saturating_add(4096).min(EXTENTS_MAX);
        let arena = Arena::reserve(u32::try_from(extents).map_err(|_| MemoryError::HostExhausted)?)?;
        Ok(Arc::new_cyclic(|me| Self {
            machine,
            pool: Mutex::new(Pool::new(limit)),
            window: Mutex::new(Window::default()),
            spaces: Mutex::new(Vec::new()),
            constants: Mutex::default(),
            packing: compressed::Packing::default(),
            waiters,
            me: me.clone(),
            next_id: AtomicU64::new(1),
            limit: AtomicU64::new(limit),
            arena,
        }))
    }

    /// Makes an empty address space: nothing is mapped in its user half.
    pub fn new_space(self: &Arc<Self>) -> Result<Arc<AddressSpace>, MemoryError> {
        let top = self.pool().take_table(&self.arena, &*self.machine)?;
        let space = AddressSpace::new(self.clone(), self.new_id(), top);
        let mut spaces = lock(&self.spaces);
        spaces.retain(|space| space.strong_count() > 0);
        spaces.push(Arc::downgrade(&space));
        Ok(space)
    }

    /// Makes an empty memory object.
    pub fn new_object(self: &Arc<Self>) -> Arc<MemoryObject> {
        MemoryObject::new(self.clone(), self.new_id())
    }

    /// Who waits for words of it.
    pub fn waiters(&self) -> &Arc<Waiters> {
        &self.waiters
    }

    /// The most bytes this memory may hold.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Lets it hold fewer bytes at the most than it was made for: what a machine is for may become known after it was made. False if
    /// that is more, or it holds more already; nothing has changed then.
    pub fn lower_limit(&self, limit: u64) -> bool {
        let lowered = limit <= self.limit() && self.pool().lower_limit(limit);
        if lowered {
            self.limit.store(limit, Ordering::Relaxed);
        }
        lowered
    }

    /// Bytes of frames handed out, page tables included: an upper bound of what is committed.
    pub fn held(&self) -> u64 {
        self.pool().held() * PAGE_SIZE
    }

    /// Whether threads that run in an address space leave user mode for a moment when pages or rights are taken away in it:
    /// with nested paging each flushes what its processor remembers; KVM does that by itself for what it shadows.
    pub fn interrupts_to_take_away(&self) -> bool {
        self.machine.paging() == crate::Paging::Hardware
    }

    pub(crate) fn machine(&self) -> &dyn Machine {
        &*self.machine
    }

    fn arena(&self) -> &Arena {
        &self.arena
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        lock(&self.pool)
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        lock(&self.window)
    }

    /// A host file that may be mapped was truncated to `size` bytes: whoever touches what is behind gets a bus error, whether the page
    /// was the file's or a private copy. (A file that others truncate keeps its private copies: nobody tells us.)
    pub fn file_truncated(&self, identity: (u64, u64), size: u64) {
        for space in self.spaces() {
            space.forget_file_behind(identity, size);
        }
    }

    fn spaces(&self) -> Vec<Arc<AddressSpace>> {
        lock(&self.spaces).iter().filter_map(Weak::upgrade).collect()
    }

    fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

/// Locks; a thread that panicked while it held the lock has brought the monitor down already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
