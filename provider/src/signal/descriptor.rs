//! Signals that are read, see signalfd(2).
//!
//! A signalfd has no signals of its own: whoever reads takes from what is pending for them, and whoever polls is told of theirs. So it
//! goes on working after fork, for the child's signals. Every arrival of a signal wakes all that wait for signalfds
//! ([`crate::kernel::Kernel::signal_arrivals`]), who look for themselves.

use super::{Detail, SIGINFO_SIZE, SigInfo, SignalCode, SignalSet};
use crate::errno::Errno;
use crate::fs::{File, OffsetKeeper, Ready, Sink, Source, WaitSource};
use crate::kernel::Kernel;
use crate::task::CurrentTask;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a `struct signalfd_siginfo`.
const BYTES: usize = 128;

/// A set of signals behind a descriptor.
#[derive(Debug)]
pub(crate) struct SignalFd {
    kernel: Arc<Kernel>,
    set: AtomicU64,
}

impl SignalFd {
    /// Makes one for a set of signals; those that cannot be blocked are not taken.
    pub(crate) fn new(kernel: &Arc<Kernel>, set: SignalSet) -> Self {
        Self { kernel: kernel.clone(), set: AtomicU64::new(set.blockable().0) }
    }

    /// Takes another set from now on.
    pub(crate) fn change(&self, set: SignalSet) {
        self.set.store(set.blockable().0, Ordering::SeqCst);
        self.kernel.signal_arrivals().wake_all();
    }

    fn set(&self) -> SignalSet {
        SignalSet(self.set.load(Ordering::SeqCst))
    }
}

impl File for SignalFd {
    fn read_at(&self, task: &CurrentTask<'_>, _offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        if to.remaining() < BYTES {
            return Err(Errno::EINVAL);
        }
        let mut read = 0;
        while to.remaining() >= BYTES
            && let Some(info) = task.take_signal(self.set())
        {
            // As on Linux a signal that cannot be delivered is gone.
            match to.put(&describe(&info)) {
                Ok(BYTES) => read += BYTES,
                Ok(_) | Err(_) if read > 0 => break,
                other => return other.and(Err(Errno::EFAULT)),
            }
        }
        if read == 0 { Err(Errno::EAGAIN) } else { Ok(read) }
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    fn seekable(&self) -> bool {
        false
    }

    fn offset_keeper(&self) -> OffsetKeeper<'_> {
        OffsetKeeper::Zero
    }

    fn ready(&self) -> Ready {
        Ready::empty()
    }

    fn ready_for(&self, task: &CurrentTask<'_>) -> Ready {
        let pending = task.signals().pending() | task.group().signals().pending();
        if (pending & self.set()).is_empty() { Ready::empty() } else { Ready::IN }
    }

    fn wait_source(&self) -> WaitSource<'_> {
        WaitSource::Queue(self.kernel.signal_arrivals())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn fd_info(&self) -> String {
        format!("sigmask:\t{:016x}\n", self.set().0)
    }
}

/// Where a field of `struct signalfd_siginfo` lies.
#[derive(Clone, Copy)]
enum Field {
    Signal = 0,
    Errno = 4,
    Code = 8,
    Pid = 12,
    Uid = 16,
    Descriptor = 20,
    Timer = 24,
    Band = 28,
    Overrun = 32,
    Status = 40,
    Int = 44,
    Pointer = 48,
    UserTime = 56,
    SystemTime = 64,
    Address = 72,
    Number = 84,
    CallAddress = 88,
    Architecture = 96,
}

/// A `struct signalfd_siginfo` under construction.
struct Description([u8; BYTES]);

impl Description {
    fn put(&mut self, field: Field, bytes: &[u8]) {
        let at = field as usize;
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// What a reader is told of a signal (signalfd_copyinfo).
fn describe(info: &SigInfo) -> [u8; BYTES] {
    use Field as F;
    let raw = info.to_bytes();
    let mut to = Description([0; BYTES]);
    to.put(F::Signal, &raw[..4]);
    to.put(F::Errno, &raw[4..8]);
    to.put(F::Code, &raw[8..12]);
    // Fields of siginfo_t's union, by their places in it.
    match shape(info) {
        Shape::Sender => copy(&mut to, &raw, &[(F::Pid, 16, 4), (F::Uid, 20, 4)]),
        Shape::Queued => {
            copy(&mut to, &raw, &[(F::Pid, 16, 4), (F::Uid, 20, 4), (F::Pointer, 24, 8), (F::Int, 24, 4)]);
        }
        Shape::Timer => {
            copy(&mut to, &raw, &[(F::Timer, 16, 4), (F::Overrun, 20, 4), (F::Pointer, 24, 8), (F::Int, 24, 4)]);
        }
        Shape::Poll => copy(&mut to, &raw, &[(F::Band, 16, 4), (F::Descriptor, 24, 4)]),
        Shape::Fault => copy(&mut to, &raw, &[(F::Address, 16, 8)]),
        Shape::Call => {
            copy(&mut to, &raw, &[(F::CallAddress, 16, 8), (F::Number, 24, 4), (F::Architecture, 28, 4)]);
        }
        Shape::Child => copy(
            &mut to,
            &raw,
            &[(F::Pid, 16, 4), (F::Uid, 20, 4), (F::Status, 24, 4), (F::UserTime, 32, 8), (F::SystemTime, 40, 8)],
        ),
    }
    to.0
}

fn copy(to: &mut Description, raw: &[u8; SIGINFO_SIZE], fields: &[(Field, usize, usize)]) {
    for (field, at, len) in fields {
        to.put(*field, &raw[*at..at + len]);
    }
}

/// Which member of siginfo_t's union counts (siginfo_layout).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Sender,
    Queued,
    Timer,
    Poll,
    Fault,
    Call,
    Child,
}

fn shape(info: &SigInfo) -> Shape {
    /// SI_SIGIO.
    const SIGIO_QUEUED: i32 = -5;
    match &info.detail {
        Detail::None | Detail::Sender { .. } => Shape::Sender,
        Detail::Queued { .. } => Shape::Queued,
        Detail::Timer { .. } => Shape::Timer,
        Detail::Fault { .. } => Shape::Fault,
        Detail::Call { .. } => Shape::Call,
        Detail::Poll { .. } => Shape::Poll,
        Detail::Child { .. } => Shape::Child,
        Detail::Raw(_) if info.code == SignalCode::SI_TIMER => Shape::Timer,
        Detail::Raw(_) if info.code.0 == SIGIO_QUEUED => Shape::Poll,
        Detail::Raw(_) if info.code.0 < 0 => Shape::Queued,
        Detail::Raw(_) => Shape::Sender,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Signal;
    use crate::task::Pid;

    fn word(bytes: &[u8; BYTES], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn a_queued_value_is_shown_as_pointer_and_as_int() {
        let detail = Detail::Queued { pid: Pid(3), uid: 4, value: 0x1_0000_0005 };
        let info = SigInfo { signal: Signal::SIGUSR1, errno: 0, code: SignalCode::SI_QUEUE, detail };
        let shown = describe(&info);
        assert_eq!([0, 8, 12, 16, 44, 48, 52].map(|at| word(&shown, at)), [10, u32::MAX, 3, 4, 5, 5, 1]);
    }

    #[test]
    fn a_child_is_shown_with_its_status_and_times() {
        let detail = Detail::Child { pid: Pid(7), uid: 8, status: 9, user_time: 10, system_time: 11 };
        let info = SigInfo { signal: Signal::SIGCHLD, errno: 0, code: SignalCode::CLD_EXITED, detail };
        let shown = describe(&info);
        assert_eq!([0, 8, 12, 16, 40, 56, 64].map(|at| word(&shown, at)), [17, 1, 7, 8, 9, 10, 11]);
    }
}
