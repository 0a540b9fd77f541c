//! A scenario from bytes, run and judged: what property tests and the fuzz target share.

use super::Scenario;
use crate::{json::hex, outcome::Outcome, packet::Kind, run::run};

/// What must not happen in the run of these bytes and did, with the command that shows it again.
///
/// # Panics
/// Where a node does: a caller who wants to go on catches it.
pub fn complaint(bytes: &[u8], seed: u64) -> Option<String> {
    let wrong = match run(&Scenario::from_bytes(bytes), seed) {
        Ok(outcome) => [outcome.faults(), storms(&outcome)].concat(),
        Err(error) => vec![error.to_string()],
    };
    (!wrong.is_empty()).then(|| format!("{}\n    {}", replay(bytes, seed), wrong.join("\n    ")))
}

/// The command that runs these bytes again and tells the story.
pub fn replay(bytes: &[u8], seed: u64) -> String {
    format!("cargo run --release -p direc-sim -- --seed {seed} --scenario {}", hex(bytes))
}

/// Probes beyond any reason: everybody may probe everybody, for as long as the run lasts, but not as fast as it can.
fn storms(outcome: &Outcome) -> Vec<String> {
    let probes = outcome.trace.packets.iter().filter(|packet| packet.kind == Kind::Probe).count() as f64;
    let calls = 2.0 * outcome.scenario.calls.len() as f64;
    // Each side of a call: two rounds of punching to eight addresses, then ten checks a minute and some answers to the
    // other side's.
    let allowed = 2.0 * calls * (300.0 + 0.5 * outcome.end.as_secs_f64());
    if probes > allowed { vec![format!("{probes} probes, {allowed} allowed")] } else { Vec::new() }
}
