//! Two QUIC endpoints with this crate's settings, joined by a network of the test's making: what can end or freeze a
//! healthy connection from inside. `docs/quinn-proto.md` lists it.

mod credit;
mod datagrams;
mod errors;
mod keys;
mod moves;
mod network;
mod streams;
mod time;

use std::{collections::BTreeMap, sync::Arc};

use quinn_proto::{Dir, FinishError, FrameStats, StreamId, TransportConfig};
use rustls::crypto::CryptoProvider;

use super::{
    config::{Clock, client, endpoint, peer_transport, server},
    tls::{ALPN_PEER, Tls},
    *,
};
use crate::{Identity, config::Transport, congestion::ledger::Ledger, rng::Rng};

/// The two ends.
const CLIENT: usize = 0;
const SERVER: usize = 1;

/// More steps than any test takes: a loop that never ends fails instead.
const MAX_STEPS: usize = 20_000_000;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn identity(n: u8) -> Identity {
    Identity::from_secret(&[n; 32]).unwrap()
}

#[allow(clippy::disallowed_methods)] // tests bring what the core must not fetch itself
fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// A packet that is about to leave: from which side, what it holds, and its length.
struct Leaving {
    from: usize,
    frames: FrameStats,
    len: usize,
}

/// Which packets the network loses.
type Loses = Box<dyn FnMut(&Leaving) -> bool>;

struct Side {
    quic: Quic,
    handle: Option<Handle>,
    address: SocketAddr,
    events: Vec<Event>,
}

struct Net {
    now: Instant,
    sides: [Side; 2],
    /// By arrival, then in the order sent.
    in_flight: BTreeMap<(Instant, u64), (usize, SocketAddr, BytesMut)>,
    sent: u64,
    delay: Duration,
    /// A packet is late by up to this time.
    jitter: Duration,
    loses: Loses,
    /// What is tried, for a failed test's reader.
    tries: &'static str,
    rng: Rng,
}

impl Net {
    /// Both sides with these settings, connected.
    fn new(settings: Transport) -> Self {
        Self::with([settings; 2], Arc::new(provider()))
    }

    fn with(settings: [Transport; 2], crypto: Arc<CryptoProvider>) -> Self {
        let start = start();
        let mut net = Self::between(settings.map(|settings| peer_transport(&settings, &Ledger::cubic(start))), crypto);
        net.connect();
        net
    }

    /// Before the first packet.
    fn between([client_transport, server_transport]: [TransportConfig; 2], crypto: Arc<CryptoProvider>) -> Self {
        let now = start();
        let mut rng = Rng::new([7; 32]);
        let cids = cid::CidKey::new(&mut rng).unwrap();
        let tls = |n| Tls { identity: identity(n), crypto: crypto.clone(), key_log: None };
        let accepts = tls(4).server(Some(identity(2).id()), ALPN_PEER).unwrap();
        let accepts = server(accepts, server_transport, &Clock::new(now), &mut rng);
        let connects = client(tls(2).client(identity(4).id(), ALPN_PEER).unwrap(), client_transport, &mut rng);
        let addresses: [SocketAddr; 2] = ["198.51.100.2:1000", "198.51.100.4:1000"].map(|text| text.parse().unwrap());
        let mut quics = [None, Some(accepts)].map(|config| Quic::new(endpoint(1, &cids, &mut rng), config));
        let handle = quics[CLIENT].connect(now, connects, addresses[SERVER]);
        let [near, far] = quics;
        let side = |quic, handle, address| Side { quic, handle, address, events: Vec::new() };
        Self {
            now,
            sides: [side(near, handle, addresses[CLIENT]), side(far, None, addresses[SERVER])],
            in_flight: BTreeMap::new(),
            sent: 0,
            delay: ms(10),
            jitter: Duration::ZERO,
            loses: Box::new(|_| false),
            tries: "",
            rng,
        }
    }

    fn connect(&mut self) {
        self.until(ms(5000), |net| net.sides.iter().all(|side| side.saw_connected()).then_some(()));
        self.run(ms(2000));
        self.sides.iter_mut().for_each(|side| side.events.clear());
    }

    fn conn(&mut self, side: usize) -> &mut Connection {
        let (ends, side) = (self.ends(), &mut self.sides[side]);
        let conn = side.quic.get_mut(side.handle.unwrap());
        conn.unwrap_or_else(|| panic!("{}: the connection has gone: {ends:?}", self.tries))
    }

    fn frames(&self, side: usize) -> FrameStats {
        let side = &self.sides[side];
        side.handle.and_then(|handle| side.quic.get(handle)).map(|conn| conn.stats().frame_tx).unwrap_or_default()
    }

    /// Takes a side's events and sends its packets.
    fn pump(&mut self, from: usize) {
        let mut buf = Vec::new();
        loop {
            let side = &mut self.sides[from];
            side.events.extend(std::iter::from_fn(|| side.quic.poll_event(self.now)).map(|(_, event)| event));
            let before = self.frames(from);
            buf.clear();
            if self.sides[from].quic.poll_transmit(self.now, 1, &mut buf).is_none() {
                return;
            }
            let frames = difference(&self.frames(from), &before);
            if (self.loses)(&Leaving { from, frames, len: buf.len() }) {
                continue;
            }
            self.sent += 1;
            let late = if self.jitter.is_zero() { Duration::ZERO } else { self.rng.below(self.jitter) };
            let source = self.sides[from].address;
            let packet = (1 - from, source, BytesMut::from(&buf[..]));
            self.in_flight.insert((self.now + self.delay + late, self.sent), packet);
        }
    }

    /// Goes on to the next thing that happens; false if that is after `until`.
    fn step(&mut self, until: Instant) -> bool {
        self.pump(CLIENT);
        self.pump(SERVER);
        let wake = self.sides.iter().filter_map(|side| side.quic.poll_timeout()).min();
        let arrival = self.in_flight.keys().next().map(|&(at, _)| at);
        let Some(next) = wake.into_iter().chain(arrival).min().filter(|next| *next <= until) else {
            self.now = until;
            return false;
        };
        self.now = next.max(self.now);
        if arrival == Some(next) {
            let (_, (to, source, packet)) = self.in_flight.pop_first().unwrap();
            self.sides[to].receive(self.now, source, packet);
        } else {
            self.sides.iter_mut().for_each(|side| side.quic.handle_timeout(self.now));
        }
        true
    }

    fn run(&mut self, for_: Duration) {
        let until = self.now + for_;
        let steps = (0..MAX_STEPS).take_while(|_| self.step(until)).count();
        assert!(steps < MAX_STEPS, "it never rests");
    }

    /// Runs until `found` says so, or panics after `limit`.
    fn until<T>(&mut self, limit: Duration, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
        let until = self.now + limit;
        loop {
            if let Some(result) = found(self) {
                return result;
            }
            if !self.step(until) {
                let result = found(self);
                return result.unwrap_or_else(|| panic!("{}: nothing for {limit:?}: {:?}", self.tries, self.ends()));
            }
        }
    }

    /// Loses one packet in so many, by chance.
    fn lose_one_in(&mut self, many: u64) {
        let mut rng = self.rng.fork();
        self.loses = Box::new(move |_| rng.u64().is_multiple_of(many));
    }

    /// Why the connection ended, as each side sees it.
    fn ends(&self) -> [Option<crate::CloseReason>; 2] {
        [CLIENT, SERVER].map(|side| self.sides[side].end())
    }

    fn assert_stands(&self) {
        assert_eq!(self.ends(), [None, None]);
    }

    /// The next stream that the other side has opened.
    fn accept(&mut self, side: usize, dir: Dir) -> StreamId {
        self.until(ms(60_000), |net| net.conn(side).streams().accept(dir))
    }

    fn open(&mut self, side: usize, dir: Dir) -> StreamId {
        self.until(ms(60_000), |net| net.conn(side).streams().open(dir))
    }
}

impl Side {
    fn receive(&mut self, now: Instant, source: SocketAddr, packet: BytesMut) {
        if let Handled::Incoming(incoming) = self.quic.handle_datagram(now, source, None, packet) {
            self.handle = self.quic.accept(now, *incoming, None);
        }
    }

    fn saw_connected(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Connected))
    }

    fn end(&self) -> Option<crate::CloseReason> {
        self.events.iter().find_map(|event| match event {
            Event::ConnectionLost { reason } => Some(close_reason(reason)),
            _ => None,
        })
    }
}

#[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
fn start() -> Instant {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// What one packet holds, from the counts after it and before.
fn difference(after: &FrameStats, before: &FrameStats) -> FrameStats {
    let mut frames = *after;
    frames.ack_frequency -= before.ack_frequency;
    frames.crypto -= before.crypto;
    frames.data_blocked -= before.data_blocked;
    frames.datagram -= before.datagram;
    frames.handshake_done -= before.handshake_done;
    frames.max_data -= before.max_data;
    frames.max_stream_data -= before.max_stream_data;
    frames.max_streams_bidi -= before.max_streams_bidi;
    frames.max_streams_uni -= before.max_streams_uni;
    frames.new_connection_id -= before.new_connection_id;
    frames.reset_stream -= before.reset_stream;
    frames.retire_connection_id -= before.retire_connection_id;
    frames.stream_data_blocked -= before.stream_data_blocked;
    frames.stop_sending -= before.stop_sending;
    frames.stream -= before.stream;
    frames
}

/// Writes what goes; gives how much that is.
fn write(conn: &mut Connection, id: StreamId, data: &[u8]) -> usize {
    match conn.send_stream(id).write(data) {
        Ok(written) => written,
        Err(quinn_proto::WriteError::Blocked) => 0,
        Err(error) => panic!("{error}"),
    }
}

/// Takes out what has come; gives how much that is, and whether the stream is over.
fn read(conn: &mut Connection, id: StreamId) -> (usize, bool) {
    let mut stream = conn.recv_stream(id);
    let Ok(mut chunks) = stream.read(true) else { return (0, true) };
    let mut len = 0;
    let over = loop {
        match chunks.next(usize::MAX) {
            Ok(Some(chunk)) => len += chunk.bytes.len(),
            Ok(None) | Err(quinn_proto::ReadError::Reset(_)) => break true,
            Err(quinn_proto::ReadError::Blocked) => break false,
        }
    };
    let _ = chunks.finalize();
    (len, over)
}

/// Ends a half; one that was stopped is reset, as the core does.
fn finish(conn: &mut Connection, id: StreamId) {
    match conn.send_stream(id).finish() {
        Err(FinishError::Stopped(code)) => conn.send_stream(id).reset(code).unwrap(),
        finished => finished.unwrap(),
    }
}
