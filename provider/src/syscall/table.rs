//! The table: one line a system call. Dispatch, trace and the published compatibility list all come from it.

use super::args::ShowArg;
use super::handler::{Outcome, RawArgs, ResultForm, call, form, is_shared, show};
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

/// Whether a call may be served by a host thread that is not its task's, which waits in user mode meanwhile.
///
/// The mark is a promise about the handler. It changes nothing but user memory and the kernel's own state: no register but the
/// result, no state of the host thread that runs it. It never sleeps but in `block_until` (and never in the host, but for storage),
/// and has left no trace when that answers [`Errno::NEEDS_THREAD`]: whatever could not be done twice is done behind it, or asks
/// `CurrentTask::needs_thread` before; a write that has got halfway keeps its progress. Signals to the task itself ask, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// By the task's own thread only.
    Trapped,
    /// By any.
    Posted,
}
use Path::Posted;

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Syscall {
    /// The name, without a prefix.
    pub name: &'static str,
    /// How well it is served.
    pub support: Support,
    /// Who may serve it.
    pub path: Path,
    /// How the trace shows each argument; as many as the call has.
    pub show: &'static [ShowArg],
    /// How the trace shows the result.
    pub form: ResultForm,
    /// Decodes the arguments and serves the call.
    pub call: fn(&mut CurrentTask<'_>, &RawArgs) -> Result<Outcome, Errno>,
}

/// Finds a call; `None` if it is not served.
pub fn find(number: u64) -> Option<&'static Syscall> {
    usize::try_from(number).ok().and_then(|index| TABLE.get(index)).and_then(Option::as_ref)
}

macro_rules! path {
    () => {
        Path::Trapped
    };
    ($path:ident) => {
        $path
    };
}

macro_rules! syscalls {
    ($($number:ident => $module:ident :: $function:ident, $support:expr $(, $path:ident)?;)*) => {{
        let mut table: [Option<Syscall>; SIZE] = [None; SIZE];
        $({
            let line = &mut table[linux_raw_sys::general::$number as usize];
            assert!(line.is_none(), concat!(stringify!($number), " has two lines"));
            assert!(
                matches!(path!($($path)?), Path::Trapped) || is_shared(&super::$module::$function),
                concat!(stringify!($number), " touches registers, so it cannot be posted")
            );
            *line = Some(Syscall {
                name: without_prefix(stringify!($number)),
                support: $support,
                path: path!($($path)?),
                show: show(&super::$module::$function),
                form: form(&super::$module::$function),
                call: |task, args| call(&super::$module::$function, task, args),
            });
        })*
        table
    }};
}

/// The calls that are served, by number. Keep the lines sorted by number.
pub static TABLE: [Option<Syscall>; SIZE] = syscalls! {
    __NR_read => io::read, Full, Posted;
    __NR_write => io::write, Full, Posted;
    __NR_open => file::open, Full, Posted;
    __NR_close => file::close, Full, Posted;
    __NR_stat => stat::stat, Full, Posted;
    __NR_fstat => stat::fstat, Full, Posted;
    __NR_lstat => stat::lstat, Full, Posted;
    __NR_poll => poll::poll, Full, Posted;
    __NR_lseek => file::lseek, Full, Posted;
    __NR_mmap => mm::mmap, Full, Posted;
    __NR_mprotect => mm::mprotect, Full, Posted;
    __NR_munmap => mm::munmap, Full, Posted;
    __NR_brk => mm::brk, Full, Posted;
    __NR_rt_sigaction => signals::rt_sigaction, Full, Posted;
    __NR_rt_sigprocmask => signals::rt_sigprocmask, Full, Posted;
    __NR_rt_sigreturn => signals::rt_sigreturn, Full;
    __NR_ioctl => ioctl::ioctl, Partial("TIOCOUTQ and rarer requests are ENOTTY"), Posted;
    __NR_pread64 => io::pread64, Full, Posted;
    __NR_pwrite64 => io::pwrite64, Full, Posted;
    __NR_readv => io::readv, Full, Posted;
    __NR_writev => io::writev, Full, Posted;
    __NR_access => stat::access, Full, Posted;
    __NR_pipe => pipe::pipe, Full, Posted;
    __NR_select => poll::select, Full, Posted;
    __NR_sched_yield => sched::sched_yield, Full;
    __NR_mremap => mm::mremap, Partial("a range of several mappings cannot be moved");
    __NR_msync => mm::msync, Full;
    __NR_mincore => mm::mincore, Partial("anonymous pages that have never been touched may be reported as present");
    __NR_madvise => mm::madvise, Partial("guard pages, MADV_COLLAPSE and poisoning are refused; MADV_REMOVE works on in-memory files only"), Posted;
    __NR_shmget => ipc_shm::shmget, Partial("SHM_HUGETLB is ENOMEM");
    __NR_shmat => ipc_shm::shmat, Full;
    __NR_shmctl => ipc_shm::shmctl, Partial("the end of a process does not set the time of detachment");
    __NR_dup => file::dup, Full, Posted;
    __NR_dup2 => file::dup2, Full, Posted;
    __NR_pause => signals::pause, Full;
    __NR_nanosleep => time::nanosleep, Full;
    __NR_getitimer => time::getitimer, Partial("ITIMER_VIRTUAL counts system time, too"), Posted;
    __NR_alarm => time::alarm, Full;
    __NR_setitimer => time::setitimer, Partial("ITIMER_VIRTUAL counts system time, too");
    __NR_getpid => identity::getpid, Full, Posted;
    __NR_sendfile => io_copy::sendfile, Full;
    __NR_socket => socket::socket, Full, Posted;
    __NR_connect => socket::connect, Full;
    __NR_accept => socket::accept, Full, Posted;
    __NR_sendto => socket_io::sendto, Full, Posted;
    __NR_recvfrom => socket_io::recvfrom, Full, Posted;
    __NR_sendmsg => socket_io::sendmsg, Full, Posted;
    __NR_recvmsg => socket_io::recvmsg, Full, Posted;
    __NR_shutdown => socket::shutdown, Full, Posted;
    __NR_bind => socket::bind, Full, Posted;
    __NR_listen => socket::listen, Full, Posted;
    __NR_getsockname => socket::getsockname, Full, Posted;
    __NR_getpeername => socket::getpeername, Full, Posted;
    __NR_socketpair => socket::socketpair, Full, Posted;
    __NR_setsockopt => socket::setsockopt, Full, Posted;
    __NR_getsockopt => socket::getsockopt, Full, Posted;
    __NR_clone => clone::clone, Partial("namespaces of mounts and host names only");
    __NR_fork => clone::fork, Full;
    __NR_vfork => clone::vfork, Full;
    __NR_execve => exec::execve, Full;
    __NR_exit => process::exit, Full;
    __NR_wait4 => process::wait4, Full;
    __NR_kill => signals::kill, Full;
    __NR_uname => misc::uname, Full, Posted;
    __NR_semget => ipc_sem::semget, Full;
    __NR_semop => ipc_sem::semop, Full;
    __NR_semctl => ipc_sem::semctl, Full;
    __NR_shmdt => ipc_shm::shmdt, Full;
    __NR_msgget => ipc_msg::msgget, Full;
    __NR_msgsnd => ipc_msg::msgsnd, Full;
    __NR_msgrcv => ipc_msg::msgrcv, Full;
    __NR_msgctl => ipc_msg::msgctl, Full;
    __NR_fcntl => file_control::fcntl, Partial("locks and leases are seen in the sandbox only"), Posted;
    __NR_flock => file_control::flock, Partial("locks are seen in the sandbox only"), Posted;
    __NR_fsync => file::fsync, Full;
    __NR_fdatasync => file::fdatasync, Full;
    __NR_truncate => file::truncate, Full, Posted;
    __NR_ftruncate => file::ftruncate, Full, Posted;
    __NR_getdents => dir::getdents, Full, Posted;
    __NR_getcwd => dir::getcwd, Full, Posted;
    __NR_chdir => dir::chdir, Full, Posted;
    __NR_fchdir => dir::fchdir, Full, Posted;
    __NR_rename => dir::rename, Full, Posted;
    __NR_mkdir => dir::mkdir, Full, Posted;
    __NR_rmdir => dir::rmdir, Full, Posted;
    __NR_creat => file::creat, Full, Posted;
    __NR_link => dir::link, Full, Posted;
    __NR_unlink => dir::unlink, Full, Posted;
    __NR_symlink => dir::symlink, Full, Posted;
    __NR_readlink => stat::readlink, Full, Posted;
    __NR_chmod => file_mode::chmod, Partial("set-id bits do not reach the host"), Posted;
    __NR_fchmod => file_mode::fchmod, Partial("set-id bits do not reach the host"), Posted;
    __NR_chown => file_mode::chown, Full, Posted;
    __NR_fchown => file_mode::fchown, Full, Posted;
    __NR_lchown => file_mode::lchown, Full, Posted;
    __NR_umask => dir::umask, Full, Posted;
    __NR_gettimeofday => time::gettimeofday, Full, Posted;
    __NR_getrlimit => limits::getrlimit, Full, Posted;
    __NR_getrusage => limits::getrusage, Partial("the largest resident size is the present one");
    __NR_sysinfo => misc::sysinfo, Partial("load averages are zero"), Posted;
    __NR_times => limits::times, Full;
    __NR_ptrace => ptrace::ptrace, Partial("no debug registers, no block steps");
    __NR_getuid => identity::getuid, Full, Posted;
    __NR_syslog => misc::syslog, Partial("the kernel's log is empty");
    __NR_getgid => identity::getgid, Full, Posted;
    __NR_setuid => identity::setuid, Full;
    __NR_setgid => identity::setgid, Full;
    __NR_geteuid => identity::geteuid, Full, Posted;
    __NR_getegid => identity::getegid, Full, Posted;
    __NR_setpgid => identity::setpgid, Full;
    __NR_getppid => identity::getppid, Full, Posted;
    __NR_getpgrp => identity::getpgrp, Full, Posted;
    __NR_setsid => identity::setsid, Full;
    __NR_setreuid => identity::setreuid, Full;
    __NR_setregid => identity::setregid, Full;
    __NR_getgroups => identity::getgroups, Full, Posted;
    __NR_setgroups => identity::setgroups, Full;
    __NR_setresuid => identity::setresuid, Full;
    __NR_getresuid => identity::getresuid, Full, Posted;
    __NR_setresgid => identity::setresgid, Full;
    __NR_getresgid => identity::getresgid, Full, Posted;
    __NR_getpgid => identity::getpgid, Full, Posted;
    __NR_setfsuid => identity::setfsuid, Full;
    __NR_setfsgid => identity::setfsgid, Full;
    __NR_getsid => identity::getsid, Full, Posted;
    __NR_capget => identity::capget, Full;
    __NR_capset => identity::capset, Full;
    __NR_rt_sigpending => signals::rt_sigpending, Full, Posted;
    __NR_rt_sigtimedwait => signals::rt_sigtimedwait, Full;
    __NR_rt_sigqueueinfo => signals::rt_sigqueueinfo, Full;
    __NR_rt_sigsuspend => signals::rt_sigsuspend, Full;
    __NR_sigaltstack => signals::sigaltstack, Full;
    __NR_utime => file_mode::utime, Full, Posted;
    __NR_mknod => dir::mknod, Partial("device nodes in memory only");
    __NR_personality => misc::personality, Partial("execution domains of other systems change nothing");
    __NR_statfs => stat::statfs, Full, Posted;
    __NR_fstatfs => stat::fstatfs, Full, Posted;
    __NR_getpriority => priority::getpriority, Full, Posted;
    __NR_setpriority => priority::setpriority, Partial("kept, but the host treats all threads alike");
    __NR_sched_setparam => sched_policy::sched_setparam, Partial("kept, but the host treats all threads alike");
    __NR_sched_getparam => sched_policy::sched_getparam, Full, Posted;
    __NR_sched_setscheduler => sched_policy::sched_setscheduler, Partial("kept, but the host treats all threads alike");
    __NR_sched_getscheduler => sched_policy::sched_getscheduler, Full, Posted;
    __NR_sched_get_priority_max => sched_policy::sched_get_priority_max, Full, Posted;
    __NR_sched_get_priority_min => sched_policy::sched_get_priority_min, Full, Posted;
    __NR_sched_rr_get_interval => sched_policy::sched_rr_get_interval, Full, Posted;
    __NR_mlock => mm::mlock, Full;
    __NR_munlock => mm::munlock, Full;
    __NR_mlockall => mm::mlockall, Full;
    __NR_munlockall => mm::munlockall, Full;
    __NR_pivot_root => mount::pivot_root, Full;
    __NR_prctl => prctl::prctl, Partial("no names of anonymous mappings, PR_SET_MM, PR_SET_TSC, PR_SET_MDWE, memory merging or core scheduling");
    __NR_arch_prctl => threads::arch_prctl, Full;
    __NR_adjtimex => time_adjust::adjtimex, Partial("changes are refused: the time is the host's");
    __NR_setrlimit => limits::setrlimit, Full;
    __NR_chroot => dir::chroot, Full;
    __NR_sync => file::sync, Full;
    __NR_acct => misc::not_permitted, Partial("always EPERM");
    __NR_settimeofday => time::settimeofday, Partial("always EPERM: the time is the host's");
    __NR_mount => mount::mount, Partial("tmpfs, ramfs, proc, sysfs, devpts; binds, moves and propagation");
    __NR_umount2 => mount::umount2, Full;
    __NR_swapon => misc::not_permitted, Partial("always EPERM");
    __NR_swapoff => misc::not_permitted, Partial("always EPERM");
    __NR_reboot => misc::reboot, Partial("always refused");
    __NR_sethostname => misc::sethostname, Full;
    __NR_setdomainname => misc::setdomainname, Full;
    __NR_iopl => misc::not_permitted, Partial("always EPERM");
    __NR_ioperm => misc::not_permitted, Partial("always EPERM");
    __NR_init_module => misc::not_permitted, Partial("always EPERM");
    __NR_delete_module => misc::not_permitted, Partial("always EPERM");
    __NR_gettid => identity::gettid, Full, Posted;
    __NR_readahead => file::readahead, Full;
    __NR_setxattr => xattr::setxattr, Partial("names in user. only"), Posted;
    __NR_lsetxattr => xattr::lsetxattr, Partial("names in user. only"), Posted;
    __NR_fsetxattr => xattr::fsetxattr, Partial("names in user. only"), Posted;
    __NR_getxattr => xattr::getxattr, Full, Posted;
    __NR_lgetxattr => xattr::lgetxattr, Full, Posted;
    __NR_fgetxattr => xattr::fgetxattr, Full, Posted;
    __NR_listxattr => xattr::listxattr, Full, Posted;
    __NR_llistxattr => xattr::llistxattr, Full, Posted;
    __NR_flistxattr => xattr::flistxattr, Full, Posted;
    __NR_removexattr => xattr::removexattr, Full, Posted;
    __NR_lremovexattr => xattr::lremovexattr, Full, Posted;
    __NR_fremovexattr => xattr::fremovexattr, Full, Posted;
    __NR_tkill => signals::tkill, Full;
    __NR_time => time::time, Full, Posted;
    __NR_futex => futex::futex, Partial("owners' priorities are not raised"), Posted;
    __NR_sched_setaffinity => sched::sched_setaffinity, Full;
    __NR_sched_getaffinity => sched::sched_getaffinity, Full, Posted;
    __NR_io_setup => aio::io_setup, Full;
    __NR_io_destroy => aio::io_destroy, Full;
    __NR_io_getevents => aio::io_getevents, Full;
    __NR_io_submit => aio::io_submit, Partial("RWF_NOWAIT, RWF_APPEND and newer flags are refused");
    __NR_io_cancel => aio::io_cancel, Full;
    __NR_epoll_create => epoll::epoll_create, Full, Posted;
    __NR_remap_file_pages => file_pages::remap_file_pages, Full;
    __NR_getdents64 => dir::getdents64, Full, Posted;
    __NR_set_tid_address => threads::set_tid_address, Full, Posted;
    __NR_restart_syscall => signals::restart_syscall, Full;
    __NR_semtimedop => ipc_sem::semtimedop, Full;
    __NR_fadvise64 => file::fadvise64, Full, Posted;
    __NR_timer_create => timers::timer_create, Partial("not for alarm clocks");
    __NR_timer_settime => timers::timer_settime, Full, Posted;
    __NR_timer_gettime => timers::timer_gettime, Full, Posted;
    __NR_timer_getoverrun => timers::timer_getoverrun, Full, Posted;
    __NR_timer_delete => timers::timer_delete, Full;
    __NR_clock_settime => time::clock_settime, Partial("always refused: the time is the host's");
    __NR_clock_gettime => time::clock_gettime, Full, Posted;
    __NR_clock_getres => time::clock_getres, Full, Posted;
    __NR_clock_nanosleep => time::clock_nanosleep, Full;
    __NR_exit_group => process::exit_group, Full;
    __NR_epoll_wait => epoll::epoll_wait, Full, Posted;
    __NR_epoll_ctl => epoll::epoll_ctl, Full, Posted;
    __NR_tgkill => signals::tgkill, Full;
    __NR_utimes => file_mode::utimes, Full, Posted;
    __NR_mbind => numa::mbind, Partial("there is one node; the policy is checked and not kept");
    __NR_set_mempolicy => numa::set_mempolicy, Partial("there is one node; the policy is checked and not kept");
    __NR_get_mempolicy => numa::get_mempolicy, Partial("there is one node; the policy is always the default");
    __NR_mq_open => mqueue::mq_open, Full;
    __NR_mq_unlink => mqueue::mq_unlink, Full;
    __NR_mq_timedsend => mqueue::mq_timedsend, Full;
    __NR_mq_timedreceive => mqueue::mq_timedreceive, Full;
    __NR_mq_notify => mqueue::mq_notify, Full;
    __NR_mq_getsetattr => mqueue::mq_getsetattr, Full;
    __NR_waitid => process::waitid, Full;
    __NR_ioprio_set => priority::ioprio_set, Partial("kept, but the host treats all threads alike");
    __NR_ioprio_get => priority::ioprio_get, Full;
    __NR_inotify_init => inotify::inotify_init, Full, Posted;
    __NR_inotify_add_watch => inotify::inotify_add_watch, Partial("what changes host files outside the sandbox is not seen"), Posted;
    __NR_inotify_rm_watch => inotify::inotify_rm_watch, Full, Posted;
    __NR_openat => file::openat, Full, Posted;
    __NR_mkdirat => dir::mkdirat, Full, Posted;
    __NR_mknodat => dir::mknodat, Partial("device nodes in memory only");
    __NR_fchownat => file_mode::fchownat, Full, Posted;
    __NR_futimesat => file_mode::futimesat, Full, Posted;
    __NR_newfstatat => stat::newfstatat, Full, Posted;
    __NR_unlinkat => dir::unlinkat, Full, Posted;
    __NR_renameat => dir::renameat, Full, Posted;
    __NR_linkat => dir::linkat, Full, Posted;
    __NR_symlinkat => dir::symlinkat, Full, Posted;
    __NR_readlinkat => stat::readlinkat, Full, Posted;
    __NR_fchmodat => file_mode::fchmodat, Partial("set-id bits do not reach the host"), Posted;
    __NR_faccessat => stat::faccessat, Full, Posted;
    __NR_pselect6 => poll::pselect6, Full, Posted;
    __NR_ppoll => poll::ppoll, Full, Posted;
    __NR_unshare => sharing::unshare, Partial("namespaces of mounts and host names only");
    __NR_set_robust_list => threads::set_robust_list, Full, Posted;
    __NR_get_robust_list => threads::get_robust_list, Full, Posted;
    __NR_splice => splice::splice, Full;
    __NR_tee => splice::tee, Full;
    __NR_sync_file_range => file::sync_file_range, Full;
    __NR_vmsplice => splice::vmsplice, Full;
    __NR_utimensat => file_mode::utimensat, Full, Posted;
    __NR_epoll_pwait => epoll::epoll_pwait, Full, Posted;
    __NR_signalfd => events::signalfd, Full;
    __NR_timerfd_create => events::timerfd_create, Full, Posted;
    __NR_eventfd => events::eventfd, Full, Posted;
    __NR_fallocate => file::fallocate, Full;
    __NR_timerfd_settime => events::timerfd_settime, Partial("that the clock was set is noticed by the next read"), Posted;
    __NR_timerfd_gettime => events::timerfd_gettime, Full, Posted;
    __NR_accept4 => socket::accept4, Full, Posted;
    __NR_signalfd4 => events::signalfd4, Full;
    __NR_eventfd2 => events::eventfd2, Full, Posted;
    __NR_epoll_create1 => epoll::epoll_create1, Full, Posted;
    __NR_dup3 => file::dup3, Full, Posted;
    __NR_pipe2 => pipe::pipe2, Partial("O_NOTIFICATION_PIPE is EINVAL"), Posted;
    __NR_inotify_init1 => inotify::inotify_init1, Full, Posted;
    __NR_preadv => io::preadv, Full, Posted;
    __NR_pwritev => io::pwritev, Full, Posted;
    __NR_rt_tgsigqueueinfo => signals::rt_tgsigqueueinfo, Full;
    __NR_recvmmsg => socket_io::recvmmsg, Full;
    __NR_prlimit64 => limits::prlimit64, Full, Posted;
    __NR_name_to_handle_at => file_control::name_to_handle_at, Partial("always EOPNOTSUPP");
    __NR_clock_adjtime => time_adjust::clock_adjtime, Partial("changes are refused: the time is the host's");
    __NR_syncfs => file::syncfs, Full;
    __NR_sendmmsg => socket_io::sendmmsg, Full;
    __NR_setns => sharing::setns, Partial("of mounts and host names; there is one of each other namespace");
    __NR_getcpu => sched::getcpu, Full;
    __NR_process_vm_readv => process_memory::process_vm_readv, Full;
    __NR_process_vm_writev => process_memory::process_vm_writev, Full;
    __NR_kcmp => sharing::kcmp, Full;
    __NR_finit_module => misc::not_permitted, Partial("always EPERM");
    __NR_sched_setattr => sched_policy::sched_setattr, Partial("kept, but the host treats all threads alike; no utilization clamping");
    __NR_sched_getattr => sched_policy::sched_getattr, Full;
    __NR_renameat2 => dir::renameat2, Partial("RENAME_WHITEOUT is EPERM"), Posted;
    __NR_seccomp => seccomp::seccomp, Partial("SECCOMP_FILTER_FLAG_NEW_LISTENER is EINVAL");
    __NR_getrandom => random::getrandom, Full, Posted;
    __NR_memfd_create => file_control::memfd_create, Partial("no huge pages"), Posted;
    __NR_execveat => exec::execveat, Full;
    __NR_membarrier => membarrier::membarrier, Partial("no restartable sequences");
    __NR_mlock2 => mm::mlock2, Full;
    __NR_copy_file_range => io_copy::copy_file_range, Full;
    __NR_preadv2 => io::preadv2, Partial("RWF_NOWAIT is EOPNOTSUPP"), Posted;
    __NR_pwritev2 => io::pwritev2, Partial("RWF_NOWAIT and RWF_NOAPPEND are EOPNOTSUPP"), Posted;
    __NR_pkey_mprotect => mm::pkey_mprotect, Full;
    __NR_pkey_alloc => mm::pkey_alloc, Full;
    __NR_pkey_free => mm::pkey_free, Full;
    __NR_statx => stat::statx, Full, Posted;
    __NR_io_pgetevents => aio::io_pgetevents, Full;
    __NR_pidfd_send_signal => pidfd::pidfd_send_signal, Full;
    __NR_open_tree => mount_fd::open_tree, Full;
    __NR_move_mount => mount_fd::move_mount, Partial("MOVE_MOUNT_SET_GROUP is EINVAL");
    __NR_fsopen => mount_fd::fsopen, Partial("tmpfs, ramfs, proc, sysfs and devpts");
    __NR_fsconfig => mount_fd::fsconfig, Partial("FSCONFIG_CMD_RECONFIGURE is EBUSY");
    __NR_fsmount => mount_fd::fsmount, Full;
    __NR_pidfd_open => pidfd::pidfd_open, Full;
    __NR_clone3 => clone::clone3, Partial("namespaces of mounts and host names only; no control groups");
    __NR_close_range => file::close_range, Full, Posted;
    __NR_openat2 => file::openat2, Partial("RESOLVE_CACHED is EAGAIN"), Posted;
    __NR_pidfd_getfd => pidfd::pidfd_getfd, Full;
    __NR_faccessat2 => stat::faccessat2, Full, Posted;
    __NR_epoll_pwait2 => epoll::epoll_pwait2, Full, Posted;
    __NR_mount_setattr => mount_fd::mount_setattr, Partial("MOUNT_ATTR_IDMAP is EINVAL");
    __NR_futex_waitv => futex2::futex_waitv, Full;
    __NR_fchmodat2 => file_mode::fchmodat2, Partial("set-id bits do not reach the host"), Posted;
    __NR_futex_wake => futex2::futex_wake, Full, Posted;
    __NR_futex_wait => futex2::futex_wait, Full;
    __NR_futex_requeue => futex2::futex_requeue, Full;
};
