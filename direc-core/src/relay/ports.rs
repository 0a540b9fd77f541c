//! Which ports the NATs of a network give, as far as peers' addresses have shown it: word of it narrows what must be guessed.
//!
//! It is kept by prefix, since a carrier's addresses have one way of giving out ports, and since it then tells of no peer. Where
//! it is wrong, being too narrow, it costs little: guesses are as much denser as there are fewer ports of a NAT's among them.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// Ports are told apart by groups of so many.
const GROUP: u16 = 64;
/// So many different groups must have been seen before there is anything to say.
const EVIDENCE: usize = 32;
/// Ports that were seen longer ago than this, or twice this at most, do not count.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Networks that are remembered; the one that came first gives way.
const MAX_NETWORKS: usize = 4096;
/// A range of more ports than this is no help.
const WIDEST: u16 = u16::MAX / 2;

/// A bit for each group of ports.
type Groups = [u64; (1 << 16) / GROUP as usize / 64];

/// What has been seen of one network: since then, and in the time before.
struct Seen {
    since: Instant,
    current: Groups,
    before: Groups,
}

/// What has been seen of all of them.
#[derive(Default)]
pub(super) struct PortRanges {
    networks: BTreeMap<[u8; 3], Seen>,
    /// In the order in which they came.
    order: VecDeque<[u8; 3]>,
}

impl PortRanges {
    /// A peer is at this address. By IPv6 hosts have addresses of their own.
    pub(super) fn note(&mut self, now: Instant, address: SocketAddr) {
        let Some(network) = network(address.ip()) else { return };
        if !self.networks.contains_key(&network) {
            self.make_room();
            self.order.push_back(network);
        }
        let empty = Groups::default();
        let seen = self.networks.entry(network).or_insert(Seen { since: now, current: empty, before: empty });
        seen.age(now);
        let group = usize::from(address.port() / GROUP);
        if let Some(bits) = seen.current.get_mut(group / 64) {
            *bits |= 1 << (group % 64);
        }
    }

    /// The first and the last of the ports that NATs there give, if that is known and worth knowing.
    pub(super) fn range(&mut self, now: Instant, ip: IpAddr) -> Option<(u16, u16)> {
        let seen = self.networks.get_mut(&network(ip)?)?;
        seen.age(now);
        seen.range()
    }

    fn make_room(&mut self) {
        while self.networks.len() >= MAX_NETWORKS {
            let Some(first) = self.order.pop_front() else { return };
            self.networks.remove(&first);
        }
    }
}

impl Seen {
    fn age(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < KEPT {
            return;
        }
        let current = std::mem::take(&mut self.current);
        self.before = if age < KEPT * 2 { current } else { Groups::default() };
        self.since = now;
    }

    fn range(&self) -> Option<(u16, u16)> {
        let groups = || (0..self.current.len() * 64).filter(|group| self.has(*group));
        let count = groups().count();
        let (low, high) = (groups().next()?, groups().next_back()?);
        if count < EVIDENCE {
            return None;
        }
        // The outermost of so many ports drawn evenly are that far from the ends, but for one case in fifty.
        let margin = (high - low) * 4 / count + 1;
        let port = |group: usize| u16::try_from(group * usize::from(GROUP)).ok();
        let first = port(low.saturating_sub(margin))?;
        let last = port(high + margin + 1).map_or(u16::MAX, |after| after - 1);
        (last - first < WIDEST).then_some((first, last))
    }

    fn has(&self, group: usize) -> bool {
        let all = self.current.get(group / 64).zip(self.before.get(group / 64));
        all.is_some_and(|(current, before)| (current | before) >> (group % 64) & 1 == 1)
    }
}

/// The network that an address belongs to.
fn network(ip: IpAddr) -> Option<[u8; 3]> {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            Some([a, b, c])
        }
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: &str = "198.51.100.7";

    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn start() -> Instant {
        Instant::now()
    }

    fn ip(ip: &str) -> IpAddr {
        ip.parse().unwrap()
    }

    /// So many ports from 50,001 on, evenly.
    fn seen(now: Instant, count: u16) -> PortRanges {
        let mut ranges = PortRanges::default();
        for n in 0..count {
            ranges.note(now, SocketAddr::new(ip(IP), 50_001 + n * (15_535 / count)));
        }
        ranges
    }

    #[test]
    fn a_networks_ports_are_told_with_a_margin_to_all_of_its_addresses() {
        let now = start();
        let (first, last) = seen(now, 64).range(now, ip("198.51.100.200")).unwrap();
        assert!((48_000..=50_001).contains(&first) && last == u16::MAX, "{first} to {last}");
        assert_eq!(seen(now, 64).range(now, ip("198.51.101.7")), None, "others are another matter");
        assert_eq!(seen(now, 64).range(now, ip("2001:db8::1")), None);
    }

    #[test]
    fn a_few_ports_or_the_same_one_again_and_again_say_nothing() {
        let now = start();
        assert_eq!(seen(now, EVIDENCE as u16 - 1).range(now, ip(IP)), None);
        let mut ranges = PortRanges::default();
        (0..1000).for_each(|_| ranges.note(now, SocketAddr::new(ip(IP), 50_001)));
        assert_eq!(ranges.range(now, ip(IP)), None);
    }

    #[test]
    fn where_any_port_is_given_there_is_nothing_to_say() {
        let (now, mut ranges) = (start(), PortRanges::default());
        (0..64).for_each(|n| ranges.note(now, SocketAddr::new(ip(IP), 1024 + n * 1000)));
        assert_eq!(ranges.range(now, ip(IP)), None);
    }

    #[test]
    fn what_was_seen_days_ago_is_forgotten() {
        let now = start();
        let mut ranges = seen(now, 64);
        assert!(ranges.range(now + KEPT, ip(IP)).is_some());
        assert_eq!(ranges.range(now + KEPT * 2, ip(IP)), None);
    }

    #[test]
    fn there_is_an_end_to_networks() {
        let (now, mut ranges) = (start(), PortRanges::default());
        for n in 0..u16::MAX {
            let [high, low] = n.to_be_bytes();
            ranges.note(now, SocketAddr::new(IpAddr::from([9, high, low, 1]), 5000));
        }
        assert_eq!((ranges.networks.len(), ranges.order.len()), (MAX_NETWORKS, MAX_NETWORKS));
    }
}
