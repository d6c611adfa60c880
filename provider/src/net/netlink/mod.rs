//! Netlink (netlink(7)): what programs ask about interfaces, addresses, routes and sockets.
//!
//! A [`NetlinkSocket`] answers a request at once: the messages wait in its queue until they are received. Served are dumps of
//! NETLINK_ROUTE (`route`) and NETLINK_SOCK_DIAG (`diag`); NETLINK_KOBJECT_UEVENT may be listened to and is silent, since no device
//! ever comes or goes. Changes are `EPERM`, as without CAP_NET_ADMIN. With the host's network, the
//! host answers what NETLINK_ROUTE is asked (`host`).

mod diag;
pub(super) mod host;
mod message;
mod route;

use self::message::{Header, Writer};
use super::messages::{Messages, Payload};
use super::socket::{Incoming, Outgoing, Received, Shutdown, Socket};
use super::{Address, Budget, Common, Control, Kind, interface, options};
use crate::config::Network;
use crate::errno::Errno;
use crate::fs::Ready;
use crate::fs::io::buffer;
use crate::net::common::Switches;
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use linux_raw_sys::ioctl::FIONREAD;
use linux_raw_sys::net::{AF_NETLINK, MSG_TRUNC, SCM_CREDENTIALS, SOL_NETLINK, SOL_SOCKET};
use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use zerocopy::{FromBytes, IntoBytes};

/// NETLINK_ROUTE.
const ROUTE: u32 = 0;
/// NETLINK_SOCK_DIAG.
const SOCK_DIAG: u32 = 4;
/// NETLINK_KOBJECT_UEVENT.
const UEVENT: u32 = 15;
/// Bytes of a `struct sockaddr_nl`.
const ADDRESS_LEN: usize = 12;
/// The most bytes of one datagram of a dump, as Linux fills for a receiver of unknown size.
const DATAGRAM: usize = 16 * 1024;

/// NETLINK_ADD_MEMBERSHIP.
const ADD_MEMBERSHIP: u32 = 1;
/// NETLINK_DROP_MEMBERSHIP.
const DROP_MEMBERSHIP: u32 = 2;
/// NETLINK_PKTINFO.
const PKTINFO: u32 = 3;
/// NETLINK_LIST_MEMBERSHIPS.
pub const LIST_MEMBERSHIPS: u32 = 9;
/// NETLINK_GET_STRICT_CHK.
const STRICT: u32 = 12;
/// The last of the options that are on or off: from NETLINK_PKTINFO on.
const LAST_SWITCH: u32 = STRICT;

/// The port numbers of a sandbox's netlink sockets, by protocol.
#[derive(Debug)]
pub struct PortIds {
    taken: Mutex<BTreeSet<(u32, u32)>>,
}

impl Default for PortIds {
    fn default() -> Self {
        Self { taken: Mutex::new(Rank::Network, BTreeSet::new()) }
    }
}

impl PortIds {
    /// Takes a number; `EADDRINUSE`.
    fn claim(&self, protocol: u32, id: u32) -> Result<(), Errno> {
        if self.taken.lock().insert((protocol, id)) { Ok(()) } else { Err(Errno::EADDRINUSE) }
    }

    /// Takes the first number that is free: the process's id, then what no process has.
    fn claim_any(&self, protocol: u32, pid: u32) -> Result<u32, Errno> {
        /// Where the numbers start that mean no process (netlink_autobind).
        const LAST: u32 = u32::MAX - 4096;
        let mut taken = self.taken.lock();
        let id = std::iter::once(pid).chain((0..=LAST).rev()).find(|id| !taken.contains(&(protocol, *id)));
        let id = id.ok_or(Errno::EADDRINUSE)?;
        taken.insert((protocol, id));
        Ok(id)
    }

    fn release(&self, protocol: u32, id: u32) {
        self.taken.lock().remove(&(protocol, id));
    }
}

/// A netlink socket.
#[derive(Debug)]
pub struct NetlinkSocket {
    common: Common,
    budget: Arc<Budget>,
    ids: Arc<PortIds>,
    state: Mutex<State>,
    inbox: Mutex<Messages<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// Its port number, once it is bound.
    id: Option<u32>,
    /// The groups it listens to: nothing is ever sent to them.
    groups: u64,
    /// Whether groups were ever named: only then there is a list of them.
    has_groups: bool,
    /// Options that are on, by number.
    switches: u32,
}

impl NetlinkSocket {
    /// Makes a socket; `EPROTONOSUPPORT` for a protocol that is not served.
    pub fn new(task: &CurrentTask<'_>, kind: u32, protocol: u32) -> Result<Arc<Self>, Errno> {
        let kind = match kind {
            2 => Kind::Datagram,
            3 => Kind::Raw,
            _ => return Err(Errno::ESOCKTNOSUPPORT),
        };
        if !matches!(protocol, ROUTE | SOCK_DIAG | UEVENT) {
            return Err(task.unsupported("socket: a netlink protocol", Errno::EPROTONOSUPPORT));
        }
        let network = task.kernel().network();
        Ok(Arc::new(Self {
            common: Common::new(task, AF_NETLINK, kind, protocol),
            budget: network.budget().clone(),
            ids: network.netlink().clone(),
            state: Mutex::new(Rank::Socket, State::default()),
            inbox: Mutex::new(Rank::SocketBuffer, Messages::default()),
        }))
    }

    /// Reads a `struct sockaddr_nl`: port number and groups.
    fn parse(address: &[u8]) -> Result<(u32, u32), Errno> {
        let bytes = address.get(..ADDRESS_LEN).ok_or(Errno::EINVAL)?;
        if super::address::family(bytes) != Some(AF_NETLINK) {
            return Err(Errno::EINVAL);
        }
        let word = |at: usize| bytes[at..at + 4].try_into().map_or(0, u32::from_ne_bytes);
        Ok((word(4), word(8)))
    }

    fn address(id: u32, groups: u32) -> Address {
        let family = u16::try_from(AF_NETLINK).unwrap_or_default().to_ne_bytes();
        Address::new(&[&family[..], &[0, 0], &id.to_ne_bytes(), &groups.to_ne_bytes()].concat())
    }

    /// The port number; one is claimed if there is none.
    fn id(&self, task: &CurrentTask<'_>) -> Result<u32, Errno> {
        if let Some(id) = self.state.lock().id {
            return Ok(id);
        }
        let pid = task.group().pid().0.unsigned_abs();
        let id = self.ids.claim_any(self.common.protocol, pid)?;
        self.state.lock().id = Some(id);
        Ok(id)
    }

    /// Puts a datagram of the kernel's own into its queue; `ENOBUFS`.
    pub(crate) fn deliver(&self, bytes: Vec<u8>) -> Result<(), Errno> {
        let payload = Payload::new(bytes, &self.budget)?;
        self.inbox.lock().push(payload, ());
        self.common.queue.wake(Ready::IN | Ready::RDNORM);
        Ok(())
    }

    /// The last group that its protocol has (RTNLGRP_MAX); the others have room for the 32 of an address.
    fn last_group(&self) -> u32 {
        if self.common.protocol == ROUTE { 36 } else { 32 }
    }

    /// Serves the requests in a datagram (netlink_rcv_skb).
    fn serve(&self, task: &CurrentTask<'_>, bytes: &[u8], id: u32) -> Result<(), Errno> {
        let mut rest = bytes;
        while let Ok((header, _)) = Header::read_from_prefix(rest) {
            let len = usize::try_from(header.len).unwrap_or(usize::MAX);
            let Some(body) = rest.get(size_of::<Header>()..len) else { break };
            if header.flags & message::REQUEST != 0 && header.kind >= message::FIRST_KIND {
                self.answer(task, &header, body, id)?;
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }

    fn answer(&self, task: &CurrentTask<'_>, header: &Header, body: &[u8], id: u32) -> Result<(), Errno> {
        let mut writer = Writer::new(header, id);
        let has_host = task.kernel().config().network == Network::Host;
        if has_host && self.common.protocol == ROUTE && host::answers(header, body) {
            for datagram in host::ask(header, body, id)? {
                self.deliver(datagram)?;
            }
            return Ok(());
        }
        let served = match self.common.protocol {
            ROUTE => {
                let may_change = !route::asks(header.kind) && task.credentials().has(options::NET_ADMIN);
                route::serve(header, body, may_change, &mut writer)
            }
            SOCK_DIAG => diag::serve(task, header, body, &mut writer),
            _ => Err(Errno::ECONNREFUSED),
        };
        let is_dump = header.is_dump() && (self.common.protocol != ROUTE || route::asks(header.kind));
        match served {
            Ok(()) if is_dump => writer.done(),
            Ok(()) if header.flags & message::ACK != 0 => writer.acknowledge(header, None),
            Ok(()) => {}
            Err(error) => {
                task.kernel().counters().unsupported("netlink: a request");
                writer.acknowledge(header, Some(error));
            }
        }
        for datagram in writer.datagrams(DATAGRAM) {
            self.deliver(datagram)?;
        }
        Ok(())
    }
}

impl Socket for NetlinkSocket {
    fn common(&self) -> &Common {
        &self.common
    }

    fn bind(&self, task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno> {
        let (id, groups) = Self::parse(address)?;
        let bound = self.state.lock().id;
        match bound {
            Some(bound) if id != bound => return Err(Errno::EINVAL),
            Some(_) => {}
            None if id == 0 => drop(self.id(task)?),
            None => {
                self.ids.claim(self.common.protocol, id)?;
                self.state.lock().id = Some(id);
            }
        }
        let mut state = self.state.lock();
        state.groups = state.groups & !u64::from(u32::MAX) | u64::from(groups);
        state.has_groups |= groups != 0;
        Ok(())
    }

    fn connect(&self, task: &CurrentTask<'_>, address: &[u8]) -> Result<(), Errno> {
        if super::address::is_unspecified(address) {
            return Ok(());
        }
        let (to, groups) = Self::parse(address)?;
        if to != 0 || groups != 0 {
            return Err(Errno::EPERM);
        }
        self.id(task).map(|_| ())
    }

    fn local_address(&self) -> Result<Address, Errno> {
        let state = self.state.lock();
        let groups = u32::try_from(state.groups & u64::from(u32::MAX)).unwrap_or_default();
        Ok(Self::address(state.id.unwrap_or_default(), groups))
    }

    fn peer_address(&self) -> Result<Address, Errno> {
        Ok(Self::address(0, 0))
    }

    fn send(&self, task: &CurrentTask<'_>, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        if let Some(to) = message.to {
            let (to, groups) = Self::parse(to)?;
            // Other programs' sockets are not reached, groups only with CAP_NET_ADMIN.
            if groups != 0 {
                return Err(Errno::EPERM);
            }
            if to != 0 {
                return Err(Errno::ECONNREFUSED);
            }
        }
        let id = self.id(task)?;
        let len = message.data.remaining();
        if len > self.common.options().send_buffer {
            return Err(Errno::EMSGSIZE);
        }
        let mut bytes = buffer(len)?;
        if len > 0 && message.data.take(&mut bytes)? < len {
            return Err(Errno::EFAULT);
        }
        self.serve(task, &bytes, id)?;
        Ok(len)
    }

    fn receive(&self, _task: &CurrentTask<'_>, message: &mut Incoming<'_>) -> Result<Received, Errno> {
        use crate::net::MessageFlags;
        if message.flags.contains(MessageFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        self.common.check_error()?;
        let wants_credentials = self.common.has(Switches::PASSCRED);
        let mut inbox = self.inbox.lock();
        let (payload, ()) = inbox.front().ok_or(Errno::EAGAIN)?;
        let shown = payload.show(message.data)?;
        let whole = payload.bytes().len();
        let mut received = Received {
            len: if message.flags.contains(MessageFlags::TRUNC) { whole } else { shown },
            from: Some(Self::address(0, 0)),
            flags: if shown < whole { MSG_TRUNC } else { 0 },
            is_complete: true,
            ..Received::default()
        };
        if wants_credentials {
            // The kernel's.
            received.control.push(Control::data(SOL_SOCKET, SCM_CREDENTIALS, [0u32; 3].as_bytes()));
        }
        let taken = if message.flags.contains(MessageFlags::PEEK) { None } else { inbox.pop() };
        drop(inbox);
        drop(taken);
        Ok(received)
    }

    fn shutdown(&self, _how: Shutdown) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn option(&self, task: &CurrentTask<'_>, level: u32, name: u32, room: usize) -> Result<Vec<u8>, Errno> {
        match (level, name) {
            (SOL_NETLINK, LIST_MEMBERSHIPS) => {
                let state = self.state.lock();
                let words = if state.has_groups { self.last_group().div_ceil(32) as usize } else { 0 };
                Ok(state.groups.as_bytes()[..words * size_of::<u32>()].to_vec())
            }
            (SOL_NETLINK, PKTINFO..=LAST_SWITCH) => Ok(options::int_bytes(self.state.lock().switches >> name & 1)),
            _ => options::get(&self.common, task, level, name, room),
        }
    }

    fn set_option(&self, task: &CurrentTask<'_>, level: u32, name: u32, value: &[u8]) -> Result<(), Errno> {
        if level != SOL_NETLINK {
            return options::set(&self.common, task, level, name, value);
        }
        let number = options::int(value)?;
        let mut state = self.state.lock();
        match name {
            ADD_MEMBERSHIP | DROP_MEMBERSHIP => {
                let last = self.last_group();
                let group = u32::try_from(number).ok().filter(|group| (1..=last).contains(group));
                let bit = 1 << (group.ok_or(Errno::EINVAL)? - 1);
                state.has_groups = true;
                state.groups = if name == ADD_MEMBERSHIP { state.groups | bit } else { state.groups & !bit };
            }
            PKTINFO..=LAST_SWITCH => {
                let bit = 1 << name;
                state.switches = if number != 0 { state.switches | bit } else { state.switches & !bit };
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        if request != FIONREAD {
            return interface::control(task, request, arg);
        }
        // Netlink does not know it.
        Err(Errno::ENOTTY)
    }

    fn ready(&self) -> Ready {
        let mut ready = Ready::OUT | Ready::WRNORM | Ready::WRBAND;
        if !self.inbox.lock().is_empty() {
            ready |= Ready::IN | Ready::RDNORM;
        }
        ready
    }

    fn close(&self) {
        let id = self.state.lock().id.take();
        if let Some(id) = id {
            self.ids.release(self.common.protocol, id);
        }
        let dropped = std::mem::take(&mut *self.inbox.lock());
        drop(dropped);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
