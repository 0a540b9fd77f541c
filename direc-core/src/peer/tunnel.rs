//! Tunnels to relays, where UDP does not pass: what comes by them, and what goes by them.

use std::time::Instant;

use bytes::BytesMut;

use super::Peer;
use crate::{
    Link, PeerEvent, Transmit,
    drops::DropReason,
    wire::datagram::{Datagram, RELAYED_HEADER},
};

impl Peer {
    /// The runtime has the tunnel that was asked for: it leads to the relay of this index, and takes datagrams.
    pub fn tunnel_up(&mut self, now: Instant, relay: usize) {
        self.advance(now);
        if let Some(registration) = self.relays.get_mut(relay) {
            registration.control.tunnel_up(self.now);
        }
        self.drive();
    }

    /// A tunnel that was up has broken.
    pub fn tunnel_lost(&mut self, now: Instant, relay: usize) {
        self.advance(now);
        if let Some(registration) = self.relays.get_mut(relay) {
            registration.control.tunnel_lost(self.now);
        }
        self.drive();
    }

    /// By a tunnel come the control connection's packets and relayed ones. Nothing that says where somebody is.
    pub(super) fn on_tunnelled(
        &mut self,
        relay: usize,
        datagram: Datagram,
        mut packet: BytesMut,
    ) -> Result<(), DropReason> {
        let registration = self.relays.get_mut(relay).ok_or(DropReason::UnknownTunnel)?;
        match datagram {
            // Whatever its ID says: a stateless reset carries none of ours (RFC 9000, section 10.3).
            Datagram::Quic => registration.control.handle_datagram(self.now, self.shared.relay(relay), None, packet),
            Datagram::Relayed { channel } => self.on_relayed(relay, channel, None, packet.split_off(RELAYED_HEADER)),
            _ => Err(DropReason::UnknownType),
        }
    }

    /// What goes to a relay takes the way that its control connection takes.
    pub(super) fn by_way(&self, out: Transmit) -> Transmit {
        let relay = self.shared.relay_at(out.remote).and_then(|relay| self.relays.get(relay));
        match relay.map(|relay| relay.control.link()) {
            Some(link) if link != Link::Main => Transmit { link, ecn: None, ..out },
            _ => out,
        }
    }

    /// The control connection has moved. Relayed packets go with it, and what was known of that path no longer holds.
    pub(super) fn on_way(&mut self, relay: usize, link: Link) {
        self.events.push_back(PeerEvent::Way { relay: self.shared.relay(relay), link });
        if link == Link::Main {
            self.refresh_soon(relay, true);
        }
        for conn in self.conns() {
            self.with_session(conn, |session, ctx| {
                session.on_relay_way(relay, ctx.now);
                // UDP is open: what was in vain without it is worth another round.
                if link == Link::Main {
                    session.on_network_changed(ctx);
                }
            });
        }
    }
}
