//! What the runs of a cell come to, and whether that is what is asked of it.

use std::time::Duration;

use super::{
    limits::{Class, Limit},
    plan::{Cell, Condition, Plan},
    statistics::{Estimate, median, percentile, rate},
    trial::Sample,
};
use crate::{json::Object, timeline::ms};

/// The figures of a number of runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// How many runs.
    pub runs: u64,
    /// How many of them went direct, in time where there is a limit.
    pub direct: u64,
    /// Their share, with its 95 % interval.
    pub rate: Estimate<f64>,
    /// From the call until P2 hears P4 straight, of those that went direct: median with its 95 % interval.
    pub heard: Option<Estimate<Duration>>,
    /// The 95th percentile of the same.
    pub heard_95: Option<Duration>,
    /// From the call until data goes straight: median with its 95 % interval.
    pub moved: Option<Estimate<Duration>>,
    /// The median of the best times that the delays allow for hearing.
    pub best: Option<Duration>,
    /// The worst ratio of hearing to its best, in thousandths.
    pub worst: Option<u64>,
    /// Probes that a run sent: median and most.
    pub probes: [u64; 2],
    /// How many runs did not work at all, not even through the relay.
    pub broken: u64,
}

impl Figures {
    /// The figures of these runs; after `within`, direct does not count.
    pub fn of(samples: &[Sample], within: Option<Duration>) -> Self {
        let direct: Vec<&Sample> = samples.iter().filter(|sample| went(sample, within)).collect();
        let sorted = |get: fn(&Sample) -> Option<Duration>| {
            let mut times: Vec<Duration> = direct.iter().filter_map(|sample| get(sample)).collect();
            times.sort_unstable();
            times
        };
        let heard = sorted(|sample| sample.heard);
        let mut probes: Vec<u64> = samples.iter().map(|sample| sample.probes).collect();
        probes.sort_unstable();
        let (runs, count) = (samples.len() as u64, direct.len() as u64);
        Self {
            runs,
            direct: count,
            rate: rate(count, runs),
            heard: median(&heard),
            heard_95: percentile(&heard, 95),
            moved: median(&sorted(|sample| sample.moved)),
            best: median(&sorted(|sample| Some(sample.best.heard))).map(|best| best.value),
            worst: direct.iter().filter_map(|sample| ratio(sample)).max(),
            probes: [50, 100].map(|per_cent| percentile(&probes, per_cent).unwrap_or(0)),
            broken: samples.iter().filter(|sample| !sample.works).count() as u64,
        }
    }
}

/// Whether a run went direct, in time.
fn went(sample: &Sample, within: Option<Duration>) -> bool {
    sample.direct && within.is_none_or(|within| sample.moved.is_some_and(|moved| moved <= within))
}

/// A run's time to hearing P4 against its best, in thousandths, rounded up.
fn ratio(sample: &Sample) -> Option<u64> {
    let best = sample.best.heard.as_nanos().max(1);
    u64::try_from((sample.heard?.as_nanos() * 1000).div_ceil(best)).ok()
}

/// A cell, its figures, and what it missed.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// Which.
    pub cell: Cell<'a>,
    /// What its runs came to.
    pub figures: Figures,
    /// What is asked of it.
    pub limit: Option<Limit>,
    /// What it missed of that, in words; empty if nothing.
    pub missed: Vec<String>,
    /// The seed of its first run that missed something, else of its first run.
    pub seed: u64,
}

impl<'a> Report<'a> {
    /// What came of a cell.
    pub fn new(cell: Cell<'a>, samples: &[Sample]) -> Self {
        let limit = cell.class.limit(cell.condition);
        let figures = Figures::of(samples, limit.and_then(|limit| limit.within));
        let misses: Vec<Miss<'_>> = [
            broken(samples),
            limit.and_then(|limit| too_few(limit, &figures, samples)),
            limit.and_then(|limit| too_late(limit, samples)),
            limit.and_then(|limit| too_much(limit, samples)),
        ]
        .into_iter()
        .flatten()
        .collect();
        let shown = misses.iter().find_map(|miss| miss.seen_in).or(samples.first());
        let missed = misses.iter().map(|miss| miss.words.clone()).collect();
        Self { cell, figures, limit, missed, seed: shown.map_or(0, |sample| sample.seed) }
    }

    /// The report as a line of JSON.
    pub fn json(&self, plan: &Plan) -> String {
        let (cell, figures) = (&self.cell, &self.figures);
        let mut object = Object::new("cell");
        object.text("p2", &cell.one.name).text("p4", &cell.other.name).text("class", cell.class.name());
        object.real("loss_percent", Some(cell.condition.loss)).text("start", cell.condition.start.name());
        object.number("runs", figures.runs).number("direct", figures.direct).number("broken", figures.broken);
        object.real("rate_low", Some(figures.rate.low)).real("rate_high", Some(figures.rate.high));
        for (name, estimate) in [("heard", figures.heard), ("moved", figures.moved)] {
            object.ms(&format!("{name}_median_ms"), estimate.map(|estimate| estimate.value));
            object.ms(&format!("{name}_low_ms"), estimate.map(|estimate| estimate.low));
            object.ms(&format!("{name}_high_ms"), estimate.map(|estimate| estimate.high));
        }
        object.ms("heard_p95_ms", figures.heard_95).ms("bound_median_ms", figures.best);
        object.real("worst_ratio", figures.worst.map(|worst| worst as f64 / 1e3));
        object.number("probes_median", figures.probes[0]).number("probes_most", figures.probes[1]);
        object.flag("ok", self.missed.is_empty()).text("missed", &self.missed.join("; "));
        object.text("replay", &plan.replay(cell, self.seed));
        object.line()
    }
}

/// Something that is asked for and was not reached.
struct Miss<'a> {
    words: String,
    /// A run that shows it.
    seen_in: Option<&'a Sample>,
}

/// Runs in which nothing came through, not even by the relay: they are too many whatever is asked.
fn broken(samples: &[Sample]) -> Option<Miss<'_>> {
    let first = samples.iter().find(|sample| !sample.works)?;
    let count = samples.iter().filter(|sample| !sample.works).count();
    let words = format!("{count} of {} runs did not work at all", samples.len());
    Some(Miss { words, seen_in: Some(first) })
}

/// Too few direct, in time.
fn too_few<'a>(limit: Limit, figures: &Figures, samples: &'a [Sample]) -> Option<Miss<'a>> {
    let (direct, runs) = (figures.direct, figures.runs);
    if direct * 1000 >= limit.per_mille * runs {
        return None;
    }
    let when = limit.within.map_or(String::new(), |within| format!(" in {} s", within.as_secs()));
    let words = format!("{direct} of {runs} direct{when}, asked are {} %", limit.per_mille as f64 / 10.0);
    Some(Miss { words, seen_in: samples.iter().find(|sample| !went(sample, limit.within)) })
}

/// Direct, and later than the delays allow. Never is a matter of the rate.
fn too_late(limit: Limit, samples: &[Sample]) -> Option<Miss<'_>> {
    let late = |sample: &&Sample| match (sample.heard, sample.moved) {
        (Some(heard), Some(moved)) => limit.at_the_bound && !sample.best.reached(heard, moved),
        _ => false,
    };
    let worst = samples.iter().filter(late).max_by_key(|sample| ratio(sample))?;
    let times = [worst.heard, worst.moved, Some(worst.best.heard), worst.best.moved];
    let [heard, moved, best, best_moved] = times.map(|time| time.map_or("-".to_owned(), ms));
    let words = format!("heard after {heard} ms, direct after {moved}; the bounds are {best}, {best_moved}");
    Some(Miss { words, seen_in: Some(worst) })
}

/// More probes than allowed.
fn too_much(limit: Limit, samples: &[Sample]) -> Option<Miss<'_>> {
    let most = samples.iter().max_by_key(|sample| sample.probes)?;
    let allowed = limit.probes.filter(|&allowed| most.probes > allowed)?;
    let words = format!("{} probes in one run, allowed are {allowed}", most.probes);
    Some(Miss { words, seen_in: Some(most) })
}

/// All reports, in the order of [`Plan::cells`], and sums over them.
#[derive(Clone, Debug)]
pub struct Matrix<'a> {
    /// What was run.
    pub plan: &'a Plan,
    /// What came of it.
    pub reports: Vec<Report<'a>>,
    /// The figures of all cells of a class, where there are any.
    pub classes: Vec<ClassRow>,
}

/// All cells of one class under one condition.
#[derive(Clone, Debug)]
pub struct ClassRow {
    /// Which.
    pub class: Class,
    /// How.
    pub condition: Condition,
    /// How many cells.
    pub cells: usize,
    /// How many of them missed something.
    pub missed: usize,
    /// The figures of their runs together.
    pub figures: Figures,
}

impl<'a> Matrix<'a> {
    /// What came of a plan: `samples` as [`run_all`](super::run_all) gives them.
    pub fn new(plan: &'a Plan, samples: &[Vec<Sample>]) -> Self {
        let cells = plan.cells();
        let reports: Vec<Report<'a>> =
            cells.iter().zip(samples).map(|(cell, samples)| Report::new(*cell, samples)).collect();
        let mut classes = Vec::new();
        for class in Class::ALL {
            for &condition in &plan.conditions {
                let mine = |report: &&(usize, &Report<'_>)| {
                    report.1.cell.class == class && report.1.cell.condition == condition
                };
                let members: Vec<(usize, &Report<'_>)> = reports.iter().enumerate().filter(|r| mine(&r)).collect();
                if members.is_empty() {
                    continue;
                }
                let all: Vec<Sample> =
                    members.iter().flat_map(|(number, _)| samples[*number].iter().copied()).collect();
                let within = class.limit(condition).and_then(|limit| limit.within);
                let missed = members.iter().filter(|(_, report)| !report.missed.is_empty()).count();
                let figures = Figures::of(&all, within);
                classes.push(ClassRow { class, condition, cells: members.len(), missed, figures });
            }
        }
        Self { plan, reports, classes }
    }

    /// Whether every cell has what is asked of it.
    pub fn good(&self) -> bool {
        self.reports.iter().all(|report| report.missed.is_empty())
    }

    /// How many runs there were.
    pub fn runs(&self) -> u64 {
        self.reports.iter().map(|report| report.figures.runs).sum()
    }

    /// The reports of one condition, row by row.
    pub fn grid(&self, condition: Condition) -> impl Iterator<Item = &Report<'a>> {
        self.reports.iter().filter(move |report| report.cell.condition == condition)
    }

    /// All as JSON, one object a line.
    pub fn json(&self) -> String {
        self.reports.iter().map(|report| report.json(self.plan)).collect()
    }
}
