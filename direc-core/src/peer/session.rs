//! One connection to one other peer: its introductions, its paths, its QUIC, and their order.
//!
//! QUIC sees one constant virtual address; below it each packet goes the way that [`Paths`] says.

mod attachments;
mod delivery;
mod drain;
mod introduced;
mod nudge;
mod packets;
mod resumed;
mod rounds;
mod size_probes;
mod transmit;

use std::{
    collections::VecDeque,
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use quinn_proto::{Connection, ConnectionError, EcnCodepoint, Event, ServerConfig, StreamEvent, StreamId, VarInt};

pub(super) use attachments::Attachment;
use attachments::Attachments;
use delivery::Delivery;
use drain::Drain;
use nudge::Nudge;
use size_probes::SizeProbes;

use super::{
    introduction::Introduction,
    shared::{Context, Shared, StepAbout},
};
use crate::{
    CloseReason, ConnId, ConnectError, ConnectOptions, DirectFailure, NodeId, Path, PathPolicy, PathReason, PathStatus,
    PeerEvent, RelayError, WakeReason,
    congestion::ledger::Ledger,
    paths::{Paths, Via},
    quic::{
        self, Handle, Quic,
        config::{endpoint, peer_transport},
        receive::Receiving,
        tls::ALPN_PEER,
    },
    rng::Rng,
    step::Role,
    wire::{
        datagram::{ProbeFields, Tag},
        message::Offer,
    },
};

/// Relayed packets kept while P4's program thinks about the offer: QUIC's first flight and its repeats.
const MAX_EARLY: usize = 16;

/// How long a session that is over may take to go. QUIC's closing period is three of its timeouts (RFC 9000, section
/// 10.2), which on a path that lost everything have grown beyond all measure.
const CLOSING_LIMIT: Duration = Duration::from_secs(10);

/// Where a session stands. What it may do follows from this alone.
enum State {
    /// P2: no relay that was not asked yet is there.
    Waiting,
    /// P2: S2 is said; P3 has not answered yet.
    Initiated,
    /// P2: P3 has answered (S3), P4 is being asked. QUIC's timers rest: its first flight waits at P4, and repeating it
    /// would only back QUIC off so far that one packet lost after the answer costs a minute.
    Asking,
    /// P4: the program is asked; what P2 has sent meanwhile is kept.
    Asked {
        early: Vec<(Option<EcnCodepoint>, BytesMut)>,
    },
    /// P4 has accepted (S6); QUIC is shaking hands.
    Handshaking,
    Established,
    /// All is said; QUIC's last packets go out.
    Closing,
}

pub(super) struct Session {
    pub(super) id: ConnId,
    pub(super) peer: NodeId,
    pub(super) role: Role,
    state: State,
    attachments: Attachments,
    /// P2: relays that could not introduce, a bit for each, and the error most worth telling.
    tried: u8,
    failure: Option<ConnectError>,
    options: ConnectOptions,
    quic: Quic,
    handle: Option<Handle>,
    receiving: Receiving,
    ledger: Arc<Ledger>,
    size_probes: SizeProbes,
    paths: Paths,
    /// A ping whose answer the data waits for.
    nudge: Option<Nudge>,
    drain: Drain,
    delivery: Delivery,
    /// The relay's address that the program was told last.
    relay: SocketAddr,
    deadline: Option<Instant>,
    /// P2: P4 was asked, so that the time from QUIC's first packet to its answer is no round trip.
    was_asked: bool,
    direct_heard: bool,
    /// The program knows of the connection.
    announced: bool,
    /// The other side needs no more of the relay, and so neither do we.
    done_with_relay: bool,
    echoes: VecDeque<(Via, ProbeFields)>,
    doubles: VecDeque<transmit::Double>,
    /// P4: its first flight, until the connection stands.
    flight: Vec<Bytes>,
    rng: Rng,
}

/// The address that QUIC believes the other peer to have: constant, and nobody's (RFC 4193).
fn virtual_address(slot: u32) -> SocketAddr {
    let [high, low] = [slot >> 16, slot].map(|half| half as u16);
    SocketAddr::new(Ipv6Addr::new(0xfd64, 0x6972, 0x6563, 0, 0, 0, high, low).into(), 1)
}

impl Session {
    /// Addresses of the other side that are kept.
    pub(super) fn candidates(&self, now: Instant) -> usize {
        self.paths.status(now, None).len()
    }

    /// P2's side of a new connection.
    pub(super) fn client(id: ConnId, peer: NodeId, options: ConnectOptions, ctx: &Context<'_>, rng: Rng) -> Self {
        let deadline = ctx.now + ctx.shared.timing.relay_deadline;
        let ledger = new_ledger(id, peer, ctx);
        Self::new(id, peer, None, ledger, options, deadline, ctx, rng)
    }

    /// P4's side: the offer (S5) has arrived.
    pub(super) fn server(
        id: ConnId,
        relay: usize,
        offer: &Offer,
        introduction: Introduction,
        ctx: &Context<'_>,
        mut rng: Rng,
    ) -> Option<Self> {
        let policy = match (offer.direct, offer.direct_only) {
            (false, _) => PathPolicy::RelayOnly,
            (true, false) => PathPolicy::Auto,
            (true, true) => PathPolicy::DirectOnly,
        };
        let options = ConnectOptions { policy };
        let deadline = ctx.now + ctx.shared.timing.answer_deadline;
        let ledger = new_ledger(id, offer.client, ctx);
        let quic = server_config(ctx.shared, offer.client, &ledger, &mut rng)?;
        let mut session = Self::new(id, offer.client, Some(quic), ledger, options, deadline, ctx, rng);
        session.state = State::Asked { early: Vec::new() };
        let (channel, id, since) = (offer.channel, Some(offer.introduction), ctx.now);
        session.attach(Attachment { relay, channel, introduction, id, since }, ctx);
        session.paths.set_secret(&offer.secret);
        Some(session)
    }

    #[expect(clippy::too_many_arguments, reason = "both sides' constructors fill in the same")]
    fn new(
        id: ConnId,
        peer: NodeId,
        server: Option<Arc<ServerConfig>>,
        ledger: Arc<Ledger>,
        options: ConnectOptions,
        deadline: Instant,
        ctx: &Context<'_>,
        mut rng: Rng,
    ) -> Self {
        let shared = ctx.shared;
        let role = if server.is_some() { Role::P4 } else { Role::P2 };
        Self {
            id,
            peer,
            role,
            state: State::Waiting,
            attachments: Attachments::default(),
            tried: 0,
            failure: None,
            options,
            quic: Quic::new(endpoint(slot(id), &shared.cids, &mut rng), server),
            handle: None,
            receiving: Receiving::new(&shared.transport),
            ledger,
            size_probes: SizeProbes::default(),
            paths: Paths::new(ctx.now, role, options.policy, shared.techniques, rng.fork()),
            nudge: None,
            drain: Drain::Over,
            delivery: Delivery::default(),
            relay: shared.relay(0),
            deadline: Some(deadline),
            was_asked: false,
            direct_heard: false,
            announced: false,
            done_with_relay: false,
            echoes: VecDeque::new(),
            doubles: VecDeque::new(),
            flight: Vec::new(),
            rng,
        }
    }

    fn about(&self) -> StepAbout {
        let introduction = self.attachments.current.as_ref().and_then(|attachment| attachment.id);
        StepAbout { role: self.role, conn: Some(self.id), introduction, peer: Some(self.peer) }
    }

    // What others ask.

    pub(super) fn tag(&self) -> Option<Tag> {
        self.paths.tag()
    }

    /// The session's places at relays.
    pub(super) fn attached(&self) -> impl Iterator<Item = &Attachment> {
        self.attachments.all()
    }

    /// The session is gone: its places at relays.
    pub(super) fn into_attached(self) -> Vec<Attachment> {
        self.attachments.into_all()
    }

    /// The relay that carries its packets, and the stream that opened them.
    pub(super) fn stream_id(&self) -> Option<(usize, StreamId)> {
        let current = self.attachments.current.as_ref()?;
        Some((current.relay, current.introduction.stream_id()))
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    pub(super) fn is_asked(&self) -> bool {
        matches!(self.state, State::Asked { .. })
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    fn is_established(&self) -> bool {
        matches!(self.state, State::Established)
    }

    /// Whether nothing more will come of this session.
    pub(super) fn is_over(&self) -> bool {
        self.is_closing() && (self.quic.len() == 0 || self.deadline.is_none())
    }

    pub(super) fn connection(&self) -> Option<&Connection> {
        self.quic.get(self.handle?)
    }

    pub(super) fn connection_mut(&mut self) -> Option<&mut Connection> {
        self.quic.get_mut(self.handle?)
    }

    pub(super) fn path(&self) -> Path {
        self.paths.direct().map_or(Path::Relay(self.relay), Path::Direct)
    }

    /// Since when it runs on that path, and why.
    pub(super) fn chosen(&self) -> (Instant, PathReason) {
        self.paths.chosen()
    }

    pub(super) fn paths(&self, now: Instant) -> Vec<PathStatus> {
        self.paths.status(now, self.attachments.current.is_some().then_some(self.relay))
    }

    pub(super) fn handle_timeout(&mut self, ctx: &mut Context<'_>) {
        if !matches!(self.state, State::Asking) {
            self.quic.handle_timeout(ctx.now);
        }
        if self.ledger.take_due(ctx.now) {
            // To be polled for what its rate held back.
            self.connection_mut();
        }
        if self.is_closing() {
            // Without a deadline it is over.
            self.deadline = self.deadline.filter(|&deadline| deadline > ctx.now);
            return;
        }
        self.attachments.handle_timeout(ctx.now, &mut self.rng);
        if self.drain.is_due(ctx.now, &self.ledger) {
            self.renew_quic(ctx.now, true);
            self.drain = Drain::settle(ctx.now, self.paths.rtt());
        }
        if self.nudge.as_mut().is_some_and(|nudge| nudge.poll(ctx.now)) {
            self.ledger.let_ping_pass();
            if let Some(connection) = self.connection_mut() {
                connection.ping();
            }
        }
        if let Some(event) = self.paths.handle_timeout(ctx.now) {
            self.on_path_event(event, ctx);
        }
        if self.deadline.is_some_and(|deadline| deadline <= ctx.now) {
            self.on_deadline(ctx);
        }
        self.close_if_delivered(ctx);
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>) {
        let timing = &ctx.shared.timing;
        self.deadline = None;
        let error = match self.state {
            State::Waiting => {
                let unreachable = ConnectError::Relay(RelayError::Unreachable { after: timing.relay_deadline });
                self.failure.take().unwrap_or(unreachable)
            }
            State::Initiated | State::Asking | State::Asked { .. } => {
                ConnectError::NoAnswer { after: timing.answer_deadline }
            }
            State::Handshaking => ConnectError::NoAnswer { after: timing.handshake_deadline },
            State::Established | State::Closing => return,
        };
        self.fail(error, ctx);
    }

    /// Drives QUIC and passes on what it says.
    pub(super) fn drive(&mut self, ctx: &mut Context<'_>) {
        self.drive_quic(ctx);
        while self.receive_is_crowded()
            && let Some((quic, receiving)) = self.streams()
        {
            receiving.relieve(quic);
            self.drive_quic(ctx);
        }
        self.close_if_overrun(ctx);
        self.close_if_delivered(ctx);
    }

    fn drive_quic(&mut self, ctx: &mut Context<'_>) {
        while let Some((_, event)) = self.quic.poll_event(ctx.now) {
            self.on_event(event, ctx);
        }
    }

    /// Whether the receive side of streams has something to do.
    fn receive_is_crowded(&mut self) -> bool {
        let connection = self.handle.and_then(|handle| self.quic.get(handle));
        connection.is_some_and(|connection| self.receiving.look(connection))
    }

    /// The QUIC connection, which is then driven and polled again, and the receive side of its streams.
    pub(super) fn streams(&mut self) -> Option<(&mut Connection, &mut Receiving)> {
        Some((self.quic.get_mut(self.handle?)?, &mut self.receiving))
    }

    fn on_event(&mut self, event: Event, ctx: &mut Context<'_>) {
        let conn = self.id;
        match event {
            Event::HandshakeDataReady => {}
            Event::Connected => self.on_connected(ctx),
            Event::ConnectionLost { reason } => self.on_lost(&reason, ctx),
            Event::Stream(event) => {
                if let StreamEvent::Readable { id } = event {
                    self.receiving.on_readable(id);
                }
                self.delivery.on_event(&event);
                ctx.events.push_back(PeerEvent::Stream { conn, event });
            }
            Event::DatagramReceived => ctx.events.push_back(PeerEvent::DatagramReceived { conn }),
            Event::DatagramsUnblocked => ctx.events.push_back(PeerEvent::DatagramsUnblocked { conn }),
        }
    }

    /// P4 has accepted, or it would not have answered, and both keys that this side has to check are proven.
    fn on_connected(&mut self, ctx: &mut Context<'_>) {
        if self.is_closing() {
            return;
        }
        let unheard = matches!(self.state, State::Initiated | State::Asking);
        self.state = State::Established;
        self.flight = Vec::new();
        self.deadline = None;
        if unheard {
            self.start(ctx);
        }
        let now = ctx.now;
        if self.was_asked {
            self.ledger.begin(now, false, None);
            if let Some(connection) = self.connection_mut() {
                connection.path_changed(now);
                connection.ping();
            }
        }
        self.announce(ctx);
    }

    /// Tells the program of the connection; one that may only go direct, once it does.
    fn announce(&mut self, ctx: &mut Context<'_>) {
        if self.announced || (self.options.policy == PathPolicy::DirectOnly && self.paths.direct().is_none()) {
            return;
        }
        self.announced = true;
        let (conn, peer, role, path) = (self.id, self.peer, self.role, self.path());
        ctx.events.push_back(PeerEvent::Connected { conn, peer, role, path });
        if path.is_direct() {
            ctx.events.push_back(self.path_event());
        }
        if !self.options.may_go_direct() {
            ctx.events.push_back(PeerEvent::NotDirect { conn, why: DirectFailure::RelayOnly });
        }
    }

    fn on_lost(&mut self, reason: &ConnectionError, ctx: &mut Context<'_>) {
        if self.is_closing() {
            return;
        }
        self.give_up_delivery();
        let closed = quic::close_reason(reason);
        let wrong_key = matches!(reason, ConnectionError::TransportError(error) if quic::is_access_denied(error.code));
        // What this side itself has found wrong, the other is still to hear.
        self.done_with_relay |= !matches!(reason, ConnectionError::TransportError(_));
        if self.announced {
            self.state = State::Closing;
            self.deadline = Some(ctx.now + CLOSING_LIMIT);
            ctx.events.push_back(PeerEvent::Closed { conn: self.id, reason: closed });
        } else if wrong_key {
            self.fail(
                ConnectError::Identity("the other side proved another key than the one it was introduced with"),
                ctx,
            );
        } else if matches!(closed, CloseReason::TimedOut) {
            self.fail(ConnectError::NoAnswer { after: ctx.shared.transport.idle_timeout }, ctx);
        } else {
            self.fail(ConnectError::Closed(closed), ctx);
        }
    }

    fn fail(&mut self, error: ConnectError, ctx: &mut Context<'_>) {
        ctx.events.push_back(PeerEvent::Failed { conn: self.id, error });
        self.end(ctx.now, VarInt::from_u32(0), Bytes::new());
    }

    /// The program closes the connection, or gives up connecting.
    pub(super) fn close(&mut self, code: VarInt, reason: Bytes, ctx: &mut Context<'_>) {
        if self.is_closing() {
            return;
        }
        self.abandon_delivery();
        self.say_closed(CloseReason::Locally, ctx);
        self.end(ctx.now, code, reason);
    }

    /// What the other side sends cannot be put in order within this side's bounds.
    fn close_if_overrun(&mut self, ctx: &mut Context<'_>) {
        if let Some(error) = self.receiving.overrun().filter(|_| !self.is_closing()) {
            let (code, reason) = (error.code, error.reason.clone());
            self.give_up_delivery();
            self.say_closed(CloseReason::Transport(error), ctx);
            self.end(ctx.now, VarInt::from_u64(code).unwrap_or_default(), reason.into());
        }
    }

    fn say_closed(&self, reason: CloseReason, ctx: &mut Context<'_>) {
        let conn = self.id;
        ctx.events.push_back(if self.announced {
            PeerEvent::Closed { conn, reason }
        } else {
            PeerEvent::Failed { conn, error: ConnectError::Closed(reason) }
        });
    }

    fn end(&mut self, now: Instant, code: VarInt, reason: Bytes) {
        if let Some(connection) = self.connection_mut()
            && !connection.is_closed()
        {
            connection.close(now, code, reason);
            self.ledger.let_close_pass();
        }
        self.done_with_relay |= self.paths.direct().is_some() || self.handle.is_none();
        self.attachments.abandon_all_but_current();
        self.state = State::Closing;
        self.deadline = Some(now + CLOSING_LIMIT);
    }

    /// Places at relays that are to be left: their streams end.
    pub(super) fn take_left(&mut self) -> Vec<Attachment> {
        // The last one can go before the session does where the good-bye goes straight, or was the other side's.
        if self.is_closing() && self.done_with_relay {
            self.attachments.abandon();
        }
        self.attachments.take_over()
    }

    /// When this session wants `handle_timeout`, and what for.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<(Instant, WakeReason)> {
        let (paths, attachments) = if self.is_closing() {
            (None, None)
        } else {
            (self.paths.poll_timeout(now), self.attachments.poll_timeout())
        };
        let moving = [self.nudge.map(|nudge| nudge.due()), self.drain.held_until(now)];
        let moving = moving.into_iter().flatten().filter(|_| !self.is_closing());
        let quic = if matches!(self.state, State::Asking) { None } else { self.quic.poll_timeout() };
        let paced = self.ledger.due();
        let quic = quic.into_iter().chain(moving).chain(paced).min();
        let delivered = self.delivery.ends_by();
        let introduction = self.deadline.into_iter().chain(attachments).chain(delivered).min();
        [(quic, WakeReason::Quic), (paths, WakeReason::Probe), (introduction, WakeReason::Introduction)]
            .into_iter()
            .filter_map(|(at, why)| Some((at?, why)))
            .min()
    }
}

/// The slot of a session in connection IDs; the first session's number is 1, the control connections have the last.
pub(super) fn slot(id: ConnId) -> u32 {
    id.0 as u32
}

/// The books of a connection's congestion control. What it leaves to chance need not surprise anybody, but differ from
/// connection to connection.
fn new_ledger(id: ConnId, peer: NodeId, ctx: &Context<'_>) -> Arc<Ledger> {
    let random = peer.as_bytes().iter().fold(id.0, |sum, &byte| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte));
    Ledger::new(ctx.now, ctx.shared.transport.congestion, random)
}

/// QUIC's settings for P4: only the key that the offer named is let in.
fn server_config(shared: &Shared, client: NodeId, ledger: &Arc<Ledger>, rng: &mut Rng) -> Option<Arc<ServerConfig>> {
    let crypto = shared.tls.server(Some(client), ALPN_PEER).ok()?;
    Some(quic::config::server(crypto, peer_transport(&shared.transport, ledger), &shared.clock, rng))
}
