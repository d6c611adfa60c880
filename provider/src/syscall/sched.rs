//! Which CPUs a thread runs on: the host's kernel schedules; a program may look and state wishes.
//!
//! rseq(2) is not served. What it promises is that no two threads are within critical sections of one CPU number at a time: a thread
//! that is preempted within one begins it again. The host preempts a virtual CPU without a trap, so the provider could neither restart the
//! section nor know that another thread has taken over the CPU. Numbers leased for each stay in user mode would be sound, but every
//! program of the usual C library registers its threads, and all of them would queue for as many leases as there are CPUs.

use crate::errno::Errno;
use crate::task::{CurrentTask, Pid, Task};
use crate::user::UserOut;
use std::sync::Arc;
use vmm::addr::UserAddr;

pub(super) fn sched_yield(_task: &CurrentTask<'_>) -> Result<(), Errno> {
    rustix::thread::sched_yield();
    Ok(())
}

/// Finds a thread by its id; 0 is the caller. Negative ids are `EINVAL`.
pub(super) fn find(task: &CurrentTask<'_>, tid: Pid) -> Result<Arc<Task>, Errno> {
    match tid.0 {
        ..0 => Err(Errno::EINVAL),
        0 => Ok(task.task().clone()),
        _ => task.kernel().tasks().get(tid).ok_or(Errno::ESRCH),
    }
}

/// Bytes in the unit of a CPU mask.
const WORD: usize = 8;

pub(super) fn sched_getaffinity(task: &CurrentTask<'_>, tid: Pid, size: u32, mask: UserAddr) -> Result<usize, Errno> {
    let cpus = task.kernel().cpus();
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    if size * 8 < cpus.count() || !size.is_multiple_of(WORD) {
        return Err(Errno::EINVAL);
    }
    // Negative ids find nobody here.
    let found = find(task, tid).map_err(|_| Errno::ESRCH)?;
    let words = found.affinity().unwrap_or_else(|| cpus.all());
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let size = size.min(bytes.len());
    task.mm().write(mask, &bytes[..size])?;
    Ok(size)
}

pub(super) fn sched_setaffinity(task: &CurrentTask<'_>, tid: Pid, size: u32, mask: UserAddr) -> Result<(), Errno> {
    let cpus = task.kernel().cpus();
    let mut words = vec![0u64; cpus.all().len()];
    let mut bytes = vec![0; words.len() * WORD];
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?.min(bytes.len());
    task.mm().read(mask, &mut bytes[..size])?;
    let target = find(task, tid).map_err(|_| Errno::ESRCH)?;
    task.may_schedule(&target)?;
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(WORD)) {
        *word = chunk.try_into().map_or(0, u64::from_le_bytes);
    }
    for (word, present) in words.iter_mut().zip(cpus.all()) {
        *word &= present;
    }
    if words.iter().all(|word| *word == 0) {
        return Err(Errno::EINVAL);
    }
    target.set_affinity(words);
    if target.tid() == task.tid() {
        task.follow_affinity();
    } else {
        // It binds its own host thread as it next comes by.
        target.kick();
    }
    Ok(())
}

pub(super) fn getcpu(
    task: &CurrentTask<'_>,
    cpu: UserOut<u32>,
    node: UserOut<u32>,
    _cache: UserAddr,
) -> Result<(), Errno> {
    cpu.write_opt(task, &task.kernel().cpus().current())?;
    node.write_opt(task, &0)
}
