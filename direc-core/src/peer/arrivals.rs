//! Datagrams on their way in: whose they are, by their first byte, their source, and what they carry.

use std::time::Instant;

use bytes::BytesMut;
use quinn_proto::EcnCodepoint;

use super::{Peer, control};
use crate::{
    Arrival, ConnId, Link,
    drops::DropReason,
    paths::{Pair, Via},
    wire::datagram::{Datagram, ProbeFields, RELAYED_HEADER},
};

impl Peer {
    /// Takes a received buffer: one datagram, or several of one length (GRO).
    pub fn handle_datagram(&mut self, now: Instant, arrival: Arrival, mut data: BytesMut) {
        self.advance(now);
        let stride = arrival.stride.max(1);
        let pair = Pair { link: arrival.link, remote: self.shared.reach.inward(arrival.remote) };
        while !data.is_empty() {
            let packet = data.split_to(stride.min(data.len()));
            if let Err(reason) = self.on_datagram(pair, arrival.ecn, packet) {
                self.drops.count(reason);
            }
        }
        self.drive();
    }

    fn on_datagram(&mut self, pair: Pair, ecn: Option<EcnCodepoint>, mut packet: BytesMut) -> Result<(), DropReason> {
        let datagram = Datagram::decode(&packet)?;
        if let Link::Tunnel(relay) = pair.link {
            return self.on_tunnelled(relay as usize, datagram, packet);
        }
        match datagram {
            Datagram::Quic => self.on_quic(pair, ecn, packet),
            Datagram::Relayed { channel } => {
                let relay = self.relay_at(pair).ok_or(DropReason::UnknownChannel)?;
                self.on_relayed(relay, channel, ecn, packet.split_off(RELAYED_HEADER))
            }
            Datagram::Probe(probe) => self.on_probe(pair, true, &probe),
            Datagram::Check(check) => self.on_probe(pair, false, &check),
            Datagram::ProbeEcho(echo) => {
                let conn = self.by_tag.get(&echo.tag).copied().ok_or(DropReason::BadProbe)?;
                self.with_session(conn, |session, ctx| session.handle_echo(Via::Direct(pair), &echo, ctx))
                    .unwrap_or(Err(DropReason::BadProbe))
            }
            Datagram::Echo(cookie, token) => {
                let all = self.relays.iter_mut().flat_map(|relay| [&mut relay.cookies, &mut relay.knock.cookies]);
                let mut results = all.map(|cookies| cookies.on_echo(pair, cookie, token));
                results.find(Result::is_ok).unwrap_or(Err(DropReason::UnknownCookie))
            }
            Datagram::LateEcho(cookie, token) => self.on_late_echo(pair.remote, cookie, token),
            Datagram::Knock(cookie, token) => self.on_knock(pair.remote, cookie, token),
            // Only a relay takes these, and the last only comes through one.
            Datagram::Cookie(..) | Datagram::Confirm(..) | Datagram::Bid(_) => Err(DropReason::UnknownType),
        }
    }

    /// A packet behind the relay's header, which has been taken off.
    pub(super) fn on_relayed(
        &mut self,
        relay: usize,
        channel: u64,
        ecn: Option<EcnCodepoint>,
        packet: BytesMut,
    ) -> Result<(), DropReason> {
        let conn = *self.by_channel.get(&(relay, channel)).ok_or(DropReason::UnknownChannel)?;
        self.with_session(conn, |session, ctx| session.handle_relayed(ecn, packet, ctx))
            .unwrap_or(Err(DropReason::UnknownChannel))
    }

    fn on_probe(&mut self, pair: Pair, full: bool, probe: &ProbeFields) -> Result<(), DropReason> {
        let conn = self.by_tag.get(&probe.tag).copied().ok_or(DropReason::BadProbe)?;
        self.with_session(conn, |session, ctx| session.handle_probe(Via::Direct(pair), full, probe, ctx))
            .unwrap_or(Err(DropReason::BadProbe))
    }

    /// A bare QUIC packet: its connection ID says whose.
    fn on_quic(&mut self, pair: Pair, ecn: Option<EcnCodepoint>, packet: BytesMut) -> Result<(), DropReason> {
        let slot = self.shared.cids.slot_of_packet(&packet).ok_or(DropReason::NotQuic)?;
        let conn = ConnId(u64::from(slot));
        // A stateless reset carries no ID of ours (RFC 9000, section 10.3): the relay's would lead nowhere.
        if let Some(relay) = self.relay_at(pair)
            && (slot == control::slot(relay) || !self.sessions.contains_key(&conn))
        {
            return self.relays[relay].control.handle_datagram(self.now, pair.remote, ecn, packet);
        }
        self.with_session(conn, |session, ctx| session.handle_direct(pair, ecn, packet, ctx))
            .unwrap_or(Err(DropReason::UnknownConnection))
    }

    /// The number of the relay that a packet came from. They know this peer by its main socket.
    fn relay_at(&self, Pair { link, remote }: Pair) -> Option<usize> {
        let main = (link == Link::Main).then_some(remote)?;
        self.shared.relay_at(main)
    }
}
