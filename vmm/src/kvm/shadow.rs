//! How many pages KVM may shadow page tables with.
//!
//! By default it takes 2 % of the pages of all memory slots, and drops the oldest shadow pages when it has more. Slots grow
//! with use here, and each virtual CPU and each address space has tables of its own, so some hundred threads of a small
//! program would reach that limit and from then on drop each other's pages at each fault. The tables themselves come from
//! guest memory and are bounded by its limit; what shadows them is a small multiple of that.

use super::vm::Vm;
use std::os::fd::AsRawFd;
use vmm_sys_util::ioctl::ioctl_with_val;
use vmm_sys_util::ioctl_io_nr;

// kvm-ioctls does not have this call.
ioctl_io_nr!(KVM_SET_NR_MMU_PAGES, kvm_bindings::KVMIO, 0x44);

/// Enough for every virtual CPU that a machine may have (a dozen pages each) and some thousand processes.
const LEAST: u64 = 1 << 17;
/// One in this many pages of memory, as KVM itself reckons.
const SHARE: u64 = 50;

/// Lets KVM keep as many shadow pages as a machine of `memory` bytes may need. A refusal leaves KVM's own limit.
pub(super) fn allow_pages(vm: &Vm, memory: u64) {
    let pages = (memory / crate::addr::PAGE_SIZE / SHARE).max(LEAST);
    // SAFETY: the call takes a number and touches no memory of ours.
    let result = unsafe { ioctl_with_val(&vm.fd().as_raw_fd(), KVM_SET_NR_MMU_PAGES(), pages) };
    if result != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "KVM keeps its own limit of shadow pages");
    }
}
