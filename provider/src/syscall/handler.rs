//! From a plain function to a table entry: arity, decoding and trace format come from the function's signature.

use super::args::{Arg, ShowArg};
use crate::errno::Errno;
use crate::fs::Fd;
use crate::task::{CurrentTask, Pid};
use vmm::addr::UserAddr;

/// What a call leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Return to behind the SYSCALL instruction with this value.
    Return(u64),
    /// Load all registers of the frame: the handler has set them (sigreturn, exec).
    Resume,
    /// The thread is over.
    Exit,
}

/// How the trace shows what a call returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultForm {
    /// A number.
    Number,
    /// An address, always in hexadecimal.
    Address,
    /// There is none: the call never returns, so it is shown as it is made.
    Never,
}

/// What a handler may return.
pub trait IntoOutcome {
    /// How the trace shows it.
    const FORM: ResultForm = ResultForm::Number;
    /// Converts it.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Return(0)
    }
}

/// The call ends the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Never;

impl IntoOutcome for Never {
    const FORM: ResultForm = ResultForm::Never;
    fn into_outcome(self) -> Outcome {
        Outcome::Exit
    }
}

impl IntoOutcome for u32 {
    fn into_outcome(self) -> Outcome {
        Outcome::Return(u64::from(self))
    }
}

impl IntoOutcome for u64 {
    fn into_outcome(self) -> Outcome {
        Outcome::Return(self)
    }
}

impl IntoOutcome for i32 {
    /// Sign-extends: a negative value would read as an error, as it does from Linux.
    fn into_outcome(self) -> Outcome {
        i64::from(self).into_outcome()
    }
}

impl IntoOutcome for i64 {
    fn into_outcome(self) -> Outcome {
        Outcome::Return(self.cast_unsigned())
    }
}

impl IntoOutcome for usize {
    fn into_outcome(self) -> Outcome {
        // usize has 64 bits on the only architecture there is.
        Outcome::Return(u64::try_from(self).unwrap_or(u64::MAX))
    }
}

impl IntoOutcome for Fd {
    fn into_outcome(self) -> Outcome {
        self.0.into_outcome()
    }
}

impl IntoOutcome for Pid {
    fn into_outcome(self) -> Outcome {
        self.0.into_outcome()
    }
}

impl IntoOutcome for UserAddr {
    const FORM: ResultForm = ResultForm::Address;
    fn into_outcome(self) -> Outcome {
        Outcome::Return(self.0)
    }
}

/// The raw arguments of a call: `rdi, rsi, rdx, r10, r8, r9`.
pub type RawArgs = [u64; 6];

/// A function that serves a system call: a task, then zero to six [`Arg`]s, to a `Result` of an [`IntoOutcome`].
///
/// `Marker` keeps the implementations apart and is always inferred. A handler that takes `&mut CurrentTask` may touch registers.
pub trait Handler<Marker> {
    /// How the trace shows each argument.
    const SHOW: &'static [ShowArg];
    /// How the trace shows the result.
    const FORM: ResultForm;
    /// It takes `&CurrentTask`: it touches no register.
    const SHARED: bool;
    /// Decodes the arguments and calls the function.
    fn call(&self, task: &mut CurrentTask<'_>, args: &RawArgs) -> Result<Outcome, Errno>;
}

/// Marks handlers that take `&CurrentTask`.
#[derive(Debug)]
pub struct Shared;
/// Marks handlers that take `&mut CurrentTask`.
#[derive(Debug)]
pub struct Exclusive;

macro_rules! handler {
    ($($arg:ident $index:literal),*) => {
        impl<F, R, $($arg),*> Handler<(Shared, R, $($arg,)*)> for F
        where
            F: Fn(&CurrentTask<'_>, $($arg),*) -> Result<R, Errno>,
            R: IntoOutcome,
            $($arg: Arg,)*
        {
            const SHOW: &'static [ShowArg] = &[$($arg::show),*];
            const FORM: ResultForm = R::FORM;
            const SHARED: bool = true;
            fn call(&self, task: &mut CurrentTask<'_>, _args: &RawArgs) -> Result<Outcome, Errno> {
                self(task, $($arg::decode(_args[$index])),*).map(IntoOutcome::into_outcome)
            }
        }

        impl<F, R, $($arg),*> Handler<(Exclusive, R, $($arg,)*)> for F
        where
            F: Fn(&mut CurrentTask<'_>, $($arg),*) -> Result<R, Errno>,
            R: IntoOutcome,
            $($arg: Arg,)*
        {
            const SHOW: &'static [ShowArg] = &[$($arg::show),*];
            const FORM: ResultForm = R::FORM;
            const SHARED: bool = false;
            fn call(&self, task: &mut CurrentTask<'_>, _args: &RawArgs) -> Result<Outcome, Errno> {
                self(task, $($arg::decode(_args[$index])),*).map(IntoOutcome::into_outcome)
            }
        }
    };
}

handler!();
handler!(A 0);
handler!(A 0, B 1);
handler!(A 0, B 1, C 2);
handler!(A 0, B 1, C 2, D 3);
handler!(A 0, B 1, C 2, D 3, E 4);
handler!(A 0, B 1, C 2, D 3, E 4, G 5);

/// Calls a handler; a function of its own so that the marker is inferred.
pub(super) fn call<M, H: Handler<M>>(
    handler: &H,
    task: &mut CurrentTask<'_>,
    args: &RawArgs,
) -> Result<Outcome, Errno> {
    handler.call(task, args)
}

/// Tells how the trace shows a handler's arguments.
pub(super) const fn show<M, H: Handler<M>>(_handler: &H) -> &'static [ShowArg] {
    H::SHOW
}

/// Tells how the trace shows a handler's result.
pub(super) const fn form<M, H: Handler<M>>(_handler: &H) -> ResultForm {
    H::FORM
}

/// Tells whether a handler leaves registers alone.
pub(super) const fn is_shared<M, H: Handler<M>>(_handler: &H) -> bool {
    H::SHARED
}
