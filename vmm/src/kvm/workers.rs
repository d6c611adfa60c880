//! Workers: host threads with a virtual CPU each, parked between the pico threads they run.
//!
//! A virtual CPU never changes its host thread (before Linux 6.13 or so KVM_RUN from another thread waits for an RCU
//! grace period), and its number cannot be used again once it is closed. So both are kept: a worker that has nothing to
//! do waits for its next job. Most pico threads have a worker from their first to their last instruction. When the
//! machine's virtual CPUs are used up, the others run on host threads without one, which borrow the last few
//! ([`super::turns`]).

use super::attendant::Attendant;
use super::calls::Calls;
use super::mailbox::{Job, Mailbox, Order};
use super::opening::{Opened, Probed, ended_early};
use super::probe::Flavour;
use super::report::HostReport;
use super::supervisor::Supervisor;
use super::turns::{Borrower, Borrowing, Turns};
use super::vcpu::Vcpu;
use super::vm::{HaltedCpu, Vm};
use crate::memory::GuestMemory;
use crate::pico::{HostConfig, OpenError, ProtectedRange};
use crate::protect::{Corruption, Sealing};
use crate::statistics::{CallPaths, Posts};
use crate::threads::{HostThreads, Owner};
use crate::trap::Attention;
use crate::usage::Meter;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// There is no virtual CPU, host thread or descriptor left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// The workers of a machine.
#[derive(Debug)]
pub(crate) struct Workers {
    vm: Arc<Vm>,
    memory: Arc<GuestMemory>,
    pool: Arc<Mutex<Pool>>,
    threads: Arc<HostThreads>,
    /// The most virtual CPUs that the configuration allows.
    most: usize,
    first: First,
    posts: Arc<Posts>,
}

/// What the first worker finds out, and tells when it has.
#[derive(Debug)]
struct First {
    told: Mutex<Receiver<Result<Probed, HostReport>>>,
    probed: OnceLock<Result<Ready, HostReport>>,
}

/// What is known once the probe is over.
#[derive(Debug)]
struct Ready {
    supervisor: Supervisor,
    flavour: Flavour,
    report: HostReport,
    /// Workers that run one pico thread each at the most; the machine's other virtual CPUs take turns.
    direct: usize,
    turns: Turns,
    /// The first worker's.
    first: Arc<Mailbox>,
}

#[derive(Debug, Default)]
pub(super) struct Pool {
    pub(super) idle: Vec<Arc<Mailbox>>,
    /// Workers that live pico threads to their end, idle ones included.
    direct: usize,
    closed: bool,
    /// Host threads to wait for.
    pub(super) threads: Vec<JoinHandle<()>>,
}

/// Virtual CPUs kept for turns, of those that a machine may have: an eighth, but no more than this.
const MOST_SHARED: usize = 8;
/// Virtual CPUs that threads get at once, when they start. One costs a millisecond or two to make and use for the first
/// time, fifty times as much as a thread of Linux's: the threads and processes of a crowd, most of which sleep from
/// start to end, take turns until they turn out to need one.
const AT_ONCE: usize = 64;
/// Bytes of a worker's stack. A provider's deepest call is well below; pages are committed as they are touched.
const STACK: usize = 1 << 20;

impl Workers {
    /// Guest memory and workers for a machine that [`super::Opening`] has begun to make.
    pub(super) fn new(
        opened: Opened,
        told: Receiver<Result<Probed, HostReport>>,
        config: &HostConfig,
    ) -> Result<Arc<Self>, OpenError> {
        let Opened { vm, waiters, pool, threads } = opened;
        let memory = GuestMemory::new(vm.clone(), config.memory, waiters)?;
        let first = First { told: Mutex::new(told), probed: OnceLock::new() };
        let posts = Arc::default();
        vm.set_attendant(Arc::new(Attendant::new(config.posting, &threads, &posts)));
        Ok(Arc::new(Self { vm, memory, pool, threads, most: config.vcpus.unwrap_or(usize::MAX), first, posts }))
    }

    /// Waits until the first worker has run the probe; the error is the report with the reason.
    fn ready(&self) -> Result<&Ready, &HostReport> {
        let probed = self.first.probed.get_or_init(|| {
            let told = lock(&self.first.told).recv();
            let Probed { supervisor, flavour, report, mailbox } = told.unwrap_or_else(|_| Err(ended_early()))?;
            // Not earlier: it would wait for the slots' lock, and the probe needs few.
            self.vm.keep_shadows(self.memory.limit());
            let limit = self.most.clamp(1, report.max_vcpus.max(1));
            let shared = (limit / 8).clamp(1, MOST_SHARED);
            let (direct, turns, first) = (limit - shared, Turns::new(shared), mailbox.clone());
            if direct > 0 {
                let mut pool = lock(&self.pool);
                pool.idle.push(mailbox);
                pool.direct = 1;
            } else {
                turns.add(mailbox);
            }
            Ok(Ready { supervisor, flavour, report, direct, turns, first })
        });
        probed.as_ref()
    }

    /// Waits until it is known that threads can run here.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        self.ready().map(|_| ()).map_err(|report| OpenError::Refused(Box::new(report.clone())))
    }

    /// Lets the first worker do something, once it has probed and before there is anything to run. The result comes by the channel.
    pub(crate) fn before_the_first_order<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Receiver<T>, OpenError> {
        let ready = self.ready().map_err(|report| OpenError::Refused(Box::new(report.clone())))?;
        let (tell, told) = channel();
        let vm = self.vm.clone();
        ready.first.send(Order::Burst(Box::new(move |_| {
            // Who asked waits for it.
            let _ = tell.send(work());
            // A thread, which has what this one has left. The others prepare a program meanwhile.
            vm.prepare_attendant();
        })));
        Ok(told)
    }

    /// How calls were made that took no trap.
    pub(crate) fn call_paths(&self) -> CallPaths {
        let answered = self.first.probed.get().and_then(|probed| probed.as_ref().ok());
        self.posts.paths(answered.map_or(0, |ready| ready.supervisor.answered()))
    }

    /// Guest memory of the machine.
    pub(crate) fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// What the probe found; waits for it.
    pub(crate) fn report(&self) -> &HostReport {
        self.ready().map_or_else(|report| report, |ready| &ready.report)
    }

    /// Lets a parked worker, or a new one, run a pico thread to its end.
    pub(crate) fn run(
        self: &Arc<Self>,
        job: Job,
        attention: &Arc<Attention>,
        calls: &Arc<Calls>,
        meter: &Arc<Meter>,
    ) -> Result<(), Exhausted> {
        let ready = self.ready().map_err(|_| Exhausted)?;
        let mut pool = lock(&self.pool);
        if pool.closed {
            return Err(Exhausted);
        }
        if let Some(idle) = pool.idle.pop() {
            // Whoever is woken may take this processor at once, and wants the pool itself before it is done.
            drop(pool);
            idle.send(Order::Live(job, attention.clone(), calls.clone()));
            return Ok(());
        }
        if pool.direct < ready.direct.min(AT_ONCE) {
            let (mailbox, thread) = self.hire(ready)?;
            pool.direct += 1;
            pool.threads.push(thread);
            drop(pool);
            mailbox.send(Order::Live(job, attention.clone(), calls.clone()));
            return Ok(());
        }
        drop(pool);
        let borrower = Borrowing { attention: attention.clone(), calls: calls.clone(), meter: meter.clone() };
        self.run_in_turns(ready, job, borrower)
    }

    /// Runs a pico thread on a host thread that has no virtual CPU of its own.
    fn run_in_turns(self: &Arc<Self>, ready: &Ready, job: Job, borrowing: Borrowing) -> Result<(), Exhausted> {
        if ready.turns.wants_more() {
            let (mailbox, thread) = self.hire(ready)?;
            lock(&self.pool).threads.push(thread);
            ready.turns.add(mailbox);
        }
        let workers = self.clone();
        let thread = spawn(&self.threads, move || {
            // The machine was ready when the thread was asked for, and stays so.
            let Ok(ready) = workers.ready() else { return };
            let own = || workers.promote(ready);
            let mut borrower = Borrower::new(&ready.turns, &ready.flavour, borrowing, &own);
            job(&mut borrower);
            if let Some(vcpu) = borrower.finish() {
                let (pool, orders) = (workers.pool.clone(), Mailbox::new());
                // As a parked worker it must not keep the machine alive.
                drop(workers);
                if park(&pool, &orders) {
                    serve(vcpu, &orders, &pool);
                }
            }
        });
        let thread = thread.map_err(|_| Exhausted)?;
        let mut pool = lock(&self.pool);
        pool.threads.retain(|thread| !thread.is_finished());
        pool.threads.push(thread);
        Ok(())
    }

    /// Makes a virtual CPU for the calling host thread, whose pico thread has taken turns so far and needs one often.
    fn promote(&self, ready: &Ready) -> Option<Vcpu> {
        {
            let mut pool = lock(&self.pool);
            if pool.closed || pool.direct >= ready.direct {
                return None;
            }
            pool.direct += 1;
        }
        let made = ready.supervisor.cpu_pages(&self.vm, ready.flavour.syscall).ok();
        let made = made.and_then(|pages| Vcpu::new(&self.vm, pages, ready.flavour.clone()).ok());
        if made.is_none() {
            lock(&self.pool).direct -= 1;
        }
        made
    }

    /// Makes a worker: a host thread and its virtual CPU.
    fn hire(&self, ready: &Ready) -> Result<(Arc<Mailbox>, JoinHandle<()>), Exhausted> {
        let mailbox = Mailbox::new();
        let (tell, told) = channel();
        let pages = ready.supervisor.cpu_pages(&self.vm, ready.flavour.syscall).map_err(|_| Exhausted)?;
        let (vm, flavour, orders, parking) =
            (self.vm.clone(), ready.flavour.clone(), mailbox.clone(), self.pool.clone());
        let thread = spawn(&self.threads, move || match Vcpu::new(&vm, pages, flavour) {
            Ok(vcpu) => {
                // The other side waits for this.
                let _ = tell.send(true);
                serve(vcpu, &orders, &parking);
            }
            Err(error) => {
                tracing::warn!(%error, "no virtual CPU for another thread");
                let _ = tell.send(false);
            }
        });
        let thread = thread.map_err(|_| Exhausted)?;
        if told.recv() == Ok(true) { Ok((mailbox, thread)) } else { Err(Exhausted) }
    }

    /// Stops all virtual CPUs for good, and tells where they stood.
    pub(crate) fn halt(&self, patience: Duration) -> Vec<HaltedCpu> {
        self.vm.halt(patience)
    }

    /// The machine's constant pages, once it is known which there are.
    pub(crate) fn protected_ranges(&self) -> Vec<ProtectedRange> {
        self.ready().map_or_else(|_| Vec::new(), |ready| ready.supervisor.protected_ranges())
    }

    /// The tables that map the machine's own pages, which are compared with what they were made as.
    pub(crate) fn table_ranges(&self) -> Vec<ProtectedRange> {
        self.ready().map_or_else(|_| Vec::new(), |ready| ready.supervisor.table_ranges())
    }

    /// Tells whether the tables that map the machine's own pages are as they were made.
    pub(crate) fn check_tables(&self) -> Result<(), Corruption> {
        self.ready().map_or(Ok(()), |ready| ready.supervisor.check_tables())
    }

    /// How well the monitor's own view of the machine's constant pages is protected.
    pub(crate) fn sealing(&self) -> Option<Sealing> {
        self.ready().ok().map(|ready| ready.supervisor.sealing())
    }

    /// Ends all workers, and waits for their host threads. The pico threads on them must be on their way out.
    pub(crate) fn close(&self) {
        // A machine that is not ready yet would make its first worker wait for an order after this.
        let ready = self.ready().ok();
        close(&self.pool, ready.map(|ready| &ready.turns));
        self.vm.attendant().close();
    }
}

pub(super) fn close(pool: &Mutex<Pool>, turns: Option<&Turns>) {
    let threads = {
        let mut pool = lock(pool);
        pool.closed = true;
        pool.idle.drain(..).for_each(|worker| worker.close());
        std::mem::take(&mut pool.threads)
    };
    if let Some(turns) = turns {
        turns.close();
    }
    for thread in threads {
        if thread.thread().id() != thread::current().id() {
            // A host thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// The life of a worker: one order after another.
pub(super) fn serve(mut vcpu: Vcpu, orders: &Arc<Mailbox>, pool: &Mutex<Pool>) {
    while let Some(order) = orders.receive() {
        match order {
            Order::Live(job, attention, calls) => {
                vcpu.attach(&attention);
                vcpu.attach_calls(&calls);
                job(&mut vcpu);
                attention.detach();
                vcpu.release();
                if vcpu.is_broken() || !park(pool, orders) {
                    return;
                }
            }
            // Whoever borrowed it puts it back.
            Order::Burst(burst) => burst(&mut vcpu),
        }
    }
}

/// Puts a worker among the idle ones; `false`: the machine closes, and the worker is to end.
fn park(pool: &Mutex<Pool>, orders: &Arc<Mailbox>) -> bool {
    let mut pool = lock(pool);
    if !pool.closed {
        pool.idle.push(orders.clone());
    }
    !pool.closed
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a host thread for pico threads. It is System's but for the time that it is lent to one.
pub(super) fn spawn(
    threads: &Arc<HostThreads>,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    threads.spawn("pico", STACK, Owner::System, body)
}
