//! Who is whose child: parents, children, orphans, zombies.
//!
//! One lock (rank [`Rank::Family`]) guards all relations, as Linux's `tasklist_lock` does: a child is born, adopted, waited
//! for and forgotten under it, so that whoever looks sees whole families. Signals are sent while it is held.
//!
//! Orphans go to the nearest ancestor that asked for them (PR_SET_CHILD_SUBREAPER), else to process 1. That is the program
//! the sandbox was started for, and no init: run directly it would never see other programs' orphans, so those are not
//! shown to its wait(2), and leave no zombies.

use super::exit::ExitStatus;
use super::{Pid, Task, ThreadGroup};
use crate::kernel::{INIT, Kernel};
use crate::ptrace::Dead;
use crate::signal::send::send_to_group;
use crate::signal::{ActionFlags, Detail, Disposition, SigInfo, Signal, SignalCode};
use crate::sync::{Mutex, MutexGuard, Rank};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;
use vmm::usage::Usage;

/// All processes, zombies included, with their relations.
#[derive(Debug)]
pub struct Families {
    state: Mutex<Tree>,
}

/// What the lock guards.
#[derive(Debug, Default)]
pub(super) struct Tree {
    members: BTreeMap<Pid, Member>,
    /// Whose waits may be over: woken once the lock is released, since the first thing they do is to take it.
    awaited: Vec<Arc<ThreadGroup>>,
}

/// Holds the lock.
pub(super) struct Locked<'a> {
    tree: Option<MutexGuard<'a, Tree>>,
}

const HELD: &str = "the guard is given up by the drop alone";

impl Deref for Locked<'_> {
    type Target = Tree;
    fn deref(&self) -> &Tree {
        self.tree.as_deref().expect(HELD)
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Tree {
        self.tree.as_deref_mut().expect(HELD)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let awaited = std::mem::take(&mut self.awaited);
        drop(self.tree.take());
        awaited.iter().for_each(|group| group.child_events().wake_all());
    }
}

/// A process and its relations.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) group: Arc<ThreadGroup>,
    /// 0: nobody inside.
    parent: Pid,
    /// The thread of the parent's that made it, or that has taken it over: what __WNOTHREAD asks for.
    pub(super) parent_thread: Pid,
    /// What the parent gets when it ends; 0: nothing. Not necessarily a signal that exists.
    pub(super) exit_signal: i32,
    /// Taken over by process 1, which did not ask for it.
    pub(super) is_foundling: bool,
    /// Its end was told to its tracer or its parent.
    is_told: bool,
    /// Oldest first.
    children: Vec<Pid>,
}

impl Default for Families {
    fn default() -> Self {
        Self { state: Mutex::new(Rank::Family, Tree::default()) }
    }
}

/// A process that is about to be born.
#[derive(Debug)]
pub(super) struct Birth<'a> {
    /// The process, with its first thread.
    pub(super) group: &'a Arc<ThreadGroup>,
    /// Whose child it is.
    pub(super) parent: Pid,
    /// Which thread's.
    pub(super) parent_thread: Pid,
    /// What the parent gets when it ends.
    pub(super) exit_signal: i32,
}

impl Families {
    pub(super) fn lock(&self) -> Locked<'_> {
        Locked { tree: Some(self.state.lock()) }
    }

    /// Adds the first process.
    pub(crate) fn add_first(&self, group: &Arc<ThreadGroup>) {
        self.lock().add(&Birth { group, parent: Pid(0), parent_thread: Pid(0), exit_signal: 0 });
    }

    /// Adds a child, if `allowed` still says so: nobody who signals a whole process group or all processes comes in between.
    pub(super) fn add(&self, birth: &Birth<'_>, allowed: impl FnOnce() -> bool) -> bool {
        let mut tree = self.lock();
        let parent_lives = tree.members.get(&birth.parent).is_some_and(|parent| parent.group.exit_status().is_none());
        if !parent_lives || !allowed() {
            return false;
        }
        tree.add(birth);
        true
    }

    /// Takes a child back that never ran.
    pub(super) fn remove(&self, pid: Pid) {
        self.lock().remove(pid);
    }

    /// What the parent of a process gets when that ends; 0: nothing.
    pub(crate) fn exit_signal(&self, pid: Pid) -> i32 {
        self.lock().members.get(&pid).map_or(0, |member| member.exit_signal)
    }

    /// Exec: whatever the parent asked for, it gets SIGCHLD from now on (de_thread in fs/exec.c).
    pub(crate) fn reset_exit_signal(&self, pid: Pid) {
        if let Some(member) = self.lock().members.get_mut(&pid) {
            member.exit_signal = Signal::SIGCHLD.raw();
        }
    }

    /// The thread that made a process, or has taken it over; `None` if nobody inside has.
    pub(crate) fn parent_thread(&self, pid: Pid) -> Option<Pid> {
        self.lock().members.get(&pid).map(|member| member.parent_thread).filter(|parent| parent.0 != 0)
    }

    /// The children of a process that one of its threads has made or taken over, oldest first.
    pub(crate) fn children_of(&self, process: Pid, thread: Pid) -> Vec<Pid> {
        let tree = self.lock();
        let ours = tree.children(process).filter(|child| child.parent_thread == thread);
        ours.map(|child| child.group.pid()).collect()
    }

    /// As [`Tree::bury_tracee`].
    pub(super) fn bury_tracee(&self, kernel: &Kernel, tracee: &Task) {
        self.lock().bury_tracee(kernel, tracee);
    }

    /// All processes that have not been waited for, by number.
    pub fn all(&self) -> Vec<Arc<ThreadGroup>> {
        self.lock().members.values().map(|member| member.group.clone()).collect()
    }

    /// Calls `act` for every process that `wanted` chooses, while none can be born; answers what it returned.
    pub(crate) fn for_those<T>(
        &self,
        wanted: impl Fn(&ThreadGroup) -> bool,
        act: impl FnMut(&Arc<ThreadGroup>) -> T,
    ) -> Vec<T> {
        self.lock().groups().filter(|group| wanted(group)).map(act).collect()
    }

    /// A thread of a process has another number from now on: so has its children's parent.
    pub(super) fn renumber_parent_thread(&self, process: Pid, from: Pid, to: Pid) {
        let mut tree = self.lock();
        let children = tree.members.get(&process).map(|own| own.children.clone()).unwrap_or_default();
        for child in children {
            if let Some(child) = tree.members.get_mut(&child).filter(|child| child.parent_thread == from) {
                child.parent_thread = to;
            }
        }
    }

    /// A thread ends: its children pass to another thread of the process, and hear of it if they asked (PR_SET_PDEATHSIG).
    pub(super) fn thread_ended(&self, task: &Task) {
        let (pid, tid) = (task.group().pid(), task.tid());
        let mut tree = self.lock();
        let Some(own) = tree.members.get(&pid).filter(|own| !own.children.is_empty()) else { return };
        let heir = task.group().threads().first().map(|heir| heir.tid());
        for child in own.children.clone() {
            let Some(child) = tree.members.get_mut(&child).filter(|child| child.parent_thread == tid) else { continue };
            tell_of_parents_death(&child.group);
            if let Some(heir) = heir {
                child.parent_thread = heir;
            }
        }
    }

    /// A process's last thread has ended: it is a zombie, its children are adopted, its parent is told, and unless somebody will
    /// wait for it it is forgotten.
    pub(super) fn process_ended(&self, kernel: &Kernel, group: &ThreadGroup, status: ExitStatus) {
        let mut tree = self.lock();
        // Under the lock, so that whoever waits for it has its SIGCHLD before it sees the zombie.
        group.finish(status);
        tree.check_group_of(group, None);
        if group.pid() == INIT {
            // The sandbox ends with it (zap_pid_ns_processes).
            for other in tree.members.values().filter(|other| other.group.pid() != INIT) {
                let _ = send_to_group(&other.group, SigInfo::kernel(Signal::SIGKILL));
            }
        }
        let reaper = tree.reaper_for(group.pid());
        let children = tree.members.get_mut(&group.pid()).map(|own| std::mem::take(&mut own.children));
        for child in children.unwrap_or_default() {
            tree.adopt(kernel, child, group, reaper);
        }
        tree.tell_end(kernel, group, status);
    }

    /// Tells the parent that a process has stopped (`Some`) or goes on (do_notify_parent_cldstop).
    pub(crate) fn notify_stop(&self, kernel: &Kernel, group: &ThreadGroup, stopped_by: Option<Signal>) {
        let mut tree = self.lock();
        if stopped_by.is_some() {
            // Under the lock, so that whoever waits for it has its SIGCHLD before it sees the stop.
            group.report_stop();
        }
        let Some(parent) = tree.parent_of(group.pid()).cloned() else { return };
        let action = parent.signals().handlers().get(Signal::SIGCHLD);
        if action.disposition() != Disposition::Ignore && !action.flags().contains(ActionFlags::NOCLDSTOP) {
            let (code, status) = match stopped_by {
                Some(signal) => (SignalCode::CLD_STOPPED, signal.raw()),
                None => (SignalCode::CLD_CONTINUED, Signal::SIGCONT.raw()),
            };
            send_child_signal(kernel, &parent, group, Signal::SIGCHLD, code, status);
        }
        tree.awaited.push(parent);
    }

    /// Tells whether nobody outside a process group, but in its session, is the parent of one of its members: then nobody
    /// would continue it if it stopped.
    pub(crate) fn is_orphaned(&self, process_group: Pid) -> bool {
        self.lock().is_orphaned(process_group, None)
    }
}

impl Tree {
    /// All processes, by number.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Arc<ThreadGroup>> {
        self.members.values().map(|member| &member.group)
    }

    /// The children of a process, oldest first.
    pub(super) fn children(&self, pid: Pid) -> impl Iterator<Item = &Member> {
        let children = self.members.get(&pid).map(|member| member.children.as_slice()).unwrap_or_default();
        children.iter().filter_map(|child| self.members.get(child))
    }

    /// Forgets a process for good: its number is free.
    pub(super) fn forget(&mut self, kernel: &Kernel, pid: Pid) {
        if let Some(member) = self.members.get(&pid) {
            member.group.forget();
        }
        self.remove(pid);
        kernel.tasks().remove(pid);
    }

    /// The tracer of a task that has ended has waited for it, or is gone: a thread is forgotten, a process is its parent's now.
    pub(super) fn bury_tracee(&mut self, kernel: &Kernel, tracee: &Task) {
        let group = tracee.group();
        let is_thread = tracee.tid() != group.pid();
        if is_thread {
            kernel.tasks().remove(tracee.tid());
        }
        let Some(status) = group.exit_status() else { return };
        if is_thread {
            // Unless it is gone, and its number perhaps another's.
            if self.members.get(&group.pid()).is_some_and(|member| Arc::ptr_eq(&member.group, group)) {
                self.tell_end(kernel, group, status);
            }
        } else if self.notify_end(kernel, group.pid(), status) {
            self.forget(kernel, group.pid());
        }
    }

    /// Tells whoever is to know first that a process has ended: its tracer, else its parent; nobody as long as a tracer has not
    /// waited for all its threads. Forgets it if nobody will wait for it.
    fn tell_end(&mut self, kernel: &Kernel, group: &ThreadGroup, status: ExitStatus) {
        let Some(member) = self.members.get_mut(&group.pid()) else {
            // It never was in a family: nobody waits.
            return self.forget(kernel, group.pid());
        };
        if kernel.bonds().has_dead_threads(group.pid()) || std::mem::replace(&mut member.is_told, true) {
            return;
        }
        if self.tell_tracer(kernel, group, status) {
            return;
        }
        if self.notify_end(kernel, group.pid(), status) {
            self.forget(kernel, group.pid());
        }
    }

    fn add(&mut self, birth: &Birth<'_>) {
        let Birth { group, parent, parent_thread, exit_signal } = *birth;
        group.set_parent(parent);
        let member = Member {
            group: group.clone(),
            parent,
            parent_thread,
            exit_signal,
            is_foundling: false,
            is_told: false,
            children: Vec::new(),
        };
        self.members.insert(group.pid(), member);
        if let Some(parent) = self.members.get_mut(&parent) {
            parent.children.push(group.pid());
        }
    }

    fn remove(&mut self, pid: Pid) {
        let Some(member) = self.members.remove(&pid) else { return };
        if let Some(parent) = self.members.get_mut(&member.parent) {
            parent.children.retain(|child| *child != pid);
        }
    }

    fn parent_of(&self, pid: Pid) -> Option<&Arc<ThreadGroup>> {
        let member = self.members.get(&pid).filter(|member| !member.is_foundling)?;
        self.members.get(&member.parent).map(|parent| &parent.group)
    }

    /// Who adopts the children of a process: the nearest ancestor that wants orphans, or process 1; and whether it asked.
    fn reaper_for(&self, pid: Pid) -> (Pid, bool) {
        let mut at = self.members.get(&pid).map_or(Pid(0), |member| member.parent);
        while let Some(ancestor) = self.members.get(&at) {
            if ancestor.group.exit_status().is_none() && ancestor.group.is_subreaper() {
                return (at, true);
            }
            at = ancestor.parent;
        }
        (INIT, false)
    }

    /// Gives a child of `father`'s, which has ended, to its adoptive parent (reparent_leader).
    fn adopt(&mut self, kernel: &Kernel, child: Pid, father: &ThreadGroup, (reaper, asked): (Pid, bool)) {
        let thread = self.members.get(&reaper).and_then(|reaper| reaper.group.threads().first().map(|heir| heir.tid()));
        let Some(member) = self.members.get_mut(&child) else { return };
        (member.parent, member.parent_thread) = (reaper, thread.unwrap_or(reaper));
        (member.exit_signal, member.is_foundling) = (Signal::SIGCHLD.raw(), !asked);
        let group = member.group.clone();
        group.set_parent(reaper);
        if let Some(reaper) = self.members.get_mut(&reaper) {
            reaper.children.push(child);
        }
        if let Some(status) = group.exit_status() {
            let is_tracers = kernel.bonds().tracer_of(child).is_some();
            if !is_tracers && self.notify_end(kernel, child, status) {
                self.forget(kernel, child);
            }
        } else {
            self.check_group_of(&group, Some(father));
        }
    }

    /// Tells the tracer of a process that has ended, unless that is its parent; answers whether there is one. Its parent is told
    /// when the tracer has waited for it (exit_notify).
    fn tell_tracer(&self, kernel: &Kernel, group: &ThreadGroup, status: ExitStatus) -> bool {
        let pid = group.pid();
        let Some(tracer) = kernel.bonds().tracer_of(pid) else { return false };
        let parent = self.members.get(&pid).map(|member| member.parent);
        if parent == Some(tracer.process) {
            return false;
        }
        let usage = group.ended_usage();
        kernel
            .tasks()
            .get(pid)
            .is_some_and(|leader| kernel.bonds().tracee_ended(kernel, &leader, Dead { status, usage }))
    }

    /// Tells the parent that a process has ended; answers whether nobody will wait for it (do_notify_parent).
    fn notify_end(&mut self, kernel: &Kernel, pid: Pid, status: ExitStatus) -> bool {
        let Some(member) = self.members.get(&pid) else { return true };
        let Some(parent) = self.parent_of(pid).cloned() else { return true };
        let mut signal = Signal::from_raw(member.exit_signal);
        let mut forgotten = false;
        if signal == Some(Signal::SIGCHLD) {
            let action = parent.signals().handlers().get(Signal::SIGCHLD);
            let ignored = action.disposition() == Disposition::Ignore;
            forgotten = ignored || action.flags().contains(ActionFlags::NOCLDWAIT);
            signal = signal.filter(|_| !ignored);
        }
        if let Some(signal) = signal {
            let (code, value) = status.to_child_info();
            send_child_signal(kernel, &parent, &member.group, signal, code, value);
        }
        self.awaited.push(parent);
        forgotten
    }

    /// SIGHUP and SIGCONT for a process group that loses its last tie to the rest of its session while a member is stopped
    /// (kill_orphaned_pgrp). The tie is `group`, which ends, or with `father`, who has ended, its being his child.
    fn check_group_of(&self, group: &ThreadGroup, father: Option<&ThreadGroup>) {
        let jobs = group.process_group();
        let ignored = if father.is_none() { Some(group.pid()) } else { None };
        let parent = father.or_else(|| self.parent_of(group.pid()).map(|parent| &**parent));
        let is_tie = parent.is_some_and(|parent| parent.process_group() != jobs && parent.session() == group.session());
        if !is_tie || !self.is_orphaned(jobs, ignored) {
            return;
        }
        let members: Vec<_> = self.in_group(jobs).collect();
        if members.iter().any(|member| member.group.is_stopped()) {
            for signal in [Signal::SIGHUP, Signal::SIGCONT] {
                for member in &members {
                    // Signals of the kernel's are never refused.
                    let _ = send_to_group(&member.group, SigInfo::kernel(signal));
                }
            }
        }
    }

    fn is_orphaned(&self, process_group: Pid, ignored: Option<Pid>) -> bool {
        !self.in_group(process_group).any(|member| {
            let group = &member.group;
            if Some(group.pid()) == ignored || group.exit_status().is_some() || member.is_foundling {
                return false;
            }
            match self.members.get(&member.parent) {
                // The caller's shell, outside, which looks after the first process.
                None => true,
                Some(parent) => {
                    parent.group.process_group() != process_group && parent.group.session() == group.session()
                }
            }
        })
    }

    fn in_group(&self, process_group: Pid) -> impl Iterator<Item = &Member> {
        self.members.values().filter(move |member| member.group.process_group() == process_group)
    }
}

/// Sends a child what it asked for with PR_SET_PDEATHSIG, once for each of its threads that did.
fn tell_of_parents_death(child: &Arc<ThreadGroup>) {
    for thread in child.threads() {
        if let Some(signal) = Signal::from_raw(thread.attributes().parent_death_signal) {
            let detail = Detail::Sender { pid: Pid(0), uid: 0 };
            let info = SigInfo { signal, errno: 0, code: SignalCode::SI_USER, detail };
            // Such signals are never refused.
            let _ = send_to_group(child, info);
        }
    }
}

fn send_child_signal(
    kernel: &Kernel,
    parent: &Arc<ThreadGroup>,
    child: &ThreadGroup,
    signal: Signal,
    code: SignalCode,
    status: i32,
) {
    let Usage { user, system, .. } = child.ended_usage();
    let detail = Detail::Child {
        pid: child.pid(),
        uid: real_uid(kernel, child.pid()),
        status,
        user_time: ticks(user),
        system_time: ticks(system),
    };
    // A signal of the kernel's is never refused.
    let _ = send_to_group(parent, SigInfo { signal, errno: 0, code, detail });
}

/// The real user id of a process, a zombie's included.
pub(super) fn real_uid(kernel: &Kernel, pid: Pid) -> u32 {
    kernel.tasks().get(pid).map_or(0, |leader| leader.credentials().uid)
}

/// Time in clock ticks of 10 ms, as siginfo has it.
fn ticks(span: Duration) -> i64 {
    i64::try_from(span.as_millis() / 10).unwrap_or(i64::MAX)
}
