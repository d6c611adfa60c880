//! Descriptors that stand for a process or a thread, see pidfd_open(2).

use super::{File, OpenFile, OpenFlags, Ready, Sink, Source, WaitSource, open_anonymous};
use crate::errno::Errno;
use crate::task::{CurrentTask, Pid, Task, ThreadGroup};
use std::any::Any;
use std::sync::{Arc, Weak};

/// What a descriptor stands for.
#[derive(Debug)]
pub(crate) struct PidFd {
    group: Arc<ThreadGroup>,
    tid: Pid,
    /// A thread that is gone is no longer held on to.
    thread: Option<Weak<Task>>,
}

impl PidFd {
    /// Stands for a process.
    pub(crate) fn of_process(group: &Arc<ThreadGroup>) -> Self {
        Self { group: group.clone(), tid: group.pid(), thread: None }
    }

    /// Stands for a thread (PIDFD_THREAD).
    pub(crate) fn of_thread(task: &Arc<Task>) -> Self {
        Self { group: task.group().clone(), tid: task.tid(), thread: Some(Arc::downgrade(task)) }
    }

    /// The descriptor's open file. `flags`: O_NONBLOCK or nothing.
    pub(crate) fn open(self, flags: OpenFlags) -> Arc<OpenFile> {
        open_anonymous(Arc::new(self), "[pidfd]", OpenFlags::RDWR | flags)
    }

    /// The process it stands for, or whose thread it stands for.
    pub(crate) fn group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }

    /// Whether it stands for a thread.
    pub(crate) fn is_of_thread(&self) -> bool {
        self.thread.is_some()
    }

    /// The task that it means, a zombie included; `ESRCH` once it was waited for.
    pub(crate) fn task(&self, by: &CurrentTask<'_>) -> Result<Arc<Task>, Errno> {
        if self.is_gone() {
            return Err(Errno::ESRCH);
        }
        match &self.thread {
            Some(thread) => thread.upgrade().ok_or(Errno::ESRCH),
            None => by.kernel().tasks().get(self.tid).ok_or(Errno::ESRCH),
        }
    }

    /// Its last trace has gone: it was waited for, or was a thread and has ended.
    fn is_gone(&self) -> bool {
        let thread_ended = self.tid != self.group.pid() && !self.group.has_thread(self.tid);
        self.group.is_forgotten() || thread_ended
    }

    fn has_ended(&self) -> bool {
        match self.thread {
            Some(_) => !self.group.has_thread(self.tid),
            None => self.group.exit_status().is_some(),
        }
    }
}

impl File for PidFd {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, _to: &mut dyn Sink) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    fn seekable(&self) -> bool {
        false
    }

    fn ready(&self) -> Ready {
        match (self.is_gone(), self.has_ended()) {
            (true, _) => Ready::IN | Ready::RDNORM | Ready::HUP,
            (false, true) => Ready::IN | Ready::RDNORM,
            (false, false) => Ready::empty(),
        }
    }

    fn wait_source(&self) -> WaitSource<'_> {
        WaitSource::Queue(self.group.end_events())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn fd_info(&self) -> String {
        let number = if self.is_gone() { -1 } else { self.tid.0 };
        format!("Pid:\t{number}\nNSpid:\t{number}\n")
    }
}
