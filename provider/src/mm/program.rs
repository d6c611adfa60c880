//! What exec has loaded into an address space, as /proc/PID shows it ([`Program`]).

use crate::fs::{OpenFile, TextGuard};
use std::sync::Arc;
use vmm::addr::{UserAddr, UserRange};

/// A loaded program's landmarks (Linux's `mm_struct` has the same).
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable (/proc/PID/exe).
    pub file: Option<Arc<OpenFile>>,
    /// Keeps the executable from being written.
    pub text: Option<Arc<TextGuard>>,
    /// The executable's code, from the first to the last executable segment.
    pub code: UserRange,
    /// The executable's data.
    pub data: UserRange,
    /// Where the stack pointer was at the first instruction.
    pub stack: UserAddr,
    /// The argument strings (/proc/PID/cmdline): the program may overwrite them.
    pub args: UserRange,
    /// The environment strings (/proc/PID/environ).
    pub env: UserRange,
    /// The auxiliary vector with its terminator (/proc/PID/auxv).
    pub auxv: Vec<u8>,
}
