//! Sets of signals.

use super::Signal;
use std::ops::{BitAnd, BitOr, Not};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A set of signals, as the kernel's `sigset_t`: signal n is bit n − 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// The two that can be neither blocked, caught nor ignored.
    pub const UNBLOCKABLE: Self = Self(1 << (9 - 1) | 1 << (19 - 1));
    /// Those that the program's own instructions cause; they are delivered before others.
    pub const SYNCHRONOUS: Self =
        Self(1 << (11 - 1) | 1 << (7 - 1) | 1 << (4 - 1) | 1 << (5 - 1) | 1 << (8 - 1) | 1 << (31 - 1));

    /// The set of one signal.
    pub const fn of(signal: Signal) -> Self {
        Self(1 << (signal.0 - 1))
    }

    /// Tells whether the signal is in the set.
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & Self::of(signal).0 != 0
    }

    /// The set with a signal added.
    #[must_use]
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | Self::of(signal).0)
    }

    /// The set with a signal taken away.
    #[must_use]
    pub const fn without(self, signal: Signal) -> Self {
        Self(self.0 & !Self::of(signal).0)
    }

    /// The set as a blocked mask: SIGKILL and SIGSTOP are never in it.
    #[must_use]
    pub const fn blockable(self) -> Self {
        Self(self.0 & !Self::UNBLOCKABLE.0)
    }

    /// Tells whether no signal is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest signal in the set.
    pub fn first(self) -> Option<Signal> {
        i32::try_from(self.0.trailing_zeros()).ok().and_then(|zeros| Signal::from_raw(zeros + 1))
    }

    /// The signals in the set, ascending.
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        (1..=64).filter_map(Signal::from_raw).filter(move |signal| self.contains(*signal))
    }
}

impl BitAnd for SignalSet {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for SignalSet {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Not for SignalSet {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}
