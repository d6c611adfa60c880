//! Address spaces.
use super::{HostFile, MemoryError, MemoryObject};
use crate::addr::{GuestPhys, UserAddr, UserRange};
use crate::machine::SpaceSync;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

bitflags::bitflags! {
    /// What user mode may do with a page. The processor cannot forbid reading a page that may be written or executed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u8 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXEC = 4;
    }
}

/// Why an access by the monitor to user memory stopped. Bytes before `address` were transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The first address that could not be accessed.
    pub address: UserAddr,
    /// What was tried.
    pub access: Access,
    /// What stands in the way.
    pub kind: FaultKind,
}

/// What stands in the way of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The entry does not permit it: ask the memory map, which may resolve it.
    Entry,
    /// The host cannot supply the page (a truncated file, an I/O error): a bus error.
    Bus,
}

/// What an address space's entry for a page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// No frame is assigned.
    Absent,
    /// A frame is assigned; user mode may access it as the value says (`Access::empty()`: PROT_NONE).
    Mapped(Access),
    /// As `Mapped`, but a store must break the sharing first.
    CopyOnWrite(Access),
    /// The host could not supply the page.
    Bus,
}

/// A page-table root and the frames mapped in it. All ranges are page-aligned and below `USER_END` (else: a panic, a provider bug).
///
/// Operations that take rights away are complete when they return: no virtual CPU has the old translation.
#[derive(Debug)]
pub struct AddressSpace {}

#[expect(unused_variables, reason = "skeleton")]
impl AddressSpace {
    /// What virtual CPUs look at before they enter this space.
    pub(crate) fn sync(&self) -> &SpaceSync {
        todo!()
    }
    /// Makes a top-level page for one virtual CPU: its user half is this space's from now on (entries added later reach
    /// all roots), and its last entry is `supervisor`. A root that is dropped is retired with the space's next one.
    pub(crate) fn make_root(self: &Arc<Self>, supervisor: u64) -> Result<Root, MemoryError> {
        todo!()
    }
    /// Finds out why KVM could not have a frame while this space ran (a file that shrank, an I/O error) and drops the
    /// entries concerned, so that the next access faults with its address. Returns false if there was nothing to drop.
    pub(crate) fn resolve_efault(&self) -> bool {
        todo!()
    }

    /// Assigns a zero frame to every absent page of `range`, with `access`. Pages that have a frame are left alone.
    /// With `large`, blocks that lie wholly in the range get 2 MiB entries on huge host pages.
    pub fn map_anonymous(&self, range: UserRange, access: Access, large: bool) -> Result<(), MemoryError> {
        todo!()
    }
    /// Maps an object's pages from `offset`. Shared: the object's own frames. Private (`private`): copy on write.
    /// Pages wholly beyond the object's end stay absent.
    pub fn map_object(
        &self,
        range: UserRange,
        object: &Arc<MemoryObject>,
        offset: u64,
        access: Access,
        private: bool,
    ) -> Result<(), MemoryError> {
        todo!()
    }
    /// Maps a host file's pages from `offset` through the file window, shared or copy-on-write.
    /// Pages wholly beyond the file's present end stay absent.
    pub fn map_file(
        &self,
        range: UserRange,
        file: &Arc<HostFile>,
        offset: u64,
        access: Access,
        private: bool,
    ) -> Result<(), MemoryError> {
        todo!()
    }
    /// Takes all pages of the range away and gives their frames back.
    pub fn unmap(&self, range: UserRange) {
        todo!()
    }
    /// Changes what user mode may do with the range's pages; absent pages stay absent, contents stay.
    pub fn protect(&self, range: UserRange, access: Access) {
        todo!()
    }
    /// Moves the pages of `from` to `to` (which must be absent), for mremap.
    pub fn move_pages(&self, from: UserRange, to: UserAddr) -> Result<(), MemoryError> {
        todo!()
    }
    /// Gives the page's sharing up: after it the page is private (or was alone already) and writable as its access says.
    pub fn break_copy(&self, page: UserAddr) -> Result<(), MemoryError> {
        todo!()
    }
    /// Tells what the entry for the page at `addr` says.
    pub fn page_state(&self, addr: UserAddr) -> PageState {
        todo!()
    }
    /// Calls back for each run of pages in `range` that have a frame (mincore, smaps). Returns assigned bytes.
    pub fn assigned(&self, range: UserRange) -> u64 {
        todo!()
    }

    /// Copies from user memory.
    pub fn read(&self, from: UserAddr, to: &mut [u8]) -> Result<(), Fault> {
        todo!()
    }
    /// Copies to user memory.
    pub fn write(&self, to: UserAddr, from: &[u8]) -> Result<(), Fault> {
        todo!()
    }
    /// Copies to user memory ignoring write protection (a debugger's and loader's store); sharing is broken first.
    pub fn poke(&self, to: UserAddr, from: &[u8]) -> Result<(), MemoryError> {
        todo!()
    }
    /// Zeroes user memory.
    pub fn zero(&self, range: UserRange) -> Result<(), Fault> {
        todo!()
    }
    /// Atomically loads an aligned 32-bit word.
    pub fn load_u32(&self, from: UserAddr) -> Result<u32, Fault> {
        todo!()
    }
    /// Atomically replaces an aligned 32-bit word if it holds `current`; returns what it held.
    pub fn compare_exchange_u32(&self, at: UserAddr, current: u32, new: u32) -> Result<u32, Fault> {
        todo!()
    }

    /// Reads from a host descriptor straight into user pages (`preadv`, or `readv` without an offset).
    /// Returns bytes read. All pages are checked for WRITE first; `Err(IoError::Fault)` only if not one byte can be taken.
    pub fn read_from_host(&self, fd: BorrowedFd<'_>, offset: Option<u64>, to: &[UserRange]) -> Result<usize, IoError> {
        todo!()
    }
    /// Writes user pages straight to a host descriptor (`pwritev` or `writev`).
    pub fn write_to_host(&self, fd: BorrowedFd<'_>, offset: Option<u64>, from: &[UserRange]) -> Result<usize, IoError> {
        todo!()
    }
    /// Copies from an object to user pages; returns bytes copied (short at the object's end).
    pub fn read_from_object(&self, object: &MemoryObject, offset: u64, to: UserRange) -> Result<usize, IoError> {
        todo!()
    }
    /// Copies user pages into an object, which grows as needed.
    pub fn write_to_object(&self, object: &MemoryObject, offset: u64, from: UserRange) -> Result<usize, IoError> {
        todo!()
    }
}

/// Why a transfer between user pages and a host descriptor or an object moved nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoError {
    /// A user page stands in the way.
    Fault(Fault),
    /// Memory could not be had, or the host refused.
    Memory(MemoryError),
}

/// A top-level page-table page of one virtual CPU for one address space.
#[derive(Debug)]
pub(crate) struct Root {
    /// The page: what CR3 holds.
    pub(crate) page: GuestPhys,
}
