//! What the monitor was started with: which standard descriptors, which other ones, which signals its caller ignores, and its umask.
//!
//! Before `main`, Rust's runtime opens /dev/null for those of 0, 1 and 2 that are closed, and ignores SIGPIPE. A program that is run
//! with a closed standard input must find it closed, and one under nohup(1) must find SIGHUP ignored, so both are looked at
//! earlier, when the C library runs the initializers. No call only reads the umask: it can be changed for a moment while there are no
//! other threads that make files meanwhile.
//!
//! A process that was started ahead, to run a program for a caller who comes later, takes that caller's place ([`take_place`]).

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

static OPEN: [AtomicBool; 3] = [const { AtomicBool::new(true) }; 3];
/// Bit n - 1 for signal n.
static IGNORED: AtomicU64 = AtomicU64::new(0);
static UMASK: AtomicU32 = AtomicU32::new(0);

/// Run by the C library before Rust's runtime starts.
// The section holds pointers to functions that take nothing they need and return nothing, which this is.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    for (fd, open) in (0..).zip(&OPEN) {
        // SAFETY: F_GETFD reads a descriptor's flags and touches no memory.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        open.store(flags != -1, Ordering::Relaxed);
    }
    let ignored = (1..=64).filter(|&signal| is_ignored(signal)).fold(0, |set, signal| set | 1 << (signal - 1));
    IGNORED.store(ignored, Ordering::Relaxed);
    change_umask(change_umask(0o77));
}

/// A job of a shell: a process group and its session (credentials(7)). 0 is one that belongs to a process namespace outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// The process group.
    pub group: i32,
    /// The session.
    pub session: i32,
}

/// The job that this process is.
pub fn job() -> Job {
    // SAFETY: it takes no memory, and cannot fail.
    let group = unsafe { libc::getpgrp() };
    // SAFETY: it takes no memory, and cannot fail for the process itself.
    let session = unsafe { libc::getsid(0) };
    Job { group, session }
}

/// The job that has a terminal now; `None` if it is no terminal of this process's session.
pub fn job_of(terminal: BorrowedFd<'_>) -> Option<Job> {
    // SAFETY: it takes the number of a descriptor that is open, and no memory of ours.
    let group = unsafe { libc::tcgetpgrp(terminal.as_raw_fd()) };
    // SAFETY: as above.
    let session = unsafe { libc::tcgetsid(terminal.as_raw_fd()) };
    (group != -1 && session != -1).then_some(Job { group, session })
}

/// This process's umask.
pub fn umask() -> u32 {
    UMASK.load(Ordering::Relaxed)
}

/// Changes this process's umask, and returns what it was.
pub fn change_umask(mask: u32) -> u32 {
    UMASK.store(mask, Ordering::Relaxed);
    // SAFETY: changes a number that the kernel keeps, and touches no memory.
    unsafe { libc::umask(mask) }
}

/// Whether this process ignores `signal`. The C library keeps a few to itself, which it says are invalid.
fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action changes nothing; the old one is written to a valid place.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zeroes are a valid action, and a call that succeeded has filled it.
    let action = unsafe { action.assume_init() };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// The signals that were ignored when the process started: bit n - 1 for signal n.
pub fn ignored_signals() -> u64 {
    IGNORED.load(Ordering::Relaxed)
}

/// Tells which of the descriptors 0, 1 and 2 were open when the process started.
pub fn standard_descriptors() -> [bool; 3] {
    OPEN.each_ref().map(|open| open.load(Ordering::Relaxed))
}

/// What a process has from its caller, as far as it cannot be set by a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Which of the descriptors 0, 1 and 2 are open.
    pub standard: [bool; 3],
    /// The signals that are ignored: bit n - 1 for signal n.
    pub ignored: u64,
    /// The environment, one variable each.
    pub environment: Vec<CString>,
}

unsafe extern "C" {
    /// The environment (environ(7)).
    static mut environ: *const *const libc::c_char;
}

/// From now on this process has from its caller what is given here, as if it had been started with it.
///
/// For a process without threads that look at its environment: Rust's own functions do so under a lock that cannot be had here.
/// It is done once: what was there before stays in memory.
pub fn take_place(of: Inherited) {
    static ENVIRONMENT: Mutex<Vec<CString>> = Mutex::new(Vec::new());
    for (open, theirs) in OPEN.iter().zip(of.standard) {
        open.store(theirs, Ordering::Relaxed);
    }
    IGNORED.store(of.ignored, Ordering::Relaxed);
    let mut kept = ENVIRONMENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !kept.is_empty() {
        return;
    }
    *kept = of.environment;
    let pointers: Vec<_> = kept.iter().map(|variable| variable.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: the array ends with a null pointer and is never freed, and neither are the strings, which stay in a static; no other
    // thread looks at the environment.
    unsafe { environ = pointers.leak().as_ptr() };
}

/// The descriptors besides 0, 1 and 2 that a caller left open for this process. Dropping them closes them.
#[derive(Debug, Default)]
pub struct Others(#[expect(dead_code, reason = "held until it is dropped")] Vec<OwnedFd>);

impl Others {
    /// Takes every descriptor from 3 on that is open now: to be called once, before this process opens any. Closes them at once where
    /// the host does not say which there are.
    ///
    /// # Errors
    /// What the host says of /proc/self/fd, if it does not know to close them all, either (before Linux 5.9).
    pub fn take() -> std::io::Result<Self> {
        let listed = std::fs::read_dir("/proc/self/fd");
        let name = |entry: std::io::Result<std::fs::DirEntry>| Ok(entry?.file_name());
        let listed: std::io::Result<Vec<_>> = listed.and_then(|entries| entries.map(name).collect());
        let listed = match listed {
            Ok(listed) => listed,
            // SAFETY: closes descriptors that nobody in this process has opened, so nobody owns them, and touches no memory.
            Err(_) if unsafe { libc::close_range(3, libc::c_uint::MAX, 0) } == 0 => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let numbers = listed.iter().filter_map(|name| name.to_str()?.parse::<RawFd>().ok());
        // SAFETY: F_GETFD reads a descriptor's flags and touches no memory.
        let is_open = |number: &RawFd| unsafe { libc::fcntl(*number, libc::F_GETFD) } != -1;
        // The one that the folder was read by is closed by now.
        let open = numbers.filter(|number| *number > 2).filter(is_open);
        // SAFETY: it is open, and nobody in this process has opened it, so nobody else in it owns it.
        Ok(Self(open.map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect()))
    }
}

/// Marks every descriptor but 0, 1 and 2 to be closed when a program is executed. Ours are made so; this is for what a caller
/// left open for its children. A host without the call (before Linux 5.11) lets them through.
pub fn keep_from_programs() {
    // SAFETY: changes a flag of descriptors, which stay as open as they were, and touches no memory.
    unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn ignored_signals_are_seen() {
        // The Rust runtime ignores SIGPIPE, after `look` has run; the test harness leaves SIGUSR1 alone.
        assert!(is_ignored(libc::SIGPIPE));
        assert!(!is_ignored(libc::SIGUSR1));
        assert_eq!(ignored_signals() >> (libc::SIGUSR1 - 1) & 1, 0);
    }

    #[test]
    fn the_umask_is_seen() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
        assert_eq!(u32::from_str_radix(line.trim(), 8), Ok(umask()));
    }

    #[test]
    fn programs_get_no_other_descriptors() {
        // SAFETY: duplicates a descriptor, without the flag.
        let copy = unsafe { libc::dup(1) };
        assert!(copy > 2);
        keep_from_programs();
        // SAFETY: reads a descriptor's flags.
        assert_eq!(unsafe { libc::fcntl(copy, libc::F_GETFD) }, libc::FD_CLOEXEC);
        // SAFETY: `copy` is ours, and used by nobody else.
        unsafe { libc::close(copy) };
    }

    #[test]
    fn an_open_descriptor_is_seen_as_open() {
        // The test harness has standard output; what `look` stores is what the host says now, too.
        look();
        assert!(standard_descriptors()[1]);
        assert_eq!(std::io::stdout().as_raw_fd(), 1);
    }
}
