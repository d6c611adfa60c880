//! Ranges of the monitor's own memory whose contents must never change: a provider's tables (NT: `PS_PICO_PROTECTED_RANGE`).

use std::borrow::Cow;

/// A range of the monitor's memory that nobody has a reason to write to: a table that a provider dispatches through.
///
/// Holding one proves that the range can be read for as long as the monitor runs. Its address is the monitor's, not a
/// program's: what lies in an address space is the program's to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedRange {
    name: Cow<'static, str>,
    address: usize,
    len: usize,
}

impl ProtectedRange {
    /// The range that `value` occupies; what it points to is not part of it. `value` must be constant all through: a lock
    /// or a counter in it would count as damage once it is used.
    pub fn of<T: Sync + ?Sized>(name: impl Into<Cow<'static, str>>, value: &'static T) -> Self {
        let address = std::ptr::from_ref(value).cast::<u8>().addr();
        Self { name: name.into(), address, len: size_of_val(value) }
    }

    /// `len` bytes at `address`, which a provider names that is not Rust.
    ///
    /// # Safety
    /// The range can be read for as long as the monitor runs.
    pub unsafe fn from_raw(name: impl Into<Cow<'static, str>>, address: usize, len: usize) -> Self {
        Self { name: name.into(), address, len }
    }

    /// What the range is, as a report of damage names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it begins in the monitor's address space.
    pub fn address(&self) -> usize {
        self.address
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_covers_its_value() {
        static TABLE: [u64; 5] = [1, 2, 3, 4, 5];
        let range = ProtectedRange::of("a table", &TABLE);
        assert_eq!((range.name(), range.address(), range.len()), ("a table", TABLE.as_ptr().addr(), 40));
        let slice = ProtectedRange::of("a part of it", &TABLE[1..3]);
        assert_eq!((slice.address(), slice.len()), (TABLE[1..].as_ptr().addr(), 16));
    }
}
