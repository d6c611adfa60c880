//! The host side of guest-physical memory: one reserved range of the monitor's address space, `gpa = base + offset`.
//!
//! The range is divided into *extents* of 2 MiB. It is reserved without access and made usable in steps, as memory slots
//! are added. Every host system call on guest memory (`mmap`, `mprotect`, `madvise`) is made here.

use super::MemoryError;
use crate::addr::{BLOCK_SIZE, GuestPhys, PAGE_SIZE};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

/// Frames in an extent, entries in a table.
pub(crate) const FRAMES: u32 = 512;
/// The guest-physical address of the arena's first byte: above the legacy holes and KVM's own low slots.
const GUEST_BASE: u64 = 1 << 32;
/// The frame number of the arena's first frame.
const FIRST_FRAME: u32 = 1 << 20;

/// A frame: a guest-physical page number. Frame 0 lies below the arena and stands for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Frame(pub(crate) u32);

impl Frame {
    /// The guest-physical address of its first byte.
    pub(crate) fn phys(self) -> GuestPhys {
        GuestPhys(u64::from(self.0) * PAGE_SIZE)
    }

    /// The frame `count` further on.
    pub(crate) fn add(self, count: u32) -> Self {
        Self(self.0 + count)
    }

    /// The extent it lies in.
    pub(crate) fn extent(self) -> u32 {
        (self.0 - FIRST_FRAME) / FRAMES
    }

    /// Its place in its extent.
    pub(crate) fn slot(self) -> u32 {
        self.0 % FRAMES
    }

    /// The frame at `slot` of an extent.
    pub(crate) fn at(extent: u32, slot: u32) -> Self {
        Self(FIRST_FRAME + extent * FRAMES + slot)
    }
}

/// A page table as the monitor sees it.
pub(crate) type Table = [AtomicU64; 512];

/// The reserved range.
#[derive(Debug)]
pub(crate) struct Arena {
    reserved: NonNull<u8>,
    reserved_len: usize,
    base: NonNull<u8>,
    extents: u32,
}

// SAFETY: the range belongs to this value alone and is only touched through `raw`, atomics and system calls.
unsafe impl Send for Arena {}
// SAFETY: as above; no method hands out a reference to non-atomic memory.
unsafe impl Sync for Arena {}

impl Arena {
    /// Reserves room for `extents` extents. Nothing is usable before [`Arena::open`].
    pub(crate) fn reserve(extents: u32) -> Result<Self, MemoryError> {
        let bytes = usize_of((u64::from(extents) + 1) * BLOCK_SIZE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(MemoryError::HostExhausted);
        }
        let reserved = NonNull::new(start.cast::<u8>()).ok_or(MemoryError::HostExhausted)?;
        // Touching one page of a small extent must not commit 2 MiB where the host's default is `always`.
        // SAFETY: the mapping made above.
        unsafe { libc::madvise(start, bytes, libc::MADV_NOHUGEPAGE) };
        let skip = reserved.align_offset(usize_of(BLOCK_SIZE));
        // SAFETY: one extent more than needed was reserved, so the aligned base is inside.
        let base = unsafe { reserved.add(skip) };
        Ok(Self { reserved, reserved_len: bytes, base, extents })
    }

    /// Extents there is room for.
    pub(crate) fn extents(&self) -> u32 {
        self.extents
    }

    /// Makes `count` extents from `first` readable and writable.
    pub(crate) fn open(&self, first: u32, count: u32) -> Result<(), MemoryError> {
        let (start, bytes) = self.span(Frame::at(first, 0), count * FRAMES);
        // SAFETY: the span lies in the reservation and holds nothing yet.
        let result = unsafe { libc::mprotect(start.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) };
        if result == 0 { Ok(()) } else { Err(MemoryError::HostExhausted) }
    }

    /// The host address of a frame.
    pub(crate) fn host(&self, frame: Frame) -> *mut u8 {
        self.span(frame, 1).0
    }

    /// The host address of an extent's first byte, for a memory slot.
    pub(crate) fn slot_base(&self, extent: u32) -> NonNull<u8> {
        NonNull::new(self.host(Frame::at(extent, 0))).unwrap_or(self.base)
    }

    /// A page-table page.
    pub(crate) fn table(&self, frame: Frame) -> &Table {
        let at = self.host(frame).cast::<Table>();
        // SAFETY: page-aligned memory of this arena that lives as long as `self`; atomics allow the sharing with KVM.
        unsafe { &*at }
    }

    /// Gives the host memory of frames back: they read as zeros afterwards.
    pub(crate) fn discard(&self, frame: Frame, count: u32) {
        let (start, bytes) = self.span(frame, count);
        // SAFETY: the span is guest memory of this arena whose contents the caller gives up.
        let result = unsafe { libc::madvise(start.cast(), bytes, libc::MADV_DONTNEED) };
        assert_eq!(result, 0, "MADV_DONTNEED fails only for ranges that are not mapped, or locked");
    }

    /// Asks for huge host pages under extents.
    pub(crate) fn advise_huge(&self, first: u32, count: u32) {
        let (start, bytes) = self.span(Frame::at(first, 0), count * FRAMES);
        // SAFETY: the span is memory of this arena. A refusal (a host without huge pages) only costs speed.
        unsafe { libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE) };
    }

    /// Asks for huge host pages under an extent no longer.
    pub(crate) fn advise_small(&self, extent: u32) {
        let (start, bytes) = self.span(Frame::at(extent, 0), FRAMES);
        // SAFETY: the span is memory of this arena. A refusal (a host out of mappings) only costs memory.
        unsafe { libc::madvise(start.cast(), bytes, libc::MADV_NOHUGEPAGE) };
    }

    /// Makes KVM forget its translations of frames: execute permission is given to the host mapping and taken back, which
    /// never makes it unreadable or unwritable meanwhile. Returns whether the host allowed it.
    pub(crate) fn zap(&self, frame: Frame, count: u32, protection: i32) -> bool {
        let (start, bytes) = self.span(frame, count);
        // SAFETY: the span is memory of this arena; nothing of the monitor ever jumps there.
        let there = unsafe { libc::mprotect(start.cast(), bytes, protection | libc::PROT_EXEC) };
        if there != 0 {
            return false;
        }
        // SAFETY: as above; back to what it was.
        let back = unsafe { libc::mprotect(start.cast(), bytes, protection) };
        back == 0
    }

    /// Maps 2 MiB of a host file at `offset` over an extent, shared.
    pub(crate) fn map_file(
        &self,
        extent: u32,
        fd: BorrowedFd<'_>,
        offset: u64,
        protection: i32,
    ) -> Result<(), MemoryError> {
        let (start, bytes) = self.span(Frame::at(extent, 0), FRAMES);
        let offset = libc::off_t::try_from(offset).map_err(|_| MemoryError::Io(libc::EOVERFLOW))?;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        // SAFETY: replaces one extent of this arena that the caller owns.
        let at = unsafe { libc::mmap(start.cast(), bytes, protection, flags, fd.as_raw_fd(), offset) };
        if at == libc::MAP_FAILED { Err(host_error()) } else { Ok(()) }
    }

    /// Replaces whatever an extent maps by fresh anonymous memory.
    pub(crate) fn map_fresh(&self, extent: u32) -> Result<(), MemoryError> {
        let (start, bytes) = self.span(Frame::at(extent, 0), FRAMES);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: replaces one extent of this arena that the caller owns.
        let at = unsafe { libc::mmap(start.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(host_error());
        }
        // SAFETY: the mapping made above.
        unsafe { libc::madvise(start.cast(), bytes, libc::MADV_NOHUGEPAGE) };
        Ok(())
    }

    /// Asks the host for the page behind a frame; an error says that it has none (a file that shrank, no memory).
    pub(crate) fn populate(&self, frame: Frame, advice: i32) -> bool {
        let (start, bytes) = self.span(frame, 1);
        // SAFETY: populating changes no contents.
        unsafe { libc::madvise(start.cast(), bytes, advice) == 0 }
    }

    fn span(&self, frame: Frame, count: u32) -> (*mut u8, usize) {
        let first = u64::from(frame.0 - FIRST_FRAME);
        assert!(
            first + u64::from(count) <= u64::from(self.extents) * u64::from(FRAMES),
            "frames outside the arena are never handed out"
        );
        // SAFETY: checked above to lie inside the reservation.
        let start = unsafe { self.base.add(usize_of(first * PAGE_SIZE)) };
        (start.as_ptr(), usize_of(u64::from(count) * PAGE_SIZE))
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the reservation belongs to this value; references to it were borrowed from `self`.
        unsafe { libc::munmap(self.reserved.as_ptr().cast(), self.reserved_len) };
    }
}

/// Turns the last host error into ours.
pub(crate) fn host_error() -> MemoryError {
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::ENOMEM | libc::ENFILE | libc::EMFILE) | None => MemoryError::HostExhausted,
        Some(number) => MemoryError::Io(number),
    }
}

/// Widens or narrows losslessly: the monitor is a 64-bit program.
pub(crate) const fn usize_of(value: u64) -> usize {
    const { assert!(usize::BITS == 64, "the monitor runs on 64-bit hosts only") };
    #[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits, asserted above")]
    {
        value as usize
    }
}

const _: () = assert!(GUEST_BASE == FIRST_FRAME as u64 * PAGE_SIZE);
