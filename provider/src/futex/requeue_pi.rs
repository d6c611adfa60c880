//! Condition variables over mutexes with an owner: FUTEX_WAIT_REQUEUE_PI and FUTEX_CMP_REQUEUE_PI.
//!
//! A sleeper waits on the condition's futex and says which mutex it is to own. Whoever signals the condition gives the mutex
//! to the first sleeper if it is free, and moves the others to the mutex's queue.

use super::pi::Claim;
use super::queue::{Candidate, Entry, Wakes};
use super::wait::Expected;
use super::{FutexKey, Futexes};
use crate::errno::Errno;
use crate::task::{CurrentTask, Deadline, Wake};
use vmm::addr::UserAddr;

impl Futexes {
    /// Sleeps on a futex until it is requeued, and then until the caller owns the futex `target` at `word`.
    ///
    /// `EAGAIN` if the condition's word has another value, or a signal came after the requeue: a program takes the mutex
    /// then and looks at its condition again.
    pub fn wait_requeued(
        &self,
        task: &CurrentTask<'_>,
        expected: &Expected,
        (target, word): (FutexKey, UserAddr),
        deadline: Deadline,
    ) -> Result<Wake<()>, Errno> {
        let mm = task.mm();
        let entry = Entry::new(task, expected.key, expected.mask, Some(Candidate::of(task, target, word)));
        {
            let mut bucket = self.lock(&expected.key);
            if mm.load_u32(expected.at)? != expected.value {
                return Err(Errno::EAGAIN);
            }
            if expected.key == target {
                return Err(Errno::EINVAL);
            }
            bucket.push(entry.clone(), self);
        }
        let slept = self.sleep_to_own(task, &entry, deadline)?;
        if slept == Wake::Interrupted && entry.owner_to_be().is_some() {
            return Err(Errno::EAGAIN);
        }
        Ok(slept)
    }

    /// Gives the futex `to` at `word` to the first sleeper on `from` if it is free, and moves at most `moved` others to
    /// its queue. Returns how many it dealt with. `EAGAIN` if the word at `at` has another value, `EINVAL` if a sleeper
    /// does not wait to be requeued there.
    pub fn requeue_to_owned(
        &self,
        task: &CurrentTask<'_>,
        (from, at, expected): (FutexKey, UserAddr, u32),
        (to, word): (FutexKey, UserAddr),
        moved: usize,
    ) -> Result<usize, Errno> {
        if from == to {
            return Err(Errno::EINVAL);
        }
        let mm = task.mm();
        let mut wakes = Wakes::default();
        let result = loop {
            let mut pair = self.lock_both(&from, &to);
            if mm.load_u32(at)? != expected {
                return Err(Errno::EAGAIN);
            }
            let Some(queue) = pair.first().queue(&from) else { return Ok(0) };
            let Some(first) = queue.waiters.front().cloned() else { return Ok(0) };
            let Some(candidate) = first.candidate.as_ref().filter(|candidate| candidate.target == to) else {
                return Err(Errno::EINVAL);
            };
            let contended = moved > 0;
            let claimant = Candidate { tid: candidate.tid, mm: task.mm(), word, target: to };
            let owner = match self.claim(task.kernel(), pair.second(), &claimant, contended)? {
                Claim::Changed => continue,
                Claim::Owned => {
                    pair.first().remove(&first);
                    wakes.add(first.clone());
                    candidate.tid
                }
                Claim::TakenBy(owner) => owner,
            };
            let count = if wakes.count() == 0 { moved.saturating_add(1) } else { moved };
            let mut done = wakes.count();
            let mut result = Ok(());
            for _ in 0..count {
                let Some(queue) = pair.first().queue(&from) else { break };
                let Some(entry) = queue.waiters.front().cloned() else { break };
                let Some(candidate) = entry.candidate.as_ref().filter(|candidate| candidate.target == to) else {
                    result = Err(Errno::EINVAL);
                    break;
                };
                result = self.wait_for_owner(candidate.tid, owner);
                if result.is_err() {
                    break;
                }
                pair.first().remove(&entry);
                entry.move_to(to);
                pair.second().push(entry, self);
                if let Some(queue) = pair.second().queue(&to) {
                    queue.owner = Some(owner);
                }
                done += 1;
            }
            break result.map(|()| done);
        };
        wakes.deliver();
        result
    }
}
