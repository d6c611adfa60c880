//! The trap frame: a trapped thread's registers, owned while the provider looks at them.

use crate::trap::{DebugRegisters, Registers};
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
    /// Puts the extended state back to what it is after reset (exec).
    fn reset_xsave(&mut self);
    /// Returns (FS base, GS base).
    fn segment_bases(&mut self) -> (u64, u64);
    /// Sets (FS base, GS base); both must be canonical.
    fn set_segment_bases(&mut self, fs: u64, gs: u64);
    /// Whether debug registers make a thread trap; on kvm-pvm they are kept and do nothing.
    fn traps_at_addresses(&self) -> bool;
    /// Sets where the thread traps with [`Vector::DEBUG`](crate::trap::Vector::DEBUG); addresses must be in the user half.
    fn set_debug_registers(&mut self, registers: &DebugRegisters);
    /// Returns what DR6 has gathered since it was last asked: which of the four trapped, and whether a step did.
    fn take_debug_status(&mut self) -> u64;
}

/// A trapped pico thread as its provider sees it.
#[derive(Debug)]
pub struct TrapFrame<'a> {
    /// The general registers. Changes count as [`Disposition`](super::Disposition) says.
    pub registers: Registers,
    /// State that costs something to fetch.
    pub cpu: &'a mut dyn CpuState,
}

/// The state of a thread that no processor runs, for a provider's tests: an XSAVE area of x87 and SSE, and two bases.
#[derive(Clone, Debug)]
pub struct DetachedCpu {
    xsave: Vec<u8>,
    fs: u64,
    gs: u64,
    debug: DebugRegisters,
}

impl Default for DetachedCpu {
    fn default() -> Self {
        Self { xsave: reset_area(LEGACY_XSAVE), fs: 0, gs: 0, debug: DebugRegisters::default() }
    }
}

/// Bytes of an XSAVE area without extended components: the FXSAVE image and the header.
const LEGACY_XSAVE: usize = 512 + 64;

/// The standard XSAVE area of a processor after reset: FCW 0x37f, MXCSR 0x1f80, all else zero (SDM volume 1, 13.6), with
/// x87 and SSE marked as present, so that both words are loaded and not kept.
pub(crate) fn reset_area(size: usize) -> Vec<u8> {
    let mut area = vec![0; size];
    area[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
    area[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
    area[512] = 3;
    area
}

impl CpuState for DetachedCpu {
    fn xsave_size(&self) -> usize {
        self.xsave.len()
    }
    fn xcr0(&self) -> u64 {
        3
    }
    fn save_xsave(&mut self, area: &mut [u8]) {
        area.copy_from_slice(&self.xsave);
    }
    fn load_xsave(&mut self, area: &[u8]) {
        self.xsave.copy_from_slice(area);
    }
    fn reset_xsave(&mut self) {
        self.xsave = reset_area(LEGACY_XSAVE);
    }
    fn segment_bases(&mut self) -> (u64, u64) {
        (self.fs, self.gs)
    }
    fn set_segment_bases(&mut self, fs: u64, gs: u64) {
        (self.fs, self.gs) = (fs, gs);
    }
    fn traps_at_addresses(&self) -> bool {
        false
    }
    fn set_debug_registers(&mut self, registers: &DebugRegisters) {
        self.debug = *registers;
    }
    fn take_debug_status(&mut self) -> u64 {
        0
    }
}
