//! A session's first introduction: begun, answered, reported on, ended (S1–S6, S9).

use std::net::SocketAddr;

use quinn_proto::{Connection, StreamId};

use super::{Attachment, Session, State, slot, virtual_address};
use crate::{
    ConnectError, PathPolicy, PeerEvent, RefuseReason, RelayError,
    peer::{
        introduction::{Introduction, Progress},
        shared::Context,
    },
    quic::{
        self, Quic,
        config::{endpoint, peer_transport},
        tls::ALPN_PEER,
    },
    step::{Role, Step},
    wire::{datagram::Cookie, message::Initiate},
};

impl Session {
    /// S1 and S2 at this relay, and in the same flight QUIC's first packets, through it. Gives cookie X.
    pub(in crate::peer) fn initiate(
        &mut self,
        relay: usize,
        control: &mut Connection,
        ctx: &mut Context<'_>,
    ) -> Option<Cookie> {
        self.tried |= 1 << relay;
        let (attachment, cookie) = match self.say_initiate(relay, None, control, ctx) {
            Some(begun) => begun,
            None => {
                self.introduction_over(ConnectError::RelayRefused(RefuseReason::Limit), ctx);
                return None;
            }
        };
        self.attach(attachment, ctx);
        self.state = State::Initiated;
        self.deadline = Some(ctx.now + ctx.shared.timing.answer_deadline);
        self.check_relay(ctx);
        self.start_quic(ctx);
        Some(cookie)
    }

    /// S1 and S2.
    pub(super) fn say_initiate(
        &mut self,
        relay: usize,
        resume: Option<[u8; 16]>,
        control: &mut Connection,
        ctx: &mut Context<'_>,
    ) -> Option<(Attachment, Cookie)> {
        let (cookie, channel) = (self.rng.bytes(), self.rng.u64());
        let direct = self.options.may_go_direct();
        let direct_only = self.options.policy == PathPolicy::DirectOnly;
        let rekey = resume.is_some() && self.paths.tag().is_none();
        let resume = resume.map(Into::into);
        let initiate = Initiate { server: self.peer, cookie, channel, direct, direct_only, rekey, resume };
        let introduction = Introduction::initiate(control, initiate)?;
        let address = ctx.shared.relay(relay);
        ctx.step(&self.about(), Step::S1, Some(address));
        ctx.step(&self.about(), Step::S2, Some(address));
        Some((Attachment { relay, channel, introduction, id: None, since: ctx.now }, cookie))
    }

    /// The session's packets can go through this relay from now on.
    pub(super) fn attach(&mut self, attachment: Attachment, ctx: &Context<'_>) {
        self.relay = ctx.shared.relay(attachment.relay);
        self.attachments.current = Some(attachment);
        self.paths.on_attached(ctx.now, true);
    }

    /// P2 is always the QUIC client, so that two peers that connect to each other make two connections, never half of one.
    /// At each relay it begins anew: P4 knows nothing of what went through the one before, and its repeats come late.
    fn start_quic(&mut self, ctx: &mut Context<'_>) {
        if self.handle.is_some() {
            self.ledger = super::new_ledger(self.id, self.peer, ctx);
            self.quic = Quic::new(endpoint(slot(self.id), &ctx.shared.cids, &mut self.rng), None);
        }
        let transport = peer_transport(&ctx.shared.transport, &self.ledger);
        let started = ctx.shared.tls.client(self.peer, ALPN_PEER).ok().and_then(|crypto| {
            let config = quic::config::client(crypto, transport, &mut self.rng);
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
        if let Some(attachment) = &mut self.attachments.current {
            attachment.introduction.accept(control);
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
        if let (Some(attachment), Some(control)) = (&mut self.attachments.current, control) {
            attachment.introduction.refuse(control, reason);
        }
        self.attachments.abandon();
        self.state = State::Closing;
    }

    /// Both sides have agreed: the handshake's and the punching's time begins. QUIC may have gone ahead of P3's word.
    pub(super) fn start(&mut self, ctx: &mut Context<'_>) {
        if matches!(self.state, State::Handshaking) {
            self.deadline = Some(ctx.now + ctx.shared.timing.handshake_deadline);
        }
        if self.options.may_go_direct() && !self.is_closing() {
            self.paths.start(ctx.now, ctx.now + ctx.shared.timing.punch_deadline);
        }
    }

    /// Takes what P3 has said on an introduction's stream. The error blames P3.
    pub(in crate::peer) fn receive(
        &mut self,
        relay: usize,
        stream: StreamId,
        control: &mut Connection,
        ctx: &mut Context<'_>,
    ) -> Result<(), &'static str> {
        while let Some(attachment) = self.attachments.find(relay, stream) {
            match attachment.introduction.receive(control) {
                None => return Ok(()),
                Some(Progress::Misbehaved(what)) => return Err(what),
                Some(progress) if self.attachments.is_current(relay, stream) => self.on_progress(progress, ctx),
                Some(progress) => self.on_resumption(relay, stream, progress, ctx),
            }
        }
        Ok(())
    }

    fn on_progress(&mut self, progress: Progress, ctx: &mut Context<'_>) {
        match progress {
            Progress::Introduced { introduction, secret, accepted } => {
                if let Some(attachment) = &mut self.attachments.current {
                    attachment.id = Some(introduction);
                }
                // A later introduction of the same connection brings another secret; both ends stay with the first.
                if self.paths.tag().is_none() || !self.is_established() {
                    self.paths.set_secret(&secret);
                }
                if accepted {
                    self.on_accepted(ctx);
                } else if matches!(self.state, State::Initiated) {
                    self.state = State::Asking;
                    self.was_asked = true;
                    ctx.events.push_back(PeerEvent::Asking { conn: self.id, peer: self.peer });
                }
            }
            Progress::Accepted => self.on_accepted(ctx),
            Progress::Addresses(addresses) => self.on_addresses(&addresses, ctx),
            Progress::Refused(reason) => self.on_refused(reason, ctx),
            Progress::Ended | Progress::Misbehaved(_) => {
                self.introduction_over(ConnectError::RelayRefused(RefuseReason::PeerLeft), ctx);
            }
        }
    }

    fn on_accepted(&mut self, ctx: &mut Context<'_>) {
        if matches!(self.state, State::Initiated | State::Asking) {
            self.state = State::Handshaking;
        }
        self.start(ctx);
    }

    /// S9. P4 sends something at once, so that what P2 hears first on the direct path is QUIC's (S10).
    pub(super) fn on_addresses(&mut self, addresses: &[SocketAddr], ctx: &mut Context<'_>) {
        if !self.options.may_go_direct() || self.is_closing() {
            return;
        }
        for &address in addresses {
            ctx.step(&self.about(), Step::S9, Some(address));
        }
        self.paths.learn(ctx.now, addresses, &ctx.shared.reach);
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

    /// A relay's control connection is gone, and every introduction on it.
    pub(in crate::peer) fn on_relay_lost(&mut self, relay: usize, error: &RelayError, ctx: &mut Context<'_>) {
        if self.is_waiting() {
            // It may come back in time, unless it never came or will not.
            if error.is_final() || matches!(error, RelayError::Unreachable { .. }) {
                self.tried |= 1 << relay;
                self.note_failure(ConnectError::Relay(error.clone()));
            } else if matches!(error, RelayError::KeyChanged { .. }) {
                // To be told if nobody says in time who it is now.
                self.note_failure(ConnectError::Relay(error.clone()));
            }
            return;
        }
        if self.attachments.current.as_ref().is_some_and(|attachment| attachment.relay == relay) {
            self.introduction_over(ConnectError::Relay(error.clone()), ctx);
        }
        self.attachments.lose(ctx.now, |attachment| attachment.relay == relay, &mut self.rng);
    }

    /// A connection that stands goes on, and is introduced anew. One that does not may have another relay to ask.
    pub(super) fn introduction_over(&mut self, error: ConnectError, ctx: &mut Context<'_>) {
        let asked_there = self.attachments.current.as_ref().map(|a| (a.relay, a.introduction.stream_id()));
        match self.state {
            State::Waiting | State::Initiated | State::Asking if self.role == Role::P2 && may_differ(&error) => {
                self.note_failure(error);
                self.attachments.abandon();
                self.paths.on_attached(ctx.now, false);
                self.state = State::Waiting;
            }
            State::Waiting | State::Initiated | State::Asking | State::Asked { .. } | State::Handshaking => {
                self.attachments.abandon();
                self.fail(error, ctx);
            }
            State::Established => {
                if let Some((relay, stream)) = asked_there {
                    self.lose_attachment(relay, stream, ctx);
                }
            }
            State::Closing => self.attachments.abandon(),
        }
    }

    /// Of several relays' refusals, the one that says most is told.
    fn note_failure(&mut self, error: ConnectError) {
        let worth = |error: &ConnectError| match error {
            ConnectError::Relay(_) => 0,
            ConnectError::NoSuchPeer => 1,
            _ => 2,
        };
        if self.failure.as_ref().is_none_or(|known| worth(known) < worth(&error)) {
            self.failure = Some(error);
        }
    }

    /// Whether a relay that has not been asked yet is left, out of so many.
    pub(in crate::peer) fn is_untried(&self, relay: usize) -> bool {
        self.tried & (1 << relay) == 0
    }

    /// P2: no relay is left to be asked.
    pub(in crate::peer) fn give_up(&mut self, ctx: &mut Context<'_>) {
        let error = self.failure.take().unwrap_or(ConnectError::NoSuchPeer);
        self.fail(error, ctx);
    }

    /// Whether P4 is known to be connected too: a server is when its handshake ends, a client when it is told so.
    pub(super) fn is_confirmed(&self) -> bool {
        let told = |connection: &Connection| connection.stats().frame_rx.handshake_done > 0;
        self.role == Role::P4 || self.connection().is_some_and(told)
    }

    pub(in crate::peer) fn flush(&mut self, relay: usize, stream: StreamId, control: &mut Connection) {
        if let Some(attachment) = self.attachments.find(relay, stream) {
            attachment.introduction.flush(control);
        }
    }
}

/// Whether another relay may answer differently: what P4 itself has said, it has said.
fn may_differ(error: &ConnectError) -> bool {
    match error {
        ConnectError::Relay(_) | ConnectError::NoSuchPeer | ConnectError::RelayRefused(_) => true,
        ConnectError::Refused
        | ConnectError::NoAnswer { .. }
        | ConnectError::Identity(_)
        | ConnectError::NotDirect(_)
        | ConnectError::Closed(_)
        | ConnectError::Limit => false,
    }
}

/// What a session says when the program may know of it.
pub(super) fn not_direct(session: &Session, why: crate::DirectFailure) -> PeerEvent {
    PeerEvent::NotDirect { conn: session.id, why }
}
