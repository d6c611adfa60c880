//! What others see of a TCP socket: /proc/net/tcp, `ss`, TCP_INFO.

use super::{Ended, Phase, TcpSocket};
use linux_raw_sys::net::TCP_NODELAY;
use std::net::SocketAddr;
use zerocopy::IntoBytes;

/// TCP_ESTABLISHED.
const ESTABLISHED: u8 = 1;
/// TCP_SYN_SENT.
const SYN_SENT: u8 = 2;
/// TCP_FIN_WAIT2.
const FIN_WAIT2: u8 = 5;
/// TCP_CLOSE.
const CLOSE: u8 = 7;
/// TCP_CLOSE_WAIT.
const CLOSE_WAIT: u8 = 8;
/// TCP_LISTEN.
const LISTEN: u8 = 10;

/// A socket as it is shown.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the columns of /proc/net/tcp")]
pub struct Shown {
    pub inode: u64,
    pub uid: u32,
    pub is_v6: bool,
    /// The state's number in Linux.
    pub state: u8,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Bytes received and not read; for a listener, connections not accepted.
    pub receive_queue: usize,
    /// For a listener its backlog.
    pub send_queue: usize,
}

/// The first part of `struct tcp_info` (include/uapi/linux/tcp.h).
#[derive(Clone, Copy, Debug, Default, IntoBytes, zerocopy::Immutable)]
#[repr(C)]
struct Information {
    state: u8,
    ca_state: u8,
    retransmits: u8,
    probes: u8,
    backoff: u8,
    options: u8,
    window_scale: u8,
    limits: u8,
    rto: u32,
    ato: u32,
    snd_mss: u32,
    rcv_mss: u32,
    unacked: u32,
    sacked: u32,
    lost: u32,
    retrans: u32,
    fackets: u32,
    last: [u32; 4],
    pmtu: u32,
    rcv_ssthresh: u32,
    rtt: u32,
    rttvar: u32,
    snd_ssthresh: u32,
    snd_cwnd: u32,
    advmss: u32,
    reordering: u32,
    rcv_rtt: u32,
    rcv_space: u32,
    total_retrans: u32,
}

const _: () = assert!(size_of::<Information>() == 104);

impl TcpSocket {
    /// The state's number in Linux.
    fn state_number(&self) -> u8 {
        let ended = self.ended();
        match &self.state.lock().phase {
            Phase::Idle => CLOSE,
            Phase::Listening(_) => LISTEN,
            Phase::Connecting => SYN_SENT,
            Phase::Connected(_) if ended.contains(Ended::RESET) => CLOSE,
            Phase::Connected(_) => match (ended.contains(Ended::SENT), ended.contains(Ended::RECEIVED)) {
                (false, false) => ESTABLISHED,
                (true, false) => FIN_WAIT2,
                (false, true) => CLOSE_WAIT,
                (true, true) => CLOSE,
            },
        }
    }

    /// What is shown of it; `None` while it has no port.
    pub fn shown(&self) -> Option<Shown> {
        let number = self.state_number();
        let (local, remote, backlog) = {
            let state = self.state.lock();
            let backlog = match &state.phase {
                Phase::Listening(backlog) => Some((backlog.queue.len(), backlog.limit)),
                _ => None,
            };
            (state.local?.address, state.remote, backlog)
        };
        let any = self.endpoint.unspecified();
        let (receive_queue, send_queue) = backlog.unwrap_or_else(|| (self.inbox.lock().len(), 0));
        Some(Shown {
            inode: self.common.inode,
            uid: self.common.uid,
            is_v6: self.endpoint.is_v6(),
            state: number,
            local,
            remote: remote.unwrap_or(any),
            receive_queue,
            send_queue,
        })
    }

    /// TCP_INFO: what a connection without packets has to say.
    pub(super) fn information(&self) -> Vec<u8> {
        /// TCPI_OPT_TIMESTAMPS, TCPI_OPT_SACK and TCPI_OPT_WSCALE.
        const OPTIONS: u8 = 1 | 2 | 4;
        let segment = u32::try_from(self.segment()).unwrap_or_default();
        let information = Information {
            state: self.state_number(),
            options: OPTIONS,
            window_scale: 0x77,
            rto: 201_000,
            ato: if self.options.lock().value(TCP_NODELAY) == Some(0) { 40_000 } else { 0 },
            snd_mss: segment,
            rcv_mss: segment,
            pmtu: 65_535,
            rcv_ssthresh: 65_483,
            rtt: 20,
            rttvar: 10,
            snd_ssthresh: i32::MAX.unsigned_abs(),
            snd_cwnd: 10,
            advmss: 65_483,
            reordering: 3,
            rcv_space: 65_483,
            ..Information::default()
        };
        information.as_bytes().to_vec()
    }
}
