//! ptrace(2): one task, the tracer, looks at another, the tracee, and steers it.
//!
//! [`Bonds`] knows who traces whom. A [`Tracee`] is the state that every task carries for it. A tracee stops in `stop`: it
//! leaves a `Snapshot` of its registers with its state and sleeps, so that the tracer works on the snapshot and never
//! needs the tracee's processor; what was changed is loaded as it goes on. `events` has the places where clone, exec and
//! exit tell the tracer. A task that nobody traces pays one load of [`Tracee::is_traced`] where any of this could matter.
//!
//! Lock ranks: the bonds are [`Rank::Tracing`], a tracee's state is a leaf.

mod access;
mod bonds;
mod debug;
pub(crate) mod events;
pub(crate) mod registers;
pub(crate) mod stop;

pub(crate) use access::{Look, may_access};
pub use bonds::Bonds;
pub(crate) use bonds::{Dead, News};
pub use debug::Debugging;
pub(crate) use events::Making;

use crate::signal::{SigInfo, Signal};
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::task::Pid;
pub(crate) use registers::{Snapshot, UserRegisters};
use std::sync::atomic::{AtomicBool, Ordering};

bitflags::bitflags! {
    /// PTRACE_O_*
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Options: u32 {
        /// Stops at calls are told from SIGTRAP by bit 7.
        const SYSGOOD = 1;
        /// Children by fork are traced.
        const FORK = 1 << 1;
        /// Children by vfork are traced.
        const VFORK = 1 << 2;
        /// Other children and threads are traced.
        const CLONE = 1 << 3;
        /// An exec is told by an event.
        const EXEC = 1 << 4;
        /// The end of a vfork is told.
        const VFORK_DONE = 1 << 5;
        /// The end of a task is told before it.
        const EXIT = 1 << 6;
        /// SECCOMP_RET_TRACE is told.
        const SECCOMP = 1 << 7;
        /// Tracees do not outlive the tracer.
        const EXIT_KILL = 1 << 20;
    }
}

/// What a tracer may ask to be told of: PTRACE_EVENT_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of ptrace(2)")]
pub enum Event {
    Fork,
    Vfork,
    Clone,
    Exec,
    VforkDone,
    Exit,
    Seccomp,
}

impl Event {
    /// The number that the wait status has in its third byte.
    pub fn number(self) -> i32 {
        match self {
            Self::Fork => 1,
            Self::Vfork => 2,
            Self::Clone => 3,
            Self::Exec => 4,
            Self::VforkDone => 5,
            Self::Exit => 6,
            Self::Seccomp => 7,
        }
    }

    /// The option that asks for it.
    pub fn option(self) -> Options {
        match self {
            Self::Fork => Options::FORK,
            Self::Vfork => Options::VFORK,
            Self::Clone => Options::CLONE,
            Self::Exec => Options::EXEC,
            Self::VforkDone => Options::VFORK_DONE,
            Self::Exit => Options::EXIT,
            Self::Seccomp => Options::SECCOMP,
        }
    }
}

/// PTRACE_EVENT_STOP, in the third byte of the wait status.
pub const EVENT_STOP: i32 = 128;

/// Why a tracee stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// It is about to make a call.
    CallEntry,
    /// A call has returned.
    CallExit,
    /// A signal is about to be delivered.
    Signal,
    /// Something that it was to tell.
    Event(Event),
    /// A handler is about to run and its tracer steps.
    Step,
    /// Its process is stopped, or (when seized) it was interrupted.
    Group,
}

/// A tracee that stands still.
#[derive(Debug)]
pub struct Stop {
    /// What wait(2) reports in the upper bytes of its status.
    pub code: i32,
    /// Why.
    pub kind: StopKind,
    /// What PTRACE_GETSIGINFO shows; none in a group stop.
    pub info: Option<SigInfo>,
    /// The registers.
    pub snapshot: Snapshot,
    /// A tracer has waited for it.
    pub told: bool,
    /// PTRACE_LISTEN: it stays until something new happens, and requests no longer find it stopped.
    pub listening: bool,
}

/// How a tracee goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// PTRACE_CONT
    Freely,
    /// PTRACE_SYSCALL
    ToCall,
    /// PTRACE_SINGLESTEP
    Step,
    /// PTRACE_SYSEMU
    Emulate,
    /// PTRACE_SYSEMU_SINGLESTEP
    EmulateStep,
}

impl Onward {
    /// Whether the next instruction ends in a trap.
    pub fn steps(self) -> bool {
        matches!(self, Self::Step | Self::EmulateStep)
    }
}

/// The order that ends a stop.
#[derive(Debug)]
pub struct Order {
    /// How it goes on.
    pub onward: Onward,
    /// The signal that it gets; what that means depends on the stop.
    pub signal: Option<Signal>,
    /// The registers as the tracer left them.
    pub snapshot: Snapshot,
    /// What the signal carries, if the tracer leaves that as it was.
    pub info: Option<SigInfo>,
}

/// Who traces a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracer {
    /// The thread; no other of its process may make requests.
    pub thread: Pid,
    /// Its process, all of whose threads may wait.
    pub process: Pid,
}

/// What a tracee knows of its being traced.
#[derive(Debug, Default)]
pub struct TraceeState {
    /// Who traces it.
    pub tracer: Option<Tracer>,
    /// It was seized: it stops when it is interrupted, and its group stops can be told apart.
    pub seized: bool,
    /// What is to be told.
    pub options: Options,
    /// PTRACE_GETEVENTMSG
    pub message: u64,
    /// It is to stop at once: PTRACE_INTERRUPT, or the start of a seized child.
    pub trap: bool,
    /// The group stop that it was let out of, or has reported, so that it does not report it twice.
    pub seen_stop: bool,
    /// It stands still.
    pub stop: Option<Stop>,
    /// And is to go on.
    pub order: Option<Order>,
    /// How it goes on, until the next order.
    pub stepping: bool,
    /// Where it traps, which stays when the tracer goes.
    pub debug: Debugging,
}

/// The part of a task that tracing needs.
#[derive(Debug)]
pub struct Tracee {
    traced: AtomicBool,
    state: Mutex<TraceeState>,
}

impl Default for Tracee {
    fn default() -> Self {
        Self { traced: AtomicBool::new(false), state: Mutex::new(Rank::Leaf, TraceeState::default()) }
    }
}

impl Tracee {
    /// Tells whether somebody traces the task.
    pub fn is_traced(&self) -> bool {
        self.traced.load(Ordering::SeqCst)
    }

    /// The state.
    pub(crate) fn lock(&self) -> MutexGuard<'_, TraceeState> {
        self.state.lock()
    }

    /// Who traces the task.
    pub fn tracer(&self) -> Option<Tracer> {
        if self.is_traced() { self.lock().tracer } else { None }
    }

    /// Tells whether the task is traced and its tracer asked for this event.
    pub fn wants(&self, event: Event) -> bool {
        self.is_traced() && self.lock().options.contains(event.option())
    }

    /// Tells whether the task is to stop for its tracer as soon as it can.
    pub fn has_trap(&self) -> bool {
        self.is_traced() && self.lock().trap
    }

    /// Tells whether the task stands still for its tracer.
    pub fn is_stopped(&self) -> bool {
        self.is_traced() && self.lock().stop.is_some()
    }

    /// Tells whether the task's trap flag is the tracer's.
    pub(crate) fn is_stepping(&self) -> bool {
        self.is_traced() && self.lock().stepping
    }

    /// Tells whether the task is to go on.
    fn has_order(&self) -> bool {
        self.lock().order.is_some()
    }

    /// Ties the task to a tracer.
    fn bind(&self, tracer: Tracer, seized: bool, options: Options) {
        *self.lock() = TraceeState { tracer: Some(tracer), seized, options, ..TraceeState::default() };
        self.traced.store(true, Ordering::SeqCst);
    }

    /// Sets the task free; one that stands still goes on with `signal`.
    fn release(&self, signal: Option<Signal>) {
        let mut state = self.lock();
        self.traced.store(false, Ordering::SeqCst);
        let order = state.stop.take().map(|stop| {
            let info = stop.info.filter(|info| Some(info.signal) == signal);
            Order { onward: Onward::Freely, signal, snapshot: stop.snapshot, info }
        });
        *state = TraceeState { order, ..TraceeState::default() };
    }
}
