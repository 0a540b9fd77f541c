//! What nodes take from a tunnel, and what not; whether a peer asks for one.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test may fail, and needs an origin of time")]

mod support;

use std::{net::SocketAddr, time::Instant};

use bytes::BytesMut;
use direc_core::*;
use support::{identity, ms, peer_config, provider, relay_config};

const FROM: &str = "198.51.100.7:50000";

fn arrival(link: Link, remote: SocketAddr, data: &[u8]) -> Arrival {
    Arrival { link, remote, ecn: None, stride: data.len() }
}

fn relay(now: Instant) -> Relay {
    Relay::new(relay_config(0), [1; 32], now).unwrap()
}

fn peer(now: Instant, tunnels: Vec<bool>) -> Peer {
    let config = PeerConfig { tunnels, ..peer_config(2, &[0, 1], Consent::Closed) };
    Peer::new(config, [2; 32], now).unwrap()
}

/// All that the peer sends and says until this time; nobody answers.
fn run(peer: &mut Peer, until: Instant) -> (Vec<Transmit>, Vec<(usize, bool)>) {
    let (mut sent, mut asked, mut buf) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let Some(wake) = peer.poll_timeout().filter(|wake| wake.at <= until) else { return (sent, asked) };
        peer.handle_timeout(wake.at);
        while let Some(out) = peer.poll_transmit(wake.at, &mut buf) {
            sent.push(out);
        }
        while let Some(event) = peer.poll_event() {
            if let PeerEvent::Tunnel { relay, wanted } = event {
                asked.push((relay, wanted));
            }
        }
    }
}

#[test]
fn a_relay_takes_nothing_from_a_tunnel_that_is_not_up_or_an_address_that_only_tunnels_have() {
    let (now, from) = (Instant::now(), FROM.parse().unwrap());
    let mut relay = relay(now);
    let quic = [0xc0; 1200];
    relay.handle_datagram(now, arrival(Link::Tunnel(7), from, &quic), BytesMut::from(&quic[..]));
    relay.handle_datagram(now, arrival(Link::Main, "[100::7]:1".parse().unwrap(), &quic), BytesMut::from(&quic[..]));
    assert_eq!(relay.stats().drops.of(DropReason::UnknownTunnel), 2);
    relay.tunnel_up(now, 7, from);
    relay.handle_datagram(now, arrival(Link::Tunnel(7), from, &quic), BytesMut::from(&quic[..]));
    relay.tunnel_lost(now, 7);
    relay.handle_datagram(now, arrival(Link::Tunnel(7), from, &quic), BytesMut::from(&quic[..]));
    assert_eq!(relay.stats().drops.of(DropReason::UnknownTunnel), 3);
}

#[test]
fn what_proves_an_address_does_not_come_by_a_tunnel() {
    let (now, from) = (Instant::now(), FROM.parse().unwrap());
    let (mut relay, mut peer) = (relay(now), peer(now, vec![true, true]));
    relay.tunnel_up(now, 7, from);
    // Each of the protocol's own datagrams but the relayed packet, by its type and length.
    let own = [(1, 64), (2, 33), (3, 33), (4, 1200), (5, 33), (6, 33), (7, 33)];
    for (kind, length) in own {
        let mut data = vec![0; length];
        data[0] = kind;
        relay.handle_datagram(now, arrival(Link::Tunnel(7), from, &data), BytesMut::from(&data[..]));
        peer.handle_datagram(now, arrival(Link::Tunnel(0), from, &data), BytesMut::from(&data[..]));
    }
    assert_eq!(relay.stats().drops.of(DropReason::UnknownType), own.len() as u64);
    assert_eq!(peer.drops().of(DropReason::UnknownType), own.len() as u64);
}

#[test]
fn a_peer_asks_for_a_tunnel_after_udps_head_start_and_only_where_there_can_be_one() {
    let start = Instant::now();
    let mut peer = peer(start, vec![false, true]);
    assert_eq!(run(&mut peer, start + ms(199)).1, []);
    let (sent, asked) = run(&mut peer, start + ms(500));
    assert_eq!(asked, [(1, true)]);
    assert!(sent.iter().all(|out| out.link == Link::Main), "it is not up");
    peer.tunnel_up(start + ms(500), 1);
    let (sent, _) = run(&mut peer, start + ms(600));
    let first = sent.iter().find(|out| out.link != Link::Main).unwrap();
    assert_eq!((first.link, first.remote), (Link::Tunnel(1), support::relay_address(1).address));
}

#[test]
fn a_tunnel_that_nobody_asked_for_is_not_used() {
    let start = Instant::now();
    let mut peer = peer(start, vec![false, true]);
    for relay in [0, 1, 2, usize::MAX] {
        peer.tunnel_up(start, relay);
        peer.tunnel_lost(start, relay);
        peer.tunnel_up(start, relay);
    }
    let (sent, _) = run(&mut peer, start + ms(150));
    assert!(!sent.is_empty() && sent.iter().all(|out| out.link == Link::Main));
}

#[test]
fn a_tunnel_is_let_go_of_when_the_peer_gives_up_for_good() {
    // A relay whose key is another: the peer learns so by UDP while its tunnel is being made.
    let mut world = support::World::new();
    let config = PeerConfig { tunnels: vec![true], ..peer_config(2, &[0], Consent::Closed) };
    let peer = world.add_peer("198.51.100.2:1000", config);
    let wrong = RelayConfig::new(identity(77), vec![4434, 4435], provider());
    let relay = world.add_relay("203.0.113.10:4433", wrong);
    world.delays.insert((peer, relay), ms(150));
    world.run(ms(1000));
    let asked: Vec<_> = world.hosts[peer]
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            support::Event::Peer(PeerEvent::Tunnel { wanted, .. }) => Some(*wanted),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [true, false]);
}
