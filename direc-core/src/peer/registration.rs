//! A peer's registration at P3: what its control connection says, and the cookies that keep it warm (S7, ahead of time).

use super::{
    Peer,
    control::ControlEvent,
    cookies::{Outcome, Purpose},
    introduction::server::Opened,
    shared::StepAbout,
};
use crate::{
    ConnId, PeerEvent, RelayError,
    step::{Role, Step},
    wire::message::Observed,
};

impl Peer {
    pub(super) fn on_control(&mut self, event: ControlEvent) {
        match event {
            ControlEvent::Registered { punch_ports } => self.on_registered(punch_ports),
            ControlEvent::Observed(observed) => self.on_observed(&observed),
            ControlEvent::Lost(error) => self.on_relay_lost(error),
            ControlEvent::Opened(id) => self.on_opened(id, Opened::new(id)),
            ControlEvent::Readable(id) => self.on_readable(id),
            ControlEvent::Writable(id) => {
                if let (Some(connection), Some(session)) =
                    (self.control.connection(), self.by_stream.get(&id).and_then(|conn| self.sessions.get_mut(conn)))
                {
                    session.flush(connection);
                }
            }
        }
    }

    fn on_registered(&mut self, punch_ports: Vec<u16>) {
        self.cookies.set_ports(punch_ports);
        self.refresh_at = Some(self.now);
        self.events.push_back(PeerEvent::Registered { relay: self.shared.relay });
        self.refresh();
        let waiting: Vec<ConnId> =
            self.sessions.values().filter(|session| session.is_waiting()).map(|session| session.id).collect();
        for conn in waiting {
            self.initiate(conn);
        }
    }

    /// S7, ahead of time and over again: below the 30 s after which common NATs forget.
    pub(super) fn refresh(&mut self) {
        if self.refresh_at.is_none_or(|at| at > self.now) || !self.control.is_registered() {
            return;
        }
        self.refresh_at = Some(self.now + self.shared.timing.refresh_interval);
        let cookie = self.rng.bytes();
        self.control.expect(cookie);
        let about = StepAbout { role: Role::P4, conn: None, introduction: None, peer: None };
        self.send_cookie(cookie, Purpose::Registration, &about);
    }

    pub(super) fn send_cookie(&mut self, cookie: [u8; 16], purpose: Purpose, about: &StepAbout) {
        let deadline = self.shared.timing.cookie_deadline;
        if let Some(address) = self.cookies.start(self.now, cookie, purpose, deadline)
            && purpose != Purpose::Registration
        {
            self.context().1.step(about, Step::S7, Some(address));
        }
    }

    fn on_observed(&mut self, observed: &Observed) {
        self.events.push_back(PeerEvent::Observed { port: observed.port, address: observed.address });
        if let Some((purpose, outcome)) = self.cookies.on_observed(&observed.cookie, observed.port) {
            self.on_cookie(purpose, outcome);
        }
    }

    pub(super) fn on_cookie(&mut self, purpose: Purpose, outcome: Outcome) {
        self.cookies_blocked = outcome == Outcome::Unanswered;
        if purpose == Purpose::Registration && self.cookies_blocked {
            self.events.push_back(PeerEvent::Unanswered { relay: self.shared.relay });
        }
        if purpose == Purpose::Registration && outcome == Outcome::Confirmed && !self.warm {
            self.warm = true;
            self.events.push_back(PeerEvent::Warm { relay: self.shared.relay });
        }
    }

    fn on_relay_lost(&mut self, error: RelayError) {
        self.warm = false;
        self.refresh_at = None;
        self.opened.clear();
        self.by_stream.clear();
        self.cookies.set_ports(Vec::new());
        let conns: Vec<ConnId> = self.sessions.keys().copied().collect();
        for conn in conns {
            self.with_session(conn, |session, ctx| session.on_relay_lost(&error, ctx));
        }
        if self.leaving {
            self.control.shutdown(self.now);
        } else {
            self.events.push_back(PeerEvent::RelayLost { relay: self.shared.relay, error });
        }
    }
}
