//! Where UDP does not pass, everything runs through a tunnel to the relay, and by UDP again when that passes.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use direc_core::{DirectFailure, Link};
use direc_sim::{
    Outcome, Scenario,
    app::Work,
    nat::stack,
    run,
    scenario::{Trouble, When},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// One-way delay between any two sites.
const D: Duration = Duration::from_millis(40);

/// Behind these boxes, from the very start, with tunnels.
fn pair(p2: &str, p4: &str) -> Scenario {
    let boxes = [p2, p4].map(|name| stack(name).unwrap());
    Scenario { warm: false, tunnels: true, ..Scenario::pair(boxes, D, D, D) }
}

fn play(scenario: &Scenario) -> Outcome {
    let outcome = run(scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new());
    outcome
}

fn is_tunnel(link: Link) -> bool {
    matches!(link, Link::Tunnel(_))
}

fn links(outcome: &Outcome, peer: usize) -> Vec<bool> {
    outcome.peers[peer].ways.iter().map(|&(_, link)| is_tunnel(link)).collect()
}

#[test]
fn one_side_or_both_without_udp_are_connected_within_a_second_and_say_why_they_stay_relayed() {
    for (p2, p4) in [("udp-blocked", "easy"), ("easy", "udp-blocked"), ("udp-blocked", "udp-blocked")] {
        let mut scenario = pair(p2, p4);
        // Both are registered by then.
        scenario.calls[0].at = 700 * MS;
        let outcome = play(&scenario);
        for (peer, name) in [p2, p4].into_iter().enumerate() {
            let registered = outcome.peers[peer].registered_at.unwrap();
            assert!(registered < 700 * MS, "{p2}, {p4}: {name} is registered after {registered:?}");
            assert_eq!(links(&outcome, peer), if name == "easy" { vec![] } else { vec![true] }, "{p2}, {p4}");
        }
        let call = outcome.call(0).unwrap();
        assert!(call.connected().unwrap() < 5 * D, "{p2}, {p4}: {:?}", call.connected());
        assert!(call.done().is_some());
        let (_, why) = call.log.not_direct.unwrap();
        assert!(matches!(why, DirectFailure::NoCookie | DirectFailure::NoAddress), "{p2}, {p4}: {why}");
    }
}

#[test]
fn where_udp_passes_nobody_opens_a_tunnel() {
    let outcome = play(&pair("easy", "easy"));
    assert!(outcome.call(0).unwrap().direct_heard().is_some());
    for peer in &outcome.peers {
        assert_eq!(peer.ways, []);
    }
    let wanted = outcome.trace.notes.iter().filter(|note| format!("{:?}", note.what).contains("tunnel")).count();
    assert_eq!(wanted, 0);
}

/// A flow from P2 to P4 of ten seconds and more, with tunnels.
fn flow(p2: &str, p4: &str, megabytes: u64) -> Scenario {
    let mut scenario = pair(p2, p4).work(Work { ping: true, upload: megabytes * 1_000_000, ..Work::default() });
    for side in &mut scenario.peers {
        (side.up.rate, side.down.rate) = (Some(10_000_000), Some(10_000_000));
    }
    scenario.limit = 200 * SECOND;
    scenario
}

#[test]
fn udp_that_goes_away_under_a_connection_is_left_for_the_tunnel_and_taken_again_when_it_is_back() {
    // P2's network lets no UDP pass from 5 s on, for 15 s.
    let scenario = flow("easy", "easy", 40).incident(When::At(5 * SECOND), Trouble::BlockUdp(0), Some(15 * SECOND));
    let outcome = play(&scenario);
    assert_eq!(links(&outcome, 0), [true, false]);
    assert_eq!(links(&outcome, 1), []);
    let [(into, _), (back, _)] = outcome.peers[0].ways[..] else { panic!() };
    assert!(into < 7 * SECOND, "in the tunnel after {:?}", into - 5 * SECOND);
    // Its pauses had grown to 16 s at most.
    assert!(back > 20 * SECOND && back < 40 * SECOND, "by UDP again after {:?}", back - 20 * SECOND);
    let call = outcome.call(0).unwrap();
    assert!(call.done().is_some());
    assert!(call.log.paths.last().unwrap().path.is_direct(), "and straight again: {:?}", call.log.paths);
    assert!(call.log.closed.is_none());
}

#[test]
fn a_peer_that_began_in_a_tunnel_goes_on_by_udp_and_straight_when_udp_opens() {
    for both in [false, true] {
        let mut scenario = flow("easy", "easy", 60);
        for side in 0..=usize::from(both) {
            scenario = scenario.incident(When::At(Duration::ZERO), Trouble::BlockUdp(side), Some(10 * SECOND));
        }
        let outcome = play(&scenario);
        assert_eq!(links(&outcome, 0), [true, false]);
        let call = outcome.call(0).unwrap();
        assert!(call.connected().unwrap() < SECOND);
        assert!(call.done().is_some());
        assert!(call.log.paths.last().unwrap().path.is_direct(), "both: {both}; {:?}", call.log.paths);
    }
}

#[test]
fn bulk_through_two_tunnels_fills_the_access_links() {
    let outcome = play(&flow("udp-blocked", "udp-blocked", 20));
    // 20 MB at 10 Mbit/s take 16 s without any header.
    let done = outcome.call(0).unwrap().done().unwrap();
    assert!(done < 22 * SECOND, "{done:?}");
}

#[test]
fn a_tunnel_whose_relay_is_gone_is_made_again_when_it_is_back() {
    let scenario =
        flow("udp-blocked", "easy", 20).incident(When::At(5 * SECOND), Trouble::KillRelay(0), Some(5 * SECOND));
    let outcome = play(&scenario);
    assert!(outcome.call(0).unwrap().done().is_some());
    assert_eq!(links(&outcome, 0), [true]);
}

#[test]
fn one_seed_gives_one_run_through_tunnels_as_well() {
    let run = || play(&flow("udp-blocked", "easy", 1)).trace.hash();
    assert_eq!(run(), run());
}

#[test]
fn nobody_is_left_behind_at_the_relay_when_those_in_tunnels_have_left() {
    let mut scenario = pair("udp-blocked", "udp-blocked");
    scenario.farewell = true;
    play(&scenario);
}
