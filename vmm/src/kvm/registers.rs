//! Registers as KVM has them, and as the contract does.

use crate::trap::Registers;
use kvm_bindings::kvm_regs;

/// Whether the processor would take `address` as RIP (4-level paging).
pub(super) fn is_canonical(address: u64) -> bool {
    canonical(address) == address
}

/// The canonical address with the same low 48 bits.
pub(super) fn canonical(address: u64) -> u64 {
    ((address << 16).cast_signed() >> 16).cast_unsigned()
}

pub(super) fn user_registers(regs: &kvm_regs) -> Registers {
    Registers {
        rax: regs.rax,
        rbx: regs.rbx,
        rcx: regs.rcx,
        rdx: regs.rdx,
        rsi: regs.rsi,
        rdi: regs.rdi,
        rbp: regs.rbp,
        rsp: regs.rsp,
        r8: regs.r8,
        r9: regs.r9,
        r10: regs.r10,
        r11: regs.r11,
        r12: regs.r12,
        r13: regs.r13,
        r14: regs.r14,
        r15: regs.r15,
        rip: regs.rip,
        rflags: regs.rflags,
    }
}

pub(super) fn general(from: &Registers) -> kvm_regs {
    kvm_regs {
        rax: from.rax,
        rbx: from.rbx,
        rcx: from.rcx,
        rdx: from.rdx,
        rsi: from.rsi,
        rdi: from.rdi,
        rbp: from.rbp,
        rsp: from.rsp,
        r8: from.r8,
        r9: from.r9,
        r10: from.r10,
        r11: from.r11,
        r12: from.r12,
        r13: from.r13,
        r14: from.r14,
        r15: from.r15,
        ..Default::default()
    }
}
