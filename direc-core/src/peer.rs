//! P2 and P4: one peer, its registrations at relays, and its sessions with other peers. Dispatch in, drain out.

mod arrivals;
mod binding;
mod bounds;
mod connection;
mod control;
mod cookies;
mod holdings;
mod introduction;
mod introductions;
mod knock;
mod names;
mod nature;
mod registration;
mod renewal;
mod restraint;
mod session;
mod sessions;
mod shared;
mod spares;
mod tunnel;
mod whereabouts;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn_proto::{StreamId, VarInt};

pub use connection::{Connection, ConnectionStats};
pub use nature::{Filtering, Mapping, Nature, PortAssignment, Sighting};

use control::Control;
use nature::Evidence;
use registration::Registration;
use restraint::Restraint;
use session::Session;
use shared::{Shared, Trouble};
use spares::Spares;

use crate::{
    ConfigError, ConnId, ConnectOptions, Consent, Link, MAX_RELAYS, MisuseError, NodeId, PeerConfig, PeerEvent,
    PortMapping, RefuseReason, Transmit, Wake, WakeReason,
    drops::Drops,
    paths::Reach,
    quic::{
        cid::CidKey,
        config::{Clock, endpoint},
        tls::Tls,
    },
    rng::Rng,
    turns::Turns,
    wire::{close_code, datagram::Tag, message::Register},
};

/// Sessions at once: connections, and offers under way. Further offers are refused, further connects fail.
const MAX_SESSIONS: usize = 4096;
/// A wake-up that comes later than this was slept through.
const OVERSLEPT: Duration = Duration::from_secs(3);
/// Code and reason with which a peer that shuts down closes its connections.
const GOODBYE: (VarInt, &[u8]) = (VarInt::from_u32(close_code::GOODBYE), b"goodbye");

/// P2 and P4 of the seed: connects to other peers, and accepts connections from them. See the crate's contract.
pub struct Peer {
    id: NodeId,
    consent: Consent,
    shared: Shared,
    /// One for each relay, in the order of the settings.
    relays: Vec<Registration>,
    trouble: Trouble,
    spares: Spares,
    restraint: Restraint,
    /// What relays have seen of this peer's NATs.
    evidence: Evidence,
    /// A port of the router's that leads here.
    mapping: Option<PortMapping>,
    /// Shut down, and waiting for the sessions' deliveries and good-byes.
    leaving: bool,
    /// Sessions that have ended since, before what they were to deliver was acknowledged.
    cut_off: usize,
    sessions: BTreeMap<ConnId, Session>,
    next_id: u64,
    /// Cookie Z of each offer that is being asked for: it goes out once P4 has accepted.
    offered: BTreeMap<ConnId, [u8; 16]>,
    /// What sessions are found by: an introduction's stream, a channel, both with the relay's number, and a tag.
    by_stream: BTreeMap<(usize, StreamId), ConnId>,
    by_channel: BTreeMap<(usize, u64), ConnId>,
    by_tag: BTreeMap<Tag, ConnId>,
    /// Each session's streams and channels that are entered there.
    entered: BTreeMap<ConnId, Vec<(usize, StreamId, u64)>>,
    dirty: BTreeSet<ConnId>,
    sending: Turns<ConnId>,
    timers: BTreeSet<(Instant, ConnId, WakeReason)>,
    timer_of: BTreeMap<ConnId, (Instant, WakeReason)>,
    events: VecDeque<PeerEvent>,
    drops: Drops,
    rng: Rng,
    scratch: Vec<u8>,
    now: Instant,
    /// When this peer's socket last sent anything.
    sent_at: Instant,
    /// When this peer last said that it wanted to be woken.
    due: Option<Instant>,
}

impl Peer {
    /// A peer that begins to register at its relay. `seed` is secret: whoever knows it knows the cookies.
    ///
    /// # Errors
    /// [`ConfigError`] if the crypto provider lacks TLS 1.3 with AES-128-GCM, or a setting is out of range.
    pub fn new(config: PeerConfig, seed: [u8; 32], now: Instant) -> Result<Self, ConfigError> {
        config.transport.check()?;
        if !(1..=MAX_RELAYS).contains(&config.relays.len()) {
            return Err(ConfigError::Setting("a peer has 1 to 4 relays"));
        }
        let mut rng = Rng::new(seed);
        let cids = CidKey::new(&mut rng).ok_or_else(|| ConfigError::Crypto("no AES-128".into()))?;
        let tls = Tls { identity: config.identity.clone(), crypto: config.crypto, key_log: config.key_log };
        let patience = config.timing.relay_deadline;
        let register = control::registration(&config.consent, rng.bytes());
        let mut relays = Vec::new();
        for (index, &relay) in config.relays.iter().enumerate() {
            let mut rng = rng.fork();
            let endpoint = endpoint(control::slot(index), &cids, &mut rng);
            let token = config.tokens.get(index).cloned().flatten();
            let register = Register { token, ..register.clone() };
            let mut control = Control::new(relay, tls.clone(), register, patience, endpoint, rng, now)?;
            if config.tunnels.get(index).is_some_and(|&can| can) {
                control.allow_tunnel(index as u32);
            }
            if config.renewable.get(index).is_some_and(|&can| can) {
                control.allow_renewal();
            }
            relays.push(Registration::new(control, relay.address));
        }
        let addresses: Vec<SocketAddr> = config.relays.iter().map(|relay| relay.address).collect();
        let evidence = Evidence::new(&addresses);
        Ok(Self {
            id: config.identity.id(),
            consent: config.consent,
            shared: Shared {
                tls,
                cids,
                clock: Clock::new(now),
                reach: Reach::new(addresses, config.nat64),
                timing: config.timing,
                transport: config.transport,
                techniques: config.techniques,
            },
            relays,
            trouble: Trouble::default(),
            spares: Spares::default(),
            restraint: Restraint::default(),
            evidence,
            mapping: None,
            leaving: false,
            cut_off: 0,
            sessions: BTreeMap::new(),
            next_id: 1,
            offered: BTreeMap::new(),
            by_stream: BTreeMap::new(),
            by_channel: BTreeMap::new(),
            by_tag: BTreeMap::new(),
            entered: BTreeMap::new(),
            dirty: BTreeSet::new(),
            sending: Turns::default(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            events: VecDeque::new(),
            drops: Drops::default(),
            rng,
            scratch: Vec::new(),
            now,
            sent_at: now,
            due: None,
        })
    }

    /// This peer's ID.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Whether a relay knows this peer now.
    pub fn is_registered(&self) -> bool {
        self.relays.iter().any(|relay| relay.control.is_registered())
    }

    /// Whether registered, and a relay has confirmed this peer's addresses.
    pub fn is_warm(&self) -> bool {
        self.relays.iter().any(|relay| relay.warm)
    }

    /// What stands between this peer and the world, as far as is known now. [`PeerEvent::Nature`] tells of changes.
    pub fn nature(&self) -> Nature {
        self.evidence.nature()
    }

    /// The relays that know this peer now, each with its round trip, in the order of the settings.
    pub fn relay_distances(&self) -> Vec<(SocketAddr, Duration)> {
        self.relays.iter().filter_map(|relay| relay.control.distance()).collect()
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
        if self.leaving || self.relays.iter().all(|relay| relay.control.is_over()) {
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

    /// Closes all connections and leaves the relays; drive on until [`Self::is_drained`], a few round trips.
    pub fn shutdown(&mut self, now: Instant) {
        self.advance(now);
        let conns: Vec<ConnId> = self.sessions.keys().copied().collect();
        for conn in conns {
            self.close(conn, GOODBYE.0, Bytes::from_static(GOODBYE.1));
        }
        self.start_leaving();
    }

    /// As [`Self::shutdown`], but each connection closes as soon as [`Connection::is_delivered`], or at `by` if that is
    /// earlier. Nobody can connect from here on. [`Self::shutdown`] still closes everything at once.
    pub fn shutdown_when_delivered(&mut self, now: Instant, by: Instant) {
        self.advance(now);
        let conns: Vec<ConnId> = self.sessions.keys().copied().collect();
        for conn in conns {
            self.close_when_delivered(conn, by, GOODBYE.0, Bytes::from_static(GOODBYE.1));
        }
        self.start_leaving();
    }

    fn start_leaving(&mut self) {
        // The relays must still pass on the sessions' good-byes: they are left once those are over.
        self.leaving = true;
        if !self.is_delivering() {
            self.relays.iter_mut().for_each(Registration::rest);
        }
        if self.sessions.is_empty() {
            self.leave_relays();
        }
    }

    /// Whether connections are still there after a shutdown, because what was finished on them is not acknowledged.
    pub fn is_delivering(&self) -> bool {
        self.leaving && self.sessions.values().any(|session| !session.is_closing())
    }

    /// Connections that have ended since the shutdown began, before what was finished on them was acknowledged.
    pub fn undelivered(&self) -> usize {
        self.cut_off + self.sessions.values().filter(|session| self.leaving && session.is_cut_off()).count()
    }

    /// Whether everything is closed and said.
    pub fn is_drained(&self) -> bool {
        self.sessions.is_empty() && self.relays.iter().all(|relay| relay.control.is_drained())
    }

    fn leave_relays(&mut self) {
        for relay in &mut self.relays {
            relay.rest();
            relay.control.shutdown(self.now);
        }
    }

    fn new_conn(&mut self) -> ConnId {
        let conn = ConnId(self.next_id);
        self.next_id += 1;
        conn
    }

    // In: datagrams in `arrivals.rs`, and time.

    /// Does what time has made due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        for relay in 0..self.relays.len() {
            self.relays[relay].control.handle_timeout(now);
            self.refresh(relay);
            while let Some((purpose, outcome)) = self.relays[relay].cookies.poll_expired(now) {
                self.on_cookie(relay, purpose, outcome);
            }
            self.drive_knock(relay);
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
        // Nobody came when this peer wanted to be woken: its process was stopped, or its machine asleep. What has gone
        // unanswered meanwhile proves nothing.
        if self.due.take().is_some_and(|due| due + OVERSLEPT < self.now) {
            self.start_over();
        }
    }

    // Out.

    /// Writes the next datagrams to send into `buf`, which is cleared first; `None` when there are none.
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        self.advance(now);
        self.drive();
        buf.clear();
        let mut out = self.next_transmit(now, buf)?;
        if out.link == Link::Main {
            self.sent_at = self.now;
        }
        if !matches!(out.link, Link::Tunnel(_)) {
            out.remote = self.shared.reach.outward(out.remote);
        }
        Some(out)
    }

    fn next_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        for relay in &mut self.relays {
            let control = relay.control.poll_transmit(now, buf);
            if control.is_some() {
                return control;
            }
            let cookies = relay.cookies.poll_transmit(now, buf);
            if let Some(out) = cookies.or_else(|| relay.knock.cookies.poll_transmit(now, buf)) {
                return Some(out);
            }
        }
        while let Some(conn) = self.sending.first() {
            let mut scratch = std::mem::take(&mut self.scratch);
            let (sessions, mut ctx) = self.context();
            let out = sessions.get_mut(&conn).and_then(|session| session.poll_transmit(&mut ctx, &mut scratch, buf));
            self.scratch = scratch;
            if let Some(out) = out {
                // Sending sets timers; the session goes to the back, so that none starves the others.
                self.dirty.insert(conn);
                self.sending.rotate();
                return Some(self.by_way(out));
            }
            let session = self.sessions.get(&conn);
            if let Some(paced) = session.filter(|session| session.is_paced()) {
                let timer = paced.poll_timeout(now);
                self.set_timer(conn, timer);
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
        let wake = self.next_wake();
        self.due = wake.map(|wake| wake.at);
        wake
    }

    fn next_wake(&self) -> Option<Wake> {
        let queued = |relay: &Registration| {
            relay.control.is_queued() || relay.cookies.is_queued() || relay.knock.cookies.is_queued()
        };
        if !self.dirty.is_empty() || !self.sending.is_empty() || self.relays.iter().any(queued) {
            return Some(Wake { at: self.now, why: WakeReason::Queued });
        }
        let idle = self.sessions.is_empty();
        let relays = self.relays.iter().flat_map(|relay| {
            let (quic, own) = relay.control.poll_timeout();
            [
                quic.map(|at| (at, WakeReason::Control)),
                own.map(|at| (at, WakeReason::Reconnect)),
                relay.refresh_due().map(|at| (at, WakeReason::Cookie)),
                relay.cookies.poll_timeout().map(|at| (at, WakeReason::Cookie)),
                relay.knock_due(idle).map(|at| (at, WakeReason::Cookie)),
                relay.knock.cookies.poll_timeout().map(|at| (at, WakeReason::Cookie)),
            ]
        });
        let session = self.timers.first().map(|&(at, _, why)| (at, why));
        relays.flatten().chain(session).min().map(|(at, why)| Wake { at, why })
    }

    // Inside.

    /// Drives everything that something happened to, until all is quiet.
    fn drive(&mut self) {
        loop {
            let mut quiet = self.dirty.is_empty();
            for relay in 0..self.relays.len() {
                for event in self.relays[relay].control.drive(self.now) {
                    quiet = false;
                    self.on_control(relay, event);
                }
            }
            while let Some(conn) = self.dirty.pop_first() {
                self.drive_session(conn);
            }
            self.heed_trouble();
            self.leave_draining();
            if quiet {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
