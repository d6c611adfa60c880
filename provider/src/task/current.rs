//! The capability to act as a task.

use super::Task;
use crate::errno::Errno;
use crate::fs::{FdTable, FsContext};
use crate::mm::MemoryMap;
use crate::signal::SigInfo;
use crate::syscall::Outcome;
use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;
use vmm::pico::TrapFrame;

/// The capability to act as a task: one holder at a time, on whichever host thread serves the trap.
#[derive(Debug)]
pub struct CurrentTask<'a> {
    task: Arc<Task>,
    /// The trapped registers; only calls that take `&mut CurrentTask` change them.
    pub frame: TrapFrame<'a>,
    /// What `rax` held when it asked for the call that it is in; all ones if it is in none (Linux: orig_ax).
    pub original: u64,
    /// A tracer may have changed any register: more than `rax` must be loaded.
    pub(crate) registers_changed: bool,
    by: By,
    /// It has slept since it took on the role.
    pub(super) slept: Cell<bool>,
    /// Bytes that the call has transferred already, as a posted one.
    progress: Cell<usize>,
}

/// Which host thread acts as a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Its own, which is trapped.
    ItsThread,
    /// Another, on which it must not wait: its own is in user mode until a call that it has posted is answered.
    Another,
}

/// No call: what [`CurrentTask::original`] is outside of one.
pub const NO_CALL: u64 = u64::MAX;

impl<'a> CurrentTask<'a> {
    /// Takes on the role of `task`, whose thread is trapped with this frame.
    pub fn new(task: Arc<Task>, frame: TrapFrame<'a>) -> Self {
        Self {
            task,
            frame,
            original: NO_CALL,
            registers_changed: false,
            by: By::ItsThread,
            slept: Cell::new(false),
            progress: Cell::new(0),
        }
    }

    /// Takes on the role of `task` for a call that it has posted. Of the frame only the call's own registers are right.
    pub(crate) fn posted(task: Arc<Task>, frame: TrapFrame<'a>) -> Self {
        Self { by: By::Another, original: frame.registers.rax, ..Self::new(task, frame) }
    }

    /// Tells whether another host thread than its own acts as the task: then it cannot sleep, its stack pointer is not known,
    /// and a call that cannot be finished must leave no trace ([`Errno::NEEDS_THREAD`]).
    pub(crate) fn is_posted(&self) -> bool {
        self.by == By::Another
    }

    /// For a call that is about to do what it could not do again: gives up if it is not the task's own thread that acts.
    pub(crate) fn needs_thread(&self) -> Result<(), Errno> {
        if self.is_posted() { Err(Errno::NEEDS_THREAD) } else { Ok(()) }
    }

    /// Leaves behind how many bytes a posted call has transferred, for its thread, which makes the rest; and the error for that.
    pub(crate) fn keep_progress(&self, bytes: usize) -> Errno {
        self.task.posting.keep_progress(self.original, bytes);
        Errno::NEEDS_THREAD
    }

    /// Takes up what the call that is about to be made has done as a posted one.
    pub(crate) fn resume_progress(&self) {
        self.progress.set(self.task.posting.take_progress(self.original));
    }

    /// Bytes that the call has transferred already: the first of its buffers, which it passes over and counts.
    pub(crate) fn take_progress(&self) -> usize {
        self.progress.take()
    }

    /// Tells whether it has slept since it took on the role.
    pub(crate) fn has_slept(&self) -> bool {
        self.slept.get()
    }

    /// The task itself, to keep.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Its memory.
    pub fn mm(&self) -> Arc<MemoryMap> {
        self.task.mm().expect("a task that acts has its memory until exit takes it, after which it acts no more")
    }

    /// Its descriptors.
    pub fn files(&self) -> Arc<FdTable> {
        self.task.files().expect("a task that acts has its descriptors until exit takes them")
    }

    /// Its root, working directory and umask.
    pub fn fs(&self) -> Arc<FsContext> {
        self.task.fs().expect("a task that acts has its working directory until exit takes it")
    }

    /// Puts new memory under the task (exec), and returns the old. The task is the only one of its process.
    pub fn replace_mm(&mut self, mm: Arc<MemoryMap>) -> Option<Arc<MemoryMap>> {
        if let Some(process) = self.task.group().process() {
            process.replace_space(mm.space().clone());
        }
        mm.add_user();
        let old = self.task.shared.lock().resources.mm.replace(mm);
        old.iter().for_each(|mm| mm.remove_user());
        self.task.answer_wakes();
        old
    }

    /// Gives the task a copy of its own of descriptors that others share; `ENOMEM`.
    pub fn unshare_files(&self) -> Result<(), Errno> {
        let files = self.files();
        // The task's, and ours.
        if Arc::strong_count(&files) > 2 {
            let own = Arc::new(files.copy()?);
            let shared = self.task.shared.lock().resources.files.replace(own);
            drop(shared);
        }
        Ok(())
    }

    /// Gives the task a copy of its own of a root, working directory and umask that others share.
    pub fn unshare_fs(&self) {
        let fs = self.fs();
        if Arc::strong_count(&fs) > 2 {
            let own = Arc::new(fs.copy());
            let shared = self.task.shared.lock().resources.fs.replace(own);
            drop(shared);
        }
    }

    /// Leaves behind how an interrupted call goes on, and gives the error that says so.
    pub fn restart_with(
        &self,
        restart: impl FnOnce(&CurrentTask<'_>) -> Result<Outcome, Errno> + Send + 'static,
    ) -> Errno {
        *self.task.restart.lock() = Some(Box::new(restart));
        Errno::ERESTART_RESTARTBLOCK
    }

    /// Takes what [`Self::restart_with`] left.
    pub(crate) fn take_restart(&self) -> Option<super::Restart> {
        self.task.restart.lock().take()
    }

    /// Shows a signal in the trace as it is taken.
    pub(crate) fn trace_signal(&self, info: &SigInfo) {
        if let Some(tracer) = self.kernel().tracer() {
            tracer.signal(&self.task, info);
        }
    }

    /// Counts something unsupported and gives the error for it: `return Err(task.unsupported("mmap: MAP_HUGETLB", Errno::EINVAL))`.
    pub fn unsupported(&self, what: &'static str, error: Errno) -> Errno {
        self.task.kernel().unsupported(what, error)
    }
}

impl Deref for CurrentTask<'_> {
    type Target = Arc<Task>;
    fn deref(&self) -> &Arc<Task> {
        &self.task
    }
}
