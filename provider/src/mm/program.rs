//! What exec has loaded into an address space, as /proc/PID shows it ([`Program`]).

use super::MemoryMap;
use crate::fs::{OpenFile, TextGuard};
use std::sync::Arc;
use vmm::addr::{UserAddr, UserRange};

/// Bytes of arguments or environment that are shown: more than exec accepts with the largest stack limit.
const LONGEST_STRINGS: u64 = 8 << 20;

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

impl MemoryMap {
    /// The program's arguments as /proc/PID/cmdline shows them, each ended by a NUL; empty if nothing was loaded. A program
    /// that has written over the last NUL has put a title there (setproctitle(3)), which may reach into the environment and
    /// ends at its first NUL.
    pub(crate) fn command_line(&self) -> Vec<u8> {
        let Some(program) = self.program() else { return Vec::new() };
        let mut line = self.strings(program.args);
        if line.last().is_some_and(|last| *last != 0) {
            if program.env.start == program.args.end {
                line.extend(self.strings(program.env));
            }
            let end = line.iter().position(|byte| *byte == 0).unwrap_or(line.len());
            line.truncate(end);
        }
        line
    }

    /// The program's environment as /proc/PID/environ shows it; empty if nothing was loaded.
    pub(crate) fn environment(&self) -> Vec<u8> {
        self.program().map(|program| self.strings(program.env)).unwrap_or_default()
    }

    /// The bytes of a range, up to the first that cannot be read.
    fn strings(&self, range: UserRange) -> Vec<u8> {
        let len = range.end.0.saturating_sub(range.start.0).min(LONGEST_STRINGS);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        let got = self.read_partial(range.start, &mut bytes).unwrap_or_default();
        bytes.truncate(got);
        bytes
    }
}
