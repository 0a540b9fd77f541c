//! A party whose key is proven and whose manners are the fuzzer's: it speaks QUIC and TLS as it should, and on its
//! streams and sockets whatever it is told to.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Instant};

use bytes::BytesMut;
use quinn_proto::{Dir, Event, StreamEvent, VarInt};
use rustls::crypto::CryptoProvider;

use crate::{
    AccessToken, Arrival, ConfigError, Identity, Link, NodeId, RefuseReason, RelayAddress, Role, Transmit,
    paths::ProbeKeys,
    quic::{
        Handle, Handled, Quic,
        cid::CidKey,
        config::{Clock, client, control_transport, endpoint, server},
        stream::{MessageStream, Received},
        tls::{ALPN_RELAY, Tls},
    },
    rng::Rng,
    wire::{
        datagram::{Cookie, Datagram, Nonce, Token},
        frame::frame,
        message::*,
    },
};

/// Streams, and things heard, that a puppet keeps of each kind.
const KEPT: usize = 32;
/// Connections that a puppet of a relay takes.
const MAX_CONNECTIONS: usize = 4;

/// Draws the fuzzer's next byte.
pub type Draw<'a> = dyn FnMut() -> u8 + 'a;

/// A hostile relay, or a hostile peer at a real relay.
pub struct Puppet {
    quic: Quic,
    clock: Clock,
    /// The connections it speaks on, newest last.
    handles: Vec<Handle>,
    streams: Vec<(Handle, MessageStream)>,
    /// Whom it can name in a message, and where they could be.
    ids: Vec<NodeId>,
    addresses: Vec<SocketAddr>,
    cookies: Kept<Cookie>,
    tokens: Kept<Token>,
    channels: Kept<u64>,
    introductions: Kept<u64>,
    secrets: Kept<PunchSecret>,
    nonces: Kept<Nonce>,
    heard: Kept<Message>,
}

/// The last few things of a kind.
struct Kept<T>(VecDeque<T>);

impl<T: Clone> Kept<T> {
    fn new() -> Self {
        Self(VecDeque::new())
    }

    fn push(&mut self, one: T) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(one);
    }

    /// One of them, the newest for 0; `None` for a number beyond them.
    fn pick(&self, draw: &mut Draw<'_>) -> Option<T> {
        self.0.iter().rev().nth(usize::from(draw() % KEPT as u8)).cloned()
    }
}

fn bytes<const N: usize>(draw: &mut Draw<'_>) -> [u8; N] {
    [draw(); N]
}

impl Puppet {
    /// In a relay's place: takes connections. `ids` and `addresses` are what it may name.
    ///
    /// # Errors
    /// The crypto provider does not fit.
    pub fn relay(
        identity: Identity,
        crypto: Arc<CryptoProvider>,
        ids: Vec<NodeId>,
        addresses: Vec<SocketAddr>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        Self::new(identity, crypto, None, ids, addresses, now)
    }

    /// At a relay, as a peer with a key of its own: connects at once.
    ///
    /// # Errors
    /// The crypto provider does not fit.
    pub fn peer(
        identity: Identity,
        crypto: Arc<CryptoProvider>,
        relay: RelayAddress,
        ids: Vec<NodeId>,
        addresses: Vec<SocketAddr>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        Self::new(identity, crypto, Some(relay), ids, addresses, now)
    }

    fn new(
        identity: Identity,
        crypto: Arc<CryptoProvider>,
        relay: Option<RelayAddress>,
        ids: Vec<NodeId>,
        addresses: Vec<SocketAddr>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        let mut rng = Rng::new(*identity.id().as_bytes());
        let tls = Tls { identity, crypto, key_log: None };
        let cids = CidKey::new(&mut rng).ok_or_else(|| ConfigError::Crypto("no AES-128".into()))?;
        let clock = Clock::new(now);
        let server = match relay {
            None => Some(server(tls.server(None, ALPN_RELAY)?, control_transport(64), &clock, &mut rng)),
            Some(_) => None,
        };
        let mut quic = Quic::new(endpoint(0, &cids, &mut rng), server);
        let mut handles = Vec::new();
        if let Some(relay) = relay {
            let config = client(tls.client(relay.key, ALPN_RELAY)?, control_transport(64), &mut rng);
            handles.extend(quic.connect(now, config, relay.address));
        }
        Ok(Self {
            quic,
            clock,
            handles,
            streams: Vec::new(),
            ids,
            addresses,
            cookies: Kept::new(),
            tokens: Kept::new(),
            channels: Kept::new(),
            introductions: Kept::new(),
            secrets: Kept::new(),
            nonces: Kept::new(),
            heard: Kept::new(),
        })
    }

    /// Takes what arrives, by the links and rules of a real node.
    pub fn handle_datagram(&mut self, now: Instant, arrival: Arrival, mut data: BytesMut) {
        self.clock.set(now);
        while !data.is_empty() {
            let packet = data.split_to(arrival.stride.clamp(1, data.len()));
            match Datagram::decode(&packet) {
                Ok(Datagram::Quic) => self.on_quic(now, arrival, packet),
                Ok(Datagram::Cookie(cookie, _)) => self.cookies.push(cookie),
                Ok(
                    Datagram::Echo(cookie, token)
                    | Datagram::Confirm(cookie, token)
                    | Datagram::LateEcho(cookie, token)
                    | Datagram::Knock(cookie, token),
                ) => {
                    self.cookies.push(cookie);
                    self.tokens.push(token);
                }
                Ok(Datagram::Probe(fields) | Datagram::Check(fields)) => self.nonces.push(fields.nonce),
                Ok(Datagram::Relayed { channel }) => self.channels.push(channel),
                Ok(Datagram::ProbeEcho(_) | Datagram::Bid(_)) | Err(_) => {}
            }
        }
        self.drive(now);
    }

    fn on_quic(&mut self, now: Instant, arrival: Arrival, packet: BytesMut) {
        if let Handled::Incoming(incoming) = self.quic.handle_datagram(now, arrival.remote, arrival.ecn, packet) {
            if self.quic.len() < MAX_CONNECTIONS {
                self.handles.extend(self.quic.accept(now, *incoming, None));
            } else {
                self.quic.refuse(*incoming);
            }
        }
    }

    /// Does what time has made due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock.set(now);
        self.quic.handle_timeout(now);
        self.drive(now);
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        self.drive(now);
        buf.clear();
        let out = self.quic.poll_transmit(now, 1, buf);
        self.drive(now);
        let out = out?;
        Some(Transmit { ecn: out.ecn, ..Transmit::one(Link::Main, out.destination, buf.len()) })
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.quic.poll_timeout()
    }

    fn drive(&mut self, now: Instant) {
        while let Some((handle, event)) = self.quic.poll_event(now) {
            match event {
                Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                    while let Some(id) = self.quic.get_mut(handle).and_then(|quic| quic.streams().accept(Dir::Bi)) {
                        self.keep(handle, MessageStream::new(id));
                    }
                    self.listen();
                }
                Event::Stream(_) => self.listen(),
                Event::ConnectionLost { .. } => {
                    self.handles.retain(|known| *known != handle);
                    self.streams.retain(|(known, _)| *known != handle);
                }
                Event::Connected | Event::HandshakeDataReady | Event::DatagramReceived | Event::DatagramsUnblocked => {}
            }
        }
    }

    fn keep(&mut self, handle: Handle, stream: MessageStream) {
        if self.streams.len() < KEPT {
            self.streams.push((handle, stream));
        }
    }

    /// Reads all streams and remembers what can be thrown back.
    fn listen(&mut self) {
        for (handle, stream) in &mut self.streams {
            let Some(connection) = self.quic.get_mut(*handle) else { continue };
            while let Some(Received::Message(message)) = stream.receive(connection) {
                match &message {
                    Message::Expect(expect) => self.cookies.push(expect.cookie),
                    Message::Knock(knock) | Message::Knocked(knock) => self.cookies.push(knock.cookie),
                    Message::Initiate(initiate) => {
                        self.cookies.push(initiate.cookie);
                        self.channels.push(initiate.channel);
                    }
                    Message::GoAhead(go) => {
                        self.secrets.push(go.secret);
                        self.introductions.push(go.introduction);
                    }
                    Message::Offer(offer) => {
                        self.cookies.push(offer.cookie);
                        self.secrets.push(offer.secret);
                        self.channels.push(offer.channel);
                        self.introductions.push(offer.introduction);
                    }
                    Message::Register(_)
                    | Message::Local(_)
                    | Message::Seen(_)
                    | Message::Drain(_)
                    | Message::Resolve(_)
                    | Message::Resolved(_)
                    | Message::OverQuota(_)
                    | Message::Registered(_)
                    | Message::Observed(_)
                    | Message::Accept
                    | Message::Addresses(_)
                    | Message::Refused(_) => {}
                }
                self.heard.push(message);
            }
        }
    }

    /// Does one thing on one of its control connections.
    pub fn act(&mut self, now: Instant, draw: &mut Draw<'_>) {
        let what = draw() % 12;
        if what == 0 {
            let Some(&handle) = self.handles.last() else { return };
            let opened = self.quic.get_mut(handle).and_then(|connection| connection.streams().open(Dir::Bi));
            opened.into_iter().for_each(|id| self.keep(handle, MessageStream::new(id)));
        }
        if what == 11 {
            let code = VarInt::from_u32(u32::from(draw()));
            let handle = self.handles.get(usize::from(draw()) % self.handles.len().max(1)).copied();
            if let Some(connection) = handle.and_then(|handle| self.quic.get_mut(handle)) {
                connection.close(now, code, bytes::Bytes::from_static(b"\x1b[2J\xff"));
            }
            return;
        }
        // The newest stream for 0.
        let at = usize::from(draw()) % self.streams.len().max(1);
        let Some(at) = self.streams.len().checked_sub(at + 1) else { return };
        let handle = self.streams[at].0;
        let id = self.streams[at].1.id();
        match what {
            0..=6 => {
                let message = self.message(draw);
                self.write(handle, id, &frame(&message));
            }
            7 => {
                let heard = self.heard.pick(draw);
                heard.into_iter().for_each(|message| self.write(handle, id, &frame(&message)));
            }
            8 => {
                let mut bytes = frame(&self.message(draw));
                let at = usize::from(draw()) % bytes.len();
                bytes[at] ^= draw() | 1;
                self.write(handle, id, &bytes);
            }
            9 => {
                let bytes: Vec<u8> = (0..draw()).map(|_| draw()).collect();
                self.write(handle, id, &bytes);
            }
            _ => {
                let Some(connection) = self.quic.get_mut(handle) else { return };
                // Each fails where it comes too late, which is as good a thing to have tried.
                let _ = match draw() % 3 {
                    0 => connection.send_stream(id).finish().is_ok(),
                    1 => connection.send_stream(id).reset(VarInt::from_u32(1)).is_ok(),
                    _ => connection.recv_stream(id).stop(VarInt::from_u32(1)).is_ok(),
                };
            }
        }
    }

    fn write(&mut self, handle: Handle, id: quinn_proto::StreamId, bytes: &[u8]) {
        if let Some(connection) = self.quic.get_mut(handle).filter(|connection| !connection.is_closed()) {
            // What does not fit is cut off: a message that never ends.
            let _ = connection.send_stream(id).write(bytes);
        }
    }

    fn id(&self, draw: &mut Draw<'_>) -> NodeId {
        let known = self.ids.get(usize::from(draw() % 8)).copied();
        known.unwrap_or_else(|| NodeId::from_bytes(bytes(draw)))
    }

    fn address(&self, draw: &mut Draw<'_>) -> SocketAddr {
        let known = self.addresses.get(usize::from(draw() % 16)).copied();
        known.unwrap_or_else(|| SocketAddr::new(bytes::<4>(draw).into(), u16::from(draw())))
    }

    fn cookie(&mut self, draw: &mut Draw<'_>) -> Cookie {
        let cookie = self.cookies.pick(draw).unwrap_or_else(|| bytes(draw));
        self.cookies.push(cookie);
        cookie
    }

    fn secret(&mut self, draw: &mut Draw<'_>) -> PunchSecret {
        let secret = self.secrets.pick(draw).unwrap_or_else(|| bytes(draw));
        self.secrets.push(secret);
        secret
    }

    fn channel(&mut self, draw: &mut Draw<'_>) -> u64 {
        let channel = self.channels.pick(draw).unwrap_or_else(|| u64::from_be_bytes(bytes(draw)));
        self.channels.push(channel);
        channel
    }

    /// A message of a kind that came later.
    fn late_message(&mut self, kind: u8, draw: &mut Draw<'_>) -> Message {
        match kind % 3 {
            _ if kind == 252 => Message::OverQuota(OverQuota {
                reason: RefuseReason::AddressQuota,
                bytes: u64::from_be_bytes(bytes(draw)),
                per_ms: u64::from_be_bytes(bytes(draw)),
                dropped: u64::from(draw()),
            }),
            _ if kind == 253 => Message::Knock(Knock { cookie: self.cookie(draw) }),
            _ if kind == 254 => Message::Knocked(Knock { cookie: self.cookie(draw) }),
            0 => {
                let count = draw() % (MAX_ADDRESSES as u8 + 2);
                Message::Local(Local { addresses: (0..count).map(|_| self.address(draw)).collect() })
            }
            1 => Message::Seen(Seen { address: self.address(draw) }),
            _ => Message::Drain(Drain { within_ms: u64::from_be_bytes(bytes(draw)) >> (draw() % 64) }),
        }
    }

    /// A well-formed message of any kind, about things it has heard of.
    fn message(&mut self, draw: &mut Draw<'_>) -> Message {
        let kind = draw();
        match kind % 10 {
            // Kinds that came later leave the earlier ones' numbers as they were.
            _ if kind >= 244 => self.late_message(kind, draw),
            0 => {
                let flags = draw();
                let ids = (0..draw() % 4).map(|_| self.id(draw)).collect();
                let token = (flags & 192 == 192).then(|| AccessToken::from_random(bytes(draw)));
                Message::Register(Register {
                    listen: flags & 1 == 0,
                    any: flags & 2 == 0,
                    ids,
                    instance: None,
                    token,
                    knows: Knows::PEER,
                })
            }
            1 => Message::Registered(Registered {
                punch_ports: (0..draw() % 12).map(|_| 4434 + u16::from(draw() % 3)).collect(),
                knock_port: (kind >= 128).then_some(4436),
                knows: Knows::RELAY,
            }),
            2 => Message::Expect(Expect { cookie: self.cookie(draw), aside: false }),
            3 => {
                let (cookie, port) = (self.cookie(draw), draw() % 10);
                Message::Observed(Observed {
                    cookie,
                    port,
                    address: self.address(draw),
                    pool: (port & 1 == 1).then_some((u16::from(port) << 8, 50_000)),
                })
            }
            4 => {
                let (cookie, channel) = (self.cookie(draw), self.channel(draw));
                Message::Initiate(Initiate {
                    server: self.id(draw),
                    cookie,
                    channel,
                    direct: draw() & 1 == 0,
                    direct_only: draw() & 7 == 0,
                    rekey: false,
                    resume: (draw() & 3 == 0).then(|| bytes(draw).into()),
                })
            }
            5 => {
                let secret = self.secret(draw);
                let introduction = self.introductions.pick(draw).unwrap_or_default();
                Message::GoAhead(GoAhead { introduction, secret, accepted: draw() & 1 == 0 })
            }
            6 => {
                let (cookie, secret, channel) = (self.cookie(draw), self.secret(draw), self.channel(draw));
                let introduction = self.introductions.pick(draw).unwrap_or_default();
                let (client, direct) = (self.id(draw), draw() & 1 == 0);
                Message::Offer(Offer {
                    introduction,
                    client,
                    cookie,
                    secret,
                    channel,
                    direct,
                    direct_only: false,
                    rekey: false,
                    resume: (draw() & 3 == 0).then(|| bytes(draw).into()),
                })
            }
            7 => Message::Accept,
            8 => Message::Addresses(Addresses {
                addresses: (0..draw() % (MAX_ADDRESSES as u8 + 2)).map(|_| self.address(draw)).collect(),
            }),
            _ => {
                let reasons = [RefuseReason::NotWelcome, RefuseReason::NoAnswer, RefuseReason::Limit];
                Message::Refused(Refused { reason: reasons[usize::from(draw()) % reasons.len()] })
            }
        }
    }

    /// A datagram with the right cookies, tokens, secrets or channels in it, as far as it has heard them.
    pub fn datagram(&mut self, draw: &mut Draw<'_>) -> Vec<u8> {
        let role = if draw() & 1 == 0 { Role::P4 } else { Role::P2 };
        let mut out = Vec::new();
        let datagram = match draw() % 7 {
            0 => {
                let cookie = self.cookie(draw);
                // Any delay, without another byte of the program's.
                Datagram::Cookie(cookie, cookie[0])
            }
            1 => Datagram::Confirm(self.cookie(draw), self.tokens.pick(draw).unwrap_or_else(|| bytes(draw))),
            2 => Datagram::Echo(self.cookie(draw), bytes(draw)),
            6 => Datagram::LateEcho(self.cookie(draw), self.tokens.pick(draw).unwrap_or_else(|| bytes(draw))),
            3 => {
                let keys = ProbeKeys::new(&self.secret(draw), role);
                if draw() & 1 == 0 {
                    Datagram::Probe(keys.probe(bytes(draw)))
                } else {
                    Datagram::Check(keys.probe(bytes(draw)))
                }
            }
            4 => {
                let keys = ProbeKeys::new(&self.secret(draw), role);
                Datagram::ProbeEcho(keys.echo(self.nonces.pick(draw).unwrap_or_else(|| bytes(draw))))
            }
            _ => Datagram::Relayed { channel: self.channel(draw) },
        };
        datagram.encode(&mut out);
        if matches!(datagram, Datagram::Relayed { .. }) {
            out.extend((0..draw() % 64).map(|_| draw()));
            out.resize(out.len() + usize::from(draw()) * 8, 0x40);
        }
        out
    }
}
