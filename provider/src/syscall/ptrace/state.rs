//! The requests about stops, signals and calls.

use super::Call;
use crate::errno::Errno;
use crate::ptrace::{Event, StopKind};
use crate::seccomp::AUDIT_ARCH;
use crate::signal::{SIGINFO_SIZE, SigInfo, Signal, SignalSet};
use crate::user::UserIn;
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes in a signal set.
const SET_BYTES: u64 = 8;
/// Where `si_signo` lies.
const SIGNO_BYTES: usize = 4;

/// `struct ptrace_peeksiginfo_args`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct PeekArgs {
    offset: u64,
    flags: u32,
    count: i32,
}

impl Call<'_, '_> {
    pub(super) fn event_message(&self) -> Result<u64, Errno> {
        let message = self.state(|state| state.message);
        self.put(&message.to_le_bytes())
    }

    /// PTRACE_GETSIGINFO; `EINVAL` in a group stop.
    pub(super) fn signal_information(&self) -> Result<u64, Errno> {
        let info = self.stopped(|stop| stop.info.clone().ok_or(Errno::EINVAL))?;
        self.put(&info.to_bytes())
    }

    /// PTRACE_SETSIGINFO: what the signal carries if it is delivered.
    pub(super) fn set_signal_information(&self) -> Result<u64, Errno> {
        let bytes = self.get::<SIGINFO_SIZE>()?;
        let number = i32::from_le_bytes(bytes[..SIGNO_BYTES].try_into().unwrap_or_default());
        self.stopped(|stop| {
            let old = stop.info.as_ref().ok_or(Errno::EINVAL)?;
            let signal = Signal::from_raw(number).unwrap_or(old.signal);
            stop.info = Some(SigInfo::from_bytes(signal, &bytes));
            Ok(0)
        })
    }

    /// PTRACE_PEEKSIGINFO: copies of queued signals; the result is how many.
    pub(super) fn queued_signals(&self) -> Result<u64, Errno> {
        /// PTRACE_PEEKSIGINFO_SHARED: the process's queue, not the thread's.
        const SHARED: u32 = 1;
        let args = UserIn::<PeekArgs>::new(self.address).read(self.task)?;
        if args.flags & !SHARED != 0 {
            return Err(Errno::EINVAL);
        }
        let count = usize::try_from(args.count).map_err(|_| Errno::EINVAL)?;
        let offset = usize::try_from(args.offset).unwrap_or(usize::MAX);
        let queue = if args.flags & SHARED != 0 {
            self.tracee.group().signals().queue()
        } else {
            self.tracee.signals().queue()
        };
        let mut copied = 0_u64;
        for info in queue.iter().skip(offset).take(count) {
            let at = self.data.wrapping_add(copied * SIGINFO_SIZE as u64);
            match self.task.mm().write(UserAddr(at), &info.to_bytes()) {
                Ok(()) => copied += 1,
                Err(error) if copied == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(copied)
    }

    pub(super) fn signal_mask(&self) -> Result<u64, Errno> {
        if self.address.0 != SET_BYTES {
            return Err(Errno::EINVAL);
        }
        self.put(&self.tracee.signals().blocked().0.to_le_bytes())
    }

    pub(super) fn set_signal_mask(&self) -> Result<u64, Errno> {
        if self.address.0 != SET_BYTES {
            return Err(Errno::EINVAL);
        }
        let mask = SignalSet(u64::from_le_bytes(self.get()?));
        self.tracee.signals().set_mask_from_outside(mask);
        Ok(0)
    }

    /// PTRACE_GET_SYSCALL_INFO: `struct ptrace_syscall_info`, as much as the caller has room for; the result is its size.
    /// What it tells of calls needs PTRACE_O_TRACESYSGOOD, which alone tells their stops from signals.
    pub(super) fn call_information(&self) -> Result<u64, Errno> {
        const NONE: u8 = 0;
        const ENTRY: u8 = 1;
        const EXIT: u8 = 2;
        const SECCOMP: u8 = 3;
        let message = self.state(|state| state.message);
        let (kind, user, marked) = self.stopped(|stop| {
            let marked = stop.info.as_ref().is_some_and(|info| info.code.0 == Signal::SIGTRAP.raw() | 0x80);
            Ok((stop.kind, stop.snapshot.user, marked))
        })?;
        let arguments = [user.rdi, user.rsi, user.rdx, user.r10, user.r8, user.r9];
        let mut rest = Vec::new();
        let mut call = || {
            rest.extend(user.orig_rax.to_le_bytes());
            rest.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        };
        let operation = match kind {
            StopKind::CallEntry if marked => {
                call();
                ENTRY
            }
            StopKind::CallExit if marked => {
                rest.extend(user.rax.to_le_bytes());
                // IS_ERR_VALUE
                rest.push(u8::from(user.rax > 0_u64.wrapping_sub(4096)));
                EXIT
            }
            StopKind::Event(Event::Seccomp) => {
                call();
                rest.extend(u32::try_from(message).unwrap_or_default().to_le_bytes());
                SECCOMP
            }
            _ => NONE,
        };
        let mut information = vec![operation, 0, 0, 0];
        information.extend(AUDIT_ARCH.to_le_bytes());
        information.extend(user.rip.to_le_bytes());
        information.extend(user.rsp.to_le_bytes());
        information.extend(rest);
        let len = usize::try_from(self.address.0).unwrap_or(usize::MAX).min(information.len());
        self.put(&information[..len])?;
        Ok(information.len() as u64)
    }
}
