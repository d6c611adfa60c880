//! Constants that the trace shows by name.

/// Makes argument types of 32 bits whose known values have names; others are shown as numbers.
macro_rules! named_args {
    ($($(#[$doc:meta])* $name:ident($type:ty) { $($value:literal => $text:literal,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub(super) struct $name(pub(super) $type);

            impl $crate::syscall::args::Arg for $name {
                fn decode(raw: u64) -> Self {
                    Self($crate::syscall::args::Arg::decode(raw))
                }
                fn show(call: &$crate::syscall::args::ShownCall<'_>, index: usize, out: &mut String) {
                    let value: $type = $crate::syscall::args::Arg::decode(call.args[index]);
                    match value {
                        $($value => out.push_str($text),)*
                        _ => <$type as $crate::syscall::args::Arg>::show(call, index, out),
                    }
                }
            }
        )*
    };
}

named_args! {
    /// A command of fcntl(2).
    FcntlCommand(u32) {
        0 => "F_DUPFD",
        1 => "F_GETFD",
        2 => "F_SETFD",
        3 => "F_GETFL",
        4 => "F_SETFL",
        5 => "F_GETLK",
        6 => "F_SETLK",
        7 => "F_SETLKW",
        8 => "F_SETOWN",
        9 => "F_GETOWN",
        10 => "F_SETSIG",
        11 => "F_GETSIG",
        36 => "F_OFD_GETLK",
        37 => "F_OFD_SETLK",
        38 => "F_OFD_SETLKW",
        1024 => "F_SETLEASE",
        1025 => "F_GETLEASE",
        1026 => "F_NOTIFY",
        1027 => "F_DUPFD_QUERY",
        1030 => "F_DUPFD_CLOEXEC",
        1031 => "F_SETPIPE_SZ",
        1032 => "F_GETPIPE_SZ",
        1033 => "F_ADD_SEALS",
        1034 => "F_GET_SEALS",
    }
    /// A request of ptrace(2).
    PtraceRequest(u32) {
        0 => "PTRACE_TRACEME",
        1 => "PTRACE_PEEKTEXT",
        2 => "PTRACE_PEEKDATA",
        3 => "PTRACE_PEEKUSER",
        4 => "PTRACE_POKETEXT",
        5 => "PTRACE_POKEDATA",
        6 => "PTRACE_POKEUSER",
        7 => "PTRACE_CONT",
        8 => "PTRACE_KILL",
        9 => "PTRACE_SINGLESTEP",
        12 => "PTRACE_GETREGS",
        13 => "PTRACE_SETREGS",
        14 => "PTRACE_GETFPREGS",
        15 => "PTRACE_SETFPREGS",
        16 => "PTRACE_ATTACH",
        17 => "PTRACE_DETACH",
        24 => "PTRACE_SYSCALL",
        30 => "PTRACE_ARCH_PRCTL",
        31 => "PTRACE_SYSEMU",
        32 => "PTRACE_SYSEMU_SINGLESTEP",
        33 => "PTRACE_SINGLEBLOCK",
        0x4200 => "PTRACE_SETOPTIONS",
        0x4201 => "PTRACE_GETEVENTMSG",
        0x4202 => "PTRACE_GETSIGINFO",
        0x4203 => "PTRACE_SETSIGINFO",
        0x4204 => "PTRACE_GETREGSET",
        0x4205 => "PTRACE_SETREGSET",
        0x4206 => "PTRACE_SEIZE",
        0x4207 => "PTRACE_INTERRUPT",
        0x4208 => "PTRACE_LISTEN",
        0x4209 => "PTRACE_PEEKSIGINFO",
        0x420a => "PTRACE_GETSIGMASK",
        0x420b => "PTRACE_SETSIGMASK",
        0x420c => "PTRACE_SECCOMP_GET_FILTER",
        0x420d => "PTRACE_SECCOMP_GET_METADATA",
        0x420e => "PTRACE_GET_SYSCALL_INFO",
    }
    /// An operation of seccomp(2).
    SeccompOperation(u32) {
        0 => "SECCOMP_SET_MODE_STRICT",
        1 => "SECCOMP_SET_MODE_FILTER",
        2 => "SECCOMP_GET_ACTION_AVAIL",
        3 => "SECCOMP_GET_NOTIF_SIZES",
    }
    /// A clock of clock_gettime(2).
    ClockNumber(i32) {
        0 => "CLOCK_REALTIME",
        1 => "CLOCK_MONOTONIC",
        2 => "CLOCK_PROCESS_CPUTIME_ID",
        3 => "CLOCK_THREAD_CPUTIME_ID",
        4 => "CLOCK_MONOTONIC_RAW",
        5 => "CLOCK_REALTIME_COARSE",
        6 => "CLOCK_MONOTONIC_COARSE",
        7 => "CLOCK_BOOTTIME",
        8 => "CLOCK_REALTIME_ALARM",
        9 => "CLOCK_BOOTTIME_ALARM",
        11 => "CLOCK_TAI",
    }
    /// TIMER_ABSTIME or nothing.
    TimerFlags(i32) {
        1 => "TIMER_ABSTIME",
    }
    /// A resource of getrlimit(2).
    ResourceNumber(u32) {
        0 => "RLIMIT_CPU",
        1 => "RLIMIT_FSIZE",
        2 => "RLIMIT_DATA",
        3 => "RLIMIT_STACK",
        4 => "RLIMIT_CORE",
        5 => "RLIMIT_RSS",
        6 => "RLIMIT_NPROC",
        7 => "RLIMIT_NOFILE",
        8 => "RLIMIT_MEMLOCK",
        9 => "RLIMIT_AS",
        10 => "RLIMIT_LOCKS",
        11 => "RLIMIT_SIGPENDING",
        12 => "RLIMIT_MSGQUEUE",
        13 => "RLIMIT_NICE",
        14 => "RLIMIT_RTPRIO",
        15 => "RLIMIT_RTTIME",
    }
    /// What rt_sigprocmask(2) does with its set.
    MaskChange(i32) {
        0 => "SIG_BLOCK",
        1 => "SIG_UNBLOCK",
        2 => "SIG_SETMASK",
    }
    /// A timer of setitimer(2).
    IntervalTimerNumber(i32) {
        0 => "ITIMER_REAL",
        1 => "ITIMER_VIRTUAL",
        2 => "ITIMER_PROF",
    }
    /// Whose usage getrusage(2) tells.
    UsageOf(i32) {
        0 => "RUSAGE_SELF",
        1 => "RUSAGE_THREAD",
        -1 => "RUSAGE_CHILDREN",
    }
    /// An operation of arch_prctl(2).
    ArchOperation(i32) {
        0x1001 => "ARCH_SET_GS",
        0x1002 => "ARCH_SET_FS",
        0x1003 => "ARCH_GET_FS",
        0x1004 => "ARCH_GET_GS",
        0x1011 => "ARCH_GET_CPUID",
        0x1012 => "ARCH_SET_CPUID",
    }
    /// An operation of futex(2).
    FutexOperation(i32) {
        0 => "FUTEX_WAIT",
        1 => "FUTEX_WAKE",
        3 => "FUTEX_REQUEUE",
        4 => "FUTEX_CMP_REQUEUE",
        5 => "FUTEX_WAKE_OP",
        6 => "FUTEX_LOCK_PI",
        7 => "FUTEX_UNLOCK_PI",
        8 => "FUTEX_TRYLOCK_PI",
        9 => "FUTEX_WAIT_BITSET",
        10 => "FUTEX_WAKE_BITSET",
        11 => "FUTEX_WAIT_REQUEUE_PI",
        12 => "FUTEX_CMP_REQUEUE_PI",
        13 => "FUTEX_LOCK_PI2",
        128 => "FUTEX_WAIT_PRIVATE",
        129 => "FUTEX_WAKE_PRIVATE",
        131 => "FUTEX_REQUEUE_PRIVATE",
        132 => "FUTEX_CMP_REQUEUE_PRIVATE",
        133 => "FUTEX_WAKE_OP_PRIVATE",
        134 => "FUTEX_LOCK_PI_PRIVATE",
        135 => "FUTEX_UNLOCK_PI_PRIVATE",
        136 => "FUTEX_TRYLOCK_PI_PRIVATE",
        137 => "FUTEX_WAIT_BITSET_PRIVATE",
        138 => "FUTEX_WAKE_BITSET_PRIVATE",
        139 => "FUTEX_WAIT_REQUEUE_PI_PRIVATE",
        140 => "FUTEX_CMP_REQUEUE_PI_PRIVATE",
        141 => "FUTEX_LOCK_PI2_PRIVATE",
        265 => "FUTEX_WAIT_BITSET|FUTEX_CLOCK_REALTIME",
        267 => "FUTEX_WAIT_REQUEUE_PI|FUTEX_CLOCK_REALTIME",
        269 => "FUTEX_LOCK_PI2|FUTEX_CLOCK_REALTIME",
        393 => "FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME",
        395 => "FUTEX_WAIT_REQUEUE_PI_PRIVATE|FUTEX_CLOCK_REALTIME",
        397 => "FUTEX_LOCK_PI2_PRIVATE|FUTEX_CLOCK_REALTIME",
    }
    /// An option of prctl(2).
    ProcessOption(u32) {
        1 => "PR_SET_PDEATHSIG",
        2 => "PR_GET_PDEATHSIG",
        3 => "PR_GET_DUMPABLE",
        4 => "PR_SET_DUMPABLE",
        7 => "PR_GET_KEEPCAPS",
        8 => "PR_SET_KEEPCAPS",
        13 => "PR_GET_TIMING",
        14 => "PR_SET_TIMING",
        15 => "PR_SET_NAME",
        16 => "PR_GET_NAME",
        21 => "PR_GET_SECCOMP",
        22 => "PR_SET_SECCOMP",
        23 => "PR_CAPBSET_READ",
        24 => "PR_CAPBSET_DROP",
        25 => "PR_GET_TSC",
        26 => "PR_SET_TSC",
        27 => "PR_GET_SECUREBITS",
        28 => "PR_SET_SECUREBITS",
        29 => "PR_SET_TIMERSLACK",
        30 => "PR_GET_TIMERSLACK",
        35 => "PR_SET_MM",
        36 => "PR_SET_CHILD_SUBREAPER",
        37 => "PR_GET_CHILD_SUBREAPER",
        38 => "PR_SET_NO_NEW_PRIVS",
        39 => "PR_GET_NO_NEW_PRIVS",
        40 => "PR_GET_TID_ADDRESS",
        41 => "PR_SET_THP_DISABLE",
        42 => "PR_GET_THP_DISABLE",
        47 => "PR_CAP_AMBIENT",
        52 => "PR_GET_SPECULATION_CTRL",
        53 => "PR_SET_SPECULATION_CTRL",
        0x5356_4d41 => "PR_SET_VMA",
    }
}
