//! Options and device control of Unix sockets.

use super::{Phase, UnixSocket};
use crate::errno::Errno;
use crate::net::options::{get, int_bytes, peer_name};
use crate::net::{Kind, Socket, interface};
use crate::task::CurrentTask;
use crate::user::UserOut;
use linux_raw_sys::ioctl::{FIONREAD, TIOCOUTQ};
use linux_raw_sys::net::{SO_ACCEPTCONN, SO_PEERCRED, SO_PEERGROUPS, SO_PEERNAME, SOL_SOCKET};
use std::sync::atomic::Ordering;
use vmm::addr::UserAddr;
use zerocopy::IntoBytes;

impl UnixSocket {
    /// Reads an option.
    pub(super) fn read_option(
        &self,
        task: &CurrentTask<'_>,
        level: u32,
        name: u32,
        room: usize,
    ) -> Result<Vec<u8>, Errno> {
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        let credentials = || self.state.lock().peer_credentials.clone();
        Ok(match name {
            SO_ACCEPTCONN => int_bytes(i32::from(matches!(self.state.lock().phase, Phase::Listening(_)))),
            SO_PEERCRED => match credentials() {
                Some(credentials) => credentials.user.as_bytes().to_vec(),
                // Nobody: no process, and the ids that mean none.
                None => [0i32, -1, -1].as_bytes().to_vec(),
            },
            SO_PEERGROUPS => {
                let groups = credentials().ok_or(Errno::ENODATA)?.groups;
                if room < size_of_val(&*groups) {
                    return Err(Errno::ERANGE);
                }
                groups.as_bytes().to_vec()
            }
            SO_PEERNAME => peer_name(&self.peer_address()?, room)?,
            _ => return get(&self.common, task, level, name, room),
        })
    }

    /// Device control: how much waits, and what all sockets answer.
    pub(super) fn control(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        let count = match request {
            FIONREAD => {
                if matches!(self.state.lock().phase, Phase::Listening(_)) {
                    return Err(Errno::EINVAL);
                }
                let mut inbox = self.inbox.lock();
                match (self.common.kind, inbox.packets()) {
                    (Kind::Datagram, Some(packets)) => {
                        packets.messages.front().map_or(0, |(payload, _)| payload.bytes().len())
                    }
                    _ => inbox.len(),
                }
            }
            TIOCOUTQ => match (self.common.kind, self.peer()) {
                (Kind::Stream, Some(Some(peer))) => peer.inbox.lock().len(),
                _ => self.in_flight.load(Ordering::SeqCst),
            },
            _ => return interface::control(task, request, arg),
        };
        UserOut::new(UserAddr(arg)).write(task, &i32::try_from(count).unwrap_or(i32::MAX))?;
        Ok(0)
    }
}
