//! Processor exceptions as signals (arch/x86/kernel/traps.c, arch/x86/mm/fault.c).

use super::{Detail, SigInfo, Signal, SignalCode};
use crate::mm::FaultSignal;
use crate::syscall::vsyscall;
use crate::task::CurrentTask;
use vmm::addr::{USER_END, UserAddr};
use vmm::memory::Access;
use vmm::trap::{Exception, Vector, fault_code};

/// Serves an exception: resolves it, or sends the thread its signal. Every register may change.
pub fn serve(task: &mut CurrentTask<'_>, exception: Exception) {
    match exception.vector {
        Vector::PAGE_FAULT => page_fault(task, exception),
        Vector::INVALID_OPCODE => match software_interrupt(task) {
            Some(vector) => interrupt_instruction(task, vector),
            None => raise(task, exception),
        },
        // The virtual machine has a gate for it; a kernel without 32-bit emulation has none, and faults at the instruction.
        Vector::LEGACY_SYSCALL => {
            task.frame.registers.rip = task.frame.registers.rip.wrapping_sub(2);
            interrupt_instruction(task, Vector::LEGACY_SYSCALL.0);
        }
        _ => raise(task, exception),
    }
}

/// Sends the signal for an exception that is not a page fault.
fn raise(task: &mut CurrentTask<'_>, exception: Exception) {
    let trapped = if exception.vector == Vector::DEBUG { task.debug_trap() } else { None };
    if exception.vector == Vector::DEBUG && trapped.is_none() {
        return;
    }
    task.note_exception(exception.vector, exception.error, None);
    let here = UserAddr(task.frame.registers.rip);
    let info = match exception.vector {
        Vector::DIVIDE_ERROR => SigInfo::fault(Signal::SIGFPE, SignalCode::FPE_INTDIV, here),
        Vector::DEBUG => SigInfo::fault(Signal::SIGTRAP, trapped.unwrap_or(SignalCode::TRAP_TRACE), here),
        Vector::BREAKPOINT => SigInfo::kernel(Signal::SIGTRAP),
        Vector::INVALID_OPCODE => SigInfo::fault(Signal::SIGILL, SignalCode::ILL_ILLOPN, here),
        // Segment not present, and stack segment.
        Vector(11) | Vector::STACK_FAULT => SigInfo::kernel(Signal::SIGBUS),
        Vector::X87_ERROR => SigInfo::fault(Signal::SIGFPE, x87_code(task), here),
        Vector::SIMD_ERROR => SigInfo::fault(Signal::SIGFPE, simd_code(task), here),
        Vector::ALIGNMENT_CHECK => SigInfo::fault(Signal::SIGBUS, SignalCode::BUS_ADRALN, UserAddr(0)),
        // Overflow, bounds, general protection, and whatever else ring 3 could raise.
        _ => SigInfo::kernel(Signal::SIGSEGV),
    };
    task.force_signal(info);
}

/// Resolves a page fault, or sends its signal.
fn page_fault(task: &mut CurrentTask<'_>, exception: Exception) {
    let Exception { error, address, .. } = exception;
    if vsyscall::contains(address) && task.frame.registers.rip == address.0 {
        if vsyscall::emulate(task).is_err() {
            // Not a fault at that address: emulate_vsyscall forces the signal and leaves the last exception alone.
            task.force_signal(SigInfo::kernel(Signal::SIGSEGV));
        }
        return;
    }
    let fault = if error & fault_code::PROTECTION_KEY != 0 {
        FaultSignal { signal: Signal::SIGSEGV.raw(), code: SignalCode::SEGV_PKUERR.0, address }
    } else {
        let access = access_of(error);
        match task.mm().resolve_fault(address, access) {
            Ok(()) => return task.kernel().statistics().fault(access),
            Err(fault) if fault.is_out_of_memory() && task.make_room() => return,
            Err(fault) => fault,
        }
    };
    task.kernel().statistics().failed_fault();
    // So that nobody learns what the kernel half holds, all of it looks present (sanitize_error_code in arch/x86/mm/fault.c).
    let hidden = if address.0 >= USER_END { fault_code::PRESENT } else { 0 };
    task.note_exception(Vector::PAGE_FAULT, error | hidden, Some(address));
    let signal = Signal::from_raw(fault.signal).unwrap_or(Signal::SIGSEGV);
    let detail = Detail::Fault { address: fault.address };
    task.force_signal(SigInfo { signal, errno: 0, code: SignalCode(fault.code), detail });
}

/// What the program tried, from the error code's hints.
fn access_of(error: u32) -> Access {
    if error & fault_code::FETCH != 0 {
        Access::EXEC
    } else if error & fault_code::WRITE != 0 {
        Access::WRITE
    } else {
        Access::READ
    }
}

/// The vector of an `int n` at the instruction pointer: kvm-pvm raises #UD for these.
fn software_interrupt(task: &CurrentTask<'_>) -> Option<u8> {
    let mut code = [0; 2];
    task.mm().read(UserAddr(task.frame.registers.rip), &mut code).ok()?;
    match code {
        [0xcd, vector] => Some(vector),
        _ => None,
    }
}

/// Serves `int n` as a kernel without 32-bit emulation does: ring 3 may use gates 3 and 4 only.
fn interrupt_instruction(task: &mut CurrentTask<'_>, vector: u8) {
    /// Bytes in `int n`.
    const LEN: u64 = 2;
    let (vector, error) = match vector {
        3 => (Vector::BREAKPOINT, 0),
        4 => (Vector::OVERFLOW, 0),
        // The selector of the missing gate, with the bit that says that it is in the IDT.
        other => (Vector::GENERAL_PROTECTION, u32::from(other) << 3 | 2),
    };
    if vector != Vector::GENERAL_PROTECTION {
        task.frame.registers.rip = task.frame.registers.rip.wrapping_add(LEN);
    }
    raise(task, Exception { vector, error, address: UserAddr(0) });
}

/// si_code for an x87 error: the exceptions that its control word does not mask (fpu__exception_code).
fn x87_code(task: &mut CurrentTask<'_>) -> SignalCode {
    let image = fxsave_image(task);
    let control = u16::from_le_bytes([image[0], image[1]]);
    let status = u16::from_le_bytes([image[2], image[3]]);
    float_code(u32::from(status & !control))
}

/// si_code for a SIMD error.
fn simd_code(task: &mut CurrentTask<'_>) -> SignalCode {
    let image = fxsave_image(task);
    let mxcsr = u32::from_le_bytes([image[24], image[25], image[26], image[27]]);
    float_code(!(mxcsr >> 7) & mxcsr)
}

fn fxsave_image(task: &mut CurrentTask<'_>) -> [u8; 32] {
    let mut area = vec![0; task.frame.cpu.xsave_size().max(32)];
    let size = task.frame.cpu.xsave_size();
    task.frame.cpu.save_xsave(&mut area[..size]);
    let mut start = [0; 32];
    start.copy_from_slice(&area[..32]);
    start
}

/// The first of: invalid operation, division by zero, overflow, denormal or underflow, precision.
fn float_code(raised: u32) -> SignalCode {
    match raised {
        bits if bits & 0x01 != 0 => SignalCode::FPE_FLTINV,
        bits if bits & 0x04 != 0 => SignalCode::FPE_FLTDIV,
        bits if bits & 0x08 != 0 => SignalCode::FPE_FLTOVF,
        bits if bits & 0x12 != 0 => SignalCode::FPE_FLTUND,
        bits if bits & 0x20 != 0 => SignalCode::FPE_FLTRES,
        // Nothing unmasked: a spurious error, for which Linux sends no signal on real hardware; ours is as its default.
        _ => SignalCode(0),
    }
}

impl CurrentTask<'_> {
    /// Keeps what signal frames tell about the last exception; only page faults set the address.
    pub(super) fn note_exception(&self, vector: Vector, error: u32, address: Option<UserAddr>) {
        let last = &mut self.signals().state().last_exception;
        last.vector = u64::from(vector.0);
        last.error = u64::from(error);
        if let Some(address) = address {
            last.address = address.0;
        }
    }
}
