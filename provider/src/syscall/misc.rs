//! Calls that belong to no subject.

use crate::errno::Errno;
use crate::task::CurrentTask;

pub(super) fn sched_yield(_task: &CurrentTask<'_>) -> Result<(), Errno> {
    rustix::thread::sched_yield();
    Ok(())
}
