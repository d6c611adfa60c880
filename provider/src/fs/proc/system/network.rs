//! /proc/PID/net: a loopback interface and no sockets.

use crate::fs::pseudo::Leaf;

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
        Leaf::fixed("sockstat", SOCKET_COUNTS),
        Leaf::fixed("tcp", format!("{IPV4:<WIDE$}\n")),
        Leaf::fixed("tcp6", format!("{IPV6}\n")),
        Leaf::fixed("udp", narrow(&format!(" {IPV4}{COUNTED}"))),
        Leaf::fixed("udp6", format!("{IPV6}{COUNTED}\n")),
        Leaf::fixed("unix", "Num       RefCount Protocol Flags    Type St Inode Path\n"),
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

const SOCKET_COUNTS: &str = "\
sockets: used 0
TCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0
UDP: inuse 0 mem 0
UDPLITE: inuse 0
RAW: inuse 0
FRAG: inuse 0 memory 0
";
