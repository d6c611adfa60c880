//! The table: one line a system call. Dispatch, trace and the published compatibility list all come from it.

use super::args::ShowArg;
use super::handler::{Outcome, RawArgs, call, show};
use super::names::{SIZE, without_prefix};
use crate::errno::Errno;
use crate::task::CurrentTask;

/// How well a call is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// As Linux does.
    Full,
    /// As Linux does, but for what the text says.
    Partial(&'static str),
}
use Support::Full;

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Syscall {
    /// The name, without a prefix.
    pub name: &'static str,
    /// How well it is served.
    pub support: Support,
    /// How the trace shows each argument; as many as the call has.
    pub show: &'static [ShowArg],
    /// Decodes the arguments and serves the call.
    pub call: fn(&mut CurrentTask<'_>, &RawArgs) -> Result<Outcome, Errno>,
}

/// Finds a call; `None` if it is not served.
pub fn find(number: u64) -> Option<&'static Syscall> {
    usize::try_from(number).ok().and_then(|index| TABLE.get(index)).and_then(Option::as_ref)
}

macro_rules! syscalls {
    ($($number:ident => $module:ident :: $function:ident, $support:expr;)*) => {{
        let mut table: [Option<Syscall>; SIZE] = [None; SIZE];
        $({
            let line = &mut table[linux_raw_sys::general::$number as usize];
            assert!(line.is_none(), concat!(stringify!($number), " has two lines"));
            *line = Some(Syscall {
                name: without_prefix(stringify!($number)),
                support: $support,
                show: show(&super::$module::$function),
                call: |task, args| call(&super::$module::$function, task, args),
            });
        })*
        table
    }};
}

/// The calls that are served, by number. Keep the lines sorted by number.
pub static TABLE: [Option<Syscall>; SIZE] = syscalls! {
    __NR_sched_yield => misc::sched_yield, Full;
    __NR_getpid => identity::getpid, Full;
    __NR_exit => process::exit, Full;
    __NR_gettid => identity::gettid, Full;
    __NR_exit_group => process::exit_group, Full;
};
