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
    /// When it may be made.
    pub(crate) when: When,
    /// With what.
    pub(crate) arguments: Arguments,
    /// What for.
    pub(crate) reason: &'static str,
}

/// When a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// In every sandbox.
    Always,
    /// Where the program has the host's network.
    HostNetwork,
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
use When::{Always, HostNetwork};
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

/// What a monitor that was started ahead asks of the host besides, to take its caller's place, and nobody any more once it has.
pub(crate) const BEFORE_THE_PROGRAM: &[c_long] = &[
    // The control socket.
    libc::SYS_socket,
    libc::SYS_bind,
    libc::SYS_listen,
    // The folder, the priority.
    libc::SYS_fchdir,
    libc::SYS_sched_getattr,
    libc::SYS_setpriority,
    // The filter that ends this.
    libc::SYS_seccomp,
];

macro_rules! rules {
    ($($call:ident $when:ident $arguments:expr, $reason:literal;)*) => {
        &[$(Rule { call: libc::$call, name: stringify!($call), when: $when, arguments: $arguments, reason: $reason },)*]
    };
}

/// The table.
pub(crate) const RULES: &[Rule] = rules! {
    // Running programs.
    SYS_ioctl Always Requests(1), "virtual CPUs and memory slots; terminals; how much there is to read";
    SYS_futex Always Any, "locks, and threads that wait";
    SYS_tgkill Always Process(0, Own), "calls a virtual CPU out of the guest; abort";
    SYS_rt_sigreturn Always Any, "returns from the handlers of that, and of faults in guest memory";
    SYS_rt_sigprocmask Always Any, "signal masks of new threads";
    SYS_rt_sigaction Always Any, "default actions, when a fault is not ours to handle";
    SYS_rt_sigtimedwait Always Any, "signals that are passed on";
    SYS_sigaltstack Always Any, "the stack of signal handlers, one a thread";
    SYS_restart_syscall Always Any, "a wait that a signal interrupted goes on";
    SYS_sched_yield Always Any, "spinning threads";
    SYS_sched_getaffinity Always Any, "how many CPUs there are";
    SYS_sched_setaffinity Always Any, "the affinity that programs ask for";
    SYS_getcpu Always Any, "getcpu, where the vDSO does not know";
    SYS_membarrier Always Any, "membarrier of programs";
    SYS_clone Always Bits(0, CLONE_FLAGS, THREAD), "threads; no processes, no namespaces";
    SYS_set_robust_list Always Any, "new threads";
    SYS_rseq Always Any, "new threads";
    SYS_exit Always Any, "ending threads";
    SYS_exit_group Always Any, "the end";
    SYS_gettid Always Any, "new threads";
    SYS_getpid Always Any, "whom signals go to";
    SYS_prctl Always OneOf(0, PRCTL), "names of threads; features of the processor";
    // Memory.
    SYS_mmap Always Bits(2, libc::PROT_EXEC.cast_unsigned(), 0), "guest memory, files that programs map, stacks; nothing executable";
    SYS_munmap Always Any, "as above";
    SYS_mremap Always Any, "large allocations that grow";
    SYS_mprotect Always Any, "opening guest memory; flushing translations";
    SYS_madvise Always Any, "giving memory back; huge pages; finding missing file pages";
    SYS_mincore Always Any, "which pages are committed";
    SYS_brk Always Any, "small allocations";
    SYS_mseal Always Any, "sealing tables";
    // Time.
    SYS_clock_gettime Always Any, "clocks that have no fast path; CPU time";
    SYS_clock_getres Always Any, "resolutions";
    SYS_clock_nanosleep Always Any, "short waits of ours";
    SYS_timerfd_create Always Any, "waits until a time of day";
    SYS_timerfd_settime Always Any, "as above";
    // Files: what is visible and granted was settled by descriptors of folders, and by the walk in the provider.
    SYS_openat2 Always Any, "files below a granted folder";
    SYS_openat Always Any, "the host's /proc and /sys for what programs may know of it; crash reports";
    SYS_open Always Any, "as above";
    SYS_close Always Any, "descriptors";
    SYS_read Always Any, "files, pipes, terminals";
    SYS_write Always Any, "as above";
    SYS_readv Always Any, "as above, to guest memory";
    SYS_writev Always Any, "as above, from guest memory";
    SYS_pread64 Always Any, "files, and the page map";
    SYS_pwrite64 Always Any, "files";
    SYS_preadv Always Any, "files, to guest memory";
    SYS_pwritev Always Any, "files, from guest memory";
    SYS_pwritev2 Always Any, "streams, without waiting";
    SYS_lseek Always Any, "files, and their holes";
    SYS_sendfile Always Any, "copies between files";
    SYS_copy_file_range Always Any, "as above";
    SYS_fallocate Always Any, "files";
    SYS_ftruncate Always Any, "files";
    SYS_fsync Always Any, "files";
    SYS_fdatasync Always Any, "files";
    SYS_syncfs Always Any, "files";
    SYS_sync Always Any, "files";
    SYS_fstat Always Any, "metadata";
    SYS_newfstatat Always Any, "metadata";
    SYS_statx Always Any, "metadata";
    SYS_fstatfs Always Any, "sizes of file systems";
    SYS_faccessat2 Always Any, "what the caller may do with a file";
    SYS_getdents64 Always Any, "folders";
    SYS_readlink Always Any, "links";
    SYS_readlinkat Always Any, "links";
    SYS_getcwd Always Any, "where the caller is";
    SYS_mkdir Always Any, "the folder of crash reports";
    SYS_unlink Always Any, "crash reports of old";
    SYS_mkdirat Always Any, "granted folders";
    SYS_mknodat Always Any, "granted folders";
    SYS_unlinkat Always Any, "granted folders";
    SYS_linkat Always Any, "granted folders";
    SYS_symlinkat Always Any, "granted folders";
    SYS_renameat2 Always Any, "granted folders";
    SYS_fchmodat Always Any, "granted files";
    SYS_fchownat Always Any, "granted files";
    SYS_utimensat Always Any, "granted files";
    SYS_setxattr Always Any, "granted files";
    SYS_getxattr Always Any, "visible files";
    SYS_listxattr Always Any, "visible files";
    SYS_removexattr Always Any, "granted files";
    SYS_fcntl Always OneOf(1, FCNTL), "flags and duplicates of descriptors; sizes of pipes";
    SYS_dup Always Any, "descriptors";
    SYS_dup2 Always Any, "taking a caller's standard descriptors, and letting go of them at the end";
    SYS_pipe2 Always Any, "descriptors";
    SYS_umask Always Any, "files get the modes that programs ask for";
    // Waiting for descriptors, tools, and the terminal.
    SYS_poll Always Any, "whether a descriptor is ready";
    SYS_ppoll Always Any, "as above";
    SYS_epoll_create1 Always Any, "the event loop";
    SYS_epoll_ctl Always Any, "the event loop";
    SYS_epoll_wait Always Any, "the event loop";
    SYS_eventfd2 Always Any, "wakes whoever waits for descriptors";
    SYS_accept4 Always Any, "tools on the control socket";
    SYS_recvmsg Always Any, "messages of tools";
    SYS_sendmsg Always Any, "answers to tools";
    SYS_recvfrom Always Any, "tools, and sockets that are standard input";
    SYS_sendto Always Any, "tools, and sockets that are standard output";
    SYS_shutdown Always Any, "sockets";
    SYS_getsockopt Always Any, "who is at the other end";
    SYS_getsockname Always Any, "sockets";
    SYS_getpeername Always Any, "sockets";
    SYS_socketpair Always Any, "wakes the control socket's thread";
    SYS_kill Always Process(0, Own), "the monitor stops itself when its job is stopped";
    SYS_wait4 Always Any, "the keeper of the terminal";
    SYS_waitid Always Any, "as above";
    SYS_getpgrp Always Any, "whether the terminal is ours";
    SYS_getsid Always Any, "as above";
    // What programs may know of the host.
    SYS_getrusage Always Any, "CPU time";
    SYS_prlimit64 Always Process(0, Zero), "limits of the monitor";
    SYS_sysinfo Always Any, "load and swap";
    SYS_uname Always Any, "the kernel's version";
    SYS_getrandom Always Any, "random numbers";
    SYS_getuid Always Any, "who the caller is";
    SYS_geteuid Always Any, "as above";
    SYS_getgid Always Any, "as above";
    SYS_getegid Always Any, "as above";
    SYS_getgroups Always Any, "as above";
    // The host's network.
    SYS_socket HostNetwork Any, "sockets of programs";
    SYS_bind HostNetwork Any, "sockets of programs";
    SYS_listen HostNetwork Any, "sockets of programs";
    SYS_connect HostNetwork Any, "sockets of programs";
    SYS_setsockopt HostNetwork Any, "sockets of programs";
    SYS_sendmmsg HostNetwork Any, "name lookups";
};
