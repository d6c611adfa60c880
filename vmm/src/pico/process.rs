//! Processes: an address space, a context, and the threads in it.

use super::attributes::{ProcessAttributes, ProcessFlags, ProcessKind};
use super::handle::HandleTable;
use super::host::{CreateError, Shared};
use super::observe::Notice;
use super::provider::{Context, ExitReason, Provider};
use super::thread::{Thread, ThreadAttributes};
use crate::memory::{AddressSpace, Eagerness, ForkPlan};
use crate::usage::{CpuSplit, Meter, Usage};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A process: a container of an address space and threads.
#[derive(Debug)]
pub struct Process {
    id: u64,
    parent: Option<u64>,
    kind: ProcessKind,
    /// The name of a minimal process that was given one.
    name: Option<Box<[u8]>>,
    pub(super) host: Arc<Shared>,
    context: Option<Context>,
    space: Mutex<Arc<AddressSpace>>,
    /// Counts replacements of `space`, so that a thread looks at the lock only when there was one.
    space_version: AtomicU64,
    threads: Mutex<Threads>,
    time: Mutex<Time>,
    handles: Arc<HandleTable>,
    over: AtomicBool,
    /// Whether its end has been told.
    ended: AtomicBool,
}

/// The CPU time of a process's threads.
#[derive(Debug, Default)]
struct Time {
    /// What threads that have ended used.
    ended: Usage,
    /// The same, by what it went to.
    ended_split: CpuSplit,
    /// The meters of the others.
    meters: Vec<Arc<Meter>>,
}

#[derive(Debug, Default)]
struct Threads {
    live: Vec<Arc<Thread>>,
    /// How many suspensions of the process are not resumed yet.
    suspended: u32,
    /// Threads of a minimal process.
    minimal: usize,
    /// Whether there ever was a thread: a process ends with its last one.
    any: bool,
}

impl Process {
    pub(super) fn create(
        host: &Arc<Shared>,
        parent: Option<&Self>,
        kind: ProcessKind,
        attributes: ProcessAttributes,
    ) -> Result<Arc<Self>, CreateError> {
        attributes.check(parent.is_some())?;
        let ProcessAttributes { flags, space, context, name } = attributes;
        if context.is_some() && host.provider().is_none() {
            return Err(CreateError::NoProvider);
        }
        let space = match (space, parent) {
            (Some(space), _) => space,
            (None, Some(parent)) if flags.contains(ProcessFlags::CLONE_PARENT) => parent.space().fork(&plan(flags))?,
            (None, _) => host.memory().new_space()?,
        };
        let inherited = parent.filter(|_| flags.contains(ProcessFlags::INHERIT_HANDLES));
        let handles = inherited.map(|parent| parent.handles.copy()).unwrap_or_default();
        let process = Arc::new(Self {
            id: host.new_id(),
            parent: parent.map(|parent| parent.id),
            kind,
            name,
            host: host.clone(),
            context,
            space: Mutex::new(space),
            space_version: AtomicU64::new(0),
            threads: Mutex::default(),
            time: Mutex::default(),
            handles: Arc::new(handles),
            over: AtomicBool::new(false),
            // Nobody has heard of it yet.
            ended: AtomicBool::new(true),
        });
        host.enlist(&process)?;
        process.ended.store(false, Ordering::Release);
        host.tell(&Notice::ProcessCreated(&process));
        Ok(process)
    }

    /// Makes a child of this process.
    pub fn create_child(&self, attributes: ProcessAttributes) -> Result<Arc<Self>, CreateError> {
        Self::create(&self.host, Some(self), attributes.kind(), attributes)
    }

    /// Makes a thread, which runs once it is [started](Thread::start).
    pub fn create_thread(self: &Arc<Self>, attributes: ThreadAttributes) -> Result<Arc<Thread>, CreateError> {
        let Some(_) = &self.context else { return Err(CreateError::Unsupported) };
        let mut threads = self.lock_threads();
        if self.is_over() {
            return Err(CreateError::Over);
        }
        let thread = Thread::create(self, attributes);
        (0..threads.suspended).for_each(|_| thread.suspend());
        threads.live.push(thread.clone());
        threads.any = true;
        drop(threads);
        self.host.tell(&Notice::ThreadCreated(&thread));
        Ok(thread)
    }

    /// The host's number for this process; no other process or thread of the host ever has it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The number of the process that made this one, if one did.
    pub fn parent(&self) -> Option<u64> {
        self.parent
    }

    /// What it is to the host.
    pub fn kind(&self) -> ProcessKind {
        self.kind
    }

    /// The name that tools show: a pico process's is what its provider says (NT: `GetAllocatedProcessImageName`).
    pub fn name(&self) -> Vec<u8> {
        match (&self.context, self.host.provider()) {
            (Some(context), Some(provider)) => provider.process_name(context),
            _ => self.name.as_deref().unwrap_or(self.kind.name()).to_vec(),
        }
    }

    /// The CPU time that it has used: that of its threads, or of the host threads that belong to it.
    pub fn cpu_time(&self) -> Duration {
        if let Some(owner) = self.kind.owner() {
            return self.host.threads().used(owner);
        }
        let time = self.lock_time();
        time.ended.total() + time.meters.iter().map(|meter| meter.usage().total()).sum::<Duration>()
    }

    /// The same time by what it went to: user mode, or the provider. A container's all goes to the host's own work.
    pub fn cpu_split(&self) -> CpuSplit {
        if let Some(owner) = self.kind.owner() {
            return CpuSplit { provider: self.host.threads().used(owner), ..CpuSplit::default() };
        }
        let time = self.lock_time();
        time.meters.iter().fold(time.ended_split, |sum, meter| sum.plus(&meter.split()))
    }

    /// A thread begins to use CPU time.
    pub(super) fn time_begins(&self, meter: &Arc<Meter>) {
        self.lock_time().meters.push(meter.clone());
    }

    /// A thread has used its last CPU time.
    pub(super) fn time_ends(&self, meter: &Arc<Meter>) {
        let mut time = self.lock_time();
        time.meters.retain(|other| !Arc::ptr_eq(other, meter));
        time.ended = time.ended.plus(&meter.usage());
        time.ended_split = time.ended_split.plus(&meter.split());
    }

    /// The provider in charge of the host's pico processes, if there is one.
    pub(super) fn provider(&self) -> Option<&dyn Provider> {
        self.host.provider().map(|provider| &**provider)
    }

    /// The handles that it holds.
    pub(super) fn handle_table(&self) -> &Arc<HandleTable> {
        &self.handles
    }

    /// How many threads it has, host threads that belong to it included.
    pub fn thread_count(&self) -> usize {
        let host = self.kind.owner().map(|owner| {
            self.host.threads().list().iter().filter(|thread| thread.owner == owner && !thread.lent).count()
        });
        host.unwrap_or_else(|| {
            let threads = self.lock_threads();
            threads.live.len() + threads.minimal
        })
    }

    /// A thread of a minimal process begins.
    pub(super) fn minimal_thread_begins(&self) -> Result<(), CreateError> {
        let mut threads = self.lock_threads();
        if self.is_over() {
            return Err(CreateError::Over);
        }
        threads.minimal += 1;
        Ok(())
    }

    /// A thread of a minimal process has ended, or did not begin.
    pub(super) fn minimal_thread_ended(&self) {
        let last = {
            let mut threads = self.lock_threads();
            threads.minimal -= 1;
            threads.minimal == 0 && self.is_over()
        };
        if last {
            self.notify_exit(ExitReason::Terminated);
        }
    }

    /// The provider's object, or `None` for a minimal process.
    pub fn context(&self) -> Option<&Context> {
        self.context.as_ref()
    }

    /// The address space.
    pub fn space(&self) -> Arc<AddressSpace> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another address space under the process (exec). Its threads run in it from their next entry on, so all but
    /// the caller's should be gone.
    pub fn replace_space(&self, space: Arc<AddressSpace>) {
        *self.space.lock().unwrap_or_else(PoisonError::into_inner) = space;
        self.space_version.fetch_add(1, Ordering::Release);
    }

    pub(super) fn space_version(&self) -> u64 {
        self.space_version.load(Ordering::Acquire)
    }

    /// The threads that have not ended.
    pub fn threads(&self) -> Vec<Arc<Thread>> {
        self.lock_threads().live.clone()
    }

    /// Asks the provider to end the process, as a tool on the host does. A minimal process is simply ended.
    pub fn request_termination(&self) {
        match (&self.context, self.host.provider()) {
            (Some(context), Some(provider)) => provider.terminate_process(context),
            _ => self.terminate(),
        }
    }

    /// Ends the process: its threads leave user mode, and the provider hears of each, and then of the process. Minimal
    /// threads end by themselves, and the process with the last of them.
    pub fn terminate(&self) {
        let threads = {
            let mut threads = self.lock_threads();
            self.over.store(true, Ordering::Release);
            if threads.live.is_empty() && !threads.any && threads.minimal == 0 {
                threads.any = true;
                drop(threads);
                self.notify_exit(ExitReason::Terminated);
                return;
            }
            threads.live.clone()
        };
        for thread in threads {
            thread.terminate();
        }
    }

    /// Suspends every thread, those included that are made until it is resumed (suspensions count).
    pub fn suspend(&self) {
        let mut threads = self.lock_threads();
        threads.suspended = threads.suspended.saturating_add(1);
        threads.live.iter().for_each(|thread| thread.suspend());
    }

    /// Takes one suspension of the process back.
    pub fn resume(&self) {
        let mut threads = self.lock_threads();
        let Some(suspended) = threads.suspended.checked_sub(1) else { return };
        threads.suspended = suspended;
        threads.live.iter().for_each(|thread| thread.resume());
    }

    /// Tells whether the process as a whole is suspended.
    pub fn is_suspended(&self) -> bool {
        self.lock_threads().suspended > 0
    }

    /// Tells whether the process has ended or is about to.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Tells whether nothing of the process can run any longer.
    pub(super) fn is_ended(&self) -> bool {
        let threads = self.lock_threads();
        self.is_over() && threads.live.is_empty() && threads.minimal == 0
    }

    /// Takes an ended thread off the list; with the last one the process ends.
    pub(super) fn thread_ended(&self, thread: &Thread, reason: ExitReason) {
        let last = {
            let mut threads = self.lock_threads();
            threads.live.retain(|other| other.id() != thread.id());
            let last = threads.live.is_empty();
            if last {
                self.over.store(true, Ordering::Release);
            }
            last
        };
        if last {
            self.notify_exit(reason);
        }
    }

    fn notify_exit(&self, reason: ExitReason) {
        if let (Some(context), Some(provider)) = (&self.context, self.host.provider()) {
            provider.exit_process(context, reason);
        }
        self.handles.close();
        if !self.ended.swap(true, Ordering::AcqRel) {
            self.host.tell(&Notice::ProcessEnded(self, reason));
        }
    }

    fn lock_time(&self) -> MutexGuard<'_, Time> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !*self.ended.get_mut() {
            self.host.tell(&Notice::ProcessEnded(self, ExitReason::Terminated));
        }
        let time = self.time.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.host.forget(time.ended.total());
    }
}

/// How the parent's address space is copied.
fn plan(flags: ProcessFlags) -> ForkPlan {
    let reduced = flags.contains(ProcessFlags::CLONE_REDUCED_COMMIT);
    let copies = if reduced { Eagerness::Never } else { Eagerness::Likely };
    ForkPlan { copies, ..ForkPlan::default() }
}
