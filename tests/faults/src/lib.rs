//! Fault injection from outside: a tracer that makes the n-th host call of a program fail, end early or be interrupted.
//!
//! The program under test is the one that people run: nothing is built into it. A seccomp filter that the tracer hangs into
//! the child stops it at each call that can go wrong (`calls`), and [`trace`] lets all of them through but the chosen
//! one. That covers the calls of the C library and of every crate alike, KVM's ioctls among them.
//!
//! The filter lies beneath the program's own ones: a jail sees the calls as if nobody looked.

mod calls;
mod tracer;

pub use tracer::{Ended, trace};

/// What is done to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not made, and fails with an error that Linux documents for it.
    Refused,
    /// It is not made, and fails with EINTR: only calls that wait, or may.
    Interrupted,
    /// It transfers less than was asked for.
    Short,
    /// This and every later call that asks for memory or a thread fails.
    Exhausted,
}

/// The call to which something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What.
    pub fault: Fault,
    /// To which of the calls to which that can be done, from 1 on; 0 to none.
    pub nth: u64,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// The call's name.
    pub call: &'static str,
    /// Its first three arguments.
    pub arguments: [u64; 3],
    /// The error number, or 0.
    pub errno: i32,
}
