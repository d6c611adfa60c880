//! Patched call sites as traps meet them (see [`crate::mm`]'s sites): a trapped thread is shown where the program's own code
//! is, and goes on where the code is that stands in for it.

use super::{CurrentTask, Task};
use crate::mm::MemoryMap;
use std::sync::Arc;
use vmm::pico::Disposition;
use vmm::trap::{Exception, Vector};

/// Where a thread was when it trapped.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its memory then.
    mm: Arc<MemoryMap>,
    /// The version of the code in it.
    version: u64,
    /// Its instruction pointer, which may be in a trampoline.
    rip: u64,
}

/// Shows the registers as the program knows them.
pub(crate) fn enter(task: &mut CurrentTask<'_>) -> Entry {
    let rip = task.frame.registers.rip;
    let mm = task.mm();
    let version = mm.code_version();
    mm.show_place(&mut task.frame.registers);
    Entry { mm, version, rip }
}

/// Counts a call, and patches its site if that is hot.
pub(crate) fn note_call(task: &CurrentTask<'_>, entry: &Entry) {
    let mm = &entry.mm;
    if task.tracee().is_traced() {
        // It may have new memory since it was attached to.
        mm.leave_code_alone();
    } else if !task.is_watched() && task.kernel().patches_sites() {
        // Linux's number is an int.
        let number = u32::try_from(task.frame.registers.rax & u64::from(u32::MAX)).unwrap_or_default();
        // One that is answered in the guest traps once in many times, so that its site is found.
        let hot = if task.is_answered(number.into()) { mm.note_sample(entry.rip) } else { mm.note_call(entry.rip) };
        if hot && mm.patch_call(entry.rip, number) {
            task.kernel().statistics().patched_site();
        }
    }
}

/// Counts a call that was posted; tells whether it should trap, so that its site is patched.
pub(crate) fn note_posted(task: &Task, return_address: u64) -> bool {
    task.kernel().patches_sites() && task.mm().is_some_and(|mm| mm.note_call(return_address))
}

/// Serves an exception that only patched code raises.
pub(crate) fn resolves(task: &mut CurrentTask<'_>, entry: &Entry, exception: Exception) -> bool {
    let mm = &entry.mm;
    let registers = &mut task.frame.registers;
    match exception.vector {
        // A thread has come back to the second instruction of a window.
        Vector::BREAKPOINT => match mm.behind_breakpoint(registers.rip) {
            Some(place) => {
                registers.rip = place;
                true
            }
            None => false,
        },
        // The trampoline it was in is gone, or has to be made ready: either way it goes on at its place.
        Vector::PAGE_FAULT if registers.rip != entry.rip && exception.address.0 == entry.rip => {
            let _ = mm.resolve_fault(exception.address, vmm::memory::Access::EXEC);
            true
        }
        _ => false,
    }
}

/// Says where the thread goes on, as far as its code was rewritten, before or while the trap was served.
pub(crate) fn leave(task: &mut CurrentTask<'_>, entry: &Entry, disposition: Disposition) -> Disposition {
    match disposition {
        Disposition::Exit => return disposition,
        // It goes on where it came from, and the code there is what it was.
        Disposition::Return if entry.mm.code_version() == entry.version => return disposition,
        _ => {}
    }
    // After an exec it has other memory.
    let mm = task.mm();
    let registers = &mut task.frame.registers;
    registers.rip = mm.way_on(registers.rip);
    Disposition::Resume
}
