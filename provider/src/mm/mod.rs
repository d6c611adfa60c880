//! Memory policy: which ranges a process has mapped, from what, and how a fault in them is resolved.
//!
//! The mechanism (frames, entries, coherence) is [`vmm::memory`]; this module decides. A [`MemoryMap`] is a tree of
//! mappings ([`Vma`]) over an [`AddressSpace`]. Frames are assigned when a range of at most [`EAGER_LIMIT`] bytes is
//! mapped, otherwise at the first fault in a block, in growing runs; the host commits them when they are touched.
//!
//! One lock of rank [`Rank::MemoryMap`] guards the tree: faults and transfers take it for reading, changes for writing.
//! No call leaves this module for the file system while it is held, nor is a mapped file released under it.

mod access;
mod account;
mod advise;
mod brk;
mod buffers;
mod conduct;
mod fault;
mod fork;
mod home;
mod layout;
mod lock;
mod map;
mod poke;
mod program;
mod protect;
mod remap;
mod report;
mod sites;
#[cfg(test)]
mod tests;
mod tree;
mod vma;

pub(crate) use access::checked_range;
pub use account::MemoryLimits;
pub use advise::{Advice, advised_range};
pub use buffers::{IOV_MAX, UserBuffers};
pub use conduct::Dumpable;
pub use fault::{EAGER_LIMIT, FaultSignal};
pub use home::WordHome;
pub(crate) use layout::random_u64;
pub use layout::{Layout, MMAP_MIN_ADDR, Randomize};
pub use lock::LockMode;
pub use map::{Content, MapRequest, Placement};
pub use program::Program;
pub use protect::Extend;
pub use remap::RemapRequest;
pub use report::{MappingInfo, MappingName, MemoryUsage};
pub use vma::{Backing, Label, Sharing, Source, Vma, VmaFlags};

use crate::aio::Contexts;
use crate::errno::Errno;
use crate::sync::{Mutex, Rank, RwLock};
use conduct::Conduct;
use fault::LastRun;
use sites::Sites;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tree::VmaTree;
use vmm::addr::{UserAddr, UserRange};
use vmm::memory::{AddressSpace, GuestMemory};

/// A process's address space with its map of what lies where.
#[derive(Debug)]
pub struct MemoryMap {
    space: Arc<AddressSpace>,
    memory: Arc<GuestMemory>,
    limits: MemoryLimits,
    state: RwLock<State>,
    last_run: Mutex<LastRun>,
    conduct: Conduct,
    /// Tasks that run in it (Linux's `mm_users`, which also counts those that look at it).
    users: AtomicUsize,
    aio: Contexts,
    sites: Sites,
}

/// What the lock guards.
#[derive(Debug)]
struct State {
    tree: VmaTree,
    layout: Layout,
    /// The heap: from its fixed start to the break, which need not be page-aligned.
    heap: UserRange,
    /// Flags that each new mapping gets (mlockall's MCL_FUTURE).
    future_flags: VmaFlags,
    /// What exec has loaded.
    program: Option<Arc<Program>>,
}

impl MemoryMap {
    /// Makes an empty map over a new address space, with Linux's random layout for the default stack limit.
    pub fn new(memory: &Arc<GuestMemory>) -> Result<Arc<Self>, Errno> {
        let limits = MemoryLimits::default();
        let layout = Layout::new(limits.stack(), Randomize::Yes);
        Self::with_layout(memory, limits, layout)
    }

    /// Makes an empty map with the given limits and landmarks.
    pub fn with_layout(memory: &Arc<GuestMemory>, limits: MemoryLimits, layout: Layout) -> Result<Arc<Self>, Errno> {
        let empty = UserRange { start: UserAddr(0), end: UserAddr(0) };
        Ok(Arc::new(Self {
            space: memory.new_space()?,
            memory: Arc::clone(memory),
            limits,
            state: RwLock::new(
                Rank::MemoryMap,
                State { tree: VmaTree::default(), layout, heap: empty, future_flags: VmaFlags::empty(), program: None },
            ),
            last_run: Mutex::new(Rank::Leaf, LastRun::default()),
            conduct: Conduct::default(),
            users: AtomicUsize::new(0),
            aio: Contexts::default(),
            sites: Sites::default(),
        }))
    }

    /// The mechanism beneath.
    pub fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }

    /// How many tasks run in it.
    pub fn users(&self) -> usize {
        self.users.load(Ordering::SeqCst)
    }

    /// A task runs in it from now on.
    pub(crate) fn add_user(&self) {
        self.users.fetch_add(1, Ordering::SeqCst);
    }

    /// A task runs in it no longer.
    pub(crate) fn remove_user(&self) {
        self.users.fetch_sub(1, Ordering::SeqCst);
    }

    /// The sandbox's memory.
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// The limits that calls on this map are judged by; setrlimit keeps them up to date.
    pub fn limits(&self) -> &MemoryLimits {
        &self.limits
    }

    /// Its contexts of asynchronous I/O.
    pub(crate) fn aio(&self) -> &Contexts {
        &self.aio
    }

    /// The landmarks.
    pub fn layout(&self) -> Layout {
        self.state.read().layout
    }

    /// What exec has loaded, once it has.
    pub fn program(&self) -> Option<Arc<Program>> {
        self.state.read().program.clone()
    }

    /// Notes what exec has loaded.
    pub fn set_program(&self, program: Program) {
        let old = self.state.write().program.replace(Arc::new(program));
        drop(old);
    }
}
