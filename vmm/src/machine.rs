//! The seam between guest memory and the virtual machine: slots go down, translation flushes go down, nothing comes up.
//!
//! `kvm` implements [`Machine`]; [`Detached`] does for memory that no processor runs on.

use crate::addr::GuestPhys;
use crate::memory::MemoryError;
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// The guest-physical addresses of the machine's own pages: trap code, descriptor tables, interrupt stacks, and the
/// tables that map them. They have slots of their own. Guest memory begins behind them.
pub(crate) const SUPERVISOR: Range<u64> = 0..1 << 28;

/// How the processor sees the page tables that the monitor edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// NPT or EPT: the processor walks them; stale entries live in its translation cache only.
    Hardware,
    /// KVM shadows them (kvm-pvm, `npt=0`, `ept=0`): stale entries live in shadow pages until something drops those.
    Shadow,
    /// No processor: nothing can be stale.
    None,
}

/// The part of an address space that virtual CPUs look at as they enter the guest.
#[derive(Debug, Default)]
pub(crate) struct SpaceSync {
    /// Counts downgrades. A virtual CPU that last entered with another value flushes before it enters.
    pub(crate) generation: AtomicU64,
    /// Counts the guards that keep virtual CPUs out. While it is not zero none enters.
    pub(crate) held: AtomicU32,
}

/// How much virtual CPUs have run, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Entries into the guest so far.
    pub(crate) entries: u64,
    /// Whether one is inside now.
    pub(crate) inside: bool,
}

/// What guest memory asks of the virtual machine beneath it.
pub(crate) trait Machine: Send + Sync + fmt::Debug {
    /// Which back end keeps translations in step.
    fn paging(&self) -> Paging;

    /// Adds a memory slot: `len` bytes at `host` appear at `guest` before the next program's instruction. Slots are never
    /// resized or deleted.
    ///
    /// # Safety
    /// The host range must stay mapped, and be used by nothing else that Rust believes to own, as long as the machine lives.
    unsafe fn add_slot(&self, guest: GuestPhys, host: NonNull<u8>, len: u64) -> Result<(), MemoryError>;

    /// Makes every virtual CPU that runs `space` leave the guest, and keeps them (and all that would enter it) out until
    /// the guard is dropped. After it, hardware translations of the space are flushed before the next guest instruction.
    fn hold_out<'a>(&'a self, space: &'a SpaceSync) -> Box<dyn EntryGuard + 'a>;

    /// How much virtual CPUs have run.
    fn activity(&self) -> Activity;

    /// Drops all shadow pages of the machine (a dummy memory slot is added and deleted).
    fn drop_shadows(&self);
}

/// A guard whose drop lets virtual CPUs in again.
pub(crate) trait EntryGuard {}

/// No machine: memory that only the monitor touches.
#[derive(Debug)]
pub(crate) struct Detached;

impl Machine for Detached {
    fn paging(&self) -> Paging {
        Paging::None
    }

    unsafe fn add_slot(&self, _guest: GuestPhys, _host: NonNull<u8>, _len: u64) -> Result<(), MemoryError> {
        Ok(())
    }

    fn hold_out<'a>(&'a self, _space: &'a SpaceSync) -> Box<dyn EntryGuard + 'a> {
        Box::new(NobodyRuns)
    }

    fn activity(&self) -> Activity {
        Activity::default()
    }

    fn drop_shadows(&self) {}
}

/// The guard of a machine without virtual CPUs.
struct NobodyRuns;

impl EntryGuard for NobodyRuns {}
