//! The alternate signal stack, see sigaltstack(2).

use crate::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The kernel's `stack_t`; also the state it sets.
///
/// The default is a new program's state: no stack, and flags of 0, which signal frames show as they are; only
/// sigaltstack(2) reports SS_DISABLE for a stack of no size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AltStack {
    /// The lowest address.
    pub base: u64,
    /// SS_ONSTACK, SS_DISABLE, SS_AUTODISARM.
    pub flags: u32,
    /// Bytes 12 to 15: padding, zero.
    pub padding: u32,
    /// Bytes.
    pub size: u64,
}

/// The program runs on it: reported, never set.
const SS_ONSTACK: u32 = 1;
/// There is none.
const SS_DISABLE: u32 = 2;
/// It is disarmed while a handler runs on it.
pub(super) const SS_AUTODISARM: u32 = 1 << 31;
/// The smallest stack that x86-64 accepts (MINSIGSTKSZ).
const MINSIGSTKSZ: u64 = 2048;

impl AltStack {
    /// Tells whether `sp` lies on the stack; never while it is auto-disarming (on_sig_stack in include/linux/sched/signal.h).
    pub fn holds(&self, sp: u64) -> bool {
        self.flags & SS_AUTODISARM == 0 && self.spans(sp)
    }

    /// Tells whether `sp` lies within it (__on_sig_stack): a pointer at its very top does, one at its base does not.
    pub fn spans(&self, sp: u64) -> bool {
        sp > self.base && sp - self.base <= self.size
    }

    /// SS_ONSTACK, SS_DISABLE or 0, for a program whose stack pointer is `sp` (sas_ss_flags).
    pub fn state(&self, sp: u64) -> u32 {
        match self {
            Self { size: 0, .. } => SS_DISABLE,
            _ if self.holds(sp) => SS_ONSTACK,
            _ => 0,
        }
    }

    /// One past its highest address.
    pub fn top(&self) -> u64 {
        self.base.wrapping_add(self.size)
    }

    /// What sigaltstack(2) reports to a program whose stack pointer is `sp`.
    pub fn report(&self, sp: u64) -> Self {
        Self { flags: self.state(sp) | (self.flags & SS_AUTODISARM), ..*self }
    }

    /// Checks and sets what a program asks for (do_sigaltstack): `EPERM` on the stack itself, `EINVAL`, `ENOMEM` if too small.
    ///
    /// Too small is below MINSIGSTKSZ, whatever a frame really takes: Linux compares with that only for programs that use
    /// extended states which are allocated on demand.
    pub fn replace(&mut self, new: &Self, sp: u64) -> Result<(), Errno> {
        if self.holds(sp) {
            return Err(Errno::EPERM);
        }
        let mode = new.flags & !SS_AUTODISARM;
        if mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0 {
            return Err(Errno::EINVAL);
        }
        let mut wanted = Self { padding: 0, ..*new };
        if mode == SS_DISABLE {
            (wanted.base, wanted.size) = (0, 0);
        } else if wanted.size < MINSIGSTKSZ {
            return Err(Errno::ENOMEM);
        }
        *self = wanted;
        Ok(())
    }
}
