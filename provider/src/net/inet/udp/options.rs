//! The options of UDP (udp(7)), and device control.

use super::{Reach, UDP, UdpSocket};
use crate::errno::Errno;
use crate::net::inet::number::{IP_RECVERR, IPV6_RECVERR};
use crate::net::options::{get, int, int_bytes, peer_name, set};
use crate::net::{Socket, interface};
use crate::task::CurrentTask;
use crate::user::UserOut;
use linux_raw_sys::ioctl::{FIONREAD, SIOCGSTAMP_NEW, SIOCGSTAMPNS_NEW, TIOCOUTQ};
use linux_raw_sys::net::{
    SIOCGSTAMP_OLD, SIOCGSTAMPNS_OLD, SO_ACCEPTCONN, SO_PEERNAME, SO_REUSEADDR, SO_REUSEPORT, SOL_IP, SOL_IPV6,
    SOL_SOCKET, SOL_UDP, SOL_UDPLITE,
};
use vmm::addr::UserAddr;

/// UDP_CORK.
const UDP_CORK: u32 = 1;
/// UDPLITE_SEND_CSCOV.
const SEND_COVERAGE: u32 = 10;
/// UDPLITE_RECV_CSCOV.
const RECEIVE_COVERAGE: u32 = 11;

impl UdpSocket {
    /// Sets an option.
    pub(super) fn write_option(
        &self,
        task: &CurrentTask<'_>,
        level: u32,
        name: u32,
        value: &[u8],
    ) -> Result<(), Errno> {
        match level {
            SOL_SOCKET => {
                set(&self.common, task, level, name, value)?;
                if matches!(name, SO_REUSEADDR | SO_REUSEPORT) {
                    self.share_port();
                }
                Ok(())
            }
            SOL_IP | SOL_IPV6 => {
                let is_bound = self.state.lock().local.is_some();
                self.endpoint.set_ip_option(&self.common, task, (level, name), value, is_bound)?;
                let is_switch = matches!((level, name), (SOL_IP, IP_RECVERR) | (SOL_IPV6, IPV6_RECVERR));
                if is_switch && !self.endpoint.options().is_on(level, name) {
                    self.drop_errors();
                }
                Ok(())
            }
            SOL_UDP | SOL_UDPLITE => match (name, int(value)?) {
                (UDP_CORK, 0) => Ok(()),
                // Nothing is damaged on the way, so how much of it a checksum covers changes nothing.
                (SEND_COVERAGE | RECEIVE_COVERAGE, _) if self.common.protocol != UDP => Ok(()),
                _ => Err(task.unsupported("setsockopt: an option of UDP", Errno::ENOPROTOOPT)),
            },
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    /// What it shares of its port has changed.
    fn share_port(&self) {
        let local = self.state.lock().local;
        if let Some(local) = local {
            let sharing = self.claim(Reach::one(local.address.ip())).sharing;
            self.ports().share(local.address.port(), self.common.inode, sharing);
        }
    }

    /// Reads an option.
    pub(super) fn read_option(
        &self,
        task: &CurrentTask<'_>,
        level: u32,
        name: u32,
        room: usize,
    ) -> Result<Vec<u8>, Errno> {
        match (level, name) {
            (SOL_SOCKET, SO_ACCEPTCONN) => Ok(int_bytes(0)),
            (SOL_SOCKET, SO_PEERNAME) => peer_name(&self.peer_address()?, room),
            (SOL_SOCKET, _) => get(&self.common, task, level, name, room),
            (SOL_IP | SOL_IPV6, _) => {
                let is_connected = self.state.lock().remote.is_some();
                self.endpoint.ip_option(task, (level, name), room, is_connected)
            }
            (SOL_UDP | SOL_UDPLITE, UDP_CORK) => Ok(int_bytes(0)),
            (SOL_UDP | SOL_UDPLITE, _) => Err(Errno::ENOPROTOOPT),
            _ => Err(self.endpoint.unknown_level()),
        }
    }

    /// Device control: how much waits, and what all sockets answer.
    pub(super) fn control(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        let count = match request {
            FIONREAD => self.inbox.lock().front().map_or(0, |(payload, _)| payload.bytes().len()),
            // What is sent has arrived.
            TIOCOUTQ => 0,
            SIOCGSTAMP_OLD | SIOCGSTAMP_NEW | SIOCGSTAMPNS_OLD | SIOCGSTAMPNS_NEW => {
                let at = self.stamp()?;
                let is_fine = matches!(request, SIOCGSTAMPNS_OLD | SIOCGSTAMPNS_NEW);
                let fraction = if is_fine { at.nanoseconds } else { at.nanoseconds / 1000 };
                UserOut::new(UserAddr(arg)).write(task, &[at.seconds, i64::from(fraction)])?;
                return Ok(0);
            }
            _ => return interface::control(task, request, arg),
        };
        UserOut::new(UserAddr(arg)).write(task, &i32::try_from(count).unwrap_or(i32::MAX))?;
        Ok(0)
    }
}
