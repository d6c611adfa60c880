//! ptrace(2): the tracer's requests.

mod attach;
mod registers;
mod state;

use super::constants::PtraceRequest;
use crate::errno::Errno;
use crate::ptrace::{Onward, Stop, TraceeState};
use crate::signal::Signal;
use crate::task::{CurrentTask, Pid, Task};
use linux_raw_sys::ptrace as raw;
use std::sync::Arc;
use vmm::addr::UserAddr;

/// PTRACE_GETFPREGS and the like have other numbers than linux-raw-sys gives to 32-bit ones: these are x86-64's.
const GETFPREGS: u32 = raw::PTRACE_GETFPREGS;
const SETFPREGS: u32 = raw::PTRACE_SETFPREGS;

pub(super) fn ptrace(
    task: &CurrentTask<'_>,
    PtraceRequest(request): PtraceRequest,
    pid: Pid,
    address: UserAddr,
    data: u64,
) -> Result<u64, Errno> {
    if request == raw::PTRACE_TRACEME {
        return attach::trace_me(task);
    }
    let tracee = task.kernel().tasks().get(pid).ok_or(Errno::ESRCH)?;
    match request {
        raw::PTRACE_ATTACH => return attach::attach(task, &tracee),
        raw::PTRACE_SEIZE => return attach::seize(task, &tracee, address, data),
        _ => {}
    }
    let ours = tracee.tracee().tracer().is_some_and(|tracer| tracer.thread == task.tid());
    if !ours {
        return Err(Errno::ESRCH);
    }
    match request {
        raw::PTRACE_KILL => return attach::kill(&tracee),
        raw::PTRACE_INTERRUPT => return attach::interrupt(&tracee),
        _ => {}
    }
    let call = Call { task, tracee, address, data };
    // Everything else needs a tracee that stands still.
    call.stopped(|_| Ok(()))?;
    match request {
        raw::PTRACE_PEEKTEXT | raw::PTRACE_PEEKDATA => call.peek(),
        raw::PTRACE_POKETEXT | raw::PTRACE_POKEDATA => call.poke(),
        raw::PTRACE_PEEKUSR => call.peek_user(),
        raw::PTRACE_POKEUSR => call.poke_user(),
        raw::PTRACE_CONT => call.resume(Onward::Freely),
        raw::PTRACE_SYSCALL => call.resume(Onward::ToCall),
        raw::PTRACE_SINGLESTEP => call.resume(Onward::Step),
        raw::PTRACE_SYSEMU => call.resume(Onward::Emulate),
        raw::PTRACE_SYSEMU_SINGLESTEP => call.resume(Onward::EmulateStep),
        raw::PTRACE_DETACH => call.detach(),
        raw::PTRACE_LISTEN => call.listen(),
        raw::PTRACE_SETOPTIONS | raw::PTRACE_OLDSETOPTIONS => call.set_options(),
        raw::PTRACE_GETEVENTMSG => call.event_message(),
        raw::PTRACE_GETSIGINFO => call.signal_information(),
        raw::PTRACE_SETSIGINFO => call.set_signal_information(),
        raw::PTRACE_PEEKSIGINFO => call.queued_signals(),
        raw::PTRACE_GETSIGMASK => call.signal_mask(),
        raw::PTRACE_SETSIGMASK => call.set_signal_mask(),
        raw::PTRACE_GET_SYSCALL_INFO => call.call_information(),
        raw::PTRACE_GETREGS => call.general_registers(),
        raw::PTRACE_SETREGS => call.set_general_registers(),
        GETFPREGS => call.legacy_registers(),
        SETFPREGS => call.set_legacy_registers(),
        raw::PTRACE_GETREGSET => call.register_set(),
        raw::PTRACE_SETREGSET => call.set_register_set(),
        raw::PTRACE_ARCH_PRCTL => call.segment_base(),
        raw::PTRACE_SECCOMP_GET_FILTER => Err(task.unsupported("ptrace: PTRACE_SECCOMP_GET_FILTER", Errno::EIO)),
        raw::PTRACE_SECCOMP_GET_METADATA => Err(task.unsupported("ptrace: PTRACE_SECCOMP_GET_METADATA", Errno::EIO)),
        raw::PTRACE_SINGLEBLOCK => Err(task.unsupported("ptrace: PTRACE_SINGLEBLOCK", Errno::EIO)),
        _ => Err(Errno::EIO),
    }
}

/// A request about a tracee of ours.
struct Call<'a, 't> {
    task: &'a CurrentTask<'t>,
    tracee: Arc<Task>,
    address: UserAddr,
    data: u64,
}

impl Call<'_, '_> {
    /// Looks at the tracee as it stands still; `ESRCH` if it does not (ptrace_check_attach).
    fn stopped<T>(&self, look: impl FnOnce(&mut Stop) -> Result<T, Errno>) -> Result<T, Errno> {
        let mut state = self.tracee.tracee().lock();
        let ours = state.tracer.is_some_and(|tracer| tracer.thread == self.task.tid());
        match state.stop.as_mut().filter(|stop| ours && !stop.listening) {
            Some(stop) => look(stop),
            None => Err(Errno::ESRCH),
        }
    }

    /// Looks at what the tracee knows of its tracer.
    fn state<T>(&self, look: impl FnOnce(&mut TraceeState) -> T) -> T {
        look(&mut self.tracee.tracee().lock())
    }

    /// Writes to the caller's memory at `data`.
    fn put(&self, bytes: &[u8]) -> Result<u64, Errno> {
        self.task.mm().write(UserAddr(self.data), bytes)?;
        Ok(0)
    }

    /// Reads the caller's memory at `data`.
    fn get<const N: usize>(&self) -> Result<[u8; N], Errno> {
        let mut bytes = [0; N];
        self.task.mm().read(UserAddr(self.data), &mut bytes)?;
        Ok(bytes)
    }

    /// The signal that `data` names; `EIO` for one that there is not.
    fn signal(&self) -> Result<Option<Signal>, Errno> {
        let number = i32::try_from(self.data).map_err(|_| Errno::EIO)?;
        if number == 0 { Ok(None) } else { Signal::from_raw(number).map(Some).ok_or(Errno::EIO) }
    }

    fn resume(&self, onward: Onward) -> Result<u64, Errno> {
        let signal = self.signal()?;
        if self.tracee.resume_tracee(onward, signal) { Ok(0) } else { Err(Errno::ESRCH) }
    }

    /// PTRACE_PEEKDATA: a word of the tracee's memory, to where `data` points.
    fn peek(&self) -> Result<u64, Errno> {
        let mut word = [0; 8];
        let mm = self.tracee.mm().ok_or(Errno::EIO)?;
        match mm.read_as_others(self.address, &mut word) {
            Ok(8) => self.put(&word),
            _ => Err(Errno::EIO),
        }
    }

    /// PTRACE_POKEDATA: `data` itself to the tracee's memory, whatever its rights say of private pages.
    fn poke(&self) -> Result<u64, Errno> {
        let mm = self.tracee.mm().ok_or(Errno::EIO)?;
        match mm.write_forced(self.address, &self.data.to_le_bytes()) {
            Ok(8) => Ok(0),
            _ => Err(Errno::EIO),
        }
    }
}
