//! What the calls of System V IPC have in common.

use crate::errno::Errno;
use crate::ipc::{Found, Object, Registry};

/// IPC_RMID
pub(super) const REMOVE: i32 = 0;
/// IPC_SET
pub(super) const SET: i32 = 1;
/// IPC_STAT
pub(super) const STATUS: i32 = 2;
/// IPC_INFO
pub(super) const INFO: i32 = 3;

/// Finds an object by number, or by slot alone; `EINVAL`.
pub(super) fn select<T: Object>(registry: &Registry<T>, id: i32, by_number: bool) -> Result<Found<T>, Errno> {
    if by_number { registry.find(id).map(|object| Found { id, object }) } else { registry.slot(id) }
}
