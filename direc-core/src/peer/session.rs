//! One connection to one other peer: its introduction, its paths, its QUIC, and their order.
//!
//! QUIC sees one constant virtual address; below it each packet goes the way that [`Paths`] says.

mod introduced;
mod packets;
mod transmit;

use std::{
    collections::VecDeque,
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use quinn_proto::{Connection, ConnectionError, EcnCodepoint, Event, ServerConfig, StreamId, VarInt};

use super::{
    introduction::{client::Client, server::Server},
    shared::{Context, Shared, StepAbout},
};
use crate::{
    CloseReason, ConnId, ConnectError, ConnectOptions, DirectFailure, NodeId, Path, PathPolicy, PeerEvent, RelayError,
    WakeReason,
    paths::Paths,
    quic::{
        self, Handle, Quic,
        config::{endpoint, peer_transport},
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

/// This peer's part in the introduction.
pub(super) enum Introduction {
    Client(Client),
    Server(Server),
}

/// Where a session stands. What it may do follows from this alone.
enum State {
    /// P2: the control connection does not stand yet.
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
    introduction: Option<Introduction>,
    introduction_id: Option<u64>,
    /// The number on relayed packets between this peer and P3.
    channel: u64,
    options: ConnectOptions,
    quic: Quic,
    handle: Option<Handle>,
    paths: Paths,
    relay: SocketAddr,
    deadline: Option<Instant>,
    path_since: Instant,
    /// P2: P4 was asked, so that the time from QUIC's first packet to its answer is no round trip.
    was_asked: bool,
    direct_heard: bool,
    /// The other side needs no more of the relay, and so neither do we.
    done_with_relay: bool,
    echoes: VecDeque<(SocketAddr, ProbeFields)>,
    doubles: VecDeque<transmit::Double>,
    rng: Rng,
}

/// The address that QUIC believes the other peer to have: constant, and nobody's (RFC 4193).
fn virtual_address(slot: u32) -> SocketAddr {
    let [high, low] = [slot >> 16, slot].map(|half| half as u16);
    SocketAddr::new(Ipv6Addr::new(0xfd64, 0x6972, 0x6563, 0, 0, 0, high, low).into(), 1)
}

impl Session {
    /// P2's side of a new connection.
    pub(super) fn client(id: ConnId, peer: NodeId, options: ConnectOptions, ctx: &Context<'_>, rng: Rng) -> Self {
        let deadline = ctx.now + ctx.shared.timing.relay_deadline;
        Self::new(id, peer, None, options, deadline, ctx, rng)
    }

    /// P4's side: the offer (S5) has arrived.
    pub(super) fn server(id: ConnId, offer: &Offer, server: Server, ctx: &Context<'_>, mut rng: Rng) -> Option<Self> {
        let policy = if offer.direct { PathPolicy::Auto } else { PathPolicy::RelayOnly };
        let options = ConnectOptions { policy };
        let deadline = ctx.now + ctx.shared.timing.answer_deadline;
        let quic = server_config(ctx.shared, offer.client, &mut rng)?;
        let mut session = Self::new(id, offer.client, Some(quic), options, deadline, ctx, rng);
        session.state = State::Asked { early: Vec::new() };
        session.introduction = Some(Introduction::Server(server));
        session.introduction_id = Some(offer.introduction);
        session.channel = offer.channel;
        session.paths.set_secret(&offer.secret);
        Some(session)
    }

    fn new(
        id: ConnId,
        peer: NodeId,
        server: Option<Arc<ServerConfig>>,
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
            introduction: None,
            introduction_id: None,
            channel: 0,
            options,
            quic: Quic::new(endpoint(slot(id), &shared.cids, &mut rng), server),
            handle: None,
            paths: Paths::new(role, shared.relay, rng.fork()),
            relay: shared.relay,
            deadline: Some(deadline),
            path_since: ctx.now,
            was_asked: false,
            direct_heard: false,
            done_with_relay: false,
            echoes: VecDeque::new(),
            doubles: VecDeque::new(),
            rng,
        }
    }

    fn about(&self) -> StepAbout {
        StepAbout { role: self.role, conn: Some(self.id), introduction: self.introduction_id, peer: Some(self.peer) }
    }

    // What others ask.

    pub(super) fn stream_id(&self) -> Option<StreamId> {
        Some(match self.introduction.as_ref()? {
            Introduction::Client(client) => client.stream_id(),
            Introduction::Server(server) => server.stream_id(),
        })
    }

    pub(super) fn channel(&self) -> u64 {
        self.channel
    }

    pub(super) fn tag(&self) -> Option<Tag> {
        self.paths.tag()
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

    pub(super) fn path_since(&self) -> Instant {
        self.path_since
    }

    pub(super) fn handle_timeout(&mut self, ctx: &mut Context<'_>) {
        if !matches!(self.state, State::Asking) {
            self.quic.handle_timeout(ctx.now);
        }
        if self.is_closing() {
            // Without a deadline it is over.
            self.deadline = self.deadline.filter(|&deadline| deadline > ctx.now);
            return;
        }
        let again = ctx.now + ctx.shared.timing.punch_deadline;
        if let Some(event) = self.paths.handle_timeout(ctx.now, again) {
            self.on_path_event(event, ctx);
        }
        if self.deadline.is_some_and(|deadline| deadline <= ctx.now) {
            self.on_deadline(ctx);
        }
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>) {
        let timing = &ctx.shared.timing;
        self.deadline = None;
        let error = match self.state {
            State::Waiting => ConnectError::Relay(RelayError::Unreachable { after: timing.relay_deadline }),
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
        while let Some((_, event)) = self.quic.poll_event() {
            self.on_event(event, ctx);
        }
    }

    fn on_event(&mut self, event: Event, ctx: &mut Context<'_>) {
        let conn = self.id;
        match event {
            Event::HandshakeDataReady => {}
            Event::Connected => self.on_connected(ctx),
            Event::ConnectionLost { reason } => self.on_lost(&reason, ctx),
            Event::Stream(event) => ctx.events.push_back(PeerEvent::Stream { conn, event }),
            Event::DatagramReceived => ctx.events.push_back(PeerEvent::DatagramReceived { conn }),
            Event::DatagramsUnblocked => ctx.events.push_back(PeerEvent::DatagramsUnblocked { conn }),
        }
    }

    /// P4 has accepted, or it would not have answered, and both keys that this side has to check are proven.
    fn on_connected(&mut self, ctx: &mut Context<'_>) {
        if self.is_closing() {
            return;
        }
        self.state = State::Established;
        self.deadline = None;
        let now = ctx.now;
        if self.was_asked
            && let Some(connection) = self.connection_mut()
        {
            connection.path_changed(now);
            connection.ping();
        }
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
        let established = matches!(self.state, State::Established);
        let closed = quic::close_reason(reason);
        let wrong_key = matches!(reason, ConnectionError::TransportError(error) if quic::is_access_denied(error.code));
        self.done_with_relay = true;
        if established {
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
        let conn = self.id;
        ctx.events.push_back(match self.state {
            State::Established => PeerEvent::Closed { conn, reason: CloseReason::Locally },
            _ => PeerEvent::Failed { conn, error: ConnectError::Closed(CloseReason::Locally) },
        });
        self.end(ctx.now, code, reason);
    }

    fn end(&mut self, now: Instant, code: VarInt, reason: Bytes) {
        if let Some(connection) = self.connection_mut()
            && !connection.is_closed()
        {
            connection.close(now, code, reason);
        }
        self.done_with_relay |= self.paths.direct().is_some() || self.handle.is_none();
        self.state = State::Closing;
        self.deadline = Some(now + CLOSING_LIMIT);
    }

    /// Whether the introduction can end before the session does: the good-bye goes straight, or was the other side's.
    pub(super) fn may_leave(&self) -> bool {
        self.is_closing() && self.done_with_relay && self.introduction.is_some()
    }

    /// When this session wants `handle_timeout`, and what for.
    pub(super) fn poll_timeout(&self) -> Option<(Instant, WakeReason)> {
        let paths = if self.is_closing() { None } else { self.paths.poll_timeout() };
        let quic = if matches!(self.state, State::Asking) { None } else { self.quic.poll_timeout() };
        [(quic, WakeReason::Quic), (paths, WakeReason::Probe), (self.deadline, WakeReason::Introduction)]
            .into_iter()
            .filter_map(|(at, why)| Some((at?, why)))
            .min()
    }
}

/// The slot of a session in connection IDs; the control connection has 0, and the first session's number is 1.
pub(super) fn slot(id: ConnId) -> u32 {
    id.0 as u32
}

/// QUIC's settings for P4: only the key that the offer named is let in.
fn server_config(shared: &Shared, client: NodeId, rng: &mut Rng) -> Option<Arc<ServerConfig>> {
    let crypto = shared.tls.server(Some(client), ALPN_PEER).ok()?;
    Some(quic::config::server(crypto, peer_transport(&shared.transport), &shared.clock, rng))
}
