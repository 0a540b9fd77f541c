//! The application on a peer's host: a script that connects, answers offers, and moves bytes that it can verify.

mod deliveries;
mod log;
mod pattern;
mod streams;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use direc_core::{
    Arrival, ConnId, ConnectOptions, Drops, Link, Nature, NodeId, Peer, PeerEvent, RelayAddress, RelayError, Role,
    Transmit, Wake, quic_types::VarInt,
};

use crate::{
    node::{Epoch, Node, earlier},
    trace::What,
};
pub use deliveries::{Deliveries, Gap};
pub use log::{ConnLog, Moved};
use streams::Streams;

/// What an application does with an offer (S5) that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Accepts after this time: a person's, or none.
    Accept(Duration),
    /// Refuses after this time.
    Refuse(Duration),
    /// Never answers.
    Ignore,
}

/// What an application does with a connection. Every other side echoes and verifies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Sends a few bytes on a bi stream at once and waits for their echo.
    pub ping: bool,
    /// Sends this many bytes on a bi stream and verifies their echo.
    pub echo: u64,
    /// Sends this many bytes on a uni stream, for the other side to verify.
    pub upload: u64,
    /// Sends this many datagrams, for the other side to echo.
    pub datagrams: u32,
    /// Sends for some time on a uni stream, for the other side to verify.
    pub flow: Option<Flow>,
}

impl Work {
    /// Whether there is something to send of which one knows when it has arrived.
    pub fn ends(&self) -> bool {
        self.ping || self.echo > 0 || self.upload > 0 || self.flow.is_some()
    }
}

/// Bytes that are sent for some time, however many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// How they come up for sending.
    pub pace: Pace,
    /// For how long, from the start of the work.
    pub lasts: Duration,
}

/// How a flow's bytes come up for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as they are taken.
    Full,
    /// So many bits a second, like a live picture's.
    Rate(u64),
    /// Writes of these lengths, one after the other, each sent at once: a message, its header and its trailer.
    Parts([u16; 3]),
}

/// Something an application does at its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Connects to a peer (S1).
    Connect {
        /// A number to find the connection by.
        tag: usize,
        /// Whom.
        to: NodeId,
        /// How.
        options: ConnectOptions,
        /// What then.
        work: Work,
    },
    /// Answers an offer (S6).
    Answer {
        /// Which.
        conn: ConnId,
        /// How.
        accept: bool,
    },
    /// Does more work on all connections that stand.
    Work(Work),
    /// Closes all connections.
    CloseAll,
    /// Leaves the relay and closes everything.
    Shutdown,
}

/// An application's script and what came of it.
#[derive(Debug)]
pub struct App {
    epoch: Epoch,
    answer: Answer,
    /// What to do with connections that others made to this peer.
    serve: Work,
    /// How often what others send is read; at once if `None`.
    reads_every: Option<Duration>,
    agenda: Vec<(Instant, Command)>,
    conns: BTreeMap<ConnId, ConnLog>,
    streams: BTreeMap<ConnId, Streams>,
    /// When flows have more to send.
    ticks: BTreeMap<ConnId, Duration>,
    registered_at: Option<Duration>,
    warm_at: Option<Duration>,
    /// Each way to a relay, and since when.
    ways: Vec<(Duration, Link)>,
    /// Tunnels that are wanted, or not any more, for the world to see to.
    tunnels: VecDeque<(u32, bool)>,
    /// Relays that have shown another key than theirs, for the run to ask.
    doubts: Vec<SocketAddr>,
}

impl App {
    /// An application that answers offers so, and does this work on connections it accepted.
    pub fn new(epoch: Epoch, answer: Answer, serve: Work) -> Self {
        Self {
            epoch,
            answer,
            serve,
            reads_every: None,
            agenda: Vec::new(),
            conns: BTreeMap::new(),
            streams: BTreeMap::new(),
            ticks: BTreeMap::new(),
            registered_at: None,
            warm_at: None,
            ways: Vec::new(),
            tunnels: VecDeque::new(),
            doubts: Vec::new(),
        }
    }

    /// The same, which reads what others send to it on unidirectional streams only so often; at once if `None`.
    #[must_use]
    pub fn reading_every(self, reads_every: Option<Duration>) -> Self {
        Self { reads_every, ..self }
    }

    /// What came of each connection so far.
    pub fn connections(&self) -> &BTreeMap<ConnId, ConnLog> {
        &self.conns
    }

    /// When the relay first knew this peer.
    pub fn registered_at(&self) -> Option<Duration> {
        self.registered_at
    }

    /// When the registration first was warm.
    pub fn warm_at(&self) -> Option<Duration> {
        self.warm_at
    }

    /// When the way to a relay became another one, and which; UDP in the beginning.
    pub fn ways(&self) -> &[(Duration, Link)] {
        &self.ways
    }

    /// Relays that have shown another key than theirs.
    pub(crate) fn doubts(&self) -> &[SocketAddr] {
        &self.doubts
    }

    pub(crate) fn take_doubts(&mut self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.doubts)
    }

    fn log(&mut self, conn: ConnId) -> &mut ConnLog {
        self.conns.entry(conn).or_default()
    }
}

/// A peer with its application: a node.
pub struct PeerHost {
    /// The peer.
    pub peer: Peer,
    /// The application.
    pub app: App,
}

impl PeerHost {
    /// Puts a command on the agenda, for this time.
    pub fn at(&mut self, when: Instant, command: Command) {
        self.app.agenda.push((when, command));
        // Stable, so commands of one time keep their order.
        self.app.agenda.sort_by_key(|&(at, _)| at);
    }

    /// Carries out a command now.
    pub fn act(&mut self, now: Instant, command: Command) {
        let at = self.app.epoch.time(now);
        match command {
            Command::Connect { tag, to, options, work } => match self.peer.connect(now, to, options) {
                Ok(conn) => {
                    let log = self.app.log(conn);
                    (log.asked_at, log.peer, log.role, log.work) = (Some(at), Some(to), Some(Role::P2), work);
                    log.tag = Some(tag);
                }
                Err(error) => {
                    // There is no connection to hang it on: these numbers no peer reaches.
                    let log = self.app.log(ConnId(u64::MAX - tag as u64));
                    (log.tag, log.asked_at, log.failed) = (Some(tag), Some(at), Some((at, error.to_string())));
                }
            },
            // The offer may have gone by now: nobody's fault.
            Command::Answer { conn, accept } => drop(self.peer.answer(now, conn, accept)),
            Command::Work(work) => {
                let standing: Vec<ConnId> =
                    self.app.conns.iter().filter(|(_, log)| log.stands()).map(|(&conn, _)| conn).collect();
                for conn in standing {
                    self.app.log(conn).add(work);
                    self.start(at, conn, work);
                }
            }
            Command::CloseAll => {
                let all: Vec<ConnId> = self.app.conns.keys().copied().collect();
                for conn in all {
                    if let Some(mut connection) = self.peer.connection(conn) {
                        connection.close(now, VarInt::from_u32(7), "enough".into());
                    }
                }
            }
            Command::Shutdown => self.peer.shutdown(now),
        }
    }

    /// The relay of that index has said by HTTPS that it is there, with this key.
    pub(crate) fn renew(&mut self, now: Instant, index: usize, relay: RelayAddress) {
        // It is one of this peer's, and at its own address.
        drop(self.peer.replace_relay(now, index, relay));
    }

    /// Datagrams that the peer dropped, by reason.
    pub fn drops(&self) -> &Drops {
        self.peer.drops()
    }

    /// What the peer knows of its NATs.
    pub fn nature(&self) -> Nature {
        self.peer.nature()
    }

    fn start(&mut self, at: Duration, conn: ConnId, work: Work) {
        let Some(mut connection) = self.peer.connection(conn) else { return };
        let reads_every = self.app.reads_every;
        let new = || Streams::reading(reads_every, at);
        let (streams, log) =
            (self.app.streams.entry(conn).or_insert_with(new), self.app.conns.entry(conn).or_default());
        streams.start(&mut connection, log, at, work);
        if work.flow.is_some() || reads_every.is_some() {
            self.app.ticks.insert(conn, at);
        }
    }

    /// Lets flows send what has come up since.
    fn tick(&mut self, at: Duration) {
        let due: Vec<ConnId> = self.app.ticks.iter().filter(|&(_, &due)| due <= at).map(|(&conn, _)| conn).collect();
        for conn in due {
            let app = &mut self.app;
            let (streams, log) = (app.streams.entry(conn).or_default(), app.conns.entry(conn).or_default());
            let next = self.peer.connection(conn).and_then(|mut connection| streams.tick(&mut connection, log, at));
            match next {
                Some(next) => app.ticks.insert(conn, next),
                None => app.ticks.remove(&conn),
            };
        }
    }

    /// What the application does about an event. Gives the event in words.
    fn on_event(&mut self, now: Instant, event: PeerEvent) -> What {
        let at = self.app.epoch.time(now);
        let app = &mut self.app;
        let words = match event {
            PeerEvent::Step(step) => return What::Step(step),
            PeerEvent::Registered { .. } => {
                app.registered_at.get_or_insert(at);
                return What::Detail("registered at the relay".into());
            }
            PeerEvent::Warm { .. } => {
                app.warm_at.get_or_insert(at);
                return What::Detail("registration is warm".into());
            }
            PeerEvent::Tunnel { relay, wanted } => {
                app.tunnels.push_back((u32::try_from(relay).unwrap_or(u32::MAX), wanted));
                return What::Detail(if wanted { "wants a tunnel" } else { "wants the tunnel no more" }.into());
            }
            PeerEvent::Way { relay, link } => {
                app.ways.push((at, link));
                match link {
                    Link::Tunnel(_) => format!("reaches {relay} through a tunnel"),
                    _ => format!("reaches {relay} by UDP"),
                }
            }
            PeerEvent::RelayLost { relay, error } => {
                if matches!(error, RelayError::KeyChanged { .. }) {
                    app.doubts.push(relay);
                }
                format!("relay lost: {error}")
            }
            PeerEvent::Resolved { name, id, refused, .. } => {
                let why = refused.map_or(String::new(), |why| format!(", {why}"));
                return What::Detail(format!("{name} is {id:?}{why}"));
            }
            PeerEvent::Observed { port, address } => {
                return What::Detail(format!("seen as {address} at hole-punch port {port}"));
            }
            PeerEvent::Nature(nature) => return What::Detail(format!("behind: {nature}")),
            PeerEvent::Offered { conn, peer } => {
                let (accept, after) = match app.answer {
                    Answer::Accept(after) => (Some(true), after),
                    Answer::Refuse(after) => (Some(false), after),
                    Answer::Ignore => (None, Duration::ZERO),
                };
                let log = app.log(conn);
                (log.peer, log.role, log.offered_at) = (Some(peer), Some(Role::P4), Some(at));
                if let Some(accept) = accept {
                    let command = Command::Answer { conn, accept };
                    if after.is_zero() { self.act(now, command) } else { self.at(now + after, command) }
                }
                format!("offered a connection by {}", peer.short())
            }
            PeerEvent::Connected { conn, peer, role, path } => {
                let serve = app.serve;
                let log = app.log(conn);
                if role == Role::P4 {
                    log.work = serve;
                }
                (log.peer, log.role, log.connected_at) = (Some(peer), Some(role), Some(at));
                log.paths.push(Moved { at, path, rtt: None });
                let work = log.work;
                self.start(at, conn, work);
                format!("connected, {}", log::path_words(&path))
            }
            PeerEvent::Failed { conn, error } => {
                app.log(conn).failed = Some((at, error.to_string()));
                format!("failed: {error}")
            }
            PeerEvent::DirectHeard { conn, address } => {
                app.log(conn).direct_heard_at.get_or_insert(at);
                format!("hears the other side directly, from {address}")
            }
            PeerEvent::Path { conn, path, rtt, .. } => {
                app.log(conn).paths.push(Moved { at, path, rtt });
                match rtt {
                    Some(rtt) => format!("moves to {}, rtt {:.1} ms", log::path_words(&path), rtt.as_secs_f64() * 1e3),
                    None => format!("moves to {}", log::path_words(&path)),
                }
            }
            PeerEvent::NotDirect { conn, why } => {
                app.log(conn).not_direct = Some((at, why));
                format!("stays on the relay: {why}")
            }
            PeerEvent::Closed { conn, reason } => {
                let words = format!("closed: {reason}");
                app.log(conn).closed = Some((at, reason));
                app.streams.remove(&conn);
                app.ticks.remove(&conn);
                words
            }
            PeerEvent::Stream { conn, event } => {
                let words = format!("stream: {event:?}");
                if let Some(mut connection) = self.peer.connection(conn) {
                    let (streams, log) = (app.streams.entry(conn).or_default(), app.conns.entry(conn).or_default());
                    streams.on_event(&mut connection, log, at, &event);
                }
                return What::Detail(words);
            }
            PeerEvent::DatagramReceived { conn } | PeerEvent::DatagramsUnblocked { conn } => {
                if let Some(mut connection) = self.peer.connection(conn) {
                    let (streams, log) = (app.streams.entry(conn).or_default(), app.conns.entry(conn).or_default());
                    streams.datagrams(&mut connection, log);
                }
                return What::Detail("datagrams".into());
            }
            PeerEvent::LinkRetired { link } => return What::Retired(link),
            other => return What::Detail(format!("{other:?}")),
        };
        What::Event(words)
    }
}

impl Node for PeerHost {
    fn handle_datagram(&mut self, now: Instant, arrival: Arrival, data: BytesMut) {
        self.peer.handle_datagram(now, arrival, data);
    }

    fn handle_timeout(&mut self, now: Instant) {
        while self.app.agenda.first().is_some_and(|&(at, _)| at <= now) {
            let (_, command) = self.app.agenda.remove(0);
            self.act(now, command);
        }
        self.tick(self.app.epoch.time(now));
        self.peer.handle_timeout(now);
    }

    fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        self.peer.poll_transmit(now, buf)
    }

    fn poll_event(&mut self, now: Instant) -> Option<What> {
        let event = self.peer.poll_event()?;
        Some(self.on_event(now, event))
    }

    fn poll_timeout(&mut self) -> Option<Wake> {
        let tick = self.app.ticks.values().min().map(|&at| self.app.epoch.instant(at));
        let app = self.app.agenda.first().map(|&(at, _)| at).into_iter().chain(tick).min();
        earlier(self.peer.poll_timeout(), app)
    }

    fn network_changed(&mut self, now: Instant, local: &[SocketAddr]) {
        self.peer.network_changed(now, local);
    }

    fn poll_tunnel(&mut self) -> Option<(u32, bool)> {
        self.app.tunnels.pop_front()
    }

    fn tunnel_changed(&mut self, now: Instant, number: u32, remote: Option<SocketAddr>) {
        match remote {
            Some(_) => self.peer.tunnel_up(now, number as usize),
            None => self.peer.tunnel_lost(now, number as usize),
        }
    }

    fn peer(&self) -> Option<&PeerHost> {
        Some(self)
    }

    fn as_peer(&mut self) -> Option<&mut PeerHost> {
        Some(self)
    }
}
