//! How a peer learns for how long the way from its relay stays open, and what that costs.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::{net::SocketAddr, time::Duration};

use direc_core::{Consent, DropReason};
use support::{P2, P3, World, ms};

const SECOND: Duration = Duration::from_secs(1);
const COOKIE: u8 = 0x01;
const ECHO: u8 = 0x02;
const CONFIRM: u8 = 0x03;
const LATE_ECHO: u8 = 0x07;
const PORTS: [u16; 2] = [4434, 4435];

/// A small datagram that was sent by, or to, P2.
struct Sent {
    at: Duration,
    source: SocketAddr,
    bytes: Vec<u8>,
}

/// Runs on and gives P2's and the hole-punch ports' datagrams to each other; late echoes arrive if `late` says so.
fn watch(world: &mut World, for_: Duration, late: bool) -> Vec<Sent> {
    let (until, p2) = (world.now + for_, world.hosts[P2].ports[0]);
    let (mut sent, mut seen) = (Vec::new(), 0);
    loop {
        for host in 0..world.hosts.len() {
            world.pump(host);
        }
        for (&(_, number), packet) in &world.in_flight {
            let ours = packet.target == P2 || packet.source == p2;
            if number > seen && ours && (1..=7).contains(&packet.bytes[0]) {
                sent.push(Sent { at: world.elapsed(), source: packet.source, bytes: packet.bytes.clone() });
            }
        }
        seen = world.in_flight.keys().map(|&(_, number)| number).max().unwrap_or(0).max(seen);
        world.in_flight.retain(|_, packet| late || packet.bytes[0] != LATE_ECHO);
        if !world.step(until) {
            return sent;
        }
    }
}

fn trio() -> World {
    World::trio(Consent::Any, [20, 30, 25])
}

fn of(sent: &[Sent], kind: u8) -> impl Iterator<Item = &Sent> {
    sent.iter().filter(move |sent| sent.bytes[0] == kind)
}

/// The delays that the cookies of the first hole-punch port ask for, each refresh once.
fn asked(sent: &[Sent]) -> Vec<u8> {
    let mut cookies: Vec<&[u8]> = of(sent, COOKIE).map(|sent| &sent.bytes[1..18]).collect();
    cookies.dedup_by(|later, earlier| later[..16] == earlier[..16]);
    cookies.into_iter().map(|cookie| cookie[16]).collect()
}

#[test]
fn where_all_silences_are_survived_longer_ones_are_tried_and_then_none() {
    let sent = watch(&mut trio(), 600 * SECOND, true);
    assert_eq!(asked(&sent)[..12], [8, 8, 14, 14, 27, 27, 42, 42, 57, 57, 0, 0]);
    assert_eq!(of(&sent, LATE_ECHO).count(), 2 * 10);
}

#[test]
fn where_no_late_echo_comes_refreshes_come_every_four_seconds_and_ask_for_none() {
    let sent = watch(&mut trio(), 100 * SECOND, false);
    assert_eq!(asked(&sent)[..4], [8, 8, 8, 0]);
    let late = of(&sent, COOKIE).filter(|sent| sent.at > 50 * SECOND && sent.bytes[17] == 0).count();
    assert!((20..=60).contains(&late), "{late}");
}

#[test]
fn a_relay_sends_for_cookies_less_than_it_is_sent() {
    let sent = watch(&mut trio(), 400 * SECOND, true);
    let bytes = |own: bool| -> usize {
        let from = sent.iter().filter(|sent| PORTS.contains(&sent.source.port()) == own);
        let ours = from.filter(|sent| [COOKIE, ECHO, CONFIRM, LATE_ECHO].contains(&sent.bytes[0]));
        ours.map(|sent| sent.bytes.len()).sum()
    };
    assert!(bytes(true) < bytes(false), "{} for {}", bytes(true), bytes(false));
}

#[test]
fn a_late_echo_that_is_not_the_relays_teaches_nothing() {
    let mut world = trio();
    let sent = watch(&mut world, 5 * SECOND, true);
    let cookie = of(&sent, COOKIE).next().unwrap().bytes[1..17].to_vec();
    let forged = [&[LATE_ECHO], &cookie[..], &[0; 16]].concat();
    let relay = world.hosts[P3].ports[1];
    world.deliver(P2, relay, 0, forged.clone());
    world.deliver(P2, "192.0.2.66:4434".parse().unwrap(), 0, forged);
    let drops = world.peer(P2).drops();
    assert_eq!((drops.of(DropReason::BadToken), drops.of(DropReason::UnknownCookie)), (1, 1));
    assert_eq!(asked(&watch(&mut world, 2 * SECOND, true)), [], "the test goes on");
}

#[test]
fn another_network_is_learnt_anew() {
    let mut world = trio();
    watch(&mut world, 400 * SECOND, true);
    let (now, own) = (world.now, world.hosts[P2].ports[0]);
    world.peer(P2).network_changed(now, &[own]);
    assert_eq!(asked(&watch(&mut world, 30 * SECOND, true)), [8, 8, 14]);
}

#[test]
fn a_connection_that_comes_and_goes_does_not_keep_a_peer_from_learning() {
    let mut world = trio();
    watch(&mut world, 3 * SECOND, true);
    world.connect(P2, support::P4);
    world.run(ms(500));
    let (_, conn) = world.connected(P2).unwrap();
    watch(&mut world, 10 * SECOND, true);
    let now = world.now;
    world.peer(P2).connection(conn).unwrap().close(
        now,
        direc_core::quic_types::VarInt::from_u32(0),
        bytes::Bytes::new(),
    );
    let sent = watch(&mut world, 500 * SECOND, true);
    assert_eq!(asked(&sent).last(), Some(&0));
}
