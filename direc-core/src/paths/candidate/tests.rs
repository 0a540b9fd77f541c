//! One candidate, through its life.

use super::*;

const CARE: Care = Care { current: true, trouble: false, in_use: true, rest: Duration::from_secs(25) };

#[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
fn candidate() -> (Candidate, Instant) {
    let now = Instant::now();
    (Candidate::new(now, Pair::main("198.51.100.1:9".parse().unwrap())), now)
}

/// Lets time pass until the candidate has nothing more to do; gives the probes sent.
fn run(candidate: &mut Candidate, now: &mut Instant) -> usize {
    let mut probes = 0;
    while let Some(next) = candidate.next(*now, CARE) {
        *now = next.max(*now);
        if let Some(kind) = candidate.on_due(*now, CARE) {
            probes += 1;
            candidate.on_sent(*now, [probes as u8; 8], kind);
        }
    }
    probes
}

/// Sends what is due, and has it echoed 40 ms later.
fn answer(candidate: &mut Candidate, now: &mut Instant) -> Kind {
    *now = candidate.next(*now, CARE).unwrap().max(*now);
    let kind = candidate.on_due(*now, CARE).unwrap();
    candidate.on_sent(*now, [7; 8], kind);
    *now += Duration::from_millis(40);
    assert_eq!(candidate.on_echo(*now, [7; 8]), Some(Duration::from_millis(40)));
    kind
}

fn is_proven(candidate: &Candidate) -> bool {
    candidate.liveness().is_some()
}

#[test]
fn an_address_that_never_answers_gets_nine_probes_and_no_more() {
    let (mut candidate, mut now) = candidate();
    assert_eq!(run(&mut candidate, &mut now), PUNCH_GAPS.len());
    assert!((0..100).filter(|_| candidate.spend()).count() == 0);
}

#[test]
fn an_address_not_heard_from_gets_a_flight_of_quic_and_no_more() {
    let (mut candidate, _) = candidate();
    assert_eq!((0..100).filter(|_| candidate.spend()).count(), UNHEARD_BUDGET as usize);
}

#[test]
fn an_echo_counts_once() {
    let (mut candidate, mut now) = candidate();
    assert_eq!(answer(&mut candidate, &mut now), Kind::Probe { first: true });
    assert!(is_proven(&candidate));
    assert!(candidate.on_echo(now, [7; 8]).is_none());
}

#[test]
fn a_probe_heard_is_answered_at_once_even_when_ours_were_spent() {
    let (mut candidate, mut now) = candidate();
    run(&mut candidate, &mut now);
    now += Duration::from_secs(1);
    candidate.on_heard(now);
    assert_eq!(candidate.next(now, CARE), Some(now));
    assert!(candidate.on_due(now, CARE).is_some());
}

#[test]
fn hearing_the_other_side_again_and_again_brings_no_more_probes() {
    let (mut candidate, mut now) = candidate();
    let mut probes = 0;
    for _ in 0..5000 {
        candidate.on_heard(now);
        if let Some(kind) = candidate.on_due(now, CARE) {
            probes += 1;
            candidate.on_sent(now, [probes as u8; 8], kind);
        }
        now += Duration::from_millis(20);
    }
    assert_eq!(probes, PUNCH_GAPS.len());
}

#[test]
fn an_echo_counts_however_long_the_round_trip() {
    let (mut candidate, mut now) = candidate();
    candidate.on_heard(now);
    let probes = run(&mut candidate, &mut now);
    assert_eq!(probes, PUNCH_GAPS.len());
    assert!(candidate.on_echo(now, [1; 8]).is_some());
}

#[test]
fn a_path_that_died_is_asked_by_small_checks_and_proven_by_a_probe_of_full_size() {
    let (mut candidate, mut now) = candidate();
    answer(&mut candidate, &mut now);
    candidate.lose(now);
    for _ in 0..30 {
        now = candidate.next(now, CARE).unwrap().max(now);
        assert_eq!(candidate.on_due(now, CARE), Some(Kind::Check));
    }
    assert_eq!(answer(&mut candidate, &mut now), Kind::Check);
    assert!(!is_proven(&candidate));
    answer(&mut candidate, &mut now);
    assert!(candidate.is_trusted(now));
}

#[test]
fn a_path_that_died_is_tried_often_while_the_connection_is_used_and_seldom_at_rest() {
    for (in_use, range) in [(true, 700..=760), (false, 20..=40)] {
        let ((mut candidate, mut now), care) = (candidate(), Care { in_use, ..CARE });
        answer(&mut candidate, &mut now);
        candidate.lose(now);
        let (end, mut tries) = (now + Duration::from_secs(600), 0);
        while now < end {
            now = candidate.next(now, care).unwrap();
            tries += usize::from(candidate.on_due(now, care).is_some());
        }
        assert!(range.contains(&tries), "{tries}");
    }
}

#[test]
fn a_path_that_keeps_dying_is_on_trial_for_longer_each_time() {
    let (mut candidate, mut now) = candidate();
    answer(&mut candidate, &mut now);
    for death in 1..=8 {
        candidate.lose(now);
        while !is_proven(&candidate) {
            answer(&mut candidate, &mut now);
        }
        let proven = now;
        while !candidate.is_trusted(now) {
            now += Duration::from_millis(10);
        }
        let hold = (HOLD_STEP * (death - 1)).min(LONGEST_HOLD);
        assert!(now - proven >= hold && now - proven < hold + Duration::from_millis(20), "{:?}", now - proven);
    }
}

#[test]
fn an_address_tried_in_vain_gets_no_new_schedule_each_time_that_another_path_dies() {
    let (mut candidate, start) = candidate();
    let mut probes = 0;
    for half_second in 0..120 {
        let now = start + half_second * Duration::from_millis(500);
        candidate.on_other_died(now);
        while let Some(kind) = candidate.on_due(now, CARE) {
            probes += 1;
            candidate.on_sent(now, [7; 8], kind);
        }
    }
    // A schedule takes some ten seconds, and the pause after it as long.
    assert!((2 * PUNCHES..=4 * PUNCHES).contains(&probes), "{probes} probes in a minute");
}
