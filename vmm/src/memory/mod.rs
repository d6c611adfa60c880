//! Guest memory: the pool of frames, memory objects, host-file windows, and the address spaces that map them.
//!
//! Everything here works without KVM too ([`GuestMemory::detached`]): the pool is the monitor's own memory and page
//! tables are data, so a provider's tests run on the real thing, less the processor.

mod file;
mod object;
mod space;

pub use file::HostFile;
pub use object::MemoryObject;
pub(crate) use space::Root;
pub use space::{Access, AddressSpace, Fault, FaultKind, IoError, PageState};

use crate::machine::Machine;
use std::sync::Arc;
use thiserror::Error;

/// Why memory could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// The sandbox's memory limit is reached.
    #[error("the sandbox's memory limit is reached")]
    LimitReached,
    /// The host gave no memory, no mapping or no memory slot.
    #[error("the host is out of memory, mappings or memory slots")]
    HostExhausted,
    /// A host file could not be mapped, read or written; the value is the host's error number.
    #[error("host I/O failed with error {0}")]
    Io(i32),
}

/// A sandbox's guest-physical memory and all that lives in it.
#[derive(Debug)]
pub struct GuestMemory {}

impl GuestMemory {
    /// Makes guest memory with no virtual machine beneath it, holding at most `limit` bytes.
    pub fn detached(limit: u64) -> Result<Arc<Self>, MemoryError> {
        todo!("{limit}")
    }
    /// Makes guest memory of a virtual machine, holding at most `limit` bytes.
    pub(crate) fn new(machine: Arc<dyn Machine>, limit: u64) -> Result<Arc<Self>, MemoryError> {
        todo!("{limit} {machine:?}")
    }
    /// Makes an empty address space: nothing is mapped in its user half.
    pub fn new_space(self: &Arc<Self>) -> Result<Arc<AddressSpace>, MemoryError> {
        todo!()
    }
    /// Makes an empty memory object.
    pub fn new_object(self: &Arc<Self>) -> Arc<MemoryObject> {
        todo!()
    }
    /// The most bytes this memory may hold.
    pub fn limit(&self) -> u64 {
        todo!()
    }
    /// Bytes of frames handed out: an upper bound of what is committed.
    pub fn held(&self) -> u64 {
        todo!()
    }
}
