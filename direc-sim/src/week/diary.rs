//! Who takes part in a week, and what befalls them.

use std::time::Duration;

use super::{DAY, MINUTE, SECOND, Week};
use crate::{
    link::LinkConfig,
    nat::stack,
    rng::{Purpose, Rng},
    scenario::{Incident, Scenario, Side, Trouble, When},
};

/// What the peers are behind, one each.
pub(super) const BOXES: [&str; 6] = ["easy", "sym", "eim-eif-x", "double", "short-timeout", "cgn-block"];
/// Who keeps a connection to whom: some direct at once, some after rounds of punching, one relayed.
pub(super) const PAIRS: [(usize, usize); 4] = [(0, 1), (2, 3), (4, 0), (5, 1)];
/// Between the end of one thing that befalls a peer, or a relay, and the next: from nothing to this.
const PEER_REST: Duration = Duration::from_secs(6 * 3600);
const RELAY_REST: Duration = Duration::from_secs(8 * 3600);
/// How long a drain takes.
const DRAIN: Duration = Duration::from_secs(30);
const DELAY: Duration = Duration::from_millis(20);
/// Packets lost on each way.
const LOSS: f64 = 0.001;

/// The week as a scenario. The connections are the watch's affair.
pub(super) fn scenario(week: &Week) -> Scenario {
    let mut scenario = Scenario::home_pair(DELAY, DELAY, DELAY);
    scenario.peers = BOXES.iter().map(|name| Side::new(stack(name).unwrap_or_default(), DELAY)).collect();
    scenario.noise = LinkConfig { loss: LOSS, ..LinkConfig::default() };
    scenario.direct.clear();
    scenario.calls.clear();
    scenario.relays = week.relays;
    let mut rng = Rng::new(week.seed, Purpose::Stories);
    for peer in 0..scenario.peers.len() {
        scenario.incidents.extend(course(&mut rng, week.lasts, PEER_REST, |rng| of_peer(rng, peer)));
    }
    for relay in 0..week.relays {
        scenario.incidents.extend(course(&mut rng, week.lasts, RELAY_REST, |rng| of_relay(rng, relay)));
    }
    scenario
}

/// One thing after the other, until the end.
fn course(
    rng: &mut Rng,
    lasts: Duration,
    rest: Duration,
    mut next: impl FnMut(&mut Rng) -> (Trouble, Duration),
) -> Vec<Incident> {
    let (mut at, mut all) = (rng.upto(rest), Vec::new());
    while at < lasts {
        let (what, takes) = next(rng);
        all.push(Incident { when: When::At(at), what, lasts: Some(takes) });
        at += takes + SECOND + rng.upto(rest);
    }
    all
}

fn between(rng: &mut Rng, least: Duration, most: Duration) -> Duration {
    least + rng.upto(most - least)
}

fn of_peer(rng: &mut Rng, peer: usize) -> (Trouble, Duration) {
    match rng.below(9) {
        0..3 => (Trouble::Reboot(peer), Duration::ZERO),
        3 => (Trouble::Readdress(peer), Duration::ZERO),
        4..7 => (Trouble::SilencePeer(peer), between(rng, SECOND, 10 * MINUTE)),
        7 => (Trouble::Stop(peer), between(rng, SECOND, 10 * MINUTE)),
        _ => (Trouble::Stop(peer), between(rng, 10 * MINUTE, DAY / 3)),
    }
}

fn of_relay(rng: &mut Rng, relay: usize) -> (Trouble, Duration) {
    match rng.below(8) {
        0..3 => (Trouble::KillRelay(relay), between(rng, Duration::ZERO, 3 * MINUTE)),
        3..6 => (Trouble::DrainRelay(relay, DRAIN), between(rng, DRAIN, DRAIN + MINUTE)),
        // The cable is the first relay's.
        6 if relay == 0 => (Trouble::SilenceRelay, between(rng, SECOND, 5 * MINUTE)),
        _ => (Trouble::RekeyRelay(relay), between(rng, Duration::ZERO, MINUTE)),
    }
}
