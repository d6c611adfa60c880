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

use crate::sync::{Mutex, MutexGuard, Rank};
use crate::task::Pid;
use queue::Bucket;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

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
    /// Which thread waits for a futex of which, where futexes have owners: finds deadlocks.
    waits_for: Mutex<HashMap<Pid, Pid>>,
}

impl Default for Futexes {
    fn default() -> Self {
        let buckets = (0..BUCKETS).map(|_| Mutex::new(Rank::Futexes, Bucket::default())).collect();
        Self { buckets, hash: RandomState::new(), waits_for: Mutex::new(Rank::Leaf, HashMap::new()) }
    }
}

impl Futexes {
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
