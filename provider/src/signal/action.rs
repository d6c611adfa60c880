//! Dispositions: what a process does on each signal.

use super::{Signal, SignalSet};
use crate::sync::{Mutex, Rank};
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags::bitflags! {
    /// The SA_* flags of sigaction(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ActionFlags: u64 {
        /// No SIGCHLD when a child stops.
        const NOCLDSTOP = 0x1;
        /// Children leave no zombie.
        const NOCLDWAIT = 0x2;
        /// The handler takes three arguments.
        const SIGINFO = 0x4;
        /// Bit by which programs ask whether others are supported; never kept.
        const UNSUPPORTED = 0x400;
        /// `restorer` is valid; x86-64 demands it.
        const RESTORER = 0x0400_0000;
        /// The handler runs on the alternate stack.
        const ONSTACK = 0x0800_0000;
        /// Interrupted calls are restarted.
        const RESTART = 0x1000_0000;
        /// The signal is not blocked while its handler runs.
        const NODEFER = 0x4000_0000;
        /// The disposition goes back to the default as the handler starts.
        const RESETHAND = 0x8000_0000;
    }
}

impl ActionFlags {
    /// Those that Linux keeps on x86-64 (UAPI_SA_FLAGS): the rest reads back as clear.
    pub const KEPT: Self = Self::all().difference(Self::UNSUPPORTED);
}

/// The kernel's `struct sigaction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigAction {
    /// The handler's address, or SIG_DFL (0) or SIG_IGN (1).
    pub handler: u64,
    /// [`ActionFlags`].
    pub flags: u64,
    /// Where a handler returns to.
    pub restorer: u64,
    /// Blocked while the handler runs, besides the signal itself.
    pub mask: SignalSet,
}

/// A disposition, as far as delivery cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// SIG_DFL.
    Default,
    /// SIG_IGN.
    Ignore,
    /// A handler.
    Handler(UserAddr),
}

impl SigAction {
    /// SIG_IGN.
    pub const IGNORE: u64 = 1;

    /// What to do.
    pub fn disposition(&self) -> Disposition {
        match self.handler {
            0 => Disposition::Default,
            Self::IGNORE => Disposition::Ignore,
            handler => Disposition::Handler(UserAddr(handler)),
        }
    }

    /// The flags.
    pub fn flags(&self) -> ActionFlags {
        ActionFlags::from_bits_retain(self.flags)
    }
}

/// What SIG_DFL means for a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// The process ends.
    Terminate,
    /// The process ends and may dump core.
    Core,
    /// Nothing.
    Ignore,
    /// The process stops.
    Stop,
    /// Nothing more: sending it has made a stopped process go on.
    Continue,
}

impl DefaultAction {
    /// The table of signal(7).
    pub fn of(signal: Signal) -> Self {
        match signal {
            Signal::SIGQUIT
            | Signal::SIGILL
            | Signal::SIGTRAP
            | Signal::SIGABRT
            | Signal::SIGBUS
            | Signal::SIGFPE
            | Signal::SIGSEGV
            | Signal::SIGXCPU
            | Signal::SIGXFSZ
            | Signal::SIGSYS => Self::Core,
            Signal::SIGCHLD | Signal::SIGURG | Signal::SIGWINCH => Self::Ignore,
            Signal::SIGSTOP | Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU => Self::Stop,
            Signal::SIGCONT => Self::Continue,
            _ => Self::Terminate,
        }
    }
}

/// A process's dispositions. Threads share them; fork copies them; exec resets handlers.
#[derive(Debug)]
pub struct Handlers {
    actions: Mutex<[SigAction; Signal::COUNT]>,
}

impl Default for Handlers {
    fn default() -> Self {
        Self { actions: Mutex::new(Rank::Leaf, [SigAction::default(); Signal::COUNT]) }
    }
}

impl Handlers {
    /// The action for a signal.
    pub fn get(&self, signal: Signal) -> SigAction {
        self.actions.lock()[signal.index()]
    }

    /// Replaces the action for a signal; returns the old.
    pub fn set(&self, signal: Signal, action: SigAction) -> SigAction {
        std::mem::replace(&mut self.actions.lock()[signal.index()], action)
    }

    /// Takes the action for a delivery: with SA_RESETHAND a handler is used once.
    pub fn take(&self, signal: Signal) -> SigAction {
        let action = &mut self.actions.lock()[signal.index()];
        let taken = *action;
        if taken.flags().contains(ActionFlags::RESETHAND) && matches!(taken.disposition(), Disposition::Handler(_)) {
            action.handler = 0;
        }
        taken
    }

    /// Tells whether the signal would be dropped as it is sent: ignored, or ignored by default.
    pub fn ignores(&self, signal: Signal) -> bool {
        match self.get(signal).disposition() {
            Disposition::Ignore => true,
            Disposition::Default => {
                matches!(DefaultAction::of(signal), DefaultAction::Ignore | DefaultAction::Continue)
            }
            Disposition::Handler(_) => false,
        }
    }

    /// What exec does (flush_signal_handlers): handlers go, ignored signals stay ignored, flags and masks are cleared.
    pub fn reset_for_exec(&self) {
        for action in self.actions.lock().iter_mut() {
            let handler = if action.handler == SigAction::IGNORE { SigAction::IGNORE } else { 0 };
            *action = SigAction { handler, ..SigAction::default() };
        }
    }

    /// A copy, for fork.
    pub fn duplicate(&self) -> Self {
        Self { actions: Mutex::new(Rank::Leaf, *self.actions.lock()) }
    }
}
