//! Futexes, see futex(2): words of user memory that tasks wait on.
//!
//! - [`FutexKey`] names a futex for all who use it.
//! - [`Futexes`] is the table of those who wait: buckets with a lock each. `wait` sleeps, `wake` wakes, requeues and
//!   modifies a second word.
//! - `pi` and `requeue_pi` are the futexes with an owner (priority inheritance). Ownership is Linux's; priorities are
//!   not boosted, since the host schedules all threads of a sandbox alike.
//! - `robust` is what happens to a thread's futexes as it ends.
//!
//! A bucket's lock (rank [`Rank::Futexes`], and [`Rank::FutexPair`] for the second of two) is held while a word is
//! compared, so that no wake-up falls between the comparison and the entry in the queue. Sleepers are woken after it is
//! released.
//!
//! A futex for which nobody waits need not be woken, and a private one's program finds that out by itself: whoever is queued for one is
//! counted where it looks ([`Waiters`]), from before the word is compared.

mod key;
mod pi;
mod queue;
mod requeue_pi;
mod robust;
#[cfg(test)]
mod tests;
mod wait;
mod wake;

pub use key::{FutexKey, Scope};
pub(crate) use robust::{leave, leave_memory};
pub use wait::{Expected, WAITERS_MAX};
pub use wake::{Requeue, WordChange};

use crate::mm::MemoryMap;
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::task::Pid;
use queue::Bucket;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use vmm::addr::UserAddr;
use vmm::memory::{Waiters, Waiting};

/// Every waiter, whatever it waits for (FUTEX_BITSET_MATCH_ANY).
pub const ANY: u32 = u32::MAX;
/// The word of a futex with an owner, or of a robust one: somebody waits, so the owner must call to unlock it.
const WAITERS: u32 = 1 << 31;
/// The owner died with it.
const OWNER_DIED: u32 = 1 << 30;
/// The owner's thread id.
const TID: u32 = (1 << 30) - 1;

/// Buckets: a power of two. One is locked for some hundred nanoseconds, and threads by the thousand are mostly asleep.
const BUCKETS: usize = 256;

/// Everybody who waits for a futex.
#[derive(Debug)]
pub struct Futexes {
    buckets: Box<[Mutex<Bucket>]>,
    hash: RandomState,
    /// Where programs look whether anybody waits before they call to wake ([`Way::Wake`](vmm::pico::Way::Wake)).
    waiters: Arc<Waiters>,
    /// Which thread waits for a futex of which, where futexes have owners: finds deadlocks.
    waits_for: Mutex<HashMap<Pid, Pid>>,
}

impl Futexes {
    /// Makes the table of a sandbox whose programs look at `waiters`.
    pub fn new(waiters: Arc<Waiters>) -> Self {
        let buckets = (0..BUCKETS).map(|_| Mutex::new(Rank::Futexes, Bucket::default())).collect();
        Self { buckets, hash: RandomState::new(), waiters, waits_for: Mutex::new(Rank::Leaf, HashMap::new()) }
    }

    /// What who waits for private words of a map is counted with.
    pub(crate) fn salt(&self, mm: &Arc<MemoryMap>) -> u32 {
        self.salt_of(Arc::as_ptr(mm).addr())
    }

    /// By the keyed hash, since programs know the salt: a map's address is the monitor's own affair.
    fn salt_of(&self, map: usize) -> u32 {
        u32::try_from(self.hash.hash_one(map) >> 32).unwrap_or_default()
    }

    /// Counts somebody who waits for a futex, or is about to, where those look who would wake them.
    fn count(&self, key: &FutexKey) -> Option<Waiting> {
        match *key {
            FutexKey::Private { map, at } => Some(self.waiters.count(self.salt_of(map), UserAddr(at))),
            _ => None,
        }
    }

    fn index(&self, key: &FutexKey) -> usize {
        // The remainder is below BUCKETS.
        usize::try_from(self.hash.hash_one(key)).unwrap_or_default() % BUCKETS
    }

    /// Locks the bucket of a futex.
    fn lock(&self, key: &FutexKey) -> MutexGuard<'_, Bucket> {
        self.buckets[self.index(key)].lock()
    }

    /// Locks the buckets of two futexes, which may be one.
    fn lock_both(&self, first: &FutexKey, second: &FutexKey) -> Pair<'_> {
        let (first, second) = (self.index(first), self.index(second));
        if first == second {
            return Pair { lower: self.buckets[first].lock(), upper: None, swapped: false };
        }
        let lower = self.buckets[first.min(second)].lock();
        let upper = self.buckets[first.max(second)].lock_as(Rank::FutexPair);
        Pair { lower, upper: Some(upper), swapped: first > second }
    }
}

/// The locked buckets of two futexes.
struct Pair<'a> {
    lower: MutexGuard<'a, Bucket>,
    /// None: both futexes are in one bucket.
    upper: Option<MutexGuard<'a, Bucket>>,
    /// The first futex is in the upper bucket.
    swapped: bool,
}

impl Pair<'_> {
    fn first(&mut self) -> &mut Bucket {
        match &mut self.upper {
            Some(upper) if self.swapped => upper,
            _ => &mut self.lower,
        }
    }

    fn second(&mut self) -> &mut Bucket {
        match &mut self.upper {
            Some(upper) if !self.swapped => upper,
            _ => &mut self.lower,
        }
    }
}
