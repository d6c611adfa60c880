//! Where sandboxes listen: abstract Unix sockets, whose names say whose they are.
//!
//! A sandbox without a name listens at `picovisor/UID/ID`, one with a name at `picovisor/UID/ID/NAME`, and holds
//! `picovisor/UID/name/NAME` as well, so that the kernel lets only one of a user's sandboxes have it. Such names need no folder, no
//! cleaning up after a monitor that was killed, and are listed in /proc/net/unix. Anybody may take one: that is why an id is random,
//! and why a tool believes nobody who is not of its own user. They belong to a network namespace: a sandbox that was started in
//! another one is out of sight.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::rand::{GetRandomFlags, getrandom};
use std::fmt;
use std::os::fd::OwnedFd;

/// What all names begin with.
const PREFIX: &str = "picovisor";
/// Stands where the id stands in the names of listeners. No id: those are hexadecimal.
const NAME: &str = "name";
/// Random bytes in an id.
const ID_BYTES: usize = 6;
/// Connections that may wait for the event loop.
const BACKLOG: i32 = 16;
/// The bit of an accepting socket in /proc/net/unix (__SO_ACCEPTCON in include/uapi/linux/net.h).
const ACCEPTS: u32 = 1 << 16;

/// Names a sandbox: twelve hexadecimal digits, drawn at random.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SandboxId(String);

impl SandboxId {
    /// Draws one.
    pub(crate) fn random() -> Result<Self, Errno> {
        let mut bytes = [0; ID_BYTES];
        // So few bytes come whole.
        rustix::io::retry_on_intr(|| getrandom(&mut bytes, GetRandomFlags::empty()))?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 2 * ID_BYTES && text.bytes().all(digit)).then(|| Self(text.to_owned()))
    }

    /// The digits.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a sandbox listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    /// The user that it claims to be of.
    pub(crate) uid: u32,
    /// Which sandbox.
    pub(crate) id: SandboxId,
    /// What `--name` called it.
    pub(crate) name: Option<String>,
}

impl Address {
    /// The name of its socket.
    fn text(&self) -> String {
        let Self { uid, id, name } = self;
        match name {
            None => format!("{PREFIX}/{uid}/{id}"),
            Some(name) => format!("{PREFIX}/{uid}/{id}/{name}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (prefix, uid, id, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next());
        if prefix != PREFIX || parts.next().is_some() || name.is_some_and(str::is_empty) {
            return None;
        }
        Some(Self { uid: uid.parse().ok()?, id: SandboxId::parse(id)?, name: name.map(str::to_owned) })
    }

    /// The socket's address.
    pub(crate) fn socket(&self) -> Result<SocketAddrUnix, Errno> {
        SocketAddrUnix::new_abstract_name(self.text().as_bytes())
    }

    /// What people call it: its name, or else its id.
    pub(crate) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(self.id.as_str())
    }
}

/// A sandbox's sockets before anybody is accepted.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) address: Address,
    pub(crate) socket: OwnedFd,
    /// Keeps the name from being another's, while it is open.
    pub(crate) reservation: Option<OwnedFd>,
}

/// Why there is no listener.
#[derive(Debug)]
pub(crate) enum ListenError {
    /// Another sandbox has the name, of this user's or of somebody who has taken it from outside.
    NameTaken,
    /// The host refuses sockets.
    Host(Errno),
}

impl From<Errno> for ListenError {
    fn from(error: Errno) -> Self {
        Self::Host(error)
    }
}

impl Listener {
    /// Takes a new id, and the name if there is one, and begins to listen.
    pub(crate) fn open(name: Option<&str>) -> Result<Self, ListenError> {
        let uid = rustix::process::geteuid().as_raw();
        let reservation = name.map(|name| reserve(uid, name)).transpose()?;
        loop {
            let address = Address { uid, id: SandboxId::random()?, name: name.map(str::to_owned) };
            match listen_at(&address.socket()?) {
                Ok(socket) => return Ok(Self { address, socket, reservation }),
                // One in 2^48, or a squatter's guess: another draw.
                Err(Errno::ADDRINUSE) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn new_socket() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

fn listen_at(address: &SocketAddrUnix) -> Result<OwnedFd, Errno> {
    let socket = new_socket()?;
    bind(&socket, address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn reserve(uid: u32, name: &str) -> Result<OwnedFd, ListenError> {
    let socket = new_socket()?;
    let address = SocketAddrUnix::new_abstract_name(format!("{PREFIX}/{uid}/{NAME}/{name}").as_bytes())?;
    match bind(&socket, &address) {
        Ok(()) => Ok(socket),
        Err(Errno::ADDRINUSE) => Err(ListenError::NameTaken),
        Err(error) => Err(error.into()),
    }
}

/// The addresses at which somebody listens who claims to be a sandbox of user `uid`, or of anybody; ordered. A claim is all it is.
pub(crate) fn claimed(uid: Option<u32>) -> std::io::Result<Vec<Address>> {
    let table = std::fs::read("/proc/net/unix")?;
    let mut found = listed(&String::from_utf8_lossy(&table));
    found.retain(|address| uid.is_none_or(|uid| address.uid == uid));
    found.sort();
    found.dedup();
    Ok(found)
}

/// The addresses of sandboxes that listen, in the text of /proc/net/unix: `Num RefCount Protocol Flags Type St Inode @Name`. A
/// connection that was accepted has its listener's name, and other flags.
fn listed(table: &str) -> Vec<Address> {
    let address = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
        let name = fields.nth(3)?.strip_prefix('@')?;
        if flags & ACCEPTS == 0 { None } else { Address::parse(name) }
    };
    table.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_what_they_are_parsed_from() {
        let id = SandboxId::random().unwrap();
        for name in [None, Some("web.1".to_owned())] {
            let address = Address { uid: 1000, id: id.clone(), name };
            assert_eq!(Address::parse(&address.text()), Some(address));
        }
        for wrong in [
            "",
            "picovisor",
            "picovisor/0",
            "picovisor/0/name/web",
            "picovisor/x/0123456789ab",
            "picovisor/0/0123456789AB",
            "picovisor/0/0123456789abc",
            "picovisor/0/0123456789ab/",
            "picovisor/0/0123456789ab/a/b",
            "other/0/0123456789ab",
        ] {
            assert_eq!(Address::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_listeners_are_listed() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 11 @picovisor/7/00000000000a\n\
                     0000000000000000: 00000003 00000000 00000000 0001 03 12 @picovisor/7/00000000000a\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 13 @picovisor/7/00000000000b/web\n\
                     0000000000000000: 00000002 00000000 00000000 0001 01 14 @picovisor/7/name/web\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 15 /run/picovisor/7/00000000000c\n\
                     0000000000000000: 00000003 00000000 00000000 0001 03 16\n";
        let labels: Vec<_> = listed(table).iter().map(|address| address.label().to_owned()).collect();
        assert_eq!(labels, ["00000000000a", "web"]);
    }

    #[test]
    fn a_name_is_given_once_and_comes_back() {
        // Of this test process alone.
        let name = format!("test-{}", std::process::id());
        let first = Listener::open(Some(&name)).unwrap();
        assert!(matches!(Listener::open(Some(&name)), Err(ListenError::NameTaken)));
        assert!(claimed(Some(first.address.uid)).unwrap().contains(&first.address));
        let address = first.address.clone();
        drop(first);
        assert!(!claimed(None).unwrap().contains(&address));
        assert!(Listener::open(Some(&name)).is_ok());
    }
}
