//! The control connection to P3: QUIC, with the registration on its first stream; connected again when it is lost.

mod loss;
mod messages;
mod pulse;
mod renewal;
mod retry;
mod ways;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn_proto::{Connection, Dir, EcnCodepoint, EndpointConfig, Event, StreamEvent, StreamId, VarInt};

pub(super) use messages::registration;
pub(super) use pulse::PATIENCE as PULSE_PATIENCE;
use pulse::{Beat, Pulse};
use renewal::Renewal;
use ways::{By, Ways};
pub(super) use {loss::COME_BACK, retry::LAST_PAUSE};

use crate::{
    ConfigError, Link, RelayError, Transmit,
    config::RelayAddress,
    drops::DropReason,
    quic::{
        self, Handle, Handled, Quic,
        config::control_transport,
        stream::MessageStream,
        tls::{ALPN_RELAY, Tls},
    },
    rng::Rng,
    twice::Twice,
    wire::{
        close_code,
        datagram::Cookie,
        message::{Knows, Message, Observed, OverQuota, Register, Resolved},
    },
};

/// The slot of the control connection number `index` in connection IDs; sessions have the low ones.
pub(super) fn slot(index: usize) -> u32 {
    u32::MAX - index as u32
}

/// Introductions that P3 may have open towards this peer at once, as streams: as many as a peer has sessions.
const MAX_OFFER_STREAMS: u32 = super::MAX_SESSIONS as u32;
/// At first: quinn-proto keeps a place for each, used or not. As many as relays keep introductions for one peer by default:
/// offers to who accepts anybody come in any number at once, and one without a stream is refused.
pub(super) const FIRST_OFFER_STREAMS: u32 = 1024;

/// What the control connection has to tell.
pub(super) enum ControlEvent {
    Registered {
        punch_ports: Vec<u16>,
        knock_port: Option<u16>,
    },
    Observed(Observed),
    /// The relay hears this peer from this address.
    Seen(SocketAddr),
    /// The relay has knocked.
    Knocked(Cookie),
    /// The relay knows this name, or does not.
    Resolved(Resolved),
    /// The relay has dropped packets of this peer's.
    OverQuota(OverQuota),
    /// The relay asks to be left within that time.
    Draining(Duration),
    Lost(RelayError),
    /// The runtime is to make a tunnel to the relay, and to keep it; or may let go of it.
    Tunnel {
        wanted: bool,
    },
    /// The control connection has moved, to this link.
    Way(Link),
    Opened(StreamId),
    Readable(StreamId),
    Writable(StreamId),
}

enum State {
    Connecting {
        handle: Handle,
        deadline: Instant,
    },
    /// QUIC stands; P3 has not answered the registration yet.
    Registering {
        handle: Handle,
        stream: MessageStream,
        deadline: Instant,
    },
    Registered {
        handle: Handle,
        stream: MessageStream,
    },
    Waiting {
        until: Instant,
    },
    /// For good.
    Over,
}

pub(super) struct Control {
    quic: Quic,
    relay: RelayAddress,
    tls: Tls,
    register: Register,
    relay_knows: Knows,
    rng: Rng,
    state: State,
    attempts: u32,
    patience: Duration,
    /// The round trip when it was last connected.
    rtt: Option<Duration>,
    /// Connections have no other way than this relay.
    urgent: bool,
    pulse: Pulse,
    twice: Twice,
    ways: Ways,
    renewal: Renewal,
    local: Vec<SocketAddr>,
    events: Vec<ControlEvent>,
}

impl Control {
    pub(super) fn new(
        relay: RelayAddress,
        tls: Tls,
        register: Register,
        patience: Duration,
        endpoint: Arc<EndpointConfig>,
        rng: Rng,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        // Built once here so that a provider that does not fit shows at once, not as a relay that cannot be reached.
        tls.client(relay.key, ALPN_RELAY)?;
        Ok(Self {
            quic: Quic::new(endpoint, None),
            relay,
            tls,
            register,
            relay_knows: Knows::default(),
            rng,
            state: State::Waiting { until: now },
            attempts: 0,
            patience,
            rtt: None,
            urgent: false,
            pulse: Pulse::default(),
            twice: Twice::default(),
            ways: Ways::default(),
            renewal: Renewal::default(),
            local: Vec::new(),
            events: Vec::new(),
        })
    }

    fn connect(&mut self, now: Instant) {
        let deadline = now + self.patience();
        self.state = match self.open(now, By::Udp) {
            Some(handle) => State::Connecting { handle, deadline },
            None => State::Waiting { until: deadline },
        };
        self.start_race(now);
    }

    /// Begins a QUIC handshake with the relay, by this way.
    fn open(&mut self, now: Instant, by: By) -> Option<Handle> {
        let crypto = self.tls.client(self.relay.key, ALPN_RELAY).ok()?;
        let mut transport = control_transport(FIRST_OFFER_STREAMS);
        if let Some(rtt) = self.rtt {
            transport.initial_rtt(rtt);
        }
        let config = quic::config::client(crypto, transport, &mut self.rng);
        let handle = self.quic.connect(now, config, self.relay.address)?;
        self.on_opened(handle, by);
        Some(handle)
    }

    /// Asks whether the relay is still there; without an answer for some seconds it counts as lost.
    pub(super) fn check(&mut self, now: Instant) {
        if self.is_registered() && self.pulse.ask(now, self.rtt) {
            self.ping();
        }
    }

    /// As [`Self::check`], with more pings behind: what is said now matters, and QUIC finds out what was lost by what
    /// arrives after it (RFC 9002, section 6.1).
    pub(super) fn insist(&mut self, now: Instant) {
        self.pulse.insist();
        self.check(now);
    }

    fn ping(&mut self) {
        if let Some(connection) = self.current().and_then(|handle| self.quic.get_mut(handle)) {
            connection.ping();
        }
    }

    /// The network is another: the relay is to hear so at once (RFC 9000, section 9.2), or to be tried again.
    pub(super) fn on_network_changed(&mut self, now: Instant) {
        self.attempts = 0;
        match &mut self.state {
            State::Registered { .. } => {
                self.renew_path(now);
                self.twice.begin(now);
                self.feel_soon(now);
            }
            State::Waiting { until } => *until = now,
            State::Connecting { deadline, .. } | State::Registering { deadline, .. } => {
                *deadline = (*deadline).min(now + self.patience);
            }
            State::Over => {}
        }
    }

    /// The connection's packets take another way from now on.
    fn renew_path(&mut self, now: Instant) {
        if let Some(connection) = self.current().and_then(|handle| self.quic.get_mut(handle)) {
            connection.local_address_changed();
            // What was sent by the old way is not to hold up what is sent now.
            connection.path_changed(now);
        }
        self.pulse = Pulse::default();
        self.insist(now);
    }

    pub(super) fn is_registered(&self) -> bool {
        matches!(self.state, State::Registered { .. })
    }

    /// The relay's address and the round trip to it, while this peer is registered there.
    pub(super) fn distance(&self) -> Option<(SocketAddr, Duration)> {
        let connection = self.current().filter(|_| self.is_registered()).and_then(|handle| self.quic.get(handle))?;
        Some((self.relay.address, connection.rtt()))
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    pub(super) fn is_drained(&self) -> bool {
        self.is_over() && self.quic.len() == 0
    }

    /// Keeps the binding towards the relay.
    pub(super) fn keep_alive(&mut self) {
        if let Some(connection) = self.connection() {
            connection.ping();
        }
    }

    /// The QUIC connection, while this peer is registered on it.
    pub(super) fn connection(&mut self) -> Option<&mut Connection> {
        match &self.state {
            State::Registered { handle, .. } => self.quic.get_mut(*handle),
            State::Connecting { .. } | State::Registering { .. } | State::Waiting { .. } | State::Over => None,
        }
    }

    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        ecn: Option<EcnCodepoint>,
        data: BytesMut,
    ) -> Result<(), DropReason> {
        if from != self.relay.address {
            return Err(DropReason::UnknownConnection);
        }
        let before = self.heard();
        let handled = self.quic.handle_datagram(now, from, ecn, data);
        if let Some(handle) = self.current() {
            self.quic.forget_impossible_rtt(now, handle);
        }
        if self.heard() > before {
            self.pulse.on_heard();
        }
        match handled {
            Handled::Connection(_) | Handled::Replied => Ok(()),
            Handled::Incoming(incoming) => {
                self.quic.ignore(*incoming);
                Err(DropReason::UnknownConnection)
            }
            Handled::Dropped(reason) => Err(reason),
        }
    }

    /// Frames heard on the connection: none counts that is not authentic.
    fn heard(&self) -> u64 {
        let connection = self.current().and_then(|handle| self.quic.get(handle));
        connection.map_or(0, |connection| {
            let rx = connection.stats().frame_rx;
            rx.acks + rx.ping + rx.stream + rx.crypto + rx.path_challenge + rx.path_response
        })
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.quic.handle_timeout(now);
        if self.is_registered() {
            match self.pulse.poll(now, self.rtt) {
                Some(Beat::Ping) => self.ping(),
                Some(Beat::Lost) => self.lose(now, RelayError::Lost),
                None => {}
            }
        }
        self.drive_ways(now);
        match &self.state {
            State::Waiting { until } if *until <= now => self.connect(now),
            State::Connecting { deadline, .. } | State::Registering { deadline, .. } if *deadline <= now => {
                self.lose(now, RelayError::Unreachable { after: self.patience() });
            }
            State::Waiting { .. }
            | State::Connecting { .. }
            | State::Registering { .. }
            | State::Registered { .. }
            | State::Over => {}
        }
    }

    /// Drives QUIC and the registration; gives what came of it.
    pub(super) fn drive(&mut self, now: Instant) -> Vec<ControlEvent> {
        while let Some((handle, event)) = self.quic.poll_event(now) {
            if self.current() == Some(handle) {
                self.on_event(now, handle, event);
            } else if self.ways.aside.as_ref().is_some_and(|aside| aside.handle == handle) {
                match event {
                    Event::Connected => self.on_aside_connected(now),
                    Event::ConnectionLost { reason } => self.on_aside_lost(now, Some(&reason)),
                    _ => {}
                }
            }
        }
        std::mem::take(&mut self.events)
    }

    fn current(&self) -> Option<Handle> {
        match &self.state {
            State::Connecting { handle, .. } | State::Registering { handle, .. } | State::Registered { handle, .. } => {
                Some(*handle)
            }
            State::Waiting { .. } | State::Over => None,
        }
    }

    fn on_event(&mut self, now: Instant, handle: Handle, event: Event) {
        match event {
            Event::Connected => self.on_connected(now, handle),
            Event::ConnectionLost { reason } => self.lose(now, self.relay_error(&reason)),
            Event::Stream(StreamEvent::Readable { id }) => {
                if self.is_registration(id) {
                    self.on_registration(now, handle)
                } else {
                    self.events.push(ControlEvent::Readable(id))
                }
            }
            Event::Stream(StreamEvent::Writable { id }) => self.events.push(ControlEvent::Writable(id)),
            Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                while let Some(id) = self.quic.get_mut(handle).and_then(accept) {
                    self.events.push(ControlEvent::Opened(id));
                }
            }
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

    fn on_connected(&mut self, now: Instant, handle: Handle) {
        self.on_connected_by(now);
        let Some(connection) = self.quic.get_mut(handle) else { return };
        let Some(id) = connection.streams().open(Dir::Bi) else {
            return self.misbehaved(now, "allows no stream");
        };
        let mut stream = MessageStream::new(id);
        stream.send(connection, &Message::Register(self.register.clone()));
        self.state = State::Registering { handle, stream, deadline: now + self.patience() };
    }

    pub(super) fn shutdown(&mut self, now: Instant) {
        self.end_ways(now, false);
        if let Some(connection) = self.current().and_then(|handle| self.quic.get_mut(handle)) {
            connection.close(now, VarInt::from_u32(close_code::GOODBYE), bytes::Bytes::from_static(b"goodbye"));
        }
        self.state = State::Over;
    }

    /// What is said in the next moment is waited for, here or by another peer.
    pub(super) fn say_twice(&mut self, now: Instant) {
        self.twice.begin(now);
    }

    pub(super) fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        if let Some(copy) = self.twice.poll_transmit(buf) {
            return Some(copy);
        }
        let (handle, out) = self.quic.poll_transmit_of(now, 1, buf)?;
        let out = Transmit { ecn: out.ecn, ..Transmit::one(self.link_of(handle), out.destination, buf.len()) };
        if out.link == Link::Main {
            self.twice.on_sent(now, &out, buf);
        }
        Some(out)
    }

    pub(super) fn is_queued(&self) -> bool {
        self.quic.is_queued() || self.twice.is_queued() || !self.events.is_empty()
    }

    /// The next QUIC timer, and the next deadline of our own.
    pub(super) fn poll_timeout(&self) -> (Option<Instant>, Option<Instant>) {
        let own = match &self.state {
            State::Connecting { deadline, .. } | State::Registering { deadline, .. } => Some(*deadline),
            State::Waiting { until } => Some(*until),
            State::Registered { .. } => self.pulse.next(self.rtt),
            State::Over => None,
        };
        (self.quic.poll_timeout(), own.into_iter().chain(self.next_way()).min())
    }
}

/// The next stream that P3 has opened. Once half of those that it may open are open, it may open twice as many.
fn accept(connection: &mut Connection) -> Option<StreamId> {
    let id = connection.streams().accept(Dir::Bi)?;
    let allowed = connection.max_concurrent_streams(Dir::Bi);
    if 2 * connection.streams().remote_open_streams(Dir::Bi) >= allowed && allowed < u64::from(MAX_OFFER_STREAMS) {
        let more = u32::try_from(2 * allowed).map_or(MAX_OFFER_STREAMS, |more| more.min(MAX_OFFER_STREAMS));
        connection.set_max_concurrent_streams(Dir::Bi, VarInt::from_u32(more));
    }
    Some(id)
}
