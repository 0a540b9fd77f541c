//! One packet that this peer's NAT has not asked for, asked of a relay: what the NAT does with it.
//!
//! It comes from a port of the relay's to which this peer has sent nothing. If it gets in, the filter does not look at
//! ports (RFC 4787, section 5). If it does not, the peer's own packet goes out to that port next: a NAT that has kept the
//! stranger's packet in mind has now no free mapping there, and gives this one another port. That is the inbound-first
//! clash, and it tells who has to punch first.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{
    Peer,
    cookies::{Cookies, Outcome, Purpose},
    registration::Registration,
};
use crate::{
    Link, PeerEvent,
    drops::DropReason,
    quic::tls::knock_token,
    wire::datagram::{Cookie, Token},
};

/// A relay that knocks says so within this time, or does not.
const ANSWER: Duration = Duration::from_secs(5);
/// A knock comes so much later than word of it, or was kept out or lost.
const PATIENCE: Duration = Duration::from_millis(300);
/// NATs may remember for this long that we have sent to the knock port; until then a knock shows nothing. RFC 4787, REQ-5
/// asks for two minutes at least, and five are common.
const MEMORY: Duration = Duration::from_secs(330);
/// A knock that did not get in may have been lost on the way. So many are asked for before that is believed for good.
const TRIES: u32 = 2;

/// What a knock has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It came in.
    LetIn,
    /// It did not, and our own packet to that port has this address outside, if it got there at all.
    KeptOut(Option<SocketAddr>),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Ask the relay to knock, with this cookie.
    Ask,
    /// Send our own cookie to the knock port.
    Answer,
}

#[derive(Clone, Copy)]
enum State {
    /// Nothing is known, and the registration is not warm.
    New,
    /// To be asked for then, or when the last connection has ended.
    Waiting { at: Instant },
    /// The relay has been asked.
    Asked { cookie: Cookie, until: Instant },
    /// The relay has knocked.
    Knocked { cookie: Cookie, until: Instant },
    /// Our own packet is under way.
    Answering { cookie: Cookie },
    /// All is known that will be, or this relay does not knock.
    Done,
}

/// The test at one relay.
pub(super) struct Knock {
    state: State,
    port: Option<u16>,
    tries: u32,
    /// When we last sent to the knock port, and where from as the outside sees it.
    used: Option<(Instant, IpAddr)>,
    /// Our own packet's way there.
    pub(super) cookies: Cookies,
}

impl Knock {
    pub(super) fn new(relay: IpAddr) -> Self {
        Self { state: State::New, port: None, tries: 0, used: None, cookies: Cookies::new(relay) }
    }

    /// The relay has said whether it knocks, and from where.
    pub(super) fn set_port(&mut self, now: Instant, port: Option<u16>) {
        self.port = port.filter(|&port| port != 0);
        self.cookies.set_ports(now, self.port.into_iter().collect());
        self.rest();
    }

    /// The registration is gone or about to be; the next one goes on with what is still to be found out.
    pub(super) fn rest(&mut self) {
        let done = matches!(self.state, State::Done) || self.tries >= TRIES;
        self.state = if done { State::Done } else { State::New };
    }

    /// Another network: what was found out is not true there.
    pub(super) fn forget(&mut self, now: Instant) {
        (self.state, self.tries) = (State::New, 0);
        self.cookies.set_ports(now, self.port.into_iter().collect());
    }

    /// The addresses are known: time to find out the rest, if it is to be.
    pub(super) fn on_warm(&mut self, now: Instant, after: Option<Duration>) {
        if let (State::New, Some(after), true) = (self.state, after, self.port.is_some()) {
            self.state = State::Waiting { at: now + after };
        }
    }

    /// What is due. `at` is where this peer is to the outside, and `idle` whether it has no connection.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        at: Option<IpAddr>,
        idle: bool,
        draw: impl FnOnce() -> Cookie,
    ) -> Option<(Act, Cookie)> {
        match self.state {
            State::Waiting { at: due } if due <= now && idle => {
                if let Some((used, _)) = self.used.filter(|(used, from)| *used + MEMORY > now && at == Some(*from)) {
                    self.state = State::Waiting { at: used + MEMORY };
                    return None;
                }
                let cookie = draw();
                self.tries += 1;
                self.state = State::Asked { cookie, until: now + ANSWER };
                Some((Act::Ask, cookie))
            }
            State::Asked { until, .. } if until <= now => {
                self.again(now);
                None
            }
            State::Knocked { until, .. } if until <= now => {
                let cookie = draw();
                self.used = at.map(|at| (now, at));
                self.state = State::Answering { cookie };
                Some((Act::Answer, cookie))
            }
            State::New
            | State::Waiting { .. }
            | State::Asked { .. }
            | State::Knocked { .. }
            | State::Answering { .. }
            | State::Done => None,
        }
    }

    /// The relay says that it has knocked.
    pub(super) fn on_knocked(&mut self, now: Instant, cookie: &Cookie) {
        if let State::Asked { cookie: asked, .. } = self.state
            && asked == *cookie
        {
            self.state = State::Knocked { cookie: asked, until: now + PATIENCE };
        }
    }

    /// Whether a knock with this cookie is waited for.
    pub(super) fn expects(&self, cookie: &Cookie) -> bool {
        matches!(self.state, State::Asked { cookie: asked, .. } | State::Knocked { cookie: asked, .. } if asked == *cookie)
    }

    /// The knock has come in, and is the relay's.
    pub(super) fn on_knock(&mut self) -> Finding {
        self.state = State::Done;
        Finding::LetIn
    }

    /// The relay has seen the cookie that went to its knock port.
    pub(super) fn on_observed(&mut self, now: Instant, cookie: &Cookie, address: SocketAddr) -> Option<Finding> {
        self.cookies.on_observed(cookie, 0)?;
        self.end(now, Some(address))
    }

    /// What has come to nothing.
    pub(super) fn poll_expired(&mut self, now: Instant) -> Option<Finding> {
        match self.cookies.poll_expired(now) {
            Some((Purpose::Registration, Outcome::Unanswered)) => self.end(now, None),
            _ => None,
        }
    }

    fn end(&mut self, now: Instant, address: Option<SocketAddr>) -> Option<Finding> {
        if !matches!(self.state, State::Answering { .. }) {
            return None;
        }
        self.again(now);
        Some(Finding::KeptOut(address))
    }

    fn again(&mut self, now: Instant) {
        self.state = if self.tries < TRIES { State::Waiting { at: now + MEMORY } } else { State::Done };
    }

    /// Whether this cookie is on its way to the knock port.
    pub(super) fn is_own(&self, cookie: &Cookie) -> bool {
        matches!(self.state, State::Answering { cookie: own } if own == *cookie)
    }

    /// When [`Self::poll`] may have something to do.
    pub(super) fn due(&self, idle: bool) -> Option<Instant> {
        match self.state {
            State::Waiting { at } => Some(at).filter(|_| idle),
            State::Asked { until, .. } | State::Knocked { until, .. } => Some(until),
            State::New | State::Answering { .. } | State::Done => None,
        }
    }
}

impl Peer {
    /// The relay hears this peer from this address.
    pub(super) fn on_seen(&mut self, relay: usize, address: SocketAddr) {
        let tunnelled = self.relays[relay].control.link() != Link::Main;
        let before = self.evidence.on_seen(self.now, relay, address, tunnelled);
        self.say_where(relay);
        self.tell_nature();
        if before.is_some_and(|before| before != address) {
            self.on_address_changed(relay);
        }
    }

    /// Asks for a knock when it is time, and does what follows from it.
    pub(super) fn drive_knock(&mut self, relay: usize) {
        let (idle, at) = (self.sessions.is_empty(), self.evidence.host(relay));
        let Some(registration) = self.relays.get_mut(relay).filter(|relay| relay.control.is_registered()) else {
            return;
        };
        let rng = &mut self.rng;
        match registration.knock.poll(self.now, at, idle, || rng.bytes()) {
            Some((Act::Ask, cookie)) => registration.control.ask_to_knock(cookie),
            Some((Act::Answer, cookie)) => {
                registration.control.expect(cookie, false);
                let deadline = self.shared.timing.cookie_deadline;
                registration.knock.cookies.start(self.now, cookie, Purpose::Registration, Link::Main, 0, deadline);
            }
            None => {}
        }
        let finding = self.relays[relay].knock.poll_expired(self.now);
        self.on_finding(relay, finding);
    }

    /// A knock has come in.
    pub(super) fn on_knock(&mut self, from: SocketAddr, cookie: Cookie, token: Token) -> Result<(), DropReason> {
        let expects =
            |relay: &Registration| relay.knock.expects(&cookie) && relay.knock.cookies.port_at(from).is_some();
        let relay = self.relays.iter().position(expects).ok_or(DropReason::UnknownCookie)?;
        let registration = &mut self.relays[relay];
        let connection = registration.control.connection().ok_or(DropReason::UnknownCookie)?;
        if knock_token(connection, &cookie) != Some(token) {
            return Err(DropReason::BadToken);
        }
        let finding = registration.knock.on_knock();
        self.on_finding(relay, Some(finding));
        Ok(())
    }

    pub(super) fn on_finding(&mut self, relay: usize, finding: Option<Finding>) {
        if let Some(finding) = finding {
            self.evidence.on_finding(relay, finding);
            self.tell_nature();
        }
    }

    /// Tells what is known of the NATs, if that is news.
    pub(super) fn tell_nature(&mut self) {
        self.events.extend(self.evidence.news().map(PeerEvent::Nature));
    }
}

#[cfg(test)]
mod tests;
