//! Rounds: what is tried where plain punching leads nowhere though it might, from fresh sockets, by agreement.
//!
//! A round is P2's to begin. Each side opens a socket of its own for it, has the relay look at which ports its NATs show
//! that one, and tells the other side what it will do and where it expects to be seen: its [`Bid`], through the relay.
//! Who has both bids opens its own NATs by punches that die before they reach the other's, and says so. Who hears that the
//! other's are open punches in earnest: at the port it named, at one of those a counting NAT gives next, or at many of
//! those it may be at. So no first packet can come too early, whatever is lost: NATs that hold an early packet against its
//! sender (DESIGN.md, section 6) are passed as well, and their memory of earlier ones does not matter to a fresh socket.
//!
//! What is heard on one of a round's sockets is a candidate like any other from then on.

mod round;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Pair, pattern::GUESSES};
use crate::{Link, Techniques, rng::Rng, wire::datagram::Bid};
use round::Round;

/// Rounds that follow a beginning, each from its own view of why the ones before have failed. A first one in which nothing
/// had to be guessed comes on top.
const ROUNDS: u8 = 3;
/// If ports need not be guessed, one more round follows so long after the beginning: a firewall that shuts out whoever
/// comes too early may have forgiven by then.
const FORGIVEN: Duration = Duration::from_millis(10_500);
/// And pauses before further ones, the last of which repeats.
const LATER: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(300)];
/// Who follows takes part in further rounds no more often than this.
const LATER_AT_MOST: Duration = Duration::from_secs(2);
/// Plain punching's time before the first round, besides two round trips through the relay.
const PATIENCE: Duration = Duration::from_millis(250);
/// Sockets where each mapping gets another port: anywhere, or within a carrier's block, or the next one.
const MANY: u16 = 256;
const SOME: u16 = 32;

/// Packets by which the two sides of an introduction together guess ports, at most: on one side 256 sockets, each for two
/// addresses, on the other 1,024 guesses, and all of it in each round.
pub(super) const GUESSING_PACKETS: u64 = ROUNDS as u64 * (2 * MANY as u64 + GUESSES as u64);

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

/// What is known of this side's NATs besides what a round's own socket shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nat<'a> {
    /// Ports at which the relay has seen another socket, in the order in which that sent to its ports.
    pub(crate) earlier: &'a [u16],
    /// Whether each host sees another port, if relays at two hosts have been compared.
    pub(crate) by_address: Option<bool>,
    /// Whether there are any, if this side's own addresses are known.
    pub(crate) translated: Option<bool>,
    /// The first and the last of the ports that such NATs give, if the relay knows.
    pub(crate) pool: Option<(u16, u16)>,
}

/// What a round begins with.
#[derive(Clone, Copy, Debug)]
struct Terms {
    number: u16,
    techniques: Techniques,
    /// How many rounds have failed since the beginning.
    failed: u8,
    /// Whether this side takes its NAT for one that gives another port to each host, unless it knows better.
    suspects: bool,
}

#[derive(Debug)]
pub(super) struct Rounds {
    techniques: Techniques,
    /// Number of the current round, or the last one.
    number: u16,
    left: u8,
    /// How many have begun since the beginning.
    begun: u8,
    /// When the last beginning was, until the round after it that counts on forgiveness.
    planned: Option<Instant>,
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
    /// Sockets of earlier rounds by which the other side has been heard, and those that are needed no more.
    kept: Vec<Link>,
    retired: Vec<Link>,
}

impl Rounds {
    pub(super) fn new(techniques: Techniques, begins: bool) -> Self {
        let (round, need, retired) = (None, None, Vec::new());
        Self {
            techniques,
            number: 0,
            left: 0,
            begun: 0,
            planned: None,
            later: 0,
            ended: None,
            begins,
            fixed: false,
            begin_at: None,
            round,
            need,
            kept: Vec::new(),
            retired,
        }
    }

    /// Plain punching begins; where it leads nowhere, rounds follow. P2 begins them.
    pub(super) fn plan(&mut self, now: Instant, relayed_rtt: Duration) {
        self.left = if self.techniques.fresh_sockets { ROUNDS } else { 0 };
        (self.planned, self.begun, self.later) = (Some(now), 0, 0);
        if self.begins && self.left > 0 && self.round.is_none() {
            self.begin_at = Some(now + PATIENCE + relayed_rtt * 2);
        }
    }

    /// A direct path works, or none is wanted: nothing more is tried. `keep`: sockets that are in use.
    pub(super) fn end(&mut self, keep: &[Link]) {
        (self.begin_at, self.need) = (None, None);
        if let Some(round) = self.round.take() {
            let (kept, retired): (Vec<_>, Vec<_>) = round.links.into_iter().partition(|link| keep.contains(link));
            self.kept.extend(kept);
            self.retired.extend(retired);
        }
    }

    /// Of the sockets of earlier rounds, only these are of use.
    pub(super) fn keep_only(&mut self, useful: &[Link]) {
        self.retired.extend(self.kept.iter().filter(|link| !useful.contains(link)));
        self.kept.retain(|link| useful.contains(link));
    }

    /// Sockets that are needed no more.
    pub(super) fn take_retired(&mut self) -> Vec<Link> {
        std::mem::take(&mut self.retired)
    }

    pub(super) fn take_need(&mut self) -> Option<Need> {
        self.need.take()
    }

    /// What the first round has shown, whether it came to its end or the other side was quicker to begin the next.
    fn learn(&mut self) {
        if let Some(round) = self.round.as_ref().filter(|_| self.begun == 1) {
            self.fixed = round.is_fixed();
            self.left += u8::from(self.fixed);
        }
    }

    fn begin(&mut self, now: Instant, number: u16, keep: &[Link]) {
        self.learn();
        self.end(keep);
        let failed = self.begun;
        // P2 in the second round; P4, who has less time left for it, in the third and in the fourth.
        let turn = if self.begins { failed == 1 } else { failed > 1 };
        let suspects = self.fixed && self.left > 0 && turn;
        (self.number, self.left, self.begun) = (number, self.left.saturating_sub(1), failed.saturating_add(1));
        self.need = Some(Need::Look);
        self.round = Some(Round::new(now, Terms { number, techniques: self.techniques, failed, suspects }));
    }

    /// The sockets that were asked for.
    pub(super) fn on_sockets(&mut self, links: impl IntoIterator<Item = Link>) {
        match &mut self.round {
            Some(round) => round.links.extend(links),
            None => self.retired.extend(links),
        }
    }

    /// A hole-punch port, one of `ports`, has seen the first socket at this address.
    pub(super) fn on_seen(&mut self, now: Instant, port: u8, address: SocketAddr, ports: usize, nat: Nat<'_>) {
        if let Some(round) = &mut self.round {
            round.on_seen(now, port, address, ports, nat);
        }
    }

    /// The other side's bid; P4 begins its round with it. `keep`: sockets that are in use.
    pub(super) fn on_bid(&mut self, now: Instant, bid: Bid, keep: &[Link]) {
        let rested = self.ended.is_some_and(|ended| ended + LATER_AT_MOST <= now);
        if !self.begins && bid.round > self.number && (self.left > 0 || rested) {
            self.begin(now, bid.round, keep);
        }
        if let Some(round) = self.round.as_mut().filter(|round| round.number() == bid.round) {
            round.on_bid(bid);
        }
    }

    /// The other side has been heard by this pair.
    pub(super) fn on_heard(&mut self, now: Instant, pair: Pair) {
        if let Some(round) = &mut self.round {
            round.on_heard(now, pair);
        }
    }

    /// Goes on as far as time and both bids allow. `keep`: sockets that are in use if a round ends now.
    pub(super) fn drive(&mut self, now: Instant, rng: &mut Rng, keep: &[Link]) {
        if self.begin_at.is_some_and(|at| at <= now) {
            self.begin(now, self.number.saturating_add(1), keep);
        }
        let Some(round) = &mut self.round else { return };
        self.need = round.advance(now, rng).or(self.need.take());
        if !round.is_over() {
            return;
        }
        let worth = !round.is_hopeless();
        // Where a NAT was but suspected, nothing has to be guessed.
        let guessed = round.has_guessed();
        self.learn();
        let cheap = worth && (self.fixed || !guessed);
        self.left = if worth { self.left } else { 0 };
        self.end(keep);
        self.ended = Some(now);
        // Who only follows waits for the other's next bid.
        if self.begins {
            self.begin_at = self.next_beginning(now, cheap);
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
        if !cheap {
            return None;
        }
        if let Some(at) = self.planned.take().map(|planned| planned + FORGIVEN).filter(|&at| at > now) {
            return Some(at);
        }
        let pause = LATER.get(self.later).or(LATER.last())?;
        self.later += 1;
        Some(now + *pause)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let round = self.round.as_ref().and_then(Round::poll_timeout);
        self.begin_at.into_iter().chain(round).min()
    }
}
