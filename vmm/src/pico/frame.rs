//! The trap frame: a trapped thread's registers, owned while the provider looks at them.

use crate::trap::Registers;
use std::fmt;

/// The processor state behind a frame that is fetched only when somebody asks for it.
///
/// A virtual CPU implements it; so does a plain structure, for a provider's tests without KVM.
pub trait CpuState: fmt::Debug {
    /// Bytes of the XSAVE area for the XCR0 that user mode runs with, in the standard (not compacted) format.
    fn xsave_size(&self) -> usize;
    /// The XCR0 that user mode runs with.
    fn xcr0(&self) -> u64;
    /// Copies the thread's extended state into `area`, which has [`Self::xsave_size`] bytes.
    fn save_xsave(&mut self, area: &mut [u8]);
    /// Loads the thread's extended state. The area is untrusted: reserved bits and components outside XCR0 are dropped.
    fn load_xsave(&mut self, area: &[u8]);
    /// Returns (FS base, GS base).
    fn segment_bases(&mut self) -> (u64, u64);
    /// Sets (FS base, GS base); both must be canonical.
    fn set_segment_bases(&mut self, fs: u64, gs: u64);
}

/// A trapped pico thread as its provider sees it.
#[derive(Debug)]
pub struct TrapFrame<'a> {
    /// The general registers. Changes count as [`Disposition`](super::Disposition) says.
    pub registers: Registers,
    /// State that costs something to fetch.
    pub cpu: &'a mut dyn CpuState,
}
