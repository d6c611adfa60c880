//! Advisory locks: flock(2), and the ranges of fcntl(2) that a process or an open file description holds.
//!
//! One table for all files, under one leaf lock: locks are few. A file is known by its inode's address, which the open file that
//! holds the lock keeps alive. Host files are locked among the sandbox's own processes only. Of processes that wait for ranges it knows
//! whom they wait for, so that the last of a ring is told.

use super::{Leases, OpenFile};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, Pid, WaitQueue};
use std::collections::HashMap;
use std::sync::Arc;

/// The most ranges and locks in a sandbox: they take the monitor's memory.
const LOCKS_MAX: usize = 65536;

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockOwner {
    /// A process (F_SETLK).
    Process(Pid),
    /// An open file description, by its number (F_OFD_SETLK, flock).
    Description(u64),
}

/// Shared or exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Others may hold it shared, too.
    Shared,
    /// Nobody else may hold it.
    Exclusive,
}

/// A locked range of bytes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeLock {
    /// The first byte.
    pub start: u64,
    /// The last byte; `i64::MAX` as a number: to the end, however far that moves.
    pub end: u64,
    /// Shared or exclusive.
    pub kind: LockKind,
    /// Who holds it.
    pub owner: LockOwner,
}

impl RangeLock {
    fn conflicts(&self, other: &Self) -> bool {
        self.owner != other.owner
            && self.overlaps(other)
            && (self.kind == LockKind::Exclusive || other.kind == LockKind::Exclusive)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

#[derive(Debug, Default)]
struct FileState {
    ranges: Vec<RangeLock>,
    /// flock's: open file descriptions.
    whole: Vec<(u64, LockKind)>,
}

/// A process that waits for another's range.
#[derive(Clone, Copy, Debug)]
struct Wait {
    id: u64,
    waiter: Pid,
    holder: Pid,
}

/// What the lock guards.
#[derive(Debug, Default)]
struct Table {
    files: HashMap<usize, FileState>,
    waits: Vec<Wait>,
    next_wait: u64,
}

impl Table {
    /// Tells whether `holder` waits, by whatever detour, for `waiter`.
    fn is_waiting_for(&self, holder: Pid, waiter: Pid) -> bool {
        let mut seen = vec![holder];
        let mut at = 0;
        while let Some(process) = seen.get(at).copied() {
            if process == waiter {
                return true;
            }
            let next = self.waits.iter().filter(|wait| wait.waiter == process).map(|wait| wait.holder);
            let new: Vec<Pid> = next.filter(|next| !seen.contains(next)).collect();
            seen.extend(new);
            at += 1;
        }
        false
    }
}

/// All advisory locks of a sandbox.
#[derive(Debug)]
pub struct FileLocks {
    table: Mutex<Table>,
    changed: WaitQueue,
    leases: Leases,
}

/// A process's wait for a range (F_SETLKW): others see whom it waits for until this is dropped.
#[derive(Debug)]
pub struct RangeWait<'a> {
    locks: &'a Arc<FileLocks>,
    id: u64,
}

impl RangeWait<'_> {
    /// Takes the range as [`FileLocks::lock_range`] does; `EDEADLK` if its holder waits for the caller.
    pub fn attempt(&self, file: &OpenFile, wanted: RangeLock) -> Result<(), Errno> {
        self.locks.take(file, wanted, Some(self.id))
    }
}

impl Drop for RangeWait<'_> {
    fn drop(&mut self) {
        self.locks.table.lock().waits.retain(|wait| wait.id != self.id);
    }
}

impl Default for FileLocks {
    fn default() -> Self {
        Self {
            table: Mutex::new(Rank::Leaf, Table::default()),
            changed: WaitQueue::default(),
            leases: Leases::default(),
        }
    }
}

fn key(file: &OpenFile) -> usize {
    Arc::as_ptr(file.location().inode()).addr()
}

impl FileLocks {
    /// What a task waits on until a lock may be free.
    pub fn changed(&self) -> &WaitQueue {
        &self.changed
    }

    /// The leases.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Takes a lease for an open file (F_SETLEASE), or with `None` gives it back; as `Leases::set` and `Leases::remove`.
    pub fn lease(
        self: &Arc<Self>,
        task: &CurrentTask<'_>,
        file: &OpenFile,
        fd: i32,
        kind: Option<LockKind>,
    ) -> Result<(), Errno> {
        let Some(kind) = kind else { return self.leases.remove(task, file) };
        file.remember_locks(self);
        self.leases.set(task, file, fd, kind)
    }

    /// The first lock of somebody else's that stands in the way of `wanted` (F_GETLK).
    pub fn conflict(&self, file: &OpenFile, wanted: &RangeLock) -> Option<RangeLock> {
        let table = self.table.lock();
        table.files.get(&key(file))?.ranges.iter().find(|held| held.conflicts(wanted)).copied()
    }

    /// Takes a range, in the place of what the owner held there; `EAGAIN` if somebody else's lock stands in the way, `ENOLCK` if
    /// there are too many.
    pub fn lock_range(self: &Arc<Self>, file: &OpenFile, wanted: RangeLock) -> Result<(), Errno> {
        self.take(file, wanted, None)
    }

    /// Starts a wait for a range.
    pub fn wait_for_range(self: &Arc<Self>) -> RangeWait<'_> {
        let mut table = self.table.lock();
        table.next_wait += 1;
        RangeWait { locks: self, id: table.next_wait }
    }

    fn take(self: &Arc<Self>, file: &OpenFile, wanted: RangeLock, wait: Option<u64>) -> Result<(), Errno> {
        {
            let table = &mut *self.table.lock();
            table.waits.retain(|other| Some(other.id) != wait);
            let ranges = table.files.get(&key(file)).map_or(&[][..], |state| &state.ranges);
            if let Some(held) = ranges.iter().find(|held| held.conflicts(&wanted)) {
                if let (Some(id), LockOwner::Process(waiter), LockOwner::Process(holder)) =
                    (wait, wanted.owner, held.owner)
                {
                    if table.is_waiting_for(holder, waiter) {
                        return Err(Errno::EDEADLK);
                    }
                    table.waits.push(Wait { id, waiter, holder });
                }
                return Err(Errno::EAGAIN);
            }
            let files = &mut table.files;
            let count: usize = files.values().map(|state| state.ranges.len() + state.whole.len()).sum();
            let state = files.entry(key(file)).or_default();
            if count >= LOCKS_MAX {
                return Err(Errno::ENOLCK);
            }
            cut(&mut state.ranges, &wanted);
            state.ranges.push(wanted);
            join(&mut state.ranges);
        }
        // An exclusive lock that became shared may let others in.
        self.changed.wake_all();
        file.remember_locks(self);
        Ok(())
    }

    /// Gives a range back; `kind` does not matter.
    pub fn unlock_range(&self, file: &OpenFile, range: RangeLock) {
        self.edit(key(file), |state| cut(&mut state.ranges, &range));
    }

    /// Takes the whole file for an open file description (flock), in the place of what it held; `EAGAIN`.
    pub fn lock_whole(self: &Arc<Self>, file: &OpenFile, kind: LockKind) -> Result<(), Errno> {
        let (taken, gave_up) = {
            let mut table = self.table.lock();
            let state = table.files.entry(key(file)).or_default();
            let before = state.whole.len();
            // Linux gives the old lock up before it takes the new one, also if that fails.
            state.whole.retain(|(owner, _)| *owner != file.id());
            let gave_up = state.whole.len() < before;
            let free = state.whole.iter().all(|(_, held)| *held == LockKind::Shared && kind == LockKind::Shared);
            if free {
                state.whole.push((file.id(), kind));
            }
            (free, gave_up)
        };
        // Not for nothing: whoever waits here for the lock would wake itself.
        if gave_up {
            self.changed.wake_all();
        }
        file.remember_locks(self);
        if taken { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    /// Gives an open file description's lock on the whole file back.
    pub fn unlock_whole(&self, file: &OpenFile) {
        self.edit(key(file), |state| state.whole.retain(|(owner, _)| *owner != file.id()));
    }

    /// A process closed a descriptor of the file: its ranges go, whichever descriptor took them (fcntl(2)).
    pub fn closed(&self, process: Pid, file: &OpenFile) {
        self.edit(key(file), |state| state.ranges.retain(|held| held.owner != LockOwner::Process(process)));
    }

    /// A process has ended: its ranges go, although others may have the files open.
    pub fn process_ended(&self, process: Pid) {
        {
            let mut table = self.table.lock();
            table.files.retain(|_, state| {
                state.ranges.retain(|held| held.owner != LockOwner::Process(process));
                !state.ranges.is_empty() || !state.whole.is_empty()
            });
        }
        self.changed.wake_all();
    }

    /// An open file description is gone, and its locks with it.
    pub(super) fn released(&self, file: &OpenFile) {
        self.leases.released(file);
        self.edit(key(file), |state| {
            state.whole.retain(|(owner, _)| *owner != file.id());
            state.ranges.retain(|held| held.owner != LockOwner::Description(file.id()));
        });
    }

    fn edit(&self, key: usize, change: impl FnOnce(&mut FileState)) {
        {
            let mut table = self.table.lock();
            let Some(state) = table.files.get_mut(&key) else { return };
            change(state);
            if state.ranges.is_empty() && state.whole.is_empty() {
                table.files.remove(&key);
            }
        }
        self.changed.wake_all();
    }
}

/// Takes a range out of what its owner holds.
fn cut(held: &mut Vec<RangeLock>, range: &RangeLock) {
    let mut pieces = Vec::new();
    held.retain(|lock| {
        if lock.owner != range.owner || !lock.overlaps(range) {
            return true;
        }
        if lock.start < range.start {
            pieces.push(RangeLock { end: range.start - 1, ..*lock });
        }
        if lock.end > range.end {
            pieces.push(RangeLock { start: range.end + 1, ..*lock });
        }
        false
    });
    held.append(&mut pieces);
}

/// Joins neighbours of one owner and kind, so that a program cannot make many of one.
fn join(held: &mut Vec<RangeLock>) {
    held.sort_by_key(|lock| lock.start);
    let mut joined: Vec<RangeLock> = Vec::with_capacity(held.len());
    for lock in held.drain(..) {
        // What one owner holds does not overlap, so that only its last range can be a neighbour.
        let last = joined.iter_mut().rev().find(|before| before.owner == lock.owner);
        let neighbour = last.filter(|last| last.kind == lock.kind && last.end.saturating_add(1) >= lock.start);
        match neighbour {
            Some(before) => before.end = before.end.max(lock.end),
            None => joined.push(lock),
        }
    }
    *held = joined;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(start: u64, end: u64, owner: i32) -> RangeLock {
        RangeLock { start, end, kind: LockKind::Exclusive, owner: LockOwner::Process(Pid(owner)) }
    }

    #[test]
    fn a_hole_splits_a_range_of_its_owner_only() {
        let mut held = vec![lock(0, 9, 1), lock(20, 29, 2)];
        cut(&mut held, &lock(3, 25, 1));
        assert_eq!(held, [lock(20, 29, 2), lock(0, 2, 1)]);
        cut(&mut held, &lock(24, 24, 2));
        assert_eq!(held, [lock(0, 2, 1), lock(20, 23, 2), lock(25, 29, 2)]);
    }

    #[test]
    fn neighbours_are_joined() {
        let mut held = vec![lock(5, 9, 1), lock(0, 4, 1), lock(10, 10, 2)];
        join(&mut held);
        assert_eq!(held, [lock(0, 9, 1), lock(10, 10, 2)]);
    }

    #[test]
    fn a_ring_of_waits_is_found_whatever_its_length() {
        let wait = |waiter, holder| Wait { id: 0, waiter: Pid(waiter), holder: Pid(holder) };
        let waits = vec![wait(1, 2), wait(2, 3), wait(2, 4), wait(4, 5), wait(5, 2)];
        let table = Table { waits, ..Table::default() };
        assert!(table.is_waiting_for(Pid(1), Pid(5)));
        assert!(table.is_waiting_for(Pid(5), Pid(3)));
        assert!(!table.is_waiting_for(Pid(3), Pid(1)));
        assert!(!table.is_waiting_for(Pid(5), Pid(1)));
    }

    #[test]
    fn shared_locks_do_not_conflict() {
        let shared = |owner| RangeLock { kind: LockKind::Shared, ..lock(0, 9, owner) };
        assert!(!shared(1).conflicts(&shared(2)));
        assert!(shared(1).conflicts(&lock(9, 9, 2)));
        assert!(!lock(0, 9, 1).conflicts(&lock(0, 9, 1)));
    }
}
