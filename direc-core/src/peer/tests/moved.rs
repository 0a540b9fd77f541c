//! QUIC's own migration, at the side that a control connection's peer moves away from.

use super::*;

/// A pair whose relay waits for an answer that does not come, and what the peer says then. It says it from elsewhere.
fn overdue() -> (Pair, Vec<BytesMut>) {
    let mut pair = Pair::registered(Consent::Any);
    let (now, mut buf) = (pair.now, Vec::new());
    pair.liar.quic.get_mut(pair.liar.handle.unwrap()).unwrap().ping();
    while pair.liar.quic.poll_transmit(now, 1, &mut buf).is_some() {
        buf.clear();
    }
    pair.liar.drive(now);
    pair.now = pair.liar.quic.poll_timeout().unwrap() + Duration::from_millis(1);
    pair.peer.handle_timeout(pair.now);
    let local: SocketAddr = "10.0.0.1:5".parse().unwrap();
    pair.peer.network_changed(pair.now, &[local]);
    let mut said = Vec::new();
    while let Some(out) = pair.peer.poll_transmit(pair.now, &mut buf) {
        if out.remote == RELAY.parse().unwrap() {
            said.push(BytesMut::from(&buf[..]));
        }
        buf.clear();
    }
    assert!(!said.is_empty());
    (pair, said)
}

#[test]
fn a_peer_that_moves_when_a_packet_to_it_is_overdue_is_followed() {
    let (mut pair, said) = overdue();
    let elsewhere = "198.51.100.9:9".parse().unwrap();
    for packet in said {
        pair.liar.hear(pair.now, elsewhere, packet);
    }
    // In a busy program's one turn: what came, then what is due, and only then what is to be sent.
    pair.liar.quic.handle_timeout(pair.now);
    pair.liar.drive(pair.now);
    let connection = pair.liar.quic.get_mut(pair.liar.handle.unwrap()).unwrap();
    assert_eq!(connection.remote_address(), elsewhere);
    let sent = std::iter::from_fn(|| pair.liar.quic.poll_transmit(pair.now, 1, &mut Vec::new()));
    assert!(sent.map(|out| out.destination).any(|place| place == elsewhere));
}

#[test]
fn a_peer_that_is_not_where_it_seemed_to_be_is_looked_for_where_it_was() {
    let (mut pair, said) = overdue();
    let (mut buf, elsewhere) = (Vec::new(), "198.51.100.9:9".parse().unwrap());
    for packet in said {
        pair.liar.hear(pair.now, elsewhere, packet);
    }
    // Nothing that is sent there arrives.
    let mut places = Vec::new();
    for _ in 0..1000 {
        while let Some(out) = pair.liar.quic.poll_transmit(pair.now, 1, &mut buf) {
            places.push(out.destination);
            buf.clear();
        }
        pair.liar.drive(pair.now);
        pair.now += Duration::from_millis(5);
        pair.liar.quic.handle_timeout(pair.now);
    }
    let there = places.iter().rposition(|&place| place == elsewhere).unwrap();
    let back = places[there..].iter().filter(|place| **place == PEER.parse().unwrap()).count();
    assert!(back >= 2, "{places:?}");
}
