//! The one place that touches `quinn_proto::Endpoint`: an endpoint, its connections, and the order they are served in.
//!
//! A relay has one of these with all its peers' control connections. A peer has one for its control connection and one
//! per other peer, each with a single connection, told apart by their connection IDs' slots.

pub(crate) mod cid;
pub(crate) mod config;
mod reassembly;
pub(crate) mod receive;
pub(crate) mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, EcnCodepoint, Endpoint, EndpointConfig,
    EndpointEvent, Event, Incoming, ServerConfig, Transmit, TransportErrorCode,
};

use crate::{drops::DropReason, turns::Turns};

/// Number of a connection within its endpoint.
pub(crate) type Handle = ConnectionHandle;

/// Stateless replies (Retry, Version Negotiation, refusals) that may wait to be sent; beyond it they are not made.
const MAX_REPLIES: usize = 64;

/// How long a closed connection is kept for its last packets: QUIC's three probe timeouts (RFC
/// 9000, section 10.2) may have grown beyond all measure.
const CLOSED_KEPT: Duration = Duration::from_secs(10);

/// What became of a received datagram.
pub(crate) enum Handled {
    /// It belongs to this connection.
    Connection(Handle),
    /// Somebody wants in: [`Quic::accept`], [`Quic::retry`] or [`Quic::refuse`].
    Incoming(Box<Incoming>),
    /// A stateless reply was queued.
    Replied,
    Dropped(DropReason),
}

struct Entry {
    connection: Connection,
    timer: Option<Instant>,
    /// It is closed: by then it is forgotten.
    forget_by: Option<Instant>,
    /// The other side has another address, or its old one again, and nothing has been sent there yet. Until then
    /// quinn-proto's loss timer is the other path's, and must not fire (quinn's issue 2658).
    moved: bool,
}

impl Entry {
    /// Does something to the connection that may change the other side's address; gives whether it has.
    fn watch(&mut self, change: impl FnOnce(&mut Connection)) -> bool {
        let before = self.connection.remote_address();
        change(&mut self.connection);
        let moved = self.connection.remote_address() != before;
        self.moved |= moved;
        moved
    }
}

/// An endpoint with its connections.
pub(crate) struct Quic {
    endpoint: Endpoint,
    connections: BTreeMap<usize, Entry>,
    /// Connections that something happened to since they were last driven.
    dirty: BTreeSet<usize>,
    /// Connections that may have something to send, in turn.
    sending: Turns<usize>,
    timers: BTreeSet<(Instant, usize)>,
    replies: VecDeque<(Transmit, Vec<u8>)>,
}

impl Quic {
    pub(crate) fn new(config: Arc<EndpointConfig>, server: Option<Arc<ServerConfig>>) -> Self {
        Self {
            endpoint: Endpoint::new(config, server, true, None),
            connections: BTreeMap::new(),
            dirty: BTreeSet::new(),
            sending: Turns::default(),
            timers: BTreeSet::new(),
            replies: VecDeque::new(),
        }
    }

    /// Starts a connection; `None` if quinn-proto will not, which no input from outside can bring about.
    pub(crate) fn connect(&mut self, now: Instant, config: ClientConfig, remote: SocketAddr) -> Option<Handle> {
        let (handle, connection) = match self.endpoint.connect(now, config, remote, "direc") {
            Ok(connected) => connected,
            Err(error) => {
                log::warn!("cannot start a connection to {remote}: {error}");
                return None;
            }
        };
        self.insert(handle, connection);
        Some(handle)
    }

    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        ecn: Option<EcnCodepoint>,
        data: BytesMut,
    ) -> Handled {
        if is_version_negotiation(&data) {
            return Handled::Dropped(DropReason::NotQuic);
        }
        let mut reply = Vec::new();
        match self.endpoint.handle(now, remote, None, ecn, data, &mut reply) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let Some(entry) = self.connections.get_mut(&handle.0) else {
                    return Handled::Dropped(DropReason::UnknownConnection);
                };
                entry.watch(|connection| connection.handle_event(event));
                self.touch(handle.0);
                Handled::Connection(handle)
            }
            Some(DatagramEvent::NewConnection(incoming)) => Handled::Incoming(Box::new(incoming)),
            Some(DatagramEvent::Response(transmit)) => {
                self.reply(transmit, reply);
                Handled::Replied
            }
            None => Handled::Dropped(DropReason::NotQuic),
        }
    }

    /// Lets somebody in; `None` if the first packet was no good after all.
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        incoming: Incoming,
        config: Option<Arc<ServerConfig>>,
    ) -> Option<Handle> {
        let mut reply = Vec::new();
        match self.endpoint.accept(incoming, now, &mut reply, config) {
            Ok((handle, connection)) => {
                self.insert(handle, connection);
                Some(handle)
            }
            Err(error) => {
                if let Some(transmit) = error.response {
                    self.reply(transmit, reply);
                }
                None
            }
        }
    }

    /// Asks for proof of the address first (RFC 9000, section 8.1.2), or refuses if that was done already.
    pub(crate) fn retry(&mut self, incoming: Incoming) {
        let mut reply = Vec::new();
        match self.endpoint.retry(incoming, &mut reply) {
            Ok(transmit) => self.reply(transmit, reply),
            Err(error) => self.refuse(error.into_incoming()),
        }
    }

    pub(crate) fn refuse(&mut self, incoming: Incoming) {
        let mut reply = Vec::new();
        let transmit = self.endpoint.refuse(incoming, &mut reply);
        self.reply(transmit, reply);
    }

    /// Forgets about it in silence.
    pub(crate) fn ignore(&mut self, incoming: Incoming) {
        self.endpoint.ignore(incoming);
    }

    fn reply(&mut self, transmit: Transmit, bytes: Vec<u8>) {
        if self.replies.len() < MAX_REPLIES {
            self.replies.push_back((transmit, bytes));
        }
    }

    fn insert(&mut self, handle: Handle, connection: Connection) {
        self.connections.insert(handle.0, Entry { connection, timer: None, forget_by: None, moved: false });
        self.touch(handle.0);
    }

    fn touch(&mut self, key: usize) {
        self.dirty.insert(key);
        self.sending.join(key);
    }

    pub(crate) fn get(&self, handle: Handle) -> Option<&Connection> {
        self.connections.get(&handle.0).map(|entry| &entry.connection)
    }

    /// The connection, which is then driven and polled again.
    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut Connection> {
        if self.connections.contains_key(&handle.0) {
            self.touch(handle.0);
        }
        self.connections.get_mut(&handle.0).map(|entry| &mut entry.connection)
    }

    /// An answer to what lay about while one side was away is no round trip. QUIC would wait by it for long (RFC 9002,
    /// section 6.2), so it starts from the first guess again.
    pub(crate) fn forget_impossible_rtt(&mut self, now: Instant, handle: Handle) {
        const IMPOSSIBLE: Duration = Duration::from_secs(2);
        if let Some(entry) = self.connections.get_mut(&handle.0).filter(|entry| entry.connection.rtt() > IMPOSSIBLE) {
            entry.connection.path_changed(now);
            self.touch(handle.0);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.connections.keys().map(|&key| ConnectionHandle(key)).collect()
    }

    /// Whether [`Self::poll_event`] has something to look at.
    pub(crate) fn has_events(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether something happened that [`Self::poll_event`] or [`Self::poll_transmit`] has not looked at.
    pub(crate) fn is_queued(&self) -> bool {
        !self.dirty.is_empty() || !self.sending.is_empty() || !self.replies.is_empty()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            if let Some(entry) = self.connections.get_mut(&key) {
                entry.timer = None;
                if entry.forget_by.is_some_and(|by| by <= now) {
                    self.endpoint.handle_event(ConnectionHandle(key), EndpointEvent::drained());
                    self.remove(key);
                    continue;
                }
                // The timer comes again, once something could be sent.
                if !std::mem::take(&mut entry.moved) && entry.watch(|connection| connection.handle_timeout(now)) {
                    entry.connection.ping();
                }
                self.touch(key);
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// The next event of any connection. `None` once all is quiet, timers set, dead connections removed.
    pub(crate) fn poll_event(&mut self, now: Instant) -> Option<(Handle, Event)> {
        while let Some(&key) = self.dirty.first() {
            let Some(entry) = self.connections.get_mut(&key) else {
                self.dirty.pop_first();
                continue;
            };
            if let Some(event) = entry.connection.poll() {
                return Some((ConnectionHandle(key), event));
            }
            let mut again = false;
            let mut drained = false;
            while let Some(event) = entry.connection.poll_endpoint_events() {
                drained |= event.is_drained();
                if let Some(event) = self.endpoint.handle_event(ConnectionHandle(key), event) {
                    entry.connection.handle_event(event);
                    again = true;
                }
            }
            if again {
                continue;
            }
            self.dirty.pop_first();
            if drained {
                self.remove(key);
            } else {
                self.reset_timer(now, key);
            }
        }
        None
    }

    fn remove(&mut self, key: usize) {
        if let Some(entry) = self.connections.remove(&key)
            && let Some(at) = entry.timer
        {
            self.timers.remove(&(at, key));
        }
    }

    fn reset_timer(&mut self, now: Instant, key: usize) {
        let Some(entry) = self.connections.get_mut(&key) else { return };
        if entry.connection.is_closed() {
            entry.forget_by.get_or_insert(now + CLOSED_KEPT);
        }
        let timer = entry.connection.poll_timeout().into_iter().chain(entry.forget_by).min();
        if timer == entry.timer {
            return;
        }
        if let Some(at) = entry.timer {
            self.timers.remove(&(at, key));
        }
        entry.timer = timer;
        if let Some(at) = timer {
            self.timers.insert((at, key));
        }
    }

    /// Appends the next datagrams to send, at most `max` of one length, all of one connection.
    pub(crate) fn poll_transmit(&mut self, now: Instant, max: usize, buf: &mut Vec<u8>) -> Option<Transmit> {
        self.poll_transmit_of(now, max, buf).map(|(_, transmit)| transmit)
    }

    /// As [`Self::poll_transmit`], with the connection; stateless replies are of none.
    pub(crate) fn poll_transmit_of(
        &mut self,
        now: Instant,
        max: usize,
        buf: &mut Vec<u8>,
    ) -> Option<(Option<Handle>, Transmit)> {
        if let Some((transmit, bytes)) = self.replies.pop_front() {
            buf.extend_from_slice(&bytes);
            return Some((None, transmit));
        }
        while let Some(key) = self.sending.first() {
            if let Some(entry) = self.connections.get_mut(&key)
                && let Some(transmit) = entry.connection.poll_transmit(now, max, buf)
            {
                entry.moved = false;
                // Sending sets timers; the connection goes to the back, so that none starves the others.
                self.dirty.insert(key);
                self.sending.rotate();
                return Some((Some(ConnectionHandle(key)), transmit));
            }
            self.sending.leave();
        }
        None
    }
}

/// Version Negotiation (RFC 9000, section 17.2.1) is the one packet that anybody could make up to end a handshake: a long
/// header with version 0. Everybody here speaks version 1, so nobody has a use for it.
fn is_version_negotiation(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first & 0x80 != 0) && packet.get(1..5) == Some(&[0; 4])
}

/// In words, without anything secret: what ended a connection.
pub(crate) fn close_reason(error: &ConnectionError) -> crate::CloseReason {
    use crate::{CloseReason, FoundBy};
    match error {
        ConnectionError::ApplicationClosed(close) => {
            CloseReason::Application { code: close.error_code.into_inner(), reason: printable(&close.reason) }
        }
        ConnectionError::ConnectionClosed(close) if is_access_denied(close.error_code) => CloseReason::KeyRefused,
        // What an application's close becomes before the handshake is over (RFC 9000, section 10.2.3).
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::APPLICATION_ERROR => {
            CloseReason::Abandoned
        }
        ConnectionError::ConnectionClosed(close) => found_by(FoundBy::OtherSide, close.error_code, &close.reason),
        ConnectionError::TransportError(error) => found_by(FoundBy::ThisSide, error.code, error.reason.as_bytes()),
        // Version Negotiation is dropped before quinn-proto sees it, and only an endpoint runs out of connection IDs.
        ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => {
            found_by(FoundBy::ThisSide, TransportErrorCode::INTERNAL_ERROR, error.to_string().as_bytes())
        }
        ConnectionError::Reset => CloseReason::Reset,
        ConnectionError::TimedOut => CloseReason::TimedOut,
        ConnectionError::LocallyClosed => CloseReason::Locally,
    }
}

/// A transport error in the words of the side that found it.
fn found_by(side: crate::FoundBy, code: TransportErrorCode, reason: &[u8]) -> crate::CloseReason {
    let error = crate::TransportError { found_by: side, code: code.into(), reason: printable(reason) };
    crate::CloseReason::Transport(error)
}

/// The TLS alert with which a side refuses the other's key (RFC 8446, section 6.2: `access_denied`).
pub(crate) fn is_access_denied(code: TransportErrorCode) -> bool {
    const ACCESS_DENIED: u8 = 49;
    code == TransportErrorCode::crypto(ACCESS_DENIED)
}

/// The other side's text, fit to be shown on one line: its first 256 bytes.
pub(crate) fn printable(bytes: &[u8]) -> String {
    const SHOWN: usize = 256;
    crate::printable(&String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]))
}
