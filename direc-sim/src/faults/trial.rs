//! One fault in one world: its story, and what came of it.

use std::time::Duration;

use super::Fault;
use crate::{
    Outcome, Scenario, SetUpError,
    app::{ConnLog, Flow, Gap, Pace, Work},
    link::LinkConfig,
    nat::stack,
    rng::{Purpose, Rng},
    run_keeping,
    scenario::{Trouble, When},
    trace::Keep,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// What the upload sends.
const RATE: u64 = 30_000_000;
/// What each access link carries.
const ACCESS: u64 = 100_000_000;
/// How long the upload has been running when the fault comes, at least.
const BEFORE: Duration = Duration::from_millis(1500);
/// How long to watch after the fault, or after it is over: twice the longest limit.
const WATCH: Duration = Duration::from_secs(4);

/// One fault in one world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// What goes wrong.
    pub fault: Fault,
    /// Probability that a packet is lost, on each way through the internet.
    pub loss: f64,
    /// Which side uploads: 0 is P2, 1 is P4.
    pub sender: usize,
    /// What chance makes of round-trip times, moments and sides; and of everything else.
    pub seed: u64,
}

/// A trial as a scenario, and when to look. Times count from the scenario's start.
#[derive(Clone, Debug)]
pub struct Story {
    /// The scenario.
    pub scenario: Scenario,
    /// When the fault comes.
    pub at: Duration,
    /// When it is over; the same if it never is.
    pub over: Duration,
    /// When nobody looks any more.
    pub end: Duration,
}

/// What came of a trial.
pub struct Verdict {
    /// The stall, or what else the limit is for; its beginning counts from the world's.
    pub stall: Gap,
    /// The run it was seen in.
    pub outcome: Outcome,
}

/// What chance decides of a story.
struct Dice {
    /// One-way delays P2–P3, P3–P4, P2–P4.
    delays: [Duration; 3],
    at: Duration,
    /// The side that the fault is about.
    side: usize,
    /// How long the fault lasts, or each of two, in thousandths of what it may.
    lasts: [u32; 2],
}

impl Dice {
    fn throw(seed: u64) -> Self {
        let mut rng = Rng::new(seed, Purpose::Stories);
        // Round trips of 40 to 80 ms on both paths, and the direct one never longer than the relayed one.
        let (a, b) = (10 * MS + rng.upto(10 * MS), 10 * MS + rng.upto(10 * MS));
        let c = 20 * MS + rng.upto(a + b - 20 * MS);
        let at = BEFORE + rng.upto(500 * MS);
        // Below 2 and below 1,001, so they fit.
        let side = rng.below(2) as usize;
        let lasts = [rng.below(1001) as u32, rng.below(1001) as u32];
        Self { delays: [a, b, c], at, side, lasts }
    }

    /// A time from `least` to `most`.
    fn lasts(&self, which: usize, least: Duration, most: Duration) -> Duration {
        least + (most - least) * self.lasts[which] / 1000
    }
}

impl Trial {
    /// The trial as a scenario.
    pub fn story(&self) -> Story {
        let dice = Dice::throw(self.seed);
        let [a, b, c] = dice.delays;
        let boxes = self.fault.boxes(dice.side).map(|name| stack(name).unwrap_or_default());
        let mut scenario = Scenario::pair(boxes, a, b, c);
        scenario.noise.loss = self.loss;
        for side in &mut scenario.peers {
            (side.up, side.down) = (LinkConfig::rate(ACCESS), LinkConfig::rate(ACCESS));
        }
        if self.fault == Fault::SecondRelay {
            scenario.relays = 2;
        }
        let incidents = self.incidents(&dice);
        for &(what, lasts) in &incidents {
            scenario = scenario.incident(When::At(dice.at), what, lasts);
        }
        let over = dice.at + incidents.iter().filter_map(|(_, lasts)| *lasts).max().unwrap_or_default();
        let end = over + WATCH;
        let work = Work { flow: Some(Flow { pace: Pace::Rate(RATE), lasts: end }), ..Work::default() };
        if self.sender == 0 {
            scenario = scenario.work(work);
        } else {
            scenario = scenario.work(Work::default());
            scenario.peers[1].serve = work;
        }
        // To the end in any case: what P4 sends is not in the call's own work.
        (scenario.limit, scenario.linger) = (end, end);
        Story { scenario, at: dice.at, over, end }
    }

    /// What goes wrong, and for how long.
    fn incidents(&self, dice: &Dice) -> Vec<(Trouble, Option<Duration>)> {
        let (sender, receiver, side) = (self.sender, 1 - self.sender, dice.side);
        let roam = |which, peer| (Trouble::Roam(peer), Some(dice.lasts(which, 100 * MS, SECOND)));
        match self.fault {
            Fault::Blocked => vec![(Trouble::SeverDirect(0, 1), None)],
            Fault::BlockedForth => vec![(Trouble::SeverWay(sender, receiver), None)],
            Fault::BlockedBack => vec![(Trouble::SeverWay(receiver, sender), None)],
            Fault::Readdressed => vec![(Trouble::Readdress(side), None)],
            Fault::FlushedAdf | Fault::FlushedEif => vec![(Trouble::Reboot(side), None)],
            Fault::Roam => vec![roam(0, side)],
            Fault::BothRoam => vec![roam(0, 0), roam(1, 1)],
            Fault::RelayKilled | Fault::SecondRelay => vec![(Trouble::KillRelay(0), None)],
            Fault::RelayRestarted => vec![(Trouble::KillRelay(0), Some(dice.lasts(0, 2 * SECOND, 5 * SECOND)))],
            Fault::Unblocked => vec![(Trouble::SeverDirect(0, 1), Some(dice.lasts(0, 4 * SECOND, 8 * SECOND)))],
            Fault::Suspended => vec![(Trouble::Stop(side), Some(60 * SECOND))],
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// [`SetUpError`] if it cannot be set up.
    pub fn run(&self) -> Result<Verdict, SetUpError> {
        self.run_keeping(Keep::default())
    }

    /// Runs it, and keeps what it is told to.
    ///
    /// # Errors
    /// [`SetUpError`] if it cannot be set up.
    pub fn run_keeping(&self, keep: Keep) -> Result<Verdict, SetUpError> {
        let story = self.story();
        let outcome = run_keeping(&story.scenario, self.seed, keep)?;
        let mut stall = self.stall(&story, &outcome);
        if self.fault == Fault::RelayKilled {
            // A byte that is lost holds back all that follow it for a round trip or two, relay or not: what shows of
            // the fault is what the same run without it has not got.
            let mut calm = story.clone();
            calm.scenario.incidents.clear();
            let calm_outcome = run_keeping(&calm.scenario, self.seed, Keep::default())?;
            stall.lasted = stall.lasted.saturating_sub(self.stall(&calm, &calm_outcome).lasted);
        }
        Ok(Verdict { stall, outcome })
    }

    fn stall(&self, story: &Story, outcome: &Outcome) -> Gap {
        let [at, over, end] = [story.at, story.over, story.end].map(|time| outcome.start + time);
        let nothing = Gap { at: over, lasted: end - over };
        if self.fault == Fault::Unblocked {
            return side(outcome, self.sender).map_or(nothing, |log| until_direct(log, over, end));
        }
        let Some(log) = side(outcome, 1 - self.sender) else { return nothing };
        // Where the fault has an end, nobody can be asked for anything before it.
        if over > at { log.deliveries.longest_gap_within(over, end) } else { log.deliveries.longest_gap(at, end) }
    }
}

/// The connection as one of the two sides saw it.
fn side(outcome: &Outcome, peer: usize) -> Option<&ConnLog> {
    outcome.peers.get(peer)?.connections.first()
}

fn until_direct(log: &ConnLog, from: Duration, end: Duration) -> Gap {
    let mut moves = log.paths.iter().filter(|moved| moved.at >= from && moved.path.is_direct());
    let lasted = match log.path_at(from) {
        Some(path) if path.is_direct() => Duration::ZERO,
        _ => moves.next().map_or(end, |moved| moved.at).saturating_sub(from),
    };
    Gap { at: from, lasted }
}

impl Verdict {
    /// Whether the stall is within the limit and no byte was out of place.
    pub fn ok(&self, fault: Fault) -> bool {
        self.stall.lasted <= fault.limit() && self.mistakes().is_empty()
    }

    /// Bytes out of place, streams cut short, a node caught spinning: in words.
    pub fn mistakes(&self) -> Vec<String> {
        let logs = self.outcome.peers.iter().flat_map(|peer| &peer.connections);
        let mistakes = logs.flat_map(|log| &log.mistakes).cloned();
        mistakes.chain(self.outcome.stuck.map(|stuck| stuck.to_string())).collect()
    }
}
