//! Registered at several relays, connected through the first one that will.

use super::*;

/// Connects over the relay; gives the relay it runs on, or the error.
fn outcome(world: &mut World) -> Result<Path, ConnectError> {
    world.connect_with(P2, P4, RELAYED);
    world.until(LONG, |world| {
        let path = world.peer_event(P2, |event| match event {
            PeerEvent::Connected { path, .. } => Some(*path),
            _ => None,
        });
        path.map(|(_, path)| Ok(path)).or(world.failed(P2).map(|(_, error)| Err(error)))
    })
}

fn limited(world: &mut World, host: usize, n: u8) {
    let config = RelayConfig { limits: RelayLimits { introductions: 0, ..RelayLimits::default() }, ..relay_config(n) };
    let now = world.now;
    world.hosts[host].node = Node::Relay(Box::new(Relay::new(config, [77; 32], now).unwrap()));
}

#[test]
fn a_peer_registers_at_all_its_relays_and_events_name_them() {
    let mut world = World::quartet(&[0, 1], &[0, 1], Consent::Any);
    world.run(ms(2000));
    for host in [P2, P4] {
        for n in [0, 1] {
            let registered = |event: &PeerEvent| matches!(event, PeerEvent::Registered { relay } if *relay == at(n));
            let warm = |event: &PeerEvent| matches!(event, PeerEvent::Warm { relay } if *relay == at(n));
            assert_eq!((world.count(host, registered), world.count(host, warm)), (1, 1), "{}", world.story());
        }
    }
    world.kill(Q3);
    world.run(LONG);
    let lost = |n| move |event: &PeerEvent| matches!(event, PeerEvent::RelayLost { relay, .. } if *relay == at(n));
    assert!(world.count(P2, lost(1)) > 0 && world.count(P2, lost(0)) == 0, "{}", world.story());
    assert!(world.peer(P2).is_registered() && world.peer(P2).is_warm(), "one relay is enough");
}

#[test]
fn the_first_relay_is_used_where_both_know_it() {
    assert_eq!(outcome(&mut quartet()), Ok(Path::Relay(at(0))));
}

#[test]
fn the_second_relay_is_used_at_once_where_the_first_does_not_know_p4() {
    let mut world = World::quartet(&[0, 1], &[1], Consent::Any);
    warm(&mut world);
    let before = world.now;
    assert_eq!(outcome(&mut world), Ok(Path::Relay(at(1))));
    assert!(world.now - before < ms(40 + 80 + 20), "a round trip more: {:?}", world.now - before);
}

#[test]
fn the_second_relay_is_asked_within_seconds_where_the_first_has_just_died() {
    let mut world = quartet();
    world.kill(P3);
    let before = world.now;
    assert_eq!(outcome(&mut world), Ok(Path::Relay(at(1))));
    assert!(world.now - before < ms(6000), "{:?}", world.now - before);
}

#[test]
fn the_second_relay_is_used_at_once_where_the_first_is_not_there() {
    let mut world = World::quartet(&[0, 1], &[0, 1], Consent::Any);
    world.kill(P3);
    warm(&mut world);
    let before = world.now;
    assert_eq!(outcome(&mut world), Ok(Path::Relay(at(1))));
    assert!(world.now - before < ms(200), "{:?}", world.now - before);
}

#[test]
fn the_second_relay_is_used_where_the_first_refuses() {
    let mut world = World::quartet(&[0, 1], &[0, 1], Consent::Any);
    limited(&mut world, P3, 0);
    warm(&mut world);
    assert_eq!(outcome(&mut world), Ok(Path::Relay(at(1))));
}

#[test]
fn the_second_relay_is_used_where_the_first_is_going_down() {
    for known in [false, true] {
        let mut world = quartet();
        let now = world.now;
        world.relay(P3).drain(now, LONG);
        if known {
            world.run(ms(100));
        }
        assert_eq!(outcome(&mut world), Ok(Path::Relay(at(1))), "P2 has heard of it: {known}");
        let refused = world.hosts[P3].events.iter().any(|(_, event)| {
            matches!(event, Event::Relay(RelayEvent::Refused { reason: RefuseReason::Draining, .. }))
        });
        assert_eq!(refused, !known, "who knows does not ask");
    }
}

#[test]
fn where_all_relays_fail_the_most_telling_error_is_told() {
    for (limit, other) in [(P3, Q3), (Q3, P3)] {
        // One has a limit, the other does not know P4.
        let known = [u8::from(limit == Q3)];
        let mut world = World::quartet(&[0, 1], &known, Consent::Any);
        limited(&mut world, limit, u8::from(limit == Q3));
        warm(&mut world);
        assert_eq!(outcome(&mut world), Err(ConnectError::RelayRefused(RefuseReason::Limit)), "{limit} {other}");
    }
    let mut world = World::quartet(&[0, 1], &[2], Consent::Any);
    warm(&mut world);
    assert_eq!(outcome(&mut world), Err(ConnectError::NoSuchPeer));
}

#[test]
fn what_p4_has_refused_at_one_relay_is_not_asked_again_at_another() {
    let mut world = World::quartet(&[0, 1], &[0, 1], Consent::Listed { ids: Vec::new(), ask_others: false });
    warm(&mut world);
    assert_eq!(outcome(&mut world), Err(ConnectError::Refused));
    world.run(ms(5000));
    let steps = world.hosts[Q3].events.iter().filter(|(_, event)| matches!(event, Event::Relay(RelayEvent::Step(_))));
    assert_eq!(steps.count(), 0, "{}", world.story());
}

#[test]
fn no_such_peer_is_known_at_once_where_all_relays_are_there() {
    let mut world = World::quartet(&[0, 1], &[2], Consent::Any);
    warm(&mut world);
    let before = world.now;
    assert_eq!(outcome(&mut world), Err(ConnectError::NoSuchPeer));
    assert!(world.now - before <= ms(100), "one round trip each: {:?}", world.now - before);
}

#[test]
fn a_relay_that_does_not_know_p4_and_one_that_is_not_there_lead_to_a_typed_error_in_time() {
    let mut world = World::quartet(&[0, 1], &[1], Consent::Any);
    world.kill(Q3);
    warm(&mut world);
    let before = world.now;
    let error = outcome(&mut world).unwrap_err();
    let telling = matches!(error, ConnectError::NoSuchPeer | ConnectError::Relay(RelayError::Unreachable { .. }));
    assert!(telling && world.now - before <= ms(5000), "{error:?} after {:?}", world.now - before);
}

#[test]
fn closing_everything_leaves_nothing_behind() {
    for policy in [PathPolicy::Auto, PathPolicy::DirectOnly, PathPolicy::RelayOnly] {
        let mut world = quartet();
        let flow = flowing(&mut world, ConnectOptions::with_policy(policy));
        assert_eq!(introductions(&mut world), [1, 0]);
        leaves_nothing(&mut world, &flow);
        // The relays have heard the good-byes a little later, and keep them in mind as long as QUIC says.
        world.run(ms(10_000));
        assert_eq!(world.relay(P3).stats().connections + world.relay(Q3).stats().connections, 0);
    }
}
