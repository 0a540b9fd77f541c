//! A relay that has another key or address, and is asked who it is now.

use super::*;

/// How long nobody knows who the relay is.
const AWAY: Duration = Duration::from_secs(600);

/// The relay's next process has the key of number `n`.
fn rekey(world: &mut World, n: u8) -> RelayAddress {
    world.restart_relay(P3, n);
    RelayAddress { address: at(0), ..relay_address(n) }
}

fn replace(world: &mut World, host: usize, relay: RelayAddress) {
    let now = world.now;
    world.peer(host).replace_relay(now, 0, relay).unwrap();
}

/// P2 and P4 at P3, which can be asked, and nobody at Q3.
fn renewable() -> World {
    let mut world = World::new();
    let config = |key, consent| PeerConfig { renewable: vec![true], ..peer_config(key, &[0], consent) };
    world.add_peer("198.51.100.2:1000", config(2, Consent::Closed));
    world.add_relay("203.0.113.10:4433", relay_config(0));
    world.add_peer("198.51.100.4:1000", config(4, Consent::Any));
    world.add_relay("203.0.113.11:4433", relay_config(1));
    let pairs = (0..4).flat_map(|a| (0..4).map(move |b| (a, b)));
    world.delays = pairs.map(|pair| (pair, ms(20))).collect();
    warm(&mut world);
    world
}

/// Handshakes that P2 begins with the relay in that time.
fn handshakes(world: &mut World, for_: Duration) -> usize {
    /// QUIC's first packets: a long header of the type Initial (RFC 9000, section 17.2.2).
    const INITIAL: u8 = 0xc0;
    let (until, mut seen) = (world.now + for_, std::collections::BTreeSet::new());
    while world.now < until {
        world.run(ms(10));
        // Each is under way for 20 ms. The second ID is P2's own, and another one each time.
        let from_p2 = world.in_flight.values().filter(|packet| packet.target == P3 && packet.source.port() == 1000);
        let initial = from_p2.filter(|packet| packet.source.ip() == std::net::Ipv4Addr::new(198, 51, 100, 2));
        let initial = initial.filter(|packet| packet.bytes.first().is_some_and(|first| first & 0xf0 == INITIAL));
        seen.extend(initial.filter_map(|packet| Some(packet.bytes.get(15..23)?.to_vec())));
    }
    seen.len()
}

fn changed(world: &World, host: usize) -> usize {
    let error = RelayError::KeyChanged { expected: relay_address(0).key };
    world.count(host, |event| matches!(event, PeerEvent::RelayLost { error: why, .. } if *why == error))
}

#[test]
fn a_relay_with_another_key_is_not_given_up_and_a_direct_connection_does_not_notice() {
    let mut world = renewable();
    let mut flow = flowing(&mut world, ConnectOptions::default());
    assert!(path(&mut world, P2, &flow).is_direct());
    let now = rekey(&mut world, 7);
    flow.run(&mut world, Duration::from_secs(60));
    for host in [P2, P4] {
        assert!(!world.peer(host).is_registered() && changed(&world, host) > 0, "{}", world.story());
        replace(&mut world, host, now);
    }
    flow.run(&mut world, ms(500));
    assert!(world.peer(P2).is_warm() && world.peer(P4).is_warm(), "{}", world.story());
    let stop = flow.longest_stop(&world);
    assert!(stop < ms(100) && path(&mut world, P2, &flow).is_direct(), "{stop:?}{}", world.story());
    assert!(flow.is_complete(&mut world));
    let before = world.count(P4, |event| matches!(event, PeerEvent::Connected { .. }));
    world.connect(P2, P4);
    world.run(ms(500));
    assert_eq!(world.count(P4, |event| matches!(event, PeerEvent::Connected { .. })), before + 1, "{}", world.story());
}

#[test]
fn a_relayed_connection_is_introduced_anew_by_the_new_key() {
    let mut world = renewable();
    let mut flow = flowing(&mut world, RELAYED);
    let now = rekey(&mut world, 7);
    flow.run(&mut world, Duration::from_secs(10));
    assert!(changed(&world, P2) > 0 && changed(&world, P4) > 0, "{}", world.story());
    [P2, P4].into_iter().for_each(|host| replace(&mut world, host, now));
    flow.longest_stop(&world);
    flow.run(&mut world, ms(2000));
    let stop = flow.longest_stop(&world);
    assert!(stop < ms(1000), "{stop:?}{}", world.story());
    assert!(both_on(&mut world, &flow, Path::Relay(at(0))) && flow.is_complete(&mut world), "{}", world.story());
    leaves_nothing(&mut world, &flow);
}

#[test]
fn while_nobody_says_who_the_relay_is_it_is_tried_ever_more_seldom_and_believed_again_if_it_was_a_lie() {
    for policy in [PathPolicy::Auto, PathPolicy::RelayOnly] {
        let mut world = renewable();
        flowing(&mut world, options(policy));
        rekey(&mut world, 7);
        let tries = handshakes(&mut world, AWAY);
        // Doubled from half a second to half a minute, each varied by half.
        assert!((15..60).contains(&tries), "{policy:?}: {tries}");
        rekey(&mut world, 0);
        world.run(Duration::from_secs(50));
        assert!(world.peer(P2).is_registered(), "{}", world.story());
    }
}

#[test]
fn a_call_waits_for_the_new_key_or_says_that_it_was_another() {
    for told in [true, false] {
        let mut world = renewable();
        let now = rekey(&mut world, 7);
        world.run(Duration::from_secs(60));
        world.connect(P2, P4);
        world.run(ms(2000));
        assert_eq!(world.failed(P2), None);
        if told {
            [P4, P2].into_iter().for_each(|host| replace(&mut world, host, now));
            world.until(ms(1000), |world| world.connected(P2).and(world.connected(P4)));
        } else {
            let (_, error) = world.until(LONG, |world| world.failed(P2));
            let key = RelayError::KeyChanged { expected: relay_address(0).key };
            let unreachable = RelayError::Unreachable { after: PeerTiming::default().relay_deadline };
            let right = [key, unreachable].map(ConnectError::Relay).contains(&error);
            assert!(right, "{error}");
        }
    }
}

#[test]
fn a_relay_that_has_moved_is_left_for_its_new_place_and_its_connections_go_with_it() {
    let mut world = World::quartet(&[0], &[0], Consent::Any);
    warm(&mut world);
    let mut flow = flowing(&mut world, RELAYED);
    [P2, P4].into_iter().for_each(|host| replace(&mut world, host, relay_address(1)));
    flow.run(&mut world, ms(3000));
    assert!(both_on(&mut world, &flow, Path::Relay(at(1))), "{}", world.story());
    assert!(world.peer(P2).is_warm() && world.peer(P4).is_warm());
    let left = [P2, P4].map(|host| world.relay_lost(host).map(|(_, error)| error.is_final()));
    assert_eq!(left, [Some(false); 2], "told of the one before, and not for good");
    let stop = flow.longest_stop(&world);
    assert!(stop < ms(1000) && flow.is_complete(&mut world), "{stop:?}{}", world.story());
    assert_eq!(introductions(&mut world), [0, 1]);
    leaves_nothing(&mut world, &flow);
}

#[test]
fn a_relay_that_was_given_up_is_tried_when_it_is_another_one() {
    let mut world = World::quartet(&[0], &[0], Consent::Any);
    warm(&mut world);
    let now = rekey(&mut world, 7);
    world.run(Duration::from_secs(60));
    let expected = relay_address(0).key;
    let given_up = |event: &PeerEvent| matches!(event, PeerEvent::RelayLost { error, .. } if *error == RelayError::WrongKey { expected });
    assert_eq!(world.count(P2, given_up), 1, "{}", world.story());
    replace(&mut world, P2, now);
    world.run(ms(200));
    assert!(world.peer(P2).is_registered(), "{}", world.story());
}

#[test]
fn what_cannot_be_a_relay_of_this_peers_is_refused_and_what_it_was_changes_nothing() {
    let mut world = quartet();
    let now = world.now;
    let peer = world.peer(P2);
    assert!(peer.replace_relay(now, 2, relay_address(2)).is_err(), "there are two");
    assert!(peer.replace_relay(now, 0, relay_address(1)).is_err(), "the other is there");
    peer.replace_relay(now, 0, relay_address(0)).unwrap();
    world.run(ms(100));
    assert_eq!(world.count(P2, |event| matches!(event, PeerEvent::RelayLost { .. })), 0);
    let peer = world.peer(P2);
    peer.shutdown(now);
    peer.replace_relay(now, 0, relay_address(2)).unwrap();
    world.run(LONG);
    assert!(world.peer(P2).is_drained());
}
