//! Who a task is: process, thread, user and group ids.

use crate::errno::Errno;
use crate::task::{CurrentTask, Pid};

pub(super) fn getpid(task: &CurrentTask<'_>) -> Result<Pid, Errno> {
    Ok(task.group().pid())
}

pub(super) fn gettid(task: &CurrentTask<'_>) -> Result<Pid, Errno> {
    Ok(task.tid())
}
