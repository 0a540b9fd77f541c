//! One address at which the other peer may be reached, and what is known of it.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use crate::wire::datagram::Nonce;

/// Pauses between the probes to an address that has not answered, in milliseconds: dense while both sides' first
/// punches cross, then doubling. With the probes' length the bound of what an address can be made to receive.
const PUNCH_GAPS: [u64; 9] = [25, 50, 100, 200, 400, 800, 1600, 3200, 3200];
/// A path that works is probed so often, to keep the NATs' bindings and to notice when it dies.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Pauses after a check that stays unanswered, in milliseconds; after the last the path is lost.
const CHECK_GAPS: [u64; 4] = [300, 300, 600, 1200];
/// Probes whose echo may still come: all of one schedule, however long the round trip.
const OUTSTANDING: usize = PUNCH_GAPS.len();
/// QUIC datagrams doubled to an address that has not been heard from: the server's first flight (S10).
const UNHEARD_BUDGET: u32 = 8;
/// QUIC datagrams doubled to an address that has been heard from, until its round trip is proven.
const HEARD_BUDGET: u32 = 256;

/// How far an address has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Probes go out; nothing has come.
    Punching { sent: usize },
    /// The other side's probe came from there: their packets reach us.
    Heard { sent: usize },
    /// A probe of ours has come back: packets pass both ways.
    Proven { rtt: Duration, unanswered: usize },
    /// All probes are spent.
    Silent { heard: bool },
}

/// What became of an address when its time came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Probe { first: bool },
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
        }
    }

    pub(super) fn is_heard(&self) -> bool {
        matches!(self.state, State::Heard { .. })
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        match self.state {
            State::Proven { rtt, .. } => Some(rtt),
            State::Punching { .. } | State::Heard { .. } | State::Silent { .. } => None,
        }
    }

    /// Whether a proven path has left its last check unanswered.
    pub(super) fn is_dying(&self, now: Instant) -> bool {
        let spent = matches!(self.state, State::Proven { unanswered, .. } if unanswered >= CHECK_GAPS.len());
        spent && self.next.is_some_and(|next| next <= now)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Punches again from the beginning, as after a loss.
    pub(super) fn restart(&mut self, now: Instant) {
        *self = Self { probed: self.probed, doubled: self.doubled, ..Self::new(now, self.address) };
    }

    /// An authentic probe came from there: our own, sent now, will pass what theirs has opened. Only the first one heard
    /// brings a new schedule, or two peers whose echoes are lost would set each other off for ever.
    pub(super) fn on_heard(&mut self, now: Instant) {
        match self.state {
            State::Punching { .. } | State::Silent { heard: false } => {
                self.state = State::Heard { sent: 0 };
                self.next = Some(now);
            }
            State::Heard { .. } | State::Silent { heard: true } | State::Proven { .. } => {}
        }
    }

    /// An authentic echo came from there: its round trip, if it answers a probe of ours.
    pub(super) fn on_echo(&mut self, now: Instant, nonce: Nonce) -> Option<Duration> {
        let at = self.outstanding.iter().position(|(sent, _)| *sent == nonce)?;
        let (_, sent) = self.outstanding.remove(at);
        let rtt = now.saturating_duration_since(sent);
        self.state = State::Proven { rtt, unanswered: 0 };
        self.next = Some(now + CHECK_INTERVAL);
        Some(rtt)
    }

    /// What is to be done now; a probe is then to be sent with a nonce given to [`Self::on_probe_sent`].
    pub(super) fn on_due(&mut self, now: Instant) -> Due {
        if self.next.is_none_or(|next| next > now) {
            return Due::Nothing;
        }
        let probe = Due::Probe { first: !self.probed };
        let (state, gap, due) = match self.state {
            State::Punching { sent } if sent >= PUNCH_GAPS.len() => {
                (State::Silent { heard: false }, None, Due::Nothing)
            }
            State::Heard { sent } if sent >= PUNCH_GAPS.len() => (State::Silent { heard: true }, None, Due::Nothing),
            State::Punching { sent } => (State::Punching { sent: sent + 1 }, Some(PUNCH_GAPS[sent]), probe),
            State::Heard { sent } => (State::Heard { sent: sent + 1 }, Some(PUNCH_GAPS[sent]), probe),
            // Dying: for `Paths` to see, which then restarts the candidate.
            State::Proven { unanswered, .. } if unanswered >= CHECK_GAPS.len() => return Due::Nothing,
            State::Proven { rtt, unanswered } => {
                let state = State::Proven { rtt, unanswered: unanswered + 1 };
                (state, Some(CHECK_GAPS[unanswered]), probe)
            }
            State::Silent { heard } => (State::Silent { heard }, None, Due::Nothing),
        };
        self.state = state;
        self.next = gap.map(|gap| now + Duration::from_millis(gap));
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
            State::Proven { .. } | State::Silent { .. } => 0,
        };
        let allowed = self.doubled < budget;
        self.doubled += u32::from(allowed);
        allowed
    }
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
    fn run(candidate: &mut Candidate, now: &mut Instant) -> (usize, bool) {
        let (mut probes, mut lost) = (0, false);
        while let (false, Some(next)) = (lost, candidate.next()) {
            *now = next.max(*now);
            lost = candidate.is_dying(*now);
            match candidate.on_due(*now) {
                Due::Probe { .. } => {
                    probes += 1;
                    candidate.on_probe_sent(*now, [probes as u8; 8]);
                }
                Due::Nothing => {}
            }
        }
        (probes, lost)
    }

    #[test]
    fn an_address_that_never_answers_gets_nine_probes_and_no_more() {
        let (mut candidate, mut now) = candidate();
        assert_eq!(run(&mut candidate, &mut now), (PUNCH_GAPS.len(), false));
        assert!((0..100).filter(|_| candidate.spend()).count() == 0);
    }

    #[test]
    fn an_address_not_heard_from_gets_a_flight_of_quic_and_no_more() {
        let (mut candidate, _) = candidate();
        assert_eq!((0..100).filter(|_| candidate.spend()).count(), UNHEARD_BUDGET as usize);
    }

    #[test]
    fn a_proven_path_that_falls_silent_is_lost() {
        let (mut candidate, mut now) = candidate();
        assert_eq!(candidate.on_due(now), Due::Probe { first: true });
        candidate.on_probe_sent(now, [7; 8]);
        now += Duration::from_millis(40);
        assert_eq!(candidate.on_echo(now, [7; 8]), Some(Duration::from_millis(40)));
        assert_eq!(run(&mut candidate, &mut now), (CHECK_GAPS.len(), true));
    }

    #[test]
    fn an_echo_counts_once() {
        let (mut candidate, now) = candidate();
        candidate.on_due(now);
        candidate.on_probe_sent(now, [7; 8]);
        assert!(candidate.on_echo(now, [7; 8]).is_some());
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
        let (probes, _) = run(&mut candidate, &mut now);
        assert_eq!(probes, PUNCH_GAPS.len());
        assert!(candidate.on_echo(now, [1; 8]).is_some());
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
