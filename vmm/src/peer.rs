//! Who is at the other end of a connected Unix socket, as the host's kernel says it.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The process that a socket is connected to, as it was when it connected or began to listen (SO_PEERCRED in unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user id; the overflow id (65534) for one that this user namespace does not have.
    pub uid: u32,
    /// Its process id; `None` for a process of another pid namespace, which has none here.
    pub pid: Option<u32>,
}

/// Asks who it is.
pub fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let mut raw = libc::ucred { pid: 0, uid: 0, gid: 0 };
    // The size of three integers.
    let mut len = size_of::<libc::ucred>().try_into().unwrap_or(libc::socklen_t::MAX);
    let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    // SAFETY: `raw` is one ucred and `len` says so; both live through the call.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut raw).cast(), &raw mut len) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Peer { uid: raw.uid, pid: u32::try_from(raw.pid).ok().filter(|pid| *pid != 0) })
}

/// A descriptor of the process at the other end (SO_PEERPIDFD, Linux 6.5): while that is not ready for reading, the process is alive
/// and its number is no other's.
pub fn peer_process(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// From include/uapi/asm-generic/socket.h.
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut fd: libc::c_int = -1;
    let mut len = size_of::<libc::c_int>().try_into().unwrap_or(libc::socklen_t::MAX);
    // SAFETY: `fd` is one integer and `len` says so; both live through the call.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PEERPIDFD, (&raw mut fd).cast(), &raw mut len)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How the host schedules a thread (struct sched_attr, sched_setattr(2), of its first version). Flags that are its own alone, such as
/// what its children get, are in it as well.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    size: u32,
    /// SCHED_OTHER and so on.
    pub policy: u32,
    /// Flags.
    pub flags: u64,
    /// The nice value.
    pub nice: i32,
    /// The priority, under real-time policies.
    pub priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// How the host schedules the thread of that number; 0: the calling one.
pub fn scheduling(thread: u32) -> io::Result<Scheduling> {
    let mut found = Scheduling::default();
    let size = size_of::<Scheduling>();
    // SAFETY: `found` has room for `size` bytes, and any bytes are a valid value.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, thread, &raw mut found, size, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if found.policy != libc::SCHED_DEADLINE.cast_unsigned() {
        // The length of a time slice since Linux 6.12, which comes and goes.
        found.runtime = 0;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_other_end_of_a_pair_is_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = peer(one.as_fd()).unwrap();
        assert_eq!(peer.pid, Some(std::process::id()));
        // SAFETY: the call has no arguments and cannot fail.
        assert_eq!(peer.uid, unsafe { libc::geteuid() });
    }

    #[test]
    fn a_process_that_lives_is_not_ready() {
        let (one, _other) = UnixStream::pair().unwrap();
        let process = match peer_process(one.as_fd()) {
            Ok(process) => process,
            // Before Linux 6.5.
            Err(error) => return assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT)),
        };
        let mut poll = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid element.
        assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 0) }, 0);
    }

    #[test]
    fn a_thread_is_scheduled_as_it_says() {
        let own = scheduling(0).unwrap();
        assert_eq!(own, scheduling(std::process::id()).unwrap_or(own));
        // SAFETY: the call takes numbers and touches no memory.
        assert_eq!(own.policy.cast_signed(), unsafe { libc::sched_getscheduler(0) });
    }

    #[test]
    fn a_file_has_no_other_end() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(peer(file.as_fd()).is_err());
    }
}
