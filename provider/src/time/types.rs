//! The kernel's time structures.

use crate::errno::Errno;
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Nanoseconds in a second.
pub(super) const NANOS: u64 = 1_000_000_000;
/// The longest span that Linux's timers know (KTIME_SEC_MAX): longer ones are cut to it.
const SECONDS_MAX: u64 = i64::MAX.cast_unsigned() / NANOS;

/// `struct timespec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timespec {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds: from a program, anything.
    pub nanoseconds: i64,
}

impl Timespec {
    /// A span or a point in nanoseconds.
    pub fn from_nanoseconds(ns: u64) -> Self {
        Self { seconds: (ns / NANOS).cast_signed(), nanoseconds: (ns % NANOS).cast_signed() }
    }

    /// The nanoseconds, cut to what a timer knows; `EINVAL` unless it is normal and not negative (timespec64_valid).
    pub fn to_nanoseconds(self) -> Result<u64, Errno> {
        let seconds = u64::try_from(self.seconds).map_err(|_| Errno::EINVAL)?;
        let nanoseconds = u64::try_from(self.nanoseconds).map_err(|_| Errno::EINVAL)?;
        if nanoseconds >= NANOS {
            return Err(Errno::EINVAL);
        }
        Ok(if seconds >= SECONDS_MAX { i64::MAX.cast_unsigned() } else { seconds * NANOS + nanoseconds })
    }

    /// As [`Self::to_nanoseconds`].
    pub fn to_duration(self) -> Result<Duration, Errno> {
        self.to_nanoseconds().map(Duration::from_nanos)
    }
}

/// `struct timeval`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timeval {
    /// Seconds.
    pub seconds: i64,
    /// Microseconds: from a program, anything.
    pub microseconds: i64,
}

impl Timeval {
    /// A span in nanoseconds, rounded down.
    pub fn from_nanoseconds(ns: u64) -> Self {
        Self { seconds: (ns / NANOS).cast_signed(), microseconds: (ns % NANOS / 1000).cast_signed() }
    }

    /// The nanoseconds; `EINVAL` unless it is normal and not negative.
    pub fn to_nanoseconds(self) -> Result<u64, Errno> {
        if !(0..1_000_000).contains(&self.microseconds) {
            return Err(Errno::EINVAL);
        }
        Timespec { seconds: self.seconds, nanoseconds: self.microseconds * 1000 }.to_nanoseconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_normal_spans_are_taken() {
        let span = |seconds, nanoseconds| Timespec { seconds, nanoseconds }.to_nanoseconds();
        assert_eq!(span(1, 5), Ok(NANOS + 5));
        assert_eq!(span(-1, 0), Err(Errno::EINVAL));
        assert_eq!(span(0, -1), Err(Errno::EINVAL));
        assert_eq!(span(0, 1_000_000_000), Err(Errno::EINVAL));
        assert_eq!(span(i64::MAX, 0), Ok(i64::MAX.cast_unsigned()));
    }

    #[test]
    fn microseconds_are_checked_before_they_are_scaled() {
        let span = |microseconds| Timeval { seconds: 0, microseconds }.to_nanoseconds();
        assert_eq!(span(7), Ok(7000));
        assert_eq!(span(1_000_000), Err(Errno::EINVAL));
        assert_eq!(span(i64::MAX), Err(Errno::EINVAL));
    }
}
