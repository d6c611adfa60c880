//! Sleeping on one futex, or on the first of several.

use super::queue::Entry;
use super::{FutexKey, Futexes};
use crate::errno::Errno;
use crate::task::{CurrentTask, Deadline, Wake};
use std::sync::Arc;
use vmm::addr::UserAddr;

/// The most futexes that one call waits for (FUTEX_WAITV_MAX).
pub const WAITERS_MAX: usize = 128;

/// A futex to sleep on as long as its word has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The futex.
    pub key: FutexKey,
    /// Its word.
    pub at: UserAddr,
    /// The value.
    pub value: u32,
    /// Bits of which a waker must share one.
    pub mask: u32,
}

impl Futexes {
    /// Sleeps until somebody wakes this futex; `EAGAIN` if its word has another value. Interrupted or timed out, it tells
    /// so: what that means is the call's business.
    pub fn wait(&self, task: &CurrentTask<'_>, expected: &Expected, deadline: Deadline) -> Result<Wake<()>, Errno> {
        let entry = self.enqueue(task, expected)?;
        let slept = task.block_until(deadline, |_| Ok(entry.is_woken().then_some(())));
        // A wake-up that came together with the deadline or the signal must not be lost.
        if self.withdraw(&entry) { slept } else { Ok(Wake::Done(())) }
    }

    /// Sleeps until one of several futexes is woken; returns its place in the list. `EAGAIN` if a word has another value,
    /// unless one before it was woken already.
    pub fn wait_for_any(
        &self,
        task: &CurrentTask<'_>,
        all: &[Expected],
        deadline: Deadline,
    ) -> Result<Wake<usize>, Errno> {
        let mut entries = Vec::with_capacity(all.len());
        let mut queued = Ok(());
        for expected in all {
            match self.enqueue(task, expected) {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    queued = Err(error);
                    break;
                }
            }
        }
        let slept = match queued {
            Ok(()) => {
                task.block_until(deadline, |_| Ok(entries.iter().any(|entry| entry.is_woken()).then_some(usize::MAX)))
            }
            Err(error) => Err(error),
        };
        // The last of those woken is told, as Linux does.
        let woken = entries.iter().enumerate().filter(|(_, entry)| !self.withdraw(entry)).map(|(at, _)| at).last();
        woken.map_or(slept, |at| Ok(Wake::Done(at)))
    }

    fn enqueue(&self, task: &CurrentTask<'_>, expected: &Expected) -> Result<Arc<Entry>, Errno> {
        let mm = task.mm();
        let entry = Entry::new(task, expected.key, expected.mask, None);
        // Who finds nobody counted has stored what is compared here.
        let _about_to = self.count(&expected.key);
        let mut bucket = self.lock(&expected.key);
        if mm.load_u32(expected.at)? != expected.value {
            return Err(Errno::EAGAIN);
        }
        bucket.push(entry.clone(), self);
        Ok(entry)
    }

    /// Takes a sleeper off whichever queue it is on; `false` if somebody else did.
    pub(super) fn withdraw(&self, entry: &Arc<Entry>) -> bool {
        while !entry.is_woken() {
            let place = entry.place();
            let mut bucket = self.lock(&place);
            // It may have been moved to another bucket before this one was locked.
            if entry.place() == place {
                return bucket.remove(entry);
            }
        }
        false
    }
}
