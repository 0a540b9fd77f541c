//! Peers found by a name that the relay knows.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use direc_core::*;
use support::*;

const LONG: std::time::Duration = std::time::Duration::from_secs(200);

fn name(text: &str) -> PeerName {
    text.parse().unwrap()
}

/// What P2 has been told of this name, by which relay.
fn told(world: &World, asked: &PeerName) -> Vec<(std::net::SocketAddr, Option<NodeId>)> {
    let told = world.hosts[P2].events.iter().filter_map(|(_, event)| match event {
        Event::Peer(PeerEvent::Resolved { relay, name, id, .. }) if name == asked => Some((*relay, *id)),
        _ => None,
    });
    told.collect()
}

fn ask(world: &mut World, asked: &PeerName) {
    let now = world.now;
    world.peer(P2).resolve(now, asked);
}

#[test]
fn a_name_is_asked_for_and_answered_within_a_round_trip_and_nobody_is_called_by_another() {
    let mut world = World::trio(Consent::Any, [20, 20, 20]);
    world.warm();
    let (now, p4) = (world.now, identity(4).id());
    world.relay(P3).set_names(now, [(name("office-server"), p4)].into());
    ask(&mut world, &name("office-server"));
    ask(&mut world, &name("office"));
    world.run(ms(41));
    let relay = "203.0.113.10:4433".parse().unwrap();
    assert_eq!(told(&world, &name("office-server")), [(relay, Some(p4))]);
    assert_eq!(told(&world, &name("office")), [(relay, None)]);
}

#[test]
fn a_peer_whose_quota_is_used_up_is_told_that_and_not_that_nobody_has_the_name() {
    let mut world = World::trio(Consent::Any, [20, 20, 20]);
    world.warm();
    let (now, p4) = (world.now, identity(4).id());
    let one = Rate { amount: 1, per: std::time::Duration::from_secs(3600) };
    let introductions = Scopes { peer: Some(one), address: None, total: None };
    world.relay(P3).set_names(now, [(name("office"), p4)].into());
    world.relay(P3).set_quotas(now, Quotas { introductions, ..Quotas::default() });
    let refusals = |world: &World, asked: &PeerName| -> Vec<_> {
        let told = world.hosts[P2].events.iter().filter_map(|(_, event)| match event {
            Event::Peer(PeerEvent::Resolved { name, refused, .. }) if name == asked => Some(*refused),
            _ => None,
        });
        told.collect()
    };
    ask(&mut world, &name("office"));
    world.run(ms(100));
    ask(&mut world, &name("office"));
    ask(&mut world, &name("nobody"));
    world.run(ms(100));
    let quota = Some(RefuseReason::PeerQuota);
    assert_eq!(refusals(&world, &name("office")), [None, quota]);
    assert_eq!(refusals(&world, &name("nobody")), [quota], "nothing is told of the name");
}

#[test]
fn a_name_asked_for_before_the_relay_is_there_is_asked_for_when_it_is() {
    let mut world = World::quartet(&[0, 1], &[0], Consent::Any);
    ask(&mut world, &name("printer"));
    world.run(ms(500));
    assert_eq!(told(&world, &name("printer")).len(), 2, "each relay has a word of its own");
}

#[test]
fn a_name_is_asked_for_again_when_the_relay_has_lost_the_question() {
    let mut world = World::quartet(&[0], &[0], Consent::Any);
    world.run(ms(1000));
    world.cut.push((P2, P3));
    ask(&mut world, &name("printer"));
    world.run(ms(100));
    world.restart_relay(P3, 0);
    world.cut.clear();
    world.until(LONG, |world| (!told(world, &name("printer")).is_empty()).then_some(()));
    world.run(LONG);
    assert_eq!(told(&world, &name("printer")).len(), 1, "once asked, once answered");
}
