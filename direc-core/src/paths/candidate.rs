//! One address at which the other peer may be reached, and what is known of it.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::liveness::Liveness;
use crate::wire::datagram::Nonce;

/// Pauses between the probes to an address that has not answered, in milliseconds: dense while both sides' first
/// punches cross, then doubling. With the probes' length the bound of what an address can be made to receive.
const PUNCH_GAPS: [u64; 9] = [25, 50, 100, 200, 400, 800, 1600, 3200, 3200];
/// Pauses between the probes to an address that once worked: it may work again any moment. Each is kept up for so many
/// probes, the last one for as long as the connection lives.
const RETURN_GAPS: [(u32, Duration); 3] =
    [(60, Duration::from_secs(1)), (60, Duration::from_secs(5)), (u32::MAX, Duration::from_secs(30))];
/// Probes whose echo may still come: all of one schedule, however long the round trip.
const OUTSTANDING: usize = 2 * PUNCH_GAPS.len();
/// QUIC datagrams doubled to an address that has not been heard from: the server's first flight (S10).
const UNHEARD_BUDGET: u32 = 8;
/// QUIC datagrams doubled to an address that has been heard from, until its round trip is proven.
const HEARD_BUDGET: u32 = 256;
/// A path that dies often has to prove itself as often in a row before it is trusted again, up to this.
const MAX_PROOFS: u32 = 5;
/// A path that has lived this long is forgiven its earlier deaths.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// How far an address has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Probes go out; nothing has come.
    Punching { sent: usize },
    /// The other side's probe came from there: their packets reach us.
    Heard { sent: usize },
    /// Probes of ours have come back: packets pass both ways.
    Proven { liveness: Liveness, since: Instant },
    /// It was proven once and died.
    Dead { sent: u32 },
    /// All probes are spent.
    Silent { heard: bool },
}

/// What is to be done about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A probe: the `first` one ever, or a `check` of a path that works.
    Probe {
        first: bool,
        check: bool,
    },
    Nothing,
}

#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) address: SocketAddr,
    state: State,
    next: Option<Instant>,
    outstanding: Vec<(Nonce, Instant)>,
    probed: bool,
    doubled: u32,
    deaths: u32,
    /// Echoes in a row since the last death.
    proofs: u32,
}

impl Candidate {
    pub(super) fn new(now: Instant, address: SocketAddr) -> Self {
        Self {
            address,
            state: State::Punching { sent: 0 },
            next: Some(now),
            outstanding: Vec::new(),
            probed: false,
            doubled: 0,
            deaths: 0,
            proofs: 0,
        }
    }

    pub(super) fn is_heard(&self) -> bool {
        matches!(self.state, State::Heard { .. })
    }

    /// Whether all that could be tried was, so that another address may have its place.
    pub(super) fn is_spent(&self) -> bool {
        matches!(self.state, State::Silent { .. } | State::Dead { .. })
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        match self.state {
            State::Proven { liveness, .. } => Some(liveness.rtt),
            State::Punching { .. } | State::Heard { .. } | State::Dead { .. } | State::Silent { .. } => None,
        }
    }

    /// Whether a path that works has begun to look as if it did not.
    pub(super) fn is_doubtful(&self, now: Instant) -> bool {
        matches!(self.state, State::Proven { liveness, .. } if liveness.is_doubtful(now))
    }

    /// When something is due: a probe, or the path's death.
    pub(super) fn next(&self) -> Option<Instant> {
        match self.state {
            State::Proven { liveness, .. } => {
                Some(liveness.dead_at().map_or(liveness.next_check(), |dead| dead.min(liveness.next_check())))
            }
            State::Punching { .. } | State::Heard { .. } | State::Dead { .. } | State::Silent { .. } => self.next,
        }
    }

    /// The other side is about to punch, or says that it is here: try again from the beginning, unless it works.
    pub(super) fn restart(&mut self, now: Instant) {
        if !matches!(self.state, State::Proven { .. }) {
            self.state = State::Punching { sent: 0 };
            self.next = Some(now);
        }
    }

    /// An authentic probe came from there: our own, sent now, will pass what theirs has opened. Only the first one heard
    /// brings a new schedule, or two peers whose echoes are lost would set each other off for ever.
    pub(super) fn on_heard(&mut self, now: Instant) {
        match self.state {
            State::Punching { .. } | State::Silent { heard: false } => {
                self.state = State::Heard { sent: 0 };
                self.next = Some(now);
            }
            State::Heard { .. } | State::Silent { heard: true } | State::Dead { .. } | State::Proven { .. } => {}
        }
    }

    /// An authentic echo came from there: its round trip, if it answers a probe of ours.
    pub(super) fn on_echo(&mut self, now: Instant, nonce: Nonce) -> Option<Duration> {
        let at = self.outstanding.iter().position(|(sent, _)| *sent == nonce)?;
        let (_, sent) = self.outstanding.remove(at);
        let rtt = now.saturating_duration_since(sent);
        self.proofs += 1;
        match &mut self.state {
            State::Proven { liveness, since } => {
                liveness.on_echo(now, rtt);
                if now.saturating_duration_since(*since) > FORGIVEN_AFTER {
                    self.deaths = 0;
                }
            }
            State::Punching { .. } | State::Heard { .. } | State::Dead { .. } | State::Silent { .. } => {
                if self.proofs >= self.deaths.min(MAX_PROOFS) {
                    self.state = State::Proven { liveness: Liveness::new(now, rtt), since: now };
                }
            }
        }
        Some(rtt)
    }

    pub(super) fn is_proven(&self) -> bool {
        matches!(self.state, State::Proven { .. })
    }

    /// Packets other than probes are sent here.
    pub(super) fn on_use(&mut self, now: Instant) {
        if let State::Proven { liveness, .. } = &mut self.state {
            liveness.on_use(now);
        }
    }

    /// Declares a proven path dead if it is; it is then tried again, for as long as the connection lives.
    pub(super) fn die(&mut self, now: Instant) -> bool {
        let State::Proven { liveness, .. } = self.state else { return false };
        if liveness.dead_at().is_none_or(|dead| dead > now) {
            return false;
        }
        self.state = State::Dead { sent: 0 };
        self.next = Some(now);
        self.deaths += 1;
        self.proofs = 0;
        self.outstanding.clear();
        true
    }

    /// What is to be done now; a probe is then to be sent with a nonce given to [`Self::on_probe_sent`].
    pub(super) fn on_due(&mut self, now: Instant) -> Due {
        let probe = Due::Probe { first: !self.probed, check: false };
        if let State::Proven { liveness, .. } = &mut self.state {
            if liveness.next_check() > now {
                return Due::Nothing;
            }
            liveness.on_check_sent(now);
            return Due::Probe { first: false, check: true };
        }
        if self.next.is_none_or(|next| next > now) {
            return Due::Nothing;
        }
        let gap = |ms: u64| Some(Duration::from_millis(ms));
        let (state, gap, due) = match self.state {
            State::Punching { sent } => match PUNCH_GAPS.get(sent) {
                Some(&ms) => (State::Punching { sent: sent + 1 }, gap(ms), probe),
                None => (State::Silent { heard: false }, None, Due::Nothing),
            },
            State::Heard { sent } => match PUNCH_GAPS.get(sent) {
                Some(&ms) => (State::Heard { sent: sent + 1 }, gap(ms), probe),
                None => (State::Silent { heard: true }, None, Due::Nothing),
            },
            State::Dead { sent } => (State::Dead { sent: sent.saturating_add(1) }, Some(return_gap(sent)), probe),
            State::Silent { .. } | State::Proven { .. } => (self.state, None, Due::Nothing),
        };
        self.state = state;
        self.next = gap.map(|gap| now + gap);
        due
    }

    pub(super) fn on_probe_sent(&mut self, now: Instant, nonce: Nonce) {
        self.probed = true;
        if self.outstanding.len() >= OUTSTANDING {
            self.outstanding.remove(0);
        }
        self.outstanding.push((nonce, now));
    }

    /// Whether one more QUIC datagram may be doubled to here.
    pub(super) fn spend(&mut self) -> bool {
        let budget = match self.state {
            State::Punching { .. } => UNHEARD_BUDGET,
            State::Heard { .. } => HEARD_BUDGET,
            State::Proven { .. } | State::Dead { .. } | State::Silent { .. } => 0,
        };
        let allowed = self.doubled < budget;
        self.doubled += u32::from(allowed);
        allowed
    }
}

fn return_gap(sent: u32) -> Duration {
    let mut left = sent;
    for (probes, gap) in RETURN_GAPS {
        if left < probes {
            return gap;
        }
        left -= probes;
    }
    RETURN_GAPS[RETURN_GAPS.len() - 1].1
}

/// Whether an address that a message named may be probed at all: somebody else's choice must not make us send to
/// places where nobody's NAT is.
pub(super) fn is_plausible(address: SocketAddr, relay: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    let pointless = address.port() == 0 || ip.is_unspecified() || ip.is_multicast() || broadcast;
    // Loopback is a peer's address only where the relay sees it from there too.
    let foreign_loopback = ip.is_loopback() && !relay.ip().is_loopback();
    !pointless && !foreign_loopback && address != relay && address.is_ipv4() == relay.is_ipv4()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn candidate() -> (Candidate, Instant) {
        let now = Instant::now();
        (Candidate::new(now, "198.51.100.1:9".parse().unwrap()), now)
    }

    /// Lets time pass until the candidate has nothing more to do; gives the probes sent.
    fn run(candidate: &mut Candidate, now: &mut Instant) -> usize {
        let mut probes = 0;
        while let Some(next) = candidate.next() {
            *now = next.max(*now);
            if let Due::Probe { .. } = candidate.on_due(*now) {
                probes += 1;
                candidate.on_probe_sent(*now, [probes as u8; 8]);
            }
        }
        probes
    }

    /// Sends the probe that is due, and has it echoed 40 ms later.
    fn prove(candidate: &mut Candidate, now: &mut Instant) -> Option<Duration> {
        assert!(matches!(candidate.on_due(*now), Due::Probe { .. }));
        candidate.on_probe_sent(*now, [7; 8]);
        *now += Duration::from_millis(40);
        candidate.on_echo(*now, [7; 8])
    }

    fn kill(candidate: &mut Candidate, now: &mut Instant) {
        for _ in 0..10_000 {
            *now += Duration::from_millis(10);
            candidate.on_use(*now);
            candidate.on_due(*now);
            if candidate.die(*now) {
                return;
            }
        }
        panic!("it lives");
    }

    #[test]
    fn an_address_that_never_answers_gets_nine_probes_and_no_more() {
        let (mut candidate, mut now) = candidate();
        assert_eq!(run(&mut candidate, &mut now), PUNCH_GAPS.len());
        assert!((0..100).filter(|_| candidate.spend()).count() == 0);
    }

    #[test]
    fn an_address_not_heard_from_gets_a_flight_of_quic_and_no_more() {
        let (mut candidate, _) = candidate();
        assert_eq!((0..100).filter(|_| candidate.spend()).count(), UNHEARD_BUDGET as usize);
    }

    #[test]
    fn an_echo_counts_once() {
        let (mut candidate, mut now) = candidate();
        assert_eq!(prove(&mut candidate, &mut now), Some(Duration::from_millis(40)));
        assert!(candidate.is_proven());
        assert!(candidate.on_echo(now, [7; 8]).is_none());
    }

    #[test]
    fn a_probe_heard_is_answered_at_once_even_when_ours_were_spent() {
        let (mut candidate, mut now) = candidate();
        run(&mut candidate, &mut now);
        now += Duration::from_secs(1);
        candidate.on_heard(now);
        assert_eq!(candidate.next(), Some(now));
        assert!(matches!(candidate.on_due(now), Due::Probe { .. }));
    }

    #[test]
    fn hearing_the_other_side_again_and_again_brings_no_more_probes() {
        let (mut candidate, mut now) = candidate();
        let mut probes = 0;
        for _ in 0..5000 {
            candidate.on_heard(now);
            if let Due::Probe { .. } = candidate.on_due(now) {
                probes += 1;
                candidate.on_probe_sent(now, [probes as u8; 8]);
            }
            now += Duration::from_millis(20);
        }
        assert_eq!(probes, PUNCH_GAPS.len());
    }

    #[test]
    fn an_echo_counts_however_long_the_round_trip() {
        let (mut candidate, mut now) = candidate();
        candidate.on_heard(now);
        let probes = run(&mut candidate, &mut now);
        assert_eq!(probes, PUNCH_GAPS.len());
        assert!(candidate.on_echo(now, [1; 8]).is_some());
    }

    #[test]
    fn a_path_that_died_is_tried_again_and_trusted_at_the_first_echo() {
        let (mut candidate, mut now) = candidate();
        prove(&mut candidate, &mut now);
        kill(&mut candidate, &mut now);
        assert!(!candidate.is_proven());
        for _ in 0..30 {
            now = candidate.next().unwrap();
            assert!(matches!(candidate.on_due(now), Due::Probe { .. }));
        }
        now = candidate.next().unwrap();
        prove(&mut candidate, &mut now);
        assert!(candidate.is_proven());
    }

    #[test]
    fn a_path_that_keeps_dying_has_to_prove_itself_longer_each_time() {
        let (mut candidate, mut now) = candidate();
        prove(&mut candidate, &mut now);
        for death in 1..=8 {
            kill(&mut candidate, &mut now);
            let mut proofs = 0;
            while !candidate.is_proven() {
                now = candidate.next().unwrap().max(now);
                prove(&mut candidate, &mut now);
                proofs += 1;
            }
            assert_eq!(proofs, death.min(MAX_PROOFS));
        }
    }

    #[test]
    fn addresses_that_can_be_nobodys_are_not_probed() {
        let relay: SocketAddr = "203.0.113.10:4433".parse().unwrap();
        for bad in
            ["0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "127.0.0.1:1", "198.51.100.1:0", "203.0.113.10:4433"]
        {
            assert!(!is_plausible(bad.parse().unwrap(), relay), "{bad}");
        }
        assert!(is_plausible("198.51.100.1:1".parse().unwrap(), relay));
        assert!(is_plausible("127.0.0.1:1".parse().unwrap(), "127.0.0.1:4433".parse().unwrap()));
    }
}
