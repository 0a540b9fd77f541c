//! Drives nodes as direc-core's contract asks: after every input all transmits, all events, then the timeout.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::BytesMut;
use direc_core::{Arrival, Link, Transmit};

use super::{Event, Host, HostId, Stuck, World, route::is_native};
use crate::{
    packet::{HOPS, Packet},
    trace::What,
};

/// Wake-ups of one host without time going on, before it counts as stuck. A node may have good reasons for a few.
const MAX_SPINS: u32 = 10_000;
/// Transmits and events after one input, as above.
const MAX_OUTPUT: u32 = 1_000_000;

/// Where the ports begin that a system gives to sockets without a wish (RFC 6335, section 6).
const EPHEMERAL: u16 = 49152;

impl Host {
    /// The address that packets to `remote` have as their source.
    fn source(&self, remote: IpAddr) -> IpAddr {
        self.second.filter(|_| is_native(remote)).unwrap_or(self.address)
    }

    /// Opens a spare socket, on a free port that no other one had lately.
    fn open(&mut self, link: Link) -> Option<u16> {
        let Link::Spare(number) = link else { return None };
        let span = u32::from(u16::MAX - EPHEMERAL) + 1;
        // Below the span, so it fits.
        let ports = (0..span).map(|n| EPHEMERAL + (number.wrapping_add(n) % span) as u16);
        let port = ports.into_iter().find(|port| !self.sockets.contains_key(port))?;
        self.sockets.insert(port, link);
        Some(port)
    }
}

impl World {
    /// A spare socket of a host is closed.
    fn close(&mut self, id: HostId, link: Link) {
        self.hosts[id.0].sockets.retain(|_, other| *other != link || !matches!(link, Link::Spare(_)));
    }

    /// A host's time has come.
    pub(super) fn wake(&mut self, id: HostId) {
        let now = self.instant();
        let host = &mut self.hosts[id.0];
        let why = host.wake.take().map(|(_, why)| why);
        host.spins += 1;
        if host.spins > MAX_SPINS {
            self.stuck = Some(Stuck { host: id, at: self.now, why });
            return;
        }
        host.node.handle_timeout(now);
        self.drain(id);
    }

    /// A datagram has come to a host's socket.
    pub(super) fn hand_over(&mut self, id: HostId, link: Link, packet: Packet) {
        let now = self.instant();
        let arrival = Arrival { link, remote: packet.src, ecn: packet.ecn, stride: packet.data.len() };
        self.hosts[id.0].node.handle_datagram(now, arrival, packet.data);
        self.drain(id);
    }

    /// Takes all that a node has to say.
    pub(super) fn drain(&mut self, id: HostId) {
        if self.hosts[id.0].stopped {
            return;
        }
        let now = self.instant();
        let mut left = MAX_OUTPUT;
        loop {
            self.buf.clear();
            while let Some(transmit) = self.hosts[id.0].node.poll_transmit(now, &mut self.buf) {
                self.emit(id, &transmit);
                self.buf.clear();
                left = left.saturating_sub(1);
                if left == 0 {
                    break;
                }
            }
            let mut told = false;
            while let Some(what) = self.hosts[id.0].node.poll_event(now) {
                if let What::Retired(link) = what {
                    self.close(id, link);
                }
                self.trace.note(self.now, id, what);
                told = true;
                left = left.saturating_sub(1);
                if left == 0 {
                    break;
                }
            }
            if left == 0 {
                self.stuck = Some(Stuck { host: id, at: self.now, why: None });
                return;
            }
            while let Some((relay, wanted)) = self.hosts[id.0].node.poll_tunnel() {
                self.want_tunnel(id, relay, wanted);
            }
            // Where there were events the application may have acted on them, so there may be more to send.
            if !told {
                break;
            }
        }
        self.schedule(id);
    }

    /// Cuts a transmit into its datagrams and sends them off.
    fn emit(&mut self, id: HostId, transmit: &Transmit) {
        if let Link::Tunnel(number) = transmit.link {
            let buf = std::mem::take(&mut self.buf);
            self.send_tunnelled(id, number, transmit, &buf[..transmit.size.min(buf.len())]);
            self.buf = buf;
            return;
        }
        let host = &mut self.hosts[id.0];
        let port = host.sockets.iter().find(|&(_, link)| *link == transmit.link).map(|(&port, _)| port);
        let Some(port) = port.or_else(|| host.open(transmit.link)) else { return };
        let src = SocketAddr::new(host.source(transmit.remote.ip()), port);
        let size = transmit.size.min(self.buf.len());
        let segment = transmit.segment_size.unwrap_or(size).max(1);
        let buf = std::mem::take(&mut self.buf);
        for data in buf[..size].chunks(segment) {
            let number = self.trace.counts.sent;
            let data = BytesMut::from(data);
            let hops = transmit.hops.unwrap_or(HOPS);
            self.send(Packet { id: number, from: id, src, dst: transmit.remote, ecn: transmit.ecn, hops, data });
        }
        self.buf = buf;
    }

    /// Tells a node at which addresses its sockets are now, as a driver does at the start and after each change.
    pub(super) fn tell_addresses(&mut self, id: HostId) {
        let now = self.instant();
        let host = &mut self.hosts[id.0];
        let lasting = host.sockets.iter().filter(|(_, link)| !matches!(link, Link::Spare(_)));
        let places = [Some(host.address), host.second.filter(|second| *second != host.address)];
        let at = |port: u16| places.into_iter().flatten().map(move |ip| SocketAddr::new(ip, port));
        let local: Vec<SocketAddr> = lasting.flat_map(|(&port, _)| at(port)).collect();
        host.node.network_changed(now, &local);
        self.drain(id);
    }

    /// Takes the host's wake-up out of the queue.
    pub(super) fn unschedule(&mut self, id: HostId) {
        if let Some((key, _)) = self.hosts[id.0].wake.take() {
            self.queue.remove(&key);
        }
    }

    /// Puts the host's next wake-up in its place in the queue.
    fn schedule(&mut self, id: HostId) {
        let epoch = self.epoch;
        let host = &mut self.hosts[id.0];
        let wake = host.node.poll_timeout().map(|wake| (epoch.time(wake.at).max(self.now), wake.why));
        if wake.is_none_or(|(at, _)| at > self.now) {
            host.spins = 0;
        }
        let standing = host.wake.map(|((at, _), _)| at);
        if wake.map(|(at, _)| at) == standing && wake.is_some() {
            return;
        }
        self.unschedule(id);
        if let Some((at, why)) = wake {
            let key = self.put(at, Event::Wake(id));
            self.hosts[id.0].wake = Some((key, why));
        }
    }

    /// Whether any host has something to do at this very instant.
    pub fn busy(&self) -> bool {
        self.next_event().is_some_and(|at: Duration| at <= self.now)
    }
}
