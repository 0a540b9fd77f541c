//! Addresses on a machine's own networks: who is told of which.

use std::{collections::BTreeSet, net::SocketAddr};

use super::*;

const PRIVATE: [&str; 4] = ["192.168.1.4:1000", "10.0.0.4:1000", "172.16.3.4:1000", "[fd00::4]:1000"];
const GLOBAL: &str = "[2001:db8::4]:1000";
const NOBODYS: [&str; 8] = [
    "127.0.0.1:1000",
    "[::1]:1000",
    "224.0.0.251:1000",
    "[ff02::1]:1000",
    "169.254.1.1:1000",
    "[fe80::4]:1000",
    "8.8.8.8:53",
    "192.168.1.4:0",
];

fn addresses(of: &[&str]) -> BTreeSet<SocketAddr> {
    of.iter().map(|address| address.parse().unwrap()).collect()
}

/// P4 says that it can be reached at `local`; what P2, seen at `p2`, is told beside what P3 has seen itself.
fn told(p2: &str, local: &[&str]) -> BTreeSet<SocketAddr> {
    let mut world = World::new();
    world.add_peer(p2, peer_config(2, &[0], Consent::Closed));
    world.add_relay("203.0.113.10:4433", relay_config(0));
    world.add_peer("198.51.100.4:1000", peer_config(4, &[0], Consent::Any));
    let (now, local) = (world.now, addresses(local).into_iter().collect::<Vec<_>>());
    world.peer(P4).network_changed(now, &local);
    warm(&mut world);
    world.connect(P2, P4);
    world.run(ms(2000));
    let steps = world.hosts[P2].events.iter().filter_map(|(_, event)| match event {
        Event::Peer(PeerEvent::Step(taken)) if taken.step == Step::S9 => taken.address,
        _ => None,
    });
    let seen = world.hosts[P4].ports[0];
    steps.filter(|address| *address != seen).collect()
}

#[test]
fn private_addresses_are_told_to_a_peer_behind_the_same_public_address() {
    assert_eq!(told("198.51.100.4:2000", &PRIVATE), addresses(&PRIVATE));
}

#[test]
fn private_addresses_are_told_to_nobody_else() {
    assert_eq!(told("198.51.100.2:1000", &PRIVATE), BTreeSet::new());
}

#[test]
fn global_ipv6_addresses_are_told_to_everyone() {
    for p2 in ["198.51.100.2:1000", "198.51.100.4:2000"] {
        assert_eq!(told(p2, &[GLOBAL]), addresses(&[GLOBAL]), "{p2}");
    }
}

#[test]
fn addresses_that_are_nobodys_or_somebody_elses_are_told_to_no_one() {
    for p2 in ["198.51.100.2:1000", "198.51.100.4:2000"] {
        assert_eq!(told(p2, &NOBODYS), BTreeSet::new(), "{p2}");
    }
}

#[test]
fn addresses_that_change_are_told_anew_to_those_already_introduced() {
    let mut world = quartet();
    world.connect_with(P2, P4, ConnectOptions::default());
    world.until(ms(2000), |world| world.connected(P2));
    world.run(ms(500));
    let now = world.now;
    world.hosts[P2].events.clear();
    world.peer(P4).network_changed(now, &[GLOBAL.parse().unwrap()]);
    world.until(ms(500), |world| {
        world.peer_event(P2, |event| {
            let told = matches!(event, PeerEvent::Step(taken) if taken.address == Some(GLOBAL.parse().unwrap()));
            told.then_some(())
        })
    });
}
