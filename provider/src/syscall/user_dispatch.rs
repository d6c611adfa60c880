//! PR_SET_SYSCALL_USER_DISPATCH: calls from outside a range of code become a SIGSYS, unless a byte of the program's says that they
//! may pass (kernel/entry/syscall_user_dispatch.c). Emulators of other systems live by it. It is a thread's own: neither its
//! children nor a new program has it.

use super::args::Arg;
use crate::errno::Errno;
use crate::seccomp::AUDIT_ARCH;
use crate::signal::{Detail, SigInfo, Signal, SignalCode};
use crate::task::{CurrentTask, Work};
use linux_raw_sys::prctl as pr;
use vmm::addr::{USER_END, UserAddr};

/// Which calls of a thread pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UserDispatch {
    /// Where the code starts whose calls always pass, and its length.
    start: u64,
    len: u64,
    /// The byte that says whether others do; none: they never do.
    selector: Option<UserAddr>,
}

/// SYSCALL_DISPATCH_FILTER_ALLOW, SYSCALL_DISPATCH_FILTER_BLOCK
const ALLOW: u8 = 0;
const BLOCK: u8 = 1;

/// Switches it on or off; `EINVAL`, and `EFAULT` for a selector outside the user half.
pub(super) fn set(task: &CurrentTask<'_>, mode: u64, start: u64, len: u64, selector: UserAddr) -> Result<u64, Errno> {
    let work = match u32::try_from(mode) {
        Ok(pr::PR_SYS_DISPATCH_OFF) if (start, len, selector.0) == (0, 0, 0) => Work::empty(),
        Ok(pr::PR_SYS_DISPATCH_ON) => {
            if start != 0 && start.wrapping_add(len) <= start {
                return Err(Errno::EINVAL);
            }
            if selector.0 >= USER_END {
                return Err(Errno::EFAULT);
            }
            Work::USER_DISPATCH
        }
        _ => return Err(Errno::EINVAL),
    };
    let selector = Some(selector).filter(|selector| selector.0 != 0);
    *task.user_dispatch_slot().lock() = UserDispatch { start, len, selector };
    task.replace_work(Work::USER_DISPATCH, work);
    Ok(0)
}

/// Tells whether the call in the registers is not made because a signal comes instead.
pub(super) fn diverts(task: &mut CurrentTask<'_>) -> bool {
    let UserDispatch { start, len, selector } = *task.user_dispatch_slot().lock();
    let address = UserAddr(task.frame.registers.rip);
    if address.0.wrapping_sub(start) < len {
        return false;
    }
    if let Some(selector) = selector {
        let mut state = [0];
        if task.mm().read(selector, &mut state).is_err() {
            task.force_fatal_signal(SigInfo::kernel(Signal::SIGSEGV));
            return true;
        }
        match state {
            [ALLOW] => return false,
            [BLOCK] => {}
            _ => {
                task.force_fatal_signal(SigInfo::kernel(Signal::SIGSYS));
                return true;
            }
        }
    }
    let detail = Detail::Call { address, number: i32::decode(task.original), architecture: AUDIT_ARCH };
    task.force_signal(SigInfo { signal: Signal::SIGSYS, errno: 0, code: SignalCode::SYS_USER_DISPATCH, detail });
    // The call has not happened: its number is in `rax` still.
    true
}
