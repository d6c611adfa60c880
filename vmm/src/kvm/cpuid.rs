//! What CPUID answers in the guest: what ring 3 really has, less what a program must not use here.
//!
//! Hidden: AMX (its tile state does not fit KVM's XSAVE area), protection keys (the memory map knows none), WAITPKG,
//! CET and LA57, and whatever only an operating system can use. KVM's own leaves are gone: they offer a guest kernel
//! clocks and hypercalls, and there is none.
//! On kvm-pvm KVM's list lacks what its interpreter of ring 0 cannot do (XSAVE, AVX, FSGSBASE), though ring 3 runs
//! natively: there the features come from the processor.

use super::supervisor::SyscallRing;
use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use std::arch::x86_64::__cpuid_count;

/// XCR0 bits of AMX.
const AMX: u64 = 3 << 17;
/// XCR0 bit of the protection-key register.
const PKRU: u64 = 1 << 9;

/// Extended-state components that threads keep over leases and signal frames.
pub(super) fn kept_components(xcr0: u64) -> u64 {
    xcr0 & !AMX
}

/// The components that guests run with on hardware virtualization, of those KVM offers.
pub(super) fn used_components(offered: u64) -> u64 {
    offered & !AMX & !PKRU
}

/// Bits that are hidden of each feature word.
struct Hidden {
    leaf: u32,
    index: u32,
    /// EAX, EBX, ECX, EDX.
    bits: [u32; 4],
}

const HIDDEN: &[Hidden] = &[
    // MONITOR, VMX, SMX, TSC_DEADLINE; the rest of the leaf is user mode's or harmless.
    Hidden { leaf: 1, index: 0, bits: [0, 0, 1 << 3 | 1 << 5 | 1 << 6 | 1 << 24, 0] },
    // SGX. PKU, OSPKE, WAITPKG, CET_SS, LA57, SGX_LC, PKS. UINTR, CET_IBT, AMX.
    Hidden {
        leaf: 7,
        index: 0,
        bits: [
            0,
            1 << 2,
            1 << 3 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 16 | 1 << 30 | 1 << 31,
            1 << 5 | 1 << 20 | 1 << 22 | 1 << 24 | 1 << 25,
        ],
    },
    // FRED, LKGS, AMX-FP16, LAM. AMX-COMPLEX, USER_MSR, CET_SSS.
    Hidden { leaf: 7, index: 1, bits: [1 << 17 | 1 << 18 | 1 << 21 | 1 << 26, 0, 0, 1 << 8 | 1 << 15 | 1 << 18] },
    // XSAVES and XFD: an operating system's.
    Hidden { leaf: 0xd, index: 1, bits: [1 << 3 | 1 << 4, 0, 0, 0] },
    // SVM.
    Hidden { leaf: 0x8000_0001, index: 0, bits: [0, 0, 1 << 2, 0] },
];

/// Leaves that are not shown: SGX, processor trace, tiles.
const HIDDEN_LEAVES: &[u32] = &[0x12, 0x14, 0x1d, 0x1e];
/// KVM's own leaves.
const PARAVIRTUAL: std::ops::Range<u32> = 0x4000_0000..0x4001_0000;

/// Feature words that come from the processor on kvm-pvm.
const NATIVE: &[(u32, u32)] = &[(1, 0), (7, 0), (7, 1), (0xd, 0), (0xd, 1), (0x8000_0001, 0)];

/// Leaf 1, ECX: the operating system uses XSAVE.
const OSXSAVE: u32 = 1 << 27;

/// Turns KVM's list into the program's. `xcr0` is what ring 3 really runs with.
pub(super) fn program_view(
    supported: &CpuId,
    syscall: SyscallRing,
    xcr0: u64,
) -> Result<CpuId, vmm_sys_util::fam::Error> {
    let mut entries: Vec<kvm_cpuid_entry2> = supported
        .as_slice()
        .iter()
        .filter(|entry| !PARAVIRTUAL.contains(&entry.function) && !HIDDEN_LEAVES.contains(&entry.function))
        .filter(|entry| entry.function != 0xd)
        .copied()
        .collect();
    if syscall == SyscallRing::User {
        for &(leaf, index) in NATIVE {
            entries.retain(|entry| (entry.function, entry.index) != (leaf, index));
            entries.push(native(leaf, index));
        }
        entries.retain(|entry| entry.function != 0xd);
    }
    entries.extend(extended_state(supported, syscall, xcr0));
    for entry in &mut entries {
        let hidden = HIDDEN.iter().filter(|hidden| (hidden.leaf, hidden.index) == (entry.function, entry.index));
        for Hidden { bits: [eax, ebx, ecx, edx], .. } in hidden {
            entry.eax &= !eax;
            entry.ebx &= !ebx;
            entry.ecx &= !ecx;
            entry.edx &= !edx;
        }
        if entry.function == 1 && syscall == SyscallRing::User && entry.ecx & 1 << 26 != 0 {
            entry.ecx |= OSXSAVE;
        }
    }
    CpuId::from_entries(&entries)
}

/// Leaf 0xD. The sizes are those of the XCR0 that ring 3 really has, even where components are hidden: XSAVE writes them.
fn extended_state(supported: &CpuId, syscall: SyscallRing, xcr0: u64) -> Vec<kvm_cpuid_entry2> {
    let shown = kept_components(xcr0) & !PKRU;
    let source = |index| match syscall {
        SyscallRing::User => Some(native(0xd, index)),
        SyscallRing::Kernel => {
            supported.as_slice().iter().find(|entry| (entry.function, entry.index) == (0xd, index)).copied()
        }
    };
    let (Some(mut sizes), Some(mut features)) = (source(0), source(1)) else { return Vec::new() };
    sizes.eax = low(shown);
    sizes.edx = high(shown);
    if syscall == SyscallRing::User {
        sizes.ecx = sizes.ebx;
    } else {
        // KVM follows XCR0 with EBX as the guest runs; ECX is the most that XCR0 can ask for.
        let most = components(xcr0, source);
        (sizes.ebx, sizes.ecx) = (most, most);
    }
    (features.ecx, features.edx) = (0, 0);
    let parts = (2..63).filter(|index| shown >> index & 1 != 0).filter_map(source);
    [sizes, features].into_iter().chain(parts).collect()
}

/// Bytes of a standard XSAVE area with the components of `mask`.
fn components(mask: u64, leaf: impl Fn(u32) -> Option<kvm_cpuid_entry2>) -> u32 {
    let parts = (2..63).filter(|index| mask >> index & 1 != 0).filter_map(leaf);
    parts.map(|part| part.eax.saturating_add(part.ebx)).fold(512 + 64, u32::max)
}

/// Bytes of the standard XSAVE area of the components that are kept.
pub(super) fn kept_size(xcr0: u64) -> usize {
    let size = components(kept_components(xcr0), |index| Some(native(0xd, index)));
    usize::try_from(size).unwrap_or(usize::MAX)
}

fn native(leaf: u32, index: u32) -> kvm_cpuid_entry2 {
    let answer = __cpuid_count(leaf, index);
    let flags = if matches!(leaf, 7 | 0xd) { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 };
    let (eax, ebx, ecx, edx) = (answer.eax, answer.ebx, answer.ecx, answer.edx);
    kvm_cpuid_entry2 { function: leaf, index, flags, eax, ebx, ecx, edx, ..Default::default() }
}

fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or(0)
}

fn high(value: u64) -> u32 {
    low(value >> 32)
}
