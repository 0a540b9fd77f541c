//! Any bytes are a stack of boxes, drawn axis by axis.

use std::time::Duration;

use super::bytes::Bytes;
use crate::nat::{Dependence, Egress, Hairpin, NatConfig, Pooling, Ports, Timeouts, Translation, Unsolicited};

/// The stack of at most two boxes that these bytes stand for. No bytes at all are the usual home router.
pub fn boxes_from_bytes(bytes: &[u8]) -> Vec<NatConfig> {
    Bytes::new(bytes).composed()
}

impl Bytes<'_> {
    /// A stack of boxes, axis by axis.
    pub(super) fn composed(&mut self) -> Vec<NatConfig> {
        let count = [1, 1, 2, 0][self.below(4)];
        (0..count).map(|_| self.composed_box()).collect()
    }

    fn composed_box(&mut self) -> NatConfig {
        let mapping = self.dependence();
        let filtering = [Dependence::AddressAndPort, Dependence::Endpoint, Dependence::Address][self.below(3)];
        let ports = match self.below(6) {
            0 => Ports::Preserved,
            1 => Ports::Random,
            2 => Ports::Parity,
            3 => Ports::Sequential { step: [1, -1, 2, 7][self.below(4)], busy: 0 },
            4 => Ports::Sequential { step: 1, busy: 1 + u16::from(self.next()) },
            _ => Ports::Block([1008, 256, 2048][self.below(3)]),
        };
        let overloading = mapping == Dependence::Endpoint && ports == Ports::Preserved || self.rarely();
        let (addresses, pooling) = match self.below(8) {
            6 => (2 + u8::from(self.flag()), Pooling::Paired),
            7 => (2 + u8::from(self.flag()), Pooling::Arbitrary),
            _ => (1, Pooling::Paired),
        };
        let translation = Translation { mapping, ports, overloading, addresses, pooling };
        let seconds = Duration::from_secs;
        let (unreplied, replied) = [(30, 120), (60, 300), (5, 10), (20, 20)][self.below(4)];
        NatConfig {
            translation: (!self.rarely()).then_some(translation),
            filtering,
            hairpin: [Hairpin::None, Hairpin::None, Hairpin::External, Hairpin::Internal][self.below(4)],
            timeouts: Timeouts { unreplied: seconds(unreplied), replied: seconds(replied) },
            inbound_refresh: !self.rarely(),
            unsolicited: match self.below(8) {
                5 => Unsolicited { accepted: true, ban: None },
                6 => Unsolicited { accepted: false, ban: Some(seconds(10)) },
                7 => Unsolicited { accepted: true, ban: Some(seconds(10)) },
                _ => Unsolicited::DROPPED,
            },
            egress: if self.rarely() { [Egress::Dns, Egress::Web][self.below(2)] } else { Egress::Any },
            new_flows: self.rarely().then(|| 20 + u16::from(self.next())),
            // QUIC needs 1,200 bytes, and the relayed packets' header inside.
            mtu: if self.rarely() { 1280 + self.below(56) as u16 * 4 } else { 1500 },
            isolates: self.rarely(),
            nat64: false,
            beside: None,
        }
    }

    fn dependence(&mut self) -> Dependence {
        [Dependence::Endpoint, Dependence::Endpoint, Dependence::Address, Dependence::AddressAndPort][self.below(4)]
    }

    fn rarely(&mut self) -> bool {
        self.next() > 230
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_bytes_are_the_usual_home_router() {
        assert_eq!(boxes_from_bytes(&[]), [NatConfig::EASY]);
    }

    #[test]
    fn every_value_of_every_axis_comes_up() {
        let mut rng = crate::rng::Rng::new(1, crate::rng::Purpose::Garbage);
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for _ in 0..3000 {
            let mut bytes = [0; 60];
            rng.fill(&mut bytes);
            for config in boxes_from_bytes(&bytes) {
                let NatConfig { translation, filtering, hairpin, unsolicited, egress, .. } = config;
                seen.extend(translation.map(|t| format!("mapping {:?}", t.mapping)));
                seen.extend(translation.map(|t| format!("ports {:.5}", format!("{:?}", t.ports))));
                seen.extend(translation.map(|t| format!("pooling {:?} {}", t.pooling, t.addresses > 1)));
                seen.extend([format!("filtering {filtering:?}"), format!("hairpin {hairpin:?}")]);
                seen.extend([format!("unsolicited {unsolicited:?}"), format!("egress {egress:?}")]);
                seen.insert(format!("firewall {}", translation.is_none()));
            }
        }
        // 3 mappings, 5 kinds of ports, 3 of pooling, 3 filters, 3 hairpins, 4 for strangers, 3 ways out, 2.
        assert_eq!(seen.len(), 3 + 5 + 3 + 3 + 3 + 4 + 3 + 2, "{seen:?}");
    }
}
