//! Resource limits, see getrlimit(2).
use crate::errno::Errno;

/// A resource, in Linux's numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "getrlimit(2) describes them")]
#[repr(u32)]
pub enum Resource {
    Cpu = 0,
    FileSize = 1,
    Data = 2,
    Stack = 3,
    Core = 4,
    ResidentSet = 5,
    Processes = 6,
    Files = 7,
    LockedMemory = 8,
    AddressSpace = 9,
    Locks = 10,
    PendingSignals = 11,
    MessageQueues = 12,
    Nice = 13,
    RealTimePriority = 14,
    RealTimeTime = 15,
}

/// A process's limits.
#[derive(Debug)]
pub struct ResourceLimits {}

#[expect(unused_variables, reason = "skeleton")]
impl ResourceLimits {
    /// The soft limit; `u64::MAX` is RLIM_INFINITY.
    pub fn soft(&self, resource: Resource) -> u64 {
        todo!()
    }
    /// Sets (soft, hard).
    pub fn set(&self, resource: Resource, soft: u64, hard: u64) -> Result<(), Errno> {
        todo!()
    }
}
