//! P2 and P4: one peer, its control connection to P3, and its sessions with other peers. Dispatch in, drain out.

mod connection;
mod control;
mod cookies;
mod introduction;
mod introductions;
mod registration;
mod session;
mod shared;

pub(crate) use control::close_code;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn_proto::{EcnCodepoint, StreamId, VarInt};

pub use connection::{Connection, ConnectionStats};

use control::Control;
use cookies::Cookies;
use introduction::server::Opened;
use session::Session;
use shared::{Context, Shared};

use crate::{
    Arrival, ConfigError, ConnId, ConnectOptions, Consent, Link, MisuseError, NodeId, PeerConfig, PeerEvent,
    RefuseReason, Transmit, Wake, WakeReason,
    drops::{DropReason, Drops},
    quic::{cid::CidKey, config::Clock, tls::Tls},
    rng::Rng,
    turns::Turns,
    wire::datagram::{Datagram, RELAYED_HEADER, Tag},
};

/// Sessions at once: connections, and offers under way. Further offers are refused, further connects fail.
const MAX_SESSIONS: usize = 4096;
/// Most equal datagrams written at once, so that they fit one UDP payload.
const MAX_BATCH: usize = 44;

/// P2 and P4 of the seed: connects to other peers, and accepts connections from them. See the crate's contract.
pub struct Peer {
    id: NodeId,
    consent: Consent,
    shared: Shared,
    control: Control,
    cookies: Cookies,
    /// Registered, and the registration's cookies have arrived.
    warm: bool,
    cookies_blocked: bool,
    refresh_at: Option<Instant>,
    /// A direct path has died: this peer's own address may have changed.
    trouble: bool,
    /// Shut down, and waiting for the sessions' good-byes.
    leaving: bool,
    sessions: BTreeMap<ConnId, Session>,
    next_id: u64,
    /// Streams that P3 opened and has not said anything on.
    opened: BTreeMap<StreamId, Opened>,
    /// Cookie Z of each offer that is being asked for: it goes out once P4 has accepted.
    offered: BTreeMap<ConnId, [u8; 16]>,
    by_stream: BTreeMap<StreamId, ConnId>,
    by_channel: BTreeMap<u64, ConnId>,
    by_tag: BTreeMap<Tag, ConnId>,
    dirty: BTreeSet<ConnId>,
    sending: Turns<ConnId>,
    timers: BTreeSet<(Instant, ConnId, WakeReason)>,
    timer_of: BTreeMap<ConnId, (Instant, WakeReason)>,
    events: VecDeque<PeerEvent>,
    drops: Drops,
    rng: Rng,
    scratch: Vec<u8>,
    now: Instant,
}

impl Peer {
    /// A peer that begins to register at its relay. `seed` is secret: whoever knows it knows the cookies.
    ///
    /// # Errors
    /// [`ConfigError`] if the crypto provider lacks TLS 1.3 with AES-128-GCM, or a setting is out of range.
    pub fn new(config: PeerConfig, seed: [u8; 32], now: Instant) -> Result<Self, ConfigError> {
        if !(1..=MAX_BATCH).contains(&config.transport.max_batch) {
            return Err(ConfigError::Setting("max_batch must be 1 to 44"));
        }
        let mut rng = Rng::new(seed);
        let cids = CidKey::new(&mut rng).ok_or_else(|| ConfigError::Crypto("no AES-128".into()))?;
        let tls = Tls { identity: config.identity.clone(), crypto: config.crypto, key_log: config.key_log };
        let patience = config.timing.relay_deadline;
        let Some(&relay) = config.relays.first() else {
            return Err(ConfigError::Setting("a peer needs a relay"));
        };
        let control = Control::new(relay, tls.clone(), &config.consent, patience, &cids, rng.fork(), now)?;
        let relay = relay.address;
        Ok(Self {
            id: config.identity.id(),
            consent: config.consent,
            shared: Shared {
                tls,
                cids,
                clock: Clock::new(now),
                relay,
                timing: config.timing,
                transport: config.transport,
            },
            control,
            cookies: Cookies::new(relay.ip()),
            warm: false,
            cookies_blocked: false,
            refresh_at: None,
            trouble: false,
            leaving: false,
            sessions: BTreeMap::new(),
            next_id: 1,
            opened: BTreeMap::new(),
            offered: BTreeMap::new(),
            by_stream: BTreeMap::new(),
            by_channel: BTreeMap::new(),
            by_tag: BTreeMap::new(),
            dirty: BTreeSet::new(),
            sending: Turns::default(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            events: VecDeque::new(),
            drops: Drops::default(),
            rng,
            scratch: Vec::new(),
            now,
        })
    }

    /// This peer's ID.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Whether the relay knows this peer now.
    pub fn is_registered(&self) -> bool {
        self.control.is_registered()
    }

    /// Whether registered, and the relay has confirmed this peer's addresses.
    pub fn is_warm(&self) -> bool {
        self.warm
    }

    /// Datagrams dropped, by reason.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    // Commands.

    /// Starts an introduction to `peer` (S1), as soon as this peer is registered.
    ///
    /// It ends in [`PeerEvent::Connected`] or [`PeerEvent::Failed`].
    ///
    /// # Errors
    /// [`MisuseError::ShutDown`] after [`Self::shutdown`].
    pub fn connect(&mut self, now: Instant, peer: NodeId, options: ConnectOptions) -> Result<ConnId, MisuseError> {
        self.advance(now);
        if self.leaving || self.control.is_over() {
            return Err(MisuseError::ShutDown);
        }
        let conn = self.new_conn();
        if self.sessions.len() >= MAX_SESSIONS {
            self.events.push_back(PeerEvent::Failed { conn, error: crate::ConnectError::Limit });
            return Ok(conn);
        }
        let rng = self.rng.fork();
        let session = Session::client(conn, peer, options, &self.context().1, rng);
        self.sessions.insert(conn, session);
        self.initiate(conn);
        Ok(conn)
    }

    /// Answers [`PeerEvent::Offered`] (S6).
    ///
    /// # Errors
    /// [`MisuseError::NoOffer`] if there is no such offer, or not any more.
    pub fn answer(&mut self, now: Instant, conn: ConnId, accept: bool) -> Result<(), MisuseError> {
        self.advance(now);
        if !self.sessions.get(&conn).is_some_and(Session::is_asked) {
            return Err(MisuseError::NoOffer);
        }
        if accept {
            self.accept(conn)
        } else {
            self.refuse(conn, RefuseReason::NotWelcome)
        }
        Ok(())
    }

    /// A connection's handle; `None` if there never was one, or some round trips after it has closed.
    pub fn connection(&mut self, conn: ConnId) -> Option<Connection<'_>> {
        Connection::new(self, conn)
    }

    /// The network under this peer has changed, or may have: another interface, another route, back from sleep.
    ///
    /// `local` are the addresses at which its sockets can be reached on this machine's own networks, with the ports;
    /// the driver says so at the start too. Everything is registered, observed and probed anew over what still works.
    pub fn network_changed(&mut self, now: Instant, _local: &[SocketAddr]) {
        self.advance(now);
        self.trouble = true;
        self.drive();
    }

    /// Closes all connections and leaves the relay; drive on until [`Self::is_drained`], a few round trips.
    pub fn shutdown(&mut self, now: Instant) {
        self.advance(now);
        let conns: Vec<ConnId> = self.sessions.keys().copied().collect();
        for conn in conns {
            self.close(conn, VarInt::from_u32(close_code::GOODBYE), bytes::Bytes::from_static(b"goodbye"));
        }
        self.refresh_at = None;
        self.warm = false;
        // The relay must still pass on the sessions' good-byes: it is left once they are over.
        self.leaving = true;
        if self.sessions.is_empty() {
            self.control.shutdown(now);
        }
    }

    /// Whether everything is closed and said.
    pub fn is_drained(&self) -> bool {
        self.sessions.is_empty() && self.control.is_drained()
    }

    fn new_conn(&mut self) -> ConnId {
        let conn = ConnId(self.next_id);
        self.next_id += 1;
        conn
    }

    // In.

    /// Takes a received buffer: one datagram, or several of one length (GRO).
    pub fn handle_datagram(&mut self, now: Instant, arrival: Arrival, mut data: BytesMut) {
        self.advance(now);
        let stride = arrival.stride.max(1);
        while !data.is_empty() {
            let packet = data.split_to(stride.min(data.len()));
            if let Err(reason) = self.on_datagram(arrival.remote, arrival.ecn, packet) {
                self.drops.count(reason);
            }
        }
        self.drive();
    }

    fn on_datagram(
        &mut self,
        from: SocketAddr,
        ecn: Option<EcnCodepoint>,
        mut packet: BytesMut,
    ) -> Result<(), DropReason> {
        match Datagram::decode(&packet)? {
            Datagram::Quic => self.on_quic(from, ecn, packet),
            Datagram::Relayed { channel } => {
                let known = (from == self.shared.relay).then(|| self.by_channel.get(&channel).copied()).flatten();
                let conn = known.ok_or(DropReason::UnknownChannel)?;
                let packet = packet.split_off(RELAYED_HEADER);
                self.with_session(conn, |session, ctx| session.handle_relayed(ecn, packet, ctx))
                    .unwrap_or(Err(DropReason::UnknownChannel))
            }
            Datagram::Probe(probe) | Datagram::Check(probe) => {
                let conn = self.by_tag.get(&probe.tag).copied().ok_or(DropReason::BadProbe)?;
                self.with_session(conn, |session, ctx| session.handle_probe(from, &probe, ctx.now))
                    .unwrap_or(Err(DropReason::BadProbe))
            }
            Datagram::ProbeEcho(echo) => {
                let conn = self.by_tag.get(&echo.tag).copied().ok_or(DropReason::BadProbe)?;
                self.with_session(conn, |session, ctx| session.handle_echo(from, &echo, ctx))
                    .unwrap_or(Err(DropReason::BadProbe))
            }
            Datagram::Echo(cookie, token) => self.cookies.on_echo(from, cookie, token),
            // Only a relay takes these.
            Datagram::Cookie(_) | Datagram::Confirm(..) => Err(DropReason::UnknownType),
        }
    }

    /// A bare QUIC packet: its connection ID says whose.
    fn on_quic(&mut self, from: SocketAddr, ecn: Option<EcnCodepoint>, packet: BytesMut) -> Result<(), DropReason> {
        let slot = self.shared.cids.slot_of_packet(&packet).ok_or(DropReason::NotQuic)?;
        let conn = ConnId(u64::from(slot));
        // A stateless reset carries no ID of ours (RFC 9000, section 10.3): the relay's would lead nowhere.
        if slot == control::SLOT || (from == self.shared.relay && !self.sessions.contains_key(&conn)) {
            return self.control.handle_datagram(self.now, from, ecn, packet);
        }
        self.with_session(conn, |session, ctx| session.handle_direct(from, ecn, packet, ctx))
            .unwrap_or(Err(DropReason::UnknownConnection))
    }

    /// Does what time has made due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        self.control.handle_timeout(now);
        self.refresh();
        while let Some((purpose, outcome)) = self.cookies.poll_expired(now) {
            self.on_cookie(purpose, outcome);
        }
        while let Some(&(at, conn, _)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            self.timer_of.remove(&conn);
            self.with_session(conn, |session, ctx| session.handle_timeout(ctx));
        }
        self.drive();
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.shared.clock.set(self.now);
    }

    // Out.

    /// Writes the next datagrams to send into `buf`, which is cleared first; `None` when there are none.
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        self.advance(now);
        self.drive();
        buf.clear();
        if let Some(out) = self.control.poll_transmit(now, buf) {
            let (remote, ecn) = (out.destination, out.ecn);
            return Some(Transmit { link: Link::MAIN, remote, ecn, size: buf.len(), segment_size: None });
        }
        if let Some(out) = self.cookies.poll_transmit(now, buf) {
            return Some(out);
        }
        while let Some(conn) = self.sending.first() {
            let mut scratch = std::mem::take(&mut self.scratch);
            let (sessions, mut ctx) = self.context();
            let out = sessions.get_mut(&conn).and_then(|session| session.poll_transmit(&mut ctx, &mut scratch, buf));
            self.scratch = scratch;
            if out.is_some() {
                // Sending sets timers; the session goes to the back, so that none starves the others.
                self.dirty.insert(conn);
                self.sending.rotate();
                return out;
            }
            self.sending.leave();
        }
        // The last thing sent may have set timers.
        self.drive();
        None
    }

    /// The next event; `None` when there are none.
    pub fn poll_event(&mut self) -> Option<PeerEvent> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next, and what for.
    pub fn poll_timeout(&mut self) -> Option<Wake> {
        let queued = !self.dirty.is_empty() || !self.sending.is_empty() || self.control.is_queued();
        if queued || self.cookies.is_queued() {
            return Some(Wake { at: self.now, why: WakeReason::Queued });
        }
        let (quic, own) = self.control.poll_timeout();
        let refresh = if self.control.is_registered() { self.refresh_at } else { None };
        let session = self.timers.first().map(|&(at, _, why)| (at, why));
        [
            quic.map(|at| (at, WakeReason::Control)),
            own.map(|at| (at, WakeReason::Reconnect)),
            refresh.map(|at| (at, WakeReason::Cookie)),
            self.cookies.poll_timeout().map(|at| (at, WakeReason::Cookie)),
            session,
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|(at, why)| Wake { at, why })
    }

    // Inside.

    fn context(&mut self) -> (&mut BTreeMap<ConnId, Session>, Context<'_>) {
        let ctx = Context {
            now: self.now,
            shared: &self.shared,
            events: &mut self.events,
            cookies_blocked: self.cookies_blocked,
            trouble: &mut self.trouble,
        };
        (&mut self.sessions, ctx)
    }

    fn touch(&mut self, conn: ConnId) {
        self.dirty.insert(conn);
        self.sending.join(conn);
    }

    /// Calls a session, which is then driven and polled again.
    fn with_session<T>(&mut self, conn: ConnId, call: impl FnOnce(&mut Session, &mut Context<'_>) -> T) -> Option<T> {
        let (sessions, mut ctx) = self.context();
        let result = call(sessions.get_mut(&conn)?, &mut ctx);
        self.touch(conn);
        Some(result)
    }

    /// Calls a session with the control connection, as far as both are there; it is then driven and polled again.
    fn with_control<T>(
        &mut self,
        conn: ConnId,
        call: impl FnOnce(&mut Session, &mut quinn_proto::Connection, &mut Context<'_>) -> T,
    ) -> Option<T> {
        self.touch(conn);
        let mut ctx = Context {
            now: self.now,
            shared: &self.shared,
            events: &mut self.events,
            cookies_blocked: self.cookies_blocked,
            trouble: &mut self.trouble,
        };
        let result = call(self.sessions.get_mut(&conn)?, self.control.connection()?, &mut ctx);
        self.index(conn);
        Some(result)
    }

    /// Drives everything that something happened to, until all is quiet.
    fn drive(&mut self) {
        loop {
            let events = self.control.drive(self.now);
            let quiet = events.is_empty() && self.dirty.is_empty();
            for event in events {
                self.on_control(event);
            }
            while let Some(conn) = self.dirty.pop_first() {
                self.drive_session(conn);
            }
            self.heed_trouble();
            if quiet {
                return;
            }
        }
    }

    /// A path that dies is often our own NAT's doing: the registration is refreshed at once, by which P3 sees where we
    /// are now and tells the others (S9).
    fn heed_trouble(&mut self) {
        const AT_MOST_EVERY: Duration = Duration::from_secs(1);
        if std::mem::take(&mut self.trouble)
            && let Some(at) = self.refresh_at
            && at.saturating_duration_since(self.now) + AT_MOST_EVERY <= self.shared.timing.refresh_interval
        {
            self.refresh_at = Some(self.now);
            self.refresh();
        }
    }

    fn drive_session(&mut self, conn: ConnId) {
        let (sessions, mut ctx) = self.context();
        let Some(session) = sessions.get_mut(&conn) else { return };
        session.drive(&mut ctx);
        let (over, leaves, timer) = (session.is_over(), session.may_leave(), session.poll_timeout());
        if session.is_queued() {
            self.sending.join(conn);
        }
        if over {
            self.remove(conn);
        } else {
            self.set_timer(conn, timer);
        }
        if leaves && !over {
            self.leave_introduction(conn);
        }
    }

    /// Ends an introduction with P3.
    fn leave_introduction(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if let Some(id) = session.stream_id() {
            self.by_stream.remove(&id);
        }
        if let Some(connection) = self.control.connection() {
            session.leave(connection);
        }
    }

    fn set_timer(&mut self, conn: ConnId, timer: Option<(Instant, WakeReason)>) {
        let old = self.timer_of.get(&conn).copied();
        if old == timer {
            return;
        }
        if let Some((at, why)) = old {
            self.timers.remove(&(at, conn, why));
            self.timer_of.remove(&conn);
        }
        if let Some((at, why)) = timer {
            self.timers.insert((at, conn, why));
            self.timer_of.insert(conn, (at, why));
        }
    }

    fn remove(&mut self, conn: ConnId) {
        self.set_timer(conn, None);
        self.leave_introduction(conn);
        self.offered.remove(&conn);
        let Some(session) = self.sessions.remove(&conn) else { return };
        self.by_channel.remove(&session.channel());
        if let Some(tag) = session.tag() {
            self.by_tag.remove(&tag);
        }
        if self.leaving && self.sessions.is_empty() {
            self.control.shutdown(self.now);
        }
    }

    /// Enters what a session may be found by.
    fn index(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get(&conn) else { return };
        if let Some(id) = session.stream_id() {
            self.by_stream.insert(id, conn);
            self.by_channel.insert(session.channel(), conn);
        }
        if let Some(tag) = session.tag() {
            self.by_tag.insert(tag, conn);
        }
    }

    fn close(&mut self, conn: ConnId, code: VarInt, reason: bytes::Bytes) {
        self.with_session(conn, |session, ctx| session.close(code, reason, ctx));
    }
}

#[cfg(test)]
mod tests;
