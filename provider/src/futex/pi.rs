//! Futexes with an owner: FUTEX_LOCK_PI and its like (kernel/futex/pi.c).
//!
//! The word holds the owner's thread id; whoever finds it taken sets the waiters bit and queues here. The owner sees the bit
//! and calls to unlock, and ownership goes to the oldest waiter, whose id is written before it is woken: it returns owning.
//! While anybody waits the queue knows the owner, so that a word that says something else is noticed.

use super::queue::{Bucket, Candidate, Entry, Queue, Wakes};
use super::{ANY, FutexKey, Futexes, OWNER_DIED, TID, WAITERS};
use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::task::{CurrentTask, Deadline, Pid, Task, Wake};
use std::sync::Arc;
use vmm::addr::UserAddr;

/// What came of a try to own a futex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The word has the claimant's id.
    Owned,
    /// This thread owns it, and the waiters bit is set.
    TakenBy(Pid),
    /// The word changed meanwhile: look again.
    Changed,
}

/// A word's thread id.
fn tid(word: u32) -> Pid {
    Pid((word & TID).cast_signed())
}

/// The word of a futex that a thread owns.
fn owned_by(tid: Pid) -> u32 {
    tid.0.cast_unsigned() & TID
}

impl Candidate {
    /// The calling task, waiting to own the futex `target` at `word`.
    pub(super) fn of(task: &CurrentTask<'_>, target: FutexKey, word: UserAddr) -> Self {
        Self { tid: task.tid(), mm: task.mm(), word, target }
    }
}

impl Futexes {
    /// Owns the futex at `at`, sleeping until that is possible.
    pub fn lock_owned(
        &self,
        task: &CurrentTask<'_>,
        key: FutexKey,
        at: UserAddr,
        deadline: Deadline,
    ) -> Result<Wake<()>, Errno> {
        let entry = Entry::new(task, key, ANY, Some(Candidate::of(task, key, at)));
        let claimant = Candidate::of(task, key, at);
        loop {
            let mut bucket = self.lock(&key);
            match self.claim(task.kernel(), &mut bucket, &claimant, false)? {
                Claim::Owned => return Ok(Wake::Done(())),
                Claim::Changed => {}
                Claim::TakenBy(owner) => {
                    self.wait_for_owner(task.tid(), owner)?;
                    bucket.push(entry.clone(), self);
                    if let Some(queue) = bucket.queue(&key) {
                        queue.owner = Some(owner);
                    }
                    break;
                }
            }
        }
        self.sleep_to_own(task, &entry, deadline)
    }

    /// Sleeps until the futex that `entry` is queued for is handed over.
    pub(super) fn sleep_to_own(
        &self,
        task: &CurrentTask<'_>,
        entry: &Arc<Entry>,
        deadline: Deadline,
    ) -> Result<Wake<()>, Errno> {
        let slept = task.block_until(deadline, |_| Ok(entry.is_woken().then_some(())));
        if self.withdraw(entry) {
            self.waits_for.lock().remove(&task.tid());
            slept
        } else {
            Ok(Wake::Done(()))
        }
    }

    /// Owns the futex at `at` if nobody does; `EAGAIN` otherwise.
    pub fn try_lock_owned(&self, task: &CurrentTask<'_>, key: FutexKey, at: UserAddr) -> Result<(), Errno> {
        let claimant = Candidate::of(task, key, at);
        loop {
            match self.claim(task.kernel(), &mut self.lock(&key), &claimant, false)? {
                Claim::Owned => return Ok(()),
                Claim::Changed => {}
                Claim::TakenBy(_) => return Err(Errno::EAGAIN),
            }
        }
    }

    /// Gives the futex at `at` to the oldest waiter, or to nobody. `EPERM` unless its word says that the caller owns it.
    pub fn unlock_owned(&self, task: &CurrentTask<'_>, key: FutexKey, at: UserAddr) -> Result<(), Errno> {
        let mm = task.mm();
        loop {
            let mut bucket = self.lock(&key);
            let word = mm.load_u32(at)?;
            if tid(word) != task.tid() {
                return Err(Errno::EPERM);
            }
            let Some(queue) = bucket.queue(&key) else {
                if mm.compare_exchange_u32(at, word, 0)? == word {
                    return Ok(());
                }
                continue;
            };
            let Some(next) = queue.next_owner() else { return Err(Errno::EINVAL) };
            if queue.owner != Some(task.tid()) {
                return Err(Errno::EINVAL);
            }
            let Some(candidate) = &next.candidate else { return Err(Errno::EINVAL) };
            if mm.compare_exchange_u32(at, word, owned_by(candidate.tid) | WAITERS)? != word {
                continue;
            }
            let mut wakes = Wakes::default();
            self.hand_over(queue, next, &mut wakes);
            bucket.tidy();
            drop(bucket);
            wakes.deliver();
            return Ok(());
        }
    }

    /// Tries to own a futex, whose bucket is locked (futex_lock_pi_atomic). With `contended`, the waiters bit is set although nobody
    /// is queued yet. `EDEADLK` if the claimant owns it, `ESRCH` if the word names no thread, `EINVAL` if it and the
    /// queue disagree.
    pub(super) fn claim(
        &self,
        kernel: &Kernel,
        bucket: &mut Bucket,
        claimant: &Candidate,
        contended: bool,
    ) -> Result<Claim, Errno> {
        let word = claimant.mm.load_u32(claimant.word)?;
        if tid(word) == claimant.tid {
            return Err(Errno::EDEADLK);
        }
        if let Some(queue) = bucket.queue(&claimant.target) {
            // Somebody waits without wanting to own it: it is used in two ways at once.
            let (Some(owner), Some(_)) = (queue.owner, queue.waiters.front().and_then(|entry| entry.owner_to_be()))
            else {
                return Err(Errno::EINVAL);
            };
            // A dead owner's id may have been cleared already.
            let cleared = word & OWNER_DIED != 0 && tid(word) == Pid(0);
            if !cleared && tid(word) != owner {
                return Err(Errno::EINVAL);
            }
            return Ok(Claim::TakenBy(owner));
        }
        let change = |new| claimant.mm.compare_exchange_u32(claimant.word, word, new).map(|found| found == word);
        if tid(word) == Pid(0) {
            let waiters = if contended { WAITERS } else { 0 };
            let owned = change(word & OWNER_DIED | owned_by(claimant.tid) | waiters)?;
            return Ok(if owned { Claim::Owned } else { Claim::Changed });
        }
        if !change(word | WAITERS)? {
            return Ok(Claim::Changed);
        }
        match kernel.tasks().get(tid(word)) {
            Some(owner) if !owner.has_left_futexes() => Ok(Claim::TakenBy(owner.tid())),
            // It may have given the futex up as it ended (handle_exit_race).
            _ if claimant.mm.load_u32(claimant.word)? != word | WAITERS => Ok(Claim::Changed),
            _ => Err(Errno::ESRCH),
        }
    }

    /// Notes that a thread waits for what another owns; `EDEADLK` if that one waits, perhaps through others, for the first.
    pub(super) fn wait_for_owner(&self, waiter: Pid, owner: Pid) -> Result<(), Errno> {
        let mut waits_for = self.waits_for.lock();
        let mut at = owner;
        // Each thread waits for one at the most, so this ends where nobody is waited for, or has seen a circle of others.
        for _ in 0..=waits_for.len() {
            if at == waiter {
                return Err(Errno::EDEADLK);
            }
            match waits_for.get(&at) {
                Some(next) => at = *next,
                None => break,
            }
        }
        waits_for.insert(waiter, owner);
        Ok(())
    }

    /// Makes the waiter `next`, whose id the word has, the owner, and lets it go.
    fn hand_over(&self, queue: &mut Queue, next: Arc<Entry>, wakes: &mut Wakes) {
        queue.waiters.retain(|entry| !Arc::ptr_eq(entry, &next));
        queue.owner = next.candidate.as_ref().map(|candidate| candidate.tid);
        let mut waits_for = self.waits_for.lock();
        if let Some(owner) = queue.owner {
            waits_for.remove(&owner);
            for candidate in queue.waiters.iter().filter_map(|entry| entry.candidate.as_ref()) {
                waits_for.insert(candidate.tid, owner);
            }
        }
        drop(waits_for);
        wakes.add(next);
    }

    /// Hands over every futex that a dying task owns and others wait for (exit_pi_state_list). The next owner finds
    /// OWNER_DIED in the word.
    pub(super) fn bequeath(&self, task: &Task) {
        // Nobody queues for what this task owns any longer, so a look at who waits now is enough.
        let waited_for = self.waits_for.lock().values().any(|owner| *owner == task.tid());
        if !waited_for {
            return;
        }
        let mut wakes = Wakes::default();
        for bucket in &self.buckets {
            let mut bucket = bucket.lock();
            for queue in bucket.queues().iter_mut().filter(|queue| queue.owner == Some(task.tid())) {
                let Some(next) = queue.next_owner() else { continue };
                if let Some(candidate) = &next.candidate {
                    candidate.inherit();
                }
                self.hand_over(queue, next, &mut wakes);
            }
            bucket.tidy();
        }
        wakes.deliver();
    }
}

impl Candidate {
    /// Writes this thread's id to the word of a futex whose owner died.
    fn inherit(&self) {
        let Ok(mut word) = self.mm.load_u32(self.word) else { return };
        // A word that cannot be written is the program's loss: the thread returns as the owner all the same.
        while let Ok(found) =
            self.mm.compare_exchange_u32(self.word, word, word & OWNER_DIED | OWNER_DIED | WAITERS | owned_by(self.tid))
            && found != word
        {
            word = found;
        }
    }
}

impl Queue {
    /// The oldest of those that wait to own the futex.
    fn next_owner(&self) -> Option<Arc<Entry>> {
        self.waiters.iter().find(|entry| entry.owner_to_be().is_some()).cloned()
    }
}
