//! A virtual CPU: one entry into user mode after another.
//!
//! When the guest is left, KVM holds the thread in one of two places: at a stub's `out` in ring 0, or in ring 3 (on
//! kvm-pvm after a SYSCALL, and everywhere after a kick). From ring 0 it goes on only at one of the ways back in the trap
//! image, with a frame that the monitor wrote and whose selectors are ring 3's; from ring 3 with new registers. The RIP
//! that KVM reports at an `out` is never built upon, and setting another one also cancels KVM's own step over the `out`.

use super::door::Door;
use super::exit::{self, Leave};
use super::probe::Flavour;
use super::setup;
use super::supervisor::{CpuPages, RETURN_FRAME, SyscallRing};
use super::vm::{Vm, identity};
use super::xsave;
use crate::addr::{GuestPhys, UserAddr};
use crate::machine::{Machine, Paging};
use crate::memory::{AddressSpace, Entry, Resolution, Root};
use crate::pico::CpuState;
use crate::trap::{
    Attention, Exception, FIXED_RFLAGS, Registers, Resume, RunError, ThreadState, Trap, USER_RFLAGS, UserMode, Vector,
};
use guest::layout;
use kvm_bindings::kvm_regs;
use kvm_ioctls::{SyncReg, VcpuFd};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The ring in which KVM holds the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ring {
    /// At a stub.
    Kernel,
    /// In the program, or on kvm-pvm in the system-call page.
    User,
}

/// RFLAGS bits that SYSRET cannot restore as a program expects: RF is lost, TF traps too early.
const NOT_BY_SYSRET: u64 = 1 << 8 | 1 << 16;

/// How often in a row KVM may fail to get a frame before the thread is given up.
const MAX_HOST_FAULTS: u32 = 64;

/// The address space that the virtual CPU's root belongs to.
#[derive(Debug)]
struct Rooted {
    space: Arc<AddressSpace>,
    root: Root,
    /// The space's generation when translations were last known to be fresh.
    seen: u64,
}

/// A virtual CPU of the calling thread.
#[derive(Debug)]
pub(super) struct Vcpu {
    pub(super) fd: VcpuFd,
    pub(super) pages: CpuPages,
    pub(super) flavour: Flavour,
    vm: Arc<Vm>,
    door: Arc<Door>,
    pub(super) ring: Ring,
    rooted: Option<Rooted>,
    /// The root that CR3 still holds, until the next entry has loaded the new one.
    leaving: Option<Rooted>,
    /// FS and GS base to load before the next entry, which also loads CR3.
    staged: Option<(u64, u64)>,
    /// The page fault that was tried again last: RIP, address, how often.
    retried: (u64, u64, u32),
    /// How often in a row KVM could not get a frame.
    host_faults: u32,
    broken: bool,
    /// Only the thread that made it may use it.
    _not_send: PhantomData<*mut ()>,
}

impl Vcpu {
    /// Makes a virtual CPU of the calling thread, which stays the only one that uses it.
    pub(super) fn new(vm: &Arc<Vm>, pages: CpuPages, flavour: Flavour) -> Result<Self, kvm_ioctls::Error> {
        let mut fd = vm.create_vcpu()?;
        setup::set_up(&fd, &flavour.cpuid, flavour.syscall, flavour.xcr0)?;
        pages.open_port(flavour.syscall);
        pages.map_syscall_page(flavour.syscall);
        fd.set_sync_valid_reg(SyncReg::Register);
        let immediate_exit = &raw mut fd.get_kvm_run().immediate_exit;
        // SAFETY: the byte stays mapped until this virtual CPU is dropped, by its own thread, which clears it first.
        unsafe { super::door::set_exit_byte(immediate_exit) };
        let door = Arc::new(Door::new());
        vm.add_door(door.clone());
        Ok(Self {
            fd,
            pages,
            flavour,
            vm: vm.clone(),
            door,
            ring: Ring::Kernel,
            rooted: None,
            leaving: None,
            staged: None,
            retried: (0, 0, 0),
            host_faults: 0,
            broken: false,
            _not_send: PhantomData,
        })
    }

    /// Lets kicks of a thread reach it here.
    pub(super) fn attach(&self, attention: &Attention) {
        attention.attach(self.door.clone());
    }

    /// Runs code at `rip` in ring 3 under a root that belongs to no address space, until it leaves.
    pub(super) fn probe(&mut self, root: GuestPhys, rip: u64) -> Result<Leave, kvm_ioctls::Error> {
        let mut sregs = self.fd.get_sregs()?;
        setup::enter_ring0(&mut sregs, root);
        self.fd.set_sregs(&sregs)?;
        let registers = Registers { rip, rflags: FIXED_RFLAGS, ..Registers::default() };
        self.compose(Resume::Full, &registers, false);
        Ok(self.enter())
    }

    /// Whether KVM's state is beyond use after a failure.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Forgets the thread, and with it the hold on its address space.
    pub(super) fn release(&mut self) {
        (self.rooted, self.leaving, self.staged) = (None, None, None);
    }

    /// Makes `space` the one that the next entry runs in.
    fn root_in(&mut self, space: &Arc<AddressSpace>) -> Result<(), RunError> {
        if self.rooted.as_ref().is_some_and(|rooted| Arc::ptr_eq(&rooted.space, space)) {
            return Ok(());
        }
        let root = space
            .make_root(Entry(self.pages.top_entry))
            .map_err(|error| RunError(format!("a page-table root: {error}")))?;
        // No virtual CPU has run with this root, but its page may have been another one before.
        let old = self.rooted.replace(Rooted { space: space.clone(), root, seen: u64::MAX });
        if self.leaving.is_none() {
            self.leaving = old;
        }
        Ok(())
    }

    /// Brings segment bases, ring and CR3 to where the next entry needs them, with register ioctls if there is no
    /// cheaper way. Returns whether the way back must load CR3.
    fn settle(&mut self, fresh: bool) -> Result<bool, RunError> {
        let Some(rooted) = &self.rooted else { return Ok(false) };
        let in_guest = self.flavour.syscall == SyscallRing::Kernel;
        if let Some((fs, gs)) = self.staged.take() {
            let mut sregs = self.fd.get_sregs().map_err(failed("KVM_GET_SREGS"))?;
            (sregs.fs.base, sregs.gs.base) = (canonical(fs), canonical(gs));
            setup::enter_ring0(&mut sregs, rooted.root.phys());
            self.fd.set_sregs(&sregs).map_err(failed("KVM_SET_SREGS"))?;
            (self.ring, self.leaving) = (Ring::Kernel, None);
            return Ok(in_guest && !fresh);
        }
        if self.leaving.is_none() && fresh {
            return Ok(false);
        }
        if in_guest && self.ring == Ring::Kernel {
            return Ok(true);
        }
        let mut sregs = self.fd.get_sregs().map_err(failed("KVM_GET_SREGS"))?;
        if in_guest {
            setup::enter_ring0(&mut sregs, rooted.root.phys());
            self.ring = Ring::Kernel;
        } else {
            sregs.cr3 = rooted.root.phys().0;
        }
        self.fd.set_sregs(&sregs).map_err(failed("KVM_SET_SREGS"))?;
        self.leaving = None;
        Ok(in_guest)
    }

    /// Writes the registers of the next entry to KVM's page.
    fn compose(&mut self, resume: Resume, to: &Registers, load_root: bool) {
        let flags = to.rflags & USER_RFLAGS | FIXED_RFLAGS;
        let mut regs = general(to);
        (regs.rip, regs.rflags) = (to.rip, flags);
        if self.ring == Ring::Kernel {
            regs.rflags = 2;
            if resume == Resume::Return && !load_root && flags & NOT_BY_SYSRET == 0 {
                (regs.rcx, regs.r11, regs.rip) = (to.rip, flags, layout::SYSRET);
            } else {
                let selectors = (u64::from(layout::USER_CODE), u64::from(layout::USER_DATA));
                let frame = [to.rip, selectors.0, flags, to.rsp, selectors.1];
                for (word, at) in frame.into_iter().zip((RETURN_FRAME..).step_by(8)) {
                    self.pages.stacks.store(at, word);
                }
                (regs.rip, regs.rsp) = (layout::IRET, layout::STACKS + RETURN_FRAME);
                if let (true, Some(rooted)) = (load_root, &self.rooted) {
                    self.pages.stacks.store(RETURN_FRAME - 8, to.rax);
                    (regs.rip, regs.rsp, regs.rax) = (layout::SWITCH_IRET, regs.rsp - 8, rooted.root.phys().0);
                }
            }
        }
        self.fd.sync_regs_mut().regs = regs;
        self.fd.set_sync_dirty_reg(SyncReg::Register);
    }

    /// Enters the guest with what [`Self::compose`] wrote, or on from where it stands.
    fn enter(&mut self) -> Leave {
        exit::run(&mut self.fd)
    }

    /// Whether stale translations live in the processor only, so that a changed generation asks for a flush.
    fn flushes(&self) -> bool {
        self.vm.paging() == Paging::Hardware
    }

    /// One entry: waits until the space is open, enters, and reports how the guest was left. `None`: somebody wants the
    /// thread's attention, and it has not entered.
    fn pass(&mut self, resume: Resume, to: &Registers, attention: &Attention) -> Result<Option<Leave>, RunError> {
        loop {
            let Some(rooted) = &self.rooted else { return Err(RunError("no address space".to_owned())) };
            let space = rooted.space.clone();
            let sync = space.sync();
            let generation = sync.generation.load(Ordering::SeqCst);
            let fresh = rooted.seen == generation || !self.flushes();
            let load_root = self.settle(fresh)?;
            self.compose(resume, to, load_root);
            self.fd.set_kvm_immediate_exit(0);
            self.door.enter(identity(sync));
            if attention.any() {
                self.door.leave();
                return Ok(None);
            }
            if sync.held.load(Ordering::SeqCst) != 0 {
                self.door.leave();
                self.vm.wait_open(sync);
                continue;
            }
            if self.flushes() && sync.generation.load(Ordering::SeqCst) != generation {
                self.door.leave();
                continue;
            }
            let leave = self.enter();
            self.door.leave();
            let started = !matches!(leave, Leave::Interrupted) || self.fd.sync_regs().regs.rip != layout::SWITCH_IRET;
            if started {
                self.leaving = None;
                if let Some(rooted) = &mut self.rooted {
                    rooted.seen = generation;
                }
            }
            return Ok(Some(leave));
        }
    }

    /// Lets the guest run on until it reaches a stub's `out`: an exception is on its way there, or a frame was missing.
    fn run_on(&mut self) -> Leave {
        let Some(rooted) = &self.rooted else { return Leave::Failed("no address space".to_owned()) };
        let space = rooted.space.clone();
        let sync = space.sync();
        loop {
            self.fd.clear_sync_dirty_reg(SyncReg::Register);
            self.fd.set_kvm_immediate_exit(0);
            self.door.enter(identity(sync));
            if sync.held.load(Ordering::SeqCst) != 0 {
                self.door.leave();
                self.vm.wait_open(sync);
                continue;
            }
            let leave = self.enter();
            self.door.leave();
            return leave;
        }
    }

    /// Completes an exit that KVM would otherwise complete after new registers are set.
    fn drain(&mut self) {
        self.fd.clear_sync_dirty_reg(SyncReg::Register);
        self.fd.set_kvm_immediate_exit(1);
        let _ = exit::run(&mut self.fd);
    }

    /// Turns a way of leaving the guest into a trap; `None`: go on as before (the leave was nobody's doing).
    fn judge(&mut self, mut leave: Leave, registers: &mut Registers) -> Result<Option<Trap>, RunError> {
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
                    return Ok(Some(self.syscall(registers)));
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

    /// The thread executed SYSCALL.
    fn syscall(&self, registers: &mut Registers) -> Trap {
        let regs = self.fd.sync_regs().regs;
        *registers = user_registers(&regs);
        (registers.rip, registers.rflags) = (regs.rcx, regs.r11 & USER_RFLAGS | FIXED_RFLAGS);
        Trap::Syscall
    }

    /// A stub reported a vector; its frame is on the vector's interrupt stack.
    fn exception(&mut self, vector: u8, registers: &mut Registers) -> Result<Option<Trap>, RunError> {
        self.ring = Ring::Kernel;
        let regs = self.fd.sync_regs().regs;
        let frame = exit::frame(self.pages.stacks, vector);
        *registers = user_registers(&regs);
        registers.rsp = frame.rsp;
        if frame.cs & 3 == 0 {
            // `mov ss` in front of SYSCALL defers a debug exception into the stub's first instruction. And kvm-pvm's
            // interpreter, which executes SYSCALL where RSP is not canonical, does arrive in ring 0: there SMEP forbids
            // the page, or the program would be resumed in ring 0.
            let vector = Vector(vector);
            if frame.rip == layout::SYSCALL_PAGE && matches!(vector, Vector::DEBUG | Vector::PAGE_FAULT) {
                (registers.rip, registers.rflags) = (regs.rcx, regs.r11 & USER_RFLAGS | FIXED_RFLAGS);
                if vector == Vector::PAGE_FAULT {
                    registers.rax = frame.rax;
                }
                return Ok(Some(Trap::Syscall));
            }
            let vector = vector.0;
            let why = format!("exception {vector} in ring 0 at {:#x}, error {:#x}", frame.rip, frame.error);
            return Err(RunError(exit::report(&self.fd, &why)));
        }
        (registers.rip, registers.rflags) = (frame.rip, frame.rflags & USER_RFLAGS | FIXED_RFLAGS);
        let mut exception = Exception { vector: Vector(vector), error: frame.error, address: UserAddr(0) };
        if vector == Vector::PAGE_FAULT.0 {
            exception.address.0 = regs.rax;
            registers.rax = frame.rax;
            if self.is_spurious(exception, registers.rip) {
                return Ok(None);
            }
        } else if vector == Vector::INVALID_OPCODE.0 && self.flavour.syscall == SyscallRing::User {
            exception = self.software_interrupt(registers).unwrap_or(exception);
        }
        Ok(Some(Trap::Exception(exception)))
    }

    /// Tells whether a page fault happened although the entry permits the access: another thread was faster, or a
    /// translation is stale. The access is tried again, the second time with fresh translations; the third time in a
    /// row the provider has it, so that nothing is tried for ever.
    fn is_spurious(&mut self, exception: Exception, rip: u64) -> bool {
        let Some(rooted) = &mut self.rooted else { return false };
        if !exit::permits(rooted.space.page_state(exception.address), exception) {
            self.retried = (0, 0, 0);
            return false;
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
        if ring3 && regs.rip != layout::SYSCALL_PAGE {
            self.ring = Ring::User;
            *registers = user_registers(&regs);
            registers.rflags = regs.rflags & USER_RFLAGS | FIXED_RFLAGS;
            return Ok(Some(Some(Trap::Kicked)));
        }
        self.ring = if ring3 { Ring::User } else { Ring::Kernel };
        if regs.rip == layout::SYSCALL_PAGE {
            return Ok(Some(Some(self.syscall(registers))));
        }
        // On a way back nothing has moved yet; in an exception's stub the `out` is near.
        let back = regs.rip == layout::SYSRET || (layout::IRET..layout::TRAP_PAGE + layout::PAGE).contains(&regs.rip);
        Ok(back.then_some(None))
    }
}

impl UserMode for Vcpu {
    fn load(&mut self, state: &ThreadState) {
        self.staged = Some((state.fs_base, state.gs_base));
        let done = match &state.xsave {
            Some(area) => xsave::load(&self.fd, self.flavour.extended, area),
            None => xsave::reset(&self.fd, self.flavour.extended),
        };
        report_failure("KVM_SET_XSAVE", done);
    }

    fn save(&mut self) -> ThreadState {
        let mut area = vec![0; self.flavour.extended.size].into_boxed_slice();
        self.save_xsave(&mut area);
        let (fs_base, gs_base) = self.segment_bases();
        ThreadState { registers: Registers::default(), fs_base, gs_base, xsave: Some(area) }
    }

    fn run(
        &mut self,
        space: &Arc<AddressSpace>,
        resume: Resume,
        registers: &mut Registers,
        attention: &Attention,
    ) -> Result<Trap, RunError> {
        let trap = self.serve(space, resume, registers, attention);
        self.broken |= trap.is_err();
        trap
    }

    fn state(&mut self) -> &mut dyn CpuState {
        self
    }
}

impl Vcpu {
    fn serve(
        &mut self,
        space: &Arc<AddressSpace>,
        resume: Resume,
        registers: &mut Registers,
        attention: &Attention,
    ) -> Result<Trap, RunError> {
        self.root_in(space)?;
        let mut resume = resume;
        loop {
            if !is_canonical(registers.rip) {
                // The processor would refuse in ring 0; Linux turns that into a fault of the program.
                let address = UserAddr(0);
                return Ok(Trap::Exception(Exception { vector: Vector::GENERAL_PROTECTION, error: 0, address }));
            }
            let Some(leave) = self.pass(resume, registers, attention)? else { return Ok(Trap::Kicked) };
            if let Some(trap) = self.judge(leave, registers)? {
                return Ok(trap);
            }
            resume = Resume::Full;
        }
    }
}

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
            Err(error) => panic!("KVM_GET_SREGS fails only without a virtual CPU: {error}"),
        }
    }

    fn set_segment_bases(&mut self, fs: u64, gs: u64) {
        let done = self.fd.get_sregs().and_then(|mut sregs| {
            (sregs.fs.base, sregs.gs.base) = (canonical(fs), canonical(gs));
            self.fd.set_sregs(&sregs)
        });
        report_failure("KVM_SET_SREGS", done);
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        // SAFETY: null is always allowed.
        unsafe { super::door::set_exit_byte(std::ptr::null_mut()) };
    }
}

fn failed(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> RunError {
    move |error| RunError(format!("{what}: {error}"))
}

/// These ioctls fail only on arguments that this module does not pass, so a failure is a bug of ours.
fn report_failure(what: &str, done: Result<(), kvm_ioctls::Error>) {
    if let Err(error) = done {
        panic!("{what} refused state that was checked before: {error}");
    }
}

/// Whether the processor would take `address` as RIP (4-level paging).
fn is_canonical(address: u64) -> bool {
    canonical(address) == address
}

/// The canonical address with the same low 48 bits.
fn canonical(address: u64) -> u64 {
    ((address << 16).cast_signed() >> 16).cast_unsigned()
}

fn user_registers(regs: &kvm_regs) -> Registers {
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

fn general(from: &Registers) -> kvm_regs {
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
