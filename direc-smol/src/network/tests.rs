use std::sync::{Arc, Mutex};

use super::*;

const BOUND: &str = "192.0.2.7:4000";

/// A watch over a network that the test paints, on clocks that it turns.
struct Stage {
    network: Network,
    painted: Arc<Mutex<Picture>>,
    looks: Arc<Mutex<u32>>,
    now: Instant,
    wall: SystemTime,
    broken: bool,
}

impl Stage {
    fn new() -> Self {
        let (painted, looks) = (Arc::new(Mutex::new(picture(&["192.0.2.7"]))), Arc::new(Mutex::new(0)));
        let eyes = {
            let (painted, looks) = (painted.clone(), looks.clone());
            move || {
                *looks.lock().unwrap() += 1;
                painted.lock().unwrap().clone()
            }
        };
        let now = Instant::now();
        // Notices come from the test, not from the clock.
        let notices = Notices::every(Duration::from_secs(1_000_000), now);
        let mut network = Network::with(notices, false, Box::new(eyes), now);
        let wall = SystemTime::now();
        network.naps = Naps::new(now, wall);
        Self { network, painted, looks, now, wall, broken: false }
    }

    fn paint(&mut self, addresses: &[&str]) {
        *self.painted.lock().unwrap() = picture(addresses);
        self.network.on_notice(self.now);
    }

    /// The driver sleeps so long, or until the watch wants to look.
    fn pass(&mut self, millis: u64) -> Option<Finding> {
        let until = self.now + Duration::from_millis(millis);
        self.network.sleep(Some(until));
        let passed = until - self.now;
        (self.now, self.wall) = (until, self.wall + passed);
        self.look()
    }

    fn look(&mut self) -> Option<Finding> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.network.look(&mut cx, (self.now, self.wall), BOUND.parse().unwrap(), self.broken)
    }

    fn looks(&self) -> u32 {
        *self.looks.lock().unwrap()
    }
}

fn picture(addresses: &[&str]) -> Picture {
    let interfaces = addresses.iter().map(|text| ("eth0".to_owned(), text.parse().unwrap())).collect();
    Picture { interfaces, sources: Vec::new() }
}

#[test]
fn a_burst_of_notices_is_one_change() {
    let mut stage = Stage::new();
    stage.paint(&["192.0.2.7", "10.0.0.1"]);
    assert_eq!(stage.pass(5), None, "it may go on");
    stage.paint(&["192.0.2.7", "10.0.0.2"]);
    assert_eq!(stage.network.due(), Some(stage.now + SETTLE - Duration::from_millis(5)), "and is not put off by that");
    assert_eq!(stage.pass(15), Some(Finding::Changed));
    assert_eq!(stage.pass(1000), None);
    assert_eq!(stage.looks(), 2, "at the start, and once");
    assert_eq!(stage.network.local("0.0.0.0:9".parse().unwrap()).len(), 2);
}

#[test]
fn what_goes_on_changing_is_told_again() {
    let mut stage = Stage::new();
    for last in 1..5 {
        stage.paint(&["192.0.2.7", &format!("10.0.0.{last}")]);
        assert_eq!(stage.pass(20), Some(Finding::Changed));
    }
}

#[test]
fn notices_that_mean_nothing_are_looked_into_less_and_less() {
    let mut stage = Stage::new();
    for _ in 0..1000 {
        stage.network.on_notice(stage.now);
        assert_eq!(stage.pass(1), None);
    }
    assert!(stage.looks() < 9, "{}", stage.looks());
    assert_eq!(stage.pass(1000), None);
    stage.pass(1000);
    stage.paint(&["192.0.2.7", "10.0.0.1"]);
    assert_eq!(stage.pass(20), Some(Finding::Changed), "after a calm, at once");
}

#[test]
fn after_a_nap_the_network_may_have_changed_unseen() {
    let mut stage = Stage::new();
    assert_eq!(stage.pass(60_000), None);
    stage.wall += Duration::from_secs(60);
    assert_eq!(stage.look(), Some(Finding::Changed));
    assert_eq!(stage.look(), None);
}

#[test]
fn a_socket_whose_address_has_gone_is_replaced() {
    let mut stage = Stage::new();
    stage.paint(&["10.0.0.1"]);
    assert_eq!(stage.pass(20), Some(Finding::Rebind { address_gone: true }));
    stage.network.on_rebound(stage.now, false);
    assert_eq!(stage.pass(10), None);
    assert_eq!(stage.pass(1000), Some(Finding::Rebind { address_gone: true }), "until it is done");
    stage.network.on_rebound(stage.now, true);
    stage.network.on_notice(stage.now);
    assert_eq!(stage.pass(1000), None);
}

#[test]
fn a_socket_that_fails_for_a_second_after_a_change_is_replaced_once() {
    let mut stage = Stage::new();
    stage.broken = true;
    assert_eq!((stage.pass(1), stage.pass(2000)), (None, None), "no change, so no other socket would help");
    stage.broken = false;
    stage.paint(&["192.0.2.7", "10.0.0.1"]);
    assert_eq!(stage.pass(20), Some(Finding::Changed));
    stage.broken = true;
    assert_eq!(stage.pass(1), None);
    assert_eq!(stage.network.due(), Some(stage.now + BROKEN_FOR), "nothing else need wake the driver");
    assert_eq!(stage.pass(1000), Some(Finding::Rebind { address_gone: false }));
    stage.network.on_rebound(stage.now, true);
    for _ in 0..5 {
        assert_eq!(stage.pass(1000), None);
    }
}

#[test]
fn a_relay_on_this_machine_needs_no_local_addresses() {
    let now = Instant::now();
    let eyes = || picture(&["192.0.2.7"]);
    let network = Network::with(Notices::new(now), true, Box::new(eyes), now);
    assert_eq!(network.local("[::]:9".parse().unwrap()), []);
}
