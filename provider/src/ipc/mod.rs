//! System V IPC, see sysvipc(7): shared memory segments, semaphore sets and message queues, named by keys and numbers.
//!
//! [`Registry`] is what the three have in common: keys, numbers that are not soon used again, and permissions. A lock of rank
//! `Rank::Ipc` guards a registry, one of rank `Rank::IpcObject` an object; no user memory is touched under either.

mod limits;
mod messages;
mod permissions;
mod registry;
mod segments;
mod semaphores;
#[cfg(test)]
mod tests;
mod undo;

pub use limits::{Limit, Limits};
pub use messages::{Message, MessageQueue, MessageQueues, QueueStatus, Selection};
pub use permissions::{Changes, Permissions, RawPermissions};
pub use registry::{Found, Key, Object, Registry};
pub use segments::{Segment, SegmentStatus, Segments};
pub use semaphores::{
    Operation, OperationFlags, Semaphore, SemaphoreCount, SemaphoreSet, SemaphoreSets, SetStatus, VALUE_MAX,
};

use crate::fs::mqueue::Queues;
use crate::net::Budget;
use crate::task::Pid;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;

/// System V's objects in a sandbox, and POSIX's queues.
#[derive(Debug)]
pub struct Ipc {
    /// Shared memory.
    pub segments: Segments,
    /// Semaphores.
    pub semaphores: SemaphoreSets,
    /// Message queues.
    pub messages: MessageQueues,
    /// How many semaphores there are.
    pub semaphore_count: Arc<SemaphoreCount>,
    /// The limits of the three.
    pub limits: Limits,
    /// POSIX message queues.
    pub posix: Queues,
}

impl Ipc {
    /// Makes a sandbox's; `budget` bounds what messages take of the monitor's memory.
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            segments: Segments::default(),
            semaphores: SemaphoreSets::default(),
            messages: MessageQueues::default(),
            semaphore_count: SemaphoreCount::new(budget),
            limits: Limits::default(),
            posix: Queues::new(budget),
        }
    }

    /// A process has ended: what it asked to be undone on semaphores is, and no queue tells it of messages any more.
    pub(crate) fn process_ended(&self, process: Pid) {
        self.semaphores.undo(process);
        self.posix.process_ended(process);
    }
}

/// The wall clock in seconds, as the structures of IPC_STAT have it.
fn now() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}
