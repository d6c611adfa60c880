//! What all tasks of a sandbox share.

use crate::config::Config;
use crate::errno::Errno;
use crate::exec::Vdso;
use crate::fs::tty::Terminals;
use crate::fs::{Namespace, ViewError};
use crate::sync::{Mutex, Rank};
use crate::syscall::trace::Tracer;
use crate::task::{ExitStatus, Pid, TaskTable, ThreadGroup};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, OnceLock, PoisonError};
use vmm::clock::Clock;
use vmm::memory::GuestMemory;

/// The first process: the program that the sandbox was started for.
pub const INIT: Pid = Pid(1);

/// A sandbox's kernel state.
#[derive(Debug)]
pub struct Kernel {
    config: Config,
    memory: Arc<GuestMemory>,
    namespace: OnceLock<Namespace>,
    tasks: TaskTable,
    terminals: Terminals,
    counters: Counters,
    tracer: Option<Tracer>,
    /// None in a test, and where its page found no memory: then the host's clocks are asked.
    clock: OnceLock<Clock>,
    vdso: OnceLock<Option<Vdso>>,
    /// What became of the first process, for whoever waits for the sandbox.
    fate: Fate,
}

#[derive(Debug, Default)]
struct Fate {
    state: std::sync::Mutex<FateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct FateState {
    outcome: Option<Outcome>,
    /// The first process stopped, and nobody was told yet.
    stopped: bool,
}

/// What became of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It ended.
    Ended(Outcome),
    /// A signal stopped the first process.
    Stopped,
}

/// How a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The first process ended.
    Program(ExitStatus),
    /// The host could not run it any longer; the reason was logged.
    Failed,
}

impl Kernel {
    /// Makes the state of a sandbox that has no files and no tasks yet.
    pub fn new(config: Config, memory: Arc<GuestMemory>) -> Arc<Self> {
        Self::with_tracer(config, memory, None)
    }

    /// As [`Self::new`], with a trace of system calls.
    pub fn with_tracer(config: Config, memory: Arc<GuestMemory>, tracer: Option<Tracer>) -> Arc<Self> {
        let tasks = TaskTable::new(config.limits.pids);
        Arc::new(Self {
            config,
            memory,
            namespace: OnceLock::new(),
            tasks,
            terminals: Terminals::default(),
            counters: Counters::default(),
            tracer,
            clock: OnceLock::new(),
            vdso: OnceLock::new(),
            fate: Fate::default(),
        })
    }

    /// The trace, if there is one.
    pub fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_ref()
    }

    /// Gives the sandbox the clock that the vDSO reads. Called once, before the first program is loaded.
    pub(crate) fn set_clock(&self, clock: Clock) {
        assert!(self.clock.set(clock).is_ok(), "a sandbox has one clock, set by the code that starts it");
    }

    /// The clock that programs read through the vDSO.
    pub fn clock(&self) -> Option<&Clock> {
        self.clock.get()
    }

    /// The vDSO that programs are loaded with.
    pub(crate) fn vdso(&self) -> Option<&Vdso> {
        self.vdso.get_or_init(|| Vdso::for_kernel(self)).as_ref()
    }

    /// A process's last thread is gone. With the first process the sandbox ends.
    pub(crate) fn process_ended(&self, group: &ThreadGroup, status: ExitStatus) {
        if let Some(tracer) = &self.tracer {
            tracer.exited(group.pid(), status);
        }
        if group.pid() == INIT {
            self.end(Outcome::Program(status));
        }
    }

    /// Notes how the sandbox ended; the first outcome stays.
    pub(crate) fn end(&self, outcome: Outcome) {
        self.fate.state.lock().unwrap_or_else(PoisonError::into_inner).outcome.get_or_insert(outcome);
        self.fate.changed.notify_all();
    }

    /// A signal has stopped a process. The launcher stops with the first one, so that a shell sees its job stop.
    pub(crate) fn process_stopped(&self, group: &ThreadGroup) {
        if group.pid() == INIT {
            self.fate.state.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
            self.fate.changed.notify_all();
        }
    }

    /// Waits until the first process stops or the sandbox ends. For the command line: a task never calls this.
    pub(crate) fn wait(&self) -> Change {
        let mut state = self.fate.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(outcome) = state.outcome {
                return Change::Ended(outcome);
            }
            if std::mem::take(&mut state.stopped) {
                return Change::Stopped;
            }
            state = self.fate.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Builds the file-system view that the configuration describes. Called once, before the first task.
    pub fn mount(&self) -> Result<(), ViewError> {
        let namespace = Namespace::build(&self.config, &self.memory)?;
        assert!(self.namespace.set(namespace).is_ok(), "a sandbox's view is built once, by the code that starts it");
        Ok(())
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Guest memory.
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// The mount table.
    pub fn namespace(&self) -> &Namespace {
        self.namespace.get().expect("the view is built before the first task exists")
    }

    /// The tasks, by their numbers.
    pub fn tasks(&self) -> &TaskTable {
        &self.tasks
    }

    /// The terminals that the caller handed over.
    pub(crate) fn terminals(&self) -> &Terminals {
        &self.terminals
    }

    /// What was asked for and not served.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// Counts what programs asked for and did not get.
#[derive(Debug)]
pub struct Counters {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    calls: BTreeMap<u64, u64>,
    features: BTreeMap<&'static str, u64>,
}

/// How many different unknown numbers are remembered: a program may try all of 2^64.
const UNKNOWN_CALLS: usize = 1024;

impl Default for Counters {
    fn default() -> Self {
        Self { counts: Mutex::new(Rank::Leaf, Counts::default()) }
    }
}

impl Counters {
    /// Counts a call whose number the table does not have.
    pub fn unknown_call(&self, number: u64) {
        let calls = &mut self.counts.lock().calls;
        if calls.len() < UNKNOWN_CALLS || calls.contains_key(&number) {
            *calls.entry(number).or_default() += 1;
        }
    }

    /// Counts a flag, option or operation that is not supported, as `call: WHAT`.
    pub fn unsupported(&self, what: &'static str) {
        *self.counts.lock().features.entry(what).or_default() += 1;
    }

    /// Everything counted: what it was and how often, calls first.
    pub fn list(&self) -> Vec<(String, u64)> {
        let counts = self.counts.lock();
        let calls = counts.calls.iter().map(|(number, count)| match crate::syscall::names::name(*number) {
            Some(name) => (name.to_owned(), *count),
            None => (format!("system call {number}"), *count),
        });
        let features = counts.features.iter().map(|(what, count)| ((*what).to_owned(), *count));
        calls.chain(features).collect()
    }
}

impl Kernel {
    /// Counts something unsupported and gives the error for it: `return Err(kernel.unsupported("mmap: MAP_HUGETLB", Errno::EINVAL))`.
    pub fn unsupported(&self, what: &'static str, error: Errno) -> Errno {
        self.counters.unsupported(what);
        error
    }
}
