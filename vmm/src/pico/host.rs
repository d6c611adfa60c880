//! The host's side of the contract (NT: `PS_PICO_ROUTINES`): opening a machine, registering its provider, making processes.

use super::attributes::ProcessAttributes;
use super::containers::Containers;
use super::guard::Guard;
use super::observe::{Notice, Observers};
use super::process::Process;
use super::provider::Provider;
use super::registry::{Claim, RegisterError, Registry};
use crate::clock::Counter;
use crate::kvm::{HostReport, Opening, Posting, Workers};
use crate::memory::{CompressionReport, GuestMemory, MemoryError};
use crate::statistics::{CallPaths, Statistics};
use crate::threads::{HostThreads, Owner};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use thiserror::Error;

/// Bytes of the compressor's stack.
const COMPRESSOR_STACK: usize = 256 << 10;

/// What a host may use.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Bytes of guest memory at the most.
    pub memory: u64,
    /// Virtual CPUs at the most; `None`: as many as KVM offers. More threads than these share them.
    pub vcpus: Option<usize>,
    /// When calls that threads post are taken.
    pub posting: Posting,
}

/// Why a host could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// KVM is missing, closed to us, or lacks something; the report says what and how to get it.
    #[error("{0}")]
    Refused(Box<HostReport>),
    /// Guest memory could not be had.
    #[error("guest memory: {0}")]
    Memory(#[from] MemoryError),
    /// The host gave no thread or no descriptor.
    #[error("{0}: {1}")]
    Host(&'static str, std::io::Error),
    /// The processes that every host has could not be made.
    #[error("System and Memory Compression: {0}")]
    Containers(CreateError),
}

/// Why a process or a thread could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CreateError {
    /// No guest memory.
    #[error("{0}")]
    Memory(#[from] MemoryError),
    /// The host gave no thread, no descriptor or no virtual CPU.
    #[error("the host is out of threads, descriptors or virtual CPUs")]
    HostExhausted,
    /// No provider is registered, and the attributes ask for a pico process.
    #[error("no provider is registered")]
    NoProvider,
    /// The process has ended, or the host is closing.
    #[error("the process is over")]
    Over,
    /// The host cannot do what the attributes ask for.
    #[error("the host does not support these attributes")]
    Unsupported,
}

/// What processes share with their host: it outlives the [`Host`] until the last of them is dropped.
#[derive(Debug)]
pub(super) struct Shared {
    registry: Registry,
    memory: Arc<GuestMemory>,
    threads: Arc<HostThreads>,
    /// None where no processor is behind the host.
    pub(super) workers: Option<Arc<Workers>>,
    next_id: AtomicU64,
    /// Every process that may still be alive.
    processes: Mutex<Processes>,
    /// What processes that are gone have used.
    gone: Mutex<Gone>,
    observers: Arc<Observers>,
    statistics: Statistics,
    guard: Guard,
}

/// The processes that are gone: ended, and forgotten by whoever waited for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// How many there were.
    pub processes: u64,
    /// The CPU time they used.
    pub cpu_time: Duration,
}

#[derive(Debug, Default)]
struct Processes {
    list: Vec<Weak<Process>>,
    /// How many were alive when the dead were last swept out; that is done again when the list has twice as many.
    swept: usize,
    /// The host is going: no process is made any more.
    closed: bool,
}

impl Shared {
    /// The provider in charge.
    pub(super) fn provider(&self) -> Option<&Arc<dyn Provider>> {
        self.registry.provider()
    }

    /// Who the provider is, and was.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The check of what must not change.
    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Every process that is not gone, in the order of their numbers.
    pub(super) fn processes(&self) -> Vec<Arc<Process>> {
        let processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        processes.list.iter().filter_map(Weak::upgrade).collect()
    }

    /// A number no other process or thread of this host ever has.
    pub(super) fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a process without a parent, and closes registration.
    fn create_process(self: &Arc<Self>, attributes: ProcessAttributes) -> Result<Arc<Process>, CreateError> {
        self.registry.seal().map_err(|_| CreateError::HostExhausted)?;
        Process::create(self, None, attributes.kind(), attributes)
    }

    /// Tells whoever observes the host what happened; no lock of this module may be held.
    pub(super) fn tell(&self, notice: &Notice<'_>) {
        self.observers.tell(notice);
    }

    /// What happens, counted.
    pub(super) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The monitor's host threads.
    pub(super) fn threads(&self) -> &Arc<HostThreads> {
        &self.threads
    }

    /// A process that has used so much is gone.
    pub(super) fn forget(&self, used: Duration) {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.processes += 1;
        gone.cpu_time += used;
    }

    /// Takes a new process on the list that the host's end goes through.
    pub(super) fn enlist(&self, process: &Arc<Process>) -> Result<(), CreateError> {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        if processes.closed {
            return Err(CreateError::Over);
        }
        if processes.list.len() >= 2 * processes.swept.max(8) {
            processes.list.retain(|process| process.strong_count() > 0);
            processes.swept = processes.list.len();
        }
        processes.list.push(Arc::downgrade(process));
        Ok(())
    }

    /// Guest memory.
    pub(super) fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }
}

/// A machine that runs pico processes: one KVM virtual machine, its memory, and the threads that run its virtual CPUs.
///
/// Dropping it ends everything: each process's provider is asked to terminate it (so that threads that wait inside the
/// provider return), user mode is left for good, and the host threads behind the virtual CPUs are waited for.
#[derive(Debug)]
pub struct Host {
    containers: Containers,
    shared: Arc<Shared>,
}

/// A host whose machine is being made, on a thread of its own ([`Host::begin`]).
#[derive(Debug)]
pub struct HostOpening {
    opening: Opening,
    threads: Arc<HostThreads>,
}

impl HostOpening {
    /// The monitor's host threads.
    pub fn threads(&self) -> &Arc<HostThreads> {
        &self.threads
    }

    /// Makes the host, with memory that can be used at once. Its threads wait for the probe, as does [`Host::check`].
    pub fn finish(self, config: &HostConfig) -> Result<Host, OpenError> {
        let workers = self.opening.finish(config)?;
        let memory = workers.memory().clone();
        Host::with(memory, self.threads, Some(workers)).map_err(OpenError::Containers)
    }
}

impl Host {
    /// Opens KVM, makes a virtual machine and probes how traps leave it.
    pub fn open(config: &HostConfig) -> Result<Self, OpenError> {
        let host = Self::begin()?.finish(config)?;
        host.check()?;
        Ok(host)
    }

    /// Begins to open a host, beside what the caller has to do before it knows the configuration. Signals that threads of
    /// the host must not get are blocked by now.
    pub fn begin() -> Result<HostOpening, OpenError> {
        let threads = Arc::default();
        Ok(HostOpening { opening: Opening::begin(&threads)?, threads })
    }

    /// Waits until it is known whether the host can run threads.
    pub fn check(&self) -> Result<(), OpenError> {
        self.shared.workers.as_ref().map_or(Ok(()), |workers| workers.check())
    }

    /// Does `work` on each host thread that has begun by now, the caller's included, and returns when all have done it: what the host
    /// keeps for each thread (its privileges) and a thread passes on to those that it starts. For the thread that opened the
    /// host, before there is a process: the machine's first thread, which waits for one, is the only other.
    ///
    /// # Errors
    /// The host cannot run threads, or that thread has ended.
    pub fn on_every_thread<T: Send + 'static>(
        &self,
        work: impl Fn() -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, OpenError> {
        let Some(workers) = &self.shared.workers else { return Ok(vec![work()]) };
        let other = workers.before_the_first_order(work.clone())?;
        let own = work();
        let gone = |_| OpenError::Host("the machine's first thread", std::io::ErrorKind::BrokenPipe.into());
        Ok(vec![own, other.recv().map_err(gone)?])
    }

    /// Makes a host with memory of at most `limit` bytes and no processor: its threads are made and looked at, never run.
    pub fn detached(limit: u64) -> Result<Self, CreateError> {
        Self::with(GuestMemory::detached(limit)?, Arc::default(), None)
    }

    fn with(
        memory: Arc<GuestMemory>,
        threads: Arc<HostThreads>,
        workers: Option<Arc<Workers>>,
    ) -> Result<Self, CreateError> {
        let shared = Arc::new(Shared {
            registry: Registry::default(),
            memory,
            threads,
            workers,
            next_id: AtomicU64::new(1),
            processes: Mutex::default(),
            gone: Mutex::default(),
            observers: Arc::default(),
            statistics: Statistics::default(),
            guard: Guard::default(),
        });
        let containers = Containers::new(&shared)?;
        shared.memory.keep_compressed_in(&containers.compression.space());
        let threads = shared.threads.clone();
        shared.memory.compress_in_background(Box::new(move |body| {
            threads.spawn("compressor", COMPRESSOR_STACK, Owner::MemoryCompression, body)
        }));
        Ok(Self { containers, shared })
    }

    /// What processes share with the host.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The process that holds the monitor's host threads and descriptors.
    pub fn system(&self) -> &Arc<Process> {
        &self.containers.system
    }

    /// The process in whose address space compressed pages are stored.
    pub fn memory_compression(&self) -> &Arc<Process> {
        &self.containers.compression
    }

    /// The process that exists while the monitor is jailed.
    pub fn secure_system(&self) -> Option<&Arc<Process>> {
        self.containers.secure()
    }

    /// Makes Secure System exist: the monitor is jailed from now on, and stays so.
    pub fn enter_jail(&self) -> Result<(), CreateError> {
        self.containers.enter_jail(&self.shared)
    }

    /// The monitor's host threads.
    pub fn threads(&self) -> &Arc<HostThreads> {
        self.shared.threads()
    }

    /// Every process that is not gone, in the order of their numbers: the containers, then the others.
    pub fn processes(&self) -> Vec<Arc<Process>> {
        self.shared.processes()
    }

    /// What has happened so far, counted.
    pub fn statistics(&self) -> &Statistics {
        self.shared.statistics()
    }

    /// How system calls were made that took no trap.
    pub fn call_paths(&self) -> CallPaths {
        self.shared.workers.as_ref().map_or_else(CallPaths::default, |workers| workers.call_paths())
    }

    /// What processes that are gone have used.
    pub fn gone(&self) -> Gone {
        *self.shared.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the host's provider. It is the only one, and comes before any process.
    ///
    /// The registration it returns allows one hand-over to the real implementation.
    pub fn register(&self, provider: Arc<dyn Provider>) -> Result<Registration<'_>, RegisterError> {
        self.shared.registry.register(provider)?;
        Ok(Registration { registry: &self.shared.registry })
    }

    /// Keeps the provider's place while one is being loaded.
    pub(crate) fn claim(&self) -> Result<Claim<'_>, RegisterError> {
        self.shared.registry.claim()
    }

    /// A way back to this host for its provider.
    pub(crate) fn link(&self) -> HostLink {
        HostLink(Arc::downgrade(&self.shared))
    }

    /// Guest memory.
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.shared.memory
    }

    /// Compresses every page that can be now, whether cold or not: a tool asks for it. The work is Memory Compression's.
    pub fn compress(&self) -> CompressionReport {
        let (tell, told) = channel();
        let memory = self.shared.memory.clone();
        let work = move || {
            // The caller waits for it.
            let _ = tell.send(memory.compress());
        };
        let thread = self.containers.compression.create_minimal_thread("compress", COMPRESSOR_STACK, work);
        // Without a thread of its own the caller's does.
        thread.ok().and_then(|_| told.recv().ok()).unwrap_or_else(|| self.shared.memory.compress())
    }

    /// What the time-stamp counter of this host's programs is good for, as the probe found.
    pub fn counter(&self) -> Counter {
        // Programs that no processor runs read the host's.
        self.report().map_or_else(|| Counter::detect(None), |report| report.counter)
    }

    /// What the host found out about KVM, once it has; `None` for a detached host.
    pub fn report(&self) -> Option<&HostReport> {
        self.shared.workers.as_ref().map(|workers| workers.report())
    }

    /// Those who observe the host.
    pub(super) fn observers(&self) -> &Arc<Observers> {
        &self.shared.observers
    }

    /// Makes a process without a parent, a pico process or a minimal process, and closes registration.
    pub fn create_process(&self, attributes: ProcessAttributes) -> Result<Arc<Process>, CreateError> {
        self.shared.create_process(attributes)
    }
}

/// A way to a host that does not keep it: what a foreign provider's routines go through.
#[derive(Clone, Debug)]
pub(crate) struct HostLink(Weak<Shared>);

impl HostLink {
    /// As [`Host::create_process`].
    pub(crate) fn create_process(&self, attributes: ProcessAttributes) -> Result<Arc<Process>, CreateError> {
        self.0.upgrade().ok_or(CreateError::Over)?.create_process(attributes)
    }

    /// As [`Registration::hand_over`].
    pub(crate) fn hand_over(&self, provider: Arc<dyn Provider>) -> Result<(), RegisterError> {
        self.0.upgrade().ok_or(RegisterError::Sealed)?.registry.hand_over(provider)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shared.guard.end();
        let processes = {
            let mut processes = self.shared.processes.lock().unwrap_or_else(PoisonError::into_inner);
            processes.closed = true;
            std::mem::take(&mut processes.list)
        };
        for process in processes.iter().filter_map(Weak::upgrade).filter(|process| !process.is_ended()) {
            process.request_termination();
            process.terminate();
        }
        if let Some(workers) = &self.shared.workers {
            workers.close();
        }
        self.shared.memory.stop_compressor();
    }
}

/// The right to replace the provider that registered by its real implementation, once and before any process exists.
#[derive(Debug)]
pub struct Registration<'a> {
    registry: &'a Registry,
}

impl Registration<'_> {
    /// Puts `provider` in charge.
    pub fn hand_over(self, provider: Arc<dyn Provider>) -> Result<(), RegisterError> {
        self.registry.hand_over(provider)
    }
}
