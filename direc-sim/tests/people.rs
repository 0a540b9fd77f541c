//! Introductions as people make them: asked, refused, forgotten, all at once.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use direc_core::{Role, Step};
use direc_sim::{
    Outcome, Scenario,
    app::{Answer, Work},
    run,
    scenario::{Call, Side, Trouble, When, Willing},
    trace::What,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const PING: Work = Work { ping: true, echo: 0, upload: 0, datagrams: 0, flow: None };

fn home() -> Scenario {
    Scenario::home_pair(20 * MS, 30 * MS, 25 * MS)
}

fn good(scenario: &Scenario) -> Outcome {
    let outcome = run(scenario, 1).unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new());
    outcome
}

fn failure(scenario: &Scenario) -> String {
    let outcome = good(scenario);
    let call = outcome.call(0).unwrap();
    assert_eq!(call.connected(), None);
    call.failure().unwrap()
}

fn call(at: Duration, from: usize, to: usize) -> Call {
    Call { at, from, to, relay_only: false, work: PING }
}

#[test]
fn all_thirteen_steps_are_taken_by_whom_they_belong_to() {
    let outcome = good(&home());
    let taken: Vec<(Role, Step)> = (outcome.trace.notes.iter())
        .filter_map(|note| match &note.what {
            What::Step(step) if note.at >= outcome.start => Some((step.role, step.step)),
            _ => None,
        })
        .collect();
    let by = |step| match step {
        Step::S1 | Step::S2 | Step::S11 | Step::S13 => Role::P2,
        Step::S3 | Step::S4 | Step::S5 | Step::S8 => Role::P3,
        _ => Role::P4,
    };
    for step in Step::ALL {
        assert!(taken.contains(&(by(step), step)), "{step} by {}", by(step));
    }
    assert!(taken.contains(&(Role::P2, Step::S7)) && taken.contains(&(Role::P2, Step::S9)));
}

#[test]
fn a_person_who_thinks_for_a_while_and_says_yes() {
    let mut scenario = home();
    scenario.peers[1].willing = Willing::Asked(Answer::Accept(20 * SECOND));
    let outcome = good(&scenario);
    let call = outcome.call(0).unwrap();
    let connected = call.connected().unwrap();
    assert!(connected > 20 * SECOND && connected < 20 * SECOND + 110 * MS, "{connected:?}");
    assert!(call.direct().is_some());
}

#[test]
fn a_person_who_says_no() {
    let mut scenario = home();
    scenario.peers[1].willing = Willing::Asked(Answer::Refuse(SECOND));
    assert!(failure(&scenario).starts_with("refused"));
}

#[test]
fn a_person_who_does_not_answer() {
    let mut scenario = home();
    scenario.peers[1].willing = Willing::Asked(Answer::Ignore);
    let outcome = good(&scenario);
    let (at, why) = outcome.call(0).unwrap().log.failed.clone().unwrap();
    assert!(why.contains("did not answer"), "{why}");
    assert!(at - outcome.start <= 61 * SECOND);
}

#[test]
fn a_peer_that_wants_nobody() {
    let mut scenario = home();
    scenario.peers[1].willing = Willing::Nobody;
    let why = failure(&scenario);
    assert!(why.contains("refused") || why.contains("no such peer"), "{why}");
}

#[test]
fn a_peer_that_has_left() {
    let mut scenario = home().incident(When::At(Duration::ZERO), Trouble::Shutdown(1), None);
    scenario.calls[0].at = SECOND;
    let why = failure(&scenario);
    assert!(why.contains("no such peer"), "{why}");
}

#[test]
fn two_calls_at_once_between_the_same_two() {
    let mut scenario = home();
    scenario.calls = vec![call(Duration::ZERO, 0, 1), call(Duration::ZERO, 0, 1)];
    let outcome = good(&scenario);
    for number in 0..2 {
        let call = outcome.call(number).unwrap();
        assert!(call.first_echo().is_some() && call.direct().is_some(), "call {number}: {:?}", call.failure());
    }
}

#[test]
fn both_call_each_other_at_once() {
    let mut scenario = home();
    scenario.calls = vec![call(Duration::ZERO, 0, 1), call(Duration::ZERO, 1, 0)];
    let outcome = good(&scenario);
    for number in 0..2 {
        let call = outcome.call(number).unwrap();
        assert!(call.first_echo().is_some() && call.direct().is_some(), "call {number}: {:?}", call.failure());
    }
}

#[test]
fn everybody_calls_everybody() {
    let mut scenario = home();
    let more: Vec<Side> = scenario.peers.iter().map(|side| Side::new(side.boxes.clone(), 15 * MS)).collect();
    scenario.peers.extend(more);
    scenario.calls = (0..4)
        .flat_map(|from| (0..4).map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
        .map(|(from, to)| call(MS * (3 * from as u32 + to as u32), from, to))
        .collect();
    let outcome = good(&scenario);
    for number in 0..12 {
        let call = outcome.call(number).unwrap();
        assert!(call.first_echo().is_some() && call.direct().is_some(), "call {number}: {:?}", call.failure());
    }
}

#[test]
fn both_sides_send_at_once() {
    let work = Work { ping: true, echo: 300_000, upload: 300_000, datagrams: 50, ..Work::default() };
    let mut scenario = home().work(work);
    scenario.peers[1].serve = work;
    let outcome = good(&scenario);
    let served = outcome.accepted(1).next().unwrap();
    assert_eq!((served.echoed, served.uploaded, served.verified), (300_016, 300_000, 300_000));
    assert_eq!(outcome.call(0).unwrap().log.verified, 300_000);
}

#[test]
fn a_close_says_who_and_why() {
    let outcome = good(&home().incident(When::At(SECOND), Trouble::CloseAll(1), None));
    let client = outcome.call(0).unwrap().log.clone();
    let why = client.closed.unwrap().1.to_string();
    assert!(why.contains("code 7") && why.contains("enough"), "{why}");
    let server = outcome.accepted(1).next().unwrap().closed.clone().unwrap().1.to_string();
    assert!(server.contains("this side"), "{server}");
}

#[test]
fn calling_before_the_registration_is_done_waits_for_it() {
    let mut scenario = home();
    scenario.warm = false;
    // P4 has to be there first: nobody can wait for it at the relay.
    scenario.calls[0].at = 200 * MS;
    let outcome = good(&scenario);
    assert!(outcome.call(0).unwrap().first_echo().is_some());
    scenario.peers[0].to_relay = 150 * MS;
    let outcome = good(&scenario);
    assert!(outcome.call(0).unwrap().first_echo().is_some(), "P2 calls during its own handshake with P3");
}

#[test]
fn a_relay_that_waits_before_it_tells_p2_delays_no_data() {
    let mut scenario = home();
    scenario.relay_delay = 200 * MS;
    let outcome = good(&scenario);
    let call = outcome.call(0).unwrap();
    assert!(call.connected().unwrap() <= 101 * MS, "{:?}", call.connected());
    assert!(call.direct().is_some());
}
