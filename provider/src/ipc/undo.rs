//! What is taken back on a set's semaphores when a process ends (SEM_UNDO).

use crate::task::Pid;
use std::collections::BTreeMap;

/// Adjustments by process and semaphore. Threads of a process share theirs, as those of pthread_create do on Linux.
#[derive(Debug, Default)]
pub(super) struct Undos(BTreeMap<(i32, u16), i32>);

impl Undos {
    /// The adjustment of a semaphore that is due when a process ends.
    pub(super) fn get(&self, process: Pid, number: u16) -> i32 {
        self.0.get(&(process.0, number)).copied().unwrap_or_default()
    }

    /// Adds to it.
    pub(super) fn add(&mut self, process: Pid, number: u16, change: i32) {
        let sum = self.0.entry((process.0, number)).or_default();
        *sum += change;
        if *sum == 0 {
            self.0.remove(&(process.0, number));
        }
    }

    /// Forgets what all processes would take back on a semaphore.
    pub(super) fn forget(&mut self, number: u16) {
        self.0.retain(|(_, other), _| *other != number);
    }

    /// Takes out everything of a process's.
    pub(super) fn take(&mut self, process: Pid) -> Vec<(u16, i32)> {
        let own = (process.0, u16::MIN)..=(process.0, u16::MAX);
        let found: Vec<_> = self.0.range(own).map(|((_, number), change)| (*number, *change)).collect();
        for (number, _) in &found {
            self.0.remove(&(process.0, *number));
        }
        found
    }
}
