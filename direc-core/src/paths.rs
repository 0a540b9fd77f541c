//! Which path carries a connection's packets (S10–S13 and ever after).
//!
//! Addresses come in by [`Paths::learn`] (S9) or with the other side's authentic probes. Each is punched; the first
//! whose round trip is proven becomes the path (S12, S13). Until then packets go through the relay and, within a
//! budget, doubled to where they may already arrive, so that the first data needs no second round trip.

mod candidate;
mod liveness;
mod probe;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use candidate::{Candidate, Due, is_plausible};
pub(crate) use probe::ProbeKeys;

use crate::{
    DirectFailure,
    drops::DropReason,
    rng::Rng,
    step::Role,
    wire::{
        datagram::{Datagram, ProbeFields, Tag},
        message::PunchSecret,
    },
};

/// Addresses of the other side that are kept.
const MAX_CANDIDATES: usize = 8;
/// Addresses that are tried in one round of punching, and one more in each of these pauses after it: a relay that lies,
/// or two NATs that give each of our probes another port, must not keep us busy for ever.
const MAX_FRESH: u32 = 16;
const FRESH_AGAIN: Duration = Duration::from_secs(10);

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Through the relay.
    Relay,
    /// Through the relay and, as far as [`Paths::doubles`] says, straight as well.
    Both,
    /// Straight.
    Direct(SocketAddr),
}

/// What the path did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathEvent {
    /// The first probe has gone to this address: S10 (P4) or S11 (P2).
    Punching(SocketAddr),
    /// A round trip is proven and the connection is to move there: S12 (P4) or S13 (P2).
    Moved { address: SocketAddr, rtt: Duration },
    /// The direct path has died: back to the relay.
    Lost(SocketAddr),
    /// Nothing came back for long enough.
    GaveUp(DirectFailure),
}

/// The paths of one connection.
pub(crate) struct Paths {
    role: Role,
    relay: SocketAddr,
    rng: Rng,
    keys: Option<ProbeKeys>,
    candidates: Vec<Candidate>,
    direct: Option<SocketAddr>,
    /// When punching is given up, while it goes on.
    deadline: Option<Instant>,
    given_up: bool,
    /// New addresses that may still be tried, and when that was last raised.
    fresh: u32,
    fresh_since: Option<Instant>,
}

impl Paths {
    pub(crate) fn new(role: Role, relay: SocketAddr, rng: Rng) -> Self {
        Self {
            role,
            relay,
            rng,
            keys: None,
            candidates: Vec::new(),
            direct: None,
            deadline: None,
            given_up: false,
            fresh: MAX_FRESH,
            fresh_since: None,
        }
    }

    /// Takes the introduction's secret; gives the tag by which probes for this connection are known.
    pub(crate) fn set_secret(&mut self, secret: &PunchSecret) -> Tag {
        self.keys.insert(ProbeKeys::new(secret, self.role)).own_tag()
    }

    pub(crate) fn tag(&self) -> Option<Tag> {
        self.keys.as_ref().map(ProbeKeys::own_tag)
    }

    /// Punching is to lead somewhere by then, or it is given up.
    pub(crate) fn start(&mut self, deadline: Instant) {
        if self.direct.is_none() {
            self.deadline = Some(deadline);
            self.given_up = false;
        }
    }

    /// P3 will tell no more addresses: without any there is nothing to wait for.
    pub(crate) fn no_more_addresses(&mut self) -> Option<PathEvent> {
        (self.candidates.is_empty() && !self.given_up).then(|| self.give_up())
    }

    fn give_up(&mut self) -> PathEvent {
        self.deadline = None;
        self.given_up = true;
        let nowhere = self.candidates.is_empty();
        PathEvent::GaveUp(if nowhere { DirectFailure::NoAddress } else { DirectFailure::NoRoundTrip })
    }

    /// Addresses that the relay told (S9).
    pub(crate) fn learn(&mut self, now: Instant, addresses: &[SocketAddr]) {
        for &address in addresses {
            if is_plausible(address, self.relay) {
                self.candidate(now, address);
            }
        }
    }

    /// What is known of an address; a new one takes the place of one that led nowhere, as long as new ones are allowed.
    fn candidate(&mut self, now: Instant, address: SocketAddr) -> Option<&mut Candidate> {
        if let Some(at) = self.candidates.iter().position(|candidate| candidate.address == address) {
            return self.candidates.get_mut(at);
        }
        let place = if self.candidates.len() < MAX_CANDIDATES {
            self.candidates.len()
        } else {
            self.candidates.iter().position(Candidate::is_spent)?
        };
        if !self.spend_fresh(now) {
            return None;
        }
        let candidate = Candidate::new(now, address);
        match self.candidates.get_mut(place) {
            Some(spent) => *spent = candidate,
            None => self.candidates.push(candidate),
        }
        self.candidates.get_mut(place)
    }

    fn spend_fresh(&mut self, now: Instant) -> bool {
        let since = *self.fresh_since.get_or_insert(now);
        let periods = now.saturating_duration_since(since).as_secs() / FRESH_AGAIN.as_secs();
        if periods > 0 {
            self.fresh = self.fresh.saturating_add(u32::try_from(periods).unwrap_or(u32::MAX)).min(MAX_FRESH);
            self.fresh_since = Some(now);
        }
        let allowed = self.fresh > 0;
        self.fresh -= u32::from(allowed);
        allowed
    }

    /// A probe came from this address: its echo, if it is authentic.
    pub(crate) fn on_probe(
        &mut self,
        now: Instant,
        from: SocketAddr,
        fields: &ProbeFields,
    ) -> Result<ProbeFields, DropReason> {
        let keys = self.keys.as_ref().ok_or(DropReason::BadProbe)?;
        if !keys.is_probe(fields) {
            return Err(DropReason::BadProbe);
        }
        let echo = keys.echo(fields.nonce);
        if let Some(candidate) = self.candidate(now, from) {
            candidate.on_heard(now);
        }
        Ok(echo)
    }

    /// An echo came from this address: the move it brings about, if any.
    pub(crate) fn on_echo(
        &mut self,
        now: Instant,
        from: SocketAddr,
        fields: &ProbeFields,
    ) -> Result<Option<PathEvent>, DropReason> {
        if !self.keys.as_ref().is_some_and(|keys| keys.is_echo(fields)) {
            return Err(DropReason::BadProbe);
        }
        let candidate = self.candidates.iter_mut().find(|candidate| candidate.address == from);
        let candidate = candidate.ok_or(DropReason::BadProbe)?;
        let rtt = candidate.on_echo(now, fields.nonce).ok_or(DropReason::BadProbe)?;
        if !candidate.is_proven() || !self.wants_another(now, from) {
            return Ok(None);
        }
        self.direct = Some(from);
        self.deadline = None;
        Ok(Some(PathEvent::Moved { address: from, rtt }))
    }

    /// Whether there is no direct path, or one that has begun to look dead.
    fn wants_another(&self, now: Instant, than: SocketAddr) -> bool {
        self.direct.is_none_or(|direct| {
            direct != than && self.candidates.iter().any(|c| c.address == direct && c.is_doubtful(now))
        })
    }

    /// Packets other than probes go straight.
    pub(crate) fn on_use(&mut self, now: Instant) {
        let direct = self.direct;
        if let Some(candidate) = self.candidates.iter_mut().find(|candidate| Some(candidate.address) == direct) {
            candidate.on_use(now);
        }
    }

    /// The next probe to send, with what it is for people.
    pub(crate) fn poll_probe(&mut self, now: Instant) -> Option<(SocketAddr, Datagram, Option<PathEvent>)> {
        let keys = self.keys.as_ref()?;
        for candidate in &mut self.candidates {
            if let Due::Probe { first, check } = candidate.on_due(now) {
                let nonce = self.rng.bytes();
                candidate.on_probe_sent(now, nonce);
                let event = first.then_some(PathEvent::Punching(candidate.address));
                let datagram =
                    if check { Datagram::Check(keys.probe(nonce)) } else { Datagram::Probe(keys.probe(nonce)) };
                return Some((candidate.address, datagram, event));
            }
        }
        None
    }

    /// What time has brought about.
    pub(crate) fn handle_timeout(&mut self, now: Instant, punch_again: Instant) -> Option<PathEvent> {
        let direct = self.direct;
        let died = self.candidates.iter_mut().any(|c| c.die(now) && Some(c.address) == direct);
        if let (true, Some(direct)) = (died, direct) {
            self.direct = None;
            self.deadline = Some(punch_again);
            self.given_up = false;
            self.fresh = MAX_FRESH;
            self.candidates.iter_mut().filter(|c| c.address != direct).for_each(|c| c.restart(now));
            return Some(PathEvent::Lost(direct));
        }
        self.deadline.is_some_and(|deadline| deadline <= now).then(|| self.give_up())
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let probes = self.candidates.iter().filter(|_| self.keys.is_some()).filter_map(Candidate::next);
        probes.chain(self.deadline).min()
    }

    /// Where the next packet goes. P4 doubles its first flight to addresses it has only been told (S10): that is what
    /// makes its packets P2's first direct ones at a+b+c.
    pub(crate) fn route(&self, handshaking: bool) -> Route {
        if let Some(address) = self.direct {
            return Route::Direct(address);
        }
        let told = self.role == Role::P4 && handshaking && !self.candidates.is_empty();
        if told || self.candidates.iter().any(Candidate::is_heard) { Route::Both } else { Route::Relay }
    }

    /// The addresses to which a packet that goes both ways is doubled; each counts against its budget.
    pub(crate) fn doubles(&mut self, handshaking: bool) -> Vec<SocketAddr> {
        let told = self.role == Role::P4 && handshaking;
        let due = self.candidates.iter_mut().filter(|candidate| told || candidate.is_heard());
        due.filter_map(|candidate| candidate.spend().then_some(candidate.address)).collect()
    }

    pub(crate) fn direct(&self) -> Option<SocketAddr> {
        self.direct
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        let direct = self.direct?;
        self.candidates.iter().find(|candidate| candidate.address == direct)?.rtt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn a_peer_that_comes_from_another_port_each_time_does_not_keep_us_busy_for_ever() {
        let (secret, relay) = ([5; 32], "203.0.113.10:4433".parse().unwrap());
        let mut p2 = Paths::new(Role::P2, relay, Rng::new([1; 32]));
        p2.set_secret(&secret);
        let p4 = ProbeKeys::new(&secret, Role::P4);
        let (mut now, mut probes) = (Instant::now(), 0);
        p2.start(now + Duration::from_secs(10));
        for second in 0..600u32 {
            for n in 0..20u32 {
                let port = 1024 + (second * 20 + n) as u16;
                let from = SocketAddr::new([198, 51, 100, 1].into(), port);
                assert!(p2.on_probe(now, from, &p4.probe([n as u8; 8])).is_ok(), "an authentic probe is echoed");
                probes += std::iter::from_fn(|| p2.poll_probe(now)).count();
                now += Duration::from_millis(50);
                p2.handle_timeout(now, now);
            }
        }
        // 16 addresses at once and one every 10 s, each with its schedule of nine, or two if it was heard late.
        assert!(probes <= (16 + 60) * 18, "{probes} probes in ten minutes");
    }
}
