//! What CPUID answers in the guest: what ring 3 really has, less what a program must not use here.
//!
//! Hidden: AMX (its tile state does not fit KVM's XSAVE area), protection keys (the memory map knows none), WAITPKG,
//! CET and LA57, and whatever only an operating system can use. KVM's own leaves are gone: they offer a guest kernel
//! clocks and hypercalls, and there is none.
//! On kvm-pvm KVM's list lacks what its interpreter of ring 0 cannot do (XSAVE, AVX, FSGSBASE), though ring 3 runs
//! natively: there the features come from the processor. Where kvm-pvm answers CPUID itself (Intel), two fields follow the
//! registers that the guest's operating system would have set, not our list: see [`stand_in`] and [`offered_components`].

use super::supervisor::SyscallRing;
use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use std::arch::x86_64::__cpuid_count;

/// XCR0 bits of AMX.
const AMX: u64 = 3 << 17;
/// XCR0 bits of the x87, SSE and AVX registers.
const AVX: u64 = 7;
/// XCR0 bit of the protection-key register.
const PKRU: u64 = 1 << 9;

/// Extended-state components that threads keep over leases and signal frames.
pub(super) fn kept_components(xcr0: u64) -> u64 {
    xcr0 & !AMX
}

/// The components that KVM is to believe the guest has enabled on kvm-pvm, likeliest first: it answers leaf 0xD's EBX from
/// them. Ring 3 runs with the host's XCR0 whatever they are, as CR4.OSXSAVE is clear: else each entry would switch XCR0.
/// (Components of AMX are beyond KVM's XSAVE area, so it takes none of them: a program that saves *all* components of XCR0 on
/// such a processor, in place of those that leaf 0xD names, writes further than EBX says.)
pub(super) fn offered_components(xcr0: u64) -> [u64; 2] {
    [kept_components(xcr0), xcr0 & AVX]
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

/// Leaves that programs look at, for kvm-pvm, where they come from the processor. A CPUID instruction costs 4 µs where the
/// host is a virtual machine itself, so leaves that say nothing to a program are left out: they read as zeros.
const NATIVE: &[u32] = &[
    0,
    1,
    2,
    4,
    7,
    0xb,
    0x15,
    0x16,
    0x8000_0000,
    0x8000_0001,
    0x8000_0002,
    0x8000_0003,
    0x8000_0004,
    0x8000_0005,
    0x8000_0006,
    0x8000_0007,
    0x8000_0008,
    0x8000_001d,
    0x8000_001e,
];

/// The most subleaves of a leaf that are asked for.
const MOST_SUBLEAVES: u32 = 16;

/// Leaf 1, ECX: the operating system uses XSAVE.
const OSXSAVE: u32 = 1 << 27;

/// An entry of leaf 1 for KVM to write to. It keeps OSXSAVE equal to CR4's bit in the first entry that it finds for the leaf,
/// whatever that one's subleaf (kvm_update_cpuid_runtime), and CPUID answers with the first that has the right one: this has
/// a subleaf that nobody asks for, and shields the entry behind it.
fn stand_in(leaf: &kvm_cpuid_entry2) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 { index: u32::MAX, flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX, ..*leaf }
}

/// The same view on a KVM that cannot be told which components ring 3 has: no operating system uses XSAVE there, lest a
/// program takes KVM's size of the area, which is that of a processor that was just reset, for enough.
pub(super) fn without_xsave(view: &CpuId) -> Result<CpuId, vmm_sys_util::fam::Error> {
    let is_shield = |entry: &&kvm_cpuid_entry2| entry.function == 1 && entry.index == u32::MAX;
    let entries: Vec<_> = view.as_slice().iter().filter(|entry| !is_shield(entry)).copied().collect();
    CpuId::from_entries(&entries)
}

/// Composes the program's view from KVM's list or the processor's own. `xcr0` is what ring 3 really runs with.
pub(super) fn program_view(
    source: &[kvm_cpuid_entry2],
    syscall: SyscallRing,
    xcr0: u64,
) -> Result<CpuId, vmm_sys_util::fam::Error> {
    let shown = |entry: &&kvm_cpuid_entry2| {
        let leaf = entry.function;
        leaf != 0xd && !PARAVIRTUAL.contains(&leaf) && !HIDDEN_LEAVES.contains(&leaf)
    };
    let mut entries: Vec<kvm_cpuid_entry2> = source.iter().filter(shown).copied().collect();
    entries.extend(extended_state(source, syscall, xcr0));
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
    if syscall == SyscallRing::User
        && let Some(at) = entries.iter().position(|entry| entry.function == 1)
    {
        entries.insert(at, stand_in(&entries[at]));
    }
    CpuId::from_entries(&entries)
}

/// Leaf 0xD. The sizes are those of the XCR0 that ring 3 really has, even where components are hidden: XSAVE writes them.
fn extended_state(source: &[kvm_cpuid_entry2], syscall: SyscallRing, xcr0: u64) -> Vec<kvm_cpuid_entry2> {
    let shown = kept_components(xcr0) & !PKRU;
    let (Some(mut sizes), Some(mut features)) = (find(source, 0xd, 0), find(source, 0xd, 1)) else { return Vec::new() };
    sizes.eax = low(shown);
    sizes.edx = high(shown);
    if syscall == SyscallRing::User {
        sizes.ecx = sizes.ebx;
    } else {
        // KVM follows XCR0 with EBX as the guest runs; ECX is the most that XCR0 can ask for.
        let most = components(source, xcr0);
        (sizes.ebx, sizes.ecx) = (most, most);
    }
    (features.ecx, features.edx) = (0, 0);
    let parts = (2..63).filter(|index| shown >> index & 1 != 0).filter_map(|index| find(source, 0xd, index));
    [sizes, features].into_iter().chain(parts).collect()
}

fn find(source: &[kvm_cpuid_entry2], leaf: u32, index: u32) -> Option<kvm_cpuid_entry2> {
    source.iter().find(|entry| (entry.function, entry.index) == (leaf, index)).copied()
}

/// Bytes of a standard XSAVE area with the components of `mask`.
fn components(source: &[kvm_cpuid_entry2], mask: u64) -> u32 {
    let parts = (2..63).filter(|index| mask >> index & 1 != 0).filter_map(|index| find(source, 0xd, index));
    parts.map(|part| part.eax.saturating_add(part.ebx)).fold(512 + 64, u32::max)
}

/// Bytes of the standard XSAVE area of the components that are kept.
pub(super) fn kept_size(source: &[kvm_cpuid_entry2], xcr0: u64) -> usize {
    usize::try_from(components(source, kept_components(xcr0))).unwrap_or(usize::MAX)
}

/// The processor's own answers, as far as a program looks at them.
pub(super) fn native_leaves(xcr0: u64) -> Vec<kvm_cpuid_entry2> {
    let (basic, extended) = (native(0, 0), native(0x8000_0000, 0));
    let mut entries = vec![basic, extended];
    let within = |leaf: &&u32| match **leaf {
        0 | 0x8000_0000 => false,
        leaf if leaf < 0x8000_0000 => leaf <= basic.eax,
        leaf => leaf <= extended.eax,
    };
    for &leaf in NATIVE.iter().filter(within) {
        for index in 0..MOST_SUBLEAVES {
            let entry = native(leaf, index);
            let last = match leaf {
                4 | 0x8000_001d => entry.eax & 31 == 0,
                7 => index == 1 || entry.eax == 0,
                0xb => entry.ecx >> 8 & 0xff == 0,
                _ => true,
            };
            entries.push(entry);
            if last {
                break;
            }
        }
    }
    if basic.eax >= 0xd {
        entries.extend([native(0xd, 0), native(0xd, 1)]);
        let parts = (2..63).filter(|index| kept_components(xcr0) >> index & 1 != 0);
        entries.extend(parts.map(|index| native(0xd, index)));
    }
    entries
}

fn native(leaf: u32, index: u32) -> kvm_cpuid_entry2 {
    let answer = __cpuid_count(leaf, index);
    let flags = if matches!(leaf, 4 | 7 | 0xb | 0xd | 0x8000_001d) { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 };
    let (eax, ebx, ecx, edx) = (answer.eax, answer.ebx, answer.ecx, answer.edx);
    kvm_cpuid_entry2 { function: leaf, index, flags, eax, ebx, ecx, edx, ..Default::default() }
}

/// Whether the processor offers VT-x or AMD-V. A KVM without either is kvm-pvm.
pub(super) fn has_virtualization() -> bool {
    native(1, 0).ecx & 1 << 5 != 0 || native(0x8000_0001, 0).ecx & 1 << 2 != 0
}

fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or(0)
}

fn high(value: u64) -> u32 {
    low(value >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(syscall: SyscallRing) -> Vec<kvm_cpuid_entry2> {
        let all = |leaf, index| kvm_cpuid_entry2 {
            function: leaf,
            index,
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            ..Default::default()
        };
        let parts = [(2, 256, 576), (9, 8, 2688), (18, 8192, 2816)].map(|(index, size, offset)| kvm_cpuid_entry2 {
            eax: size,
            ebx: offset,
            ..all(0xd, index)
        });
        let mut source =
            vec![all(1, 0), all(7, 0), all(7, 1), all(0xd, 0), all(0xd, 1), all(0x1d, 0), all(0x4000_0001, 0)];
        source[3].ebx = 11008;
        source.extend(parts);
        program_view(&source, syscall, 0x6_0207).unwrap().as_slice().to_vec()
    }

    #[test]
    fn what_programs_must_not_use_is_hidden() {
        let view = view(SyscallRing::Kernel);
        let features = find(&view, 7, 0).unwrap();
        assert_eq!(features.ecx & (1 << 3 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 16), 0, "PKU, OSPKE, WAITPKG, CET, LA57");
        assert_eq!(features.edx & (1 << 22 | 1 << 24 | 1 << 25 | 1 << 20), 0, "AMX, IBT");
        assert_ne!(features.ebx & (1 << 5 | 1), 0, "AVX2 and FSGSBASE stay");
        assert!(find(&view, 0x1d, 0).is_none() && find(&view, 0x4000_0001, 0).is_none());
        assert!(find(&view, 0xd, 9).is_none() && find(&view, 0xd, 18).is_none());
    }

    #[test]
    fn a_stand_in_shields_leaf_1_from_kvm_on_kvm_pvm_alone() {
        let ones = |view: &[kvm_cpuid_entry2]| -> Vec<_> {
            view.iter().filter(|entry| entry.function == 1).map(|entry| (entry.index, entry.flags)).collect()
        };
        let shielded = view(SyscallRing::User);
        assert_eq!(ones(&shielded), [(u32::MAX, KVM_CPUID_FLAG_SIGNIFCANT_INDEX), (0, 0)]);
        assert_ne!(find(&shielded, 1, 0).unwrap().ecx & OSXSAVE, 0);
        assert_eq!(ones(&view(SyscallRing::Kernel)), [(0, 0)]);
        let bare = without_xsave(&CpuId::from_entries(&shielded).unwrap()).unwrap();
        assert_eq!(ones(bare.as_slice()), [(0, 0)], "KVM clears the bit in what is left");
    }

    #[test]
    fn sizes_are_those_of_the_real_xcr0() {
        let pvm = find(&view(SyscallRing::User), 0xd, 0).unwrap();
        assert_eq!((pvm.eax, pvm.ebx, pvm.ecx), (7, 11008, 11008));
        let hardware = find(&view(SyscallRing::Kernel), 0xd, 0).unwrap();
        assert_eq!((hardware.ebx, hardware.ecx), (2816 + 8192, 2816 + 8192));
    }
}
