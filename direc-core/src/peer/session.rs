//! One connection to one other peer: its introduction, its paths, its QUIC, and their order.
//!
//! QUIC sees one constant virtual address; below it each packet goes the way that [`Paths`] says.

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
    introduction::{Progress, client::Client, server::Server},
    shared::{Context, Shared, StepAbout},
};
use crate::{
    CloseReason, ConnId, ConnectError, ConnectOptions, DirectFailure, NodeId, Path, PeerEvent, RefuseReason,
    RelayError, WakeReason,
    drops::DropReason,
    paths::{PathEvent, Paths},
    quic::{
        self, Handle, Handled, Quic,
        config::{endpoint, peer_transport},
        tls::ALPN_PEER,
    },
    rng::Rng,
    step::{Role, Step},
    wire::{
        datagram::{Cookie, ProbeFields, Tag},
        message::{Initiate, Offer},
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
        let options = ConnectOptions { relay_only: !offer.direct };
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

    // The introduction.

    /// S1 and S2, and in the same flight QUIC's first packets, through the relay. Gives cookie X.
    pub(super) fn initiate(&mut self, control: &mut Connection, ctx: &mut Context<'_>) -> Option<Cookie> {
        let cookie = self.rng.bytes();
        self.channel = self.rng.u64();
        let initiate = Initiate { server: self.peer, cookie, channel: self.channel, direct: !self.options.relay_only };
        let Some(client) = Client::initiate(control, initiate) else {
            self.fail(ConnectError::RelayRefused(RefuseReason::Limit), ctx);
            return None;
        };
        ctx.step(&self.about(), Step::S1, Some(self.relay));
        ctx.step(&self.about(), Step::S2, Some(self.relay));
        self.introduction = Some(Introduction::Client(client));
        self.state = State::Initiated;
        self.deadline = Some(ctx.now + ctx.shared.timing.answer_deadline);
        self.start_quic(ctx);
        Some(cookie)
    }

    /// P2 is always the QUIC client, so that two peers that connect to each other make two connections, never half of one.
    fn start_quic(&mut self, ctx: &mut Context<'_>) {
        let started = ctx.shared.tls.client(self.peer, ALPN_PEER).ok().and_then(|crypto| {
            let config = quic::config::client(crypto, peer_transport(&ctx.shared.transport), &mut self.rng);
            self.quic.connect(ctx.now, config, virtual_address(slot(self.id)))
        });
        self.handle = started;
        if started.is_none() {
            self.fail(ConnectError::Limit, ctx);
        }
    }

    /// S6: yes. From here on P2's QUIC packets are let in.
    pub(super) fn accept(&mut self, control: &mut Connection, ctx: &mut Context<'_>) {
        let State::Asked { early } = std::mem::replace(&mut self.state, State::Handshaking) else { return };
        if let Some(Introduction::Server(server)) = &mut self.introduction {
            server.accept(control);
        }
        ctx.step(&self.about(), Step::S6, None);
        self.start(ctx);
        for (ecn, packet) in early {
            // Packets that make no sense are dropped here as they would have been on time.
            let _ = self.handle_quic(ecn, packet, ctx);
        }
    }

    /// S6: no.
    pub(super) fn refuse(&mut self, control: Option<&mut Connection>, reason: RefuseReason) {
        if let (Some(Introduction::Server(server)), Some(control)) = (&mut self.introduction, control) {
            server.refuse(control, reason);
        }
        self.introduction = None;
        self.state = State::Closing;
    }

    /// Both sides have agreed: the handshake's and the punching's time begins. QUIC may have gone ahead of P3's word.
    fn start(&mut self, ctx: &mut Context<'_>) {
        if matches!(self.state, State::Handshaking) {
            self.deadline = Some(ctx.now + ctx.shared.timing.handshake_deadline);
        }
        if !self.options.relay_only && !self.is_closing() {
            self.paths.start(ctx.now + ctx.shared.timing.punch_deadline);
        }
    }

    /// Takes what P3 has said on the introduction's stream. The error blames P3.
    pub(super) fn receive(&mut self, control: &mut Connection, ctx: &mut Context<'_>) -> Result<(), &'static str> {
        loop {
            let progress = match &mut self.introduction {
                Some(Introduction::Client(client)) => client.receive(control),
                Some(Introduction::Server(server)) => server.receive(control),
                None => return Ok(()),
            };
            match progress {
                None => return Ok(()),
                Some(progress) => self.on_progress(progress, ctx)?,
            }
        }
    }

    fn on_progress(&mut self, progress: Progress, ctx: &mut Context<'_>) -> Result<(), &'static str> {
        match progress {
            Progress::Introduced { introduction, secret, accepted } => {
                self.introduction_id = Some(introduction);
                self.paths.set_secret(&secret);
                if accepted {
                    self.on_accepted(ctx);
                } else if matches!(self.state, State::Initiated) {
                    self.state = State::Asking;
                    self.was_asked = true;
                }
            }
            Progress::Accepted => self.on_accepted(ctx),
            Progress::Addresses(addresses) => self.on_addresses(&addresses, ctx),
            Progress::Refused(reason) => self.on_refused(reason, ctx),
            Progress::Ended => self.on_ended(ctx),
            Progress::Misbehaved(what) => return Err(what),
        }
        Ok(())
    }

    fn on_accepted(&mut self, ctx: &mut Context<'_>) {
        if matches!(self.state, State::Initiated | State::Asking) {
            self.state = State::Handshaking;
        }
        self.start(ctx);
    }

    /// S9. P4 sends something at once, so that what P2 hears first on the direct path is QUIC's (S10).
    fn on_addresses(&mut self, addresses: &[SocketAddr], ctx: &mut Context<'_>) {
        if self.options.relay_only || self.is_closing() {
            return;
        }
        for &address in addresses {
            ctx.step(&self.about(), Step::S9, Some(address));
        }
        self.paths.learn(ctx.now, addresses);
        if self.role == Role::P4
            && let Some(connection) = self.connection_mut()
        {
            connection.ping();
        }
    }

    fn on_refused(&mut self, reason: RefuseReason, ctx: &mut Context<'_>) {
        let error = match reason {
            RefuseReason::NoSuchPeer => ConnectError::NoSuchPeer,
            RefuseReason::NotWelcome => ConnectError::Refused,
            RefuseReason::NoAnswer => ConnectError::NoAnswer { after: ctx.shared.timing.answer_deadline },
            other => ConnectError::RelayRefused(other),
        };
        self.introduction_over(error, ctx);
    }

    fn on_ended(&mut self, ctx: &mut Context<'_>) {
        self.introduction_over(ConnectError::RelayRefused(RefuseReason::PeerLeft), ctx);
    }

    /// The control connection is gone, and every introduction on it.
    pub(super) fn on_relay_lost(&mut self, error: &RelayError, ctx: &mut Context<'_>) {
        if self.is_waiting() && !error.is_final() && !matches!(error, RelayError::Unreachable { .. }) {
            return;
        }
        self.introduction_over(ConnectError::Relay(error.clone()), ctx);
    }

    /// A connection that stands goes on without its introduction; one that does not has failed.
    fn introduction_over(&mut self, error: ConnectError, ctx: &mut Context<'_>) {
        self.introduction = None;
        match self.state {
            State::Waiting | State::Initiated | State::Asking | State::Asked { .. } | State::Handshaking => {
                self.fail(error, ctx);
            }
            State::Established if !self.is_confirmed() && self.paths.direct().is_none() => {
                self.state = State::Closing;
                ctx.events.push_back(PeerEvent::Closed { conn: self.id, reason: CloseReason::Abandoned });
                self.end(ctx.now, VarInt::from_u32(0), Bytes::new());
            }
            State::Established if self.options.relay_only => {}
            State::Established => {
                if let Some(event) = self.paths.no_more_addresses() {
                    self.on_path_event(event, ctx);
                }
            }
            State::Closing => {}
        }
    }

    /// Whether P4 is known to be connected too: a server is when its handshake ends, a client when it is told so.
    fn is_confirmed(&self) -> bool {
        let told = |connection: &Connection| connection.stats().frame_rx.handshake_done > 0;
        self.role == Role::P4 || self.connection().is_some_and(told)
    }

    pub(super) fn flush(&mut self, control: &mut Connection) {
        match &mut self.introduction {
            Some(Introduction::Client(client)) => client.flush(control),
            Some(Introduction::Server(server)) => server.flush(control),
            None => {}
        }
    }

    /// Ends the introduction with P3, which then stops relaying.
    pub(super) fn leave(&mut self, control: &mut Connection) {
        match self.introduction.take() {
            Some(Introduction::Client(mut client)) => client.close(control),
            Some(Introduction::Server(mut server)) => server.close(control),
            None => {}
        }
    }

    // Packets.

    /// A packet of this session's channel, its header taken off.
    pub(super) fn handle_relayed(
        &mut self,
        ecn: Option<EcnCodepoint>,
        packet: BytesMut,
        ctx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        match &mut self.state {
            State::Asked { early } if early.len() < MAX_EARLY => {
                early.push((ecn, packet));
                Ok(())
            }
            State::Asked { .. } | State::Waiting => Err(DropReason::NotAccepted),
            State::Initiated | State::Asking | State::Handshaking | State::Established | State::Closing => {
                self.handle_quic(ecn, packet, ctx)
            }
        }
    }

    /// A bare packet that carries one of this session's connection IDs.
    pub(super) fn handle_direct(
        &mut self,
        from: SocketAddr,
        ecn: Option<EcnCodepoint>,
        packet: BytesMut,
        ctx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        if self.direct_heard || self.is_closing() {
            return self.handle_quic(ecn, packet, ctx);
        }
        let before = self.authenticated();
        self.handle_quic(ecn, packet, ctx)?;
        if self.authenticated() > before {
            self.direct_heard = true;
            ctx.events.push_back(PeerEvent::DirectHeard { conn: self.id, address: from });
        }
        Ok(())
    }

    /// Frames that QUIC has taken so far, none of which it takes from a packet that is not authentic.
    fn authenticated(&self) -> u64 {
        self.connection().map_or(0, |connection| {
            let rx = connection.stats().frame_rx;
            rx.acks + rx.crypto + rx.ping + rx.stream + rx.datagram + u64::from(rx.handshake_done)
        })
    }

    fn handle_quic(
        &mut self,
        ecn: Option<EcnCodepoint>,
        packet: BytesMut,
        ctx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        match self.quic.handle_datagram(ctx.now, virtual_address(slot(self.id)), ecn, packet) {
            Handled::Connection(_) | Handled::Replied => Ok(()),
            Handled::Dropped(reason) => Err(reason),
            Handled::Incoming(incoming) if self.role == Role::P4 && self.handle.is_none() => {
                self.handle = self.quic.accept(ctx.now, *incoming, None);
                if self.handle.is_some() { Ok(()) } else { Err(DropReason::NotQuic) }
            }
            Handled::Incoming(incoming) => {
                self.quic.ignore(*incoming);
                Err(DropReason::UnknownConnection)
            }
        }
    }

    pub(super) fn handle_probe(
        &mut self,
        from: SocketAddr,
        probe: &ProbeFields,
        now: Instant,
    ) -> Result<(), DropReason> {
        /// Echoes waiting to be sent; a probe that finds the queue full is repeated by its sender.
        const MAX_ECHOES: usize = 16;
        if matches!(self.state, State::Asked { .. } | State::Waiting | State::Closing) || self.options.relay_only {
            return Err(DropReason::NotAccepted);
        }
        let echo = self.paths.on_probe(now, from, probe)?;
        if self.echoes.len() >= MAX_ECHOES {
            return Err(DropReason::QueueFull);
        }
        self.echoes.push_back((from, echo));
        Ok(())
    }

    pub(super) fn handle_echo(
        &mut self,
        from: SocketAddr,
        echo: &ProbeFields,
        ctx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        if self.is_closing() {
            return Err(DropReason::NotAccepted);
        }
        if let Some(event) = self.paths.on_echo(ctx.now, from, echo)? {
            self.on_path_event(event, ctx);
        }
        Ok(())
    }

    fn on_path_event(&mut self, event: PathEvent, ctx: &mut Context<'_>) {
        let p2 = self.role == Role::P2;
        match event {
            PathEvent::Punching(address) => {
                ctx.step(&self.about(), if p2 { Step::S11 } else { Step::S10 }, Some(address));
            }
            PathEvent::Moved { address, .. } => {
                ctx.step(&self.about(), if p2 { Step::S13 } else { Step::S12 }, Some(address));
                self.move_quic(ctx);
            }
            PathEvent::Lost(_) => {
                *ctx.trouble = true;
                self.move_quic(ctx);
            }
            PathEvent::GaveUp(why) => {
                let why = match why {
                    DirectFailure::NoAddress if ctx.cookies_blocked => DirectFailure::NoCookie,
                    other => other,
                };
                ctx.events.push_back(PeerEvent::NotDirect { conn: self.id, why });
            }
        }
    }

    /// QUIC forgets what it knew of the old path, and both ends ping so that both learn the new one.
    fn move_quic(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now;
        if let Some(connection) = self.connection_mut() {
            connection.path_changed(now);
            connection.ping();
        }
        self.path_since = now;
        if matches!(self.state, State::Established) {
            ctx.events.push_back(self.path_event());
        }
    }

    fn path_event(&self) -> PeerEvent {
        PeerEvent::Path { conn: self.id, path: self.path(), rtt: self.paths.rtt() }
    }

    // Time and QUIC's events.

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
        if self.options.relay_only {
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
