//! Watches over a week, second by second: who is lost, for how long, and who talks to whom.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use direc_core::{ConnectError, ConnectOptions, PeerTiming, RefuseReason, TransportConfig};

use super::{Fault, Holdings, Report, SECOND, Week, diary::PAIRS, moment};
use crate::{
    app::{Command, ConnLog, Work},
    run::Cast,
    scenario::Scenario,
    trace::{Note, What},
};

/// How often an application says something on its connections.
const PING: Duration = Duration::from_secs(300);
/// How long it waits before it calls again whom it has lost, or not reached.
pub const RETRY: Duration = Duration::from_secs(10);
/// How often it is looked at what nodes hold, how long nothing must have been wrong then, and how many looks there are before
/// the first call and after the last.
const COUNT: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(600);
const LOOKS: u32 = 60;
/// Events that are kept, to be told with a fault, how far back they go, and with how many faults they are told.
const KEPT: usize = 400;
const STORY: Duration = Duration::from_secs(180);
const STORIES: usize = 10;

/// The longest of all stretches of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Longest {
    /// How long.
    pub lasted: Duration,
    /// Since when, counted from the start.
    pub at: Duration,
    /// Whose.
    pub whose: String,
    /// How many there were.
    pub count: u64,
}

/// Something that is wrong, or is not.
#[derive(Clone, Debug, Default)]
struct Stretch {
    since: Option<Duration>,
    told: bool,
}

impl Stretch {
    /// What it has come to by now, if it is wrong; beginning with the last time it was not.
    fn see(&mut self, now: Duration, wrong: bool) -> Option<Duration> {
        if !wrong {
            *self = Self::default();
            return None;
        }
        Some(now - *self.since.get_or_insert(now))
    }
}

/// What can be wrong for too long.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Unnoticed,
    Lost,
    Apart,
    Silent,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Unnoticed, Self::Lost, Self::Apart, Self::Silent];

    const fn what(self) -> &'static str {
        match self {
            Self::Unnoticed => "forgotten by its relay without knowing it",
            Self::Lost => "not registered",
            Self::Apart => "without the connection it wants",
            Self::Silent => "without an answer on its connection",
        }
    }

    /// How long it may last. `drained`: the relay was drained and not killed, so that its peers come back over some time.
    fn limit(self, drained: bool) -> Duration {
        let timing = PeerTiming::default();
        match self {
            Self::Unnoticed => timing.noticed_within(),
            Self::Lost if drained => timing.back_after_drain_within(),
            Self::Lost => timing.back_within(),
            // A call that began too early, the next one, and how long an application waits before that.
            Self::Apart => timing.handshake_deadline + RETRY + timing.handshake_deadline,
            // Whoever has lost the other side finds out by QUIC's idle timeout, and the application calls again.
            Self::Silent => TransportConfig::default().idle_timeout,
        }
    }
}

/// How no call may fail, whatever goes wrong: everybody accepts everybody, and there are few.
fn never() -> impl Iterator<Item = ConnectError> {
    let refused = [RefuseReason::Limit, RefuseReason::Kind, RefuseReason::Malformed].map(ConnectError::RelayRefused);
    [ConnectError::Refused, ConnectError::Limit].into_iter().chain(refused)
}

/// One application's connection to another's.
#[derive(Clone, Default)]
struct Pair {
    tag: Option<usize>,
    /// When it may be called next.
    next_call: Duration,
    /// When anything was wrong last that may end a connection.
    troubled: Duration,
}

/// All that is seen of a week.
pub(super) struct Watch {
    week: Week,
    incidents: usize,
    start: Duration,
    now: Duration,
    stretches: BTreeMap<(Kind, usize, usize), Stretch>,
    longest: BTreeMap<Kind, Longest>,
    pairs: Vec<Pair>,
    calls: usize,
    /// How connections ended, and calls.
    ended: BTreeMap<String, u64>,
    unmade: BTreeMap<String, u64>,
    pings: u64,
    /// When anything was wrong last.
    troubled: Duration,
    holdings: Holdings,
    notes: VecDeque<Note>,
    faults: Vec<Fault>,
}

impl Watch {
    /// From the start on, before anybody has called.
    pub(super) fn new(week: Week, incidents: usize, cast: &Cast<'_>) -> Self {
        Self {
            week,
            incidents,
            start: cast.start(),
            now: Duration::ZERO,
            stretches: BTreeMap::new(),
            longest: Kind::ALL.map(|kind| (kind, Longest::default())).into(),
            pairs: vec![Pair::default(); PAIRS.len()],
            calls: 0,
            ended: BTreeMap::new(),
            unmade: BTreeMap::new(),
            pings: 0,
            troubled: Duration::ZERO,
            holdings: Holdings::default(),
            notes: VecDeque::new(),
            faults: Vec::new(),
        }
    }

    /// The first minute, in which nobody calls. `false` if it cannot be.
    pub(super) fn before(&mut self, cast: &mut Cast<'_>) -> bool {
        (0..LOOKS).all(|_| {
            self.holdings.look_before(cast);
            self.step(cast)
        })
    }

    /// Lets a week go on until then, and looks every second. `false` if it cannot.
    pub(super) fn until(&mut self, cast: &mut Cast<'_>, end: Duration) -> bool {
        while self.now < end {
            if !self.step(cast) {
                return false;
            }
            self.pairs(cast);
            if self.now.as_secs().is_multiple_of(PING.as_secs()) {
                self.ping(cast);
            }
            if self.now.as_secs().is_multiple_of(COUNT.as_secs()) && self.troubled + QUIET < self.now {
                self.holdings.look(cast, self.now);
            }
        }
        true
    }

    /// All hang up; then nothing may be left of what they held.
    pub(super) fn hang_up(&mut self, cast: &mut Cast<'_>, end: Duration) {
        for peer in 0..super::diary::BOXES.len() {
            cast.with_peer(peer, |peer, now| peer.act(now, Command::CloseAll));
        }
        while self.now < end {
            if !self.step(cast) {
                return;
            }
            if self.now + LOOKS * SECOND > end {
                self.holdings.look_after(cast);
            }
        }
        for what in self.holdings.left().into_iter().chain(self.holdings.piled_up()) {
            self.fault(what);
        }
    }

    /// One second, and who is registered where.
    fn step(&mut self, cast: &mut Cast<'_>) -> bool {
        self.now += SECOND;
        let goes_on = cast.pass(self.start + self.now);
        self.take_notes(cast);
        if !goes_on {
            let stuck = cast.world.stuck().map(|stuck| stuck.to_string()).unwrap_or_default();
            self.fault(stuck);
            return false;
        }
        for peer in 0..super::diary::BOXES.len() {
            for relay in 0..cast.relays() {
                let fine = cast.is_open(relay) && cast.is_there(peer);
                if !fine {
                    self.troubled = self.now;
                }
                let standing = cast.standing(peer, relay);
                let drained = cast.was_drained(relay);
                let whose = || format!("{} at relay {relay}", Scenario::name(peer));
                let forgotten = fine && standing.registered && !standing.known;
                self.see((Kind::Unnoticed, peer, relay), forgotten, drained, whose);
                self.see((Kind::Lost, peer, relay), fine && !standing.registered, drained, whose);
            }
        }
        true
    }

    /// Each application looks after its connection.
    fn pairs(&mut self, cast: &mut Cast<'_>) {
        for (number, &(from, to)) in PAIRS.iter().enumerate() {
            let there = cast.is_there(from) && cast.is_there(to);
            let meet = |relay: &usize| {
                let is = |peer| {
                    let standing = cast.standing(peer, *relay);
                    standing.registered && standing.known
                };
                cast.is_open(*relay) && is(from) && is(to)
            };
            let fine = there && (0..cast.relays()).any(|relay| meet(&relay));
            if !fine {
                self.pairs[number].troubled = self.now;
            }
            let log = self.log(cast, number).cloned();
            let stands = log.as_ref().is_some_and(ConnLog::stands);
            let waits = stands && log.as_ref().is_some_and(|log| log.done_at.is_none());
            if log.as_ref().is_none_or(ConnLog::over) {
                self.on_over(number, log.as_ref(), Kind::Silent.limit(false));
                self.call(cast, number);
            }
            let whose = || format!("{} to {}", Scenario::name(from), Scenario::name(to));
            self.see((Kind::Apart, number, 0), fine && !stands, false, whose);
            self.see((Kind::Silent, number, 0), fine && waits, false, whose);
        }
    }

    fn log<'c>(&self, cast: &'c Cast<'_>, number: usize) -> Option<&'c ConnLog> {
        let (tag, from) = (self.pairs[number].tag?, PAIRS[number].0);
        // The newest come last.
        cast.peer(from)?.app.connections().values().rev().find(|log| log.tag == Some(tag))
    }

    /// A connection, or a call, is over.
    fn on_over(&mut self, number: usize, log: Option<&ConnLog>, idle: Duration) {
        if self.pairs[number].tag.take().is_none() {
            return;
        }
        let (from, to) = PAIRS[number];
        let pair = format!("{} to {}", Scenario::name(from), Scenario::name(to));
        let (counts, why) = match log {
            Some(ConnLog { closed: Some((_, why)), .. }) => {
                let troubled = self.pairs[number].troubled;
                if troubled + 2 * idle < self.now {
                    self.fault(format!("{pair}: the connection ended though nothing was wrong: {why}"));
                }
                (&mut self.ended, why.to_string())
            }
            Some(ConnLog { failed: Some((_, why)), .. }) => {
                if never().any(|error| error.to_string() == *why) {
                    self.fault(format!("{pair}: a call failed as none may: {why}"));
                }
                (&mut self.unmade, why.clone())
            }
            _ => (&mut self.unmade, "refused by the core".to_owned()),
        };
        // Without what is in brackets: a key, or advice.
        let why = why.split(" (").next().unwrap_or_default().to_owned();
        *counts.entry(why).or_default() += 1;
    }

    fn call(&mut self, cast: &mut Cast<'_>, number: usize) {
        let (from, to) = PAIRS[number];
        let Some(to) = cast.id(to).filter(|_| cast.is_there(from) && self.pairs[number].next_call <= self.now) else {
            return;
        };
        let tag = self.calls;
        self.calls += 1;
        (self.pairs[number].tag, self.pairs[number].next_call) = (Some(tag), self.now + RETRY);
        let work = Work { ping: true, ..Work::default() };
        let command = Command::Connect { tag, to, options: ConnectOptions::default(), work };
        cast.with_peer(from, |peer, now| peer.act(now, command));
    }

    /// Everybody who has called says something, and wants it back.
    fn ping(&mut self, cast: &mut Cast<'_>) {
        for (number, &(from, _)) in PAIRS.iter().enumerate() {
            if cast.is_there(from) && self.log(cast, number).is_some_and(|log| log.stands() && log.done_at.is_some()) {
                self.pings += 1;
                cast.with_peer(from, |peer, now| peer.act(now, Command::Work(Work { ping: true, ..Work::default() })));
            }
        }
    }

    fn see(&mut self, key: (Kind, usize, usize), wrong: bool, drained: bool, whose: impl Fn() -> String) {
        let (now, limit) = (self.now, key.0.limit(drained));
        let stretch = self.stretches.entry(key).or_default();
        let began = stretch.since.is_none();
        let Some(lasted) = stretch.see(now, wrong) else { return };
        let late = lasted > limit && !std::mem::replace(&mut stretch.told, true);
        let longest = self.longest.entry(key.0).or_default();
        longest.count += u64::from(began);
        if lasted > longest.lasted {
            (longest.lasted, longest.at, longest.whose) = (lasted, now - lasted, whose());
        }
        if late {
            let since = moment(now - lasted);
            self.fault(format!("{} is {} for more than {limit:?}, since {since}", whose(), key.0.what()));
        }
    }

    /// Keeps the last of what was said.
    fn take_notes(&mut self, cast: &mut Cast<'_>) {
        let told = cast.world.take_notes().into_iter().filter(|note| matches!(note.what, What::Event(_)));
        self.notes.extend(told);
        let many = self.notes.len().saturating_sub(KEPT);
        self.notes.drain(..many);
    }

    fn fault(&mut self, what: String) {
        let since = (self.start + self.now).saturating_sub(STORY);
        let told = if self.faults.len() < STORIES { self.notes.iter() } else { Default::default() };
        let story = told.filter(|note| note.at >= since).cloned().collect();
        self.faults.push(Fault { at: self.now, what, story });
    }

    /// What came of it.
    pub(super) fn report(self, cast: &Cast<'_>) -> Report {
        let told = |(kind, longest): (Kind, Longest)| (kind.what(), kind.limit(true), longest);
        let stretches = self.longest.into_iter().map(told).collect();
        Report {
            week: self.week,
            incidents: self.incidents,
            lasted: self.now,
            start: self.start,
            names: cast.world.host_names(),
            packets: cast.world.trace().counts.sent,
            hash: cast.world.trace().hash(),
            stretches,
            calls: self.calls as u64,
            pings: self.pings,
            ended: self.ended,
            unmade: self.unmade,
            holdings: self.holdings,
            faults: self.faults,
        }
    }
}
