//! KVM: the machine, its virtual CPUs, and the host threads that run them.
//!
//! KVM's types and its ioctls are named in this folder only. A virtual CPU belongs to the thread that made it.

mod attention;
mod report;
mod workers;

pub(crate) use attention::Attention;
pub use report::HostReport;
pub(crate) use workers::Workers;
