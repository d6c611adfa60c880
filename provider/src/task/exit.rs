//! The end of threads and processes.

use super::CurrentTask;

/// How a process ended, as wait(2) reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called exit; the low byte of its code.
    Exited(u8),
    /// A signal killed it.
    Signaled {
        /// Which signal.
        signal: i32,
        /// Whether its default action dumps core.
        core_dumped: bool,
    },
}

impl ExitStatus {
    /// The status word of wait4(2).
    pub fn to_wait_status(self) -> i32 {
        match self {
            Self::Exited(code) => i32::from(code) << 8,
            Self::Signaled { signal, core_dumped } => (signal & 0x7f) | if core_dumped { 0x80 } else { 0 },
        }
    }
}

impl CurrentTask<'_> {
    /// Ends this thread; the last one of a process ends the process with `status`.
    pub fn exit_thread(&mut self, status: ExitStatus) {
        self.group().set_exit_status(status);
        drop(self.task().release());
    }

    /// Ends all threads of the process.
    pub fn exit_process(&mut self, status: ExitStatus) {
        self.exit_thread(status);
    }
}
