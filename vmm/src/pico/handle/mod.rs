//! Handles: how one process gets at another, with the rights that it was granted and no others.
//!
//! A handle belongs to the process that opened it, is counted there, can be inherited by its children, and is closed with
//! it at the latest. The provider of the target has a say in which rights an opener may have. Handles to what has ended
//! answer [`HandleError::Ended`]: they keep no memory alive.

mod process;
mod thread;

pub use process::ProcessHandle;
pub use thread::ThreadHandle;

use super::access::{ProcessAccess, ThreadAccess};
use super::context::ContextError;
use super::process::Process;
use super::stop::NotStopped;
use super::thread::Thread;
use crate::memory::Fault;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use thiserror::Error;

/// Why a handle was not opened, or does not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HandleError {
    /// Some of the rights to a process are missing.
    #[error("access denied: {0:?} of the process")]
    ProcessDenied(ProcessAccess),
    /// Some of the rights to a thread are missing.
    #[error("access denied: {0:?} of the thread")]
    ThreadDenied(ThreadAccess),
    /// The handle was closed, or its owner has ended.
    #[error("the handle is closed")]
    Closed,
    /// What it was a handle to has ended.
    #[error("the process or thread has ended")]
    Ended,
    /// The thread runs, and what was asked needs it stopped.
    #[error(transparent)]
    NotStopped(#[from] NotStopped),
    /// The context is none that a thread could have.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The target's memory cannot be accessed there; what lies before was transferred.
    #[error("no such memory at {:#x}", .0.address.0)]
    Fault(Fault),
}

/// What an entry of a table leads to.
#[derive(Clone, Debug)]
enum Object {
    Process(Weak<Process>, ProcessAccess),
    Thread(Weak<Thread>, ThreadAccess),
}

/// The handles that a process holds. Its lock is innermost: nothing is called under it.
#[derive(Debug, Default)]
pub(super) struct HandleTable {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<u64, Object>,
    last: u64,
    /// The owner has ended: nothing is opened any more.
    closed: bool,
}

impl HandleTable {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy, which a child inherits.
    pub(super) fn copy(&self) -> Self {
        let state = self.lock();
        Self { state: Mutex::new(State { open: state.open.clone(), last: state.last, closed: false }) }
    }

    /// Closes all handles, for good.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.open.clear();
    }

    fn len(&self) -> usize {
        self.lock().open.len()
    }

    fn add(self: &Arc<Self>, object: Object) -> Result<Slot, HandleError> {
        let mut state = self.lock();
        if state.closed {
            return Err(HandleError::Closed);
        }
        state.last += 1;
        let number = state.last;
        state.open.insert(number, object);
        Ok(Slot { table: self.clone(), number })
    }
}

/// A place in a table. Dropping it closes the handle.
#[derive(Debug)]
struct Slot {
    table: Arc<HandleTable>,
    number: u64,
}

impl Slot {
    fn object(&self) -> Result<Object, HandleError> {
        self.table.lock().open.get(&self.number).cloned().ok_or(HandleError::Closed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.table.lock().open.remove(&self.number);
    }
}

impl Process {
    /// How many handles it holds at the host.
    pub fn handles(&self) -> usize {
        self.handle_table().len()
    }

    /// The place of a handle in its table.
    fn slot(&self, number: u64, suits: impl Fn(&Object) -> bool) -> Option<Slot> {
        let table = self.handle_table();
        let found = table.lock().open.get(&number).is_some_and(suits);
        found.then(|| Slot { table: table.clone(), number })
    }
}
