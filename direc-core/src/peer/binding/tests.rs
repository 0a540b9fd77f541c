//! What a peer makes of late echoes that come, and of those that do not.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A peer that refreshes as it is told, behind NATs that keep each flow's binding for so long.
struct Behind {
    life: BindingLife,
    now: Instant,
    keeps: Duration,
    /// One binding serves all flows: pings keep it too.
    shared: bool,
    /// Late echoes that are lost, by the number of the refresh.
    lost: Vec<u32>,
    refreshes: u32,
}

impl Behind {
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn nat(keeps: u64) -> Self {
        let (life, now, keeps) = (BindingLife::default(), Instant::now(), Duration::from_secs(keeps));
        Self { life, now, keeps, shared: false, lost: Vec::new(), refreshes: 0 }
    }

    /// One refresh, until the next. Gives how long the control connection was silent at most.
    fn refresh(&mut self) -> Duration {
        self.refreshes += 1;
        let cookie = [self.refreshes as u8; 16];
        self.life.on_refresh(self.now, cookie);
        let delay = Duration::from_secs(self.life.asks().into());
        let silent = self.life.is_proving(self.now).then_some(Duration::ZERO);
        let pings = self.life.ping_at(self.now, self.now).map(|at| at - self.now).filter(|_| silent.is_none());
        let mut next = self.now + self.life.until_next();
        for port in 0..3 {
            next = self.life.on_observed(self.now, &cookie, port).unwrap_or(next);
        }
        let kept = self.keeps > delay || (self.shared && pings.is_some_and(|pause| pause < self.keeps));
        let socket = pings.unwrap_or(delay).min(delay);
        if delay > Duration::ZERO && self.life.test.is_some() && kept && !self.lost.contains(&self.refreshes) {
            next = self.now + delay;
            assert_eq!(self.life.on_late_echo(&cookie, Silence { port: delay, socket }), Ok(true));
            assert_eq!(self.life.on_late_echo(&cookie, Silence { port: delay, socket }), Ok(false), "the other port's");
        }
        let whole = next - self.now;
        self.now = next;
        pings.unwrap_or(whole).min(whole)
    }

    /// Refreshes until all is known; gives how long that took, and the control connection's longest silence.
    fn learn(&mut self) -> (Duration, Duration) {
        let (start, mut longest) = (self.now, Duration::ZERO);
        while !self.life.known {
            longest = longest.max(self.refresh());
            assert!(self.now - start < 600 * SECOND);
        }
        (self.now - start, longest)
    }
}

#[test]
fn a_pause_is_learnt_that_the_nat_survives_and_is_as_long_as_the_tries_allow() {
    for (keeps, pause) in [(5, 4), (7, 4), (10, 6), (20, 12), (30, 25), (60, 55), (120, 55), (7200, 55)] {
        let mut behind = Behind::nat(keeps);
        let (took, longest) = behind.learn();
        assert_eq!(behind.life.pause(), pause * SECOND, "{keeps} s");
        assert!(took < 330 * SECOND, "{keeps} s: {took:?}");
        assert!(longest < Duration::from_secs(keeps), "{keeps} s: the control connection was silent for {longest:?}");
    }
}

#[test]
fn where_pings_keep_the_one_binding_of_all_flows_only_full_silence_convinces() {
    let mut behind = Behind::nat(10);
    behind.shared = true;
    behind.learn();
    assert_eq!(behind.life.pause(), 6 * SECOND);
}

#[test]
fn a_single_loss_changes_nothing() {
    for lost in 1..=10 {
        let mut behind = Behind::nat(120);
        behind.lost = vec![lost];
        behind.learn();
        assert_eq!(behind.life.pause(), 55 * SECOND, "refresh {lost}");
    }
}

#[test]
fn what_is_known_is_not_tested_any_more_until_the_network_changes() {
    let mut behind = Behind::nat(120);
    behind.learn();
    behind.life.on_refresh(behind.now, [99; 16]);
    assert_eq!(behind.life.asks(), 0);
    assert_eq!((behind.life.until_next(), behind.life.ping_at(behind.now, behind.now)), (55 * SECOND, None));
    behind.life.on_address_changed();
    behind.life.on_refresh(behind.now, [99; 16]);
    assert_eq!(behind.life.asks(), PAUSES[1] + MARGIN);
    assert_eq!(behind.life.ping_at(behind.now, behind.now), Some(behind.now + 4 * SECOND));
}

#[test]
fn a_refresh_in_between_neither_counts_as_a_death_nor_ends_the_learning() {
    let mut behind = Behind::nat(120);
    for n in 0..10 {
        let cookie = [n; 16];
        behind.life.on_refresh(behind.now, cookie);
        assert_eq!(behind.life.asks(), PAUSES[1] + MARGIN);
        behind.life.on_observed(behind.now, &cookie, 0);
        behind.now += 3 * SECOND;
    }
    behind.refreshes = 20;
    behind.learn();
    assert_eq!(behind.life.pause(), 55 * SECOND);
}

#[test]
fn a_silence_that_was_broken_proves_nothing() {
    let mut behind = Behind::nat(120);
    behind.life.on_refresh(behind.now, [1; 16]);
    behind.life.on_observed(behind.now, &[1; 16], 0);
    let broken = Silence { port: 3 * SECOND, socket: 3 * SECOND };
    assert_eq!(behind.life.on_late_echo(&[1; 16], broken), Ok(true));
    assert_eq!(behind.life.pause(), 4 * SECOND);
}

#[test]
fn an_outage_shortens_nothing() {
    let mut behind = Behind::nat(120);
    for n in 0..20 {
        let cookie = [n; 16];
        behind.life.on_refresh(behind.now, cookie);
        if n % 2 == 0 {
            // Had here, and what was promised is lost; the refresh that follows gets no answer.
            behind.life.on_observed(behind.now, &cookie, 0);
            behind.now += behind.life.until_next();
        } else {
            behind.now += 5 * SECOND;
            behind.life.on_unanswered();
        }
    }
    assert_eq!((behind.life.bad, behind.life.deaths), (PAUSES.len(), 0));
}

#[test]
fn a_relay_that_repeats_itself_does_not_put_off_the_next_refresh() {
    let mut behind = Behind::nat(120);
    behind.life.on_refresh(behind.now, [1; 16]);
    let first = behind.life.on_observed(behind.now, &[1; 16], 0);
    assert_eq!(behind.life.on_observed(behind.now + 5 * SECOND, &[1; 16], 0), first);
}

#[test]
fn a_late_echo_that_was_not_asked_for_is_dropped() {
    let mut behind = Behind::nat(120);
    behind.life.on_refresh(behind.now, [1; 16]);
    let silence = Silence { port: 60 * SECOND, socket: 60 * SECOND };
    assert_eq!(behind.life.on_late_echo(&[2; 16], silence), Err(DropReason::UnknownCookie));
    assert_eq!(behind.life.pause(), 4 * SECOND);
}

#[test]
fn a_socket_that_is_never_silent_learns_too_and_proves_it_when_it_is() {
    let mut behind = Behind::nat(120);
    for n in 0..20 {
        let cookie = [n; 16];
        behind.life.on_refresh(behind.now, cookie);
        let asked = Duration::from_secs(behind.life.asks().into());
        behind.life.on_observed(behind.now, &cookie, 0);
        behind.now += behind.life.until_next();
        if asked > Duration::ZERO {
            let silence = Silence { port: asked, socket: SECOND };
            assert_eq!(behind.life.on_late_echo(&cookie, silence), Ok(true));
        }
    }
    assert_eq!((behind.life.pause(), behind.life.known), (55 * SECOND, false));
    behind.refreshes = 30;
    behind.learn();
    assert_eq!((behind.life.pause(), behind.life.sure), (55 * SECOND, 5));
}

/// Beside a relayed connection whose keep-alives are 40 s apart, behind a NAT that forgets after 30 s.
#[test]
fn a_socket_with_seldom_traffic_is_never_silent_for_longer_than_is_proven() {
    let mut behind = Behind::nat(30);
    behind.shared = true;
    while behind.life.sure < 3 {
        behind.refresh();
    }
    let (life, now) = (&mut behind.life, behind.now);
    life.on_refresh(now, [90; 16]);
    assert_eq!(life.ping_at(now, now), Some(now + 25 * SECOND), "while 40 s are tried");
    life.on_observed(now, &[90; 16], 0);
    let kept = Silence { port: 42 * SECOND, socket: 2 * SECOND };
    assert_eq!(life.on_late_echo(&[90; 16], kept), Ok(true));
    assert_eq!(life.pause(), 40 * SECOND, "the ports' bindings are kept for so long");

    // The whole socket is to be silent, and is not.
    life.on_refresh(now, [91; 16]);
    life.on_observed(now, &[91; 16], 0);
    assert!(life.is_proving(now + 2 * SECOND) && !life.is_proving(now + 3 * SECOND));
    assert_eq!(life.ping_at(now, now + 3 * SECOND), Some(now + 28 * SECOND));
    assert_eq!(life.on_late_echo(&[91; 16], kept), Ok(true));

    // Nor while 55 s are tried, or nothing is.
    life.on_refresh(now, [92; 16]);
    assert_eq!((life.asks(), life.ping_at(now, now)), (57, Some(now + 25 * SECOND)));
    life.on_observed(now, &[92; 16], 0);
    assert_eq!(life.on_late_echo(&[92; 16], Silence { port: 57 * SECOND, socket: 2 * SECOND }), Ok(true));
    life.on_refresh(now, [93; 16]);
    life.on_observed(now, &[93; 16], 0);
    assert_eq!(life.on_late_echo(&[93; 16], kept), Ok(true));
    for n in 94..96 {
        life.on_refresh(now, [n; 16]);
        assert_eq!((life.asks(), life.until_next()), (0, 55 * SECOND));
        assert_eq!(life.ping_at(now, now), Some(now + 25 * SECOND));
    }
    life.on_refresh(now, [97; 16]);
    assert_eq!(life.asks(), 42, "it is tried again");
}
