//! A peer against a relay that lies: every message is the test's own.

mod lies;
mod moved;
mod resume;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::{BufMut, BytesMut};
use quinn_proto::Event;

use super::{control::FIRST_OFFER_STREAMS, *};
use crate::{
    Arrival, CloseReason, ConnectError, Identity, RelayAddress, RelayError,
    congestion::ledger::Ledger,
    quic::{
        self, Handle, Handled, Quic,
        config::{client, control_transport, endpoint, peer_transport, server},
        stream::{MessageStream, Received},
        tls::{ALPN_PEER, ALPN_RELAY},
    },
    wire::{
        datagram::{Datagram, RELAYED_HEADER},
        message::{Addresses, GoAhead, Knows, Message, Observed, Offer, Refused, Registered},
    },
};

const RELAY: &str = "203.0.113.10:4433";
const PEER: &str = "198.51.100.2:1000";

fn identity(n: u8) -> Identity {
    Identity::from_secret(&[n; 32]).unwrap()
}

#[allow(clippy::disallowed_methods)] // tests bring what the core must not fetch itself
fn tls(n: u8) -> Tls {
    Tls { identity: identity(n), crypto: Arc::new(rustls::crypto::ring::default_provider()), key_log: None }
}

/// A control connection's other end, with nothing of a relay's behaviour.
struct Liar {
    quic: Quic,
    handle: Option<Handle>,
    streams: Vec<MessageStream>,
    /// Relayed packets, headers taken off.
    relayed: Vec<BytesMut>,
}

struct Pair {
    now: Instant,
    peer: Peer,
    liar: Liar,
    events: Vec<PeerEvent>,
}

impl Pair {
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn new(consent: Consent) -> Self {
        let now = Instant::now();
        let mut rng = Rng::new([3; 32]);
        let cids = CidKey::new(&mut rng).unwrap();
        let crypto = tls(3).server(None, ALPN_RELAY).unwrap();
        let server = server(crypto, control_transport(64), &Clock::new(now), &mut rng);
        let quic = Quic::new(endpoint(0, &cids, &mut rng), Some(server));
        let relay = RelayAddress { address: RELAY.parse().unwrap(), key: identity(3).id() };
        let config = PeerConfig { consent, ..PeerConfig::new(identity(2), relay, tls(2).crypto) };
        let peer = Peer::new(config, [2; 32], now).unwrap();
        let liar = Liar { quic, handle: None, streams: Vec::new(), relayed: Vec::new() };
        Self { now, peer, liar, events: Vec::new() }
    }

    /// One in which the peer is registered, by a relay that has told the truth so far.
    fn registered(consent: Consent) -> Self {
        let mut pair = Self::new(consent);
        pair.run();
        pair.say(0, &registered(vec![4434, 4435]));
        pair.run();
        assert!(pair.peer.is_registered());
        pair
    }

    fn run(&mut self) {
        let (relay, peer): (SocketAddr, SocketAddr) = (RELAY.parse().unwrap(), PEER.parse().unwrap());
        for _ in 0..30 {
            self.now += Duration::from_millis(5);
            let (now, mut buf) = (self.now, Vec::new());
            self.peer.handle_timeout(now);
            while let Some(out) = self.peer.poll_transmit(now, &mut buf) {
                if out.remote == relay {
                    self.liar.hear(now, peer, BytesMut::from(&buf[..]));
                }
            }
            self.events.extend(std::iter::from_fn(|| self.peer.poll_event()));
            self.liar.quic.handle_timeout(now);
            self.liar.drive(self.now);
            buf.clear();
            while self.liar.quic.poll_transmit(now, 1, &mut buf).is_some() {
                let arrival = Arrival { link: Link::Main, remote: relay, ecn: None, stride: buf.len() };
                self.peer.handle_datagram(now, arrival, BytesMut::from(&buf[..]));
                buf.clear();
                self.liar.drive(self.now);
            }
        }
    }

    /// Says a message on the stream number `stream`, in the order they were opened.
    fn say(&mut self, stream: usize, message: &Message) {
        let connection = self.liar.quic.get_mut(self.liar.handle.unwrap()).unwrap();
        self.liar.streams[stream].send(connection, message);
    }

    fn say_bytes(&mut self, stream: usize, bytes: &[u8]) {
        let id = self.liar.streams[stream].id();
        let connection = self.liar.quic.get_mut(self.liar.handle.unwrap()).unwrap();
        connection.send_stream(id).write(bytes).unwrap();
    }

    /// Opens a stream to the peer, as for an offer.
    fn open(&mut self) -> usize {
        let connection = self.liar.quic.get_mut(self.liar.handle.unwrap()).unwrap();
        let id = connection.streams().open(quinn_proto::Dir::Bi).unwrap();
        self.liar.streams.push(MessageStream::new(id));
        self.liar.streams.len() - 1
    }

    fn lost(&self) -> Option<&RelayError> {
        self.events.iter().find_map(|event| match event {
            PeerEvent::RelayLost { error, .. } => Some(error),
            _ => None,
        })
    }

    fn failed(&self) -> Option<&ConnectError> {
        self.events.iter().find_map(|event| match event {
            PeerEvent::Failed { error, .. } => Some(error),
            _ => None,
        })
    }

    /// Carries packets of channel `channel` between the peer and `other`, the other end of its QUIC.
    fn relay(&mut self, channel: u64, other: &mut Quic) -> Vec<Event> {
        let mut events = Vec::new();
        let address: SocketAddr = "192.0.2.1:1".parse().unwrap();
        for _ in 0..10 {
            let (now, mut buf) = (self.now, Vec::new());
            while other.poll_transmit(now, 1, &mut buf).is_some() {
                let mut packet = BytesMut::new();
                packet.put_u8(0x08);
                packet.put_u64(channel);
                packet.extend_from_slice(&buf);
                let arrival =
                    Arrival { link: Link::Main, remote: RELAY.parse().unwrap(), ecn: None, stride: packet.len() };
                self.peer.handle_datagram(now, arrival, packet);
                buf.clear();
            }
            self.run();
            for packet in self.liar.relayed.drain(..) {
                if let Handled::Incoming(incoming) = other.handle_datagram(now, address, None, packet) {
                    other.accept(now, *incoming, None);
                }
            }
            events.extend(std::iter::from_fn(|| other.poll_event(self.now)).map(|(_, event)| event));
        }
        events
    }
}

impl Liar {
    fn hear(&mut self, now: Instant, from: SocketAddr, mut packet: BytesMut) {
        if let Ok(Datagram::Relayed { .. }) = Datagram::decode(&packet) {
            self.relayed.push(packet.split_off(RELAYED_HEADER));
            return;
        }
        if let Handled::Incoming(incoming) = self.quic.handle_datagram(now, from, None, packet) {
            self.handle = self.quic.accept(now, *incoming, None);
        }
    }

    fn drive(&mut self, now: Instant) {
        while let Some((handle, event)) = self.quic.poll_event(now) {
            if let Event::Stream(quinn_proto::StreamEvent::Opened { .. }) = event {
                let streams = self.quic.get_mut(handle).unwrap().streams().accept(quinn_proto::Dir::Bi);
                self.streams.extend(streams.map(MessageStream::new));
            }
        }
    }
}

fn observed() -> Message {
    Message::Observed(Observed { cookie: [0; 16], port: 9, address: PEER.parse().unwrap(), pool: None })
}

fn offer(client: u8) -> Message {
    Message::Offer(Offer {
        introduction: 1,
        client: identity(client).id(),
        cookie: [1; 16],
        secret: [2; 32],
        channel: 7,
        direct: true,
        direct_only: false,
        rekey: false,
        resume: None,
    })
}

fn go_ahead() -> Message {
    Message::GoAhead(GoAhead { introduction: 1, secret: [2; 32], accepted: true })
}

/// The answer to a registration, of a relay from before there were names.
fn registered(punch_ports: Vec<u16>) -> Message {
    Message::Registered(Registered { punch_ports, knock_port: None, knows: Knows::default() })
}

#[test]
fn a_relay_that_does_not_say_that_it_knows_names_is_not_asked_for_one() {
    let mut pair = Pair::registered(Consent::Any);
    let name: crate::PeerName = "office".parse().unwrap();
    pair.peer.resolve(pair.now, &name);
    pair.run();
    let nobody =
        |event: &PeerEvent| matches!(event, PeerEvent::Resolved { id: None, refused: Some(RefuseReason::Kind), .. });
    assert_eq!(pair.events.iter().filter(|event| nobody(event)).count(), 1);
    let connection = pair.liar.quic.get_mut(pair.liar.handle.unwrap()).unwrap();
    let heard = std::iter::from_fn(|| pair.liar.streams[0].receive(connection));
    let asked = |heard: Received| matches!(heard, Received::Message(Message::Resolve(_)));
    assert!(!heard.into_iter().any(asked));
}

#[test]
fn a_registration_answered_with_nonsense_blames_the_relay() {
    for nonsense in [observed(), Message::Accept, offer(9), go_ahead()] {
        let mut pair = Pair::new(Consent::Any);
        pair.run();
        pair.say(0, &nonsense);
        pair.run();
        assert!(matches!(pair.lost(), Some(RelayError::Misbehaved(_))), "{}: {:?}", nonsense.kind(), pair.lost());
    }
}

#[test]
fn bytes_that_are_no_message_blame_the_relay() {
    for bytes in [&b"\x00\x00"[..], b"\xff\xff", b"\x00\x03\x83\x02\x61", b"\x00\x01\xff"] {
        let mut pair = Pair::new(Consent::Any);
        pair.run();
        pair.say_bytes(0, bytes);
        pair.run();
        assert!(matches!(pair.lost(), Some(RelayError::Misbehaved(_))), "{bytes:?}: {:?}", pair.lost());
    }
}

#[test]
fn hole_punch_ports_that_cannot_be_are_not_sent_to() {
    let mut pair = Pair::new(Consent::Any);
    pair.run();
    pair.say(0, &registered(vec![0, 0]));
    pair.run();
    assert!(matches!(pair.lost(), Some(RelayError::Misbehaved(_))), "{:?}", pair.lost());

    let mut pair = Pair::new(Consent::Any);
    pair.run();
    pair.say(0, &registered((0..1000).collect()));
    let mut ports = std::collections::BTreeSet::new();
    let mut buf = Vec::new();
    for _ in 0..3 {
        pair.run();
        pair.now += Duration::from_secs(25);
        pair.peer.handle_timeout(pair.now);
        while let Some(out) = pair.peer.poll_transmit(pair.now, &mut buf) {
            ports.insert(out.remote.port());
        }
    }
    ports.remove(&4433);
    assert!(!ports.is_empty() && ports.len() <= 8 && !ports.contains(&0), "{ports:?}");
}

#[test]
fn an_offer_that_comes_to_nothing_leaves_nothing_behind() {
    let mut pair = Pair::registered(Consent::Ask);
    for _ in 0..50 {
        let stream = pair.open();
        pair.say(stream, &offer(9));
        pair.run();
        pair.say(stream, &Message::Refused(Refused { reason: RefuseReason::PeerLeft }));
        pair.run();
    }
    assert!(pair.peer.sessions.is_empty() && pair.peer.offered.is_empty());
}

#[test]
fn a_relay_that_refuses_is_quoted() {
    let mut pair = Pair::new(Consent::Any);
    pair.run();
    pair.say(0, &Message::Refused(Refused { reason: RefuseReason::Version }));
    pair.run();
    assert_eq!(pair.lost(), Some(&RelayError::Refused(RefuseReason::Version)));
    assert!(pair.lost().is_some_and(RelayError::is_final));
}

#[test]
fn an_introduction_answered_with_nonsense_fails_and_blames_the_relay() {
    let addresses = Message::Addresses(Addresses { addresses: Vec::new() });
    for nonsense in [Message::Accept, addresses, offer(9), observed()] {
        let mut pair = Pair::registered(Consent::Any);
        pair.peer.connect(pair.now, identity(4).id(), ConnectOptions::default()).unwrap();
        pair.run();
        pair.say(1, &nonsense);
        pair.run();
        let failed = pair.failed();
        let blamed = matches!(failed, Some(ConnectError::Relay(RelayError::Misbehaved(_))));
        assert!(blamed, "{}: {failed:?}", nonsense.kind());
    }
}

#[test]
fn a_stream_that_brings_no_offer_blames_the_relay() {
    for nonsense in [Message::Accept, go_ahead(), observed()] {
        let mut pair = Pair::registered(Consent::Any);
        let stream = pair.open();
        pair.say(stream, &nonsense);
        pair.run();
        assert!(matches!(pair.lost(), Some(RelayError::Misbehaved(_))), "{}", nonsense.kind());
    }
}

#[test]
fn an_offer_withdrawn_before_the_answer_is_over() {
    let mut pair = Pair::registered(Consent::Ask);
    let stream = pair.open();
    pair.say(stream, &offer(9));
    pair.run();
    assert!(pair.events.iter().any(|event| matches!(event, PeerEvent::Offered { .. })));
    pair.say(stream, &Message::Refused(Refused { reason: RefuseReason::PeerLeft }));
    pair.run();
    assert!(pair.failed().is_some() && pair.peer.sessions.is_empty());
}

#[test]
fn addresses_that_a_lying_relay_names_get_a_bounded_number_of_bytes() {
    let mut pair = Pair::registered(Consent::Any);
    pair.peer.connect(pair.now, identity(4).id(), ConnectOptions::default()).unwrap();
    pair.run();
    pair.say(1, &go_ahead());
    let victims: Vec<SocketAddr> = (1..=8).map(|n| SocketAddr::new([192, 0, 2, n].into(), 53)).collect();
    for _ in 0..5 {
        pair.say(1, &Message::Addresses(Addresses { addresses: victims.clone() }));
        pair.say(1, &Message::Addresses(Addresses { addresses: vec![SocketAddr::new([192, 0, 2, 99].into(), 53)] }));
    }
    pair.run();
    let mut bytes = std::collections::BTreeMap::<SocketAddr, usize>::new();
    let mut buf = Vec::new();
    for _ in 0..3000 {
        pair.now += Duration::from_millis(10);
        pair.peer.handle_timeout(pair.now);
        while let Some(out) = pair.peer.poll_transmit(pair.now, &mut buf) {
            *bytes.entry(out.remote).or_default() += out.size;
        }
    }
    let victims: Vec<usize> = bytes.iter().filter(|(to, _)| to.port() == 53).map(|(_, bytes)| *bytes).collect();
    assert!(victims.len() <= 8, "no more addresses than the limit");
    assert!(victims.iter().all(|bytes| *bytes <= 9 * 1200), "{victims:?}");
}

/// The offer names one client, another comes: the relay lied, or the client did.
#[test]
fn p4_takes_only_the_key_that_the_offer_named_and_the_other_learns_so_soon() {
    let mut pair = Pair::registered(Consent::Any);
    let stream = pair.open();
    pair.say(stream, &offer(9));
    pair.run();
    let mut rng = Rng::new([5; 32]);
    let cids = CidKey::new(&mut rng).unwrap();
    let mut other = Quic::new(endpoint(1, &cids, &mut rng), None);
    let crypto = tls(10).client(identity(2).id(), ALPN_PEER).unwrap();
    let transport = peer_transport(&crate::config::Transport::default(), &Ledger::cubic(pair.now));
    other.connect(pair.now, client(crypto, transport, &mut rng), "192.0.2.1:1".parse().unwrap()).unwrap();
    let events = pair.relay(7, &mut other);
    let reason = events.iter().find_map(|event| match event {
        Event::ConnectionLost { reason } => Some(quic::close_reason(reason)),
        _ => None,
    });
    assert_eq!(reason, Some(CloseReason::KeyRefused));
    assert!(matches!(pair.failed(), Some(ConnectError::Identity(_))), "{:?}", pair.failed());
    assert!(!pair.events.iter().any(|event| matches!(event, PeerEvent::Connected { .. })));
}

/// The relay connects P2 to somebody else than it asked for.
#[test]
fn p2_takes_only_the_key_it_asked_for() {
    let mut pair = Pair::registered(Consent::Any);
    pair.peer.connect(pair.now, identity(4).id(), ConnectOptions::default()).unwrap();
    pair.run();
    let channel = pair.peer.sessions.values().next().unwrap().attached().next().unwrap().channel;
    pair.say(1, &go_ahead());
    let mut rng = Rng::new([5; 32]);
    let cids = CidKey::new(&mut rng).unwrap();
    let transport = peer_transport(&crate::config::Transport::default(), &Ledger::cubic(pair.now));
    let crypto = tls(44).server(None, ALPN_PEER).unwrap();
    let impostor = server(crypto, transport, &Clock::new(pair.now), &mut rng);
    let mut other = Quic::new(endpoint(1, &cids, &mut rng), Some(impostor));
    pair.relay(channel, &mut other);
    assert!(matches!(pair.failed(), Some(ConnectError::Identity(_))), "{:?}", pair.failed());
    assert!(!pair.events.iter().any(|event| matches!(event, PeerEvent::Connected { .. })));
}

#[test]
fn what_debug_shows_holds_no_secret() {
    let pair = Pair::new(Consent::Any);
    let shown = format!("{:?} {:?} {:?}", pair.peer.shared.tls.identity, pair.events, pair.peer.drops());
    assert!(!shown.contains("[2, 2, 2"), "{shown}");
}

/// However many stay open, P3 has as many streams again, for as many as the peer has sessions.
#[test]
fn a_relay_that_opens_streams_is_allowed_more() {
    let mut pair = Pair::registered(Consent::Ask);
    let mut open = 0;
    while open < MAX_SESSIONS {
        let more = open.max(FIRST_OFFER_STREAMS as usize);
        for _ in 0..more {
            let stream = pair.open();
            // An offer of which nothing but the first byte comes.
            pair.say_bytes(stream, &[0]);
        }
        open += more;
        pair.run();
    }
    let connection = pair.liar.quic.get_mut(pair.liar.handle.unwrap()).unwrap();
    assert_eq!(connection.streams().open(quinn_proto::Dir::Bi), None, "and no more");
    assert!(pair.lost().is_none());
}
