//! A peer's introductions: begun as P2 (S1, S2), offered as P4 (S4–S6), and what P3 says of them.

use quinn_proto::StreamId;

use super::{
    MAX_SESSIONS, Peer,
    cookies::Purpose,
    introduction::server::{Arrived, Opened, Server},
    session::Session,
    shared::StepAbout,
};
use crate::{ConnId, Consent, NodeId, PeerEvent, RefuseReason, step::Role, wire::message::Offer};

impl Peer {
    /// S1 and S2, S7 for cookie X.
    pub(super) fn initiate(&mut self, conn: ConnId) {
        let begun = self.with_control(conn, |session, control, ctx| (session.initiate(control, ctx), session.peer));
        if let Some((Some(cookie), peer)) = begun {
            let about = StepAbout { role: Role::P2, conn: Some(conn), introduction: None, peer: Some(peer) };
            self.send_cookie(cookie, Purpose::Introduction(conn), &about);
        }
    }

    pub(super) fn on_opened(&mut self, id: StreamId, opened: Opened) {
        let Some(connection) = self.control.connection() else { return };
        match opened.receive(connection) {
            Arrived::NotYet(opened) => {
                self.opened.insert(id, opened);
            }
            Arrived::Offer(offer, server) => self.on_offer(offer, server),
            Arrived::Ended => {}
            Arrived::Misbehaved => self.control.blame(self.now, "opened a stream for something other than an offer"),
        }
    }

    pub(super) fn on_readable(&mut self, id: StreamId) {
        if let Some(opened) = self.opened.remove(&id) {
            return self.on_opened(id, opened);
        }
        let Some(&conn) = self.by_stream.get(&id) else { return };
        let received = self.with_control(conn, |session, control, ctx| session.receive(control, ctx));
        if let Some(Err(what)) = received {
            self.control.blame(self.now, what);
        }
    }

    /// S5: accepted by standing consent, refused, or asked for.
    fn on_offer(&mut self, offer: Offer, mut server: Server) {
        let conn = self.new_conn();
        let full = self.sessions.len() >= MAX_SESSIONS;
        let rng = self.rng.fork();
        if full || self.by_channel.contains_key(&offer.channel) {
            if let Some(connection) = self.control.connection() {
                server.refuse(connection, RefuseReason::Limit);
            }
            return;
        }
        let Some(session) = Session::server(conn, &offer, server, &self.context().1, rng) else { return };
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
        let accepted = self.with_control(conn, |session, control, ctx| {
            session.accept(control, ctx);
            session.peer
        });
        let Some(peer) = accepted else { return };
        if let Some(cookie) = cookie {
            let about = StepAbout { role: Role::P4, conn: Some(conn), introduction: None, peer: Some(peer) };
            self.send_cookie(cookie, Purpose::Introduction(conn), &about);
        }
        // What P3 said right behind the offer has waited on the stream.
        if let Some(id) = self.sessions.get(&conn).and_then(Session::stream_id) {
            self.on_readable(id);
        }
    }

    pub(super) fn refuse(&mut self, conn: ConnId, reason: RefuseReason) {
        self.offered.remove(&conn);
        let connection = self.control.connection();
        if let Some(session) = self.sessions.get_mut(&conn) {
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
