//! What a thread library asks for: thread pointers, exit notification, segment bases.

use super::constants::ArchOperation;
use crate::errno::Errno;
use crate::task::{CurrentTask, Pid};
use crate::user::UserOut;
use vmm::addr::{USER_END, UserAddr};

pub(super) fn set_tid_address(task: &CurrentTask<'_>, at: UserAddr) -> Result<Pid, Errno> {
    task.set_clear_child_tid(at);
    Ok(task.tid())
}

/// Bytes of `struct robust_list_head`.
const ROBUST_LIST_SIZE: usize = 24;

pub(super) fn set_robust_list(task: &CurrentTask<'_>, head: UserAddr, size: usize) -> Result<(), Errno> {
    if size != ROBUST_LIST_SIZE {
        return Err(Errno::EINVAL);
    }
    task.set_robust_list(head);
    Ok(())
}

pub(super) fn get_robust_list(
    task: &CurrentTask<'_>,
    tid: Pid,
    head: UserOut<u64>,
    size: UserOut<u64>,
) -> Result<(), Errno> {
    let list = match tid.0 {
        0 => task.robust_list(),
        _ => task.kernel().tasks().get(tid).ok_or(Errno::ESRCH)?.robust_list(),
    };
    size.write(task, &24)?;
    head.write(task, &list.0)
}

const ARCH_SET_GS: i32 = 0x1001;
const ARCH_SET_FS: i32 = 0x1002;
const ARCH_GET_FS: i32 = 0x1003;
const ARCH_GET_GS: i32 = 0x1004;
const ARCH_GET_CPUID: i32 = 0x1011;
const ARCH_SET_CPUID: i32 = 0x1012;

pub(super) fn arch_prctl(task: &mut CurrentTask<'_>, operation: ArchOperation, at: UserAddr) -> Result<u64, Errno> {
    let (fs, gs) = match operation.0 {
        ARCH_SET_FS | ARCH_SET_GS | ARCH_GET_FS | ARCH_GET_GS => task.frame.cpu.segment_bases(),
        ARCH_GET_CPUID => return Ok(1),
        ARCH_SET_CPUID => return Err(Errno::ENODEV),
        _ => return Err(Errno::EINVAL),
    };
    match operation.0 {
        ARCH_GET_FS => task.mm().write(at, &fs.to_le_bytes())?,
        ARCH_GET_GS => task.mm().write(at, &gs.to_le_bytes())?,
        // Linux's limit is TASK_SIZE_MAX, which is our USER_END.
        _ if at.0 >= USER_END => return Err(Errno::EPERM),
        ARCH_SET_FS => task.frame.cpu.set_segment_bases(at.0, gs),
        _ => task.frame.cpu.set_segment_bases(fs, at.0),
    }
    Ok(0)
}
