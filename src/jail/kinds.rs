//! Kinds of threads that do one thing: each may make fewer host calls than the others.
//!
//! Every thread has the filter of the whole monitor, which is what threads that run programs and serve their calls need. A thread
//! whose kind is here takes a second one when it begins, which no longer looks at arguments: of two filters the stricter counts. It
//! starts no other thread, which would inherit that.

use libc::c_long;

/// A kind of threads.
#[derive(Debug)]
pub(super) struct Kind {
    /// Their names.
    pub(super) threads: &'static [&'static str],
    /// The calls that they may make besides [`EVERY`].
    pub(super) calls: &'static [c_long],
}

/// What every thread may need: its beginning, locks, memory and its end, and the report of a bug.
pub(super) const EVERY: &[c_long] = &[
    libc::SYS_futex,
    libc::SYS_tgkill,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_openat,
    libc::SYS_close,
    // The standard library looks at what it closes, with debug assertions.
    libc::SYS_fcntl,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_lseek,
    libc::SYS_statx,
    libc::SYS_getdents64,
];

/// The kinds.
pub(super) const KINDS: &[Kind] = &[
    // Lets timers expire.
    Kind { threads: &["timers"], calls: &[] },
    // Compresses memory that was not used for long.
    Kind {
        threads: &["compressor"],
        calls: &[libc::SYS_ioctl, libc::SYS_mincore, libc::SYS_preadv2, libc::SYS_getrusage, libc::SYS_sysinfo],
    },
    // Checks what is protected.
    Kind { threads: &["integrity"], calls: &[libc::SYS_mseal, libc::SYS_preadv2] },
    // Carry bytes between a terminal and the sandbox.
    Kind { threads: &["keyboard", "screen", "exec-keyboard", "exec-screen"], calls: &[libc::SYS_ppoll] },
];

/// The kind of a thread; `None` for those that may do what the monitor may.
pub(super) fn of(thread: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.threads.contains(&thread))
}
