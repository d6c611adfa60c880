//! The host half of Picovisor: KVM, guest memory, page tables, virtual CPUs, traps, and the pico-process contract.
//!
//! This crate knows no error number, no system-call number, no program format and no path of a program: a second personality
//! needs no change here. Data flows one way: a [`Trap`](trap::Trap) leaves a virtual CPU, the thread loop of
//! [`pico`] hands it to the registered [`Provider`](pico::Provider), and the provider edits memory through an
//! [`AddressSpace`](memory::AddressSpace).
#[cfg(test)]
extern crate self as vmm;

pub mod addr;
pub mod allocator;
pub mod bugcheck;
pub mod clock;
pub mod crash;
mod entry;
pub mod events;
pub mod foreign;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod inherited;
mod kvm;
mod machine;
pub mod memory;
pub mod peer;
pub mod pico;
pub mod protect;
pub mod signals;
pub mod statistics;
pub mod threads;
pub mod trap;
pub mod usage;

pub use kvm::{Capability, HostReport, KVM_REQUESTS, PagingFlavour, Refusal, TrapMethod, check};
pub use machine::Paging;
