//! Threads beyond the machine's virtual CPUs: they take turns on the last few.
//!
//! Such a pico thread has a host thread, where its provider's calls block, but no virtual CPU. For each entry into user
//! mode it borrows one: its whole state is loaded, it runs until it leaves user mode, and its state is saved. That costs
//! two switches of host threads and some ten microseconds a trap, and takes the limit off the number of threads.

use super::mailbox::{Mailbox, Order};
use super::vcpu::Vcpu;
use super::xsave::Layout;
use crate::memory::AddressSpace;
use crate::pico::{CpuState, reset_area};
use crate::trap::{Attention, Registers, Resume, RunError, ThreadState, Trap, UserMode};
use crate::usage::{Meter, Usage};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a thread keeps a borrowed virtual CPU while others wait.
const SLICE: Duration = Duration::from_millis(5);

/// The virtual CPUs that are lent.
#[derive(Debug)]
pub(super) struct Turns {
    /// How many there may be.
    most: usize,
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Debug, Default)]
struct State {
    made: usize,
    idle: Vec<Arc<Mailbox>>,
    /// Who has borrowed one, oldest first.
    lent: Vec<(Arc<Attention>, Instant)>,
    closed: bool,
}

impl Turns {
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: Mutex::default(), free: Condvar::new() }
    }

    /// Whether another worker would help: there are fewer than there may be, and none is idle.
    pub(super) fn wants_more(&self) -> bool {
        let state = self.lock();
        state.made < self.most && state.idle.is_empty()
    }

    /// Adds a worker.
    pub(super) fn add(&self, worker: Arc<Mailbox>) {
        let mut state = self.lock();
        state.made += 1;
        state.idle.push(worker);
        self.free.notify_one();
    }

    /// Ends the workers, and sends those away that wait for one.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.idle.drain(..).for_each(|worker| worker.close());
        self.free.notify_all();
    }

    /// Waits for a virtual CPU. `Ok(None)`: somebody wants the thread's attention meanwhile.
    fn borrow(&self, attention: &Arc<Attention>) -> Result<Option<Arc<Mailbox>>, RunError> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return Err(RunError("the machine closes".to_owned()));
            }
            if let Some(worker) = state.idle.pop() {
                state.lent.push((attention.clone(), Instant::now()));
                return Ok(Some(worker));
            }
            if attention.any() {
                return Ok(None);
            }
            if let Some((oldest, since)) = state.lent.first()
                && since.elapsed() >= SLICE
            {
                oldest.raise(Attention::YIELD);
            }
            state = self.free.wait_timeout(state, SLICE).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives a virtual CPU back.
    fn give_back(&self, worker: Arc<Mailbox>, attention: &Arc<Attention>) {
        let mut state = self.lock();
        state.lent.retain(|(borrower, _)| !Arc::ptr_eq(borrower, attention));
        if state.closed {
            worker.close();
        } else {
            state.idle.push(worker);
        }
        self.free.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that borrows a virtual CPU for each entry.
#[derive(Debug)]
pub(super) struct Borrower<'a> {
    turns: &'a Turns,
    layout: Layout,
    attention: Arc<Attention>,
    /// Where the CPU time goes that lent virtual CPUs use.
    meter: Arc<Meter>,
    state: ThreadState,
}

impl<'a> Borrower<'a> {
    pub(super) fn new(turns: &'a Turns, layout: Layout, attention: Arc<Attention>, meter: Arc<Meter>) -> Self {
        Self { turns, layout, attention, meter, state: ThreadState::default() }
    }

    /// Runs the thread in user mode on a borrowed virtual CPU until it leaves.
    fn burst(&mut self, space: &Arc<AddressSpace>, registers: &mut Registers) -> Result<Trap, RunError> {
        let Some(worker) = self.turns.borrow(&self.attention)? else { return Ok(Trap::Kicked) };
        let (reply, answer) = channel();
        let (mut state, mut running) = (std::mem::take(&mut self.state), *registers);
        let (space, attention, meter) = (space.clone(), self.attention.clone(), self.meter.clone());
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
        (self.state, *registers) = (state, running);
        result
    }
}

impl UserMode for Borrower<'_> {
    fn load(&mut self, state: &ThreadState) {
        self.state = state.clone();
    }

    fn save(&mut self) -> ThreadState {
        self.state.clone()
    }

    fn run(
        &mut self,
        space: &Arc<AddressSpace>,
        _: Resume,
        registers: &mut Registers,
        attention: &Attention,
    ) -> Result<Trap, RunError> {
        loop {
            let trap = self.burst(space, registers)?;
            let yielded = attention.take(Attention::YIELD);
            if trap != Trap::Kicked || !yielded || attention.any() {
                return Ok(trap);
            }
        }
    }

    fn state(&mut self) -> &mut dyn CpuState {
        self
    }
}

impl CpuState for Borrower<'_> {
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
}
