//! What can sit on a host: a peer, a relay, or a scripted endpoint.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use direc_core::{Arrival, Link, Relay, RelayEvent, Transmit, Wake, WakeReason};

use crate::{app::PeerHost, trace::What};

/// A node as the driver sees it: the contract of direc-core, with events already turned into notes.
pub trait Node {
    /// A datagram has come.
    fn handle_datagram(&mut self, now: Instant, arrival: Arrival, data: BytesMut);
    /// The time that `poll_timeout` named has come.
    fn handle_timeout(&mut self, now: Instant);
    /// What to send; until `None`.
    fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit>;
    /// What to tell; until `None`. A peer's application acts in here.
    fn poll_event(&mut self, now: Instant) -> Option<What>;
    /// When to call `handle_timeout`.
    fn poll_timeout(&mut self) -> Option<Wake>;
    /// Its sockets are at these addresses on the host's own network: said at the start, and when that has changed.
    fn network_changed(&mut self, _now: Instant, _local: &[SocketAddr]) {}
    /// A relay's index, and whether the tunnel to it is wanted from now on; until `None`.
    fn poll_tunnel(&mut self) -> Option<(u32, bool)> {
        None
    }
    /// The tunnel of this number is up, from that address, or gone.
    fn tunnel_changed(&mut self, _now: Instant, _number: u32, _remote: Option<SocketAddr>) {}
    /// The peer, if it is one, to look at.
    fn peer(&self) -> Option<&PeerHost> {
        None
    }
    /// The peer, if it is one.
    fn as_peer(&mut self) -> Option<&mut PeerHost> {
        None
    }
    /// The relay, if it is one, to look at.
    fn relay(&self) -> Option<&Relay> {
        None
    }
    /// The relay, if it is one.
    fn as_relay(&mut self) -> Option<&mut Relay> {
        None
    }
    /// The scripted endpoint, if it is one.
    fn as_raw(&mut self) -> Option<&mut Raw> {
        None
    }
}

impl Node for Relay {
    fn handle_datagram(&mut self, now: Instant, arrival: Arrival, data: BytesMut) {
        Relay::handle_datagram(self, now, arrival, data);
    }

    fn handle_timeout(&mut self, now: Instant) {
        Relay::handle_timeout(self, now);
    }

    fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        Relay::poll_transmit(self, now, buf)
    }

    fn poll_event(&mut self, _now: Instant) -> Option<What> {
        Relay::poll_event(self).map(|event| match event {
            RelayEvent::Step(step) => What::Step(step),
            RelayEvent::Registered { peer, address, .. } => {
                What::Detail(format!("{} registered from {address}", peer.short()))
            }
            RelayEvent::Left { peer, .. } => What::Detail(format!("{} left", peer.short())),
            RelayEvent::TurnedAway { peer, address, reason } => {
                What::Event(format!("turned away {} from {address}: {reason}", peer.short()))
            }
            RelayEvent::Refused { client, server, reason } => {
                What::Event(format!("refused {} to {}: {reason}", client.short(), server.short()))
            }
            other => What::Detail(format!("{other:?}")),
        })
    }

    fn poll_timeout(&mut self) -> Option<Wake> {
        Relay::poll_timeout(self)
    }

    fn tunnel_changed(&mut self, now: Instant, number: u32, remote: Option<SocketAddr>) {
        match remote {
            Some(remote) => self.tunnel_up(now, number, remote),
            None => self.tunnel_lost(now, number),
        }
    }

    fn relay(&self) -> Option<&Relay> {
        Some(self)
    }

    fn as_relay(&mut self) -> Option<&mut Relay> {
        Some(self)
    }
}

/// A datagram that a [`Raw`] endpoint received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// From where, as this host saw it.
    pub from: SocketAddr,
    /// On which socket.
    pub link: Link,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// An endpoint that knows no protocol: sends what it is told to and keeps what it gets. For tests.
#[derive(Debug, Default)]
pub struct Raw {
    /// Whether it sends everything back.
    pub echo: bool,
    /// What it received.
    pub received: Vec<Received>,
    outbox: VecDeque<(Link, SocketAddr, Vec<u8>)>,
}

impl Raw {
    /// One that sends everything back where it came from.
    pub fn echo() -> Self {
        Self { echo: true, ..Self::default() }
    }

    /// Puts a datagram into the queue.
    pub fn send(&mut self, link: Link, to: SocketAddr, data: &[u8]) {
        self.outbox.push_back((link, to, data.to_vec()));
    }
}

impl Node for Raw {
    fn handle_datagram(&mut self, now: Instant, arrival: Arrival, data: BytesMut) {
        if self.echo {
            self.send(arrival.link, arrival.remote, &data);
        }
        self.received.push(Received { at: now, from: arrival.remote, link: arrival.link, data: data.to_vec() });
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_transmit(&mut self, _now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        let (link, remote, data) = self.outbox.pop_front()?;
        buf.extend_from_slice(&data);
        Some(Transmit::one(link, remote, data.len()))
    }

    fn poll_event(&mut self, _now: Instant) -> Option<What> {
        None
    }

    fn poll_timeout(&mut self) -> Option<Wake> {
        None
    }

    fn as_raw(&mut self) -> Option<&mut Raw> {
        Some(self)
    }
}

/// The earlier of a node's own wake-up and an application's.
pub(crate) fn earlier(node: Option<Wake>, app: Option<Instant>) -> Option<Wake> {
    let app = app.map(|at| Wake { at, why: WakeReason::Queued });
    match (node, app) {
        (Some(node), Some(app)) => Some(if app.at < node.at { app } else { node }),
        (node, app) => node.or(app),
    }
}

/// Time as the simulator counts it, for a node: an instant. The epoch is opaque; only differences matter.
#[derive(Clone, Copy, Debug)]
pub struct Epoch(Instant);

impl Epoch {
    /// Now is as good an epoch as any: no output depends on it.
    #[expect(clippy::new_without_default, reason = "a default that differs each time would surprise")]
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// The instant that is `time` after the epoch.
    pub fn instant(self, time: Duration) -> Instant {
        self.0 + time
    }

    /// The time since the epoch; 0 for instants before it.
    pub fn time(self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.0)
    }
}
