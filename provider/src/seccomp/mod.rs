//! seccomp(2): which system calls a task may still make.
//!
//! [`check`] verifies the classic BPF programs that tasks hand in, [`bpf`] interprets them, [`filter`] stacks them, and `gate`
//! does what they say before a call is served. A task without filters pays one look at its entry work for all this.

pub mod bpf;
pub mod check;
pub mod filter;
pub(crate) mod gate;
mod install;
#[cfg(test)]
mod tests;

pub use filter::Filter;
pub(crate) use install::{FilterFlags, install, install_strict};

use std::sync::Arc;

/// AUDIT_ARCH_X86_64: what `arch` is in a filter's data and in SIGSYS.
pub const AUDIT_ARCH: u32 = 0xc000_003e;
/// Bytes of `struct seccomp_data`.
pub const DATA_BYTES: u32 = 64;
/// And its 32-bit words.
pub const DATA_WORDS: usize = 16;

/// What a filter sees of a call: `struct seccomp_data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeccompData {
    /// The call's number.
    pub number: i32,
    /// Where the program goes on after the call.
    pub instruction_pointer: u64,
    /// The arguments.
    pub args: [u64; 6],
}

impl SeccompData {
    /// The structure's words in order.
    #[expect(clippy::cast_possible_truncation, reason = "takes 64-bit fields apart")]
    pub fn words(&self) -> [u32; DATA_WORDS] {
        let mut words = [0; DATA_WORDS];
        (words[0], words[1]) = (self.number.cast_unsigned(), AUDIT_ARCH);
        for (pair, field) in words[2..].chunks_exact_mut(2).zip([self.instruction_pointer].iter().chain(&self.args)) {
            (pair[0], pair[1]) = (*field as u32, (*field >> 32) as u32);
        }
        words
    }
}

/// What a filter returned: an action in the upper half, data in the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer(pub u32);

/// What to do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The process dies of SIGSYS; also every action that there is not.
    KillProcess,
    /// The thread dies as if of SIGSYS.
    KillThread,
    /// The thread gets a SIGSYS.
    Trap,
    /// The call fails with the data as its error.
    Errno,
    /// A supervisor decides.
    Notify,
    /// A tracer decides.
    Trace,
    /// The call is made and logged.
    Log,
    /// The call is made.
    Allow,
}

impl Answer {
    /// SECCOMP_RET_ALLOW.
    pub const ALLOW: Self = Self(0x7fff_0000);

    /// How lenient the answer is: the action as a signed number.
    pub fn rank(self) -> i32 {
        (self.0 & 0xffff_0000).cast_signed()
    }

    /// SECCOMP_RET_DATA.
    #[expect(clippy::cast_possible_truncation, reason = "the upper half is the action")]
    pub fn data(self) -> u16 {
        self.0 as u16
    }

    /// What to do.
    pub fn action(self) -> Action {
        Action::known(self.0 & 0xffff_0000).unwrap_or(Action::KillProcess)
    }
}

impl Action {
    /// The action that has this value (SECCOMP_RET_*), if one has.
    pub fn known(value: u32) -> Option<Self> {
        Some(match value {
            0x8000_0000 => Self::KillProcess,
            0x0000_0000 => Self::KillThread,
            0x0003_0000 => Self::Trap,
            0x0005_0000 => Self::Errno,
            0x7fc0_0000 => Self::Notify,
            0x7ff0_0000 => Self::Trace,
            0x7ffc_0000 => Self::Log,
            0x7fff_0000 => Self::Allow,
            _ => return None,
        })
    }
}

/// What all filters of a task say of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to do.
    pub action: Action,
    /// The error, or what SIGSYS or the tracer is told.
    pub data: u16,
    /// The filter that said so wants its refusals logged.
    pub logged: bool,
}

/// A task's state.
#[derive(Clone, Debug, Default)]
pub enum Seccomp {
    /// Every call may be made.
    #[default]
    Disabled,
    /// read, write, exit and sigreturn only.
    Strict,
    /// What the filters allow.
    Filter(Arc<Filter>),
}

impl Seccomp {
    /// The mode as prctl(PR_GET_SECCOMP) and /proc/PID/status tell it.
    pub fn mode(&self) -> u32 {
        match self {
            Self::Disabled => 0,
            Self::Strict => 1,
            Self::Filter(_) => 2,
        }
    }

    /// The filters.
    pub fn filter(&self) -> Option<&Arc<Filter>> {
        match self {
            Self::Filter(filter) => Some(filter),
            Self::Disabled | Self::Strict => None,
        }
    }
}
