//! Threads of pico processes: how they start, stop, and are looked at from outside.

use super::host::CreateError;
use super::process::Process;
use super::provider::Context;
use super::run;
use super::stop::{NotStopped, Stopped, ThreadStatus, Trapped};
use crate::kvm::{Calls, PostedCall, ServeCalls, Served};
use crate::trap::{Attention, Registers, ThreadState};
use crate::usage::Meter;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

/// What a new thread starts with.
#[derive(Debug)]
pub struct ThreadAttributes {
    /// The start registers, `rip` and `rsp` among them.
    pub registers: Registers,
    /// The base of FS.
    pub fs_base: u64,
    /// The base of GS.
    pub gs_base: u64,
    /// Extended state in the standard XSAVE format; `None`: the state after reset.
    pub xsave: Option<Box<[u8]>>,
    /// The provider's object behind the thread.
    pub context: Context,
}

/// Where a thread is between its creation and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not started: its registers are in [`State::saved`].
    Created,
    /// In user mode or in the provider.
    Running,
    /// Suspended: its registers are in [`State::saved`].
    Parked,
    /// Ended.
    Over,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// How many suspensions are not resumed yet.
    pub(super) suspended: u32,
    /// The state of a thread that is created or parked.
    pub(super) saved: ThreadState,
}

/// A thread of a pico process.
#[derive(Debug)]
pub struct Thread {
    id: u64,
    process: Arc<Process>,
    context: Context,
    pub(super) attention: Arc<Attention>,
    pub(super) meter: Arc<Meter>,
    calls: Arc<Calls>,
    state: Mutex<State>,
    pub(super) resumed: Condvar,
    /// Told when a thread that is to stop parks, enters its provider, or ends.
    pub(super) stopped: Condvar,
    /// The registers of its last trap, while its provider serves it.
    pub(super) trapped: Trapped,
}

impl Thread {
    pub(super) fn create(process: &Arc<Process>, attributes: ThreadAttributes) -> Arc<Self> {
        let ThreadAttributes { registers, fs_base, gs_base, xsave, context } = attributes;
        let saved = ThreadState { registers, fs_base, gs_base, xsave, ..ThreadState::default() };
        Arc::new_cyclic(|thread: &Weak<Self>| Self {
            id: process.host.new_id(),
            process: process.clone(),
            context,
            attention: Arc::new(Attention::new(process.host.statistics().kicks())),
            meter: Arc::default(),
            calls: Arc::new(Calls::new(thread.clone())),
            state: Mutex::new(State { phase: Phase::Created, suspended: 0, saved }),
            resumed: Condvar::new(),
            stopped: Condvar::new(),
            trapped: Trapped::default(),
        })
    }

    /// Lets the thread run: a virtual CPU is found for it, and it enters user mode.
    pub fn start(self: &Arc<Self>) -> Result<(), CreateError> {
        run::start(self)
    }

    /// The host's number for this thread; no other process or thread of the host ever has it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The process it belongs to.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// The meter of the CPU time that it uses, in user mode and in its provider. It may be kept when the thread is gone.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// How its system calls are made: all by trap, until its provider says otherwise.
    pub fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// The provider's object.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Makes sure that the provider is called before the thread executes much more of its program.
    ///
    /// A thread in user mode is interrupted. For one that the provider is serving, the next entry becomes a
    /// [`dispatch_kick`](super::Provider::dispatch_kick). Kicks do not count: several may become one call, and any other
    /// upcall that begins after the kick stands for it too.
    pub fn kick(&self) {
        self.attention.raise(Attention::KICK);
    }

    /// Stops the thread before it next enters user mode (suspensions count). [`wait_stopped`](Self::wait_stopped) tells
    /// when it has left it.
    pub fn suspend(&self) {
        let mut state = self.state();
        state.suspended = state.suspended.saturating_add(1);
        // Under the lock: a resumption must not come between the two.
        self.attention.raise(Attention::SUSPEND);
    }

    /// Takes one suspension back.
    pub fn resume(&self) {
        let mut state = self.state();
        state.suspended = state.suspended.saturating_sub(1);
        if state.suspended == 0 {
            self.attention.clear(Attention::SUSPEND);
            self.resumed.notify_all();
            self.stopped.notify_all();
        }
    }

    /// Waits until a suspended thread has left user mode, which takes no longer than a kick does: one that its provider is
    /// serving has. [`NotStopped`] if it is not suspended, or is resumed meanwhile.
    pub fn wait_stopped(&self) -> Result<Stopped, NotStopped> {
        let mut state = self.state();
        loop {
            match state.phase {
                Phase::Over => return Ok(Stopped::Ended),
                _ if state.suspended == 0 => return Err(NotStopped),
                Phase::Created | Phase::Parked => return Ok(Stopped::Parked),
                Phase::Running if self.trapped.is_inside() => return Ok(Stopped::InProvider),
                Phase::Running => {}
            }
            state = self.stopped.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What it is doing.
    pub fn status(&self) -> ThreadStatus {
        match self.state().phase {
            Phase::Created => ThreadStatus::Created,
            Phase::Parked => ThreadStatus::Suspended,
            Phase::Over => ThreadStatus::Ended,
            Phase::Running if self.trapped.is_inside() => ThreadStatus::InProvider,
            Phase::Running => ThreadStatus::Running,
        }
    }

    /// Tells whether it is suspended, be it stopped yet or not.
    pub fn is_suspended(&self) -> bool {
        self.state().suspended > 0
    }

    /// The registers of a stopped thread; of one that its provider is serving, those that it left user mode with.
    pub fn trapped_registers(&self) -> Result<Registers, NotStopped> {
        if let Ok(registers) = self.registers() {
            return Ok(registers);
        }
        self.trapped.registers().ok_or(NotStopped)
    }

    /// The thread has left user mode with these registers, and its provider is about to serve it.
    pub(super) fn enter_provider(&self, registers: &Registers) {
        self.trapped.enter(registers);
        if self.attention.is_raised(Attention::SUSPEND) {
            // With the lock, since whoever waits has looked at the above under it.
            let _state = self.state();
            self.stopped.notify_all();
        }
    }

    /// The provider has served the thread.
    pub(super) fn leave_provider(&self) {
        self.trapped.leave();
    }

    /// Ends the thread: it never enters user mode again. The provider hears of it through
    /// [`exit_thread`](super::Provider::exit_thread), at once for a thread that never started.
    pub fn terminate(self: &Arc<Self>) {
        run::terminate(self);
    }

    /// The registers of a thread that is stopped (not started, or suspended and parked).
    pub fn registers(&self) -> Result<Registers, NotStopped> {
        self.stopped().map(|state| state.saved.registers)
    }

    /// Replaces the registers of a stopped thread.
    pub fn set_registers(&self, registers: Registers) -> Result<(), NotStopped> {
        self.stopped()?.saved.registers = registers;
        Ok(())
    }

    /// The bases of FS and GS of a stopped thread.
    pub fn segment_bases(&self) -> Result<(u64, u64), NotStopped> {
        self.stopped().map(|state| (state.saved.fs_base, state.saved.gs_base))
    }

    /// Replaces the bases of FS and GS of a stopped thread (NT: `SetThreadDescriptorBase`). A running thread's provider
    /// uses [`CpuState::set_segment_bases`](super::CpuState::set_segment_bases).
    pub fn set_segment_bases(&self, fs: u64, gs: u64) -> Result<(), NotStopped> {
        let mut state = self.stopped()?;
        (state.saved.fs_base, state.saved.gs_base) = (fs, gs);
        Ok(())
    }

    pub(super) fn stopped(&self) -> Result<MutexGuard<'_, State>, NotStopped> {
        let state = self.state();
        if matches!(state.phase, Phase::Created | Phase::Parked) { Ok(state) } else { Err(NotStopped) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServeCalls for Thread {
    fn serve(&self, call: &PostedCall) -> Option<Served> {
        let result = self.process.host.provider()?.dispatch_posted_call(&self.context, call)?;
        Some(Served { result, is_wanted: self.attention.any() })
    }
}
