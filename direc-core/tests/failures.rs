//! What happens when somebody is not there, or goes away: a typed reason in time, and nobody else is harmed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use direc_core::*;
use support::*;

const D: [u64; 3] = [20, 20, 20];
const LONG: Duration = Duration::from_secs(200);

fn connected() -> (World, ConnId, ConnId) {
    let mut world = World::trio(Consent::Any, D);
    world.warm();
    world.connect(P2, P4);
    world.until(ms(2000), |world| world.moved(P2).and(world.moved(P4)));
    let conns = [P2, P4].map(|host| world.connected(host).unwrap().1);
    (world, conns[0], conns[1])
}

fn passes(world: &mut World, conn: ConnId) {
    let before = world.hosts[P4].received.len();
    let data: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    world.send_stream(P2, conn, &data);
    world.until(LONG, |world| {
        world.drain(P4);
        (world.hosts[P4].received.len() >= before + data.len()).then_some(())
    });
    assert_eq!(&world.hosts[P4].received[before..], data);
}

#[test]
fn a_relay_that_is_not_there_is_reported_and_tried_again_until_it_comes() {
    let mut world = World::trio(Consent::Any, D);
    let relay = std::mem::replace(&mut world.hosts[P3].node, Node::Mute(Vec::new()));
    world.connect(P2, P4);
    let (at, error) = world.until(LONG, |world| world.failed(P2));
    assert!(matches!(error, ConnectError::Relay(RelayError::Unreachable { .. })), "{error}");
    assert_eq!(at, PeerTiming::default().relay_deadline);
    assert!(world.relay_lost(P2).is_some());
    world.run(LONG);
    world.hosts[P3].node = relay;
    world.until(Duration::from_secs(40), |world| world.peer(P2).is_registered().then_some(()));
}

#[test]
fn a_relay_with_another_key_than_the_pinned_one_is_refused_for_good() {
    let mut world = World::trio(Consent::Any, D);
    let config = RelayConfig::new(identity(66), vec![4434, 4435], provider());
    let now = world.now;
    world.hosts[P3].node = Node::Relay(Box::new(Relay::new(config, [9; 32], now).unwrap()));
    world.connect(P2, P4);
    let (at, error) = world.until(LONG, |world| world.failed(P2));
    let expected = identity(3).id();
    assert_eq!(error, ConnectError::Relay(RelayError::WrongKey { expected }));
    assert!(at <= ms(41), "one round trip");
    world.run(LONG);
    assert!(!world.peer(P2).is_registered());
    assert_eq!(world.peer(P2).connect(now, expected, ConnectOptions::default()), Err(MisuseError::ShutDown));
}

#[test]
fn blocked_hole_punch_ports_leave_the_connection_on_the_relay_and_say_why() {
    let mut world = World::trio(Consent::Any, D);
    world.blocked_ports = vec![4434, 4435];
    world.run(ms(8000));
    assert!(world.peer(P2).is_registered() && !world.peer(P2).is_warm());
    assert!(world.peer_event(P2, |event| matches!(event, PeerEvent::Unanswered { .. }).then_some(())).is_some());
    world.connect(P2, P4);
    let conn = world.until(ms(1000), |world| world.connected(P2)).1;
    let (_, why) = world.until(LONG, |world| world.not_direct(P2));
    assert_eq!(why, DirectFailure::NoCookie);
    passes(&mut world, conn);
}

#[test]
fn where_punching_cannot_work_the_connection_stays_on_the_relay_and_says_why() {
    let mut world = World::trio(Consent::Any, D);
    world.cut = vec![(P2, P4)];
    world.warm();
    world.connect(P2, P4);
    let conn = world.until(ms(1000), |world| world.connected(P2)).1;
    let (_, why) = world.until(LONG, |world| world.not_direct(P2));
    assert_eq!(why, DirectFailure::NoRoundTrip);
    passes(&mut world, conn);
}

#[test]
fn a_relay_killed_while_direct_does_not_disturb_the_connection() {
    let (mut world, conn, _) = connected();
    world.kill(P3);
    passes(&mut world, conn);
    world.run(Duration::from_secs(100));
    assert!(world.relay_lost(P2).is_some(), "it is noticed");
    passes(&mut world, conn);
    assert!(world.closed(P2).is_none());
}

#[test]
fn a_direct_path_that_dies_gives_way_to_the_relay_and_is_taken_again_when_it_heals() {
    let (mut world, conn, _) = connected();
    world.cut = vec![(P2, P4)];
    let cut = world.now;
    passes(&mut world, conn);
    assert!(world.now - cut < ms(900), "{:?}", world.now - cut);
    let back = world.hosts[P2]
        .events
        .iter()
        .any(|(_, event)| matches!(event, Event::Peer(PeerEvent::Path { path: Path::Relay(_), .. })));
    assert!(back, "{}", world.story());
    world.run(ms(20_000));
    world.cut.clear();
    world.hosts[P2].events.clear();
    let healed = world.elapsed();
    // Data after a rest is what brings it back at once; at rest it is tried seldom.
    passes(&mut world, conn);
    let (at, path) = world.until(ms(5000), |world| world.moved(P2));
    assert!(path.is_direct() && at - healed < ms(2000), "{:?}", at - healed);
}

#[test]
fn a_party_that_falls_silent_at_any_moment_leads_to_a_typed_end_and_leaves_nothing_behind() {
    for silent in [P2, P3, P4] {
        for after in (0..=100).step_by(10) {
            let mut world = World::trio(Consent::Any, D);
            world.warm();
            world.connect(P2, P4);
            world.run(ms(after));
            world.kill(silent);
            world.run(LONG);
            for host in [P2, P4].into_iter().filter(|host| *host != silent) {
                let began = host == P2
                    || world.hosts[P4].events.iter().any(
                        |(_, event)| matches!(event, Event::Peer(PeerEvent::Step(taken)) if taken.step == Step::S6),
                    );
                let ended = world.failed(host).is_some() || world.closed(host).is_some();
                let lives = silent == P3 && world.connected(host).is_some();
                assert!(!began || ended || lives, "{silent} silent after {after} ms: {host} hangs{}", world.story());
            }
            if silent != P3 {
                let stats = world.relay(P3).stats();
                assert_eq!((stats.introductions, stats.connections), (0, 1), "{silent} silent after {after} ms");
            }
        }
    }
}

#[test]
fn the_same_key_registered_anew_replaces_the_old_registration_and_they_do_not_fight() {
    let mut world = World::trio(Consent::Any, D);
    world.warm();
    let relay = RelayAddress { address: "203.0.113.10:4433".parse().unwrap(), key: identity(3).id() };
    let again = PeerConfig { consent: Consent::Any, ..PeerConfig::new(identity(4), relay, provider()) };
    let second = world.add_peer("198.51.100.5:1000", again);
    let (_, error) = world.until(ms(2000), |world| world.relay_lost(P4));
    assert_eq!(error, RelayError::Replaced);
    world.run(LONG);
    assert!(world.peer(second).is_registered() && !world.peer(P4).is_registered());
    world.connect(P2, second);
    world.until(ms(2000), |world| world.connected(second));
}

#[test]
fn two_introductions_at_once_and_both_directions_at_once_make_as_many_connections() {
    let mut world = World::trio(Consent::Any, D);
    let relay = RelayAddress { address: "203.0.113.10:4433".parse().unwrap(), key: identity(3).id() };
    let both = PeerConfig { consent: Consent::Any, ..PeerConfig::new(identity(2), relay, provider()) };
    let now = world.now;
    world.hosts[P2].node = Node::Peer(Box::new(Peer::new(both, [8; 32], now).unwrap()));
    world.warm();
    world.connect(P2, P4);
    world.connect(P2, P4);
    world.connect(P4, P2);
    world.run(ms(2000));
    for host in [P2, P4] {
        let direct = world.hosts[host]
            .events
            .iter()
            .filter(|(_, event)| matches!(event, Event::Peer(PeerEvent::Path { path: Path::Direct(_), .. })));
        assert_eq!(direct.count(), 3, "{}", world.story());
    }
}

#[test]
fn a_connection_closed_with_a_code_says_so_on_the_other_side_and_leaves_nothing_behind() {
    let (mut world, conn, _) = connected();
    let now = world.now;
    let mut connection = world.peer(P2).connection(conn).unwrap();
    connection.close(now, 42u32.into(), bytes::Bytes::from_static(b"enough\x07"));
    let (_, reason) = world.until(ms(1000), |world| world.closed(P4));
    assert_eq!(reason, CloseReason::Application { code: 42, reason: r"enough\x07".into() });
    assert_eq!(world.closed(P2).unwrap().1, CloseReason::Locally);
    world.run(ms(60_000));
    assert_eq!(world.relay(P3).stats().introductions, 0);
    assert!(world.peer(P2).connection(conn).is_none());
    for host in [P2, P4] {
        let events: Vec<_> = world.hosts[host].events.iter().map(|(_, event)| format!("{event:?}")).collect();
        let closed = events.iter().position(|event| event.contains("Closed {")).unwrap();
        let later: Vec<_> = events[closed + 1..].iter().filter(|event| event.contains("ConnId")).collect();
        assert!(later.is_empty(), "nothing more is said of a connection that has ended: {later:?}");
    }
}

#[test]
fn a_peer_that_shuts_down_says_good_bye_to_everyone() {
    let (mut world, _, _) = connected();
    let now = world.now;
    world.peer(P2).shutdown(now);
    world.until(ms(1000), |world| world.closed(P4));
    world.until(ms(5000), |world| world.peer(P2).is_drained().then_some(()));
    world.run(ms(1000));
    assert_eq!(world.relay(P3).stats().connections, 1);
}

#[test]
fn everyone_may_shut_down_in_the_same_instant() {
    let (mut world, _, _) = connected();
    let now = world.now;
    world.relay(P3).shutdown(now);
    for host in [P2, P4] {
        world.peer(host).shutdown(now);
        world.hosts[host].events.clear();
    }
    let drained = |world: &mut World| world.peer(P2).is_drained() && world.peer(P4).is_drained();
    world.until(ms(5000), |world| drained(world).then_some(()));
    assert!(world.relay_lost(P2).is_none(), "nobody wants to hear that");
}

#[test]
fn a_relay_that_shuts_down_says_good_bye_to_everyone() {
    let (mut world, conn, _) = connected();
    let now = world.now;
    world.relay(P3).shutdown(now);
    let (_, error) = world.until(ms(1000), |world| world.relay_lost(P2));
    assert!(matches!(error, RelayError::Closed { .. }), "{error}");
    world.until(ms(5000), |world| world.relay(P3).is_drained().then_some(()));
    passes(&mut world, conn);
}

/// More introductions than a relay lets one peer have open as streams.
const MANY: usize = 300;

#[test]
fn a_peer_may_ask_for_somebody_who_is_not_there_as_often_as_it_likes() {
    let mut world = World::trio(Consent::Any, D);
    world.warm();
    for call in 0..MANY {
        let (now, nobody) = (world.now, identity(99).id());
        world.peer(P2).connect(now, nobody, ConnectOptions::default()).unwrap();
        world.run(ms(100));
        let failures =
            world.count(P2, |event| matches!(event, PeerEvent::Failed { error: ConnectError::NoSuchPeer, .. }));
        assert_eq!(failures, call + 1);
    }
}

#[test]
fn a_peer_may_be_refused_as_often_as_it_asks() {
    let mut world = World::trio(Consent::Ask, D);
    world.warm();
    for call in 0..MANY {
        world.connect(P2, P4);
        world.run(ms(100));
        let offers: Vec<ConnId> = world.hosts[P4]
            .events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Peer(PeerEvent::Offered { conn, .. }) => Some(*conn),
                _ => None,
            })
            .collect();
        let (now, &last) = (world.now, offers.last().unwrap());
        world.peer(P4).answer(now, last, false).unwrap();
        world.run(ms(100));
        let refused = world.count(P2, |event| matches!(event, PeerEvent::Failed { error: ConnectError::Refused, .. }));
        assert_eq!(refused, call + 1);
    }
}

#[test]
fn a_peer_may_make_and_end_connections_as_often_as_it_likes() {
    let mut world = World::trio(Consent::Any, D);
    world.warm();
    for call in 0..MANY {
        let side = if call % 2 == 0 { P2 } else { P4 };
        let conn = world.connect(P2, P4);
        world.run(ms(400));
        let made = world.count(P4, |event| matches!(event, PeerEvent::Connected { .. }));
        assert_eq!(made, call + 1);
        let now = world.now;
        let ended = if side == P2 { conn } else { world.connected_last(P4) };
        world.peer(side).connection(ended).unwrap().close(now, quic_types::VarInt::from_u32(0), "done".into());
        world.run(ms(3000));
    }
    assert_eq!(world.relay(P3).stats().introductions, 0);
}
