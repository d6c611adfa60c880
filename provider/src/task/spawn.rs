//! Making threads and processes (`copy_process` in kernel/fork.c).

use super::family::Birth;
use super::{CurrentTask, Namespaces, Pid, Resources, Shared, Task, ThreadGroup};
use crate::errno::Errno;
use crate::fs::pidfd::PidFd;
use crate::fs::{Fd, OpenFlags};
use crate::kernel::{INIT, Kernel};
use crate::mm::MemoryMap;
use crate::ptrace::registers::TF;
use crate::ptrace::{Event, Making};
use crate::signal::{AltStack, GroupSignals, Signal};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vmm::addr::{USER_END, UserAddr};
use vmm::pico::{CreateError, Process, ProcessAttributes, ThreadAttributes};
use vmm::trap::Registers;

bitflags::bitflags! {
    /// CLONE_*, see clone(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CloneFlags: u64 {
        /// New clocks.
        const NEWTIME = 0x80;
        /// The same memory.
        const VM = 0x100;
        /// The same root, working directory and umask.
        const FS = 0x200;
        /// The same descriptors.
        const FILES = 0x400;
        /// The same dispositions.
        const SIGHAND = 0x800;
        /// A descriptor for the child.
        const PIDFD = 0x1000;
        /// The caller's tracer traces the child.
        const PTRACE = 0x2000;
        /// The caller waits until the child gives the memory back.
        const VFORK = 0x4000;
        /// The child is the caller's sibling.
        const PARENT = 0x8000;
        /// A thread of the same process.
        const THREAD = 0x1_0000;
        /// A new mount table.
        const NEWNS = 0x2_0000;
        /// The same list of semaphore adjustments.
        const SYSVSEM = 0x4_0000;
        /// `tls` counts.
        const SETTLS = 0x8_0000;
        /// `parent_tid` counts.
        const PARENT_SETTID = 0x10_0000;
        /// `child_tid` is cleared, and a futex there woken, as the child ends.
        const CHILD_CLEARTID = 0x20_0000;
        /// Without effect since Linux 2.6.2.
        const DETACHED = 0x40_0000;
        /// No tracer follows.
        const UNTRACED = 0x80_0000;
        /// `child_tid` is set.
        const CHILD_SETTID = 0x100_0000;
        /// New control groups.
        const NEWCGROUP = 0x200_0000;
        /// A new host name.
        const NEWUTS = 0x400_0000;
        /// New System V IPC.
        const NEWIPC = 0x800_0000;
        /// New users.
        const NEWUSER = 0x1000_0000;
        /// New process numbers.
        const NEWPID = 0x2000_0000;
        /// A new network.
        const NEWNET = 0x4000_0000;
        /// The same I/O context: no effect.
        const IO = 0x8000_0000;
        /// Handlers become default.
        const CLEAR_SIGHAND = 0x1_0000_0000;
        /// The child starts in another control group.
        const INTO_CGROUP = 0x2_0000_0000;
    }
}

impl CloneFlags {
    /// New namespaces of any kind.
    pub const NAMESPACES: Self = Self::NEWTIME
        .union(Self::NEWNS)
        .union(Self::NEWCGROUP)
        .union(Self::NEWUTS)
        .union(Self::NEWIPC)
        .union(Self::NEWUSER)
        .union(Self::NEWPID)
        .union(Self::NEWNET);
}

/// What clone, clone3, fork and vfork ask for.
#[derive(Clone, Debug)]
pub struct CloneRequest {
    /// What is shared, and what is done besides.
    pub flags: CloneFlags,
    /// What the parent gets when the child ends; 0: nothing.
    pub exit_signal: i32,
    /// The child's stack pointer; `None`: the caller's.
    pub stack: Option<UserAddr>,
    /// The child's FS base, with CLONE_SETTLS.
    pub tls: u64,
    /// Where the child's number goes in the caller's memory, with CLONE_PARENT_SETTID.
    pub parent_tid: UserAddr,
    /// Where it goes, or is cleared, in the child's.
    pub child_tid: UserAddr,
    /// Where the descriptor goes, with CLONE_PIDFD.
    pub pidfd: UserAddr,
    /// The number that the child is to have (clone3's `set_tid`).
    pub wanted: Option<Pid>,
}

/// CAP_SYS_ADMIN
const CAP_SYS_ADMIN: u32 = 21;
/// CAP_SYS_RESOURCE
const CAP_SYS_RESOURCE: u32 = 24;
/// CAP_CHECKPOINT_RESTORE
const CAP_CHECKPOINT_RESTORE: u32 = 40;

/// Memory that a child has from its parent, which waits in vfork for it.
#[derive(Debug, Default)]
pub(super) struct Borrowed {
    returned: AtomicBool,
    lender: std::sync::OnceLock<Arc<super::Parker>>,
}

impl Task {
    /// Tells the parent that waits in vfork that its memory is its own again: after exec, or at the end.
    pub(crate) fn return_memory(&self) {
        let borrowed = self.borrowed.lock().take();
        if let Some(borrowed) = borrowed {
            borrowed.returned.store(true, Ordering::SeqCst);
            if let Some(lender) = borrowed.lender.get() {
                lender.wake();
            }
        }
    }
}

/// The combinations that cannot be (the first lines of copy_process, and kernel_clone's own).
fn check_flags(task: &CurrentTask<'_>, request: &CloneRequest) -> Result<(), Errno> {
    let flags = request.flags;
    let needs = |flag, other| flags.contains(flag) && !flags.contains(other);
    let wrong = (flags.contains(CloneFlags::PIDFD | CloneFlags::PARENT_SETTID) && request.pidfd == request.parent_tid)
        || flags.contains(CloneFlags::FS) && flags.intersects(CloneFlags::NEWNS | CloneFlags::NEWUSER)
        || needs(CloneFlags::THREAD, CloneFlags::SIGHAND)
        || needs(CloneFlags::SIGHAND, CloneFlags::VM)
        || flags.contains(CloneFlags::PARENT) && task.group().pid() == INIT
        || flags.contains(CloneFlags::THREAD) && flags.intersects(CloneFlags::NEWUSER | CloneFlags::NEWPID)
        || flags.contains(CloneFlags::PIDFD | CloneFlags::DETACHED);
    if wrong { Err(Errno::EINVAL) } else { Ok(()) }
}

impl CurrentTask<'_> {
    /// Makes a thread or a process and lets it run; returns its number. With CLONE_VFORK it returns when the child has
    /// given the memory back.
    ///
    /// # Errors
    /// As clone(2), in Linux's order: `EINVAL`, `ERESTARTNOINTR` (a signal comes first), `EAGAIN` (RLIMIT_NPROC, the
    /// sandbox's limit, the host's), `EPERM` (namespaces), `ENOMEM`, `EEXIST`.
    pub fn spawn(&mut self, request: &CloneRequest) -> Result<Pid, Errno> {
        check_flags(self, request)?;
        if self.has_interrupting_signal() {
            return Err(Errno::ERESTARTNOINTR);
        }
        self.check_process_limit()?;
        let namespaces = self.new_namespaces(request.flags)?;
        if request.flags.contains(CloneFlags::INTO_CGROUP) {
            return Err(self.unsupported("clone3: CLONE_INTO_CGROUP", Errno::EOPNOTSUPP));
        }
        // As for ARCH_SET_FS (copy_thread).
        if request.flags.contains(CloneFlags::SETTLS) && request.tls >= USER_END {
            return Err(Errno::EPERM);
        }
        let borrowed = request.flags.contains(CloneFlags::VFORK).then(Arc::<Borrowed>::default);
        let child = self.copy(request, borrowed.clone(), namespaces)?;
        let tid = child.tid();
        drop(child);
        let message = u64::try_from(tid.0).unwrap_or_default();
        if let Some(event) = self.event_of(making(request)) {
            self.stop_for_event(event, message);
        }
        if let Some(borrowed) = borrowed {
            self.sleep_through_signals(|| borrowed.returned.load(Ordering::SeqCst));
            self.stop_for_event(Event::VforkDone, message);
        }
        Ok(tid)
    }

    /// RLIMIT_NPROC: tasks of the real user id, unless it is root's (copy_process).
    fn check_process_limit(&self) -> Result<(), Errno> {
        let limit = self.group().limits().soft(super::Resource::Processes);
        let credentials = self.credentials();
        let exempt = credentials.uid == 0 || credentials.has(CAP_SYS_RESOURCE) || credentials.has(CAP_SYS_ADMIN);
        let tasks = self.kernel().tasks();
        let within = |count: usize| u64::try_from(count).is_ok_and(|count| count < limit);
        if exempt || within(tasks.len()) {
            return Ok(());
        }
        let ours = tasks.all().iter().filter(|task| task.credentials().uid == credentials.uid).count();
        if within(ours) { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    /// The namespaces that a child, or the task itself, has with these flags; that of mounts lies elsewhere (copy_namespaces).
    ///
    /// # Errors
    /// `EPERM` for who is no administrator, and for the kinds of which a sandbox has one; `EINVAL` for semaphore adjustments that
    /// would be shared across namespaces.
    pub(crate) fn new_namespaces(&self, flags: CloneFlags) -> Result<Namespaces, Errno> {
        let mut namespaces = self.namespaces();
        if !flags.intersects(CloneFlags::NAMESPACES) {
            return Ok(namespaces);
        }
        if !self.credentials().has(CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        if flags.contains(CloneFlags::NEWIPC | CloneFlags::SYSVSEM) {
            return Err(Errno::EINVAL);
        }
        let served = CloneFlags::NEWNS | CloneFlags::NEWUTS;
        if flags.intersects(CloneFlags::NAMESPACES.difference(served)) {
            return Err(self.unsupported("clone, unshare: other namespaces than mnt and uts", Errno::EPERM));
        }
        if flags.contains(CloneFlags::NEWUTS) {
            namespaces.uts = namespaces.uts.copy();
        }
        Ok(namespaces)
    }

    fn copy(
        &mut self,
        request: &CloneRequest,
        borrowed: Option<Arc<Borrowed>>,
        namespaces: Namespaces,
    ) -> Result<Arc<Task>, Errno> {
        let flags = request.flags;
        let kernel = self.kernel().clone();
        let resources = self.copy_resources(flags)?;
        let mm = resources.mm.clone();
        let make = |tid: Pid| self.make(tid, request, resources);
        let child = match request.wanted {
            None => {
                let wrapped = kernel.tasks().has_wrapped();
                let jobs = if wrapped { kernel.families().jobs() } else { BTreeSet::new() };
                kernel.tasks().insert_beside(&jobs, make)?
            }
            Some(wanted) => {
                let credentials = self.credentials();
                if !credentials.has(CAP_SYS_ADMIN) && !credentials.has(CAP_CHECKPOINT_RESTORE) {
                    return Err(Errno::EPERM);
                }
                kernel.tasks().insert_as(wanted, make)?
            }
        };
        child.set_namespaces(namespaces);
        if let Some(borrowed) = borrowed {
            // The lender is known before anybody can return what was lent.
            let _ = borrowed.lender.set(self.parker().clone());
            *child.borrowed.lock() = Some(borrowed);
        }
        let result = self.bring_up(&child, request, mm.as_deref());
        if let Err(error) = result {
            kernel.tasks().remove(child.tid());
            if !flags.contains(CloneFlags::THREAD) {
                child.group().leave_process();
            }
            drop(child.release());
            return Err(error);
        }
        Ok(child)
    }

    /// Copies or shares what dies with a task (copy_mm, copy_files, copy_fs).
    fn copy_resources(&self, flags: CloneFlags) -> Result<Resources, Errno> {
        let (files, fs, mm) = (self.files(), self.fs(), self.mm());
        let files = if flags.contains(CloneFlags::FILES) { files } else { Arc::new(files.copy()?) };
        let fs = if flags.contains(CloneFlags::FS) { fs } else { Arc::new(fs.copy()) };
        if flags.contains(CloneFlags::NEWNS) {
            fs.mounts().copy(&fs)?;
        }
        let mm = if flags.contains(CloneFlags::VM) { mm } else { mm.fork(UserAddr(self.frame.registers.rsp))? };
        Ok(Resources { mm: Some(mm), files: Some(files), fs: Some(fs) })
    }

    /// Makes the task, which nobody can find yet but by its number.
    fn make(&self, tid: Pid, request: &CloneRequest, resources: Resources) -> Arc<Task> {
        let flags = request.flags;
        let group = if flags.contains(CloneFlags::THREAD) {
            self.group().clone()
        } else {
            ThreadGroup::child_of(self.group(), tid, GroupSignals::new(self.copy_handlers(flags)))
        };
        let mut attributes = self.attributes();
        attributes.scheduling = attributes.scheduling.for_child();
        attributes.parent_death_signal = 0;
        attributes.default_timer_slack_ns = attributes.timer_slack_ns;
        (attributes.clear_child_tid, attributes.robust_list) = (UserAddr(0), UserAddr(0));
        if flags.contains(CloneFlags::CHILD_CLEARTID) {
            attributes.clear_child_tid = request.child_tid;
        }
        // A stack cannot be shared with whoever runs at the same time (sas_ss_reset).
        let sharing = flags & (CloneFlags::VM | CloneFlags::VFORK) == CloneFlags::VM;
        let alt_stack = if sharing { AltStack::default() } else { self.signals().alt_stack() };
        let shared = Shared { resources, credentials: self.credentials(), name: self.name() };
        Task::with(self.kernel(), &group, tid, shared, attributes, self.signals().inherit(alt_stack))
    }

    fn copy_handlers(&self, flags: CloneFlags) -> Arc<crate::signal::Handlers> {
        let handlers = self.group().signals().handlers();
        if flags.contains(CloneFlags::SIGHAND) {
            return handlers;
        }
        let copy = handlers.duplicate();
        if flags.contains(CloneFlags::CLEAR_SIGHAND) {
            copy.reset_for_exec();
        }
        Arc::new(copy)
    }

    /// Gives the child its thread of the host's, its place in its family, and lets it go. On an error nothing of it is left but its
    /// number and what it holds.
    fn bring_up(&mut self, child: &Arc<Task>, request: &CloneRequest, mm: Option<&MemoryMap>) -> Result<(), Errno> {
        let flags = request.flags;
        let own = self.group().process().ok_or(Errno::EAGAIN)?;
        let process = if flags.contains(CloneFlags::THREAD) { own } else { child_process(&own, child, mm)? };
        let attributes = self.thread_attributes(child, request);
        let thread = process.create_thread(attributes).map_err(errno)?;
        child.set_thread(thread.clone());
        let number = child.tid().0.to_le_bytes();
        if flags.contains(CloneFlags::CHILD_SETTID)
            && let Some(mm) = mm
        {
            // As on Linux a bad address is the program's loss, here and below.
            let _ = mm.write(request.child_tid, &number);
        }
        if flags.contains(CloneFlags::PARENT_SETTID) {
            let _ = self.mm().write(request.parent_tid, &number);
        }
        let pidfd = match flags.contains(CloneFlags::PIDFD) {
            true => Some(self.open_pidfd(child, request).inspect_err(|_| thread.terminate())?),
            false => None,
        };
        if let Err(error) = self.join(child, flags, request.exit_signal) {
            self.close_pidfd(pidfd);
            thread.terminate();
            return Err(error);
        }
        child.inherit_seccomp(self);
        let making = making(request);
        self.share_tracer(child, self.event_of(making), making);
        child.give_mask();
        // From here on a signal kicks the thread; one that came before, or a stop, kicks it now.
        if child.group().is_stopped() || !child.signals().leaving_provider() {
            child.signals().raise_attention();
            child.kick();
        }
        thread.start().map_err(|error| {
            self.close_pidfd(pidfd);
            leave(self.kernel(), child, flags);
            thread.terminate();
            errno(error)
        })
    }

    /// Makes a descriptor for the child, and tells the caller its number.
    fn open_pidfd(&self, child: &Arc<Task>, request: &CloneRequest) -> Result<Fd, Errno> {
        let of_thread = request.flags.contains(CloneFlags::THREAD);
        let pidfd = if of_thread { PidFd::of_thread(child) } else { PidFd::of_process(child.group()) };
        let limit = self.group().limits().soft(super::Resource::Files);
        let fd = self.files().insert(pidfd.open(OpenFlags::empty()), true, 0, limit)?;
        let written = self.mm().write(request.pidfd, &fd.0.to_le_bytes());
        written.map(|()| fd).inspect_err(|_| self.close_pidfd(Some(fd)))
    }

    fn close_pidfd(&self, fd: Option<Fd>) {
        if let Some(fd) = fd {
            // Another thread may have closed it already.
            drop(self.files().close(fd));
        }
    }

    /// Makes the child a member of its process and its family.
    fn join(&self, child: &Arc<Task>, flags: CloneFlags, exit_signal: i32) -> Result<(), Errno> {
        let joined = if flags.contains(CloneFlags::THREAD) {
            child.group().add_thread(child)
        } else {
            child.group().add_thread(child);
            let families = self.kernel().families();
            let (parent, parent_thread, exit_signal) = match flags.contains(CloneFlags::PARENT) {
                true => (self.group().parent(), self.group().parent(), families.exit_signal(self.group().pid())),
                false => (self.group().pid(), self.tid(), exit_signal),
            };
            let birth = Birth { group: child.group(), parent, parent_thread, exit_signal };
            // A signal to the whole process group reaches both or comes first.
            families.add(&birth, || !self.has_interrupting_signal())
        };
        if joined { Ok(()) } else { Err(Errno::ERESTARTNOINTR) }
    }

    /// The child's registers: the caller's, but that the call returns 0.
    fn thread_attributes(&mut self, child: &Arc<Task>, request: &CloneRequest) -> ThreadAttributes {
        let (fs_base, gs_base) = self.frame.cpu.segment_bases();
        let tls = request.flags.contains(CloneFlags::SETTLS);
        let mut xsave = vec![0; self.frame.cpu.xsave_size()].into_boxed_slice();
        self.frame.cpu.save_xsave(&mut xsave);
        let mut caller = self.frame.registers;
        if self.tracee().is_stepping() {
            // The tracer steps the caller, not the child.
            caller.rflags &= !TF;
        }
        let rsp = request.stack.map_or(caller.rsp, |stack| stack.0);
        ThreadAttributes {
            registers: Registers { rax: 0, rsp, ..caller },
            fs_base: if tls { request.tls } else { fs_base },
            gs_base,
            xsave: Some(xsave),
            context: child.clone(),
        }
    }
}

/// What a tracer cares about in a request.
fn making(request: &CloneRequest) -> Making {
    Making {
        vfork: request.flags.contains(CloneFlags::VFORK),
        tells_by_sigchld: request.exit_signal == Signal::SIGCHLD.raw(),
        untraced: request.flags.contains(CloneFlags::UNTRACED),
        traced: request.flags.contains(CloneFlags::PTRACE),
    }
}

/// Takes back what [`CurrentTask::join`] has done.
fn leave(kernel: &Kernel, child: &Task, flags: CloneFlags) {
    child.group().remove_thread(child.tid());
    kernel.bonds().bury(child.tid());
    if !flags.contains(CloneFlags::THREAD) {
        kernel.families().remove(child.group().pid());
        child.group().leave_process();
    }
}

/// Makes the host's process behind a child's.
fn child_process(own: &Process, child: &Arc<Task>, mm: Option<&MemoryMap>) -> Result<Arc<Process>, Errno> {
    let attributes = ProcessAttributes {
        space: mm.map(|mm| mm.space().clone()),
        context: Some(child.group().clone()),
        ..ProcessAttributes::default()
    };
    let process = own.create_child(attributes).map_err(errno)?;
    child.group().set_process(process.clone());
    child.group().watch_cpu_limit(child.kernel().timers());
    Ok(process)
}

fn errno(error: CreateError) -> Errno {
    match error {
        CreateError::Memory(_) => Errno::ENOMEM,
        CreateError::HostExhausted | CreateError::NoProvider | CreateError::Over | CreateError::Unsupported => {
            Errno::EAGAIN
        }
    }
}
