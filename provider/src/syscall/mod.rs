//! System calls: the table, argument decoding, tracing, and the handlers by subject.
//!
//! Adding a call is one function in a subject's module and one line in [`table`]. A handler is a plain function
//! `fn(&CurrentTask, …) -> Result<R, Errno>` with up to six [`args::Arg`]s; it takes `&mut CurrentTask` if it touches registers.
//! It may be run by any host thread on behalf of the task, so it keeps nothing in thread-local state.

mod aio;
pub mod args;
pub mod docs;
pub(crate) mod entry;
pub mod handler;
#[cfg(test)]
mod hostile_tests;
pub mod names;
pub mod table;
pub mod trace;
pub(crate) mod vsyscall;
mod xattr;

mod clone;
mod constants;
mod dir;
mod epoll;
mod events;
mod exec;
mod fiemap;
mod file;
mod file_control;
mod file_mode;
mod file_pages;
mod fs;
mod futex;
mod futex2;
mod identity;
mod inotify;
mod io;
mod io_copy;
mod ioctl;
mod ipc;
mod ipc_msg;
mod ipc_sem;
mod ipc_shm;
mod limits;
mod membarrier;
mod misc;
mod mm;
#[cfg(test)]
mod mm_tests;
mod mount;
mod mount_fd;
mod mqueue;
mod numa;
mod pidfd;
mod pipe;
mod poll;
pub(crate) mod posted;
#[cfg(test)]
mod posted_tests;
mod prctl;
mod priority;
mod process;
mod process_memory;
mod ptrace;
mod random;
mod sched;
mod sched_policy;
mod seccomp;
mod sharing;
mod sigio;
mod signals;
mod socket;
mod socket_io;
mod splice;
mod stat;
mod threads;
mod time;
mod time_adjust;
mod timers;
mod user_dispatch;

pub use handler::{Outcome, RawArgs};
pub(crate) use user_dispatch::UserDispatch;

use crate::errno::Errno;
use crate::task::CurrentTask;

/// Serves call `number`. A number that the table does not have is `ENOSYS`, and is counted.
pub fn dispatch(task: &mut CurrentTask<'_>, number: u64, args: &RawArgs) -> Result<Outcome, Errno> {
    task.kernel().statistics().call(number);
    match table::find(number) {
        Some(syscall) => (syscall.call)(task, args),
        None => {
            task.kernel().counters().unknown_call(number);
            Err(Errno::ENOSYS)
        }
    }
}

/// The numbers of all calls that are served.
#[cfg(any(test, fuzzing))]
pub(crate) fn served() -> impl Iterator<Item = u32> {
    (0u32..).take(table::TABLE.len()).filter(|number| table::find(u64::from(*number)).is_some())
}
