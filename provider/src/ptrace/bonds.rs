//! Who traces whom.

use super::{Options, StopKind, Tracer};
use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::signal::send::{self, Target, send_to_group};
use crate::signal::{ActionFlags, Detail, Disposition, SigInfo, Signal, SignalCode};
use crate::sync::{Mutex, Rank};
use crate::task::{ExitStatus, Pid, Task, ThreadGroup};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vmm::usage::Usage;

/// All tracers and tracees of a sandbox.
#[derive(Debug)]
pub struct Bonds {
    /// By the tracee's thread id.
    bonds: Mutex<BTreeMap<Pid, Bond>>,
    /// How many there are: looked at before the lock is taken.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Bond {
    tracer: Tracer,
    task: Arc<Task>,
    /// It has ended, and its tracer has not waited for it.
    dead: Option<Dead>,
}

/// How a tracee ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dead {
    /// With which status.
    pub(crate) status: ExitStatus,
    /// The CPU time it has used.
    pub(crate) usage: Usage,
}

/// What a tracer finds out by waiting.
#[derive(Debug)]
pub(crate) enum News {
    /// The tracee stands still, with this code.
    Stopped(i32),
    /// It has ended.
    Ended(Dead),
}

impl Default for Bonds {
    fn default() -> Self {
        Self { bonds: Mutex::new(Rank::Tracing, BTreeMap::new()), count: AtomicUsize::new(0) }
    }
}

impl Bonds {
    /// Makes `task` a tracee; `EPERM` if it is one, or has ended.
    pub(crate) fn attach(&self, tracer: Tracer, task: &Arc<Task>, seized: bool, options: Options) -> Result<(), Errno> {
        // Before it is seen by its tracer.
        task.mm().ok_or(Errno::EPERM)?.leave_code_alone();
        let mut bonds = self.bonds.lock();
        if bonds.contains_key(&task.tid()) || task.mm().is_none() {
            return Err(Errno::EPERM);
        }
        bonds.insert(task.tid(), Bond { tracer, task: task.clone(), dead: None });
        self.count.store(bonds.len(), Ordering::SeqCst);
        task.tracee().bind(tracer, seized, options);
        task.look_who_watches();
        Ok(())
    }

    /// Sets a tracee free, which goes on with `signal` if it stands still.
    pub(crate) fn detach(&self, task: &Arc<Task>, signal: Option<Signal>) {
        self.remove(task.tid());
        task.tracee().release(signal);
        task.look_who_watches();
        send::notify(task);
    }

    fn remove(&self, tracee: Pid) -> Option<Bond> {
        let mut bonds = self.bonds.lock();
        let bond = bonds.remove(&tracee);
        self.count.store(bonds.len(), Ordering::SeqCst);
        bond
    }

    /// A thread has another number from now on, whose thread has ended: as tracee and as tracer.
    pub(crate) fn renumber(&self, from: Pid, to: Pid) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut bonds = self.bonds.lock();
        let gone = bonds.remove(&to);
        if let Some(bond) = bonds.remove(&from) {
            bonds.insert(to, bond);
        }
        bonds.values_mut().filter(|bond| bond.tracer.thread == from).for_each(|bond| bond.tracer.thread = to);
        self.count.store(bonds.len(), Ordering::SeqCst);
        drop(bonds);
        drop(gone);
    }

    /// The tracer of a tracee, dead or alive.
    pub(crate) fn tracer_of(&self, tracee: Pid) -> Option<Tracer> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        self.bonds.lock().get(&tracee).map(|bond| bond.tracer)
    }

    /// The tracees of a process, or of one thread of it, oldest first.
    pub(crate) fn tracees(&self, process: Pid, thread: Option<Pid>) -> Vec<Arc<Task>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        let ours =
            |bond: &&Bond| bond.tracer.process == process && thread.is_none_or(|thread| bond.tracer.thread == thread);
        self.bonds.lock().values().filter(ours).map(|bond| bond.task.clone()).collect()
    }

    /// What the tracer of a tracee has not been told. With `keep` it stays untold.
    pub(crate) fn news(&self, task: &Arc<Task>, wants_ends: bool, keep: bool) -> Option<News> {
        let dead = self.bonds.lock().get(&task.tid()).and_then(|bond| bond.dead);
        if let Some(dead) = dead {
            return wants_ends.then_some(News::Ended(dead));
        }
        let mut state = task.tracee().lock();
        let stop = state.stop.as_mut().filter(|stop| !stop.told && !stop.listening)?;
        stop.told = !keep;
        Some(News::Stopped(stop.code))
    }

    /// Tells whether a tracee has ended, and its tracer has not waited for it.
    pub(crate) fn has_ended(&self, tracee: Pid) -> bool {
        self.bonds.lock().get(&tracee).is_some_and(|bond| bond.dead.is_some())
    }

    /// Tells whether a process has threads, other than its first, that have ended and that a tracer has not waited for: its own end
    /// is told after theirs (delay_group_leader).
    pub(crate) fn has_dead_threads(&self, process: Pid) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let dead =
            |bond: &Bond| bond.dead.is_some() && bond.task.group().pid() == process && bond.task.tid() != process;
        self.bonds.lock().values().any(dead)
    }

    /// A tracer has waited for the end of its tracee: the bond is over.
    pub(crate) fn bury(&self, tracee: Pid) {
        if let Some(bond) = self.remove(tracee) {
            bond.task.tracee().release(None);
            bond.task.look_who_watches();
        }
    }

    /// A tracee has ended: it is a zombie until its tracer waits for it. Answers `false` if nobody will.
    pub(crate) fn tracee_ended(&self, kernel: &Kernel, task: &Task, dead: Dead) -> bool {
        let tracer = {
            let mut bonds = self.bonds.lock();
            let Some(bond) = bonds.get_mut(&task.tid()) else { return false };
            bond.dead = Some(dead);
            bond.tracer
        };
        let (code, status) = dead.status.to_child_info();
        tell(kernel, tracer, task, code, status);
        true
    }

    /// A thread has ended: its tracees are set free, or killed if that was asked for. Returns those that have ended, and for
    /// which nobody waits any more.
    pub(crate) fn tracer_ended(&self, thread: Pid) -> Vec<Arc<Task>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        let own: Vec<Bond> = {
            let mut bonds = self.bonds.lock();
            let own = bonds.extract_if(.., |_, bond| bond.tracer.thread == thread).map(|(_, bond)| bond).collect();
            self.count.store(bonds.len(), Ordering::SeqCst);
            own
        };
        let mut orphans = Vec::new();
        for Bond { task, dead, .. } in own {
            let (kills, untold) = {
                let state = task.tracee().lock();
                // A signal that the tracer has not seen is delivered as if it had never been there.
                let untold = state.stop.as_ref().filter(|stop| stop.kind == StopKind::Signal && !stop.told);
                let signal = untold.and_then(|stop| stop.info.as_ref()).map(|info| info.signal);
                (state.options.contains(Options::EXIT_KILL), signal)
            };
            task.tracee().release(untold);
            task.look_who_watches();
            if dead.is_some() {
                orphans.push(task);
                continue;
            }
            if kills {
                // SIGKILL is never refused.
                let _ = send::send(&task, Target::Process, SigInfo::kernel(Signal::SIGKILL));
            }
            send::notify(&task);
        }
        orphans
    }
}

/// Tells a tracer that a tracee has stopped or ended: SIGCHLD unless it does not want that, and whoever waits wakes.
pub(super) fn tell(kernel: &Kernel, tracer: Tracer, tracee: &Task, code: SignalCode, status: i32) {
    let Some(tracer) = kernel.tasks().get(tracer.thread) else { return };
    // It may wait for the tracee to stand still (PTRACE_ATTACH).
    tracer.parker().wake();
    let group: &Arc<ThreadGroup> = tracer.group();
    let action = group.signals().handlers().get(Signal::SIGCHLD);
    let about_stop = code == SignalCode::CLD_TRAPPED || code == SignalCode::CLD_STOPPED;
    let unwanted = about_stop && action.flags().contains(ActionFlags::NOCLDSTOP);
    if action.disposition() != Disposition::Ignore && !unwanted {
        let uid = tracee.credentials().uid;
        let detail = Detail::Child { pid: tracee.tid(), uid, status, user_time: 0, system_time: 0 };
        // A signal of the kernel's is never refused.
        let _ = send_to_group(group, SigInfo { signal: Signal::SIGCHLD, errno: 0, code, detail });
    }
    group.child_events().wake_all();
}
