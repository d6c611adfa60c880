//! Descriptors.
use super::OpenFile;
use crate::errno::Errno;
use std::sync::Arc;

/// A file descriptor number; any `int` a program may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fd(pub i32);

/// A process's descriptors.
#[derive(Debug, Default)]
pub struct FdTable {}

#[expect(unused_variables, reason = "skeleton")]
impl FdTable {
    /// Finds an open file; `EBADF`.
    pub fn get(&self, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
        todo!()
    }
    /// Puts an open file at the lowest free number at or above `from`; `EMFILE` at `limit` (RLIMIT_NOFILE).
    pub fn insert(&self, file: Arc<OpenFile>, close_on_exec: bool, from: i32, limit: u64) -> Result<Fd, Errno> {
        todo!()
    }
    /// Closes the descriptors that are marked close-on-exec.
    pub fn close_on_exec(&self) {
        todo!()
    }
}
