//! Exec in a process of several threads: the others end, and whoever calls becomes the leader (de_thread in fs/exec.c).

use super::{CurrentTask, Pid, Task, ThreadGroup};
use crate::errno::Errno;
use crate::signal::send;
use std::sync::Arc;

impl CurrentTask<'_> {
    /// Ends all other threads of the process, waits until they have, and takes the process's number as this thread's.
    ///
    /// `EAGAIN` if the process ends, or another thread calls exec, first: then this thread ends, too.
    pub(crate) fn become_only_thread(&self) -> Result<(), Errno> {
        let group = self.group();
        let own = self.tid();
        if !self.end_other_threads() {
            return Err(Errno::EAGAIN);
        }
        if own != group.pid() {
            self.take_over(group.pid());
        }
        Ok(())
    }

    /// Ends all other threads of the process and waits until they have. `false` if the process ends, or another thread does
    /// the same, first.
    pub(crate) fn end_other_threads(&self) -> bool {
        let (group, own) = (self.group(), self.tid());
        let Some(all) = group.begin_exec(own) else { return false };
        all.iter().filter(|thread| thread.tid() != own).for_each(|thread| send::notify(thread));
        self.sleep_through_signals(|| group.is_only_thread(own));
        let alone = group.is_only_thread(own) && group.exit_requested().is_none();
        group.end_exec();
        alone
    }

    /// Takes the number of the leader, which has ended.
    fn take_over(&self, leader: Pid) {
        let (task, kernel) = (self.task(), self.kernel());
        let old = task.tid();
        kernel.bonds().renumber(old, leader);
        kernel.families().renumber_parent_thread(task.group().pid(), old, leader);
        kernel.tasks().renumber(task, leader);
    }
}

impl Task {
    /// Tells whether it is to end although its process goes on: another thread calls exec, or dumps core.
    pub(crate) fn is_dismissed(&self) -> bool {
        self.group().executing().is_some_and(|thread| thread != self.tid())
    }
}

impl ThreadGroup {
    /// Tells whether a thread is the only live one.
    fn is_only_thread(&self, tid: Pid) -> bool {
        let threads: Vec<Arc<Task>> = self.threads();
        matches!(threads.as_slice(), [only] if only.tid() == tid)
    }
}
