//! A knock is the relay's own or none, and comes from nowhere else than its knock port.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::time::Duration;

use direc_core::{Consent, DropReason, Filtering, Mapping, Nature, RelayConfig};
use support::{P2, P3, World, identity, ms, peer_config, provider, relay_address};

const KNOCK: u8 = 0x09;
const KNOCK_PORT: usize = 3;

/// P2 behind nothing, warm, which asks to be knocked at, at a relay that knocks.
fn warm() -> World {
    let mut world = World::new();
    let mut peer = peer_config(2, &[0], Consent::Any);
    peer.timing.knock_after = Some(Duration::from_secs(2));
    world.add_peer("198.51.100.2:1000", peer);
    let mut config = RelayConfig::new(identity(30), vec![4434, 4435], provider());
    config.knock_port = Some(4436);
    let host = world.add_relay("203.0.113.10:4433", config);
    world.hosts[host].ports.push("203.0.113.10:4436".parse().unwrap());
    world.delays.insert((P2, P3), ms(20));
    assert_eq!((host, relay_address(0).address), (P3, world.hosts[P3].ports[0]));
    world.until(ms(1000), |world| world.peer(P2).is_warm().then_some(()));
    world
}

/// Runs until a knock is on its way, and takes it off.
fn intercept(world: &mut World) -> Vec<u8> {
    world
        .until(Duration::from_secs(5), |world| {
            world.pump(P3);
            let (&key, _) = world.in_flight.iter().find(|(_, packet)| packet.bytes[0] == KNOCK)?;
            world.in_flight.remove(&key)
        })
        .bytes
}

fn nature(world: &mut World) -> Nature {
    world.peer(P2).nature()
}

#[test]
fn a_knock_that_comes_in_shows_that_the_filter_ignores_ports() {
    let mut world = warm();
    assert_eq!(nature(&mut world).mapping, Some(Mapping::EndpointIndependent), "known as soon as warm");
    assert_eq!(nature(&mut world).filtering, None);
    world.run(Duration::from_secs(3));
    let nature = nature(&mut world);
    assert_eq!((nature.filtering, nature.clash_prone), (Some(Filtering::IgnoresPorts), Some(false)));
}

#[test]
fn a_knock_kept_out_or_lost_shows_no_clash_where_the_answer_has_the_same_address() {
    let mut world = warm();
    let knock = intercept(&mut world);
    assert_eq!(knock.len(), 33, "no more than it takes");
    world.run(Duration::from_secs(2));
    let nature = nature(&mut world);
    assert_eq!((nature.filtering, nature.clash_prone), (Some(Filtering::AddressAndPortDependent), Some(false)));
}

#[test]
fn nobody_else_can_knock() {
    let mut world = warm();
    let knock = intercept(&mut world);
    let mut forged = knock.clone();
    *forged.last_mut().unwrap() ^= 1;
    let [relay, other] = [world.hosts[P3].ports[KNOCK_PORT], world.hosts[P3].ports[1]];
    world.deliver(P2, relay, 0, forged);
    world.deliver(P2, other, 0, knock.clone());
    world.deliver(P2, "192.0.2.66:4436".parse().unwrap(), 0, knock.clone());
    let drops = world.peer(P2).drops();
    assert_eq!((drops.of(DropReason::BadToken), drops.of(DropReason::UnknownCookie)), (1, 2));
    assert_eq!(nature(&mut world).filtering, None);
    world.deliver(P2, relay, 0, knock.clone());
    assert_eq!(nature(&mut world).filtering, Some(Filtering::IgnoresPorts));
    world.deliver(P2, relay, 0, knock);
    assert_eq!(world.peer(P2).drops().of(DropReason::UnknownCookie), 3, "once is enough");
}

#[test]
fn a_relay_whose_knock_port_cannot_be_reached_leaves_the_question_open() {
    let mut world = warm();
    world.blocked_ports.push(4436);
    intercept(&mut world);
    world.run(Duration::from_secs(10));
    let nature = nature(&mut world);
    assert_eq!((nature.filtering, nature.clash_prone), (Some(Filtering::AddressAndPortDependent), None));
}
