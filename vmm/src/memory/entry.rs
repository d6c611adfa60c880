//! Page-table entries: the processor's bits, and ours in those that it ignores.

use super::Access;
use super::arena::Frame;
use crate::addr::PAGE_SIZE;
use std::sync::atomic::{AtomicU64, Ordering};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// A store must break the sharing first.
const COPY: u64 = 1 << 9;
/// The entry holds a frame, also while it is not present (PROT_NONE).
const HELD: u64 = 1 << 10;
/// The host could not supply the page.
const BUS: u64 = 1 << 11;
/// The page is compressed: where a frame would stand is its number in the store. Not present, no frame.
const PACKED: u64 = 1 << 8;
/// The page did not get smaller when it was last tried, so the next time passes it over.
const STUBBORN: u64 = 1 << 55;
/// Three bits: what user mode may do ([`Access`]), whatever copy on write and the processor's bits say.
const ACCESS_SHIFT: u32 = 52;
const ADDRESS: u64 = ((1 << 52) - 1) & !(PAGE_SIZE - 1);

/// Who else has the frame of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Nobody, or all who have it see each other's stores.
    Plain,
    /// Others, who must not see this space's stores.
    CopyOnWrite,
}

/// An entry of a page table, at any level. Accessed and dirty are preset: KVM prefetches clean entries read-only, which
/// makes a first store cost 7–8 µs instead of 2. So neither carries information.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u64);

impl Entry {
    /// No frame, no table.
    pub(crate) const EMPTY: Self = Self(0);
    /// A page that the host could not supply.
    pub(crate) const BUS: Self = Self(BUS);

    /// Makes an entry that points to a table.
    pub(crate) fn table(frame: Frame) -> Self {
        Self(frame.phys().0 | PRESENT | WRITABLE | USER | ACCESSED)
    }

    /// Makes a 4 KiB leaf.
    pub(crate) fn leaf(frame: Frame, access: Access, sharing: Sharing) -> Self {
        let sharing = if sharing == Sharing::CopyOnWrite { COPY } else { 0 };
        Self(frame.phys().0 | HELD | sharing).with_access(access)
    }

    /// Makes a 2 MiB leaf; `frame` is an extent's first.
    pub(crate) fn large_leaf(frame: Frame, access: Access) -> Self {
        Self(frame.phys().0 | HELD | LARGE).with_access(access)
    }

    /// Makes the entry of a compressed page.
    pub(crate) fn packed(number: u32, access: Access) -> Self {
        Self((u64::from(number) * PAGE_SIZE) | PACKED | (u64::from(access.bits()) << ACCESS_SHIFT))
    }

    /// The same contents with other rights.
    pub(crate) fn with_access(self, access: Access) -> Self {
        if let Some(number) = self.packed_number() {
            return Self::packed(number, access);
        }
        let mut bits = self.0 & (ADDRESS | HELD | COPY | LARGE);
        bits |= u64::from(access.bits()) << ACCESS_SHIFT;
        if !access.is_empty() {
            bits |= PRESENT | USER | ACCESSED | DIRTY;
        }
        if access.contains(Access::WRITE) && bits & COPY == 0 {
            bits |= WRITABLE;
        }
        if !access.contains(Access::EXEC) {
            bits |= NO_EXECUTE;
        }
        Self(bits)
    }

    /// The same frame, shared from now on: a store must break the sharing first.
    ///
    /// A page that is likely to be stored to starts as not accessed, so that whoever breaks the sharing knows whether a
    /// processor can have seen it at all ([`Self::is_seen`]).
    pub(crate) fn shared(self) -> Self {
        let likely = if self.access().contains(Access::WRITE) { ACCESSED } else { 0 };
        Self((self.0 | COPY) & !WRITABLE & !likely)
    }

    /// The same frame, which nobody else has any more.
    pub(crate) fn unshared(self) -> Self {
        Self(self.0 & !COPY).with_access(self.access())
    }

    /// Tells whether a processor may have used it. False is certain only for what was swapped out of the table.
    pub(crate) fn is_seen(self) -> bool {
        self.0 & (PRESENT | ACCESSED) == PRESENT | ACCESSED
    }

    /// The `slot`-th 4 KiB piece of a 2 MiB leaf.
    pub(crate) fn piece(self, slot: u32) -> Self {
        Self(self.0 & !LARGE & !ADDRESS | self.frame().add(slot).phys().0)
    }

    /// The frame that it points to (a leaf's, or a table's).
    pub(crate) fn frame(self) -> Frame {
        #[expect(clippy::cast_possible_truncation, reason = "the arena ends below 2^44, as do numbers in the store")]
        Frame(((self.0 & ADDRESS) / PAGE_SIZE) as u32)
    }

    /// What user mode may do with a leaf's page, once sharing is broken.
    pub(crate) fn access(self) -> Access {
        #[expect(clippy::cast_possible_truncation, reason = "bits that Access does not know are dropped")]
        Access::from_bits_truncate((self.0 >> ACCESS_SHIFT) as u8)
    }

    /// The same leaf, not present although its access is not empty: a touch shows as a fault.
    pub(crate) fn watched(self) -> Self {
        Self(self.0 & !PRESENT)
    }

    /// The same leaf after its page did not get smaller.
    pub(crate) fn stubborn(self) -> Self {
        Self(self.0 | STUBBORN)
    }

    /// Tells whether its page did not get smaller when it was last tried.
    pub(crate) fn is_stubborn(self) -> bool {
        self.0 & STUBBORN != 0
    }

    /// Tries its page again from now on.
    pub(crate) fn forget_stubborn(slot: &AtomicU64) {
        slot.fetch_and(!STUBBORN, Ordering::AcqRel);
    }

    /// Tells whether it is a leaf that is not present only so that a touch shows.
    pub(crate) fn is_watched(self) -> bool {
        self.0 & (HELD | PRESENT) == HELD && !self.access().is_empty()
    }

    /// A watched leaf made present again; any other entry as it is.
    pub(crate) fn roused(self) -> Self {
        if self.is_watched() { Self(self.0 | PRESENT) } else { self }
    }

    /// Makes a watched leaf present again in its table. An upgrade: nobody has to be told, and others may do the same.
    pub(crate) fn rouse(slot: &AtomicU64) {
        slot.fetch_or(PRESENT, Ordering::AcqRel);
    }

    /// The number in the store of a page that is compressed.
    pub(crate) fn packed_number(self) -> Option<u32> {
        let is_packed = self.0 & (PRESENT | HELD | PACKED) == PACKED;
        is_packed.then(|| self.frame().0)
    }

    /// Tells whether there is a page behind it: in a frame, or compressed.
    pub(crate) fn has_contents(self) -> bool {
        self.is_leaf() || self.packed_number().is_some()
    }

    /// Tells whether it is zero.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Tells whether the processor may use it.
    pub(crate) fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// Tells whether the processor permits stores.
    pub(crate) fn is_writable(self) -> bool {
        self.0 & WRITABLE != 0
    }

    /// Tells whether it is a leaf, present or not.
    pub(crate) fn is_leaf(self) -> bool {
        self.0 & HELD != 0
    }

    /// Tells whether it is a 2 MiB leaf.
    pub(crate) fn is_large(self) -> bool {
        self.0 & (HELD | LARGE) == HELD | LARGE
    }

    /// Tells whether it points to a table.
    pub(crate) fn is_table(self) -> bool {
        self.0 & (PRESENT | HELD) == PRESENT
    }

    /// Tells whether a store must break sharing first.
    pub(crate) fn is_copy_on_write(self) -> bool {
        self.0 & COPY != 0
    }

    /// Tells whether the host could not supply the page.
    pub(crate) fn is_bus(self) -> bool {
        self.0 & (BUS | HELD) == BUS
    }

    /// Tells whether a processor that still has `self` may do something that `new` forbids, or reaches another frame.
    pub(crate) fn outlives(self, new: Self) -> bool {
        if !self.is_present() {
            return false;
        }
        !new.is_present()
            || self.frame() != new.frame()
            || self.is_table() != new.is_table()
            || self.is_large() != new.is_large()
            || (self.is_writable() && !new.is_writable())
            || (self.0 & NO_EXECUTE == 0 && new.0 & NO_EXECUTE != 0)
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "entry:{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame = Frame((1 << 20) + 512);

    #[test]
    fn access_and_frame_survive_every_form() {
        for bits in 0..8 {
            let access = Access::from_bits_truncate(bits);
            for sharing in [Sharing::Plain, Sharing::CopyOnWrite] {
                let entry = Entry::leaf(FRAME, access, sharing);
                assert_eq!(entry.access(), access);
                assert_eq!(entry.frame(), FRAME);
                assert_eq!(entry.is_present(), !access.is_empty());
                assert_eq!(entry.is_writable(), access.contains(Access::WRITE) && sharing == Sharing::Plain);
                assert!(entry.is_leaf() && !entry.is_large() && !entry.is_table() && !entry.is_bus());
                assert_eq!(entry.with_access(Access::empty()).with_access(access), entry);
            }
        }
    }

    #[test]
    fn pieces_of_a_large_leaf_are_small_leaves_of_its_frames() {
        let access = Access::READ | Access::WRITE;
        let large = Entry::large_leaf(FRAME, access);
        assert_eq!(large.piece(7), Entry::leaf(FRAME.add(7), access, Sharing::Plain));
    }

    #[test]
    fn sharing_takes_the_right_to_store_and_giving_it_up_brings_it_back() {
        for bits in 0..8 {
            let access = Access::from_bits_truncate(bits);
            let entry = Entry::leaf(FRAME, access, Sharing::Plain);
            let shared = entry.shared();
            assert!(shared.is_copy_on_write() && !shared.is_writable());
            assert_eq!(shared.access(), access);
            assert_eq!(shared.is_seen(), shared.is_present() && !access.contains(Access::WRITE));
            assert_eq!(shared.unshared(), entry);
        }
        let large = Entry::large_leaf(FRAME, Access::READ | Access::WRITE);
        assert!(large.shared().is_large() && large.shared().piece(3).is_copy_on_write());
        assert_eq!(large.shared().unshared(), large);
    }

    #[test]
    fn a_compressed_page_keeps_its_number_and_rights_and_is_nothing_else() {
        for bits in 0..8 {
            let access = Access::from_bits_truncate(bits);
            for number in [0, 1, 77, u32::MAX] {
                let entry = Entry::packed(number, Access::all()).with_access(access);
                assert_eq!((entry.packed_number(), entry.access()), (Some(number), access));
                assert!(!entry.is_present() && !entry.is_leaf() && !entry.is_table() && !entry.is_bus());
                assert!(!entry.is_large() && !entry.is_empty() && !entry.is_watched() && !entry.is_copy_on_write());
            }
            let leaf = Entry::leaf(FRAME, access, Sharing::Plain);
            assert_eq!(leaf.packed_number(), None);
        }
        assert_eq!(Entry::EMPTY.packed_number(), None);
        assert_eq!(Entry::BUS.packed_number(), None);
        assert_eq!(Entry::table(FRAME).packed_number(), None);
    }

    #[test]
    fn a_watched_leaf_is_absent_for_the_processor_and_else_as_it_was() {
        for entry in [
            Entry::leaf(FRAME, Access::READ | Access::WRITE, Sharing::Plain),
            Entry::leaf(FRAME, Access::READ | Access::WRITE, Sharing::CopyOnWrite),
            Entry::large_leaf(FRAME, Access::all()),
        ] {
            let watched = entry.watched();
            assert!(watched.is_watched() && watched.is_leaf() && !watched.is_present() && !watched.is_table());
            assert_eq!((watched.frame(), watched.access()), (entry.frame(), entry.access()));
            assert!(entry.outlives(watched) && !watched.outlives(entry));
            let slot = AtomicU64::new(watched.0);
            Entry::rouse(&slot);
            assert_eq!(Entry(slot.into_inner()), entry);
        }
        let closed = Entry::leaf(FRAME, Access::empty(), Sharing::Plain);
        assert!(!closed.is_watched());
    }

    #[test]
    fn only_lost_rights_outlive() {
        let all = Entry::leaf(FRAME, Access::all(), Sharing::Plain);
        let read = all.with_access(Access::READ);
        assert!(all.outlives(read) && !read.outlives(all));
        assert!(all.outlives(Entry::EMPTY) && !Entry::EMPTY.outlives(all));
        assert!(!all.with_access(Access::empty()).outlives(Entry::EMPTY));
        assert!(read.outlives(Entry::leaf(FRAME.add(1), Access::READ, Sharing::Plain)));
    }
}
