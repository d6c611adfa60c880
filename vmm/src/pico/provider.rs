//! The provider's side of the contract (NT: `PS_PICO_PROVIDER_ROUTINES`).

use super::{ProtectedRange, TrapFrame};
use crate::trap::Exception;
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
    /// The host could not run it any longer (a KVM failure, a triple fault); it is reported before.
    Failed,
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
/// Calls come on the host thread that runs the pico thread, several threads at once. A provider must not unwind.
pub trait Provider: Send + Sync + fmt::Debug {
    /// Handles SYSCALL (NT: `DispatchSystemCall`). `thread` is the thread's context.
    fn dispatch_system_call(&self, thread: &Context, frame: &mut TrapFrame<'_>) -> Disposition;

    /// Handles an exception (NT: `DispatchException`).
    fn dispatch_exception(&self, thread: &Context, exception: Exception, frame: &mut TrapFrame<'_>) -> Disposition;

    /// Looks after a thread that was kicked out of user mode. NT delivers an asynchronous procedure call here.
    fn dispatch_kick(&self, thread: &Context, frame: &mut TrapFrame<'_>) -> Disposition;

    /// A thread ended, expected or not (NT: `ExitThread`).
    fn exit_thread(&self, thread: &Context, reason: ExitReason);

    /// A process ended: its last thread is gone (NT: `ExitProcess`).
    fn exit_process(&self, process: &Context, reason: ExitReason);

    /// Somebody asks that a process be terminated; the provider is asked, not bypassed (NT: `TerminateProcess`).
    fn terminate_process(&self, process: &Context);

    /// The provider's own memory whose integrity the host protects: the tables that it dispatches through (NT:
    /// `ProtectedRanges`). Asked once, when registration closes.
    fn protected_ranges(&self) -> Vec<ProtectedRange>;

    /// The name a tool shows for a process (NT: `GetAllocatedProcessImageName`). Bytes, as the personality has them.
    fn process_name(&self, process: &Context) -> Vec<u8>;

    /// Which personality this is (NT: `SubsystemInformationType`).
    fn subsystem(&self) -> SubsystemType;
}
