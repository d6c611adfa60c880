//! Which host calls can go wrong, and how.
//!
//! The errors are of the kind that a sound program must expect of a sound kernel: out of memory, descriptors or space, a
//! device that fails. Errors that only a wrong argument causes are left out, and so are calls that have none.

use crate::Fault;
use crate::look::Kind;
use libc::c_long;

/// A call and its arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) number: c_long,
    pub(crate) arguments: [u64; 6],
}

/// How a call names what it transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Argument 2 counts bytes.
    Bytes,
    /// Argument 2 counts the pieces that argument 1 points at.
    Pieces,
    /// Argument 1 points at a message's header, which counts its pieces.
    Message,
}

/// What can be done to a call.
#[derive(Clone, Copy, Debug)]
struct Entry {
    number: c_long,
    name: &'static str,
    /// The error with which it may fail; 0: it does not.
    refused: i32,
    /// Whether a signal may interrupt it. (What sleeps on a disk is not interrupted, or made again by the kernel.)
    interrupted: bool,
    /// How it can be cut short.
    short: Option<Extent>,
    /// Whether it asks for memory or a thread.
    takes: bool,
}

macro_rules! calls {
    ($($number:ident $error:tt $($word:ident)*;)*) => {
        &[$({
            let entry = Entry {
                number: libc::$number, name: stringify!($number), refused: calls!(@error $error),
                interrupted: false, short: None, takes: false,
            };
            $(let entry = calls!(@word entry $word);)*
            entry
        }),*]
    };
    (@error -) => { 0 };
    (@error $error:ident) => { libc::$error };
    (@word $entry:ident interrupted) => { Entry { interrupted: true, ..$entry } };
    (@word $entry:ident bytes) => { Entry { short: Some(Extent::Bytes), ..$entry } };
    (@word $entry:ident pieces) => { Entry { short: Some(Extent::Pieces), ..$entry } };
    (@word $entry:ident message) => { Entry { short: Some(Extent::Message), ..$entry } };
    (@word $entry:ident takes) => { Entry { takes: true, ..$entry } };
}

/// The table: a call, the error with which it is refused, and what else can be done to it.
const CALLS: &[Entry] = calls! {
    SYS_brk ENOMEM takes;
    SYS_mmap ENOMEM takes;
    SYS_mremap ENOMEM takes;
    SYS_mprotect ENOMEM takes;
    SYS_munmap ENOMEM;
    SYS_madvise ENOMEM;
    SYS_mincore EAGAIN;
    SYS_clone EAGAIN takes;
    SYS_clone3 EAGAIN takes;
    SYS_vfork EAGAIN takes;
    SYS_ioctl ENOMEM interrupted;
    SYS_futex - interrupted;
    SYS_openat EMFILE;
    SYS_openat2 EMFILE;
    SYS_open EMFILE;
    SYS_close EINTR;
    SYS_read EIO interrupted bytes;
    SYS_write EIO interrupted bytes;
    SYS_readv EIO interrupted pieces;
    SYS_writev EIO interrupted pieces;
    SYS_pread64 EIO bytes;
    SYS_pwrite64 EIO bytes;
    SYS_preadv EIO pieces;
    SYS_pwritev EIO pieces;
    SYS_preadv2 EIO interrupted pieces;
    SYS_pwritev2 EIO interrupted pieces;
    SYS_sendfile EIO;
    SYS_copy_file_range EIO;
    SYS_fallocate ENOSPC;
    SYS_ftruncate EIO;
    SYS_fsync EIO;
    SYS_fdatasync EIO;
    SYS_fstat ENOMEM;
    SYS_newfstatat ENOMEM;
    SYS_statx ENOMEM;
    SYS_getdents64 EIO;
    SYS_readlink ENOMEM;
    SYS_readlinkat ENOMEM;
    SYS_getcwd ENOMEM;
    SYS_faccessat2 ENOMEM;
    SYS_mkdirat ENOSPC;
    SYS_mknodat ENOSPC;
    SYS_unlinkat EIO;
    SYS_linkat ENOSPC;
    SYS_symlinkat ENOSPC;
    SYS_renameat2 EIO;
    SYS_fchmodat EIO;
    SYS_utimensat EIO;
    SYS_getxattr ENOMEM;
    SYS_listxattr ENOMEM;
    SYS_setxattr ENOSPC;
    SYS_fcntl EMFILE;
    SYS_dup EMFILE;
    SYS_dup2 EMFILE;
    SYS_dup3 EMFILE;
    SYS_pipe2 EMFILE;
    SYS_eventfd2 EMFILE;
    SYS_signalfd4 EMFILE;
    SYS_timerfd_create EMFILE;
    SYS_epoll_create1 EMFILE;
    SYS_epoll_ctl ENOSPC;
    SYS_epoll_wait - interrupted;
    SYS_poll ENOMEM interrupted;
    SYS_ppoll ENOMEM interrupted;
    SYS_socket EMFILE;
    SYS_socketpair EMFILE;
    SYS_bind ENOMEM;
    SYS_listen ENOMEM;
    SYS_connect ECONNREFUSED;
    SYS_accept4 EMFILE interrupted;
    SYS_sendmsg ENOBUFS interrupted message;
    SYS_recvmsg ENOMEM interrupted message;
    SYS_sendto ENOBUFS interrupted bytes;
    SYS_recvfrom ENOMEM interrupted bytes;
    SYS_getsockname ENOBUFS;
    SYS_getpeername ENOBUFS;
    SYS_getsockopt ENOBUFS;
    SYS_setsockopt ENOBUFS;
    SYS_getrandom - interrupted;
    SYS_clock_nanosleep - interrupted;
    SYS_rt_sigtimedwait - interrupted;
    SYS_wait4 - interrupted;
    SYS_waitid - interrupted;
    SYS_tgkill EAGAIN;
    SYS_seccomp ENOMEM;
    SYS_landlock_create_ruleset ENOMEM;
    SYS_landlock_add_rule ENOMEM;
    SYS_landlock_restrict_self E2BIG;
    SYS_prlimit64 EPERM;
    SYS_sched_setaffinity EINVAL;
    SYS_membarrier ENOMEM;
    SYS_capset EPERM;
};

/// The numbers of all calls that are looked at.
pub(crate) fn numbers() -> impl Iterator<Item = c_long> {
    CALLS.iter().map(|entry| entry.number)
}

/// What a fault does to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is not made and returns this.
    Returns(i64),
    /// It is made, and returns this error number all the same: a descriptor that was closed is gone, whatever close says.
    Answers(i32),
    /// It is made with less to transfer.
    Cut(Extent),
    /// It is made while a signal is pending that nobody handles.
    Signalled,
    /// It only asks where the break is: that is how brk says no.
    AsksOnly,
}

impl Call {
    fn entry(&self) -> Option<&'static Entry> {
        CALLS.iter().find(|entry| entry.number == self.number)
    }

    /// The call's name as the C library has it.
    pub(crate) fn name(&self) -> &'static str {
        self.entry().map_or("another call", |entry| entry.name.trim_start_matches("SYS_"))
    }

    /// What `fault` does to the call; `None`: that cannot happen to it. `kind` tells what a descriptor is.
    pub(crate) fn effect(&self, fault: Fault, kind: impl Fn(u64) -> Kind) -> Option<Effect> {
        let entry = self.entry()?;
        let fails = |errno: i32| Effect::Returns(-i64::from(errno));
        match fault {
            Fault::Refused => self.refusal(entry, kind),
            Fault::Exhausted => (entry.takes && self.takes_more()).then(|| self.refused(entry.refused)),
            // A virtual CPU that is not entered has yet taken the registers that it was given: only KVM can do that.
            Fault::Interrupted if self.runs() => Some(Effect::Signalled),
            Fault::Interrupted => (entry.interrupted && self.may_wait(kind)).then(|| fails(libc::EINTR)),
            Fault::Short => {
                let extent = entry.short?;
                let cuts = extent != Extent::Bytes || self.arguments[2] > self.whole();
                (cuts && kind(self.arguments[0]) == Kind::Stream).then_some(Effect::Cut(extent))
            }
        }
    }

    fn refusal(&self, entry: &'static Entry, kind: impl Fn(u64) -> Kind) -> Option<Effect> {
        let transfers = entry.short.is_some();
        match self.number {
            _ if entry.refused == 0 => None,
            // To ask for a limit.
            libc::SYS_prlimit64 if self.arguments[2] == 0 => None,
            libc::SYS_brk if self.arguments[0] == 0 => None,
            libc::SYS_close => Some(Effect::Answers(entry.refused)),
            // Counters and timers have no such errors.
            _ if transfers && kind(self.arguments[0]) == Kind::Other => None,
            // A terminal that has hung up.
            _ if self.terminal_request().is_some() => Some(self.refused(libc::EIO)),
            // Taking memory away, and giving back what is a mapping's own, asks for none; advice that is about to free does not fail.
            libc::SYS_madvise if self.is_advice(&[libc::MADV_DONTNEED]) => None,
            libc::SYS_mprotect if self.arguments[2] == 0 => None,
            // Flags and the like have no errors.
            libc::SYS_fcntl if self.arguments[1] != u64::from(libc::F_DUPFD_CLOEXEC.cast_unsigned()) => None,
            _ => Some(self.refused(entry.refused)),
        }
    }

    fn refused(&self, errno: i32) -> Effect {
        if self.number == libc::SYS_brk { Effect::AsksOnly } else { Effect::Returns(-i64::from(errno)) }
    }

    fn is_advice(&self, kinds: &[i32]) -> bool {
        kinds.iter().any(|kind| self.arguments[2] == u64::from(kind.cast_unsigned()))
    }

    /// Whether the call asks for more memory, or a thread.
    fn takes_more(&self) -> bool {
        match self.number {
            libc::SYS_brk => self.arguments[0] != 0,
            libc::SYS_mprotect => self.arguments[2] & u64::from(libc::PROT_WRITE.cast_unsigned()) != 0,
            _ => true,
        }
    }

    /// Whether it enters a virtual CPU.
    fn runs(&self) -> bool {
        const KVM_RUN: u64 = 0xae80;
        self.number == libc::SYS_ioctl && self.arguments[1] == KVM_RUN
    }

    /// The number of a request to a terminal, if it is one.
    fn terminal_request(&self) -> Option<u64> {
        /// What the requests of terminals have as their type, and those of other descriptors that have it, too (asm-generic/ioctls.h).
        const TYPE: u64 = 0x54;
        const NOT_THEIRS: [u64; 5] = [0x1b, 0x21, 0x50, 0x51, 0x52];
        let (kind, number) = (self.arguments[1] >> 8 & 0xff, self.arguments[1] & 0xff);
        (self.number == libc::SYS_ioctl && kind == TYPE && !NOT_THEIRS.contains(&number)).then_some(number)
    }

    /// How many bytes are transferred at once or not at all: a socket takes a short message whole.
    fn whole(&self) -> u64 {
        if matches!(self.number, libc::SYS_sendto | libc::SYS_recvfrom) { 256 } else { 1 }
    }

    /// Whether a signal may end the call.
    fn may_wait(&self, kind: impl Fn(u64) -> Kind) -> bool {
        /// FUTEX_WAIT and FUTEX_WAIT_BITSET.
        const WAITS: [u64; 2] = [0, 9];
        /// TCSETSW, TCSETSF, TCSBRK, TCSETSW2 and TCSETSF2, which wait until all is printed.
        const DRAINS: [u64; 5] = [3, 4, 9, 0x2c, 0x2d];
        match self.number {
            libc::SYS_ioctl => self.terminal_request().is_some_and(|number| DRAINS.contains(&number)),
            libc::SYS_futex => WAITS.contains(&(self.arguments[1] & 0x7f)),
            libc::SYS_read
            | libc::SYS_write
            | libc::SYS_readv
            | libc::SYS_writev
            | libc::SYS_preadv2
            | libc::SYS_pwritev2 => kind(self.arguments[0]) != Kind::Other,
            _ => true,
        }
    }
}
