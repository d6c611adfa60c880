//! Thread groups: processes.

mod stops;

use super::calls::GroupAnswers;
use super::{ExitStatus, INFINITY, Limit, Pid, Resource, ResourceLimits, Task, TransferCounts, Transfers, WaitQueue};
use crate::coredump::Witnesses;
use crate::signal::{GroupSignals, Signal};
use crate::sync::{Mutex, Rank};
use crate::time::{CpuLimit, IntervalTimers, PosixTimers, TimerService};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use vmm::usage::Usage;

/// A process: the threads that share a pid, signal handlers and limits.
#[derive(Debug)]
pub struct ThreadGroup {
    pid: Pid,
    limits: ResourceLimits,
    signals: GroupSignals,
    state: Mutex<State>,
    /// What /proc/PID/oom_score_adj holds.
    oom_adjustment: AtomicI32,
    /// It has given its session's terminal up for itself (TIOCNOTTY).
    without_terminal: AtomicBool,
    /// Woken when a child ends, stops or continues.
    child_events: WaitQueue,
    /// PR_SET_CHILD_SUBREAPER: it adopts its descendants' orphans.
    subreaper: AtomicBool,
    /// Woken when it, or a thread of it, ends, and when it is forgotten.
    end_events: WaitQueue,
    /// It was waited for: its number may be another's.
    forgotten: AtomicBool,
    interval_timers: IntervalTimers,
    posix_timers: PosixTimers,
    /// What its threads that have ended, and its children that it has waited for, have read and written.
    ended_transfers: Transfers,
    /// Watches RLIMIT_CPU, once there is one.
    cpu_limit: OnceLock<Arc<CpuLimit>>,
    /// Where threads leave their registers as they end for a core.
    witnesses: Witnesses,
    /// The host's process, which holds on to this: given up at the end. None in a test.
    process: Mutex<Option<Arc<vmm::pico::Process>>>,
}

#[derive(Debug)]
struct State {
    threads: Vec<Arc<Task>>,
    /// All threads are to end, and the process with this status.
    exit_requested: Option<ExitStatus>,
    /// A thread calls exec: all others are to end.
    executing: Option<Pid>,
    /// The last thread is gone.
    exit_status: Option<ExitStatus>,
    /// The signal that has stopped it.
    stopped: Option<Signal>,
    /// The threads that it waits for until it counts as stopped.
    stopping: Vec<Pid>,
    /// It goes on, and its parent has not been sent a signal for that yet: the first thread that goes on does.
    continued: bool,
    /// What of a stop or of going on a waiting parent has not been told yet.
    report: Option<StopReport>,
    jobs: Jobs,
    /// It has called exec since it was forked: its parent may not move it to another process group any more.
    executed: bool,
    parent: Pid,
    /// CPU time of its threads that have ended.
    ended: Usage,
    /// CPU time of its children that it has waited for, and of theirs.
    children: Usage,
}

/// The process group and the session of a process.
#[derive(Clone, Copy, Debug)]
struct Jobs {
    process_group: Pid,
    session: Pid,
}

/// A change of a process's that wait(2) tells once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReport {
    /// A signal has stopped it.
    Stopped(Signal),
    /// SIGCONT has let it go on.
    Continued,
}

impl ThreadGroup {
    /// Makes a process with no thread yet, which leads a session of its own.
    pub fn new(pid: Pid, limits: ResourceLimits) -> Arc<Self> {
        let jobs = Jobs { process_group: pid, session: pid };
        Self::with(pid, limits, GroupSignals::default(), jobs, 0)
    }

    /// Makes the process of a forked child, with no thread yet.
    pub(super) fn child_of(parent: &Self, pid: Pid, signals: GroupSignals) -> Arc<Self> {
        let jobs = parent.state.lock().jobs;
        let group = Self::with(pid, parent.limits.duplicate(), signals, jobs, parent.oom_adjustment());
        group.without_terminal.store(parent.has_left_terminal(), Ordering::Relaxed);
        group
    }

    fn with(pid: Pid, limits: ResourceLimits, signals: GroupSignals, jobs: Jobs, oom_adjustment: i32) -> Arc<Self> {
        let state = State {
            threads: Vec::new(),
            exit_requested: None,
            executing: None,
            exit_status: None,
            stopped: None,
            stopping: Vec::new(),
            continued: false,
            report: None,
            jobs,
            executed: false,
            parent: Pid(0),
            ended: Usage::default(),
            children: Usage::default(),
        };
        Arc::new(Self {
            pid,
            limits,
            signals,
            state: Mutex::new(Rank::ThreadGroup, state),
            oom_adjustment: AtomicI32::new(oom_adjustment),
            without_terminal: AtomicBool::new(false),
            child_events: WaitQueue::default(),
            subreaper: AtomicBool::new(false),
            end_events: WaitQueue::default(),
            forgotten: AtomicBool::new(false),
            interval_timers: IntervalTimers::default(),
            posix_timers: PosixTimers::default(),
            ended_transfers: Transfers::default(),
            cpu_limit: OnceLock::new(),
            witnesses: Witnesses::default(),
            process: Mutex::new(Rank::Leaf, None),
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

    /// Where threads leave their registers as they end for a core.
    pub(crate) fn witnesses(&self) -> &Witnesses {
        &self.witnesses
    }

    /// Dispositions and signals that are pending for the process as a whole.
    pub fn signals(&self) -> &GroupSignals {
        &self.signals
    }

    /// Woken when a child ends, stops or continues.
    pub fn child_events(&self) -> &WaitQueue {
        &self.child_events
    }

    /// Woken when it, or a thread of it, ends, and when it is forgotten.
    pub fn end_events(&self) -> &WaitQueue {
        &self.end_events
    }

    /// Tells whether it was waited for, so that its number may be another's.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::SeqCst)
    }

    /// Notes that it was waited for.
    pub(super) fn forget(&self) {
        self.forgotten.store(true, Ordering::SeqCst);
        self.end_events.wake_all();
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
        self.state.lock().jobs.process_group
    }

    /// Its session.
    pub fn session(&self) -> Pid {
        self.state.lock().jobs.session
    }

    /// Moves it to a process group of its session; the caller has checked that it may.
    pub(crate) fn set_process_group(&self, group: Pid) {
        let mut state = self.state.lock();
        state.jobs.process_group = group;
        self.answer_all(&state);
    }

    /// Its parent; 0 for the first process, whose parent is outside.
    pub fn parent(&self) -> Pid {
        self.state.lock().parent
    }

    /// Notes who its parent is now.
    pub(super) fn set_parent(&self, parent: Pid) {
        let mut state = self.state.lock();
        state.parent = parent;
        self.answer_all(&state);
    }

    /// Tells whether it has called exec since it was forked.
    pub(crate) fn has_executed(&self) -> bool {
        self.state.lock().executed
    }

    /// Notes that it has called exec.
    pub(crate) fn note_exec(&self) {
        self.state.lock().executed = true;
    }

    /// CPU time of its threads that have ended.
    pub(crate) fn ended_usage(&self) -> Usage {
        self.state.lock().ended
    }

    /// CPU time of the children that it has waited for, and of theirs.
    pub(crate) fn children_usage(&self) -> Usage {
        self.state.lock().children
    }

    /// Counts the CPU time of a child that it has waited for.
    pub(super) fn add_children_usage(&self, usage: &Usage) {
        let mut state = self.state.lock();
        state.children = state.children.plus(usage);
    }

    /// Makes it the leader of a new session and process group; the caller has checked that it may.
    pub(crate) fn start_session(&self) {
        let mut state = self.state.lock();
        state.jobs = Jobs { process_group: self.pid, session: self.pid };
        self.answer_all(&state);
    }

    /// What its threads' calls that only show this state answer.
    fn answers(&self, state: &State) -> GroupAnswers {
        GroupAnswers { pid: self.pid, parent: state.parent, process_group: state.jobs.process_group }
    }

    fn answer_all(&self, state: &State) {
        state.threads.iter().for_each(|thread| thread.answer_for_group(self.answers(state)));
    }

    /// Tells a thread that has not joined yet what its calls answer; as it joins it is told again.
    pub(super) fn tell_answers(&self, task: &Task) {
        let state = self.state.lock();
        task.answer_for_group(self.answers(&state));
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

    /// Tells whether it has given its session's terminal up for itself.
    pub(crate) fn has_left_terminal(&self) -> bool {
        self.without_terminal.load(Ordering::Relaxed)
    }

    /// Gives its session's terminal up for itself.
    pub(crate) fn leave_terminal(&self) {
        self.without_terminal.store(true, Ordering::Relaxed);
    }

    /// Has its session's terminal again.
    pub(crate) fn take_terminal(&self) {
        self.without_terminal.store(false, Ordering::Relaxed);
    }

    /// Tells whether it adopts its descendants' orphans.
    pub(crate) fn is_subreaper(&self) -> bool {
        self.subreaper.load(Ordering::Relaxed)
    }

    /// Says whether it does.
    pub(crate) fn set_subreaper(&self, adopts: bool) {
        self.subreaper.store(adopts, Ordering::Relaxed);
    }

    /// Adds a thread, which must be one of this process. Answers `false` if the process is ending, or calls exec: then
    /// it must not run.
    pub(crate) fn add_thread(&self, task: &Arc<Task>) -> bool {
        let mut state = self.state.lock();
        if state.exit_requested.is_some() || state.executing.is_some() {
            return false;
        }
        task.answer_for_group(self.answers(&state));
        state.threads.push(task.clone());
        true
    }

    /// Tells whether a task is one of its live threads.
    pub(crate) fn has_thread(&self, tid: Pid) -> bool {
        self.state.lock().threads.iter().any(|thread| thread.tid() == tid)
    }

    /// Sees to it that RLIMIT_CPU is kept from now on, if there is one.
    pub(crate) fn watch_cpu_limit(self: &Arc<Self>, service: &TimerService) {
        if self.limits.get(Resource::Cpu) != (Limit { soft: INFINITY, hard: INFINITY }) {
            self.cpu_limit.get_or_init(|| CpuLimit::new(service, self)).check(service);
        }
    }

    /// CPU time of the threads that have ended, and the live ones: together all of the process's.
    pub(super) fn accounts(&self) -> (Usage, Vec<Arc<Task>>) {
        let state = self.state.lock();
        (state.ended, state.threads.clone())
    }

    /// What all its threads, and the children that it has waited for, have read and written by calls.
    pub(crate) fn transfers(&self) -> TransferCounts {
        let state = self.state.lock();
        let live = state.threads.iter().map(|thread| thread.transfers().counts());
        live.fold(self.ended_transfers.counts(), TransferCounts::plus)
    }

    /// Counts what a child that it has waited for has read and written.
    pub(super) fn add_children_transfers(&self, counts: TransferCounts) {
        self.ended_transfers.add(counts);
    }

    /// Takes a thread off; answers whether it was the last.
    pub(super) fn remove_thread(&self, tid: Pid) -> bool {
        let mut state = self.state.lock();
        let ending = state.threads.iter().find(|thread| thread.tid() == tid);
        let used = ending.map(|thread| thread.cpu_usage()).unwrap_or_default();
        self.ended_transfers.add(ending.map(|thread| thread.transfers().counts()).unwrap_or_default());
        state.ended = state.ended.plus(&used);
        let before = state.threads.len();
        state.threads.retain(|thread| thread.tid() != tid);
        if let Some(executing) = state.executing {
            // It waits until it is the last.
            state.threads.iter().filter(|thread| thread.tid() == executing).for_each(|thread| thread.parker().wake());
        }
        before == 1 && state.threads.is_empty()
    }

    /// Notes that a thread calls exec, so that the others end, and returns all. `None` if the process ends or another thread
    /// does.
    pub(super) fn begin_exec(&self, tid: Pid) -> Option<Vec<Arc<Task>>> {
        let mut state = self.state.lock();
        if state.exit_requested.is_some() || state.executing.is_some() {
            return None;
        }
        state.executing = Some(tid);
        Some(state.threads.clone())
    }

    /// The others have ended, or the process does.
    pub(super) fn end_exec(&self) {
        self.state.lock().executing = None;
    }

    /// The thread that calls exec and waits for the others to end.
    pub(super) fn executing(&self) -> Option<Pid> {
        self.state.lock().executing
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

    /// How the process ends if its last thread goes with `status`.
    pub(super) fn final_status(&self, status: ExitStatus) -> ExitStatus {
        self.state.lock().exit_requested.unwrap_or(status)
    }

    /// Makes the process a zombie.
    pub(super) fn finish(&self, status: ExitStatus) {
        self.state.lock().exit_status.get_or_insert(status);
    }

    /// What a waiting parent has not been told yet, if `wanted` says that it wants to know; with `keep` it stays untold.
    pub(super) fn report(&self, wanted: impl Fn(StopReport) -> bool, keep: bool) -> Option<StopReport> {
        let mut state = self.state.lock();
        let report = state.report.filter(|report| wanted(*report))?;
        if !keep {
            state.report = None;
        }
        Some(report)
    }

    /// Ties it to the host's process, once.
    pub(crate) fn set_process(&self, process: Arc<vmm::pico::Process>) {
        let before = self.process.lock().replace(process);
        assert!(before.is_none(), "a process is one process of the host's from start to end");
    }

    /// The host's process; `None` once it has ended.
    pub(crate) fn process(&self) -> Option<Arc<vmm::pico::Process>> {
        self.process.lock().clone()
    }

    /// Gives the host's process up.
    pub(super) fn leave_process(&self) {
        drop(self.process.lock().take());
    }
}
