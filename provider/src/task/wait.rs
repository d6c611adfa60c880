//! Waiting for children (`kernel/exit.c`).

use super::exit::ExitStatus;
use super::family::{Member, Tree, real_uid};
use super::{CurrentTask, Deadline, Pid, StopReport, Task};
use crate::errno::Errno;
use crate::ptrace::News;
use crate::signal::Signal;
use vmm::usage::Usage;

bitflags::bitflags! {
    /// Options of wait4(2) and waitid(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct WaitOptions: u32 {
        /// WNOHANG: do not wait.
        const NO_HANG = 1;
        /// WSTOPPED, WUNTRACED: children that have stopped, too.
        const STOPPED = 2;
        /// WEXITED: children that have ended.
        const EXITED = 4;
        /// WCONTINUED: children that go on after a stop, too.
        const CONTINUED = 8;
        /// WNOWAIT: leave what is found to be found again.
        const NO_WAIT = 0x0100_0000;
        /// __WNOTHREAD: this thread's children only.
        const NO_THREAD = 0x2000_0000;
        /// __WALL: children whatever signal they end with.
        const ALL = 0x4000_0000;
        /// __WCLONE: only children that end with another signal than SIGCHLD.
        const CLONE = 0x8000_0000;
    }
}

/// Which children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// All.
    Any,
    /// One.
    Process(Pid),
    /// Those of a process group.
    Group(Pid),
}

/// What has become of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildState {
    /// It has ended.
    Ended(ExitStatus),
    /// A signal has stopped it.
    Stopped(Signal),
    /// It stands still for its tracer, with this code in the upper bytes of the status.
    Trapped(i32),
    /// It goes on.
    Continued,
}

/// A child that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub pid: Pid,
    /// Its real user id.
    pub uid: u32,
    /// What has become of it.
    pub state: ChildState,
    /// The CPU time that it and the children it waited for have used.
    pub usage: Usage,
    /// It was found because the caller traces it.
    pub(super) is_tracee: bool,
}

impl ChildState {
    /// The status word of wait4(2).
    pub fn to_wait_status(self) -> i32 {
        match self {
            Self::Ended(status) => status.to_wait_status(),
            Self::Stopped(signal) => signal.raw() << 8 | 0x7f,
            Self::Trapped(code) => code << 8 | 0x7f,
            Self::Continued => 0xffff,
        }
    }
}

impl CurrentTask<'_> {
    /// Waits until a child changes its state. `Ok(None)`: none has, and WNOHANG is given.
    ///
    /// # Errors
    /// `ECHILD` (there is no such child), `ERESTARTSYS`.
    pub fn wait_for_child(&self, which: WaitFor, options: WaitOptions) -> Result<Option<Found>, Errno> {
        if options.contains(WaitOptions::NO_HANG) {
            return self.look_for_child(which, options);
        }
        let wake = self.block_until(Deadline::Never, |waiter| {
            waiter.on_queue(self.group().child_events());
            self.look_for_child(which, options)
        })?;
        match wake.or_restart() {
            // The signal may be the very SIGCHLD of the child, which changed after the last look and before the signal was seen.
            Err(interrupted) => self.look_for_child(which, options)?.map(Some).ok_or(interrupted),
            found => found.map(Some),
        }
    }

    /// Takes a child that has changed its state, if one has.
    fn look_for_child(&self, which: WaitFor, options: WaitOptions) -> Result<Option<Found>, Errno> {
        let kernel = self.kernel();
        let mut tree = kernel.families().lock();
        let chosen = |child: &&Member| {
            let by_number = match which {
                WaitFor::Any => true,
                WaitFor::Process(pid) => child.group.pid() == pid,
                WaitFor::Group(group) => child.group.process_group() == group,
            };
            by_number && is_eligible(child, options, self.tid())
        };
        let mut none = true;
        let found = tree.children(self.group().pid()).filter(chosen).find_map(|child| {
            none = false;
            let state = self.changed(child, options)?;
            let group = &child.group;
            let usage = group.ended_usage().plus(&group.children_usage());
            Some(Found { pid: group.pid(), uid: real_uid(kernel, group.pid()), state, usage, is_tracee: false })
        });
        let found = match found {
            None => self.look_for_tracee(&mut tree, which, options, &mut none),
            found => found,
        };
        match found {
            None if none => return Err(Errno::ECHILD),
            Some(Found { is_tracee: true, .. }) => {}
            Some(Found { state: ChildState::Ended(_), .. }) if !options.contains(WaitOptions::NO_WAIT) => {
                found.iter().for_each(|zombie| self.bury(&mut tree, zombie));
            }
            _ => {}
        }
        Ok(found)
    }

    /// What has become of a child that the caller wants to know and was not told yet. The stops of one that the caller's process
    /// traces are its tracer's to see, and the end of one that others trace is theirs first.
    fn changed(&self, child: &Member, options: WaitOptions) -> Option<ChildState> {
        let tracer = self.kernel().bonds().tracer_of(child.group.pid());
        let ended = child.group.exit_status().is_some();
        if ended && self.kernel().bonds().has_dead_threads(child.group.pid()) {
            return None;
        }
        match tracer {
            Some(tracer) if (tracer.process == self.group().pid()) != ended => None,
            _ => changed(child, options),
        }
    }

    /// Takes a tracee that stands still or has ended, if the caller may wait for one (ptrace_do_wait).
    fn look_for_tracee(&self, tree: &mut Tree, which: WaitFor, options: WaitOptions, none: &mut bool) -> Option<Found> {
        let kernel = self.kernel();
        let bonds = kernel.bonds();
        let thread = options.contains(WaitOptions::NO_THREAD).then(|| self.tid());
        let chosen = |tracee: &std::sync::Arc<Task>| match which {
            WaitFor::Any => true,
            WaitFor::Process(pid) => tracee.tid() == pid,
            WaitFor::Group(group) => tracee.group().process_group() == group,
        };
        let (wants_ends, keep) = (options.contains(WaitOptions::EXITED), options.contains(WaitOptions::NO_WAIT));
        for tracee in bonds.tracees(self.group().pid(), thread).into_iter().filter(chosen) {
            *none = false;
            let (state, usage) = match bonds.news(&tracee, wants_ends, keep) {
                None => continue,
                Some(News::Stopped(code)) => (ChildState::Trapped(code), Usage::default()),
                Some(News::Ended(dead)) => (ChildState::Ended(dead.status), dead.usage),
            };
            if matches!(state, ChildState::Ended(_)) && !keep {
                bonds.bury(tracee.tid());
                tree.bury_tracee(kernel, &tracee);
            }
            return Some(Found { pid: tracee.tid(), uid: tracee.credentials().uid, state, usage, is_tracee: true });
        }
        None
    }

    /// Forgets a zombie that was waited for, and counts its time as a child's.
    fn bury(&self, tree: &mut Tree, zombie: &Found) {
        self.group().add_children_usage(&zombie.usage);
        if let Some(child) = self.kernel().tasks().get(zombie.pid) {
            self.group().add_children_transfers(child.group().transfers());
        }
        self.kernel().bonds().bury(zombie.pid);
        tree.forget(self.kernel(), zombie.pid);
    }
}

/// Whether a call may wait for a child (eligible_child).
fn is_eligible(child: &Member, options: WaitOptions, thread: Pid) -> bool {
    let wanted = options.contains(WaitOptions::ALL)
        || options.contains(WaitOptions::CLONE) == (child.exit_signal != Signal::SIGCHLD.raw());
    let ours = !options.contains(WaitOptions::NO_THREAD) || child.parent_thread == thread;
    wanted && ours && !child.is_foundling
}

/// What has become of a child that the caller wants to know and was not told yet.
fn changed(child: &Member, options: WaitOptions) -> Option<ChildState> {
    if let Some(status) = child.group.exit_status() {
        return options.contains(WaitOptions::EXITED).then_some(ChildState::Ended(status));
    }
    let wanted = |report| match report {
        StopReport::Stopped(_) => options.contains(WaitOptions::STOPPED),
        StopReport::Continued => options.contains(WaitOptions::CONTINUED),
    };
    let report = child.group.report(wanted, options.contains(WaitOptions::NO_WAIT))?;
    Some(match report {
        StopReport::Stopped(signal) => ChildState::Stopped(signal),
        StopReport::Continued => ChildState::Continued,
    })
}
