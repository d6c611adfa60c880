//! Semaphore sets (ipc/sem.c).
//!
//! Operations on a set are all done or none. Those that cannot be done yet wait in line; whoever changes a value does what has
//! become possible on behalf of the sleepers, oldest first, so that none is overtaken by one that came later and wants the same.

use super::registry::Object;
use super::undo::Undos;
use super::{Changes, Permissions, Registry, now};
use crate::errno::Errno;
use crate::fs::io::buffer;
use crate::net::Budget;
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, Deadline, Parker, Pid, Wake};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The highest value, and adjustment (SEMVMX, SEMAEM).
pub const VALUE_MAX: i32 = 32_767;

bitflags::bitflags! {
    /// How an operation is done.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OperationFlags: i16 {
        /// IPC_NOWAIT: fail instead of waiting.
        const NO_WAIT = 0o4000;
        /// SEM_UNDO: take it back when the process ends.
        const UNDO = 0o10000;
    }
}

/// An operation on one semaphore of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which.
    pub number: u16,
    /// Added to the value; 0 waits for the value to be 0.
    pub change: i16,
    /// How.
    pub flags: OperationFlags,
}

/// One semaphore.
#[derive(Clone, Copy, Debug, Default)]
pub struct Semaphore {
    /// Its value.
    pub value: i32,
    /// Which process changed it last.
    pub last: i32,
}

/// Operations that wait to become possible.
#[derive(Debug)]
struct Waiting {
    operations: Vec<Operation>,
    process: Pid,
    parker: Arc<Parker>,
    outcome: OnceLock<Result<(), Errno>>,
}

/// A set of semaphores.
#[derive(Debug)]
pub struct SemaphoreSet {
    size: usize,
    state: Mutex<State>,
    _counted: Counted,
}

/// How many semaphores there are in a sandbox, and the bound on what they take of the monitor's memory.
#[derive(Debug)]
pub struct SemaphoreCount {
    count: AtomicU64,
    budget: Arc<Budget>,
}

/// The semaphores of one set, as long as they count.
#[derive(Debug)]
struct Counted {
    all: Arc<SemaphoreCount>,
    size: usize,
}

impl SemaphoreCount {
    /// Counts none.
    pub(super) fn new(budget: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { count: AtomicU64::new(0), budget: budget.clone() })
    }

    /// How many there are.
    pub fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// `ENOSPC` beyond `most`, `ENOMEM` if there is no memory for them.
    fn add(self: &Arc<Self>, size: usize, most: u64) -> Result<Counted, Errno> {
        let added = u64::try_from(size).map_err(|_| Errno::ENOSPC)?;
        let sum = |count: u64| count.checked_add(added).filter(|sum| *sum <= most);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).map_err(|_| Errno::ENOSPC)?;
        if self.budget.take(memory(size)) {
            return Ok(Counted { all: self.clone(), size });
        }
        self.count.fetch_sub(added, Ordering::Relaxed);
        Err(Errno::ENOMEM)
    }
}

/// Bytes of the monitor's that a set takes.
fn memory(size: usize) -> usize {
    const SET: usize = 512;
    SET + size * size_of::<Semaphore>()
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.count.fetch_sub(u64::try_from(self.size).unwrap_or_default(), Ordering::Relaxed);
        self.all.budget.give(memory(self.size));
    }
}

#[derive(Debug)]
struct State {
    permissions: Permissions,
    semaphores: Vec<Semaphore>,
    waiting: VecDeque<Arc<Waiting>>,
    undos: Undos,
    operated: i64,
    changed: i64,
    removed: bool,
}

/// What IPC_STAT tells about a set.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "semctl(2) describes them")]
pub struct SetStatus {
    pub permissions: Permissions,
    pub operated: i64,
    pub changed: i64,
    pub size: usize,
}

/// Why operations cannot be done now.
enum Stop {
    /// The operation at this place has to wait.
    Wait(usize),
    Fail(Errno),
}

impl State {
    /// Does all operations or none (perform_atomic_semop).
    fn perform(&mut self, operations: &[Operation], process: Pid) -> Result<(), Stop> {
        let before = self.semaphores.clone();
        let result = self.try_each(operations, process);
        if result.is_err() {
            self.semaphores = before;
            return result;
        }
        for operation in operations.iter().filter(|operation| operation.flags.contains(OperationFlags::UNDO)) {
            self.undos.add(process, operation.number, -i32::from(operation.change));
        }
        self.operated = now();
        Ok(())
    }

    fn try_each(&mut self, operations: &[Operation], process: Pid) -> Result<(), Stop> {
        let mut adjustments: Vec<(u16, i32)> = Vec::new();
        for (at, operation) in operations.iter().enumerate() {
            let semaphore = &mut self.semaphores[usize::from(operation.number)];
            let value = semaphore.value + i32::from(operation.change);
            let waits = if operation.change == 0 { semaphore.value != 0 } else { value < 0 };
            if waits {
                let wait = !operation.flags.contains(OperationFlags::NO_WAIT);
                return Err(if wait { Stop::Wait(at) } else { Stop::Fail(Errno::EAGAIN) });
            }
            if value > VALUE_MAX {
                return Err(Stop::Fail(Errno::ERANGE));
            }
            if operation.flags.contains(OperationFlags::UNDO) {
                let earlier: i32 = adjustments
                    .iter()
                    .filter(|(number, _)| *number == operation.number)
                    .map(|(_, change)| change)
                    .sum();
                let change = -i32::from(operation.change);
                let sum = self.undos.get(process, operation.number) + earlier + change;
                if !(-VALUE_MAX - 1..=VALUE_MAX).contains(&sum) {
                    return Err(Stop::Fail(Errno::ERANGE));
                }
                adjustments.push((operation.number, change));
            }
            (semaphore.value, semaphore.last) = (value, process.0);
        }
        Ok(())
    }

    /// Does what has become possible, and takes those off the line whose outcome is certain.
    fn advance(&mut self) -> Vec<Arc<Waiting>> {
        let mut settled = Vec::new();
        let mut at = 0;
        while let Some(waiting) = self.waiting.get(at).cloned() {
            let outcome = match self.perform(&waiting.operations, waiting.process) {
                Err(Stop::Wait(_)) => {
                    at += 1;
                    continue;
                }
                Err(Stop::Fail(error)) => Err(error),
                Ok(()) => Ok(()),
            };
            self.waiting.remove(at);
            let changes = outcome.is_ok() && waiting.operations.iter().any(|operation| operation.change != 0);
            let _ = waiting.outcome.set(outcome);
            settled.push(waiting);
            if changes {
                // It may have made room for one that came before it.
                at = 0;
            }
        }
        settled
    }

    /// What the waiting operations that cannot be done wait for: semaphore, and whether for its value to be 0.
    fn obstacles(&mut self) -> Vec<(u16, bool)> {
        let waiting = self.waiting.clone();
        let mut found = Vec::new();
        for waiting in waiting {
            let before = self.semaphores.clone();
            if let Err(Stop::Wait(at)) = self.try_each(&waiting.operations, waiting.process) {
                let operation = waiting.operations[at];
                found.push((operation.number, operation.change == 0));
            }
            self.semaphores = before;
        }
        found
    }
}

fn wake(settled: &[Arc<Waiting>]) {
    settled.iter().for_each(|waiting| waiting.parker.wake());
}

impl Object for SemaphoreSet {
    fn permissions(&self) -> Permissions {
        self.state.lock().permissions
    }
}

impl SemaphoreSet {
    /// Makes a set of `size` semaphores whose values are 0: `ENOSPC` if there are more than `most` then, `ENOMEM`.
    pub fn new(
        permissions: Permissions,
        size: usize,
        all: &Arc<SemaphoreCount>,
        most: u64,
    ) -> Result<Arc<Self>, Errno> {
        let counted = all.add(size, most)?;
        let state = State {
            permissions,
            semaphores: buffer(size)?,
            waiting: VecDeque::new(),
            undos: Undos::default(),
            operated: 0,
            changed: now(),
            removed: false,
        };
        Ok(Arc::new(Self { size, state: Mutex::new(Rank::IpcObject, state), _counted: counted }))
    }

    /// How many semaphores it has.
    pub fn size(&self) -> usize {
        self.size
    }

    /// What IPC_STAT tells.
    pub fn status(&self) -> SetStatus {
        let state = self.state.lock();
        let State { permissions, operated, changed, .. } = *state;
        SetStatus { permissions, operated, changed, size: self.size }
    }

    /// All semaphores.
    pub fn semaphores(&self) -> Vec<Semaphore> {
        self.state.lock().semaphores.clone()
    }

    /// How many wait for a semaphore's value to rise, and how many for it to be 0.
    pub fn waiters(&self, number: u16) -> (usize, usize) {
        let obstacles = self.state.lock().obstacles();
        let count = |zero| obstacles.iter().filter(|obstacle| **obstacle == (number, zero)).count();
        (count(false), count(true))
    }

    /// Sets values from semaphore `first` on; nothing of them is undone any more.
    pub fn set_values(&self, by: Pid, first: usize, values: &[u16]) -> Result<(), Errno> {
        let settled = {
            let mut state = self.state.lock();
            if state.removed {
                return Err(Errno::EIDRM);
            }
            for (number, value) in (first..).zip(values) {
                state.semaphores[number] = Semaphore { value: i32::from(*value), last: by.0 };
                state.undos.forget(u16::try_from(number).unwrap_or(u16::MAX));
            }
            state.changed = now();
            state.advance()
        };
        wake(&settled);
        Ok(())
    }

    /// Changes owner and mode.
    pub fn change(&self, changes: Changes) -> Result<(), Errno> {
        let mut state = self.state.lock();
        state.permissions.change(changes)?;
        state.changed = now();
        Ok(())
    }

    /// Removes it: whoever waits gets `EIDRM`.
    pub fn remove(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.removed = true;
            std::mem::take(&mut state.waiting)
        };
        for waiting in waiting {
            let _ = waiting.outcome.set(Err(Errno::EIDRM));
            waiting.parker.wake();
        }
    }

    /// Does operations, waiting until they can be done: `EAGAIN` without waiting or when the time is up, `ERANGE`, `EIDRM`, `EINTR`.
    /// The caller has checked the semaphores' numbers.
    pub fn operate(&self, task: &CurrentTask<'_>, operations: Vec<Operation>, deadline: Deadline) -> Result<(), Errno> {
        let process = task.group().pid();
        let waiting = {
            let mut state = self.state.lock();
            if state.removed {
                return Err(Errno::EIDRM);
            }
            match state.perform(&operations, process) {
                Err(Stop::Fail(error)) => return Err(error),
                Err(Stop::Wait(_)) => {
                    let (parker, outcome) = (task.parker().clone(), OnceLock::new());
                    let waiting = Arc::new(Waiting { operations, process, parker, outcome });
                    state.waiting.push_back(waiting.clone());
                    waiting
                }
                Ok(()) => {
                    let settled = state.advance();
                    drop(state);
                    wake(&settled);
                    return Ok(());
                }
            }
        };
        let slept = task.block_until(deadline, |_| waiting.outcome.get().copied().transpose());
        self.state.lock().waiting.retain(|other| !Arc::ptr_eq(other, &waiting));
        // What was done together with the deadline or the signal is done.
        if let Some(outcome) = waiting.outcome.get() {
            return *outcome;
        }
        match slept? {
            Wake::Done(()) => Ok(()),
            Wake::TimedOut => Err(Errno::EAGAIN),
            Wake::Interrupted => Err(Errno::EINTR),
        }
    }

    /// Takes back what a process that has ended asked to be undone (exit_sem).
    fn undo(&self, process: Pid) {
        let settled = {
            let mut state = self.state.lock();
            let adjustments = state.undos.take(process);
            if adjustments.is_empty() {
                return;
            }
            for (number, change) in adjustments {
                let semaphore = &mut state.semaphores[usize::from(number)];
                *semaphore = Semaphore { value: (semaphore.value + change).clamp(0, VALUE_MAX), last: process.0 };
            }
            state.operated = now();
            state.advance()
        };
        wake(&settled);
    }
}

/// The sets of a sandbox.
pub type SemaphoreSets = Registry<SemaphoreSet>;

impl SemaphoreSets {
    pub(super) fn undo(&self, process: Pid) {
        self.all().iter().for_each(|found| found.object.undo(process));
    }
}
