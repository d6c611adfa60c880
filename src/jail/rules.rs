//! What the jailed monitor may ask of the host: one line a call, and why.
//!
//! A call that is not in the table is not needed: the monitor executes no program, mounts nothing, traces nobody and makes no
//! other process. `tests/suite/jail.rs` compares the table with the calls that are in the executable.

use libc::c_long;

/// One host call.
pub(crate) struct Rule {
    /// Its number.
    pub(crate) call: c_long,
    /// Its name, as the C library has it.
    pub(crate) name: &'static str,
    /// What it takes for it to be allowed: one of these. None: every sandbox may.
    pub(crate) when: &'static [When],
    /// With what.
    pub(crate) arguments: Arguments,
    /// What for.
    pub(crate) reason: &'static str,
}

impl Rule {
    /// Tells whether it counts where this holds.
    pub(crate) fn counts(&self, holds: &[When]) -> bool {
        self.when.is_empty() || self.when.iter().any(|when| holds.contains(when))
    }
}

/// What lets some monitors make calls that others may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// The program has the host's network (`--net host`).
    HostNetwork,
    /// The program may change something on the host (`--rw`, a writable `--bind`, `--upper`).
    Writable,
    /// The program was handed a file of the host's that it may write, as standard output usually.
    Output,
    /// The program has a terminal of its own (`-t`).
    Terminal,
    /// The monitor was started ahead, and does not know its caller yet.
    Ahead,
    /// The monitor was started ahead.
    Spare,
}

impl When {
    /// For the published list.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::HostNetwork => "`--net host`",
            Self::Writable => "a writable grant",
            Self::Output => "output to a file",
            Self::Terminal => "`-t`",
            Self::Ahead => "a spare without a caller",
            Self::Spare => "a spare",
        }
    }
}

/// The arguments that a call may have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arguments {
    /// Any.
    Any,
    /// Argument `.0` (32 bits) is one of the ioctl numbers that the monitor uses.
    Requests(u8),
    /// Argument `.0` (32 bits) is one of these.
    OneOf(u8, &'static [u32]),
    /// Of argument `.0` (32 bits), the bits in `.1` are `.2`.
    Bits(u8, u32, u32),
    /// Argument `.0` is the monitor's own process.
    Process(u8, Whose),
}

/// How a call names the process that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// By its number.
    Own,
    /// By 0, as prlimit does; to kill that would be a group.
    Zero,
}

use Arguments::{Any, Bits, OneOf, Process, Requests};
use When::{Ahead, HostNetwork, Output, Spare, Terminal, Writable};
use Whose::{Own, Zero};

/// Requests to descriptors that are not KVM's, by number.
pub(crate) const REQUESTS: &[(&str, u32)] = &[
    ("TCGETS", 0x5401),
    ("TCSETS", 0x5402),
    ("TCSETSW", 0x5403),
    ("TCSETSF", 0x5404),
    ("TCSBRK", 0x5409),
    ("TCXONC", 0x540a),
    ("TCFLSH", 0x540b),
    ("TIOCEXCL", 0x540c),
    ("TIOCNXCL", 0x540d),
    ("TIOCGPGRP", 0x540f),
    ("TIOCGWINSZ", 0x5413),
    ("TIOCSWINSZ", 0x5414),
    ("FIONREAD", 0x541b),
    ("FIONBIO", 0x5421),
    ("TIOCGSID", 0x5429),
    ("TCGETS2", 0x802c_542a),
    ("TCSETS2", 0x402c_542b),
    ("TCSETSW2", 0x402c_542c),
    ("TCSETSF2", 0x402c_542d),
];

/// The flags that tell a thread of this process from another process, and those of new namespaces.
const CLONE_FLAGS: u32 = {
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    namespaces.cast_unsigned() | THREAD
};
const THREAD: u32 = (libc::CLONE_VM | libc::CLONE_THREAD).cast_unsigned();

/// The commands of fcntl(2) that are used.
const FCNTL: &[u32] = &[
    libc::F_GETFD.cast_unsigned(),
    libc::F_SETFD.cast_unsigned(),
    libc::F_GETFL.cast_unsigned(),
    libc::F_SETFL.cast_unsigned(),
    libc::F_DUPFD_CLOEXEC.cast_unsigned(),
    libc::F_SETPIPE_SZ.cast_unsigned(),
];

/// The size of struct open_how (linux/openat2.h) in its first version. What it says, the flags for the resolution among it, lies in memory,
/// which a filter cannot see.
const OPEN_HOW: &[u32] = &[24];

/// The only operation of seccomp(2) that is used: another filter.
const SET_FILTER: &[u32] = &[libc::SECCOMP_SET_MODE_FILTER];

/// PR_GET_AUXV (linux/prctl.h).
const GET_AUXV: u32 = 0x4155_5856;
/// The options of prctl(2) that are used: names of threads and of mappings, what the host says of the processor, and what comes with
/// each filter.
const PRCTL: &[u32] = &[
    libc::PR_SET_NAME.cast_unsigned(),
    libc::PR_SET_VMA.cast_unsigned(),
    libc::PR_SET_NO_NEW_PRIVS.cast_unsigned(),
    GET_AUXV,
];

/// A call that does not exist inside (ENOSYS), in no build: whoever makes it has another way, or does without.
pub(crate) struct Absent {
    /// Its number.
    pub(crate) call: c_long,
    /// Its name, as the C library has it.
    pub(crate) name: &'static str,
    /// What becomes of whoever makes it.
    pub(crate) instead: &'static str,
}

macro_rules! absent {
    ($($call:ident $instead:literal;)*) => {
        &[$(Absent { call: libc::$call, name: stringify!($call), instead: $instead },)*]
    };
}

/// The calls that do not exist, unless a line of the table allows them.
pub(crate) const ABSENT: &[Absent] = absent! {
    SYS_clone3 "the C library uses `clone`, whose flags a filter can see";
    SYS_set_robust_list "new threads do without: no lock is shared with another process";
    SYS_sched_getaffinity "the C library says where a new thread's stack lies without it";
    SYS_mremap "the C library copies large allocations that grow";
    SYS_copy_file_range "files are copied by reading and writing";
    SYS_getcwd "the report of a panic shows paths whole";
    SYS_readlink "the report of a panic has the executable's name from /proc/self/maps";
};

macro_rules! rules {
    ($($call:ident $arguments:expr, $reason:literal $(, $when:ident)*;)*) => {
        &[$(Rule { call: libc::$call, name: stringify!($call), when: &[$($when),*], arguments: $arguments, reason: $reason },)*]
    };
}

/// The table.
pub(crate) const RULES: &[Rule] = rules! {
    // Running programs.
    SYS_ioctl Requests(1), "virtual CPUs and memory slots; terminals; how much there is to read";
    SYS_futex Any, "locks, and threads that wait";
    SYS_tgkill Process(0, Own), "calls a virtual CPU out of the guest; abort";
    SYS_rt_sigreturn Any, "returns from the handlers of that, and of faults in guest memory";
    SYS_rt_sigprocmask Any, "signal masks of new threads";
    SYS_sigaltstack Any, "the stack of signal handlers, one a thread";
    SYS_restart_syscall Any, "a wait that a signal interrupted goes on";
    SYS_sched_yield Any, "spinning threads";
    SYS_sched_getaffinity Any, "how many processors there are", Ahead;
    SYS_sched_setaffinity Any, "the affinity that programs ask for";
    SYS_membarrier Any, "membarrier of programs";
    SYS_clone Bits(0, CLONE_FLAGS, THREAD), "threads; no processes, no namespaces";
    SYS_rseq Any, "new threads: the C library aborts where one has no such thing that another has";
    SYS_exit Any, "ending threads";
    SYS_exit_group Any, "the end";
    SYS_gettid Any, "new threads";
    SYS_getpid Any, "whom signals go to";
    SYS_prctl OneOf(0, PRCTL), "names of threads; features of the processor";
    SYS_seccomp OneOf(0, SET_FILTER), "the filter that seals, and those of threads that do one thing; none of them allows more";
    // Memory.
    SYS_mmap Bits(2, libc::PROT_EXEC.cast_unsigned(), 0), "guest memory, files that programs map, stacks; nothing executable";
    SYS_munmap Any, "as above";
    SYS_mprotect Any, "opening guest memory; flushing translations";
    SYS_madvise Any, "giving memory back; huge pages; finding missing file pages";
    SYS_mincore Any, "which pages are committed";
    SYS_brk Any, "small allocations";
    SYS_mseal Any, "sealing tables";
    // Time.
    SYS_clock_gettime Any, "clocks that have no fast path; CPU time";
    // Files: what is visible and granted was settled by descriptors of folders, and by the walk in the provider.
    SYS_openat2 OneOf(3, OPEN_HOW), "files below a granted folder";
    SYS_openat Any, "the host's /proc and /sys for what programs may know of it; crash reports";
    SYS_close Any, "descriptors";
    SYS_read Any, "files, pipes, terminals";
    SYS_write Any, "as above";
    SYS_preadv2 Any, "files, pipes and terminals; the page map";
    SYS_pwritev2 Any, "files, pipes and terminals; streams, without waiting";
    SYS_lseek Any, "files, and their holes";
    SYS_sendfile Any, "copies between files", Writable;
    SYS_copy_file_range Any, "as above", Writable, Output;
    SYS_fallocate Any, "files that are granted, or handed over: by `picovisor exec` at any time";
    SYS_ftruncate Any, "files that are granted, or handed over: by `picovisor exec` at any time";
    SYS_fsync Any, "files that are granted, or handed over: by `picovisor exec` at any time";
    SYS_fdatasync Any, "files", Writable;
    SYS_syncfs Any, "files", Writable;
    SYS_sync Any, "files", Writable;
    SYS_fstat Any, "folders that are listed by the C library", Ahead;
    SYS_newfstatat Any, "as above", Ahead;
    SYS_statx Any, "metadata";
    SYS_fstatfs Any, "sizes of file systems";
    SYS_getdents64 Any, "folders";
    SYS_readlink Any, "links on the way to what a caller grants", Ahead;
    SYS_readlinkat Any, "links";
    SYS_getcwd Any, "where the caller is", Ahead;
    SYS_mkdirat Any, "granted folders", Writable;
    SYS_mknodat Any, "granted folders", Writable;
    SYS_unlinkat Any, "granted folders", Writable;
    SYS_linkat Any, "granted folders", Writable;
    SYS_symlinkat Any, "granted folders", Writable;
    SYS_renameat2 Any, "granted folders", Writable;
    SYS_fchmodat Any, "granted files", Writable;
    SYS_fchownat Any, "granted files", Writable;
    SYS_utimensat Any, "granted files", Writable;
    SYS_setxattr Any, "granted files", Writable;
    SYS_getxattr Any, "visible files";
    SYS_listxattr Any, "visible files";
    SYS_removexattr Any, "granted files", Writable;
    SYS_fcntl OneOf(1, FCNTL), "flags and duplicates of descriptors; sizes of pipes";
    SYS_dup2 Any, "taking a caller's standard descriptors, and letting go of them at the end", Spare;
    // Waiting for descriptors, tools, and the terminal.
    SYS_ppoll Any, "whether a descriptor is ready";
    SYS_epoll_create1 Any, "the event loop";
    SYS_epoll_ctl Any, "the event loop";
    SYS_epoll_wait Any, "the event loop";
    SYS_eventfd2 Any, "wakes whoever waits for descriptors";
    SYS_accept4 Any, "tools on the control socket";
    SYS_recvmsg Any, "messages of tools";
    SYS_sendmsg Any, "answers to tools";
    SYS_recvfrom Any, "sockets of programs; a spare's caller", HostNetwork, Spare;
    SYS_sendto Any, "sockets of programs; a spare's caller", HostNetwork, Spare;
    SYS_shutdown Any, "sockets";
    SYS_getsockopt Any, "who is at the other end";
    SYS_getsockname Any, "sockets", HostNetwork;
    SYS_getpeername Any, "sockets", HostNetwork;
    SYS_wait4 Any, "the keeper of the terminal", Terminal;
    SYS_getpgrp Any, "whether the terminal is ours", Ahead;
    SYS_getsid Any, "as above", Ahead;
    // What programs may know of the host.
    SYS_getrusage Any, "CPU time";
    SYS_prlimit64 Process(0, Zero), "limits that the program inherits", Ahead;
    SYS_sysinfo Any, "load and swap";
    SYS_uname Any, "the kernel's version", Ahead;
    SYS_getrandom Any, "random numbers";
    SYS_geteuid Any, "who the caller is", Ahead;
    SYS_getegid Any, "as above", Ahead;
    SYS_getgroups Any, "as above", Ahead;
    // The host's network, and the control socket of a monitor that was started ahead.
    SYS_socket Any, "sockets of programs; the control socket", HostNetwork, Ahead;
    SYS_bind Any, "as above", HostNetwork, Ahead;
    SYS_listen Any, "as above", HostNetwork, Ahead;
    SYS_connect Any, "sockets of programs", HostNetwork;
    SYS_setsockopt Any, "sockets of programs", HostNetwork;
    // What else takes a caller's place.
    SYS_fchdir Any, "the caller's folder", Ahead;
    SYS_umask Any, "the caller's umask", Ahead;
    SYS_sched_getattr Any, "the caller's priority", Ahead;
    SYS_setpriority Any, "the caller's priority", Ahead;
    SYS_capget Any, "which capabilities the caller has", Ahead;
    SYS_capset Any, "giving up those that this caller's grants do not need", Ahead;
    SYS_landlock_create_ruleset Any, "giving up paths that this caller has not granted", Ahead;
    SYS_landlock_add_rule Any, "as above", Ahead;
    SYS_landlock_restrict_self Any, "as above", Ahead;
};
