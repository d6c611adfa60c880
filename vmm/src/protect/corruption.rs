//! What a check found changed.

use std::fmt;
use thiserror::Error;

/// A digest of a range's bytes (BLAKE3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub(super) [u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A protected range whose bytes are not what they were.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name} at {address:#x} has changed")]
pub struct Corruption {
    /// What the range is.
    pub name: String,
    /// Where it begins in the monitor's address space; 0 for an object in guest memory.
    pub address: usize,
    /// The digest of what it was.
    pub expected: Digest,
    /// The digest of what it is; `None` if it cannot even be read.
    pub actual: Option<Digest>,
}

impl Corruption {
    /// The corruption of a table of words.
    pub(crate) fn of_words(name: String, address: usize, expected: &[u64], actual: &[u64]) -> Self {
        let bytes = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        Self::of_bytes(name, address, &bytes(expected), &bytes(actual))
    }

    /// The corruption of some bytes.
    pub(crate) fn of_bytes(name: String, address: usize, expected: &[u8], actual: &[u8]) -> Self {
        Self { name, address, expected: Digest::of(expected), actual: Some(Digest::of(actual)) }
    }
}
