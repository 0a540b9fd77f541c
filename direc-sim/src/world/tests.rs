//! Stories of packets that travel, told with endpoints that know no protocol.

use super::*;
use crate::{
    nat::{NatDrop, stack},
    trace::{DropCause, End},
};

const MS: Duration = Duration::from_millis(1);
const MAIN: SocketLink = SocketLink::Main;

struct Pair {
    world: World,
    home: HostId,
    server: HostId,
    server_address: SocketAddr,
}

/// A home behind these boxes, and an echoing server, 10 ms apart.
fn home_and_server(boxes: &str, path: LinkConfig) -> Pair {
    let mut world = World::new(1, Keep { packets: true, bytes: false });
    let server_site = world.add_site(&SiteConfig::new("server", vec![]));
    let home_site = world.add_site(&SiteConfig::new("home", stack(boxes).unwrap()));
    world.set_paths(server_site, home_site, path);
    let server = world.add_host(server_site, "server", &[(MAIN, 7), (SocketLink::Punch(0), 8)], Box::new(Raw::echo()));
    let home = world.add_host(home_site, "home", &[(MAIN, 4000)], Box::new(Raw::default()));
    let server_address = SocketAddr::new(world.address(server), 7);
    Pair { world, home, server, server_address }
}

impl Pair {
    fn send(&mut self, to: SocketAddr, data: &[u8]) {
        self.world.with_raw(self.home, |raw| raw.send(MAIN, to, data)).unwrap();
    }

    fn finish(&mut self) {
        while self.world.step() {}
    }

    fn received(&mut self, host: HostId) -> Vec<crate::node::Received> {
        self.world.with_raw(host, |raw| raw.received.clone()).unwrap()
    }
}

#[test]
fn a_packet_comes_back_through_the_nat_after_exactly_two_delays() {
    for boxes in ["none", "easy", "sym", "double-eim", "fw"] {
        let mut pair = home_and_server(boxes, LinkConfig::delay(10 * MS));
        pair.send(pair.server_address, b"hello");
        pair.finish();
        let back = pair.received(pair.home);
        assert_eq!(back.len(), 1, "{boxes}");
        assert_eq!(back[0].data, b"hello");
        assert_eq!(back[0].from, pair.server_address, "{boxes}");
        assert_eq!(pair.world.now(), 20 * MS, "{boxes}");
    }
}

#[test]
fn the_server_sees_the_outermost_address() {
    let mut pair = home_and_server("double-eim", LinkConfig::delay(10 * MS));
    pair.send(pair.server_address, b"hello");
    pair.finish();
    let seen = pair.received(pair.server)[0].from;
    assert_eq!(seen.ip().to_string(), "198.18.1.1");
    assert_ne!(seen.port(), 4000);
}

#[test]
fn nobody_gets_in_uninvited() {
    let mut pair = home_and_server("easy", LinkConfig::delay(10 * MS));
    let home: SocketAddr = "198.18.1.1:4000".parse().unwrap();
    pair.world.with_raw(pair.server, |raw| raw.send(MAIN, home, b"knock"));
    pair.finish();
    assert!(pair.received(pair.home).is_empty());
    assert_eq!(pair.world.trace().counts.dropped[&DropCause::Nat(NatDrop::NoMapping)], 1);
    pair.send(pair.server_address, b"come in");
    pair.finish();
    pair.world.with_raw(pair.server, |raw| raw.send(SocketLink::Punch(0), home, b"from another port"));
    pair.finish();
    assert_eq!(pair.world.trace().counts.dropped[&DropCause::Nat(NatDrop::Filtered)], 1);
}

#[test]
fn wrong_addresses_lead_nowhere() {
    let mut pair = home_and_server("easy", LinkConfig::default());
    for to in ["198.18.99.1:7", "10.0.0.1:7", "0.0.0.0:0", "[2001:db8::1]:7", "127.0.0.1:7"] {
        pair.send(to.parse().unwrap(), b"?");
    }
    let closed = SocketAddr::new(pair.server_address.ip(), 99);
    pair.send(closed, b"?");
    pair.finish();
    let dropped = &pair.world.trace().counts.dropped;
    assert_eq!((dropped[&DropCause::NoRoute], dropped[&DropCause::NoSocket]), (5, 1));
}

#[test]
fn two_hosts_of_one_home_reach_each_other_at_home_and_not_by_hairpin() {
    let mut pair = home_and_server("easy", LinkConfig::default());
    let site = pair.world.site_of(pair.home);
    let brother = pair.world.add_host(site, "brother", &[(MAIN, 4000)], Box::new(Raw::echo()));
    pair.send(SocketAddr::new(pair.world.address(brother), 4000), b"hello");
    pair.send("198.18.1.1:4000".parse().unwrap(), b"hairpin");
    pair.finish();
    assert_eq!(pair.received(pair.home).len(), 1);
    assert_eq!(pair.world.trace().counts.dropped[&DropCause::Nat(NatDrop::Hairpin)], 1);
}

#[test]
fn big_packets_vanish_where_the_mtu_is_small() {
    let mut pair = home_and_server("easy", LinkConfig { mtu: 1300, ..LinkConfig::default() });
    pair.send(pair.server_address, &[0; 1272]);
    pair.send(pair.server_address, &[0; 1273]);
    pair.finish();
    assert_eq!(pair.received(pair.home).len(), 1);
    assert_eq!(pair.world.trace().counts.dropped[&DropCause::TooBig], 1);
}

#[test]
fn silence_severed_ways_and_reboots() {
    let mut pair = home_and_server("eim-eif-x", LinkConfig::default());
    let (server_site, home_site) = (pair.world.site_of(pair.server), pair.world.site_of(pair.home));
    pair.world.sever(server_site, home_site, true);
    pair.send(pair.server_address, b"1");
    pair.world.sever(server_site, home_site, false);
    // Already past the fork when it was repaired: wires without delay are crossed at once.
    pair.finish();
    assert_eq!(pair.world.trace().counts.dropped[&DropCause::Silenced], 1);
    pair.world.silence(pair.server, true);
    pair.send(pair.server_address, b"2");
    pair.finish();
    assert_eq!(pair.world.trace().counts.dropped[&DropCause::Silenced], 2);
    pair.world.silence(pair.server, false);
    pair.send(pair.server_address, b"3");
    pair.finish();
    let before = pair.received(pair.server)[0].from;
    pair.world.reboot(home_site);
    pair.send(pair.server_address, b"4");
    pair.finish();
    assert_ne!(pair.received(pair.server)[1].from, before);
}

#[test]
fn every_packet_has_an_end_and_one_seed_has_one_hash() {
    let run = |seed: u64| {
        let path = LinkConfig { loss: 0.2, duplicate: 0.2, jitter: 5 * MS, corrupt: 0.1, ..LinkConfig::delay(MS) };
        let mut world = World::new(seed, Keep { packets: true, bytes: true });
        let (a, b) = (
            world.add_site(&SiteConfig::new("a", stack("sym").unwrap())),
            world.add_site(&SiteConfig::new("b", vec![])),
        );
        world.set_paths(a, b, path);
        let host_b = world.add_host(b, "b", &[(MAIN, 7)], Box::new(Raw::echo()));
        let host_a = world.add_host(a, "a", &[(MAIN, 7)], Box::new(Raw::default()));
        let to = SocketAddr::new(world.address(host_b), 7);
        for i in 0..200_u8 {
            world.with_raw(host_a, |raw| raw.send(MAIN, to, &[i; 40]));
        }
        world.pester(host_b, 50, MS);
        while world.step() {}
        assert!(world.trace().packets.iter().all(|p| p.end != End::UnderWay));
        let counts = &world.trace().counts;
        let too_big = counts.dropped.get(&DropCause::TooBig).copied().unwrap_or(0);
        assert_eq!(world.trace().frames.len() as u64, counts.sent - too_big, "each is tapped once");
        assert!(world.trace().counts.dropped[&DropCause::Loss] > 20);
        world.trace().hash()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

/// A node that always wants to be woken now.
struct Spinner;

impl Node for Spinner {
    fn handle_datagram(&mut self, _: Instant, _: direc_core::Arrival, _: bytes::BytesMut) {}
    fn handle_timeout(&mut self, _: Instant) {}
    fn poll_transmit(&mut self, _: Instant, _: &mut Vec<u8>) -> Option<direc_core::Transmit> {
        None
    }
    fn poll_event(&mut self, _: Instant) -> Option<crate::trace::What> {
        None
    }
    fn poll_timeout(&mut self) -> Option<direc_core::Wake> {
        Some(direc_core::Wake { at: Epoch::new().instant(Duration::ZERO), why: WakeReason::Probe })
    }
}

#[test]
fn a_node_that_never_sleeps_is_caught() {
    let mut world = World::new(1, Keep::default());
    let site = world.add_site(&SiteConfig::new("a", vec![]));
    // Its idea of now is later than the world's epoch by what this test takes to get here, which is not much.
    world.run_until(Duration::from_secs(60));
    let host = world.add_host(site, "a", &[], Box::new(Spinner));
    world.run_until(Duration::from_secs(61));
    let stuck = world.stuck().unwrap();
    assert_eq!((stuck.host, stuck.why), (host, Some(WakeReason::Probe)));
}

#[test]
fn a_way_may_be_severed_one_way_only() {
    let mut pair = home_and_server("easy", LinkConfig::default());
    let (server_site, home_site) = (pair.world.site_of(pair.server), pair.world.site_of(pair.home));
    pair.world.sever_way(server_site, home_site, true);
    pair.send(pair.server_address, b"heard, and not answered");
    pair.finish();
    assert_eq!((pair.received(pair.server).len(), pair.received(pair.home).len()), (1, 0));
}

#[test]
fn one_way_may_lose_what_the_other_does_not() {
    for (lossy, heard, answered) in [("up", false, false), ("down", true, false), ("none", true, true)] {
        let mut world = World::new(1, Keep::default());
        let all = LinkConfig { loss: 1.0, ..LinkConfig::default() };
        let link = |name: &str| if name == lossy { all } else { LinkConfig::default() };
        let plain = SiteConfig::new("home", stack("easy").unwrap());
        let home = world.add_site(&SiteConfig { up: link("up"), down: link("down"), ..plain });
        let there = world.add_site(&SiteConfig::new("server", vec![]));
        let server = world.add_host(there, "server", &[(MAIN, 7)], Box::new(Raw::echo()));
        let host = world.add_host(home, "home", &[(MAIN, 4000)], Box::new(Raw::default()));
        let to = SocketAddr::new(world.address(server), 7);
        world.with_raw(host, |raw| raw.send(MAIN, to, b"hello"));
        while world.step() {}
        let mut got = |host| world.with_raw(host, |raw| !raw.received.is_empty()).unwrap();
        assert_eq!((got(server), got(host)), (heard, answered), "{lossy}");
    }
}

#[test]
fn two_homes_of_one_carrier_reach_each_other_by_its_inside_and_where_it_turns_packets_back() {
    let mut world = World::new(1, Keep::default());
    let carrier = world.add_site(&SiteConfig::new("carrier", stack("eim-apdf-x+hairpin").unwrap()));
    let there = world.add_site(&SiteConfig::new("server", vec![]));
    let server = world.add_host(there, "server", &[(MAIN, 7)], Box::new(Raw::default()));
    let mut homes = Vec::new();
    for name in ["one", "other"] {
        let config = SiteConfig { carrier: Some(carrier), ..SiteConfig::new(name, stack("eim-eif").unwrap()) };
        let site = world.add_site(&config);
        homes.push(world.add_host(site, name, &[(MAIN, 4000)], Box::new(Raw::default())));
    }
    let to = SocketAddr::new(world.address(server), 7);
    for &home in &homes {
        world.with_raw(home, |raw| raw.send(MAIN, to, b"here I am"));
        while world.step() {}
    }
    let seen: Vec<_> = world.with_raw(server, |raw| raw.received.iter().map(|got| got.from).collect()).unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].ip(), seen[1].ip(), "one public address");
    assert_ne!(seen[0].port(), seen[1].port());
    let inside: SocketAddr = "100.127.0.3:4000".parse().unwrap();
    for (to, from) in [(seen[1], seen[0]), (inside, "100.127.0.2:4000".parse().unwrap())] {
        world.with_raw(homes[0], |raw| raw.send(MAIN, to, b"neighbour")).unwrap();
        while world.step() {}
        let got = world.with_raw(homes[1], |raw| raw.received.pop()).unwrap();
        assert_eq!(got.map(|got| got.from), Some(from), "by {to}");
    }
}

#[test]
fn a_stopped_process_hears_nothing_of_what_came_meanwhile() {
    let mut pair = home_and_server("easy", LinkConfig::delay(MS));
    pair.world.stop(pair.server, true);
    pair.send(pair.server_address, b"lost");
    pair.finish();
    pair.world.stop(pair.server, false);
    pair.send(pair.server_address, b"heard");
    pair.finish();
    let heard: Vec<Vec<u8>> = pair.received(pair.server).into_iter().map(|received| received.data).collect();
    assert_eq!(heard, [b"heard"]);
}

#[test]
fn another_public_address_is_not_told_and_the_old_one_leads_nowhere() {
    for boxes in ["easy", "double-eim", "fw", "none"] {
        let mut pair = home_and_server(boxes, LinkConfig::delay(MS));
        pair.send(pair.server_address, b"before");
        pair.finish();
        pair.world.readdress(pair.world.site_of(pair.home));
        let old = pair.received(pair.server)[0].from;
        pair.world.with_raw(pair.server, |raw| raw.send(MAIN, old, b"to the old address"));
        pair.send(pair.server_address, b"after");
        pair.finish();
        assert_ne!(pair.received(pair.server)[1].from.ip(), old.ip(), "{boxes}");
        assert_eq!(pair.received(pair.home).len(), 2, "{boxes}: echoes only");
    }
}

#[test]
fn a_host_that_roams_is_reached_where_it_is_and_not_where_it_was() {
    for boxes in ["easy", "none"] {
        let mut pair = home_and_server(boxes, LinkConfig::delay(MS));
        let elsewhere = pair.world.add_site(&SiteConfig::new("elsewhere", stack(boxes).unwrap()));
        pair.send(pair.server_address, b"from home");
        pair.world.leave(pair.home);
        pair.send(pair.server_address, b"from nowhere");
        pair.world.run_until(5 * MS);
        pair.world.settle(pair.home, elsewhere);
        pair.send(pair.server_address, b"from elsewhere");
        pair.finish();
        let seen = pair.received(pair.server);
        assert_eq!(seen.len(), 2, "{boxes}");
        assert_ne!(seen[0].from.ip(), seen[1].from.ip(), "{boxes}");
        assert_eq!(pair.received(pair.home).len(), 1, "{boxes}: the first echo came too late");
    }
}

#[test]
fn a_process_that_is_replaced_knows_nothing() {
    let mut pair = home_and_server("easy", LinkConfig::default());
    pair.send(pair.server_address, b"before");
    pair.finish();
    pair.world.replace(pair.server, Box::new(Raw::echo()));
    assert!(pair.received(pair.server).is_empty());
}
