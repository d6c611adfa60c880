//! A virtual CPU: one entry into user mode after another.
//!
//! When the guest is left, KVM holds the thread in one of two places: at a stub's `out` in ring 0, or in ring 3 (on
//! kvm-pvm after a SYSCALL, and everywhere after a kick). From ring 0 it goes on only at one of the ways back in the trap
//! image, with a frame that the monitor wrote and whose selectors are ring 3's; from ring 3 with new registers. The RIP
//! that KVM reports at an `out` is never built upon, and setting another one also cancels KVM's own step over the `out`.

use super::attendant::Pace;
use super::calls::Calls;
use super::door::Door;
use super::exit::{self, Leave};
use super::post::Post;
use super::probe::Flavour;
use super::registers::{canonical, general, is_canonical, user_registers};
use super::setup;
use super::state::report_failure;
use super::supervisor::{CpuPages, RETURN_FRAME, SyscallRing};
use super::vm::{Vm, identity};
use super::xsave;
use crate::addr::{GuestPhys, UserAddr};
use crate::machine::{Machine, Paging};
use crate::memory::{AddressSpace, Entry, Root};
use crate::pico::CpuState;
use crate::trap::{
    Attention, DebugRegisters, Exception, FIXED_RFLAGS, Registers, Resume, RunError, ThreadState, Trap, USER_RFLAGS,
    UserMode, Vector,
};
use guest::layout;
use kvm_bindings::kvm_sregs;
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

/// The address space that the virtual CPU's root belongs to.
#[derive(Debug)]
pub(super) struct Rooted {
    pub(super) space: Arc<AddressSpace>,
    root: Root,
    /// The space's generation when translations were last known to be fresh.
    pub(super) seen: u64,
}

/// A virtual CPU of the calling thread.
#[derive(Debug)]
pub(super) struct Vcpu {
    pub(super) fd: VcpuFd,
    pub(super) pages: CpuPages,
    pub(super) flavour: Flavour,
    /// The system registers that a thread starts with, but for its root and its bases.
    fresh: kvm_sregs,
    pub(super) vm: Arc<Vm>,
    door: Arc<Door>,
    pub(super) ring: Ring,
    pub(super) rooted: Option<Rooted>,
    /// The root that CR3 still holds, until the next entry has loaded the new one.
    leaving: Option<Rooted>,
    /// FS and GS base to load with the next entry, which also loads CR3. They stay here until KVM has taken them.
    pub(super) staged: Option<(u64, u64)>,
    /// The debug registers that KVM holds.
    pub(super) debug: DebugRegisters,
    /// The page fault that was tried again last: RIP, address, how often.
    pub(super) retried: (u64, u64, u32),
    /// How often in a row KVM could not get a frame.
    pub(super) host_faults: u32,
    broken: bool,
    /// The thread has changed its mask: its provider is to look what that lets through before it goes on.
    pub(super) mask_changed: bool,
    /// Where calls are taken that its thread posts.
    pub(super) post: Arc<Post>,
    /// How its thread's calls have followed each other.
    pub(super) pace: Pace,
    /// Only the thread that made it may use it.
    _not_send: PhantomData<*mut ()>,
}

impl Vcpu {
    /// Makes a virtual CPU of the calling thread, which stays the only one that uses it.
    pub(super) fn new(vm: &Arc<Vm>, pages: CpuPages, flavour: Flavour) -> Result<Self, kvm_ioctls::Error> {
        let mut fd = vm.create_vcpu()?;
        let fresh = setup::set_up(&fd, &flavour, pages.syscall_entry())?;
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
            fresh,
            vm: vm.clone(),
            door,
            ring: Ring::Kernel,
            rooted: None,
            leaving: None,
            staged: None,
            debug: DebugRegisters::default(),
            retried: (0, 0, 0),
            host_faults: 0,
            broken: false,
            mask_changed: false,
            post: Post::new(&pages),
            pace: Pace::default(),
            _not_send: PhantomData,
        })
    }

    /// Lets kicks of a thread reach it here.
    pub(super) fn attach(&self, attention: &Attention) {
        attention.attach(self.door.clone());
    }

    /// Lets a thread that stays make its calls without traps.
    pub(super) fn attach_calls(&mut self, calls: &Arc<Calls>) {
        self.post.attach(calls);
        self.pace = Pace::default();
    }

    /// Runs code at `rip` in ring 3 under a root that belongs to no address space, until it leaves.
    pub(super) fn probe(&mut self, root: GuestPhys, rip: u64) -> Result<Leave, kvm_ioctls::Error> {
        let mut sregs = self.fresh;
        setup::enter_ring0(&mut sregs, root);
        self.fd.set_sregs(&sregs)?;
        let registers = Registers { rip, rflags: FIXED_RFLAGS, ..Registers::default() };
        self.compose(Resume::Full, &registers, false);
        loop {
            match self.enter() {
                // By a signal of somebody's: it goes on where it was.
                Leave::Interrupted => {}
                leave => return Ok(leave),
            }
        }
    }

    /// Whether KVM's state is beyond use after a failure.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Forgets the thread, and with it the hold on its address space.
    pub(super) fn release(&mut self) {
        self.post.detach(&self.pages);
        (self.rooted, self.leaving, self.staged) = (None, None, None);
        self.fd.clear_sync_dirty_reg(SyncReg::SystemRegister);
    }

    /// Makes `space` the one that the next entry runs in.
    fn root_in(&mut self, space: &Arc<AddressSpace>) -> Result<(), RunError> {
        if self.rooted.as_ref().is_some_and(|rooted| Arc::ptr_eq(&rooted.space, space)) {
            return Ok(());
        }
        let root = space
            .make_root(Entry(self.pages.top_entry()))
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
        if let Some((fs, gs)) = self.staged {
            // With the entry itself: each call that names a virtual CPU loads it first, which costs as much as a trap where
            // the host is virtual.
            let mut sregs = self.fresh;
            (sregs.fs.base, sregs.gs.base) = (canonical(fs), canonical(gs));
            if in_guest {
                setup::enter_ring0(&mut sregs, rooted.root.phys());
                self.ring = Ring::Kernel;
            } else {
                // Its ring 0 is interpreted, and the way from there to the program with it.
                setup::enter_ring3(&mut sregs, rooted.root.phys());
                self.ring = Ring::User;
            }
            self.fd.sync_regs_mut().sregs = sregs;
            self.fd.set_sync_dirty_reg(SyncReg::SystemRegister);
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
            let in_guest = self.flavour.syscall == SyscallRing::Kernel;
            if in_guest && resume == Resume::Return && !load_root && flags & NOT_BY_SYSRET == 0 {
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

    /// As [`Self::enter`], while the thread's posted calls may be taken: until its post is shut.
    fn enter_attended(&mut self) -> Leave {
        self.vm.attendant().enters();
        self.post.open();
        let leave = self.enter();
        self.vm.attendant().leaves();
        leave
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
            space.note_entry();
            if self.vm.is_halted() {
                self.stay_out(*to);
            }
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
            let leave = self.enter_attended();
            if self.vm.is_halted() {
                self.stay_out(user_registers(&self.fd.sync_regs().regs));
            }
            self.door.leave();
            // Whoever acts for the thread may wait for the door.
            self.post.shut();
            // KVM says what it has taken, which an entry that was called off in time may have, too.
            if self.fd.get_kvm_run().kvm_dirty_regs & SyncReg::SystemRegister as u64 == 0 {
                self.staged = None;
            }
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
    pub(super) fn run_on(&mut self) -> Leave {
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

    /// The machine is halted: says where the thread stands, and waits for the monitor's end.
    #[cold]
    fn stay_out(&self, registers: Registers) -> ! {
        self.door.halted_at(registers);
        self.door.leave();
        loop {
            std::thread::park();
        }
    }

    /// Completes an exit that KVM would otherwise complete after new registers are set.
    pub(super) fn drain(&mut self) {
        self.fd.clear_sync_dirty_reg(SyncReg::Register);
        self.fd.set_kvm_immediate_exit(1);
        let _ = exit::run(&mut self.fd);
    }
}

impl UserMode for Vcpu {
    fn load(&mut self, state: &ThreadState) {
        self.staged = Some((state.fs_base, state.gs_base));
        self.set_debug_registers(&state.debug);
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
        let debug = self.debug;
        let debug_status = if debug == DebugRegisters::default() { 0 } else { self.take_debug_status() };
        ThreadState { registers: Registers::default(), fs_base, gs_base, xsave: Some(area), debug, debug_status }
    }

    fn run(
        &mut self,
        space: &Arc<AddressSpace>,
        resume: Resume,
        registers: &mut Registers,
        attention: &Attention,
    ) -> Result<Trap, RunError> {
        let trap = self.serve(space, resume, registers, attention);
        if std::mem::take(&mut self.mask_changed) {
            attention.owe();
        }
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
            let Some(leave) = self.pass(resume, registers, attention)? else { return Ok(self.kicked(registers)) };
            let trap = self.judge(leave, registers)?;
            if std::mem::take(&mut self.mask_changed) {
                attention.owe();
            }
            if let Some(trap) = trap {
                return Ok(trap);
            }
            resume = Resume::Full;
        }
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        // SAFETY: null is always allowed.
        unsafe { super::door::set_exit_byte(std::ptr::null_mut()) };
    }
}

pub(super) fn failed(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> RunError {
    move |error| RunError(format!("{what}: {error}"))
}
