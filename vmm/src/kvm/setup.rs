//! What a virtual CPU is given once, when it is made: CPUID, control and model-specific registers, the time-stamp counter.

use super::cpuid;
use super::probe::Flavour;
use super::supervisor::{SyscallRing, TSS_LIMIT};
use crate::addr::GuestPhys;
use guest::layout;
use kvm_bindings::{
    CpuId, KVM_MP_STATE_RUNNABLE, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, Msrs, kvm_device_attr, kvm_dtable,
    kvm_mp_state, kvm_msr_entry, kvm_segment, kvm_sregs, kvm_xcr, kvm_xcrs,
};
use kvm_ioctls::{Error, VcpuFd};
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

// kvm-ioctls has this call for virtual CPUs of other architectures only.
ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, kvm_bindings::KVMIO, 0xe1, kvm_device_attr);

/// Control register bits, by the names of the Intel SDM (volume 3, 2.5).
mod cr {
    pub(super) const CR0: u64 = 0x8005_0033; // PG, AM, WP, NE, ET, MP, PE
    pub(super) const OSFXSR: u64 = 1 << 9;
    pub(super) const OSXMMEXCPT: u64 = 1 << 10;
    pub(super) const UMIP: u64 = 1 << 11;
    pub(super) const FSGSBASE: u64 = 1 << 16;
    pub(super) const OSXSAVE: u64 = 1 << 18;
    pub(super) const SMEP: u64 = 1 << 20;
    pub(super) const SMAP: u64 = 1 << 21;
    /// DE, PAE, and SSE for user mode.
    pub(super) const CR4: u64 = 1 << 3 | 1 << 5 | OSFXSR | OSXMMEXCPT;
}

/// SCE, LME, LMA, NXE.
const EFER: u64 = 0xd01;

mod msr {
    pub(super) const SYSENTER_CS: u32 = 0x174;
    pub(super) const STAR: u32 = 0xc000_0081;
    pub(super) const LSTAR: u32 = 0xc000_0082;
    pub(super) const CSTAR: u32 = 0xc000_0083;
    pub(super) const SFMASK: u32 = 0xc000_0084;
    pub(super) const KERNEL_GS_BASE: u32 = 0xc000_0102;
}

/// RFLAGS bits that SYSCALL clears: TF, IF, DF, IOPL, NT, RF, AC.
const SYSCALL_MASK: u64 = 1 << 8 | 1 << 9 | 1 << 10 | 3 << 12 | 1 << 14 | 1 << 16 | 1 << 18;

/// The ring-0 code segment.
pub(super) fn kernel_code() -> kvm_segment {
    kvm_segment {
        selector: layout::KERNEL_CODE,
        limit: u32::MAX,
        type_: 0xb,
        present: 1,
        s: 1,
        l: 1,
        g: 1,
        ..Default::default()
    }
}

/// The ring-3 code segment.
fn user_code() -> kvm_segment {
    kvm_segment { selector: layout::USER_CODE, dpl: 3, ..kernel_code() }
}

/// The ring-0 stack segment.
pub(super) fn kernel_data() -> kvm_segment {
    kvm_segment {
        selector: layout::KERNEL_DATA,
        limit: u32::MAX,
        type_: 3,
        present: 1,
        s: 1,
        db: 1,
        g: 1,
        ..Default::default()
    }
}

/// The ring-3 data segment, for all that a program may address.
pub(super) fn user_data() -> kvm_segment {
    kvm_segment { selector: layout::USER_DATA, dpl: 3, ..kernel_data() }
}

/// The CR4 bits that this CPUID allows.
fn cr4(cpuid: &CpuId, syscall: SyscallRing) -> u64 {
    let word = |leaf| cpuid.as_slice().iter().find(|entry| entry.function == leaf && entry.index == 0);
    let (xsave, features) = (word(1).map_or(0, |entry| entry.ecx), word(7));
    let (ebx, ecx) = features.map_or((0, 0), |entry| (entry.ebx, entry.ecx));
    let mut bits = cr::CR4;
    // KVM keeps ring 0 from executing what ring 3 may: on kvm-pvm that is what tells a SYSCALL that arrived in ring 0
    // after all (see `Vcpu::exception`). The rest kvm-pvm refuses; ring 3 runs with the host's control registers there.
    let kept_out = [(ebx >> 7, cr::SMEP), (ebx >> 20, cr::SMAP)];
    let hardware = [(xsave >> 26, cr::OSXSAVE), (ebx, cr::FSGSBASE), (ecx >> 2, cr::UMIP)];
    let hardware = if syscall == SyscallRing::Kernel { &hardware[..] } else { &[] };
    bits |= kept_out.iter().chain(hardware).filter(|(word, _)| word & 1 != 0).fold(0, |bits, (_, bit)| bits | bit);
    bits
}

/// Gives a new virtual CPU everything but a thread; `entry` is where SYSCALL enters. CPUID comes first: KVM checks CR4 and
/// XCR0 against it. Returns the system registers, which are every new thread's but for root and bases.
pub(super) fn set_up(vcpu: &VcpuFd, flavour: &Flavour, entry: u64) -> Result<kvm_sregs, Error> {
    let (cpuid, syscall) = (&flavour.cpuid, flavour.syscall);
    vcpu.set_cpuid2(cpuid)?;
    // With an interrupt controller, all but the first would wait for the start-up interrupt of a guest's kernel.
    vcpu.set_mp_state(kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE })?;
    let mut sregs = vcpu.get_sregs()?;
    sregs.cr0 = cr::CR0;
    sregs.cr4 = cr4(cpuid, syscall);
    sregs.efer = EFER;
    (sregs.cs, sregs.ss) = (kernel_code(), kernel_data());
    (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (user_data(), user_data(), user_data(), user_data());
    sregs.tr = kvm_segment {
        base: layout::TSS,
        limit: u32::from(TSS_LIMIT),
        selector: layout::TASK,
        type_: 11,
        present: 1,
        ..Default::default()
    };
    sregs.ldt = kvm_segment { unusable: 1, ..Default::default() };
    sregs.gdt = kvm_dtable { base: layout::GDT, limit: layout::TASK + 15, ..Default::default() };
    sregs.idt = kvm_dtable { base: layout::IDT, limit: 256 * 16 - 1, ..Default::default() };
    vcpu.set_sregs(&sregs)?;
    if syscall == SyscallRing::Kernel {
        if sregs.cr4 & cr::OSXSAVE != 0 {
            set_xcr0(vcpu, flavour.xcr0)?;
        }
        share_time(vcpu);
    } else {
        show_extended_state(vcpu, flavour)?;
    }
    set_syscall_entry(vcpu, entry)?;
    Ok(sregs)
}

/// Sets XCR0.
fn set_xcr0(vcpu: &VcpuFd, value: u64) -> Result<(), Error> {
    let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
    xcrs.xcrs[0] = kvm_xcr { xcr: 0, reserved: 0, value };
    vcpu.set_xcrs(&xcrs)
}

/// Tells kvm-pvm which extended state ring 3 has, for the size that CPUID answers.
fn show_extended_state(vcpu: &VcpuFd, flavour: &Flavour) -> Result<(), Error> {
    if cpuid::offered_components(flavour.xcr0).into_iter().any(|components| set_xcr0(vcpu, components).is_ok()) {
        return Ok(());
    }
    let view = cpuid::without_xsave(&flavour.cpuid).map_err(|_| Error::new(libc::ENOMEM))?;
    vcpu.set_cpuid2(&view)
}

/// Sets where SYSCALL enters.
pub(super) fn set_syscall_entry(vcpu: &VcpuFd, entry: u64) -> Result<(), Error> {
    let star = u64::from(layout::SYSRET_BASE) << 48 | u64::from(layout::KERNEL_CODE) << 32;
    let values = [
        (msr::STAR, star),
        (msr::LSTAR, entry),
        (msr::CSTAR, entry),
        (msr::SFMASK, SYSCALL_MASK),
        (msr::SYSENTER_CS, 0),
        (msr::KERNEL_GS_BASE, 0),
    ];
    let entries = values.map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() });
    let msrs = Msrs::from_entries(&entries).expect("six entries are fewer than KVM's limit");
    match vcpu.set_msrs(&msrs)? {
        count if count == values.len() => Ok(()),
        _ => Err(Error::new(libc::EINVAL)),
    }
}

/// Makes the guest's time-stamp counter the host's, so that the vDSO's clock page serves both. A host that cannot say so
/// (before Linux 5.16) leaves the counter at its own origin; the clock's comparison at start finds out.
fn share_time(vcpu: &VcpuFd) {
    let offset = 0_u64;
    let attribute = kvm_device_attr {
        flags: 0,
        group: KVM_VCPU_TSC_CTRL,
        attr: u64::from(KVM_VCPU_TSC_OFFSET),
        addr: (&raw const offset).expose_provenance() as u64,
    };
    // SAFETY: KVM reads the structure and, for this attribute, the eight bytes it points to; both outlive the call.
    if unsafe { ioctl_with_ref(vcpu, KVM_SET_DEVICE_ATTR(), &attribute) } != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "KVM does not take an offset of the time-stamp counter");
    }
}

/// Puts the calling virtual CPU into ring 0 with a root and the bases of FS and GS.
pub(super) fn enter_ring0(sregs: &mut kvm_sregs, root: GuestPhys) {
    (sregs.cs, sregs.ss) = (kernel_code(), kernel_data());
    sregs.cr3 = root.0;
}

/// As [`enter_ring0`], into ring 3.
pub(super) fn enter_ring3(sregs: &mut kvm_sregs, root: GuestPhys) {
    (sregs.cs, sregs.ss) = (user_code(), user_data());
    sregs.cr3 = root.0;
}
