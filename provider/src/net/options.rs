//! The options of SOL_SOCKET, in the order of checks of net/core/sock.c.

use super::common::{BUFFER_DEFAULT, Common, RECEIVE_BUFFER_MIN, SEND_BUFFER_MIN, Switches};
use crate::abi::socket::Linger;
use crate::errno::Errno;
use crate::net::Address;
use crate::task::CurrentTask;
use linux_raw_sys::net::{
    AF_INET, AF_INET6, SO_ATTACH_BPF, SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF,
    SO_BINDTODEVICE, SO_BINDTOIFINDEX, SO_BROADCAST, SO_BSDCOMPAT, SO_BUSY_POLL, SO_COOKIE, SO_DEBUG, SO_DETACH_FILTER,
    SO_DOMAIN, SO_DONTROUTE, SO_ERROR, SO_INCOMING_CPU, SO_INCOMING_NAPI_ID, SO_KEEPALIVE, SO_LINGER, SO_LOCK_FILTER,
    SO_MARK, SO_MAX_PACING_RATE, SO_MEMINFO, SO_NETNS_COOKIE, SO_NO_CHECK, SO_OOBINLINE, SO_PASSCRED, SO_PASSSEC,
    SO_PEEK_OFF, SO_PRIORITY, SO_PROTOCOL, SO_RCVBUF, SO_RCVBUFFORCE, SO_RCVLOWAT, SO_RCVTIMEO_NEW, SO_RCVTIMEO_OLD,
    SO_REUSEADDR, SO_REUSEPORT, SO_RXQ_OVFL, SO_SELECT_ERR_QUEUE, SO_SNDBUF, SO_SNDBUFFORCE, SO_SNDLOWAT,
    SO_SNDTIMEO_NEW, SO_SNDTIMEO_OLD, SO_TIMESTAMP_NEW, SO_TIMESTAMP_OLD, SO_TIMESTAMPNS_NEW, SO_TIMESTAMPNS_OLD,
    SO_TYPE, SO_ZEROCOPY, SOL_SOCKET,
};
use std::time::Duration;
use zerocopy::{FromBytes, IntoBytes};

/// CAP_NET_ADMIN.
pub const NET_ADMIN: u32 = 12;
/// The only interface: its index and name.
pub const LOOPBACK_INDEX: u32 = 1;
/// The only interface's name.
pub const LOOPBACK_NAME: &[u8] = b"lo";

/// The switches that any value may change.
const SWITCHES: [(u32, Switches); 16] = [
    (SO_REUSEADDR, Switches::REUSEADDR),
    (SO_KEEPALIVE, Switches::KEEPALIVE),
    (SO_BROADCAST, Switches::BROADCAST),
    (SO_OOBINLINE, Switches::OOBINLINE),
    (SO_DONTROUTE, Switches::DONTROUTE),
    (SO_PASSCRED, Switches::PASSCRED),
    (SO_PASSSEC, Switches::PASSSEC),
    (SO_TIMESTAMP_OLD, Switches::TIMESTAMP),
    (SO_TIMESTAMP_NEW, Switches::TIMESTAMP),
    (SO_TIMESTAMPNS_OLD, Switches::TIMESTAMPNS),
    (SO_TIMESTAMPNS_NEW, Switches::TIMESTAMPNS),
    (SO_NO_CHECK, Switches::NO_CHECK),
    (SO_RXQ_OVFL, Switches::RXQ_OVFL),
    (SO_SELECT_ERR_QUEUE, Switches::SELECT_ERR_QUEUE),
    (SO_REUSEPORT, Switches::REUSEPORT),
    (SO_DEBUG, Switches::DEBUG),
];

fn switch(name: u32) -> Option<Switches> {
    SWITCHES.iter().find(|(number, _)| *number == name).map(|(_, switch)| *switch)
}

/// Reads an `int` argument; `EINVAL` if it is too short.
pub fn int(value: &[u8]) -> Result<i32, Errno> {
    i32::read_from_prefix(value).map(|(value, _)| value).map_err(|_| Errno::EINVAL)
}

/// The bytes of an `int` value.
pub fn int_bytes(value: impl TryInto<i32>) -> Vec<u8> {
    value.try_into().unwrap_or(i32::MAX).as_bytes().to_vec()
}

/// A `struct timeval` as SO_RCVTIMEO and SO_SNDTIMEO take it (sock_set_timeout).
fn timeout(value: &[u8]) -> Result<Option<Duration>, Errno> {
    let ([seconds, micros], _) = <[i64; 2]>::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
    if !(0..1_000_000).contains(&micros) {
        return Err(Errno::EDOM);
    }
    if seconds == 0 && micros == 0 {
        return Ok(None);
    }
    // A negative time has passed.
    let Ok(seconds) = u64::try_from(seconds) else { return Ok(Some(Duration::ZERO)) };
    let micros = u64::try_from(micros).unwrap_or_default();
    Ok(Duration::from_secs(seconds).checked_add(Duration::from_micros(micros)))
}

fn timeout_bytes(timeout: Option<Duration>) -> Vec<u8> {
    let span = timeout.unwrap_or_default();
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    [seconds, i64::from(span.subsec_micros())].as_bytes().to_vec()
}

/// What SO_SNDBUF and SO_RCVBUF store for a request: twice it, within limits.
fn buffer_size(value: i32, least: usize, limit: usize) -> usize {
    // A negative request is a huge one to the comparison with the limit (min_t of u32).
    let wanted = usize::try_from(value).unwrap_or(limit).min(limit);
    wanted.saturating_mul(2).max(least)
}

/// Sets an option of SOL_SOCKET; `ENOPROTOOPT` for another level.
pub fn set(common: &Common, task: &CurrentTask<'_>, level: u32, name: u32, value: &[u8]) -> Result<(), Errno> {
    if level != SOL_SOCKET {
        return Err(Errno::ENOPROTOOPT);
    }
    if name == SO_BINDTODEVICE {
        return bind_to_device(common, value);
    }
    let number = int(value)?;
    let on = number != 0;
    // Looked up before the options are locked: both locks are leaves.
    let is_admin = needs_privilege(name) && task.credentials().has(NET_ADMIN);
    match name {
        SO_DEBUG if on && !is_admin => return Err(Errno::EACCES),
        SO_REUSEPORT if on && !matches!(common.family, AF_INET | AF_INET6) => return Err(Errno::EOPNOTSUPP),
        _ => {}
    }
    let mut options = common.options();
    if let Some(switch) = switch(name) {
        // The two forms of time stamps exclude each other.
        if switch.intersects(Switches::TIMESTAMP | Switches::TIMESTAMPNS) {
            options.switches.remove(Switches::TIMESTAMP | Switches::TIMESTAMPNS);
        }
        options.switches.set(switch, on);
        return Ok(());
    }
    match name {
        SO_SNDBUF => {
            options.send_buffer = buffer_size(number, SEND_BUFFER_MIN, BUFFER_DEFAULT);
            options.send_buffer_set = true;
        }
        SO_RCVBUF => {
            options.receive_buffer = buffer_size(number, RECEIVE_BUFFER_MIN, BUFFER_DEFAULT);
            options.receive_buffer_set = true;
        }
        SO_SNDBUFFORCE | SO_RCVBUFFORCE if !is_admin => return Err(Errno::EPERM),
        SO_SNDBUFFORCE => options.send_buffer = buffer_size(number.max(0), SEND_BUFFER_MIN, 1 << 24),
        SO_RCVBUFFORCE => options.receive_buffer = buffer_size(number.max(0), RECEIVE_BUFFER_MIN, 1 << 24),
        SO_PRIORITY if (0..=6).contains(&number) || is_admin => options.priority = number,
        SO_PRIORITY => return Err(Errno::EPERM),
        SO_LINGER => {
            let (linger, _) = Linger::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
            options.linger = (linger.on != 0).then_some(linger.seconds.cast_unsigned());
        }
        SO_RCVLOWAT => options.low_water = usize::try_from(number).unwrap_or(i32::MAX as usize).max(1),
        SO_RCVTIMEO_OLD | SO_RCVTIMEO_NEW => options.receive_timeout = timeout(value)?,
        SO_SNDTIMEO_OLD | SO_SNDTIMEO_NEW => options.send_timeout = timeout(value)?,
        SO_BINDTOIFINDEX => match u32::try_from(number) {
            Ok(index @ (0 | LOOPBACK_INDEX)) => options.device = index,
            Ok(_) => return Err(Errno::ENODEV),
            Err(_) => return Err(Errno::EINVAL),
        },
        SO_BSDCOMPAT | SO_INCOMING_CPU => {}
        SO_MARK if !is_admin => return Err(Errno::EPERM),
        SO_MARK => options.mark = number.cast_unsigned(),
        SO_PEEK_OFF => return Err(Errno::EOPNOTSUPP),
        SO_DETACH_FILTER => return Err(Errno::ENOENT),
        SO_LOCK_FILTER => options.switches.set(Switches::LOCK_FILTER, on),
        // Linux's answer for a family without it.
        SO_ZEROCOPY => return Err(Errno::EOPNOTSUPP),
        SO_ATTACH_FILTER | SO_ATTACH_BPF | SO_ATTACH_REUSEPORT_CBPF | SO_ATTACH_REUSEPORT_EBPF => {
            drop(options);
            return Err(task.unsupported("setsockopt: packet filters", Errno::ENOPROTOOPT));
        }
        SO_TYPE | SO_PROTOCOL | SO_DOMAIN | SO_ERROR | SO_SNDLOWAT => return Err(Errno::ENOPROTOOPT),
        _ => {
            drop(options);
            return Err(task.unsupported("setsockopt: an option of SOL_SOCKET", Errno::ENOPROTOOPT));
        }
    }
    Ok(())
}

/// Tells whether what an option may be set to depends on CAP_NET_ADMIN.
fn needs_privilege(name: u32) -> bool {
    matches!(name, SO_DEBUG | SO_SNDBUFFORCE | SO_RCVBUFFORCE | SO_PRIORITY | SO_MARK)
}

/// TCP_CONGESTION's value: a name and NULs up to the longest (TCP_CA_NAME_MAX).
pub fn congestion_name(name: &[u8]) -> Vec<u8> {
    const LONGEST: usize = 16;
    let mut value = name.to_vec();
    value.resize(LONGEST, 0);
    value
}

/// SO_PEERNAME: the other side's address, which must be as long as the program has room (sk_getsockopt).
pub fn peer_name(peer: &Address, room: usize) -> Result<Vec<u8>, Errno> {
    if peer.bytes().len() < room { Err(Errno::EINVAL) } else { Ok(peer.bytes().to_vec()) }
}

/// SO_BINDTODEVICE: a name, or nothing for any interface.
fn bind_to_device(common: &Common, value: &[u8]) -> Result<(), Errno> {
    /// Bytes of an interface's name with its NUL (IFNAMSIZ).
    const NAME: usize = 16;
    let value = &value[..value.len().min(NAME - 1)];
    let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
    common.options().device = match name {
        b"" => 0,
        LOOPBACK_NAME => LOOPBACK_INDEX,
        _ => return Err(Errno::ENODEV),
    };
    Ok(())
}

/// Reads an option of SOL_SOCKET; `ENOPROTOOPT` for another level. SO_ACCEPTCONN and what is known about the other side are the
/// family's.
pub fn get(common: &Common, task: &CurrentTask<'_>, level: u32, name: u32, room: usize) -> Result<Vec<u8>, Errno> {
    if level != SOL_SOCKET {
        return Err(Errno::ENOPROTOOPT);
    }
    let options = common.options().clone();
    if let Some(switch) = switch(name) {
        return Ok(int_bytes(i32::from(options.switches.contains(switch))));
    }
    Ok(match name {
        SO_TYPE => int_bytes(common.kind.number()),
        SO_DOMAIN => int_bytes(common.family),
        SO_PROTOCOL => int_bytes(common.protocol),
        SO_ERROR => int_bytes(common.take_error().map_or(0, |error| u32::from(error.raw()))),
        SO_SNDBUF => int_bytes(options.send_buffer),
        SO_RCVBUF => int_bytes(options.receive_buffer),
        SO_PRIORITY => int_bytes(options.priority),
        SO_LINGER => {
            let seconds = options.linger.map_or(0, |seconds| i32::try_from(seconds).unwrap_or(i32::MAX));
            Linger { on: i32::from(options.linger.is_some()), seconds }.as_bytes().to_vec()
        }
        SO_RCVLOWAT => int_bytes(options.low_water),
        SO_SNDLOWAT => int_bytes(1),
        SO_RCVTIMEO_OLD | SO_RCVTIMEO_NEW => timeout_bytes(options.receive_timeout),
        SO_SNDTIMEO_OLD | SO_SNDTIMEO_NEW => timeout_bytes(options.send_timeout),
        SO_BINDTODEVICE if options.device == 0 => Vec::new(),
        SO_BINDTODEVICE => [LOOPBACK_NAME, b"\0"].concat(),
        SO_BINDTOIFINDEX => int_bytes(options.device),
        SO_MARK => options.mark.as_bytes().to_vec(),
        SO_BSDCOMPAT | SO_BUSY_POLL | SO_INCOMING_NAPI_ID | SO_ZEROCOPY => int_bytes(0),
        SO_INCOMING_CPU => int_bytes(-1),
        SO_LOCK_FILTER => int_bytes(i32::from(options.switches.contains(Switches::LOCK_FILTER))),
        SO_PEEK_OFF => return Err(Errno::EOPNOTSUPP),
        // No filter is attached.
        SO_ATTACH_FILTER => Vec::new(),
        SO_MAX_PACING_RATE if room == size_of::<u64>() => u64::MAX.as_bytes().to_vec(),
        SO_MAX_PACING_RATE => u32::MAX.as_bytes().to_vec(),
        SO_COOKIE | SO_NETNS_COOKIE if room < size_of::<u64>() => return Err(Errno::EINVAL),
        SO_COOKIE => common.inode.as_bytes().to_vec(),
        SO_NETNS_COOKIE => 1u64.as_bytes().to_vec(),
        SO_MEMINFO => memory_information(options.receive_buffer, options.send_buffer),
        _ => return Err(task.unsupported("getsockopt: an option of SOL_SOCKET", Errno::ENOPROTOOPT)),
    })
}

/// SO_MEMINFO: the limits stand where Linux has them; what is in flight is not attributed to sockets.
fn memory_information(receive: usize, send: usize) -> Vec<u8> {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    [0, number(receive), 0, number(send), 0, 0, 0, 0, 0u32].as_bytes().to_vec()
}
