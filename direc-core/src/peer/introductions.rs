//! A peer's introductions: begun as P2 (S1, S2), offered as P4 (S4–S6), and what P3 says of them.

use quinn_proto::StreamId;

use super::{
    MAX_SESSIONS, Peer,
    cookies::Purpose,
    introduction::{
        Introduction,
        server::{Arrived, Opened},
    },
    session::Session,
    shared::StepAbout,
};
use crate::{
    ConnId, Consent, NodeId, PeerEvent, RefuseReason,
    step::Role,
    wire::message::{Offer, ResumeToken},
};

impl Peer {
    /// S1 and S2, S7 for cookie X: at the first relay that has not been asked yet. Without one it has failed.
    pub(super) fn initiate(&mut self, conn: ConnId) {
        while let Some(session) = self.sessions.get(&conn).filter(|session| session.is_waiting()) {
            let untried = |relay: &usize| session.is_untried(*relay);
            let ready = |relay: &usize| untried(relay) && self.relays[*relay].control.is_registered();
            let relays = 0..self.relays.len();
            let relay =
                relays.clone().filter(ready).min_by_key(|&relay| (self.relays[relay].draining.is_some(), relay));
            let Some(relay) = relay else {
                if !relays.clone().any(|relay| untried(&relay)) {
                    self.with_session(conn, Session::give_up);
                }
                return;
            };
            let begun = self.with_control(relay, conn, |session, control, ctx| {
                (session.initiate(relay, control, ctx), session.peer)
            });
            if let Some((Some(cookie), peer)) = begun {
                let about = StepAbout { role: Role::P2, conn: Some(conn), introduction: None, peer: Some(peer) };
                self.send_cookie(relay, cookie, Purpose::Introduction(conn), &about);
            }
        }
    }

    /// S1 and S2 for a connection that has lost its relay, S7 for the cookie.
    pub(super) fn resume(&mut self, conn: ConnId) {
        let ready =
            |relay: &usize| self.relays[*relay].control.is_registered() && self.relays[*relay].draining.is_none();
        let ready: Vec<usize> = (0..self.relays.len()).filter(ready).collect();
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(relay) = session.pick_relay(&ready) else { return session.wait_for_relay() };
        let begun =
            self.with_control(relay, conn, |session, control, ctx| (session.resume(relay, control, ctx), session.peer));
        self.relays[relay].control.insist(self.now);
        if let Some((Some(cookie), peer)) = begun {
            let about = StepAbout { role: Role::P2, conn: Some(conn), introduction: None, peer: Some(peer) };
            self.send_cookie(relay, cookie, Purpose::Introduction(conn), &about);
        }
    }

    pub(super) fn on_opened(&mut self, relay: usize, id: StreamId, opened: Opened) {
        let registration = &mut self.relays[relay];
        let Some(connection) = registration.control.connection() else { return };
        match opened.receive(connection) {
            Arrived::NotYet(opened) => {
                registration.opened.insert(id, opened);
            }
            Arrived::Offer(offer, introduction) => match offer.resume {
                Some(token) => self.on_resume_offer(relay, &offer, &token, introduction),
                None => self.on_offer(relay, &offer, introduction),
            },
            Arrived::Ended => {}
            Arrived::Misbehaved => {
                registration.control.misbehaved(self.now, "opened a stream for something other than an offer");
            }
        }
    }

    pub(super) fn on_readable(&mut self, relay: usize, id: StreamId) {
        if let Some(opened) = self.relays[relay].opened.remove(&id) {
            return self.on_opened(relay, id, opened);
        }
        let Some(&conn) = self.by_stream.get(&(relay, id)) else { return };
        let received = self.with_control(relay, conn, |session, control, ctx| session.receive(relay, id, control, ctx));
        if let Some(Err(what)) = received {
            self.relays[relay].control.misbehaved(self.now, what);
        }
        self.initiate(conn);
    }

    /// S5: accepted by standing consent, refused, or asked for.
    fn on_offer(&mut self, relay: usize, offer: &Offer, introduction: Introduction) {
        let conn = self.new_conn();
        let full = self.sessions.len() >= MAX_SESSIONS;
        let rng = self.rng.fork();
        if full || self.leaving || self.by_channel.contains_key(&(relay, offer.channel)) {
            return self.refuse_offer(relay, introduction, RefuseReason::Limit);
        }
        let session = Session::server(conn, relay, offer, introduction, &self.context().1, rng);
        let Some(session) = session else { return };
        self.sessions.insert(conn, session);
        self.index(conn);
        self.touch(conn);
        match self.decide(&offer.client) {
            Decision::Accept => self.accept_with(conn, Some(offer.cookie)),
            Decision::Refuse => self.refuse(conn, RefuseReason::NotWelcome),
            Decision::Ask => {
                self.offered.insert(conn, offer.cookie);
                self.events.push_back(PeerEvent::Offered { conn, peer: offer.client });
            }
        }
    }

    /// S5 for a connection that stands already, if it does.
    fn on_resume_offer(&mut self, relay: usize, offer: &Offer, token: &ResumeToken, introduction: Introduction) {
        let known = self.sessions.values().find(|session| session.is_resumed_by(&offer.client, token));
        let Some(conn) = known.map(|session| session.id) else {
            return self.refuse_offer(relay, introduction, RefuseReason::NoSuchPeer);
        };
        let stream = introduction.stream_id();
        let accepted = self.with_control(relay, conn, |session, control, ctx| {
            session.on_resume_offer(relay, offer, introduction, control, ctx)
        });
        if accepted == Some(true) {
            self.relays[relay].control.insist(self.now);
            let about = StepAbout { role: Role::P4, conn: Some(conn), introduction: None, peer: Some(offer.client) };
            self.send_cookie(relay, offer.cookie, Purpose::Introduction(conn), &about);
            self.on_readable(relay, stream);
        }
    }

    fn refuse_offer(&mut self, relay: usize, mut introduction: Introduction, reason: RefuseReason) {
        if let Some(connection) = self.relays[relay].control.connection() {
            introduction.refuse(connection, reason);
        }
    }

    fn decide(&self, client: &NodeId) -> Decision {
        match &self.consent {
            Consent::Any => Decision::Accept,
            Consent::Listed { ids, .. } if ids.contains(client) => Decision::Accept,
            Consent::Ask | Consent::Listed { ask_others: true, .. } => Decision::Ask,
            Consent::Listed { .. } | Consent::Closed => Decision::Refuse,
        }
    }

    pub(super) fn accept(&mut self, conn: ConnId) {
        let cookie = self.offered.remove(&conn);
        self.accept_with(conn, cookie);
    }

    /// S6, then S7 for cookie Z.
    fn accept_with(&mut self, conn: ConnId, cookie: Option<[u8; 16]>) {
        let Some((relay, stream)) = self.sessions.get(&conn).and_then(Session::stream_id) else { return };
        let accepted = self.with_control(relay, conn, |session, control, ctx| {
            session.accept(control, ctx);
            session.peer
        });
        let Some(peer) = accepted else { return };
        if let Some(cookie) = cookie {
            let about = StepAbout { role: Role::P4, conn: Some(conn), introduction: None, peer: Some(peer) };
            self.send_cookie(relay, cookie, Purpose::Introduction(conn), &about);
        }
        // What P3 said right behind the offer has waited on the stream.
        self.on_readable(relay, stream);
    }

    pub(super) fn refuse(&mut self, conn: ConnId, reason: RefuseReason) {
        self.offered.remove(&conn);
        if let Some(session) = self.sessions.get_mut(&conn) {
            let connection = session.stream_id().and_then(|(relay, _)| self.relays[relay].control.connection());
            session.refuse(connection, reason);
        }
        self.touch(conn);
    }
}

enum Decision {
    Accept,
    Ask,
    Refuse,
}
