//! All sessions of a peer: what each is called with, what it is found by, when it is driven, and how it ends.

use std::{collections::BTreeMap, time::Instant};

use quinn_proto::{StreamId, VarInt};

use super::{
    Peer,
    registration::Registration,
    session::{Attachment, Session},
    shared::Context,
};
use crate::{ConnId, WakeReason};

/// A peer's parts, each of which a call may change.
struct Parts<'a> {
    sessions: &'a mut BTreeMap<ConnId, Session>,
    relays: &'a mut [Registration],
    ctx: Context<'a>,
}

impl Peer {
    /// What sessions are called with, beside the sessions and the relays themselves.
    fn parts(&mut self) -> Parts<'_> {
        let ctx = Context {
            now: self.now,
            shared: &self.shared,
            events: &mut self.events,
            trouble: &mut self.trouble,
            spares: &mut self.spares,
            restraint: &mut self.restraint,
        };
        Parts { sessions: &mut self.sessions, relays: &mut self.relays, ctx }
    }

    pub(super) fn context(&mut self) -> (&mut BTreeMap<ConnId, Session>, Context<'_>) {
        let Parts { sessions, ctx, .. } = self.parts();
        (sessions, ctx)
    }

    pub(super) fn touch(&mut self, conn: ConnId) {
        self.dirty.insert(conn);
        self.sending.join(conn);
    }

    /// Calls a session, which is then driven and polled again.
    pub(super) fn with_session<T>(
        &mut self,
        conn: ConnId,
        call: impl FnOnce(&mut Session, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let (sessions, mut ctx) = self.context();
        let result = call(sessions.get_mut(&conn)?, &mut ctx);
        self.touch(conn);
        Some(result)
    }

    /// Calls a session with a control connection, as far as both are there; it is then driven and polled again.
    pub(super) fn with_control<T>(
        &mut self,
        relay: usize,
        conn: ConnId,
        call: impl FnOnce(&mut Session, &mut quinn_proto::Connection, &mut Context<'_>) -> T,
    ) -> Option<T> {
        self.touch(conn);
        let Parts { sessions, relays, mut ctx } = self.parts();
        let control = relays.get_mut(relay)?.control.connection()?;
        let result = call(sessions.get_mut(&conn)?, control, &mut ctx);
        self.index(conn);
        Some(result)
    }

    pub(super) fn drive_session(&mut self, conn: ConnId) {
        let now = self.now;
        let (sessions, mut ctx) = self.context();
        let Some(session) = sessions.get_mut(&conn) else { return };
        session.drive(&mut ctx);
        let look = session.drive_rounds(&mut ctx);
        let (over, left, wants) = (session.is_over(), session.take_left(), session.wants_relay(now));
        if !left.is_empty() {
            self.leave(conn, left);
        }
        if let Some((relay, link)) = look {
            self.look(conn, relay, link);
        }
        if over {
            return self.remove(conn);
        }
        if wants {
            self.resume(conn);
        }
        let Some(session) = self.sessions.get(&conn) else { return };
        let (queued, timer) = (session.is_queued(now), session.poll_timeout(now));
        if queued {
            self.sending.join(conn);
        }
        self.set_timer(conn, timer);
    }

    /// Ends introductions with P3.
    pub(super) fn leave(&mut self, conn: ConnId, left: Vec<Attachment>) {
        for mut attachment in left {
            if let Some(connection) = self.relays[attachment.relay].control.connection() {
                attachment.introduction.close(connection);
            }
        }
        self.index(conn);
    }

    pub(super) fn set_timer(&mut self, conn: ConnId, timer: Option<(Instant, WakeReason)>) {
        let old = self.timer_of.get(&conn).copied();
        if old == timer {
            return;
        }
        if let Some((at, why)) = old {
            self.timers.remove(&(at, conn, why));
            self.timer_of.remove(&conn);
        }
        if let Some((at, why)) = timer {
            self.timers.insert((at, conn, why));
            self.timer_of.insert(conn, (at, why));
        }
    }

    pub(super) fn remove(&mut self, conn: ConnId) {
        self.set_timer(conn, None);
        self.offered.remove(&conn);
        let Some(session) = self.sessions.remove(&conn) else { return };
        self.cut_off += usize::from(self.leaving && session.is_cut_off());
        self.spares.retire_all(conn, &mut self.events);
        self.index(conn);
        if let Some(tag) = session.tag() {
            self.by_tag.remove(&tag);
        }
        for attachment in session.into_attached() {
            if let Some(connection) = self.relays[attachment.relay].control.connection() {
                let mut introduction = attachment.introduction;
                introduction.close(connection);
            }
        }
        if self.leaving && self.sessions.is_empty() {
            self.leave_relays();
        }
    }

    /// Enters what a session may be found by, and takes out what it is not found by any more.
    pub(super) fn index(&mut self, conn: ConnId) {
        for (relay, stream, channel) in self.entered.remove(&conn).unwrap_or_default() {
            self.by_stream.remove(&(relay, stream));
            self.by_channel.remove(&(relay, channel));
        }
        let Some(session) = self.sessions.get(&conn) else { return };
        let entries: Vec<(usize, StreamId, u64)> =
            session.attached().map(|a| (a.relay, a.introduction.stream_id(), a.channel)).collect();
        for &(relay, stream, channel) in &entries {
            self.by_stream.insert((relay, stream), conn);
            self.by_channel.insert((relay, channel), conn);
        }
        if let Some(tag) = session.tag() {
            self.by_tag.insert(tag, conn);
        }
        self.entered.insert(conn, entries);
    }

    pub(super) fn close(&mut self, conn: ConnId, code: VarInt, reason: bytes::Bytes) {
        self.with_session(conn, |session, ctx| session.close(code, reason, ctx));
    }

    pub(super) fn close_when_delivered(&mut self, conn: ConnId, by: Instant, code: VarInt, reason: bytes::Bytes) {
        self.with_session(conn, |session, ctx| session.close_when_delivered(by, code, reason, ctx));
    }
}
