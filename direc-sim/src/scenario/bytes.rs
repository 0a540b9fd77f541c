//! Any bytes are a scenario: for property tests and fuzzers.

use std::time::Duration;

use direc_core::{Congestion, Role, Step, Techniques};

use super::{Call, Incident, Scenario, Side, Trouble, When, Willing};
use crate::{
    app::{Answer, Flow, Pace, Work},
    link::LinkConfig,
    nat::{Dependence, NatConfig, PF, stack},
};

const MS: Duration = Duration::from_millis(1);

/// The boxes a byte can choose. The first are the harmless ones, so that shrinking leads there.
const BOXES: [&str; 16] = [
    "easy",
    "none",
    "eim-eif",
    "eim-adf",
    "eim-apdf-x",
    "fw",
    "sym",
    "double-eim",
    "apdm-eif-x",
    "adm-adf-x",
    "adm-apdf",
    "apdm-adf",
    "short-timeout",
    "clash",
    "double-sym",
    "udp-blocked",
];

/// Reads one byte after the other, and zeros at the end.
pub(super) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn next(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.next()) % bound.max(1)
    }

    pub(super) fn flag(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// From 100 µs to some 250 ms, the short ones in finer steps. Never nothing: time has to go on.
    fn delay(&mut self) -> Duration {
        let x = u32::from(self.next());
        Duration::from_micros(100) + Duration::from_micros(4) * x * x
    }

    /// Up to 10 s, for when things happen.
    fn moment(&mut self) -> Duration {
        let x = u32::from(self.next());
        Duration::from_micros(150) * x * x
    }

    /// A probability up to `most`, often 0.
    fn chance(&mut self, most: f64) -> f64 {
        let x = self.next();
        if x < 128 { 0.0 } else { most * f64::from(x - 127) / 128.0 }
    }

    fn boxes(&mut self) -> Vec<NatConfig> {
        BOXES.get(self.below(BOXES.len())).and_then(|name| stack(name)).unwrap_or_default()
    }

    fn work(&mut self) -> Work {
        let x = self.next();
        Work {
            ping: x & 1 == 0,
            echo: if x & 2 == 0 { 0 } else { 1 + 700 * u64::from(self.next()) },
            upload: if x & 4 == 0 { 0 } else { 1 + 1500 * u64::from(self.next()) },
            datagrams: if x & 8 == 0 { 0 } else { u32::from(self.next()) },
            flow: None,
        }
    }

    fn access(&mut self) -> LinkConfig {
        match self.below(4) {
            0 | 1 => LinkConfig::default(),
            2 => LinkConfig::rate(1_000_000 + 400_000 * u64::from(self.next())),
            // The least that IPv6 asks of a link; QUIC needs 1,200 bytes and the relayed packets' header inside.
            _ => LinkConfig { mtu: 1280 + self.below(56) * 4, ..LinkConfig::default() },
        }
    }

    fn willing(&mut self) -> Willing {
        match self.below(8) {
            0..=3 => Willing::Everybody,
            4 => Willing::Asked(Answer::Accept(Duration::ZERO)),
            5 => Willing::Asked(Answer::Accept(self.moment())),
            6 => Willing::Asked(Answer::Refuse(self.moment())),
            _ => {
                if self.flag() {
                    Willing::Asked(Answer::Ignore)
                } else {
                    Willing::Nobody
                }
            }
        }
    }

    fn side(&mut self, number: usize) -> Side {
        let mut side = Side::new(self.boxes(), self.delay());
        side.willing = self.willing();
        (side.up, side.down) = (self.access(), self.access());
        side.serve = if self.flag() { self.work() } else { Work::default() };
        side.home_of = (number > 0 && self.next() > 230).then_some(0);
        side
    }

    fn incident(&mut self, peers: usize) -> Incident {
        let when = if self.flag() {
            let role = [Role::P2, Role::P3, Role::P4][self.below(3)];
            When::Step(role, Step::ALL[self.below(Step::ALL.len())])
        } else {
            When::At(self.moment())
        };
        let (one, other) = (self.below(peers), self.below(peers));
        let what = match self.below(9) {
            0 => Trouble::SilencePeer(one),
            1 => Trouble::SilenceRelay,
            2 => Trouble::SeverDirect(one, other),
            3 => Trouble::SeverRelay(one),
            4 => Trouble::Reboot(one),
            5 => Trouble::PesterPeer(one, 1 + u32::from(self.next())),
            6 => Trouble::PesterRelay(1 + u32::from(self.next())),
            7 => Trouble::CloseAll(one),
            _ => Trouble::Shutdown(one),
        };
        Incident { when, what, lasts: self.flag().then(|| self.moment()) }
    }

    /// What scenarios had not when the first of them were committed: read last, so that those still mean the same.
    fn later_additions(&mut self, scenario: &mut Scenario) {
        let count = scenario.peers.len();
        for _ in 0..self.below(4) {
            let incident = self.later_incident(count);
            scenario.incidents.push(incident);
        }
        scenario.relays = 1 + usize::from(self.next() > 200);
        for side in &mut scenario.peers {
            side.elsewhere = self.flag().then(|| self.boxes());
        }
        if let Some(call) = scenario.calls.first_mut()
            && self.flag()
        {
            let pace = Pace::Rate(10_000 + 2_000 * u64::from(self.next()));
            call.work.flow = Some(Flow { pace, lasts: self.moment() });
        }
        for number in 0..count {
            if self.flag() {
                scenario.peers[number].boxes = self.composed();
            }
            if number > 0 {
                scenario.peers[number].carrier_of = (self.next() > 200).then_some(0);
            }
            // One way may be much worse than the other.
            (scenario.peers[number].up.loss, scenario.peers[number].down.loss) = (self.chance(0.1), self.chance(0.1));
        }
    }

    /// What came after [`Self::later_additions`]: other ports, networks of both families, and networks without IPv4. Those
    /// are homes of one peer that stays there: who roams gets to a relay's other address by a resolver.
    fn newest_additions(&mut self, scenario: &mut Scenario) {
        let shared = |side: &Side| side.home_of.is_some() || side.carrier_of.is_some() || side.elsewhere.is_some();
        let apart = !scenario.v6 && !scenario.peers.iter().any(shared);
        for side in &mut scenario.peers {
            let drawn = self.below(8);
            let Some(first) = side.boxes.first_mut() else { continue };
            let Some(translation) = &mut first.translation else { continue };
            match drawn {
                4 if apart => first.beside = Some(Dependence::Endpoint),
                5 if apart => first.beside = Some(Dependence::AddressAndPort),
                6 if apart => first.nat64 = true,
                7 => translation.ports = PF,
                _ => {}
            }
        }
    }

    /// What came last: messages of uneven parts, each sent at once, and readers that are slow to read them.
    fn uneven_writes(&mut self, scenario: &mut Scenario) {
        for side in &mut scenario.peers {
            side.reads_every = (self.next() > 150).then(|| MS + self.moment());
        }
        for call in &mut scenario.calls {
            if self.next() > 150 {
                let full = 1000 + 3 * u16::from(self.next());
                let parts = [full, 1 + u16::from(self.next()), 1 + u16::from(self.next()) / 8];
                call.work.flow = Some(Flow { pace: Pace::Parts(parts), lasts: self.moment() / 12 });
            }
        }
    }

    fn later_incident(&mut self, peers: usize) -> Incident {
        let (when, lasts) = (When::At(self.moment()), self.moment());
        let (one, other) = (self.below(peers), self.below(peers));
        let what = match self.below(6) {
            0 => Trouble::SeverWay(one, other),
            1 => Trouble::Readdress(one),
            2 => Trouble::Roam(one),
            3 => Trouble::Stop(one),
            4 => Trouble::KillRelay(other),
            _ => Trouble::DrainRelay(other, self.moment()),
        };
        // A process that never goes on cannot be asked to have noticed.
        Incident { when, what, lasts: Some(lasts) }
    }
}

impl Scenario {
    /// The scenario that these bytes stand for. Every byte string gives a valid one of bounded size.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut bytes = Bytes(bytes);
        let count = 2 + bytes.below(3);
        let peers: Vec<Side> = (0..count).map(|number| bytes.side(number)).collect();
        let mut direct = Vec::new();
        for one in 0..count {
            for other in 0..one {
                if bytes.flag() {
                    direct.push((other, one, bytes.delay()));
                }
            }
        }
        let noise = LinkConfig {
            loss: bytes.chance(0.08),
            duplicate: bytes.chance(0.2),
            reorder: bytes.chance(0.2),
            reorder_by: bytes.delay(),
            corrupt: bytes.chance(0.05),
            jitter: if bytes.flag() { bytes.delay() / 4 } else { Duration::ZERO },
            ..LinkConfig::default()
        };
        let mut calls = Vec::new();
        for _ in 0..=bytes.below(4) {
            let (from, step) = (bytes.below(count), 1 + bytes.below(count - 1));
            calls.push(Call {
                at: if bytes.flag() { bytes.moment() } else { Duration::ZERO },
                from,
                to: (from + step) % count,
                relay_only: bytes.next() > 200,
                work: bytes.work(),
            });
        }
        let incidents = (0..bytes.below(4)).map(|_| bytes.incident(count)).collect();
        let mut scenario = Self {
            peers,
            direct,
            direct_link: None,
            relay_link: None,
            relays: 1,
            direct_mtu: (bytes.next() > 200).then(|| 1280 + bytes.below(56) * 4),
            noise,
            techniques: Techniques::default(),
            congestion: Congestion::default(),
            knock_after: None,
            relay_delay: if bytes.flag() { bytes.delay() } else { Duration::ZERO },
            tunnels: false,
            v6: bytes.next() > 200,
            warm: !bytes.flag(),
            calls,
            incidents,
            linger: 500 * MS,
            epilogue: true,
            farewell: true,
            limit: Duration::from_secs(400),
        };
        bytes.later_additions(&mut scenario);
        bytes.newest_additions(&mut scenario);
        bytes.uneven_writes(&mut scenario);
        scenario
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_bytes_at_all_are_the_plainest_pair() {
        let scenario = Scenario::from_bytes(&[]);
        assert_eq!(scenario.peers.len(), 2);
        assert_eq!(scenario.peers[0].boxes, [NatConfig::EASY]);
        assert_eq!(scenario.calls.len(), 1);
        assert!(scenario.warm && scenario.calls[0].work.ping && scenario.incidents.is_empty());
        assert_eq!(scenario.noise.loss, 0.0);
    }

    #[test]
    fn networks_of_both_families_and_without_ipv4_come_up() {
        let mut rng = crate::rng::Rng::new(1, crate::rng::Purpose::Garbage);
        let mut seen = [0; 3];
        for _ in 0..1000 {
            let mut bytes = [0; 300];
            rng.fill(&mut bytes);
            for first in Scenario::from_bytes(&bytes).peers.iter().filter_map(|side| side.boxes.first()) {
                let pf = first.translation.is_some_and(|translation| translation.ports == PF);
                let is = [first.is_nat64(), first.firewall_beside().is_some(), pf];
                seen.iter_mut().zip(is).for_each(|(count, is)| *count += u32::from(is));
            }
        }
        assert!(seen.iter().all(|&count| count > 10), "{seen:?}");
    }

    #[test]
    fn uneven_writes_to_slow_readers_come_up() {
        let mut rng = crate::rng::Rng::new(1, crate::rng::Purpose::Garbage);
        let mut seen = 0;
        for _ in 0..1000 {
            let mut bytes = [0; 240];
            rng.fill(&mut bytes);
            let scenario = Scenario::from_bytes(&bytes);
            let uneven = |call: &&Call| matches!(call.work.flow, Some(Flow { pace: Pace::Parts(_), .. }));
            let slow = |call: &Call| scenario.peers[call.to].reads_every.is_some();
            seen += u32::from(scenario.calls.iter().filter(uneven).any(slow));
        }
        assert!(seen > 50, "{seen}");
    }

    #[test]
    fn every_box_has_a_name_that_is_known() {
        for name in BOXES {
            assert!(stack(name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_trouble_comes_up() {
        let mut rng = crate::rng::Rng::new(1, crate::rng::Purpose::Garbage);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let mut bytes = [0; 200];
            rng.fill(&mut bytes);
            let troubles =
                Scenario::from_bytes(&bytes).incidents.into_iter().map(|incident| format!("{:?}", incident.what));
            seen.extend(troubles.filter_map(|words| words.split('(').next().map(str::to_owned)));
        }
        assert_eq!(seen.len(), 15, "{seen:?}");
    }

    #[test]
    fn what_was_committed_before_there_was_more_to_say_means_what_it_meant() {
        let scenario = Scenario::from_bytes(&[0; 40]);
        assert_eq!((scenario.relays, scenario.incidents.len(), scenario.calls[0].work.flow), (1, 0, None));
        assert!(scenario.peers.iter().all(|side| side.elsewhere.is_none() && side.carrier_of.is_none()));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_valid_scenario(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let scenario = Scenario::from_bytes(&bytes);
            let count = scenario.peers.len();
            prop_assert!((2..=4).contains(&count));
            prop_assert!((1..=4).contains(&scenario.calls.len()) && scenario.incidents.len() < 7);
            for call in &scenario.calls {
                prop_assert!(call.from < count && call.to < count && call.from != call.to);
            }
            for side in &scenario.peers {
                prop_assert!(side.to_relay >= Duration::from_micros(100) && side.to_relay < 300 * MS);
                prop_assert!(side.up.mtu >= 1280 && side.down.mtu >= 1280);
            }
            prop_assert_eq!(Scenario::from_bytes(&bytes), scenario);
        }
    }
}
