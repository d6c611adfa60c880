//! The limits of System V IPC that /proc/sys/kernel shows and lets the privileged change, see sysvipc(7).

use super::{MessageQueues, SemaphoreSets};
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit.
#[derive(Debug)]
pub struct Limit(AtomicU64);

impl Limit {
    fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Its value as an `int` of one of IPC_INFO's structures.
    pub fn as_int(&self) -> i32 {
        i32::try_from(self.get()).unwrap_or(i32::MAX)
    }

    /// Changes it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// The limits besides the numbers of objects, which the registries have.
#[derive(Debug)]
pub struct Limits {
    /// Bytes of a message (msgmax).
    pub message_size: Limit,
    /// Bytes in a new queue (msgmnb).
    pub queue_bytes: Limit,
    /// Semaphores of a set (the first number of sem).
    pub set_size: Limit,
    /// Semaphores of all sets (the second).
    pub semaphores: Limit,
    /// Operations of a call (the third).
    pub operations: Limit,
    /// Bytes of a segment (shmmax).
    pub segment_size: Limit,
    /// Pages of all segments (shmall).
    pub segment_pages: Limit,
}

impl Default for Limits {
    /// Linux's.
    fn default() -> Self {
        const MEMORY: u64 = u64::MAX - (1 << 24);
        Self {
            message_size: Limit::new(8192),
            queue_bytes: Limit::new(16_384),
            set_size: Limit::new(32_000),
            semaphores: Limit::new(1_024_000_000),
            operations: Limit::new(500),
            segment_size: Limit::new(MEMORY),
            segment_pages: Limit::new(MEMORY),
        }
    }
}

impl Default for MessageQueues {
    fn default() -> Self {
        /// MSGMNI
        const QUEUES: usize = 32_000;
        Self::new(QUEUES)
    }
}

impl Default for SemaphoreSets {
    fn default() -> Self {
        /// SEMMNI
        const SETS: usize = 32_000;
        Self::new(SETS)
    }
}
