//! Those who wait for a futex, in the order in which they came.

use super::{FutexKey, Futexes};
use crate::errno::Errno;
use crate::mm::MemoryMap;
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, Parker, Pid};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vmm::addr::UserAddr;
use vmm::memory::Waiting;

/// One sleeper on one futex.
pub(super) struct Entry {
    parker: Arc<Parker>,
    /// Bits of which a waker must share one.
    pub(super) mask: u32,
    /// Set as it is taken off its queue by somebody else, before the sleeper is woken.
    woken: AtomicBool,
    /// Where it waits: a requeue moves it.
    place: Mutex<FutexKey>,
    /// What a sleeper that is to own the futex has said about itself.
    pub(super) candidate: Option<Candidate>,
}

/// A thread that waits to own a futex.
pub(super) struct Candidate {
    /// The thread.
    pub(super) tid: Pid,
    /// Its memory, through which the word is written for it.
    pub(super) mm: Arc<MemoryMap>,
    /// The word of the futex to own, in that memory.
    pub(super) word: UserAddr,
    /// The futex to own. It waits elsewhere first if it waits to be requeued.
    pub(super) target: FutexKey,
}

impl Entry {
    /// Makes the entry of a task that waits for `key`.
    pub(super) fn new(task: &CurrentTask<'_>, key: FutexKey, mask: u32, candidate: Option<Candidate>) -> Arc<Self> {
        Arc::new(Self {
            parker: task.parker().clone(),
            mask,
            woken: AtomicBool::new(false),
            place: Mutex::new(Rank::Leaf, key),
            candidate,
        })
    }

    /// Tells whether somebody has taken it off its queue.
    pub(super) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    /// Where it waits, as long as the bucket is locked; a hint otherwise.
    pub(super) fn place(&self) -> FutexKey {
        *self.place.lock()
    }

    /// Moves it, which is off any queue, to another futex.
    pub(super) fn move_to(&self, key: FutexKey) {
        *self.place.lock() = key;
    }

    /// The candidate, if it waits for the futex that it is to own.
    pub(super) fn owner_to_be(&self) -> Option<&Candidate> {
        self.candidate.as_ref().filter(|candidate| candidate.target == self.place())
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("mask", &self.mask).field("woken", &self.woken).finish_non_exhaustive()
    }
}

/// Entries that were taken off their queues, to be woken when no bucket is locked any longer.
#[derive(Debug, Default)]
#[must_use = "the sleepers are off their queues, so nobody else wakes them"]
pub(super) struct Wakes(Vec<Arc<Entry>>);

impl Wakes {
    /// Adds an entry.
    pub(super) fn add(&mut self, entry: Arc<Entry>) {
        entry.woken.store(true, Ordering::Release);
        self.0.push(entry);
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Wakes the sleepers.
    pub(super) fn deliver(self) {
        self.0.iter().for_each(|entry| entry.parker.wake());
    }
}

/// Everybody who waits for one futex.
#[derive(Debug)]
pub(super) struct Queue {
    key: FutexKey,
    /// The thread that owns the futex while others wait to.
    pub(super) owner: Option<Pid>,
    pub(super) waiters: VecDeque<Arc<Entry>>,
    /// All of them together.
    _counted: Option<Waiting>,
}

impl Queue {
    /// Takes at most `count` entries (but one, if there is any) that share a bit with `mask`. `EINVAL` at one that is to
    /// own a futex: what was taken before stays in `wakes`.
    pub(super) fn take(&mut self, count: usize, mask: u32, wakes: &mut Wakes) -> Result<(), Errno> {
        let enough = wakes.count() + count.max(1);
        let mut at = 0;
        while let Some(entry) = self.waiters.get(at) {
            if entry.candidate.is_some() {
                return Err(Errno::EINVAL);
            }
            if entry.mask & mask == 0 {
                at += 1;
                continue;
            }
            wakes.0.reserve(1);
            if let Some(entry) = self.waiters.remove(at) {
                wakes.add(entry);
            }
            if wakes.count() == enough {
                break;
            }
        }
        Ok(())
    }
}

/// The futexes of one bucket that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    queues: Vec<Queue>,
}

impl Bucket {
    /// The queue of a futex, if anybody waits for it.
    pub(super) fn queue(&mut self, key: &FutexKey) -> Option<&mut Queue> {
        self.queues.iter_mut().find(|queue| queue.key == *key)
    }

    /// All queues.
    pub(super) fn queues(&mut self) -> &mut [Queue] {
        &mut self.queues
    }

    /// Puts an entry at the end of its futex's queue, which is one of `futexes`.
    pub(super) fn push(&mut self, entry: Arc<Entry>, futexes: &Futexes) {
        let key = entry.place();
        match self.queue(&key) {
            Some(queue) => queue.waiters.push_back(entry),
            None => {
                let (waiters, _counted) = (VecDeque::from([entry]), futexes.count(&key));
                self.queues.push(Queue { key, owner: None, waiters, _counted });
            }
        }
    }

    /// Takes an entry off; answers whether it was there.
    pub(super) fn remove(&mut self, entry: &Arc<Entry>) -> bool {
        let key = entry.place();
        let Some(queue) = self.queue(&key) else { return false };
        let Some(at) = queue.waiters.iter().position(|other| Arc::ptr_eq(other, entry)) else { return false };
        queue.waiters.remove(at);
        self.tidy();
        true
    }

    /// Forgets queues in which nobody waits, and owners for whose futexes nobody waits.
    pub(super) fn tidy(&mut self) {
        self.queues.retain(|queue| !queue.waiters.is_empty());
        for queue in self.queues.iter_mut().filter(|queue| queue.owner.is_some()) {
            if queue.waiters.iter().all(|entry| entry.owner_to_be().is_none()) {
                queue.owner = None;
            }
        }
    }
}
