//! One round under way: its sockets, both bids, and what goes out when.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Act, MANY, Nat, Need, SOME, Terms};
use crate::{
    Link,
    paths::{
        Pair,
        pattern::{GUESSES, Pattern, guesses},
    },
    rng::Rng,
    wire::datagram::Bid,
};

/// How long the relay may take to say what it sees, and how long the rest of its ports after the first: what they see may
/// be lost several times over.
const LOOK: Duration = Duration::from_millis(1500);
const OTHER_PORTS: Duration = Duration::from_millis(400);
/// How long the other side may take to bid.
const BIDDING: Duration = Duration::from_millis(2500);
/// Pause between two sendings of a bid.
const BID_GAP: Duration = Duration::from_millis(150);
/// Packets go out so many at a time, so far apart: routers' tables fill more slowly than links.
const BURST: usize = 16;
const BURST_GAP: Duration = Duration::from_millis(20);
/// Where there are few packets to send, they are sent again after each of these pauses.
const TURNS: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(400)];
const FEW: usize = 64;
/// Whose ports are guessed at waits as long as the other side takes for that.
const GUESSING: Duration = Duration::from_millis(1900);
/// So many guesses are to hit on average, that one of them does: where ports can be anywhere, sockets are too few for that.
const HITS: usize = 8;
/// How long a round waits for answers after its last packet.
const LAST_WAIT: Duration = Duration::from_millis(300);

/// How far a round has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The relay's hole-punch ports are to see the first socket, by then.
    Looking {
        until: Instant,
    },
    /// The other side is to bid, by then.
    Bidding {
        until: Instant,
    },
    /// Punches go out that open this side's NATs.
    Opening,
    /// The other side is to say that its own are open, by then.
    Waiting {
        until: Instant,
    },
    /// Punches go out in earnest, for the so-manieth time.
    Punching {
        turn: usize,
    },
    /// All have gone out; they go out again then, if so many turns are not over.
    Resting {
        turn: usize,
        until: Instant,
    },
    Over,
}

#[derive(Debug)]
pub(super) struct Round {
    terms: Terms,
    stage: Stage,
    pub(super) links: Vec<Link>,
    /// Where the first socket has been seen: by hole-punch port, and other ports of the same NAT.
    seen: Vec<(u8, SocketAddr)>,
    earlier: Vec<u16>,
    /// Whether this side's NAT gives another port to each host, if that has been found out.
    by_address: Option<bool>,
    /// Whether there is none.
    untranslated: bool,
    /// Ports that its NATs give, by the relay's word.
    pool: Option<(u16, u16)>,
    mine: Option<(Bid, Pattern)>,
    theirs: Option<Bid>,
    /// When the bid goes out next.
    bid_at: Option<Instant>,
    /// Whether the other side was heard at another port than it had bid for.
    surprised: bool,
    /// Packets that wait, and when the next ones may go.
    queue: VecDeque<(Pair, Option<u8>)>,
    next: Instant,
}

impl Round {
    pub(super) fn new(now: Instant, terms: Terms) -> Self {
        Self {
            terms,
            stage: Stage::Looking { until: now + LOOK },
            links: Vec::new(),
            seen: Vec::new(),
            earlier: Vec::new(),
            by_address: None,
            untranslated: false,
            pool: None,
            mine: None,
            theirs: None,
            bid_at: None,
            surprised: false,
            queue: VecDeque::new(),
            next: now,
        }
    }

    pub(super) fn number(&self) -> u16 {
        self.terms.number
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// A hole-punch port, one of `ports`, has seen the first socket.
    pub(super) fn on_seen(&mut self, now: Instant, port: u8, address: SocketAddr, ports: usize, nat: Nat<'_>) {
        if self.mine.is_some() {
            return;
        }
        self.seen.retain(|(other, _)| *other != port);
        self.seen.push((port, address));
        (self.earlier, self.by_address) = (nat.earlier.to_vec(), nat.by_address);
        self.untranslated = nat.translated == Some(false);
        self.pool = nat.pool.filter(|_| self.terms.techniques.prediction).or(self.pool);
        if self.seen.len() >= ports {
            self.make_bid(now);
        } else if let Stage::Looking { until } = &mut self.stage {
            *until = (*until).min(now + OTHER_PORTS);
        }
    }

    /// All hole-punch ports have seen the first socket, or no more will.
    fn make_bid(&mut self, now: Instant) {
        self.seen.sort_unstable_by_key(|(port, _)| *port);
        let Some(&(_, address)) = self.seen.last() else {
            self.stage = Stage::Over;
            return;
        };
        let fresh: Vec<u16> = self.seen.iter().map(|(_, seen)| seen.port()).collect();
        let many = self.terms.techniques.many_sockets;
        let pattern = match Pattern::of(&fresh, &self.earlier, self.pool) {
            // All ports of one relay see the same where a NAT maps by address.
            Pattern::Fixed(_) if self.by_address.unwrap_or(self.terms.suspects) && many => Pattern::any(self.pool),
            pattern => pattern,
        };
        let (sockets, port, step, ports) = match pattern {
            Pattern::Fixed(port) => (1, port, 0, (port, port)),
            Pattern::Counting { next, step } => (1, next, step, (next, next)),
            Pattern::Within(low, high) => (if many { sockets(low, high) } else { 1 }, address.port(), 0, (low, high)),
        };
        let address = SocketAddr::new(address.ip(), port);
        self.mine = Some((Bid { round: self.terms.number, open: false, sockets, address, step, ports }, pattern));
        self.bid_at = Some(now);
        self.stage = Stage::Bidding { until: now + BIDDING };
    }

    /// The other side's bid.
    pub(super) fn on_bid(&mut self, bid: Bid) {
        // Repeats say nothing new, and one that was overtaken takes nothing back.
        let open = bid.open || self.theirs.is_some_and(|theirs| theirs.open);
        let terms = self.theirs.unwrap_or(bid);
        self.theirs = Some(Bid { open, ..terms });
    }

    /// The other side has been heard by this pair. From a port that it could not know (its NAT maps by address, this
    /// side's filter looks at addresses at most): where ports of this side are guessed at, all its sockets go there,
    /// since the guesses stand open.
    pub(super) fn on_heard(&mut self, now: Instant, pair: Pair) {
        let Some(theirs) = self.theirs else { return };
        let waits = matches!(self.stage, Stage::Waiting { .. } | Stage::Punching { .. } | Stage::Resting { .. });
        let elsewhere = pair.remote.ip() == theirs.address.ip() && pair.remote.port() != theirs.address.port();
        let met = waits && elsewhere && self.is_guessed_at() && pattern_of(theirs).is_fixed();
        if met && !self.surprised && self.links.contains(&pair.link) {
            self.surprised = true;
            self.queue.extend(self.links.iter().map(|&link| (Pair { link, ..pair }, None)));
            self.next = now;
            self.stage = Stage::Punching { turn: TURNS.len() };
        }
    }

    /// Both sides' ways of giving out ports, by their own words, once both have bid.
    fn patterns(&self) -> Option<[Pattern; 2]> {
        Some([self.mine?.1, pattern_of(self.theirs?)])
    }

    /// Whether no packets of either side can meet: both would have to guess.
    pub(super) fn is_hopeless(&self) -> bool {
        let techniques = self.terms.techniques;
        self.patterns().is_some_and(|both| {
            if both.iter().any(|pattern| pattern.is_range()) {
                return !techniques.many_sockets || !both.iter().any(|pattern| pattern.is_fixed());
            }
            !techniques.prediction && !both.iter().all(|pattern| pattern.is_fixed())
        })
    }

    /// Whether both sides' ports are known.
    pub(super) fn is_fixed(&self) -> bool {
        self.patterns().is_some_and(|both| both.iter().all(|pattern| pattern.is_fixed()))
    }

    /// Whether either side's ports are guessed at.
    pub(super) fn has_guessed(&self) -> bool {
        let theirs = self.theirs.map(pattern_of);
        self.mine.map(|(_, mine)| mine).into_iter().chain(theirs).any(Pattern::is_range)
    }

    /// Whether both sides count.
    fn counts(&self) -> bool {
        self.patterns().is_some_and(|both| both.iter().all(|pattern| matches!(pattern, Pattern::Counting { .. })))
    }

    /// Whether this side's ports are guessed at.
    fn is_guessed_at(&self) -> bool {
        self.mine.is_some_and(|(_, mine)| mine.is_range())
    }

    /// Sockets that this side punches from, as far as that is known.
    fn wanted(&self) -> usize {
        let bid = self.mine.map_or(0, |(bid, _)| bid.sockets);
        usize::from(if self.counts() { SOME } else { bid })
    }

    /// Routers that a punch may pass which is to open this side's NATs and not to reach the other's: past one NAT, in the
    /// second round past two, and in later ones for every other of many sockets; but where a NAT is only suspected, many
    /// packets could do harm there. Without a NAT past none: on a short way it would be the other's firewall that it reaches.
    fn hops(&self, socket: usize) -> Option<u8> {
        let Terms { failed, suspects, techniques, .. } = self.terms;
        let deep = !suspects && (failed == 1 || failed > 1 && socket % 2 == 1);
        let hops = match (self.untranslated, deep) {
            (true, _) => 1,
            (false, false) => 2,
            (false, true) => 3,
        };
        techniques.short_hops.then_some(hops)
    }

    /// Goes on as far as time and both bids allow.
    pub(super) fn advance(&mut self, now: Instant, rng: &mut Rng) -> Option<Need> {
        match self.stage {
            Stage::Looking { until } if until <= now => self.make_bid(now),
            Stage::Bidding { until } if until <= now || self.is_hopeless() => self.stage = Stage::Over,
            Stage::Bidding { .. } if self.theirs.is_some() => return self.open(now, rng),
            Stage::Opening if self.queue.is_empty() => self.say_open(now),
            Stage::Waiting { until } if until <= now => self.stage = Stage::Over,
            Stage::Waiting { .. } if self.theirs.is_some_and(|theirs| theirs.open) => self.punch(now, 0, rng),
            Stage::Punching { turn } if self.queue.is_empty() => self.rest(now, turn),
            Stage::Resting { turn, until } if until <= now && turn < TURNS.len() => self.punch(now, turn + 1, rng),
            Stage::Resting { until, .. } if until <= now => self.stage = Stage::Over,
            Stage::Looking { .. }
            | Stage::Bidding { .. }
            | Stage::Opening
            | Stage::Waiting { .. }
            | Stage::Punching { .. }
            | Stage::Resting { .. }
            | Stage::Over => {}
        }
        None
    }

    /// Both have bid: with all sockets there, punches go out that open this side's NATs, as far as it is known where to.
    fn open(&mut self, now: Instant, rng: &mut Rng) -> Option<Need> {
        let wanted = self.wanted();
        if self.links.len() < wanted {
            return Some(Need::Sockets((wanted - self.links.len()) as u16));
        }
        self.stage = Stage::Opening;
        let known = self.theirs.is_some_and(|theirs| !pattern_of(theirs).is_range());
        if known && (self.terms.techniques.short_hops || self.is_guessed_at()) {
            self.enqueue(now, true, rng);
        }
        None
    }

    fn say_open(&mut self, now: Instant) {
        if let Some((bid, _)) = &mut self.mine {
            bid.open = true;
        }
        self.bid_at = Some(now);
        self.stage = Stage::Waiting { until: now + BIDDING };
    }

    /// One turn of punches; after many of them no other one follows. Sockets that are guessed at have opened their ways
    /// and wait: from there a packet would come uninvited until the guess at it has been made.
    fn punch(&mut self, now: Instant, turn: usize, rng: &mut Rng) {
        if !self.is_guessed_at() {
            self.enqueue(now, false, rng);
        }
        let turn = if self.queue.len() > FEW { TURNS.len() } else { turn };
        self.stage = Stage::Punching { turn };
    }

    /// All punches of a turn are out.
    fn rest(&mut self, now: Instant, turn: usize) {
        let (turn, pause) = match TURNS.get(turn) {
            _ if self.is_guessed_at() => (TURNS.len(), GUESSING),
            Some(&pause) => (turn, pause),
            None => (turn, LAST_WAIT),
        };
        self.stage = Stage::Resting { turn, until: now + pause };
    }

    /// Lines up a packet by each pair there is to try. `opening`: they are only to open the way.
    fn enqueue(&mut self, now: Instant, opening: bool, rng: &mut Rng) {
        let Some(theirs) = self.theirs else { return };
        let pattern = pattern_of(theirs);
        let mut ports: Vec<u16> = match pattern {
            // From many sockets to one port ahead, on either side: somewhere in either row is the port that the other side
            // has in mind, however far others' mappings have moved the rows, each by itself.
            Pattern::Counting { .. } if self.counts() => pattern.ahead(SOME - SOME / 4).into_iter().collect(),
            _ => guesses(pattern, rng),
        };
        // Where its first socket was seen is as good a guess as any, and the right one if only its NAT is suspected.
        if let Some(first) = ports.first_mut().filter(|_| pattern.is_range()) {
            *first = theirs.address.port();
        }
        let to = |port| SocketAddr::new(theirs.address.ip(), port);
        let sockets = self.links.iter().enumerate().map(|(n, &link)| (link, self.hops(n).filter(|_| opening)));
        let packets =
            sockets.flat_map(|(link, hops)| ports.iter().map(move |&port| (Pair { link, remote: to(port) }, hops)));
        self.queue = packets.collect();
        self.next = now;
    }

    /// The next thing to send.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Act> {
        if self.bid_at.is_some_and(|at| at <= now) && self.stage != Stage::Over {
            self.bid_at = Some(now + BID_GAP);
            return self.mine.map(|(bid, _)| Act::Bid(bid));
        }
        if self.next > now {
            return None;
        }
        let (pair, hops) = self.queue.pop_front()?;
        if self.queue.len().is_multiple_of(BURST) {
            self.next = now + BURST_GAP;
        }
        Some(Act::Punch(pair, hops))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let stage = match self.stage {
            Stage::Looking { until }
            | Stage::Bidding { until }
            | Stage::Waiting { until }
            | Stage::Resting { until, .. } => Some(until),
            Stage::Opening | Stage::Punching { .. } | Stage::Over => None,
        };
        let queue = (!self.queue.is_empty()).then_some(self.next);
        [self.bid_at, queue, stage].into_iter().flatten().min()
    }
}

/// Sockets of which enough are hit by the guesses at so many ports.
fn sockets(low: u16, high: u16) -> u16 {
    let wanted = (usize::from(high.saturating_sub(low)) + 1) * HITS / GUESSES;
    u16::try_from(wanted).unwrap_or(MANY).clamp(SOME, MANY)
}

/// How the other side's NATs give out ports, by its own word.
fn pattern_of(bid: Bid) -> Pattern {
    match bid {
        Bid { step: 0, ports: (low, high), .. } if low >= high => Pattern::Fixed(bid.address.port()),
        Bid { step: 0, ports: (low, high), .. } => Pattern::within(low, high),
        Bid { step, .. } => Pattern::Counting { next: bid.address.port(), step },
    }
}
