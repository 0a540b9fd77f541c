//! A peer's registration at one relay: the control connection, and the cookies that keep it warm (S7, ahead of time).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use quinn_proto::StreamId;

use super::{
    Peer,
    binding::{BindingLife, Silence},
    control::{Control, ControlEvent},
    cookies::{Cookies, Outcome, Purpose},
    introduction::server::Opened,
    knock::Knock,
    session::Session,
    shared::StepAbout,
};
use crate::{
    ConnId, Link, PeerEvent, PeerName, Rate, RelayError,
    drops::DropReason,
    quic::tls::late_token,
    step::{Role, Step},
    wire::{
        datagram::{Cookie, Token},
        message::{Observed, OverQuota},
    },
};

/// Refreshes that trouble brings about come no closer together than this.
const REFRESH_AGAIN: Duration = Duration::from_secs(1);

/// What a peer has at one relay.
pub(super) struct Registration {
    pub(super) control: Control,
    pub(super) cookies: Cookies,
    pub(super) knock: Knock,
    /// The cookies have arrived.
    pub(super) warm: bool,
    /// When cookies are sent next, and when they were sent last.
    refresh_at: Option<Instant>,
    refreshed_at: Option<Instant>,
    /// When the control connection is pinged next, and what is known of the bindings on the way.
    ping_at: Option<Instant>,
    pinged_at: Option<Instant>,
    life: BindingLife,
    /// Where each hole-punch port has seen this peer.
    pub(super) observed: BTreeMap<u8, SocketAddr>,
    /// Streams that P3 opened and has not said anything on.
    pub(super) opened: BTreeMap<StreamId, Opened>,
    /// The relay is going down: by when.
    pub(super) draining: Option<Instant>,
    /// Names that it has been asked for, or will be.
    pub(super) names: BTreeSet<PeerName>,
}

impl Registration {
    pub(super) fn new(control: Control, relay: SocketAddr) -> Self {
        Self {
            control,
            cookies: Cookies::new(relay.ip()),
            knock: Knock::new(relay.ip()),
            warm: false,
            refresh_at: None,
            refreshed_at: None,
            ping_at: None,
            pinged_at: None,
            life: BindingLife::default(),
            observed: BTreeMap::new(),
            opened: BTreeMap::new(),
            draining: None,
            names: BTreeSet::new(),
        }
    }

    pub(super) fn refresh_due(&self) -> Option<Instant> {
        self.refresh_at.into_iter().chain(self.ping_at).min().filter(|_| self.control.is_registered())
    }

    /// When the test with a knock goes on.
    pub(super) fn knock_due(&self, idle: bool) -> Option<Instant> {
        self.knock.due(idle).filter(|_| self.control.is_registered())
    }

    /// The control connection is used now. Says when it is to be pinged next: no later than `most` from now, if at all.
    fn ping_later(&mut self, now: Instant, most: Duration) {
        self.pinged_at = Some(now);
        self.ping_at = self.life.ping_at(now, now).map(|at| at.min(now + most));
    }

    /// Whether the time for a ping has come, this peer having sent something last at `sent_at`. If not, it is put off.
    fn must_ping(&mut self, now: Instant, sent_at: Instant, most: Duration) -> bool {
        if self.ping_at.is_none_or(|at| at > now) {
            return false;
        }
        if self.life.is_proving(sent_at) {
            // Should something else end the silence, a ping is not due before this.
            self.ping_at = self.life.ping_at(now, now);
            return false;
        }
        let pinged_at = self.pinged_at.unwrap_or(now);
        self.ping_at = self.life.ping_at(pinged_at, sent_at).map(|at| at.min(pinged_at + most));
        self.ping_at.is_some_and(|at| at <= now)
    }

    /// The relay is at another address.
    pub(super) fn move_to(&mut self, relay: SocketAddr) {
        (self.cookies, self.knock) = (Cookies::new(relay.ip()), Knock::new(relay.ip()));
    }

    /// No more cookies, and no knock.
    pub(super) fn rest(&mut self) {
        self.knock.rest();
        (self.warm, self.refresh_at, self.ping_at) = (false, None, None);
    }
}

impl Peer {
    pub(super) fn on_control(&mut self, relay: usize, event: ControlEvent) {
        match event {
            ControlEvent::Registered { punch_ports, knock_port } => self.on_registered(relay, punch_ports, knock_port),
            ControlEvent::Observed(observed) => self.on_observed(relay, &observed),
            ControlEvent::Seen(address) => self.on_seen(relay, address),
            ControlEvent::Knocked(cookie) => self.relays[relay].knock.on_knocked(self.now, &cookie),
            ControlEvent::Resolved(resolved) => self.on_resolved(relay, resolved),
            ControlEvent::OverQuota(over) => self.on_over_quota(relay, &over),
            ControlEvent::Draining(within) => self.on_draining(relay, within),
            ControlEvent::Tunnel { wanted } => self.events.push_back(PeerEvent::Tunnel { relay, wanted }),
            ControlEvent::Way(link) => self.on_way(relay, link),
            ControlEvent::Lost(error) => self.on_relay_lost(relay, error),
            ControlEvent::Opened(id) => self.on_opened(relay, id, Opened::new(id)),
            ControlEvent::Readable(id) => self.on_readable(relay, id),
            ControlEvent::Writable(id) => {
                let session = self.by_stream.get(&(relay, id)).and_then(|conn| self.sessions.get_mut(conn));
                if let (Some(connection), Some(session)) = (self.relays[relay].control.connection(), session) {
                    session.flush(relay, id, connection);
                }
            }
        }
    }

    fn on_registered(&mut self, relay: usize, punch_ports: Vec<u16>, knock_port: Option<u16>) {
        self.evidence.on_registered(relay, punch_ports.len());
        let registration = &mut self.relays[relay];
        registration.knock.set_port(self.now, knock_port);
        registration.cookies.set_ports(self.now, punch_ports);
        registration.life.forget();
        registration.draining = None;
        (registration.refresh_at, registration.refreshed_at) = (Some(self.now), None);
        self.events.push_back(PeerEvent::Registered { relay: self.shared.relay(relay) });
        self.refresh(relay);
        self.ask_names(relay);
        let now = self.now;
        for conn in self.conns() {
            self.with_session(conn, |session, _| session.on_relay_registered(now));
            self.initiate(conn);
        }
    }

    /// S7, ahead of time and over again: before the NATs on the way forget. What is said on the control connection keeps
    /// that one's binding.
    pub(super) fn refresh(&mut self, relay: usize) {
        self.keep_alive(relay);
        let Some(registration) = self.relays.get_mut(relay) else { return };
        if registration.refresh_at.is_none_or(|at| at > self.now) || !registration.control.is_registered() {
            return;
        }
        let cookie = self.rng.bytes();
        registration.life.on_refresh(self.now, cookie);
        registration.refresh_at = Some(self.now + registration.life.until_next());
        registration.refreshed_at = Some(self.now);
        registration.ping_later(self.now, self.shared.timing.refresh_interval);
        registration.control.expect(cookie, false);
        registration.control.check(self.now);
        let about = StepAbout { role: Role::P4, conn: None, introduction: None, peer: None };
        self.send_cookie(relay, cookie, Purpose::Registration, &about);
    }

    /// Between two refreshes, as long as their pause is longer than is known to do.
    fn keep_alive(&mut self, relay: usize) {
        let Some(registration) = self.relays.get_mut(relay) else { return };
        let most = self.shared.timing.refresh_interval;
        if registration.must_ping(self.now, self.sent_at, most) {
            registration.control.keep_alive();
            registration.ping_later(self.now, most);
        }
    }

    /// A hole-punch port has kept its promise, past the NATs: they remember a silence of that length.
    pub(super) fn on_late_echo(&mut self, from: SocketAddr, cookie: Cookie, token: Token) -> Result<(), DropReason> {
        let found = self.relays.iter().enumerate().find_map(|(relay, r)| Some((relay, r.cookies.port_at(from)?)));
        let (relay, port) = found.ok_or(DropReason::UnknownCookie)?;
        let registration = &mut self.relays[relay];
        let connection = registration.control.connection().ok_or(DropReason::UnknownCookie)?;
        if late_token(connection, &cookie, port as u8) != Some(token) {
            return Err(DropReason::BadToken);
        }
        let socket = self.now.saturating_duration_since(self.sent_at);
        let silence = Silence { port: registration.cookies.silence(self.now, port), socket };
        if registration.life.on_late_echo(&cookie, silence)? {
            registration.refresh_at = registration.refresh_at.map(|_| self.now);
            self.refresh(relay);
        }
        Ok(())
    }

    /// Refreshes soon: where this peer is may not be where it was.
    pub(super) fn refresh_soon(&mut self, relay: usize, at_once: bool) {
        let Some(registration) = self.relays.get_mut(relay) else { return };
        let earliest = registration.refreshed_at.filter(|_| !at_once).map(|last| last + REFRESH_AGAIN);
        let soon = earliest.map_or(self.now, |earliest| earliest.max(self.now));
        registration.refresh_at = registration.refresh_at.map(|at| at.min(soon));
        if soon <= self.now {
            registration.control.insist(self.now);
        }
        self.refresh(relay);
    }

    pub(super) fn send_cookie(&mut self, relay: usize, cookie: Cookie, purpose: Purpose, about: &StepAbout) {
        let deadline = self.shared.timing.cookie_deadline;
        let delay = match purpose {
            Purpose::Registration => self.relays[relay].life.asks(),
            Purpose::Introduction(_) | Purpose::Round(_) => 0,
        };
        if let Some(address) = self.relays[relay].cookies.start(self.now, cookie, purpose, Link::Main, delay, deadline)
            && purpose != Purpose::Registration
        {
            self.context().1.step(about, Step::S7, Some(address));
        }
    }

    fn on_observed(&mut self, relay: usize, observed: &Observed) {
        if self.on_looked(relay, observed) {
            return;
        }
        let Observed { port, address, cookie, pool: _ } = *observed;
        if self.relays[relay].knock.is_own(&cookie) {
            let finding = self.relays[relay].knock.on_observed(self.now, &cookie, address);
            return self.on_finding(relay, finding);
        }
        self.evidence.on_observed(self.now, relay, cookie, port, address);
        self.say_where(relay);
        self.tell_nature();
        self.events.push_back(PeerEvent::Observed { port, address });
        let before = self.relays[relay].observed.insert(port, address);
        if before.is_some_and(|before| before != address) {
            self.hurry_all();
        }
        let registration = &mut self.relays[relay];
        if let Some(next) = registration.life.on_observed(self.now, &observed.cookie, port) {
            registration.refresh_at = registration.refresh_at.map(|_| next);
            registration.ping_later(self.now, self.shared.timing.refresh_interval);
        }
        if let Some((purpose, outcome)) = registration.cookies.on_observed(&observed.cookie, port) {
            self.on_cookie(relay, purpose, outcome);
        }
    }

    /// The relay hears this peer from another address than before: NATs do that in silence.
    pub(super) fn on_address_changed(&mut self, relay: usize) {
        self.relays[relay].life.on_address_changed();
        self.refresh_soon(relay, true);
        self.hurry_all();
    }

    fn hurry_all(&mut self) {
        let now = self.now;
        for conn in self.conns() {
            self.with_session(conn, |session, _| session.on_address_changed(now));
        }
    }

    pub(super) fn on_cookie(&mut self, relay: usize, purpose: Purpose, outcome: Outcome) {
        if matches!(purpose, Purpose::Round(_)) {
            return;
        }
        self.trouble.cookies_blocked = outcome == Outcome::Unanswered;
        let address = self.shared.relay(relay);
        if purpose == Purpose::Registration && self.trouble.cookies_blocked {
            let interval = self.shared.timing.refresh_interval;
            let registration = &mut self.relays[relay];
            let again = self.now + registration.life.on_unanswered().map_or(interval, |pause| pause.min(interval));
            registration.refresh_at = registration.refresh_at.map(|at| at.min(again));
            registration.ping_at = None;
            self.events.push_back(PeerEvent::Unanswered { relay: address });
        }
        if purpose == Purpose::Registration && outcome == Outcome::Confirmed {
            self.relays[relay].knock.on_warm(self.now, self.shared.timing.knock_after);
        }
        if outcome == Outcome::Confirmed {
            self.relays[relay].control.feel_soon(self.now);
        }
        if purpose == Purpose::Registration && outcome == Outcome::Confirmed && !self.relays[relay].warm {
            self.relays[relay].warm = true;
            self.events.push_back(PeerEvent::Warm { relay: address });
        }
    }

    fn on_over_quota(&mut self, relay: usize, over: &OverQuota) {
        let OverQuota { reason, bytes: amount, per_ms, dropped } = *over;
        let rate = Rate { amount, per: Duration::from_millis(per_ms) };
        self.events.push_back(PeerEvent::OverQuota { relay: self.shared.relay(relay), reason, rate, dropped });
    }

    /// The relay asks to be left.
    fn on_draining(&mut self, relay: usize, within: Duration) {
        self.relays[relay].draining = Some(self.now + within);
        self.events.push_back(PeerEvent::RelayDraining { relay: self.shared.relay(relay), within });
        let now = self.now;
        for conn in self.conns() {
            self.with_session(conn, |session, _| session.on_relay_draining(relay, now, within));
        }
    }

    fn on_relay_lost(&mut self, relay: usize, error: RelayError) {
        let registration = &mut self.relays[relay];
        registration.rest();
        registration.opened.clear();
        registration.cookies.set_ports(self.now, Vec::new());
        registration.knock.set_port(self.now, None);
        registration.observed.clear();
        let urgent = self.sessions.values().any(Session::depends_on_relays);
        self.relays[relay].control.set_urgent(self.now, urgent);
        for conn in self.conns() {
            self.with_session(conn, |session, ctx| session.on_relay_lost(relay, &error, ctx));
            self.index(conn);
            self.initiate(conn);
        }
        // Connections that still deliver may need the relay once more.
        if self.leaving && !self.is_delivering() {
            self.relays[relay].control.shutdown(self.now);
        } else {
            self.events.push_back(PeerEvent::RelayLost { relay: self.shared.relay(relay), error });
        }
    }

    /// Leaves relays that asked for it and that nothing holds any more, if there is another one.
    pub(super) fn leave_draining(&mut self) {
        let stays = |relay: &Registration| relay.control.is_registered() && relay.draining.is_none();
        if !self.relays.iter().any(stays) {
            return;
        }
        for relay in 0..self.relays.len() {
            let registration = &mut self.relays[relay];
            let held = self.entered.values().flatten().any(|(at, ..)| *at == relay);
            if let Some(until) = registration.draining.filter(|_| registration.control.is_registered() && !held) {
                registration.draining = None;
                registration.control.leave(self.now, until);
            }
        }
    }

    pub(super) fn conns(&self) -> Vec<ConnId> {
        self.sessions.keys().copied().collect()
    }

    /// What sessions have noticed and is the whole peer's affair.
    pub(super) fn heed_trouble(&mut self) {
        let (address, silent) = (self.trouble.address, self.trouble.silent_relays);
        (self.trouble.address, self.trouble.silent_relays) = (false, 0);
        for relay in 0..self.relays.len() {
            let control = &mut self.relays[relay].control;
            if silent & (1 << relay) != 0 {
                control.check(self.now);
            }
            if address && !control.is_registered() {
                control.set_urgent(self.now, true);
            }
            if address {
                self.refresh_soon(relay, false);
            }
        }
    }

    /// The network under this peer has changed, or may have: another interface, another route, back from sleep.
    ///
    /// `local` are the addresses at which its sockets can be reached on this machine's own networks, with the ports;
    /// the driver says so at the start too. Everything is registered, observed and probed anew over what still works.
    pub fn network_changed(&mut self, now: Instant, local: &[SocketAddr]) {
        self.advance(now);
        self.shared.reach.v4 |= local.iter().any(SocketAddr::is_ipv4);
        self.shared.reach.v6 |= local.iter().any(SocketAddr::is_ipv6);
        self.evidence.set_local(local);
        self.say_where_all();
        self.start_over();
        self.drive();
    }

    /// Nothing that was known of the network counts any more.
    pub(super) fn start_over(&mut self) {
        self.evidence.forget();
        for relay in 0..self.relays.len() {
            self.relays[relay].control.on_network_changed(self.now);
            self.relays[relay].life.forget();
            self.relays[relay].knock.forget(self.now);
            self.refresh_soon(relay, true);
        }
        for conn in self.conns() {
            self.with_session(conn, Session::on_network_changed);
        }
    }
}
