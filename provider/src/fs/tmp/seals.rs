//! Seals of in-memory files (F_ADD_SEALS, memfd_create(2)): what nobody can do with the contents any more.
//!
//! Every file of a tmpfs starts with the seal that forbids seals, as on Linux; memfd_create may start one without.

use crate::errno::Errno;
use crate::sync::{Mutex, MutexGuard, Rank};
use vmm::addr::PAGE_SIZE;

bitflags::bitflags! {
    /// F_SEAL_*.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Seals: u32 {
        /// No more seals.
        const SEAL = 0x1;
        /// It gets no smaller.
        const SHRINK = 0x2;
        /// It gets no larger.
        const GROW = 0x4;
        /// It is not written.
        const WRITE = 0x8;
        /// It is not written but through the mappings there are.
        const FUTURE_WRITE = 0x10;
        /// It does not become executable or stop being so.
        const EXEC = 0x20;
        /// Either of the two against writing.
        const UNWRITABLE = 0x18;
    }
}

/// The seals of one file.
#[derive(Debug)]
pub(super) struct Sealing {
    /// Held while a mapping that can write is made, so that F_SEAL_WRITE does not miss one.
    seals: Mutex<Seals>,
}

impl Default for Sealing {
    fn default() -> Self {
        Self { seals: Mutex::new(Rank::InodeChild, Seals::SEAL) }
    }
}

impl Sealing {
    /// The seals, which stay as they are while this is held.
    pub(super) fn lock(&self) -> MutexGuard<'_, Seals> {
        self.seals.lock()
    }

    /// The seals.
    pub(super) fn get(&self) -> Seals {
        *self.lock()
    }

    /// Sets what a new file starts with.
    pub(super) fn start_with(&self, seals: Seals) {
        *self.lock() = seals;
    }

    /// Adds seals to a file with these permission bits (memfd_add_seals in mm/memfd.c). `is_mapped` tells whether a shared mapping
    /// of the file is, or may become, writable.
    pub(super) fn add(&self, mut more: Seals, mode: u32, is_mapped: &dyn Fn() -> bool) -> Result<(), Errno> {
        let mut seals = self.lock();
        if seals.contains(Seals::SEAL) {
            return Err(Errno::EPERM);
        }
        if more.contains(Seals::WRITE) && !seals.contains(Seals::WRITE) && is_mapped() {
            return Err(Errno::EBUSY);
        }
        // What is sealed executable must not change either.
        if more.contains(Seals::EXEC) && mode & 0o111 != 0 {
            more |= Seals::SHRINK | Seals::GROW | Seals::UNWRITABLE;
        }
        *seals |= more;
        Ok(())
    }

    /// Checks a change of size.
    pub(super) fn check_size(&self, old: u64, new: u64) -> Result<(), Errno> {
        let seals = self.get();
        let sealed = (new < old && seals.contains(Seals::SHRINK)) || (new > old && seals.contains(Seals::GROW));
        if sealed { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// The bytes that may be written of `len` at `offset` in a file of `size` bytes. Linux writes page by page, so a write over the
    /// end of a file that must not grow gets as far as the last whole page.
    pub(super) fn writable(&self, offset: u64, len: u64, size: u64) -> Result<u64, Errno> {
        let seals = self.get();
        if seals.intersects(Seals::UNWRITABLE) {
            return Err(Errno::EPERM);
        }
        let end = offset.saturating_add(len);
        if !seals.contains(Seals::GROW) || end <= size {
            return Ok(len);
        }
        match (size - size % PAGE_SIZE).saturating_sub(offset) {
            0 => Err(Errno::EPERM),
            room => Ok(room),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_over_the_end_of_what_must_not_grow_stops_at_a_page() {
        let sealing = Sealing::default();
        sealing.start_with(Seals::GROW);
        assert_eq!(sealing.writable(0, 100, 100), Ok(100));
        assert_eq!(sealing.writable(0, 101, 100), Err(Errno::EPERM));
        assert_eq!(sealing.writable(10, 9000, 8200), Ok(8182));
        assert_eq!(sealing.writable(8192, 9, 8200), Err(Errno::EPERM));
    }

    #[test]
    fn seals_are_added_in_linux_order() {
        let sealing = Sealing::default();
        assert_eq!(sealing.add(Seals::WRITE, 0o666, &|| false), Err(Errno::EPERM));
        sealing.start_with(Seals::empty());
        assert_eq!(sealing.add(Seals::WRITE, 0o666, &|| true), Err(Errno::EBUSY));
        assert_eq!(sealing.add(Seals::EXEC, 0o777, &|| true), Ok(()));
        assert_eq!(sealing.get(), Seals::all().difference(Seals::SEAL));
    }
}
