//! The loopback interface, and the device control by which any socket asks for it (netdevice(7)).

use super::options::{LOOPBACK_INDEX, LOOPBACK_NAME};
use crate::errno::Errno;
use crate::task::CurrentTask;
use crate::user::{UserIn, UserOut};
use linux_raw_sys::ioctl::{
    SIOCGIFADDR, SIOCGIFBRDADDR, SIOCGIFCONF, SIOCGIFDSTADDR, SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFMETRIC,
    SIOCGIFMTU, SIOCGIFNAME, SIOCGIFNETMASK, SIOCGIFTXQLEN,
};
use linux_raw_sys::net::AF_INET;
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The interface's MTU.
pub const MTU: u32 = 65536;
/// IFF_UP, IFF_LOOPBACK and IFF_RUNNING.
pub const FLAGS: u16 = 0x1 | 0x8 | 0x40;
/// ARPHRD_LOOPBACK.
pub const HARDWARE: u16 = 772;
/// Packets that its queue takes.
pub const QUEUE: u32 = 1000;

/// Bytes of a name (IFNAMSIZ).
const NAME: usize = 16;

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
    fn of_loopback() -> Self {
        let mut name = [0; NAME];
        name[..LOOPBACK_NAME.len()].copy_from_slice(LOOPBACK_NAME);
        Self { name, value: [0; 24] }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.value[..bytes.len()].copy_from_slice(bytes);
    }

    fn put_address(&mut self, octets: [u8; 4]) {
        let family = u16::try_from(AF_INET).unwrap_or_default().to_ne_bytes();
        self.put(&[&family[..], &[0, 0], &octets].concat());
    }

    fn is_loopback(&self) -> bool {
        self.name.split(|byte| *byte == 0).next() == Some(LOOPBACK_NAME)
    }
}

/// Answers the requests about interfaces; `ENOTTY` for others.
pub fn control(task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
    let at = UserAddr(arg);
    match request {
        SIOCGIFCONF => list(task, at)?,
        SIOCGIFNAME => {
            let mut asked: Request = UserIn::new(at).read(task)?;
            if asked.value[..4] != LOOPBACK_INDEX.to_ne_bytes() {
                return Err(Errno::ENODEV);
            }
            asked.name = Request::of_loopback().name;
            UserOut::new(at).write(task, &asked)?;
        }
        SIOCGIFADDR | SIOCGIFBRDADDR | SIOCGIFDSTADDR | SIOCGIFFLAGS | SIOCGIFHWADDR | SIOCGIFINDEX | SIOCGIFMETRIC
        | SIOCGIFMTU | SIOCGIFNETMASK | SIOCGIFTXQLEN => {
            let mut asked: Request = UserIn::new(at).read(task)?;
            if !asked.is_loopback() {
                return Err(Errno::ENODEV);
            }
            answer(request, &mut asked);
            UserOut::new(at).write(task, &asked)?;
        }
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

fn answer(request: u32, asked: &mut Request) {
    match request {
        SIOCGIFADDR | SIOCGIFDSTADDR => asked.put_address([127, 0, 0, 1]),
        SIOCGIFBRDADDR => asked.put_address([0; 4]),
        SIOCGIFNETMASK => asked.put_address([255, 0, 0, 0]),
        SIOCGIFFLAGS => asked.put(&FLAGS.to_ne_bytes()),
        SIOCGIFHWADDR => asked.put(&[&HARDWARE.to_ne_bytes()[..], &[0; 6]].concat()),
        SIOCGIFINDEX => asked.put(&LOOPBACK_INDEX.to_ne_bytes()),
        SIOCGIFMETRIC => asked.put(&0u32.to_ne_bytes()),
        SIOCGIFMTU => asked.put(&MTU.to_ne_bytes()),
        _ => asked.put(&QUEUE.to_ne_bytes()),
    }
}

/// SIOCGIFCONF: the interfaces with an IPv4 address. Without a buffer, the bytes that they take.
fn list(task: &CurrentTask<'_>, at: UserAddr) -> Result<(), Errno> {
    let mut asked: List = UserIn::new(at).read(task)?;
    let mut entry = Request::of_loopback();
    entry.put_address([127, 0, 0, 1]);
    let size = i32::try_from(size_of::<Request>()).unwrap_or_default();
    if asked.at == 0 {
        asked.bytes = size;
    } else if asked.bytes < size {
        asked.bytes = 0;
    } else {
        UserOut::new(UserAddr(asked.at)).write(task, &entry)?;
        asked.bytes = size;
    }
    UserOut::new(at).write(task, &asked)
}
