//! Who waits for which futex.

use super::{CurrentTask, Parker};
use crate::errno::Errno;
use crate::mm::MemoryMap;
use crate::sync::{Mutex, Rank};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vmm::addr::UserAddr;

/// What names a futex for all who use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FutexKey {
    /// The address space, by the address of its object, which lives as long as anybody waits.
    space: usize,
    at: UserAddr,
}

impl FutexKey {
    /// The futex at an address; `EINVAL` if it is not aligned.
    ///
    /// While no two address spaces share memory, private and shared futexes are the same; a shared one will be named by (object, offset).
    pub fn of(mm: &Arc<MemoryMap>, at: UserAddr) -> Result<Self, Errno> {
        if !at.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        Ok(Self { space: Arc::as_ptr(mm).addr(), at })
    }
}

/// Everybody who waits for a futex.
#[derive(Debug)]
pub struct Futexes {
    /// The lock is held while the word is compared, so that no wake-up falls between that and the entry in the queue.
    queues: Mutex<HashMap<FutexKey, Vec<Arc<Entry>>>>,
}

#[derive(Debug)]
struct Entry {
    /// Bits that a wake must share.
    mask: u32,
    parker: Arc<Parker>,
    woken: AtomicBool,
    /// Where it waits: a requeue moves it.
    key: Mutex<FutexKey>,
}

impl Default for Futexes {
    fn default() -> Self {
        Self { queues: Mutex::new(Rank::Futexes, HashMap::new()) }
    }
}

/// A place in a queue, given up when it is dropped.
#[derive(Debug)]
pub struct Waiting<'a> {
    futexes: &'a Futexes,
    entry: Arc<Entry>,
}

impl Waiting<'_> {
    /// Tells whether somebody has woken it.
    pub fn is_woken(&self) -> bool {
        self.entry.woken.load(Ordering::Acquire)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut queues = self.futexes.queues.lock();
        let key = *self.entry.key.lock();
        if let Some(queue) = queues.get_mut(&key) {
            queue.retain(|entry| !Arc::ptr_eq(entry, &self.entry));
            if queue.is_empty() {
                queues.remove(&key);
            }
        }
    }
}

impl Futexes {
    /// Queues the task if the word still has the value `expected`; `EAGAIN` if not.
    pub fn enqueue(
        &self,
        task: &CurrentTask<'_>,
        key: FutexKey,
        expected: u32,
        mask: u32,
    ) -> Result<Waiting<'_>, Errno> {
        let mm = task.mm();
        let mut queues = self.queues.lock();
        if mm.load_u32(key.at)? != expected {
            return Err(Errno::EAGAIN);
        }
        let entry = Arc::new(Entry {
            mask,
            parker: task.parker().clone(),
            woken: AtomicBool::new(false),
            key: Mutex::new(Rank::Leaf, key),
        });
        queues.entry(key).or_default().push(entry.clone());
        Ok(Waiting { futexes: self, entry })
    }

    /// Wakes at most `count` that share a bit with `mask`, the oldest first; returns how many.
    pub fn wake(&self, key: FutexKey, count: usize, mask: u32) -> usize {
        Self::wake_locked(&mut self.queues.lock(), key, count, mask)
    }

    fn wake_locked(queues: &mut HashMap<FutexKey, Vec<Arc<Entry>>>, key: FutexKey, count: usize, mask: u32) -> usize {
        let Some(queue) = queues.get_mut(&key) else { return 0 };
        let mut woken = 0;
        queue.retain(|entry| {
            if woken == count || entry.mask & mask == 0 {
                return true;
            }
            woken += 1;
            entry.woken.store(true, Ordering::Release);
            entry.parker.wake();
            false
        });
        if queue.is_empty() {
            queues.remove(&key);
        }
        woken
    }

    /// Wakes at most `wake` and moves at most `requeue` others to another futex; returns how many of both.
    /// With `expected`, `EAGAIN` if the word has another value.
    pub fn requeue(
        &self,
        task: &CurrentTask<'_>,
        from: FutexKey,
        to: FutexKey,
        wake: usize,
        requeue: usize,
        expected: Option<u32>,
    ) -> Result<usize, Errno> {
        let mm = task.mm();
        let mut queues = self.queues.lock();
        if let Some(expected) = expected
            && mm.load_u32(from.at)? != expected
        {
            return Err(Errno::EAGAIN);
        }
        let woken = Self::wake_locked(&mut queues, from, wake, u32::MAX);
        if from == to {
            let left = queues.get(&from).map_or(0, Vec::len);
            return Ok(woken + left.min(requeue));
        }
        let Some(queue) = queues.get_mut(&from) else { return Ok(woken) };
        let moved: Vec<_> = queue.drain(..queue.len().min(requeue)).collect();
        if queue.is_empty() {
            queues.remove(&from);
        }
        for entry in &moved {
            *entry.key.lock() = to;
        }
        let count = moved.len();
        if count > 0 {
            queues.entry(to).or_default().extend(moved);
        }
        Ok(woken + count)
    }
}
