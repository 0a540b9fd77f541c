//! Quotas: what one peer, one address and all together may ask of a relay in a time. Token buckets in virtual time.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use super::Relay;
use crate::{
    NodeId, RefuseReason,
    quic::Handle,
    wire::message::{Message, OverQuota},
};

/// Keys that one scope remembers. Beyond it, those are forgotten that have used least: keys cost nothing to make, and
/// whoever makes many must not clear the one that has used much.
const MAX_KEYS: usize = 65_536;
/// 10 years: with longer times the clock would overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Bytes of the largest packet that is relayed.
const ONE_PACKET: u64 = 1_500;
/// Keys that are not looked through for some that are of no interest any more.
const FEW_KEYS: usize = 1_024;

/// So much in such a time: a bucket of that size, which is full again after that time.
///
/// What is more than a bucket, and does not come in parts, passes when the bucket is full, and has to be filled up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many, or how many bytes. 0: none at all.
    pub amount: u64,
    /// The time; more than 10 years count as 10. Zero: no limit, unless the amount is 0.
    pub per: Duration,
}

impl Rate {
    fn time(self) -> Duration {
        self.per.min(LONGEST)
    }

    /// How long a bucket takes to be filled with `amount`; of more than a thousand buckets, as long as of those.
    fn time_for(self, amount: u64) -> Duration {
        let nanos = self.time().as_nanos() * u128::from(amount) / u128::from(self.amount.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(self.time() * 1000)
    }
}

/// The same quota at three scopes; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    /// For each peer, by its key: across its connections.
    pub peer: Option<Rate>,
    /// For each IP address; of IPv6, for each /64, which is what one customer has at least (RFC 6177).
    pub address: Option<Rate>,
    /// For all together.
    pub total: Option<Rate>,
}

/// What a relay gives in a time; nothing is limited by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Registrations, also those that are refused afterwards.
    pub registrations: Scopes,
    /// Introductions, and questions for a name.
    pub introductions: Scopes,
    /// Relayed bytes over a long time, of who sends them: a volume.
    pub relayed_bytes: Scopes,
    /// Relayed bytes over a short time, of who sends them: a bandwidth.
    pub relayed_rate: Scopes,
}

/// The quota that would not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exceeded {
    reason: RefuseReason,
    rate: Rate,
}

impl From<Exceeded> for RefuseReason {
    fn from(exceeded: Exceeded) -> Self {
        exceeded.reason
    }
}

/// The reason that names the scope.
fn reason(scope: Scope) -> RefuseReason {
    match scope {
        Scope::Peer => RefuseReason::PeerQuota,
        Scope::Address => RefuseReason::AddressQuota,
        Scope::Total => RefuseReason::TotalQuota,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Peer,
    Address,
    Total,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Peer(NodeId),
    Address(IpAddr),
    Total,
}

/// Buckets of one scope. Each is the time at which it will be full again (the "theoretical arrival time" of GCRA, ITU-T
/// I.371): nothing has to be refilled.
#[derive(Default)]
struct Buckets {
    full_at: BTreeMap<Key, Instant>,
    look_through: usize,
}

impl Buckets {
    /// Whether `amount` is there; of what is more than a bucket, whether the bucket is full.
    fn has(&self, now: Instant, key: &Key, rate: Rate, amount: u64) -> bool {
        let full_at = self.full_at.get(key).map_or(now, |&full_at| full_at.max(now));
        rate.amount > 0 && full_at + rate.time_for(amount).min(rate.time()) <= now + rate.time()
    }

    fn take(&mut self, now: Instant, key: Key, rate: Rate, amount: u64) {
        let before = self.full_at.get(&key).map_or(now, |&full_at| full_at.max(now));
        self.full_at.insert(key, before + rate.time_for(amount));
        self.forget(now);
    }

    /// Buckets that are full are like those that are not there.
    fn forget(&mut self, now: Instant) {
        if self.full_at.len() <= self.look_through.max(FEW_KEYS) {
            return;
        }
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() > MAX_KEYS {
            let mut times: Vec<Instant> = self.full_at.values().copied().collect();
            let (_, &mut middle, _) = times.select_nth_unstable(MAX_KEYS / 2);
            self.full_at.retain(|_, full_at| *full_at > middle);
        }
        self.look_through = self.full_at.len() * 2;
    }
}

/// One quota, with what has been used of it.
#[derive(Default)]
pub(super) struct Meter {
    peer: Buckets,
    address: Buckets,
    total: Buckets,
}

/// Whom something is counted for.
#[derive(Clone, Copy)]
pub(super) struct Payer {
    peer: NodeId,
    network: IpAddr,
}

impl Payer {
    pub(super) fn new(peer: NodeId, address: IpAddr) -> Self {
        Self { peer, network: network(address) }
    }

    /// The address of an IPv4 host, or the first one of an IPv6 /64.
    pub(super) fn network(&self) -> IpAddr {
        self.network
    }
}

/// What one customer has: an IPv4 address, or an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

impl Meter {
    /// Takes `amount` from all three buckets; from none if one is empty.
    pub(super) fn take(&mut self, now: Instant, scopes: &Scopes, who: Payer, amount: u64) -> Result<(), RefuseReason> {
        self.check(now, scopes, who, amount)?;
        self.spend(now, scopes, who, amount);
        Ok(())
    }

    fn spend(&mut self, now: Instant, scopes: &Scopes, who: Payer, amount: u64) {
        for (buckets, key, rate, _) in self.parts(scopes, who) {
            buckets.take(now, key, rate, amount);
        }
    }

    /// Whether `amount` may be taken.
    fn check(&mut self, now: Instant, scopes: &Scopes, who: Payer, amount: u64) -> Result<(), Exceeded> {
        let empty = self.parts(scopes, who).find(|(buckets, key, rate, _)| !buckets.has(now, key, *rate, amount));
        empty.map_or(Ok(()), |(.., rate, scope)| Err(Exceeded { reason: reason(scope), rate }))
    }

    fn parts(&mut self, scopes: &Scopes, who: Payer) -> impl Iterator<Item = (&mut Buckets, Key, Rate, Scope)> {
        let peer = scopes.peer.map(|rate| (&mut self.peer, Key::Peer(who.peer), rate, Scope::Peer));
        let address = scopes.address.map(|rate| (&mut self.address, Key::Address(who.network), rate, Scope::Address));
        let total = scopes.total.map(|rate| (&mut self.total, Key::Total, rate, Scope::Total));
        peer.into_iter().chain(address).chain(total)
    }
}

/// All quotas' meters.
#[derive(Default)]
pub(super) struct Meters {
    pub(super) registrations: Meter,
    pub(super) introductions: Meter,
    bytes: Meter,
    rate: Meter,
}

impl Meters {
    /// Whether these bytes may be relayed for `who`.
    pub(super) fn relay(&mut self, now: Instant, quotas: &Quotas, who: Payer, bytes: u64) -> Result<(), Exceeded> {
        self.bytes.check(now, &quotas.relayed_bytes, who, bytes)?;
        self.rate.check(now, &quotas.relayed_rate, who, bytes)?;
        self.rate.spend(now, &quotas.relayed_rate, who, bytes);
        self.bytes.spend(now, &quotas.relayed_bytes, who, bytes);
        Ok(())
    }

    /// Whether anything to speak of is left of the volume: an introduction that could carry no packet is none.
    pub(super) fn has_volume(&mut self, now: Instant, quotas: &Quotas, who: Payer) -> Result<(), RefuseReason> {
        Ok(self.bytes.check(now, &quotas.relayed_bytes, who, ONE_PACKET)?)
    }
}

impl Relay {
    /// From now on so much is given; what has been used counts.
    pub fn set_quotas(&mut self, now: Instant, quotas: Quotas) {
        self.advance(now);
        self.config.quotas = quotas;
    }

    /// Packets of this peer's are dropped: it is told so once in a while, if it takes such news.
    pub(super) fn on_exceeded(&mut self, sender: Handle, exceeded: Exceeded, packets: u64) {
        let entry = self.registry.get_mut(sender);
        let Some(dropped) = entry.and_then(|entry| entry.on_over_quota(self.now, packets)) else { return };
        let Exceeded { reason, rate } = exceeded;
        let per_ms = u64::try_from(rate.per.as_millis()).unwrap_or(u64::MAX);
        self.say(sender, &Message::OverQuota(OverQuota { reason, bytes: rate.amount, per_ms, dropped }));
    }

    /// Whom it is counted for what this connection asks.
    pub(super) fn payer(&self, handle: Handle) -> Option<Payer> {
        self.registry.get(handle).map(|entry| Payer::new(entry.id, self.tunnels.remote(entry.address).ip()))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn payer(n: u8, address: &str) -> Payer {
        Payer::new(NodeId::from_bytes([n; 32]), address.parse().unwrap())
    }

    fn rate(amount: u64) -> Option<Rate> {
        Some(Rate { amount, per: SECOND })
    }

    #[test]
    fn a_bucket_gives_its_amount_at_once_and_then_as_fast_as_it_fills() {
        let (mut now, mut meter) = (Instant::now(), Meter::default());
        let (scopes, who) = (Scopes { peer: rate(4), ..Scopes::default() }, payer(1, "192.0.2.1"));
        for _ in 0..4 {
            assert_eq!(meter.take(now, &scopes, who, 1), Ok(()));
        }
        for _ in 0..8 {
            assert_eq!(meter.take(now, &scopes, who, 1), Err(RefuseReason::PeerQuota));
            now += SECOND / 4;
            assert_eq!(meter.take(now, &scopes, who, 1), Ok(()));
        }
    }

    #[test]
    fn many_keys_at_one_address_are_one_address_and_a_64_is_one() {
        let (now, mut meter) = (Instant::now(), Meter::default());
        let scopes = Scopes { address: rate(2), ..Scopes::default() };
        for (n, address) in [(1, "2001:db8::1"), (2, "2001:db8::ffff:1"), (3, "192.0.2.1"), (4, "192.0.2.2")] {
            assert_eq!(meter.take(now, &scopes, payer(n, address), 1), Ok(()), "{address}");
        }
        assert_eq!(meter.take(now, &scopes, payer(5, "2001:db8::3"), 1), Err(RefuseReason::AddressQuota));
        assert_eq!(meter.take(now, &scopes, payer(5, "2001:db8:0:1::3"), 1), Ok(()));
        assert_eq!(meter.take(now, &scopes, payer(5, "::ffff:192.0.2.1"), 1), Ok(()), "the same address, mapped");
        assert_eq!(meter.take(now, &scopes, payer(6, "192.0.2.1"), 1), Err(RefuseReason::AddressQuota));
    }

    #[test]
    fn what_one_scope_refuses_is_taken_from_none() {
        let (now, mut meter) = (Instant::now(), Meter::default());
        let scopes = Scopes { peer: rate(1), address: None, total: rate(2) };
        assert_eq!(meter.take(now, &scopes, payer(1, "192.0.2.1"), 1), Ok(()));
        assert_eq!(meter.take(now, &scopes, payer(1, "192.0.2.1"), 1), Err(RefuseReason::PeerQuota));
        assert_eq!(meter.take(now, &scopes, payer(2, "192.0.2.1"), 1), Ok(()));
        assert_eq!(meter.take(now, &scopes, payer(3, "192.0.2.1"), 1), Err(RefuseReason::TotalQuota));
    }

    #[test]
    fn a_quota_of_nothing_gives_nothing() {
        let (now, mut meter) = (Instant::now(), Meter::default());
        let scopes = Scopes { total: Some(Rate { amount: 0, per: Duration::ZERO }), ..Scopes::default() };
        assert_eq!(meter.take(now, &scopes, payer(1, "192.0.2.1"), 1), Err(RefuseReason::TotalQuota));
    }

    #[test]
    fn who_makes_keys_without_end_neither_fills_the_memory_nor_clears_the_heaviest_user() {
        let (now, mut meter) = (Instant::now(), Meter::default());
        let scopes = Scopes { address: Some(Rate { amount: 1000, per: SECOND * 3600 }), ..Scopes::default() };
        let heavy = payer(1, "192.0.2.1");
        assert_eq!(meter.take(now, &scopes, heavy, 1000), Ok(()));
        for n in 0..200_000u32 {
            let who = Payer::new(NodeId::from_bytes([2; 32]), IpAddr::from(n.to_be_bytes()));
            assert_eq!(meter.take(now, &scopes, who, 1), Ok(()));
        }
        assert!(meter.address.full_at.len() <= 2 * MAX_KEYS + 1, "{}", meter.address.full_at.len());
        assert_eq!(meter.take(now, &scopes, heavy, 1), Err(RefuseReason::AddressQuota));
    }

    proptest! {
        #[test]
        fn no_more_passes_than_a_bucket_and_what_has_been_filled_since(
            asks in proptest::collection::vec((0..2_000u64, 1..30u64), 1..200),
        ) {
            let (start, mut meter) = (Instant::now(), Meter::default());
            let (scopes, who) = (Scopes { total: rate(100), ..Scopes::default() }, payer(1, "192.0.2.1"));
            let (mut now, mut passed) = (start, 0);
            for (pause, amount) in asks {
                now += Duration::from_millis(pause);
                if meter.take(now, &scopes, who, amount).is_ok() {
                    passed += amount;
                }
                let filled = (now - start).as_millis() as u64 / 10;
                prop_assert!(passed <= 100 + filled, "{passed} by {filled}");
            }
        }
    }
}
