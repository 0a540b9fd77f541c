//! The control connection to P3: QUIC, with the registration on its first stream; connected again when it is lost.

mod pulse;
mod renewal;
mod tunnel;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn_proto::{
    Connection, ConnectionError, Dir, EcnCodepoint, EndpointConfig, Event, StreamEvent, StreamId, VarInt,
};

pub(super) use pulse::PATIENCE as PULSE_PATIENCE;
use pulse::{Beat, Pulse};
use renewal::Renewal;
use tunnel::{By, Ways};

use crate::{
    ConfigError, Link, NodeId, PeerName, RefuseReason, RelayError, Transmit,
    config::{Consent, RelayAddress},
    drops::DropReason,
    quic::{
        self, Handle, Handled, Quic,
        config::control_transport,
        stream::{MessageStream, Received},
        tls::{ALPN_RELAY, Tls},
    },
    rng::Rng,
    twice::Twice,
    wire::{
        datagram::Cookie,
        message::{Expect, Knock, Local, MAX_ADDRESSES, MAX_CONSENTS, Message, Observed, Register, Resolve, Resolved},
    },
};

/// The slot of the control connection number `index` in connection IDs; sessions have the low ones.
pub(super) fn slot(index: usize) -> u32 {
    u32::MAX - index as u32
}

/// Introductions that P3 may have open towards this peer at once, as streams: as many as a peer has sessions.
const MAX_OFFER_STREAMS: u32 = super::MAX_SESSIONS as u32;
/// Hole-punch ports that a relay may name; cookies go to each.
const MAX_PUNCH_PORTS: usize = 8;
/// Pause before the first reconnect, doubled each time up to the last, each then varied by half.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
pub(super) const LAST_PAUSE: Duration = Duration::from_secs(30);
/// The same while connections have no other way than this relay; it doubles after so many tries.
const URGENT_PAUSE: Duration = Duration::from_millis(60);
const URGENT_TRIES: u32 = 12;
/// A relay that wants to be left later than this need not say so.
const LONGEST_DRAIN: Duration = Duration::from_secs(3600);
/// After a relay has gone down, its peers come back over this time, and not all at once.
pub(super) const COME_BACK: Duration = Duration::from_secs(10);

/// Application close codes of the control connection.
pub(crate) mod close_code {
    /// Good-bye, from either side.
    pub(crate) const GOODBYE: u32 = 0;
    /// P3: the same key has registered anew.
    pub(crate) const REPLACED: u32 = 2;
    /// Either side: what you said makes no sense.
    pub(crate) const MISBEHAVED: u32 = 3;
    /// P3: no room.
    pub(crate) const LIMIT: u32 = 4;
    /// P3: not allowed any more, and the reason is a [`RefuseReason`](crate::RefuseReason)'s word.
    pub(crate) const REFUSED: u32 = 5;
}

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
        let mut transport = control_transport(MAX_OFFER_STREAMS);
        if let Some(rtt) = self.rtt {
            transport.initial_rtt(rtt);
        }
        let config = quic::config::client(crypto, transport, &mut self.rng);
        let handle = self.quic.connect(now, config, self.relay.address)?;
        self.on_opened(handle, by);
        Some(handle)
    }

    /// How long a try may take: as long as the settings say, but where the relay has been reached before, its round trip
    /// is known, and a packet sent too early is better followed by another one soon.
    fn patience(&self) -> Duration {
        match self.rtt.filter(|_| self.urgent) {
            Some(rtt) => (rtt * 6 + Duration::from_millis(250)) * (1 + self.attempts / URGENT_TRIES),
            None => self.patience,
        }
        .min(self.patience)
    }

    /// Whether this peer's connections have no other way.
    pub(super) fn set_urgent(&mut self, now: Instant, urgent: bool) {
        if urgent && !self.urgent {
            self.attempts = 0;
            if let State::Waiting { until } = &mut self.state {
                *until = (*until).min(now + self.rng.vary(URGENT_PAUSE));
            }
        }
        self.urgent = urgent;
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

    /// Tells P3 this peer's addresses on its machine's own networks.
    pub(super) fn set_local(&mut self, local: &[SocketAddr]) {
        let local: Vec<SocketAddr> = local.iter().copied().take(MAX_ADDRESSES).collect();
        if self.local != local {
            self.local = local;
            self.say_local();
        }
    }

    fn say_local(&mut self) {
        self.say(&Message::Local(Local { addresses: self.local.clone() }));
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

    /// Tells P3 that this cookie is about to arrive (S7); `aside`, from another socket than the main one.
    pub(super) fn expect(&mut self, cookie: Cookie, aside: bool) {
        self.say(&Message::Expect(Expect { cookie, aside }));
    }

    /// Asks P3 for a packet from its knock port.
    pub(super) fn ask_to_knock(&mut self, cookie: Cookie) {
        self.say(&Message::Knock(Knock { cookie }));
    }

    /// Asks P3 who is called so.
    pub(super) fn resolve(&mut self, name: PeerName) {
        self.say(&Message::Resolve(Resolve { name }));
    }

    fn say(&mut self, message: &Message) {
        if let State::Registered { handle, stream } = &mut self.state
            && let Some(connection) = self.quic.get_mut(*handle)
        {
            stream.send(connection, message);
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
                while let Some(id) =
                    self.quic.get_mut(handle).and_then(|connection| connection.streams().accept(Dir::Bi))
                {
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

    fn is_registration(&self, id: StreamId) -> bool {
        match &self.state {
            State::Registering { stream, .. } | State::Registered { stream, .. } => stream.id() == id,
            State::Connecting { .. } | State::Waiting { .. } | State::Over => false,
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

    fn on_registration(&mut self, now: Instant, handle: Handle) {
        loop {
            let (State::Registering { stream, .. } | State::Registered { stream, .. }) = &mut self.state else {
                return;
            };
            let Some(connection) = self.quic.get_mut(handle) else { return };
            match stream.receive(connection) {
                None => return,
                Some(Received::Message(message)) => self.on_message(now, handle, message),
                Some(Received::Ended) => return self.misbehaved(now, "ended the registration"),
                Some(Received::Bad(_)) => return self.misbehaved(now, "sent what is no message"),
            }
        }
    }

    fn on_message(&mut self, now: Instant, handle: Handle, message: Message) {
        match (std::mem::replace(&mut self.state, State::Over), message) {
            (State::Registering { stream, .. }, Message::Registered(registered)) => {
                self.attempts = 0;
                self.renewal.on_registered();
                self.rtt = self.quic.get(handle).map(Connection::rtt);
                self.state = State::Registered { handle, stream };
                let named = registered.punch_ports.into_iter().filter(|&port| port != 0);
                let punch_ports: Vec<u16> = named.take(MAX_PUNCH_PORTS).collect();
                if punch_ports.is_empty() {
                    return self.misbehaved(now, "named no hole-punch port");
                }
                if !self.local.is_empty() {
                    self.say_local();
                }
                self.events.push(ControlEvent::Registered { punch_ports, knock_port: registered.knock_port });
                self.tell_way();
                self.feel_soon(now);
            }
            (state @ State::Registered { .. }, Message::Observed(observed)) => {
                self.state = state;
                self.events.push(ControlEvent::Observed(observed));
            }
            (state @ State::Registered { .. }, Message::Seen(seen)) => {
                self.state = state;
                self.events.push(ControlEvent::Seen(seen.address));
            }
            (state @ State::Registered { .. }, Message::Knocked(knock)) => {
                self.state = state;
                self.events.push(ControlEvent::Knocked(knock.cookie));
            }
            (state @ State::Registered { .. }, Message::Resolved(resolved)) => {
                self.state = state;
                self.events.push(ControlEvent::Resolved(resolved));
            }
            (state @ State::Registered { .. }, Message::Drain(drain)) => {
                self.state = state;
                let within = Duration::from_millis(drain.within_ms).min(LONGEST_DRAIN);
                self.events.push(ControlEvent::Draining(within));
            }
            (state, Message::Refused(refused)) => {
                self.state = state;
                self.lose(now, RelayError::Refused(refused.reason));
            }
            (state, _) => {
                self.state = state;
                self.misbehaved(now, "sent a message that does not belong here");
            }
        }
    }

    fn misbehaved(&mut self, now: Instant, what: &'static str) {
        self.lose(now, RelayError::Misbehaved(what));
    }

    /// Somebody else, with the right to, found the relay's messages to make no sense.
    pub(super) fn blame(&mut self, now: Instant, what: &'static str) {
        self.misbehaved(now, what);
    }

    fn relay_error(&self, reason: &ConnectionError) -> RelayError {
        let registered = self.is_registered();
        match reason {
            ConnectionError::ApplicationClosed(close) => {
                if close.error_code == VarInt::from_u32(close_code::REPLACED) {
                    RelayError::Replaced
                } else if close.error_code == VarInt::from_u32(close_code::LIMIT) {
                    RelayError::Refused(RefuseReason::Limit)
                } else if close.error_code == VarInt::from_u32(close_code::REFUSED) {
                    RelayError::Refused(RefuseReason::of_word(&close.reason).unwrap_or(RefuseReason::Other))
                } else {
                    RelayError::Closed { reason: quic::printable(&close.reason) }
                }
            }
            // Our own verifier's alert: the key that was proven is not the pinned one.
            ConnectionError::TransportError(error) if quic::is_access_denied(error.code) => self.wrong_key(),
            ConnectionError::TimedOut | ConnectionError::Reset if registered => RelayError::Lost,
            ConnectionError::TimedOut => RelayError::Unreachable { after: self.patience() },
            other => RelayError::Closed { reason: quic::close_reason(other).to_string() },
        }
    }

    fn lose(&mut self, now: Instant, error: RelayError) {
        if let Some(connection) = self.current().and_then(|handle| self.quic.get_mut(handle))
            && !connection.is_closed()
        {
            let code =
                if matches!(error, RelayError::Misbehaved(_)) { close_code::MISBEHAVED } else { close_code::GOODBYE };
            connection.close(now, VarInt::from_u32(code), bytes::Bytes::new());
        }
        self.end_ways(now, error.is_final());
        // Short tries one after the other are one long one to the program.
        let news = self.is_registered() || self.attempts == 0 || self.patience() == self.patience;
        let news = self.renewal.on_lost(&error) || news;
        self.pulse = Pulse::default();
        self.state = if error.is_final() { State::Over } else { State::Waiting { until: now + self.pause() } };
        if news || error.is_final() {
            self.events.push(ControlEvent::Lost(error));
        }
    }

    /// Backed off without end, and never in step with others that lost the same relay.
    fn pause(&mut self) -> Duration {
        let (first, doublings) = match self.urgent && !self.renewal.is_due() {
            true => (URGENT_PAUSE, self.attempts / URGENT_TRIES),
            false => (FIRST_PAUSE, self.attempts),
        };
        let full = first.saturating_mul(1 << doublings.min(16)).min(LAST_PAUSE);
        self.attempts = self.attempts.saturating_add(1);
        self.rng.vary(full)
    }

    pub(super) fn shutdown(&mut self, now: Instant) {
        self.end_ways(now, false);
        if let Some(connection) = self.current().and_then(|handle| self.quic.get_mut(handle)) {
            connection.close(now, VarInt::from_u32(close_code::GOODBYE), bytes::Bytes::from_static(b"goodbye"));
        }
        self.state = State::Over;
    }

    /// Leaves a relay that asked for it, and comes back some time after `until`.
    pub(super) fn leave(&mut self, now: Instant, until: Instant) {
        self.lose(now, RelayError::Closed { reason: "left as it asked: it is going down".into() });
        self.state = State::Waiting { until: until.max(now) + self.rng.vary(COME_BACK) };
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

/// What P3 is told of whom this peer accepts. Who does not fit is asked for, never let in unasked.
pub(super) fn registration(consent: &Consent, instance: [u8; 8]) -> Register {
    let instance = Some(instance.into());
    let told = |ids: &[NodeId]| ids.iter().copied().take(MAX_CONSENTS).collect();
    match consent {
        Consent::Closed => Register { listen: false, any: false, ids: Vec::new(), instance, token: None },
        Consent::Ask => Register { listen: true, any: false, ids: Vec::new(), instance, token: None },
        Consent::Listed { ids, .. } => Register { listen: true, any: false, ids: told(ids), instance, token: None },
        Consent::Any => Register { listen: true, any: true, ids: Vec::new(), instance, token: None },
    }
}
