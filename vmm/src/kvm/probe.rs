//! The trap probe: how SYSCALL leaves user mode on this host, found out by executing one.
//!
//! Capabilities do not tell the flavours apart. The first virtual CPU is set up for the flavour that KVM's CPUID list
//! suggests and runs XGETBV and SYSCALL from ring 3; the code segment at the exit decides. RDTSC, too: what it showed is compared with the host's. If the guess was wrong, a
//! second virtual CPU is set up for the other flavour (CPUID cannot be changed once a virtual CPU has run).
//! The virtual CPU that ran the probe is the first worker's, so a start pays for one entry and one KVM_GET_SREGS.

use super::cpuid;
use super::exit::Leave;
use super::report::{PagingFlavour, Refusal, TrapMethod};
use super::supervisor::{PROBE_CODE, Supervisor, SyscallRing};
use super::vcpu::Vcpu;
use super::vm::Vm;
use super::xsave;
use crate::clock::Counter;
use crate::machine::Paging;
use guest::clock::counter;
use guest::layout;
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::Kvm;
use std::arch::x86_64::{__cpuid, _xgetbv};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What a virtual CPU must know about the host.
#[derive(Clone, Debug)]
pub(super) struct Flavour {
    pub(super) syscall: SyscallRing,
    /// What CPUID answers in the guest.
    pub(super) cpuid: Arc<CpuId>,
    /// The XCR0 that ring 3 runs with.
    pub(super) xcr0: u64,
    /// The extended state that threads have.
    pub(super) extended: xsave::Layout,
    /// What the time-stamp counter is good for.
    pub(super) counter: Counter,
}

impl Flavour {
    /// Whether debug registers make a thread trap: kvm-pvm takes them, for itself (KVM_SET_GUEST_DEBUG) as for the guest
    /// (KVM_SET_DEBUGREGS), and no watched access in ring 3 ever leaves the guest. Measured with Linux 6.18.
    pub(super) fn traps_at_addresses(&self) -> bool {
        self.syscall == SyscallRing::Kernel
    }

    /// Composes what a host with this behaviour offers.
    fn assume(syscall: SyscallRing, kvm: &Kvm) -> Result<Self, Refusal> {
        let (source, xcr0) = match syscall {
            SyscallRing::User => {
                let xcr0 = host_xcr0().ok_or(Refusal::NoXsave)?;
                let source = cpuid::native_leaves(xcr0);
                if !source.iter().any(|entry| (entry.function, entry.index) == (7, 0) && entry.ebx & 1 << 7 != 0) {
                    // What keeps a SYSCALL that arrives in ring 0 after all from being resumed there.
                    return Err(Refusal::Unfit("kvm-pvm on a processor without SMEP"));
                }
                (source, xcr0)
            }
            SyscallRing::Kernel => {
                let list = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
                let list = list.map_err(|error| Refusal::Machine(error.to_string()))?.as_slice().to_vec();
                let leaf = list.iter().find(|entry| (entry.function, entry.index) == (0xd, 0));
                let offered = leaf.map(|leaf| u64::from(leaf.edx) << 32 | u64::from(leaf.eax));
                let xcr0 = cpuid::used_components(offered.ok_or(Refusal::NoXsave)?);
                (list, xcr0)
            }
        };
        let extended = xsave::Layout::new(cpuid::kept_components(xcr0), cpuid::kept_size(&source, xcr0));
        let view = cpuid::program_view(&source, syscall, xcr0);
        let view = view.map_err(|_| Refusal::Unfit("CPUID has too many leaves"))?;
        Ok(Self { syscall, cpuid: Arc::new(view), xcr0, extended, counter: Counter::Unusable })
    }

    /// How traps leave user mode, for the report.
    pub(super) fn method(&self) -> TrapMethod {
        match self.syscall {
            SyscallRing::Kernel => TrapMethod::HardwareVirtualization,
            SyscallRing::User => TrapMethod::KvmPvm,
        }
    }

    /// How page tables are followed: what the module says, and the careful answer where it says nothing (the means for
    /// shadow paging work on hardware paging too, only slower).
    pub(super) fn paging(&self) -> PagingFlavour {
        match self.syscall {
            SyscallRing::User => PagingFlavour { paging: Paging::Shadow, source: "kvm-pvm has no other" },
            SyscallRing::Kernel => module_paging(),
        }
    }
}

/// Runs the probe on the calling thread and returns its virtual CPU.
pub(super) fn run(vm: &Arc<Vm>, supervisor: &Supervisor, kvm: &Kvm) -> Result<Vcpu, Refusal> {
    let guesses = match cpuid::has_virtualization() {
        true => [SyscallRing::Kernel, SyscallRing::User],
        false => [SyscallRing::User, SyscallRing::Kernel],
    };
    let mut first = None;
    for guess in guesses {
        match Flavour::assume(guess, kvm).and_then(|flavour| attempt(vm, supervisor, flavour)) {
            Ok(vcpu) => return Ok(vcpu),
            Err(refusal) => first = first.or(Some(refusal)),
        }
    }
    Err(first.unwrap_or(Refusal::Unfit("no trap method was tried")))
}

/// Sets a virtual CPU up for one flavour and looks whether a SYSCALL behaves so.
fn attempt(vm: &Arc<Vm>, supervisor: &Supervisor, flavour: Flavour) -> Result<Vcpu, Refusal> {
    let syscall = flavour.syscall;
    let pages = supervisor.cpu_pages(vm, syscall).map_err(|_| Refusal::Memory)?;
    let root = supervisor.probe_root(vm, &pages).map_err(|_| Refusal::Memory)?;
    let mut vcpu = Vcpu::new(vm, pages, flavour).map_err(|error| Refusal::Traps(format!("setting up: {error}")))?;
    let before = counter();
    let leave = vcpu.probe(root, PROBE_CODE).map_err(|error| Refusal::Traps(format!("entering: {error}")))?;
    let after = counter();
    let ring = match leave {
        Leave::Syscall => vcpu.fd.get_sregs().map(|sregs| sregs.cs.selector & 3),
        Leave::Vector(6) => return Err(Refusal::NoXsave),
        other => return Err(Refusal::Traps(format!("SYSCALL ended in {other:?}"))),
    };
    let arrived = match ring {
        Ok(0) => SyscallRing::Kernel,
        Ok(3) => SyscallRing::User,
        _ => return Err(Refusal::Traps("SYSCALL arrived in no known ring".to_owned())),
    };
    if arrived != syscall {
        return Err(Refusal::Traps(format!("SYSCALL arrived in ring {}", if ring == Ok(0) { 0 } else { 3 })));
    }
    vm.set_paging(vcpu.flavour.paging().paging);
    vcpu.flavour.counter = compare_counters(&vcpu, before..=after);
    Ok(vcpu)
}

/// Finds out whether the counter that the probe's code read is the host's, which showed these values around it.
fn compare_counters(vcpu: &Vcpu, host: RangeInclusive<u64>) -> Counter {
    if host.contains(&vcpu.fd.sync_regs().regs.rbx) {
        Counter::detect(vcpu.fd.get_tsc_khz().ok())
    } else {
        Counter::Unusable
    }
}

/// The XCR0 of the host's user mode, if it uses XSAVE.
fn host_xcr0() -> Option<u64> {
    if __cpuid(1).ecx & 1 << 27 == 0 {
        return None;
    }
    // SAFETY: CPUID says that the operating system has enabled XGETBV.
    Some(unsafe { _xgetbv(0) })
}

/// What the KVM module's parameter says about nested paging.
fn module_paging() -> PagingFlavour {
    let parameters = [
        ("/sys/module/kvm_amd/parameters/npt", "kvm_amd's parameter npt"),
        ("/sys/module/kvm_intel/parameters/ept", "kvm_intel's parameter ept"),
    ];
    for (path, source) in parameters {
        match std::fs::read(path).ok().and_then(|value| value.first().copied()) {
            Some(b'Y' | b'1') => return PagingFlavour { paging: Paging::Hardware, source },
            Some(_) => return PagingFlavour { paging: Paging::Shadow, source },
            None => {}
        }
    }
    PagingFlavour { paging: Paging::Shadow, source: "no module parameter is readable: the careful choice" }
}

const _: () = assert!(layout::PROBE_PAGE == layout::IMAGE_BASE + 2 * layout::PAGE);
