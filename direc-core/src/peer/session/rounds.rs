//! A session's rounds of punching from fresh sockets: its part of them, and the peer's.

use std::net::SocketAddr;

use super::{Session, State};
use crate::{
    Link,
    drops::DropReason,
    paths::{Nat, Need},
    peer::{Peer, cookies::Purpose, shared::Context},
    wire::{datagram::BidFields, message::Observed},
};

impl Session {
    pub(super) fn handle_bid(&mut self, bid: &BidFields, ctx: &mut Context<'_>) -> Result<(), DropReason> {
        if !matches!(self.state, State::Handshaking | State::Established) || !self.options.may_go_direct() {
            return Err(DropReason::NotAccepted);
        }
        self.paths.on_bid(ctx.now, bid, &ctx.shared.reach)
    }

    /// Goes on with rounds, gives back sockets, and gets those that a round wants; says which one the relay is to look at.
    pub(in crate::peer) fn drive_rounds(&mut self, ctx: &mut Context<'_>) -> Option<(usize, Link)> {
        if !self.is_closing() {
            self.paths.drive_rounds(ctx.now);
        }
        for link in self.paths.take_retired() {
            ctx.spares.retire(link, ctx.events);
        }
        match self.paths.take_need()? {
            Need::Sockets(count) => {
                let links = ctx.spares.open(self.id, count);
                self.paths.on_sockets(links);
                None
            }
            Need::Look => {
                let relay = self.attachments.current.as_ref()?.relay;
                let links = ctx.spares.open(self.id, 1);
                let first = links.first().copied();
                self.paths.on_sockets(links);
                Some((relay, first?))
            }
        }
    }

    fn on_seen(&mut self, port: u8, address: SocketAddr, ports: usize, nat: Nat<'_>, ctx: &mut Context<'_>) {
        self.paths.on_seen(ctx.now, port, address, ports, nat);
    }
}

impl Peer {
    /// A cookie of its own shows the relay a round's socket. The relay says what it sees and tells nobody else.
    pub(in crate::peer) fn look(&mut self, conn: crate::ConnId, relay: usize, link: Link) {
        let (cookie, deadline) = (self.rng.bytes(), self.shared.timing.cookie_deadline);
        let registration = &mut self.relays[relay];
        registration.control.expect(cookie, true);
        // Until the relay has heard of the cookie it is silent.
        registration.control.say_twice(self.now);
        registration.cookies.start(self.now, cookie, Purpose::Round(conn), link, 0, deadline);
    }

    /// What a hole-punch port has seen of a round's socket; `false` if it was no round's.
    pub(in crate::peer) fn on_looked(&mut self, relay: usize, observed: &Observed) -> bool {
        let registration = &mut self.relays[relay];
        let Some(Purpose::Round(conn)) = registration.cookies.purpose(&observed.cookie) else { return false };
        let ports = registration.cookies.ports();
        let earlier: Vec<u16> = registration.observed.values().map(SocketAddr::port).collect();
        registration.cookies.on_observed(&observed.cookie, observed.port);
        let nature = self.evidence.nature();
        let (by_address, translated) = (nature.by_address(), nature.translated);
        self.with_session(conn, |session, ctx| {
            session.on_seen(
                observed.port,
                observed.address,
                ports,
                Nat { earlier: &earlier, by_address, translated, pool: observed.pool },
                ctx,
            );
        });
        true
    }
}
