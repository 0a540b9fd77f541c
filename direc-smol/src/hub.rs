//! Where a peer's events go: from direc-core's one queue to the tasks that wait for them.

mod conn;
mod names;
mod relay_state;
mod renewal;
mod streams;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use bytes::{Bytes, BytesMut};
pub(crate) use conn::{Conn, PathCursor};
use direc_core::{
    Arrival, CloseReason, ConnId, ConnectError, ConnectOptions, ConnectionStats, Link, MisuseError, NodeId, Path,
    PathStatus, Peer, PeerEvent, RelayAddress, RelayError, Role, Transmit,
    quic_types::{StreamEvent, VarInt},
};
pub(crate) use relay_state::Away;
use relay_state::RelayStates;
pub(crate) use streams::End;

use crate::{
    connection::{ConnectionStatus, DELIVERY_LIMIT},
    feed::Feed,
    https::Wishes,
    news::PeerNews,
    node::Machine,
    signal::{Bell, PeerSignals, Signals, Wakes},
};

/// Connections that may wait for `accept`; later ones are closed. A program that does not accept should not set its
/// consent so that they come.
const WAITING_CONNECTIONS: usize = 256;
/// Offers that may wait for `offered`; later ones are refused. The relay lets fewer through.
const WAITING_OFFERS: usize = 64;
/// Code and reason with which a connection is closed that nobody accepts.
const BUSY: (u32, &[u8]) = (0, b"too many connections wait to be accepted");

/// direc-core's peer, and everything that its events are waited for with.
pub(crate) struct PeerMachine {
    pub(crate) core: Peer,
    pub(crate) relays: RelayStates,
    /// Where the relays are and who, the preferred one first.
    addresses: Vec<RelayAddress>,
    names: names::Questions,
    pub(crate) feed: Feed<PeerNews>,
    pub(crate) signals: Arc<PeerSignals>,
    /// The socket's local address.
    pub(crate) bound: SocketAddr,
    /// Where machines on the same networks reach it.
    pub(crate) nearby: Vec<SocketAddr>,
    pub(crate) wishes: Arc<Wishes>,
    /// Connections that stand, or have ended and still have handles.
    conns: BTreeMap<ConnId, Conn>,
    attempts: BTreeMap<ConnId, Attempt>,
    incoming: VecDeque<ConnId>,
    offers: VecDeque<(ConnId, NodeId)>,
    /// Offers that the program thinks about. Each is rung for when it goes away, and not in here any more.
    considered: BTreeMap<ConnId, Arc<Bell>>,
    /// Spare sockets that may be closed.
    retired: Vec<Link>,
    life: Life,
}

/// How far a shutdown has got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Here,
    /// Nothing new comes. What was finished may still be delivered.
    Leaving,
    /// The driver has ended.
    Gone,
}

/// A `connect` that is waited for.
struct Attempt {
    outcome: Option<Result<(), ConnectError>>,
    done: Arc<Bell>,
}

/// What a new handle needs to know of its connection.
pub(crate) struct Standing {
    pub(crate) conn: ConnId,
    pub(crate) peer: NodeId,
    pub(crate) role: Role,
    pub(crate) path: Path,
    pub(crate) signals: Arc<Signals>,
    pub(crate) stats: ConnectionStats,
}

/// What became of waiting for something that a shutdown ends.
pub(crate) enum Next<T> {
    Some(T),
    Over,
}

impl PeerMachine {
    /// Around a peer that registers at these relays, on a socket that is bound so.
    pub(crate) fn new(core: Peer, relays: &[RelayAddress], bound: SocketAddr) -> Self {
        Self {
            core,
            relays: RelayStates::new(Instant::now(), relays.iter().map(|relay| relay.address)),
            addresses: relays.to_vec(),
            names: names::Questions::new(),
            feed: Feed::new(),
            signals: Arc::default(),
            bound,
            nearby: Vec::new(),
            wishes: Arc::default(),
            conns: BTreeMap::new(),
            attempts: BTreeMap::new(),
            incoming: VecDeque::new(),
            offers: VecDeque::new(),
            considered: BTreeMap::new(),
            retired: Vec::new(),
            life: Life::Here,
        }
    }

    /// Starts an attempt; the bell tells when [`Self::outcome`] has something to say.
    pub(crate) fn connect(
        &mut self,
        now: Instant,
        peer: NodeId,
        options: ConnectOptions,
    ) -> Result<(ConnId, Arc<Bell>), ConnectError> {
        let conn = self.core.connect(now, peer, options).map_err(|error| match error {
            // By the program, or because the relay will not have this peer: then that is what to tell.
            MisuseError::ShutDown => ConnectError::Relay(self.relays.last_word()),
            _ => ConnectError::Limit,
        })?;
        let done = Arc::<Bell>::default();
        self.attempts.insert(conn, Attempt { outcome: None, done: done.clone() });
        Ok((conn, done))
    }

    /// How the attempt ended, once.
    pub(crate) fn outcome(&mut self, conn: ConnId) -> Option<Result<Standing, ConnectError>> {
        let outcome = match self.attempts.get_mut(&conn) {
            Some(attempt) => attempt.outcome.take()?,
            None => Err(ConnectError::Closed(CloseReason::Locally)),
        };
        self.attempts.remove(&conn);
        Some(outcome.and_then(|()| self.standing(conn).ok_or(ConnectError::Closed(CloseReason::Locally))))
    }

    fn standing(&self, conn: ConnId) -> Option<Standing> {
        let entry = self.conns.get(&conn)?;
        Some(Standing {
            conn,
            peer: entry.peer,
            role: entry.role,
            path: entry.path,
            signals: entry.signals.clone(),
            stats: entry.last_stats,
        })
    }

    /// Nobody waits for the attempt any more, or nobody has the connection any more: it delivers what was finished, and
    /// is not listed while it does.
    pub(crate) fn release(&mut self, now: Instant, conn: ConnId) {
        self.attempts.remove(&conn);
        self.conns.remove(&conn);
        if let Some(mut connection) = self.core.connection(conn) {
            connection.close_when_delivered(now, now + DELIVERY_LIMIT, VarInt::from_u32(0), Bytes::new());
        }
    }

    pub(crate) fn close(&mut self, now: Instant, conn: ConnId, code: u32, reason: Bytes) {
        if let Some(mut connection) = self.core.connection(conn) {
            connection.close(now, VarInt::from_u32(code), reason);
        }
    }

    pub(crate) fn next_incoming(&mut self) -> Option<Next<Standing>> {
        while let Some(conn) = self.incoming.pop_front() {
            if let Some(standing) = self.standing(conn) {
                return Some(Next::Some(standing));
            }
        }
        self.is_over().then_some(Next::Over)
    }

    /// The next offer; the bell is rung when it has gone away ([`Self::is_considered`]).
    pub(crate) fn next_offer(&mut self) -> Option<Next<(ConnId, NodeId, Arc<Bell>)>> {
        match self.offers.pop_front() {
            Some((conn, peer)) => {
                let gone = Arc::<Bell>::default();
                self.considered.insert(conn, gone.clone());
                Some(Next::Some((conn, peer, gone)))
            }
            None => self.is_over().then_some(Next::Over),
        }
    }

    /// Whether an offer that was given out can still be answered.
    pub(crate) fn is_considered(&self, conn: ConnId) -> bool {
        self.considered.contains_key(&conn)
    }

    pub(crate) fn answer(&mut self, now: Instant, conn: ConnId, accept: bool) {
        self.considered.remove(&conn);
        if let Err(error) = self.core.answer(now, conn, accept) {
            // It has gone meanwhile; who made it has been told.
            log::debug!("an offer could not be answered: {error}");
        }
    }

    pub(crate) fn conn(&self, conn: ConnId) -> Option<&Conn> {
        self.conns.get(&conn)
    }

    /// All paths of a connection; none once it has ended.
    pub(crate) fn paths(&mut self, conn: ConnId) -> Vec<PathStatus> {
        // The core knows it for some round trips longer.
        let stands = self.conns.get(&conn).is_some_and(|entry| entry.closed.is_none());
        let connection = if stands { self.core.connection(conn) } else { None };
        connection.map(|connection| connection.paths()).unwrap_or_default()
    }

    /// All connections that stand.
    pub(crate) fn connections(&mut self) -> Vec<ConnectionStatus> {
        let standing = self.conns.iter().filter(|(_, entry)| entry.closed.is_none());
        let mut shown: Vec<_> = standing.map(|(&conn, entry)| entry.status(conn)).collect();
        for status in &mut shown {
            status.paths = self.paths(status.conn);
        }
        shown
    }

    /// Nothing new comes.
    fn is_over(&self) -> bool {
        self.life != Life::Here
    }

    /// The port to be mapped, as long as this peer is there or still delivers.
    pub(crate) fn port(&self) -> Option<u16> {
        let wanted = match self.life {
            Life::Here => true,
            Life::Leaving => self.core.is_delivering(),
            Life::Gone => false,
        };
        wanted.then(|| self.bound.port())
    }

    fn on_event(&mut self, now: Instant, event: PeerEvent, wakes: &mut Wakes) {
        match event {
            PeerEvent::Registered { relay } => {
                self.relays.on_registered(relay);
                self.on_relay(now, PeerNews::Registered { relay }, wakes);
            }
            PeerEvent::Warm { relay } => {
                self.relays.on_warm(relay);
                self.on_relay(now, PeerNews::Warm { relay }, wakes);
            }
            PeerEvent::Unanswered { relay } => {
                self.relays.on_unanswered(relay);
                self.on_relay(now, PeerNews::Unanswered { relay }, wakes);
            }
            PeerEvent::RelayLost { relay, error } => {
                self.relays.on_lost(now, relay, &error);
                self.on_relay(now, PeerNews::RelayLost { relay, error }, wakes);
            }
            PeerEvent::RelayDraining { relay, within } => {
                self.feed.publish(now, &PeerNews::RelayDraining { relay, within }, wakes);
            }
            PeerEvent::OverQuota { relay, reason, rate, dropped } => {
                self.feed.publish(now, &PeerNews::OverQuota { relay, reason, rate, dropped }, wakes);
            }
            PeerEvent::Resolved { relay, name, id, refused } => {
                self.on_resolved(relay, &name, refused.map_or(Ok(id), Err));
                wakes.ring(&self.signals.relay);
            }
            PeerEvent::Tunnel { relay, wanted } => self.wishes.set(relay, wanted, wakes),
            PeerEvent::Way { relay, link } => {
                let tunnel = link != Link::Main;
                self.feed.publish(now, &PeerNews::Way { relay, tunnel }, wakes);
            }
            PeerEvent::Observed { port, address } => {
                self.feed.publish(now, &PeerNews::Observed { port, address }, wakes);
            }
            PeerEvent::Nature(nature) => self.feed.publish(now, &PeerNews::Nature(nature), wakes),
            PeerEvent::PortMapping(mapping) => self.feed.publish(now, &PeerNews::PortMapping(mapping), wakes),
            PeerEvent::Step(step) => self.feed.publish(now, &PeerNews::Step(step), wakes),
            PeerEvent::Asking { peer, .. } => self.feed.publish(now, &PeerNews::Asking { peer }, wakes),
            PeerEvent::Offered { conn, peer } => self.on_offered(now, conn, peer, wakes),
            PeerEvent::Connected { conn, role, path, .. } => self.on_connected(now, conn, role, path, wakes),
            PeerEvent::Failed { conn, error } => self.on_failed(conn, error, wakes),
            PeerEvent::Closed { conn, reason } => {
                if let Some(entry) = self.conns.get_mut(&conn) {
                    entry.on_closed(reason, self.core.connection(conn), wakes);
                }
            }
            PeerEvent::Stream { conn, event } => self.on_stream(conn, event, wakes),
            PeerEvent::Path { conn, .. }
            | PeerEvent::NotDirect { conn, .. }
            | PeerEvent::DirectHeard { conn, .. }
            | PeerEvent::DatagramReceived { conn }
            | PeerEvent::DatagramsUnblocked { conn } => {
                if let Some(entry) = self.conns.get_mut(&conn) {
                    entry.on_event(now, event, wakes);
                }
            }
            PeerEvent::LinkRetired { link } => self.retired.push(link),
            other => log::debug!("an event this version does not know: {other:?}"),
        }
    }

    /// A registration has changed.
    fn on_relay(&mut self, now: Instant, news: PeerNews, wakes: &mut Wakes) {
        self.feed.publish(now, &news, wakes);
        wakes.ring(&self.signals.relay);
    }

    fn on_offered(&mut self, now: Instant, conn: ConnId, peer: NodeId, wakes: &mut Wakes) {
        if self.is_over() || self.offers.len() >= WAITING_OFFERS {
            self.answer(now, conn, false);
            return;
        }
        self.offers.push_back((conn, peer));
        wakes.ring(&self.signals.offer);
    }

    fn on_connected(&mut self, now: Instant, conn: ConnId, role: Role, path: Path, wakes: &mut Wakes) {
        match self.core.connection(conn) {
            Some(connection) => self.conns.insert(conn, Conn::new(now, &connection, path)),
            // It ended, and was forgotten, before this event was looked at.
            None => return self.on_failed(conn, ConnectError::Closed(CloseReason::Locally), wakes),
        };
        if role == Role::P2 {
            match self.attempts.get_mut(&conn) {
                Some(attempt) => attempt.succeed(wakes),
                // Given up at the very moment.
                None => self.release(now, conn),
            }
        } else if self.is_over() || self.incoming.len() >= WAITING_CONNECTIONS {
            self.close(now, conn, BUSY.0, Bytes::from_static(BUSY.1));
            self.conns.remove(&conn);
        } else {
            self.incoming.push_back(conn);
            wakes.ring(&self.signals.incoming);
        }
    }

    fn on_stream(&mut self, conn: ConnId, event: StreamEvent, wakes: &mut Wakes) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        let ends = matches!(event, StreamEvent::Finished { .. } | StreamEvent::Stopped { .. });
        entry.on_stream(event, wakes);
        if ends && self.core.connection(conn).is_some_and(|connection| connection.is_delivered()) {
            wakes.ring(&entry.signals.delivered);
        }
    }

    fn on_failed(&mut self, conn: ConnId, error: ConnectError, wakes: &mut Wakes) {
        self.offers.retain(|&(offered, _)| offered != conn);
        self.considered.remove(&conn).iter().for_each(|gone| wakes.ring(gone));
        match self.attempts.get_mut(&conn) {
            Some(attempt) => attempt.fail(error, wakes),
            None => log::debug!("an offer came to nothing: {error}"),
        }
    }
}

impl Attempt {
    fn succeed(&mut self, wakes: &mut Wakes) {
        self.outcome = Some(Ok(()));
        wakes.ring(&self.done);
    }

    fn fail(&mut self, error: ConnectError, wakes: &mut Wakes) {
        self.outcome.get_or_insert(Err(error));
        wakes.ring(&self.done);
    }
}

impl Machine for PeerMachine {
    fn handle_datagram(&mut self, now: Instant, arrival: Arrival, data: BytesMut) {
        self.core.handle_datagram(now, arrival, data);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.core.handle_timeout(now);
    }

    fn poll_transmit(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<Transmit> {
        self.core.poll_transmit(now, buffer)
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.core.poll_timeout().map(|wake| wake.at)
    }

    fn tunnel_up(&mut self, now: Instant, number: u32, _remote: SocketAddr) {
        self.core.tunnel_up(now, number as usize);
    }

    fn tunnel_lost(&mut self, now: Instant, number: u32) {
        self.core.tunnel_lost(now, number as usize);
    }

    fn network_changed(&mut self, now: Instant, bound: SocketAddr, local: Vec<SocketAddr>, wakes: &mut Wakes) {
        self.bound = bound;
        self.core.network_changed(now, &local);
        self.nearby.clone_from(&local);
        wakes.ring(&self.signals.network);
        self.feed.publish(now, &PeerNews::NetworkChanged { bound, local }, wakes);
    }

    fn dispatch(&mut self, now: Instant, wakes: &mut Wakes) {
        while let Some(event) = self.core.poll_event() {
            self.on_event(now, event, wakes);
        }
    }

    fn take_retired(&mut self) -> Vec<Link> {
        std::mem::take(&mut self.retired)
    }

    fn shutdown(&mut self, now: Instant, wakes: &mut Wakes) {
        self.core.shutdown_when_delivered(now, now + DELIVERY_LIMIT);
        self.life = Life::Leaving;
        self.relays.on_shut_down(Instant::now());
        self.signals.ring_all(wakes);
    }

    fn is_delivering(&self) -> bool {
        self.core.is_delivering()
    }

    fn is_drained(&self) -> bool {
        self.core.is_drained()
    }

    fn ended(&mut self, wakes: &mut Wakes) {
        self.life = Life::Gone;
        self.relays.on_shut_down(Instant::now());
        self.feed.close(wakes);
        for attempt in self.attempts.values_mut() {
            attempt.fail(ConnectError::Relay(RelayError::ShutDown), wakes);
        }
        std::mem::take(&mut self.considered).values().for_each(|gone| wakes.ring(gone));
        for (&conn, entry) in self.conns.iter_mut().filter(|(_, entry)| entry.closed.is_none()) {
            entry.on_closed(CloseReason::Locally, self.core.connection(conn), wakes);
        }
        self.signals.ring_all(wakes);
    }
}
