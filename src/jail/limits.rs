//! Resource limits of the monitor's own. Its programs' are the provider's, and are as the caller had them.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a monitor never uses, and the most that it may have of it.
const LIMITS: &[(Resource, u64)] = &[
    // A core would have in it what programs have in memory. 1, not 0: 0 keeps the host from writing a file, and lets it hand the
    // core to a program (core(5) on piping; fs/coredump.c takes 1 for "neither").
    (Resource::Core, 1),
    // Locked memory, POSIX message queues.
    (Resource::Memlock, 0),
    (Resource::Msgqueue, 0),
    // A priority above the caller's.
    (Resource::Nice, 0),
    (Resource::Rtprio, 0),
];

/// Lowers the limits, for good.
pub(super) fn lower() -> Result<(), Errno> {
    LIMITS.iter().try_for_each(|(resource, most)| setrlimit(*resource, lowered(getrlimit(*resource), *most)))
}

fn lowered(found: Rlimit, most: u64) -> Rlimit {
    let most = Some(found.maximum.map_or(most, |maximum| maximum.min(most)));
    Rlimit { current: most, maximum: most }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_lowered_and_never_raised() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert_eq!(lowered(limit(None, None), 1), limit(Some(1), Some(1)));
        assert_eq!(lowered(limit(Some(0), Some(8)), 1), limit(Some(1), Some(1)));
        assert_eq!(lowered(limit(Some(0), Some(0)), 1), limit(Some(0), Some(0)));
        assert_eq!(lowered(limit(Some(5), None), 0), limit(Some(0), Some(0)));
    }
}
