//! The order of a knock, and when there is none.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const COOKIE: Cookie = [1; 16];

struct Test {
    knock: Knock,
    now: Instant,
    host: IpAddr,
}

impl Test {
    /// Registered and warm, at a relay that knocks.
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn new() -> Self {
        let (now, host) = (Instant::now(), IpAddr::from([198, 51, 100, 2]));
        let mut knock = Knock::new([203, 0, 113, 10].into());
        knock.set_port(now, Some(4436));
        knock.on_warm(now, Some(2 * SECOND));
        Self { knock, now, host }
    }

    fn poll(&mut self, after: Duration) -> Option<Act> {
        self.now += after;
        self.knock.poll(self.now, Some(self.host), true, || COOKIE).map(|(act, _)| act)
    }

    /// Through a whole test in which nothing gets in.
    fn kept_out(&mut self, after: Duration) -> Option<Finding> {
        assert_eq!(self.poll(after), Some(Act::Ask));
        self.knock.on_knocked(self.now, &COOKIE);
        assert_eq!(self.poll(SECOND), Some(Act::Answer));
        self.knock.cookies.start(self.now, COOKIE, Purpose::Registration, Link::Main, 0, SECOND);
        self.knock.on_observed(self.now, &COOKIE, SocketAddr::new(self.host, 7))
    }
}

#[test]
fn nothing_goes_to_the_knock_port_before_the_knock_has_come_or_would_have() {
    let mut test = Test::new();
    assert_eq!(test.poll(SECOND), None, "not yet");
    assert_eq!(test.poll(SECOND), Some(Act::Ask));
    assert_eq!(test.poll(SECOND), None, "the relay has not said that it has knocked");
    test.knock.on_knocked(test.now, &COOKIE);
    assert_eq!(test.poll(PATIENCE / 2), None);
    assert!(test.knock.expects(&COOKIE));
    assert_eq!(test.poll(PATIENCE / 2), Some(Act::Answer));
    assert!(!test.knock.expects(&COOKIE) && test.knock.is_own(&COOKIE));
}

#[test]
fn while_there_are_connections_nobody_knocks() {
    let mut test = Test::new();
    assert!(test.knock.poll(test.now + 9 * SECOND, Some(test.host), false, || COOKIE).is_none());
    assert_eq!((test.knock.due(false), test.knock.due(true)), (None, Some(test.now + 2 * SECOND)));
}

#[test]
fn a_knock_that_got_in_is_the_last() {
    let mut test = Test::new();
    assert_eq!(test.poll(2 * SECOND), Some(Act::Ask));
    assert_eq!(test.knock.on_knock(), Finding::LetIn);
    test.knock.set_port(test.now, Some(4436));
    test.knock.on_warm(test.now, Some(SECOND));
    assert_eq!(test.poll(3600 * SECOND), None);
}

#[test]
fn what_was_kept_out_is_tried_once_more_when_nats_have_forgotten_our_own_packet() {
    let mut test = Test::new();
    assert_eq!(test.kept_out(2 * SECOND), Some(Finding::KeptOut(Some(SocketAddr::new(test.host, 7)))));
    assert_eq!(test.poll(MEMORY - SECOND), None);
    assert!(test.kept_out(SECOND).is_some());
    assert_eq!(test.poll(3600 * SECOND), None);
}

#[test]
fn a_new_registration_waits_for_nats_to_forget_but_another_network_does_not() {
    let mut test = Test::new();
    test.kept_out(2 * SECOND);
    test.knock.set_port(test.now, Some(4436));
    test.knock.on_warm(test.now, Some(SECOND));
    assert_eq!(test.poll(SECOND), None);
    assert!(test.knock.due(true) > Some(test.now + 300 * SECOND));
    test.host = [192, 0, 2, 1].into();
    test.knock.forget(test.now);
    test.knock.on_warm(test.now, Some(SECOND));
    assert_eq!(test.poll(SECOND), Some(Act::Ask));
}

#[test]
fn a_relay_that_does_not_knock_is_not_asked_and_one_that_says_nothing_shows_nothing() {
    let mut test = Test::new();
    test.knock.set_port(test.now, None);
    test.knock.on_warm(test.now, Some(SECOND));
    assert_eq!(test.poll(9 * SECOND), None);
    let mut test = Test::new();
    assert_eq!(test.poll(2 * SECOND), Some(Act::Ask));
    assert_eq!(test.poll(ANSWER), None);
    assert!(!test.knock.expects(&COOKIE));
}

#[test]
fn a_program_that_wants_no_knock_gets_none() {
    let mut test = Test::new();
    test.knock.forget(test.now);
    test.knock.on_warm(test.now, None);
    assert_eq!(test.poll(3600 * SECOND), None);
}
