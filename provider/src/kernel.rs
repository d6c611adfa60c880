//! What all tasks of a sandbox share.

use crate::aio::Account;
use crate::config::{CallSites, Config};
use crate::cpus::Cpus;
use crate::errno::Errno;
use crate::exec::Vdso;
use crate::fs::pipe::Pipes;
use crate::fs::tty::Terminals;
use crate::fs::{Grant, Namespace, ViewError};
use crate::futex::Futexes;
use crate::ipc::Ipc;
use crate::net::Network;
use crate::ptrace::Bonds;
use crate::statistics::Statistics;
use crate::sync::{Mutex, Rank};
use crate::syscall::trace::Tracer;
use crate::task::{
    ExitStatus, Families, Names, Namespaces, Pid, ResourceLimits, TaskTable, ThreadGroup, UtsNamespace, WaitQueue,
};
use crate::time::TimerService;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Condvar, OnceLock, PoisonError};
use std::time::Duration;
use vmm::clock::{Clock, ClockKind, ProcessorNumber};
use vmm::events::HostEvents;
use vmm::memory::GuestMemory;
use vmm::threads::HostThreads;

/// What uname(2) says this is. Fixed, so that runs can be reproduced: the Linux release whose behaviour we follow.
pub mod release {
    /// The system's name.
    pub const SYSTEM: &str = "Linux";
    /// The release.
    pub const RELEASE: &str = "6.12.0-picovisor";
    /// The version.
    pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC Picovisor";
}

/// The host's clock, for kernels without one of their own.
fn host_time(kind: ClockKind) -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let id = match kind {
        ClockKind::Monotonic => ClockId::Monotonic,
        ClockKind::Raw => ClockId::MonotonicRaw,
        ClockKind::Boot => ClockId::Boottime,
        // The kernel has no offset for leap seconds unless somebody sets one.
        ClockKind::Wall | ClockKind::Atomic => ClockId::Realtime,
        ClockKind::WallCoarse => ClockId::RealtimeCoarse,
        ClockKind::MonotonicCoarse => ClockId::MonotonicCoarse,
    };
    let now = clock_gettime(id);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or_default()
}

/// The first process: the program that the sandbox was started for.
pub const INIT: Pid = Pid(1);

/// A sandbox's kernel state.
#[derive(Debug)]
pub struct Kernel {
    config: Config,
    /// What the sandbox's caller had at its start: those of its programs.
    limits: ResourceLimits,
    memory: Arc<GuestMemory>,
    namespace: OnceLock<Namespace>,
    tasks: TaskTable,
    families: Families,
    bonds: Bonds,
    terminals: Terminals,
    pipes: Pipes,
    host_events: HostEvents,
    signal_arrivals: WaitQueue,
    counters: Counters,
    statistics: Statistics,
    tracer: Option<Tracer>,
    /// None in a test, and where its page found no memory: then the host's clocks are asked.
    clock: OnceLock<Clock>,
    vdso: OnceLock<Option<Vdso>>,
    /// What became of the first process, for whoever waits for the sandbox.
    fate: Fate,
    timers: TimerService,
    futexes: Futexes,
    ipc: Ipc,
    aio: Arc<Account>,
    network: Network,
    cpus: Cpus,
    /// The namespaces that the first task is in.
    namespaces: Namespaces,
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
        Self::with_threads(config, memory, Arc::default(), None)
    }

    /// As [`Self::new`], with the monitor's host threads and perhaps a trace of system calls.
    pub fn with_threads(
        config: Config,
        memory: Arc<GuestMemory>,
        threads: Arc<HostThreads>,
        tracer: Option<Tracer>,
    ) -> Arc<Self> {
        let tasks = TaskTable::new(config.limits.pids);
        let cpus = Cpus::of_host(config.limits.cpus);
        let pipes = Pipes::new(config.limits.memory);
        let network = Network::new(config.limits.memory);
        let futexes = Futexes::new(memory.waiters().clone());
        let names = Names { host: config.hostname.as_bytes().to_vec(), domain: b"(none)".to_vec() };
        let limits = ResourceLimits::inherited(config.limits.files, config.limits.pids.into());
        Arc::new(Self {
            config,
            limits,
            memory,
            namespace: OnceLock::new(),
            tasks,
            families: Families::default(),
            bonds: Bonds::default(),
            terminals: Terminals::default(),
            pipes,
            host_events: HostEvents::new(threads.clone()),
            signal_arrivals: WaitQueue::default(),
            counters: Counters::default(),
            statistics: Statistics::default(),
            tracer,
            clock: OnceLock::new(),
            vdso: OnceLock::new(),
            fate: Fate::default(),
            timers: TimerService::new(threads),
            futexes,
            ipc: Ipc::new(network.budget()),
            aio: Arc::default(),
            network,
            cpus,
            namespaces: Namespaces { uts: UtsNamespace::first(names) },
        })
    }

    /// The limits that programs from outside start with: the caller's, whatever the monitor has set itself since.
    pub(crate) fn limits(&self) -> ResourceLimits {
        self.limits.duplicate()
    }

    /// The trace, if there is one.
    pub fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_ref()
    }

    /// Tells whether hot call sites are patched: calls that are traced are made by trap, and gain little.
    pub(crate) fn patches_sites(&self) -> bool {
        self.config.call_sites == CallSites::Patch && self.tracer.is_none()
    }

    /// Gives the sandbox the clock that the vDSO reads. Called once, before the first program is loaded.
    pub(crate) fn set_clock(&self, clock: Clock) {
        if self.cpus.are_the_hosts() {
            clock.set_processor_number(ProcessorNumber::Answers);
        }
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

    /// A clock's value in nanoseconds: the same that programs read through the vDSO.
    pub fn now(&self, kind: ClockKind) -> u64 {
        self.clock().map_or_else(|| host_time(kind), |clock| clock.now(kind))
    }

    /// Nanoseconds between two steps of the coarse clocks.
    pub fn coarse_step_ns(&self) -> u64 {
        /// A timer tick at 250 a second.
        const USUAL: u64 = 4_000_000;
        self.clock().map_or(USUAL, Clock::coarse_step_ns)
    }

    /// The timers that send signals.
    pub fn timers(&self) -> &TimerService {
        &self.timers
    }

    /// Who waits for which futex.
    pub fn futexes(&self) -> &Futexes {
        &self.futexes
    }

    /// Sockets' names and ports.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// System V's shared memory, semaphores and queues.
    pub fn ipc(&self) -> &Ipc {
        &self.ipc
    }

    /// How many events of asynchronous I/O were asked for.
    pub(crate) fn aio(&self) -> &Arc<Account> {
        &self.aio
    }

    /// The CPUs.
    pub fn cpus(&self) -> &Cpus {
        &self.cpus
    }

    /// The namespaces that the first task is in.
    pub fn first_namespaces(&self) -> Namespaces {
        self.namespaces.clone()
    }

    /// A process's last thread is gone. With the first process the sandbox ends.
    pub(crate) fn process_ended(&self, group: &ThreadGroup, status: ExitStatus) {
        self.ipc.process_ended(group.pid());
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

    /// Waits until there is something for [`Self::wait`] to tell, but no longer than `patience`; whether it is the end.
    pub(crate) fn is_over_within(&self, patience: Duration) -> bool {
        let state = self.fate.state.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = |state: &mut FateState| state.outcome.is_none() && !state.stopped;
        let (state, _) =
            self.fate.changed.wait_timeout_while(state, patience, quiet).unwrap_or_else(PoisonError::into_inner);
        state.outcome.is_some()
    }

    /// Builds the file-system view that the configuration describes, and returns the host trees that it shows. Called once, before
    /// the first task.
    pub fn mount(&self) -> Result<Vec<Grant>, ViewError> {
        let (namespace, grants) = Namespace::build(&self.config, &self.memory, self.ipc.posix.file_system())?;
        assert!(self.namespace.set(namespace).is_ok(), "a sandbox's view is built once, by the code that starts it");
        Ok(grants)
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

    /// Gives back the ranges of files that a process which has ended had locked. Without a view there are none.
    pub(crate) fn release_file_locks(&self, process: Pid) {
        if let Some(namespace) = self.namespace.get() {
            namespace.locks().process_ended(process);
            namespace.watches().process_ended(process);
        }
    }

    /// The tasks, by their numbers.
    pub fn tasks(&self) -> &TaskTable {
        &self.tasks
    }

    /// Who is whose child.
    pub fn families(&self) -> &Families {
        &self.families
    }

    /// Who traces whom.
    pub(crate) fn bonds(&self) -> &Bonds {
        &self.bonds
    }

    /// The terminals that the caller handed over.
    pub(crate) fn terminals(&self) -> &Terminals {
        &self.terminals
    }

    /// The pipes.
    pub(crate) fn pipes(&self) -> &Pipes {
        &self.pipes
    }

    /// Woken whenever a signal is queued anywhere in the sandbox: for those who wait for signalfds.
    pub(crate) fn signal_arrivals(&self) -> &WaitQueue {
        &self.signal_arrivals
    }

    /// Who is told when host descriptors become ready.
    pub(crate) fn host_events(&self) -> &HostEvents {
        &self.host_events
    }

    /// What programs have done, counted.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
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
