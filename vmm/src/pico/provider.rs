//! The provider's side of the contract (NT: `PS_PICO_PROVIDER_ROUTINES`).
//!
//! No callback has a default: a personality that has nothing to say says so. The table with a size in front, by which an
//! older provider and a newer host understand each other, is that of providers in shared objects; a provider in Rust is
//! compiled with its host.

use super::walk::Visit;
use super::{PostedCall, ProcessAccess, ProtectedRange, ThreadAccess, TrapFrame};
use crate::memory::Fault;
use crate::trap::{Exception, Registers};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// The provider's own object behind a process or a thread (NT: `PicoContext`).
pub type Context = Arc<dyn Any + Send + Sync>;

/// What a host does with a pico thread after the provider has handled its trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Return from the system call: only `rax` of the frame is loaded, `rip` and `rflags` are the trapped ones.
    Return,
    /// Load every register of the frame (signal delivery, sigreturn, exec, resumed faults).
    Resume,
    /// The thread is over: leave user mode for good.
    Exit,
}

/// Why a pico thread or process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// The provider answered [`Disposition::Exit`].
    Exited,
    /// Somebody terminated it through the host.
    Terminated,
    /// It raised an exception that its provider handled neither at the first nor at the second chance.
    Unhandled,
    /// The host could not run it any longer (a KVM failure, a triple fault); it is reported before.
    Failed,
}

/// How often the provider has been asked about an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// Not before.
    First,
    /// Once, and it did not handle it. If it does not now either, the host ends the process.
    Second,
}

/// An exception that is dispatched to a provider (NT: `EXCEPTION_RECORD`, and the parameter that tells the chances apart).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExceptionRecord {
    /// What the processor raised.
    pub exception: Exception,
    /// Whether the provider was asked before.
    pub chance: Chance,
}

/// What a process does, as its personality sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// A thread of it runs, or could.
    Running,
    /// All its threads wait for something.
    Waiting,
    /// Its personality has stopped it.
    Stopped,
    /// It has ended, and somebody has yet to take note.
    Ended,
}

/// What a tool shows of a pico process besides its name and what the host itself knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessDetails {
    /// The number that the personality knows its parent by, if it has one.
    pub parent: Option<u64>,
    /// What it does.
    pub activity: Activity,
    /// How it was started: its arguments, each ended by a zero byte. May be empty.
    pub command: Vec<u8>,
    /// Objects that it holds open in its personality.
    pub handles: u64,
}

/// Which personality a provider is (NT: `SubsystemInformationType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubsystemType {
    /// Not a pico process: a minimal process with no provider.
    None,
    /// The Linux personality.
    Linux,
    /// Any other personality, by a number of its own.
    Other(u32),
}

/// A pico provider: the operating system as far as a pico process can tell.
///
/// Traps come on the host thread that runs the pico thread, several threads at once; questions of tools come on any host
/// thread, at any time between the creation of a process or thread and the moment its last holder drops it, so also after
/// its end. A provider must not unwind.
pub trait Provider: Send + Sync + fmt::Debug {
    /// Handles SYSCALL (NT: `DispatchSystemCall`). `thread` is the thread's context.
    fn dispatch_system_call(&self, thread: &Context, frame: &mut TrapFrame<'_>) -> Disposition;

    /// Serves a system call that a thread has posted ([`Way::Post`](super::Way)), on a host thread of System's: the thread
    /// itself spins in user mode meanwhile, and nobody else acts for it. Returns what the call returns. `None`: the call
    /// needs the thread itself, with its registers, or would wait; nothing was done, and it comes again as a trap.
    /// If the thread is [kicked](super::Thread::kick) meanwhile, it gets the result after
    /// [`dispatch_kick`](Self::dispatch_kick).
    fn dispatch_posted_call(&self, thread: &Context, call: &PostedCall) -> Option<u64>;

    /// Handles an exception (NT: `DispatchException`). `None`: it was not handled, and the frame is as it was; after that
    /// answer at the second chance the host ends the process.
    fn dispatch_exception(
        &self,
        thread: &Context,
        record: &ExceptionRecord,
        frame: &mut TrapFrame<'_>,
    ) -> Option<Disposition>;

    /// Handles a fault that the host met as it accessed a process's memory for I/O, where no thread of it is trapped (NT:
    /// `DispatchException` while `MmProbeAndLockPages` runs). Returns whether it was handled: then the access is tried again.
    fn dispatch_io_fault(&self, process: &Context, fault: &Fault) -> bool;

    /// Looks after a thread that was kicked out of user mode. NT delivers an asynchronous procedure call here.
    fn dispatch_kick(&self, thread: &Context, frame: &mut TrapFrame<'_>) -> Disposition;

    /// A thread ended, expected or not (NT: `ExitThread`).
    fn exit_thread(&self, thread: &Context, reason: ExitReason);

    /// A process ended: its last thread is gone (NT: `ExitProcess`).
    fn exit_process(&self, process: &Context, reason: ExitReason);

    /// Somebody asks that a process be terminated; the provider is asked, not bypassed (NT: `TerminateProcess`).
    fn terminate_process(&self, process: &Context);

    /// Tells a tool what is on a thread's user stack, innermost frame first (NT: `WalkUserStack`). `registers` are those
    /// with which the thread left user mode; it is suspended. [`walk`](super::walk) follows chains of frame pointers.
    fn walk_user_stack(&self, thread: &Context, registers: &Registers, visit: &mut Visit<'_>);

    /// The provider's own memory whose integrity the host protects: the tables that it dispatches through (NT:
    /// `ProtectedRanges`). Asked once, when registration closes.
    fn protected_ranges(&self) -> Vec<ProtectedRange>;

    /// The name a tool shows for a process (NT: `GetAllocatedProcessImageName`). Bytes, as the personality has them.
    fn process_name(&self, process: &Context) -> Vec<u8>;

    /// The number that the personality knows a process by.
    fn process_number(&self, process: &Context) -> u64;

    /// What else a tool shows of a process.
    fn process_details(&self, process: &Context) -> ProcessDetails;

    /// The name a tool shows for a thread; may be empty.
    fn thread_name(&self, thread: &Context) -> Vec<u8>;

    /// The number that the personality knows a thread by.
    fn thread_number(&self, thread: &Context) -> u64;

    /// Says which of the rights that `opener` wants to a process it may have (NT: `OpenProcessAllowedAccess`). `opener` is
    /// the pico process that asks; `None`: a component of the host, which acts for whoever runs the sandbox.
    fn open_process_allowed_access(
        &self,
        process: &Context,
        opener: Option<&Context>,
        wanted: ProcessAccess,
    ) -> ProcessAccess;

    /// Says which of the rights that `opener` wants to a thread it may have (NT: `OpenThreadAllowedAccess`).
    fn open_thread_allowed_access(
        &self,
        thread: &Context,
        opener: Option<&Context>,
        wanted: ThreadAccess,
    ) -> ThreadAccess;

    /// Which personality this is (NT: `SubsystemInformationType`).
    fn subsystem(&self) -> SubsystemType;
}
