//! Handles to processes.

use super::super::access::ProcessAccess;
use super::super::info::{ProcessInfo, ThreadInfo};
use super::super::process::Process;
use super::super::stacks::ThreadStack;
use super::{HandleError, Object, Slot};
use crate::addr::UserAddr;
use std::sync::Arc;

/// A handle to a process. Dropping it closes it.
#[derive(Debug)]
pub struct ProcessHandle(Slot);

impl Process {
    /// Opens the process for `opener`, who gets a handle with exactly the rights that are wanted.
    ///
    /// # Errors
    /// [`HandleError::ProcessDenied`] with the rights that the provider refuses ([`ProcessAccess::MINIMAL`] is all that
    /// there is to a minimal process), [`HandleError::Closed`] if the opener has ended.
    pub fn open(self: &Arc<Self>, opener: &Self, wanted: ProcessAccess) -> Result<ProcessHandle, HandleError> {
        let allowed = match (self.context(), self.provider()) {
            (Some(context), Some(provider)) => provider.open_process_allowed_access(context, opener.context(), wanted),
            _ => ProcessAccess::MINIMAL,
        };
        let missing = wanted - allowed;
        if !missing.is_empty() {
            return Err(HandleError::ProcessDenied(missing));
        }
        opener.handle_table().add(Object::Process(Arc::downgrade(self), wanted)).map(ProcessHandle)
    }

    /// The handle to a process that it holds by this number, which it may have inherited.
    pub fn process_handle(&self, number: u64) -> Option<ProcessHandle> {
        let slot = self.slot(number, |object| matches!(object, Object::Process(..)))?;
        Some(ProcessHandle(slot))
    }
}

impl ProcessHandle {
    /// The number by which its owner holds it.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// The rights that it carries.
    pub fn access(&self) -> Result<ProcessAccess, HandleError> {
        match self.0.object()? {
            Object::Process(_, access) => Ok(access),
            Object::Thread(..) => Err(HandleError::Closed),
        }
    }

    /// The process, if the handle carries these rights.
    fn with(&self, needed: ProcessAccess) -> Result<Arc<Process>, HandleError> {
        let Object::Process(process, access) = self.0.object()? else { return Err(HandleError::Closed) };
        let missing = needed - access;
        if missing.is_empty() {
            process.upgrade().ok_or(HandleError::Ended)
        } else {
            Err(HandleError::ProcessDenied(missing))
        }
    }

    /// Asks for the process's termination. Its provider decides what that means.
    pub fn terminate(&self) -> Result<(), HandleError> {
        self.with(ProcessAccess::TERMINATE).map(|process| process.request_termination())
    }

    /// Suspends all its threads ([`Process::suspend`]).
    pub fn suspend(&self) -> Result<(), HandleError> {
        self.with(ProcessAccess::SUSPEND_RESUME).map(|process| process.suspend())
    }

    /// Takes one suspension back.
    pub fn resume(&self) -> Result<(), HandleError> {
        self.with(ProcessAccess::SUSPEND_RESUME).map(|process| process.resume())
    }

    /// Copies from its memory.
    pub fn read(&self, from: UserAddr, to: &mut [u8]) -> Result<(), HandleError> {
        self.with(ProcessAccess::VM_READ)?.read_memory(from, to).map_err(HandleError::Fault)
    }

    /// Copies to its memory.
    pub fn write(&self, to: UserAddr, from: &[u8]) -> Result<(), HandleError> {
        self.with(ProcessAccess::VM_WRITE)?.write_memory(to, from).map_err(HandleError::Fault)
    }

    /// Walks the user stacks of all its threads, which are suspended meanwhile.
    pub fn walk_stacks(&self) -> Result<Vec<ThreadStack>, HandleError> {
        let needed = ProcessAccess::VM_READ | ProcessAccess::SUSPEND_RESUME;
        self.with(needed).map(|process| process.walk_stacks())
    }

    /// What a tool shows of it.
    pub fn info(&self) -> Result<ProcessInfo, HandleError> {
        self.with(ProcessAccess::QUERY).map(|process| process.info())
    }

    /// What a tool shows of its threads.
    pub fn threads(&self) -> Result<Vec<ThreadInfo>, HandleError> {
        let process = self.with(ProcessAccess::QUERY)?;
        Ok(process.threads().iter().map(|thread| thread.info()).collect())
    }

    /// Tells whether it has ended.
    pub fn is_ended(&self) -> Result<bool, HandleError> {
        match self.with(ProcessAccess::SYNCHRONIZE) {
            Ok(process) => Ok(process.is_ended()),
            Err(HandleError::Ended) => Ok(true),
            Err(error) => Err(error),
        }
    }
}
