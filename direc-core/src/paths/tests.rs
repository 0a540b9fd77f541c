//! Stories of one side's paths.

use super::*;
use crate::wire::datagram::{Bid, BidFields};

const RELAY: &str = "203.0.113.10:4433";

#[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
pub(super) fn start() -> Instant {
    Instant::now()
}

pub(super) const SECRET: PunchSecret = [5; 32];

pub(super) fn reach() -> Reach {
    Reach { v6: true, ..Reach::new(vec![RELAY.parse().unwrap()], None) }
}

/// P2's paths, attached to a relay, and P4's keys.
pub(super) fn paths(now: Instant, policy: PathPolicy) -> (Paths, ProbeKeys) {
    let mut paths = Paths::new(now, Role::P2, policy, Techniques::default(), Rng::new([1; 32]));
    paths.set_secret(&SECRET);
    paths.on_attached(now, true);
    (paths, ProbeKeys::new(&SECRET, Role::P4))
}

pub(super) fn address(n: u8) -> SocketAddr {
    SocketAddr::new([198, 51, 100, n].into(), 4000)
}

pub(super) fn pair(n: u8) -> Pair {
    Pair::main(address(n))
}

/// What is to be sent, answered by P4 after the round trip of the way it goes, where `answers` says so; what came of it.
pub(super) struct Wire {
    pub(super) paths: Paths,
    keys: ProbeKeys,
    pub(super) now: Instant,
    pub(super) start: Instant,
    in_flight: Vec<(Instant, Via, ProbeFields)>,
    acks: Vec<(Instant, Instant, u64)>,
    pub(super) events: Vec<(u64, PathEvent)>,
    pub(super) sent: Vec<(u64, Via)>,
}

impl Wire {
    pub(super) fn new(policy: PathPolicy) -> Self {
        let start = start();
        let (paths, keys) = paths(start, policy);
        Self {
            paths,
            keys,
            now: start,
            start,
            in_flight: Vec::new(),
            acks: Vec::new(),
            events: Vec::new(),
            sent: Vec::new(),
        }
    }

    pub(super) fn ms(&self) -> u64 {
        self.now.saturating_duration_since(self.start).as_millis() as u64
    }

    /// Goes on for so many milliseconds. `rtt`: of each way, `None` where nothing comes back. `used`: whether data goes
    /// out and is acknowledged by the way it went.
    pub(super) fn run(&mut self, ms: u64, rtt: impl Fn(Via) -> Option<u64>, used: bool) {
        for _ in 0..ms {
            self.now += Duration::from_millis(1);
            let now = self.now;
            let event = self.paths.handle_timeout(now);
            self.note(event);
            while let Some(out) = self.paths.poll_probe(now) {
                self.note(out.event);
                self.sent.push((self.ms(), out.via));
                let (Datagram::Probe(fields) | Datagram::Check(fields)) = out.datagram else { panic!("no probe") };
                if let Some(rtt) = rtt(out.via) {
                    self.in_flight.push((now + Duration::from_millis(rtt), out.via, fields));
                }
            }
            let (due, rest) = std::mem::take(&mut self.in_flight).into_iter().partition(|(at, ..)| *at <= now);
            self.in_flight = rest;
            let due: Vec<(Instant, Via, ProbeFields)> = due;
            for (_, via, fields) in due {
                let event = self.paths.on_echo(now, via, &self.keys.echo(fields.nonce)).unwrap_or(None);
                self.note(event);
            }
            if used {
                let via = self.paths.current;
                self.paths.on_use(now, true);
                self.acks.extend(rtt(via).map(|rtt| (now + Duration::from_millis(rtt), now, rtt)));
            }
            let (due, rest) = std::mem::take(&mut self.acks).into_iter().partition(|(at, ..)| *at <= now);
            self.acks = rest;
            let due: Vec<(Instant, Instant, u64)> = due;
            for (_, sent, rtt) in due {
                self.paths.on_acknowledged(now, sent, Duration::from_millis(rtt), !self.acks.is_empty());
            }
        }
    }

    fn note(&mut self, event: Option<PathEvent>) {
        let ms = self.ms();
        self.events.extend(event.map(|event| (ms, event)));
    }

    fn moves(&self) -> Vec<(u64, Via)> {
        let moved = |&(ms, event): &(u64, PathEvent)| match event {
            PathEvent::Moved(via) => Some((ms, via)),
            _ => None,
        };
        self.events.iter().filter_map(moved).collect()
    }

    fn probes(&self, from: u64, to: u64) -> usize {
        self.sent.iter().filter(|(ms, _)| (from..to).contains(ms)).count()
    }
}

const ALL: fn(Via) -> Option<u64> = |_| Some(40);
const RELAY_ONLY: fn(Via) -> Option<u64> = |via| (via == Via::Relay).then_some(60);
const NOTHING: fn(Via) -> Option<u64> = |_| None;

/// A connection that runs straight.
fn direct(policy: PathPolicy) -> Wire {
    let mut wire = Wire::new(policy);
    wire.paths.learn(wire.now, &[address(1)], &reach());
    wire.run(2_000, ALL, true);
    assert_eq!(wire.moves(), [(41, Via::Direct(pair(1)))]);
    wire
}

#[test]
fn a_connection_that_carries_data_sends_nothing_to_keep_its_path() {
    let mut wire = direct(PathPolicy::Auto);
    wire.run(60_000, ALL, true);
    assert_eq!(wire.probes(1_000, u64::MAX), 0);
}

#[test]
fn data_that_is_unanswered_moves_to_the_relay_once_that_has_answered() {
    let mut wire = direct(PathPolicy::Auto);
    wire.run(2_000, RELAY_ONLY, true);
    let moves = wire.moves();
    assert_eq!(moves.len(), 2, "{moves:?}");
    assert!(moves[1].1 == Via::Relay && (2_200..2_320).contains(&moves[1].0), "{moves:?}");
    assert!(matches!(wire.paths.chosen().1, PathReason::Silent { after } if after < Duration::from_millis(320)));
    assert!(wire.events.iter().any(|(ms, event)| *event == PathEvent::Doubted && *ms < 2_200));
}

#[test]
fn data_stays_where_it_is_while_nothing_answers_at_all() {
    let mut wire = direct(PathPolicy::Auto);
    wire.run(10_000, NOTHING, true);
    assert_eq!(wire.moves().len(), 1, "a radio that is silent altogether is no reason");
    assert_eq!(wire.paths.route(wire.now, false), Route::Both);
    wire.run(1_500, ALL, true);
    assert_eq!(wire.moves().len(), 1, "{:?}", wire.moves());
    assert_eq!(wire.paths.route(wire.now, false), Route::Direct(pair(1)));
}

#[test]
fn a_direct_path_that_works_again_carries_the_data_within_two_seconds() {
    let mut wire = direct(PathPolicy::Auto);
    for outage in [1_000, 20_000, 400_000] {
        let before = wire.moves().len();
        wire.run(outage, RELAY_ONLY, true);
        let healed = wire.ms();
        wire.run(5_000, ALL, true);
        let moves = wire.moves();
        assert_eq!(moves.len(), before + 2, "{moves:?}");
        assert!(moves[before + 1].0 < healed + 2_000, "{moves:?}");
        wire.run(120_000, ALL, true);
    }
}

#[test]
fn a_path_that_flaps_is_trusted_later_each_time() {
    let mut wire = direct(PathPolicy::Auto);
    for _ in 0..30 {
        wire.run(500, RELAY_ONLY, true);
        wire.run(2_000, ALL, true);
    }
    assert!(wire.moves().len() <= 8, "{:?}", wire.moves());
    wire.run(5_000, ALL, true);
    assert_eq!(wire.paths.direct(), Some(address(1)));
}

#[test]
fn the_faster_of_two_direct_paths_is_taken_and_a_little_faster_is_not_enough() {
    for (other, taken) in [(10, 2), (36, 1)] {
        let mut wire = direct(PathPolicy::Auto);
        wire.paths.learn(wire.now, &[address(2)], &reach());
        wire.run(2_000, |via| Some(if via == Via::Direct(pair(2)) { other } else { 40 }), true);
        assert_eq!(wire.paths.direct(), Some(address(taken)), "{other}");
    }
}

#[test]
fn a_connection_that_may_only_go_direct_is_held_when_it_cannot() {
    let mut wire = direct(PathPolicy::DirectOnly);
    wire.run(1_000, RELAY_ONLY, true);
    assert_eq!(wire.paths.route(wire.now, false), Route::Hold);
    wire.run(11_000, RELAY_ONLY, false);
    assert!(wire.events.iter().any(|(_, event)| matches!(event, PathEvent::GaveUp(_))), "{:?}", wire.events);
}

#[test]
fn a_connection_that_may_only_be_relayed_probes_nobody() {
    let mut wire = Wire::new(PathPolicy::RelayOnly);
    wire.paths.learn(wire.now, &[address(1)], &reach());
    wire.run(2_000, ALL, true);
    assert!(wire.sent.is_empty() && wire.moves().is_empty());
}

#[test]
fn who_hears_the_other_side_through_the_relay_alone_follows_it() {
    let mut wire = direct(PathPolicy::Auto);
    wire.run(1_000, ALL, false);
    wire.paths.on_heard(wire.now, Via::Relay);
    assert_eq!(wire.paths.route(wire.now, false), Route::Both);
    wire.run(300, RELAY_ONLY, false);
    assert_eq!(wire.moves().last().unwrap().1, Via::Relay);
}

#[test]
fn a_stream_that_breaks_off_makes_the_receiver_ask() {
    let mut wire = direct(PathPolicy::Auto);
    wire.run(500, ALL, false);
    for _ in 0..20 {
        wire.run(25, ALL, false);
        wire.paths.on_heard(wire.now, Via::Direct(pair(1)));
    }
    let broken = wire.ms();
    wire.run(1_000, RELAY_ONLY, false);
    assert!(wire.events.iter().any(|(ms, e)| *e == PathEvent::Doubted && *ms < broken + 130), "{:?}", wire.events);
    assert_eq!(wire.moves().last().unwrap().1, Via::Relay);
}

#[test]
fn a_relay_that_does_not_answer_is_said_to_be_silent() {
    let mut wire = Wire::new(PathPolicy::Auto);
    wire.run(1_000, ALL, true);
    wire.run(600, NOTHING, true);
    assert!(wire.events.iter().any(|(_, event)| *event == PathEvent::RelaySilent), "{:?}", wire.events);
}

#[test]
fn a_peer_that_comes_from_another_port_each_time_does_not_keep_us_busy_for_ever() {
    let mut now = start();
    let (mut p2, p4) = paths(now, PathPolicy::Auto);
    let mut probes = 0;
    p2.start(now, now + Duration::from_secs(10));
    for second in 0..600u32 {
        for n in 0..20u32 {
            let port = 1024 + (second * 20 + n) as u16;
            let from = Via::Direct(Pair::main(SocketAddr::new([198, 51, 100, 1].into(), port)));
            assert!(p2.on_probe(now, from, true, &p4.probe([n as u8; 8])).is_ok(), "an authentic probe is echoed");
            probes += std::iter::from_fn(|| p2.poll_probe(now)).count();
            now += Duration::from_millis(50);
            p2.handle_timeout(now);
        }
    }
    // 16 addresses at once and one every 10 s, each with its schedule of nine, or two if it was heard late.
    assert!(probes <= (16 + 60) * 18, "{probes} probes in ten minutes");
}

#[test]
fn a_bid_is_taken_from_the_other_side_alone_and_for_where_the_relay_has_seen_it() {
    let now = start();
    let (mut paths, keys) = paths(now, PathPolicy::Auto);
    paths.learn(now, &[address(1)], &reach());
    let bid = |n| Bid { round: 1, open: false, sockets: 1, address: address(n), step: 0, ports: (4000, 4000) };
    let forger = ProbeKeys::new(&[6; 32], Role::P4);
    assert_eq!(paths.on_bid(now, &keys.bid(bid(1)), &reach()), Ok(()));
    assert_eq!(paths.on_bid(now, &keys.bid(bid(2)), &reach()), Err(DropReason::BadProbe), "somebody else's host");
    assert_eq!(paths.on_bid(now, &forger.bid(bid(1)), &reach()), Err(DropReason::BadProbe));
    let changed = BidFields { bid: bid(1), ..keys.bid(Bid { open: true, ..bid(1) }) };
    assert_eq!(paths.on_bid(now, &changed, &reach()), Err(DropReason::BadProbe));
}

#[test]
fn of_earlier_rounds_sockets_whose_paths_have_died_only_the_one_that_died_last_is_tried_on() {
    let start = start();
    let ms = Duration::from_millis;
    let (mut paths, _) = paths(start, PathPolicy::Auto);
    let spares = [1, 2, 3].map(|n| Pair { link: Link::Spare(n), remote: address(1) });
    let links = spares.map(|pair| pair.link);
    paths.rounds.plan(start, ms(40));
    paths.rounds.drive(start + ms(5000), &mut Rng::new([1; 32]), &[]);
    paths.rounds.on_sockets(links);
    for pair in spares {
        let mut candidate = Candidate::new(start, pair);
        candidate.on_sent(start, [pair.remote.port() as u8; 8], Kind::Probe { first: true });
        candidate.on_echo(start + ms(40), [pair.remote.port() as u8; 8]).unwrap();
        paths.candidates.push(candidate);
    }
    paths.rounds.end(&links);
    paths.let_go();
    assert_eq!(paths.take_retired(), [], "all of them work");
    for (at, died) in [(1, 200), (0, 100)] {
        paths.at(spares[at]).unwrap().lose(start + ms(died));
        paths.let_go();
    }
    assert_eq!(paths.take_retired(), [links[0]], "it died before the other one did");
    assert!(paths.at(spares[0]).is_none() && paths.at(spares[2]).is_some());
}
