//! Addresses with their kind in the type, so that a user address is never mistaken for a guest-physical one.

use std::fmt;

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;
/// Bytes in a large page, and in the virtual blocks by which frames are assigned.
pub const BLOCK_SIZE: u64 = 2 << 20;
/// One past the highest address a program may map: 47 bits, less the last page, as on Linux.
pub const USER_END: u64 = (1 << 47) - PAGE_SIZE;

/// An address in a program's address space. Holding one proves nothing: it may be unmapped, misaligned or not canonical.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct UserAddr(pub u64);

impl UserAddr {
    /// Adds `bytes`, or returns `None` where the sum wraps.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }

    /// Rounds down to a page.
    pub fn page(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }

    /// Rounds up to a page, or returns `None` where that wraps.
    pub fn page_up(self) -> Option<Self> {
        self.checked_add(PAGE_SIZE - 1).map(Self::page)
    }

    /// Tells whether this is the first byte of a page.
    pub fn is_page_aligned(self) -> bool {
        self.0.is_multiple_of(PAGE_SIZE)
    }
}

impl fmt::Debug for UserAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A half-open range of user addresses, `start <= end`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserRange {
    /// The first address.
    pub start: UserAddr,
    /// One past the last address.
    pub end: UserAddr,
}

impl UserRange {
    /// Makes the range of `len` bytes at `start`, or `None` where it wraps.
    pub fn new(start: UserAddr, len: u64) -> Option<Self> {
        Some(Self { start, end: start.checked_add(len)? })
    }

    /// Bytes in the range.
    pub fn len(self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Tells whether the range holds no byte.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Tells whether `addr` lies in the range.
    pub fn contains(self, addr: UserAddr) -> bool {
        self.start <= addr && addr < self.end
    }

    /// Tells whether the two ranges share a byte.
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Returns the bytes both ranges share, if any.
    pub fn intersect(self, other: Self) -> Option<Self> {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        (start < end).then_some(Self { start, end })
    }
}

impl fmt::Debug for UserRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start.0, self.end.0)
    }
}

/// A guest-physical address: an offset into the virtual machine's memory slots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct GuestPhys(pub u64);

impl fmt::Debug for GuestPhys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gpa:{:#x}", self.0)
    }
}
