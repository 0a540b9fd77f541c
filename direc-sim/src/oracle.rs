//! Which pairs of NATs let a direct path be, and what it takes: by RFC 4787 alone. Knows no protocol, sees no packet.

mod view;

use crate::{
    nat::{Dependence, Hairpin, NatConfig, Pooling, Translation},
    scenario::Scenario,
};
use view::{Next, View};

/// What it takes to get a direct path between two peers, from the easiest to the impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Punching at the observed addresses will do, or learning the other side's from its packets.
    Direct,
    /// It would be direct, but a side must not be reached before it has punched itself: the order matters, or a first
    /// punch that goes no farther than one's own NATs, or fresh sockets afterwards.
    Clash,
    /// A side's next port must be predicted: its NAT counts on, or has a block of its own.
    Predict,
    /// A side's port must be guessed: many sockets, many tries.
    Guess,
    /// Nothing will help.
    Relayed,
}

impl Verdict {
    /// All of them, from the easiest on.
    pub const ALL: [Self; 5] = [Self::Direct, Self::Clash, Self::Predict, Self::Guess, Self::Relayed];

    /// Its name, as tables have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Clash => "clash",
            Self::Predict => "predict",
            Self::Guess => "guess",
            Self::Relayed => "relayed",
        }
    }
}

/// What it takes to get a direct path between a peer behind these boxes and one behind those, innermost first, where
/// nothing but the internet is between the outermost.
pub fn verdict(one: &[NatConfig], other: &[NatConfig]) -> Verdict {
    if one.iter().chain(other).any(NatConfig::blocks_udp) {
        return Verdict::Relayed;
    }
    if have_ipv6(one, other) {
        return Verdict::Direct;
    }
    between(&View::of(one), &View::of(other))
}

/// Whether both peers have public IPv6 addresses beside what else they have: nothing but firewalls is between those.
fn have_ipv6(one: &[NatConfig], other: &[NatConfig]) -> bool {
    [one, other].into_iter().all(|boxes| boxes.first().is_some_and(|config| config.firewall_beside().is_some()))
}

/// As [`verdict`], for two peers that are both behind `shared` as well: one home, or one carrier. `reachable` says
/// whether one of them is a host on the network inside it and tells the other its address there.
pub fn verdict_behind(one: &[NatConfig], other: &[NatConfig], shared: &[NatConfig], reachable: bool) -> Verdict {
    if one.iter().chain(other).any(NatConfig::blocks_udp) {
        return Verdict::Relayed;
    }
    let Some(nearest) = shared.first() else { return verdict(one, other) };
    if have_ipv6(one, other) {
        return Verdict::Direct;
    }
    if reachable && !nearest.isolates {
        return verdict(one, other);
    }
    // The only way leads through the box that has the public address, and back.
    let Some(outermost) = shared.iter().rposition(|config| config.translation.is_some()) else {
        return verdict(one, other);
    };
    let turning = shared[outermost];
    if shared[..=outermost].iter().any(NatConfig::blocks_udp) {
        return Verdict::Relayed;
    }
    let inner = &shared[..outermost];
    let [one, other] = [one, other].map(|own| View::of(&[own, inner].concat()));
    match turning.hairpin {
        // Each sees the other at an address that nobody told it: whoever filters lets nothing in, and the answer has to
        // find its way on the inside.
        Hairpin::Internal if !nearest.isolates && one.lets_all_in() && other.lets_all_in() => between(&one, &other),
        Hairpin::None | Hairpin::Internal => Verdict::Relayed,
        Hairpin::External => {
            // What it turns back it does not filter.
            let turning = NatConfig { filtering: Dependence::Endpoint, ..turning };
            between(&one.behind(&turning), &other.behind(&turning))
        }
    }
}

/// What it takes for two peers of a scenario, each where it is at home.
pub fn at_home(scenario: &Scenario, one: usize, other: usize) -> Verdict {
    let bare = |peer: usize| -> Vec<NatConfig> {
        let translation = |config: &NatConfig| config.translation.filter(|_| !scenario.v6);
        let boxes = scenario.boxes(peer).into_iter();
        boxes.map(|config| NatConfig { translation: translation(&config), ..config }).collect()
    };
    if scenario.home_of(one) == scenario.home_of(other) {
        return verdict_behind(&[], &[], &bare(one), true);
    }
    let carrier = |peer: usize| scenario.carrier_of(peer).unwrap_or(scenario.home_of(peer));
    let ((one_own, shared), (other_own, _)) = (scenario.shared_boxes(one), scenario.shared_boxes(other));
    let Some(shared) = shared.filter(|_| carrier(one) == carrier(other)) else {
        return verdict(&bare(one), &bare(other));
    };
    // Who has no NAT at home has its address inside the carrier's network, and knows it.
    verdict_behind(one_own, other_own, &[shared], one_own.is_empty() || other_own.is_empty())
}

/// Whether one lucky packet may do what no technique can be relied on for: a first guess that is right before anybody is
/// shut out, an address that happens to be the one known, or a guess that is right and one at the answer as well.
pub fn luck_may_do(one: &[NatConfig], other: &[NatConfig]) -> bool {
    let arbitrary = |t: Translation| t.addresses > 1 && t.pooling == Pooling::Arbitrary;
    let lucky = |config: &NatConfig| config.unsolicited.ban.is_some() || config.translation.is_some_and(arbitrary);
    let (seen, theirs) = (View::of(one), View::of(other));
    let stays = seen.by_address() || theirs.by_address();
    let asks_for_ports = !seen.lets_in_from(&theirs) && !theirs.lets_in_from(&seen);
    one.iter().chain(other).any(lucky) || stays && !asks_for_ports
}

/// Whether a direct path must come to be without guessing, predicting, or minding who punches first.
pub fn goes_direct(one: &[NatConfig], other: &[NatConfig]) -> bool {
    verdict(one, other) == Verdict::Direct
}

fn between(one: &View, other: &View) -> Verdict {
    if punches(one, other) {
        // A side minds early packets unless the other cannot send any before it has got one.
        return if one.minds_early || other.minds_early { Verdict::Clash } else { Verdict::Direct };
    }
    let verdict = match (one.next, other.next) {
        (Next::Same, next) | (next, Next::Same) => match next {
            Next::Same => Verdict::Direct,
            Next::Counts | Next::Near => Verdict::Predict,
            Next::Anywhere => Verdict::Guess,
        },
        (Next::Counts, Next::Counts) => Verdict::Predict,
        // With a block against one that counts, or another block, each mapping is one try, and right by one in as many
        // ports as the block has: with all of them it is one on average, and none in e⁻¹ of all cases.
        (Next::Near | Next::Anywhere, _) | (_, Next::Near | Next::Anywhere) => {
            if can_be_met(one, other) || can_be_met(other, one) { Verdict::Guess } else { Verdict::Relayed }
        }
    };
    // Not even the address is known, and has to be hit as well.
    let wanders = !one.address_known() || !other.address_known();
    let verdict = if wanders { verdict.max(Verdict::Guess) } else { verdict };
    // Wrong guesses are what gets one shut out.
    if one.bans || other.bans { Verdict::Relayed } else { verdict }
}

/// Whether a side can be met by guesses that come from a port which it does not know either: it has to let them in, and
/// its answer has to come from the port that was guessed; or else it learns the guesser's port by them, which has to be
/// the same for all of its own, and is met by the same guesses when it punches there from many sockets.
fn can_be_met(guessed: &View, guesser: &View) -> bool {
    guessed.lets_in_from(guesser) && (guessed.by_address() || guesser.by_address())
}

/// Whether a path comes to be by punching at observed addresses and answering to where packets come from.
fn punches(one: &View, other: &View) -> bool {
    match (one.known(), other.known()) {
        (true, true) => true,
        // The known side learns the other's port from its packets, if it lets them in.
        (true, false) => one.lets_in_from(other),
        (false, true) => other.lets_in_from(one),
        // The open side is reached at the port it showed the relay, and answers from another. If both sides take
        // another port for each port outside, every answer moves on to a new one and no pair of ports ever stays.
        (false, false) => {
            let stays = one.by_address() || other.by_address();
            stays && (one.lets_all_in() && other.lets_in_from(one) || other.lets_all_in() && one.lets_in_from(other))
        }
    }
}

#[cfg(test)]
mod tests;
