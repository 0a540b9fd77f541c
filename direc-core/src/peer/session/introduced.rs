//! A session's introduction: begun, answered, reported on, ended (S1–S6, S9).

use std::net::SocketAddr;

use bytes::Bytes;
use quinn_proto::{Connection, VarInt};

use super::{Introduction, Session, State, slot, virtual_address};
use crate::{
    CloseReason, ConnectError, PeerEvent, RefuseReason, RelayError,
    peer::{
        introduction::{Progress, client::Client},
        shared::Context,
    },
    quic::{self, config::peer_transport, tls::ALPN_PEER},
    step::{Role, Step},
    wire::{datagram::Cookie, message::Initiate},
};

impl Session {
    /// S1 and S2, and in the same flight QUIC's first packets, through the relay. Gives cookie X.
    pub(in crate::peer) fn initiate(&mut self, control: &mut Connection, ctx: &mut Context<'_>) -> Option<Cookie> {
        let cookie = self.rng.bytes();
        self.channel = self.rng.u64();
        let initiate =
            Initiate { server: self.peer, cookie, channel: self.channel, direct: self.options.may_go_direct() };
        let Some(client) = Client::initiate(control, initiate) else {
            self.fail(ConnectError::RelayRefused(RefuseReason::Limit), ctx);
            return None;
        };
        ctx.step(&self.about(), Step::S1, Some(self.relay));
        ctx.step(&self.about(), Step::S2, Some(self.relay));
        self.introduction = Some(Introduction::Client(client));
        self.state = State::Initiated;
        self.deadline = Some(ctx.now + ctx.shared.timing.answer_deadline);
        self.start_quic(ctx);
        Some(cookie)
    }

    /// P2 is always the QUIC client, so that two peers that connect to each other make two connections, never half of one.
    fn start_quic(&mut self, ctx: &mut Context<'_>) {
        let started = ctx.shared.tls.client(self.peer, ALPN_PEER).ok().and_then(|crypto| {
            let config = quic::config::client(crypto, peer_transport(&ctx.shared.transport), &mut self.rng);
            self.quic.connect(ctx.now, config, virtual_address(slot(self.id)))
        });
        self.handle = started;
        if started.is_none() {
            self.fail(ConnectError::Limit, ctx);
        }
    }

    /// S6: yes. From here on P2's QUIC packets are let in.
    pub(in crate::peer) fn accept(&mut self, control: &mut Connection, ctx: &mut Context<'_>) {
        let State::Asked { early } = std::mem::replace(&mut self.state, State::Handshaking) else { return };
        if let Some(Introduction::Server(server)) = &mut self.introduction {
            server.accept(control);
        }
        ctx.step(&self.about(), Step::S6, None);
        self.start(ctx);
        for (ecn, packet) in early {
            // Packets that make no sense are dropped here as they would have been on time.
            let _ = self.handle_quic(ecn, packet, ctx);
        }
    }

    /// S6: no.
    pub(in crate::peer) fn refuse(&mut self, control: Option<&mut Connection>, reason: RefuseReason) {
        if let (Some(Introduction::Server(server)), Some(control)) = (&mut self.introduction, control) {
            server.refuse(control, reason);
        }
        self.introduction = None;
        self.state = State::Closing;
    }

    /// Both sides have agreed: the handshake's and the punching's time begins. QUIC may have gone ahead of P3's word.
    fn start(&mut self, ctx: &mut Context<'_>) {
        if matches!(self.state, State::Handshaking) {
            self.deadline = Some(ctx.now + ctx.shared.timing.handshake_deadline);
        }
        if self.options.may_go_direct() && !self.is_closing() {
            self.paths.start(ctx.now + ctx.shared.timing.punch_deadline);
        }
    }

    /// Takes what P3 has said on the introduction's stream. The error blames P3.
    pub(in crate::peer) fn receive(
        &mut self,
        control: &mut Connection,
        ctx: &mut Context<'_>,
    ) -> Result<(), &'static str> {
        loop {
            let progress = match &mut self.introduction {
                Some(Introduction::Client(client)) => client.receive(control),
                Some(Introduction::Server(server)) => server.receive(control),
                None => return Ok(()),
            };
            match progress {
                None => return Ok(()),
                Some(progress) => self.on_progress(progress, ctx)?,
            }
        }
    }

    fn on_progress(&mut self, progress: Progress, ctx: &mut Context<'_>) -> Result<(), &'static str> {
        match progress {
            Progress::Introduced { introduction, secret, accepted } => {
                self.introduction_id = Some(introduction);
                self.paths.set_secret(&secret);
                if accepted {
                    self.on_accepted(ctx);
                } else if matches!(self.state, State::Initiated) {
                    self.state = State::Asking;
                    self.was_asked = true;
                }
            }
            Progress::Accepted => self.on_accepted(ctx),
            Progress::Addresses(addresses) => self.on_addresses(&addresses, ctx),
            Progress::Refused(reason) => self.on_refused(reason, ctx),
            Progress::Ended => self.on_ended(ctx),
            Progress::Misbehaved(what) => return Err(what),
        }
        Ok(())
    }

    fn on_accepted(&mut self, ctx: &mut Context<'_>) {
        if matches!(self.state, State::Initiated | State::Asking) {
            self.state = State::Handshaking;
        }
        self.start(ctx);
    }

    /// S9. P4 sends something at once, so that what P2 hears first on the direct path is QUIC's (S10).
    fn on_addresses(&mut self, addresses: &[SocketAddr], ctx: &mut Context<'_>) {
        if !self.options.may_go_direct() || self.is_closing() {
            return;
        }
        for &address in addresses {
            ctx.step(&self.about(), Step::S9, Some(address));
        }
        self.paths.learn(ctx.now, addresses);
        if self.role == Role::P4
            && let Some(connection) = self.connection_mut()
        {
            connection.ping();
        }
    }

    fn on_refused(&mut self, reason: RefuseReason, ctx: &mut Context<'_>) {
        let error = match reason {
            RefuseReason::NoSuchPeer => ConnectError::NoSuchPeer,
            RefuseReason::NotWelcome => ConnectError::Refused,
            RefuseReason::NoAnswer => ConnectError::NoAnswer { after: ctx.shared.timing.answer_deadline },
            other => ConnectError::RelayRefused(other),
        };
        self.introduction_over(error, ctx);
    }

    fn on_ended(&mut self, ctx: &mut Context<'_>) {
        self.introduction_over(ConnectError::RelayRefused(RefuseReason::PeerLeft), ctx);
    }

    /// The control connection is gone, and every introduction on it.
    pub(in crate::peer) fn on_relay_lost(&mut self, error: &RelayError, ctx: &mut Context<'_>) {
        if self.is_waiting() && !error.is_final() && !matches!(error, RelayError::Unreachable { .. }) {
            return;
        }
        self.introduction_over(ConnectError::Relay(error.clone()), ctx);
    }

    /// A connection that stands goes on without its introduction; one that does not has failed.
    fn introduction_over(&mut self, error: ConnectError, ctx: &mut Context<'_>) {
        self.introduction = None;
        match self.state {
            State::Waiting | State::Initiated | State::Asking | State::Asked { .. } | State::Handshaking => {
                self.fail(error, ctx);
            }
            State::Established if !self.is_confirmed() && self.paths.direct().is_none() => {
                self.state = State::Closing;
                ctx.events.push_back(PeerEvent::Closed { conn: self.id, reason: CloseReason::Abandoned });
                self.end(ctx.now, VarInt::from_u32(0), Bytes::new());
            }
            State::Established if !self.options.may_go_direct() => {}
            State::Established => {
                if let Some(event) = self.paths.no_more_addresses() {
                    self.on_path_event(event, ctx);
                }
            }
            State::Closing => {}
        }
    }

    /// Whether P4 is known to be connected too: a server is when its handshake ends, a client when it is told so.
    fn is_confirmed(&self) -> bool {
        let told = |connection: &Connection| connection.stats().frame_rx.handshake_done > 0;
        self.role == Role::P4 || self.connection().is_some_and(told)
    }

    pub(in crate::peer) fn flush(&mut self, control: &mut Connection) {
        match &mut self.introduction {
            Some(Introduction::Client(client)) => client.flush(control),
            Some(Introduction::Server(server)) => server.flush(control),
            None => {}
        }
    }

    /// Ends the introduction with P3, which then stops relaying.
    pub(in crate::peer) fn leave(&mut self, control: &mut Connection) {
        match self.introduction.take() {
            Some(Introduction::Client(mut client)) => client.close(control),
            Some(Introduction::Server(mut server)) => server.close(control),
            None => {}
        }
    }
}
