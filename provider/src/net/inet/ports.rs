//! Who has which port.

use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// The first and the last port that are given to who does not ask for one, unless that is set (net.ipv4.ip_local_port_range).
const AUTOMATIC: (u16, u16) = (32768, 60999);
/// The first port that anybody may bind (net.ipv4.ip_unprivileged_port_start).
pub const FIRST_UNPRIVILEGED: u16 = 1024;
/// Claims that outlive their sockets, at the most (net.ipv4.tcp_max_tw_buckets).
const MOST_LINGERING: usize = 16_384;

/// The addresses that a socket has: one, or any, of each version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Of IPv4; `0.0.0.0` is any.
    pub v4: Option<Ipv4Addr>,
    /// Of IPv6; `::` is any.
    pub v6: Option<Ipv6Addr>,
}

impl Reach {
    /// One address.
    pub(super) fn one(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self { v4: Some(v4), v6: None },
            IpAddr::V6(v6) => Self { v4: None, v6: Some(v6) },
        }
    }

    /// Tells whether some address belongs to both.
    fn meets(self, other: Self) -> bool {
        let v4 =
            matches!((self.v4, other.v4), (Some(a), Some(b)) if a == b || a.is_unspecified() || b.is_unspecified());
        let v6 =
            matches!((self.v6, other.v6), (Some(a), Some(b)) if a == b || a.is_unspecified() || b.is_unspecified());
        v4 || v6
    }

    /// How well it fits an address: not at all, as any address, or exactly.
    pub(super) fn fit(self, ip: IpAddr) -> Option<u32> {
        let judge = |same: bool, any: bool| match (same, any) {
            (true, _) => Some(2),
            (_, true) => Some(0),
            _ => None,
        };
        match ip {
            IpAddr::V4(ip) => self.v4.and_then(|v4| judge(v4 == ip, v4.is_unspecified())).map(|fit| {
                // One that serves IPv4 only is preferred to one that serves both (compute_score's family bonus).
                fit + u32::from(self.v6.is_none())
            }),
            IpAddr::V6(ip) => self.v6.and_then(|v6| judge(v6 == ip, v6.is_unspecified())),
        }
    }
}

bitflags::bitflags! {
    /// What matters when two sockets want one port.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Sharing: u32 {
        /// SO_REUSEADDR.
        const ADDRESS = 1;
        /// SO_REUSEPORT.
        const PORT = 2;
    }
}

/// A claim to a port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// The claimant's inode number.
    pub(super) id: u64,
    pub(super) reach: Reach,
    pub(super) sharing: Sharing,
    pub(super) uid: u32,
    /// Who shares addresses only does not share them with a listener.
    pub(super) listens: bool,
    /// The two ends of the connection that the claimant has made from there.
    pub(super) connection: Option<(IpAddr, SocketAddr)>,
    /// The claimant is gone, and until when the port remembers it (TIME_WAIT).
    pub(super) lingers: Option<Instant>,
}

impl Claim {
    fn conflicts(&self, other: &Self) -> bool {
        let both = self.sharing & other.sharing;
        let shares_address = both.contains(Sharing::ADDRESS) && !other.listens;
        let shares_port = both.contains(Sharing::PORT) && self.uid == other.uid;
        let is_past = other.lingers.is_some_and(|until| until <= Instant::now());
        !is_past && self.id != other.id && !shares_address && !shares_port && self.reach.meets(other.reach)
    }
}

/// A socket that is found by its port: a listener, or any of UDP.
#[derive(Debug)]
struct Receiver<S> {
    claim: Claim,
    /// A UDP socket that is connected receives from there only.
    remote: Option<SocketAddr>,
    socket: Weak<S>,
}

#[derive(Debug)]
struct Port<S> {
    claims: HashMap<u64, Claim>,
    receivers: Vec<Receiver<S>>,
}

impl<S> Default for Port<S> {
    fn default() -> Self {
        Self { claims: HashMap::new(), receivers: Vec::new() }
    }
}

/// The ports of one protocol.
#[derive(Debug)]
pub struct Ports<S> {
    state: Mutex<State<S>>,
}

#[derive(Debug)]
struct State<S> {
    ports: BTreeMap<u16, Port<S>>,
    next: u16,
    /// The ports that are given to who does not ask for one.
    range: (u16, u16),
    /// What lingers: until when, and whose.
    lingering: BTreeMap<(Instant, u64), u16>,
}

impl<S> Default for Ports<S> {
    fn default() -> Self {
        let state = State { ports: BTreeMap::new(), next: AUTOMATIC.0, range: AUTOMATIC, lingering: BTreeMap::new() };
        Self { state: Mutex::new(Rank::Network, state) }
    }
}

impl<S> State<S> {
    fn is_free(&self, port: u16, claim: &Claim) -> bool {
        self.ports.get(&port).is_none_or(|taken| !taken.claims.values().any(|other| claim.conflicts(other)))
    }

    /// A port that nobody has, from where the last search ended; else one that is only remembered, or that those who have it share.
    fn unused(&mut self, claim: &Claim) -> Option<u16> {
        let (first, last) = self.range;
        let (mut remembered, mut shared) = (None, None);
        for _ in first..=last {
            let port = self.next;
            self.next = if port >= last { first } else { port + 1 };
            match self.ports.get(&port) {
                None => return Some(port),
                Some(taken) if taken.claims.values().all(|claim| claim.lingers.is_some()) => remembered = Some(port),
                Some(_) if shared.is_none() && self.is_free(port, claim) => shared = Some(port),
                Some(_) => {}
            }
        }
        remembered.or(shared)
    }

    /// Removes a claim, and the port with the last one.
    fn drop_claim(&mut self, port: u16, id: u64) {
        let Some(taken) = self.ports.get_mut(&port) else { return };
        if let Some(until) = taken.claims.remove(&id).and_then(|claim| claim.lingers) {
            self.lingering.remove(&(until, id));
        }
        taken.receivers.retain(|receiver| receiver.claim.id != id);
        if taken.claims.is_empty() {
            self.ports.remove(&port);
        }
    }

    /// Forgets what has lingered long enough, and the oldest of too much.
    fn forget_past(&mut self) {
        let now = Instant::now();
        while let Some((&(until, id), &port)) = self.lingering.first_key_value() {
            if until > now && self.lingering.len() <= MOST_LINGERING {
                return;
            }
            self.drop_claim(port, id);
        }
    }
}

impl<S> Ports<S> {
    /// The first and the last port that are given to who does not ask for one.
    pub(super) fn range(&self) -> (u16, u16) {
        self.state.lock().range
    }

    /// Sets them.
    pub(super) fn set_range(&self, first: u16, last: u16) {
        let mut state = self.state.lock();
        (state.range, state.next) = ((first, last), first);
    }

    /// Claims `port`, or any if it is 0; returns which. `EADDRINUSE`.
    pub(super) fn claim(&self, port: u16, claim: Claim) -> Result<u16, Errno> {
        let mut state = self.state.lock();
        state.forget_past();
        let port = match port {
            0 => state.unused(&claim).ok_or(Errno::EADDRINUSE)?,
            port if state.is_free(port, &claim) => port,
            _ => return Err(Errno::EADDRINUSE),
        };
        state.ports.entry(port).or_default().claims.insert(claim.id, claim);
        Ok(port)
    }

    /// Adds a claim that cannot fail: a connection shares its listener's port.
    pub(super) fn join(&self, port: u16, claim: Claim) {
        self.state.lock().ports.entry(port).or_default().claims.insert(claim.id, claim);
    }

    /// Lets a socket that has claimed `port` be found there, in the place of what was known of it; `EADDRINUSE` if its claim, as
    /// it is now, conflicts with another's.
    pub(super) fn receive(
        &self,
        port: u16,
        claim: Claim,
        remote: Option<SocketAddr>,
        socket: &Weak<S>,
    ) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if claim.listens && !state.is_free(port, &claim) {
            return Err(Errno::EADDRINUSE);
        }
        let taken = state.ports.entry(port).or_default();
        taken.claims.insert(claim.id, claim);
        taken.receivers.retain(|receiver| receiver.claim.id != claim.id);
        taken.receivers.push(Receiver { claim, remote, socket: socket.clone() });
        Ok(())
    }

    /// Changes what a socket shares of a port that it has.
    pub(super) fn share(&self, port: u16, id: u64, sharing: Sharing) {
        let mut state = self.state.lock();
        let Some(taken) = state.ports.get_mut(&port) else { return };
        if let Some(claim) = taken.claims.get_mut(&id) {
            claim.sharing = sharing;
        }
        for receiver in taken.receivers.iter_mut().filter(|receiver| receiver.claim.id == id) {
            receiver.claim.sharing = sharing;
        }
    }

    /// Gives a port back.
    pub(super) fn release(&self, port: u16, id: u64) {
        self.state.lock().drop_claim(port, id);
    }

    /// Notes the connection that a claimant makes; `EADDRNOTAVAIL` if another one has made the same (__inet_check_established).
    pub(super) fn connect(&self, port: u16, id: u64, from: IpAddr, to: SocketAddr) -> Result<(), Errno> {
        let mut state = self.state.lock();
        let Some(taken) = state.ports.get_mut(&port) else { return Ok(()) };
        let same = |other: &Claim| other.id != id && other.lingers.is_none() && other.connection == Some((from, to));
        if taken.claims.values().any(same) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if let Some(claim) = taken.claims.get_mut(&id) {
            claim.connection = Some((from, to));
        }
        Ok(())
    }

    /// The connection is no more.
    pub(super) fn disconnect(&self, port: u16, id: u64) {
        if let Some(claim) = self.state.lock().ports.get_mut(&port).and_then(|taken| taken.claims.get_mut(&id)) {
            claim.connection = None;
        }
    }

    /// The claimant ends; the port remembers it for a while.
    pub(super) fn linger(&self, port: u16, id: u64, until: Instant) {
        let mut state = self.state.lock();
        state.forget_past();
        let Some(taken) = state.ports.get_mut(&port) else { return };
        taken.receivers.retain(|receiver| receiver.claim.id != id);
        let Some(claim) = taken.claims.get_mut(&id) else { return };
        // What a connection has narrowed the address to (inet_rcv_saddr).
        if let Some((from, _)) = claim.connection {
            claim.reach = Reach::one(from);
        }
        let before = claim.lingers.replace(until);
        if let Some(before) = before {
            state.lingering.remove(&(before, id));
        }
        state.lingering.insert((until, id), port);
    }

    /// What is remembered of a claimant that is gone is to be forgotten later than it would be, or at once if `until` is none.
    pub(super) fn keep_lingering(&self, port: u16, id: u64, until: Option<Instant>) {
        let lingers = {
            let state = self.state.lock();
            let claim = state.ports.get(&port).and_then(|taken| taken.claims.get(&id));
            claim.is_some_and(|claim| claim.lingers.is_some_and(|until| until > Instant::now()))
        };
        match until {
            _ if !lingers => {}
            Some(until) => self.linger(port, id, until),
            None => self.release(port, id),
        }
    }

    /// A listener gives up being found, but keeps its port.
    pub(super) fn stop_receiving(&self, port: u16, id: u64) {
        let mut state = self.state.lock();
        if let Some(taken) = state.ports.get_mut(&port) {
            taken.receivers.retain(|receiver| receiver.claim.id != id);
            if let Some(claim) = taken.claims.get_mut(&id) {
                claim.listens = false;
            }
        }
    }

    /// Finds who receives what comes from `from` to `to`: who is connected to `from`, then who has that address, then any; among
    /// several that share a port the sender decides, always for the same one (reuseport_select_sock), else the youngest gets all.
    pub(super) fn find(&self, to: SocketAddr, from: SocketAddr) -> Option<Arc<S>> {
        let found = {
            let state = self.state.lock();
            let taken = state.ports.get(&to.port())?;
            let judged = taken.receivers.iter().filter_map(|receiver| {
                let fit = receiver.claim.reach.fit(to.ip())?;
                match receiver.remote {
                    Some(remote) if remote == from => Some((fit + 8, receiver)),
                    Some(_) => None,
                    None => Some((fit, receiver)),
                }
            });
            let judged: Vec<_> = judged.collect();
            let best = judged.iter().map(|(fit, _)| *fit).max()?;
            let best: Vec<_> =
                judged.into_iter().filter(|(fit, _)| *fit == best).map(|(_, receiver)| receiver).collect();
            let sharing: Vec<_> =
                best.iter().filter(|receiver| receiver.claim.sharing.contains(Sharing::PORT)).collect();
            if sharing.len() > 1 {
                sharing.get(spread(from) % sharing.len()).map(|receiver| receiver.socket.clone())
            } else {
                best.last().map(|receiver| receiver.socket.clone())
            }
        };
        found.and_then(|socket| socket.upgrade())
    }

    /// All who receive what comes from `from` to a port, for what goes to many.
    pub(super) fn all(&self, port: u16, from: SocketAddr) -> Vec<(Arc<S>, Reach)> {
        let found: Vec<(Weak<S>, Reach)> = {
            let state = self.state.lock();
            let receivers = state.ports.get(&port).map(|taken| &taken.receivers[..]).unwrap_or_default();
            let mut hear = receivers.iter().filter(|receiver| receiver.remote.is_none_or(|remote| remote == from));
            hear.by_ref().map(|receiver| (receiver.socket.clone(), receiver.claim.reach)).collect()
        };
        found.into_iter().filter_map(|(socket, reach)| socket.upgrade().map(|socket| (socket, reach))).collect()
    }
}

/// Spreads senders evenly, each always to the same place: neighbouring ports lie far apart (Fibonacci hashing).
fn spread(from: SocketAddr) -> usize {
    const GOLDEN: u32 = 0x9e37_79b9;
    let address = match from.ip() {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => {
            v6.octets().chunks_exact(4).fold(0, |sum, word| sum ^ word.try_into().map_or(0, u32::from_be_bytes))
        }
    };
    let hash = (address ^ u32::from(from.port())).wrapping_mul(GOLDEN) >> 16;
    usize::try_from(hash).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY4: Reach = Reach { v4: Some(Ipv4Addr::UNSPECIFIED), v6: None };
    const BOTH: Reach = Reach { v4: Some(Ipv4Addr::UNSPECIFIED), v6: Some(Ipv6Addr::UNSPECIFIED) };
    const ONLY6: Reach = Reach { v4: None, v6: Some(Ipv6Addr::UNSPECIFIED) };

    fn claim(id: u64, reach: Reach, sharing: Sharing) -> Claim {
        Claim { id, reach, sharing, uid: 0, listens: false, connection: None, lingers: None }
    }

    #[test]
    fn wildcards_conflict_with_what_they_cover() {
        let one = |ip: &str| Reach::one(ip.parse().unwrap());
        let none = Sharing::empty();
        let cases = [
            (ANY4, one("127.0.0.1"), true),
            (one("127.0.0.2"), one("127.0.0.1"), false),
            (BOTH, ANY4, true),
            (BOTH, ONLY6, true),
            (ANY4, ONLY6, false),
            (ONLY6, one("::1"), true),
        ];
        for (a, b, conflict) in cases {
            let ports = Ports::<()>::default();
            ports.claim(80, claim(1, a, none)).unwrap();
            assert_eq!(ports.claim(80, claim(2, b, none)).is_err(), conflict, "{a:?} {b:?}");
        }
    }

    #[test]
    fn sharing_needs_both_sides_and_no_listener() {
        let ports = Ports::<()>::default();
        ports.claim(80, claim(1, ANY4, Sharing::ADDRESS)).unwrap();
        assert_eq!(ports.claim(80, claim(2, ANY4, Sharing::empty())), Err(Errno::EADDRINUSE));
        assert_eq!(ports.claim(80, claim(3, ANY4, Sharing::ADDRESS)), Ok(80));
        let listener = Claim { listens: true, ..claim(1, ANY4, Sharing::ADDRESS) };
        assert_eq!(ports.receive(80, listener, None, &Weak::new()), Ok(()));
        let second = Claim { listens: true, ..claim(3, ANY4, Sharing::ADDRESS) };
        assert_eq!(ports.receive(80, second, None, &Weak::new()), Err(Errno::EADDRINUSE));
        ports.release(80, 3);
        assert_eq!(ports.claim(80, claim(4, ANY4, Sharing::ADDRESS)), Err(Errno::EADDRINUSE));
        ports.release(80, 1);
        assert_eq!(ports.claim(80, claim(4, ANY4, Sharing::empty())), Ok(80));
    }

    #[test]
    fn who_shares_gets_a_shared_port_when_all_are_taken() {
        let ports = Ports::<()>::default();
        ports.set_range(2000, 2001);
        let mut given: Vec<_> = (1..=2).map(|id| ports.claim(0, claim(id, ANY4, Sharing::ADDRESS)).unwrap()).collect();
        given.sort_unstable();
        assert_eq!(given, [2000, 2001]);
        assert_eq!(ports.claim(0, claim(3, ANY4, Sharing::empty())), Err(Errno::EADDRINUSE));
        assert!(given.contains(&ports.claim(0, claim(4, ANY4, Sharing::ADDRESS)).unwrap()));
    }

    #[test]
    fn a_port_remembers_who_has_gone() {
        let ports = Ports::<()>::default();
        let minute = Instant::now() + std::time::Duration::from_secs(60);
        let none = Sharing::empty();
        ports.claim(80, claim(1, ANY4, none)).unwrap();
        ports.linger(80, 1, minute);
        assert_eq!(ports.claim(80, claim(2, ANY4, none)), Err(Errno::EADDRINUSE));
        ports.keep_lingering(80, 1, None);
        assert_eq!(ports.claim(80, claim(2, ANY4, none)), Ok(80));
        // Who is there is not forgotten, and what is past does not come back.
        ports.keep_lingering(80, 2, None);
        assert_eq!(ports.claim(80, claim(3, ANY4, none)), Err(Errno::EADDRINUSE));
        ports.linger(80, 2, Instant::now());
        ports.keep_lingering(80, 2, Some(minute));
        assert_eq!(ports.claim(80, claim(3, ANY4, none)), Ok(80));
    }

    #[test]
    fn the_oldest_of_too_much_is_forgotten() {
        let ports = Ports::<()>::default();
        let minute = Instant::now() + std::time::Duration::from_secs(60);
        ports.claim(80, claim(0, ANY4, Sharing::empty())).unwrap();
        for id in 1..=u64::try_from(MOST_LINGERING).unwrap() + 10 {
            ports.join(80, claim(id, ANY4, Sharing::ADDRESS));
            ports.linger(80, id, minute);
        }
        ports.claim(81, claim(0, ANY4, Sharing::empty())).unwrap();
        let state = ports.state.lock();
        assert_eq!(state.lingering.len(), MOST_LINGERING);
        assert_eq!(state.ports[&80].claims.len(), MOST_LINGERING + 1);
    }

    #[test]
    fn ports_are_given_from_the_range_until_it_is_used_up() {
        let ports = Ports::<()>::default();
        ports.set_range(2000, 2002);
        let mut given: Vec<_> = (1..=3).map(|id| ports.claim(0, claim(id, ANY4, Sharing::empty())).unwrap()).collect();
        given.sort_unstable();
        assert_eq!(given, [2000, 2001, 2002]);
        assert_eq!(ports.claim(0, claim(4, ANY4, Sharing::empty())), Err(Errno::EADDRINUSE));
        ports.set_range(2002, 2003);
        assert_eq!(ports.claim(0, claim(4, ANY4, Sharing::empty())), Ok(2003));
    }

    #[test]
    fn senders_are_spread_over_who_shares_a_port() {
        let ports = Ports::<u32>::default();
        let sockets = [0, 1, 2].map(Arc::new);
        for (socket, id) in sockets.iter().zip(1..) {
            ports.receive(80, claim(id, ANY4, Sharing::PORT), None, &Arc::downgrade(socket)).unwrap();
        }
        let to: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let find = |port: u16| *ports.find(to, SocketAddr::new(to.ip(), port)).unwrap();
        let mut counts = [0; 3];
        for port in 32768..35768 {
            assert_eq!(find(port), find(port));
            counts[usize::try_from(find(port)).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (950..=1050).contains(count)), "{counts:?}");
    }

    #[test]
    fn one_connection_is_made_once() {
        let ports = Ports::<()>::default();
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        let there: SocketAddr = "127.0.0.1:9".parse().unwrap();
        for id in [1, 2] {
            ports.claim(80, claim(id, Reach::one(here), Sharing::ADDRESS)).unwrap();
        }
        assert_eq!(ports.connect(80, 1, here, there), Ok(()));
        assert_eq!(ports.connect(80, 2, here, there), Err(Errno::EADDRNOTAVAIL));
        ports.disconnect(80, 1);
        assert_eq!(ports.connect(80, 2, here, there), Ok(()));
    }

    #[test]
    fn the_best_fit_receives() {
        let ports = Ports::<u32>::default();
        let (any, exact, connected) = (Arc::new(1), Arc::new(2), Arc::new(3));
        let here = Reach::one("127.0.0.1".parse().unwrap());
        let remote: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let share = Sharing::ADDRESS;
        ports.receive(80, claim(1, ANY4, share), None, &Arc::downgrade(&any)).unwrap();
        ports.receive(80, claim(2, here, share), None, &Arc::downgrade(&exact)).unwrap();
        ports.receive(80, claim(3, here, share), Some(remote), &Arc::downgrade(&connected)).unwrap();
        let find = |to: &str, from: &str| ports.find(to.parse().unwrap(), from.parse().unwrap()).map(|found| *found);
        assert_eq!(find("127.0.0.1:80", "127.0.0.1:9"), Some(3));
        assert_eq!(find("127.0.0.1:80", "127.0.0.1:8"), Some(2));
        assert_eq!(find("127.0.0.9:80", "127.0.0.1:9"), Some(1));
        assert_eq!(find("[::1]:80", "[::1]:9"), None);
    }
}
