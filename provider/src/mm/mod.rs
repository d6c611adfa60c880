//! Memory policy: which ranges a process has mapped, from what, and how a fault in them is resolved.
//!
//! The mechanism (frames, entries, coherence) is [`vmm::memory`]; this module decides.

use crate::errno::Errno;
use std::sync::Arc;
use vmm::addr::{UserAddr, UserRange};
use vmm::memory::{Access, AddressSpace, GuestMemory};

/// A process's address space with its map of what lies where.
#[derive(Debug)]
pub struct MemoryMap {}

/// How a fault that cannot be resolved is reported to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultSignal {
    /// SIGSEGV or SIGBUS.
    pub signal: i32,
    /// si_code: SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR …
    pub code: i32,
    /// si_addr.
    pub address: UserAddr,
}

#[expect(unused_variables, reason = "skeleton")]
impl MemoryMap {
    /// Makes an empty map over a new address space.
    pub fn new(memory: &Arc<GuestMemory>) -> Result<Arc<Self>, Errno> {
        todo!()
    }
    /// The mechanism beneath.
    pub fn space(&self) -> &Arc<AddressSpace> {
        todo!()
    }
    /// Copies from user memory, resolving faults; `EFAULT` where the map does not permit it.
    pub fn read(&self, from: UserAddr, to: &mut [u8]) -> Result<(), Errno> {
        todo!()
    }
    /// Copies to user memory, resolving faults.
    pub fn write(&self, to: UserAddr, from: &[u8]) -> Result<(), Errno> {
        todo!()
    }
    /// Copies from user memory up to the first fault; returns how many bytes (`EFAULT` if none of some).
    pub fn read_partial(&self, from: UserAddr, to: &mut [u8]) -> Result<usize, Errno> {
        todo!()
    }
    /// Copies to user memory up to the first fault; returns how many bytes.
    pub fn write_partial(&self, to: UserAddr, from: &[u8]) -> Result<usize, Errno> {
        todo!()
    }
    /// Reads a string up to its NUL, which is not returned; `None` if there is no NUL within `max` bytes.
    pub fn read_cstr(&self, from: UserAddr, max: usize) -> Result<Option<Vec<u8>>, Errno> {
        todo!()
    }
    /// Resolves a fault by the program or by a call made for it: assigns frames, breaks sharing, grows the stack.
    pub fn resolve_fault(&self, address: UserAddr, access: Access) -> Result<(), FaultSignal> {
        todo!()
    }
    /// Atomically loads an aligned 32-bit word.
    pub fn load_u32(&self, from: UserAddr) -> Result<u32, Errno> {
        todo!()
    }
}

/// User memory as the target or the source of a transfer: checked iovecs.
#[derive(Debug)]
pub struct UserBuffers<'a> {
    /// Whose memory.
    pub map: &'a MemoryMap,
    /// What is left, in order; empty ranges are allowed. Implements [`crate::fs::Sink`] and [`crate::fs::Source`].
    pub ranges: Vec<UserRange>,
}
