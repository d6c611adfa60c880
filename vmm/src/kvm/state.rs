//! A thread's state beyond its registers, on the virtual CPU that runs it: fetched and changed when the provider asks.

use super::registers::canonical;
use super::vcpu::Vcpu;
use super::xsave;
use crate::bugcheck;
use crate::pico::CpuState;
use crate::trap::DebugRegisters;
use kvm_bindings::kvm_debugregs;
use kvm_ioctls::Error;

/// The bits of DR7 that a program may set: four local enable bits, and what each of the four is about.
const DR7_SETTABLE: u64 = 0xffff_0055;
/// DR6 when nothing has trapped.
const DR6_CLEAR: u64 = 0xffff_0ff0;

impl CpuState for Vcpu {
    fn xsave_size(&self) -> usize {
        self.flavour.extended.size
    }

    fn xcr0(&self) -> u64 {
        self.flavour.extended.components
    }

    fn save_xsave(&mut self, area: &mut [u8]) {
        report_failure("KVM_GET_XSAVE", xsave::save(&self.fd, self.flavour.extended, area));
    }

    fn load_xsave(&mut self, area: &[u8]) {
        report_failure("KVM_SET_XSAVE", xsave::load(&self.fd, self.flavour.extended, area));
    }

    fn reset_xsave(&mut self) {
        report_failure("KVM_SET_XSAVE", xsave::reset(&self.fd, self.flavour.extended));
    }

    fn segment_bases(&mut self) -> (u64, u64) {
        if let Some(bases) = self.staged {
            return bases;
        }
        match self.fd.get_sregs() {
            Ok(sregs) => (sregs.fs.base, sregs.gs.base),
            Err(error) => fail("KVM_GET_SREGS", error),
        }
    }

    fn set_segment_bases(&mut self, fs: u64, gs: u64) {
        self.staged = Some((canonical(fs), canonical(gs)));
    }

    fn traps_at_addresses(&self) -> bool {
        self.flavour.traps_at_addresses()
    }

    fn set_debug_registers(&mut self, registers: &DebugRegisters) {
        if self.debug != *registers {
            self.debug = *registers;
            let dr7 = registers.control & DR7_SETTABLE;
            let all = kvm_debugregs { db: registers.addresses, dr6: DR6_CLEAR, dr7, ..kvm_debugregs::default() };
            report_failure("KVM_SET_DEBUGREGS", self.fd.set_debug_regs(&all));
        }
    }

    fn take_debug_status(&mut self) -> u64 {
        let mut all = self.fd.get_debug_regs().unwrap_or_else(|error| fail("KVM_GET_DEBUGREGS", error));
        // Bits are set by the processor and cleared by nobody else.
        let status = std::mem::replace(&mut all.dr6, DR6_CLEAR);
        if status != DR6_CLEAR {
            report_failure("KVM_SET_DEBUGREGS", self.fd.set_debug_regs(&all));
        }
        status
    }
}

/// Ends the monitor if an ioctl has failed that has no other way to fail than [`fail`] says.
pub(super) fn report_failure(what: &str, done: Result<(), Error>) {
    if let Err(error) = done {
        fail(what, error);
    }
}

/// These ioctls fail only on arguments that are not passed here, which would be a bug of ours, or because KVM has no memory for its own
/// copy of what is handed over.
pub(super) fn fail(what: &str, error: Error) -> ! {
    if error.errno() == libc::ENOMEM {
        bugcheck::out_of_memory(what);
    }
    panic!("{what} refused state that was checked before: {error}");
}
