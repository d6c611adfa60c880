//! The CPUs a sandbox sees: 0 to n − 1, each one of the host's.

use rustix::process::getpid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use vmm::threads::processor;

/// The host's CPUs behind the sandbox's, by the sandbox's numbers.
#[derive(Clone, Debug)]
pub struct Cpus {
    host: Vec<usize>,
    /// Those that the monitor itself may use.
    allowed: CpuSet,
    /// The monitor may use others, too.
    fewer: bool,
}

impl Cpus {
    /// The first `wanted` CPUs that the monitor itself may use; at least one.
    pub fn of_host(wanted: u32) -> Self {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).max(1);
        // Of the first thread: the calling one may be bound to fewer, for a program or to be out of one's way.
        let allowed = sched_getaffinity(Some(getpid())).unwrap_or_else(|_| CpuSet::new());
        let mut host: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).take(wanted).collect();
        if host.is_empty() {
            host.push(0);
        }
        let fewer = host.len() < usize::try_from(allowed.count()).unwrap_or(usize::MAX);
        Self { host, allowed, fewer }
    }

    /// Tells whether the monitor may use CPUs that the sandbox does not have.
    pub fn are_fewer_than_the_hosts(&self) -> bool {
        self.fewer
    }

    /// Tells whether they are all that the monitor may use, by the host's own numbers.
    pub fn are_the_hosts(&self) -> bool {
        !self.fewer && self.host.iter().enumerate().all(|(number, host)| number == *host)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.host.len()
    }

    /// The mask of all, in 64-bit words.
    pub fn all(&self) -> Vec<u64> {
        let mut words = vec![0u64; self.host.len().div_ceil(64)];
        for cpu in 0..self.host.len() {
            words[cpu / 64] |= 1 << (cpu % 64);
        }
        words
    }

    /// The sandbox's number of the CPU that the calling host thread runs on. On one that the sandbox does not have, 0.
    pub fn current(&self) -> u32 {
        let host = processor();
        let number = self.host.iter().position(|cpu| *cpu == host).unwrap_or_default();
        u32::try_from(number).unwrap_or_default()
    }

    /// Lets the calling host thread run on these CPUs only. That it does is a wish of the program's: a refusal is no error.
    pub fn bind_this_thread(&self, words: &[u64]) {
        let mut set = CpuSet::new();
        for (number, host) in self.host.iter().enumerate() {
            if words.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1) {
                set.set(*host);
            }
        }
        let _ = sched_setaffinity(None, &set);
    }

    /// Lets the calling host thread run wherever the monitor may.
    pub fn release_this_thread(&self) {
        let _ = sched_setaffinity(None, &self.allowed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_span_words() {
        let cpus = Cpus { host: (0..70).collect(), allowed: CpuSet::new(), fewer: false };
        assert_eq!(cpus.all(), [u64::MAX, 0x3f]);
    }

    #[test]
    fn the_hosts_are_all_by_their_own_numbers() {
        let of = |host: &[usize], fewer| Cpus { host: host.to_vec(), allowed: CpuSet::new(), fewer };
        assert!(of(&[0, 1, 2], false).are_the_hosts());
        assert!(!of(&[0, 1, 2], true).are_the_hosts());
        assert!(!of(&[1, 2], false).are_the_hosts());
    }

    #[test]
    fn there_is_at_least_one() {
        assert_eq!(Cpus::of_host(0).count(), 1);
    }
}
