//! What the kernel tells of a traced process.

use libc::{c_int, pid_t};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What a descriptor transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes, of which fewer may come than were asked for: a file, a pipe, or a socket of streams.
    Stream,
    /// Whole messages: another socket.
    Messages,
    /// Counters and the like.
    Other,
}

/// What a descriptor of the thread's is.
pub(crate) fn kind(thread: pid_t, fd: u64) -> Kind {
    let fd = fd & 0xffff_ffff;
    let Ok(target) = std::fs::read_link(format!("/proc/{thread}/fd/{fd}")) else { return Kind::Other };
    let target = target.to_string_lossy();
    if target.starts_with('/') || target.starts_with("pipe:") {
        return Kind::Stream;
    }
    if !target.starts_with("socket:") {
        return Kind::Other;
    }
    match process_of(thread).map(|process| socket_type(process, fd)) {
        Some(Ok(libc::SOCK_STREAM)) => Kind::Stream,
        _ => Kind::Messages,
    }
}

/// The type of a socket of a traced process.
fn socket_type(process: pid_t, fd: u64) -> io::Result<c_int> {
    let own = |result: i64| match RawFd::try_from(result) {
        // SAFETY: a new descriptor that nobody else knows.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: the call takes numbers and touches no memory of ours.
    let process = own(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) })?;
    // SAFETY: as above.
    let socket = own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) })?;
    let (mut found, mut size) = (0, libc::socklen_t::try_from(size_of::<c_int>()).map_err(io::Error::other)?);
    let to: *mut c_int = &raw mut found;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_TYPE);
    // SAFETY: the kernel writes an integer, for which there is room, to where `to` points.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, to.cast(), &raw mut size) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(found) }
}

/// The process of a thread.
pub(crate) fn process_of(thread: pid_t) -> Option<pid_t> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// The descriptors of a process, sorted, without the numbers that differ from run to run.
pub(crate) fn descriptors(pid: pid_t) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let own = format!("/proc/{pid}/");
    let numbered = [":[", "-vcpu:"];
    let plain = |target: String| {
        let end = numbered.iter().filter_map(|mark| target.find(mark)).min().unwrap_or(target.len());
        target[..end].replace(&own, "/proc/self/")
    };
    let mut found: Vec<_> = targets.map(|target| plain(target.to_string_lossy().into_owned())).collect();
    found.sort();
    found
}

/// How many threads a process has.
pub(crate) fn threads(pid: pid_t) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}
