//! The pico-process contract: what a host offers a provider (downcalls) and what a provider offers a host (upcalls).
//!
//! A *minimal process* is an empty address space and nothing more. A *pico process* is one that a registered
//! [`Provider`] serves: each transition between its user-mode code and the kernel goes to the provider. The host keeps
//! two jobs: it schedules threads and it commits memory.

mod access;
mod attributes;
mod containers;
mod context;
mod frame;
mod guard;
mod handle;
mod host;
mod info;
pub mod io;
mod minimal;
mod observe;
mod process;
mod protected;
mod provider;
mod registry;
mod run;
mod stacks;
mod stop;
mod thread;
pub mod walk;

pub use crate::kvm::{Calls, PostedCall, Posting, Way};
pub use access::{ProcessAccess, ThreadAccess};
pub use attributes::{ProcessAttributes, ProcessFlags, ProcessKind};
pub use context::{ContextError, ContextParts, ThreadContext};
pub(crate) use frame::reset_area;
pub use frame::{CpuState, DetachedCpu, TrapFrame};
pub use guard::{Guardian, Protection};
pub use handle::{HandleError, ProcessHandle, ThreadHandle};
pub(crate) use host::HostLink;
pub use host::{CreateError, Gone, Host, HostConfig, HostOpening, OpenError, Registration};
pub use info::{ProcessInfo, ThreadInfo};
pub use minimal::MinimalThread;
pub use observe::{Notice, Observation};
pub use process::Process;
pub use protected::ProtectedRange;
pub use provider::{
    Activity, Chance, Context, Disposition, ExceptionRecord, ExitReason, ProcessDetails, Provider, SubsystemType,
};
pub(crate) use registry::Claim;
pub use registry::RegisterError;
pub use stacks::ThreadStack;
pub use stop::{NotStopped, Stopped, ThreadStatus};
pub use thread::{Thread, ThreadAttributes};
