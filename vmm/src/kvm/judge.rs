//! What came of an entry: a way of leaving the guest becomes a trap of the program, or nothing at all.

use super::exit::{self, Leave};
use super::fast;
use super::registers::{is_canonical, user_registers};
use super::supervisor::SyscallRing;
use super::vcpu::{Ring, Vcpu, failed};
use crate::addr::UserAddr;
use crate::machine::{Machine, Paging};
use crate::memory::Resolution;
use crate::trap::{Exception, FIXED_RFLAGS, Registers, RunError, Trap, USER_RFLAGS, Vector};
use guest::layout;
use kvm_bindings::kvm_vcpu_events;

/// How often in a row KVM may fail to get a frame before the thread is given up.
const MAX_HOST_FAULTS: u32 = 64;

/// Opcodes (SDM volume 2).
const ENTER: u8 = 0xc8;
const INT3: u8 = 0xcc;
const INT1: u8 = 0xf1;

impl Vcpu {
    /// Turns a way of leaving the guest into a trap; `None`: go on as before (the leave was nobody's doing).
    pub(super) fn judge(&mut self, mut leave: Leave, registers: &mut Registers) -> Result<Option<Trap>, RunError> {
        if !matches!(leave, Leave::NoFrame) {
            self.host_faults = 0;
        }
        loop {
            leave = match leave {
                Leave::Syscall => {
                    self.ring = match self.flavour.syscall {
                        SyscallRing::Kernel => Ring::Kernel,
                        SyscallRing::User => Ring::User,
                    };
                    return Ok(self.syscall(registers));
                }
                Leave::Vector(vector) => return self.exception(vector, registers),
                Leave::Interrupted => match self.interrupted(registers)? {
                    Some(trap) => return Ok(trap),
                    None => self.run_on(),
                },
                Leave::Port { input } => {
                    // The program's own `in` or `out` to the port that kvm-pvm opens.
                    return Ok(Some(self.own_port_access(registers, input)));
                }
                Leave::NoFrame => {
                    self.host_faults += 1;
                    let resolved = self.rooted.as_ref().map(|rooted| rooted.space.resolve_efault());
                    if resolved != Some(Resolution::Retry) || self.host_faults > MAX_HOST_FAULTS {
                        return Err(RunError("the host could not supply a page of guest memory".to_owned()));
                    }
                    Leave::Interrupted
                }
                Leave::Failed(why) => return Err(RunError(exit::report(&self.fd, &why))),
            };
        }
    }

    /// The thread left by the system-call port. `None`: it has its answer, and goes on with these registers.
    fn syscall(&mut self, registers: &mut Registers) -> Option<Trap> {
        let regs = self.fd.sync_regs().regs;
        *registers = user_registers(&regs);
        if self.ring == Ring::Kernel {
            (registers.rip, registers.rflags) = (regs.rcx, regs.r11 & USER_RFLAGS | FIXED_RFLAGS);
        }
        self.call(registers)
    }

    /// The thread made a call, and goes on with these registers behind it; in the fast path, if it was that which trapped.
    fn call(&mut self, registers: &mut Registers) -> Option<Trap> {
        if fast::is_inside(registers.rip) { self.leave_fast_path(registers) } else { Some(Trap::Syscall) }
    }

    /// The thread was called out where these registers say. It may stand in the fast path: a fault of its that was nobody's
    /// doing leaves it there.
    pub(super) fn kicked(&mut self, registers: &mut Registers) -> Trap {
        let call = if fast::is_inside(registers.rip) { self.leave_fast_path(registers) } else { None };
        call.unwrap_or(Trap::Kicked)
    }

    /// The thread stands in the fast path with these registers. Makes them what they are behind the call that it is
    /// making, and tells whether the call is still to be made. The virtual CPU's post is closed.
    fn leave_fast_path(&mut self, registers: &mut Registers) -> Option<Trap> {
        let outcome = fast::leave(self.pages.call, registers);
        registers.rflags = registers.rflags & USER_RFLAGS | FIXED_RFLAGS;
        self.mask_changed |= outcome == fast::Outcome::Changed;
        let fast::Outcome::Unanswered(why) = outcome else { return None };
        if self.pages.is_posted(registers.rax) {
            self.vm.attendant().trapped(&self.post, &mut self.pace, why);
        }
        Some(Trap::Syscall)
    }

    /// A stub reported a vector; its frame is on the vector's interrupt stack.
    fn exception(&mut self, vector: u8, registers: &mut Registers) -> Result<Option<Trap>, RunError> {
        self.ring = Ring::Kernel;
        self.forget_soft(vector)?;
        let regs = self.fd.sync_regs().regs;
        let frame = exit::frame(self.pages.stacks, vector);
        *registers = user_registers(&regs);
        registers.rsp = frame.rsp;
        if frame.cs & 3 == 0 {
            // `mov ss` in front of SYSCALL defers a debug exception into the stub's first instruction. And kvm-pvm's
            // interpreter, which executes SYSCALL where RSP is not canonical, does arrive in ring 0: there SMEP forbids
            // the page, or the program would be resumed in ring 0.
            let vector = Vector(vector);
            if frame.rip == self.pages.syscall_entry() && matches!(vector, Vector::DEBUG | Vector::PAGE_FAULT) {
                (registers.rip, registers.rflags) = (regs.rcx, regs.r11 & USER_RFLAGS | FIXED_RFLAGS);
                if vector == Vector::PAGE_FAULT {
                    registers.rax = frame.rax;
                }
                return Ok(self.call(registers));
            }
            let vector = vector.0;
            let why = format!("exception {vector} in ring 0 at {:#x}, error {:#x}", frame.rip, frame.error);
            return Err(RunError(exit::report(&self.fd, &why)));
        }
        (registers.rip, registers.rflags) = (frame.rip, frame.rflags & USER_RFLAGS | FIXED_RFLAGS);
        if vector == Vector::PAGE_FAULT.0 {
            registers.rax = frame.rax;
        }
        if fast::is_inside(frame.rip) {
            // It is stepped through: to its debugger a call is one instruction. Or a pointer that it was given faults:
            // a trap finds out what is to become of that.
            if let Some(call) = self.leave_fast_path(registers) {
                return Ok(Some(call));
            }
            if vector != Vector::DEBUG.0 {
                return Ok(None);
            }
        }
        let mut exception = Exception { vector: Vector(vector), error: frame.error, address: UserAddr(0) };
        if vector == Vector::PAGE_FAULT.0 {
            exception.address.0 = regs.rax;
            if self.is_spurious(exception, registers.rip) {
                return Ok(None);
            }
        } else if self.flavour.syscall == SyscallRing::User {
            if vector == Vector::INVALID_OPCODE.0 {
                exception = self.software_interrupt(registers).unwrap_or(exception);
            }
            if !is_canonical(registers.rsp) {
                exception = self.without_stack(exception, registers);
            }
        }
        Ok(Some(Trap::Exception(exception)))
    }

    /// A soft exception has arrived: from now on KVM speaks of one only if another is on its way ([`Self::has_soft`]).
    fn forget_soft(&mut self, vector: u8) -> Result<(), RunError> {
        if self.flavour.syscall == SyscallRing::Kernel || !is_soft(vector) {
            return Ok(());
        }
        // No interrupt is ever injected, and nothing else is told.
        self.fd.set_vcpu_events(&kvm_vcpu_events::default()).map_err(failed("KVM_SET_VCPU_EVENTS"))
    }

    /// Tells whether a soft exception is on its way, the thread's instruction pointer being behind its instruction already.
    ///
    /// KVM does not report those as injected or pending, for on processors that virtualize the instruction has not been passed then,
    /// and is run again. On kvm-pvm it has. The number is reported, of the exception that was last.
    fn has_soft(&self, events: &kvm_vcpu_events) -> bool {
        self.flavour.syscall == SyscallRing::User && is_soft(events.exception.nr)
    }

    /// Tells whether a page fault happened although the entry permits the access: the page was watched for a touch or
    /// compressed, and is back now; or another thread was faster, or a translation is stale. The access is tried again, the second time with fresh translations; the third time in a
    /// row the provider has it, so that nothing is tried for ever.
    fn is_spurious(&mut self, exception: Exception, rip: u64) -> bool {
        let Some(rooted) = &mut self.rooted else { return false };
        if !exit::permits(rooted.space.page_state(exception.address), exception) {
            self.retried = (0, 0, 0);
            return false;
        }
        match rooted.space.make_ready(exception.address) {
            Ok(false) => {}
            Ok(true) => {
                self.retried = (0, 0, 0);
                return true;
            }
            // There is no memory to bring the page back: the provider, who will fail likewise, knows whom to end.
            Err(_) => return false,
        }
        let (last_rip, last_address, count) = self.retried;
        let same = (last_rip, last_address) == (rip, exception.address.0);
        self.retried = (rip, exception.address.0, if same { count + 1 } else { 1 });
        match self.retried.2 {
            1 => true,
            2 => {
                rooted.seen = u64::MAX;
                if self.vm.paging() == Paging::Shadow {
                    self.vm.drop_shadows();
                }
                true
            }
            _ => false,
        }
    }

    /// `int n`, which kvm-pvm reports as #UD, as the processor would report it.
    fn software_interrupt(&mut self, registers: &mut Registers) -> Option<Exception> {
        let mut code = [0; 2];
        let rooted = self.rooted.as_ref()?;
        rooted.space.read(UserAddr(registers.rip), &mut code).ok()?;
        let [0xcd, vector] = code else { return None };
        let address = UserAddr(0);
        if matches!(Vector(vector), Vector::BREAKPOINT | Vector::OVERFLOW | Vector::LEGACY_SYSCALL) {
            registers.rip = registers.rip.wrapping_add(2);
            return Some(Exception { vector: Vector(vector), error: 0, address });
        }
        // The gate is not open to ring 3: the error code names it (SDM volume 3, 6.13).
        Some(Exception { vector: Vector::GENERAL_PROTECTION, error: u32::from(vector) << 3 | 2, address })
    }

    /// An instruction that kvm-pvm leaves to its interpreter because RSP is not canonical, and that the interpreter does not
    /// know: reported as the processor would.
    fn without_stack(&self, exception: Exception, registers: &mut Registers) -> Exception {
        let mut code = [0];
        let read = self.rooted.as_ref().map(|rooted| rooted.space.read(UserAddr(registers.rip), &mut code));
        if !matches!(read, Some(Ok(()))) {
            return exception;
        }
        let plain = |vector| Exception { vector, error: 0, address: UserAddr(0) };
        match (exception.vector, code[0]) {
            (Vector::INVALID_OPCODE, INT3 | INT1) => {
                registers.rip = registers.rip.wrapping_add(1);
                plain(if code[0] == INT3 { Vector::BREAKPOINT } else { Vector::DEBUG })
            }
            (Vector::INVALID_OPCODE, ENTER) => plain(Vector::STACK_FAULT),
            _ => exception,
        }
    }

    /// The program used the system-call port itself: a general protection fault at that instruction.
    fn own_port_access(&mut self, registers: &mut Registers, input: bool) -> Trap {
        self.ring = Ring::User;
        let regs = self.fd.sync_regs().regs;
        *registers = user_registers(&regs);
        registers.rflags = regs.rflags & USER_RFLAGS | FIXED_RFLAGS;
        let address = UserAddr(0);
        let fault = Trap::Exception(Exception { vector: Vector::GENERAL_PROTECTION, error: 0, address });
        if input {
            // KVM has not stepped over it yet, and must not write the answer to the next thread's RAX.
            self.drain();
            return fault;
        }
        // KVM's interpreter has stepped over the instruction: two bytes with the port in it, one with the port in DX.
        let mut code = [0; 2];
        let start = UserAddr(regs.rip.wrapping_sub(2));
        let read = self.rooted.as_ref().map(|rooted| rooted.space.read(start, &mut code));
        let long = matches!(read, Some(Ok(()))) && matches!(code[0], 0xe4..=0xe7) && code[1] == layout::SYSCALL_PORT;
        registers.rip = regs.rip.wrapping_sub(if long { 2 } else { 1 });
        fault
    }

    /// KVM_RUN was interrupted. `Some(trap)`: the thread stands in its program (or has not moved: `Some(None)`);
    /// `None`: it stands in trap code or has an exception coming, and must run on.
    fn interrupted(&mut self, registers: &mut Registers) -> Result<Option<Option<Trap>>, RunError> {
        let events = self.fd.get_vcpu_events().map_err(failed("KVM_GET_VCPU_EVENTS"))?;
        if events.exception.injected != 0 || events.exception.pending != 0 {
            return Ok(None);
        }
        let ring3 = self.fd.get_sregs().map_err(failed("KVM_GET_SREGS"))?.cs.selector & 3 == 3;
        let regs = self.fd.sync_regs().regs;
        self.ring = if ring3 { Ring::User } else { Ring::Kernel };
        if ring3 && self.has_soft(&events) {
            return Ok(None);
        }
        if ring3 {
            *registers = user_registers(&regs);
            registers.rflags = regs.rflags & USER_RFLAGS | FIXED_RFLAGS;
            return Ok(Some(Some(self.kicked(registers))));
        }
        if regs.rip == layout::SYSCALL_PAGE {
            return Ok(Some(Some(self.syscall(registers).unwrap_or(Trap::Kicked))));
        }
        // On a way back nothing has moved yet; in an exception's stub the `out` is near.
        let back = regs.rip == layout::SYSRET || (layout::IRET..layout::TRAP_PAGE + layout::PAGE).contains(&regs.rip);
        Ok(back.then_some(None))
    }
}

/// Exceptions that an instruction raises on purpose: `int3` and `into` (linux/arch/x86/kvm/x86.h, kvm_exception_is_soft).
fn is_soft(vector: u8) -> bool {
    matches!(Vector(vector), Vector::BREAKPOINT | Vector::OVERFLOW)
}
