//! The pico-process contract: what a host offers a provider (downcalls) and what a provider offers a host (upcalls).
//!
//! A *minimal process* is an empty address space and nothing more. A *pico process* is one that a registered
//! [`Provider`] serves: each transition between its user-mode code and the kernel goes to the provider. The host keeps
//! two jobs: it schedules threads and it commits memory.

mod frame;
mod provider;

pub use frame::{CpuState, TrapFrame};
pub use provider::{Context, Disposition, ExitReason, Provider, SubsystemType};
