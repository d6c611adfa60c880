//! si_code values, see sigaction(2) and include/uapi/asm-generic/siginfo.h.

/// Why a signal was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalCode(pub i32);

#[expect(missing_docs, reason = "sigaction(2) describes them")]
impl SignalCode {
    pub const SI_USER: Self = Self(0);
    pub const SI_KERNEL: Self = Self(0x80);
    pub const SI_QUEUE: Self = Self(-1);
    pub const SI_TIMER: Self = Self(-2);
    pub const SI_MESGQ: Self = Self(-3);
    pub const SI_TKILL: Self = Self(-6);
    pub const ILL_ILLOPN: Self = Self(2);
    pub const FPE_INTDIV: Self = Self(1);
    pub const FPE_FLTDIV: Self = Self(3);
    pub const FPE_FLTOVF: Self = Self(4);
    pub const FPE_FLTUND: Self = Self(5);
    pub const FPE_FLTRES: Self = Self(6);
    pub const FPE_FLTINV: Self = Self(7);
    pub const SEGV_MAPERR: Self = Self(1);
    pub const SEGV_ACCERR: Self = Self(2);
    pub const SEGV_PKUERR: Self = Self(4);
    pub const BUS_ADRALN: Self = Self(1);
    pub const BUS_ADRERR: Self = Self(2);
    pub const TRAP_BRKPT: Self = Self(1);
    pub const TRAP_TRACE: Self = Self(2);
    pub const TRAP_HWBKPT: Self = Self(4);
    pub const SYS_SECCOMP: Self = Self(1);
    pub const SYS_USER_DISPATCH: Self = Self(2);
    pub const CLD_EXITED: Self = Self(1);
    pub const CLD_KILLED: Self = Self(2);
    pub const CLD_DUMPED: Self = Self(3);
    pub const CLD_TRAPPED: Self = Self(4);
    pub const CLD_STOPPED: Self = Self(5);
    pub const CLD_CONTINUED: Self = Self(6);
}

impl SignalCode {
    /// The name strace prints for this code of this signal.
    pub fn name(self, signal: super::Signal) -> Option<&'static str> {
        use super::Signal;
        Some(match (self.0, signal) {
            (0, _) => "SI_USER",
            (0x80, _) => "SI_KERNEL",
            (-1, _) => "SI_QUEUE",
            (-2, _) => "SI_TIMER",
            (-3, _) => "SI_MESGQ",
            (-6, _) => "SI_TKILL",
            (2, Signal::SIGILL) => "ILL_ILLOPN",
            (1, Signal::SIGFPE) => "FPE_INTDIV",
            (3, Signal::SIGFPE) => "FPE_FLTDIV",
            (4, Signal::SIGFPE) => "FPE_FLTOVF",
            (5, Signal::SIGFPE) => "FPE_FLTUND",
            (6, Signal::SIGFPE) => "FPE_FLTRES",
            (7, Signal::SIGFPE) => "FPE_FLTINV",
            (1, Signal::SIGSEGV) => "SEGV_MAPERR",
            (2, Signal::SIGSEGV) => "SEGV_ACCERR",
            (4, Signal::SIGSEGV) => "SEGV_PKUERR",
            (1, Signal::SIGBUS) => "BUS_ADRALN",
            (2, Signal::SIGBUS) => "BUS_ADRERR",
            (1, Signal::SIGTRAP) => "TRAP_BRKPT",
            (2, Signal::SIGTRAP) => "TRAP_TRACE",
            (4, Signal::SIGTRAP) => "TRAP_HWBKPT",
            (1, Signal::SIGSYS) => "SYS_SECCOMP",
            (2, Signal::SIGSYS) => "SYS_USER_DISPATCH",
            (1, Signal::SIGCHLD) => "CLD_EXITED",
            (2, Signal::SIGCHLD) => "CLD_KILLED",
            (3, Signal::SIGCHLD) => "CLD_DUMPED",
            (4, Signal::SIGCHLD) => "CLD_TRAPPED",
            (5, Signal::SIGCHLD) => "CLD_STOPPED",
            (6, Signal::SIGCHLD) => "CLD_CONTINUED",
            _ => return None,
        })
    }
}
