//! The options of TCP (tcp(7)), and device control.

use super::{Phase, TcpSocket};
use crate::errno::Errno;
use crate::fs::Ready;
use crate::net::options::{congestion_name, get, int, int_bytes, peer_name, set};
use crate::net::{Socket, interface};
use crate::task::CurrentTask;
use crate::user::UserOut;
use linux_raw_sys::ioctl::{FIONREAD, SIOCATMARK, SIOCGSTAMP_NEW, SIOCGSTAMPNS_NEW, TIOCOUTQ};
use linux_raw_sys::net::{
    SIOCGSTAMP_OLD, SIOCGSTAMPNS_OLD, SO_ACCEPTCONN, SO_PEERNAME, SO_REUSEADDR, SO_REUSEPORT, SO_SNDBUF,
    SO_SNDBUFFORCE, SOL_IP, SOL_IPV6, SOL_SOCKET, SOL_TCP, TCP_CONGESTION, TCP_CORK, TCP_DEFER_ACCEPT, TCP_FASTOPEN,
    TCP_FASTOPEN_CONNECT, TCP_INFO, TCP_INQ, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_LINGER2, TCP_MAXSEG,
    TCP_NODELAY, TCP_NOTSENT_LOWAT, TCP_QUICKACK, TCP_REPAIR, TCP_SYNCNT, TCP_THIN_DUPACK, TCP_THIN_LINEAR_TIMEOUTS,
    TCP_ULP, TCP_USER_TIMEOUT, TCP_WINDOW_CLAMP,
};
use vmm::addr::UserAddr;

/// Options that keep an `int`: number, what it is at first, least and greatest; `EINVAL` beyond.
const NUMBERS: &[(u32, i32, i32, i32)] = &[
    (TCP_KEEPIDLE, 7200, 1, 32767),
    (TCP_KEEPINTVL, 75, 1, 32767),
    (TCP_KEEPCNT, 9, 1, 127),
    (TCP_SYNCNT, 6, 1, 127),
    (TCP_LINGER2, 60, i32::MIN, i32::MAX),
    (TCP_DEFER_ACCEPT, 0, i32::MIN, i32::MAX),
    (TCP_WINDOW_CLAMP, 0, i32::MIN, i32::MAX),
    (TCP_USER_TIMEOUT, 0, 0, i32::MAX),
    (TCP_FASTOPEN, 0, 0, i32::MAX),
    (TCP_NOTSENT_LOWAT, -1, i32::MIN, i32::MAX),
    (TCP_THIN_LINEAR_TIMEOUTS, 0, 0, 1),
    (TCP_THIN_DUPACK, 0, 0, 1),
    (TCP_FASTOPEN_CONNECT, 0, 0, 1),
    (TCP_INQ, 0, 0, 1),
];
/// Options that are on or off: number and what they are at first.
const SWITCHES: &[(u32, i32)] = &[(TCP_NODELAY, 0), (TCP_CORK, 0), (TCP_QUICKACK, 1)];

/// The segment size of a connection over the loopback interface, and of none.
const SEGMENT: i32 = 65_483;
/// The segment size that a socket without a connection assumes (TCP_MSS_DEFAULT).
const SEGMENT_DEFAULT: i32 = 536;

/// The options of TCP that a socket has.
#[derive(Clone, Debug)]
pub(super) struct TcpOptions {
    /// Those that differ from what they are at first.
    kept: Vec<(u32, i32)>,
    /// TCP_MAXSEG.
    segment: Option<i32>,
    /// TCP_CONGESTION. Nothing is ever congested; it is kept for whoever asks.
    congestion: &'static [u8],
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self { kept: Vec::new(), segment: None, congestion: b"cubic" }
    }
}

impl TcpOptions {
    /// The value of one of [`NUMBERS`] or [`SWITCHES`].
    pub(super) fn value(&self, name: u32) -> Option<i32> {
        let kept = self.kept.iter().find(|(number, _)| *number == name).map(|(_, value)| *value);
        let first = || NUMBERS.iter().find(|(number, ..)| *number == name).map(|(_, first, ..)| *first);
        let switch = || SWITCHES.iter().find(|(number, _)| *number == name).map(|(_, first)| *first);
        kept.or_else(first).or_else(switch)
    }

    fn keep(&mut self, name: u32, value: i32) {
        self.kept.retain(|(number, _)| *number != name);
        self.kept.push((name, value));
    }
}

/// What an option keeps of a number that it was given (do_tcp_setsockopt).
fn as_kept(name: u32, number: i32) -> i32 {
    /// The least window that is clamped to: half of the smallest buffer.
    const WINDOW_MIN: i32 = 1152;
    /// The longest TCP_LINGER2 in seconds (TCP_FIN_TIMEOUT_MAX).
    const LINGER_MAX: i32 = 120;
    match (name, number) {
        (TCP_WINDOW_CLAMP | TCP_DEFER_ACCEPT, 0) => 0,
        (TCP_WINDOW_CLAMP, _) => number.max(WINDOW_MIN),
        (TCP_DEFER_ACCEPT, _) => deferral(number),
        (TCP_LINGER2, ..0) => -1,
        (TCP_LINGER2, 0) => 60,
        (TCP_LINGER2, _) => number.min(LINGER_MAX),
        _ => number,
    }
}

/// The seconds that TCP_DEFER_ACCEPT counts in retransmissions: of 1, 2, 4… seconds, none longer than two minutes.
fn deferral(seconds: i32) -> i32 {
    /// The most retransmissions.
    const MOST: u32 = 255;
    let (mut total, mut step) = (0, 1);
    for _ in 0..MOST {
        if total >= seconds {
            break;
        }
        total += step;
        step = (step * 2).min(120);
    }
    total
}

impl TcpSocket {
    fn is_established(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Connected(_)) && !self.is_over()
    }

    /// The segment size as TCP_MAXSEG shows it.
    pub(super) fn segment(&self) -> i32 {
        let asked = self.options.lock().segment;
        if self.is_established() { asked.unwrap_or(SEGMENT).min(SEGMENT) } else { asked.unwrap_or(SEGMENT_DEFAULT) }
    }

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
                match name {
                    SO_REUSEADDR | SO_REUSEPORT => self.share_port(),
                    // There may be room now (sk_write_space).
                    SO_SNDBUF | SO_SNDBUFFORCE => self.common.queue.wake(Ready::OUT | Ready::WRNORM),
                    _ => {}
                }
                Ok(())
            }
            SOL_IP | SOL_IPV6 => {
                let is_bound = self.state.lock().local.is_some();
                self.endpoint.set_ip_option(&self.common, task, (level, name), value, is_bound)
            }
            SOL_TCP => self.write_tcp_option(task, name, value),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    /// What it shares of its port has changed.
    fn share_port(&self) {
        let local = self.state.lock().local;
        if let Some(local) = local {
            self.stack.tcp.share(local.address.port(), self.common.inode, self.claim(local.reach, false).sharing);
        }
    }

    fn write_tcp_option(&self, task: &CurrentTask<'_>, name: u32, value: &[u8]) -> Result<(), Errno> {
        match name {
            TCP_CONGESTION => return self.choose_congestion(value),
            // Kernel TLS is a module that is not loaded.
            TCP_ULP if value.is_empty() => return Err(Errno::EINVAL),
            TCP_ULP => return Err(task.unsupported("setsockopt: TCP_ULP", Errno::ENOENT)),
            _ => {}
        }
        let number = int(value)?;
        let mut options = self.options.lock();
        if name == TCP_MAXSEG {
            if number != 0 && !(88..=32767).contains(&number) {
                return Err(Errno::EINVAL);
            }
            options.segment = (number != 0).then_some(number);
        } else if let Some((.., least, most)) = NUMBERS.iter().find(|(known, ..)| *known == name) {
            if !(*least..=*most).contains(&number) {
                return Err(Errno::EINVAL);
            }
            options.keep(name, as_kept(name, number));
        } else if SWITCHES.iter().any(|(known, _)| *known == name) {
            options.keep(name, i32::from(number != 0));
        } else if name == TCP_REPAIR {
            return Err(Errno::EPERM);
        } else {
            drop(options);
            return Err(task.unsupported("setsockopt: an option of TCP", Errno::ENOPROTOOPT));
        }
        Ok(())
    }

    fn choose_congestion(&self, value: &[u8]) -> Result<(), Errno> {
        const KNOWN: [&[u8]; 2] = [b"cubic", b"reno"];
        if value.is_empty() {
            return Err(Errno::EINVAL);
        }
        let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
        let chosen = KNOWN.into_iter().find(|known| *known == name).ok_or(Errno::ENOENT)?;
        self.options.lock().congestion = chosen;
        Ok(())
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
            (SOL_SOCKET, SO_ACCEPTCONN) => {
                Ok(int_bytes(i32::from(matches!(self.state.lock().phase, Phase::Listening(_)))))
            }
            (SOL_SOCKET, SO_PEERNAME) => peer_name(&self.peer_address()?, room),
            (SOL_SOCKET, _) => get(&self.common, task, level, name, room),
            (SOL_IP | SOL_IPV6, _) => self.endpoint.ip_option(task, (level, name), room, self.is_established()),
            (SOL_TCP, TCP_MAXSEG) => Ok(int_bytes(self.segment())),
            (SOL_TCP, TCP_INFO) => Ok(self.information()),
            (SOL_TCP, TCP_CONGESTION) => Ok(congestion_name(self.options.lock().congestion)),
            (SOL_TCP, TCP_ULP) => Ok(Vec::new()),
            (SOL_TCP, TCP_REPAIR) => Ok(int_bytes(0)),
            (SOL_TCP, _) => {
                let value = self.options.lock().value(name);
                value.map(int_bytes).ok_or_else(|| task.unsupported("getsockopt: an option of TCP", Errno::ENOPROTOOPT))
            }
            _ => Err(self.endpoint.unknown_level()),
        }
    }

    /// Device control: how much waits, and what all sockets answer.
    pub(super) fn control(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        let listens = || matches!(self.state.lock().phase, Phase::Listening(_));
        let count = match request {
            FIONREAD | TIOCOUTQ if listens() => return Err(Errno::EINVAL),
            FIONREAD => self.inbox.lock().len(),
            // What is sent is received.
            TIOCOUTQ => 0,
            // No segment has a time here: that none was received is what a socket without time stamps says.
            SIOCGSTAMP_OLD | SIOCGSTAMP_NEW | SIOCGSTAMPNS_OLD | SIOCGSTAMPNS_NEW => return Err(Errno::ENOENT),
            SIOCATMARK => usize::from(self.inbox.lock().is_at_mark()),
            _ => return interface::control(task, request, arg),
        };
        UserOut::new(UserAddr(arg)).write(task, &i32::try_from(count).unwrap_or(i32::MAX))?;
        Ok(0)
    }
}
