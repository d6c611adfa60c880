//! The integration tests: programs run natively first and then in a sandbox, and both must do the same.
//!
//! One module a theme. [`harness`] compiles the guest programs of `tests/programs`, runs commands and compares them. A test
//! that needs /dev/kvm fails with one line where there is none; `PICOVISOR_NO_KVM=1` skips those tests by name.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is the test's failure")]

mod chaos;
mod cli;
mod confined;
mod conformance;
mod control;
mod ends;
mod errors;
mod escape;
mod exec;
mod faults;
mod files;
mod harness;
mod herds;
mod hostile;
mod jail;
mod jail_lines;
mod licenses;
mod memory;
mod network;
mod paths;
mod pico;
mod programs;
mod protection;
mod serve;
mod signals;
mod signing;
mod sites;
mod stacks;
mod terminal;
mod tidy;
mod tools;
mod top;
mod workloads;
