//! Tunnels: a stream of bytes, in order and without loss, from a peer's host to a relay's, as TLS over TCP gives it
//! where UDP does not pass. Boxes on the way do not look at it.
//!
//! What is modelled: the round trips until it stands, the delay of the ways, the slowest rate on them, a lost segment's
//! holding up all that follows, and the bounded queue at its entrance. What is not: TCP's windows, and that its bytes
//! take the place of other packets on the wires.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use bytes::BytesMut;
use direc_core::{Arrival, Link as SocketLink, Transmit, TunnelQueue, TunnelReader};

use super::{Event, HostId, World};
use crate::{
    link::LinkConfig,
    packet::{HOPS, Packet},
    trace::DropCause,
};

/// TCP's handshake, TLS 1.3's, and the HTTP request: a round trip each.
const ROUND_TRIPS: u32 = 3;
/// After this time the runtime tries again.
const AGAIN: Duration = Duration::from_millis(500);
/// TCP's least wait before it repeats a segment (RFC 6298 has 1 s; systems take 200 ms).
const REPEAT: Duration = Duration::from_millis(200);
/// Where the relay's HTTPS server is, for the record.
const HTTPS: u16 = 443;
/// The first of the peers' ports, for the record.
const FIRST_PORT: u16 = 50_000;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Towards {
    Relay,
    Peer,
}

/// What happens to a tunnel in its time.
pub(super) enum TunnelEvent {
    /// It stands, unless it has been given up since.
    Opened,
    /// The wire is free for the next bytes.
    Free(Towards),
    /// Bytes have come to its end.
    Bytes(Towards, BytesMut),
}

/// One direction.
#[derive(Default)]
struct Way {
    queue: TunnelQueue,
    reader: TunnelReader,
    /// What is in the queue and under way, for the record.
    packets: VecDeque<Packet>,
    /// Bytes are leaving.
    busy: bool,
    /// When the last bytes arrive: none overtake them.
    last: Duration,
}

/// The tunnel that one host may have to a relay.
pub(super) struct Tunnel {
    client: HostId,
    /// The relay's index at the client.
    relay: u32,
    server: HostId,
    wanted: bool,
    /// Its number at the relay, while it is up.
    number: Option<u32>,
    /// Counts its lives; what belongs to an earlier one is void.
    life: u64,
    to_relay: Way,
    to_peer: Way,
}

impl Tunnel {
    fn way(&mut self, towards: Towards) -> &mut Way {
        match towards {
            Towards::Relay => &mut self.to_relay,
            Towards::Peer => &mut self.to_peer,
        }
    }

    fn ends(&self, towards: Towards) -> (HostId, HostId) {
        match towards {
            Towards::Relay => (self.client, self.server),
            Towards::Peer => (self.server, self.client),
        }
    }
}

impl World {
    /// Lets a peer's host have a tunnel to its relay of this index, which sits on `server`.
    pub fn allow_tunnel(&mut self, client: HostId, relay: u32, server: HostId) {
        let (to_relay, to_peer) = (Way::default(), Way::default());
        let (wanted, number, life) = (false, None, 0);
        self.tunnels.push(Tunnel { client, relay, server, wanted, number, life, to_relay, to_peer });
    }

    /// Whether a host has a tunnel that is up.
    pub fn is_tunnelled(&self, client: HostId) -> bool {
        self.tunnels.iter().any(|tunnel| tunnel.client == client && tunnel.number.is_some())
    }

    /// A node wants its tunnel, or not any more.
    pub(super) fn want_tunnel(&mut self, client: HostId, relay: u32, wanted: bool) {
        let found = self.tunnels.iter().position(|tunnel| tunnel.client == client && tunnel.relay == relay);
        let Some(index) = found else { return };
        self.tunnels[index].wanted = wanted;
        if wanted {
            self.open_tunnel(index, Duration::ZERO);
        } else {
            self.end_tunnel(index, false);
        }
    }

    fn open_tunnel(&mut self, index: usize, pause: Duration) {
        let (client, server) = self.tunnels[index].ends(Towards::Relay);
        let trip = self.one_way(client, server).delay + self.one_way(server, client).delay;
        self.tunnels[index].life += 1;
        self.put_tunnel(self.now + pause + trip * ROUND_TRIPS, index, TunnelEvent::Opened);
    }

    fn put_tunnel(&mut self, at: Duration, index: usize, event: TunnelEvent) {
        let life = self.tunnels[index].life;
        self.put(at, Event::Tunnel(index, life, event));
    }

    /// Something about a tunnel has come to its time.
    pub(super) fn on_tunnel(&mut self, index: usize, life: u64, event: TunnelEvent) {
        if self.tunnels.get(index).is_none_or(|tunnel| tunnel.life != life || !tunnel.wanted) {
            return;
        }
        let (client, server) = self.tunnels[index].ends(Towards::Relay);
        if self.is_cut(client, server) {
            self.end_tunnel(index, true);
            return self.open_tunnel(index, AGAIN);
        }
        match event {
            TunnelEvent::Opened => self.on_tunnel_opened(index),
            TunnelEvent::Free(towards) => {
                self.tunnels[index].way(towards).busy = false;
                self.pump(index, towards);
            }
            TunnelEvent::Bytes(towards, bytes) => self.on_tunnel_bytes(index, towards, &bytes),
        }
    }

    fn on_tunnel_opened(&mut self, index: usize) {
        let number = self.next_tunnel;
        self.next_tunnel += 1;
        let tunnel = &mut self.tunnels[index];
        tunnel.number = Some(number);
        (tunnel.to_relay, tunnel.to_peer) = (Way::default(), Way::default());
        let (client, relay, server) = (tunnel.client, tunnel.relay, tunnel.server);
        let (now, remote) = (self.instant(), self.tunnel_address(client));
        self.hosts[server.0].node.tunnel_changed(now, number, Some(remote));
        self.drain(server);
        self.hosts[client.0].node.tunnel_changed(now, relay, Some(remote));
        self.drain(client);
    }

    /// It is gone; `broken`: its client is told.
    fn end_tunnel(&mut self, index: usize, broken: bool) {
        let now = self.instant();
        let tunnel = &mut self.tunnels[index];
        tunnel.life += 1;
        let Some(number) = tunnel.number.take() else { return };
        let (client, relay, server) = (tunnel.client, tunnel.relay, tunnel.server);
        self.hosts[server.0].node.tunnel_changed(now, number, None);
        self.drain(server);
        if broken {
            self.hosts[client.0].node.tunnel_changed(now, relay, None);
            self.drain(client);
        }
    }

    /// A node sends by its tunnel.
    pub(super) fn send_tunnelled(&mut self, from: HostId, number: u32, transmit: &Transmit, bytes: &[u8]) {
        let found = self.tunnels.iter().position(|tunnel| {
            tunnel.number.is_some()
                && ((tunnel.client == from && tunnel.relay == number)
                    || (tunnel.server == from && tunnel.number == Some(number)))
        });
        let Some(index) = found else { return };
        let client = self.tunnels[index].client;
        let towards = if client == from { Towards::Relay } else { Towards::Peer };
        let (near, far) = (self.tunnel_address(client), SocketAddr::new(transmit.remote.ip(), HTTPS));
        for data in bytes.chunks(transmit.segment_size.unwrap_or(bytes.len()).max(1)) {
            let (src, dst) = match towards {
                Towards::Relay => (near, far),
                Towards::Peer => (SocketAddr::new(self.hosts[from.0].address, HTTPS), near),
            };
            let id = self.trace.counts.sent;
            let packet = Packet { id, from, src, dst, ecn: None, hops: HOPS, data: BytesMut::from(data) };
            self.trace.sent(self.now, &packet);
            let way = self.tunnels[index].way(towards);
            if way.queue.push(data, data.len()) == 0 {
                way.packets.push_back(packet);
            } else {
                self.trace.dropped(self.now, DropCause::QueueFull, None, &packet);
            }
        }
        self.pump(index, towards);
    }

    /// Puts bytes on the wire, as long as that is free.
    fn pump(&mut self, index: usize, towards: Towards) {
        let (from, to) = self.tunnels[index].ends(towards);
        let config = self.one_way(from, to);
        while !self.tunnels[index].way(towards).busy && !self.tunnels[index].way(towards).queue.is_empty() {
            let lost = self.tunnelled.chance(config.loss);
            let now = self.now;
            let way = self.tunnels[index].way(towards);
            let bytes = BytesMut::from(way.queue.front());
            way.queue.consume(bytes.len());
            let nanos = config.rate.map_or(0, |rate| bytes.len() as u64 * 8_000_000_000 / rate.max(1));
            let left = now + Duration::from_nanos(nanos);
            let repeat = if lost { REPEAT.max(config.delay * 2) } else { Duration::ZERO };
            way.last = way.last.max(left + config.delay + repeat);
            let arrives = way.last;
            way.busy = left > now;
            if way.busy {
                self.put_tunnel(left, index, TunnelEvent::Free(towards));
            }
            self.put_tunnel(arrives, index, TunnelEvent::Bytes(towards, bytes));
        }
    }

    fn on_tunnel_bytes(&mut self, index: usize, towards: Towards, bytes: &[u8]) {
        let (_, to) = self.tunnels[index].ends(towards);
        self.tunnels[index].way(towards).reader.extend(bytes);
        loop {
            let tunnel = &mut self.tunnels[index];
            let (relay, Some(number)) = (tunnel.relay, tunnel.number) else { return };
            let way = tunnel.way(towards);
            // What went in was a datagram each; so is what comes out.
            let Ok(Some(data)) = way.reader.next_datagram() else { return };
            let Some(packet) = way.packets.pop_front() else { return };
            self.trace.arrived(self.now, to, &packet);
            let link = SocketLink::Tunnel(if towards == Towards::Relay { number } else { relay });
            let arrival = Arrival { link, remote: packet.src, ecn: None, stride: data.len() };
            let now = self.instant();
            self.hosts[to.0].node.handle_datagram(now, arrival, data);
            self.drain(to);
        }
    }

    /// What TCP meets on the way from one host to another: the delays and losses of all wires, and the slowest rate.
    fn one_way(&self, from: HostId, to: HostId) -> LinkConfig {
        let (from, to) = (self.hosts[from.0].site, self.hosts[to.0].site);
        let path = self.paths.get(&(from, to)).map(|path| path.config).unwrap_or_default();
        let wires = [self.sites[from.0].up.config, path, self.sites[to.0].down.config];
        LinkConfig {
            delay: wires.iter().map(|wire| wire.delay).sum(),
            loss: wires.iter().map(|wire| wire.loss).sum(),
            rate: wires.iter().filter_map(|wire| wire.rate).min(),
            ..LinkConfig::default()
        }
    }

    /// Whether nothing passes between two hosts. TCP would wait for some time; here it breaks at once.
    fn is_cut(&self, one: HostId, other: HostId) -> bool {
        let off = |host: HostId| {
            let host = &self.hosts[host.0];
            host.silent || host.away || host.stopped
        };
        let (a, b) = (self.hosts[one.0].site, self.hosts[other.0].site);
        off(one) || off(other) || self.severed.contains(&(a, b)) || self.severed.contains(&(b, a))
    }

    /// A host at which another process is has no tunnels of the old one.
    pub(super) fn break_tunnels(&mut self, server: HostId) {
        for index in 0..self.tunnels.len() {
            if self.tunnels[index].server == server && self.tunnels[index].number.is_some() {
                self.end_tunnel(index, true);
                self.open_tunnel(index, AGAIN);
            }
        }
    }

    /// Where a host's tunnels seem to come from: its public address, and a port of its own.
    fn tunnel_address(&self, client: HostId) -> SocketAddr {
        let host = &self.hosts[client.0];
        let public = self.sites[host.site.0].public.first().copied().unwrap_or(host.address);
        SocketAddr::new(public, FIRST_PORT.wrapping_add(client.0 as u16))
    }
}
