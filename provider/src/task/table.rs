//! The numbers of tasks and processes.

use super::{Pid, Task, ThreadGroup};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One past the highest number, as Linux's default on machines of this size (/proc/sys/kernel/pid_max).
pub const PID_MAX: i32 = 32768;

/// Numbers below this are given out only once unless there is no other (RESERVED_PIDS).
const RESERVED: i32 = 300;

/// All tasks of a sandbox, by thread id.
#[derive(Debug)]
pub struct TaskTable {
    /// Tasks at the most.
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tasks: BTreeMap<Pid, Arc<Task>>,
    last: i32,
    /// All numbers have been used once.
    wrapped: bool,
}

impl TaskTable {
    /// Makes an empty table for at most `limit` tasks.
    pub fn new(limit: u32) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { limit, state: Mutex::new(Rank::Tasks, State::default()) }
    }

    /// Picks the next free number, going round at [`PID_MAX`], and puts the task that `make` makes of it in the table.
    /// `EAGAIN` at the limit.
    pub fn insert(&self, make: impl FnOnce(Pid) -> Arc<Task>) -> Result<Arc<Task>, Errno> {
        self.insert_beside(&BTreeSet::new(), make)
    }

    /// As [`Self::insert`], with a number that is not `taken` by something else.
    pub(super) fn insert_beside(
        &self,
        taken: &BTreeSet<Pid>,
        make: impl FnOnce(Pid) -> Arc<Task>,
    ) -> Result<Arc<Task>, Errno> {
        let mut state = self.state.lock();
        if state.tasks.len() >= self.limit {
            return Err(Errno::EAGAIN);
        }
        let next = (state.last + 1..PID_MAX).chain(RESERVED..=state.last).chain(1..RESERVED).map(Pid);
        let free = |tid: &Pid| !state.tasks.contains_key(tid) && !taken.contains(tid);
        let tid = next.into_iter().find(free).ok_or(Errno::EAGAIN)?;
        state.wrapped |= tid.0 < state.last;
        state.last = tid.0;
        let task = make(tid);
        state.tasks.insert(tid, task.clone());
        Ok(task)
    }

    /// Tells whether numbers are used a second time.
    pub(super) fn has_wrapped(&self) -> bool {
        let state = self.state.lock();
        state.wrapped || state.last + 1 >= PID_MAX
    }

    /// As [`Self::insert`], with a number that the caller wants: `EEXIST` if it is taken, `EINVAL` if there is none such.
    pub fn insert_as(&self, tid: Pid, make: impl FnOnce(Pid) -> Arc<Task>) -> Result<Arc<Task>, Errno> {
        if !(1..PID_MAX).contains(&tid.0) {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state.lock();
        if state.tasks.len() >= self.limit {
            return Err(Errno::EAGAIN);
        }
        if state.tasks.contains_key(&tid) {
            return Err(Errno::EEXIST);
        }
        let task = make(tid);
        state.tasks.insert(tid, task.clone());
        Ok(task)
    }

    /// How many tasks there are, zombies included.
    pub fn len(&self) -> usize {
        self.state.lock().tasks.len()
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds a task by its thread id.
    pub fn get(&self, tid: Pid) -> Option<Arc<Task>> {
        self.state.lock().tasks.get(&tid).cloned()
    }

    /// Takes a task out of the table.
    pub fn remove(&self, tid: Pid) -> Option<Arc<Task>> {
        self.state.lock().tasks.remove(&tid)
    }

    /// Gives a task another number, whose task has ended.
    pub(super) fn renumber(&self, task: &Arc<Task>, tid: Pid) {
        let mut state = self.state.lock();
        state.tasks.remove(&task.tid());
        task.tid.store(tid.0, Ordering::Relaxed);
        task.answer_number();
        // The ended one goes; it is dropped outside the lock.
        let old = state.tasks.insert(tid, task.clone());
        drop(state);
        drop(old);
    }

    /// All tasks, by ascending thread id.
    pub fn all(&self) -> Vec<Arc<Task>> {
        self.state.lock().tasks.values().cloned().collect()
    }

    /// All processes with a thread or a zombie, by ascending id of their first task in the table.
    pub fn groups(&self) -> Vec<Arc<ThreadGroup>> {
        let mut groups: Vec<Arc<ThreadGroup>> = Vec::new();
        for task in self.all() {
            if !groups.iter().any(|group| group.pid() == task.group().pid()) {
                groups.push(task.group().clone());
            }
        }
        groups
    }
}
