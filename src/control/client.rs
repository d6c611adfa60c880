//! The tools' side: which sandboxes there are, which one a user means, and asking it.

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::address::{Address, claimed};
use super::channel::{Channel, ChannelError, LONGEST_REPLY};
use super::messages::{Reply, Request};
use crate::failure::{Failure, plain};

/// How long a sandbox may take to begin with an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many of a name's letters may be wrong for it to be suggested.
const NEAR: usize = 2;

/// A connection to a sandbox that is known to be of this user.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) address: Address,
    channel: Channel,
}

/// Why there is no connection, or no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AskError {
    /// It has ended, before or while it was asked.
    Gone,
    /// Somebody else has taken the address.
    Impostor,
    /// It does not answer, or not so that it is understood.
    Channel(ChannelError),
    /// It says no.
    Refused(String),
}

impl From<Errno> for AskError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::CONNREFUSED | Errno::CONNRESET | Errno::PIPE => Self::Gone,
            Errno::AGAIN => Self::Channel(ChannelError::Late),
            other => Self::Channel(ChannelError::Host(other)),
        }
    }
}

impl From<ChannelError> for AskError {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Closed => Self::Gone,
            other => Self::Channel(other),
        }
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("it has ended"),
            Self::Impostor => f.write_str("another user has taken its address"),
            Self::Channel(ChannelError::Late) => f.write_str("it does not answer; its picovisor may be stopped"),
            Self::Channel(ChannelError::Version(theirs)) => {
                let ours = super::channel::VERSION;
                write!(f, "it was started by another version of picovisor (protocol {theirs}, here {ours})")
            }
            Self::Channel(error) => error.fmt(f),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl AskError {
    /// The failure of a command that was about the sandbox at `address`.
    pub(crate) fn of(self, address: &Address) -> Failure {
        Failure::ours(format_args!("{}: {self}", address.label()))
    }
}

impl Connection {
    /// Connects to whoever listens at `address`, and makes sure that it is of the user that the address names.
    pub(crate) fn open(address: &Address) -> Result<Self, AskError> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // A listener that accepts nobody would hold us up.
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        connect(&socket, &address.socket()?)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        match vmm::peer::peer(socket.as_fd()) {
            Ok(peer) if peer.uid == address.uid => Ok(Self { address: address.clone(), channel: Channel::new(socket) }),
            Ok(_) => Err(AskError::Impostor),
            Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO).into()),
        }
    }

    /// Asks for something, and waits for the answer as long as one may take.
    pub(crate) fn ask(&self, request: &Request) -> Result<Reply, AskError> {
        self.send(request, &[])?;
        self.receive(Some(PATIENCE))
    }

    /// Asks, handing descriptors over.
    pub(crate) fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), AskError> {
        Ok(self.channel.send_with(request, fds)?)
    }

    /// Waits for an answer, which has to begin within `patience`, if that is given.
    pub(crate) fn receive(&self, patience: Option<Duration>) -> Result<Reply, AskError> {
        match self.channel.receive(LONGEST_REPLY, patience)?.0 {
            Reply::Refused(why) => Err(AskError::Refused(why)),
            reply => Ok(reply),
        }
    }

    /// The failure for an answer to something else than was asked.
    pub(crate) fn odd(&self, reply: &Reply) -> Failure {
        Failure::ours(format_args!("{}: an answer that was not asked for: {reply:?}", self.address.label()))
    }
}

/// The addresses of this user's sandboxes; of everybody's for root.
pub(crate) fn sandboxes() -> Result<Vec<Address>, Failure> {
    let uid = rustix::process::geteuid();
    claimed((!uid.is_root()).then_some(uid.as_raw()))
        .map_err(|error| Failure::ours(format_args!("/proc/net/unix: {}", plain(&error))))
}

/// Connects to the sandbox that `reference` names: a name, an id, or the beginning of an id that no other has.
pub(crate) fn find(reference: &str) -> Result<Connection, Failure> {
    let candidates = matching(reference, &sandboxes()?)?;
    let mut last = None;
    for address in &candidates {
        match Connection::open(address) {
            Ok(connection) => return Ok(connection),
            Err(error) => last = Some(error.of(address)),
        }
    }
    Err(last.unwrap_or_else(|| Failure::ours(format_args!("there is no sandbox {reference:?}"))))
}

/// The addresses that `reference` may mean: several only if they have the same name, which root may see twice.
fn matching(reference: &str, all: &[Address]) -> Result<Vec<Address>, Failure> {
    let those = |matches: &dyn Fn(&&Address) -> bool| all.iter().filter(matches).cloned().collect::<Vec<_>>();
    let exact = those(&|address| address.id.as_str() == reference || address.name.as_deref() == Some(reference));
    if !exact.is_empty() {
        return Ok(exact);
    }
    let begun = those(&|address| !reference.is_empty() && address.id.as_str().starts_with(reference));
    match begun.as_slice() {
        [_] => Ok(begun),
        [] => Err(unknown(reference, all)),
        several => {
            let labels: Vec<_> = several.iter().map(|address| address.id.as_str()).collect();
            Err(Failure::ours(format_args!("{reference:?} is the beginning of several ids: {}", labels.join(", "))))
        }
    }
}

/// Says that there is no such sandbox, and which ones the user may have meant.
fn unknown(reference: &str, all: &[Address]) -> Failure {
    let distance = |address: &Address| {
        let names = [address.name.as_deref(), Some(address.id.as_str())];
        names.into_iter().flatten().map(|name| strsim::damerau_levenshtein(name, reference)).min().unwrap_or(usize::MAX)
    };
    let near = all.iter().filter(|address| distance(address) <= NEAR).min_by_key(|address| distance(address));
    let hint = match near {
        Some(address) => format!("; did you mean {:?}?", address.label()),
        None if all.is_empty() => "; none is running".to_owned(),
        None => "; `picovisor ps` lists those that are running".to_owned(),
    };
    Failure::ours(format_args!("there is no sandbox {reference:?}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::address::{Listener, SandboxId};

    fn addresses(names: &[Option<&str>]) -> Vec<Address> {
        let address =
            |name: &Option<&str>| Address { uid: 7, id: SandboxId::random().unwrap(), name: name.map(str::to_owned) };
        names.iter().map(address).collect()
    }

    #[test]
    fn names_ids_and_beginnings_are_found() {
        let all = addresses(&[Some("web"), Some("job"), None]);
        let id = all[2].id.as_str();
        assert_eq!(matching("web", &all).unwrap(), all[..1]);
        assert_eq!(matching(id, &all).unwrap(), all[2..]);
        assert_eq!(matching(&id[..11], &all).unwrap(), all[2..]);
        let error = |reference: &str, all: &[Address]| matching(reference, all).unwrap_err().to_string();
        assert_eq!(error("wbe", &all), "there is no sandbox \"wbe\"; did you mean \"web\"?");
        assert!(error("", &all).contains("picovisor ps"), "{}", error("", &all));
        assert!(error("web", &[]).ends_with("none is running"));
    }

    #[test]
    fn a_beginning_of_several_ids_is_refused() {
        // Among seventeen ids two begin with the same digit.
        let all = addresses(&[None; 17]);
        let first = |address: &Address| address.id.as_str()[..1].to_owned();
        let shared = all.iter().map(first).find(|digit| all.iter().filter(|other| first(other) == *digit).count() > 1);
        let error = matching(&shared.unwrap(), &all).unwrap_err().to_string();
        assert!(error.contains("several ids"), "{error}");
    }

    #[test]
    fn whoever_is_not_of_the_user_that_the_address_names_is_not_talked_to() {
        let listener = Listener::open(None).unwrap();
        assert!(Connection::open(&listener.address).is_ok());
        // The same socket, under a name that claims another user.
        let foreign = Address { uid: listener.address.uid + 1, ..listener.address.clone() };
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &foreign.socket().unwrap()).unwrap();
        rustix::net::listen(&socket, 1).unwrap();
        assert_eq!(Connection::open(&foreign).unwrap_err(), AskError::Impostor);
    }

    #[test]
    fn a_sandbox_that_is_gone_is_told_from_one_that_does_not_answer() {
        let listener = Listener::open(None).unwrap();
        let address = listener.address.clone();
        let connection = Connection::open(&address).unwrap();
        connection.send(&Request::Processes, &[]).unwrap();
        let silent = connection.receive(Some(Duration::ZERO)).unwrap_err();
        assert!(silent.to_string().contains("may be stopped"));
        drop(listener);
        assert_eq!(connection.receive(None).unwrap_err(), AskError::Gone);
        assert_eq!(Connection::open(&address).unwrap_err(), AskError::Gone);
    }
}
