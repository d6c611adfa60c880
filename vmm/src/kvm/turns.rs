//! Threads beyond the machine's virtual CPUs: they take turns on the last few.
//!
//! Such a pico thread has a host thread, where its provider's calls block, but no virtual CPU. For each entry into user
//! mode it borrows one: its whole state is loaded, it runs until it leaves user mode, and its state is saved. That costs
//! two switches of host threads and some ten microseconds a trap, and takes the limit off the number of threads.
//! A thread that has entered often, or computes long, gets a virtual CPU of its own while there are any.

use super::calls::Calls;
use super::mailbox::{Mailbox, Order};
use super::probe::Flavour;
use super::vcpu::Vcpu;
use super::xsave::Layout;
use crate::memory::AddressSpace;
use crate::pico::{CpuState, reset_area};
use crate::trap::{Attention, DebugRegisters, Registers, Resume, RunError, ThreadState, Trap, UserMode};
use crate::usage::{Meter, Usage};
use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a thread keeps a borrowed virtual CPU while others wait.
const SLICE: Duration = Duration::from_millis(5);

/// The virtual CPUs that are lent, and who waits for one.
///
/// Waiting threads are parked, each by itself, and a virtual CPU that comes back is handed to the first of them. (They
/// used to wait in one condition variable and look every few milliseconds: with 3,000 of them that took more of the
/// machine than all they did.) Only one of them, the timekeeper, looks at the clock on behalf of all.
#[derive(Debug)]
pub(super) struct Turns {
    /// How many there may be.
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    made: usize,
    /// Empty while somebody waits.
    idle: Vec<Arc<Mailbox>>,
    /// Who has borrowed one, oldest first.
    lent: Vec<(Arc<Attention>, Instant)>,
    /// Who waits for one, oldest first.
    waiting: VecDeque<Arc<Waiter>>,
    /// One of those who wait; none if nobody does.
    timekeeper: Option<Arc<Waiter>>,
    closed: bool,
}

/// A parked thread that waits for a virtual CPU.
#[derive(Debug)]
struct Waiter {
    thread: Thread,
    attention: Arc<Attention>,
    /// What it was given. Set and taken while the state is locked.
    given: Mutex<Option<Arc<Mailbox>>>,
}

impl State {
    fn lend(&mut self, worker: Arc<Mailbox>, attention: &Arc<Attention>) -> Arc<Mailbox> {
        self.lent.push((attention.clone(), Instant::now()));
        worker
    }

    /// Gives a free worker to whoever has waited longest.
    fn offer(&mut self, worker: Arc<Mailbox>) {
        if self.closed {
            return worker.close();
        }
        let Some(first) = self.waiting.pop_front() else { return self.idle.push(worker) };
        *lock(&first.given) = Some(self.lend(worker, &first.attention));
        first.thread.unpark();
        self.left(&first);
    }

    /// Finds another timekeeper if this thread, which no longer waits, was it: the last one, who will wait longest.
    fn left(&mut self, waiter: &Arc<Waiter>) {
        if self.timekeeper.as_ref().is_some_and(|keeper| Arc::ptr_eq(keeper, waiter)) {
            self.timekeeper = self.waiting.back().cloned();
            if let Some(keeper) = &self.timekeeper {
                keeper.thread.unpark();
            }
        }
    }

    /// Whoever has had a virtual CPU for too long.
    fn overdue(&self) -> Option<Arc<Attention>> {
        let (oldest, since) = self.lent.first()?;
        (since.elapsed() >= SLICE).then(|| oldest.clone())
    }
}

/// What a thread that waits does next.
enum Wait {
    Over(Result<Option<Arc<Mailbox>>, RunError>),
    Park,
    /// It keeps the time: somebody may have had a virtual CPU for too long.
    KeepTime(Option<Arc<Attention>>),
}

impl Turns {
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
    }

    /// Whether another worker would help: there are fewer than there may be, and none is idle.
    pub(super) fn wants_more(&self) -> bool {
        let state = lock(&self.state);
        state.made < self.most && state.idle.is_empty()
    }

    /// Adds a worker.
    pub(super) fn add(&self, worker: Arc<Mailbox>) {
        let mut state = lock(&self.state);
        state.made += 1;
        state.offer(worker);
    }

    /// Ends the workers, and sends those away that wait for one.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.idle.drain(..).for_each(|worker| worker.close());
        state.waiting.iter().for_each(|waiter| waiter.thread.unpark());
    }

    /// Waits for a virtual CPU. `Ok(None)`: somebody wants the thread's attention meanwhile.
    fn borrow(&self, attention: &Arc<Attention>) -> Result<Option<Arc<Mailbox>>, RunError> {
        let waiter = {
            let mut state = lock(&self.state);
            if let Some(worker) = state.idle.pop() {
                return Ok(Some(state.lend(worker, attention)));
            }
            let waiter =
                Arc::new(Waiter { thread: thread::current(), attention: attention.clone(), given: Mutex::default() });
            state.waiting.push_back(waiter.clone());
            state.timekeeper.get_or_insert_with(|| waiter.clone());
            waiter
        };
        // Before requests are looked at, so that none is missed.
        attention.park_here();
        let result = loop {
            match self.look(&waiter) {
                Wait::Over(result) => break result,
                Wait::Park => thread::park(),
                Wait::KeepTime(overdue) => {
                    if let Some(overdue) = overdue {
                        overdue.raise(Attention::YIELD);
                    }
                    thread::park_timeout(SLICE);
                }
            }
        };
        attention.detach();
        result
    }

    /// Looks whether a thread has to wait on; if not, it is no longer among those who wait.
    fn look(&self, waiter: &Arc<Waiter>) -> Wait {
        let mut state = lock(&self.state);
        if let Some(worker) = lock(&waiter.given).take() {
            return Wait::Over(Ok(Some(worker)));
        }
        if state.closed || waiter.attention.any() {
            state.waiting.retain(|other| !Arc::ptr_eq(other, waiter));
            state.left(waiter);
            let closed = RunError("the machine closes".to_owned());
            return Wait::Over(if state.closed { Err(closed) } else { Ok(None) });
        }
        match &state.timekeeper {
            Some(keeper) if Arc::ptr_eq(keeper, waiter) => Wait::KeepTime(state.overdue()),
            _ => Wait::Park,
        }
    }

    /// Gives a virtual CPU back.
    fn give_back(&self, worker: Arc<Mailbox>, attention: &Arc<Attention>) {
        let mut state = lock(&self.state);
        state.lent.retain(|(borrower, _)| !Arc::ptr_eq(borrower, attention));
        state.offer(worker);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Entries with a borrowed virtual CPU after which a thread gets one of its own, if there is one: by then borrowing has
/// cost as much as making one.
const PROMOTED_AFTER: u32 = 24;

/// What a borrower's pico thread shares with others.
#[derive(Debug)]
pub(super) struct Borrowing {
    pub(super) attention: Arc<Attention>,
    pub(super) calls: Arc<Calls>,
    pub(super) meter: Arc<Meter>,
}

/// A thread that borrows a virtual CPU for each entry, until it has one of its own.
pub(super) struct Borrower<'a> {
    turns: &'a Turns,
    attention: Arc<Attention>,
    /// How its calls are made: by trap, until it has a virtual CPU of its own.
    calls: Arc<Calls>,
    /// Where the CPU time goes that lent virtual CPUs use.
    meter: Arc<Meter>,
    /// While it has no virtual CPU of its own.
    saved: Saved,
    /// How often it has borrowed one since it was last refused one of its own.
    bursts: u32,
    /// Makes one of its own; `None`: there are as many as there may be.
    make: &'a dyn Fn() -> Option<Vcpu>,
    own: Option<Vcpu>,
}

impl fmt::Debug for Borrower<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Borrower").field("bursts", &self.bursts).field("own", &self.own).finish_non_exhaustive()
    }
}

impl<'a> Borrower<'a> {
    pub(super) fn new(
        turns: &'a Turns,
        flavour: &Flavour,
        borrowing: Borrowing,
        make: &'a dyn Fn() -> Option<Vcpu>,
    ) -> Self {
        let Borrowing { attention, calls, meter } = borrowing;
        let (layout, traps_at_addresses) = (flavour.extended, flavour.traps_at_addresses());
        let saved = Saved { layout, traps_at_addresses, state: ThreadState::default() };
        Self { turns, attention, calls, meter, saved, bursts: 0, make, own: None }
    }

    /// The thread is over: gives up the virtual CPU of its own, if it has one that can be used again.
    pub(super) fn finish(mut self) -> Option<Vcpu> {
        let mut vcpu = self.own.take()?;
        self.attention.detach();
        vcpu.release();
        (!vcpu.is_broken()).then_some(vcpu)
    }

    /// Gets the thread a virtual CPU of its own, with its state.
    fn promote(&mut self) {
        self.bursts = 0;
        if let Some(mut vcpu) = (self.make)() {
            vcpu.attach(&self.attention);
            vcpu.attach_calls(&self.calls);
            vcpu.load(&self.saved.state);
            self.own = Some(vcpu);
        }
    }

    /// Runs the thread in user mode on a borrowed virtual CPU until it leaves.
    fn burst(&mut self, space: &Arc<AddressSpace>, registers: &mut Registers) -> Result<Trap, RunError> {
        // What the worker uses goes to the meter below.
        let _rest = self.meter.rest();
        let Some(worker) = self.turns.borrow(&self.attention)? else { return Ok(Trap::Kicked) };
        let (reply, answer) = channel();
        let (mut state, mut running) = (std::mem::take(&mut self.saved.state), *registers);
        let (space, attention, meter) = (space.clone(), self.attention.clone(), Arc::clone(&self.meter));
        worker.send(Order::Burst(Box::new(move |vcpu: &mut Vcpu| {
            let before = Usage::of_this_thread();
            vcpu.attach(&attention);
            vcpu.load(&state);
            let result = vcpu.run(&space, Resume::Full, &mut running, &attention);
            state = vcpu.save();
            attention.detach();
            vcpu.release();
            meter.add(&Usage::of_this_thread().since(&before));
            let _ = reply.send((result, state, running));
        })));
        let answer = answer.recv();
        self.turns.give_back(worker, &self.attention);
        let (result, state, running) =
            answer.map_err(|_| RunError("the virtual CPU's host thread failed".to_owned()))?;
        (self.saved.state, *registers) = (state, running);
        result
    }
}

impl UserMode for Borrower<'_> {
    fn load(&mut self, state: &ThreadState) {
        match &mut self.own {
            Some(vcpu) => vcpu.load(state),
            None => self.saved.state = state.clone(),
        }
    }

    fn save(&mut self) -> ThreadState {
        match &mut self.own {
            Some(vcpu) => vcpu.save(),
            None => self.saved.state.clone(),
        }
    }

    fn run(
        &mut self,
        space: &Arc<AddressSpace>,
        resume: Resume,
        registers: &mut Registers,
        attention: &Attention,
    ) -> Result<Trap, RunError> {
        let mut resume = resume;
        loop {
            if self.own.is_none() && self.bursts >= PROMOTED_AFTER {
                self.promote();
                // Nothing of the last trap is left in it.
                resume = Resume::Full;
            }
            if let Some(vcpu) = &mut self.own {
                return vcpu.run(space, resume, registers, attention);
            }
            let trap = self.burst(space, registers)?;
            self.bursts += 1;
            let yielded = attention.take(Attention::YIELD);
            if yielded {
                // It computes, and would keep those waiting who only come by.
                self.bursts = PROMOTED_AFTER;
            }
            if trap != Trap::Kicked || !yielded || attention.any() {
                return Ok(trap);
            }
        }
    }

    fn state(&mut self) -> &mut dyn CpuState {
        match &mut self.own {
            Some(vcpu) => vcpu,
            None => &mut self.saved,
        }
    }
}

impl CpuState for Borrower<'_> {
    fn xsave_size(&self) -> usize {
        self.saved.xsave_size()
    }

    fn xcr0(&self) -> u64 {
        self.saved.xcr0()
    }

    fn save_xsave(&mut self, area: &mut [u8]) {
        self.state().save_xsave(area);
    }

    fn load_xsave(&mut self, area: &[u8]) {
        self.state().load_xsave(area);
    }

    fn reset_xsave(&mut self) {
        self.state().reset_xsave();
    }

    fn segment_bases(&mut self) -> (u64, u64) {
        self.state().segment_bases()
    }

    fn set_segment_bases(&mut self, fs: u64, gs: u64) {
        self.state().set_segment_bases(fs, gs);
    }

    fn traps_at_addresses(&self) -> bool {
        self.saved.traps_at_addresses()
    }

    fn set_debug_registers(&mut self, registers: &DebugRegisters) {
        self.state().set_debug_registers(registers);
    }

    fn take_debug_status(&mut self) -> u64 {
        self.state().take_debug_status()
    }
}

/// The state of a thread between two entries.
#[derive(Debug)]
struct Saved {
    layout: Layout,
    traps_at_addresses: bool,
    state: ThreadState,
}

impl CpuState for Saved {
    fn xsave_size(&self) -> usize {
        self.layout.size
    }

    fn xcr0(&self) -> u64 {
        self.layout.components
    }

    fn save_xsave(&mut self, area: &mut [u8]) {
        match &self.state.xsave {
            Some(state) => area.iter_mut().zip(state).for_each(|(to, from)| *to = *from),
            None => area.copy_from_slice(&reset_area(area.len())),
        }
    }

    fn load_xsave(&mut self, area: &[u8]) {
        self.state.xsave = Some(area.into());
    }

    fn reset_xsave(&mut self) {
        self.state.xsave = None;
    }

    fn segment_bases(&mut self) -> (u64, u64) {
        (self.state.fs_base, self.state.gs_base)
    }

    fn set_segment_bases(&mut self, fs: u64, gs: u64) {
        (self.state.fs_base, self.state.gs_base) = (fs, gs);
    }

    fn traps_at_addresses(&self) -> bool {
        self.traps_at_addresses
    }

    fn set_debug_registers(&mut self, registers: &DebugRegisters) {
        self.state.debug = *registers;
    }

    fn take_debug_status(&mut self) -> u64 {
        std::mem::take(&mut self.state.debug_status)
    }
}
