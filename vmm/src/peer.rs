//! Who is at the other end of a connected Unix socket, as the host's kernel says it.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

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
    fn a_file_has_no_other_end() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(peer(file.as_fd()).is_err());
    }
}
