//! Making a machine: opening KVM, the virtual machine, and the first worker, which runs the probe.

use super::apart::{Stay, apart};
use super::door;
use super::mailbox::Mailbox;
use super::probe::{self, Flavour};
use super::report::{self, HostReport, Refusal};
use super::supervisor::Supervisor;
use super::vm::Vm;
use super::workers::{Pool, Workers, close, lock, serve, spawn};
use crate::memory::Waiters;
use crate::pico::{HostConfig, OpenError};
use crate::protect::seal_image;
use crate::threads::HostThreads;
use kvm_bindings::{KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT, kvm_enable_cap};
use kvm_ioctls::{Kvm, VmFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// A machine that is being made, on the host thread of its first worker.
///
/// That takes a third of a start and needs nothing of the configuration, so the caller has it done beside its own work:
/// the machine comes first ([`Self::finish`] waits for it, because guest memory needs it), then the worker sets up its
/// virtual CPU and probes ([`Workers::check`] waits for that).
#[derive(Debug)]
pub(crate) struct Opening {
    opened: Receiver<Result<Opened, HostReport>>,
    probed: Receiver<Result<Probed, HostReport>>,
}

/// A machine without memory.
pub(super) struct Opened {
    pub(super) vm: Arc<Vm>,
    pub(super) waiters: Arc<Waiters>,
    pub(super) pool: Arc<Mutex<Pool>>,
    pub(super) threads: Arc<HostThreads>,
}

/// What the first worker found out before it waits for its first order.
pub(super) struct Probed {
    pub(super) supervisor: Supervisor,
    pub(super) flavour: Flavour,
    pub(super) report: HostReport,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Opening {
    /// Begins. Every signal that is to stay blocked in workers must be blocked by now.
    pub(crate) fn begin(threads: &Arc<HostThreads>) -> Result<Self, OpenError> {
        let ((tell_opened, opened), (tell_probed, probed)) = (channel(), channel());
        let pool = Arc::new(Mutex::new(Pool::default()));
        let (parking, roster) = (pool.clone(), threads.clone());
        let (apart, stay) = apart();
        let handle = spawn(threads, move || first_worker(&parking, roster, &tell_opened, &tell_probed, stay));
        let handle = handle.map_err(|error| OpenError::Host("no thread for the machine", error))?;
        apart.place(&handle);
        lock(&pool).threads.push(handle);
        Ok(Self { opened, probed })
    }

    /// Gives the machine its memory.
    pub(crate) fn finish(self, config: &HostConfig) -> Result<Arc<Workers>, OpenError> {
        let opened = self.opened.recv().unwrap_or_else(|_| Err(ended_early()));
        let opened = opened.map_err(|report| OpenError::Refused(Box::new(report)))?;
        Workers::new(opened, self.probed, config)
    }
}

/// The first worker: makes the machine, probes, and serves. Whoever does not listen any more has given the machine up.
fn first_worker(
    pool: &Arc<Mutex<Pool>>,
    threads: Arc<HostThreads>,
    opened: &Sender<Result<Opened, HostReport>>,
    probed: &Sender<Result<Probed, HostReport>>,
    stay: Stay,
) {
    let mut report = HostReport::default();
    let (kvm, vm) = match open(&mut report) {
        Ok((kvm, vm)) => (kvm, vm),
        Err(refusal) => {
            let _ = opened.send(Err(HostReport { refusal: Some(refusal), ..report }));
            return;
        }
    };
    let waiters = Arc::<Waiters>::default();
    let machine = Opened { vm: vm.clone(), waiters: waiters.clone(), pool: pool.clone(), threads };
    if opened.send(Ok(machine)).is_err() {
        return;
    }
    let found = Supervisor::new(&vm, &waiters).map_err(|_| Refusal::Memory);
    let found = found.and_then(|supervisor| Ok((probe::run(&vm, &supervisor, &kvm)?, supervisor)));
    let found = found.and_then(|found| vm.end_of_probe().map(|()| found).map_err(|_| Refusal::Memory));
    let (vcpu, supervisor) = match found {
        Ok(found) => found,
        Err(refusal) => {
            let _ = probed.send(Err(HostReport { refusal: Some(refusal), ..report }));
            return;
        }
    };
    let flavour = vcpu.flavour.clone();
    report.traps = Some(flavour.method());
    report.paging = Some(flavour.paging());
    report.xcr0 = flavour.xcr0;
    report.counter = flavour.counter;
    let mailbox = Mailbox::new();
    // The supervisor pages go to whoever hires; the virtual CPU stays here.
    if probed.send(Ok(Probed { supervisor, flavour, report, mailbox: mailbox.clone() })).is_ok() {
        // Before any program runs, and while the others prepare one.
        seal_image();
        stay.end();
        serve(vcpu, &mailbox, pool);
    }
}

/// Opens KVM and makes a machine; `report` gets what KVM says of itself.
fn open(report: &mut HostReport) -> Result<(Kvm, Arc<Vm>), Refusal> {
    let kvm = report::open()?;
    *report = HostReport::ask(&kvm);
    if let Some(refusal) = report.refusal.take() {
        return Err(refusal);
    }
    let failed = |error: std::io::Error| Refusal::Machine(error.to_string());
    door::install_handler().map_err(failed)?;
    raise_descriptor_limit();
    let machine = create_machine(&kvm).map_err(|error| failed(error.into()))?;
    Ok((kvm, Arc::new(Vm::new(machine))))
}

/// What is reported if the first worker's host thread has come to an end.
pub(super) fn ended_early() -> HostReport {
    HostReport::refused(Refusal::Traps("the probe ended early".to_owned()))
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
    let Opening { opened, probed } = match Opening::begin(&Arc::default()) {
        Ok(opening) => opening,
        Err(error) => return HostReport::refused(Refusal::Machine(error.to_string())),
    };
    let opened = match opened.recv().unwrap_or_else(|_| Err(ended_early())) {
        Ok(opened) => opened,
        Err(report) => return report,
    };
    let report = match probed.recv().unwrap_or_else(|_| Err(ended_early())) {
        Ok(probed) => {
            lock(&opened.pool).idle.push(probed.mailbox);
            probed.report
        }
        Err(report) => report,
    };
    close(&opened.pool, None);
    report
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
