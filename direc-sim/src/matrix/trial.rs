//! Runs of cells, on several threads, in one order.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    limits::Best,
    plan::{Cell, Plan},
};
use crate::{Outcome, Scenario, packet::Kind, run};

/// Runs that a thread takes at once: enough that taking them costs nothing, few enough that no thread waits long for
/// another's last ones.
const BATCH: u64 = 20;

/// What one run came to. Times count from the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The run's seed.
    pub seed: u64,
    /// When P2 had authenticated a packet that came straight from P4: QUIC's, or a probe's echo.
    pub heard: Option<Duration>,
    /// When data went straight, the round trip being proven.
    pub moved: Option<Duration>,
    /// Whether both sides were direct in the end, when all had come to something.
    pub direct: bool,
    /// Whether application data came back, by whatever path, and nothing happened that must not.
    pub works: bool,
    /// Probes, checks and their echoes that both sides sent to addresses other than the relay's.
    pub probes: u64,
    /// The best that the delays allow.
    pub best: Best,
}

impl Sample {
    /// What a run came to.
    fn of(scenario: &Scenario, outcome: &Outcome) -> Self {
        let call = outcome.call(0);
        let ends = [call.and_then(|call| call.log.path()), outcome.accepted(1).next().and_then(|log| log.path())];
        let probe = |kind: Kind| matches!(kind, Kind::Probe | Kind::ProbeEcho | Kind::Check);
        Self {
            seed: outcome.seed,
            // A probe's echo, which moves the connection, is as authentic as a packet of QUIC's.
            heard: call.and_then(|call| [call.direct_heard(), call.direct()].into_iter().flatten().min()),
            moved: call.and_then(|call| call.direct()),
            direct: ends.iter().all(|path| path.is_some_and(|path| path.is_direct())),
            works: call.is_some_and(|call| call.first_echo().is_some()) && outcome.faults().is_empty(),
            probes: outcome.trace.packets.iter().filter(|packet| probe(packet.kind) && !packet.relayed).count() as u64,
            best: Best::of(scenario),
        }
    }

    /// A run that could not be set up.
    fn broken(scenario: &Scenario, seed: u64) -> Self {
        let best = Best::of(scenario);
        Self { seed, heard: None, moved: None, direct: false, works: false, probes: 0, best }
    }
}

/// Runs a plan on so many threads. Gives the samples of each of [`Plan::cells`], in their order and by seed, however
/// many threads there were. `told` hears now and then how many runs of how many are done.
pub fn run_all(plan: &Plan, threads: usize, told: impl Fn(u64, u64) + Sync) -> Vec<Vec<Sample>> {
    let cells = plan.cells();
    let mut batches = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        let count = plan.count(cell);
        batches.extend((0..count).step_by(BATCH as usize).map(|first| (number, first..(first + BATCH).min(count))));
    }
    let all = cells.iter().map(|cell| plan.count(cell)).sum();
    let (next, done) = (AtomicUsize::new(0), Mutex::new((0, Vec::with_capacity(batches.len()))));
    let work = || {
        loop {
            let taken = next.fetch_add(1, Ordering::Relaxed);
            let Some((number, seeds)) = batches.get(taken) else { break };
            let run = |n| sample(plan, &cells[*number], plan.seed.wrapping_add(n));
            let samples: Vec<Sample> = seeds.clone().map(run).collect();
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.0 += samples.len() as u64;
            done.1.push((taken, *number, samples));
            told(done.0, all);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(batches.len()) {
            scope.spawn(work);
        }
        work();
    });
    let (_, mut done) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Batches were made cell by cell and seed by seed.
    done.sort_by_key(|(taken, ..)| *taken);
    let mut samples = vec![Vec::new(); cells.len()];
    for (_, number, batch) in done {
        samples[number].extend(batch);
    }
    samples
}

fn sample(plan: &Plan, cell: &Cell<'_>, seed: u64) -> Sample {
    let scenario = plan.scenario(cell, seed);
    run(&scenario, seed).map_or_else(|_| Sample::broken(&scenario, seed), |outcome| Sample::of(&scenario, &outcome))
}
