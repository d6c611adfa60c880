//! The mount table and path walks.
use super::{FsContext, Location, OpenFile, OpenFlags};
use crate::config::Config;
use crate::errno::Errno;
use crate::task::CurrentTask;
use std::sync::Arc;

/// The mount table.
#[derive(Debug)]
pub struct Namespace {}

#[expect(unused_variables, reason = "skeleton")]
impl Namespace {
    /// Builds the view that the configuration describes. Host problems (a root or bind that does not exist) are named in the error.
    pub fn build(config: &Config, memory: &Arc<vmm::memory::GuestMemory>) -> Result<Self, ViewError> {
        todo!()
    }
    /// Walks a path from the task's root or working directory, or from `base`.
    pub fn walk(
        &self,
        task: &CurrentTask<'_>,
        base: Option<&Location>,
        path: &[u8],
        follow_last: bool,
    ) -> Result<Location, Errno> {
        todo!()
    }
    /// Opens a path as open(2) does, with permission checks.
    pub fn open(
        &self,
        task: &CurrentTask<'_>,
        base: Option<&Location>,
        path: &[u8],
        flags: OpenFlags,
        mode: u32,
    ) -> Result<Arc<OpenFile>, Errno> {
        todo!()
    }
    /// The root.
    pub fn root_context(&self) -> FsContext {
        todo!()
    }
}

/// Why the view could not be built.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct ViewError {
    /// Which host path.
    pub path: String,
    /// What is wrong with it.
    pub reason: std::io::Error,
}
