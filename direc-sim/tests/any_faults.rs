//! Whatever goes wrong, in whatever order: once all is repaired, the connection is soon on the path that is best, every
//! byte arrives once and in order, and when everybody has left nothing is left of them.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use direc_sim::{
    Outcome, Scenario,
    app::{ConnLog, Flow, Pace, Work},
    json::hex,
    nat::{NatConfig, stack},
    oracle::{Verdict, verdict},
    run,
    scenario::{Trouble, When},
};
use proptest::{prelude::*, test_runner::RngSeed};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Faults begin from here on.
const FIRST: Duration = Duration::from_secs(2);
/// All of them are over by then.
const HEALED: Duration = Duration::from_secs(32);
/// So soon after it the connection is where it belongs.
const BACK: Duration = Duration::from_secs(5);
/// Both sides send at this rate, in bits per second.
const RATE: u64 = 300_000;

const BOXES: [&str; 10] =
    ["easy", "none", "fw", "eim-eif", "eim-adf", "eim-apdf-x", "sym", "double-eim", "apdm-eif-x", "adm-adf-x"];

/// What each fault's four bytes say: which, when, for how long, and to whom.
fn fault([which, when, lasts, whom]: [u8; 4]) -> (Trouble, Duration, Duration) {
    let (one, other) = (usize::from(whom & 1), usize::from(!whom & 1));
    let what = match which % 12 {
        0 => Trouble::SeverDirect(0, 1),
        1 => Trouble::SeverWay(one, other),
        2 => Trouble::SeverRelay(one),
        3 => Trouble::SilencePeer(one),
        4 => Trouble::SilenceRelay,
        5 => Trouble::Reboot(one),
        6 => Trouble::Readdress(one),
        7 | 8 => Trouble::Roam(one),
        9 => Trouble::Stop(one),
        10 => Trouble::KillRelay(one),
        _ => Trouble::DrainRelay(one, 20 * MS * u32::from(whom)),
    };
    let at = FIRST + (HEALED - FIRST) * u32::from(when) / 255;
    let lasts = (20 * MS * u32::from(lasts)).min(HEALED - at);
    (what, at, lasts)
}

/// The first bytes say where the two are, the rest what befalls them.
fn scenario(places: [u8; 6], faults: &[[u8; 4]]) -> Scenario {
    let boxes = |byte: u8| -> Vec<NatConfig> { stack(BOXES[usize::from(byte) % BOXES.len()]).unwrap() };
    let [a, b] = [places[4], places[5]].map(|byte| MS * (5 + u32::from(byte % 64)));
    let mut scenario = Scenario::pair([boxes(places[0]), boxes(places[1])], a, b, (a + b) * 3 / 4);
    scenario.peers[0].elsewhere = Some(boxes(places[2]));
    scenario.peers[1].elsewhere = Some(boxes(places[3]));
    scenario.relays = 1 + usize::from(places[4] / 128);
    // Half of them may go by HTTPS while UDP does not answer; it must not make anything worse.
    scenario.tunnels = places[5] >= 128;
    let flow = Flow { pace: Pace::Rate(RATE), lasts: HEALED + BACK };
    let work = Work { ping: true, flow: Some(flow), ..Work::default() };
    scenario = scenario.work(work);
    scenario.peers[1].serve = work;
    for (what, at, lasts) in faults.iter().copied().map(fault) {
        scenario = scenario.incident(When::At(at), what, Some(lasts));
    }
    (scenario.limit, scenario.linger, scenario.farewell) = (HEALED + 40 * SECOND, 5 * SECOND, true);
    scenario
}

/// What is wrong with one side's view of the connection.
fn side(name: &str, log: Option<&ConnLog>, outcome: &Outcome, verdict: Verdict) -> Vec<String> {
    let Some(log) = log else { return vec![format!("{name} has no connection")] };
    let mut wrong = Vec::new();
    let path = log.path_at(outcome.start + HEALED + BACK);
    // Where ports have to be guessed, either is as good as it can be by then.
    let must = match verdict {
        Verdict::Direct => Some(true),
        Verdict::Relayed => Some(false),
        Verdict::Clash | Verdict::Predict | Verdict::Guess => None,
    };
    if path.is_none_or(|path| must.is_some_and(|direct| path.is_direct() != direct)) {
        wrong.push(format!("{name}: {verdict:?}, and {BACK:?} after all was repaired it is on {path:?}"));
    }
    let all = RATE * (HEALED + BACK).as_secs() / 8;
    if log.verified != all {
        wrong.push(format!("{name} got {} bytes of {all}", log.verified));
    }
    let early = log.closed.as_ref().filter(|(at, _)| *at < outcome.start + HEALED + BACK);
    if let Some((at, why)) = early {
        wrong.push(format!("{name}: closed at {:?}: {why}", at.saturating_sub(outcome.start)));
    }
    wrong
}

/// What must not happen and did, with the way to see it again.
fn mistakes(places: [u8; 6], faults: &[[u8; 4]], seed: u64) -> Option<String> {
    let scenario = scenario(places, faults);
    let wrong = match std::panic::catch_unwind(|| run(&scenario, seed)) {
        Ok(Ok(outcome)) => {
            let verdict = verdict(&outcome.peers[0].boxes, &outcome.peers[1].boxes);
            let caller = side("P2", outcome.call(0).map(|call| call.log), &outcome, verdict);
            let callee = side("P4", outcome.accepted(1).next(), &outcome, verdict);
            [outcome.faults(), caller, callee].concat()
        }
        Ok(Err(error)) => vec![error.to_string()],
        Err(_) => vec!["panicked".to_owned()],
    };
    let bytes = [&places[..], faults.as_flattened()].concat();
    let replay = format!(
        "DIREC_SIM_SEED={seed} DIREC_SIM_FAULTS={} cargo test --test any_faults these -- --ignored",
        hex(&bytes)
    );
    (!wrong.is_empty()).then(|| format!("{replay}\n    {}", wrong.join("\n    ")))
}

proptest! {
    // One seed, so that a change of the code and nothing else changes the result; `many_faults` has all others.
    #![proptest_config(ProptestConfig {
        cases: 60,
        max_shrink_iters: 300,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(8445),
        ..ProptestConfig::default()
    })]

    #[test]
    fn after_any_faults_all_is_as_good_as_it_can_be(
        places: [u8; 6],
        faults in proptest::collection::vec(any::<[u8; 4]>(), 0..=20),
        seed: u64,
    ) {
        let mistakes = mistakes(places, &faults, seed);
        prop_assert!(mistakes.is_none(), "{}", mistakes.unwrap_or_default());
    }
}

#[test]
fn without_faults_all_is_well() {
    for (places, seed) in [([0; 6], 1), ([6, 6, 0, 0, 200, 0], 2), ([6, 4, 0, 0, 9, 50], 3)] {
        assert_eq!(mistakes(places, &[], seed), None);
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// As many as one has time for: `DIREC_SIM_CASES=1000 DIREC_SIM_SEED=1 cargo test --test any_faults many -- --ignored`.
#[test]
#[ignore = "runs for as long as it is told to"]
fn many_faults() {
    let (cases, first) = (number("DIREC_SIM_CASES", 1000), number("DIREC_SIM_SEED", 1));
    let mut failed = Vec::new();
    for seed in first..first + cases {
        let mut rng = direc_sim::rng::Rng::new(seed, direc_sim::rng::Purpose::Stories);
        let mut places = [0; 6];
        rng.fill(&mut places);
        let mut faults = vec![[0; 4]; rng.below(21) as usize];
        faults.iter_mut().for_each(|fault| rng.fill(fault));
        failed.extend(mistakes(places, &faults, seed));
    }
    assert!(failed.is_empty(), "{} of {cases}:\n{}", failed.len(), failed.join("\n"));
}

/// The faults that a failure has printed, with what was said.
#[test]
#[ignore = "needs to be told which"]
#[allow(clippy::print_stdout, reason = "it is for people")]
fn these_faults() {
    let text = std::env::var("DIREC_SIM_FAULTS").unwrap();
    let bytes: Vec<u8> =
        (0..text.len() / 2).map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap()).collect();
    let (places, faults) = bytes.split_first_chunk().unwrap();
    let (faults, seed) = (faults.as_chunks().0, number("DIREC_SIM_SEED", 1));
    let outcome = run(&scenario(*places, faults), seed).unwrap();
    for incident in &outcome.scenario.incidents {
        println!("{incident:?}");
    }
    for note in &outcome.trace.notes {
        if let direc_sim::trace::What::Event(words) = &note.what {
            println!("{:?} {} {words}", note.at.saturating_sub(outcome.start), outcome.names[note.host.0]);
        }
    }
    assert_eq!(mistakes(*places, faults, seed), None);
}
