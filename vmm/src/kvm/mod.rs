//! KVM: the machine, its virtual CPUs, and the host threads that run them.
//!
//! KVM's types and its ioctls are named in this folder only. A virtual CPU belongs to the thread that made it.

mod attention;
mod cpuid;
mod door;
mod exit;
mod judge;
mod mailbox;
mod probe;
mod registers;
mod report;
mod setup;
mod state;
mod supervisor;
mod turns;
mod vcpu;
mod vm;
mod workers;
mod xsave;

pub(crate) use attention::Attention;
pub use report::{Capability, HostReport, PagingFlavour, Refusal, TrapMethod};
pub(crate) use workers::Workers;
pub use workers::check;
