//! /proc/PID/net: a loopback interface, and the sandbox's sockets.

use crate::errno::Errno;
use crate::fs::pseudo::Leaf;
use crate::net::inet::UDP;
use crate::net::unix::ShownState;
use crate::task::CurrentTask;
use linux_raw_sys::net::{AF_INET, AF_INET6};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// The columns that Linux pads the lines of tcp to, and those of udp and route, without the newline.
const WIDE: usize = 149;
const NARROW: usize = 127;

/// The files.
pub(super) fn leaves() -> Vec<Leaf> {
    let narrow = |text: &str| format!("{text:<NARROW$}\n");
    vec![
        Leaf::fixed("arp", "IP address       HW type     Flags       HW address            Mask     Device\n"),
        Leaf::fixed("dev", INTERFACES),
        Leaf::fixed("if_inet6", "00000000000000000000000000000001 01 80 10 80       lo\n"),
        Leaf::fixed("igmp", "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"),
        Leaf::fixed("ipv6_route", ""),
        Leaf::fixed(
            "netlink",
            "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n",
        ),
        Leaf::fixed("packet", "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"),
        Leaf::fixed("raw", format!("{IPV4}{COUNTED}\n")),
        Leaf::fixed("raw6", format!("{IPV6}{COUNTED}\n")),
        Leaf::fixed(
            "route",
            narrow("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"),
        ),
        Leaf::rendered("snmp", counters),
        Leaf::rendered("sockstat", |reader| Ok(socket_counts(reader, AF_INET))),
        Leaf::rendered("sockstat6", |reader| Ok(socket_counts(reader, AF_INET6))),
        Leaf::rendered("tcp", |reader| Ok(tcp(reader, AF_INET))),
        Leaf::rendered("tcp6", |reader| Ok(tcp(reader, AF_INET6))),
        Leaf::rendered("udp", |reader| Ok(udp(reader, AF_INET))),
        Leaf::rendered("udp6", |reader| Ok(udp(reader, AF_INET6))),
        Leaf::rendered("unix", unix),
    ]
}

const INTERFACES: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
";

const IPV4: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
const IPV6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr \
                    tm->when retrnsmt   uid  timeout inode";
const COUNTED: &str = " ref pointer drops";

/// An address and port as the tables show them: the words of the address in the machine's order.
fn endpoint(address: SocketAddr, family: u32) -> String {
    let ip = match address.ip() {
        IpAddr::V4(v4) if family == AF_INET6 => IpAddr::V6(v4.to_ipv6_mapped()),
        ip => ip,
    };
    let octets = match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let mut shown = String::new();
    for word in octets.chunks_exact(4) {
        let word = word.try_into().map_or(0, u32::from_ne_bytes);
        // Writing to a String cannot fail.
        let _ = write!(shown, "{word:08X}");
    }
    let _ = write!(shown, ":{:04X}", address.port());
    shown
}

/// What a version's table has of the sockets of that version.
fn is_of(is_v6: bool, family: u32) -> bool {
    is_v6 == (family == AF_INET6)
}

/// Adds a line; those of IPv4 are padded.
fn add_line(table: &mut String, line: &str, family: u32, width: usize) {
    let width = if family == AF_INET { width } else { 0 };
    let _ = writeln!(table, "{line:<width$}");
}

/// /proc/net/tcp and tcp6.
fn tcp(reader: &CurrentTask<'_>, family: u32) -> Vec<u8> {
    let mut table = String::new();
    add_line(&mut table, if family == AF_INET { IPV4 } else { IPV6 }, family, WIDE);
    let sockets = reader.kernel().network().inet().tcp_sockets();
    let shown = sockets.iter().filter_map(|socket| socket.shown()).filter(|shown| is_of(shown.is_v6, family));
    for (index, shown) in shown.enumerate() {
        let (local, remote) = (endpoint(shown.local, family), endpoint(shown.remote, family));
        let line = format!(
            "{index:4}: {local} {remote} {:02X} {:08X}:{:08X} 00:00000000 00000000 {:5} {:8} {} 1 {:016x} 100 0 0 10 0",
            shown.state, shown.send_queue, shown.receive_queue, shown.uid, 0, shown.inode, 0
        );
        add_line(&mut table, &line, family, WIDE);
    }
    table.into_bytes()
}

/// /proc/net/udp and udp6.
fn udp(reader: &CurrentTask<'_>, family: u32) -> Vec<u8> {
    /// TCP_ESTABLISHED, of a socket that is connected.
    const CONNECTED: u8 = 1;
    /// TCP_CLOSE.
    const UNCONNECTED: u8 = 7;
    let mut table = String::new();
    let head = if family == AF_INET { format!(" {IPV4}{COUNTED}") } else { format!("{IPV6}{COUNTED}") };
    add_line(&mut table, &head, family, NARROW);
    let sockets = reader.kernel().network().inet().udp_sockets();
    let shown = sockets.iter().filter_map(|socket| socket.shown());
    let shown = shown.filter(|shown| shown.protocol == UDP && is_of(shown.is_v6, family));
    for (index, shown) in shown.enumerate() {
        let (local, remote) = (endpoint(shown.local, family), endpoint(shown.remote, family));
        let state = if shown.is_connected { CONNECTED } else { UNCONNECTED };
        let line = format!(
            "{index:5}: {local} {remote} {state:02X} {:08X}:{:08X} 00:00000000 00000000 {:5} {:8} {} 2 {:016x} 0",
            0, shown.receive_queue, shown.uid, 0, shown.inode, 0
        );
        add_line(&mut table, &line, family, NARROW);
    }
    table.into_bytes()
}

/// /proc/net/unix.
fn unix(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    /// __SO_ACCEPTCON.
    const LISTENS: u32 = 0x1_0000;
    let mut table = String::from("Num       RefCount Protocol Flags    Type St Inode Path\n");
    for shown in reader.kernel().network().unix().list() {
        let (references, flags, state) = match shown.state {
            ShownState::Unconnected => (2, 0, 1),
            ShownState::Listening => (2, LISTENS, 1),
            ShownState::Connected => (3, 0, 3),
        };
        let (kind, inode) = (shown.kind.number(), shown.inode);
        let line = format!("{:016x}: {references:08X} {:08X} {flags:08X} {kind:04X} {state:02X} {inode:5}", 0, 0);
        table.push_str(&line);
        if let Some(name) = &shown.name {
            table.push(' ');
            table.push_str(&String::from_utf8_lossy(name));
        }
        table.push('\n');
    }
    Ok(table.into_bytes())
}

/// /proc/net/snmp. No packet exists, so those of IP and ICMP and TCP's segments are none; what sockets do is counted.
fn counters(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    /// TCP_ESTABLISHED.
    const ESTABLISHED: u8 = 1;
    /// TCP_CLOSE_WAIT.
    const CLOSE_WAIT: u8 = 8;
    /// The columns of UDP's and UDP-Lite's lines.
    const DATAGRAMS: &str = "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti \
                             MemErrors";
    let inet = reader.kernel().network().inet();
    let (counted, settings) = (&inet.counters, &inet.settings);
    let is_open = |state: u8| matches!(state, ESTABLISHED | CLOSE_WAIT);
    let open =
        inet.tcp_sockets().iter().filter(|socket| socket.shown().is_some_and(|shown| is_open(shown.state))).count();
    let dropped = counted.udp_dropped.get();
    let forwarding = if settings.forward.get() == 0 { 2 } else { 1 };
    let text = format!(
        "Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers \
         OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates \
         OutTransmits\nIp: {forwarding} 64 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n\
         Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs \
         RetransSegs InErrs OutRsts InCsumErrors\nTcp: 1 200 120000 -1 {} {} {} {} {open} 0 0 0 0 {} 0\n\
         Udp: {DATAGRAMS}\nUdp: {} {} {dropped} {} {dropped} 0 0 0 0\n\
         UdpLite: {DATAGRAMS}\nUdpLite: 0 0 0 0 0 0 0 0 0\n",
        counted.tcp_active_opens.get(),
        counted.tcp_passive_opens.get(),
        counted.tcp_attempt_fails.get(),
        counted.tcp_resets.get(),
        counted.tcp_resets_sent.get(),
        counted.udp_received.get(),
        counted.udp_no_ports.get(),
        counted.udp_sent.get(),
    );
    Ok(text.into_bytes())
}

/// /proc/net/sockstat and sockstat6.
fn socket_counts(reader: &CurrentTask<'_>, family: u32) -> Vec<u8> {
    let network = reader.kernel().network();
    let (all_tcp, all_udp) = (network.inet().tcp_sockets(), network.inet().udp_sockets());
    let tcp = all_tcp.iter().filter(|socket| socket.shown().is_some_and(|shown| is_of(shown.is_v6, family))).count();
    let udp = all_udp.iter().filter(|socket| socket.shown().is_some_and(|shown| is_of(shown.is_v6, family))).count();
    let text = if family == AF_INET6 {
        format!("TCP6: inuse {tcp}\nUDP6: inuse {udp}\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n")
    } else {
        let used = all_tcp.len() + all_udp.len() + network.unix().list().len();
        format!(
            "sockets: used {used}\nTCP: inuse {tcp} orphan 0 tw 0 alloc {} mem 0\nUDP: inuse {udp} mem 0\n\
             UDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n",
            all_tcp.len()
        )
    };
    text.into_bytes()
}
