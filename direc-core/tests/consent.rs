//! Who lets whom in (S5, S6), and what is kept from whom until then.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use direc_core::*;
use support::*;

const D: [u64; 3] = [20, 20, 20];
const LONG: std::time::Duration = std::time::Duration::from_secs(200);

#[test]
fn an_id_on_the_list_is_let_in_and_another_is_refused() {
    let listed = |n| Consent::Listed { ids: vec![identity(n).id()], ask_others: false };
    let mut world = World::trio(listed(2), D);
    world.warm();
    world.connect(P2, P4);
    world.until(ms(1000), |world| world.connected(P2).and(world.connected(P4)));

    let mut world = World::trio(listed(99), D);
    world.warm();
    world.connect(P2, P4);
    let (_, error) = world.until(ms(1000), |world| world.failed(P2));
    assert_eq!(error, ConnectError::Refused);
}

#[test]
fn who_is_not_on_the_list_can_be_asked_for() {
    let consent = Consent::Listed { ids: vec![identity(99).id()], ask_others: true };
    let mut world = World::trio(consent, D);
    world.warm();
    world.connect(P2, P4);
    let (_, conn) = world.until(ms(1000), |world| world.offered(P4));
    let now = world.now;
    world.peer(P4).answer(now, conn, true).unwrap();
    world.until(ms(1000), |world| world.connected(P2));
}

#[test]
fn asked_and_refused_p2_learns_so_and_nothing_of_p4() {
    let mut world = World::trio(Consent::Ask, D);
    world.warm();
    world.connect(P2, P4);
    let (_, conn) = world.until(ms(1000), |world| world.offered(P4));
    world.run(ms(5000));
    assert!(!world.steps().contains(&Step::S9), "no address is told before P4 consents");
    assert!(world.heard_direct(P2).is_none() && world.connected(P2).is_none());
    let now = world.now;
    world.peer(P4).answer(now, conn, false).unwrap();
    let (_, error) = world.until(ms(1000), |world| world.failed(P2));
    assert_eq!(error, ConnectError::Refused);
    assert!(!world.steps().contains(&Step::S9));
    assert_eq!(world.peer(P4).answer(now, conn, true), Err(MisuseError::NoOffer), "an answer is given once");
}

#[test]
fn an_offer_that_nobody_answers_ends_for_both_with_a_reason() {
    let mut world = World::trio(Consent::Ask, D);
    world.warm();
    world.connect(P2, P4);
    world.until(ms(1000), |world| world.offered(P4));
    for host in [P2, P4] {
        let (_, error) = world.until(LONG, |world| world.failed(host));
        assert!(matches!(error, ConnectError::NoAnswer { .. }), "{host}: {error}");
    }
    world.run(ms(10_000));
    assert_eq!(world.relay(P3).stats().introductions, 0, "nothing is left at the relay");
}

/// QUIC's own timer has backed off to many seconds by then; the introduction's has not.
#[test]
fn an_answer_that_took_long_still_leads_to_a_connection_at_once_even_if_packets_are_lost() {
    for lost in 0..6 {
        let mut world = World::trio(Consent::Ask, D);
        world.warm();
        world.connect(P2, P4);
        let (_, conn) = world.until(ms(1000), |world| world.offered(P4));
        world.run(ms(20_000));
        let now = world.now;
        world.peer(P4).answer(now, conn, true).unwrap();
        world.run(ms(41));
        // The next packets of P2's, one after the other, vanish.
        let until = world.now + ms(15 * lost);
        world.cut = vec![(P2, P3), (P2, P4)];
        while world.step(until) {}
        world.cut.clear();
        world.until(ms(3000), |world| world.connected(P2).and(world.connected(P4)));
        world.until(ms(3000), |world| world.moved(P2).and(world.moved(P4)));
    }
}

#[test]
fn somebody_who_is_not_there_is_named_as_such() {
    let mut world = World::trio(Consent::Any, D);
    world.warm();
    let now = world.now;
    world.peer(P2).connect(now, identity(77).id(), ConnectOptions::default()).unwrap();
    let (at, error) = world.until(ms(1000), |world| world.failed(P2));
    assert_eq!(error, ConnectError::NoSuchPeer);
    assert!(at <= ms(41), "one round trip to the relay");
}

#[test]
fn a_peer_that_only_connects_out_is_not_found() {
    let mut world = World::trio(Consent::Closed, D);
    world.warm();
    world.connect(P2, P4);
    let (_, error) = world.until(ms(1000), |world| world.failed(P2));
    assert_eq!(error, ConnectError::NoSuchPeer);
}

#[test]
fn nobody_is_introduced_to_himself() {
    let mut world = World::trio(Consent::Any, D);
    world.warm();
    world.connect(P4, P4);
    let (_, error) = world.until(ms(1000), |world| world.failed(P4));
    assert_eq!(error, ConnectError::RelayRefused(RefuseReason::Yourself));
}

#[test]
fn the_relays_delay_keeps_p4s_addresses_from_p2_for_that_long() {
    let mut world = World::trio(Consent::Any, D);
    let Node::Relay(_) = &world.hosts[P3].node else { unreachable!() };
    let mut config = RelayConfig::new(identity(3), vec![4434, 4435], provider());
    config.delay = ms(500);
    let now = world.now;
    world.hosts[P3].node = Node::Relay(Box::new(Relay::new(config, [9; 32], now).unwrap()));
    world.warm();
    world.connect(P2, P4);
    let told = |world: &World, host| {
        world.peer_event(host, |event| match event {
            PeerEvent::Step(taken) if taken.step == Step::S9 => Some(()),
            _ => None,
        })
    };
    let (p4, ()) = world.until(ms(2000), |world| told(world, P4));
    let (p2, ()) = world.until(ms(2000), |world| told(world, P2));
    assert_eq!((p4, p2), (ms(40), ms(540)));
}

#[test]
fn a_person_is_not_flooded_with_offers() {
    let mut world = World::trio(Consent::Ask, D);
    world.warm();
    for _ in 0..40 {
        world.connect(P2, P4);
    }
    world.run(ms(1000));
    let asked =
        world.hosts[P4].events.iter().filter(|(_, event)| matches!(event, Event::Peer(PeerEvent::Offered { .. })));
    assert_eq!(asked.count(), RelayLimits::default().open_offers_per_peer);
    let (_, error) = world.failed(P2).unwrap();
    assert_eq!(error, ConnectError::RelayRefused(RefuseReason::Limit));
}

fn asking(world: &World) -> usize {
    world.count(P2, |event| matches!(event, PeerEvent::Asking { peer, .. } if *peer == identity(4).id()))
}

#[test]
fn p2_is_told_that_p4_is_being_asked_and_only_then() {
    let mut world = World::trio(Consent::Ask, D);
    world.warm();
    world.connect(P2, P4);
    let (_, conn) = world.until(ms(1000), |world| world.offered(P4));
    world.run(ms(5000));
    assert_eq!(asking(&world), 1);
    let now = world.now;
    world.peer(P4).answer(now, conn, true).unwrap();
    world.until(ms(1000), |world| world.connected(P2));
    assert_eq!(asking(&world), 1);

    let mut world = World::trio(Consent::Any, D);
    world.warm();
    world.connect(P2, P4);
    world.until(ms(1000), |world| world.connected(P2));
    assert_eq!(asking(&world), 0, "standing consent asks nobody");
}

#[test]
fn an_offer_goes_away_with_the_client_that_made_it() {
    let mut world = World::trio(Consent::Ask, D);
    world.warm();
    let calling = world.connect(P2, P4);
    let (_, conn) = world.until(ms(1000), |world| world.offered(P4));
    let now = world.now;
    world.peer(P2).connection(calling).unwrap().close(now, 0u32.into(), bytes::Bytes::new());
    world.until(ms(1000), |world| {
        world.peer_event(P4, |event| match event {
            PeerEvent::Failed { conn: gone, .. } if *gone == conn => Some(()),
            _ => None,
        })
    });
    let now = world.now;
    assert_eq!(world.peer(P4).answer(now, conn, true), Err(MisuseError::NoOffer));
    world.run(ms(10_000));
    assert!(world.connected(P4).is_none());
}
