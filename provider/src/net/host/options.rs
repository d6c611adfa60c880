//! The options that are passed on to the host: those whose meaning and range are known here.

use super::HostSocket;
use crate::errno::Errno;
use crate::net::inet::number;
use crate::net::options::{congestion_name, get, int, int_bytes, set};
use crate::task::CurrentTask;
use linux_raw_sys::net::{
    SO_ACCEPTCONN, SO_BROADCAST, SO_ERROR, SO_KEEPALIVE, SO_LINGER, SO_OOBINLINE, SO_RCVBUF, SO_REUSEADDR,
    SO_REUSEPORT, SO_SNDBUF, SOL_IP, SOL_IPV6, SOL_SOCKET, SOL_TCP, TCP_CONGESTION, TCP_CORK, TCP_KEEPCNT,
    TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_NODELAY, TCP_QUICKACK, TCP_USER_TIMEOUT,
};
use rustix::net::sockopt;
use std::time::Duration;

impl HostSocket {
    /// Sets an option.
    pub(super) fn write_option(
        &self,
        task: &CurrentTask<'_>,
        level: u32,
        name: u32,
        value: &[u8],
    ) -> Result<(), Errno> {
        if level == SOL_SOCKET {
            // The values are kept here, too: timeouts and low-water marks are this side's to observe.
            set(&self.common, task, level, name, value)?;
        }
        if (level, name) == (SOL_TCP, TCP_CONGESTION) {
            let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
            let name = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
            return Ok(sockopt::set_tcp_congestion(&self.fd, name)?);
        }
        let number = int(value)?;
        let on = number != 0;
        let unsigned = || u32::try_from(number).map_err(|_| Errno::EINVAL);
        let seconds = || unsigned().map(|number| Duration::from_secs(u64::from(number)));
        let fd = &self.fd;
        match (level, name) {
            (SOL_SOCKET, SO_REUSEADDR) => sockopt::set_socket_reuseaddr(fd, on)?,
            (SOL_SOCKET, SO_REUSEPORT) => sockopt::set_socket_reuseport(fd, on)?,
            (SOL_SOCKET, SO_BROADCAST) => sockopt::set_socket_broadcast(fd, on)?,
            (SOL_SOCKET, SO_KEEPALIVE) => sockopt::set_socket_keepalive(fd, on)?,
            (SOL_SOCKET, SO_OOBINLINE) => sockopt::set_socket_oobinline(fd, on)?,
            (SOL_SOCKET, SO_SNDBUF) => {
                sockopt::set_socket_send_buffer_size(fd, usize::try_from(number).unwrap_or_default())?;
            }
            (SOL_SOCKET, SO_RCVBUF) => {
                sockopt::set_socket_recv_buffer_size(fd, usize::try_from(number).unwrap_or_default())?;
            }
            (SOL_SOCKET, SO_LINGER) => {
                let linger = self.common.options().linger;
                sockopt::set_socket_linger(fd, linger.map(|seconds| Duration::from_secs(u64::from(seconds))))?;
            }
            (SOL_SOCKET, _) => {}
            (SOL_TCP, TCP_NODELAY) => sockopt::set_tcp_nodelay(fd, on)?,
            (SOL_TCP, TCP_CORK) => sockopt::set_tcp_cork(fd, on)?,
            (SOL_TCP, TCP_QUICKACK) => sockopt::set_tcp_quickack(fd, on)?,
            (SOL_TCP, TCP_KEEPIDLE) => sockopt::set_tcp_keepidle(fd, seconds()?)?,
            (SOL_TCP, TCP_KEEPINTVL) => sockopt::set_tcp_keepintvl(fd, seconds()?)?,
            (SOL_TCP, TCP_KEEPCNT) => sockopt::set_tcp_keepcnt(fd, unsigned()?)?,
            (SOL_TCP, TCP_USER_TIMEOUT) => sockopt::set_tcp_user_timeout(fd, unsigned()?)?,
            (SOL_IP, number::IP_TTL) => sockopt::set_ip_ttl(fd, unsigned()?)?,
            (SOL_IP, number::IP_TOS) => sockopt::set_ip_tos(fd, number.to_ne_bytes()[0])?,
            (SOL_IP, number::IP_MULTICAST_TTL) => sockopt::set_ip_multicast_ttl(fd, unsigned()?)?,
            (SOL_IP, number::IP_MULTICAST_LOOP) => sockopt::set_ip_multicast_loop(fd, on)?,
            (SOL_IPV6, number::IPV6_V6ONLY) => sockopt::set_ipv6_v6only(fd, on)?,
            (SOL_IPV6, number::IPV6_MULTICAST_HOPS) => sockopt::set_ipv6_multicast_hops(fd, unsigned()?)?,
            (SOL_IPV6, number::IPV6_MULTICAST_LOOP) => sockopt::set_ipv6_multicast_loop(fd, on)?,
            (SOL_IPV6, number::IPV6_TCLASS) => sockopt::set_ipv6_tclass(fd, unsigned()?)?,
            // Resolvers insist on it. A connected socket is told errors anyway; the queue of errors is always empty here.
            (SOL_IP, number::IP_RECVERR) | (SOL_IPV6, number::IPV6_RECVERR) => {}
            _ => return Err(task.unsupported("setsockopt: an option of a host socket", Errno::ENOPROTOOPT)),
        }
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
        let fd = &self.fd;
        let switch = |on: bool| int_bytes(i32::from(on));
        let seconds = |span: Duration| int_bytes(span.as_secs());
        Ok(match (level, name) {
            (SOL_SOCKET, SO_ERROR) => {
                let error = sockopt::socket_error(fd)?.err().map_or(0, |error| error.raw_os_error());
                int_bytes(error)
            }
            (SOL_SOCKET, SO_ACCEPTCONN) => switch(sockopt::socket_acceptconn(fd)?),
            (SOL_SOCKET, SO_SNDBUF) => int_bytes(sockopt::socket_send_buffer_size(fd)?),
            (SOL_SOCKET, SO_RCVBUF) => int_bytes(sockopt::socket_recv_buffer_size(fd)?),
            (SOL_SOCKET, _) => get(&self.common, task, level, name, room)?,
            (SOL_TCP, TCP_NODELAY) => switch(sockopt::tcp_nodelay(fd)?),
            (SOL_TCP, TCP_CORK) => switch(sockopt::tcp_cork(fd)?),
            (SOL_TCP, TCP_QUICKACK) => switch(sockopt::tcp_quickack(fd)?),
            (SOL_TCP, TCP_KEEPIDLE) => seconds(sockopt::tcp_keepidle(fd)?),
            (SOL_TCP, TCP_KEEPINTVL) => seconds(sockopt::tcp_keepintvl(fd)?),
            (SOL_TCP, TCP_KEEPCNT) => int_bytes(sockopt::tcp_keepcnt(fd)?),
            (SOL_TCP, TCP_USER_TIMEOUT) => int_bytes(sockopt::tcp_user_timeout(fd)?),
            (SOL_TCP, TCP_CONGESTION) => congestion_name(sockopt::tcp_congestion(fd)?.as_bytes()),
            (SOL_IP, number::IP_TTL) => int_bytes(sockopt::ip_ttl(fd)?),
            (SOL_IP, number::IP_TOS) => int_bytes(sockopt::ip_tos(fd)?),
            (SOL_IP, number::IP_MTU) => int_bytes(sockopt::ip_mtu(fd)?),
            (SOL_IPV6, number::IPV6_V6ONLY) => switch(sockopt::ipv6_v6only(fd)?),
            (SOL_IPV6, number::IPV6_TCLASS) => int_bytes(sockopt::ipv6_tclass(fd)?),
            (SOL_IPV6, number::IPV6_MTU) => int_bytes(sockopt::ipv6_mtu(fd)?),
            _ => return Err(task.unsupported("getsockopt: an option of a host socket", Errno::ENOPROTOOPT)),
        })
    }
}
