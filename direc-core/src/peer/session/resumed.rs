//! A connection that stands is introduced anew, when its relay is lost, silent or going down.
//!
//! Either side may begin; the other knows the connection by a token that both have exported from its TLS (RFC 8446,
//! section 7.5). Should both begin at once, P2's wins. The probes' secret stays the first introduction's, so that a
//! direct path does not notice.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{Connection, StreamId, VarInt};

use super::{Attachment, Session};
use crate::{
    CloseReason, NodeId, RefuseReason,
    peer::{
        introduction::{Introduction, Progress},
        shared::Context,
    },
    step::{Role, Step},
    wire::{
        datagram::Cookie,
        message::{Offer, ResumeToken},
    },
};

/// Label of the exported token.
const TOKEN_LABEL: &[u8] = b"EXPORTER-direc-resume";
/// Label of the probes' secret, where one side has missed the relay's.
const SECRET_LABEL: &[u8] = b"EXPORTER-direc-punch";
/// P4 lets P2 begin, where both have noticed the same.
const AFTER_YOU: Duration = Duration::from_millis(300);
/// P2's own try that is older than this does not stand in the way of P4's.
const STALE: Duration = Duration::from_millis(400);

impl Session {
    /// What both ends know the connection by, once it stands.
    fn resume_token(&self) -> Option<[u8; 16]> {
        self.export(TOKEN_LABEL)
    }

    fn export<const N: usize>(&self, label: &[u8]) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        let session = self.connection()?.crypto_session();
        session.export_keying_material(&mut bytes, label, &[]).ok()?;
        Some(bytes)
    }

    fn rekey(&mut self) {
        if let Some(secret) = self.export(SECRET_LABEL) {
            self.paths.set_secret(&secret);
        }
    }

    /// Whether an offer that names this token is for this connection.
    pub(in crate::peer) fn is_resumed_by(&self, client: &NodeId, token: &ResumeToken) -> bool {
        self.is_established() && self.peer == *client && self.resume_token().is_some_and(|own| own == **token)
    }

    /// Whether the connection stands and has no other way than through a relay.
    pub(in crate::peer) fn depends_on_relays(&self) -> bool {
        self.is_established() && self.paths.direct().is_none()
    }

    /// Whether a place at a relay is to be asked for now; unless the one it has is good again.
    pub(in crate::peer) fn wants_relay(&mut self, now: Instant) -> bool {
        if !self.attachments.is_due(now) {
            return false;
        }
        if !self.is_established() || (!self.attachments.is_stranded() && !self.paths.is_relay_silent()) {
            self.attachments.content();
            return false;
        }
        true
    }

    /// Which of the relays that are there to ask, the next time.
    pub(in crate::peer) fn pick_relay(&self, registered: &[usize]) -> Option<usize> {
        let current = self.attachments.current.as_ref().map(|attachment| attachment.relay);
        let others: Vec<usize> = registered.iter().copied().filter(|relay| Some(*relay) != current).collect();
        others.get(self.attachments.tries() as usize % others.len().max(1)).copied()
    }

    /// No relay can be asked now.
    pub(in crate::peer) fn wait_for_relay(&mut self) {
        self.attachments.pause();
    }

    /// A relay has come, or come back.
    pub(in crate::peer) fn on_relay_registered(&mut self, now: Instant) {
        if self.is_established() && self.attachments.is_stranded() {
            self.attachments.want(now);
        }
    }

    /// The relay in use does not answer: another one may.
    pub(super) fn on_relay_silent(&mut self, now: Instant) {
        let after = if self.role == Role::P2 { Duration::ZERO } else { AFTER_YOU };
        self.attachments.want_at(now + after);
    }

    /// The way to a relay is another one: what was measured on the one before says nothing of it.
    pub(in crate::peer) fn on_relay_way(&mut self, relay: usize, now: Instant) {
        let attached = self.attachments.current.as_ref().is_some_and(|attachment| attachment.relay == relay);
        if attached && self.paths.direct().is_none() {
            self.refresh_quic(now);
        }
    }

    /// A relay is going down: this session is to be elsewhere by then.
    pub(in crate::peer) fn on_relay_draining(&mut self, relay: usize, now: Instant, within: Duration) {
        /// A sudden crowd at the other relay would be no kindness: everybody takes some part of the time.
        const PART: u32 = 4;
        if self.attachments.current.as_ref().is_some_and(|current| current.relay == relay) {
            let at = now + self.rng.below(within / PART);
            self.attachments.leave_by(at);
        }
    }

    /// S1 and S2 once more, at this relay. Gives the cookie.
    pub(in crate::peer) fn resume(
        &mut self,
        relay: usize,
        control: &mut Connection,
        ctx: &mut Context<'_>,
    ) -> Option<Cookie> {
        let token = self.resume_token()?;
        let begun = self.say_initiate(relay, Some(token), control, ctx);
        let Some((attachment, cookie)) = begun else {
            self.attachments.fail_next(ctx.now, &mut self.rng);
            return None;
        };
        self.attachments.next = Some(attachment);
        Some(cookie)
    }

    /// The other side has begun (S5): accepted, since the connection was. Gives whether it was.
    pub(in crate::peer) fn on_resume_offer(
        &mut self,
        relay: usize,
        offer: &Offer,
        mut introduction: Introduction,
        control: &mut Connection,
        ctx: &mut Context<'_>,
    ) -> bool {
        let fresh = self.attachments.next.as_ref().is_some_and(|next| next.since + STALE > ctx.now);
        // Without the probes' secret, this side has to begin, or the other would not know.
        let keyless = self.paths.tag().is_none() && !offer.rekey;
        if keyless {
            self.attachments.want(ctx.now);
        }
        if keyless || (self.role == Role::P2 && fresh) {
            introduction.refuse(control, RefuseReason::Other);
            return false;
        }
        if offer.rekey {
            self.rekey();
        }
        introduction.accept(control);
        ctx.step(&self.about(), Step::S6, None);
        self.attachments.fail_next(ctx.now, &mut self.rng);
        let (channel, id, since) = (offer.channel, Some(offer.introduction), ctx.now);
        self.attachments.next = Some(Attachment { relay, channel, introduction, id, since });
        self.take_over(ctx);
        true
    }

    /// Something has come on the stream of an introduction that is not the one in use.
    pub(super) fn on_resumption(&mut self, relay: usize, stream: StreamId, progress: Progress, ctx: &mut Context<'_>) {
        let next = self.attachments.is_next(relay, stream);
        match progress {
            Progress::Introduced { introduction, accepted, .. } => {
                if let Some(attachment) = self.attachments.find(relay, stream) {
                    attachment.id = Some(introduction);
                }
                if accepted && next {
                    self.take_over(ctx);
                }
            }
            Progress::Accepted if next => self.take_over(ctx),
            Progress::Addresses(addresses) => self.on_addresses(&addresses, ctx),
            Progress::Refused(_) | Progress::Ended => {
                self.lose_attachment(relay, stream, ctx);
                self.doubt_that_it_stands(ctx);
            }
            Progress::Accepted | Progress::Misbehaved(_) => {}
        }
    }

    /// The next place at a relay takes over.
    fn take_over(&mut self, ctx: &mut Context<'_>) {
        if self.paths.tag().is_none() {
            self.rekey();
        }
        self.attachments.promote(ctx.now);
        let Some(current) = &self.attachments.current else { return };
        self.relay = ctx.shared.relay(current.relay);
        self.paths.on_attached(ctx.now, true);
        self.paths.hurry(ctx.now);
        if self.paths.direct().is_none() {
            self.paths.on_relay_moved(ctx.now);
            self.refresh_quic(ctx.now);
            if self.announced {
                ctx.events.push_back(self.path_event());
            }
        }
    }

    /// P4 may never have been connected, for all that P2 knows: then nobody knows the token, however often it is shown.
    fn doubt_that_it_stands(&mut self, ctx: &mut Context<'_>) {
        const TRIES: u32 = 6;
        if self.attachments.tries() >= TRIES && !self.is_confirmed() && self.paths.direct().is_none() {
            self.say_closed(CloseReason::Abandoned, ctx);
            self.end(ctx.now, VarInt::from_u32(0), Bytes::new());
        }
    }

    /// One of the places at relays is gone.
    pub(super) fn lose_attachment(&mut self, relay: usize, stream: StreamId, ctx: &mut Context<'_>) {
        let gone = |a: &Attachment| a.relay == relay && a.introduction.stream_id() == stream;
        if self.attachments.lose(ctx.now, gone, &mut self.rng) {
            self.paths.on_attached(ctx.now, false);
        }
    }
}
