//! membarrier(2): a barrier in all threads at once.
//!
//! The threads of a sandbox are threads of the monitor, so the host's own call does the work: it interrupts every CPU that
//! runs one of them, in user mode of the sandbox or not. That covers all processes of the sandbox, not the caller's alone.

use crate::errno::Errno;
use crate::task::CurrentTask;
use rustix::thread::{MembarrierCommand, membarrier as host, membarrier_query};
use std::sync::OnceLock;

const QUERY: u32 = 0;
const GLOBAL: u32 = 1;
const GLOBAL_EXPEDITED: u32 = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: u32 = 1 << 2;
const PRIVATE_EXPEDITED: u32 = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: u32 = 1 << 4;
const SYNC_CORE: u32 = 1 << 5;
const REGISTER_SYNC_CORE: u32 = 1 << 6;
const GET_REGISTRATIONS: u32 = 1 << 9;
/// All but the commands for restartable sequences, which there are none of.
const SUPPORTED: u32 = GLOBAL
    | GLOBAL_EXPEDITED
    | REGISTER_GLOBAL_EXPEDITED
    | PRIVATE_EXPEDITED
    | REGISTER_PRIVATE_EXPEDITED
    | SYNC_CORE
    | REGISTER_SYNC_CORE
    | GET_REGISTRATIONS;

/// Whether the host makes barriers for the monitor, which registers for them at the first question.
fn host_serves() -> bool {
    static SERVES: OnceLock<bool> = OnceLock::new();
    *SERVES.get_or_init(|| {
        let needed = [MembarrierCommand::RegisterPrivateExpedited, MembarrierCommand::RegisterPrivateExpeditedSyncCore];
        let known = membarrier_query();
        needed.into_iter().all(|command| known.contains_command(command) && host(command).is_ok())
    })
}

pub(super) fn membarrier(task: &CurrentTask<'_>, command: u32, flags: u32, _cpu: i32) -> Result<u32, Errno> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    if !host_serves() {
        return Err(task.unsupported("membarrier: the host has none", Errno::ENOSYS));
    }
    let mm = task.mm();
    match command {
        QUERY => return Ok(SUPPORTED),
        GET_REGISTRATIONS => return Ok(mm.barriers()),
        REGISTER_GLOBAL_EXPEDITED | REGISTER_PRIVATE_EXPEDITED | REGISTER_SYNC_CORE => mm.register_barrier(command),
        GLOBAL | GLOBAL_EXPEDITED => host(MembarrierCommand::PrivateExpedited)?,
        PRIVATE_EXPEDITED if mm.barriers() & REGISTER_PRIVATE_EXPEDITED != 0 => {
            host(MembarrierCommand::PrivateExpedited)?;
        }
        SYNC_CORE if mm.barriers() & REGISTER_SYNC_CORE != 0 => host(MembarrierCommand::PrivateExpeditedSyncCore)?,
        PRIVATE_EXPEDITED | SYNC_CORE => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
