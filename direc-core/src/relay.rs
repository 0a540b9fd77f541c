//! P3: introduces peers to each other, learns their WAN addresses, and forwards what cannot go straight.

mod access;
mod census;
mod cookies;
mod directness;
mod forward;
mod introduction;
mod introductions;
mod knocks;
mod names;
mod newcomers;
mod promises;
mod punch;
mod quotas;
mod registry;
mod tunnels;
mod urgent;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn_proto::{Connection, Dir, EcnCodepoint, Event, Incoming, StreamEvent, StreamId, VarInt};

pub use access::{Access, AccessList, Rights};
use cookies::{CookieJar, Owner};
pub use directness::DirectTimes;
use forward::{ForwardQueue, split_run};
use introductions::{Introductions, Route};
use knocks::Knocks;
use newcomers::Newcomers;
use promises::Promises;
use quotas::{Meters, Payer};
pub use quotas::{Quotas, Rate, Scopes};
use registry::{Admitted, Registry};
use tunnels::Tunnels;
use urgent::Urgent;

use crate::{
    Arrival, ConfigError, Identity, Link, NodeId, RefuseReason, RelayConfig, RelayEvent, StepTaken, Transmit, Wake,
    WakeReason,
    drops::{DropReason, Drops},
    peer::close_code,
    quic::{
        Handle, Handled, Quic,
        cid::CidKey,
        config::{self, Clock, control_transport},
        stream::{MessageStream, Received},
        tls::{ALPN_RELAY, Tls, proven_key},
    },
    rng::Rng,
    step::{Role, Step},
    wire::{
        datagram::{Cookie, Datagram, Token},
        message::{Drain, Message, Refused, Register, Registered, Seen},
    },
};

/// A relay has so many hole-punch ports, the knock port among them: with one it could not see how a NAT maps.
const PUNCH_PORTS: std::ops::RangeInclusive<usize> = 2..=8;
/// Introductions that one peer may begin at once, as streams: quinn-proto keeps a place for each, for every peer.
const MAX_STREAMS: u32 = 256;

/// A relay's figures.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RelayStats {
    /// QUIC connections.
    pub connections: usize,
    /// Peers that can be found.
    pub registered: usize,
    /// Introductions under way, or open for relaying.
    pub introductions: usize,
    /// Introductions begun, ever.
    pub introductions_begun: u64,
    /// Of those, the ones that P4 accepted.
    pub introductions_accepted: u64,
    /// And the ones that went direct, as far as a relay can tell.
    pub direct: DirectTimes,
    /// Tunnels that are up.
    pub tunnels: usize,
    /// Packets relayed.
    pub relayed_datagrams: u64,
    /// Bytes relayed, without the relay's own headers.
    pub relayed_bytes: u64,
    /// Of those, the packets that came or left by a tunnel.
    pub tunnelled_datagrams: u64,
    /// Their bytes.
    pub tunnelled_bytes: u64,
    /// Datagrams dropped, by reason.
    pub drops: Drops,
    /// Registrations, introductions and names refused, by reason.
    pub refusals: BTreeMap<RefuseReason, u64>,
    /// Whether it is being left: see [`Relay::drain`].
    pub draining: bool,
}

/// P3 of the seed. See the crate's contract.
pub struct Relay {
    config: RelayConfig,
    clock: Clock,
    quic: Quic,
    registry: Registry,
    jar: CookieJar,
    introductions: Introductions,
    /// Streams that a peer has opened and not said anything on.
    fresh: BTreeMap<(usize, StreamId), MessageStream>,
    newcomers: Newcomers,
    tunnels: Tunnels,
    queue: ForwardQueue,
    echoes: VecDeque<(u8, SocketAddr, Cookie, Token)>,
    promises: Promises,
    knocks: Knocks,
    urgent: Urgent,
    events: VecDeque<RelayEvent>,
    meters: Meters,
    relayed: (u64, u64),
    tunnelled: (u64, u64),
    drops: Drops,
    refusals: BTreeMap<RefuseReason, u64>,
    /// Peers have been asked to be elsewhere by then.
    draining_until: Option<Instant>,
    leaving: bool,
    now: Instant,
}

impl Relay {
    /// A relay that takes connections at once. `seed` is secret: whoever knows it knows the cookies it will hand out.
    ///
    /// # Errors
    /// [`ConfigError`] if there are fewer than two or more than eight hole-punch ports, or the crypto provider lacks
    /// TLS 1.3 with AES-128-GCM.
    pub fn new(config: RelayConfig, seed: [u8; 32], now: Instant) -> Result<Self, ConfigError> {
        let sockets = config.punch_ports.len() + usize::from(config.knock_port.is_some());
        if config.punch_ports.len() < *PUNCH_PORTS.start() || sockets > *PUNCH_PORTS.end() {
            return Err(ConfigError::Setting("a relay needs 2 to 8 hole-punch ports, one to knock from among them"));
        }
        let mut rng = Rng::new(seed);
        let clock = Clock::new(now);
        let (cids, reset_key) = lasting_keys(&config.identity)?;
        let tls =
            Tls { identity: config.identity.clone(), crypto: config.crypto.clone(), key_log: config.key_log.clone() };
        let streams = u32::try_from(config.limits.introductions_per_peer).unwrap_or(u32::MAX).min(MAX_STREAMS) + 1;
        let server = config::server(tls.server(None, ALPN_RELAY)?, control_transport(streams), &clock, &mut rng);
        let ports = config.punch_ports.len() as u8;
        Ok(Self {
            quic: Quic::new(config::endpoint_with(0, &cids, &reset_key, &mut rng), Some(server)),
            registry: Registry::default(),
            jar: CookieJar::new(ports, &mut rng),
            introductions: Introductions::new(rng.fork()),
            fresh: BTreeMap::new(),
            newcomers: Newcomers::default(),
            tunnels: Tunnels::default(),
            queue: ForwardQueue::new(config.limits.forward_queue),
            echoes: VecDeque::new(),
            promises: Promises::default(),
            knocks: Knocks::default(),
            urgent: Urgent::default(),
            events: VecDeque::new(),
            meters: Meters::default(),
            relayed: (0, 0),
            tunnelled: (0, 0),
            drops: Drops::default(),
            refusals: BTreeMap::new(),
            draining_until: None,
            leaving: false,
            config,
            clock,
            now,
        })
    }

    /// The relay's ID, its key: the fingerprint in its URL.
    pub fn id(&self) -> NodeId {
        self.config.identity.id()
    }

    /// Figures and drops.
    pub fn stats(&self) -> RelayStats {
        RelayStats {
            connections: self.quic.len(),
            registered: self.registry.registered(),
            introductions: self.introductions.len(),
            introductions_begun: self.introductions.totals().0,
            introductions_accepted: self.introductions.totals().1,
            direct: self.introductions.direct(self.now),
            tunnels: self.tunnels.len(),
            relayed_datagrams: self.relayed.0,
            relayed_bytes: self.relayed.1,
            tunnelled_datagrams: self.tunnelled.0,
            tunnelled_bytes: self.tunnelled.1,
            drops: self.drops.clone(),
            refusals: self.refusals.clone(),
            draining: self.draining_until.is_some(),
        }
    }

    /// Tells all peers to be elsewhere `within` that time, begins no more introductions, and goes on forwarding; then,
    /// or as soon as everybody has left, it shuts down by itself.
    pub fn drain(&mut self, now: Instant, within: Duration) {
        self.advance(now);
        if self.leaving {
            return;
        }
        self.draining_until = Some(now + within);
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        for handle in self.quic.handles() {
            self.say(handle, &Message::Drain(Drain { within_ms }));
        }
    }

    /// Says something on a peer's registration stream.
    fn say(&mut self, handle: Handle, message: &Message) {
        let stream = self.registry.get_mut(handle).and_then(|entry| entry.stream.as_mut());
        if let (Some(stream), Some(connection)) = (stream, self.quic.get_mut(handle)) {
            stream.send(connection, message);
        }
    }

    /// Ends a drain whose time is over, or whose peers have all left.
    fn handle_drain(&mut self) {
        let Some(until) = self.draining_until.filter(|_| !self.leaving) else { return };
        if until <= self.now || self.registry.len() == 0 {
            self.shutdown(self.now);
        }
    }

    /// Says good-bye to everyone and lets nobody in any more; drive on until [`Self::is_drained`].
    pub fn shutdown(&mut self, now: Instant) {
        self.advance(now);
        self.leaving = true;
        for handle in self.quic.handles() {
            self.dismiss(handle, close_code::GOODBYE, b"the relay is going down");
        }
    }

    /// Whether everyone has gone.
    pub fn is_drained(&self) -> bool {
        self.leaving && self.quic.len() == 0
    }

    // In.

    /// A peer has opened the tunnel of this number, from `remote`: datagrams come and go by
    /// [`Link::Tunnel`](crate::Link::Tunnel) from now on. No number is used twice.
    pub fn tunnel_up(&mut self, now: Instant, number: u32, remote: SocketAddr) {
        self.advance(now);
        self.tunnels.up(number, remote);
    }

    /// That tunnel is gone. Its peer's control connection goes on by another one, or by UDP, if the peer comes back in
    /// time.
    pub fn tunnel_lost(&mut self, now: Instant, number: u32) {
        self.advance(now);
        self.tunnels.lost(number);
    }

    /// Takes a received buffer: one datagram, or several of one length (GRO).
    pub fn handle_datagram(&mut self, now: Instant, arrival: Arrival, mut data: BytesMut) {
        self.advance(now);
        let stride = arrival.stride.max(1);
        let from = match self.tunnels.enter(arrival.link, arrival.remote) {
            Ok(from) => from,
            Err(reason) => return self.drops.count(reason),
        };
        while !data.is_empty() {
            let result = match (arrival.link, split_run(&mut data, stride, arrival.ecn)) {
                (Link::Main | Link::Tunnel(_), Some(run)) => self.on_relayed(from, run),
                (Link::Punch(_) | Link::Spare(_), Some(_)) => Err(DropReason::UnknownType),
                (link, None) => {
                    let packet = data.split_to(stride.min(data.len()));
                    self.on_datagram(link, from, arrival.ecn, packet)
                }
            };
            if let Err(reason) = result {
                self.drops.count(reason);
            }
        }
        self.drive();
    }

    fn on_datagram(
        &mut self,
        link: Link,
        from: SocketAddr,
        ecn: Option<EcnCodepoint>,
        packet: BytesMut,
    ) -> Result<(), DropReason> {
        let datagram = Datagram::decode(&packet)?;
        match (link, datagram) {
            (Link::Main | Link::Tunnel(_), Datagram::Quic) => self.on_quic(from, ecn, packet),
            (Link::Punch(port), Datagram::Cookie(cookie, delay)) => self.on_cookie(port, from, cookie, delay),
            (Link::Punch(port), Datagram::Confirm(cookie, token)) => self.on_confirm(port, from, &cookie, &token),
            (_, Datagram::Quic) => Err(DropReason::NotQuic),
            (
                _,
                Datagram::Cookie(..)
                | Datagram::Confirm(..)
                | Datagram::Echo(..)
                | Datagram::LateEcho(..)
                | Datagram::Knock(..)
                | Datagram::Probe(_)
                | Datagram::Check(_)
                | Datagram::ProbeEcho(_)
                | Datagram::Bid(_)
                | Datagram::Relayed { .. },
            ) => Err(DropReason::UnknownType),
        }
    }

    fn on_quic(&mut self, from: SocketAddr, ecn: Option<EcnCodepoint>, packet: BytesMut) -> Result<(), DropReason> {
        match self.quic.handle_datagram(self.now, from, ecn, packet) {
            Handled::Connection(handle) => {
                self.quic.forget_impossible_rtt(self.now, handle);
                // A client's address may change under its connection (RFC 9000, section 9); relayed packets follow.
                let address = self.quic.get(handle).map(Connection::remote_address);
                if let (Some(address), Some(entry)) = (address, self.registry.get_mut(handle))
                    && entry.move_to(address, self.tunnels.remote(address).ip())
                {
                    let address = self.tunnels.remote(address);
                    self.say(handle, &Message::Seen(Seen { address }));
                }
                Ok(())
            }
            Handled::Incoming(incoming) => {
                self.on_incoming(*incoming);
                Ok(())
            }
            Handled::Replied => Ok(()),
            Handled::Dropped(reason) => Err(reason),
        }
    }

    fn on_incoming(&mut self, incoming: Incoming) {
        let limits = &self.config.limits;
        let handshaking = self.quic.len().saturating_sub(self.registry.len());
        if self.leaving || self.quic.len() >= limits.connections {
            self.quic.refuse(incoming);
        } else if handshaking >= limits.handshakes && !incoming.remote_address_validated() {
            self.quic.retry(incoming);
        } else {
            let accepted = self.quic.accept(self.now, incoming, None);
            self.newcomers.enter(self.now, accepted);
        }
    }

    fn on_relayed(&mut self, from: SocketAddr, run: forward::Run) -> Result<(), DropReason> {
        let limit = self.config.limits.early_datagrams;
        let route = self.introductions.route(self.now, run.channel, from, &self.registry, limit)?;
        let Route { from: sender, to, channel } = route;
        let (packets, bytes) = (run.packets() as u64, run.inner_bytes() as u64);
        let payer = self.payer(sender).ok_or(DropReason::UnknownChannel)?;
        self.meters.relay(self.now, &self.config.quotas, payer, bytes).map_err(|_| DropReason::Quota)?;
        let entry = self.registry.get_mut(to).ok_or(DropReason::UnknownChannel)?;
        if !entry.may_receive(self.now, bytes) {
            return Err(DropReason::UnprovenAddress);
        }
        let tunnelled = tunnels::is_tunnel(from) || tunnels::is_tunnel(entry.address);
        self.queue.push(entry.address, channel, run)?;
        self.relayed.0 += packets;
        self.relayed.1 += bytes;
        if tunnelled {
            self.tunnelled.0 += packets;
            self.tunnelled.1 += bytes;
        }
        Ok(())
    }

    /// Does what time has made due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        self.quic.handle_timeout(now);
        self.jar.expire(now);
        self.handle_due();
        self.handle_drain();
        while let Some(handle) = self.newcomers.poll(now) {
            if !self.registry.get(handle).is_some_and(registry::PeerEntry::is_registered) {
                self.dismiss(handle, close_code::LIMIT, b"not registered in time");
            }
        }
        self.drive();
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.clock.set(self.now);
    }

    // Out.

    /// Writes the next datagrams to send into `buf`, which is cleared first; `None` when there are none.
    ///
    /// Control connections go first: an offer must not be overtaken by the packets it announces.
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        self.advance(now);
        self.drive();
        buf.clear();
        if let Some(copy) = self.urgent.poll_transmit(buf) {
            return Some(copy);
        }
        if let Some((handle, out)) = self.quic.poll_transmit_of(now, 1, buf) {
            let out = Transmit { ecn: out.ecn, ..Transmit::one(Link::Main, out.destination, buf.len()) };
            let out = self.tunnels.route(out);
            // A tunnel loses nothing.
            if let Some(handle) = handle.filter(|_| out.link == Link::Main) {
                self.urgent.on_sent(now, handle, &out, buf);
            }
            return Some(out);
        }
        if let Some((port, remote, cookie, token)) = self.echoes.pop_front() {
            Datagram::Echo(cookie, token).encode(buf);
            return Some(Transmit::one(Link::Punch(port), remote, buf.len()));
        }
        let out = self.late_echo(buf).or_else(|| self.knock(buf)).or_else(|| self.queue.poll_transmit(buf));
        if out.is_none() {
            // The last thing sent may have set timers.
            self.drive();
        }
        out.map(|out| self.tunnels.route(out))
    }

    /// The next event; `None` when there are none.
    pub fn poll_event(&mut self) -> Option<RelayEvent> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next, and what for.
    pub fn poll_timeout(&mut self) -> Option<Wake> {
        let echoes = !self.echoes.is_empty() || self.knocks.is_queued();
        if self.quic.is_queued() || self.urgent.is_queued() || echoes || !self.queue.is_empty() {
            return Some(Wake { at: self.now, why: WakeReason::Queued });
        }
        let quic = self.quic.poll_timeout().map(|at| (at, WakeReason::Control));
        let introduction = self.introductions.poll_timeout().map(|at| (at, WakeReason::Introduction));
        let drain = self.draining_until.filter(|_| !self.leaving).map(|at| (at, WakeReason::Introduction));
        let newcomer = self.newcomers.next().map(|by| (by, WakeReason::Control));
        let late = self.promises.poll_timeout().map(|at| (at, WakeReason::Cookie));
        let wakes = quic.into_iter().chain(introduction).chain(drain).chain(newcomer).chain(late);
        wakes.min().map(|(at, why)| Wake { at, why })
    }

    // Inside.

    fn drive(&mut self) {
        loop {
            while let Some((handle, event)) = self.quic.poll_event(self.now) {
                self.on_event(handle, event);
            }
            self.handle_drain();
            if !self.quic.has_events() {
                return;
            }
        }
    }

    fn on_event(&mut self, handle: Handle, event: Event) {
        match event {
            Event::Connected => self.on_connected(handle),
            Event::ConnectionLost { .. } => self.on_gone(handle),
            Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                while let Some(id) =
                    self.quic.get_mut(handle).and_then(|connection| connection.streams().accept(Dir::Bi))
                {
                    self.fresh.insert((handle.0, id), MessageStream::new(id));
                    self.on_readable(handle, id);
                }
            }
            Event::Stream(StreamEvent::Readable { id }) => self.on_readable(handle, id),
            Event::Stream(StreamEvent::Writable { id }) => self.on_writable(handle, id),
            Event::Stream(
                StreamEvent::Opened { dir: Dir::Uni }
                | StreamEvent::Finished { .. }
                | StreamEvent::Stopped { .. }
                | StreamEvent::Available { .. },
            )
            | Event::HandshakeDataReady
            | Event::DatagramReceived
            | Event::DatagramsUnblocked => {}
        }
    }

    fn on_connected(&mut self, handle: Handle) {
        let Some(connection) = self.quic.get_mut(handle) else { return };
        match proven_key(connection) {
            Some(id) => {
                let address = connection.remote_address();
                self.registry.insert(handle, id, address, self.tunnels.remote(address).ip());
            }
            None => self.dismiss(handle, close_code::MISBEHAVED, b"no key"),
        }
    }

    /// A peer has gone: its introductions end, and the other ends learn so.
    fn on_gone(&mut self, handle: Handle) {
        self.jar.forget_peer(handle);
        self.promises.forget_peer(handle);
        self.knocks.forget_peer(handle);
        self.urgent.forget_peer(handle);
        self.fresh.retain(|(owner, _), _| *owner != handle.0);
        let Some(entry) = self.registry.remove(handle) else { return };
        for id in entry.introductions {
            self.end_introduction(id, handle, RefuseReason::PeerLeft);
        }
        if entry.listening {
            self.events.push_back(RelayEvent::Left { peer: entry.id });
        }
    }

    fn dismiss(&mut self, handle: Handle, code: u32, reason: &'static [u8]) {
        let now = self.now;
        if let Some(connection) = self.quic.get_mut(handle)
            && !connection.is_closed()
        {
            connection.close(now, VarInt::from_u32(code), bytes::Bytes::from_static(reason));
        }
        self.on_gone(handle);
    }

    fn on_writable(&mut self, handle: Handle, id: StreamId) {
        let Some(connection) = self.quic.get_mut(handle) else { return };
        let registration = self.registry.get_mut(handle).and_then(|entry| entry.stream.as_mut());
        if let Some(stream) = registration.filter(|stream| stream.id() == id) {
            stream.flush(connection);
        } else if let Some(stream) = self.introductions.stream_mut(handle, id) {
            stream.flush(connection);
        }
    }

    fn on_readable(&mut self, handle: Handle, id: StreamId) {
        if self.registry.get(handle).is_some_and(|entry| entry.stream.as_ref().is_some_and(|stream| stream.id() == id))
        {
            self.on_registration(handle);
        } else if let Some(stream) = self.fresh.remove(&(handle.0, id)) {
            self.on_fresh(handle, stream);
        } else {
            self.on_introduction(handle, id);
        }
    }

    /// The first message on a stream says what the stream is for.
    fn on_fresh(&mut self, handle: Handle, mut stream: MessageStream) {
        let id = stream.id();
        let Some(connection) = self.quic.get_mut(handle) else { return };
        match stream.receive(connection) {
            None => {
                self.fresh.insert((handle.0, id), stream);
            }
            Some(Received::Message(Message::Register(register))) => self.on_register(handle, stream, register),
            Some(Received::Message(Message::Initiate(initiate))) => {
                self.on_initiate(handle, stream, &initiate);
                // Who thought better of it may have said so in the same packet: nothing else tells of it.
                self.on_introduction(handle, id);
            }
            Some(Received::Message(_)) => refuse(&mut stream, connection, RefuseReason::Kind),
            Some(Received::Bad(error)) => refuse(&mut stream, connection, error.reason()),
            Some(Received::Ended) => stream.close(connection),
        }
    }

    fn on_register(&mut self, handle: Handle, mut stream: MessageStream, register: Register) {
        let Some(entry) = self.registry.get(handle) else { return };
        let (peer, address, listening) = (entry.id, self.tunnels.remote(entry.address), register.listen);
        if entry.is_registered() {
            return self.dismiss(handle, close_code::MISBEHAVED, b"registered twice on one connection");
        }
        if self.draining_until.is_some() {
            return self.dismiss(handle, close_code::GOODBYE, b"the relay is going down");
        }
        let admitted = match self.admit_registration(handle, &register) {
            Ok(admitted) => admitted,
            Err(reason) => return self.refuse_registration(handle, stream, reason),
        };
        let replaced = self.registry.register(handle, register, admitted);
        let (punch_ports, knock_port) = (self.config.punch_ports.clone(), self.config.knock_port);
        let registered = Registered { punch_ports, knock_port };
        if let (Some(entry), Some(connection)) = (self.registry.get_mut(handle), self.quic.get_mut(handle)) {
            stream.send(connection, &Message::Registered(registered));
            stream.send(connection, &Message::Seen(Seen { address }));
            entry.stream = Some(stream);
        }
        if let Some(old) = replaced {
            self.dismiss(old, close_code::REPLACED, b"the same key has registered anew");
        }
        if listening {
            self.events.push_back(RelayEvent::Registered { peer, address });
        }
        self.on_registration(handle);
    }

    /// Whether this registration may be: within the quotas, by the rules of access, and where there is room.
    fn admit_registration(&mut self, handle: Handle, register: &Register) -> Result<Admitted, RefuseReason> {
        let payer = self.payer(handle).ok_or(RefuseReason::Kind)?;
        self.meters.registrations.take(self.now, &self.config.quotas.registrations, payer, 1)?;
        let entry = self.registry.get(handle).ok_or(RefuseReason::Kind)?;
        let (rights, shown) = self.rights_of(entry, register.token.as_ref(), register.listen)?;
        if self.registry.registered_at(payer.network()) >= self.config.limits.registered_per_address {
            return Err(RefuseReason::AddressQuota);
        }
        Ok(Admitted { rights, shown, network: payer.network() })
    }

    fn refuse_registration(&mut self, handle: Handle, mut stream: MessageStream, reason: RefuseReason) {
        self.note_refusal(handle, reason);
        if let Some(connection) = self.quic.get_mut(handle) {
            refuse(&mut stream, connection, reason);
        }
    }

    /// From now on so much is given; what has been used counts.
    pub fn set_quotas(&mut self, now: Instant, quotas: Quotas) {
        self.advance(now);
        self.config.quotas = quotas;
    }

    /// Whom it is counted for what this connection asks.
    fn payer(&self, handle: Handle) -> Option<Payer> {
        self.registry.get(handle).map(|entry| Payer::new(entry.id, self.tunnels.remote(entry.address).ip()))
    }

    /// A registered peer announces its cookies on this stream, says where it is, and asks to be knocked at.
    fn on_registration(&mut self, handle: Handle) {
        loop {
            let Some(stream) = self.registry.get_mut(handle).and_then(|entry| entry.stream.as_mut()) else { return };
            let Some(connection) = self.quic.get_mut(handle) else { return };
            match stream.receive(connection) {
                None => return,
                Some(Received::Message(Message::Expect(expect))) => {
                    self.jar.expect(
                        self.now,
                        expect.cookie,
                        Owner { peer: handle, introduction: None, aside: expect.aside },
                    );
                }
                Some(Received::Message(Message::Local(local))) => self.on_local(handle, &local.addresses),
                Some(Received::Message(Message::Knock(knock))) => self.on_knock(handle, knock.cookie),
                Some(Received::Message(Message::Resolve(resolve))) => self.on_resolve(handle, resolve.name),
                Some(Received::Message(_) | Received::Bad(_)) => {
                    return self.dismiss(handle, close_code::MISBEHAVED, b"a message that does not belong there");
                }
                Some(Received::Ended) => return self.dismiss(handle, close_code::GOODBYE, b"goodbye"),
            }
        }
    }

    /// A peer's addresses on its machine's own networks, as far as they may be told.
    fn on_local(&mut self, handle: Handle, addresses: &[SocketAddr]) {
        if let Some(entry) = self.registry.get_mut(handle) {
            entry.set_local(addresses);
            self.tell_all(handle);
        }
    }

    fn step(&mut self, step: Step, introduction: Option<u64>, peer: Option<NodeId>, address: Option<SocketAddr>) {
        let (role, conn) = (Role::P3, None);
        self.events.push_back(RelayEvent::Step(StepTaken { role, step, conn, introduction, peer, address }));
    }
}

/// The keys behind connection IDs and stateless resets, made from the relay's own: the next process knows the last one's
/// packets, and tells their senders at once that the connection is gone (RFC 9000, section 10.3.2).
fn lasting_keys(identity: &Identity) -> Result<(CidKey, [u8; 32]), ConfigError> {
    let secret = |purpose| identity.derive(purpose).ok_or_else(|| ConfigError::Crypto("no Ed25519".into()));
    let [cids @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = secret("relay connection ids")?;
    let cids = CidKey::from_secret(&cids).ok_or_else(|| ConfigError::Crypto("no AES-128".into()))?;
    Ok((cids, secret("relay stateless resets")?))
}

fn refuse(stream: &mut MessageStream, connection: &mut Connection, reason: RefuseReason) {
    stream.send(connection, &Message::Refused(Refused { reason }));
    stream.close(connection);
}
