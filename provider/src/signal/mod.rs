//! Signals, see signal(7): numbers and sets, dispositions, queues, sending, delivery, and the frames handlers run on.
//!
//! [`send`] generates a signal and decides whom it wakes; [`deliver`] runs as a task is about to return to user mode and takes what is
//! pending; [`frame`] builds what a handler sees and takes it apart again at sigreturn; [`exception`] turns processor exceptions into signals.
//!
//! Lock ranks: a queue is [`Rank::Signals`](crate::sync::Rank::Signals), dispositions are leaves. No two queues are locked at once.

mod action;
mod blocked;
mod code;
pub mod deliver;
mod descriptor;
pub mod exception;
mod fpu;
pub mod frame;
mod info;
mod mask;
mod pending;
pub mod send;
mod stack;
mod state;
mod stop;
#[cfg(test)]
mod tests;

pub use action::{ActionFlags, DefaultAction, Disposition, Handlers, SigAction};
pub use code::SignalCode;
pub(crate) use descriptor::SignalFd;
pub use info::{Detail, SIGINFO_SIZE, SigInfo};
pub use mask::SignalSet;
pub use pending::Pending;
pub use stack::AltStack;
pub use state::{GroupSignals, TaskSignals};

use std::fmt;

/// A signal's number: 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

macro_rules! signals {
    ($($name:ident = $value:literal),* $(,)?) => {
        #[expect(missing_docs, reason = "signal(7) describes them")]
        impl Signal {
            $(pub const $name: Self = Self($value);)*

            /// The standard signal's name; `None` for a real-time one.
            pub fn standard_name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

signals! {
    SIGHUP = 1,
    SIGINT = 2,
    SIGQUIT = 3,
    SIGILL = 4,
    SIGTRAP = 5,
    SIGABRT = 6,
    SIGBUS = 7,
    SIGFPE = 8,
    SIGKILL = 9,
    SIGUSR1 = 10,
    SIGSEGV = 11,
    SIGUSR2 = 12,
    SIGPIPE = 13,
    SIGALRM = 14,
    SIGTERM = 15,
    SIGSTKFLT = 16,
    SIGCHLD = 17,
    SIGCONT = 18,
    SIGSTOP = 19,
    SIGTSTP = 20,
    SIGTTIN = 21,
    SIGTTOU = 22,
    SIGURG = 23,
    SIGXCPU = 24,
    SIGXFSZ = 25,
    SIGVTALRM = 26,
    SIGPROF = 27,
    SIGWINCH = 28,
    SIGIO = 29,
    SIGPWR = 30,
    SIGSYS = 31,
}

impl Signal {
    /// How many there are (_NSIG).
    pub const COUNT: usize = 64;
    /// The first real-time signal as the kernel counts (the C library keeps some for itself).
    pub const RT_MIN: Self = Self(32);

    /// Makes a signal of its number; `None` unless it is 1 to 64.
    pub fn from_raw(raw: i32) -> Option<Self> {
        u8::try_from(raw).ok().filter(|number| (1..=64).contains(number)).map(Self)
    }

    /// The number.
    pub fn raw(self) -> i32 {
        i32::from(self.0)
    }

    /// The number less one, for tables.
    pub fn index(self) -> usize {
        usize::from(self.0) - 1
    }

    /// Tells whether it is a real-time signal, which queues.
    pub fn is_real_time(self) -> bool {
        self >= Self::RT_MIN
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.standard_name() {
            Some(name) => f.write_str(name),
            // As strace names them.
            None if *self == Self::RT_MIN => f.write_str("SIGRTMIN"),
            None => write!(f, "SIGRT_{}", self.0 - Self::RT_MIN.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
