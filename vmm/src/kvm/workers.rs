//! Workers: host threads with a virtual CPU each, parked between the pico threads they run.
//!
//! A virtual CPU never changes its host thread (before Linux 6.13 or so KVM_RUN from another thread waits for an RCU
//! grace period), and its number cannot be used again once it is closed. So both are kept: a worker that has nothing to
//! do waits for its next job. Most pico threads have a worker from their first to their last instruction. When the
//! machine's virtual CPUs are used up, the others run on host threads without one, which borrow the last few
//! ([`super::turns`]).

use super::door;
use super::mailbox::{Job, Mailbox, Order};
use super::probe::{self, Flavour};
use super::report::{self, HostReport, Refusal};
use super::supervisor::Supervisor;
use super::turns::{Borrower, Turns};
use super::vcpu::Vcpu;
use super::vm::Vm;
use crate::memory::GuestMemory;
use crate::pico::{HostConfig, OpenError};
use crate::trap::Attention;
use crate::usage::Meter;
use kvm_bindings::{KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT, kvm_enable_cap};
use kvm_ioctls::{Kvm, VmFd};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// There is no virtual CPU, host thread or descriptor left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// The workers of a machine.
#[derive(Debug)]
pub(crate) struct Workers {
    vm: Arc<Vm>,
    supervisor: Supervisor,
    flavour: Flavour,
    memory: Arc<GuestMemory>,
    report: HostReport,
    /// Workers that run one pico thread each at the most; the machine's other virtual CPUs take turns.
    direct: usize,
    turns: Turns,
    pool: Arc<Mutex<Pool>>,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Arc<Mailbox>>,
    /// Workers that live pico threads to their end, idle ones included.
    direct: usize,
    closed: bool,
    /// Host threads to wait for.
    threads: Vec<JoinHandle<()>>,
}

/// Virtual CPUs kept for turns, of those that a machine may have: an eighth, but no more than this.
const MOST_SHARED: usize = 8;
/// Bytes of a worker's stack. A provider's deepest call is well below; pages are committed as they are touched.
const STACK: usize = 1 << 20;

impl Workers {
    /// Opens KVM and makes the machine, its memory and its first worker, which runs the probe.
    pub(crate) fn open(config: &HostConfig) -> Result<Arc<Self>, OpenError> {
        let Started { vm, supervisor, flavour, report, pool, first } =
            Started::new().map_err(|report| OpenError::Refused(Box::new(report)))?;
        let limit = config.vcpus.unwrap_or(usize::MAX).clamp(1, report.max_vcpus.max(1));
        let shared = (limit / 8).clamp(1, MOST_SHARED);
        let (direct, turns) = (limit - shared, Turns::new(shared));
        if direct > 0 {
            let mut pool = lock(&pool);
            pool.idle.push(first);
            pool.direct = 1;
        } else {
            turns.add(first);
        }
        vm.keep_shadows(config.memory);
        let memory = match GuestMemory::new(vm.clone(), config.memory) {
            Ok(memory) => memory,
            Err(error) => {
                close(&pool, &turns);
                return Err(error.into());
            }
        };
        Ok(Arc::new(Self { vm, supervisor, flavour, memory, report, direct, turns, pool }))
    }

    /// Guest memory of the machine.
    pub(crate) fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// What the probe found.
    pub(crate) fn report(&self) -> &HostReport {
        &self.report
    }

    /// Lets a parked worker, or a new one, run a pico thread to its end.
    pub(crate) fn run(
        self: &Arc<Self>,
        job: Job,
        attention: &Arc<Attention>,
        meter: &Arc<Meter>,
    ) -> Result<(), Exhausted> {
        let mut pool = lock(&self.pool);
        if pool.closed {
            return Err(Exhausted);
        }
        if let Some(idle) = pool.idle.pop() {
            idle.send(Order::Live(job, attention.clone()));
            return Ok(());
        }
        if pool.direct < self.direct {
            let (mailbox, thread) = self.hire()?;
            pool.direct += 1;
            pool.threads.push(thread);
            mailbox.send(Order::Live(job, attention.clone()));
            return Ok(());
        }
        drop(pool);
        self.run_in_turns(job, attention.clone(), meter.clone())
    }

    /// Runs a pico thread on a host thread that has no virtual CPU of its own.
    fn run_in_turns(self: &Arc<Self>, job: Job, attention: Arc<Attention>, meter: Arc<Meter>) -> Result<(), Exhausted> {
        if self.turns.wants_more() {
            let (mailbox, thread) = self.hire()?;
            lock(&self.pool).threads.push(thread);
            self.turns.add(mailbox);
        }
        let workers = self.clone();
        let thread = spawn(move || {
            let mut borrower = Borrower::new(&workers.turns, workers.flavour.extended, attention, meter);
            job(&mut borrower);
        });
        let thread = thread.map_err(|_| Exhausted)?;
        let mut pool = lock(&self.pool);
        pool.threads.retain(|thread| !thread.is_finished());
        pool.threads.push(thread);
        Ok(())
    }

    /// Makes a worker: a host thread and its virtual CPU.
    fn hire(&self) -> Result<(Arc<Mailbox>, JoinHandle<()>), Exhausted> {
        let mailbox = Mailbox::new();
        let (tell, told) = channel();
        let pages = self.supervisor.cpu_pages(&self.vm).map_err(|_| Exhausted)?;
        let (vm, flavour, orders, parking) =
            (self.vm.clone(), self.flavour.clone(), mailbox.clone(), self.pool.clone());
        let thread = spawn(move || match Vcpu::new(&vm, pages, flavour) {
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

    /// Ends all workers, and waits for their host threads. The pico threads on them must be on their way out.
    pub(crate) fn close(&self) {
        close(&self.pool, &self.turns);
    }
}

/// A machine whose first worker has run the probe.
struct Started {
    vm: Arc<Vm>,
    supervisor: Supervisor,
    flavour: Flavour,
    report: HostReport,
    pool: Arc<Mutex<Pool>>,
    first: Arc<Mailbox>,
}

impl Started {
    fn new() -> Result<Self, HostReport> {
        let kvm = report::open().map_err(HostReport::refused)?;
        let mut report = HostReport::ask(&kvm);
        if report.refusal.is_some() {
            return Err(report);
        }
        match Self::probe(kvm) {
            Ok(mut started) => {
                report.traps = Some(started.flavour.method());
                report.paging = Some(started.flavour.paging());
                report.xcr0 = started.flavour.xcr0;
                report.counter = started.flavour.counter;
                started.report = report;
                Ok(started)
            }
            Err(refusal) => Err(HostReport { refusal: Some(refusal), ..report }),
        }
    }

    /// Makes the machine and lets its first worker probe; the report is still empty.
    fn probe(kvm: Kvm) -> Result<Self, Refusal> {
        let failed = |error: std::io::Error| Refusal::Machine(error.to_string());
        door::install_handler().map_err(failed)?;
        raise_descriptor_limit();
        let refused = |error: kvm_ioctls::Error| failed(error.into());
        let vm = Arc::new(Vm::new(create_machine(&kvm).map_err(refused)?));
        let supervisor = Supervisor::new(&vm).map_err(|_| Refusal::Memory)?;
        let (pool, mailbox) = (Arc::new(Mutex::new(Pool::default())), Mailbox::new());
        let (tell, told) = channel();
        let (machine, orders, parking) = (vm.clone(), mailbox.clone(), pool.clone());
        let handle = spawn(move || match probe::run(&machine, &supervisor, &kvm) {
            Ok(vcpu) => {
                // The supervisor pages come back with the result; the other side waits for it.
                let _ = tell.send(Ok((vcpu.flavour.clone(), supervisor)));
                serve(vcpu, &orders, &parking);
            }
            Err(refusal) => {
                let _ = tell.send(Err(refusal));
            }
        })
        .map_err(failed)?;
        lock(&pool).threads.push(handle);
        let probed = told.recv().unwrap_or_else(|_| Err(Refusal::Traps("the probe ended early".to_owned())));
        let (flavour, supervisor) = probed?;
        Ok(Self { vm, supervisor, flavour, report: HostReport::default(), pool, first: mailbox })
    }
}

/// Makes a virtual machine whose interrupt controllers are KVM's own, though nothing ever interrupts it: for the first
/// virtual CPU without one KVM patches its own code, on every processor of the host, and again when the last is closed.
/// That took 0.3 ms of a start, half of what KVM took in all. A KVM that refuses costs this time only.
///
/// With them KVM would also let a virtual CPU wait while it fetches a page, and try for ever where the host has none
/// (a file that shrank). It does not for guests that halt by themselves and have not asked for it: so these "may" halt,
/// which user mode cannot.
fn create_machine(kvm: &Kvm) -> Result<VmFd, kvm_ioctls::Error> {
    let vm = kvm.create_vm()?;
    let halts = kvm_enable_cap {
        cap: KVM_CAP_X86_DISABLE_EXITS,
        args: [KVM_X86_DISABLE_EXITS_HLT.into(), 0, 0, 0],
        ..Default::default()
    };
    let split = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, ..Default::default() };
    if let Err(error) = vm.enable_cap(&halts).and_then(|()| vm.enable_cap(&split)) {
        tracing::debug!(%error, "no interrupt controllers in the kernel");
    }
    Ok(vm)
}

/// Looks at KVM as a start would, with the trap probe, and keeps nothing of it.
pub fn check() -> HostReport {
    match Started::new() {
        Ok(started) => {
            lock(&started.pool).idle.push(started.first);
            close(&started.pool, &Turns::new(0));
            started.report
        }
        Err(report) => report,
    }
}

fn close(pool: &Mutex<Pool>, turns: &Turns) {
    let threads = {
        let mut pool = lock(pool);
        pool.closed = true;
        pool.idle.drain(..).for_each(|worker| worker.close());
        std::mem::take(&mut pool.threads)
    };
    turns.close();
    for thread in threads {
        if thread.thread().id() != thread::current().id() {
            // A host thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// The life of a worker: one order after another.
fn serve(mut vcpu: Vcpu, orders: &Arc<Mailbox>, pool: &Mutex<Pool>) {
    while let Some(order) = orders.receive() {
        match order {
            Order::Live(job, attention) => {
                vcpu.attach(&attention);
                job(&mut vcpu);
                attention.detach();
                vcpu.release();
                let mut pool = lock(pool);
                if pool.closed || vcpu.is_broken() {
                    return;
                }
                pool.idle.push(orders.clone());
            }
            // Whoever borrowed it puts it back.
            Order::Burst(burst) => burst(&mut vcpu),
        }
    }
}

fn lock(pool: &Mutex<Pool>) -> MutexGuard<'_, Pool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name("pico".to_owned()).stack_size(STACK).spawn(body)
}

/// A virtual CPU costs a descriptor: allow as many as the host lets us have.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is valid for the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 && limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: as above. A failure leaves the limit as it was, and thread creation reports it when it is reached.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn the_probe_finds_a_trap_method() {
        if std::env::var_os("PICOVISOR_NO_KVM").is_some() {
            return;
        }
        let report = check();
        assert!(report.refusal.is_none(), "{report}: {report:?}");
        assert!(report.traps.is_some());
        assert!(report.paging.is_some());
        println!("{report:#?}");
    }
}
