//! Bytes from people who mean harm: counted drops, no harm done.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use bytes::Bytes;
use direc_core::*;
use proptest::prelude::*;
use support::*;

const D: [u64; 3] = [20, 20, 20];

/// A direct connection with a transfer half done.
fn busy() -> (World, ConnId, quic_types::StreamId) {
    let mut world = World::trio(Consent::Any, D);
    world.warm();
    let conn = world.connect(P2, P4);
    world.until(ms(2000), |world| world.moved(P2).and(world.moved(P4)));
    let id = world.peer(P2).connection(conn).unwrap().open(quic_types::Dir::Bi).unwrap();
    world.peer(P2).connection(conn).unwrap().write(id, &mut [Bytes::from_static(b"first half, ")]).unwrap();
    world.run(ms(5));
    (world, conn, id)
}

/// Ends the transfer and checks that nothing was lost or added.
fn finish(mut world: World, conn: ConnId, id: quic_types::StreamId) {
    world.peer(P2).connection(conn).unwrap().write(id, &mut [Bytes::from_static(b"second half")]).unwrap();
    world.peer(P2).connection(conn).unwrap().finish(id).unwrap();
    world.run(ms(2000));
    world.drain(P4);
    assert_eq!(world.hosts[P4].received, b"first half, second half");
    assert!(world.closed(P2).is_none() && world.closed(P4).is_none());
    assert!(world.peer(P2).is_registered() && world.peer(P4).is_registered());
}

/// Delivers bytes to each socket of each party, from a stranger and from each party's own addresses.
fn attack(world: &mut World, bytes: &[u8]) {
    let sources: Vec<std::net::SocketAddr> = world.hosts.iter().flat_map(|host| host.ports.clone()).collect();
    let stranger = "192.0.2.66:666".parse().unwrap();
    for target in [P2, P3, P4] {
        for port in 0..world.hosts[target].ports.len() {
            for &source in sources.iter().chain([&stranger]) {
                world.deliver(target, source, port, bytes.to_vec());
            }
        }
    }
}

fn drops(world: &mut World) -> u64 {
    world.peer(P2).drops().total() + world.peer(P4).drops().total() + world.relay(P3).stats().drops.total()
}

#[test]
fn garbage_of_every_first_byte_and_many_lengths_harms_nobody_and_is_counted() {
    let (mut world, conn, id) = busy();
    for first in 0..=255u8 {
        for len in [0, 1, 2, 8, 9, 10, 33, 64, 200, 1200, 1500, 65_507] {
            let mut bytes = vec![first ^ 0x5a; len];
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            attack(&mut world, &bytes);
        }
    }
    assert!(drops(&mut world) > 10_000);
    finish(world, conn, id);
}

#[test]
fn everything_that_was_ever_sent_sent_again_harms_nobody() {
    let mut world = World::trio(Consent::Any, D);
    let mut tape: Vec<(usize, usize, std::net::SocketAddr, Vec<u8>)> = Vec::new();
    let conn = {
        world.warm();
        let conn = world.connect(P2, P4);
        let until = world.now + ms(400);
        let mut seen = 0;
        loop {
            let fresh = world.in_flight.iter().filter(|((_, sequence), _)| *sequence > seen);
            tape.extend(fresh.map(|(_, p)| (p.target, p.port, p.source, p.bytes.clone())));
            seen = world.in_flight.keys().map(|&(_, sequence)| sequence).max().unwrap_or(seen).max(seen);
            if !world.step(until) {
                break;
            }
        }
        conn
    };
    assert!(tape.len() > 30, "{}", tape.len());
    let id = world.peer(P2).connection(conn).unwrap().open(quic_types::Dir::Bi).unwrap();
    world.peer(P2).connection(conn).unwrap().write(id, &mut [Bytes::from_static(b"first half, ")]).unwrap();
    for round in 0..3 {
        for (target, port, source, bytes) in &tape {
            world.deliver(*target, *source, *port, bytes.clone());
            // And from elsewhere: what was said from one address must not count for another.
            world.deliver(*target, "192.0.2.66:666".parse().unwrap(), *port, bytes.clone());
        }
        world.run(ms(100 * round));
    }
    finish(world, conn, id);
}

#[test]
fn a_stranger_who_replays_cookies_gets_no_address_told() {
    let mut world = World::trio(Consent::Any, D);
    world.warm();
    let stranger: std::net::SocketAddr = "192.0.2.66:666".parse().unwrap();
    world.connect(P2, P4);
    let mut cookies = Vec::new();
    let until = world.now + ms(300);
    loop {
        cookies.extend(
            world.in_flight.values().filter(|p| p.target == P3 && p.port > 0).map(|p| (p.port, p.bytes.clone())),
        );
        for (port, bytes) in cookies.drain(..) {
            world.deliver(P3, stranger, port, bytes);
        }
        if !world.step(until) {
            break;
        }
    }
    let told = world.hosts.iter().flat_map(|host| &host.events).any(|(_, event)| match event {
        Event::Peer(PeerEvent::Step(taken)) | Event::Relay(RelayEvent::Step(taken)) => taken.address == Some(stranger),
        Event::Peer(PeerEvent::Observed { address, .. }) => *address == stranger,
        _ => false,
    });
    assert!(!told, "the stranger never echoed");
}

#[test]
fn a_relay_passes_nothing_on_for_people_who_were_not_introduced() {
    let (mut world, ..) = busy();
    let relayed = world.relay(P3).stats().relayed_datagrams;
    let source = world.hosts[P2].ports[0];
    for channel in 0..1000u64 {
        let packet = [&[0x08][..], &channel.to_be_bytes(), &[0x40; 1200]].concat();
        world.deliver(P3, source, 0, packet);
    }
    assert_eq!(world.relay(P3).stats().relayed_datagrams, relayed);
    assert_eq!(world.relay(P3).stats().drops.of(DropReason::UnknownChannel), 1000);
}

#[test]
fn several_datagrams_in_one_buffer_are_each_taken_for_themselves() {
    let (mut world, conn, id) = busy();
    for stride in [1, 7, 9, 33, 64, 1200] {
        let bytes: Vec<u8> = (0..20_000u32).map(|n| (n / stride) as u8).collect();
        let now = world.now;
        let arrival =
            |link| Arrival { link, remote: "192.0.2.66:666".parse().unwrap(), ecn: None, stride: stride as usize };
        world.relay(P3).handle_datagram(now, arrival(Link::Main), bytes[..].into());
        world.relay(P3).handle_datagram(now, arrival(Link::Punch(0)), bytes[..].into());
        world.peer(P2).handle_datagram(now, arrival(Link::Main), bytes[..].into());
    }
    let zero = Arrival { link: Link::Main, remote: "192.0.2.66:666".parse().unwrap(), ecn: None, stride: 0 };
    let now = world.now;
    world.relay(P3).handle_datagram(now, zero, [1u8; 10][..].into());
    finish(world, conn, id);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Real packets with a few bytes changed, cut or lengthened, delivered beside the real ones.
    #[test]
    fn damaged_packets_harm_nobody(damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3usize), 1..40)) {
        let mut world = World::trio(Consent::Any, D);
        world.warm();
        let conn = world.connect(P2, P4);
        let until = world.now + ms(600);
        let mut damage = damage.iter().cycle();
        loop {
            let copies: Vec<_> = world.in_flight.values().take(3).map(|p| (p.target, p.port, p.source, p.bytes.clone())).collect();
            for (target, port, source, mut bytes) in copies {
                let (at, value, how) = damage.next().unwrap();
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] ^= value | 1,
                    1 => bytes.truncate(at),
                    _ => bytes.push(*value),
                }
                world.deliver(target, source, port, bytes);
            }
            if !world.step(until) {
                break;
            }
        }
        prop_assert!(world.moved(P2).is_some() && world.moved(P4).is_some(), "{}", world.story());
        let id = world.send_stream(P2, conn, b"first half, second half");
        let _ = id;
        world.run(ms(1000));
        world.drain(P4);
        prop_assert_eq!(&world.hosts[P4].received[..], b"first half, second half");
    }
}
