//! Where spares listen: abstract Unix sockets that name their user and their build.
//!
//! The daemon holds `picovisor/UID/serve/BUILD`, and spare N listens at `picovisor/UID/serve/BUILD/N`. A spare that has a caller listens no
//! more, so whoever connects to a name has found one that is free. The build is the executable's file: after an upgrade nobody finds the
//! spares of the version before. As with sandboxes, the names are in nobody's hands: each side asks the kernel who the other is.

use rustix::fs::stat;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use std::os::fd::{AsFd, OwnedFd};

/// The most spares that a daemon keeps.
pub(super) const MOST: u32 = 16;

/// A daemon's name.
#[derive(Clone, Debug)]
pub(super) struct Address(String);

impl Address {
    /// The one of this process's user and executable.
    pub(super) fn own() -> Result<Self, Errno> {
        let uid = rustix::process::geteuid().as_raw();
        let file = stat("/proc/self/exe")?;
        let build = format!(
            "{:x}-{:x}-{:x}-{:x}.{:x}",
            file.st_dev, file.st_ino, file.st_size, file.st_mtime, file.st_mtime_nsec
        );
        Ok(Self(format!("picovisor/{uid}/serve/{build}")))
    }

    fn socket(&self, spare: Option<u32>) -> Result<SocketAddrUnix, Errno> {
        match spare {
            None => SocketAddrUnix::new_abstract_name(self.0.as_bytes()),
            Some(spare) => SocketAddrUnix::new_abstract_name(format!("{}/{spare}", self.0).as_bytes()),
        }
    }

    /// Listens as the daemon, or as one of its spares. `EADDRINUSE` if somebody does already.
    pub(super) fn listen(&self, spare: Option<u32>) -> Result<OwnedFd, Errno> {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        bind(&socket, &self.socket(spare)?)?;
        // Who comes second finds another spare.
        listen(&socket, 1)?;
        Ok(socket)
    }

    /// Connects to spares, one after another, until `talk` has come to an end with one; `None` if there is none that is free.
    pub(super) fn try_spares<T>(&self, mut talk: impl FnMut(OwnedFd) -> Option<T>) -> Option<T> {
        for spare in 0..MOST {
            match self.connect(Some(spare)) {
                Ok(Some(socket)) => {
                    if let Some(end) = talk(socket) {
                        return Some(end);
                    }
                }
                // Is it that nobody is there at all?
                Ok(None) if spare == 0 => {
                    self.connect(None).ok()??;
                }
                Ok(None) => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// Connects, if somebody listens there who is of this user.
    fn connect(&self, spare: Option<u32>) -> Result<Option<OwnedFd>, Errno> {
        // Without waiting for room, of which there is enough where somebody is free.
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        match connect(&socket, &self.socket(spare)?) {
            Ok(()) => {}
            Err(Errno::CONNREFUSED | Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error),
        }
        let own = rustix::process::geteuid().as_raw();
        let theirs = vmm::peer::peer(socket.as_fd()).map_err(|_| Errno::IO)?;
        Ok((theirs.uid == own).then_some(socket))
    }
}
