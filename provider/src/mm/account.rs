//! Limits on what may be mapped: resource limits and the overcommit heuristic (`mm/mmap.c`, `mm/util.c`).

use super::{MemoryMap, State};
use crate::errno::Errno;
use crate::task::{Resource, ResourceLimits};
use std::sync::atomic::{AtomicU64, Ordering};

/// The soft resource limits that concern memory, in bytes; `u64::MAX` is RLIM_INFINITY.
///
/// The map keeps its own copy because faults (stack growth) are judged too, and they come without a task.
#[derive(Debug)]
pub struct MemoryLimits {
    address_space: AtomicU64,
    data: AtomicU64,
    stack: AtomicU64,
    locked: AtomicU64,
}

impl Clone for MemoryLimits {
    fn clone(&self) -> Self {
        Self {
            address_space: AtomicU64::new(self.address_space()),
            data: AtomicU64::new(self.data()),
            stack: AtomicU64::new(self.stack()),
            locked: AtomicU64::new(self.locked()),
        }
    }
}

impl Default for MemoryLimits {
    /// Linux's: no limits but 8 MiB of stack and of locked memory.
    fn default() -> Self {
        Self {
            address_space: AtomicU64::new(u64::MAX),
            data: AtomicU64::new(u64::MAX),
            stack: AtomicU64::new(8 << 20),
            locked: AtomicU64::new(8 << 20),
        }
    }
}

impl MemoryLimits {
    /// Copies a process's limits.
    pub fn of(limits: &ResourceLimits) -> Self {
        let copy = Self::default();
        copy.update(limits);
        copy
    }

    /// Copies a process's limits again, after one has changed.
    pub fn update(&self, limits: &ResourceLimits) {
        self.set(Resource::AddressSpace, limits.soft(Resource::AddressSpace));
        self.set(Resource::Data, limits.soft(Resource::Data));
        self.set(Resource::Stack, limits.soft(Resource::Stack));
        self.set(Resource::LockedMemory, limits.soft(Resource::LockedMemory));
    }

    /// Sets one limit; resources that do not concern memory are ignored.
    pub fn set(&self, resource: Resource, bytes: u64) {
        let field = match resource {
            Resource::AddressSpace => &self.address_space,
            Resource::Data => &self.data,
            Resource::Stack => &self.stack,
            Resource::LockedMemory => &self.locked,
            _ => return,
        };
        field.store(bytes, Ordering::Relaxed);
    }

    /// RLIMIT_AS.
    pub fn address_space(&self) -> u64 {
        self.address_space.load(Ordering::Relaxed)
    }

    /// RLIMIT_DATA.
    pub fn data(&self) -> u64 {
        self.data.load(Ordering::Relaxed)
    }

    /// RLIMIT_STACK.
    pub fn stack(&self) -> u64 {
        self.stack.load(Ordering::Relaxed)
    }

    /// RLIMIT_MEMLOCK.
    pub fn locked(&self) -> u64 {
        self.locked.load(Ordering::Relaxed)
    }
}

/// Bytes that a change would add, by what they count against.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Growth {
    /// All bytes.
    pub(super) mapped: u64,
    /// Those of private writable mappings.
    pub(super) data: u64,
    /// Those the overcommit heuristic judges.
    pub(super) accountable: u64,
}

/// How many times its limit a sandbox may hold in pages that compress well.
const COMPRESSED: u64 = 4;

impl MemoryMap {
    /// Checks RLIMIT_AS, RLIMIT_DATA and the overcommit heuristic: a single request that exceeds all memory is refused
    /// (`vm.overcommit_memory` 0). All memory is the limit of what the sandbox holds, times what compression may make of it:
    /// Linux counts swap space likewise.
    pub(super) fn check_growth(&self, state: &State, growth: Growth) -> Result<(), Errno> {
        let totals = state.tree.totals();
        let beyond = |used: u64, more: u64, limit: u64| used.checked_add(more).is_none_or(|sum| sum > limit);
        if beyond(totals.mapped, growth.mapped, self.limits.address_space()) {
            return Err(Errno::ENOMEM);
        }
        if growth.data != 0 && beyond(totals.data, growth.data, self.limits.data()) {
            return Err(Errno::ENOMEM);
        }
        if growth.accountable > self.memory.limit().saturating_mul(COMPRESSED) {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Checks RLIMIT_MEMLOCK for `more` bytes of locked memory; `EAGAIN` as mmap and mremap answer.
    pub(super) fn check_locked(&self, state: &State, more: u64, unlimited: bool) -> Result<(), Errno> {
        let locked = state.tree.totals().locked;
        if !unlimited && locked.checked_add(more).is_none_or(|sum| sum > self.limits.locked()) {
            return Err(Errno::EAGAIN);
        }
        Ok(())
    }
}
