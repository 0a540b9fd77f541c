//! Datagrams on their way in: what they are, by their first byte and the link they came by, and where they belong.

use std::{net::SocketAddr, time::Instant};

use bytes::BytesMut;
use quinn_proto::{Connection, EcnCodepoint, Incoming};

use super::{
    Relay,
    forward::{Run, split_run},
    introductions::Route,
    tunnels,
};
use crate::{
    Arrival, Link,
    drops::DropReason,
    quic::Handled,
    wire::{
        datagram::Datagram,
        message::{Message, Seen},
    },
};

impl Relay {
    /// Takes a received buffer: one datagram, or several of one length (GRO).
    pub fn handle_datagram(&mut self, now: Instant, arrival: Arrival, mut data: BytesMut) {
        self.advance(now);
        let stride = arrival.stride.max(1);
        let from = match self.tunnels.enter(arrival.link, arrival.remote) {
            Ok(from) => from,
            Err(reason) => return self.drops.count(reason),
        };
        while !data.is_empty() {
            let result = match (arrival.link, split_run(&mut data, stride, arrival.ecn)) {
                (Link::Main | Link::Tunnel(_), Some(run)) => self.on_relayed(from, run),
                (Link::Punch(_) | Link::Spare(_), Some(_)) => Err(DropReason::UnknownType),
                (link, None) => {
                    let packet = data.split_to(stride.min(data.len()));
                    self.on_datagram(link, from, arrival.ecn, packet)
                }
            };
            if let Err(reason) = result {
                self.drops.count(reason);
            }
        }
        self.drive();
    }

    fn on_datagram(
        &mut self,
        link: Link,
        from: SocketAddr,
        ecn: Option<EcnCodepoint>,
        packet: BytesMut,
    ) -> Result<(), DropReason> {
        let datagram = Datagram::decode(&packet)?;
        match (link, datagram) {
            (Link::Main | Link::Tunnel(_), Datagram::Quic) => self.on_quic(from, ecn, packet),
            (Link::Punch(port), Datagram::Cookie(cookie, delay)) => self.on_cookie(port, from, cookie, delay),
            (Link::Punch(port), Datagram::Confirm(cookie, token)) => self.on_confirm(port, from, &cookie, &token),
            (_, Datagram::Quic) => Err(DropReason::NotQuic),
            (
                _,
                Datagram::Cookie(..)
                | Datagram::Confirm(..)
                | Datagram::Echo(..)
                | Datagram::LateEcho(..)
                | Datagram::Knock(..)
                | Datagram::Probe(_)
                | Datagram::Check(_)
                | Datagram::ProbeEcho(_)
                | Datagram::Bid(_)
                | Datagram::Relayed { .. },
            ) => Err(DropReason::UnknownType),
        }
    }

    fn on_quic(&mut self, from: SocketAddr, ecn: Option<EcnCodepoint>, packet: BytesMut) -> Result<(), DropReason> {
        match self.quic.handle_datagram(self.now, from, ecn, packet) {
            Handled::Connection(handle) => {
                self.quic.forget_impossible_rtt(self.now, handle);
                // A client's address may change under its connection (RFC 9000, section 9); relayed packets follow.
                let address = self.quic.get(handle).map(Connection::remote_address);
                if let (Some(address), Some(entry)) = (address, self.registry.get_mut(handle))
                    && entry.move_to(address, self.tunnels.remote(address).ip())
                {
                    let address = self.tunnels.remote(address);
                    self.say(handle, &Message::Seen(Seen { address }));
                }
                Ok(())
            }
            Handled::Incoming(incoming) => {
                self.on_incoming(*incoming);
                Ok(())
            }
            Handled::Replied => Ok(()),
            Handled::Dropped(reason) => Err(reason),
        }
    }

    fn on_incoming(&mut self, incoming: Incoming) {
        let limits = &self.config.limits;
        let handshaking = self.quic.len().saturating_sub(self.registry.len());
        if self.leaving || self.quic.len() >= limits.connections {
            self.quic.refuse(incoming);
        } else if handshaking >= limits.handshakes && !incoming.remote_address_validated() {
            self.quic.retry(incoming);
        } else {
            let accepted = self.quic.accept(self.now, incoming, None);
            self.newcomers.enter(self.now, accepted);
        }
    }

    fn on_relayed(&mut self, from: SocketAddr, run: Run) -> Result<(), DropReason> {
        let limit = self.config.limits.early_datagrams;
        let route = self.introductions.route(self.now, run.channel, from, &self.registry, limit)?;
        let Route { from: sender, to, channel } = route;
        let (packets, bytes) = (run.packets() as u64, run.inner_bytes() as u64);
        let payer = self.payer(sender).ok_or(DropReason::UnknownChannel)?;
        if let Err(exceeded) = self.meters.relay(self.now, &self.config.quotas, payer, bytes) {
            self.on_exceeded(sender, exceeded, packets);
            return Err(DropReason::Quota);
        }
        let entry = self.registry.get_mut(to).ok_or(DropReason::UnknownChannel)?;
        if !entry.may_receive(self.now, bytes) {
            return Err(DropReason::UnprovenAddress);
        }
        let tunnelled = tunnels::is_tunnel(from) || tunnels::is_tunnel(entry.address);
        self.queue.push(entry.address, channel, run)?;
        self.relayed.0 += packets;
        self.relayed.1 += bytes;
        if tunnelled {
            self.tunnelled.0 += packets;
            self.tunnelled.1 += bytes;
        }
        Ok(())
    }
}
