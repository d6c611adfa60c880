//! The Linux personality of Picovisor: a pico provider.
//!
//! A trap reaches the provider, goes through the system-call [`syscall`] table to one handler function, and from there to a
//! subsystem: [`task`], [`mm`], [`fs`], [`signal`], [`exec`]. This crate knows no KVM type and no page-table bit.
#![forbid(unsafe_code)]

pub mod abi;
mod aio;
pub mod config;
mod coredump;
pub mod cpus;
pub mod errno;
pub mod exec;
pub mod fs;
pub mod futex;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod inspect;
pub mod ipc;
pub mod kernel;
pub mod mm;
pub mod net;
pub mod provider;
pub mod ptrace;
pub mod sandbox;
pub mod seccomp;
pub mod signal;
pub mod statistics;
pub mod sync;
pub mod syscall;
pub mod task;
#[cfg(any(test, fuzzing))]
#[expect(clippy::unwrap_used, reason = "a set-up that fails is its test's failure")]
pub mod testing;
pub mod time;
mod unwind;
pub mod user;

pub use fs::stdio::hands_output_over;
pub use fs::tty::OutsideEnd;
pub use sandbox::{
    Executed, Execution, NoProcess, Origin, Prepared, ProcessState, ProcessView, ProgramStdio, Sandbox, SandboxEnd,
    StartError,
};
