//! The second half: the same introduction between two simulated home NATs, in virtual time.

use std::time::Duration;

use direc_sim::{Bounds, Outcome, Scenario, timeline};

use super::events::DemoEvent;
use crate::{clock::ms, failure::Failure, out::Out};

/// One-way delays client–relay, relay–server and client–server.
const A: Duration = Duration::from_millis(20);
const B: Duration = Duration::from_millis(25);
const C: Duration = Duration::from_millis(30);
/// One seed gives one run; this one has nothing special about it.
const SEED: u64 = 4;
/// What the machines may add to the bound, which counts the ways only: a twentieth, and this.
const GRAIN: Duration = Duration::from_millis(1);

pub(super) fn run(out: Out) -> Result<(), Failure> {
    let [a, b, c] = [A, B, C].map(ms);
    out.say(&format!(
        "\nThe same in the simulator: client and server behind home NATs (endpoint-\n\
         independent mapping, address- and port-dependent filtering), one way\n\
         client–relay {a} ms, relay–server {b} ms, client–server {c} ms; the server has\n\
         said beforehand that everyone may connect.\n"
    ));
    let scenario = Scenario::home_pair(A, B, C);
    let outcome = direc_sim::run(&scenario, SEED).map_err(|e| Failure::new("the simulator", e))?;
    out.say(timeline::render(&outcome, 0).trim_end());
    judge(&outcome, out)
}

/// Checks the outcome against the bound of DESIGN.md, section 3.
fn judge(outcome: &Outcome, out: Out) -> Result<(), Failure> {
    if let Some(fault) = outcome.faults().first() {
        return Err(Failure::new("in the simulator", fault));
    }
    let wrong = |what: &str| Failure::new("in the simulator", what);
    let call = outcome.call(0).ok_or_else(|| wrong("nobody called"))?;
    let bound = Bounds::of(&outcome.scenario, 0).ok_or_else(|| wrong("there is no bound"))?.direct;
    let Some(direct) = call.direct_heard() else {
        return Err(wrong(&call.failure().unwrap_or_else(|| "no direct path was found".into())));
    };
    let allowed = bound + bound / 20 + GRAIN;
    let [bound_ms, direct_ms, allowed_ms] = [bound, direct, allowed].map(ms);
    out.event(&DemoEvent::Simulated { a_ms: ms(A), b_ms: ms(B), c_ms: ms(C), direct_ms, bound_ms, allowed_ms });
    if direct > allowed {
        return Err(wrong(&format!(
            "direct after {direct_ms} ms: more than {allowed_ms} ms (the bound is {bound_ms})"
        )));
    }
    out.say(&format!(
        "\n{direct_ms:.2} ms from connect until the client heard the server directly,\n\
         authenticated. Nothing can be faster than a + b + c = {bound_ms:.2} ms: the server\n\
         learns of the client no earlier than after a + b, and its packet then takes c."
    ));
    Ok(())
}
