//! What a pair of NATs needs to be direct, and what each such class of pairs must reach.

use std::time::Duration;

use direc_core::PUNCHING_PACKETS;

use super::plan::{Condition, Start};
use crate::{
    Bounds, Scenario,
    nat::{Dependence, NatConfig, Ports},
    oracle::{Verdict, verdict},
};

/// What it takes to be direct: the oracle's verdict, and where ports are predicted, how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Punching at the observed addresses.
    Direct,
    /// The same, past a box that must not be reached before its own host has punched.
    Clash,
    /// A NAT counts its ports on.
    Sequential,
    /// A NAT takes its ports from a block of its own.
    Block,
    /// Ports chosen among very many.
    Guess,
    /// Nothing: it stays on the relay.
    Relayed,
}

/// What a cell must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// How many of a thousand runs go direct.
    pub per_mille: u64,
    /// Until then, or it does not count.
    pub within: Option<Duration>,
    /// Probes that both sides together may send.
    pub probes: Option<u64>,
    /// Whether every run must be as fast as the delays allow.
    pub at_the_bound: bool,
}

impl Limit {
    /// What is asked, for people.
    pub fn words(&self) -> String {
        let mut words = format!("{} % direct", self.per_mille as f64 / 10.0);
        if let Some(within) = self.within {
            words.push_str(&format!(" within {} s", within.as_secs()));
        }
        if let Some(probes) = self.probes {
            words.push_str(&format!(", at most {probes} probes"));
        }
        if self.at_the_bound {
            words.push_str(", all within 1.05 × the bound + 1 ms");
        }
        words
    }
}

/// What is allowed above the bound, besides one twentieth.
const SLACK: Duration = Duration::from_millis(1);

impl Class {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Direct, Self::Clash, Self::Sequential, Self::Block, Self::Guess, Self::Relayed];

    /// The class of a pair: P2 behind `one`, P4 behind `other`.
    pub fn of(one: &[NatConfig], other: &[NatConfig]) -> Self {
        let block = |config: &NatConfig| config.translation.is_some_and(|t| matches!(t.ports, Ports::Block(_)));
        match verdict(one, other) {
            Verdict::Direct => Self::Direct,
            Verdict::Clash => Self::Clash,
            Verdict::Predict if one.iter().chain(other).any(block) => Self::Block,
            Verdict::Predict => Self::Sequential,
            Verdict::Guess => Self::Guess,
            Verdict::Relayed => Self::Relayed,
        }
    }

    /// Its name for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Clash => "clash",
            Self::Sequential => "sequential",
            Self::Block => "block",
            Self::Guess => "guess",
            Self::Relayed => "relayed",
        }
    }

    /// What the oracle says, for people.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Direct => "direct, without guessing",
            Self::Clash => "direct, if no early packet does harm",
            Self::Sequential => "direct, if the next port is predicted",
            Self::Block => "direct, if a port in a block is hit",
            Self::Guess => "direct, if a port among very many is hit",
            Self::Relayed => "stays on the relay",
        }
    }

    /// The technique that is needed, for people.
    pub const fn technique(self) -> &'static str {
        match self {
            Self::Direct => "punching, both first packets crossing; an unknown port is learnt from the other's packets",
            Self::Clash => {
                "both first packets crossing; else a first packet that goes no farther than one's own NAT, or \
                a fresh socket"
            }
            Self::Sequential => "prediction from the ports that the relay has seen",
            Self::Block => "some sockets and some tries in the block that the relay has seen",
            Self::Guess => "many sockets and many tries",
            Self::Relayed => "none",
        }
    }

    /// What a cell of this class must reach under this condition; `None` if nothing is asked of it but to work.
    pub fn limit(self, condition: Condition) -> Option<Limit> {
        let calm = condition.loss <= 0.0;
        let limit = Limit { per_mille: 990, within: None, probes: None, at_the_bound: false };
        let at_the_bound = calm && condition.start == Start::Crossing;
        match self {
            Self::Direct => Some(Limit { per_mille: if calm { 999 } else { 990 }, at_the_bound, ..limit }),
            Self::Clash => Some(Limit { at_the_bound, ..limit }),
            Self::Sequential => Some(Limit { per_mille: 950, ..limit }),
            Self::Block => Some(Limit { within: Some(Duration::from_secs(3)), ..limit }),
            Self::Guess => {
                let within = Some(Duration::from_secs(10));
                Some(Limit { per_mille: 950, within, probes: Some(PUNCHING_PACKETS), ..limit })
            }
            Self::Relayed => None,
        }
    }
}

/// The best that a run can do on the direct path, from the three delays and from what the NATs show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Best {
    /// P2 hears P4 straight.
    pub heard: Duration,
    /// The round trip is proven, data goes straight; `None` where it takes several to find a pair of ports that stays.
    pub moved: Option<Duration>,
}

impl Best {
    /// The best of the scenario's first call.
    ///
    /// Where P2 is met at the address that it showed the relay (its NAT maps by host alone, or lets everybody in), P4's
    /// answer to the offer reaches it: a + b + c. Else P4 learns P2's port from P2's first packet, which leaves at 2a:
    /// 2a + 2c. A probe's echo proves the address that was probed; if P4 shows another one to P2 than to the relay, P2
    /// has to hear it first, and the round trip comes after.
    pub fn of(scenario: &Scenario) -> Self {
        let [a, b, c] = [scenario.to_relay(0), scenario.to_relay(1), scenario.between(0, 1)];
        let bounds = Bounds::of(scenario, 0);
        let (heard, moved) = bounds.map_or((a + b + c, 2 * a + 2 * c), |bounds| (bounds.direct, bounds.moved));
        let [p2, p4] = [0, 1].map(|peer| known(&scenario.boxes(peer)));
        let heard = if p2 || open(&scenario.boxes(0)) { heard } else { moved };
        let moved = match (p2, p4) {
            (_, true) => Some(moved),
            (true, false) => Some(moved.max(heard + 2 * c)),
            (false, false) => None,
        };
        Self { heard, moved }
    }

    /// Whether these times are as good, for all that can be asked.
    pub fn reached(&self, heard: Duration, moved: Duration) -> bool {
        heard <= near(self.heard) && self.moved.is_none_or(|best| moved <= near(best))
    }
}

fn near(bound: Duration) -> Duration {
    bound.mul_f64(1.05) + SLACK
}

/// Whether a peer behind these boxes has one address for everybody.
fn known(boxes: &[NatConfig]) -> bool {
    boxes.iter().all(|config| config.mapping() == Dependence::Endpoint)
}

/// Whether they let everybody in.
fn open(boxes: &[NatConfig]) -> bool {
    boxes.iter().all(|config| config.filtering == Dependence::Endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::stack;

    const MS: Duration = Duration::from_millis(1);

    fn class(one: &str, other: &str) -> Class {
        Class::of(&stack(one).unwrap(), &stack(other).unwrap())
    }

    #[test]
    fn classes_are_the_oracles() {
        for (one, other, expected) in [
            ("easy", "double", Class::Direct),
            ("easy", "clash", Class::Clash),
            ("ban", "none", Class::Clash),
            ("sym-seq-busy", "easy", Class::Sequential),
            ("easy", "cgn-block", Class::Block),
            ("sym", "clash", Class::Guess),
            ("sym", "ban", Class::Relayed),
        ] {
            assert_eq!(class(one, other), expected, "{one} × {other}");
        }
    }

    #[test]
    fn loss_lowers_what_is_asked_and_lifts_the_bound() {
        let asked = |class: Class, loss, start| {
            class.limit(Condition { loss, start }).map(|limit| (limit.per_mille, limit.at_the_bound))
        };
        assert_eq!(asked(Class::Direct, 0.0, Start::Crossing), Some((999, true)));
        assert_eq!(asked(Class::Direct, 0.0, Start::P2First), Some((999, false)));
        assert_eq!(asked(Class::Direct, 5.0, Start::Crossing), Some((990, false)));
        assert_eq!(asked(Class::Clash, 5.0, Start::P4First), Some((990, false)));
        assert_eq!(asked(Class::Relayed, 0.0, Start::Crossing), None);
    }

    #[test]
    fn the_best_depends_on_who_is_met_where_it_showed_itself() {
        for (one, other, heard, moved) in [
            ("easy", "easy", 75, Some(90)),
            ("sym", "eim-adf", 90, Some(90)),
            ("eim-adf", "sym", 75, Some(125)),
            ("none", "adm-eif", 75, Some(125)),
            ("adm-eif", "apdm-adf", 75, None),
            ("apdm-adf", "adm-eif", 90, None),
        ] {
            let boxes = [one, other].map(|name| stack(name).unwrap());
            let best = Best::of(&Scenario::pair(boxes, 20 * MS, 30 * MS, 25 * MS));
            assert_eq!(best, Best { heard: heard * MS, moved: moved.map(|ms: u32| ms * MS) }, "{one} × {other}");
        }
    }
}
