//! Which path carries a connection's packets (S10–S13 and ever after).
//!
//! [`Paths`] is told what comes in and what goes out, by which way; the addresses the other side may have (S9); and the
//! time. It says what probes to send, by which way the next packet goes ([`Paths::route`]), and, as events, when the
//! data has moved. That is all of its interface: it knows neither QUIC nor the relay.
//!
//! Addresses come in by [`Paths::learn`] or with the other side's authentic probes. Each is punched; what has proven its
//! round trip may carry data (S12, S13). Until then packets go through the relay and, within a budget, doubled to where
//! they may already arrive, so that the first data needs no second round trip. A path that carries data and leaves it
//! unanswered is doubled in the same way, and left once another one answers.

mod candidate;
mod candidates;
mod choice;
mod evidence;
mod floor;
mod keep_alive;
mod liveness;
mod pattern;
mod probe;
mod punch;
mod reach;
mod record;
mod relayed;
mod rounds;
mod route;
mod status;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use candidate::{Candidate, Care, Kind, PUNCHES};
use candidates::{MAX_CANDIDATES, MAX_FRESH};
use keep_alive::KeepAlive;
use liveness::Liveness;
pub(crate) use probe::ProbeKeys;
pub(crate) use reach::Reach;
use relayed::Relayed;
use rounds::{GUESSING_PACKETS, Rounds};
pub(crate) use rounds::{Nat, Need};
pub(crate) use route::Route;

use crate::{
    DirectFailure, Link, PathPolicy, PathReason, Techniques,
    drops::DropReason,
    rng::Rng,
    step::Role,
    wire::{
        datagram::{Datagram, ProbeFields, Tag},
        message::PunchSecret,
    },
};

/// Probes that both sides of an introduction together send at most to addresses that have not been heard from, or whose
/// round trip is not proven: plainly, and where ports are guessed.
pub const PUNCHING_PACKETS: u64 = 2 * (MAX_CANDIDATES * 2 * PUNCHES) as u64 + GUESSING_PACKETS;
/// A connection that has carried no data for this long is at rest.
const IN_USE: Duration = Duration::from_secs(10);
/// Data that has been unanswered for this long has made QUIC back off by as much (RFC 9002, section 6.2): longer than a
/// path has to answer before it counts as failing, and a person would notice if it lasted twice as long.
const LONG_WAIT: Duration = Duration::from_millis(300);
/// Whoever answers keep-alives leads a little behind whoever sends them, so that one side's serve both.
const FOLLOWER_LAG: Duration = Duration::from_secs(4);

/// One of our sockets and an address of the other side's: a candidate pair (RFC 8445, section 6.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair {
    pub(crate) link: Link,
    pub(crate) remote: SocketAddr,
}

impl Pair {
    /// With the socket that everything begins on.
    pub(crate) fn main(remote: SocketAddr) -> Self {
        Self { link: Link::Main, remote }
    }
}

/// A way to the other peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// Through the relay.
    Relay,
    /// Straight.
    Direct(Pair),
}

/// What the path did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathEvent {
    /// The first probe has gone to this address: S10 (P4) or S11 (P2).
    Punching(SocketAddr),
    /// The data moves. Onto a direct path it does after a proven round trip: S12 (P4), S13 (P2).
    Moved(Via),
    /// Nothing came back for long enough.
    GaveUp(DirectFailure),
    /// The path that carries the data looks as if it did not work: perhaps our own address has changed.
    Doubted,
    /// It answers again after a long time: whoever has backed off need not wait any longer.
    Recovered,
    /// The relay does not answer when it should.
    RelaySilent,
}

/// A probe or check to be sent.
pub(crate) struct Outgoing {
    pub(crate) via: Via,
    /// Routers that it may pass.
    pub(crate) hops: Option<u8>,
    pub(crate) datagram: Datagram,
    pub(crate) event: Option<PathEvent>,
}

/// The paths of one connection.
pub(crate) struct Paths {
    role: Role,
    policy: PathPolicy,
    rng: Rng,
    keys: Option<ProbeKeys>,
    /// Whether there is a way through a relay now.
    attached: bool,
    relayed: Relayed,
    candidates: Vec<Candidate>,
    /// The way the data goes, since when, and why.
    current: Via,
    since: Instant,
    reason: PathReason,
    /// Since when packets have gone the current way alone, so that their acknowledgements speak for it.
    alone_since: Option<Instant>,
    /// When the other side's doubt last became ours.
    doubted_with: Option<Instant>,
    last_use: Option<Instant>,
    /// The network has become another since the current path last answered: nobody knows how long nothing has passed.
    displaced: bool,
    keep_alive: KeepAlive,
    /// When punching is given up, while it goes on.
    deadline: Option<Instant>,
    given_up: bool,
    /// New addresses that may still be tried, and when that was last raised.
    fresh: u32,
    fresh_since: Instant,
    /// Where the other side has been seen by the relay, the latest first: it may be punched there at other ports too.
    hosts: Vec<IpAddr>,
    rounds: Rounds,
}

impl Paths {
    pub(crate) fn new(now: Instant, role: Role, policy: PathPolicy, techniques: Techniques, rng: Rng) -> Self {
        Self {
            role,
            policy,
            rng,
            keys: None,
            attached: false,
            relayed: Relayed::new(now),
            candidates: Vec::new(),
            current: Via::Relay,
            since: now,
            reason: PathReason::Began,
            alone_since: None,
            doubted_with: None,
            last_use: None,
            displaced: false,
            keep_alive: KeepAlive::default(),
            deadline: None,
            given_up: false,
            fresh: MAX_FRESH,
            fresh_since: now,
            hosts: Vec::new(),
            rounds: Rounds::new(techniques, role == Role::P2),
        }
    }

    /// Takes the introduction's secret; gives the tag by which probes for this connection are known.
    pub(crate) fn set_secret(&mut self, secret: &PunchSecret) -> Tag {
        self.keys.insert(ProbeKeys::new(secret, self.role)).own_tag()
    }

    pub(crate) fn tag(&self) -> Option<Tag> {
        self.keys.as_ref().map(ProbeKeys::own_tag)
    }

    /// There is a way through a relay from now on, perhaps another one than before; or there is none.
    pub(crate) fn on_attached(&mut self, now: Instant, attached: bool) {
        self.attached = attached;
        self.alone_since = None;
        if attached {
            self.relayed.renew(now);
        }
    }

    /// Punching is to lead somewhere by then, or it is given up.
    pub(crate) fn start(&mut self, now: Instant, deadline: Instant) {
        if self.current == Via::Relay {
            self.plan_rounds(now);
            self.deadline = Some(deadline);
            self.given_up = false;
        }
    }

    fn give_up(&mut self) -> PathEvent {
        self.deadline = None;
        self.given_up = true;
        let nowhere = self.candidates.is_empty();
        PathEvent::GaveUp(if nowhere { DirectFailure::NoAddress } else { DirectFailure::NoRoundTrip })
    }

    /// A probe came this way: its echo, if it is authentic. `full`: it was of full size.
    pub(crate) fn on_probe(
        &mut self,
        now: Instant,
        via: Via,
        full: bool,
        fields: &ProbeFields,
    ) -> Result<ProbeFields, DropReason> {
        let keys = self.keys.as_ref().ok_or(DropReason::BadProbe)?;
        if !keys.is_probe(fields) {
            return Err(DropReason::BadProbe);
        }
        let echo = keys.echo(fields.nonce);
        match via {
            Via::Relay => self.on_heard(now, via),
            Via::Direct(from) => {
                if let Some(candidate) = self.candidate(now, from) {
                    candidate.on_heard(now);
                }
                self.rounds.on_heard(now, from);
                if full && via == self.current {
                    self.doubt_with_them(now);
                }
            }
        }
        Ok(echo)
    }

    /// An echo came this way: the move it brings about, if any.
    pub(crate) fn on_echo(
        &mut self,
        now: Instant,
        via: Via,
        fields: &ProbeFields,
    ) -> Result<Option<PathEvent>, DropReason> {
        if !self.keys.as_ref().is_some_and(|keys| keys.is_echo(fields)) {
            return Err(DropReason::BadProbe);
        }
        let rested = self.current_candidate().and_then(|current| Some(current.liveness()?.rested()));
        let waited = self.current_liveness().and_then(|liveness| liveness.waited(now));
        let answered = match via {
            Via::Relay => self.relayed.on_echo(now, fields.nonce),
            Via::Direct(from) => self.at(from).ok_or(DropReason::BadProbe)?.on_echo(now, fields.nonce),
        };
        answered.ok_or(DropReason::BadProbe)?;
        if via == self.current
            && via != Via::Relay
            && let Some(rested) = rested
        {
            self.keep_alive.on_survived(rested);
        }
        let long = waited.is_some_and(|waited| waited >= LONG_WAIT);
        let recovered = via == self.current && (long || std::mem::take(&mut self.displaced));
        Ok(self.decide(now).or(recovered.then_some(PathEvent::Recovered)))
    }

    /// The network is another, or time has passed that nobody lived through: nothing that was known counts.
    pub(crate) fn on_network_changed(&mut self, now: Instant, punch_until: Instant) {
        self.keep_alive.forget();
        self.fresh = MAX_FRESH;
        self.candidates.iter_mut().for_each(|candidate| candidate.forgive(now));
        self.relayed.liveness.forgive(now);
        self.alone_since = None;
        self.displaced = true;
        match self.current {
            Via::Relay => {
                self.deadline = Some(punch_until);
                self.plan_rounds(now);
            }
            Via::Direct(pair) => {
                if let Some(liveness) = self.at(pair).and_then(Candidate::liveness_mut) {
                    liveness.doubt(now);
                }
            }
        }
    }

    /// The data goes through another relay than before, or through the same one anew.
    pub(crate) fn on_relay_moved(&mut self, now: Instant) {
        (self.since, self.reason) = (now, PathReason::RelayLost);
    }

    /// Whether the relay left checks unanswered, and has not answered since.
    pub(crate) fn is_relay_silent(&self) -> bool {
        self.relayed.is_silent()
    }

    /// One side's address may be another now: what worked once is tried at once.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.candidates.iter_mut().for_each(|candidate| candidate.hurry(now));
    }

    fn in_use(&self, now: Instant) -> bool {
        self.last_use.is_some_and(|used| used + IN_USE > now)
    }

    fn care(&self, now: Instant, pair: Pair) -> Care {
        let lag = if self.role == Role::P2 { Duration::ZERO } else { FOLLOWER_LAG };
        Care {
            trouble: self.is_in_trouble(now),
            current: self.current == Via::Direct(pair),
            in_use: self.in_use(now),
            rest: self.keep_alive.pause() + lag,
        }
    }

    /// Whether the direct path that carries the data is in trouble, so that the relay's answer matters.
    fn is_in_trouble(&self, now: Instant) -> bool {
        self.current_candidate()
            .and_then(Candidate::liveness)
            .is_some_and(|liveness| liveness.is_doubtful(now) || liveness.failing_since(now).is_some())
    }

    fn may_relay(&self) -> bool {
        self.attached && self.policy != PathPolicy::DirectOnly
    }

    /// The next probe to send.
    pub(crate) fn poll_probe(&mut self, now: Instant) -> Option<Outgoing> {
        self.keys.as_ref()?;
        if self.policy != PathPolicy::RelayOnly {
            for at in 0..self.candidates.len() {
                let care = self.care(now, self.candidates[at].pair);
                let Some(kind) = self.candidates[at].on_due(now, care) else { continue };
                let (nonce, pair) = (self.rng.bytes(), self.candidates[at].pair);
                let doubted = self.candidates[at].on_sent(now, nonce, kind) && care.current;
                let fields = self.keys.as_ref()?.probe(nonce);
                let event = match kind {
                    Kind::Probe { first: true } => Some(PathEvent::Punching(pair.remote)),
                    Kind::Probe { first: false } | Kind::Check => doubted.then_some(PathEvent::Doubted),
                };
                let datagram = if kind == Kind::Check { Datagram::Check(fields) } else { Datagram::Probe(fields) };
                return Some(Outgoing { via: Via::Direct(pair), hops: None, datagram, event });
            }
            if let Some(out) = self.poll_round(now) {
                return Some(out);
            }
        }
        self.relay_check(now).filter(|at| *at <= now)?;
        let nonce = self.rng.bytes();
        let event = self.relayed.on_check_sent(now, nonce);
        let datagram = Datagram::Check(self.keys.as_ref()?.probe(nonce));
        Some(Outgoing { via: Via::Relay, hops: None, datagram, event })
    }

    fn relay_check(&self, now: Instant) -> Option<Instant> {
        if !self.may_relay() || self.keys.is_none() {
            return None;
        }
        self.relayed.next_check(now, self.is_in_trouble(now), self.current == Via::Relay)
    }

    /// What time has brought about.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<PathEvent> {
        self.drive_rounds(now);
        let current = self.current;
        for candidate in self.candidates.iter_mut().filter(|c| current != Via::Direct(c.pair)) {
            candidate.lose_spare(now);
        }
        self.let_go();
        if let Some(event) = self.decide(now) {
            return Some(event);
        }
        self.deadline.is_some_and(|deadline| deadline <= now).then(|| self.give_up())
    }

    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let probes = self.candidates.iter().filter_map(|c| c.next(now, self.care(now, c.pair)));
        let probes = probes.filter(|_| self.keys.is_some());
        probes.chain(self.relay_check(now)).chain(self.deadline).chain(self.round_due()).min()
    }

    /// Bytes of UDP payload went out or came in this way.
    pub(crate) fn count(&mut self, via: Via, sent: usize, received: usize) {
        let record = match via {
            Via::Relay => Some(&mut self.relayed.record),
            Via::Direct(pair) => self.at(pair).map(|candidate| &mut candidate.record),
        };
        if let Some(record) = record {
            record.sent_bytes += sent as u64;
            record.received_bytes += received as u64;
        }
    }
}
