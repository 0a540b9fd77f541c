//! A session's packets on their way in, and what they do to its path (S10–S13).

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::{EcnCodepoint, VarInt};

use super::{MAX_EARLY, Nudge, Session, State, drain::Drain, introduced::not_direct, slot, virtual_address};
use crate::{
    CloseReason, ConnectError, DirectFailure, PathPolicy, PeerEvent,
    drops::DropReason,
    paths::{Pair, PathEvent, Via},
    peer::shared::Context,
    quic::Handled,
    step::{Role, Step},
    wire::datagram::{Datagram, ProbeFields},
};

/// No path has such a round trip: what is answered later was not under way all the time.
const SLEPT: Duration = Duration::from_secs(4);

impl Session {
    /// A packet of one of this session's channels, its header taken off.
    pub(in crate::peer) fn handle_relayed(
        &mut self,
        ecn: Option<EcnCodepoint>,
        packet: BytesMut,
        ctx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        match Datagram::decode(&packet)? {
            Datagram::Quic => {}
            Datagram::Check(check) => return self.handle_probe(Via::Relay, false, &check, ctx),
            Datagram::ProbeEcho(echo) => return self.handle_echo(Via::Relay, &echo, ctx),
            Datagram::Bid(bid) => return self.handle_bid(&bid, ctx),
            Datagram::Probe(_)
            | Datagram::Cookie(..)
            | Datagram::Echo(..)
            | Datagram::Confirm(..)
            | Datagram::LateEcho(..)
            | Datagram::Knock(..)
            | Datagram::Relayed { .. } => return Err(DropReason::UnknownType),
        }
        match &mut self.state {
            State::Asked { early } if early.len() < MAX_EARLY => {
                early.push((ecn, packet));
                Ok(())
            }
            State::Asked { .. } | State::Waiting => Err(DropReason::NotAccepted),
            State::Initiated | State::Asking | State::Handshaking | State::Established | State::Closing => {
                self.handle_packet(Via::Relay, ecn, packet, ctx)
            }
        }
    }

    /// A bare packet that carries one of this session's connection IDs.
    pub(in crate::peer) fn handle_direct(
        &mut self,
        from: Pair,
        ecn: Option<EcnCodepoint>,
        packet: BytesMut,
        ctx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        self.handle_packet(Via::Direct(from), ecn, packet, ctx)
    }

    /// Gives a packet to QUIC, and the evidence that it was to the paths.
    fn handle_packet(
        &mut self,
        via: Via,
        ecn: Option<EcnCodepoint>,
        packet: BytesMut,
        ctx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        let now = ctx.now;
        self.paths.count(via, 0, packet.len());
        let news = (!self.direct_heard && via != Via::Relay) || self.paths.wants_evidence(now, via);
        let before = if news && !self.is_closing() { Some(self.authenticated()) } else { None };
        let (acknowledged, unanswered) = (self.ledger.acknowledged(), self.ledger.unanswered());
        let rtt = self.ledger.round_trip();
        self.forget_old_rtt(now);
        self.handle_quic(ecn, packet, ctx)?;
        if before.is_some_and(|before| self.authenticated() > before) {
            if self.is_established() && via != Via::Relay && self.paths.direct().is_none() {
                self.drain.foresee(now, &self.ledger, rtt);
            }
            self.on_authentic(via, ctx);
        }
        // Packets that left together are acknowledged apart, and in any order: the last of them ends the waiting.
        let ends_waiting = || self.ledger.unanswered() < unanswered && !self.is_data_waiting();
        if let Some(sent) = self.ledger.acknowledged()
            && (Some(sent) != acknowledged || ends_waiting())
        {
            self.on_acknowledged(sent, ctx);
        }
        Ok(())
    }

    /// What was sent at `sent` has arrived.
    fn on_acknowledged(&mut self, sent: Instant, ctx: &mut Context<'_>) {
        self.nudge = self.nudge.filter(|nudge| !nudge.is_answered_by(sent));
        if self.nudge.is_none() {
            self.drain.on_answered();
        }
        let rtt = self.connection().map_or(Duration::ZERO, quinn_proto::Connection::rtt);
        self.paths.on_acknowledged(ctx.now, sent, rtt, self.is_data_waiting());
        // An answer to what lay about while one side slept is no round trip; QUIC would pace itself by it for long.
        if ctx.now.saturating_duration_since(sent) > SLEPT && rtt > SLEPT / 8 {
            self.refresh_quic(ctx.now);
        }
    }

    fn on_authentic(&mut self, via: Via, ctx: &mut Context<'_>) {
        if let Via::Direct(pair) = via
            && !self.direct_heard
        {
            self.direct_heard = true;
            ctx.events.push_back(PeerEvent::DirectHeard { conn: self.id, address: pair.remote });
        }
        if self.is_established() {
            self.paths.on_heard(ctx.now, via);
        }
    }

    /// Frames that QUIC has taken so far, none of which it takes from a packet that is not authentic.
    fn authenticated(&self) -> u64 {
        self.connection().map_or(0, |connection| {
            let rx = connection.stats().frame_rx;
            rx.acks + rx.crypto + rx.ping + rx.stream + rx.datagram + u64::from(rx.handshake_done)
        })
    }

    pub(super) fn handle_quic(
        &mut self,
        ecn: Option<EcnCodepoint>,
        packet: BytesMut,
        ctx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        match self.quic.handle_datagram(ctx.now, virtual_address(slot(self.id)), ecn, packet) {
            Handled::Connection(handle) => {
                // The rest of a batch would come before the next drive.
                if self.quic.get(handle).is_some_and(|connection| self.receiving.is_due(connection)) {
                    self.drive(ctx);
                }
                Ok(())
            }
            Handled::Replied => Ok(()),
            Handled::Dropped(reason) => Err(reason),
            Handled::Incoming(incoming) if self.role == Role::P4 && self.handle.is_none() => {
                self.handle = self.quic.accept(ctx.now, *incoming, None);
                if self.handle.is_some() { Ok(()) } else { Err(DropReason::NotQuic) }
            }
            Handled::Incoming(incoming) => {
                self.quic.ignore(*incoming);
                Err(DropReason::UnknownConnection)
            }
        }
    }

    pub(in crate::peer) fn handle_probe(
        &mut self,
        via: Via,
        full: bool,
        probe: &ProbeFields,
        ctx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        /// Echoes waiting to be sent; a probe that finds the queue full is repeated by its sender.
        const MAX_ECHOES: usize = 16;
        let refused = via != Via::Relay && !self.options.may_go_direct();
        if refused || matches!(self.state, State::Asked { .. } | State::Waiting | State::Closing) {
            return Err(DropReason::NotAccepted);
        }
        let news = matches!(via, Via::Direct(pair) if !self.paths.has_heard(pair));
        let echo = self.paths.on_probe(ctx.now, via, full, probe)?;
        if let Via::Direct(pair) = via {
            ctx.restraint.on_answer(pair.remote.ip());
            if news && self.paths.has_heard(pair) {
                self.repeat_flight(pair);
            }
        }
        if self.echoes.len() >= MAX_ECHOES {
            return Err(DropReason::QueueFull);
        }
        self.echoes.push_back((via, echo));
        Ok(())
    }

    pub(in crate::peer) fn handle_echo(
        &mut self,
        via: Via,
        echo: &ProbeFields,
        ctx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        if self.is_closing() {
            return Err(DropReason::NotAccepted);
        }
        if let Some(event) = self.paths.on_echo(ctx.now, via, echo)? {
            self.on_path_event(event, ctx);
        }
        Ok(())
    }

    pub(super) fn on_path_event(&mut self, event: PathEvent, ctx: &mut Context<'_>) {
        let p2 = self.role == Role::P2;
        match event {
            PathEvent::Punching(address) => {
                ctx.step(&self.about(), if p2 { Step::S11 } else { Step::S10 }, Some(address));
            }
            PathEvent::Moved(Via::Direct(pair)) => {
                ctx.step(&self.about(), if p2 { Step::S13 } else { Step::S12 }, Some(pair.remote));
                self.move_quic(ctx);
            }
            PathEvent::Moved(Via::Relay) => {
                ctx.trouble.address = true;
                self.move_quic(ctx);
            }
            PathEvent::Recovered => self.refresh_quic(ctx.now),
            PathEvent::Doubted => {
                ctx.trouble.address = true;
                self.check_relay(ctx);
            }
            PathEvent::RelaySilent => {
                self.on_relay_silent(ctx.now);
                self.check_relay(ctx);
            }
            PathEvent::GaveUp(why) => {
                let why = match why {
                    // Without UDP nothing could come back, whatever the other side's NATs do.
                    DirectFailure::NoAddress | DirectFailure::NoRoundTrip if ctx.trouble.cookies_blocked => {
                        DirectFailure::NoCookie
                    }
                    other => other,
                };
                self.on_not_direct(why, ctx);
            }
        }
    }

    pub(super) fn check_relay(&self, ctx: &mut Context<'_>) {
        ctx.trouble.silent_relays |= self.attachments.current.as_ref().map_or(0, |current| 1 << current.relay);
    }

    fn on_not_direct(&mut self, why: DirectFailure, ctx: &mut Context<'_>) {
        if self.options.policy != PathPolicy::DirectOnly {
            ctx.events.push_back(not_direct(self, why));
        } else if self.announced {
            self.say_closed(CloseReason::NotDirect(why), ctx);
            self.end(ctx.now, VarInt::from_u32(0), Bytes::new());
        } else {
            self.fail(ConnectError::NotDirect(why), ctx);
        }
    }

    /// QUIC forgets what it knew of the old path, and both ends ping so that both learn the new one.
    fn move_quic(&mut self, ctx: &mut Context<'_>) {
        if !self.is_established() {
            self.refresh_quic(ctx.now);
            return;
        }
        self.drain = self.drain.decided(ctx.now, &self.paths.chosen().1, &self.ledger, self.paths.rtt());
        if !self.drain.is_holding() {
            self.refresh_quic(ctx.now);
        }
        if self.announced {
            ctx.events.push_back(self.path_event());
        } else {
            self.announce(ctx);
        }
    }

    pub(super) fn refresh_quic(&mut self, now: Instant) {
        self.renew_quic(now, false);
    }

    /// `warm`: data was flowing until now.
    pub(super) fn renew_quic(&mut self, now: Instant, warm: bool) {
        self.drain = Drain::Over;
        self.ledger.begin(now, warm, self.paths.rtt());
        self.restart_quic(now);
        if let Some(connection) = self.connection_mut() {
            connection.ping();
            self.nudge = Some(Nudge::new(now, self.paths.rtt()));
        }
    }

    /// What QUIC knows of its path is of another one.
    fn restart_quic(&mut self, now: Instant) {
        let Some(connection) = self.handle.and_then(|handle| self.quic.get_mut(handle)) else { return };
        connection.path_changed(now);
        self.size_probes.restart(&connection.stats().path, &self.ledger);
    }

    fn is_data_waiting(&self) -> bool {
        self.connection().is_some_and(|connection| self.size_probes.is_data_waiting(connection, &self.ledger))
    }

    /// The last acknowledgements of what went the old way have come. Their round trips are forgotten, or QUIC would pace
    /// itself by them for a dozen of the new path's.
    fn forget_old_rtt(&mut self, now: Instant) {
        if self.drain.forgets(now) {
            self.restart_quic(now);
        }
    }

    pub(super) fn path_event(&self) -> PeerEvent {
        let (_, why) = self.paths.chosen();
        PeerEvent::Path { conn: self.id, path: self.path(), rtt: self.paths.rtt(), why }
    }

    /// The network under this peer is another, or the machine has slept.
    pub(in crate::peer) fn on_network_changed(&mut self, ctx: &mut Context<'_>) {
        if self.is_closing() {
            return;
        }
        self.paths.on_network_changed(ctx.now, ctx.now + ctx.shared.timing.punch_deadline);
        if self.is_established()
            && let Some(connection) = self.connection_mut()
        {
            connection.ping();
        }
    }

    /// The relay sees this peer at another address than before.
    pub(in crate::peer) fn on_address_changed(&mut self, now: Instant) {
        self.paths.hurry(now);
    }
}
