//! A session's packets on their way in, and what they do to its path (S10–S13).

use std::{net::SocketAddr, time::Instant};

use bytes::BytesMut;
use quinn_proto::EcnCodepoint;

use super::{MAX_EARLY, Session, State, slot, virtual_address};
use crate::{
    DirectFailure, PeerEvent,
    drops::DropReason,
    paths::PathEvent,
    peer::shared::Context,
    quic::Handled,
    step::{Role, Step},
    wire::datagram::ProbeFields,
};

impl Session {
    /// A packet of this session's channel, its header taken off.
    pub(in crate::peer) fn handle_relayed(
        &mut self,
        ecn: Option<EcnCodepoint>,
        packet: BytesMut,
        ctx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        match &mut self.state {
            State::Asked { early } if early.len() < MAX_EARLY => {
                early.push((ecn, packet));
                Ok(())
            }
            State::Asked { .. } | State::Waiting => Err(DropReason::NotAccepted),
            State::Initiated | State::Asking | State::Handshaking | State::Established | State::Closing => {
                self.handle_quic(ecn, packet, ctx)
            }
        }
    }

    /// A bare packet that carries one of this session's connection IDs.
    pub(in crate::peer) fn handle_direct(
        &mut self,
        from: SocketAddr,
        ecn: Option<EcnCodepoint>,
        packet: BytesMut,
        ctx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        if self.direct_heard || self.is_closing() {
            return self.handle_quic(ecn, packet, ctx);
        }
        let before = self.authenticated();
        self.handle_quic(ecn, packet, ctx)?;
        if self.authenticated() > before {
            self.direct_heard = true;
            ctx.events.push_back(PeerEvent::DirectHeard { conn: self.id, address: from });
        }
        Ok(())
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
            Handled::Connection(_) | Handled::Replied => Ok(()),
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
        from: SocketAddr,
        probe: &ProbeFields,
        now: Instant,
    ) -> Result<(), DropReason> {
        /// Echoes waiting to be sent; a probe that finds the queue full is repeated by its sender.
        const MAX_ECHOES: usize = 16;
        if matches!(self.state, State::Asked { .. } | State::Waiting | State::Closing) || !self.options.may_go_direct()
        {
            return Err(DropReason::NotAccepted);
        }
        let echo = self.paths.on_probe(now, from, probe)?;
        if self.echoes.len() >= MAX_ECHOES {
            return Err(DropReason::QueueFull);
        }
        self.echoes.push_back((from, echo));
        Ok(())
    }

    pub(in crate::peer) fn handle_echo(
        &mut self,
        from: SocketAddr,
        echo: &ProbeFields,
        ctx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        if self.is_closing() {
            return Err(DropReason::NotAccepted);
        }
        if let Some(event) = self.paths.on_echo(ctx.now, from, echo)? {
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
            PathEvent::Moved { address, .. } => {
                ctx.step(&self.about(), if p2 { Step::S13 } else { Step::S12 }, Some(address));
                self.move_quic(ctx);
            }
            PathEvent::Lost(_) => {
                *ctx.trouble = true;
                self.move_quic(ctx);
            }
            PathEvent::GaveUp(why) => {
                let why = match why {
                    DirectFailure::NoAddress if ctx.cookies_blocked => DirectFailure::NoCookie,
                    other => other,
                };
                ctx.events.push_back(PeerEvent::NotDirect { conn: self.id, why });
            }
        }
    }

    /// QUIC forgets what it knew of the old path, and both ends ping so that both learn the new one.
    fn move_quic(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now;
        if let Some(connection) = self.connection_mut() {
            connection.path_changed(now);
            connection.ping();
        }
        self.path_since = now;
        if matches!(self.state, State::Established) {
            ctx.events.push_back(self.path_event());
        }
    }

    pub(super) fn path_event(&self) -> PeerEvent {
        PeerEvent::Path { conn: self.id, path: self.path(), rtt: self.paths.rtt(), why: crate::PathReason::Direct }
    }
}
