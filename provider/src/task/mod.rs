//! Tasks (threads), thread groups (processes), what they share, and how they wait.

mod block;
mod credentials;
mod current;
mod limits;

pub use block::WaitQueue;
pub use credentials::Credentials;
pub use current::CurrentTask;
pub use limits::{Resource, ResourceLimits};

use crate::fs::{FdTable, FsContext};
use crate::kernel::Kernel;
use crate::mm::MemoryMap;
use std::sync::Arc;

/// A thread or process id as the sandbox sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub i32);

/// A thread as the personality sees it.
#[derive(Debug)]
pub struct Task {}

impl Task {
    /// The sandbox it lives in.
    pub fn kernel(&self) -> &Arc<Kernel> {
        todo!()
    }
    /// Its thread id.
    pub fn tid(&self) -> Pid {
        todo!()
    }
    /// Its process.
    pub fn group(&self) -> &Arc<ThreadGroup> {
        todo!()
    }
    /// Its memory.
    pub fn mm(&self) -> Arc<MemoryMap> {
        todo!()
    }
    /// Its descriptors.
    pub fn files(&self) -> Arc<FdTable> {
        todo!()
    }
    /// Its root, working directory and umask.
    pub fn fs(&self) -> Arc<FsContext> {
        todo!()
    }
    /// Its credentials.
    pub fn credentials(&self) -> Arc<Credentials> {
        todo!()
    }
}

/// A process: the threads that share a pid, signal handlers and limits.
#[derive(Debug)]
pub struct ThreadGroup {}

impl ThreadGroup {
    /// The process id.
    pub fn pid(&self) -> Pid {
        todo!()
    }
    /// Its resource limits.
    pub fn limits(&self) -> &ResourceLimits {
        todo!()
    }
}
