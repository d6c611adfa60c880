//! The loopback interface, below /sys/class/net and /sys/devices/virtual/net.

use crate::fs::pseudo::Leaf;

/// The attributes of `lo` with their values, without the newline.
const LOOPBACK: &[(&str, &str)] = &[
    ("addr_assign_type", "0"),
    ("addr_len", "6"),
    ("address", "00:00:00:00:00:00"),
    ("broadcast", "00:00:00:00:00:00"),
    ("carrier", "1"),
    ("dev_id", "0x0"),
    ("dormant", "0"),
    ("flags", "0x9"),
    ("ifalias", ""),
    ("ifindex", "1"),
    ("iflink", "1"),
    ("link_mode", "0"),
    ("mtu", "65536"),
    ("operstate", "unknown"),
    ("tx_queue_len", "1000"),
    ("type", "772"),
];

/// Its counters: nothing is counted.
const COUNTERS: &[&str] = &[
    "collisions",
    "multicast",
    "rx_bytes",
    "rx_compressed",
    "rx_crc_errors",
    "rx_dropped",
    "rx_errors",
    "rx_fifo_errors",
    "rx_frame_errors",
    "rx_length_errors",
    "rx_missed_errors",
    "rx_nohandler",
    "rx_over_errors",
    "rx_packets",
    "tx_aborted_errors",
    "tx_bytes",
    "tx_carrier_errors",
    "tx_compressed",
    "tx_dropped",
    "tx_errors",
    "tx_fifo_errors",
    "tx_heartbeat_errors",
    "tx_packets",
    "tx_window_errors",
];

/// The attributes and the links to them.
pub(super) fn leaves() -> Vec<Leaf> {
    let device = "devices/virtual/net/lo";
    let attributes = LOOPBACK.iter().map(|(name, value)| Leaf::fixed(format!("{device}/{name}"), format!("{value}\n")));
    let counters = COUNTERS.iter().map(|name| Leaf::fixed(format!("{device}/statistics/{name}"), "0\n"));
    let links = [
        Leaf::link("class/net/lo", "../../devices/virtual/net/lo"),
        Leaf::link(format!("{device}/subsystem"), "../../../../class/net"),
    ];
    links.into_iter().chain(attributes).chain(counters).collect()
}
