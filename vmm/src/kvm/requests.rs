//! The ioctls that this folder makes on KVM's descriptors once a machine exists, by number: what a jail has to let through.

/// Names and numbers (include/uapi/linux/kvm.h), the most frequent first. KVM_CREATE_VM and what comes before it is not among
/// them.
pub const KVM_REQUESTS: &[(&str, u32)] = &[
    ("KVM_RUN", 0xae80),
    ("KVM_GET_SREGS", 0x8138_ae83),
    ("KVM_SET_SREGS", 0x4138_ae84),
    ("KVM_GET_VCPU_EVENTS", 0x8040_ae9f),
    ("KVM_SET_VCPU_EVENTS", 0x4040_aea0),
    ("KVM_GET_XSAVE", 0x9000_aea4),
    ("KVM_SET_XSAVE", 0x5000_aea5),
    ("KVM_GET_DEBUGREGS", 0x8080_aea1),
    ("KVM_SET_DEBUGREGS", 0x4080_aea2),
    ("KVM_SET_USER_MEMORY_REGION", 0x4020_ae46),
    ("KVM_CREATE_VCPU", 0xae41),
    ("KVM_SET_CPUID2", 0x4008_ae90),
    ("KVM_SET_MP_STATE", 0x4004_ae99),
    ("KVM_SET_XCRS", 0x4188_aea7),
    ("KVM_SET_MSRS", 0x4008_ae89),
    ("KVM_SET_DEVICE_ATTR", 0x4018_aee1),
    ("KVM_GET_TSC_KHZ", 0xaea3),
    ("KVM_SET_NR_MMU_PAGES", 0xae44),
    ("KVM_GET_SUPPORTED_CPUID", 0xc008_ae05),
    ("KVM_CHECK_EXTENSION", 0xae03),
];

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_bindings::{
        KVMIO, kvm_cpuid2, kvm_debugregs, kvm_device_attr, kvm_mp_state, kvm_msrs, kvm_sregs,
        kvm_userspace_memory_region, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
    };
    use vmm_sys_util::{ioctl_io_nr, ioctl_ior_nr, ioctl_iow_nr, ioctl_iowr_nr};

    ioctl_io_nr!(KVM_CHECK_EXTENSION, KVMIO, 0x03);
    ioctl_iowr_nr!(KVM_GET_SUPPORTED_CPUID, KVMIO, 0x05, kvm_cpuid2);
    ioctl_io_nr!(KVM_CREATE_VCPU, KVMIO, 0x41);
    ioctl_io_nr!(KVM_SET_NR_MMU_PAGES, KVMIO, 0x44);
    ioctl_iow_nr!(KVM_SET_USER_MEMORY_REGION, KVMIO, 0x46, kvm_userspace_memory_region);
    ioctl_io_nr!(KVM_RUN, KVMIO, 0x80);
    ioctl_ior_nr!(KVM_GET_SREGS, KVMIO, 0x83, kvm_sregs);
    ioctl_iow_nr!(KVM_SET_SREGS, KVMIO, 0x84, kvm_sregs);
    ioctl_iow_nr!(KVM_SET_MSRS, KVMIO, 0x89, kvm_msrs);
    ioctl_iow_nr!(KVM_SET_CPUID2, KVMIO, 0x90, kvm_cpuid2);
    ioctl_iow_nr!(KVM_SET_MP_STATE, KVMIO, 0x99, kvm_mp_state);
    ioctl_ior_nr!(KVM_GET_VCPU_EVENTS, KVMIO, 0x9f, kvm_vcpu_events);
    ioctl_iow_nr!(KVM_SET_VCPU_EVENTS, KVMIO, 0xa0, kvm_vcpu_events);
    ioctl_ior_nr!(KVM_GET_DEBUGREGS, KVMIO, 0xa1, kvm_debugregs);
    ioctl_iow_nr!(KVM_SET_DEBUGREGS, KVMIO, 0xa2, kvm_debugregs);
    ioctl_io_nr!(KVM_GET_TSC_KHZ, KVMIO, 0xa3);
    ioctl_ior_nr!(KVM_GET_XSAVE, KVMIO, 0xa4, kvm_xsave);
    ioctl_iow_nr!(KVM_SET_XSAVE, KVMIO, 0xa5, kvm_xsave);
    ioctl_iow_nr!(KVM_SET_XCRS, KVMIO, 0xa7, kvm_xcrs);
    ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, KVMIO, 0xe1, kvm_device_attr);

    #[test]
    fn numbers_are_those_of_the_structures() {
        let computed = [
            KVM_RUN(),
            KVM_GET_SREGS(),
            KVM_SET_SREGS(),
            KVM_GET_VCPU_EVENTS(),
            KVM_SET_VCPU_EVENTS(),
            KVM_GET_XSAVE(),
            KVM_SET_XSAVE(),
            KVM_GET_DEBUGREGS(),
            KVM_SET_DEBUGREGS(),
            KVM_SET_USER_MEMORY_REGION(),
            KVM_CREATE_VCPU(),
            KVM_SET_CPUID2(),
            KVM_SET_MP_STATE(),
            KVM_SET_XCRS(),
            KVM_SET_MSRS(),
            KVM_SET_DEVICE_ATTR(),
            KVM_GET_TSC_KHZ(),
            KVM_SET_NR_MMU_PAGES(),
            KVM_GET_SUPPORTED_CPUID(),
            KVM_CHECK_EXTENSION(),
        ];
        let listed: Vec<_> = KVM_REQUESTS.iter().map(|(_, number)| u64::from(*number)).collect();
        #[expect(clippy::unnecessary_cast, reason = "c_ulong, whatever that is")]
        let computed = computed.map(|number| number as u64);
        assert_eq!(listed, computed);
    }
}
