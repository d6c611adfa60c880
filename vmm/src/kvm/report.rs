//! What the host found out about KVM, for `picovisor check` and for refusals.

use crate::clock::Counter;
use crate::machine::Paging;
use kvm_bindings::{
    KVM_CAP_EXIT_ON_EMULATION_FAILURE, KVM_CAP_EXT_CPUID, KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_SYNC_REGS,
    KVM_CAP_USER_MEMORY, KVM_CAP_VCPU_ATTRIBUTES, KVM_CAP_VCPU_EVENTS, KVM_CAP_XCRS, KVM_CAP_XSAVE, KVM_CAP_XSAVE2,
};
use kvm_ioctls::Kvm;
use std::fmt;
use std::io;

/// How traps leave user mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrapMethod {
    /// VT-x or AMD-V: SYSCALL enters ring 0 of the guest.
    HardwareVirtualization,
    /// kvm-pvm: SYSCALL stays in ring 3.
    KvmPvm,
}

impl fmt::Display for TrapMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HardwareVirtualization => "hardware virtualization (VT-x or AMD-V)",
            Self::KvmPvm => "kvm-pvm (no hardware virtualization)",
        })
    }
}

/// How page tables are followed, and who says so.
#[derive(Clone, Copy, Debug)]
pub struct PagingFlavour {
    /// By the processor, or by KVM's shadows.
    pub paging: Paging,
    /// Where that was learnt.
    pub source: &'static str,
}

/// Why KVM cannot be used.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// There is no /dev/kvm.
    NoDevice,
    /// /dev/kvm may not be opened.
    NoPermission,
    /// /dev/kvm could not be opened for another reason.
    Open(String),
    /// Something that is needed is missing.
    Unfit(&'static str),
    /// The processor lacks XSAVE, or hides it.
    NoXsave,
    /// The machine could not be made.
    Machine(String),
    /// The host has no memory for the machine.
    Memory,
    /// System calls do not trap in a known way.
    Traps(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str(
                "/dev/kvm does not exist: load the kvm module (modprobe kvm_intel or kvm_amd), enable virtualization in \
                 the firmware, or, in a container, pass the device in (docker run --device /dev/kvm)",
            ),
            Self::NoPermission => f.write_str(
                "no permission to open /dev/kvm: join the group that owns it (usermod -aG kvm USER, then log in again) or \
                 change its mode (chmod 666 /dev/kvm)",
            ),
            Self::Open(error) => write!(f, "/dev/kvm cannot be opened: {error}"),
            Self::Unfit(what) => write!(f, "this KVM is unfit: {what}"),
            Self::NoXsave => f.write_str("the processor has no XSAVE, or its use is not offered to guests"),
            Self::Machine(error) => write!(f, "KVM cannot make a virtual machine: {error}"),
            Self::Memory => f.write_str("the host has no memory for a virtual machine"),
            Self::Traps(what) => write!(f, "system calls do not trap in a way that is known ({what})"),
        }
    }
}

/// A capability of KVM, and whether it is there.
#[derive(Clone, Copy, Debug)]
pub struct Capability {
    /// KVM's name for it.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Whether nothing works without it.
    pub required: bool,
    /// Whether it is there.
    pub present: bool,
}

/// The result of looking at KVM.
#[derive(Clone, Debug, Default)]
pub struct HostReport {
    /// Capabilities that matter here.
    pub capabilities: Vec<Capability>,
    /// Virtual CPUs a machine may have.
    pub max_vcpus: usize,
    /// Memory slots a machine may have.
    pub max_slots: usize,
    /// How traps leave user mode, if they do.
    pub traps: Option<TrapMethod>,
    /// How page tables are followed.
    pub paging: Option<PagingFlavour>,
    /// The XCR0 that programs run with.
    pub xcr0: u64,
    /// What programs' time-stamp counter is good for.
    pub counter: Counter,
    /// Why KVM cannot be used, if so.
    pub refusal: Option<Refusal>,
}

impl HostReport {
    /// A report of a host whose KVM cannot be used.
    pub(super) fn refused(refusal: Refusal) -> Self {
        Self { refusal: Some(refusal), ..Self::default() }
    }

    /// Asks KVM what it has. Sets a refusal if something that is required is missing.
    pub(super) fn ask(kvm: &Kvm) -> Self {
        let capabilities: Vec<_> = WANTED
            .iter()
            .map(|&(name, purpose, required, cap)| {
                let present = kvm.check_extension_raw(cap.into()) > 0;
                Capability { name, purpose, required, present }
            })
            .collect();
        let missing = capabilities.iter().find(|capability| capability.required && !capability.present);
        let refusal = match missing {
            _ if kvm.get_api_version() != 12 => Some(Refusal::Unfit("its version is not 12")),
            Some(capability) => Some(Refusal::Unfit(capability.name)),
            None => None,
        };
        let (max_vcpus, max_slots) = (kvm.get_max_vcpus(), kvm.get_nr_memslots());
        Self { capabilities, max_vcpus, max_slots, refusal, ..Self::default() }
    }
}

impl fmt::Display for HostReport {
    /// The refusal's one line, or what the host is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.refusal, self.traps) {
            (Some(refusal), _) => refusal.fmt(f),
            (None, Some(traps)) => traps.fmt(f),
            (None, None) => f.write_str("not probed"),
        }
    }
}

impl std::error::Error for HostReport {}

/// Opens /dev/kvm.
pub(super) fn open() -> Result<Kvm, Refusal> {
    Kvm::new().map_err(|error| match error.errno() {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => Refusal::NoDevice,
        libc::EACCES | libc::EPERM => Refusal::NoPermission,
        code => Refusal::Open(io::Error::from_raw_os_error(code).to_string()),
    })
}

type Wanted = (&'static str, &'static str, bool, u32);

const WANTED: &[Wanted] = &[
    ("KVM_CAP_USER_MEMORY", "guest memory is the monitor's own", true, KVM_CAP_USER_MEMORY),
    ("KVM_CAP_IMMEDIATE_EXIT", "kicks are never lost", true, KVM_CAP_IMMEDIATE_EXIT),
    ("KVM_CAP_SYNC_REGS", "registers are exchanged without an ioctl", true, KVM_CAP_SYNC_REGS),
    ("KVM_CAP_EXT_CPUID", "CPUID is what programs may use", true, KVM_CAP_EXT_CPUID),
    ("KVM_CAP_XSAVE", "vector registers are kept", true, KVM_CAP_XSAVE),
    ("KVM_CAP_VCPU_EVENTS", "an exception is not lost at a kick", true, KVM_CAP_VCPU_EVENTS),
    ("KVM_CAP_XCRS", "vector registers on hardware virtualization", false, KVM_CAP_XCRS),
    ("KVM_CAP_VCPU_ATTRIBUTES", "time without a trap on hardware virtualization", false, KVM_CAP_VCPU_ATTRIBUTES),
    ("KVM_CAP_XSAVE2", "extended state beyond 4,096 bytes", false, KVM_CAP_XSAVE2),
    ("KVM_CAP_EXIT_ON_EMULATION_FAILURE", "failed emulation is reported", false, KVM_CAP_EXIT_ON_EMULATION_FAILURE),
];
