//! Who is where: the peers that hold a control connection, and the addresses they have proven (S8).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{access::Rights, tunnels::is_tunnel};
use crate::{
    NodeId,
    quic::{Handle, stream::MessageStream},
    token::TokenHash,
    wire::message::{MAX_ADDRESSES, Register},
};

/// An address that has not been confirmed for this long is not handed out any more: as long as a control connection may
/// be silent. Peers refresh at least every minute (`peer/binding.rs`), and repeat a refresh that is lost.
const OBSERVATION_LIFE: Duration = Duration::from_secs(75);

/// Relayed bytes that may go to a host that has not proven to be there: some flights, until a cookie has echoed.
const UNPROVEN_BYTES: u64 = 64 << 10;

/// A peer is told no more often that its packets go beyond a quota.
const QUOTA_NEWS: Duration = Duration::from_secs(60);

/// A peer's address as seen at one hole-punch port.
#[derive(Clone, Copy)]
struct Observation {
    address: SocketAddr,
    at: Instant,
}

/// Its packets that went beyond a quota.
#[derive(Default)]
struct OverQuota {
    /// Those that it has not been told of.
    dropped: u64,
    told_at: Option<Instant>,
}

/// One control connection.
pub(super) struct PeerEntry {
    pub(super) id: NodeId,
    /// Where its QUIC packets come from, perhaps a tunnel's place; relayed packets go there.
    pub(super) address: SocketAddr,
    /// The host that is there.
    host: IpAddr,
    /// Relayed bytes that have gone to an address which has not proven itself.
    unproven_bytes: u64,
    /// Where its handshake came from: an address that has echoed (RFC 9000, section 8.1). A later one, which a
    /// migration has brought, may not have.
    pub(super) shook_hands_at: SocketAddr,
    /// The registration stream, once there is one.
    pub(super) stream: Option<MessageStream>,
    /// Whether it can be found by its ID.
    pub(super) listening: bool,
    consent: Option<Register>,
    /// What it may do, once it is registered.
    pub(super) rights: Rights,
    /// The hash of the token it has shown: whether that is good is asked again when the rules change.
    pub(super) shown: Option<TokenHash>,
    /// The network address it registered from.
    network: Option<IpAddr>,
    observed: BTreeMap<u8, Observation>,
    /// When it was last knocked at.
    pub(super) knocked_at: Option<Instant>,
    over_quota: OverQuota,
    /// Addresses on its machine's own networks, by its own word.
    local: Vec<SocketAddr>,
    pub(super) introductions: BTreeSet<u64>,
}

/// What a registration is let in with.
#[derive(Clone, Copy)]
pub(super) struct Admitted {
    pub(super) rights: Rights,
    pub(super) shown: Option<TokenHash>,
    pub(super) network: IpAddr,
}

impl PeerEntry {
    pub(super) fn is_registered(&self) -> bool {
        self.consent.is_some()
    }

    /// Which process it is, of those with the same key.
    fn instance(&self) -> Option<[u8; 8]> {
        self.consent.as_ref()?.instance.map(|instance| *instance)
    }

    /// Whether it has told beforehand that it accepts this client.
    pub(super) fn consents_to(&self, client: &NodeId) -> bool {
        self.consent.as_ref().is_some_and(|consent| consent.any || consent.ids.contains(client))
    }

    /// The WAN addresses that may be told (S9): proven not long ago, each once.
    pub(super) fn addresses(&self, now: Instant) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        for seen in self.observed.values() {
            if seen.at + OBSERVATION_LIFE > now && !addresses.contains(&seen.address) {
                addresses.push(seen.address);
            }
        }
        addresses
    }

    /// What another peer may be told (S9): besides the proven addresses, those of this machine's own networks, where the
    /// other may be on the same ones: IPv6 reaches everywhere, a private address only who is behind the same NAT. And a
    /// port that its router has mapped, which is at an address that it has proven.
    pub(super) fn addresses_for(&self, now: Instant, other: &Self) -> Vec<SocketAddr> {
        let mut addresses = self.addresses(now);
        let together = self.hosts(now).any(|host| other.hosts(now).any(|theirs| theirs == host));
        let told = addresses.clone();
        let own = |ip: IpAddr| told.iter().any(|proven| proven.ip() == ip);
        for &local in
            self.local.iter().filter(|at| is_global(at.ip()) || own(at.ip()) || together && is_private(at.ip()))
        {
            if addresses.len() < MAX_ADDRESSES && !addresses.contains(&local) {
                addresses.push(local);
            }
        }
        addresses
    }

    /// The hosts at which it has been seen.
    fn hosts(&self, now: Instant) -> impl Iterator<Item = IpAddr> {
        let seen = self.addresses(now).into_iter().map(|address| address.ip());
        seen.chain([self.host])
    }

    /// Its own word for where it is. [`Self::addresses_for`] tells only what is nobody else's to be harmed by.
    pub(super) fn set_local(&mut self, addresses: &[SocketAddr]) {
        self.local = addresses.iter().filter(|address| address.port() != 0).copied().collect();
    }

    /// Its packets come from another address now (RFC 9000, section 9); gives whether that is news.
    pub(super) fn move_to(&mut self, address: SocketAddr, host: IpAddr) -> bool {
        let moved = self.address != address;
        if moved {
            (self.address, self.host) = (address, host);
            self.unproven_bytes = 0;
        }
        moved
    }

    /// Whether relayed bytes may go to where it is now. QUIC moves before it has validated the new address, so somebody
    /// on the path could point a stream at a victim (RFC 9000, section 9.3): hosts that have echoed neither a handshake
    /// nor a cookie get a little, and the rest once they have. A tunnel can be pointed at nobody.
    pub(super) fn may_receive(&mut self, now: Instant, bytes: u64) -> bool {
        let host = self.host;
        let proven = is_tunnel(self.address)
            || self.shook_hands_at.ip() == host
            || self.addresses(now).iter().any(|seen| seen.ip() == host);
        if !proven {
            self.unproven_bytes += bytes;
        }
        proven || self.unproven_bytes <= UNPROVEN_BYTES
    }

    /// So many of its packets were dropped; gives how many it is to be told of, if it is time, and it takes such news.
    pub(super) fn on_over_quota(&mut self, now: Instant, packets: u64) -> Option<u64> {
        self.over_quota.dropped += packets;
        let takes = self.consent.as_ref().is_some_and(|register| register.knows.over_quota);
        let due = self.over_quota.told_at.is_none_or(|told| told + QUOTA_NEWS <= now);
        (takes && due).then(|| {
            self.over_quota.told_at = Some(now);
            std::mem::take(&mut self.over_quota.dropped)
        })
    }

    pub(super) fn observe(&mut self, now: Instant, port: u8, address: SocketAddr) {
        self.observed.insert(port, Observation { address, at: now });
    }
}

/// RFC 1918 and RFC 4193.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// IPv6 addresses that are their host's own everywhere (RFC 4291, section 2.5.4: 2000::/3).
fn is_global(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.segments()[0] & 0xe000 == 0x2000)
}

/// All control connections, and who can be found.
#[derive(Default)]
pub(super) struct Registry {
    peers: BTreeMap<usize, PeerEntry>,
    by_id: BTreeMap<NodeId, Handle>,
    /// Those that nobody may ask for, the latest last; a connection that one of them has may be introduced anew.
    guests: BTreeMap<NodeId, Vec<Handle>>,
    /// How many registrations each network address has.
    at: BTreeMap<IpAddr, usize>,
}

impl Registry {
    pub(super) fn insert(&mut self, handle: Handle, id: NodeId, address: SocketAddr, host: IpAddr) {
        let entry = PeerEntry {
            id,
            address,
            host,
            unproven_bytes: 0,
            shook_hands_at: address,
            stream: None,
            listening: false,
            consent: None,
            rights: Rights::default(),
            shown: None,
            network: None,
            observed: BTreeMap::new(),
            knocked_at: None,
            over_quota: OverQuota::default(),
            local: Vec::new(),
            introductions: BTreeSet::new(),
        };
        self.peers.insert(handle.0, entry);
    }

    pub(super) fn get(&self, handle: Handle) -> Option<&PeerEntry> {
        self.peers.get(&handle.0)
    }

    pub(super) fn get_mut(&mut self, handle: Handle) -> Option<&mut PeerEntry> {
        self.peers.get_mut(&handle.0)
    }

    /// Registers; gives the connection that held the same ID until now and has to go.
    pub(super) fn register(&mut self, handle: Handle, register: Register, admitted: Admitted) -> Option<Handle> {
        let entry = self.peers.get_mut(&handle.0)?;
        entry.listening = register.listen;
        // The token itself is of no use any more.
        entry.consent = Some(Register { token: None, ..register });
        (entry.rights, entry.shown, entry.network) = (admitted.rights, admitted.shown, Some(admitted.network));
        *self.at.entry(admitted.network).or_default() += 1;
        if !entry.listening {
            let (id, instance) = (entry.id, entry.instance());
            let guests = self.guests.entry(id).or_default();
            guests.push(handle);
            let same = |guest: &&Handle| {
                let entry = self.peers.get(&guest.0);
                **guest != handle && instance.is_some() && entry.is_some_and(|entry| entry.instance() == instance)
            };
            return guests.iter().find(same).copied();
        }
        let before = self.by_id.insert(entry.id, handle)?;
        (before != handle).then_some(before)
    }

    pub(super) fn find(&self, id: &NodeId) -> Option<Handle> {
        self.by_id.get(id).copied()
    }

    /// Who holds a connection that is to be introduced anew: also one that cannot be found otherwise.
    pub(super) fn find_any(&self, id: &NodeId) -> Option<Handle> {
        self.find(id).or_else(|| self.guests.get(id)?.last().copied())
    }

    pub(super) fn remove(&mut self, handle: Handle) -> Option<PeerEntry> {
        let entry = self.peers.remove(&handle.0)?;
        if let Some(network) = entry.network
            && let Some(count) = self.at.get_mut(&network)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.at.remove(&network);
            }
        }
        if self.by_id.get(&entry.id) == Some(&handle) {
            self.by_id.remove(&entry.id);
        }
        if let Some(guests) = self.guests.get_mut(&entry.id) {
            guests.retain(|guest| *guest != handle);
            if guests.is_empty() {
                self.guests.remove(&entry.id);
            }
        }
        Some(entry)
    }

    /// Control connections whose key is proven.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Registrations of one network address.
    pub(super) fn registered_at(&self, network: IpAddr) -> usize {
        self.at.get(&network).copied().unwrap_or_default()
    }

    /// Peers that can be found.
    pub(super) fn registered(&self) -> usize {
        self.by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Knows;
    use quinn_proto::ConnectionHandle;

    fn listening() -> Register {
        let ids = vec![NodeId::from_bytes([5; 32])];
        Register { listen: true, any: false, ids, instance: None, token: None, knows: Knows::PEER }
    }

    fn admitted() -> Admitted {
        Admitted { rights: Rights::ALL, shown: None, network: "198.51.100.1".parse().unwrap() }
    }

    fn registry() -> Registry {
        let mut registry = Registry::default();
        for handle in [1, 2] {
            let address: SocketAddr = "198.51.100.1:1".parse().unwrap();
            registry.insert(ConnectionHandle(handle), NodeId::from_bytes([1; 32]), address, address.ip());
        }
        registry
    }

    #[test]
    fn of_two_connections_of_one_process_the_later_one_lives_and_two_processes_do_not_disturb_each_other() {
        let mut registry = registry();
        let address: SocketAddr = "198.51.100.1:1".parse().unwrap();
        registry.insert(ConnectionHandle(3), NodeId::from_bytes([1; 32]), address, address.ip());
        let guest = |n: u8| Register { listen: false, instance: Some([n; 8].into()), ..listening() };
        assert_eq!(registry.register(ConnectionHandle(1), guest(1), admitted()), None);
        assert_eq!(registry.register(ConnectionHandle(2), guest(2), admitted()), None);
        assert_eq!(registry.register(ConnectionHandle(3), guest(1), admitted()), Some(ConnectionHandle(1)));
    }

    #[test]
    fn the_newest_registration_of_a_key_is_the_one_that_is_found() {
        let mut registry = registry();
        assert!(registry.register(ConnectionHandle(1), listening(), admitted()).is_none());
        assert!(registry.register(ConnectionHandle(2), listening(), admitted()) == Some(ConnectionHandle(1)));
        assert!(registry.find(&NodeId::from_bytes([1; 32])) == Some(ConnectionHandle(2)));
        registry.remove(ConnectionHandle(1));
        assert!(registry.find(&NodeId::from_bytes([1; 32])) == Some(ConnectionHandle(2)));
    }

    #[test]
    fn a_peer_that_only_connects_out_replaces_nobody_and_is_not_found() {
        let mut registry = registry();
        registry.register(ConnectionHandle(1), listening(), admitted());
        let outgoing = Register { listen: false, ..listening() };
        assert!(registry.register(ConnectionHandle(2), outgoing, admitted()).is_none());
        assert!(registry.find(&NodeId::from_bytes([1; 32])) == Some(ConnectionHandle(1)));
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn an_address_is_told_while_it_is_fresh_and_only_once() {
        let now = Instant::now();
        let mut registry = registry();
        let entry = registry.get_mut(ConnectionHandle(1)).unwrap();
        let address = "198.51.100.1:9".parse().unwrap();
        entry.observe(now, 0, address);
        entry.observe(now, 1, address);
        assert_eq!(entry.addresses(now), [address]);
        assert!(entry.addresses(now + OBSERVATION_LIFE).is_empty());
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn a_host_that_has_proven_nothing_gets_little_until_a_cookie_has_echoed() {
        let now = Instant::now();
        let mut registry = registry();
        let entry = registry.get_mut(ConnectionHandle(1)).unwrap();
        assert!(entry.may_receive(now, 1 << 30), "where it shook hands");
        let move_to = |entry: &mut PeerEntry, address: &str| {
            let address: SocketAddr = address.parse().unwrap();
            entry.move_to(address, address.ip())
        };
        move_to(entry, "198.51.100.1:2");
        assert!(entry.may_receive(now, 1 << 30), "another port of the same host");
        move_to(entry, "192.0.2.66:1");
        assert!(entry.may_receive(now, 1200));
        assert!(!entry.may_receive(now, UNPROVEN_BYTES));
        entry.observe(now, 0, "192.0.2.66:7".parse().unwrap());
        assert!(entry.may_receive(now, 1 << 30));
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn a_peers_own_word_is_passed_on_only_where_nobody_else_can_be_harmed_by_it() {
        let now = Instant::now();
        let mut registry = registry();
        let (id, from): (_, SocketAddr) = (NodeId::from_bytes([3; 32]), "192.0.2.9:1".parse().unwrap());
        registry.insert(ConnectionHandle(3), id, from, from.ip());
        let (proven, mapped) = ("198.51.100.1:9".parse().unwrap(), "198.51.100.1:41234".parse().unwrap());
        let (near, victim) = ("192.168.1.10:7".parse().unwrap(), "192.0.2.66:53".parse().unwrap());
        let entry = registry.get_mut(ConnectionHandle(1)).unwrap();
        entry.set_local(&[mapped, near, victim]);
        let told = |registry: &Registry, other| {
            let [entry, other] = [1, other].map(|handle| registry.get(ConnectionHandle(handle)).unwrap());
            entry.addresses_for(now, other)
        };
        assert_eq!(told(&registry, 3), [], "where its packets seem to come from has not echoed");
        registry.get_mut(ConnectionHandle(1)).unwrap().observe(now, 0, proven);
        assert_eq!(told(&registry, 3), [proven, mapped]);
        assert_eq!(told(&registry, 2), [proven, mapped, near], "behind the same NAT");
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn who_takes_news_of_a_quota_hears_at_once_and_then_once_a_minute_of_all_that_was_dropped_since() {
        let now = Instant::now();
        let mut registry = registry();
        registry.register(ConnectionHandle(1), listening(), admitted());
        registry.register(ConnectionHandle(2), Register { knows: Knows::default(), ..listening() }, admitted());
        let mut drop = |handle, after, packets| {
            registry.get_mut(ConnectionHandle(handle)).unwrap().on_over_quota(now + after, packets)
        };
        assert_eq!(drop(1, Duration::ZERO, 3), Some(3));
        assert_eq!(drop(1, Duration::from_secs(30), 4), None);
        assert_eq!(drop(1, QUOTA_NEWS, 5), Some(9));
        assert_eq!(drop(2, Duration::ZERO, 3), None, "an older peer would not know what that is");
    }

    #[test]
    fn standing_consent_is_for_those_it_names() {
        let mut registry = registry();
        registry.register(ConnectionHandle(1), listening(), admitted());
        let entry = registry.get(ConnectionHandle(1)).unwrap();
        assert!(entry.consents_to(&NodeId::from_bytes([5; 32])));
        assert!(!entry.consents_to(&NodeId::from_bytes([6; 32])));
    }
}
