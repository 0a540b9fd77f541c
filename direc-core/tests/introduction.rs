//! The specification's story, S1–S13, in virtual time between open hosts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use direc_core::*;
use support::*;

const SHAPES: [[u64; 3]; 6] = [[20, 20, 20], [40, 40, 40], [10, 60, 55], [60, 10, 55], [50, 50, 5], [5, 40, 38]];

#[test]
fn all_thirteen_steps_are_taken() {
    let mut world = World::trio(Consent::Any, [20, 20, 20]);
    world.warm();
    world.connect(P2, P4);
    world.until(ms(5000), |world| world.moved(P2).and(world.moved(P4)));
    assert_eq!(world.steps(), Step::ALL, "{}", world.story());
}

#[test]
fn with_standing_consent_p4_is_heard_directly_after_a_b_c() {
    for [a, b, c] in SHAPES {
        let mut world = World::trio(Consent::Any, [a, b, c]);
        world.warm();
        world.connect(P2, P4);
        let heard = world.until(ms(5000), |world| world.heard_direct(P2));
        assert!(heard <= ms(a + b + c + 1), "{a} {b} {c}: {heard:?}{}", world.story());
        let (connected, _) = world.connected(P2).expect("connected by what was heard");
        assert!(connected <= heard);
    }
}

#[test]
fn asking_p4_is_heard_directly_after_a_3b_c() {
    for [a, b, c] in SHAPES {
        let mut world = World::trio(Consent::Ask, [a, b, c]);
        world.warm();
        world.connect(P2, P4);
        let offered = world.until(ms(5000), |world| {
            world.peer_event(P4, |event| match event {
                PeerEvent::Offered { conn, .. } => Some(*conn),
                _ => None,
            })
        });
        let now = world.now;
        world.peer(P4).answer(now, offered.1, true).unwrap();
        let (connected, _) = world.until(ms(5000), |world| world.connected(P2));
        assert!(connected <= ms(2 * a + 2 * b + 1), "{a} {b} {c}: {connected:?}{}", world.story());
        let heard = world.until(ms(5000), |world| world.heard_direct(P2));
        assert!(heard <= ms(a + 3 * b + c + 1), "{a} {b} {c}: {heard:?}{}", world.story());
    }
}

#[test]
fn kept_on_the_relay_it_connects_after_2a_2b_and_nobody_punches() {
    for [a, b, c] in SHAPES {
        let mut world = World::trio(Consent::Any, [a, b, c]);
        world.warm();
        world.connect_with(P2, P4, ConnectOptions::with_policy(PathPolicy::RelayOnly));
        let (connected, _) = world.until(ms(5000), |world| world.connected(P2));
        assert!(connected <= ms(2 * a + 2 * b + 1), "{a} {b} {c}: {connected:?}");
        world.run(ms(3000));
        assert!(world.heard_direct(P2).is_none() && world.moved(P2).is_none());
        assert!(!world.steps().contains(&Step::S9), "no addresses are told");
    }
}

/// The hole-punch cookies of a peer that has just registered arrive together with its first introduction.
#[test]
fn a_peer_that_connects_the_moment_it_is_registered_is_as_fast_as_a_warm_one() {
    for [a, b, c] in SHAPES {
        let mut world = World::trio(Consent::Any, [a, b, c]);
        world.until(ms(5000), |world| world.peer(P4).is_warm().then_some(()));
        let relay = RelayAddress { address: "203.0.113.10:4433".parse().unwrap(), key: identity(3).id() };
        let fresh = Peer::new(PeerConfig::new(identity(2), relay, provider()), [7; 32], world.now).unwrap();
        world.hosts[P2].node = Node::Peer(Box::new(fresh));
        world.until(ms(5000), |world| world.peer(P2).is_registered().then_some(()));
        assert!(!world.peer(P2).is_warm());
        let start = world.elapsed();
        world.connect(P2, P4);
        let heard = world.until(ms(5000), |world| world.heard_direct(P2));
        assert!(heard - start <= ms(a + b + c + 1), "{a} {b} {c}: {:?}{}", heard - start, world.story());
    }
}
