//! Rounds: what is tried where plain punching leads nowhere though it might, from fresh sockets, by agreement.
//!
//! A round is P2's to begin. Each side opens a socket of its own for it, has the relay look at which ports its NATs show
//! that one, and tells the other side what it will do and where it expects to be seen: its [`Bid`], through the relay.
//! Who has both bids opens its own NATs by punches that die before they reach the other's, and says so. Who hears that the
//! other's are open punches in earnest: at the port it named, at those a counting NAT gives next, or at many of those it
//! may be at. So no first packet can come too early, whatever is lost: NATs that hold an early packet against its sender
//! (DESIGN.md, section 6) are passed as well, and their memory of earlier ones does not matter to a fresh socket.
//!
//! What is heard on one of a round's sockets is a candidate like any other from then on.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    Pair,
    pattern::{Pattern, guesses},
};
use crate::{Link, Techniques, rng::Rng, wire::datagram::Bid};

/// Rounds that follow a beginning, each from its own view of why the ones before have failed.
const ROUNDS: u8 = 3;
/// Pauses before further rounds, if ports need not be guessed; the last one repeats. A firewall may forgive meanwhile.
const LATER: [Duration; 3] = [Duration::from_secs(15), Duration::from_secs(60), Duration::from_secs(300)];
/// Who follows takes part in further rounds no more often than this.
const LATER_AT_MOST: Duration = Duration::from_secs(10);
/// Plain punching's time before the first round, besides two round trips through the relay.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long the relay may take to say what it sees, and the other side to bid.
const LOOK: Duration = Duration::from_millis(1500);
const BIDDING: Duration = Duration::from_millis(2500);
/// Pause between two sendings of a bid.
const BID_GAP: Duration = Duration::from_millis(150);
/// Sockets where each mapping gets another port: anywhere, or within a carrier's block.
const MANY: u16 = 256;
const SOME: u16 = 32;
/// Packets go out so many at a time, so far apart: routers' tables fill more slowly than links.
const BURST: usize = 16;
const BURST_GAP: Duration = Duration::from_millis(20);
/// Where there are few packets to send, they are sent again after each of these pauses.
const TURNS: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(400)];
const FEW: usize = 64;
/// Whose ports are guessed at waits as long as the other side takes for that.
const GUESSING: Duration = Duration::from_millis(1900);
/// How long a round waits for answers after its last packet.
const LAST_WAIT: Duration = Duration::from_millis(300);

/// What a round wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Bid(Bid),
    /// A small punch by this pair, which may pass so many routers.
    Punch(Pair, Option<u8>),
}

/// What a round needs of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A socket, and the relay's word for where it is seen.
    Look,
    /// So many more sockets.
    Sockets(u16),
}

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

/// One round under way.
#[derive(Debug)]
struct Round {
    stage: Stage,
    /// Whether this side takes its NAT for one that gives another port to each host: all ports of one relay see the same.
    suspects: bool,
    /// Whether it is the other side that has begun it.
    follows: bool,
    links: Vec<Link>,
    /// Where the first socket has been seen: by hole-punch port, and other ports of the same NAT.
    seen: Vec<(u8, SocketAddr)>,
    earlier: Vec<u16>,
    mine: Option<(Bid, Pattern)>,
    theirs: Option<Bid>,
    /// When the bid goes out next.
    bid_at: Option<Instant>,
    /// Packets that wait, and when the next ones may go.
    queue: VecDeque<(Pair, Option<u8>)>,
    next: Instant,
}

#[derive(Debug)]
pub(super) struct Rounds {
    techniques: Techniques,
    /// Number of the current round, or the last one.
    number: u16,
    left: u8,
    /// Further rounds that there have been, and when the last round ended.
    later: usize,
    ended: Option<Instant>,
    /// Whether it is this side that begins rounds: P2.
    begins: bool,
    /// Whether neither side's ports were to be guessed in the first round.
    fixed: bool,
    begin_at: Option<Instant>,
    round: Option<Round>,
    need: Option<Need>,
    retired: Vec<Link>,
}

impl Rounds {
    pub(super) fn new(techniques: Techniques, begins: bool) -> Self {
        let (round, need, retired) = (None, None, Vec::new());
        Self {
            techniques,
            number: 0,
            left: 0,
            later: 0,
            ended: None,
            begins,
            fixed: false,
            begin_at: None,
            round,
            need,
            retired,
        }
    }

    /// Plain punching begins; where it leads nowhere, rounds follow. P2 begins them.
    pub(super) fn plan(&mut self, now: Instant, relayed_rtt: Duration) {
        (self.left, self.later) = (if self.techniques.fresh_sockets { ROUNDS } else { 0 }, 0);
        if self.begins && self.left > 0 && self.round.is_none() {
            self.begin_at = Some(now + PATIENCE + relayed_rtt * 2);
        }
    }

    /// A direct path works, or none is wanted: nothing more is tried. `keep`: sockets that are in use.
    pub(super) fn end(&mut self, keep: &[Link]) {
        (self.begin_at, self.need) = (None, None);
        if let Some(round) = self.round.take() {
            self.retired.extend(round.links.into_iter().filter(|link| !keep.contains(link)));
        }
    }

    /// Sockets that are needed no more.
    pub(super) fn take_retired(&mut self) -> Vec<Link> {
        std::mem::take(&mut self.retired)
    }

    pub(super) fn take_need(&mut self) -> Option<Need> {
        self.need.take()
    }

    fn begin(&mut self, now: Instant, number: u16, keep: &[Link]) {
        self.end(keep);
        // How many rounds have failed since the beginning.
        let failed = ROUNDS.saturating_sub(self.left);
        // P2 in the second round, P4 in the third.
        let suspects = self.fixed && self.left > 0 && failed == if self.begins { 1 } else { 2 };
        (self.number, self.left) = (number, self.left.saturating_sub(1));
        self.need = Some(Need::Look);
        self.round = Some(Round {
            stage: Stage::Looking { until: now + LOOK },
            suspects,
            follows: !self.begins,
            links: Vec::new(),
            seen: Vec::new(),
            earlier: Vec::new(),
            mine: None,
            theirs: None,
            bid_at: None,
            queue: VecDeque::new(),
            next: now,
        });
    }

    /// The sockets that were asked for.
    pub(super) fn on_sockets(&mut self, links: impl IntoIterator<Item = Link>) {
        match &mut self.round {
            Some(round) => round.links.extend(links),
            None => self.retired.extend(links),
        }
    }

    /// A hole-punch port, one of `ports`, has seen the first socket at this address. `earlier`: other ports of the NAT.
    pub(super) fn on_seen(&mut self, now: Instant, port: u8, address: SocketAddr, ports: usize, earlier: &[u16]) {
        let Some(round) = self.round.as_mut().filter(|round| round.mine.is_none()) else { return };
        round.seen.retain(|(other, _)| *other != port);
        round.seen.push((port, address));
        round.earlier = earlier.to_vec();
        if round.seen.len() >= ports {
            round.make_bid(now, self.number, self.techniques);
        }
    }

    /// The other side's bid; P4 begins its round with it. `keep`: sockets that are in use.
    pub(super) fn on_bid(&mut self, now: Instant, bid: Bid, keep: &[Link]) {
        let rested = self.ended.is_some_and(|ended| ended + LATER_AT_MOST <= now);
        if !self.begins && bid.round > self.number && (self.left > 0 || rested) {
            self.begin(now, bid.round, keep);
        }
        let number = self.number;
        let Some(round) = self.round.as_mut().filter(|_| bid.round == number) else { return };
        // Repeats say nothing new, and one that was overtaken takes nothing back.
        let open = bid.open || round.theirs.is_some_and(|theirs| theirs.open);
        let terms = round.theirs.unwrap_or(bid);
        round.theirs = Some(Bid { open, ..terms });
    }

    /// Goes on as far as time and both bids allow. `keep`: sockets that are in use if a round ends now.
    pub(super) fn drive(&mut self, now: Instant, rng: &mut Rng, keep: &[Link]) {
        if self.begin_at.is_some_and(|at| at <= now) {
            self.begin(now, self.number.saturating_add(1), keep);
        }
        let (number, techniques) = (self.number, self.techniques);
        let Some(round) = &mut self.round else { return };
        // Somewhere behind this side's NATs and before the other's: past one NAT, in the second round past two; but many
        // sockets' packets could do harm there.
        let deep = self.left + 2 == ROUNDS && !round.suspects;
        let hops = techniques.short_hops.then_some(if deep { 3 } else { 2 });
        self.need = round.advance(now, number, hops, techniques, rng).or(self.need.take());
        if round.stage == Stage::Over {
            let worth = !round.is_hopeless(techniques);
            let cheap = worth && !round.has_guessed();
            if self.left + 1 == ROUNDS {
                self.fixed = round.is_fixed();
            }
            self.left = if worth { self.left } else { 0 };
            self.end(keep);
            self.ended = Some(now);
            // Who only follows waits for the other's next bid.
            if self.begins {
                self.begin_at = self.next_beginning(now, cheap);
            }
        }
    }

    /// The next thing to send.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Act> {
        self.round.as_mut()?.poll(now)
    }

    /// When the next round begins. `cheap`: whether one without guesses is possible.
    fn next_beginning(&mut self, now: Instant, cheap: bool) -> Option<Instant> {
        if self.left > 0 {
            return Some(now);
        }
        let pause = LATER.get(self.later.min(LATER.len() - 1)).filter(|_| cheap)?;
        self.later += 1;
        Some(now + *pause)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let round = self.round.as_ref().and_then(Round::poll_timeout);
        self.begin_at.into_iter().chain(round).min()
    }
}

impl Round {
    /// All hole-punch ports have seen the first socket, or no more will.
    fn make_bid(&mut self, now: Instant, number: u16, techniques: Techniques) {
        self.seen.sort_unstable_by_key(|(port, _)| *port);
        let Some(&(_, address)) = self.seen.last() else {
            self.stage = Stage::Over;
            return;
        };
        let fresh: Vec<u16> = self.seen.iter().map(|(_, seen)| seen.port()).collect();
        let pattern = match Pattern::of(&fresh, &self.earlier) {
            Pattern::Fixed(_) if self.suspects && techniques.many_sockets => Pattern::ANYWHERE,
            pattern => pattern,
        };
        let (sockets, port, step, ports) = match pattern {
            Pattern::Fixed(port) => (1, port, 0, (port, port)),
            Pattern::Counting { next, step } => (1, next, step, (next, next)),
            Pattern::Within(low, high) => {
                let sockets = if pattern == Pattern::ANYWHERE { MANY } else { SOME };
                (if techniques.many_sockets { sockets } else { 1 }, address.port(), 0, (low, high))
            }
        };
        let address = SocketAddr::new(address.ip(), port);
        self.mine = Some((Bid { round: number, open: false, sockets, address, step, ports }, pattern));
        self.bid_at = Some(now);
        self.stage = Stage::Bidding { until: now + BIDDING };
    }

    /// Whether no packets of either side can meet: both would have to guess.
    fn is_hopeless(&self, techniques: Techniques) -> bool {
        let (Some((_, mine)), Some(theirs)) = (self.mine, self.theirs.map(pattern_of)) else { return false };
        !can_meet(mine, theirs, techniques)
    }

    /// Whether both sides' ports are known.
    fn is_fixed(&self) -> bool {
        let theirs = self.theirs.map(pattern_of);
        self.mine.is_some_and(|(_, mine)| mine.is_fixed()) && theirs.is_some_and(Pattern::is_fixed)
    }

    /// Whether either side's ports are guessed at.
    fn has_guessed(&self) -> bool {
        let guessed = |pattern| matches!(pattern, Pattern::Within(..));
        self.mine.is_some_and(|(_, mine)| guessed(mine)) || self.theirs.map(pattern_of).is_some_and(guessed)
    }

    /// Goes on as far as time and both bids allow.
    fn advance(
        &mut self,
        now: Instant,
        number: u16,
        hops: Option<u8>,
        techniques: Techniques,
        rng: &mut Rng,
    ) -> Option<Need> {
        match self.stage {
            Stage::Looking { until } if until <= now => self.make_bid(now, number, techniques),
            Stage::Bidding { until } | Stage::Waiting { until } if until <= now => self.stage = Stage::Over,
            Stage::Bidding { .. } if self.is_hopeless(techniques) => self.stage = Stage::Over,
            Stage::Bidding { .. } if self.theirs.is_some() => {
                let wanted = self.mine.map_or(0, |(bid, _)| usize::from(bid.sockets));
                if self.links.len() < wanted {
                    return Some(Need::Sockets((wanted - self.links.len()) as u16));
                }
                self.stage = Stage::Opening;
                let known = self.theirs.is_some_and(|theirs| !matches!(pattern_of(theirs), Pattern::Within(..)));
                if let Some(hops) = hops.filter(|_| known) {
                    self.enqueue(now, Some(hops), rng);
                }
            }
            Stage::Opening if self.queue.is_empty() => {
                if let Some((bid, _)) = &mut self.mine {
                    bid.open = true;
                }
                self.bid_at = Some(now);
                self.stage = Stage::Waiting { until: now + BIDDING };
            }
            Stage::Waiting { .. } if self.theirs.is_some_and(|theirs| theirs.open) => self.punch(now, 0, rng),
            Stage::Punching { turn } if self.queue.is_empty() => {
                let guessed_at = self.mine.is_some_and(|(_, mine)| matches!(mine, Pattern::Within(..)));
                let (turn, pause) = match TURNS.get(turn) {
                    _ if guessed_at => (TURNS.len(), GUESSING),
                    Some(&pause) => (turn, pause),
                    None => (turn, LAST_WAIT),
                };
                self.stage = Stage::Resting { turn, until: now + pause };
            }
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

    /// One turn of punches; after many of them no other one follows.
    fn punch(&mut self, now: Instant, turn: usize, rng: &mut Rng) {
        self.enqueue(now, None, rng);
        let turn = if self.queue.len() > FEW { TURNS.len() } else { turn };
        self.stage = Stage::Punching { turn };
    }

    /// Lines up a packet by each pair there is to try.
    fn enqueue(&mut self, now: Instant, hops: Option<u8>, rng: &mut Rng) {
        let Some(theirs) = self.theirs else { return };
        let mut ports = guesses(pattern_of(theirs), rng);
        // Each packet takes the next port on either side. From both ends of the range they meet somewhere, however far the
        // others' mappings have moved one of them; in the same order only if nobody has.
        let count = |pattern| matches!(pattern, Pattern::Counting { .. });
        if self.follows && self.mine.is_some_and(|(_, mine)| count(mine)) && count(pattern_of(theirs)) {
            ports.truncate(ports.len().saturating_sub(1));
            ports.reverse();
        }
        // Where its first socket was seen is as good a guess as any, and the right one if only its NAT is suspected.
        if let Some(first) = ports.first_mut().filter(|_| matches!(pattern_of(theirs), Pattern::Within(..))) {
            *first = theirs.address.port();
        }
        let to = |port| SocketAddr::new(theirs.address.ip(), port);
        // Many sockets have opened their ways and wait: their packets would come to the other's NATs uninvited.
        let links = if hops.is_none() && self.links.len() > 1 { &self.links[..1] } else { &self.links[..] };
        let pairs = links.iter().flat_map(|&link| ports.iter().map(move |&port| Pair { link, remote: to(port) }));
        self.queue = pairs.map(|pair| (pair, hops)).collect();
        self.next = now;
    }

    fn poll(&mut self, now: Instant) -> Option<Act> {
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

    fn poll_timeout(&self) -> Option<Instant> {
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

/// How the other side's NATs give out ports, by its own word.
fn pattern_of(bid: Bid) -> Pattern {
    match bid {
        Bid { step: 0, ports: (low, high), .. } if low >= high => Pattern::Fixed(bid.address.port()),
        Bid { step: 0, ports: (low, high), .. } => Pattern::within(low, high),
        Bid { step, .. } => Pattern::Counting { next: bid.address.port(), step },
    }
}

/// Whether one of these sides' packets can find the other's ports.
fn can_meet(mine: Pattern, theirs: Pattern, techniques: Techniques) -> bool {
    let guessed = |pattern| matches!(pattern, Pattern::Within(..));
    let counted = |pattern| matches!(pattern, Pattern::Counting { .. });
    if guessed(mine) || guessed(theirs) {
        return techniques.many_sockets && (mine.is_fixed() || theirs.is_fixed());
    }
    techniques.prediction || !(counted(mine) || counted(theirs))
}
