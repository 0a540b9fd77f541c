//! P2 at two relays, of which the second says that P4 has accepted when it was never asked.

use quinn_proto::{Dir, StreamId};

use super::*;

const RELAYS: [&str; 2] = [RELAY, "203.0.113.11:4433"];

/// P2, the other ends of its control connections, and P4's QUIC behind the first.
struct Two {
    now: Instant,
    peer: Peer,
    liars: [Liar; 2],
    p4: Quic,
    p4_handle: Option<Handle>,
    /// Whether the first relay passes packets on. The second never does.
    passing: bool,
}

#[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
fn start() -> Instant {
    Instant::now()
}

fn liar(n: u8, now: Instant) -> Liar {
    let mut rng = Rng::new([n; 32]);
    let cids = CidKey::new(&mut rng).unwrap();
    let crypto = tls(n).server(None, ALPN_RELAY).unwrap();
    let server = server(crypto, control_transport(64), &Clock::new(now), &mut rng);
    let quic = Quic::new(endpoint(0, &cids, &mut rng), Some(server));
    Liar { quic, handle: None, streams: Vec::new(), relayed: Vec::new() }
}

impl Two {
    /// Connected through the first relay, and registered at the second.
    fn connected() -> (Self, ConnId) {
        let now = start();
        let relays = [30, 31].into_iter().zip(RELAYS);
        let relays = relays.map(|(n, at)| RelayAddress { address: at.parse().unwrap(), key: identity(n).id() });
        let relays: Vec<RelayAddress> = relays.collect();
        let config = PeerConfig { relays: relays.clone(), ..PeerConfig::new(identity(2), relays[0], tls(2).crypto) };
        let mut rng = Rng::new([5; 32]);
        let cids = CidKey::new(&mut rng).unwrap();
        let transport = peer_transport(&crate::config::Transport::default(), &Ledger::cubic(now));
        let p4 = server(tls(4).server(None, ALPN_PEER).unwrap(), transport, &Clock::new(now), &mut rng);
        let p4 = Quic::new(endpoint(1, &cids, &mut rng), Some(p4));
        let (peer, liars) = (Peer::new(config, [2; 32], now).unwrap(), [liar(30, now), liar(31, now)]);
        let mut two = Self { now, peer, liars, p4, p4_handle: None, passing: true };
        two.run(150);
        (0..2).for_each(|n| two.say(n, 0, &registered(vec![4434, 4435])));
        two.run(150);
        let options = ConnectOptions::with_policy(crate::PathPolicy::RelayOnly);
        let conn = two.peer.connect(two.now, identity(4).id(), options).unwrap();
        two.run(50);
        two.say(0, 1, &go_ahead());
        two.run(300);
        assert!(two.p4_handle.is_some());
        (two, conn)
    }

    fn say(&mut self, liar: usize, stream: usize, message: &Message) {
        let liar = &mut self.liars[liar];
        let connection = liar.quic.get_mut(liar.handle.unwrap()).unwrap();
        liar.streams[stream].send(connection, message);
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 5 {
            self.now += Duration::from_millis(5);
            self.peer.handle_timeout(self.now);
            self.peer_to_liars();
            while self.peer.poll_event().is_some() {}
            self.liars_to_peer();
            self.p4_to_peer();
        }
    }

    fn peer_to_liars(&mut self) {
        let (now, from, mut buf) = (self.now, PEER.parse().unwrap(), Vec::new());
        while let Some(out) = self.peer.poll_transmit(now, &mut buf) {
            let Some(n) = RELAYS.iter().position(|at| out.remote == at.parse().unwrap()) else { continue };
            let segment = out.segment_size.unwrap_or(out.size).max(1);
            buf.chunks(segment).for_each(|packet| self.liars[n].hear(now, from, BytesMut::from(packet)));
        }
        self.liars[1].relayed.clear();
        for packet in self.liars[0].relayed.drain(..).filter(|_| self.passing) {
            if let Handled::Incoming(incoming) = self.p4.handle_datagram(now, from, None, packet) {
                self.p4_handle = self.p4.accept(now, *incoming, None);
            }
        }
    }

    fn liars_to_peer(&mut self) {
        for (liar, at) in self.liars.iter_mut().zip(RELAYS) {
            liar.quic.handle_timeout(self.now);
            liar.drive(self.now);
            let mut buf = Vec::new();
            while liar.quic.poll_transmit(self.now, 1, &mut buf).is_some() {
                let arrival = Arrival { link: Link::Main, remote: at.parse().unwrap(), ecn: None, stride: buf.len() };
                self.peer.handle_datagram(self.now, arrival, BytesMut::from(&buf[..]));
                buf.clear();
            }
        }
    }

    fn p4_to_peer(&mut self) {
        let (now, mut buf) = (self.now, Vec::new());
        self.p4.handle_timeout(now);
        while self.p4.poll_event(self.now).is_some() {}
        while self.p4.poll_transmit(now, 1, &mut buf).is_some() {
            let channel = self.places().into_iter().find(|(relay, ..)| *relay == 0).map(|(_, _, channel)| channel);
            if let Some(channel) = channel.filter(|_| self.passing) {
                let mut packet = BytesMut::new();
                packet.put_u8(0x08);
                packet.put_u64(channel);
                packet.extend_from_slice(&buf);
                let arrival =
                    Arrival { link: Link::Main, remote: RELAY.parse().unwrap(), ecn: None, stride: packet.len() };
                self.peer.handle_datagram(now, arrival, packet);
            }
            buf.clear();
        }
    }

    fn places(&self) -> Vec<(usize, StreamId, u64)> {
        let places = self.peer.sessions.values().flat_map(Session::attached);
        places.map(|place| (place.relay, place.introduction.stream_id(), place.channel)).collect()
    }

    /// Writes a word, and says whether P4 gets it within that time.
    fn passes(&mut self, conn: ConnId, ms: u64) -> bool {
        let mut connection = self.peer.connection(conn).unwrap();
        let id = connection.open(Dir::Uni).unwrap();
        connection.write(id, &mut [bytes::Bytes::from_static(b"word")]).unwrap();
        connection.finish(id).unwrap();
        self.run(ms);
        let p4 = self.p4.get_mut(self.p4_handle.unwrap()).unwrap();
        p4.streams().accept(Dir::Uni).is_some()
    }
}

#[test]
fn a_relay_that_says_p4_has_accepted_cannot_take_the_connection_away_for_good() {
    let (mut two, conn) = Two::connected();
    assert!(two.passes(conn, 100));
    two.passing = false;
    assert!(!two.passes(conn, 1000));
    assert_eq!(two.liars[1].streams.len(), 2, "the second relay is asked");
    two.say(1, 1, &go_ahead());
    two.run(300);
    two.passing = true;
    assert!(two.places().iter().any(|(relay, ..)| *relay == 1), "and believed");
    two.run(3000);
    assert_eq!(two.liars[0].streams.len(), 3, "until it passes nothing on");
    two.say(0, 2, &go_ahead());
    two.run(500);
    assert!(two.passes(conn, 3000));
}
