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
use Support::{Full, Partial};

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
    __NR_mmap => mm::mmap, Full;
    __NR_mprotect => mm::mprotect, Full;
    __NR_munmap => mm::munmap, Full;
    __NR_brk => mm::brk, Full;
    __NR_sched_yield => misc::sched_yield, Full;
    __NR_mremap => mm::mremap, Partial("a range of several mappings cannot be moved");
    __NR_msync => mm::msync, Full;
    __NR_mincore => mm::mincore, Partial("anonymous pages that have never been touched may be reported as present");
    __NR_madvise => mm::madvise, Partial("guard pages, MADV_COLLAPSE and poisoning are refused; MADV_REMOVE works on in-memory files only");
    __NR_getpid => identity::getpid, Full;
    __NR_execve => exec::execve, Full;
    __NR_exit => process::exit, Full;
    __NR_mlock => mm::mlock, Full;
    __NR_munlock => mm::munlock, Full;
    __NR_mlockall => mm::mlockall, Full;
    __NR_munlockall => mm::munlockall, Full;
    __NR_gettid => identity::gettid, Full;
    __NR_exit_group => process::exit_group, Full;
    __NR_mbind => numa::mbind, Partial("there is one node; the policy is checked and not kept");
    __NR_set_mempolicy => numa::set_mempolicy, Partial("there is one node; the policy is checked and not kept");
    __NR_get_mempolicy => numa::get_mempolicy, Partial("there is one node; the policy is always the default");
    __NR_execveat => exec::execveat, Full;
    __NR_mlock2 => mm::mlock2, Full;
    __NR_pkey_mprotect => mm::pkey_mprotect, Full;
    __NR_pkey_alloc => mm::pkey_alloc, Full;
    __NR_pkey_free => mm::pkey_free, Full;
};
