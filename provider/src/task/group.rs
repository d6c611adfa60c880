//! Thread groups: processes.

use super::{ExitStatus, Pid, ResourceLimits, Task, WaitQueue};
use crate::signal::{GroupSignals, Signal};
use crate::sync::{Mutex, Rank};
use crate::time::{IntervalTimers, PosixTimers};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

/// A process: the threads that share a pid, signal handlers and limits.
#[derive(Debug)]
pub struct ThreadGroup {
    pid: Pid,
    limits: ResourceLimits,
    signals: GroupSignals,
    state: Mutex<State>,
    /// What /proc/PID/oom_score_adj holds.
    oom_adjustment: AtomicI32,
    /// Woken when a child ends, stops or continues.
    child_events: WaitQueue,
    interval_timers: IntervalTimers,
    posix_timers: PosixTimers,
    /// The host's process; none in a test.
    process: OnceLock<Arc<vmm::pico::Process>>,
}

#[derive(Debug)]
struct State {
    threads: Vec<Arc<Task>>,
    /// All threads are to end, and the process with this status.
    exit_requested: Option<ExitStatus>,
    /// The last thread is gone.
    exit_status: Option<ExitStatus>,
    /// The signal that has stopped it.
    stopped: Option<Signal>,
    process_group: Pid,
    session: Pid,
    parent: Pid,
}

impl ThreadGroup {
    /// Makes a process with no thread yet, which leads a session of its own.
    pub fn new(pid: Pid, limits: ResourceLimits) -> Arc<Self> {
        let state = State {
            threads: Vec::new(),
            exit_requested: None,
            exit_status: None,
            stopped: None,
            process_group: pid,
            session: pid,
            parent: Pid(0),
        };
        Arc::new(Self {
            pid,
            limits,
            signals: GroupSignals::default(),
            state: Mutex::new(Rank::ThreadGroup, state),
            oom_adjustment: AtomicI32::new(0),
            child_events: WaitQueue::default(),
            interval_timers: IntervalTimers::default(),
            posix_timers: PosixTimers::default(),
            process: OnceLock::new(),
        })
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its resource limits.
    pub fn limits(&self) -> &ResourceLimits {
        &self.limits
    }

    /// Dispositions and signals that are pending for the process as a whole.
    pub fn signals(&self) -> &GroupSignals {
        &self.signals
    }

    /// Woken when a child ends, stops or continues.
    pub fn child_events(&self) -> &WaitQueue {
        &self.child_events
    }

    /// Its interval timers.
    pub fn interval_timers(&self) -> &IntervalTimers {
        &self.interval_timers
    }

    /// Its POSIX timers.
    pub fn posix_timers(&self) -> &PosixTimers {
        &self.posix_timers
    }

    /// Its process group.
    pub fn process_group(&self) -> Pid {
        self.state.lock().process_group
    }

    /// Its session.
    pub fn session(&self) -> Pid {
        self.state.lock().session
    }

    /// Moves it to a process group of its session; the caller has checked that it may.
    pub(crate) fn set_process_group(&self, group: Pid) {
        self.state.lock().process_group = group;
    }

    /// Its parent; 0 for the first process, whose parent is outside.
    pub fn parent(&self) -> Pid {
        self.state.lock().parent
    }

    /// Makes it the leader of a new session and process group; the caller has checked that it may.
    pub(crate) fn start_session(&self) {
        let mut state = self.state.lock();
        (state.session, state.process_group) = (self.pid, self.pid);
    }

    /// Its live threads, the oldest first.
    pub fn threads(&self) -> Vec<Arc<Task>> {
        self.state.lock().threads.clone()
    }

    /// How much more or less likely than others it is to be killed when memory runs out: −1000 to 1000.
    pub(crate) fn oom_adjustment(&self) -> i32 {
        self.oom_adjustment.load(Ordering::Relaxed)
    }

    /// Changes that.
    pub(crate) fn set_oom_adjustment(&self, adjustment: i32) {
        self.oom_adjustment.store(adjustment, Ordering::Relaxed);
    }

    /// Adds a thread, which must be one of this process.
    pub(crate) fn add_thread(&self, task: &Arc<Task>) {
        self.state.lock().threads.push(task.clone());
    }

    /// Takes a thread off; answers whether it was the last.
    pub(super) fn remove_thread(&self, tid: Pid) -> bool {
        let mut state = self.state.lock();
        let before = state.threads.len();
        state.threads.retain(|thread| thread.tid() != tid);
        before == 1 && state.threads.is_empty()
    }

    /// How it ended, once it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.state.lock().exit_status
    }

    /// The status with which all its threads are to end, if they are.
    pub fn exit_requested(&self) -> Option<ExitStatus> {
        self.state.lock().exit_requested
    }

    /// Notes that all threads are to end; the first status stays.
    pub(super) fn request_exit(&self, status: ExitStatus) {
        let mut state = self.state.lock();
        state.exit_requested.get_or_insert(status);
        state.stopped = None;
    }

    /// The last thread has gone with `status`; returns the process's.
    pub(super) fn finish(&self, status: ExitStatus) -> ExitStatus {
        let mut state = self.state.lock();
        let status = state.exit_requested.unwrap_or(status);
        *state.exit_status.get_or_insert(status)
    }

    /// Tells whether a signal has stopped it.
    pub fn is_stopped(&self) -> bool {
        self.state.lock().stopped.is_some()
    }

    /// Stops it.
    pub(crate) fn stop_all(&self, signal: Signal) {
        let mut state = self.state.lock();
        if state.exit_requested.is_none() {
            state.stopped = Some(signal);
        }
    }

    /// Lets it go on after a stop.
    pub(crate) fn continue_all(&self) {
        let threads = {
            let mut state = self.state.lock();
            if state.stopped.take().is_none() {
                return;
            }
            state.threads.clone()
        };
        threads.iter().for_each(|thread| thread.parker().wake());
    }

    /// Ties it to the host's process, once.
    pub(crate) fn set_process(&self, process: Arc<vmm::pico::Process>) {
        assert!(self.process.set(process).is_ok(), "a process is one process of the host's from start to end");
    }

    /// The host's process.
    pub(crate) fn process(&self) -> Option<&Arc<vmm::pico::Process>> {
        self.process.get()
    }
}
