//! What a thread reads and writes by system calls, for /proc/PID/io (include/linux/task_io_accounting.h).

use crate::errno::Errno;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of a thread, or of threads that have ended.
#[derive(Debug, Default)]
pub struct Transfers {
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
}

/// Such counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferCounts {
    /// Bytes that calls have read.
    pub bytes_read: u64,
    /// Bytes that calls have written.
    pub bytes_written: u64,
    /// Calls that read.
    pub reads: u64,
    /// Calls that write.
    pub writes: u64,
}

impl Transfers {
    /// Counts a call that reads; one that fails is a call, too.
    pub fn note_read(&self, read: &Result<usize, Errno>) {
        count(&self.bytes_read, &self.reads, read);
    }

    /// Counts a call that writes.
    pub fn note_write(&self, written: &Result<usize, Errno>) {
        count(&self.bytes_written, &self.writes, written);
    }

    /// The counts now.
    pub fn counts(&self) -> TransferCounts {
        TransferCounts {
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
            bytes_written: self.bytes_written.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
        }
    }

    /// Adds those of a thread that has ended, or of a child that was waited for.
    pub fn add(&self, counts: TransferCounts) {
        self.bytes_read.fetch_add(counts.bytes_read, Ordering::Relaxed);
        self.bytes_written.fetch_add(counts.bytes_written, Ordering::Relaxed);
        self.reads.fetch_add(counts.reads, Ordering::Relaxed);
        self.writes.fetch_add(counts.writes, Ordering::Relaxed);
    }
}

impl TransferCounts {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes_read: self.bytes_read.wrapping_add(other.bytes_read),
            bytes_written: self.bytes_written.wrapping_add(other.bytes_written),
            reads: self.reads.wrapping_add(other.reads),
            writes: self.writes.wrapping_add(other.writes),
        }
    }
}

fn count(bytes: &AtomicU64, calls: &AtomicU64, result: &Result<usize, Errno>) {
    if *result == Err(Errno::NEEDS_THREAD) {
        // It counts when its thread makes it.
        return;
    }
    if let Ok(moved) = result {
        bytes.fetch_add(u64::try_from(*moved).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    calls.fetch_add(1, Ordering::Relaxed);
}
