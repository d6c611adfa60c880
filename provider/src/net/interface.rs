//! Interfaces, and the device control by which any socket asks for them (netdevice(7)).
//!
//! A sandbox has a loopback interface of its own, or the host's interfaces.

use super::netlink::host;
use super::options::{LOOPBACK_INDEX, LOOPBACK_NAME, NET_ADMIN};
use crate::config::Network;
use crate::errno::Errno;
use crate::task::CurrentTask;
use crate::user::{UserIn, UserOut};
use linux_raw_sys::ioctl::{
    SIOCGIFADDR, SIOCGIFBRDADDR, SIOCGIFCONF, SIOCGIFDSTADDR, SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFMETRIC,
    SIOCGIFMTU, SIOCGIFNAME, SIOCGIFNETMASK, SIOCGIFTXQLEN, SIOCSIFFLAGS,
};
use linux_raw_sys::net::AF_INET;
use std::net::Ipv4Addr;
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The loopback interface's MTU.
pub const MTU: u32 = 65536;
/// IFF_UP, IFF_LOOPBACK and IFF_RUNNING.
pub const FLAGS: u16 = 0x1 | 0x8 | 0x40;
/// ARPHRD_LOOPBACK.
pub const HARDWARE: u16 = 772;
/// Packets that its queue takes.
pub const QUEUE: u32 = 1000;

/// Bytes of a name (IFNAMSIZ).
const NAME: usize = 16;
/// Bytes of a station's address that a request has room for.
const STATION: usize = 14;

/// An interface.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Interface {
    pub index: u32,
    pub name: Vec<u8>,
    /// IFF_*.
    pub flags: u32,
    /// ARPHRD_*.
    pub hardware: u16,
    /// Its own address on the link.
    pub station: Vec<u8>,
    pub mtu: u32,
    /// Packets that its queue takes.
    pub queue: u32,
    /// Its IPv4 addresses, the primary one first.
    pub addresses: Vec<Assigned>,
}

/// An IPv4 address of an interface.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Assigned {
    pub address: Ipv4Addr,
    /// The other end of a link between two; else the same.
    pub peer: Ipv4Addr,
    pub broadcast: Ipv4Addr,
    /// Bits of the network.
    pub prefix: u8,
    /// The name it is listed by.
    pub label: Vec<u8>,
}

impl Default for Assigned {
    fn default() -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        Self { address: none, peer: none, broadcast: none, prefix: 0, label: Vec::new() }
    }
}

impl Assigned {
    fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or_default())
    }
}

/// The sandbox's interfaces.
fn interfaces(task: &CurrentTask<'_>) -> Result<Vec<Interface>, Errno> {
    if task.kernel().config().network == Network::Host {
        return host::interfaces();
    }
    let local = Ipv4Addr::LOCALHOST;
    let address =
        Assigned { address: local, peer: local, prefix: 8, label: LOOPBACK_NAME.to_vec(), ..Assigned::default() };
    Ok(vec![Interface {
        index: LOOPBACK_INDEX,
        name: LOOPBACK_NAME.to_vec(),
        flags: u32::from(FLAGS),
        hardware: HARDWARE,
        station: vec![0; 6],
        mtu: MTU,
        queue: QUEUE,
        addresses: vec![address],
    }])
}

/// `struct ifreq`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Request {
    name: [u8; NAME],
    value: [u8; 24],
}

/// `struct ifconf`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct List {
    bytes: i32,
    padding: u32,
    at: u64,
}

const _: () = assert!(size_of::<Request>() == 40 && size_of::<List>() == 16);

impl Request {
    fn of(name: &[u8]) -> Self {
        let mut request = Self { name: [0; NAME], value: [0; 24] };
        request.put_name(name);
        request
    }

    fn put_name(&mut self, name: &[u8]) {
        let len = name.len().min(NAME - 1);
        self.name = [0; NAME];
        self.name[..len].copy_from_slice(&name[..len]);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.value[..bytes.len()].copy_from_slice(bytes);
    }

    fn put_address(&mut self, address: Ipv4Addr) {
        let family = u16::try_from(AF_INET).unwrap_or_default().to_ne_bytes();
        self.put(&[&family[..], &[0, 0], &address.octets()].concat());
    }

    fn names(&self, name: &[u8]) -> bool {
        self.name.split(|byte| *byte == 0).next() == Some(name)
    }
}

/// Answers the requests about interfaces; `ENOTTY` for others, `ENODEV` for an interface that is not there, `EADDRNOTAVAIL` for the
/// address of one that has none.
pub fn control(task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
    let at = UserAddr(arg);
    match request {
        SIOCGIFCONF => list(task, at)?,
        SIOCGIFNAME => {
            let mut asked: Request = UserIn::new(at).read(task)?;
            let interfaces = interfaces(task)?;
            let found = interfaces.iter().find(|interface| asked.value[..4] == interface.index.to_ne_bytes());
            asked.put_name(&found.ok_or(Errno::ENODEV)?.name);
            UserOut::new(at).write(task, &asked)?;
        }
        SIOCGIFADDR | SIOCGIFBRDADDR | SIOCGIFDSTADDR | SIOCGIFFLAGS | SIOCGIFHWADDR | SIOCGIFINDEX | SIOCGIFMETRIC
        | SIOCGIFMTU | SIOCGIFNETMASK | SIOCGIFTXQLEN => {
            let mut asked: Request = UserIn::new(at).read(task)?;
            let interfaces = interfaces(task)?;
            let found = interfaces.iter().find(|interface| asked.names(&interface.name)).ok_or(Errno::ENODEV)?;
            answer(request, found, &mut asked)?;
            UserOut::new(at).write(task, &asked)?;
        }
        SIOCSIFFLAGS => set_flags(task, &UserIn::new(at).read(task)?)?,
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

/// SIOCSIFFLAGS: the sandbox's own interface may be told to be up, as it is; `EPERM` for all else.
fn set_flags(task: &CurrentTask<'_>, asked: &Request) -> Result<(), Errno> {
    /// IFF_UP.
    const UP: u8 = 1;
    let is_own = task.kernel().config().network != Network::Host;
    if !is_own || !task.credentials().has(NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    if !asked.names(LOOPBACK_NAME) {
        return Err(Errno::ENODEV);
    }
    if asked.value[0] & UP != 0 { Ok(()) } else { Err(Errno::EPERM) }
}

fn answer(request: u32, interface: &Interface, asked: &mut Request) -> Result<(), Errno> {
    let address = || interface.addresses.first().ok_or(Errno::EADDRNOTAVAIL);
    match request {
        SIOCGIFADDR => asked.put_address(address()?.address),
        SIOCGIFDSTADDR => asked.put_address(address()?.peer),
        SIOCGIFBRDADDR => asked.put_address(address()?.broadcast),
        SIOCGIFNETMASK => asked.put_address(address()?.mask()),
        // The low half, which is all that a request has room for.
        SIOCGIFFLAGS => asked.put(&interface.flags.to_ne_bytes()[..2]),
        SIOCGIFHWADDR => {
            let station = &interface.station[..interface.station.len().min(STATION)];
            asked.put(&[&interface.hardware.to_ne_bytes()[..], station].concat());
        }
        SIOCGIFINDEX => asked.put(&interface.index.to_ne_bytes()),
        SIOCGIFMETRIC => asked.put(&0u32.to_ne_bytes()),
        SIOCGIFMTU => asked.put(&interface.mtu.to_ne_bytes()),
        _ => asked.put(&interface.queue.to_ne_bytes()),
    }
    Ok(())
}

/// SIOCGIFCONF: the interfaces with an IPv4 address, as many as there is room for. Without a buffer, the bytes that they take.
fn list(task: &CurrentTask<'_>, at: UserAddr) -> Result<(), Errno> {
    let mut asked: List = UserIn::new(at).read(task)?;
    let interfaces = interfaces(task)?;
    let entries: Vec<Request> = interfaces
        .iter()
        .flat_map(|interface| &interface.addresses)
        .map(|assigned| {
            let mut entry = Request::of(&assigned.label);
            entry.put_address(assigned.address);
            entry
        })
        .collect();
    let room = usize::try_from(asked.bytes).unwrap_or_default() / size_of::<Request>();
    let shown = if asked.at == 0 { &entries[..] } else { &entries[..room.min(entries.len())] };
    if asked.at != 0 {
        task.mm().write(UserAddr(asked.at), shown.as_bytes())?;
    }
    asked.bytes = i32::try_from(size_of_val(shown)).unwrap_or(i32::MAX);
    UserOut::new(at).write(task, &asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_as_many_bits_as_the_network() {
        let mask = |prefix| Assigned { prefix, ..Assigned::default() }.mask().to_string();
        assert_eq!(
            [0, 8, 20, 32, 200].map(mask),
            ["0.0.0.0", "255.0.0.0", "255.255.240.0", "255.255.255.255", "255.255.255.255"]
        );
    }
}
