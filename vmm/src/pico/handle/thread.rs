//! Handles to threads.

use super::super::access::ThreadAccess;
use super::super::context::{ContextParts, ThreadContext};
use super::super::info::ThreadInfo;
use super::super::process::Process;
use super::super::stop::{Stopped, ThreadStatus};
use super::super::thread::Thread;
use super::{HandleError, Object, Slot};
use std::sync::Arc;

/// A handle to a thread. Dropping it closes it.
#[derive(Debug)]
pub struct ThreadHandle(Slot);

impl Process {
    /// The handle to a thread that it holds by this number, which it may have inherited.
    pub fn thread_handle(&self, number: u64) -> Option<ThreadHandle> {
        let slot = self.slot(number, |object| matches!(object, Object::Thread(..)))?;
        Some(ThreadHandle(slot))
    }
}

impl Thread {
    /// Opens the thread for `opener`; as [`Process::open`].
    pub fn open(self: &Arc<Self>, opener: &Process, wanted: ThreadAccess) -> Result<ThreadHandle, HandleError> {
        // A thread has a context, hence its process had a provider when it was made; providers are never removed.
        let provider = self.process().provider().ok_or(HandleError::Ended)?;
        let missing = wanted - provider.open_thread_allowed_access(self.context(), opener.context(), wanted);
        if !missing.is_empty() {
            return Err(HandleError::ThreadDenied(missing));
        }
        opener.handle_table().add(Object::Thread(Arc::downgrade(self), wanted)).map(ThreadHandle)
    }
}

impl ThreadHandle {
    /// The number by which its owner holds it.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// The thread, if the handle carries these rights.
    fn with(&self, needed: ThreadAccess) -> Result<Arc<Thread>, HandleError> {
        let Object::Thread(thread, access) = self.0.object()? else { return Err(HandleError::Closed) };
        let missing = needed - access;
        if missing.is_empty() {
            thread.upgrade().ok_or(HandleError::Ended)
        } else {
            Err(HandleError::ThreadDenied(missing))
        }
    }

    /// Ends the thread.
    pub fn terminate(&self) -> Result<(), HandleError> {
        self.with(ThreadAccess::TERMINATE).map(|thread| thread.terminate())
    }

    /// Suspends it.
    pub fn suspend(&self) -> Result<(), HandleError> {
        self.with(ThreadAccess::SUSPEND_RESUME).map(|thread| thread.suspend())
    }

    /// Takes one suspension back.
    pub fn resume(&self) -> Result<(), HandleError> {
        self.with(ThreadAccess::SUSPEND_RESUME).map(|thread| thread.resume())
    }

    /// Waits until it has stopped ([`Thread::wait_stopped`]).
    pub fn wait_stopped(&self) -> Result<Stopped, HandleError> {
        Ok(self.with(ThreadAccess::SUSPEND_RESUME)?.wait_stopped()?)
    }

    /// Reads its registers while it is stopped ([`Thread::get_context`]).
    pub fn get_context(&self, parts: ContextParts) -> Result<ThreadContext, HandleError> {
        Ok(self.with(ThreadAccess::GET_CONTEXT)?.get_context(parts)?)
    }

    /// Changes its registers while it is parked ([`Thread::set_context`]).
    pub fn set_context(&self, context: &ThreadContext) -> Result<(), HandleError> {
        Ok(self.with(ThreadAccess::SET_CONTEXT)?.set_context(context)?)
    }

    /// What a tool shows of it.
    pub fn info(&self) -> Result<ThreadInfo, HandleError> {
        self.with(ThreadAccess::QUERY).map(|thread| thread.info())
    }

    /// Tells whether it has ended.
    pub fn is_ended(&self) -> Result<bool, HandleError> {
        match self.with(ThreadAccess::SYNCHRONIZE) {
            Ok(thread) => Ok(thread.status() == ThreadStatus::Ended),
            Err(HandleError::Ended) => Ok(true),
            Err(error) => Err(error),
        }
    }
}
