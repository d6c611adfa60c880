//! Extended state (x87, SSE, AVX, AVX-512) of the thread on a virtual CPU: fetched and loaded only when somebody asks.

use crate::pico::reset_area;
use kvm_bindings::kvm_xsave;
use kvm_ioctls::{Error, VcpuFd};

/// Bytes KVM exchanges. Components beyond them are not kept (AMX, which CPUID hides).
const KVM_AREA: usize = 4096;
/// Where the XSAVE header lies: XSTATE_BV, XCOMP_BV, 48 reserved bytes.
const HEADER: usize = 512;
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
/// Where XMM0 to XMM15 lie.
const XMM: usize = 160;
/// The header's bit for MXCSR's registers.
const SSE: u8 = 2;

/// Which extended state threads have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Components kept, as XCR0 bits.
    pub(super) components: u64,
    /// Bytes of the standard area with these components.
    pub(super) size: usize,
}

impl Layout {
    /// Limits what the processor has to what KVM exchanges.
    pub(super) fn new(components: u64, size: usize) -> Self {
        if size <= KVM_AREA { Self { components, size } } else { Self { components: components & 7, size: 832 } }
    }
}

/// Copies the state of a virtual CPU's thread to `area`.
pub(super) fn save(vcpu: &VcpuFd, layout: Layout, area: &mut [u8]) -> Result<(), Error> {
    let state = vcpu.get_xsave()?;
    let words = state.region.iter().flat_map(|word| word.to_le_bytes());
    area.iter_mut().zip(words).for_each(|(to, from)| *to = from);
    if let Some(header) = area.get_mut(HEADER..HEADER + 64) {
        mask_word(header, layout.components);
        header[8..].fill(0);
    }
    Ok(())
}

/// Loads the state of a virtual CPU's thread. The area is untrusted: what the processor would refuse is dropped.
pub(super) fn load(vcpu: &VcpuFd, layout: Layout, area: &[u8]) -> Result<(), Error> {
    let mut bytes = [0_u8; KVM_AREA];
    let taken = area.len().min(layout.size);
    bytes[..taken].copy_from_slice(&area[..taken]);
    let known = u32::from_le_bytes(word4(&bytes, MXCSR_MASK));
    // A mask of 0 stands for the original one (SDM volume 1, 11.6.6).
    let mask = if known == 0 { 0xffbf } else { known & 0xffff };
    let mxcsr = u32::from_le_bytes(word4(&bytes, MXCSR)) & mask;
    bytes[MXCSR..MXCSR + 4].copy_from_slice(&mxcsr.to_le_bytes());
    mask_word(&mut bytes[HEADER..], layout.components);
    if bytes[HEADER] & SSE == 0 {
        // XRSTOR takes MXCSR from the area even so; KVM (since Linux 6.2) only with the registers.
        bytes[XMM..XMM + 256].fill(0);
        bytes[HEADER] |= SSE;
    }
    bytes[HEADER + 8..HEADER + 64].fill(0);
    let mut state = kvm_xsave::default();
    for (word, from) in state.region.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_le_bytes([from[0], from[1], from[2], from[3]]);
    }
    // SAFETY: the structure is the 4,096 bytes that KVM reads: no dynamic component is enabled.
    unsafe { vcpu.set_xsave(&state) }
}

/// Puts the state back to what it is after reset.
pub(super) fn reset(vcpu: &VcpuFd, layout: Layout) -> Result<(), Error> {
    load(vcpu, layout, &reset_area(layout.size))
}

fn mask_word(bytes: &mut [u8], mask: u64) {
    for (byte, keep) in bytes.iter_mut().zip(mask.to_le_bytes()) {
        *byte &= keep;
    }
}

fn word4(bytes: &[u8], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}
