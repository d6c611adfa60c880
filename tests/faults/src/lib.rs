//! Fault injection from outside: a tracer that makes the n-th host call of a program fail, end early or be interrupted.
//!
//! The program under test is the one that people run: nothing is built into it. A seccomp filter that the tracer hangs into
//! the child stops it at each call that can go wrong (`calls`), and [`Traced`] lets all of them through but the chosen
//! one. That covers the calls of the C library and of every crate alike, KVM's ioctls among them, and those of the processes that the
//! program starts.
//!
//! The filter lies beneath the program's own ones: a jail sees the calls as if nobody looked.

mod calls;
mod look;
mod memory;
mod tracer;

pub use tracer::{Traced, stand_alike};

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

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Refused, Self::Interrupted, Self::Short, Self::Exhausted];
}

/// The call to which something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What.
    pub fault: Fault,
    /// To which of the calls to which that can be done, from 1 on.
    pub nth: u64,
}

/// How a traced program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit status, or 128 + N after signal N.
    pub status: i32,
    /// It, or what it had started, took longer than it was given, and was killed.
    pub late: bool,
    /// What was done, if the program came that far.
    pub injected: Option<Injected>,
    /// Descriptors that the first process had when it ended itself, with what they were.
    pub descriptors: Vec<String>,
    /// Threads that it had then.
    pub threads: usize,
    /// Processes of its group that were still there when it was over.
    pub left_behind: bool,
    /// By fault.
    places: [u64; Fault::ALL.len()],
}

impl Ended {
    fn new() -> Self {
        Self {
            status: -1,
            late: false,
            injected: None,
            descriptors: Vec::new(),
            threads: 0,
            left_behind: false,
            places: [0; Fault::ALL.len()],
        }
    }

    /// Calls that `fault` could have been done to. With a plan only its own fault is looked at.
    pub fn places(&self, fault: Fault) -> u64 {
        self.places[fault as usize]
    }
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
