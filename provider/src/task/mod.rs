//! Tasks (threads), thread groups (processes), what they share, and how they wait.
//!
//! A [`Task`]'s state is split into what never changes (its ids), what changes under a lock, and what dies at exit
//! ([`Resources`]), so that a zombie holds nothing. [`CurrentTask`] is the capability to act as a task.

mod access;
mod accounting;
mod attributes;
mod block;
pub(crate) mod call_site;
mod calls;
mod credentials;
mod current;
mod exec;
pub(crate) mod exit;
mod family;
mod group;
mod jobs;
mod limits;
mod namespaces;
mod oom;
mod parker;
mod posting;
mod scheduling;
mod spawn;
mod table;
mod transfers;
mod wait;
mod wait_queue;
mod work;

pub(crate) use access::may_attach;
pub use accounting::CpuTimeOf;
pub use attributes::{Attributes, MceKill};
pub use block::{Deadline, Waiter, Wake};
pub use credentials::{Credentials, SecureBits};
pub use current::{CurrentTask, NO_CALL};
pub use exit::ExitStatus;
pub use family::Families;
pub use group::{StopReport, ThreadGroup};
pub use limits::{INFINITY, Limit, Resource, ResourceLimits};
pub use namespaces::{Names, Namespaces, UtsNamespace};
pub use parker::Parker;
pub(crate) use posting::Change;
pub use scheduling::{Policy, Reservation, Scheduling};
pub use spawn::{CloneFlags, CloneRequest};
pub use table::{PID_MAX, TaskTable};
pub use transfers::{TransferCounts, Transfers};
pub use wait::{ChildState, Found, WaitFor, WaitOptions};
pub use wait_queue::{Observation, Observer, Share, WaitQueue};
pub use work::Work;

use crate::errno::Errno;
use crate::fs::{FdTable, FsContext};
use crate::kernel::Kernel;
use crate::mm::MemoryMap;
use crate::ptrace::Tracee;
use crate::seccomp::Seccomp;
use crate::signal::{Signal, TaskSignals};
use crate::sync::{Mutex, Rank};
use crate::syscall::{Outcome, UserDispatch};
use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use vmm::addr::UserAddr;
use vmm::usage::Meter;

/// A thread or process id as the sandbox sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub i32);

/// What a live task uses and a dead one has given back. `None` in a kernel thread or a test that needs none.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// Memory.
    pub mm: Option<Arc<MemoryMap>>,
    /// Descriptors.
    pub files: Option<Arc<FdTable>>,
    /// Root, working directory and umask.
    pub fs: Option<Arc<FsContext>>,
}

/// What CLOCK_BOOTTIME shows.
fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// A thread as the personality sees it.
pub struct Task {
    kernel: Arc<Kernel>,
    /// Changes only if another thread than the leader calls exec.
    tid: AtomicI32,
    group: Arc<ThreadGroup>,
    /// When it was made, on CLOCK_BOOTTIME.
    started: Duration,
    /// A leaf, so that the accessors may be called whatever else is locked.
    shared: Mutex<Shared>,
    attributes: Mutex<Attributes>,
    binding: accounting::Binding,
    signals: TaskSignals,
    parker: Arc<Parker>,
    /// It is past the point where it gives up its futexes, so nobody may wait for it to do so.
    left_futexes: AtomicBool,
    /// The host's thread that runs it, which holds on to this: given up at the end. None in a test and before it starts.
    thread: Mutex<Option<Arc<vmm::pico::Thread>>>,
    /// That thread's CPU time, which outlives it.
    meter: OnceLock<Arc<Meter>>,
    /// Whoever waits in vfork until this task has given its parent's memory back.
    borrowed: Mutex<Option<Arc<spawn::Borrowed>>>,
    /// What restart_syscall(2) is to do, left by a call that ended with `ERESTART_RESTARTBLOCK`.
    restart: Mutex<Option<Restart>>,
    /// [`Work`]
    work: AtomicU32,
    seccomp: Mutex<Seccomp>,
    user_dispatch: Mutex<UserDispatch>,
    namespaces: Mutex<Namespaces>,
    tracee: Tracee,
    transfers: Transfers,
    call_ways: calls::CallWays,
    posting: posting::Posting,
}

/// Goes on with an interrupted call.
pub type Restart = Box<dyn FnOnce(&CurrentTask<'_>) -> Result<Outcome, Errno> + Send>;

/// The part of a task that others look at.
#[derive(Debug)]
struct Shared {
    resources: Resources,
    credentials: Arc<Credentials>,
    /// The name that PR_SET_NAME sets and /proc shows (`comm`): at most 15 bytes.
    name: Vec<u8>,
}

/// Bytes in a task's name, without the NUL (TASK_COMM_LEN − 1).
pub const NAME_MAX: usize = 15;

impl Task {
    /// Makes a task of `group`. It is not in the table yet.
    pub fn new(
        kernel: &Arc<Kernel>,
        group: &Arc<ThreadGroup>,
        tid: Pid,
        resources: Resources,
        credentials: Credentials,
    ) -> Arc<Self> {
        let shared = Shared { resources, credentials: Arc::new(credentials), name: Vec::new() };
        Self::with(kernel, group, tid, shared, Attributes::default(), TaskSignals::default())
    }

    fn with(
        kernel: &Arc<Kernel>,
        group: &Arc<ThreadGroup>,
        tid: Pid,
        shared: Shared,
        attributes: Attributes,
        signals: TaskSignals,
    ) -> Arc<Self> {
        shared.resources.mm.iter().for_each(|mm| mm.add_user());
        Arc::new(Self {
            kernel: kernel.clone(),
            tid: AtomicI32::new(tid.0),
            group: group.clone(),
            started: since_boot(),
            shared: Mutex::new(Rank::Leaf, shared),
            attributes: Mutex::new(Rank::Leaf, attributes),
            binding: accounting::Binding::default(),
            signals,
            parker: Arc::default(),
            transfers: Transfers::default(),
            left_futexes: AtomicBool::new(false),
            thread: Mutex::new(Rank::Leaf, None),
            meter: OnceLock::new(),
            borrowed: Mutex::new(Rank::Leaf, None),
            restart: Mutex::new(Rank::Leaf, None),
            work: AtomicU32::new(0),
            seccomp: Mutex::new(Rank::Leaf, Seccomp::Disabled),
            user_dispatch: Mutex::new(Rank::Leaf, UserDispatch::default()),
            namespaces: Mutex::new(Rank::Leaf, kernel.first_namespaces()),
            tracee: Tracee::default(),
            call_ways: calls::CallWays::default(),
            posting: posting::Posting::default(),
        })
    }

    /// The sandbox it lives in.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// Its thread id.
    pub fn tid(&self) -> Pid {
        Pid(self.tid.load(Ordering::Relaxed))
    }

    /// When it was made: time since the machine started.
    pub fn started(&self) -> Duration {
        self.started
    }

    /// Its process.
    pub fn group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }

    /// Its memory; `None` once it has exited. [`CurrentTask::mm`] is for a task that acts.
    pub fn mm(&self) -> Option<Arc<MemoryMap>> {
        self.shared.lock().resources.mm.clone()
    }

    /// Its descriptors; `None` once it has exited.
    pub fn files(&self) -> Option<Arc<FdTable>> {
        self.shared.lock().resources.files.clone()
    }

    /// Its root, working directory and umask; `None` once it has exited.
    pub fn fs(&self) -> Option<Arc<FsContext>> {
        self.shared.lock().resources.fs.clone()
    }

    /// Its name (`comm`), at most [`NAME_MAX`] bytes.
    pub fn name(&self) -> Vec<u8> {
        self.shared.lock().name.clone()
    }

    /// Renames it; longer names are cut, as Linux does.
    pub fn set_name(&self, name: &[u8]) {
        self.shared.lock().name = name[..name.len().min(NAME_MAX)].to_vec();
    }

    /// What exec takes away besides memory: addresses that meant something to the old program.
    pub(crate) fn reset_for_exec(&self) {
        *self.restart.lock() = None;
        self.replace_work(Work::USER_DISPATCH, Work::empty());
        self.with_attributes(|attributes| {
            (attributes.clear_child_tid, attributes.robust_list) = (UserAddr(0), UserAddr(0));
        });
    }

    /// What seccomp allows it; [`Self::seccomp`] reads it.
    pub(crate) fn seccomp_slot(&self) -> &Mutex<Seccomp> {
        &self.seccomp
    }

    /// Which of its calls become signals while it has [`Work::USER_DISPATCH`].
    pub(crate) fn user_dispatch_slot(&self) -> &Mutex<UserDispatch> {
        &self.user_dispatch
    }

    /// What tracing it needs.
    pub(crate) fn tracee(&self) -> &Tracee {
        &self.tracee
    }

    /// What it has read and written by calls.
    pub fn transfers(&self) -> &Transfers {
        &self.transfers
    }

    /// What wakes it when it sleeps.
    pub fn parker(&self) -> &Arc<Parker> {
        &self.parker
    }

    /// Tells whether it has given up its futexes for good.
    pub(crate) fn has_left_futexes(&self) -> bool {
        self.left_futexes.load(Ordering::SeqCst)
    }

    /// Notes that it gives up its futexes for good.
    pub(crate) fn leave_futexes(&self) {
        self.left_futexes.store(true, Ordering::SeqCst);
    }

    /// Its signal state.
    pub fn signals(&self) -> &TaskSignals {
        &self.signals
    }

    /// Tells whether something is pending that ends a sleep: a signal it does not block, or a stop or the end of its process.
    pub fn has_interrupting_signal(&self) -> bool {
        if !self.signals.needs_attention() {
            return false;
        }
        let pending = self.signals.pending() | self.group.signals().pending();
        !(pending & !self.signals.blocked()).is_empty()
            || self.group.exit_requested().is_some()
            || self.group.is_stopped()
            || self.is_dismissed()
            || self.tracee.has_trap()
    }

    /// Tells whether SIGKILL is pending.
    pub(crate) fn has_kill_pending(&self) -> bool {
        (self.signals.pending() | self.group.signals().pending()).contains(Signal::SIGKILL)
    }

    /// Ties it to the host's thread that runs it, once.
    pub(crate) fn set_thread(&self, thread: Arc<vmm::pico::Thread>) {
        let _ = self.meter.set(thread.meter().clone());
        self.set_calls(thread.calls());
        let before = self.thread.lock().replace(thread);
        assert!(before.is_none(), "a task runs on one thread from start to end");
    }

    /// Makes the thread leave user mode.
    pub(crate) fn kick(&self) {
        let thread = self.thread.lock().clone();
        if let Some(thread) = thread {
            thread.kick();
        }
    }

    /// Gives back what dies at exit.
    fn release(&self) -> Resources {
        drop(self.thread.lock().take());
        let resources = std::mem::take(&mut self.shared.lock().resources);
        resources.mm.iter().for_each(|mm| mm.remove_user());
        resources
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("tid", &self.tid).field("pid", &self.group.pid()).finish_non_exhaustive()
    }
}
