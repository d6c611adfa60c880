//! What is counted and what may be set of the sandbox's internet sockets: /proc/net/snmp and /proc/sys/net.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one more.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What has happened, by the names of RFC 1213 where it has some.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams that programs have received.
    pub udp_received: Counter,
    /// Datagrams for ports that nobody had.
    pub udp_no_ports: Counter,
    /// Datagrams that found a receiver's buffer full.
    pub udp_dropped: Counter,
    /// Datagrams that were sent.
    pub udp_sent: Counter,
    /// Connections asked for.
    pub tcp_active_opens: Counter,
    /// Connections that listeners were asked for and let in.
    pub tcp_passive_opens: Counter,
    /// Connections asked for in vain.
    pub tcp_attempt_fails: Counter,
    /// Ends of connections that a reset has ended.
    pub tcp_resets: Counter,
    /// Resets sent.
    pub tcp_resets_sent: Counter,
}

/// A setting that nothing depends on while there is one interface and no packet is ever lost: it is kept for who asks.
#[derive(Debug)]
pub struct Kept(AtomicI32);

impl Kept {
    /// Its value.
    pub fn get(&self) -> i32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it.
    pub fn set(&self, value: i32) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// The settings of IPv4 that programs may change.
#[derive(Debug)]
pub struct Settings {
    /// net.ipv4.ip_forward.
    pub forward: Kept,
    /// net.ipv4.tcp_recovery.
    pub recovery: Kept,
}

impl Default for Settings {
    fn default() -> Self {
        Self { forward: Kept(AtomicI32::new(0)), recovery: Kept(AtomicI32::new(1)) }
    }
}
