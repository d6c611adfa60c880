//! /proc/PID and /proc/PID/task/TID.
//!
//! [`FILES`] names the files; each is a function of the [`Subject`]. Directories are made anew at each look-up, with inode numbers
//! computed from the thread id, so nothing is kept for a task that nobody looks at. After the task has ended its files
//! answer `ESRCH`.

mod attributes;
mod fd;
mod files;
mod links;
mod maps;
mod memory;
mod mounts;
mod query;
mod scheduler;
mod stat;
mod status;

use super::parse_pid;
use crate::errno::Errno;
use crate::fs::pseudo::{
    DirInode, Entries, Entry, LinkInode, Look, Owner, Seeks, Super, Target, Text, TextInode, grow,
};
use crate::fs::{FileKind, Inode};
use crate::mm::Dumpable;
use crate::ptrace::{Look as Eyes, may_access};
use crate::task::{CurrentTask, Pid, Task};
use std::sync::{Arc, Weak};

/// Numbers of a task's objects lie above those of fixed objects: the thread id times this, plus the object's index.
const INODES_A_TASK: u64 = 1 << 24;
/// Added for the objects below /proc/PID/task/TID.
const THREAD_INODES: u64 = 1 << 23;
/// Where the numbers of /proc/PID/fd's entries start, those of fdinfo's, and those of ns and the subdirectories.
const FD_INODES: u64 = 1 << 21;
const FDINFO_INODES: u64 = 1 << 22;
/// The first inode number of tasks.
const FIRST_TASK_INODE: u64 = 1 << 40;

/// Whose directory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// The whole process.
    Process,
    /// One thread of it.
    Thread,
}

/// A task that procfs shows, as long as it exists.
#[derive(Clone, Debug)]
struct Subject {
    task: Weak<Task>,
    tid: Pid,
    scope: Scope,
}

impl Subject {
    /// The task, or `ESRCH`: it has been reaped.
    fn task(&self) -> Result<Arc<Task>, Errno> {
        self.task.upgrade().filter(|task| task.kernel().tasks().get(self.tid).is_some()).ok_or(Errno::ESRCH)
    }

    /// The inode number of the object with this index.
    fn inode(&self, index: u64) -> u64 {
        let tid = u64::try_from(self.tid.0).unwrap_or_default();
        let scope = if self.scope == Scope::Thread { THREAD_INODES } else { 0 };
        FIRST_TASK_INODE + tid * INODES_A_TASK + scope + index
    }

    /// To whom its objects belong: the task's effective user; root if it has made itself undumpable.
    fn owner(&self) -> Owner {
        self.task.upgrade().filter(|task| is_dumpable(task)).map_or(Owner::ROOT, |task| {
            let credentials = task.credentials();
            Owner { uid: credentials.euid, gid: credentials.egid }
        })
    }
}

/// The inode number of /proc/PID.
pub(super) fn directory_inode(task: &Arc<Task>) -> u64 {
    subject(task, Scope::Process).inode(0)
}

/// Makes /proc/PID.
pub(super) fn process_directory(home: &Arc<Super>, task: &Arc<Task>) -> Arc<dyn Inode> {
    directory(home, subject(task, Scope::Process))
}

/// The process whose /proc/PID an inode is; `None` for every other object, /proc/PID/task/TID included.
pub(crate) fn process_of_directory(inode: &dyn Inode) -> Option<Weak<Task>> {
    let directory = inode.as_any().downcast_ref::<DirInode<TaskDir>>()?;
    let subject = &directory.entries().subject;
    (subject.scope == Scope::Process).then(|| Weak::clone(&subject.task))
}

fn subject(task: &Arc<Task>, scope: Scope) -> Subject {
    Subject { task: Arc::downgrade(task), tid: task.tid(), scope }
}

fn directory(home: &Arc<Super>, subject: Subject) -> Arc<dyn Inode> {
    let node = home.node_numbered(subject.inode(0), 0o555, subject.owner());
    DirInode::new(node, TaskDir { home: Arc::clone(home), subject })
}

/// Tells whether a task's memory may be looked at; that of a task without memory may.
fn is_dumpable(task: &Task) -> bool {
    task.mm().is_none_or(|mm| mm.dumpable() == Dumpable::Yes)
}

/// Tells whether `reader` may look into `task` (ptrace_may_access with PTRACE_MODE_READ_FSCREDS).
fn may_look(reader: &CurrentTask<'_>, task: &Arc<Task>) -> bool {
    may_access(reader, task, Eyes::AsFile)
}

/// Who may read a file, beyond its permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// Anybody; `EACCES` never.
    Anybody,
    /// Who may look into the task; others get `EACCES`.
    Peer,
}

/// What a file function gets: the task it shows and the one that reads.
#[derive(Debug)]
struct Shown<'a, 't> {
    task: Arc<Task>,
    reader: &'a CurrentTask<'t>,
    scope: Scope,
}

type Render = fn(&Shown<'_, '_>) -> Result<Vec<u8>, Errno>;
type Store = fn(&Shown<'_, '_>, &[u8]) -> Result<(), Errno>;
type Control = fn(&Shown<'_, '_>, u32, u64) -> Result<u64, Errno>;

/// A line of [`FILES`].
#[derive(Clone, Copy)]
struct Spec {
    name: &'static str,
    mode: u32,
    guard: Guard,
    render: Render,
    store: Option<Store>,
    control: Option<Control>,
}

const fn file(name: &'static str, render: Render) -> Spec {
    Spec { name, mode: 0o444, guard: Guard::Anybody, render, store: None, control: None }
}

const fn guarded(name: &'static str, mode: u32, render: Render) -> Spec {
    Spec { name, mode, guard: Guard::Peer, render, store: None, control: None }
}

const fn settable(name: &'static str, mode: u32, render: Render, store: Store) -> Spec {
    Spec { name, mode, guard: Guard::Anybody, render, store: Some(store), control: None }
}

/// The files that are rendered, in Linux's order (`tgid_base_stuff` in fs/proc/base.c).
const FILES: &[Spec] = &[
    guarded("environ", 0o400, files::environment),
    guarded("auxv", 0o400, files::auxiliary_vector),
    file("status", status::render),
    guarded("personality", 0o400, files::personality),
    file("limits", files::limits),
    settable("sched", 0o644, scheduler::details, scheduler::reset_details),
    settable("autogroup", 0o644, scheduler::autogroup, scheduler::set_autogroup),
    file("timens_offsets", files::clock_offsets),
    settable("comm", 0o644, files::name, files::set_name),
    guarded("syscall", 0o400, scheduler::call),
    file("cmdline", files::command_line),
    file("stat", stat::render),
    file("statm", stat::memory),
    Spec { control: Some(query::control), ..guarded("maps", 0o444, maps::render) },
    guarded("numa_maps", 0o444, maps::by_node),
    file("mounts", mounts::table),
    file("mountinfo", mounts::information),
    guarded("mountstats", 0o400, mounts::statistics),
    settable("clear_refs", 0o200, files::nothing, files::clear_references),
    guarded("smaps", 0o444, maps::detailed),
    guarded("smaps_rollup", 0o444, maps::summed),
    file("wchan", scheduler::wait_channel),
    guarded("stack", 0o400, scheduler::kernel_stack),
    file("schedstat", scheduler::statistics),
    file("cpuset", files::cpu_set),
    file("cgroup", files::control_groups),
    file("oom_score", files::oom_score),
    settable("oom_adj", 0o644, files::old_oom_adjustment, files::set_old_oom_adjustment),
    settable("oom_score_adj", 0o644, files::oom_adjustment, files::set_oom_adjustment),
    settable("loginuid", 0o644, files::login_user, files::refused),
    file("sessionid", files::login_session),
    guarded("io", 0o400, files::transfers),
    settable("uid_map", 0o644, files::identity_map, files::refused),
    settable("gid_map", 0o644, files::identity_map, files::refused),
    settable("projid_map", 0o644, files::identity_map, files::refused),
    settable("setgroups", 0o644, files::setgroups, files::refused),
    guarded("timers", 0o444, files::timers),
    settable("coredump_filter", 0o644, files::core_filter, files::set_core_filter),
    settable("timerslack_ns", 0o666, files::timer_slack, files::set_timer_slack),
    file("arch_status", files::architecture),
];

/// What only threads have, whose children it shows.
static CHILDREN: Spec = file("children", files::children);

/// A rendered file of a task.
struct TaskText {
    subject: Subject,
    spec: &'static Spec,
}

impl std::fmt::Debug for TaskText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TaskText({})", self.spec.name)
    }
}

impl Text for TaskText {
    fn render(&self, reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
        (self.spec.render)(&Shown { task: self.subject.task()?, reader, scope: self.subject.scope })
    }

    fn store(&self, writer: &CurrentTask<'_>, bytes: &[u8]) -> Result<(), Errno> {
        let store = self.spec.store.ok_or(Errno::EIO)?;
        store(&Shown { task: self.subject.task()?, reader: writer, scope: self.subject.scope }, bytes)
    }

    fn control(&self, caller: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        let control = self.spec.control.ok_or(Errno::ENOTTY)?;
        control(&Shown { task: self.subject.task()?, reader: caller, scope: self.subject.scope }, request, arg)
    }

    fn permit(&self, opener: &CurrentTask<'_>) -> Result<(), Errno> {
        let task = self.subject.task()?;
        if self.spec.guard == Guard::Anybody || may_look(opener, &task) { Ok(()) } else { Err(Errno::EACCES) }
    }
}

/// /proc/PID or /proc/PID/task/TID.
#[derive(Debug)]
struct TaskDir {
    home: Arc<Super>,
    subject: Subject,
}

/// What else the directory has, before the rendered files in the listing.
const SUBDIRECTORIES: &[&str] = &["task", "fd", "fdinfo", "ns", "net", "attr"];
/// And behind them.
const OTHERS: &[(&str, FileKind)] = &[
    ("cwd", FileKind::Symlink),
    ("root", FileKind::Symlink),
    ("exe", FileKind::Symlink),
    ("mem", FileKind::Regular),
    ("pagemap", FileKind::Regular),
    ("children", FileKind::Regular),
];

impl TaskDir {
    /// All names with their types, in the order of the listing. The index of an object's inode number is its place here plus one.
    fn names(&self) -> impl Iterator<Item = (&'static str, FileKind)> {
        let scope = self.subject.scope;
        let subdirectories = SUBDIRECTORIES.iter().filter(move |name| scope == Scope::Process || **name != "task");
        subdirectories
            .map(|name| (*name, FileKind::Directory))
            .chain(FILES.iter().map(|spec| (spec.name, FileKind::Regular)))
            .chain(OTHERS.iter().copied().filter(move |(name, _)| scope == Scope::Thread || *name != "children"))
    }

    fn link(&self, inode: u64, target: impl Target) -> Arc<dyn Inode> {
        LinkInode::new(self.home.node_numbered(inode, 0o777, self.subject.owner()), target)
    }

    fn subdirectory(&self, inode: u64, mode: u32, entries: impl Entries) -> Arc<dyn Inode> {
        DirInode::new(self.home.node_numbered(inode, mode, self.subject.owner()), entries)
    }
}

impl Entries for TaskDir {
    fn find(&self, _task: &CurrentTask<'_>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        self.subject.task().map_err(|_| Errno::ENOENT)?;
        let found = (1u64..).zip(self.names()).find(|(_, (known, _))| known.as_bytes() == name);
        let (index, (name, _)) = found.ok_or(Errno::ENOENT)?;
        let inode = self.subject.inode(index);
        let (home, subject) = (Arc::clone(&self.home), self.subject.clone());
        if let Some(spec) = FILES.iter().find(|spec| spec.name == name) {
            let node = home.node_numbered(inode, spec.mode, subject.owner());
            let seeks = if matches!(name, "cmdline" | "environ" | "auxv") { Seeks::Sized(0) } else { Seeks::Sequence };
            return Ok(TextInode::new(node, seeks, TaskText { subject, spec }));
        }
        Ok(match name {
            "task" => self.subdirectory(inode, 0o555, Threads { home, subject }),
            "fd" => self.subdirectory(inode, 0o500, fd::Descriptors { home, subject, shows: fd::Shows::Files }),
            "fdinfo" => self.subdirectory(inode, 0o555, fd::Descriptors { home, subject, shows: fd::Shows::Details }),
            "ns" => self.subdirectory(inode, 0o511, links::Namespaces { home, subject }),
            "attr" => self.subdirectory(inode, 0o555, attributes::Labels { home, subject }),
            "net" => {
                let look = Look { seeks: Seeks::Sequence, directory_mode: 0o555 };
                self.subdirectory(inode, 0o555, grow(&home, look, &super::system::network_leaves()))
            }
            "cwd" => self.link(inode, links::Place::cwd(subject)),
            "root" => self.link(inode, links::Place::root(subject)),
            "exe" => self.link(inode, links::Place::exe(subject)),
            "mem" => memory::Memory::inode(home.node_numbered(inode, 0o600, subject.owner()), subject),
            "children" => {
                let node = home.node_numbered(inode, 0o444, subject.owner());
                TextInode::new(node, Seeks::Sequence, TaskText { subject, spec: &CHILDREN })
            }
            _ => memory::PageMap::inode(home.node_numbered(inode, 0o400, subject.owner()), subject),
        })
    }

    fn list(&self, _task: &CurrentTask<'_>, from: u64) -> Result<Vec<Entry>, Errno> {
        let names = (0u64..).zip(self.names()).filter(|(position, _)| *position >= from);
        Ok(names
            .map(|(position, (name, kind))| Entry {
                position,
                name: name.as_bytes().to_vec(),
                inode: self.subject.inode(position + 1),
                kind,
            })
            .collect())
    }

    fn links(&self) -> u64 {
        2 + self.names().filter(|(_, kind)| *kind == FileKind::Directory).count() as u64
    }
}

/// /proc/PID/task.
#[derive(Debug)]
struct Threads {
    home: Arc<Super>,
    subject: Subject,
}

impl Entries for Threads {
    fn find(&self, task: &CurrentTask<'_>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let process = self.subject.task().map_err(|_| Errno::ENOENT)?;
        let tid = parse_pid(name).ok_or(Errno::ENOENT)?;
        let thread = task.kernel().tasks().get(tid).ok_or(Errno::ENOENT)?;
        if !Arc::ptr_eq(thread.group(), process.group()) {
            return Err(Errno::ENOENT);
        }
        Ok(directory(&self.home, subject(&thread, Scope::Thread)))
    }

    fn list(&self, task: &CurrentTask<'_>, from: u64) -> Result<Vec<Entry>, Errno> {
        let process = self.subject.task().map_err(|_| Errno::ENOENT)?;
        let threads =
            task.kernel().tasks().all().into_iter().filter(|thread| Arc::ptr_eq(thread.group(), process.group()));
        let entries = threads.map(|thread| Entry {
            position: u64::try_from(thread.tid().0).unwrap_or_default(),
            name: thread.tid().0.to_string().into_bytes(),
            inode: subject(&thread, Scope::Thread).inode(0),
            kind: FileKind::Directory,
        });
        Ok(entries.filter(|entry| entry.position >= from).collect())
    }

    fn links(&self) -> u64 {
        3
    }
}
